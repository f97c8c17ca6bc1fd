"""A plugin of pytest: recurrences go to the kernels, on the CPU by Triton's interpreter, and nowhere else."""

from __future__ import annotations

from typing import NoReturn

from formwright.nn import kernels
from formwright.nn.functional import delta_rule, gated_linear_attention, linear_attention, selective_scan, ssd


def _refuse(*operands: object) -> NoReturn:
    raise AssertionError("This was to be computed by a kernel.")


kernels.enable()
for module in (linear_attention, gated_linear_attention, delta_rule):
    module._segment = _refuse
ssd._block = _refuse
selective_scan._SelectiveScan.apply = _refuse
