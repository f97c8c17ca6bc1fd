"""A study trains everything once, continues where it stopped, and its laws go through the right points."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from formwright.cli.app import app
from formwright.errors import UnknownNameError, UserError
from formwright.models.series.foundation import FoundationModel, FoundationSpec, decoder
from formwright.studies.scaling import Corpus, Point, ScalingResult, measure_scaling, synthetic_corpus
from formwright.studies.scaling.report import write_scaling_report
from formwright.studies.scaling.run import judge


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    whole = synthetic_corpus(40, 64)
    return Corpus(whole.name, whole.train, {name: windows[:16] for name, windows in whole.evaluations.items()})


def study(corpus: Corpus, out: Path | None = None, seeds: Sequence[int] = (0,), steps: int = 4) -> ScalingResult:
    return measure_scaling(
        corpus, sizes=("1k", "10k"), data=(500,), steps=steps, seeds=seeds, length=64, batch=4, out=out
    )


def test_a_stopped_study_continues_to_the_same_points(corpus: Corpus, tmp_path: Path) -> None:
    whole = study(corpus, tmp_path / "whole", seeds=(0, 1))
    assert sum(point.final for point in whole.points) == 2 * 2 * 3
    assert {point.points for point in whole.points} == {500, corpus.points}
    assert {point.steps for point in whole.points} == {1, 2, 4}
    study(corpus, tmp_path / "parts")
    before = (tmp_path / "parts" / "points.json").read_text()
    continued = study(corpus, tmp_path / "parts", seeds=(0, 1))
    assert {repr(point) for point in continued.points} == {repr(point) for point in whole.points}
    assert before != (tmp_path / "parts" / "points.json").read_text()
    with pytest.raises(UserError, match="another study"):
        study(corpus, tmp_path / "parts", steps=5)


def point(
    kind: str, parameters: int, points: int, steps: int, mae: float, *, seed: int = 0, final: bool = True
) -> Point:
    return Point(
        kind, str(parameters), parameters, points, steps, 6.0 * parameters * steps, seed, {"set": {"mae": mae}}, final
    )


def test_laws_go_through_the_points_that_they_are_about() -> None:
    result = ScalingResult(
        "made up",
        ("set",),
        (
            point("encoder", 100, 1000, 5, 0.9, final=False),
            point("encoder", 100, 1000, 10, 0.8),
            point("encoder", 10000, 1000, 5, 0.5, final=False),
            point("encoder", 10000, 1000, 10, 0.4),
            point("encoder", 10000, 10, 10, 1.6),
            point("encoder", 10000, 100, 10, 0.8),
            point("encoder", 1000, 1000, 10, 0.7),
            point("encoder", 1000, 1000, 9, 0.95, final=False),
        ),
    )
    assert result.values("encoder", "parameters", "set")[1].tolist() == [0.8, 0.4, 0.7]
    assert result.law("encoder", "points", "set").alpha == pytest.approx(np.log10(2))
    assert sorted(result.values("encoder", "compute", "set")[1].tolist()) == [0.4, 0.5, 0.7, 0.8, 0.9]
    assert {law["axis"] for law in result.laws()} == {"parameters", "points", "compute"}
    json.dumps(result.to_dict())


def test_the_report_is_a_page_of_well_formed_pictures(corpus: Corpus, tmp_path: Path) -> None:
    write_scaling_report(study(corpus), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    pictures = re.findall(r'<div class="area">.*?</div>', text, re.DOTALL)
    assert len(pictures) == 2 * 3
    for picture in pictures:
        assert 'class="law s0"' in picture
        ElementTree.fromstring(picture)
    assert "alpha" in text
    assert "src=" not in text


def test_an_oracle_is_judged_perfect_and_units_do_not_matter() -> None:
    torch.manual_seed(0)
    windows = np.random.default_rng(0).standard_normal((8, 64))
    for config in (FoundationSpec(dim=8, depth=1), decoder(FoundationSpec(dim=8, depth=1))):
        model = FoundationModel(config).eval()
        scores = judge(model, windows)
        other = judge(model, 1000 * windows - 5)
        assert other["mae"] == pytest.approx(scores["mae"], rel=1e-3)
        assert other["nll"] == pytest.approx(scores["nll"], rel=1e-3)
        missing = windows.copy()
        missing[:, -5:] = np.nan
        assert np.isfinite(judge(model, missing)["mae"])
        with torch.no_grad():
            model.head.weight.zero_()
            model.head.bias.zero_()
        mean = windows[:, :32].mean(1, keepdims=True)
        deviation = windows[:, :32].std(1, keepdims=True)
        assert judge(model, windows)["mae"] == pytest.approx(
            np.mean(np.abs(windows[:, 32:] - mean) / deviation), rel=1e-3
        )


def test_the_command_writes_points_and_pictures(tmp_path: Path) -> None:
    table = tmp_path / "series.csv"
    rows = [f"{np.sin(row / 5):.4f},{row % 7}" for row in range(400)]
    table.write_text("\n".join(["x,y", *rows]) + "\n")
    out = tmp_path / "out"
    call = ["scaling", str(table), "--sizes", "1k,10k", "--kinds", "decoder", "--steps", "3", "--length", "64"]
    found = CliRunner().invoke(app, [*call, "--out", str(out), "--json"])
    assert found.exit_code == 0, found.output
    assert {law["kind"] for law in json.loads(found.stdout)["laws"]} == {"decoder"}
    assert {path.name for path in out.iterdir()} == {"points.json", "report.html"}


def test_what_cannot_be_measured_is_refused(corpus: Corpus) -> None:
    with pytest.raises(UnknownNameError, match="1k"):
        measure_scaling(corpus, sizes=("2k",))
    with pytest.raises(UnknownNameError):
        measure_scaling(corpus, kinds=("both",))
    with pytest.raises(UserError, match="windows of at least two"):
        measure_scaling(corpus, length=48)
