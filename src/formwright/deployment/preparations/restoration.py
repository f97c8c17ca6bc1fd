"""What a shipped restorer expects of a picture, and how it restores one of any size."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked

from formwright.data.restoration import read_pixels
from formwright.deployment.preparation import PREPARATIONS, Answer, Preparation
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.files import write_atomically
from formwright.reporting import SILENT, Reporter

#: Pixels a side of a tile, and around it, that its answer is computed from; larger pictures are restored tile by tile.
TILE, AROUND = 256, 16
TABLE = "pictures.csv"


@dataclass(frozen=True)
class Restored:
    """A picture and what was made of it: uint8 ``pixels (height, width, channels)``, the sides before, where it is."""

    file: str
    pixels: NDArray[np.uint8]
    before: tuple[int, int]
    written: str = ""

    def to_json(self) -> dict[str, Any]:
        height, width = self.pixels.shape[:2]
        return {"file": self.file, "height": height, "width": width, "written": self.written}

    def cells(self) -> dict[str, str]:
        before, after = (f"{width} x {height}" for height, width in (self.before, self.pixels.shape[:2]))
        return {
            "file": self.file,
            "before": before,
            "after": after,
            **({"written": self.written} if self.written else {}),
        }


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class RestorationPreparation(Preparation):
    """``x / 255`` of a picture of any size, and back: ``channels``, 1 (grey) or 3 (RGB), and how much larger."""

    task: ClassVar[str] = "restoration"
    of: ClassVar[str] = "pictures to restore"

    channels: Annotated[int, Field(gt=0)]
    scale: Annotated[int, Field(gt=0)]

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

    def predict(self, model: OnnxModel, inputs: Sequence[str], reporter: Reporter = SILENT) -> Iterator[Restored]:
        for number, file in enumerate(inputs):
            pixels = read_pixels(Path(file), self.channels)
            yield Restored(file, self.restore(model, pixels), pixels.shape[:2])
            reporter.progress((number + 1) / len(inputs), file)

    def write(self, answers: Iterator[Answer], out: Path, reporter: Reporter = SILENT) -> Iterator[Answer]:
        """Write each picture as PNG into the folder ``out``, and a table beside them.

        Raises:
            UserError: ``out`` is a file, or cannot be written.
        """
        if out.exists() and not out.is_dir():
            raise UserError(f"{out} is a file; restored pictures are written into a folder: name one (--out).")
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{out} cannot be made ({error.strerror}); name another folder (--out).") from error
        rows: list[dict[str, str]] = []
        taken: set[str] = set()
        for answer in answers:
            assert isinstance(answer, Restored)
            name = stem = Path(answer.file).stem
            while name in taken:
                name = f"{stem}-{sum(other.startswith(stem) for other in taken) + 1}"
            taken.add(name)
            pixels, file = answer.pixels, io.BytesIO()
            Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
            write_atomically(out / f"{name}.png", file.getvalue())
            written = Restored(answer.file, pixels, answer.before, str(out / f"{name}.png"))
            rows.append(written.cells())
            yield written
        table = io.StringIO()
        lines = csv.DictWriter(table, fieldnames=["file", "before", "after", "written"], lineterminator="\n")
        lines.writeheader()
        lines.writerows(rows)
        write_atomically(out / TABLE, table.getvalue().encode())


PREPARATIONS.add("restoration", RestorationPreparation)
