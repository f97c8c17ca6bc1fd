"""Foundation models of series: the authors' outputs, and what packing, causality and statistics mean."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from formwright.catalog.reference import reference_state, reference_variants
from formwright.errors import UserError
from formwright.models import empty_copy, from_pretrained, load_checkpoint
from formwright.models.series.foundation import SIZES, FoundationModel, FoundationSpec, decoder
from formwright.nn.packed_series import Patches, cut_into_patches, series_statistics

#: Encoder sizes of the authors' table that are exact there.
CORE = {"1k": 872, "10k": 7_032, "100k": 100_928, "300k": 302_656, "1m": 1_771_712, "3m": 4_747_264}


def test_weights_of_another_size_are_refused() -> None:
    state = reference_state(reference_variants("tsfm-scaling-laws")["series_encoder_1k"]["layout"])
    with pytest.raises(UserError, match="another model"):
        load_checkpoint(FoundationModel(SIZES["100k"]), state)


@pytest.mark.parametrize(("name", "count"), CORE.items())
def test_sizes_are_those_of_the_authors(name: str, count: int) -> None:
    assert empty_copy(SIZES[name]).core_parameters() == count


def small(*, causal: bool, seed: int = 0) -> FoundationModel:
    torch.manual_seed(seed)
    config = FoundationSpec(dim=16, depth=2, heads=2, patch=8)
    return FoundationModel(decoder(config) if causal else config).double().eval()


@pytest.mark.parametrize("causal", [False, True])
def test_packed_series_give_what_they_give_alone(causal: bool) -> None:
    model = small(causal=causal)
    one, two = torch.randn(1, 40).double(), 3 + 5 * torch.randn(1, 24).double()
    alone = [model.distribution(cut_into_patches(series, 8, forecast=1)) for series in (one, two)]
    a, b = (cut_into_patches(series, 8, forecast=1) for series in (one, two))
    packed = model.distribution(
        Patches(
            torch.cat([a.values, b.values, torch.zeros(1, 2, 8).double()], dim=1),
            torch.cat([a.observed, b.observed, torch.zeros(1, 2, 8, dtype=torch.bool)], dim=1),
            torch.cat([a.predicted, b.predicted, torch.zeros(1, 2, dtype=torch.bool)], dim=1),
            torch.tensor([[1] * 5 + [2] * 3 + [0] * 2]),
            torch.tensor([[*range(5), *range(3), 0, 1]]),
        )
    )
    torch.testing.assert_close(packed.mean[:, :5], alone[0].mean, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(packed.mean[:, 5:8], alone[1].mean, rtol=1e-10, atol=1e-10)


def test_no_answer_of_a_decoder_knows_later_patches() -> None:
    model = small(causal=True)
    series = torch.randn(2, 64).double()
    changed = series.clone()
    changed[:, 40:] = 100 + 7 * changed[:, 40:]
    before, after = (model.distribution(cut_into_patches(x, 8)).mean for x in (series, changed))
    torch.testing.assert_close(before[:, :5], after[:, :5], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_an_encoder_is_not_shown_what_it_has_to_tell() -> None:
    model = small(causal=False)
    series = torch.randn(2, 64).double()
    changed = series.clone()
    changed[:, -16:] += 50
    before, after = (model.distribution(cut_into_patches(x, 8, forecast=2)).mean for x in (series, changed))
    torch.testing.assert_close(before, after, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_answers_move_with_the_unit_of_the_series(causal: bool) -> None:
    model = small(causal=causal)
    series = 100 * torch.randn(2, 64).double()
    one = model.forecast(series, 12)
    other = model.forecast(-30 + 4 * series, 12)
    assert one.shape == (2, 12)
    torch.testing.assert_close(other, -30 + 4 * one, rtol=1e-4, atol=1e-3)  # the epsilon keeps its unit


def test_statistics_are_those_of_what_was_seen() -> None:
    model = small(causal=False)
    series = torch.full((2, 32), torch.nan).double()
    series[0, :24] = torch.randn(24).double() * 3 + 5
    series[1] = 7.0  # constant
    patches = cut_into_patches(series, 8, forecast=1)
    location, scale = series_statistics(patches, past=False)
    assert float(location[0, 0]) == pytest.approx(float(series[0, :24].mean()))
    assert float(scale[0, 0]) == pytest.approx(float((series[0, :24].var() + 1e-5).sqrt()))
    assert float(scale[1, 0]) == pytest.approx(1e-5**0.5)
    assert torch.isfinite(model.distribution(patches).mean).all()


@torch.no_grad()
def test_log_probabilities_are_those_of_torch_and_samples_have_the_mean() -> None:
    from torch.distributions import Categorical, MixtureSameFamily, StudentT

    mixture = small(causal=False).distribution(cut_into_patches(torch.randn(1, 32).double(), 8, forecast=1))
    centre = mixture.centre * mixture.scale[..., None] + mixture.location[..., None]
    width = mixture.width * mixture.scale[..., None]
    expected = MixtureSameFamily(Categorical(logits=mixture.logits), StudentT(mixture.freedom, centre, width))
    y = torch.randn(1, 4, 8).double()
    torch.testing.assert_close(mixture.log_probability(y), expected.log_prob(y))
    torch.testing.assert_close(mixture.mean, expected.mean)
    draws = mixture.sample(4_000, torch.Generator().manual_seed(0))
    error = (draws.median(0).values - mixture.mean).abs() / mixture.scale
    assert float(error.max()) < 0.5
    assert torch.equal(draws, mixture.sample(4_000, torch.Generator().manual_seed(0)))


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = small(causal=True).float()
    model.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    assert again.specification == model.specification
    series = torch.randn(1, 32)
    assert torch.equal(again.forecast(series, 8), model.forecast(series, 8))
    (tmp_path / "config.json").write_text('{"foundation": {"dim": 3, "depth": 1}}')
    with pytest.raises(UserError, match="heads of a multiple of 4"):
        from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"foundation": {"wide": 3}}')
    with pytest.raises(UserError, match="specification cannot be read"):
        from_pretrained(tmp_path)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="heads of a multiple of 4"):
        FoundationSpec(dim=10, depth=1)
    with pytest.raises(UserError, match="at least one is to be seen"):
        cut_into_patches(torch.zeros(1, 32), 8, forecast=4)
    with pytest.raises(UserError, match=r"\(batch, places, 8\)"):
        small(causal=False).distribution(cut_into_patches(torch.zeros(1, 32).double(), 16))
