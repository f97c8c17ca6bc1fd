"""What candidates need to know of data to be built and trained for it; one class for each kind of data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from formwright.errors import UserError
from formwright.open_choices import Categorical, Open

if TYPE_CHECKING:
    from formwright.nn.specification import ChainSpec, NetworkSpec


class Shape(ABC):
    """A shape of data; its text says in words what has it.

    Class attributes:
        sizes: what is open in all candidates that declare nothing of their own, which makes them comparable: a width,
            which a machine can afford or not, and a depth.
        batches: from how many samples on a training step takes how many of them, the most first.
    """

    sizes: ClassVar[Mapping[str, Open]]
    batches: ClassVar[tuple[tuple[int, int], ...]]

    @property
    @abstractmethod
    def samples(self) -> int:
        """How many there are to train on."""

    @property
    def batch(self) -> int:
        """Samples of a training step."""
        return next(size for least, size in self.batches if self.samples >= least)

    @property
    def warmup(self) -> int:
        """Steps in which the learning rate rises: an epoch, but some at least, and not many."""
        return int(min(50, max(10, self.samples / self.batch)))

    @property
    def choices(self) -> Mapping[str, Open]:
        """What is open for all candidates that are trained step by step, whatever they declare."""
        return {}

    def built(self, build: Callable[..., NetworkSpec], **chosen: Any) -> NetworkSpec:
        """What a family builds for this shape with these choices."""
        return build(self, **chosen)

    def adapted(self, specification: ChainSpec) -> ChainSpec:
        """A model of other data of this kind, for this shape.

        Raises:
            UserError: there is no such thing for this kind of data.
        """
        raise UserError(f"No checkpoint of another model can be adapted to {self}; leave it out.")


def _sizes(widths: tuple[int, ...], depths: tuple[int, ...]) -> dict[str, Open]:
    return {"width": Categorical(widths), "depth": Categorical(depths)}


@dataclass(frozen=True)
class PictureShape(Shape):
    """Pictures of a size ``(height, width)``, of 1 or 3 channels.

    A picture of 28 pixels wants another network than one of 224: strides and the number of stages follow the size, so
    that the first stage has some 16 tokens a side and the last one some four. A width is that of the first stage.
    """

    sizes: ClassVar[Mapping[str, Open]] = _sizes((8, 16, 24, 32, 48, 64, 96), (1, 2, 3))
    batches: ClassVar[tuple[tuple[int, int], ...]] = ((20_000, 256), (5000, 128), (500, 64), (0, 16))

    size: tuple[int, int]
    channels: int
    classes: int
    pictures: int

    def __str__(self) -> str:
        return f"pictures of {self.size[0]} x {self.size[1]} pixels"

    @property
    def samples(self) -> int:
        return self.pictures

    @property
    def stem_stride(self) -> int:
        side = min(self.size)
        return 1 if side <= 12 else 2 if side <= 48 else 4

    @property
    def stages(self) -> int:
        grid = min(self.size) / self.stem_stride
        count = 1
        while grid / 2 >= 3 and count < 4:
            grid /= 2
            count += 1
        return count

    def adapted(self, specification: ChainSpec) -> ChainSpec:
        from formwright.nn.features import with_classes
        from formwright.nn.specification import ImageInput

        return replace(with_classes(specification, self.classes), input=ImageInput(self.channels, self.size))


@dataclass(frozen=True)
class TextShape(Shape):
    """Texts as rows of at most ``length`` ids of a vocabulary, filled up with the id ``padding``."""

    sizes: ClassVar[Mapping[str, Open]] = _sizes((16, 32, 64, 96, 128, 192), (1, 2, 3))
    batches: ClassVar[tuple[tuple[int, int], ...]] = ((50_000, 128), (2000, 64), (500, 32), (0, 16))

    vocabulary: int
    length: int
    padding: int
    classes: int
    texts: int

    def __str__(self) -> str:
        return f"texts of {self.length} tokens"

    @property
    def samples(self) -> int:
        return self.texts

    @property
    def warmup(self) -> int:
        return int(min(100, max(10, 0.5 * self.texts / self.batch)))

    def adapted(self, specification: ChainSpec) -> ChainSpec:
        from formwright.nn.features import with_classes

        source = replace(specification.input, length=self.length, padding=self.padding)  # type: ignore[arg-type]
        return replace(with_classes(specification, self.classes), input=source)

    @property
    def dropout(self) -> float:
        """The fewer texts, the sooner they are memorised."""
        return 0.5 if self.texts < 20_000 else 0.3 if self.texts < 200_000 else 0.1

    @property
    def input(self) -> dict[str, Any]:
        """Options of a model that takes them."""
        return {
            "vocabulary": self.vocabulary,
            "length": self.length,
            "padding": self.padding,
            "classes": self.classes,
        }


@dataclass(frozen=True)
class LanguageShape(Shape):
    """A running text of ``tokens`` ids of a vocabulary, in windows of ``length``."""

    sizes: ClassVar[Mapping[str, Open]] = _sizes((32, 64, 96, 128, 192, 256, 384), (2, 4, 6))

    vocabulary: int
    length: int
    tokens: int

    def __str__(self) -> str:
        return f"windows of {self.length} tokens"

    @property
    def samples(self) -> int:
        return self.tokens // self.length

    @property
    def batch(self) -> int:
        """Windows a step: some 4,000 ids, and fewer of a short text, which then gets more steps."""
        return max(4, min(4096, self.tokens // 64) // self.length)

    @property
    def warmup(self) -> int:
        return 50

    def adapted(self, specification: ChainSpec) -> ChainSpec:
        return replace(specification, input=replace(specification.input, length=self.length))  # type: ignore[arg-type]

    @property
    def dropout(self) -> float:
        """The shorter the text, the sooner it is memorised."""
        return 0.2 if self.tokens < 300_000 else 0.05 if self.tokens < 5_000_000 else 0.0

    @property
    def buckets(self) -> int:
        """Vectors of the n-grams of each length: more for longer texts."""
        return 2**12 if self.tokens < 300_000 else 2**14 if self.tokens < 20_000_000 else 2**16


@dataclass(frozen=True)
class SeriesShape(Shape):
    """``windows`` of series: ``length`` steps of variates and covariates, and a horizon of what comes next.

    Widths are multiples of heads of 16.

    Attributes:
        ahead: how many of the covariates, the last ones, are known ahead: their rows are ``min(length, horizon)`` steps
            later, so that the last ones are those of the steps to forecast.
        cycles: how many pairs of sine and cosine of the calendar stand at the end of these.
        seasons: steps after which a pattern may come again, rising.
        look_backs: how many of the last steps a candidate may read, what is tried first before the others; all if
            empty.
    """

    sizes: ClassVar[Mapping[str, Open]] = _sizes((16, 32, 64, 128, 256), (1, 2, 3))
    batches: ClassVar[tuple[tuple[int, int], ...]] = ((4000, 64), (500, 32), (0, 16))

    length: int
    variates: int
    covariates: int
    horizon: int
    windows: int
    ahead: int = 0
    cycles: int = 0
    seasons: tuple[int, ...] = ()
    look_backs: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"windows of {self.length} steps and {self.variates + self.covariates} columns"

    @property
    def samples(self) -> int:
        return self.windows

    @property
    def choices(self) -> Mapping[str, Open]:
        return {"look_back": Categorical(self.look_backs)} if len(self.look_backs) > 1 else {}

    def built(self, build: Callable[..., NetworkSpec], **chosen: Any) -> NetworkSpec:
        """One that reads fewer steps is built for windows of these, and takes the last ones of those that there are."""
        read = chosen.pop("look_back", self.length)
        if read == self.length:
            return build(self, **chosen)
        specification: Any = build(replace(self, length=read), **chosen)
        return replace(specification, input=replace(specification.input, length=self.length, look_back=read))

    @property
    def input(self) -> dict[str, Any]:
        """Options of a model that takes them."""
        return {
            "length": self.length,
            "horizon": self.horizon,
            "variates": self.variates,
            "covariates": self.covariates,
        }


@dataclass(frozen=True)
class LabelledShape(Shape):
    """``series`` of ``length`` steps and some variates, with classes; one class is a number to be told.

    Widths are multiples of heads of 16.
    """

    sizes: ClassVar[Mapping[str, Open]] = _sizes((16, 32, 64, 128, 256), (1, 2, 3))
    batches: ClassVar[tuple[tuple[int, int], ...]] = ((1000, 64), (200, 32), (0, 16))

    length: int
    variates: int
    classes: int
    series: int

    def __str__(self) -> str:
        return f"series of {self.length} steps"

    @property
    def task(self) -> str:
        return "series-classification" if self.classes > 1 else "series-regression"

    @property
    def samples(self) -> int:
        return self.series


@dataclass(frozen=True)
class RestorationShape(Shape):
    """Patches of ``side`` pixels and 1 or 3 channels, to be made ``scale`` times as high and wide."""

    sizes: ClassVar[Mapping[str, Open]] = _sizes((16, 32, 64, 96), (2, 3))
    batches: ClassVar[tuple[tuple[int, int], ...]] = ((0, 16),)

    scale: int
    channels: int
    side: int
    patches: int

    def __str__(self) -> str:
        return f"patches of {self.side} x {self.side} pixels"

    @property
    def samples(self) -> int:
        return self.patches
