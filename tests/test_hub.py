"""Models of a hub: fetched from one that is served here over HTTP, by the real library, in processes of their own."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from formwright import hub as hub_module
from formwright.errors import UserError
from formwright.hub import Progress, fetch, is_hub_name, located
from formwright.models import create_model
from formwright.reporting import Reporter
from tests.hub_server import TOKEN, Hub, Repository

FETCH = """
import json, sys
from formwright.errors import UserError
from formwright.hub import fetch
seen = []
try:
    folder = fetch(sys.argv[1], lambda done, total: seen.append((done, total)))
    print(json.dumps({"folder": str(folder), "seen": seen}))
except UserError as error:
    print(json.dumps({"error": str(error)}))
"""
WEIGHTS = save({"a": torch.arange(50_000, dtype=torch.float32)})
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "README.md": b"read me", "pytorch_model.bin": b"no"}


@pytest.fixture
def repositories() -> dict[str, Repository]:
    return {
        "org/plain": Repository(FILES),
        "org/private": Repository(FILES, private=True),
        "org/gated": Repository(FILES, gated=True),
        "org/wrong": Repository(FILES, stated={"model.safetensors": "0" * 64}),
        "org/empty": Repository({"README.md": b"nothing else", "flax_model.msgpack": b"x"}),
        "timm/resnet18.a1_in1k": Repository(FILES),
    }


@pytest.fixture
def hub(repositories: dict[str, Repository]) -> Iterator[Hub]:
    with Hub(repositories) as hub:
        yield hub


def environment(address: str, home: Path, **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return {**inherited, "HF_ENDPOINT": address, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", **more}


def fetched(name: str, address: str, home: Path, **more: str) -> dict[str, Any]:
    command = [sys.executable, "-c", FETCH, name]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(address, home, **more), check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Heard(Reporter):
    def __init__(self) -> None:
        self.stages: list[str] = []
        self.shares: list[tuple[float, str]] = []

    def stage(self, name: str, seconds: float | None = None) -> None:
        self.stages.append(name)

    def progress(self, done: float, text: str = "") -> None:
        self.shares.append((done, text))


def test_who_asks_hears_how_far_a_download_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fetch(name: str, progress: Progress) -> Path:
        progress(500_000, 2_000_000)
        progress(2_000_000, 2_000_000)
        return tmp_path

    monkeypatch.setattr(hub_module, "fetch", fetch)
    heard = Heard()
    assert located("hf:org/plain", heard) == tmp_path
    assert heard.stages == ["Downloading hf:org/plain"]
    assert heard.shares == [(0.25, "0 of 2 MB"), (1.0, "2 of 2 MB")]
    assert located(tmp_path / "here", heard) == tmp_path / "here"
    assert len(heard.stages) == 1


def test_names_of_a_hub_are_no_paths() -> None:
    assert is_hub_name("hf:org/name")
    assert is_hub_name("timm:resnet18.a1_in1k")
    assert not is_hub_name(Path("models") / "mine")


@pytest.mark.parametrize("name", ["hf:name", "hf:", "hf:a/b/c", "timm:a/b", "hf:a/b@", "timm:"])
def test_what_is_no_name_is_refused_before_anything_is_asked(name: str) -> None:
    with pytest.raises(UserError, match="names no model of a hub; write hf:ORG/NAME"):
        fetch(name)


@pytest.mark.parametrize("name", ["hf:org/plain", "hf:org/plain@v1", "timm:resnet18.a1_in1k"])
def test_a_model_is_fetched_once(name: str, hub: Hub, repositories: dict[str, Repository], tmp_path: Path) -> None:
    found = fetched(name, hub.address, tmp_path)
    folder = Path(found["folder"])
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    total = len(WEIGHTS) + 2
    assert found["seen"][-1] == [total, total]
    assert all(before[0] <= after[0] for before, after in zip(found["seen"], found["seen"][1:], strict=False))
    repository = repositories["timm/resnet18.a1_in1k" if name.startswith("timm") else "org/plain"]
    count = sum(method == "GET" for method, *_ in repository.seen)
    assert fetched(name, hub.address, tmp_path)["folder"] == found["folder"]
    assert sum(method == "GET" for method, *_ in repository.seen) == count == 2


def test_what_was_fetched_is_there_without_a_network(hub: Hub, tmp_path: Path) -> None:
    folder = fetched("hf:org/plain", hub.address, tmp_path)["folder"]
    assert fetched("hf:org/plain", "http://127.0.0.1:9", tmp_path)["folder"] == folder
    assert fetched("hf:org/plain", hub.address, tmp_path, HF_HUB_OFFLINE="1")["folder"] == folder


def test_a_download_that_breaks_off_goes_on_where_it_was(
    hub: Hub, repositories: dict[str, Repository], tmp_path: Path
) -> None:
    """The library keeps what came in pieces of some 10 MB."""
    content = os.urandom(1000) * 24_000
    repositories["org/large"] = repository = Repository({**FILES, "model.safetensors": content})
    repository.breaks["model.safetensors"] = 15_000_000
    found = fetched("hf:org/large", hub.address, tmp_path)
    assert (Path(found["folder"]) / "model.safetensors").read_bytes() == content
    starts = [start for method, name, start in repository.seen if (method, name) == ("GET", "model.safetensors")]
    assert len(starts) == 2
    assert 0 == starts[0] < starts[1] <= 15_000_000
    assert max(done for done, _ in found["seen"]) == found["seen"][-1][1] == len(content) + 2


def test_a_download_that_breaks_off_for_good_says_so_and_can_be_started_again(
    hub: Hub, repositories: dict[str, Repository], tmp_path: Path
) -> None:
    repository = repositories["org/plain"]
    repository.breaks["model.safetensors"] = 70_000
    repository.broken.add("model.safetensors")
    found = fetched("hf:org/plain", hub.address, tmp_path)
    assert found["error"] == (
        "The download of org/plain broke off, and went on no more; check the network and start again."
    )
    offline = fetched("hf:org/plain", hub.address, tmp_path, HF_HUB_OFFLINE="1")
    assert "is not in the cache" in offline["error"], "half a model is none"
    repository.breaks.clear()
    assert "folder" in fetched("hf:org/plain", hub.address, tmp_path)


def test_a_file_with_another_hash_than_the_hub_states_is_not_kept(
    hub: Hub, repositories: dict[str, Repository], tmp_path: Path
) -> None:
    found = fetched("hf:org/wrong", hub.address, tmp_path)
    assert "came with another content than the hub states" in found["error"]
    assert "000000000000..." in found["error"]
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not list(tmp_path.rglob("0" * 64))
    repositories["org/wrong"].stated.clear()
    assert "folder" in fetched("hf:org/wrong", hub.address, tmp_path)


@pytest.mark.parametrize(
    ("name", "more", "says"),
    [
        ("hf:org/unknown", {}, "The hub has no model org/unknown that you may read; check the name, and give a token"),
        ("hf:org/unknown", {"HF_TOKEN": TOKEN}, "The hub has no model org/unknown that you may read; check the name."),
        ("hf:org/private", {}, "give a token if it is private (HF_TOKEN)"),
        ("hf:org/gated", {"HF_TOKEN": TOKEN}, "to those only who accepted its terms"),
        ("hf:org/plain@v2", {}, "has no revision 'v2'"),
        ("hf:org/empty", {}, "has no weights that are read"),
        ("hf:org/plain", {"HF_HUB_OFFLINE": "1"}, "is not in the cache, and HF_HUB_OFFLINE forbids downloads"),
        ("hf:org/plain", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "is not in the cache, and the hub cannot be reached"),
        ("hf:-org/plain", {}, "hf:ORG/NAME"),
    ],
)
def test_what_cannot_be_had_is_told_in_one_sentence(
    name: str, more: dict[str, str], says: str, hub: Hub, tmp_path: Path
) -> None:
    error = fetched(name, hub.address, tmp_path, **more)["error"]
    assert says in error
    assert "\n" not in error


def test_a_token_opens_what_is_private(hub: Hub, tmp_path: Path) -> None:
    assert "folder" in fetched("hf:org/private", hub.address, tmp_path, HF_TOKEN=TOKEN)


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harm",)


def formwright(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "formwright.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environ, check=False)


def test_the_command_line_starts_from_a_hub(tmp_path: Path) -> None:
    """One good model, and what a user may get wrong: each a sentence and the exit status 2."""
    torch.manual_seed(0)
    create_model("gpt2", dim=16, depth=1, heads=2, vocabulary=258, length=40).save_pretrained(tmp_path / "ours")
    (tmp_path / "ours" / "tokenizer.json").write_text(json.dumps({"kind": "bytes"}))
    ours = {path.name: path.read_bytes() for path in (tmp_path / "ours").iterdir()}
    harmful = {"config.json": b'{"model_type": "bert"}', "pytorch_model.bin": pickle.dumps(_Payload(), protocol=2)}
    strange = {"config.json": b'{"model_type": "parrot"}', "model.safetensors": WEIGHTS}
    repositories = {
        "org/writer": Repository(ours),
        "org/harmful": Repository(harmful),
        "org/strange": Repository(strange),
    }
    with Hub(repositories) as hub:
        environ = environment(hub.address, tmp_path / "home", PYTHONPATH=os.pathsep.join(sys.path))
        written = formwright("generate", "hf:org/writer", "-p", "A", "--max-tokens", "3", "-q", cwd=tmp_path, **environ)
        assert written.returncode == 0, written.stderr
        assert written.stderr == ""
        (tmp_path / "steps.yaml").write_text("steps: [quantise_weights]")
        steps = ("--steps", "steps.yaml", "--out", "small")
        compressed = formwright("compress", "hf:org/writer", *steps, cwd=tmp_path, **environ)
        assert compressed.returncode == 0, compressed.stderr
        assert "Downloading hf:org/writer: " in compressed.stderr
        told = formwright("generate", "hf:org/writer", "-p", "A", "--max-tokens", "3", cwd=tmp_path, **environ)
        assert "Downloading hf:org/writer: " in told.stderr
        for name, says in (
            ("hf:org/harmful", "holds more than plain tensors"),
            ("hf:org/strange", "named 'parrot'"),
        ):
            refused = formwright("fit", "--weights", name, "--max-time", "45s", "--out", "run", cwd=tmp_path, **environ)
            assert refused.returncode == 2, refused.stderr
            assert says in refused.stderr
            assert "Traceback" not in refused.stderr
    assert not (tmp_path / "harm").exists()
    assert not (tmp_path / "run").exists()
