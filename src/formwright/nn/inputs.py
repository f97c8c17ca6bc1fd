"""What networks take: each input says its shape, which of its axes are free, and how an example of it looks.

A network names its inputs; names, shapes and free axes are what masks, export, calibration and measuring go by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import ConfigDict

from formwright.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class ImageInput:
    """Images ``(batch, channels, height, width)``; ``size`` is what position tables are built for.

    Where images of several sizes are padded to one (``sized``), their heights and widths come beside them as
    ``lengths`` ``(batch, 2)``, and what lies beyond is masked. A network that takes its ``size`` alone says ``fixed``.
    """

    channels: int = 3
    size: tuple[int, int] = (224, 224)
    sized: bool = False
    fixed: bool = False

    __pydantic_config__ = _STRICT

    @property
    def free(self) -> Mapping[int, str]:
        """The axes that may have any size, and their names."""
        return {0: "batch"} if self.fixed else {0: "batch", 2: "height", 3: "width"}

    def check(self, x: Tensor) -> None:
        """Refuse what is not a batch of images with these channels.

        Raises:
            UserError: names what was given and what was expected.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise UserError(f"Expected images of shape (batch, {self.channels}, height, width), got {tuple(x.shape)}.")
        if self.fixed and tuple(x.shape[2:]) != self.size:
            raise UserError(
                f"The position table was made for images of {self.size[0]} x {self.size[1]}, and got {x.shape[2]} x "
                f"{x.shape[3]}; build the model for this input size (image_size=...)."
            )

    def example(self, batch: int = 1) -> Tensor:
        """Normal random values in the shape of ``batch`` images."""
        import torch

        return torch.randn(batch, self.channels, *self.size)


@dataclass(frozen=True)
class GridInput:
    """Values on a grid of one to three axes, ``(batch, channels, *grid)``: waves, fields, volumes.

    ``size`` is what position tables are built for. Where grids of several sizes are padded to one (``sized``), their
    sides come beside them as ``lengths`` ``(batch, axes)``.
    """

    channels: int
    size: tuple[int, ...]
    sized: bool = False

    __pydantic_config__ = _STRICT

    @property
    def free(self) -> Mapping[int, str]:
        """The axes that may have any size, and their names."""
        names = {1: ("time",), 2: ("height", "width"), 3: ("depth", "height", "width")}[len(self.size)]
        return {0: "batch", **{axis + 2: name for axis, name in enumerate(names)}}

    def check(self, x: Tensor) -> None:
        """Refuse what is not a batch of grids with these channels and as many axes.

        Raises:
            UserError: names what was given and what was expected.
        """
        if x.ndim != 2 + len(self.size) or x.shape[1] != self.channels:
            sides = ", ".join(name for axis, name in self.free.items() if axis)
            raise UserError(f"Expected values of shape (batch, {self.channels}, {sides}), got {tuple(x.shape)}.")

    def example(self, batch: int = 1) -> Tensor:
        """Normal random values in the shape of ``batch`` grids."""
        import torch

        return torch.randn(batch, self.channels, *self.size)


@dataclass(frozen=True)
class TokenInput:
    """Token ids ``(batch, time)``, whole numbers below ``vocabulary``.

    ``length`` is what position tables are built for; ids equal to ``padding`` are no tokens and are masked. Where texts
    say their lengths instead (``sized``), these come beside them as ``lengths`` ``(batch,)``. Where tokens are of
    several ``types``, such as those of a first and of a second text, these may come beside them as ``types``
    ``(batch, time)``.
    """

    vocabulary: int
    length: int = 1024
    padding: int | None = None
    sized: bool = False
    types: int | None = None

    __pydantic_config__ = _STRICT

    @property
    def channels(self) -> int:
        return self.vocabulary

    @property
    def size(self) -> tuple[int]:
        return (self.length,)

    @property
    def free(self) -> Mapping[int, str]:
        """The axes that may have any size, and their names."""
        return {0: "batch", 1: "time"}

    def check(self, x: Tensor) -> None:
        """Refuse what is not a batch of rows of at least one id.

        Raises:
            UserError: names what was given and what was expected.
        """
        if x.ndim != 2 or x.is_floating_point() or x.is_complex():
            raise UserError(f"Expected token ids of shape (batch, time), got {x.dtype} of shape {tuple(x.shape)}.")
        if x.shape[1] == 0:
            raise UserError("A text without tokens has no answer: give at least one token per row.")

    def example(self, batch: int = 1) -> Tensor:
        """Random ids in the shape of ``batch`` rows of full length, none of them padding."""
        import torch

        ids = torch.randint(self.vocabulary, (batch, self.length))
        return torch.where(ids == self.padding, (ids + 1) % self.vocabulary, ids) if self.padding is not None else ids


