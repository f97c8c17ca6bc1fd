"""Sequence mixers on this machine: ``python -m benchmarks.sequences``.

Beside what a user would pick on a CPU, with the same weights and in one run; how their cost grows with the length; from
which length on they are faster than softmax attention; and what a step of decoding costs early and late in a text.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import formwright  # noqa: F401  # before PyTorch: it says how idle threads wait

# isort: split
import torch
from torch import Tensor, nn

from formwright.measurement import compare
from formwright.models import create_model, load_checkpoint
from formwright.nn import build_part, part
from formwright.nn.parts import Part
from formwright.nn.specification import PartSpec
from formwright.nn.streaming import bytes_of

DIM, TOKENS, THREADS = 256, 2048, 2
#: Layers whose growth, crossing and decoding are measured, at ``DIM`` channels.
LAYERS: dict[str, PartSpec] = {"mamba": part("mamba"), "mamba2": part("mamba2")}
ATTENTION = part("attention", head_dim=64, causal=True)
GROWTH = (1024, 4096, 16384, 65536)
CROSSING = (512, 1024, 2048, 4096, 8192, 16384)
#: From which length on a layer is to be faster than attention, and how much steeper than linear it may grow.
CROSSING_GOALS, GROWTH_GOAL = {"mamba": 16384}, 1.2
CROSSING_GOAL = 4096
POSITIONS = (100, 100_000)
PIECE = 2000

Sides = tuple[Callable[[int], object], Callable[[int], object]]


@dataclass(frozen=True)
class PeerCase:
    """Ours beside a peer's.

    Attributes:
        name: of our layer.
        peer: what it is compared with.
        kind: ``forward``, or ``training`` for forward and backward.
        goal: how many times faster ours is to be.
        sides: makes both, functions of the number of tokens.
        tokens: how many.
        rounds: how often both are timed in turns.
    """

    name: str
    peer: str
    kind: str
    goal: float
    sides: Callable[[], Sides]
    tokens: int = TOKENS
    rounds: int = 5


def _transformers(kind: str, variant: str, training: bool, **options: Any) -> Sides:
    """Two layers of transformers' model and ours with its weights, from ids to scores."""
    import transformers

    torch.manual_seed(0)
    sizes = {"vocab_size": 256, "hidden_size": DIM, "num_hidden_layers": 2, "use_cache": False}
    theirs = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, f"{kind}Config")(**sizes, **options))
    ours = create_model(variant, vocabulary=256, dim=DIM, depth=2)
    load_checkpoint(ours, theirs.state_dict())
    ids = torch.randint(256, (1, 64))
    with torch.no_grad():
        expected = theirs.eval()(ids).logits
        torch.testing.assert_close(ours.eval()(ids), expected, rtol=1e-3, atol=1e-4)
    return _call(ours, training, lambda y: y), _call(theirs, training, lambda y: y.logits)


