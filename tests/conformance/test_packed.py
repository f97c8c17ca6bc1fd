"""Sequences that are packed in a row give what each gives alone, and none knows of another."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from formwright.errors import UserError
from formwright.nn import Context, Part, build_part, part
from tests.conformance.instances import (
    GRIDS,
    Case,
    build,
    call,
    cases,
    in_type,
    only_offers,
    randomise,
    sample_of,
    tokens,
)

#: Two rows: boundaries within chunks of every size and on their edges, sequences of one token, one as long as the row.
LONG = ((5, 1, 26, 32, 64, 2, 3, 1, 3), (137,))
#: The same for parts that take no more tokens than they were built for.
SHORT = ((7, 1, 5, 2, 2), (3, 3, 4, 7))


def packed_cases() -> list[Case]:
    """The cases whose part honours ``segments``, on one axis."""
    flat = [case for case in cases() if any(len(grid) == 1 for grid in case.grids) and not case.channels_first]
    return [case for case in flat if not case.prefix and "segments" in build(case, GRIDS[1]).uses]


each_case = pytest.mark.parametrize("case", packed_cases(), ids=str)


def lengths_of(module: Part) -> tuple[tuple[int, ...], ...]:
    return LONG if module.promises.any_grid else SHORT


def segments_of(rows: Sequence[Sequence[int]]) -> Tensor:
    """Numbers that only tell neighbours apart: they neither begin at zero nor grow."""
    numbers = [[number for index, count in enumerate(row) for number in [9 - index] * count] for row in rows]
    return torch.tensor(numbers)


def pieces(rows: Sequence[Sequence[int]]) -> Iterator[tuple[slice, slice]]:
    """Where each sequence is, row by row."""
    for row, lengths in enumerate(rows):
        for end, length in zip(itertools.accumulate(lengths), lengths, strict=True):
            yield slice(row, row + 1), slice(end - length, end)


def packed_input(case: Case, module: Part) -> tuple[Tensor, Context]:
    rows = lengths_of(module)
    x, context = tokens(case, (sum(rows[0]),), batch=len(rows))
    return x, context.replace(segments=segments_of(rows))


def alone(module: Part, x: Tensor, context: Context) -> Tensor:
    """Each sequence in a call of its own, and their results in a row again."""
    rows = lengths_of(module)
    y = []
    for place in pieces(rows):
        mask = None if context.mask is None else context.mask[place]
        y.append(call(module, x[place], sample_of(only_offers(context), place[0].start).replace(mask=mask))[0])
    counts = [len(row) for row in rows]
    ends = [0, *itertools.accumulate(counts)]
    return torch.cat([torch.cat(y[first:last], dim=1) for first, last in itertools.pairwise(ends)])


@each_case
def test_packed_sequences_give_what_each_gives_alone(case: Case) -> None:
    module = build(case, GRIDS[1])
    x, context = packed_input(case, module)
    x.requires_grad_()
    results = []
    for y in (call(module, x, context)[0], alone(module, x, context)):
        weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
        learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
        results.append([y, *torch.autograd.grad((y * weights).sum(), [x, *learned], materialize_grads=True)])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


@each_case
def test_in_single_precision_too(case: Case) -> None:
    module = build(case, GRIDS[1]).float()
    x, context = packed_input(case, module)
    x, context = x.float(), in_type(context, torch.float32)
    with torch.inference_mode():
        expected = alone(module, x, context)
        assert (call(module, x, context)[0] - expected).abs().max() <= 1e-4 * expected.std()


@each_case
def test_no_sequence_knows_of_another(case: Case) -> None:
    module = build(case, GRIDS[1])
    x, context = packed_input(case, module)
    *_, last = pieces(lengths_of(module)[:1])
    middle = list(pieces(lengths_of(module)[:1]))[2]
    y = call(module, x, context)[0]
    for place in (middle, last):
        changed = x.clone()
        changed[place] = 100 * torch.randn_like(x[place])
        z = call(module, changed, context)[0]
        others = torch.ones_like(context.segments, dtype=torch.bool)
        others[place] = False
        assert not torch.equal(y[place], z[place])
        torch.testing.assert_close(y[others], z[others], rtol=1e-12, atol=1e-12)


@each_case
def test_padding_within_packed_sequences(case: Case) -> None:
    module = build(case, GRIDS[1])
    if "mask" not in module.uses:
        pytest.skip("the part does not use a mask")
    x, context = packed_input(case, module)
    mask = torch.ones_like(context.segments, dtype=torch.bool)
    for rows, time in pieces(lengths_of(module)):
        if time.stop - time.start > 2:
            mask[rows, time.stop - 2 : time.stop] = False  # at the end of a sequence, before the next
    y = call(module, x, context.replace(mask=mask))[0]
    expected = alone(module, x, context.replace(mask=mask))
    torch.testing.assert_close(y[mask], expected[mask], rtol=1e-9, atol=1e-9)


@each_case
def test_one_sequence_a_row_is_a_row(case: Case) -> None:
    module = build(case, GRIDS[1])
    for batch in (2, 0):
        x, context = tokens(case, GRIDS[1], batch=batch)
        whole = context.replace(segments=torch.full(x.shape[:2], 3))
        torch.testing.assert_close(call(module, x, whole)[0], call(module, x, context)[0], rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(os.environ.get("FORMWRIGHT_CHECK_SHAPES") == "1", reason="what checks shapes is not compiled")
@pytest.mark.parametrize("case", {case.name: case for case in packed_cases()}.values(), ids=str)
def test_compiled_it_gives_what_it_gives_line_by_line(case: Case) -> None:
    module = build(case, GRIDS[1])
    x, context = packed_input(case, module)
    torch.compiler.reset()
    compiled = torch.compile(lambda x: call(module, x, context)[0], backend="eager")
    torch.testing.assert_close(compiled(x), call(module, x, context)[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "options"),
    [("ngram_embedding", {"ngrams": 3, "buckets": 64}), ("typed_token_embedding", {"separator": 2})],
)
def test_embeddings_that_look_at_earlier_ids(name: str, options: dict[str, int]) -> None:
    torch.manual_seed(0)
    module = build_part(part(name, **options), 5, 16).double()
    randomise(module)
    ids = torch.randint(5, (2, 137))
    packed = module(ids, Context(segments=segments_of(LONG)))[0]
    assert not torch.equal(packed, module(ids)[0])
    for place in pieces(LONG):
        assert torch.equal(packed[place], module(ids[place])[0])


def test_tokens_without_a_place_cannot_be_packed() -> None:
    with pytest.raises(UserError, match="belong to none of the sequences"):
        Context(prefix=1, segments=torch.zeros(1, 3, dtype=torch.int64))
