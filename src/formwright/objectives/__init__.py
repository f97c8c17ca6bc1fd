"""What is optimised."""

from formwright.batch import Batch
from formwright.objectives.auxiliary import WithAuxiliary
from formwright.objectives.balanced import BalancedClassification
from formwright.objectives.classification import Classification
from formwright.objectives.dense import DenseClassification
from formwright.objectives.diffusion import Diffusion, FlowMatching
from formwright.objectives.distillation import Distillation
from formwright.objectives.forecasting import ForecastDistillation, Forecasting
from formwright.objectives.language import NextToken
from formwright.objectives.nested import NestedTraining
from formwright.objectives.objective import Objective, Outcome, Phase, means
from formwright.objectives.regression import Regression
from formwright.objectives.sets import SetPrediction
from formwright.objectives.supernet import SandwichTraining
from formwright.objectives.transcription import Transcription

__all__ = [
    "BalancedClassification",
    "Batch",
    "Classification",
    "DenseClassification",
    "Diffusion",
    "Distillation",
    "FlowMatching",
    "ForecastDistillation",
    "Forecasting",
    "NestedTraining",
    "NextToken",
    "Objective",
    "Outcome",
    "Phase",
    "Regression",
    "SandwichTraining",
    "SetPrediction",
    "Transcription",
    "WithAuxiliary",
    "means",
]
