"""Restoration: pictures made larger, sharper or cleaner, as near to the true ones as can be."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from formwright.data.degradation import enlarge
from formwright.fitting.data.restored import RestoredPictures
from formwright.fitting.goal import GOALS, Findings, Goal, Page, Run
from formwright.fitting.kind import Data
from formwright.fitting.metric import Metric
from formwright.fitting.records import Baseline, FitResult
from formwright.fitting.shown import Shown, picture
from formwright.metrics.restoration import psnr_and_ssim

if TYPE_CHECKING:
    from torch import nn

    from formwright.objectives import Objective
    from formwright.training.recipe import Recipe

#: Pictures that the report shows, each before, after and in truth, and the side of what it shows of them.
MOST_SHOWN, CUT = 3, 80
WAYS = ("before", "after", "truth")


@GOALS.register("restoration")
class RestorationGoal(Goal[RestoredPictures]):
    """The true picture from a poor one."""

    name: ClassVar[str] = "restoration"
    target: ClassVar[str] = "pictures"
    metric: Metric = Metric("PSNR", "psnr", tolerance=0.05, closeness="0.05 dB of")
    model: ClassVar[str] = "a restorer of {samples}"
    answer: ClassVar[str] = "the sides of {asked} restored; with --out FOLDER, it is written there as PNG"
    figure: ClassVar[str] = "PSNR of the luma over the test {samples}, in decibels; more is better"
    title: ClassVar[str] = "Before, after and truth"
    template: ClassVar[str] = "restoration.html.j2"
    tolerance: ClassVar[float | None] = 1e-3

    def __init__(self, data: RestoredPictures, **options: Any) -> None:
        super().__init__(data, **options)
        self._shown: dict[int, Shown | None] = {}

    def objective(self, recipe: Recipe | None = None) -> Objective:
        from formwright.objectives.restoration import PixelDistance

        return PixelDistance()

    def distilled(self, recipe: Recipe, teacher: nn.Module) -> Objective:
        return self.objective(recipe)  # a teacher's picture is farther from the truth than the true one

    def counted(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> tuple[float, float]:
        return psnr_and_ssim(outputs, targets, self._border)[0] * len(targets), float(len(targets))

    @property
    def _border(self) -> int:
        """Pixels of each side that do not count, as many as the scale."""
        return self.data.content.scale if self.data.content.scale > 1 else 0

    def examine(self, run: Run, model: nn.Module) -> Findings:
        rows, content = self.data.content.parts["test"], self.data.content
        found: list[dict[str, Any]] = []
        for i, batch in zip(rows, self.data.evaluation_batches("test"), strict=True):
            restored = run(batch.inputs)
            psnr, ssim = psnr_and_ssim(restored, batch.targets.numpy(), self._border)
            found.append({"file": content.names[i], "psnr": psnr, "ssim": ssim})
            if len(found) <= MOST_SHOWN:
                after = np.round(np.clip(np.moveaxis(restored[0], 0, -1), 0, 1) * 255).astype(np.uint8)
                before, truth = enlarge(content.low[i], content.scale), content.high[i]
                where = _hardest(before, truth)
                for way, pixels in enumerate((before, after, truth)):
                    self._shown[len(WAYS) * (len(found) - 1) + way] = picture(pixels[where])
        return Findings(
            test={name: float(np.mean([one[name] for one in found])) for name in ("psnr", "ssim")},
            details={"pictures": found},
        )

    def attachments(self, details: Mapping[str, Any]) -> dict[int, Shown | None]:
        return self._shown

    def baselines(self, *, seconds: float, seed: int) -> list[Baseline]:
        from formwright.data.patches import to_input

        started, content = time.perf_counter(), self.data.content
        scores = [
            psnr_and_ssim(
                to_input(enlarge(content.low[i], content.scale)[None]), to_input(content.high[i][None]), self._border
            )[0]
            for i in content.parts["test"]
        ]
        note = "enlarged bicubically" if content.scale > 1 else "left as it is"
        return [Baseline("bicubic", float(np.mean(scores)), time.perf_counter() - started, note)]

    @classmethod
    def page(cls, result: FitResult, data: type[Data], attachments: Mapping[int, Shown | None]) -> Page:
        test = result.test
        psnr, ssim = f"{test['psnr']:.2f}\N{NO-BREAK SPACE}dB", f"{test['ssim']:.3f}"
        rows = [
            (one, [(way, attachments.get(len(WAYS) * row + number)) for number, way in enumerate(WAYS)])
            for row, one in enumerate(result.details.get("pictures", [])[:MOST_SHOWN])
        ]
        return Page(
            answer=f"{psnr} on average over the restored test pictures",
            figures=[
                ("PSNR", "of the luma against the true picture, borders of the scale cut", psnr),
                ("SSIM", "how alike structures are; 1 is the same picture", ssim),
            ],
            content={"rows": rows},
        )


def _hardest(before: NDArray[np.uint8], truth: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Where a square is that differs the most before it is restored: there is something to see."""
    differs = np.abs(before.astype(np.float64) - truth).sum(-1)
    sums = np.pad(differs, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    height, width = (min(CUT, side) for side in differs.shape)
    squares = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = (int(place) for place in np.unravel_index(squares.argmax(), squares.shape))
    return slice(top, top + height), slice(left, left + width)
