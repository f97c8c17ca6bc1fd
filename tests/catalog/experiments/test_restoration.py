from __future__ import annotations

import pytest

from formwright.catalog.experiments.restoration import enlarging_contest, photographs, train_enlarging
from formwright.models.restoration.espcn import espcn
from formwright.reporting import Reporter


def test_no_part_to_test_is_seen_in_training_and_every_scale_divides_all() -> None:
    train, test = photographs()
    assert [len(part) for part in (train, test)] == [2, 4]
    assert all(side % scale == 0 for part in (*train, *test) for side in part.shape[:2] for scale in (2, 3, 4))
    assert len({part.tobytes() for part in test}) == 4
    whole = {train[0][row : row + 4, column : column + 4].tobytes() for row in range(201) for column in range(201)}
    assert not whole & {
        test[0][row : row + 4, column : column + 4].tobytes() for row in range(93) for column in (0, 92)
    }


def test_a_network_with_a_skip_is_better_than_bicubic_after_a_few_steps() -> None:
    specification = espcn(scale=2, dims=(16, 8), skip=True)
    gain = train_enlarging(specification, scale=2, steps=60, seed=1)
    assert gain.above_bicubic > 0.1
    assert gain == train_enlarging(specification, scale=2, steps=60, seed=1)


def test_the_claim_tells_the_gain_and_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    contest = enlarging_contest({"small": lambda: espcn(scale=2, dims=(16, 8), skip=True)}, scale=2, steps=60)
    contest.seeds = (0,)
    result = contest.claim("above", "better", holds=lambda gain: gain["small"] > 0.1).run(Reporter())
    assert result.holds
    assert all(word in result.details for word in ("60 steps", "PSNR: small", "SSIM: small"))
