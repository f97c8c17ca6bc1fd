"""Language models give packed sequences the scores and gradients that each has alone; other models refuse them."""

from __future__ import annotations

import pytest
import torch

from formwright.batch import Batch, call
from formwright.data.packing import next_ids, pack, unpack
from formwright.errors import UserError
from formwright.models import Model
from formwright.nn import Context, Part
from formwright.nn.heads import TokenScores
from formwright.nn.specification import TokenInput
from formwright.objectives import NextToken
from tests.conformance.instances import inputs, smallest_variants, tiny_model

VARIANTS = smallest_variants(TokenInput)
#: Families that must take packed rows whatever else changes.
EXPECTED = {"decoder", "deltanet", "gla", "gpt2", "llama", "mamba", "mamba2", "mamba2_hybrid", "transformer_xl"}


def honours(model: Model) -> bool:
    parts = [part for part in model.modules() if isinstance(part, Part)]
    return isinstance(model.head, TokenScores) and not any("segments" in part.ignored_facts() for part in parts)


PACKED = [family for family, variant in VARIANTS.items() if honours(tiny_model(family, variant))]
each_model = pytest.mark.parametrize("family", PACKED)


def packed_rows() -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Sequences of at most the 12 ids that the toys have places for, in rows that are longer; ids from 1 to 10."""
    generator = torch.Generator().manual_seed(0)
    lengths = (3, 12, 1, 7, 12, 9, 2, 11, 5)
    sequences = [torch.randint(1, 11, (length,), generator=generator) for length in lengths]
    ids, segments = pack(sequences, length=37, padding=0)
    return sequences, torch.from_numpy(ids), torch.from_numpy(segments)


def test_the_families_that_everybody_packs_for_take_packed_rows() -> None:
    assert set(PACKED) >= EXPECTED


@each_model
def test_packed_sequences_have_the_scores_that_each_has_alone(family: str) -> None:
    model = tiny_model(family, VARIANTS[family])
    sequences, ids, segments = packed_rows()
    with torch.no_grad():
        packed = unpack(call(model, {"input": ids, "segments": segments}), segments)
        for ours, sequence in zip(packed, sequences, strict=True):
            expected = model(sequence[None])[0]
            torch.testing.assert_close(torch.from_numpy(ours), expected, rtol=1e-9, atol=1e-9)
        assert torch.equal(model(ids, Context(segments=segments)), model(ids, segments=segments))


@each_model
def test_packed_sequences_teach_what_each_teaches_alone(family: str) -> None:
    model = tiny_model(family, VARIANTS[family])
    sequences, ids, segments = packed_rows()
    targets = torch.from_numpy(next_ids(ids.numpy(), segments.numpy()))
    # Whoever shifts a row by one asks each sequence for the next one's first id, and padding for something.
    careless = torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], -1)], dim=1)
    gradients = []
    for each in (targets, careless):
        outcome = NextToken()(model, Batch({"input": ids, "segments": segments}, each), 0.0)
        assert outcome.counts["loss"] == sum(len(sequence) - 1 for sequence in sequences)
        gradients.append(torch.autograd.grad(outcome.loss, list(model.parameters()), materialize_grads=True))
    total = torch.zeros((), dtype=torch.float64)
    for sequence in sequences:
        if len(sequence) > 1:
            following = torch.cat([sequence[1:], torch.tensor([-1])])
            outcome = NextToken()(model, Batch(sequence[None], following[None]), 0.0)
            total = total + outcome.loss * outcome.counts["loss"]
    count = sum(len(sequence) - 1 for sequence in sequences)
    expected = torch.autograd.grad(total / count, list(model.parameters()), materialize_grads=True)
    for ours in gradients:
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", sorted(VARIANTS.keys() - set(PACKED)))
def test_other_models_refuse_them(family: str) -> None:
    model = tiny_model(family, VARIANTS[family])
    x = inputs(model)
    with pytest.raises(UserError, match="segments"):
        model(x, segments=torch.zeros_like(x))


@pytest.mark.parametrize("family", sorted(EXPECTED))
def test_a_stream_takes_one_sequence_a_row(family: str) -> None:
    model = tiny_model(family, VARIANTS[family])
    x = inputs(model)
    with pytest.raises(UserError, match="a row of its own"):
        model.stream(x, model.init_state(2, x.shape[1]), Context(segments=torch.zeros_like(x)))


def test_segments_are_whole_numbers_one_for_each_token() -> None:
    model = tiny_model("llama", VARIANTS["llama"])
    x = inputs(model)
    for wrong in (torch.zeros_like(x)[:, 1:], torch.zeros(x.shape)):
        with pytest.raises(UserError, match="Segments are whole numbers of shape"):
            model(x, segments=wrong)


@pytest.mark.parametrize("family", ["gpt2", "llama", "mamba"])
def test_a_model_that_is_compiled_takes_them(family: str) -> None:
    model = tiny_model(family, VARIANTS[family], depth=1)
    _, ids, segments = packed_rows()
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager")
    expected = model(ids, segments=segments)
    torch.testing.assert_close(compiled(ids, segments=segments), expected, rtol=1e-9, atol=1e-9)


def test_a_sequence_longer_than_the_table_of_positions_is_refused() -> None:
    model = tiny_model("gpt2", VARIANTS["gpt2"])
    ids = torch.ones(1, 20, dtype=torch.int64)
    segments = torch.tensor([[0] * 7 + [1] * 13])
    with pytest.raises(UserError, match="at most 12 tokens, and 13 came"):
        model(ids, segments=segments)
