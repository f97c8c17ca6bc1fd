"""Models of integers of few bits: which scales, and what they cost."""

from formwright.compression.quantization.post_training import deployed_forms, quantise

__all__ = ["deployed_forms", "quantise"]
