"""The T-maze: a sign at the entrance says where to turn at the end of a long corridor.

At every step there is an observation: whether a sign is seen and which, whether one stands in the corridor or at the
junction, and noise. The expert walks forward, and turns at the junction to the side that the sign said. Who does not
remember the sign turns rightly half of the time.

Source: A Memory-Based T-Maze of Bakker's Reinforcement Learning with Long Short-Term Memory (NIPS 2001), as episodes of
an expert to imitate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from formwright.batch import IGNORED, Batch
from formwright.errors import UserError

FORWARD, LEFT, RIGHT = 0, 1, 2
ACTIONS = 3
#: Channels of an observation before the noise: sign to the left, sign to the right, corridor, junction.
SIGNALS = 4


@dataclass(frozen=True)
class Episodes:
    """Episodes of the expert, padded behind their ends.

    Attributes:
        observations: ``(batch, steps, SIGNALS + noise)``.
        actions: ``(batch, steps)``, ``IGNORED`` behind the junction.
        junction: ``(batch,)``, the step of the turn.
    """

    observations: Float[Tensor, "batch steps channels"]
    actions: Int[Tensor, "batch steps"]
    junction: Int[Tensor, "batch"]

    def batch(self) -> Batch:
        """Observations and the actions to imitate."""
        return Batch(self.observations, self.actions)

    def turned_rightly(self, scores: Float[Tensor, "batch steps actions"]) -> Bool[Tensor, "batch"]:
        """Whether the likeliest action at the junction is the expert's."""
        rows = torch.arange(len(self.junction))
        return scores[rows, self.junction].argmax(-1) == self.actions[rows, self.junction]


def t_maze(batch: int, shortest: int, longest: int, *, generator: torch.Generator, noise: int = 4) -> Episodes:
    """Episodes whose corridors have ``shortest`` to ``longest`` steps between the sign and the junction.

    Args:
        batch: number of episodes.
        shortest: fewest steps of a corridor.
        longest: most steps of a corridor; an episode has two steps more.
        generator: decides signs, lengths and noise.
        noise: channels of standard normal noise.

    Raises:
        UserError: a corridor would have no step, or the shortest is longer than the longest.
    """
    if not 1 <= shortest <= longest:
        raise UserError(
            f"Corridors have 1 step or more, the shortest no more than the longest; got {shortest}, {longest}."
        )
    steps = longest + 2
    left = torch.rand(batch, generator=generator) < 0.5
    junction = torch.randint(shortest, longest + 1, (batch,), generator=generator) + 1
    place = torch.arange(steps)
    signals = torch.zeros(batch, steps, SIGNALS)
    signals[:, 0, 0], signals[:, 0, 1] = left.float(), (~left).float()
    signals[..., 2] = ((place > 0) & (place < junction[:, None])).float()
    signals[..., 3] = (place == junction[:, None]).float()
    actions = torch.where(place < junction[:, None], FORWARD, IGNORED)
    actions[torch.arange(batch), junction] = torch.where(left, LEFT, RIGHT)
    observations = torch.cat([signals, torch.randn(batch, steps, noise, generator=generator)], dim=-1)
    return Episodes(observations, actions, junction)
