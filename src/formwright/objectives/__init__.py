"""What is optimised."""

from formwright.batch import Batch
from formwright.objectives.classification import Classification
from formwright.objectives.distillation import Distillation
from formwright.objectives.forecasting import ForecastDistillation, Forecasting
from formwright.objectives.objective import Objective, Outcome, means

__all__ = [
    "Batch",
    "Classification",
    "Distillation",
    "ForecastDistillation",
    "Forecasting",
    "Objective",
    "Outcome",
    "means",
]
