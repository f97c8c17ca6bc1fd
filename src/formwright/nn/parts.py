"""The part: what every mixer, norm, embedding and head is, and how one is built from its specification."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.context import EMPTY, FACTS, OFFERS, SETTLED, Context
from formwright.nn.specification import PartSpec
from formwright.registry import Registry

PARTS: Registry[type[nn.Module]] = Registry("part", group="formwright.parts")


@dataclass(frozen=True)
class Promises:
    """What a part can be held to; the conformance suite checks exactly this.

    Attributes:
        dimensions: numbers of grid axes that it takes.
        any_grid: works on every grid size, not only on the one it was built for.
        batch_invariant: in eval mode a sample's result does not depend on its neighbours in the batch.
        per_token: treats each token by itself in inference (or needs no facts about the others), so context fields
            that speak of other tokens do not concern it, but for those that it names in ``uses``.
        causal: a token's result depends on no later token.
        multiple: every side of the grid must be a multiple of this.
        exemptions: a check of the suite (``gradients``, or ``gradients:score.bias`` for one parameter) and the reason
            why it does not apply.
    """

    dimensions: tuple[int, ...] = (1, 2, 3)
    any_grid: bool = True
    batch_invariant: bool = True
    per_token: bool = False
    causal: bool = False
    multiple: int = 1
    exemptions: Mapping[str, str] = field(default_factory=dict)


#: What a causal part remembers of the tokens before: tensors of fixed shapes, the batch first.
State = dict[str, Tensor]

#: Is shown a value of a part, and returns what takes its place; ``None`` leaves it.
Listener = Callable[[Any], Any]


@dataclass(frozen=True)
class Axis:
    """A named axis of a parameter: its entries are laid out as ``(repeats, size, block)``.

    The rows of a fused query-key-value matrix are ``Axis("heads", repeats=3, block=head_dim)``; those of an MLP's
    first matrix are ``Axis("hidden")``. Axes of one part with the same name shrink together. Two names are known
    everywhere: ``residual`` are the channels of the tokens, which the parts of a network share, ``incoming`` those of
    the tokens that a part of another width takes, ``condition`` and ``memory`` those of what the context offers.

    Attributes:
        name: what the entries are.
        repeats: how many times all of them are there, one after the other.
        block: how many values an entry has each time.
        before: how many values of something else lie in front of them.
    """

    name: str
    repeats: int = 1
    block: int = 1
    before: int = 0


#: The channels of the tokens, and of those that a part of another width takes.
RESIDUAL = Axis("residual")
INCOMING = Axis("incoming")
#: The channels of what the context offers.
CONDITION = Axis("condition")
MEMORY = Axis("memory")

#: What the axes of a part inside another are to the other: by the inner part's path and the name of its axis.
InnerAxes = dict[str, dict[str, Axis]]


@dataclass(frozen=True)
class Width:
    """Channels that several modules of a network share, which are cut and permuted in all of them.

    Attributes:
        members: paths in the network, and which axis of each (``residual``, ``incoming``) the channels are.
    """

    members: tuple[tuple[str, str], ...]


def sharing(*paths: str, channels: Axis = RESIDUAL) -> InnerAxes:
    """The parts at ``paths`` take and give tokens whose channels are the axis ``channels``, in the same context."""
    axes = {RESIDUAL.name: channels, CONDITION.name: CONDITION, MEMORY.name: MEMORY}
    return dict.fromkeys(paths, axes)


class Part(nn.Module):
    """Maps tokens ``(batch, *grid, channels)`` to tokens; see :class:`~formwright.nn.context.Context`.

    Class attributes:
        uses: the facts that the part honours and the offers that it takes.
        offers: what the part itself offers to those behind it, by :meth:`offer`.
        promises: what the conformance suite holds it to; :meth:`promise` changes an instance's.
        resizable: attribute that holds the size of each named axis, by axis name.
        taps: names of the values on the way that can be read and replaced (:mod:`formwright.nn.taps`); a value has the
            layout that the part computes with.
    """

    uses: ClassVar[frozenset[str]] = frozenset()
    offers: ClassVar[frozenset[str]] = frozenset()
    promises: ClassVar[Promises] = Promises()
    resizable: ClassVar[Mapping[str, str]] = {}
    #: Its own parameters that weight decay leaves alone although they are matrices: tables of vectors, learned tokens.
    #: Any module may say so, not only a part.
    no_decay: ClassVar[tuple[str, ...]] = ()
    taps: ClassVar[tuple[str, ...]] = ()
    #: Who listens to which of the taps; nothing while nobody does, which is all that a tap then looks at.
    listeners: dict[str, list[Listener]] | None = None
    #: The dense layers (or tables, along their last axis) by which the part reads its input and writes its output,
    #: where it does nothing else with either: whatever is linear in the tokens can then be taken into them.
    input_layers: ClassVar[tuple[str, ...]] = ()
    output_layers: ClassVar[tuple[str, ...]] = ()
    #: The facts that the part settles before the parts in it see the tokens.
    settles: ClassVar[frozenset[str]] = frozenset()
    #: Whether the part gives ``(y, context)`` with its ``keys`` where the context says ``keys_wanted``.
    shares_keys: ClassVar[bool] = False
    #: Whether the part, behind a branch, needs the keys of the part in the branch.
    needs_keys: bool = False
    #: Whether the part changes the number of tokens; :meth:`stream` then returns their context too.
    resamples: ClassVar[bool] = False

    def promise(self, **changes: Any) -> None:
        """Change what this instance promises, where its options decide (``causal=True``)."""
        self.__dict__["promises"] = dataclasses.replace(self.promises, **changes)

    def listen(self, name: str, listener: Listener) -> Callable[[], None]:
        """Show the values of the tap ``name`` to ``listener`` from now on; returns what ends it."""
        if self.listeners is None:
            self.listeners = {}
        self.listeners.setdefault(name, []).append(listener)

        def stop() -> None:
            assert self.listeners is not None
            self.listeners[name].remove(listener)
            if not self.listeners[name]:
                del self.listeners[name]
            if not self.listeners:
                del self.listeners  # the class's nothing shows again

        return stop

    def tap(self, name: str, value: Tensor) -> Tensor:
        """``value``, or what those who listen to the tap ``name`` put in its place."""
        if self.listeners is None:
            return value
        for listener in self.listeners.get(name, ()):
            replaced = listener(value)
            value = value if replaced is None else replaced
        return value

    def listened(self, *names: str) -> Callable[[str, Tensor], Tensor] | None:
        """:meth:`tap` if somebody listens to one of ``names``: values that a fused kernel would not show."""
        if self.listeners is None:
            return None
        return self.tap if any(name in self.listeners for name in names) else None

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        """The grid that the part makes of ``grid``."""
        return grid

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        """Named axes of this part's own parameters and buffers, by their names; unnamed axes are never cut.

        A bias of a dense or convolutional layer has the axis of its weight's rows and need not be named.
        """
        return {}

    def inner_axes(self) -> InnerAxes:
        """What the axes of parts in this one are to it, where they are axes of its own; absent parts may be named."""
        return {}

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """What a stream of ``batch`` rows starts from: zeros of fixed shapes, for at most ``capacity`` tokens a row.

        Raises:
            UserError: the part needs tokens that a stream has not seen yet.
        """
        if not self.promises.per_token:
            raise UserError(
                f"{type(self).__name__} cannot stream: its answer for a token needs later ones; choose a causal part."
            )
        return {}

    def begin(
        self,
        batch: int,
        capacity: int,
        context: Context,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """As :meth:`init_state`, where something is offered to the whole stream: a ``memory`` and its mask."""
        return self.init_state(batch, capacity, device=device, dtype=dtype)

    def offer(self, context: Context) -> Context:
        """The context for the parts behind this one, with what it offers."""
        return context

    def emitted(self, seen: Tensor) -> Tensor:
        """How many tokens each row ``(batch,)`` has given in a stream of which so many came in, and more may come."""
        return seen

    def stream(self, x: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        """The results for the next tokens ``(batch, n, channels)``, any number of them, and the state after them.

        In any division of a sequence this gives what calling the part on the whole gives.

        Args:
            x: the next tokens of every row.
            state: what :meth:`init_state` or the latest call returned, and under ``length`` how many real tokens each
                row ``(batch,)`` has seen before. Its tensors may be changed in place.
            context: ``mask`` ``(batch, n)`` is false for padding behind a row's tokens, which changes no state.
        """
        result = self(x, context)
        return (result[0] if isinstance(result, tuple) else result), state

    def remembers(self, state: State, length: Int[Tensor, " batch"]) -> bool:
        """Whether the part can go on from ``state`` as if each row had seen its first ``length`` tokens only.

        So it is where nothing is kept, or by places of which none that is needed was overwritten; what is summed up
        cannot be taken back. ``length`` is at most what ``state`` has seen, and less for some row.
        """
        return state.keys() == {"length"}

    #: Whether ``part(scale * x + shift)`` is ``scale * part(x) + shift``, as of a pool: a linear layer behind it can
    #: take the weights of a norm before it.
    equivariant: ClassVar[bool] = False

    #: Whether ``part(scale * x + shift)`` is ``scale * part(x)``, channel by channel: the scale passes through it, and
    #: the shift leaves no trace.
    passes_scale: ClassVar[bool] = False

    def fold_scale_before(self, scale: Tensor, shift: Tensor | None) -> bool:
        """Become what the part is after ``scale * x + shift`` (one value per channel); false where it cannot."""
        return False

    def fold_scale_after(self, scale: Tensor) -> bool:
        """Become what the part is before ``scale * y`` (one value per channel); false where it cannot."""
        return False

    #: The facts that this part, or a part in it, would ignore although they change its answer, and the first such part
    #: for each; found when it is first asked for, and anew after an edit (:func:`forget_checks`).
    _ignored: Mapping[str, str] | None = None

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        context = inputs[1] if len(inputs) > 1 else options.get("context", EMPTY)
        if context is not SETTLED and context is not EMPTY and isinstance(context, Context):
            self.check_context(context)
        return super().__call__(*inputs, **options)

    def check_context(self, context: Context) -> None:
        """Refuse facts that this part, or a part in it, would ignore although they change its answer.

        Called alone, outside of a network, it refuses offers that no part of it takes as well.

        Raises:
            UserError: names the part and the fields.
        """
        ignored = self.ignored_facts()
        for name in ignored:
            if context.says(name):
                fields = ", ".join(field for field in ignored if context.says(field))
                remedy = "choose a part that uses it, or leave it unset"
                if name == "prefix":
                    remedy = "build the model with class_tokens=0, or put the part in by swap_mixers"
                raise UserError(
                    f"{ignored[name]} does not use {fields} of the context, and ignoring it would give a wrong answer; "
                    f"{remedy}."
                )
        if not context.checked:
            check_offers(self, context)

    def ignored_facts(self) -> Mapping[str, str]:
        """The facts that would be ignored, by name, and which part in it would do so."""
        if self._ignored is None:
            found: dict[str, str] = {}
            _find_ignored(self, frozenset(FACTS), found)
            self._ignored = {fact: found[fact] for fact in FACTS if fact in found}
        return self._ignored


def _find_ignored(module: nn.Module, facts: frozenset[str], found: dict[str, str]) -> None:
    """Note the first part in ``module`` that would ignore each of the ``facts`` that reach it."""
    if isinstance(module, Part):
        if not module.promises.per_token:
            for fact in facts - module.uses:
                found.setdefault(fact, type(module).__name__)
        facts -= module.settles
    for child in module.children():
        _find_ignored(child, facts, found)


def offers_taken(module: nn.Module) -> frozenset[str]:
    """The offers that at least one part of ``module`` takes."""
    used = [part.uses for part in module.modules() if isinstance(part, Part)]
    return frozenset(OFFERS).intersection(frozenset().union(*used))


def check_offers(module: nn.Module, context: Context, taken: frozenset[str] | None = None) -> None:
    """Refuse what is offered to a module in which nothing takes it.

    Raises:
        UserError: names the module and the offers.
    """
    offered = [name for name in OFFERS if context.says(name)]
    if not offered:
        return
    taken = offers_taken(module) if taken is None else taken
    ignored = [name for name in offered if name not in taken]
    if ignored:
        raise UserError(
            f"No part of {type(module).__name__} uses {', '.join(ignored)} of the context, so it would change nothing; "
            "add a part that uses it, or leave it unset."
        )


def settled(module: nn.Module, context: Context) -> Context:
    """The context for the parts of a module that is called alone: each offer is taken by one of them."""
    if context.checked:
        return context
    if context is EMPTY:
        return SETTLED
    check_offers(module, context)
    return context.replace(checked=True)


def forget_checks(model: nn.Module) -> None:
    """Find out anew what each part would ignore: parts of it were replaced."""
    for part in model.modules():
        if isinstance(part, Part):
            part._ignored = None


@functools.cache
def _parameters(constructor: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(constructor).parameters


def build_part(spec: PartSpec | str, *sizes: int, grid: tuple[int, ...] | None = None, **changes: Any) -> Any:
    """Construct a part: ``sizes`` are its channel counts (``dim``, or ``in_dim, dim``), ``grid`` the expected grid.

    >>> build_part("mamba", 128)                                     # doctest: +SKIP

    The grid reaches the constructors that name it; everything else are the options of the specification, and those
    given here.

    Args:
        spec: the specification of a part, or its name.

    Raises:
        UserError: the part is not registered, or an option is unknown or missing.
    """
    if isinstance(spec, str):
        spec = PartSpec(spec)
    constructor = PARTS[spec.name]
    parameters = _parameters(constructor)  # type: ignore[arg-type]  # mypy takes its instances' hash for its own
    options: dict[str, Any] = {**spec.options, **changes}
    if "grid" in parameters and "grid" not in options:
        options["grid"] = grid
    unknown = [name for name in options if name not in parameters]
    if unknown:
        offered = ", ".join(list(parameters)[len(sizes) :]) or "none"
        raise UserError(f"Part {spec.name!r} has no option {unknown[0]!r}; its options are: {offered}.")
    try:
        return constructor(*sizes, **options)
    except TypeError as error:
        raise UserError(f"Part {spec.name!r} cannot be built: {error}.") from error
