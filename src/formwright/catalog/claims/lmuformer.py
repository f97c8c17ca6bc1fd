"""Claims of LMUFormer: its size, its authors' outputs, and scores that are good before the word has ended."""

from __future__ import annotations

import dataclasses
import functools
import os
import statistics
from pathlib import Path

import torch

from formwright.batch import Batch
from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.contest import SEEDS, parameters
from formwright.catalog.experiments.sequences import train_sequences
from formwright.catalog.figures import output_claims, parameter_claims
from formwright.data.spoken_digits import BANDS, FRAMES, Sounds, generated_sounds, read_spoken_digits
from formwright.data.synthetic.generated import GeneratedBatches
from formwright.models import create_model, model_specification
from formwright.nn.specification import part
from formwright.objectives import Classification
from formwright.reporting import Reporter, Share

STEPS, BATCH = 150, 32
#: Share of its last accuracy that a model ought to reach before the second is over.
ENOUGH = 0.95
#: What the paper's abstract says may be cut off.
PUBLISHED_SHARE = 1 - 0.3203
PREFIXES = (16, 24, 32, 40, 48, 56, FRAMES)


@functools.cache
def sounds() -> Sounds:
    """Spoken digits where ``FORMWRIGHT_DATA`` has a folder of them, else generated sounds."""
    folder = Path(os.environ.get("FORMWRIGHT_DATA", "")) / "spoken_digits"
    return read_spoken_digits(folder) if "FORMWRIGHT_DATA" in os.environ and folder.is_dir() else generated_sounds()


def prefix_accuracies(seed: int, reporter: Reporter) -> list[float]:
    """Test accuracy after each frame of a model that was trained on whole seconds."""
    data = sounds()
    frames, labels = data.frames[0], data.labels[0]

    def make(generator: torch.Generator) -> Batch:
        rows = torch.randint(len(labels), (BATCH,), generator=generator)
        return Batch(frames[rows], labels[rows])

    streaming = model_specification(
        "lmuformer_streaming", dim=64, depth=2, window=FRAMES, channels=BANDS, length=FRAMES, classes=10
    )
    whole = dataclasses.replace(streaming, head=part("classifier"))
    batches = GeneratedBatches(make, seed=seed)
    trained = train_sequences(
        whole, Classification(), batches, steps=STEPS, seed=seed, learning_rate=2e-3, reporter=reporter
    )
    model = create_model(streaming).eval()
    model.load_state_dict(trained.state_dict())
    with torch.inference_mode():
        answers = model(data.frames[1]).argmax(-1)
    return (answers == data.labels[1][:, None]).float().mean(0).tolist()


def _prefixes(reporter: Reporter) -> ClaimResult:
    runs = [prefix_accuracies(seed, Share(reporter, index, len(SEEDS))) for index, seed in enumerate(SEEDS)]
    needed = [next(t for t, accuracy in enumerate(run, 1) if accuracy >= ENOUGH * run[-1]) for run in runs]
    curve = ", ".join(f"{statistics.mean(run[t - 1] for run in runs):.1%} after {t}" for t in PREFIXES)
    data = sounds()
    size = model_specification(
        "lmuformer_streaming", dim=64, depth=2, window=FRAMES, channels=BANDS, length=FRAMES, classes=10
    )
    return ClaimResult(
        f"95 % of the last accuracy after {', '.join(map(str, needed))} of {FRAMES} frames; {curve}",
        all(frames < FRAMES for frames in needed),
        f"{data.source}, {len(data.labels[0]):,} to train and {len(data.labels[1]):,} to test, {STEPS} steps of "
        f"{BATCH}, {len(SEEDS)} seeds; {parameters(size) / 1e3:.0f} k parameters, causal convolutions",
    )


CLAIMS: list[Claim] = [
    *parameter_claims({"lmuformer": 1_621_796}),
    *output_claims("lmuformer", "zeyuliu1037/LMUFormer"),
    Claim(
        "words-are-known-early",
        "direction",
        "after part of a second the accuracy is at least 95 % of that after all of it",
        published=f"negligible loss with {1 - PUBLISHED_SHARE:.2%} of the sequence cut off (Speech Commands)",
        run=_prefixes,
        slow=True,
    ),
]
