"""Kernels are off until asked for, and asking for what cannot be is answered."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from formwright.errors import UserError
from formwright.nn import kernels
from formwright.nn.functional.linear_attention import causal_linear_attention

ON_A_GPU = SimpleNamespace(is_cuda=True, numel=lambda: 1)


@pytest.fixture
def a_gpu_and_triton(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(kernels, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    yield
    kernels.disable()


def test_they_are_off_by_default() -> None:
    assert not kernels.enabled()
    assert not kernels.takes(ON_A_GPU)


def test_without_triton_they_cannot_be_enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed; on Linux, pip install 'formwright\[triton\]'"):
        kernels.enable()
    assert not kernels.enabled()


@pytest.mark.usefixtures("a_gpu_and_triton")
def test_without_a_gpu_they_cannot_be_enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="need a CUDA device, and PyTorch finds none"):
        kernels.enable()
    assert not kernels.enabled()


@pytest.mark.usefixtures("a_gpu_and_triton")
def test_enabled_they_take_what_is_on_a_gpu_until_disabled() -> None:
    kernels.enable()
    assert kernels.enabled()
    assert kernels.takes(ON_A_GPU)
    kernels.disable()
    assert not kernels.takes(ON_A_GPU)


@pytest.mark.usefixtures("a_gpu_and_triton")
def test_enabled_they_leave_what_is_on_a_cpu_as_it_was() -> None:
    x = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    expected = causal_linear_attention(x, x, x)
    kernels.enable()
    for ours, before in zip(causal_linear_attention(x, x, x), expected, strict=True):
        assert torch.equal(ours, before)
