"""Readers of users' files, built-in samples and batches.

Reading needs NumPy and Pillow only; what needs PyTorch is imported from its own module (``formwright.data.batches``).
"""

from formwright.data.images import ImageData as ImageData
from formwright.data.images import from_arrays as from_arrays
from formwright.data.images import read_images as read_images
