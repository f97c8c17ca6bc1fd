"""What is optimised."""

from formwright.batch import Batch
from formwright.objectives.classification import Classification
from formwright.objectives.distillation import Distillation
from formwright.objectives.language import NextToken
from formwright.objectives.nested import NestedTraining
from formwright.objectives.objective import Objective, Outcome, means

__all__ = ["Batch", "Classification", "Distillation", "NestedTraining", "NextToken", "Objective", "Outcome", "means"]
