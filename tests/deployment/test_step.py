"""A stream's step as a file: ONNX Runtime writes the texts that PyTorch writes, token by token."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from formwright.data.tokenization import ByteTokenizer, save_tokenizer
from formwright.deployment import OnnxStream, export_onnx, export_reader, export_step, step
from formwright.deployment.export import ExportError
from formwright.errors import UserError
from formwright.inference.generation import generate
from formwright.inference.sampling import GREEDY, Sampling
from formwright.models import Network, create_model
from formwright.nn import part
from tests.conformance.instances import randomise, tiny_network

VOCABULARY = 50
PROMPTS = [[1, 2, 3, 4, 5, 6], [7], [9, 8]]
DRAWN = Sampling(temperature=0.8, top_k=20, top_p=0.95, repetition_penalty=1.2, seed=3)


def decoder(mixers: object = "attention", family: str = "decoder_tiny", **changes: object) -> Network:
    options = {"vocabulary": VOCABULARY, "dim": 32, "depth": 1, **changes}
    if family == "decoder_tiny":
        options |= {"mixers": mixers, "heads": 2}
    torch.manual_seed(0)
    model = create_model(family, **options).eval()
    randomise(model)
    return model


LLAMA = {"family": "llama3_2_1b", "heads": 4, "kv_heads": 2, "hidden": 48, "head_dim": 8}
RECURRENT = (
    "mamba",
    part("mamba2", head_dim=8),
    part("gated_linear_attention", heads=2),
    part("delta_rule", heads=2),
    part("linear_attention", heads=2),
    part("legendre_memory", window=6),
    part("attention", heads=2, window=5, rotary={}),
)
MODELS = {
    "gpt2": {"family": "gpt2", "heads": 2, "length": 100},
    "llama": LLAMA,
    "recurrent": {"mixers": RECURRENT, "depth": len(RECURRENT)},
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Network, Path]]:
    folder, found = tmp_path_factory.mktemp("steps"), {}
    for name, options in MODELS.items():
        model = decoder(**options)  # type: ignore[arg-type]
        assert export_step(model, folder / f"{name}.onnx", capacity=100) < 1e-4
        found[name] = (model, folder / f"{name}.onnx")
    return found


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_the_texts_are_those_of_pytorch(exported, name: str, sampling: Sampling) -> None:
    model, path = exported[name]
    stream = OnnxStream(path, threads=1)
    stop = [next(generate(model, PROMPTS, tokens=5, sampling=sampling))[1]]
    for stops in ((), stop):  # a row ends at once, and later ones with it
        expected = list(generate(model, PROMPTS, tokens=90, sampling=sampling, stop=stops))
        assert list(stream.generate(PROMPTS, tokens=90, sampling=sampling, stop=stops)) == expected


@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_every_step_gives_the_scores_of_pytorch(exported, name: str) -> None:
    model, path = exported[name]
    stream, ids = OnnxStream(path, threads=1), torch.randint(VOCABULARY, (2, 80))
    ours, state = stream.init_state(2), model.init_state(2, 100)
    for place in range(80):
        found, ours = stream.stream(ids[:, place : place + 1].numpy(), ours)
        expected, state = model.stream(ids[:, place : place + 1], state)
        assert np.abs(found - expected.numpy()).max() <= 1e-4 * float(expected.std())
    np.testing.assert_array_equal(ours["length"], [80, 80])


def test_what_is_kept_has_a_name_and_grows_with_the_text(exported) -> None:
    _, path = exported["llama"]
    stream = OnnxStream(path)
    state = stream.init_state(3)
    keys = "stages.0.blocks.0.branches.0.part/keys"
    assert state[keys].shape == (3, 64, 2, 8)
    assert state["length"].tolist() == [0, 0, 0]
    _, state = stream.stream(np.zeros((3, 65), np.int64), state)
    assert state[keys].shape == (3, 100, 2, 8)
    assert (stream.capacity, stream.tokens, stream.writes) == (100, 1, False)
    recurrent = OnnxStream(exported["recurrent"][1])
    assert recurrent.capacity is None
    before = recurrent.init_state(1)
    _, after = recurrent.stream(np.zeros((1, 70), np.int64), before)
    assert {name: array.shape for name, array in after.items()} == {n: array.shape for n, array in before.items()}


@pytest.mark.parametrize("tokens", [5, None], ids=["five", "any"])
def test_prompts_are_read_many_tokens_at_a_time(exported, tokens: int | None, tmp_path: Path) -> None:
    model, path = exported["llama"]
    export_step(model, tmp_path / "prompt.onnx", capacity=100, tokens=tokens)
    stream = OnnxStream(path, prompt=tmp_path / "prompt.onnx")
    prompts = [list(range(23)), [3, 1], list(range(5))]
    assert list(stream.generate(prompts, tokens=9)) == list(generate(model, prompts, tokens=9))
    alone = OnnxStream(tmp_path / "prompt.onnx")
    if tokens is None:
        assert list(alone.generate(prompts, tokens=9)) == list(generate(model, prompts, tokens=9))
    else:
        with pytest.raises(UserError, match=r"prompt\.onnx takes 5 tokens at a time, and 3 are left"):
            alone.stream(np.zeros((1, 8), np.int64), alone.init_state())


def test_an_encoder_decoder_writes_about_what_it_read(tmp_path: Path) -> None:
    model = tiny_network("t5", depth=1).float()
    example = model.example(1)["input"]  # type: ignore[index]
    export_step(model, tmp_path / "step.onnx", capacity=8, example=example)
    export_reader(model, tmp_path / "reader.onnx", example)
    stream, prompts = OnnxStream(tmp_path), [[2, 3, 4, 5, 6], [7, 8]]
    assert stream.writes
    for sampling in (GREEDY, Sampling(seed=1)):
        expected = list(generate(model, prompts, tokens=8, sampling=sampling))
        assert list(stream.generate(prompts, tokens=8, sampling=sampling)) == expected
    with pytest.raises(UserError, match="give its memory"):
        stream.init_state(2)
    with pytest.raises(UserError, match="reads with a file of export_reader"):
        OnnxStream(tmp_path / "step.onnx").read(example.numpy())
    with pytest.raises(UserError, match="give an example"):
        export_step(model, tmp_path / "other.onnx", capacity=8)


def test_mistakes_are_sentences(exported, tmp_path: Path) -> None:
    model, path = exported["llama"]
    stream = OnnxStream(path)
    with pytest.raises(UserError, match=r"\(1, tokens\); got shape \(2, 1\)"):
        stream.stream(np.zeros((2, 1), np.int64), stream.init_state(1))
    with pytest.raises(UserError, match="made for 100 tokens, and the sequence now has 101"):
        stream.stream(np.zeros((1, 101), np.int64), stream.init_state(1))
    with pytest.raises(UserError, match="prompt and text together have 102"):
        next(stream.generate([[1, 2, 3]], tokens=100))
    with pytest.raises(UserError, match="ids from 1 to 50"):
        next(stream.generate([[1, 50]]))
    with pytest.raises(UserError, match="0 were asked for"):
        next(stream.generate([[1]], tokens=0))
    with pytest.raises(UserError, match="states of different shapes"):
        OnnxStream(path, prompt=exported["gpt2"][1])
    with pytest.raises(UserError, match="not more than the capacity; got tokens=5, capacity=4"):
        export_step(model, tmp_path / "step.onnx", capacity=4, tokens=5)
    with pytest.raises(UserError, match="cannot stream"):
        export_step(create_model("encoder_tiny", dim=16, depth=1, heads=2), tmp_path / "step.onnx")
    with pytest.raises(UserError, match="FrameSubsampling gives none to several tokens"):
        export_step(create_model("ctc_encoder_small_streaming"), tmp_path / "step.onnx")
    with pytest.raises(UserError, match="at most 100 tokens"):
        export_step(exported["gpt2"][0], tmp_path / "step.onnx", capacity=101)
    export_onnx(model, tmp_path / "whole.onnx", torch.zeros(1, 4, dtype=torch.int64))
    with pytest.raises(UserError, match=r"whole\.onnx is not the step of a stream"):
        OnnxStream(tmp_path / "whole.onnx")


def test_a_file_that_differs_never_appears(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = decoder(part("linear_attention", heads=2), depth=1)
    honest = step.OnnxStream.stream

    def lying(self: OnnxStream, x: np.ndarray, state: dict[str, np.ndarray]) -> object:
        scores, state = honest(self, x, state)
        return scores, {n: 1.01 * array if array.dtype == np.float32 else array for n, array in state.items()}

    monkeypatch.setattr(step.OnnxStream, "stream", lying)
    with pytest.raises(ExportError, match="differs from the original"):
        export_step(model, tmp_path / "step.onnx")
    assert not list(tmp_path.iterdir())


def test_the_command_writes_without_pytorch(tmp_path: Path) -> None:
    model = decoder(part("gated_linear_attention", heads=2), depth=1, vocabulary=258)
    export_step(model, tmp_path / "step.onnx")
    save_tokenizer(ByteTokenizer(), tmp_path)
    options = ["generate", str(tmp_path), "-p", "ab", "--max-tokens", "12", "--seed", "4", "-q"]
    code = (
        f"import sys; from formwright.cli import _run; assert _run({options!r}) == 0; assert 'torch' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    rows = list(generate(model, [list(b"ab")], tokens=12, sampling=Sampling(seed=4), stop=[256]))
    text = ByteTokenizer().stream()
    assert run.stdout.decode().strip("\n") == ("ab" + "".join(text(row[0]) for row in rows)).strip("\n")  # type: ignore[arg-type]