def _call(model: nn.Module, training: bool, output: Callable[[Any], Tensor]) -> Callable[[int], object]:
    def run(tokens: int) -> None:
        ids = torch.randint(256, (1, tokens), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode(not training):
            y = output(model(ids))
        if training:
            model.zero_grad()
            y.square().mean().backward()

    return run


def _mamba(training: bool) -> Sides:
    return _transformers("Mamba", "mamba_130m", training)


def _mamba2(training: bool) -> Sides:
    heads = {"num_heads": 2 * DIM // 64, "head_dim": 64, "n_groups": 1, "state_size": 128, "tie_word_embeddings": True}
    return _transformers("Mamba2", "mamba2_130m", training, **heads)


PEERS = (
    PeerCase("mamba", "transformers", "forward", 2.5, lambda: _mamba(False)),
    # A step of transformers' model takes minutes at 2,048 tokens: its backward pass grows with their square.
    PeerCase("mamba", "transformers", "training", 4.0, lambda: _mamba(True), tokens=256, rounds=3),
    PeerCase("mamba2", "transformers", "forward", 2.0, lambda: _mamba2(False)),
    PeerCase("mamba2", "transformers", "training", 2.0, lambda: _mamba2(True)),
)


def peers(names: list[str]) -> Iterator[dict[str, Any]]:
    for case in PEERS:
        if case.name not in names:
            continue
        ours, theirs = case.sides()
        taken = compare(
            {"ours": lambda: ours(case.tokens), "peer": lambda: theirs(case.tokens)},  # noqa: B023  # called here
            min_time=0,
            min_rounds=case.rounds,
            warmup=1,
        )
        yield {
            "measure": f"{case.kind} beside {case.peer}, {case.tokens} tokens",
            "layer": case.name,
            "milliseconds": {name: 1e3 * latency.median for name, latency in taken.latencies.items()},
            "value": taken.speedup("ours", "peer"),
            "goal": case.goal,
            "met": taken.speedup("ours", "peer") >= case.goal,
        }


def _forward(layer: Part, tokens: int) -> Callable[[], object]:
    x = torch.randn(1, tokens, DIM)

    def run() -> None:
        with torch.inference_mode():
            layer(x)

    return run


def _build(spec: PartSpec) -> Part:
    torch.manual_seed(0)
    layer: Part = build_part(spec, DIM)
    return layer.eval()


def growth(names: list[str]) -> Iterator[dict[str, Any]]:
    for name in names:
        layer = _build(LAYERS[name])
        taken = compare({str(n): _forward(layer, n) for n in GROWTH}, min_time=0, min_rounds=5, warmup=1)
        per_token = {length: latency.median / int(length) for length, latency in taken.latencies.items()}
        ratio = per_token[str(GROWTH[-1])] / per_token[str(GROWTH[0])]
        yield {
            "measure": f"cost a token at {GROWTH[-1]} tokens over that at {GROWTH[0]}",
            "layer": name,
            "milliseconds": {length: 1e3 * latency.median for length, latency in taken.latencies.items()},
            "value": ratio,
            "goal": GROWTH_GOAL,
            "met": ratio <= GROWTH_GOAL,
        }


def crossing(names: list[str]) -> Iterator[dict[str, Any]]:
    attention = _build(ATTENTION)
    for name in names:
        layer, milliseconds, first = _build(LAYERS[name]), {}, None
        for length in CROSSING:
            sides = {"ours": _forward(layer, length), "attention": _forward(attention, length)}
            taken = compare(sides, min_time=0, min_rounds=5, warmup=1)
            milliseconds |= {f"{side} {length}": 1e3 * each.median for side, each in taken.latencies.items()}
            if taken.speedup("ours", "attention") > 1:
                first = length
                break
        goal = CROSSING_GOALS.get(name, CROSSING_GOAL)
        yield {
            "measure": "tokens from which on it is faster than attention",
            "layer": name,
            "milliseconds": milliseconds,
            "value": first,
            "goal": goal,
            "met": first is not None and first <= goal,
        }


def decoding(names: list[str]) -> Iterator[dict[str, Any]]:
    for name in names:
        layer = _build(LAYERS[name])
        states = {position: _state_at(layer, position) for position in POSITIONS}
        taken = compare({str(p): _step(layer, state, p) for p, state in states.items()}, min_rounds=200, warmup=20)
        sizes = {p: bytes_of(state) for p, state in states.items()}
        late, early = POSITIONS[1], POSITIONS[0]
        ratio = 1 / taken.speedup(str(late), str(early))
        yield {
            "measure": f"step at position {late} over that at {early}, of {sizes[late] / 1e3:.0f} kB over "
            f"{sizes[early] / 1e3:.0f} kB of state",
            "layer": name,
            "milliseconds": {position: 1e3 * latency.median for position, latency in taken.latencies.items()},
            "value": ratio,
            "goal": 1.1,
            "met": ratio <= 1.1 and sizes[late] == sizes[early],
        }


@torch.inference_mode()
def _state_at(layer: Part, position: int) -> dict[str, Tensor]:
    state = layer.init_state(1, position + 1)
    for first in range(0, position, PIECE):
        x = torch.randn(1, min(PIECE, position - first), DIM)
        _, state = layer.stream(x, {**state, "length": torch.tensor([first])})
        state.pop("length", None)
    return state


def _step(layer: Part, state: dict[str, Tensor], position: int) -> Callable[[], object]:
    x, length = torch.randn(1, 1, DIM), torch.tensor([position])

    def run() -> None:
        with torch.inference_mode():
            layer.stream(x, {**state, "length": length})

    return run


MEASURES = {"peers": peers, "growth": growth, "crossing": crossing, "decoding": decoding}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sequences", description=__doc__)
    parser.add_argument("--layers", nargs="+", choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--json", action="store_true", help="one JSON object on the standard output, nothing else")
    options = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    torch.set_num_threads(THREADS)
    rows = []
    for measure in options.measures:
        for row in MEASURES[measure](options.layers):
            rows.append(row)
            if not options.json:
                print(_line(row), flush=True)
    if options.json:
        json.dump({"threads": THREADS, "dim": DIM, "rows": rows}, sys.stdout, indent=2)
    return 0


def _line(row: dict[str, Any]) -> str:
    value = f"{row['value']:.2f}" if isinstance(row["value"], float) else str(row["value"])
    times = ", ".join(f"{name} {each:.2f} ms" for name, each in row["milliseconds"].items())
    verdict = "met" if row["met"] else "not met"
    return f"{row['layer']:<12} {row['measure']}: {value} (goal {row['goal']}, {verdict}); {times}"


if __name__ == "__main__":
    sys.exit(main())
