"""What is optimised."""

from formwright.objectives.classification import Classification
from formwright.objectives.distillation import Distillation
from formwright.objectives.objective import Batch, Objective, Outcome, means

__all__ = ["Batch", "Classification", "Distillation", "Objective", "Outcome", "means"]
