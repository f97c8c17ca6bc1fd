"""Ctrl-C is remembered where Python drops it."""

from __future__ import annotations

import contextlib
import signal

import pytest

from formwright.interrupts import raise_if_pressed, remembered


def test_a_dropped_interrupt_is_raised_at_the_next_step():
    before = signal.getsignal(signal.SIGINT)
    with remembered():
        raise_if_pressed()
        with contextlib.suppress(KeyboardInterrupt):  # as a finaliser does
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            raise_if_pressed()
    raise_if_pressed()
    assert signal.getsignal(signal.SIGINT) is before
