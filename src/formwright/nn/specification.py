"""Models as plain data: nested frozen dataclasses that JSON can hold.

A :class:`NetworkSpec` says everything that is needed to build a network of its ``kind``. The most common one is
:class:`ChainSpec`: an input, an embedding, stages of blocks, each block a list of residual branches, and a head. Stages
list their blocks one by one, so that each may differ: pruned, searched and hybrid models do. A part is a registered
name and its options.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from formwright.errors import UnknownNameError, UserError
from formwright.nn.inputs import (
    ClassInput,
    DecoderInput,
    GridInput,
    ImageInput,
    Input,
    LengthsInput,
    SeriesInput,
    Source,
    TimeInput,
    TokenInput,
    VectorInput,
    lengths_of,
    types_of,
)
from formwright.nn.migrations import SCHEMA_VERSION, migrate

__all__ = [
    "BlockSpec",
    "BranchSpec",
    "ChainSpec",
    "ClassInput",
    "DecoderInput",
    "EditSpec",
    "GridInput",
    "ImageInput",
    "Input",
    "LengthsInput",
    "ModelSpec",
    "NetworkSpec",
    "PartSpec",
    "SeriesInput",
    "Source",
    "StageSpec",
    "TimeInput",
    "TokenInput",
    "VectorInput",
    "part",
    "register_specification",
]

S = TypeVar("S", bound="NetworkSpec")

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
    """The form that survives JSON: lists become tuples, nested parts and blocks their specifications again."""
    if isinstance(value, Mapping):
        if set(value) == {"name", "options"}:
            return PartSpec(value["name"], value["options"])
        if set(value) == {"branches"}:
            return BlockSpec(tuple(_branch(item) for item in value["branches"]))
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_canonical(item) for item in value)
    return value


@dataclass(frozen=True)
class BranchSpec:
    """A residual branch: ``x = post_norm(residual_scale * x + drop_path(layer_scale * part(norm(x))))``.

    ``layer_scale`` and ``residual_scale`` are the initial values of learned vectors (one value per channel), or absent.
    With a ``gate`` (see :mod:`formwright.nn.gates`), it joins the two instead of the sum. A part ``after`` the branch
    maps ``(x, context)`` to ``(x, context)``: it may merge or drop tokens.
    """

    part: PartSpec
    norm: PartSpec | None = None
    post_norm: PartSpec | None = None
    layer_scale: float | None = None
    residual_scale: float | None = None
    drop_path: float = 0.0
    gate: PartSpec | None = None
    after: PartSpec | None = None

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class BlockSpec:
    branches: tuple[BranchSpec, ...]

    __pydantic_config__ = _STRICT


def _branch(value: BranchSpec | Mapping[str, Any]) -> BranchSpec:
    if isinstance(value, BranchSpec):
        return value
    try:
        return BranchSpec(**{key: _canonical(item) for key, item in value.items()})
    except TypeError as error:
        raise UserError(f"This residual branch cannot be read: {error}.") from None


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
class EditSpec:
    """One change to a built model (see :mod:`formwright.nn.edits`): its name, the module it changes, its options."""

    name: str
    target: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", {key: _canonical(value) for key, value in self.options.items()})


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """What every network's specification says, whatever its topology; subclasses add what their ``forward`` needs.

    ``edits`` are the changes made to the network since it was built. ``initialization`` is the rule by which weights
    start (:mod:`formwright.nn.initialization`). A subclass gives ``kind``, its name in every file, a value.
    """

    family: str
    name: str
    task: str
    edits: tuple[EditSpec, ...] = ()
    initialization: Literal["truncated_normal", "fan_in", "xavier"] = "truncated_normal"
    schema_version: int = SCHEMA_VERSION
    kind: str

    __pydantic_config__ = _STRICT

    @property
    def inputs(self) -> Mapping[str, Input]:
        """What the network takes, by the names of its ``forward``."""
        raise TypeError(f"{type(self).__name__} does not say what its network takes.")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Decode and check a plain dictionary, migrating older schema versions.

        On :class:`NetworkSpec` itself the dictionary's ``kind`` decides what it becomes.

        Raises:
            UserError: a field is missing, unknown or of the wrong type, the kind is unknown or another one, or the
                schema is newer than this program.
        """
        data = migrate(data)
        kind = data.setdefault("kind", "chain")
        wanted = SPECIFICATIONS.get(kind) if isinstance(kind, str) else None
        if wanted is None:
            raise UnknownNameError("kind of network", str(kind), SPECIFICATIONS)
        if not issubclass(wanted, cls):
            raise UserError(f"This is the specification of another kind of network, {kind!r}, not of {cls.__name__}.")
        try:
            return _adapter(wanted).validate_python(data)  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"])
            raise UserError(f"This model specification cannot be read: at {where!r}, {first['msg'].lower()}.") from None


#: Specifications by the ``kind`` that files name.
SPECIFICATIONS: dict[str, type[NetworkSpec]] = {}


def register_specification(specification: type[S]) -> type[S]:
    """Let files name the kind of network that ``specification`` describes."""
    fields = {field.name: field for field in dataclasses.fields(specification)}
    SPECIFICATIONS[str(fields["kind"].default)] = specification
    return specification


@register_specification
@dataclass(frozen=True, kw_only=True)
class ChainSpec(NetworkSpec):
    """``embed`` → ``stages`` → ``head``.

    ``embed_dim`` is the number of channels after the embedding, where it is not that of the first stage.
    """

    input: Source
    classes: int
    embed: PartSpec
    stages: tuple[StageSpec, ...]
    head: PartSpec
    embed_dim: int | None = None
    kind: Literal["chain"] = "chain"

    @property
    def inputs(self) -> Mapping[str, Input]:
        return {"input": self.input, **lengths_of(self.input), **types_of(self.input)}


#: Its name before there were networks of other kinds.
ModelSpec = ChainSpec


@functools.cache
def _adapter(specification: type[S]) -> TypeAdapter[S]:
    return TypeAdapter(specification)
