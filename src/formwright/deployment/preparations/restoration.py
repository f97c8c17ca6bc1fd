"""What a shipped restorer expects of a picture, and how it restores one of any size."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked

from formwright.data.preprocess import readable_suffixes
from formwright.data.restoration import read_pixels
from formwright.deployment.inputs import AS_FOUND, InputOptions
from formwright.deployment.preparation import PREPARATIONS, Answer, Preparation
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.files import atomic_path
from formwright.levels import UNKNOWN, Levels
from formwright.reporting import SILENT, Reporter

#: Pixels per side of a tile, and around it, that its answer is computed from; larger pictures are restored by tiles.
TILE, AROUND = 256, 16
TABLE = "pictures.csv"


@dataclass(frozen=True)
class Restored:
    """What was made of a picture.

    Attributes:
        file: the picture.
        before, after: height and width.
        pixels: uint8 ``(height, width, channels)``; none once they are written.
        written: where.
    """

    file: str
    before: tuple[int, int]
    after: tuple[int, int]
    pixels: NDArray[np.uint8] | None = None
    written: str = ""

    def to_json(self) -> dict[str, Any]:
        height, width = self.after
        return {"file": self.file, "height": height, "width": width, "written": self.written}

    def cells(self) -> dict[str, str]:
        before, after = (f"{width} x {height}" for height, width in (self.before, self.after))
        written = {"written": self.written} if self.written else {}
        return {"file": self.file, "before": before, "after": after, **written}


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class RestorationPreparation(Preparation):
    """``x / 255`` of a picture of any size, and back: ``channels``, 1 (grey) or 3 (RGB), and how much larger.

    ``levels`` says what becomes of more than eight bits; restored pictures have eight.
    """

    task: ClassVar[str] = "restoration"
    of: ClassVar[str] = "pictures to restore"
    suffixes: ClassVar[Collection[str]] = readable_suffixes()

    channels: Annotated[int, Field(gt=0)]
    scale: Annotated[int, Field(gt=0)]
    levels: Levels = UNKNOWN

    def record(self) -> dict[str, Any]:
        fields = super().record()
        if self.levels == UNKNOWN:
            del fields["levels"]
        return fields

    def restore(self, model: OnnxModel, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """``(height, width, channels)`` to ``(scale height, scale width, channels)``, tile by tile.

        Tiles overlap by what is computed around them and cut again, so that no seam is seen.
        """
        height, width, channels = pixels.shape
        scale = self.scale
        restored = np.empty((height * scale, width * scale, channels), np.uint8)
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                y, x = max(0, top - AROUND), max(0, left - AROUND)
                bottom, right = min(height, top + TILE), min(width, left + TILE)
                piece = pixels[y : min(height, bottom + AROUND), x : min(width, right + AROUND)]
                values = model(np.moveaxis(piece.astype(np.float32) / 255, -1, 0)[None])[0]
                if values.shape != (channels, piece.shape[0] * scale, piece.shape[1] * scale):
                    raise UserError(
                        f"{model.name} gives a picture of shape {values.shape}, and preprocessing.json says a scale "
                        f"of {scale}; export the folder again."
                    )
                inside = values[:, (top - y) * scale : (bottom - y) * scale, (left - x) * scale : (right - x) * scale]
                rounded = np.round(np.clip(inside, 0, 1) * 255).astype(np.uint8)
                restored[top * scale : bottom * scale, left * scale : right * scale] = np.moveaxis(rounded, 0, -1)
        return restored

    def predict(
        self,
        model: OnnxModel,
        inputs: Sequence[str],
        reporter: Reporter = SILENT,
        how: InputOptions = AS_FOUND,
    ) -> Iterator[Restored]:
        for file in inputs:  # before minutes go into the first
            read_pixels(Path(file), self.channels, self.levels)
        for number, file in enumerate(inputs):
            pixels = read_pixels(Path(file), self.channels, self.levels)
            restored = self.restore(model, pixels)
            yield Restored(file, pixels.shape[:2], restored.shape[:2], restored)
            reporter.progress((number + 1) / len(inputs), file)

    def write(
        self,
        answers: Iterator[Answer],
        out: Path,
        reporter: Reporter = SILENT,
        how: InputOptions = AS_FOUND,
    ) -> Iterator[Answer]:
        """Write each picture as PNG into the folder ``out``, and a table beside them: all of them or none.

        Raises:
            UserError: ``out`` is a file, cannot be written, or holds a picture that was given.
        """
        if out.exists() and not out.is_dir():
            raise UserError(f"{out} is a file; restored pictures are written into a folder: name one (--out).")
        written: dict[str, Restored] = {}
        with ExitStack() as pending:  # files take their places when it ends well
            for answer in answers:
                assert isinstance(answer, Restored)
                assert answer.pixels is not None
                name = stem = Path(answer.file).stem
                while name in written:
                    name = f"{stem}-{sum(other.startswith(stem) for other in written) + 1}"
                path = out / f"{name}.png"
                pixels = answer.pixels[..., 0] if answer.pixels.shape[2] == 1 else answer.pixels
                Image.fromarray(pixels).save(pending.enter_context(atomic_path(path)), "PNG")
                written[name] = replace(answer, pixels=None, written=str(path))
            given = {Path(answer.file).resolve() for answer in written.values()}
            for answer in written.values():
                if Path(answer.written).resolve() in given:
                    raise UserError(
                        f"{answer.written} was given and would be overwritten; name another folder (--out)."
                    )
            lines = io.StringIO()
            table = csv.DictWriter(lines, ["file", "before", "after", "written"], lineterminator="\n")
            table.writeheader()
            table.writerows(answer.cells() for answer in written.values())
            pending.enter_context(atomic_path(out / TABLE)).write_text(lines.getvalue(), encoding="utf-8")
        reporter.note(f"{len(written)} restored picture{'s' * (len(written) != 1)} written to {out}.")
        yield from written.values()


PREPARATIONS.add("restoration", RestorationPreparation)
