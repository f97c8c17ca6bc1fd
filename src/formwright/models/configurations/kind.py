"""From a ``config.json`` of transformers to a specification: what every kind of model has to say for it.

A kind lists all options of its configuration: those that are read, those with one value that models of ours have, and
those that change no output. What it does not list, transformers does not look at either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from formwright.errors import UnknownNameError, UserError
from formwright.nn.specification import ChainSpec, PartSpec, part

#: Our names of the activations that transformers names; several of its names are the same function.
ACTIVATIONS: Mapping[str, str] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "hardswish": "hard_swish",
    "linear": "identity",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu2": "squared_relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}

#: Options of every kind that a model of ours cannot have, with the values that mean none.
EVERYWHERE: Mapping[str, Any] = {
    "quantization_config": None,
    "pruned_heads": {},
    "is_decoder": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
}


@dataclass(frozen=True)
class Head:
    """What a model has on top.

    Attributes:
        architectures: the classes of transformers that have it.
        task: what its models are for, as specifications call it.
        marker: how the name of a tensor begins that no other head has, where a configuration names no class; the last
            head of a kind needs none.
    """

    architectures: tuple[str, ...]
    task: str
    marker: str | None = None


@dataclass(frozen=True)
class Described:
    """What a folder says of its model.

    Attributes:
        name: what it is called.
        options: those of its configuration, the defaults of its kind among them.
        task: that of its head.
        architecture: the class of transformers, if one is named.
        tensors: the names of its weights.
        separator: the id that ends a text, where its tokeniser has one.
        pooling: how the folder says that tokens become one vector, ``mean`` or ``first``.
    """

    name: str
    options: Mapping[str, Any]
    task: str
    architecture: str | None
    tensors: Collection[str]
    separator: int | None = None
    pooling: str | None = None

    @property
    def classes(self) -> int:
        """How many classes the configuration lists; two, as transformers takes, if it does not."""
        labels = self.options.get("id2label")
        return len(labels) if labels else int(self.options.get("num_labels") or 2)

    def activation(self, option: str) -> str:
        """Our name of an activation.

        Raises:
            UserError: there is no such activation.
        """
        given = self.options[option]
        if given not in ACTIVATIONS:
            raise UserError(
                f"{self.name} has the activation {given!r} ({option}), which Formwright does not have; known: "
                f"{', '.join(ACTIVATIONS)}."
            )
        return ACTIVATIONS[given]

    def identifier(self, option: str) -> int | None:
        """The id of a token that a configuration names, if it is in the vocabulary."""
        given = self.options[option]
        return given if isinstance(given, int) and 0 <= given < self.options["vocab_size"] else None

    def has(self, ending: str) -> bool:
        """Whether there is a tensor whose name ends so."""
        return any(name.endswith(ending) for name in self.tensors)


@dataclass(frozen=True)
class Kind:
    """One ``model_type`` of transformers.

    Attributes:
        name: the ``model_type``.
        build: makes our specification.
        heads: what its models may have on top.
        read: the options that are read, with what transformers takes where they are not given. Whole numbers are
            sizes, but for the ids of tokens.
        fixed: the options with one value that models of ours have, and that value.
        unused: those that change no output of a trained model.
        aliases: other names of options.
    """

    name: str
    build: Callable[[Described], ChainSpec]
    heads: Sequence[Head]
    read: Mapping[str, Any]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    unused: Collection[str] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)

    def specification(
        self,
        name: str,
        config: Mapping[str, Any],
        tensors: Collection[str],
        separator: int | None = None,
        pooling: str | None = None,
    ) -> ChainSpec:
        """Our model of a configuration.

        Raises:
            UserError: an option has a value that no model of ours has, or the head is another one.
        """
        given = {self.aliases.get(key, key): value for key, value in config.items()}
        for option, wanted in {**EVERYWHERE, **self.fixed}.items():
            if given.get(option, wanted) not in (wanted, None):
                raise UserError(
                    f"{name} is a model of the kind {self.name} with {option} = {given[option]!r}, and Formwright has "
                    f"{self.name} with {wanted!r} alone: choose another checkpoint."
                )
        options = {**given, **{key: _checked(name, key, given, value) for key, value in self.read.items()}}
        head, architecture = self._head(name, config, tensors)
        return self.build(Described(name, options, head.task, architecture, tensors, separator, pooling))

    def _head(self, name: str, config: Mapping[str, Any], tensors: Collection[str]) -> tuple[Head, str | None]:
        named = config.get("architectures")
        if not named:
            marked = ((head, head.marker) for head in self.heads if head.marker is not None)
            known = (head for head, marker in marked if any(tensor.startswith(marker) for tensor in tensors))
            return next(known, self.heads[-1]), None
        for head in self.heads:
            if named[0] in head.architectures:
                return head, named[0]
        raise UserError(
            f"{name} holds the weights of a {named[0]}, and of the kind {self.name} Formwright has "
            f"{', '.join(each for head in self.heads for each in head.architectures)}: these weights are for another "
            "task."
        )


KINDS: dict[str, Kind] = {}


def register_kind(kind: Kind) -> None:
    KINDS[kind.name] = kind


def kind_of(name: str, source: str) -> Kind:
    """The kind of a ``model_type``.

    Raises:
        UserError: there is none.
    """
    if name not in KINDS:
        raise UnknownNameError(f"kind of model (model_type in {source})", name, KINDS)
    return KINDS[name]


#: Options that may be a number, or one for each side.
_SIDES = ("image_size", "patch_size")


def _checked(source: str, option: str, given: Mapping[str, Any], default: Any) -> Any:
    """The value of an option, of the type of its default."""
    value = given.get(option, default)
    if default is None or option.endswith("_id"):
        return value
    if value is None:
        return default
    if option in _SIDES and isinstance(value, list | tuple) and len(value) == 2:
        return value
    if default == "auto":
        fits = value == default or (isinstance(value, int) and value > 0)
    elif isinstance(default, bool | str):
        fits = isinstance(value, type(default))
    elif isinstance(default, tuple):
        fits = isinstance(value, list | tuple) and len(value) > 0
    else:
        number = int | float if isinstance(default, float) else int
        fits = isinstance(value, number) and not isinstance(value, bool) and (isinstance(default, float) or value > 0)
    if not fits:
        raise UserError(
            f"The configuration of {source} has {option} = {value!r}, where {default!r} is usual: correct it."
        )
    return value


def without_scores(specification: ChainSpec) -> ChainSpec:
    """A classifier without its classes: it answers what its scores were computed from."""
    kept = ("norm", "pool", "pooled_norm")
    options = {name: value for name, value in specification.head.options.items() if name in kept}
    if specification.head.name == "classifier":
        options.setdefault("pool", PartSpec("mean_pool"))
    return with_features(specification, **options)


def pooled(described: Described, own: PartSpec | None) -> PartSpec | None:
    """What makes one vector of a text's tokens: what the folder says, or else the model's ``own``."""
    ways = {"mean": part("mean_pool"), "first": part("first_token_pool")}
    return own if described.pooling is None else ways[described.pooling]


def with_features(specification: ChainSpec, **options: Any) -> ChainSpec:
    """A model without scores; options as those of the part ``features``."""
    head = PartSpec("features", {name: value for name, value in options.items() if value is not None})
    return dataclasses.replace(specification, task="features", classes=specification.stages[-1].dim, head=head)


def square(described: Described, option: str) -> int:
    """The side of a square that an option gives, as a number or twice.

    Raises:
        UserError: its sides differ.
    """
    value = described.options[option]
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) != 1:
        raise UserError(f"{described.name} has {option} = {value!r}, and Formwright has squares alone.")
    return int(sides.pop())


def image_size(described: Described) -> int | tuple[int, int]:
    """The size of the pictures that a model is for."""
    value = described.options["image_size"]
    return value if isinstance(value, int) else (int(value[0]), int(value[1]))
