"""Claims of the detector: padding changes nothing, and it learns to find shapes on clutter, which chance does not."""

from __future__ import annotations

import statistics

import torch

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.contest import SEEDS
from formwright.catalog.experiments.shapes import (
    BATCH,
    SIDE,
    TEST_PICTURES,
    scores,
    scores_of_chance,
    small_detector,
    train_detector,
)
from formwright.models import create_model
from formwright.reporting import Reporter, Share

SIZES = ((37, 50), (64, 30), (64, 64))
TOLERANCE = 1e-9
#: Steps of the quick training, and how many times the precision of chance it must reach.
FEW_STEPS, TIMES = 150, 20
#: Steps of the longer trainings, and the mean average precision that each must reach.
STEPS, FOUND = 500, 0.15


def _padded_equals_alone(reporter: Reporter) -> ClaimResult:
    worst = 0.0
    for reading in ("deformable_attention", "cross_attention"):
        torch.manual_seed(0)
        model = create_model("query_detector_small", image_size=64, sized=True, reading=reading).double().eval()
        with torch.no_grad():  # what starts as zero would hide differences
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        x, lengths = torch.randn(len(SIZES), 3, 64, 64, dtype=torch.float64), torch.tensor(SIZES)
        with torch.inference_mode():
            together = model(x, lengths=lengths)
            for row, (height, width) in enumerate(SIZES):
                alone = model(x[row : row + 1, :, :height, :width], lengths=lengths[row : row + 1])
                worst = max(
                    worst, *(float((together[name][row] - each[0]).abs().max()) for name, each in alone.items())
                )
    what = f"pictures of {', '.join(f'{height} x {width}' for height, width in SIZES)}, both ways to attend, float64"
    return ClaimResult(f"largest difference {worst:.1e}", worst < TOLERANCE, what)


def _soon_above_chance(reporter: Reporter) -> ClaimResult:
    chance, before = scores_of_chance(), scores(small_detector(0).eval())
    after = scores(train_detector(0, FEW_STEPS, reporter=reporter))
    precision, other = after.mean_average_precision, max(chance.mean_average_precision, before.mean_average_precision)
    return ClaimResult(
        f"{precision:.3f}; untrained {before.mean_average_precision:.5f}, chance {chance.mean_average_precision:.4f}",
        precision > TIMES * other,
        f"mean average precision of {TEST_PICTURES} unseen pictures of {SIDE} x {SIDE}; one seed, {FEW_STEPS} steps of "
        f"{BATCH}; chance is boxes and classes of true objects of any picture",
    )


def _finds_shapes(reporter: Reporter) -> ClaimResult:
    from formwright.data.joint_augmentation import JointAugmentation

    changes = JointAugmentation(flip=True, crop=0.6, colour=0.2)
    every = [
        scores(train_detector(seed, STEPS, augmentation=changes, reporter=Share(reporter, index, len(SEEDS))))
        for index, seed in enumerate(SEEDS)
    ]
    own, half = [each.mean_average_precision for each in every], statistics.mean(each.map_50 for each in every)
    return ClaimResult(
        f"{statistics.mean(own):.3f} ({min(own):.3f} to {max(own):.3f}), and {half:.3f} at an overlap of a half; "
        f"chance {scores_of_chance().mean_average_precision:.4f}",
        min(own) > FOUND,
        f"mean average precision of {TEST_PICTURES} unseen pictures of {SIDE} x {SIDE}; {len(SEEDS)} seeds, {STEPS} "
        f"steps of {BATCH} pictures that are mirrored, cropped and coloured with their boxes",
    )


CLAIMS: list[Claim] = [
    Claim(
        id="padded-equals-alone",
        kind="equality",
        statement="pictures of several sizes in one batch give what each gives alone",
        published="the same",
        run=_padded_equals_alone,
    ),
    Claim(
        id="soon-above-chance",
        kind="direction",
        statement=f"after {FEW_STEPS} steps it finds coloured shapes on clutter with {TIMES} times the mean average "
        "precision of an untrained one and of chance",
        published=f"above {TIMES} times",
        run=_soon_above_chance,
    ),
    Claim(
        id="finds-shapes",
        kind="direction",
        statement=f"after {STEPS} steps it finds coloured shapes on clutter with a mean average precision of more than "
        f"{FOUND}",
        published=f"above {FOUND}",
        run=_finds_shapes,
        slow=True,
    ),
]
