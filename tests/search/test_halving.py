from __future__ import annotations

import pytest

from formwright.search.halving import plan_rungs, survivors


@pytest.mark.parametrize("candidates", [2, 3, 5, 8, 13, 32])
@pytest.mark.parametrize("overhead", [0.0, 0.5])
def test_rungs_halve_double_and_fill_the_time(candidates, overhead):
    rungs = plan_rungs(candidates, 600.0, overhead=overhead)
    assert rungs[0].entrants == candidates
    assert rungs[-1].survivors == 1
    trained = used = 0.0
    for rung, after in zip(rungs, [*rungs[1:], None], strict=True):
        used += rung.entrants * (rung.seconds - trained + overhead)
        trained = rung.seconds
        assert rung.survivors == max(1, -(-rung.entrants // 2))
        if after is not None:
            assert after.entrants == rung.survivors
            assert after.seconds == pytest.approx(2 * rung.seconds)
    assert used == pytest.approx(600.0)


def test_there_is_nothing_to_race_with_one_candidate():
    assert plan_rungs(1, 60.0) == []
    assert plan_rungs(3, 60.0, finalists=3) == []


def test_an_overhead_larger_than_the_time_leaves_some_training():
    assert plan_rungs(8, 10.0, overhead=5.0)[0].seconds > 0


def test_the_best_survive_and_of_equal_ones_the_earlier():
    assert survivors({0: 0.5, 1: 0.9, 2: 0.7, 3: 0.9}, 3) == [1, 3, 2]
    assert survivors({2: 0.5, 1: 0.5}, 1) == [1]
    assert survivors({}, 2) == []


def test_the_favoured_one_goes_on_while_it_is_as_good_as_the_last():
    scores = {0: 0.80, 1: 0.90, 2: 0.85, 3: 0.84}
    assert survivors(scores, 2, favoured=3, margin=0.02) == [1, 3]
    assert survivors(scores, 2, favoured=0, margin=0.02) == [1, 2]
    assert survivors(scores, 2, favoured=1, margin=0.02) == [1, 2]
    assert survivors({0: 0.9, 1: 0.89}, 1, favoured=1, margin=0.02) == [1]
    assert survivors(scores, 2, favoured=7, margin=1.0) == [1, 2]
