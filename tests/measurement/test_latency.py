"""Bookkeeping of timed repeats; nothing here depends on how fast the machine is."""

from __future__ import annotations

import gc

import pytest

from formwright.measurement.latency import Comparison, Latency, compare, measure_latency


def test_median_and_spread():
    latency = Latency.of([0.005, 0.001, 0.002, 0.004, 0.003, 0.1])
    assert latency == Latency(median=0.0035, low=0.001, high=0.1, repeats=6)
    assert str(Latency.of([0.002] * 11)) == "2 ms (2 ms to 2 ms)"


def test_a_single_outlier_among_many_is_not_the_spread():
    assert Latency.of([0.001] * 20 + [9.0]).high == 0.001


def test_repeats_at_least_as_often_as_asked_after_warm_up():
    calls = []
    latency = measure_latency(lambda: calls.append(1), min_time=0, min_repeats=7, warmup=2)
    assert latency.repeats == 7
    assert len(calls) == 9
    assert 0 <= latency.low <= latency.median <= latency.high


def test_repeats_for_the_time_asked():
    assert measure_latency(lambda: None, min_time=0.02, min_repeats=1).repeats > 1


def test_functions_take_turns():
    order = []
    result = compare({name: lambda name=name: order.append(name) for name in "abc"}, min_time=0, min_rounds=4, warmup=1)
    assert order == list("abc") + list("abc") * 4
    assert {name: latency.repeats for name, latency in result.latencies.items()} == {"a": 4, "b": 4, "c": 4}


def test_speedup_pairs_neighbours():
    # The machine slows down tenfold half-way: within each round `fast` is twice as fast all the same.
    result = Comparison({"fast": [1.0, 1.0, 10.0, 10.0], "slow": [2.0, 2.0, 20.0, 20.0]})
    assert result.speedup("fast", over="slow") == 2.0
    assert result.speedup("slow", over="fast") == 0.5


def test_garbage_collection_comes_back_after_an_error():
    def fail():
        if not gc.isenabled():  # timed, not warming up
            raise RuntimeError

    with pytest.raises(RuntimeError):
        measure_latency(fail, min_time=0)
    assert gc.isenabled()
