"""The T-maze: what the expert sees and does, and batches that depend on seed and step alone."""

from __future__ import annotations

import pytest
import torch

from formwright.batch import IGNORED
from formwright.data.synthetic.generated import GeneratedBatches
from formwright.data.synthetic.t_maze import ACTIONS, FORWARD, LEFT, RIGHT, SIGNALS, t_maze
from formwright.errors import UserError

EPISODES = t_maze(200, 3, 6, generator=torch.Generator().manual_seed(0), noise=2)


def test_the_expert_turns_where_the_sign_said() -> None:
    seen = EPISODES.observations
    assert seen.shape == (200, 8, SIGNALS + 2)
    for row, junction in enumerate(EPISODES.junction.tolist()):
        assert 4 <= junction <= 7
        actions = EPISODES.actions[row].tolist()
        left = seen[row, 0, 0] == 1
        assert actions == [FORWARD] * junction + [LEFT if left else RIGHT] + [IGNORED] * (7 - junction)
        assert seen[row, 0, :SIGNALS].tolist() == [left, not left, 0, 0]
        assert seen[row, 1:junction, :SIGNALS].tolist() == [[0, 0, 1, 0]] * (junction - 1)
        assert seen[row, junction, :SIGNALS].tolist() == [0, 0, 0, 1]
    assert {4, 5, 6, 7} == set(EPISODES.junction.tolist())
    assert 0.3 < EPISODES.observations[:, 0, 0].mean() < 0.7


def test_only_the_turn_counts() -> None:
    right = torch.nn.functional.one_hot(EPISODES.actions.clamp(min=0), ACTIONS).float()
    assert EPISODES.turned_rightly(right).all()
    always_left = torch.zeros_like(right)
    always_left[..., LEFT] = 1
    assert EPISODES.turned_rightly(always_left).float().mean() == EPISODES.observations[:, 0, 0].mean()


def test_batches_depend_on_seed_and_step_alone() -> None:
    def batches(seed: int) -> GeneratedBatches:
        return GeneratedBatches(lambda source: t_maze(2, 3, 6, generator=source).batch(), seed=seed)

    first = batches(1)
    drawn = [next(first).inputs for _ in range(4)]
    assert not torch.equal(drawn[0], drawn[1])
    continued = batches(0)
    continued.load_state_dict({"seed": 1, "step": 2})
    assert torch.equal(next(continued).inputs, drawn[2])
    assert first.state_dict() == {"seed": 1, "step": 4}
    assert not torch.equal(next(batches(2)).inputs, drawn[0])


def test_impossible_corridors_are_refused() -> None:
    for shortest, longest in ((0, 4), (5, 4)):
        with pytest.raises(UserError, match="shortest no more than the longest"):
            t_maze(2, shortest, longest, generator=torch.Generator())
