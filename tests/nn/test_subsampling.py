"""Frames become fewer tokens: padded rows as alone, streams as the whole, whatever the strides and what is ahead."""

from __future__ import annotations

import pytest
import torch

from formwright.errors import UserError
from formwright.models.chain import Chain
from formwright.nn import Context, build_part, part
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, StageSpec, VectorInput

LENGTHS = torch.tensor([23, 14, 1])
_NORM = part("layer_norm")
_READER = BlockSpec(
    (BranchSpec(part("attention", heads=2, causal=True, rotary={}), norm=_NORM), BranchSpec(part("mlp")))
)
SUBSAMPLINGS = {
    "halved-twice": {"strides": (2, 2)},
    "causal": {"strides": (2, 2), "causal": True},
    "wide": {"strides": (3,), "kernel": 5},
    "three-layers": {"strides": (2, 3, 1)},
    "not-fewer": {"strides": (1,)},
}


def recogniser(options: dict[str, object], mixer: PartSpec | None = None) -> Chain:
    torch.manual_seed(0)
    block = _READER if mixer is None else BlockSpec((BranchSpec(mixer, norm=_NORM),))
    return (
        Chain(
            ChainSpec(
                family="recogniser",
                name="recogniser",
                task="speech-recognition",
                input=VectorInput(5, 23, sized=True),
                classes=4,
                embed=part("frame_subsampling", **options),
                stages=(StageSpec(8, (block, block)),),
                head=part("token_scores"),
            )
        )
        .double()
        .eval()
    )


@pytest.mark.parametrize("options", SUBSAMPLINGS.values(), ids=SUBSAMPLINGS)
def test_padded_rows_give_what_each_gives_alone(options: dict[str, object]) -> None:
    model = recogniser(options)
    x = torch.randn(3, 23, 5, dtype=torch.float64)
    with torch.inference_mode():
        together, counts = model(x, lengths=LENGTHS), model.answers(LENGTHS)
        for row, length in enumerate(LENGTHS.tolist()):
            alone = model(x[row : row + 1, :length], lengths=LENGTHS[row : row + 1])[0]
            assert len(alone) == counts[row]
            torch.testing.assert_close(together[row, : len(alone)], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sizes", [[1] * 23, [23], [3, 7, 13]], ids=str)
@pytest.mark.parametrize("options", SUBSAMPLINGS.values(), ids=SUBSAMPLINGS)
def test_rows_of_different_lengths_that_come_in_by_pieces_give_the_whole(
    options: dict[str, object], sizes: list[int]
) -> None:
    model = recogniser(options)
    x = torch.randn(3, 23, 5, dtype=torch.float64)
    given: list[list[torch.Tensor]] = [[], [], []]
    with torch.inference_mode():
        whole, counts = model(x, lengths=LENGTHS), model.answers(LENGTHS)
        state, first = model.init_state(3, 23), 0
        for piece in x.split(sizes, dim=1):
            before = model.answers(state["length"], streamed=True)
            mask = torch.arange(first, first + piece.shape[1]) < LENGTHS[:, None]
            scores, state = model.stream(piece, state, Context(mask=mask))
            first += piece.shape[1]
            for row, count in enumerate((model.answers(state["length"], streamed=True) - before).tolist()):
                given[row].append(scores[row, :count])
        waiting = counts - model.answers(LENGTHS, streamed=True)
        rest = model.finish(state)[0]
    for row, count in enumerate(counts.tolist()):
        assert sum(map(len, given[row])) == count - waiting[row]
        scores = torch.cat([*given[row], rest[row, : waiting[row]]])
        torch.testing.assert_close(scores, whole[row, :count], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "mixer",
    [part("mamba", states=3, rank=2), part("gated_linear_attention", heads=2), part("legendre_memory", window=5)],
)
def test_recurrences_behind_it_count_tokens_and_not_frames(mixer: PartSpec) -> None:
    model = recogniser({"strides": (2, 2)}, mixer)
    x = torch.randn(2, 23, 5, dtype=torch.float64)
    with torch.inference_mode():
        state, scores = model.init_state(2, 23), []
        for piece in x.split([5, 1, 10, 7], dim=1):
            answer, state = model.stream(piece, state)
            scores.append(answer)
        scores.append(model.finish(state)[0])
        whole = model(x, lengths=torch.tensor([23, 23]))
    torch.testing.assert_close(torch.cat(scores, dim=1), whole, rtol=1e-9, atol=1e-9)


def test_it_says_how_many_frames_it_waits_for() -> None:
    assert build_part(part("frame_subsampling", strides=(2, 2)), 5, 8).lookahead == 3
    assert build_part(part("frame_subsampling", strides=(2, 3, 1)), 5, 8).lookahead == 9
    assert build_part(part("frame_subsampling", causal=True), 5, 8).lookahead == 0
    state = recogniser({"strides": (2, 2)})
    assert state.answers(torch.tensor([0, 3, 4, 7, 8]), streamed=True).tolist() == [0, 0, 1, 1, 2]
    assert state.answers(torch.tensor([0, 3, 4, 7, 8])).tolist() == [0, 1, 1, 2, 2]


def test_room_is_kept_for_tokens_and_not_for_frames() -> None:
    state = recogniser({"strides": (2, 2)}).init_state(1, 23)
    assert state["stages.0.blocks.0.branches.0.part/keys"].shape[1] == 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"strides": ()}, "at least one layer"),
        ({"strides": (0,)}, "at least one layer"),
        ({"kernel": 2}, "an odd number of frames, got 2"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build_part(part("frame_subsampling", **options), 5, 8)


def test_frames_of_other_bands_are_refused() -> None:
    with pytest.raises(UserError, match="Expected vectors of shape"):
        recogniser({})(torch.randn(1, 23, 4, dtype=torch.float64), lengths=torch.tensor([23]))
