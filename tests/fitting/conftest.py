from __future__ import annotations

import pytest

from formwright.fitting import final, run, shrink
from formwright.shapes import PictureShape
from tests.fitting.sample import few_candidates


@pytest.fixture
def short_runs(monkeypatch):
    """Lets a run take seconds instead of minutes: two families, little time for each stage."""
    monkeypatch.setattr(run, "SHORTEST_RUN", 1.0)
    monkeypatch.setattr(run, "SHRINK_LEAST", 2.0)
    monkeypatch.setattr(run, "SHIP_LEAST", 1.0)
    monkeypatch.setattr(shrink, "SHORTEST_RECOVERY", -60.0)
    monkeypatch.setattr(final, "SHORTEST", -60.0)
    few_candidates(monkeypatch, "image-classification", ("cct", "poolformer"), PictureShape, (8, 16))
