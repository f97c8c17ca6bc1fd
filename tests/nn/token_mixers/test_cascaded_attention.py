"""Cascaded group attention against its formula."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from formwright.errors import UserError
from formwright.nn import build_part, part
from formwright.nn.token_mixers.cascaded_attention import CascadedGroupAttention, distances


def randomised(
    *, grid: tuple[int, ...] = (4, 5), dim: int = 12, heads: int = 3, window: int = 7
) -> CascadedGroupAttention:
    torch.manual_seed(0)
    mixer = CascadedGroupAttention(12, grid=grid, heads=3, key_dim=5, window=window, kernels=(3, 5, 3)).double()
    for name, tensor in mixer.named_parameters():
        torch.nn.init.normal_(tensor, 1.0 if "norm.weight" in name else 0.0, 0.3)
    return mixer.eval()


def test_distances_number_the_absolute_offsets_row_by_row() -> None:
    for window in ((4,), (3, 4), (2, 3, 2)):
        places = list(itertools.product(*map(range, window)))
        numbers = {offset: number for number, offset in enumerate(places)}
        for query, key in itertools.product(range(len(places)), repeat=2):
            offset = tuple(abs(a - b) for a, b in zip(places[query], places[key], strict=True))
            assert distances(window)[query, key] == numbers[offset]


def test_attention_is_its_formula() -> None:
    mixer = randomised()
    x = torch.randn(2, 4, 5, 12, dtype=torch.float64)
    found: list[Tensor] = []
    for head in range(3):
        features = x[..., 4 * head : 4 * head + 4] + (found[-1] if found else 0)
        q, k, v = mixer.qkv[head](features).split([5, 5, 4], dim=-1)
        q = mixer.query_convs[head](q.movedim(-1, 1)).movedim(1, -1)
        result = torch.zeros_like(v)
        for place in itertools.product(range(4), range(5)):
            scores = torch.stack(
                [
                    (q[:, *place] * k[:, *other]).sum(-1) / 5**0.5
                    + mixer.bias_table[head, 5 * abs(place[0] - other[0]) + abs(place[1] - other[1])]
                    for other in itertools.product(range(4), range(5))
                ],
                dim=-1,
            )
            result[:, *place] = (scores.softmax(-1)[..., None] * v.flatten(1, 2)).sum(1)
        found.append(result)
    torch.testing.assert_close(mixer(x), mixer.proj(torch.cat(found, -1).relu()))


def test_a_share_of_the_channels_reaches_its_own_head_and_those_after_it() -> None:
    mixer = randomised()
    heads: list[Tensor] = []
    mixer.proj.register_forward_pre_hook(lambda module, inputs: heads.append(inputs[0]))
    x = torch.randn(1, 4, 5, 12, dtype=torch.float64)
    mixer(x)
    changed = x.clone()
    changed[..., 4:8] += 1
    mixer(changed)
    before, after = heads
    assert torch.equal(before[..., :4], after[..., :4])
    assert not torch.equal(before[..., 4:8], after[..., 4:8])
    assert not torch.equal(before[..., 8:], after[..., 8:])


def test_windows_do_not_see_each_other() -> None:
    mixer = randomised(grid=(4, 6), window=3)
    x = torch.randn(1, 4, 6, 12, dtype=torch.float64)
    changed = x.clone()
    changed[:, 0, 4] += 1
    same = (mixer(x) == mixer(changed)).all(-1)[0]
    assert same[:, :3].all()
    assert same[3:].all()
    assert not same[:3, 3:].any()


@pytest.mark.parametrize("grid", [(9,), (3, 2, 4)])
def test_other_numbers_of_axes(grid: tuple[int, ...]) -> None:
    mixer = randomised(grid=grid, window=3)
    x = torch.randn(2, *grid, 12, dtype=torch.float64)
    assert mixer(x).shape == x.shape


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="4 x 5 tokens and got 5 x 4"):
        randomised()(torch.zeros(1, 5, 4, 12, dtype=torch.float64))
    with pytest.raises(UserError, match="10 channels cannot be split over 4 heads"):
        build_part(part("cascaded_group_attention"), 10, grid=(4, 4))
    with pytest.raises(UserError, match=r"Each of 4 heads needs a kernel.*got 2"):
        build_part(part("cascaded_group_attention", kernels=(3, 3)), 16, grid=(4, 4))
