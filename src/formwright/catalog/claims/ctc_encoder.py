"""Claims of the speech recogniser: padding and streaming change nothing, and it transcribes digits said in a row."""

from __future__ import annotations

import statistics

import torch
from torch import Tensor

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.claims.lmuformer import sounds
from formwright.catalog.experiments.contest import SEEDS
from formwright.data.joined_sounds import joined_sounds
from formwright.data.synthetic.generated import GeneratedBatches
from formwright.metrics.transcription import character_error_rate, majority_transcript
from formwright.models import create_model
from formwright.models.chain import Chain
from formwright.nn.functional.best_path import best_path
from formwright.objectives import Transcription
from formwright.reporting import Reporter, Share
from formwright.training import Progress, Recipe, Trainer

STEPS, BATCH, MOST, TEST_ROWS = 1_200, 16, 4, 200
LENGTHS, PIECES = (61, 40, 7), (1, 0, 9, 30, 21)
TOLERANCE = 1e-9
#: Character error below which digits in a row count as understood.
UNDERSTOOD = 0.1


def _recogniser(lookahead: bool) -> Chain:
    """A recogniser in float64 that streams, with convolutions that look ahead or not."""
    torch.manual_seed(0)
    model = create_model("ctc_encoder_small_streaming", dim=32, lookahead=lookahead)
    assert isinstance(model, Chain)
    return model.double().eval()


def _padded_equals_alone(reporter: Reporter) -> ClaimResult:
    model, lengths = _recogniser(lookahead=True), torch.tensor(LENGTHS)
    x = torch.randn(len(LENGTHS), max(LENGTHS), 40, dtype=torch.float64)
    with torch.inference_mode():
        together = model(x, lengths=lengths)
        worst = 0.0
        for row, length in enumerate(LENGTHS):
            alone = model(x[row : row + 1, :length], lengths=lengths[row : row + 1])[0]
            worst = max(worst, float((together[row, : len(alone)] - alone).abs().max()))
    what = f"rows of {', '.join(map(str, LENGTHS))} frames, float64"
    return ClaimResult(f"largest difference {worst:.1e}", worst < TOLERANCE, what)


def streamed(model: Chain, x: Tensor, pieces: list[int]) -> Tensor:
    """The scores of rows of equal length that come in piece by piece."""
    state, scores = model.init_state(len(x), x.shape[1]), []
    for piece in torch.split(x, pieces, dim=1):
        if piece.shape[1]:
            answer, state = model.stream(piece, state)
            scores.append(answer)
    return torch.cat([*scores, model.finish(state)[0]], dim=1)


def _stream_equals_whole(reporter: Reporter) -> ClaimResult:
    worst = 0.0
    for lookahead in (False, True):
        model = _recogniser(lookahead)
        x = torch.randn(2, sum(PIECES), 40, dtype=torch.float64)
        with torch.inference_mode():
            whole = model(x, lengths=torch.full((2,), sum(PIECES)))
            worst = max(worst, float((streamed(model, x, list(PIECES)) - whole).abs().max()))
    what = f"pieces of {', '.join(map(str, PIECES))} frames, with convolutions that look ahead and without, float64"
    return ClaimResult(f"largest difference {worst:.1e}", worst < TOLERANCE, what)


def _error(seed: int, reporter: Reporter) -> tuple[float, float]:
    """Character error of a trained recogniser, and of the best answer without listening, on rows of unheard digits."""
    data = sounds()
    (heard, unheard), (labels, others) = data.frames, data.labels
    batches = GeneratedBatches(lambda chance: joined_sounds(heard, labels, chance, count=BATCH, most=MOST), seed=seed)
    torch.manual_seed(seed)
    model = create_model("ctc_encoder_small_streaming")
    recipe = Recipe(batch_size=BATCH, learning_rate=3e-3, warmup=20)
    trainer = Trainer(model, Transcription(), batches, recipe, seed=seed)
    trainer.finish_at(STEPS)

    def tell(progress: Progress) -> None:
        reporter.progress(progress.step / STEPS, f"seed {seed}")

    trainer.train(steps=STEPS, on_step=tell)
    trained = trainer.averaged_model().eval()
    assert isinstance(trained, Chain)
    test = joined_sounds(unheard, others, torch.Generator().manual_seed(seed), count=TEST_ROWS, most=MOST)
    with torch.inference_mode():
        found = best_path(trained(**test.inputs), trained.answers(test.inputs["lengths"]))
    wanted = _transcripts(test.targets)
    majority = majority_transcript(_transcripts(joined_sounds(heard, labels, torch.Generator(), count=500).targets))
    return character_error_rate(found, wanted), character_error_rate([majority] * len(wanted), wanted)


def _transcripts(targets: dict[str, Tensor]) -> list[list[int]]:
    pairs = zip(targets["labels"].tolist(), targets["lengths"].tolist(), strict=True)
    return [labels[:count] for labels, count in pairs]


def _joined_digits(reporter: Reporter) -> ClaimResult:
    errors = [_error(seed, Share(reporter, index, len(SEEDS))) for index, seed in enumerate(SEEDS)]
    own, majority = ([each[place] for each in errors] for place in (0, 1))
    return ClaimResult(
        f"{statistics.mean(own):.1%} character error ({min(own):.1%} to {max(own):.1%}); a majority answer "
        f"{statistics.mean(majority):.1%}",
        max(own) < UNDERSTOOD,
        f"{TEST_ROWS} rows of 1 to {MOST} of {len(sounds().labels[1])} unheard recordings ({sounds().source}), "
        f"{len(SEEDS)} seeds, {STEPS:,} steps of {BATCH}",
    )


CLAIMS: list[Claim] = [
    Claim(
        id="padded-equals-alone",
        kind="equality",
        statement="rows of different lengths in one batch give what each gives alone",
        published="the same",
        run=_padded_equals_alone,
    ),
    Claim(
        id="stream-equals-whole",
        kind="equality",
        statement="frames that come in piece by piece give what the whole gives",
        published="the same",
        run=_stream_equals_whole,
    ),
    Claim(
        id="joined-digits",
        kind="direction",
        statement=f"it transcribes 1 to {MOST} spoken digits in a row with less than {UNDERSTOOD:.0%} character error",
        published=f"below {UNDERSTOOD:.0%}",
        run=_joined_digits,
        slow=True,
    ),
]
