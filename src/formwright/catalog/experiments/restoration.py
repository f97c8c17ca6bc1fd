"""Photographs made larger by models that are trained on them alike, and compared with bicubic enlargement."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from formwright.catalog.experiments.contest import Contest
from formwright.models import create_model
from formwright.nn.specification import NetworkSpec
from formwright.reporting import SILENT, Reporter

STEPS = 1500
#: Pixels per side of a patch of the reduced pictures, and patches of a step.
PATCH, BATCH = 16, 32


class Gain(NamedTuple):
    """PSNR in decibels and SSIM over the test pictures, and the PSNR beyond that of bicubic enlargement."""

    above_bicubic: float
    psnr: float
    ssim: float


@functools.cache
def photographs() -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """The two photographs of scikit-learn, grey: a part of the left to train on, two pieces of the right to test.

    They are reduced to half of their sides, so that they are as sharp as pictures that papers test on; 2, 3 and 4
    divide the sides of all parts.
    """
    from sklearn.datasets import load_sample_images

    train, test = [], []
    for photograph in load_sample_images().images:
        image = Image.fromarray(photograph).convert("L")
        pixels = np.asarray(image.resize((320, 213), Image.Resampling.LANCZOS))[..., None]
        train.append(pixels[:204, :204])
        test += [pixels[:96, 216:312], pixels[108:204, 216:312]]
    return train, test


def train_enlarging(
    specification: NetworkSpec, *, scale: int, steps: int, seed: int, reporter: Reporter = SILENT
) -> Gain:
    """Train a model to enlarge photographs, with one recipe for all, and score it beside bicubic enlargement.

    Adam with warm-up and cosine, patches turned and mirrored, absolute differences, averaged weights. Pictures are
    reduced bicubically; as many pixels of each border as the scale do not count.
    """
    from formwright.data.degradation import Degradation, enlarge
    from formwright.data.patches import PatchBatches, to_input
    from formwright.metrics.restoration import psnr_and_ssim
    from formwright.objectives.restoration import PixelDistance
    from formwright.training import Progress, Recipe, Trainer

    train, test = photographs()
    reduce = Degradation(scale)
    low = [reduce.apply(pixels, 0) for pixels in train]
    recipe = Recipe(
        optimizer="adamw", learning_rate=2e-3, weight_decay=0.0, batch_size=BATCH, warmup=steps // 20, ema_decay=0.99
    )
    torch.manual_seed(seed)
    batches = PatchBatches(low, train, scale=scale, side=PATCH, each=16 * BATCH, batch_size=BATCH, seed=seed)
    trainer = Trainer(create_model(specification), PixelDistance(), batches, recipe, seed=seed)
    trainer.finish_at(steps)

    def tell(progress: Progress) -> None:
        reporter.progress(progress.step / steps, f"{specification.name}, seed {seed}")

    trainer.train(steps=steps, on_step=tell)
    model = trainer.averaged_model().eval()
    ours, bicubic = [], []
    for pixels in test:
        reduced, true = reduce.apply(pixels, 0), to_input(pixels[None])
        with torch.inference_mode():
            ours.append(psnr_and_ssim(model(torch.from_numpy(to_input(reduced[None]))).numpy(), true, scale))
        bicubic.append(psnr_and_ssim(to_input(enlarge(reduced, scale)[None]), true, scale)[0])
    psnr, ssim = (statistics.mean(each) for each in zip(*ours, strict=True))
    return Gain(psnr - statistics.mean(bicubic), psnr, ssim)


def enlarging_contest(
    contestants: Mapping[str, Callable[[], NetworkSpec]], *, scale: int, steps: int = STEPS
) -> Contest[Gain]:
    """A contest for decibels above bicubic enlargement of photographs."""

    def run(specification: NetworkSpec, seed: int, reporter: Reporter) -> Gain:
        return train_enlarging(specification, scale=scale, steps=steps, seed=seed, reporter=reporter)

    conditions = (
        "grey photographs of scikit-learn, two of 204 x 204 to train and four of 96 x 96 to test, "
        f"reduced bicubically to 1/{scale}, {steps:,} steps of {BATCH} patches"
    )
    measures = {
        "PSNR above bicubic": lambda gain: gain.above_bicubic,
        "PSNR": lambda gain: gain.psnr,
        "SSIM": lambda gain: gain.ssim,
    }
    return Contest(contestants, run, conditions, "{:.3f}".format, measures=measures)
