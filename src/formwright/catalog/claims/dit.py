"""Claims of DiT: sizes, the authors' outputs, and digits that it draws after a diffusion's and a flow's training."""

from __future__ import annotations

import functools
import statistics
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.figures import mac_claims, output_claims, parameter_claims
from formwright.data.array_batches import ArrayBatches
from formwright.data.samples import digits
from formwright.inference.samplers import DDIM, Heun, Sampler, draw
from formwright.models import Network, create_model
from formwright.nn.functional.diffusion import NoiseSchedule
from formwright.objectives import Classification, Objective
from formwright.objectives.diffusion import Diffusion, FlowMatching
from formwright.reporting import Reporter, Share
from formwright.training import Progress, Recipe, Trainer

SEEDS = (0, 1, 2)
STEPS, CLASSIFIER_STEPS = 1_500, 500
TRAINED, CLASSES, EACH, RECOGNISED = 1_297, 10, 100, 0.9
GUIDANCE = 1.5
#: Grey levels of a digit are 0 to 16; networks see -1 to 1.
LEVELS = 8.0

Kind = Literal["diffusion", "flow"]


@dataclass(frozen=True)
class _Digits:
    """Pictures ``(n, 1, 8, 8)`` from -1 to 1 and their classes."""

    pictures: Float[Tensor, "n 1 8 8"]
    classes: Tensor

    def nearest(self, others: Tensor) -> float:
        """The median distance of a picture to the nearest of ``others``, in grey levels."""
        distances = torch.cdist(self.pictures.flatten(1), others.flatten(1)).min(1).values
        return LEVELS * float(distances.median())

    def spread(self) -> float:
        """The mean distance of two pictures of a class, in grey levels."""
        spreads = [torch.pdist(self.pictures[self.classes == label].flatten(1)).mean() for label in range(CLASSES)]
        return LEVELS * float(torch.stack(spreads).mean())


@functools.cache
def _real() -> tuple[_Digits, _Digits]:
    """scikit-learn's digits: to train with, and to compare with."""
    images, labels, _ = digits()
    order = np.random.RandomState(0).permutation(len(labels))
    pictures = torch.from_numpy(images[order, None, :, :, 0] / np.float32(127.5) - 1)
    classes = torch.from_numpy(labels[order])
    return _Digits(pictures[:TRAINED], classes[:TRAINED]), _Digits(pictures[TRAINED:], classes[TRAINED:])


def _train(
    model: Network, objective: Objective, recipe: Recipe, steps: int, seed: int, reporter: Reporter
) -> nn.Module:
    """The averaged weights after a training on the digits."""
    real, _ = _real()
    batches = ArrayBatches(real.pictures.numpy(), real.classes.numpy(), batch_size=recipe.batch_size, seed=seed)
    trainer = Trainer(model, objective, batches, recipe, seed=seed)
    trainer.finish_at(steps)

    def tell(progress: Progress) -> None:
        reporter.progress(progress.step / steps, f"{type(objective).__name__}, seed {seed}")

    trainer.train(steps=steps, on_step=tell)
    return trainer.averaged_model()


@functools.cache
def _classifier() -> nn.Module:
    torch.manual_seed(0)
    options = {"dim": 64, "depth": 3, "heads": 4, "patch_size": 2, "class_tokens": 0}
    model = create_model("vit_tiny_patch16_224", **options, channels=1, image_size=8, classes=CLASSES)
    recipe = Recipe(optimizer="adamw", learning_rate=2e-3, weight_decay=0.05, batch_size=64, warmup=50, ema_decay=0.99)
    return _train(model, Classification(recipe.label_smoothing), recipe, CLASSIFIER_STEPS, 0, Reporter())


def _recognised(shown: _Digits) -> Tensor:
    """Whether the classifier takes each picture for what it is meant to be."""
    classifier = _classifier()
    with torch.inference_mode():
        right: Tensor = classifier(shown.pictures).argmax(1) == shown.classes
    return right


