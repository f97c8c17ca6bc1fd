from __future__ import annotations

import pytest

from formwright.fitting import run, shrink
from formwright.search.images import FAMILIES, ImageSpace
from formwright.search.open_choices import Categorical


@pytest.fixture
def short_runs(monkeypatch):
    """Lets a run take seconds instead of minutes: two families, little time for each stage."""
    monkeypatch.setattr(run, "SHORTEST_RUN", 1.0)
    monkeypatch.setattr(run, "SHRINK_LEAST", 2.0)
    monkeypatch.setattr(run, "SHIP_LEAST", 1.0)
    monkeypatch.setattr(shrink, "SHORTEST_RECOVERY", -60.0)
    monkeypatch.setattr(ImageSpace, "families", {name: FAMILIES[name] for name in ("cct", "poolformer")})
    monkeypatch.setattr(ImageSpace, "shared", {**ImageSpace.shared, "width": Categorical((8, 16))})
