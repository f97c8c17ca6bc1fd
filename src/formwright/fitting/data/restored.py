"""Poor pictures and what they should be: pairs, or clean pictures that are made poor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from formwright.data.restoration import RestorationData, holds_pairs, read_restoration
from formwright.data.splits import evenly_spaced
from formwright.deployment.preparations.restoration import RestorationPreparation
from formwright.errors import UserError
from formwright.fitting.kind import DATA, Data, Option, Reading
from formwright.shapes import RestorationShape

if TYPE_CHECKING:
    from formwright.batch import Batch
    from formwright.data.patches import PatchBatches

#: Pixels per side of a patch of poor pictures, and how many a picture gives in an epoch.
PATCH, EACH = 32, 64
#: A training that sees fewer patches than this is not worth a larger model.
WORTHWHILE = 6000


@DATA.register("restored")
class RestoredPictures(Data):
    """Pairs of pictures; training sees patches of them, validation and test see them whole."""

    name: ClassVar[str] = "restored"
    subject: ClassVar[str] = ""
    target: ClassVar[str] = "pictures"
    order: ClassVar[int] = 5
    expects: ClassVar[str] = (
        "pictures to restore (the folders low and high, or clean pictures with --task restoration and --scale)"
    )
    options: ClassVar[Mapping[str, Option]] = {
        "scale": Option("how many times as high and wide the restored pictures are, 2 if unset", int),
        "degradation": Option("how clean pictures are made poor: bicubic, blur=1.5, noise=25, jpeg=40, or several"),
    }
    sample: ClassVar[str] = "patch"
    samples: ClassVar[str] = "pictures"
    argument: ClassVar[str] = "picture.png"
    asked: ClassVar[str] = "a picture"
    race_samples: ClassVar[int] = 16
    calibration_samples: ClassVar[int] = 64
    free: ClassVar[tuple[str, ...]] = ("height", "width")

    content: RestorationData
    preparation: RestorationPreparation

    def __init__(self, content: RestorationData) -> None:
        self.content = content
        self.preparation = RestorationPreparation(content.channels, content.scale, content.levels)
        self.samples_of = {part: len(rows) for part, rows in content.parts.items()}
        self.side = min(PATCH, *(min(low.shape[:2]) for low in content.low))

    @classmethod
    def recognise(cls, path: Path | None) -> str | None:
        return "pairs of poor and clean pictures" if path is not None and holds_pairs(path) else None

    @classmethod
    def read(cls, path: Path | None, how: Reading) -> Self:
        if path is None:
            raise UserError("No pictures were given; name a folder of them.")
        return cls(read_restoration(path, seed=how.seed, skip_bad=how.skip_bad, progress=how.progress, **how.options))

    def training_batches(self, batch_size: int, *, seed: int, parts: Sequence[str] = ("train",)) -> PatchBatches:
        from formwright.data.patches import PatchBatches

        chosen = [i for part in parts for i in self.content.parts[part]]
        low, high = ([pictures[i] for i in chosen] for pictures in (self.content.low, self.content.high))
        scale = self.content.scale
        return PatchBatches(low, high, scale=scale, side=self.side, each=EACH, batch_size=batch_size, seed=seed)

    def evaluation_batches(
        self, part: str, *, batch_size: int | None = None, most: int | None = None
    ) -> Iterator[Batch]:
        """Whole pictures of a part, one by one; of the training part patches, as many as are asked for or an epoch."""
        import torch

        from formwright.batch import Batch
        from formwright.data.patches import to_input

        if part == "train":
            batches = self.training_batches(min(batch_size or 64, most or 64), seed=0)
            yield from (batches.batch(step) for step in range(-(-(most or self.shape.patches) // batches.batch_size)))
            return
        rows = self.content.parts[part]
        for i in rows if most is None else evenly_spaced(rows, most):
            pair = (self.content.low[i], self.content.high[i])
            yield Batch(*(torch.from_numpy(to_input(pixels[None])) for pixels in pair))

    @property
    def shape(self) -> RestorationShape:
        content = self.content
        return RestorationShape(content.scale, content.channels, self.side, EACH * self.samples_of["train"])

    @property
    def worthwhile_samples(self) -> float:
        return WORTHWHILE

    def describe(self) -> dict[str, Any]:
        content = self.content
        return {
            "pictures": len(content.high),
            "channels": content.channels,
            "scale": content.scale,
            "degradation": content.degradation,
        }

    @classmethod
    def facts(cls, data: Mapping[str, Any]) -> list[tuple[str, str]]:
        colour = "grey" if data["channels"] == 1 else "colour"
        return [
            ("pictures", f"{data['pictures']:,}, {colour}"),
            ("made poor by", data["degradation"]),
            ("scale", f"{data['scale']} times as high and wide"),
        ]

    @classmethod
    def summary(cls, data: Mapping[str, Any]) -> str:
        return f"{data['pictures']:,} pictures, {data['degradation']}"
