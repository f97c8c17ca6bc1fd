"""What the arena's mixers refuse, and what they are at the ends of their options."""

from __future__ import annotations

import pytest
import torch

from formwright.errors import UserError
from formwright.nn import Context, build_part, part

BOTH_SIDES_ONLY = ["longformer_attention", "linformer_attention", "lsh_attention", "sinkhorn_attention"]
BOTH_SIDES_ONLY += ["bigbird_attention"]


@pytest.mark.parametrize("name", BOTH_SIDES_ONLY)
def test_what_cannot_be_causal_says_why_and_what_can(name: str) -> None:
    with pytest.raises(UserError, match=r"cannot be causal: .+; choose a mixer that can, such as local_attention"):
        build_part(part(name, causal=True), 16, grid=(8,))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("local_attention", {"block": 0}, "block=0 leaves nothing to attend to; choose block of at least 1"),
        ("fixed_attention", {"block": 0}, "block=0"),
        ("fixed_attention", {"summary": 0}, "summary=0"),
        ("fixed_attention", {"block": 4, "summary": 5}, "5 tokens is longer than its block of 4"),
        ("strided_attention", {"stride": -1}, "stride=-1"),
        ("longformer_attention", {"window": 0}, "window=0"),
        ("linformer_attention", {"rank": 0, "length": 8}, "rank=0"),
        ("linformer_attention", {}, "give length="),
        ("lsh_attention", {"chunk": 0}, "chunk=0"),
        ("lsh_attention", {"buckets": 5}, "5 is odd"),
        ("sinkhorn_attention", {"block": 0, "length": 8}, "block=0"),
        ("random_synthesizer", {"rank": 0, "length": 8}, "rank=0"),
        ("bigbird_attention", {"block": 0}, "block=0"),
        ("performer_attention", {"features": 0}, "features=0"),
        ("cosformer_attention", {"length": 0}, "length=0"),
        ("combiner_fixed_attention", {"segment": 0}, "segment=0"),
        ("combiner_axial_attention", {"columns": 0}, "columns=0"),
        ("combiner_mixture_attention", {"columns": 0}, "columns=0"),
        ("local_attention", {"heads": 3}, "heads must divide"),
    ],
)
def test_sizes_that_leave_nothing_are_refused(name: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_part(part(name, **options), 16)


@pytest.mark.parametrize(
    "name",
    ["linformer_attention", "sinkhorn_attention", "random_synthesizer", "dense_synthesizer", "cosformer_attention"],
)
def test_sequences_longer_than_a_table_are_refused(name: str) -> None:
    mixer = build_part(part(name, length=6), 16)
    assert mixer(torch.zeros(1, 6, 16)).shape == (1, 6, 16)
    with pytest.raises(UserError, match=r"at most 6 tokens, and 7 came; cut the sequence"):
        mixer(torch.zeros(1, 7, 16))


def test_a_stream_is_not_longer_than_its_table_or_its_cache() -> None:
    for name in ("cosformer_attention", "random_synthesizer"):
        with pytest.raises(UserError, match="at most 6 tokens, and 7 came"):
            build_part(part(name, length=6, causal=True), 16).init_state(1, 7)
    for name, options in (
        ("fixed_attention", {"causal": True}),
        ("combiner_fixed_attention", {"causal": True, "segment": 2}),
        ("combiner_logsparse_attention", {}),
        ("combiner_axial_attention", {"columns": 2}),
        ("combiner_mixture_attention", {"columns": 2}),
    ):
        mixer = build_part(part(name, **options), 16)
        state = mixer.init_state(1, 4)
        with pytest.raises(UserError, match="larger capacity"):
            mixer.stream(torch.zeros(1, 5, 16), {**state, "length": torch.zeros(1, dtype=torch.int64)})


def test_a_class_token_cannot_see_all_in_causal_attention() -> None:
    mixer = build_part(part("fixed_attention", causal=True), 16)
    with pytest.raises(UserError, match="class token"):
        mixer(torch.zeros(1, 8, 16), Context(prefix=1, grid=(7,)))


def test_states_do_not_grow_with_capacity_where_nothing_far_is_seen() -> None:
    def size(name: str, capacity: int, **options: int) -> int:
        state = build_part(part(name, causal=True, **options), 16).init_state(1, capacity)
        return sum(tensor.numel() for tensor in state.values())

    assert size("local_attention", 100, block=8) == size("local_attention", 10_000, block=8)
    for name in ("performer_attention", "cosformer_attention"):
        options = {"length": 10_000} if name == "cosformer_attention" else {}
        assert size(name, 100, **options) == size(name, 10_000, **options)


def test_redrawn_features_are_others_of_the_same_kind() -> None:
    mixer = build_part(part("performer_attention", features=8), 16)
    before = mixer.projection.clone()
    mixer.redraw()
    assert not torch.equal(before, mixer.projection)
    assert before.shape == mixer.projection.shape