@dataclass(frozen=True)
class DecoderInput(TokenInput):
    """Ids ``(batch, decoder_time)`` that a decoder has given so far, beside what it was given to read."""

    @property
    def free(self) -> Mapping[int, str]:
        """The axes that may have any size, and their names."""
        return {0: "batch", 1: "decoder_time"}


@dataclass(frozen=True)
class SeriesInput:
    """Series ``(batch, time, variates)`` of ``length`` time steps.

    A model that reads the last steps of a window alone says how many (``look_back``).
    """

    variates: int
    length: int
    look_back: int | None = None

    __pydantic_config__ = _STRICT

    sized = False

    @property
    def channels(self) -> int:
        return self.variates

    @property
    def size(self) -> tuple[int]:
        """The steps that are read."""
        return (self.look_back or self.length,)

    def recent(self, x: Tensor) -> Tensor:
        """What is read of ``x``: its last steps."""
        return x if self.look_back is None else x[:, self.length - self.look_back :]

    @property
    def free(self) -> Mapping[int, str]:
        """The axes that may have any size, and their names."""
        return {0: "batch"}

    def check(self, x: Tensor) -> None:
        """Refuse what is not a batch of series of the length that the model was built for.

        Raises:
            UserError: names what was given and what was expected.
        """
        if x.ndim != 3 or x.shape[1] != self.length:
            raise UserError(f"Expected series of shape (batch, {self.length}, variates), got {tuple(x.shape)}.")

    def example(self, batch: int = 1) -> Tensor:
        """Normal random values in the shape of ``batch`` series."""
        import torch

        return torch.randn(batch, self.length, self.variates)


@dataclass(frozen=True)
class VectorInput:
    """Vectors ``(batch, time, channels)``, such as observations or frames; ``length`` is what tables are built for.

    Where rows say how many of their vectors are real (``sized``), that comes beside them as ``lengths`` ``(batch,)``.
    """

    channels: int
    length: int
    sized: bool = False

    __pydantic_config__ = _STRICT

    @property
    def size(self) -> tuple[int]:
        return (self.length,)

    @property
    def free(self) -> Mapping[int, str]:
        """The axes that may have any size, and their names."""
        return {0: "batch", 1: "time"}

    def check(self, x: Tensor) -> None:
        """Refuse what is not a batch of rows of at least one vector with these channels.

        Raises:
            UserError: names what was given and what was expected.
        """
        if x.ndim != 3 or x.shape[2] != self.channels or not x.is_floating_point() or x.shape[1] == 0:
            raise UserError(
                f"Expected vectors of shape (batch, time, {self.channels}), got {x.dtype} of shape {tuple(x.shape)}."
            )

    def example(self, batch: int = 1) -> Tensor:
        """Normal random values in the shape of ``batch`` rows of full length."""
        import torch

        return torch.randn(batch, self.length, self.channels)


@dataclass(frozen=True)
class LengthsInput:
    """How much of each padded sample is real: whole numbers ``(batch,)``, or ``(batch, axes)`` for several axes."""

    longest: tuple[int, ...]

    __pydantic_config__ = _STRICT

    sized = False

    @property
    def free(self) -> Mapping[int, str]:
        """The axes that may have any size, and their names."""
        return {0: "batch"}

    def check(self, x: Tensor) -> None:
        """Refuse what are not whole numbers, one per sample and axis.

        Raises:
            UserError: names what was given and what was expected.
        """
        axes = len(self.longest)
        expected = "(batch,)" if axes == 1 else f"(batch, {axes})"
        if x.is_floating_point() or x.ndim != min(axes, 2) or (axes > 1 and x.shape[1] != axes):
            raise UserError(f"Expected lengths as whole numbers {expected}, got {x.dtype} of shape {tuple(x.shape)}.")

    def example(self, batch: int = 1) -> Tensor:
        """The full length of every sample."""
        import torch

        full = torch.tensor(self.longest)
        return full.expand(batch) if len(self.longest) == 1 else full.expand(batch, -1).clone()


@dataclass(frozen=True)
class TimeInput:
    """One number per sample ``(batch,)``, the time of a diffusion or a flow, from 0 to ``end``."""

    end: float = 1.0

    __pydantic_config__ = _STRICT

    sized = False

    @property
    def free(self) -> Mapping[int, str]:
        """The axes that may have any size, and their names."""
        return {0: "batch"}

    def check(self, x: Tensor) -> None:
        """Refuse what is not one number per sample.

        Raises:
            UserError: names what was given and what was expected.
        """
        if x.ndim != 1 or x.is_complex():
            raise UserError(f"Expected one time per sample, (batch,), got {x.dtype} of shape {tuple(x.shape)}.")

    def example(self, batch: int = 1) -> Tensor:
        """Times spread evenly between 0 and the end, neither of them included."""
        import torch

        return self.end * (torch.arange(batch) + 0.5) / max(batch, 1)


