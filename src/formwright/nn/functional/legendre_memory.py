"""Legendre memory: the last ``window`` values of a signal as coefficients of Legendre polynomials.

The linear system ``window * m' = A m + B u`` with ``A_ij = (2i + 1) (-1 if i < j else (-1)^(i-j+1))`` and
``B_i = (2i + 1) (-1)^i`` is discretised by holding each input for a step: ``m_t = Ā m_{t-1} + B̄ u_t``. It has no
learned parameters, so its powers are computed once, in float64. Within a chunk the memory is a matrix of the inputs
times the impulse response ``Āʲ B̄``, and what was there before the chunk is carried on by the powers ``Āʲ``; both are
matrix products, over all chunks at once but for the states between them.

Source: Legendre Memory Units: Continuous-Time Representation in Recurrent Neural Networks (NeurIPS 2019), in the
parallel form of Parallelizing Legendre Memory Unit Training, arXiv 2102.11417, whose convolution by FFT starts
from an empty memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from formwright.nn.functional.any_length import any_length
from formwright.nn.functional.chunks import (
    SEGMENT,
    Cuts,
    accumulation_type,
    check_chunk,
    masked,
    over_any_length,
    without_autocast,
)
from formwright.nn.functional.one_operation import one_operation

#: Tokens of a chunk; ``order² chunk`` numbers are kept for it.
CHUNK = 16


class LegendreTables(NamedTuple):
    """What the recurrence needs, computed once.

    Attributes:
        transition: ``Ā``, ``(order, order)``.
        input: ``B̄``, ``(order,)``.
        response: ``Āʲ B̄`` for ``j = 0 ... chunk - 1``, ``(chunk, order)``.
        powers: ``Āʲ⁺¹`` for the same ``j``, ``(chunk, order, order)``.
    """

    transition: Float[Tensor, "order order"]
    input: Float[Tensor, " order"]
    response: Float[Tensor, "chunk order"]
    powers: Float[Tensor, "chunk order order"]

    def to(self, like: Tensor, dtype: torch.dtype) -> LegendreTables:
        """On the device of ``like``."""
        return LegendreTables(*(table.to(like.device, dtype) for table in self))


def legendre_system(order: int, window: int) -> tuple[Float[Tensor, "order order"], Float[Tensor, " order"]]:
    """``Ā`` and ``B̄`` of the discrete system, float64: ``order`` polynomials over the last ``window`` steps."""
    index = torch.arange(order, dtype=torch.float64)
    scale = (2 * index + 1) / window
    signs = torch.where((index[:, None] - index[None, :]) % 2 == 0, -1.0, 1.0).double()
    a = scale[:, None] * torch.where(index[:, None] < index[None, :], -1.0, signs)
    b = scale * torch.where(index % 2 == 0, 1.0, -1.0).double()
    # Held inputs: exp of [[A, B], [0, 0]] is [[Ā, B̄], [0, 1]], without dividing by A.
    joint = torch.zeros(order + 1, order + 1, dtype=torch.float64)
    joint[:order, :order], joint[:order, order] = a, b
    joint = torch.linalg.matrix_exp(joint)
    return joint[:order, :order], joint[:order, order]


def legendre_tables(order: int, window: int, *, chunk: int = CHUNK) -> LegendreTables:
    """The tables of :func:`legendre_memory` for chunks of ``chunk`` tokens, float64.

    Raises:
        UserError: ``chunk`` is less than 1.
    """
    check_chunk(chunk)
    transition, entry = legendre_system(order, window)
    powers = [transition]
    while len(powers) < chunk:
        powers.append(powers[-1] @ transition)
    stacked = torch.stack(powers)
    response = torch.cat([entry[None], stacked[:-1] @ entry])
    return LegendreTables(transition, entry, response, stacked)


@without_autocast
def legendre_memory(
    u: Float[Tensor, "batch time heads"],
    tables: LegendreTables,
    *,
    initial_state: Float[Tensor, "batch heads order"] | None = None,
    mask: Bool[Tensor, "batch time"] | None = None,
    starts: Bool[Tensor, "batch time"] | None = None,
) -> tuple[Float[Tensor, "batch time heads order"], Float[Tensor, "batch heads order"]]:
    """``m_t = Ā m_{t-1} + B̄ u_t`` for each head's signal ``u``.

    Args:
        u: the signals.
        tables: those of :func:`legendre_tables`.
        initial_state: the memory before the first token.
        mask: false for padding behind the last real token of a row: the state stays that of the last real token.
        starts: true where another sequence begins, which nothing before it reaches.

    Returns:
        The memories in the type of ``u`` and the final one in at least float32.
    """
    dtype = accumulation_type(u.dtype)
    tables = tables.to(u, dtype)
    u_all = masked(u, mask).to(dtype)
    batch, _, heads = u.shape
    order = tables.input.shape[0]
    first = u_all.new_zeros(batch, heads, order) if initial_state is None else initial_state.to(dtype)
    if u.shape[1] == 0:
        return u.unsqueeze(-1).expand(-1, -1, -1, order), first
    memory, state = _in_segments(u_all, *tables, first, starts)
    if mask is not None:
        last = mask.sum(1).view(-1, 1, 1, 1).expand(-1, 1, heads, order)
        state = torch.cat([first[:, None], memory], dim=1).gather(1, last).squeeze(1)
    return memory.to(u.dtype), state


def _shaped(u: Tensor, transition: Tensor, entry: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
    return u.new_empty(*u.shape, len(entry)), u.new_empty(u.shape[0], u.shape[2], len(entry))


@one_operation("legendre_memory", _shaped)
def _in_segments(
    u: Tensor,
    transition: Tensor,
    entry: Tensor,
    response: Tensor,
    powers: Tensor,
    state: Tensor,
    starts: Tensor | None,
) -> tuple[Tensor, Tensor]:
    tables = LegendreTables(transition, entry, response, powers)
    time = u.shape[1]
    if any_length(time):
        tables = LegendreTables(*(table.clone() for table in tables))  # known to the trace, which constants are not

        def chunk(u: Tensor, state: Tensor, starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return _segment(u, tables, state, starts)

        memory, _ = over_any_length(chunk, (u,), state, state.dtype, len(response), starts)
        return memory, memory.select(1, -1)  # what fills the last chunk moves the memory on
    outputs = []
    for start in range(0, time, SEGMENT):
        piece = slice(start, start + SEGMENT)
        memory, state = _segment(u[:, piece], tables, state, None if starts is None else starts[:, piece])
        outputs.append(memory)
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)), state


def _segment(u: Tensor, tables: LegendreTables, state: Tensor, starts: Tensor | None) -> tuple[Tensor, Tensor]:
    batch, time, heads = u.shape
    chunk, order = tables.response.shape
    if time == 1 and starts is None:
        state = torch.addcmul(state @ tables.transition.T, u.movedim(1, -1), tables.input)
        return state[:, None], state
    chunks = -(-time // chunk)
    rows = F.pad(u.transpose(1, 2), (0, -time % chunk)).reshape(batch * heads, chunks, chunk)
    # Row t of a chunk's matrix holds u_t, u_{t-1}, ..., u_0, 0, ...: what meets the impulse response.
    delays = torch.arange(chunk, device=u.device)
    places = delays[:, None] - delays[None, :]
    matrix = rows[..., places.clamp(min=0)] * (places >= 0)
    whole: Sequence[Tensor | None] = [None] * chunks
    if starts is not None:
        cuts = Cuts.of(starts, heads, chunk, u.dtype)
        # What was put in ``t - s`` places before: row t, column s of what may be seen, in the order of the delays.
        seen = cuts.same.gather(-1, places.clamp(min=0).expand_as(cuts.same))
        matrix = matrix * seen.view(matrix.shape)
        whole = cuts.whole.view(batch * heads, chunks, 1).unbind(1)
    memory = matrix @ tables.response
    states = [state.reshape(batch * heads, order)]
    for index, kept in enumerate(whole):
        before = states[-1] if kept is None else states[-1] * kept
        states.append(torch.addmm(memory[:, index, -1], before, tables.powers[-1].T))
    start = torch.stack(states[:-1], dim=1)
    carried = start @ tables.powers.permute(2, 0, 1).reshape(order, chunk * order)
    carried = carried.view(memory.shape)
    memory = memory + (carried if starts is None else carried * cuts.first.view(*memory.shape[:-1], 1))
    memory = memory.view(batch, heads, chunks * chunk, order)[:, :, :time].transpose(1, 2)
    return memory, memory[:, -1]
