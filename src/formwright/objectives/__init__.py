"""What is optimised."""

from formwright.batch import Batch
from formwright.objectives.balanced import BalancedClassification
from formwright.objectives.classification import Classification
from formwright.objectives.distillation import Distillation
from formwright.objectives.objective import Objective, Outcome, means

__all__ = ["BalancedClassification", "Batch", "Classification", "Distillation", "Objective", "Outcome", "means"]
