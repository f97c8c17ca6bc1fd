from __future__ import annotations

import pytest

from formwright.fitting import race, run, shrink
from formwright.search.spaces import FAMILIES


@pytest.fixture
def short_runs(monkeypatch):
    """Lets a run take seconds instead of minutes: two families, little time for each stage."""
    monkeypatch.setattr(run, "SHORTEST_RUN", 1.0)
    monkeypatch.setattr(run, "SHRINK_LEAST", 2.0)
    monkeypatch.setattr(run, "SHIP_LEAST", 1.0)
    monkeypatch.setattr(shrink, "SHORTEST_RECOVERY", -60.0)
    monkeypatch.setattr(race, "FAMILIES", {name: FAMILIES[name] for name in ("cct", "poolformer")})
    monkeypatch.setattr(race, "WIDTHS", (8, 16))
