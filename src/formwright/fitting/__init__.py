"""The main job: from data, a device and a budget to a model that fits all three."""

from formwright.fitting.records import FitResult
from formwright.fitting.run import fit

__all__ = ["FitResult", "fit"]
