"""How the loss of foundation models of series falls with their size, their data and what was computed."""

from formwright.studies.scaling.corpus import Corpus, read_corpus, synthetic_corpus
from formwright.studies.scaling.run import Point, ScalingResult, measure_scaling

__all__ = ["Corpus", "Point", "ScalingResult", "measure_scaling", "read_corpus", "synthetic_corpus"]
