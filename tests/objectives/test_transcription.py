"""CTC: the loss is PyTorch's and a sum over ways, the decoding joins what repeats, and a recogniser learns."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from formwright.batch import Batch
from formwright.data.joined_sounds import joined_sounds, transcription_batch
from formwright.data.spoken_digits import generated_sounds
from formwright.data.synthetic.generated import GeneratedBatches
from formwright.errors import UserError
from formwright.metrics.transcription import character_error_rate, edits, majority_transcript
from formwright.models import create_model
from formwright.nn.functional.best_path import Transcript, best_path
from formwright.objectives import Transcription, means
from formwright.training import Recipe, Trainer


class _Said(nn.Module):
    """Gives the scores that it is given, a token per frame."""

    def forward(self, input: Tensor, lengths: Tensor) -> Tensor:
        return input

    def answers(self, lengths: Tensor) -> Tensor:
        return lengths


def batch(scores: Tensor, lengths: list[int], transcripts: list[list[int]]) -> Batch:
    made = transcription_batch([row[:n] for row, n in zip(scores, lengths, strict=True)], transcripts)
    return Batch({**made.inputs, "input": scores}, made.targets)


def test_the_loss_is_the_sum_over_all_ways_of_saying_it() -> None:
    torch.manual_seed(0)
    scores = torch.randn(2, 4, 3)
    transcripts, lengths = [[1, 2], [2, 2]], [4, 3]
    expected = 0.0
    for row, (transcript, length) in enumerate(zip(transcripts, lengths, strict=True)):
        shares = scores[row].softmax(-1)
        ways = [w for w in itertools.product(range(3), repeat=length) if Transcript().extend(list(w)) == transcript]
        expected -= math.log(sum(math.prod(float(shares[t, k]) for t, k in enumerate(way)) for way in ways))
    outcome = Transcription()(_Said(), batch(scores, lengths, transcripts), 0.0)
    assert float(outcome.loss) == pytest.approx(expected / 4, rel=1e-5)
    assert outcome.counts["loss"] == 4


def test_padding_behind_a_row_does_not_matter() -> None:
    torch.manual_seed(0)
    scores = torch.randn(2, 6, 3)
    alone = float(Transcription()(_Said(), batch(scores[:1, :3], [3], [[1]]), 0.0).loss)
    outcome = Transcription()(_Said(), batch(scores, [3, 6], [[1], [2, 1]]), 0.0)
    other = float(Transcription()(_Said(), batch(scores[1:], [6], [[2, 1]]), 0.0).loss)
    assert float(outcome.loss) == pytest.approx((alone + 2 * other) / 3, rel=1e-5)


def test_best_paths_join_what_repeats_and_drop_blanks() -> None:
    classes = torch.tensor([[0, 1, 1, 0, 1, 2, 2, 0], [3, 3, 0, 0, 0, 0, 0, 1]])
    scores = nn.functional.one_hot(classes, 4).float()
    assert best_path(scores, torch.tensor([8, 4])) == [[1, 1, 2], [3]]
    transcript = Transcript()
    for piece in classes[0].split([2, 1, 5]):
        transcript.extend(piece.tolist())
    assert transcript.labels == [1, 1, 2]


def test_character_errors() -> None:
    assert edits([[1, 2, 3], [], [5]], [[1, 3], [4], [5]]) == 2
    assert character_error_rate([[1, 2, 3], []], [[1, 3], [4, 4]]) == pytest.approx(3 / 4)
    assert majority_transcript([[1, 2], [2, 2, 3], [2]]) == [2, 2]
    with pytest.raises(UserError, match="without any label"):
        character_error_rate([[]], [[]])


@pytest.mark.parametrize(
    ("transcripts", "said"),
    [
        ([[1, 2, 1, 2], [1]], "Row 0 has 4 labels, which take 4 tokens, and its input gives 3"),
        (
            [[1], [2, 2, 2, 2]],
            "Row 1 has 4 labels, which take 4 tokens and 3 between equal ones, and its input gives 5",
        ),
        ([[0], [1]], "other than the blank, 0; got labels from 0 to 1"),
        ([[1], [7]], "classes from 0 to 2 other than the blank, 0; got labels from 1 to 7"),
    ],
)
def test_impossible_transcripts_are_refused(transcripts: list[list[int]], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Transcription()(_Said(), batch(torch.randn(2, 5, 3), [3, 5], transcripts), 0.0)


def test_what_is_no_transcript_is_refused() -> None:
    inputs = {"input": torch.randn(1, 5, 3), "lengths": torch.tensor([5])}
    with pytest.raises(UserError, match="as labels and lengths, by these names; got Tensor"):
        Transcription()(_Said(), Batch(inputs, torch.tensor([1])), 0.0)
    targets = {"labels": torch.ones(1, 2, dtype=torch.int64), "lengths": torch.tensor([3])}
    with pytest.raises(UserError, match="from 0 to 2 labels"):
        Transcription()(_Said(), Batch(inputs, targets), 0.0)
    with pytest.raises(UserError, match="got 1 rows and 2 transcripts"):
        transcription_batch([torch.randn(3, 2)], [[1], [2]])
    with pytest.raises(UserError, match="20 frames to cut"):
        joined_sounds(torch.randn(3, 40, 2), torch.arange(3), torch.Generator(), cut=20)


def test_a_recogniser_learns_to_transcribe_sounds_in_a_row() -> None:
    data = generated_sounds(600, classes=3)
    (heard, unheard), (labels, others) = data.frames, data.labels
    batches = GeneratedBatches(lambda chance: joined_sounds(heard, labels, chance, count=16, most=2))
    torch.manual_seed(0)
    model = create_model("ctc_encoder_small_streaming", dim=32, depth=1, classes=4)
    trainer = Trainer(model, Transcription(), batches, Recipe(batch_size=16, learning_rate=5e-3, warmup=10), seed=0)
    trainer.finish_at(220)
    trainer.train(steps=220)
    trained = trainer.averaged_model().eval()
    test = joined_sounds(unheard, others, torch.Generator().manual_seed(1), count=50, most=3)
    with torch.inference_mode():
        error = means([Transcription().eval()(trained, test, 1.0)])["character_error"]
    wanted = [row[:n] for row, n in zip(test.targets["labels"].tolist(), test.targets["lengths"].tolist(), strict=True)]
    majority = character_error_rate([majority_transcript(wanted)] * len(wanted), wanted)
    assert error < 0.6 * majority, f"character error {error:.1%}, a majority answer {majority:.1%}"
