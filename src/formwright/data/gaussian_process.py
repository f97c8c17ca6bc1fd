"""Gaussian processes over time and wavelength, many objects at once: irregular light curves on a regular grid."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from formwright.data.light_curves import LightCurves
from formwright.errors import UserError
from formwright.reporting import SILENT, Reporter

#: The length scale of wavelengths, in ångström; it is not fitted.
WAVELENGTH_SCALE = 6000.0
#: Length scales of time in days: what the search begins with, and its ends.
FIRST_TIME_SCALES = np.geomspace(1.0, 1000.0, 8)
#: The amplitude, in units of half the brightest flux: what the search begins with.
FIRST_AMPLITUDES = np.geomspace(1 / 3, 3.0, 3)
#: How often the search halves its steps around the best pair that it has found.
REFINEMENTS = 3
#: A share of the brightest flux that no signal-to-noise ratio is measured below.
_ERROR_FLOOR = 1e-2
#: Entries of the covariance matrices that are worked on together.
_ENTRIES = 2_000_000
#: A squared distance at which the kernel is zero in float64.
_FAR = 1e6
#: Where no error is smaller, over half the brightest flux, float32 is precise enough to compare likelihoods in.
_FLOAT32_ERROR = 2e-3


@dataclass(frozen=True)
class Observations:
    """Observations of several objects, padded to one length; padding is false in ``real`` and has a flux of zero."""

    times: Float[Tensor, "objects places"]
    wavelengths: Float[Tensor, "objects places"]
    flux: Float[Tensor, "objects places"]
    error: Float[Tensor, "objects places"]
    real: Bool[Tensor, "objects places"]

    def to(self, dtype: torch.dtype) -> Observations:
        times, wavelengths = self.times.to(dtype), self.wavelengths.to(dtype)
        return Observations(times, wavelengths, self.flux.to(dtype), self.error.to(dtype), self.real)

    @functools.cached_property
    def time_distances(self) -> Float[Tensor, "objects places places"]:
        """``3 Δt²``."""
        return (self.times[:, :, None] - self.times[:, None, :]).square_().mul_(3.0)

    @functools.cached_property
    def wavelength_distances(self) -> Float[Tensor, "objects places places"]:
        """``3 (Δλ / 6000 Å)²``; padding is so far from everything that nothing is known from it."""
        distances = ((self.wavelengths[:, :, None] - self.wavelengths[:, None, :]) / WAVELENGTH_SCALE).square_()
        return distances.mul_(3.0).masked_fill_(~(self.real[:, :, None] & self.real[:, None, :]), _FAR)


def matern32(squared: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """``(1 + sqrt(3) r) exp(-sqrt(3) r)`` from ``3 r²``, with ``r² = (Δt / time_scale)² + (Δλ / 6000 Å)²``."""
    scaled = squared.sqrt()
    return torch.exp(-scaled).mul_(scaled.add(1.0))


def factorise(
    seen: Observations, amplitude: Float[Tensor, "objects"], time_scale: Float[Tensor, "objects"]
) -> tuple[Float[Tensor, "objects places places"], Float[Tensor, "objects places 1"], Float[Tensor, "objects"]]:
    """The Cholesky factor ``L`` of ``K = amplitude² k + diag(error²)``, ``K⁻¹ flux``, and the log marginal likelihood.

    ``log p(flux) = -(fluxᵀ K⁻¹ flux + log det K + n log 2π) / 2``; minus infinity where ``K`` cannot be factorised.
    """
    inverse = (time_scale**-2)[:, None, None]
    covariance = matern32(torch.addcmul(seen.wavelength_distances, seen.time_distances, inverse))
    covariance.mul_((amplitude**2)[:, None, None])
    # Padding is independent of all else, and has a variance of one: it adds nothing to the likelihood.
    variance = torch.where(seen.real, amplitude[:, None] ** 2 + seen.error**2, 1.0)
    covariance.diagonal(dim1=1, dim2=2).copy_(variance)
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if failed.any():
        factor = torch.where(failed[:, None, None] == 0, factor, torch.eye(factor.shape[-1], dtype=factor.dtype))
    weights = torch.cholesky_solve(seen.flux[..., None], factor)
    fit = (seen.flux * weights[..., 0]).sum(1)
    volume = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
    likelihood = -0.5 * (fit + volume + seen.real.sum(1) * math.log(2 * math.pi))
    return factor, weights, likelihood.masked_fill(failed > 0, -math.inf)


def brightest_flux(seen: Observations) -> Float[Tensor, "objects"]:
    """The absolute flux with the best ratio to its error, to which a hundredth of the largest flux is added."""
    size = seen.flux.abs()
    floor = _ERROR_FLOOR * size.amax(1, keepdim=True)
    ratio = torch.where(seen.real, size / (seen.error**2 + floor**2).sqrt(), -math.inf)
    return size.gather(1, ratio.argmax(1, keepdim=True))[:, 0].clamp(min=1e-12)


def most_likely_scales(seen: Observations) -> tuple[Float[Tensor, "objects"], Float[Tensor, "objects"]]:
    """Amplitude and time scale of each object with the largest marginal likelihood, by a search on a refined grid."""
    start = 0.5 * brightest_flux(seen)
    if bool((seen.error[seen.real] >= _FLOAT32_ERROR * start.repeat_interleave(seen.real.sum(1))).all()):
        seen, start = seen.to(torch.float32), start.float()
    best = torch.full_like(start, -math.inf)
    log_amplitude, log_scale = torch.zeros_like(start), torch.full_like(start, math.log(20.0))

    def consider(amplitudes: Tensor, scales: Tensor) -> None:
        nonlocal best, log_amplitude, log_scale
        likelihood = factorise(seen, start * amplitudes.exp(), scales.exp())[2]
        better = likelihood > best
        best = torch.where(better, likelihood, best)
        log_amplitude = torch.where(better, amplitudes, log_amplitude)
        log_scale = torch.where(better, scales, log_scale)

    for scale in FIRST_TIME_SCALES:
        for amplitude in FIRST_AMPLITUDES:
            consider(torch.full_like(start, math.log(amplitude)), torch.full_like(start, math.log(scale)))
    amplitude_step = math.log(FIRST_AMPLITUDES[1] / FIRST_AMPLITUDES[0])
    scale_step = math.log(FIRST_TIME_SCALES[1] / FIRST_TIME_SCALES[0])
    ends = math.log(FIRST_TIME_SCALES[0]), math.log(FIRST_TIME_SCALES[-1])
    for _ in range(REFINEMENTS):
        amplitude_step, scale_step = amplitude_step / 2, scale_step / 2
        amplitude_centre, scale_centre = log_amplitude, log_scale
        for up in (-1, 0, 1):
            for along in (-1, 0, 1):
                if up or along:
                    consider(amplitude_centre + up * amplitude_step, (scale_centre + along * scale_step).clamp(*ends))
    return (start * log_amplitude.exp()).double(), log_scale.exp().double()


def posterior_mean(
    seen: Observations,
    times: Float[Tensor, "objects steps"],
    wavelengths: Float[Tensor, "bands"],
    amplitude: Float[Tensor, "objects"],
    time_scale: Float[Tensor, "objects"],
) -> Float[Tensor, "objects steps bands"]:
    """The expected flux at every one of ``times`` in every band, given what was seen: ``k(*, seen) K⁻¹ flux``."""
    weights = factorise(seen, amplitude, time_scale)[1]
    time_distances = 3 * ((times[:, :, None] - seen.times[:, None, :]) / time_scale[:, None, None]) ** 2
    expected = []
    for wavelength in wavelengths:
        apart = 3 * ((wavelength - seen.wavelengths) / WAVELENGTH_SCALE) ** 2
        kernel = matern32(time_distances + apart.masked_fill(~seen.real, _FAR)[:, None, :])
        expected.append((kernel @ weights)[..., 0])
    return torch.stack(expected, dim=-1) * (amplitude**2)[:, None, None]


def interpolate(
    curves: LightCurves, steps: int = 100, *, reporter: Reporter = SILENT
) -> Float[np.ndarray, "objects steps bands"]:
    """Every light curve at ``steps`` regular times in every band: the mean of a Gaussian process fitted to it.

    One process for time and wavelength together (Matérn 3/2, mean zero), so that a band that was seen rarely is told
    from the others. Amplitude and time scale are those of the largest marginal likelihood, object by object; the
    length scale of wavelengths is 6000 Å. The times go from the object's first to its last observation.

    Args:
        curves: the light curves of ``n`` objects.
        steps: how many times.
        reporter: hears how far it is.

    Returns:
        ``(n, steps, bands)``, in the unit of the fluxes.

    Raises:
        UserError: fewer than two steps.

    Source: Paying Attention to Astronomical Transients, arXiv 2105.06178, after avocado, arXiv 1907.04690.
    """
    if steps < 2:
        raise UserError(f"A grid of at least 2 steps is expected, and {steps} were asked for.")
    grid = np.zeros((len(curves), steps, len(curves.bands)))
    wavelengths = torch.from_numpy(np.asarray(curves.wavelengths, np.float64))
    done = 0
    for chosen in _similar_lengths(curves.counts):
        seen = _padded(curves.select(chosen))
        last = torch.where(seen.real, seen.times, -math.inf).amax(1, keepdim=True)
        times = torch.linspace(0, 1, steps, dtype=torch.float64) * last
        with torch.inference_mode():
            mean = posterior_mean(seen, times, wavelengths, *most_likely_scales(seen))
        grid[chosen] = mean.numpy()
        done += len(chosen)
        reporter.progress(done / len(curves), f"{done:,} of {len(curves):,} light curves")
    return grid


def _similar_lengths(counts: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Objects with about as many observations as each other, as many as are worked on together."""
    order = np.argsort(-counts, kind="stable")
    first = 0
    while first < len(order):
        size = max(1, _ENTRIES // int(counts[order[first]]) ** 2)
        yield order[first : first + size]
        first += size


def _padded(curves: LightCurves) -> Observations:
    """Observations with times from the first one of each object on."""
    counts = curves.counts
    places = np.arange(counts.max())
    real = places < counts[:, None]
    rows = np.where(real, curves.starts[:-1, None] + places, 0)

    def padded(values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(np.where(real, values[rows], 0.0))

    first = curves.times[curves.starts[:-1]]
    return Observations(
        times=padded(curves.times - first[curves.owner]),
        wavelengths=padded(np.asarray(curves.wavelengths, np.float64)[curves.band]),
        flux=padded(curves.flux),
        error=padded(curves.error),
        real=torch.from_numpy(real),
    )
