"""Models of integers of few bits: which scales, and what they cost."""

from formwright.compression.quantization.post_training import quantise

__all__ = ["quantise"]
