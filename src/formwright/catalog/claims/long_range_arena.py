"""Claims of the Long Range Arena: sizes of its frame, outputs of its mixers, and what they learn and cost here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.contest import Contest
from formwright.catalog.experiments.mixers import linformer_state, mixer_claims, transformers_state
from formwright.data.images import read_images
from formwright.data.synthetic.listops import listops
from formwright.data.synthetic.pixels import pixel_sequences
from formwright.measurement.budget import format_bytes
from formwright.models import empty_copy, model_specification
from formwright.models.language.long_range_arena import long_range_arena
from formwright.nn.specification import NetworkSpec, part
from formwright.reporting import Reporter
from formwright.studies.arena.contest import train_and_score
from formwright.studies.arena.run import measure_speed
from formwright.studies.arena.tasks import Parts

#: By hand from the authors' configurations: no biases in attention; the sine table is no parameter there.
PARAMETERS = {
    "lra_listops": 8_948_746,
    "lra_text": 3_486_722,
    "lra_retrieval": 1_218_818,
    "lra_image": 248_458,
    "lra_pathfinder": 26_530,
}
DIGITS_STEPS, DIGITS_LEAST = 1000, 0.3
DIGITS_MIXERS = ("full", "local", "linformer", "linear", "performer", "cosformer")
LISTOPS_STEPS, LISTOPS_ABOVE = 600, 0.05
LONG = 4096
LINEAR = ("local", "linear", "performer", "linformer")


def _parameters(name: str, expected: int, reporter: Reporter) -> ClaimResult:
    count = empty_copy(model_specification(name)).parameter_count(trainable=True)
    return ClaimResult(f"{count:,}", count == expected)


@functools.cache
def _digits() -> Parts:
    data = read_images(None)
    return Parts(pixel_sequences(data, "train"), pixel_sequences(data, "test"))


@functools.cache
def _listops() -> Parts:
    data = listops(9000, min_length=10, max_length=60, max_depth=4, max_arguments=5)
    return Parts(data.first(8000), data.last(1000))


#: Blocks that are smaller than the short sequences here.
SHORT_BLOCKS = {"local": part("local_attention", block=16), "bigbird": part("bigbird_attention", block=8)}


def _frame(mixer: str, **sizes: Any) -> NetworkSpec:
    return long_range_arena(mixer=SHORT_BLOCKS.get(mixer, mixer), depth=2, heads=4, classes=10, **sizes)


_digits_frame = functools.partial(_frame, dim=32, hidden=64, vocabulary=256, length=64, padding=None)
_listops_frame = functools.partial(_frame, dim=64, hidden=128, vocabulary=16, length=60)


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _accuracy(
    parts: Callable[[], Parts],
    steps: int,
    learning_rate: float,
    specification: NetworkSpec,
    seed: int,
    reporter: Reporter,
) -> float:
    return train_and_score(
        specification, parts(), steps=steps, seed=seed, learning_rate=learning_rate, batch_size=32, reporter=reporter
    ).accuracy


DIGITS = Contest(
    {mixer: functools.partial(_digits_frame, mixer) for mixer in DIGITS_MIXERS},
    functools.partial(_accuracy, _digits, DIGITS_STEPS, 5e-3),
    f"scikit-learn's digits as 64 grey ids, {DIGITS_STEPS} steps of 32",
    _percent,
)
SHORT_LISTOPS = Contest(
    {mixer: functools.partial(_listops_frame, mixer) for mixer in ("full", "linear", "performer", "bigbird")},
    functools.partial(_accuracy, _listops, LISTOPS_STEPS, 2e-3),
    f"ListOps of 10 to 60 tokens and 4 levels, {LISTOPS_STEPS} steps of 32",
    _percent,
)


def _speed(reporter: Reporter) -> ClaimResult:
    speeds = {mixer: measure_speed(mixer, LONG) for mixer in ("full", *LINEAR)}
    full = speeds["full"].steps_per_second
    told = []
    for mixer, speed in speeds.items():
        assert speed.steps_per_second is not None
        memory = "" if speed.peak_memory is None else f", {format_bytes(speed.peak_memory)}"
        told.append(f"{mixer} {speed.steps_per_second:.3g} steps a second{memory}")
    assert full is not None
    faster = [(speeds[mixer].steps_per_second or 0) > full for mixer in LINEAR]
    return ClaimResult("; ".join(told), all(faster), "forward and backward, one row, 64 channels, 2 layers")


def _above_majority(accuracy: Mapping[str, float]) -> bool:
    return accuracy["full"] >= _listops().test.majority() + LISTOPS_ABOVE


CLAIMS: list[Claim] = [
    *[
        Claim(
            f"parameters:{name}",
            "count",
            f"trained parameters of {name} with full attention",
            f"{count:,}",
            functools.partial(_parameters, name, count),
        )
        for name, count in PARAMETERS.items()
    ],
    *mixer_claims(
        "long-range-arena",
        {
            "longformer_attention": "transformers' Longformer",
            "bigbird_attention": "transformers' BigBird with the same random blocks",
            "lsh_attention": "transformers' Reformer with the same rotations",
            "linformer_attention": "the package linformer",
        },
        {
            "longformer_attention": transformers_state,
            "bigbird_attention": transformers_state,
            "lsh_attention": transformers_state,
            "linformer_attention": linformer_state,
        },
    ),
    DIGITS.claim(
        "mixers-learn-digits",
        f"{', '.join(DIGITS_MIXERS)} each read more than {DIGITS_LEAST:.0%} of the digits pixel by pixel "
        "(a tenth by chance)",
        holds=lambda accuracy: min(accuracy.values()) > DIGITS_LEAST,
    ),
    SHORT_LISTOPS.claim(
        "listops-above-chance",
        f"full attention is at least {LISTOPS_ABOVE:.0%} above the most frequent class on short ListOps",
        holds=_above_majority,
    ),
    Claim(
        "faster-than-full-at-4096",
        "measured",
        f"{', '.join(LINEAR)} train faster than full attention at {LONG:,} tokens",
        "1.1 to 5.7 times faster at 4,096 tokens (TPU)",
        _speed,
    ),
]
