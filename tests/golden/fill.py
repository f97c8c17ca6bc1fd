"""The fixed rule that fills a reference model's weights; see :mod:`formwright.catalog.reference`, where it lives."""

from formwright.catalog.reference import fill, images, sample

__all__ = ["fill", "images", "sample"]
