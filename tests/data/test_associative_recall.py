"""What stands in the rows of associative recall."""

from __future__ import annotations

import pytest
import torch

from formwright.batch import IGNORED
from formwright.data.synthetic.associative_recall import BLANK, associative_recall
from formwright.errors import UserError

PAIRS, LENGTH, VOCABULARY = 5, 30, 21


def rows(seed: int = 0, batch: int = 40):
    generator = torch.Generator().manual_seed(seed)
    return associative_recall(batch, LENGTH, pairs=PAIRS, generator=generator, vocabulary=VOCABULARY)


def test_every_key_is_asked_for_once_with_its_value() -> None:
    batch = rows()
    for ids, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        told = dict(zip(ids[: 2 * PAIRS : 2], ids[1 : 2 * PAIRS : 2], strict=True))
        assert len(told) == PAIRS, "keys differ"
        assert all(1 <= key <= 10 < value <= 20 for key, value in told.items())
        asked = {ids[place]: target for place, target in enumerate(targets) if target != IGNORED}
        assert asked == told
        assert all(ids[place + 1] == target for place, target in enumerate(targets) if target != IGNORED)
        assert ids.count(BLANK) == LENGTH - 4 * PAIRS


def test_the_seed_decides() -> None:
    assert torch.equal(rows(3).inputs, rows(3).inputs)
    assert not torch.equal(rows(3).inputs, rows(4).inputs)


def test_questions_come_anywhere_after_the_pairs() -> None:
    places = (rows(batch=400).targets != IGNORED).sum(0)
    assert places[: 2 * PAIRS].eq(0).all()
    assert places[2 * PAIRS :: 2].gt(0).all()


@pytest.mark.parametrize(("pairs", "length"), [(0, 30), (11, 60), (8, 30)])
def test_what_does_not_fit_is_refused(pairs: int, length: int) -> None:
    with pytest.raises(UserError, match="4 ids a pair"):
        associative_recall(1, length, pairs=pairs, generator=torch.Generator(), vocabulary=VOCABULARY)
