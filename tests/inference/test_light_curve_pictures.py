"""Pages about light curves are whole, well-formed and need nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from formwright.data.synthetic.light_curves import synthetic_light_curves
from formwright.errors import UserError
from formwright.inference.light_curve_pictures import light_curve_chart, write_explanations
from formwright.models import create_model


def test_a_page_shows_every_object_with_all_its_observations(tmp_path: Path) -> None:
    curves = synthetic_light_curves(3, classes=("SN Ia", "AGN", "kilonova"), seed=1)
    grid = np.random.default_rng(0).standard_normal((3, 20, 6))
    model = create_model("t2_plasticc", length=20, dim=8, heads=2, classes=3)
    path = tmp_path / "page.html"
    write_explanations(model, curves, grid, grid, path, classes=curves.classes, first=2)
    text = path.read_text()
    pictures = re.findall(r'<div class="area">.*?</div>|<div class="strip".*?</div>', text, re.DOTALL)
    assert len(pictures) == 6
    for picture in pictures:
        ElementTree.fromstring(picture)
    assert "src=" not in text
    assert "1-0" in text
    assert "1-2" not in text
    chart = light_curve_chart(curves, 0)
    assert len(chart.marks) == curves.counts[0]
    assert [name for _, name in chart.legend] == list(curves.bands)


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    curves = synthetic_light_curves(3, classes=("SN Ia", "AGN", "kilonova"), seed=1)
    grid = np.zeros((3, 20, 6))
    model = create_model("t2_plasticc", length=20, dim=8, heads=2, classes=3)
    with pytest.raises(UserError, match="3 light curves, 2 grids"):
        write_explanations(model, curves, grid[:2], grid, tmp_path / "x.html", classes=curves.classes)
