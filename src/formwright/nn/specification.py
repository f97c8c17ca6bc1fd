"""Models as plain data: nested frozen dataclasses that JSON can hold.

A :class:`ModelSpec` says everything that is needed to build a model: its input, an embedding, stages of blocks, each
block a list of residual branches, and a head. Stages list their blocks one by one, so that each may differ: pruned,
searched and hybrid models do. A part is a registered name and its options.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from formwright.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA_VERSION = 1

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class PartSpec:
    """A registered part and its options; options may hold further parts."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", {key: _canonical(value) for key, value in self.options.items()})

    def with_options(self, **changes: Any) -> PartSpec:
        return PartSpec(self.name, {**self.options, **changes})


def part(name: str, **options: Any) -> PartSpec:
    """Short form: ``part("attention", heads=8)``."""
    return PartSpec(name, options)


def _canonical(value: Any) -> Any:
    """The form that survives JSON: lists become tuples and nested parts become :class:`PartSpec` again."""
    if isinstance(value, Mapping):
        if set(value) == {"name", "options"}:
            return PartSpec(value["name"], value["options"])
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_canonical(item) for item in value)
    return value


@dataclass(frozen=True)
class BranchSpec:
    """A residual branch: ``x = post_norm(residual_scale * x + drop_path(layer_scale * part(norm(x))))``.

    ``layer_scale`` and ``residual_scale`` are the initial values of learned vectors (one value a channel), or absent.
    With a ``gate`` (see :mod:`formwright.nn.gates`), it joins the two instead of the sum.
    """

    part: PartSpec
    norm: PartSpec | None = None
    post_norm: PartSpec | None = None
    layer_scale: float | None = None
    residual_scale: float | None = None
    drop_path: float = 0.0
    gate: PartSpec | None = None

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class BlockSpec:
    branches: tuple[BranchSpec, ...]

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class StageSpec:
    """Blocks of one width: ``downsample`` brings the tokens to it, ``entry`` adds positions or class tokens.

    A looped stage passes its tokens ``repeats`` times through the same blocks; with ``inject``, what entered it is
    added before each time but the first.
    """

    dim: int
    blocks: tuple[BlockSpec, ...]
    downsample: PartSpec | None = None
    entry: tuple[PartSpec, ...] = ()
    repeats: int = 1
    inject: bool = False

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class ImageInput:
    """Images ``(batch, channels, height, width)``; ``size`` is what position tables are built for."""

    channels: int = 3
    size: tuple[int, int] = (224, 224)

    __pydantic_config__ = _STRICT

    def check(self, x: Tensor) -> None:
        """Refuse what is not a batch of images with these channels.

        Raises:
            UserError: names what came and what was expected.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise UserError(f"Expected images of shape (batch, {self.channels}, height, width), got {tuple(x.shape)}.")

    def example(self, batch: int = 1) -> Tensor:
        """Normal random values in the shape of ``batch`` images."""
        import torch

        return torch.randn(batch, self.channels, *self.size)


@dataclass(frozen=True)
class TokenInput:
    """Token ids ``(batch, time)``, whole numbers below ``vocabulary``.

    ``length`` is what position tables are built for; ids equal to ``padding`` are no tokens and are masked.
    """

    vocabulary: int
    length: int = 1024
    padding: int | None = None

    __pydantic_config__ = _STRICT

    @property
    def channels(self) -> int:
        return self.vocabulary

    @property
    def size(self) -> tuple[int]:
        return (self.length,)

    def check(self, x: Tensor) -> None:
        """Refuse what is not a batch of rows of at least one id.

        Raises:
            UserError: names what came and what was expected.
        """
        if x.ndim != 2 or x.is_floating_point() or x.is_complex():
            raise UserError(f"Expected token ids of shape (batch, time), got {x.dtype} of shape {tuple(x.shape)}.")
        if x.shape[1] == 0:
            raise UserError("A text without tokens has no answer: give at least one token a row.")

    def example(self, batch: int = 1) -> Tensor:
        """Random ids in the shape of ``batch`` rows of full length, none of them padding."""
        import torch

        ids = torch.randint(self.vocabulary, (batch, self.length))
        return torch.where(ids == self.padding, (ids + 1) % self.vocabulary, ids) if self.padding is not None else ids


@dataclass(frozen=True)
class SeriesInput:
    """Series ``(batch, time, variates)``; ``length`` is how many steps of time the model looks back on."""

    variates: int
    length: int

    __pydantic_config__ = _STRICT

    @property
    def channels(self) -> int:
        return self.variates

    @property
    def size(self) -> tuple[int]:
        return (self.length,)

    def check(self, x: Tensor) -> None:
        """Refuse what is not a batch of series of the length that the model looks back on.

        Raises:
            UserError: names what came and what was expected.
        """
        if x.ndim != 3 or x.shape[1] != self.length:
            raise UserError(f"Expected series of shape (batch, {self.length}, variates), got {tuple(x.shape)}.")

    def example(self, batch: int = 1) -> Tensor:
        """Normal random values in the shape of ``batch`` series."""
        import torch

        return torch.randn(batch, self.length, self.variates)


@dataclass(frozen=True)
class VectorInput:
    """Vectors ``(batch, time, channels)``, such as observations; ``length`` is what position tables are built for."""

    channels: int
    length: int

    __pydantic_config__ = _STRICT

    @property
    def size(self) -> tuple[int]:
        return (self.length,)

    def check(self, x: Tensor) -> None:
        """Refuse what is not a batch of rows of at least one vector with these channels.

        Raises:
            UserError: names what came and what was expected.
        """
        if x.ndim != 3 or x.shape[2] != self.channels or not x.is_floating_point() or x.shape[1] == 0:
            raise UserError(
                f"Expected vectors of shape (batch, time, {self.channels}), got {x.dtype} of shape {tuple(x.shape)}."
            )

    def example(self, batch: int = 1) -> Tensor:
        """Normal random values in the shape of ``batch`` rows of full length."""
        import torch

        return torch.randn(batch, self.length, self.channels)


Input = ImageInput | TokenInput | SeriesInput | VectorInput


@dataclass(frozen=True)
class EditSpec:
    """One change to a built model (see :mod:`formwright.nn.edits`): its name, the module it changes, its options."""

    name: str
    target: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", {key: _canonical(value) for key, value in self.options.items()})


@dataclass(frozen=True)
class ModelSpec:
    """A whole model: ``embed`` → ``stages`` → ``head``, and the ``edits`` made to it since it was built.

    ``embed_dim`` is the number of channels after the embedding, where it is not that of the first stage.
    ``initialization`` is the rule by which weights start (:mod:`formwright.nn.initialization`).
    """

    family: str
    name: str
    task: str
    input: Input
    classes: int
    embed: PartSpec
    stages: tuple[StageSpec, ...]
    head: PartSpec
    embed_dim: int | None = None
    edits: tuple[EditSpec, ...] = ()
    initialization: Literal["truncated_normal", "fan_in"] = "truncated_normal"
    schema_version: int = SCHEMA_VERSION

    __pydantic_config__ = _STRICT

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> ModelSpec:
        """Decode and check a plain dictionary, migrating older schema versions.

        Raises:
            UserError: a field is missing, unknown or of the wrong type, or the schema is newer than this program.
        """
        try:
            return _model_adapter().validate_python(migrate(data))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"])
            raise UserError(f"This model specification cannot be read: at {where!r}, {first['msg'].lower()}.") from None


@functools.cache
def _model_adapter() -> TypeAdapter[ModelSpec]:
    return TypeAdapter(ModelSpec)


#: From version N to N + 1, one function each; a specification is never rewritten in place.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


def migrate(data: Mapping[str, Any]) -> dict[str, Any]:
    """Bring a specification of an older schema version to the present one.

    Raises:
        UserError: there is no way from its version to the present one.
    """
    data = dict(data)
    version = data.get("schema_version", SCHEMA_VERSION)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise UserError(
            f"This specification has schema version {version!r}, and this program reads up to {SCHEMA_VERSION}: "
            "use a newer formwright."
        )
    while version < SCHEMA_VERSION:
        if version not in MIGRATIONS:
            raise UserError(f"There is no schema version {version}; was the specification written by hand?")
        data = MIGRATIONS[version](data)
        version += 1
        data["schema_version"] = version
    return data
