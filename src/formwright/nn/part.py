"""The part: what every mixer, norm, embedding and head is, and how one is built from its specification."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
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
        per_token: treats each token by itself (or needs no facts about the others), so context fields that speak of
            other tokens do not concern it.
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


@dataclass(frozen=True)
class Axis:
    """A named axis of a parameter: its entries are laid out as ``(repeats, size, block)``.

    The rows of a fused query-key-value matrix are ``Axis("heads", repeats=3, block=head_dim)``; those of an MLP's
    first matrix are ``Axis("hidden")``. Axes of one part with the same name shrink together. Two names are known
    everywhere: ``residual`` are the channels of the tokens, which the parts of a network share, and ``incoming`` those
    of the tokens that a part of another width takes.

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
    """The parts at ``paths`` take and give tokens whose channels are the axis ``channels``."""
    return {path: {RESIDUAL.name: channels} for path in paths}


class Part(nn.Module):
    """Maps tokens ``(batch, *grid, channels)`` to tokens; see :class:`~formwright.nn.context.Context`.

    Class attributes:
        uses: the context fields that the part takes into account.
        promises: what the conformance suite holds it to; :meth:`promise` changes an instance's.
        resizable: attribute that holds the size of each named axis, by axis name.
    """

    uses: ClassVar[frozenset[str]] = frozenset()
    promises: ClassVar[Promises] = Promises()
    resizable: ClassVar[Mapping[str, str]] = {}
    #: The dense layers (or tables, along their last axis) by which the part reads its input and writes its output,
    #: where it does nothing else with either: whatever is linear in the tokens can then be taken into them.
    reads: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]] = ()
    #: How many later tokens a token's result waits for when the part streams.
    lookahead: int = 0

    def promise(self, **changes: Any) -> None:
        """Change what this instance promises, where its options decide (``causal=True``)."""
        self.__dict__["promises"] = dataclasses.replace(self.promises, **changes)

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

    #: Whether ``part(scale * x + shift)`` is ``scale * part(x)``, channel by channel.
    ignores_shift: ClassVar[bool] = False

    def absorb_input(self, scale: Tensor, shift: Tensor | None) -> bool:
        """Become, in place, what the part is after ``scale * x + shift`` (a value a channel); false where it cannot."""
        return False

    def absorb_output(self, scale: Tensor) -> bool:
        """Become, in place, what the part is before ``scale * y`` (a value a channel); false where it cannot."""
        return False

    def check_context(self, context: Context) -> None:
        """Refuse facts that this part, or a part in it, would ignore although they change its answer.

        The frame asks this of every part before it calls it.

        Raises:
            UserError: names the part and the fields.
        """
        if context is EMPTY:
            return
        given = context.fields_set()
        for module in self.modules():
            if not isinstance(module, Part) or module.promises.per_token:
                continue
            ignored = [name for name in given if name not in module.uses]
            if ignored:
                raise UserError(
                    f"{type(module).__name__} does not use {', '.join(ignored)} of the context, and ignoring it would "
                    "give a wrong answer; choose a part that uses it, or leave it unset."
                )


def build_part(spec: PartSpec, *sizes: int, grid: tuple[int, ...] | None = None) -> Any:
    """Construct a part: ``sizes`` are its channel counts (``dim``, or ``in_dim, dim``), ``grid`` the expected grid.

    The grid reaches the constructors that name it; everything else comes from the specification's options.

    Raises:
        UserError: the part is not registered, or an option is unknown or missing.
    """
    constructor = PARTS[spec.name]
    parameters = inspect.signature(constructor).parameters
    options: dict[str, Any] = dict(spec.options)
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


def grid_after(module: nn.Module, grid: tuple[int, ...]) -> tuple[int, ...]:
    """The grid that a resampling part makes of ``grid``."""
    output_grid = getattr(module, "output_grid", None)
    return grid if output_grid is None else output_grid(grid)
