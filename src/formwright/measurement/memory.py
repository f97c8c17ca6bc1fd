"""Peak memory of a call, as the operating system sees it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def _resident(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no {field}")


def _return_free_pages() -> None:
    """Hand what the heap holds free back to the system; otherwise a call reuses it and seems to need nothing."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc has no malloc_trim
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory(function: Callable[[], Any]) -> int | None:
    """Bytes by which the process's resident memory rises, at its highest, while ``function()`` runs.

    Unlike an allocator's own statistics this includes every library's scratch space (oneDNN, ONNX Runtime). The kernel
    keeps the high-water mark, so nothing is missed between samples; its grain is a page, its noise some 0.3 MB. What
    ``function`` reads and does not allocate (the weights of a loaded model) is not part of it. ``None`` where the
    system has no resettable high-water mark (it needs Linux).
    """
    try:
        _return_free_pages()
        before = _resident("VmRSS")
        _RESET.write_text("5")  # sets the high-water mark to what is resident now
    except OSError:
        return None
    function()
    return max(_resident("VmHWM") - before, 0)
