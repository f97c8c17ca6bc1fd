"""The floor: rates of the machine and what follows from them."""

from __future__ import annotations

import pytest
import torch

from formwright.measurement import machine as module
from formwright.measurement.machine import Machine, floor_seconds, machine_rates, torch_threads


def test_floor_is_the_slower_of_arithmetic_and_traffic():
    machine = Machine(threads=1, macs_per_second={"float32": 1e9, "bfloat16": 4e9}, bytes_per_second=1e10)
    assert machine.floor_seconds(2e9) == 2.0
    assert machine.floor_seconds(2e9, dtype="bfloat16") == 0.5
    assert machine.floor_seconds(2e9, size=5e10) == 5.0


def test_rates_are_measured_once_a_process(monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.01)
    monkeypatch.setattr(module, "MATRIX", 128)
    monkeypatch.setattr(module, "COPY_BYTES", 2**22)
    module._measure.cache_clear()
    try:
        first = machine_rates(1)
        assert machine_rates(1) is first
        assert set(first.macs_per_second) == {"float32", "bfloat16"}
        assert min(*first.macs_per_second.values(), first.bytes_per_second) > 1e6
        assert floor_seconds(1e9, threads=1) == pytest.approx(1e9 / first.macs_per_second["float32"])
    finally:
        module._measure.cache_clear()


def test_threads_are_put_back():
    before = torch.get_num_threads()
    with torch_threads(1) as used:
        assert used == torch.get_num_threads() == 1
    with torch_threads(None) as used:
        assert used == before
    assert torch.get_num_threads() == before
