"""``python -m benchmarks.recurrences``: linear-time recurrences beside naive loops and beside softmax attention.

The naive forms of flash-linear-attention are loaded from its source, which is put into ``.venv-fla`` where it is
missing; where it cannot be had, loops over time that are written here stand in for them, and the output says which.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import formwright  # noqa: F401  # before PyTorch: it says how idle threads wait

# isort: split
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.timing import take_turn
from formwright.nn import Part, build_part, part
from formwright.nn.functional.delta_rule import delta_rule
from formwright.nn.functional.gated_linear_attention import gated_linear_attention
from formwright.training.memory import keep_freed_memory

ENVIRONMENT = Path(__file__).parent.parent / ".venv-fla"
PACKAGES = ("fla-core==0.6.0", "einops==0.8.2")
THREADS = 2
WIDTH = 256
TOKENS = 2048
SHORT, LONG = 1024, 65536
CROSSING = (512, 1024, 2048, 4096, 8192)
POSITIONS = (100, 100_000)

#: The layers of width 256, with heads as their authors size them.
LAYERS: dict[str, dict[str, Any]] = {
    "delta_rule": {"head_dim": 128},
    "gated_linear_attention": {"heads": 4},
    "linear_attention": {"heads": 4, "causal": True},
    "legendre_memory": {},
}
ATTENTION = {"heads": 4, "causal": True}

#: What the figures ought to be: times faster than the naive form, growth beyond linear, first length where faster.
GOALS = {"naive": 20.0, "growth": 1.2, "crossing": 4096.0, "step": 1.1}


@dataclass(frozen=True)
class Row:
    """One comparison: ``value`` is what the goal is about, ``details`` what it was computed from."""

    kind: str
    name: str
    value: float
    met: bool
    details: str


def naive_delta_rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    """A loop over time, ``(batch, time, heads, channels)``."""
    state = q.new_zeros(q.shape[0], q.shape[2], q.shape[3], v.shape[3])
    outputs = []
    for t in range(q.shape[1]):
        key = k[:, t].unsqueeze(-1)
        written = (v[:, t] - (state * key).sum(-2)) * beta[:, t].unsqueeze(-1)
        state = state + key * written.unsqueeze(-2)
        outputs.append((q[:, t].unsqueeze(-1) * state).sum(-2))
    return torch.stack(outputs, dim=1)


def naive_gated_linear_attention(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor) -> Tensor:
    """A loop over time, ``(batch, time, heads, channels)``."""
    state = q.new_zeros(q.shape[0], q.shape[2], q.shape[3], v.shape[3])
    outputs = []
    for t in range(q.shape[1]):
        state = state * log_decay[:, t].exp().unsqueeze(-1) + k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)
        outputs.append((q[:, t].unsqueeze(-1) * state).sum(-2))
    return torch.stack(outputs, dim=1)


def naive_forms() -> tuple[str, Callable[..., Tensor], Callable[..., Tensor]]:
    """Whose naive forms they are, and the two of them; each takes what ours take."""
    folder = _flash_linear_attention()
    if folder is None:
        return "our own loops", naive_delta_rule, naive_gated_linear_attention
    delta = _load(folder / "fla/ops/delta_rule/naive.py").delta_rule_recurrence
    gated = _load(folder / "fla/ops/gla/naive.py").naive_recurrent_gla

    # Both scale the queries, which ours leaves to the caller; the delta rule wants heads before time.
    def naive_delta(q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
        operands = (q * q.shape[-1] ** 0.5, k, v, beta)
        return delta(*(x.transpose(1, 2) for x in operands))[0].transpose(1, 2)

    def naive_gated(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor) -> Tensor:
        return gated(q * q.shape[-1] ** 0.5, k, v, log_decay)[0]

    return "flash-linear-attention", naive_delta, naive_gated


def _flash_linear_attention() -> Path | None:
    """The folder of its source, without what that depends on: the package wants a GPU as soon as it is imported."""
    if not (ENVIRONMENT / "ready").is_file():
        print(f"Installing flash-linear-attention in {ENVIRONMENT} (once) ...", file=sys.stderr)
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(ENVIRONMENT)]
        if subprocess.run([*install, *PACKAGES], check=False).returncode:
            return None
        (ENVIRONMENT / "ready").touch()
    if str(ENVIRONMENT) not in sys.path:
        sys.path.append(str(ENVIRONMENT))  # einops, which the naive forms are written with
    return ENVIRONMENT


def _load(path: Path) -> Any:
    specification = importlib.util.spec_from_file_location(f"fla_{path.parent.name}", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def interleaved(sides: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """The median seconds of each side over turns that take each other's place."""
    turns: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for seconds, side in zip(turns, sides, strict=True):
            seconds.append(take_turn(side))
    return [statistics.median(seconds) for seconds in turns]