def _drawn(kind: Kind, seed: int, reporter: Reporter) -> _Digits:
    """As many digits of each class, drawn by a small DiT that was trained with this seed."""
    schedule = NoiseSchedule("cosine")
    objective: Diffusion | FlowMatching = Diffusion(schedule) if kind == "diffusion" else FlowMatching()
    sampler: Sampler = DDIM(schedule, 50, clip=1.0) if kind == "diffusion" else Heun(20)
    torch.manual_seed(seed)
    options = {"dim": 96, "depth": 4, "heads": 4, "channels": 1, "image_size": 8, "learned_variance": False}
    model = create_model("dit_s_2", **options, classes=CLASSES, end=objective.end)
    recipe = Recipe(learning_rate=0.02, vector_learning_rate=2e-3, batch_size=64, warmup=STEPS // 20, ema_decay=0.999)
    averaged = _train(model, objective, recipe, STEPS, seed, reporter)
    assert isinstance(averaged, Network)
    wanted = torch.arange(CLASSES).repeat_interleave(EACH)
    return _Digits(draw(averaged, sampler, wanted, guidance=GUIDANCE, seed=seed).clamp(-1, 1), wanted)


def _recognised_as_asked(kind: Kind, reporter: Reporter) -> ClaimResult:
    real, others = _real()
    drawings = [_drawn(kind, seed, Share(reporter, index, len(SEEDS))) for index, seed in enumerate(SEEDS)]
    right = [_recognised(drawing).float() for drawing in drawings]
    shares = [float(each.mean()) for each in right]
    worst = min(float(each.view(CLASSES, EACH).mean(1).min()) for each in right)
    nearest = [drawing.nearest(real.pictures) for drawing in drawings]
    spread = [drawing.spread() for drawing in drawings]
    return ClaimResult(
        f"{statistics.mean(shares):.1%} recognised ({min(shares):.1%} to {max(shares):.1%}), of the worst class "
        f"{worst:.0%}; {statistics.mean(nearest):.1f} grey levels to the nearest training picture (real digits "
        f"{others.nearest(real.pictures):.1f}), {statistics.mean(spread):.1f} between two of a class (real digits "
        f"{others.spread():.1f})",
        min(shares) >= RECOGNISED,
        f"{EACH} digits of each class, guidance {GUIDANCE}, {len(SEEDS)} seeds; trained on {TRAINED:,} digits of 8 x 8 "
        f"for {STEPS:,} steps of 64; the classifier recognises {float(_recognised(others).float().mean()):.1%} of the "
        f"{len(others.classes)} others",
    )


def _digit_claim(kind: Kind, how: str) -> Claim:
    statement = (
        f"trained on 8 x 8 digits by {how} it draws {EACH} of each class, of which a classifier recognises "
        f"{RECOGNISED:.0%} as the class that was asked for"
    )
    return Claim(
        id=f"digits-by-{kind}",
        kind="direction",
        statement=statement,
        published=f"at least {RECOGNISED:.0%}",
        run=functools.partial(_recognised_as_asked, kind),
        slow=True,
    )


CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "dit_s_2": 32_963_360,
            "dit_s_4": 32_945_024,
            "dit_s_8": 33_148_160,
            "dit_b_2": 130_512_416,
            "dit_b_4": 130_475_648,
            "dit_b_8": 130_881_536,
            "dit_l_2": 458_102_816,
            "dit_l_4": 458_053_760,
            "dit_l_8": 458_594_816,
            "dit_xl_2": 675_129_632,
            "dit_xl_4": 675_074_432,
            "dit_xl_8": 675_683_072,
        }
    ),
    *mac_claims(
        {
            "dit_s_2": 6.06e9,
            "dit_s_4": 1.41e9,
            "dit_s_8": 0.36e9,
            "dit_b_2": 23.01e9,
            "dit_b_4": 5.56e9,
            "dit_b_8": 1.42e9,
            "dit_l_2": 80.71e9,
            "dit_l_4": 19.70e9,
            "dit_l_8": 5.01e9,
            "dit_xl_2": 118.64e9,
            "dit_xl_4": 29.05e9,
            "dit_xl_8": 7.39e9,
        },
        size=32,
    ),
    *output_claims("dit", "facebookresearch/DiT"),
    _digit_claim("diffusion", "diffusion (DDIM, 50 steps)"),
    _digit_claim("flow", "flow matching (Heun, 20 steps)"),
]
