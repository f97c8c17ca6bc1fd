"""What is trained on comes before what is judged by, and windows are drawn alike under a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from formwright.data.synthetic.series import KINDS, synthetic_series
from formwright.errors import UnknownNameError, UserError
from formwright.studies.scaling.corpus import Corpus, CorpusBatches, read_corpus, synthetic_corpus


def write(path: Path, rows: int, offset: float = 0.0) -> Path:
    lines = [f"2020-01-{1 + row % 28:02d},{row + offset},{-row}" for row in range(rows)]
    path.write_text("\n".join(["date,a,b", *lines]) + "\n")
    return path


def test_nothing_that_is_judged_by_is_trained_on(tmp_path: Path) -> None:
    corpus = read_corpus([write(tmp_path / "one.csv", 400)], [write(tmp_path / "two.csv", 300, 1e6)], length=64)
    assert [len(series) for series in corpus.train] == [280, 280]
    assert list(corpus.evaluations) == ["one (in distribution)", "two (out of distribution)"]
    inside, outside = corpus.evaluations.values()
    assert np.abs(inside).min() >= 280 > np.abs(np.concatenate(corpus.train)).max()
    assert np.abs(inside).max() == 399
    assert inside.shape[1] == outside.shape[1] == 64
    assert outside.max() == 1e6 + 299


def test_fewer_points_are_whole_series_and_the_rest_of_one() -> None:
    corpus = Corpus("", (np.zeros(10), np.ones(10), np.ones(10)), {})
    assert [len(series) for series in corpus.limited_to(14).train] == [10, 4]
    assert corpus.limited_to(100).points == corpus.points == 30
    with pytest.raises(UserError, match="At least one point"):
        corpus.limited_to(0)


def test_batches_depend_on_the_seed_and_the_step_alone() -> None:
    corpus = Corpus("", (np.arange(100.0), 1000 + np.arange(20.0)), {})
    batches = CorpusBatches(corpus, length=32, batch_size=50, seed=3)
    first, second = next(batches).inputs, next(batches).inputs
    assert not torch.equal(first.nan_to_num(), second.nan_to_num())
    again = CorpusBatches(corpus, length=32, batch_size=50, seed=3)
    again.load_state_dict({"seed": 3, "batch_size": 50, "step": 1})
    assert torch.equal(next(again).inputs.nan_to_num(), second.nan_to_num())
    short = first[first[:, -1] >= 1000]  # padded in front
    assert short[:, :12].isnan().all()
    assert short[:, 12:].isfinite().all()
    assert 0 < len(short) < 25
    with pytest.raises(UserError, match="another seed"):
        again.load_state_dict({"seed": 4, "batch_size": 50, "step": 1})


@pytest.mark.parametrize("kind", KINDS)
def test_series_of_a_kind_are_drawn_alike_under_a_seed(kind: str) -> None:
    series = synthetic_series(20, 96, kind=kind, seed=1)
    assert series.shape == (20, 96)
    assert np.isfinite(series).all()
    assert np.array_equal(series, synthetic_series(20, 96, kind=kind, seed=1))
    assert not np.array_equal(series, synthetic_series(20, 96, kind=kind, seed=2))
    assert series.std(1).min() > 0


def test_the_two_kinds_are_not_alike() -> None:
    """The steepest step of a wave is a larger part of its spread than that of a sum of sines."""
    steepest = {
        kind: np.median(np.abs(np.diff(x)).max(1) / x.std(1))
        for kind in KINDS
        for x in [synthetic_series(200, 256, kind=kind)]
    }
    assert steepest["waves"] > 1.3 * steepest["seasonal"]
    corpus = synthetic_corpus(50, 128)
    assert {len(windows) for windows in corpus.evaluations.values()} == {512}


def test_what_cannot_be_read_or_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no file"):
        read_corpus([tmp_path / "none.csv"])
    with pytest.raises(UserError, match="have to hold a window of 64"):
        read_corpus([write(tmp_path / "short.csv", 100)], length=64)
    (tmp_path / "words.csv").write_text("a\nx\ny\n")
    with pytest.raises(UserError, match="no column of numbers"):
        read_corpus([tmp_path / "words.csv"])
    with pytest.raises(UserError, match="At least one CSV"):
        read_corpus([])
    with pytest.raises(UnknownNameError):
        synthetic_series(3, 10, kind="sines")
    with pytest.raises(UserError, match="two steps"):
        synthetic_series(3, 1)