def naive_rows(rounds: int, *, training: bool) -> list[Row]:
    whose, naive_delta, naive_gated = naive_forms()
    heads, width = 2, WIDTH // 2
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    q, k = (F.normalize(normal(1, TOKENS, heads, width), dim=-1) for _ in range(2))
    delta = (q, k, normal(1, TOKENS, heads, width), normal(1, TOKENS, heads).sigmoid())
    keys = (1, TOKENS, 4, WIDTH // 8)
    gates = F.logsigmoid(normal(*keys)) / 16
    gated = (normal(*keys), normal(*keys), normal(1, TOKENS, 4, WIDTH // 4), gates)
    cases = [
        ("delta rule", delta, lambda *x: delta_rule(*x)[0], naive_delta),
        ("gated linear attention", gated, lambda *x: gated_linear_attention(*x)[0], naive_gated),
        ("strongly gated", (*gated[:3], 64 * gates), lambda *x: gated_linear_attention(*x)[0], naive_gated),
    ]
    rows = []
    for name, operands, ours, naive in cases:
        few = [x[:, :100] for x in operands]
        torch.testing.assert_close(ours(*few), naive(*few), rtol=1e-3, atol=1e-3)
        sides = [functools.partial(_work, each, operands, training) for each in (ours, naive)]
        fast, slow = interleaved(sides, 1 if training else rounds)
        kind = "forward and backward" if training else "forward"
        rows.append(
            Row(
                f"naive, {kind}",
                name,
                slow / fast,
                slow / fast >= GOALS["naive"],
                f"{fast * 1e3:.1f} ms, {whose} {slow * 1e3:.0f} ms, {TOKENS} tokens, "
                f"{operands[0].shape[2]} heads of {operands[0].shape[3]} and {operands[2].shape[3]}",
            )
        )
    return rows


def _work(form: Callable[..., Tensor], operands: Sequence[Tensor], training: bool) -> None:
    if not training:
        with torch.no_grad():
            form(*operands)
        return
    learned = [x.detach().requires_grad_() for x in operands]
    form(*learned).sum().backward()


def _layer(name: str, options: dict[str, Any]) -> Part:
    torch.manual_seed(0)
    layer: Part = build_part(part(name, **options), WIDTH)
    return layer.eval()


def _run(layer: Part, x: Tensor) -> None:
    with torch.inference_mode():
        layer(x)


def growth_rows(rounds: int) -> list[Row]:
    rows = []
    for name, options in LAYERS.items():
        layer = _layer(name, options)
        sides = [functools.partial(_run, layer, torch.randn(1, time, WIDTH)) for time in (SHORT, LONG)]
        short, long = interleaved(sides, rounds)
        ratio = long / short / (LONG / SHORT)
        details = f"{short * 1e3:.2f} ms for {SHORT}, {long * 1e3:.0f} ms for {LONG} tokens"
        rows.append(Row("growth", name, ratio, ratio <= GOALS["growth"], details))
    return rows


def crossing_rows(rounds: int) -> list[Row]:
    attention = _layer("attention", ATTENTION)
    rows = []
    for name, options in LAYERS.items():
        layer = _layer(name, options)
        first, seen = float("inf"), []
        for time in CROSSING:
            x = torch.randn(1, time, WIDTH)
            ours, softmax = interleaved([functools.partial(_run, each, x) for each in (layer, attention)], rounds)
            seen.append(f"{time}: {ours * 1e3:.1f} against {softmax * 1e3:.1f} ms")
            first = min(first, time) if ours <= softmax else float("inf")
        rows.append(Row("crossing", name, first, first <= GOALS["crossing"], ", ".join(seen)))
    return rows


def step_rows(rounds: int) -> list[Row]:
    rows = []
    for name, options in LAYERS.items():
        layer = _layer(name, options)
        sides, sizes = [], []
        for position in POSITIONS:
            with torch.inference_mode():
                state = layer.init_state(1, position + 1)
                start = {**state, "length": torch.zeros(1, dtype=torch.int64)}
                _, state = layer.stream(torch.randn(1, position, WIDTH), start)
            state = {**state, "length": torch.full((1,), position)}
            sizes.append(sum(tensor.nbytes for tensor in state.values()))
            sides.append(functools.partial(_step, layer, torch.randn(1, 1, WIDTH), state))
        early, late = interleaved(sides, rounds)
        details = f"{early * 1e6:.0f} us at {POSITIONS[0]}, {late * 1e6:.0f} us at {POSITIONS[1]}; "
        details += f"states of {sizes[0]} and {sizes[1]} bytes"
        met = late / early <= GOALS["step"] and sizes[0] == sizes[1]
        rows.append(Row("step", name, late / early, met, details))
    return rows


def _step(layer: Part, x: Tensor, state: dict[str, Tensor]) -> None:
    with torch.inference_mode():
        layer.stream(x, state)


KINDS: dict[str, Callable[[int], list[Row]]] = {
    "naive": functools.partial(naive_rows, training=False),
    "naive-training": functools.partial(naive_rows, training=True),
    "growth": growth_rows,
    "crossing": crossing_rows,
    "step": step_rows,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recurrences", description=__doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON array on the standard output, nothing else")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    keep_freed_memory()  # as the training loop does; both sides run in this process
    rows = []
    for kind in options.kinds:
        for row in KINDS[kind](options.rounds):
            rows.append(row)
            if not options.json:
                met = "met" if row.met else "not met"
                print(f"{row.kind:<28} {row.name:<24} {row.value:>8.2f} {met:<8} {row.details}", flush=True)
    if options.json:
        json.dump([dataclasses.asdict(row) for row in rows], sys.stdout, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
