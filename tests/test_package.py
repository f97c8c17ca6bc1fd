from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import formwright

#: Libraries that take long to import and that a model does not need.
HEAVY = ["onnx", "onnxruntime", "onnxscript", "optuna", "plotly", "sklearn", "scipy", "pandas", "lightning_fabric"]
HEAVY += ["PIL", "jinja2", "typer", "rich"]


def loaded_after(code: str) -> set[str]:
    command = f"import sys; {code}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_importing_the_package_imports_not_even_torch() -> None:
    assert "torch" not in loaded_after("import formwright")


def test_listing_models_imports_neither_torch_nor_the_models() -> None:
    loaded = loaded_after("from formwright.cli import _run; assert _run(['list', '--json']) == 0")
    assert "formwright.cli.listing" in loaded
    assert loaded.isdisjoint({"torch", "numpy", "formwright.models"})


def test_building_a_model_imports_nothing_heavy() -> None:
    loaded = loaded_after("import formwright; formwright.create_model('poolformer_s12', dims=(4,) * 4)")
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize("name", sorted(formwright._PUBLIC))
def test_public_names_exist(name: str) -> None:
    module = importlib.import_module(formwright._PUBLIC[name])
    assert getattr(formwright, name) is getattr(module, name)
    assert name in dir(formwright)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'fitt'"):
        _ = formwright.fitt


def test_everything_that_is_no_code_is_packed() -> None:
    root = Path(formwright.__file__).parent
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["formwright"]
    packed = {path for pattern in patterns for path in root.glob(pattern)}
    files = {path for path in root.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert files - packed == set()
