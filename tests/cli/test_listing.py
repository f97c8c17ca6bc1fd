"""What is listed without being built is what would be built."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from formwright.cli.listing import listed
from formwright.models import MODELS
from formwright.models.identification import body_sizes
from formwright.models.variants import facts, ours
from tests.test_golden import VARIANTS, is_listed_like_this

#: A package that adds a model: a variant of ours with other options.
PLUGIN = """
from formwright.models import MODELS, Variant

tiny = Variant("weaver", "weaving", MODELS["poolformer_s12"].build, {"depths": (1,) * 4, "dims": (4,) * 4})
"""


def test_every_model_is_listed() -> None:
    rows = listed()
    assert [row.name for row in rows] == ours(), "run python -m formwright.models.variants"
    assert all((row.family, row.task) == (MODELS[row.name].family, MODELS[row.name].task) for row in rows)


def test_parameters_are_those_of_the_built_models() -> None:
    """Of those without published figures; the others are counted beside these, in ``tests/test_golden.py``."""
    for row in listed():
        if row.name not in VARIANTS or not is_listed_like_this(row.name):
            counted = facts(row.name)
            assert counted["parameters"] == row.parameters, "run python -m formwright.models.variants"
            assert counted["body"] == body_sizes()[row.name]


def test_patterns_and_tasks() -> None:
    assert [row.name for row in listed("poolformer_s?6")] == ["poolformer_s36"]
    assert {row.task for row in listed(task="image-classification")} == {"image-classification"}
    assert listed(task="weaving") == listed("weaver_*") == []


def test_models_of_other_packages_are_listed_too(tmp_path: Path) -> None:
    (tmp_path / "weaver.py").write_text(PLUGIN)
    (tmp_path / "weaver-1.0.dist-info").mkdir()
    (tmp_path / "weaver-1.0.dist-info" / "METADATA").write_text("Name: weaver\nVersion: 1.0\n")
    (tmp_path / "weaver-1.0.dist-info" / "entry_points.txt").write_text(
        "[formwright.models]\nweaver_s12 = weaver:tiny\n"
    )
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    run = subprocess.run(
        [sys.executable, "-m", "formwright.cli", "list", "*er_s12"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    rows = {line.split()[0]: line.split()[1:] for line in run.stdout.splitlines()}
    assert list(rows)[-1] == "weaver_s12"
    assert rows["weaver_s12"][1:] == ["weaving", "weaver"]
    assert rows["poolformer_s12"][1:] == ["image-classification", "poolformer", "2021"]


def test_parts_are_listed_by_kind(cli) -> None:
    answer = cli("parts", "mamba*", "--kind", "token mixer")
    assert answer.code == 0
    assert [line.split()[0] for line in answer.out.splitlines() if line.startswith("mamba")] == ["mamba", "mamba2"]
    assert "the kinds are channel mixer" in cli("parts", "--kind", "nothing").refusal()