@dataclass(frozen=True)
class ClassInput:
    """One class per sample ``(batch,)``, whole numbers below ``classes``.

    That number itself stands for no class where there is such a label (``null``).
    """

    classes: int
    null: bool = True

    __pydantic_config__ = _STRICT

    sized = False

    @property
    def free(self) -> Mapping[int, str]:
        """The axes that may have any size, and their names."""
        return {0: "batch"}

    def check(self, x: Tensor) -> None:
        """Refuse what is not one whole number per sample.

        Raises:
            UserError: names what was given and what was expected.
        """
        if x.ndim != 1 or x.is_floating_point() or x.is_complex():
            raise UserError(f"Expected one class per sample, (batch,), got {x.dtype} of shape {tuple(x.shape)}.")

    def example(self, batch: int = 1) -> Tensor:
        """The classes in turn."""
        import torch

        return torch.arange(batch) % self.classes


@dataclass(frozen=True)
class ArrayInput:
    """Anything else, ``(batch, *sizes)``: real numbers, flags, or whole numbers from 0 to below ``below``.

    ``axes`` names the axes after the batch that may have any size; an empty name stands for a fixed one. A network that
    knows what to do without it says that it is ``optional``.
    """

    sizes: tuple[int, ...]
    values: Literal["real", "flag", "whole"] = "real"
    below: int = 2
    axes: tuple[str, ...] = ()
    optional: bool = False

    __pydantic_config__ = _STRICT

    sized = False

    @property
    def free(self) -> Mapping[int, str]:
        """The axes that may have any size, and their names."""
        return {0: "batch", **{axis + 1: name for axis, name in enumerate(self.axes) if name}}

    def check(self, x: Tensor) -> None:
        """Refuse an input whose number of axes, fixed sizes or kind of values does not match.

        Raises:
            UserError: names what was given and what was expected.
        """
        names = (*self.axes, *[""] * (len(self.sizes) - len(self.axes)))
        fits = x.ndim == 1 + len(self.sizes) and all(
            name or size == given for name, size, given in zip(names, self.sizes, x.shape[1:], strict=True)
        )
        if not fits or x.is_floating_point() != (self.values == "real"):
            shape = ", ".join(("batch", *(name or str(size) for name, size in zip(names, self.sizes, strict=True))))
            what = {"real": "real numbers", "flag": "flags", "whole": "whole numbers"}[self.values]
            raise UserError(f"Expected {what} of shape ({shape}), got {x.dtype} of shape {tuple(x.shape)}.")

    def example(self, batch: int = 1) -> Tensor:
        """Random values of the kind."""
        import torch

        shape = (batch, *self.sizes)
        if self.values == "real":
            return torch.randn(shape)
        drawn = torch.randint(self.below, shape)
        return drawn.bool() if self.values == "flag" else drawn


#: What a chain may take. Files tell inputs apart by their fields.
Source = ImageInput | GridInput | TokenInput | SeriesInput | VectorInput


@dataclass(frozen=True)
class AnotherInput:
    """One more of what ``source`` describes, of a size of its own: its free axes but the batch are ``name_axis``."""

    source: Source
    name: str

    __pydantic_config__ = _STRICT

    sized = False

    @property
    def free(self) -> Mapping[int, str]:
        """The axes that may have any size, and their names."""
        return {axis: f"{self.name}_{what}" if axis else what for axis, what in self.source.free.items()}

    def check(self, x: Tensor) -> None:
        """Refuse what is no such input.

        Raises:
            UserError: names what was given and what was expected.
        """
        self.source.check(x)

    def example(self, batch: int = 1) -> Tensor:
        """Another example of the same."""
        return self.source.example(batch)


#: What any network may take under some name.
Input = Source | AnotherInput | LengthsInput | TimeInput | ClassInput | ArrayInput


def lengths_of(source: Source) -> dict[str, LengthsInput]:
    """The further input ``lengths`` of a network whose samples say their sizes."""
    return {"lengths": LengthsInput(source.size)} if source.sized else {}


def types_of(source: Source) -> dict[str, ArrayInput]:
    """The further input ``types`` of a network whose tokens are of several types; it may be left out."""
    if not isinstance(source, TokenInput) or source.types is None:
        return {}
    return {"types": ArrayInput(source.size, "whole", below=source.types, axes=("time",), optional=True)}
