"""Light curves of several kinds of transients and variables, as a survey like LSST would see them.

A transient is a black body whose luminosity and temperature change with time, at a redshift and behind dust; a variable
is a random walk or a periodic shape. Both are observed in six bands with gaps, weather, moonlight and noise. The aim is
a task with the difficulties of the real one (few and uneven observations, classes that resemble each other, faint
objects), not a forecast of what a survey will find.

Sources of the survey's figures: LSST: From Science Drivers to Reference Design, arXiv 0805.2366. What the classes look
like follows the summary in Models and Simulations for PLAsTiCC, arXiv 1903.11756, in much simplified form.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from formwright.data.light_curves import LSST_WAVELENGTHS, LightCurves
from formwright.errors import UnknownNameError, UserError

Floats = NDArray[np.float64]
Random = np.random.Generator

BANDS = tuple(LSST_WAVELENGTHS)
WAVELENGTHS = np.array(list(LSST_WAVELENGTHS.values()))
#: Days that an object is looked at.
DAYS = 180.0
#: Magnitude of a source that a single visit sees at five times its noise, by band, and how much nights differ.
DEPTHS = np.array([23.9, 25.0, 24.7, 24.0, 23.3, 22.1])
DEPTH_SCATTER = 0.25
#: How often each band is chosen, without and with the moon.
DARK_SHARES = np.array([0.12, 0.16, 0.22, 0.20, 0.15, 0.15])
BRIGHT_SHARES = np.array([0.00, 0.06, 0.22, 0.24, 0.24, 0.24])
#: Mean nights between two visits of a field, days between full moons, and the share of nights without clouds.
CADENCE, LUNATION, CLEAR = 3.0, 29.53, 0.75
#: Fluxes are in units of a source of this magnitude.
ZERO_POINT = 27.5
#: The share of a flux that calibration does not know better.
CALIBRATION_ERROR = 0.005
#: An object enters the set if so many of its observations are five times their error.
DETECTIONS = 3

_PLANCK = 1.438777e8  # hc / k in ångström kelvin
_SOLAR_SURFACE = 4 * np.pi * 5.670374e-5  # 4 pi sigma in erg / (s cm² K⁴)
_LIGHT = 2.99792458e18  # ångström a second
_MEGAPARSEC = 3.085678e24  # cm


@dataclass(frozen=True)
class Sky:
    """When and how each of ``n`` objects is observed: all arrays ``(n, visits)``; ``real`` is false for padding."""

    times: Floats
    band: NDArray[np.int64]
    depth: Floats
    real: NDArray[np.bool_]


def observe_sky(count: int, random: Random) -> Sky:
    """Visits of ``count`` fields: irregular nights, two bands a night half an hour apart, none under clouds."""
    nights = int(1.6 * DAYS / CADENCE)
    night = np.cumsum(0.8 + random.exponential(CADENCE - 0.8, (count, nights)), axis=1).round()
    phase = (night / LUNATION + random.random((count, 1))) % 1.0
    moon = 0.5 - 0.5 * np.cos(2 * np.pi * phase)
    shares = DARK_SHARES + (moon > 0.6)[..., None] * (BRIGHT_SHARES - DARK_SHARES)
    first = _draw(shares, random)
    second = _draw(np.where(np.arange(len(BANDS)) == first[..., None], 0.0, shares), random)
    times = np.stack([night, night + 0.02], axis=2) + 0.1 * random.standard_normal((count, nights, 1))
    band = np.stack([first, second], axis=2)
    depth = DEPTHS[band] + DEPTH_SCATTER * random.standard_normal((count, nights, 1))
    depth = depth - moon[..., None] * np.array([1.0, 0.6, 0.3, 0.1, 0.0, 0.0])[band]
    clear = (random.random((count, nights)) < CLEAR) & (night < DAYS)
    real = np.broadcast_to(clear[..., None], band.shape)
    shape = (count, 2 * nights)
    return Sky(times.reshape(shape), band.reshape(shape), depth.reshape(shape), real.reshape(shape))


def _draw(shares: Floats, random: Random) -> NDArray[np.int64]:
    """One band each, by unnormalised shares along the last axis."""
    total = shares.cumsum(-1)
    return (random.random((*shares.shape[:-1], 1)) * total[..., -1:] > total).sum(-1)


# Light of distant sources.


@functools.cache
def _distances() -> tuple[Floats, Floats]:
    """Redshifts and luminosity distances in cm of a flat universe with a matter share of 0.3 and 70 km/s/Mpc."""
    redshift = np.linspace(0.0, 4.0, 4001)
    inverse = 1 / np.sqrt(0.3 * (1 + redshift) ** 3 + 0.7)
    comoving = np.concatenate([[0.0], np.cumsum(0.5 * (inverse[1:] + inverse[:-1]) * np.diff(redshift))])
    return redshift, (1 + redshift) * comoving * 299792.458 / 70.0 * _MEGAPARSEC


def luminosity_distance(redshift: Floats) -> Floats:
    """In cm."""
    return np.interp(redshift, *_distances())


def black_body_flux(luminosity: Floats, temperature: Floats, wavelength: Floats, redshift: Floats) -> Floats:
    """Flux of a black body in units of magnitude 27.5 (AB).

    ``f_ν = (1 + z) L π B_ν(ν (1 + z), T) / (σ T⁴ 4 π d_L²)``: ``luminosity`` in erg a second, ``temperature`` in K,
    ``wavelength`` as observed in ångström.
    """
    rest = wavelength / (1 + redshift)
    frequency = _LIGHT / rest
    # π B_ν / (σ T⁴), times 4π for the sphere: 2 π h ν³ / c² / (exp(hν / kT) - 1), h in erg s and c in cm a second.
    planck = 2 * np.pi * 6.62607e-27 * frequency**3 / 2.99792458e10**2
    emitted = planck / np.expm1(np.minimum(_PLANCK / (rest * temperature), 600.0))
    area = luminosity / (_SOLAR_SURFACE * temperature**4)  # radius², cm²
    density = (1 + redshift) * area * emitted / luminosity_distance(redshift) ** 2
    return density * 10 ** (0.4 * (48.6 + ZERO_POINT))


def _dust(extinction: Floats, wavelength: Floats) -> Floats:
    """What passes through dust of ``extinction`` magnitudes at 5500 Å."""
    return 10 ** (-0.4 * extinction * (wavelength / 5500.0) ** -1.2)


@dataclass(frozen=True)
class Transients:
    """The common part of explosions: where they are and when they begin; ``(n, 1)`` each."""

    redshift: Floats
    start: Floats
    extinction: Floats

    @classmethod
    def draw(cls, count: int, furthest: float, random: Random, *, dust: float = 0.15) -> Transients:
        redshift = 0.005 + furthest * random.random((count, 1)) ** (1 / 3)  # as many as there is space
        start = random.uniform(-10.0, DAYS - 40.0, (count, 1))
        return cls(redshift, start, random.exponential(dust, (count, 1)))

    def age(self, sky: Sky) -> Floats:
        """Days since the explosion, as the source counts them."""
        return (sky.times - self.start) / (1 + self.redshift)

    def flux(self, sky: Sky, luminosity: Floats, temperature: Floats) -> Floats:
        wavelength = WAVELENGTHS[sky.band]
        flux = black_body_flux(np.maximum(luminosity, 1e30), temperature, wavelength, self.redshift)
        return np.where(self.age(sky) > 0, flux * _dust(self.extinction, wavelength / (1 + self.redshift)), 0.0)


def _scatter(count: int, centre: float, width: float, random: Random) -> Floats:
    return centre * np.exp(width * random.standard_normal((count, 1)))


def _pulse(age: Floats, peak: Floats, rise: Floats, fall: Floats) -> Floats:
    """A rise that saturates and an exponential decline, one at its largest around ``peak``."""
    shape = np.exp(-np.clip((age - peak) / fall, -30, 30)) / (1 + np.exp(-np.clip((age - peak) / rise, -30, 30)))
    turn = rise * np.log(np.maximum(fall / rise - 1, 1e-3))
    return shape / (np.exp(-turn / fall) / (1 + np.exp(-turn / rise)))


def _cooling(age: Floats, hot: Floats, cool: Floats | float, days: Floats | float) -> Floats:
    return cool + (hot - cool) * np.exp(-np.maximum(age, 0.0) / days)


def _supernova_1a(sky: Sky, random: Random) -> tuple[Floats, Floats]:
    """A standard candle: three weeks up, a steady decline, and a second hump in the red a month after the peak."""
    count = len(sky.times)
    source = Transients.draw(count, 0.7, random)
    age = source.age(sky)
    stretch = _scatter(count, 1.0, 0.1, random)
    brightness = 10**43.1 * stretch**1.5 * _scatter(count, 1.0, 0.12, random)
    luminosity = brightness * _pulse(age, 16 * stretch, 3.2 * stretch, 19 * stretch)
    hump = np.exp(-0.5 * ((age - 42 * stretch) / (7 * stretch)) ** 2)
    red = np.clip((WAVELENGTHS[sky.band] / (1 + source.redshift) - 6500) / 2000, 0, 1)
    flux = source.flux(sky, luminosity + 0.12 * brightness * hump * red, _cooling(age, stretch * 14000, 4800.0, 18.0))
    return flux, source.redshift


def _supernova_2(sky: Sky, random: Random) -> tuple[Floats, Floats]:
    """Days up, a plateau of three months at the temperature of recombining hydrogen, a drop, a radioactive tail."""
    count = len(sky.times)
    source = Transients.draw(count, 0.35, random)
    age = source.age(sky)
    plateau = _scatter(count, 95.0, 0.12, random)
    slope = random.uniform(0.001, 0.012, (count, 1))
    level = np.exp(-slope * age) / (1 + np.exp(np.clip((age - plateau) / 4.0, -30, 30)))
    tail = 0.12 * np.exp(-np.maximum(age, 0) / 111.0)
    rise = -np.expm1(-np.maximum(age, 0) / _scatter(count, 2.5, 0.3, random))
    luminosity = _scatter(count, 10**42.4, 0.6, random) * rise * np.maximum(level, tail)
    return source.flux(
        sky, luminosity, _cooling(age, _scatter(count, 16000.0, 0.1, random), 5800.0, 14.0)
    ), source.redshift


def _supernova_ibc(sky: Sky, random: Random) -> tuple[Floats, Floats]:
    """Like Ia, but fainter, redder, of any brightness and without the second hump."""
    count = len(sky.times)
    source = Transients.draw(count, 0.4, random, dust=0.4)
    age = source.age(sky)
    width = _scatter(count, 1.0, 0.25, random)
    luminosity = _scatter(count, 10**42.6, 0.5, random) * _pulse(age, 15 * width, 4.5 * width, 15 * width)
    return source.flux(
        sky, luminosity, _cooling(age, _scatter(count, 9000.0, 0.1, random), 4300.0, 16.0)
    ), source.redshift


def _tidal_disruption(sky: Sky, random: Random) -> tuple[Floats, Floats]:
    """A star torn by a black hole: weeks up, then t^(-5/3), hot and blue throughout."""
    count = len(sky.times)
    source = Transients.draw(count, 0.7, random)
    age = source.age(sky)
    peak, fall = _scatter(count, 30.0, 0.25, random), _scatter(count, 45.0, 0.35, random)
    after = np.maximum(age - peak, 0.0)
    shape = np.where(age < peak, np.exp(-0.5 * ((age - peak) / (0.4 * peak)) ** 2), (1 + after / fall) ** (-5 / 3))
    temperature = np.broadcast_to(_scatter(count, 23000.0, 0.2, random), age.shape)
    return source.flux(sky, _scatter(count, 10**43.7, 0.6, random) * shape, temperature), source.redshift


def _kilonova(sky: Sky, random: Random) -> tuple[Floats, Floats]:
    """Two neutron stars: gone in a week, turning from blue to infrared."""
    count = len(sky.times)
    source = Transients.draw(count, 0.06, random)
    age = source.age(sky)
    decline = np.maximum(age, 0.05) / _scatter(count, 1.0, 0.3, random)
    luminosity = _scatter(count, 10**42.0, 0.4, random) * np.minimum(decline, 1.0) / np.maximum(decline, 1.0) ** 1.3
    temperature = _cooling(age, _scatter(count, 9000.0, 0.2, random), 2600.0, _scatter(count, 2.2, 0.3, random))
    return source.flux(sky, luminosity, temperature), source.redshift


def _active_nucleus(sky: Sky, random: Random) -> tuple[Floats, Floats]:
    """A damped random walk in magnitude, less of it in the red; the flux is what differs from a reference picture."""
    count, visits = sky.times.shape
    redshift = 0.1 + 1.9 * random.beta(2, 2, (count, 1))
    order = np.argsort(sky.times, axis=1)
    times = np.take_along_axis(sky.times, order, 1)
    timescale = _scatter(count, 200.0, 0.6, random) * (1 + redshift)
    keep = np.exp(-np.diff(times, axis=1, prepend=times[:, :1] - 2000.0) / timescale)
    kicks = np.sqrt(1 - keep**2) * random.standard_normal((count, visits))
    walk = np.zeros((count, visits))
    state = np.zeros(count)
    for visit in range(visits):
        state = keep[:, visit] * state + kicks[:, visit]
        walk[:, visit] = state
    unordered = np.empty_like(walk)
    np.put_along_axis(unordered, order, walk, 1)
    amplitude = _scatter(count, 0.2, 0.4, random) * (WAVELENGTHS[sky.band] / 5000.0) ** -0.4
    mean = 10 ** (0.4 * (ZERO_POINT - random.uniform(18.5, 22.5, (count, 1))))
    mean = mean * (WAVELENGTHS[sky.band] / 6000.0) ** random.normal(0.3, 0.2, (count, 1))
    reference = random.standard_normal((count, 1))  # the state when the reference was taken
    return mean * (10 ** (-0.4 * amplitude * unordered) - 10 ** (-0.4 * amplitude * reference)), redshift


def _rr_lyrae(sky: Sky, random: Random) -> tuple[Floats, Floats]:
    """A pulsating star of half a day: a steep rise and a slow fall, less of it in the red."""
    count = len(sky.times)
    period = random.uniform(0.42, 0.75, (count, 1))
    phase = (sky.times / period + random.random((count, 1))) % 1.0
    rise = random.uniform(0.12, 0.25, (count, 1))
    shape = np.where(phase < rise, phase / rise, (1 - phase) / (1 - rise)) - 0.5
    amplitude = random.uniform(0.5, 1.1, (count, 1)) * np.array([1.0, 1.0, 0.72, 0.58, 0.5, 0.48])[sky.band]
    colour = np.array([1.2, 0.25, 0.0, -0.08, -0.1, -0.1])[sky.band]
    mean = 10 ** (0.4 * (ZERO_POINT - random.uniform(16.5, 22.5, (count, 1)) - colour))
    return mean * (10 ** (0.4 * amplitude * shape) - 1.0), np.zeros((count, 1))


#: What each class looks like: the true flux of every visit and the redshift of the host.
SOURCES: dict[str, Callable[[Sky, Random], tuple[Floats, Floats]]] = {
    "SN Ia": _supernova_1a,
    "SN II": _supernova_2,
    "SN Ibc": _supernova_ibc,
    "TDE": _tidal_disruption,
    "kilonova": _kilonova,
    "AGN": _active_nucleus,
    "RR Lyrae": _rr_lyrae,
}


def noise_of(flux: Floats, depth: Floats) -> Floats:
    """Standard deviation of a visit's flux: sky, photons and calibration.

    ``σ² = γ f5² + (0.04 - γ) f5 f + (0.005 f)²`` with ``f5`` the flux at the five-sigma depth and ``γ = 0.039``.
    """
    faintest = 10 ** (0.4 * (ZERO_POINT - depth))
    photons = (0.04 - 0.039) * faintest * np.maximum(flux, 0.0)
    return np.sqrt(0.039 * faintest**2 + photons + (CALIBRATION_ERROR * flux) ** 2)


def synthetic_light_curves(count: int, *, classes: Sequence[str] = tuple(SOURCES), seed: int = 0) -> LightCurves:
    """``count`` objects, as many of each class as of the others, in six bands over half a year.

    Every object was detected (five times its error) at least three times. Its features are a photometric redshift of
    its host and the error of that; both are zero in our own Galaxy. The same seed gives the same curves.

    Args:
        count: how many objects.
        classes: which of :data:`SOURCES`, in the order of their labels.
        seed: decides everything.

    Raises:
        UserError: there are fewer objects than classes, or no classes.
        UnknownNameError: a class is not known.
    """
    for name in classes:
        if name not in SOURCES:
            raise UnknownNameError("class of light curves", name, SOURCES)
    if not classes or count < len(classes):
        raise UserError(
            f"At least one object of each class is expected; {count} were asked for {len(classes)} classes."
        )
    parts = []
    for label, name in enumerate(classes):
        wanted = count // len(classes) + (label < count % len(classes))
        parts += _detected(name, label, wanted, np.random.default_rng([seed, list(SOURCES).index(name)]))
    order = np.random.default_rng([seed, len(SOURCES)]).permutation(len(parts))
    rows = [parts[index] for index in order]
    starts = np.concatenate([[0], np.cumsum([len(row.times) for row in rows])])
    return LightCurves(
        objects=tuple(f"{seed}-{number}" for number in range(len(rows))),
        bands=BANDS,
        wavelengths=WAVELENGTHS,
        starts=starts,
        times=np.concatenate([row.times for row in rows]),
        band=np.concatenate([row.band for row in rows]),
        flux=np.concatenate([row.flux for row in rows]),
        error=np.concatenate([row.error for row in rows]),
        labels=np.array([row.label for row in rows], np.int64),
        classes=tuple(classes),
        features=np.array([row.features for row in rows]),
        feature_names=("host_photoz", "host_photoz_error"),
    )


@dataclass(frozen=True)
class _Object:
    label: int
    times: Floats
    band: NDArray[np.int64]
    flux: Floats
    error: Floats
    features: tuple[float, float]


def _detected(name: str, label: int, wanted: int, random: Random) -> list[_Object]:
    """Objects of one class that were detected, drawn until there are enough."""
    found: list[_Object] = []
    while len(found) < wanted:
        sky = observe_sky(max(64, wanted), random)
        flux, redshift = SOURCES[name](sky, random)
        error = noise_of(flux, sky.depth)
        seen = flux + error * random.standard_normal(flux.shape)
        photometric = np.maximum(redshift + 0.03 * (1 + redshift) * random.standard_normal(redshift.shape), 0.001)
        known = np.where(redshift > 0, 1.0, 0.0)
        features = np.concatenate([photometric, 0.03 * (1 + photometric)], axis=1) * known
        enough = ((seen > 5 * error) & sky.real).sum(1) >= DETECTIONS
        for row in np.flatnonzero(enough)[: wanted - len(found)]:
            real = np.flatnonzero(sky.real[row])
            real = real[np.argsort(sky.times[row, real], kind="stable")]
            z, z_error = features[row]
            values = (sky.times[row, real], sky.band[row, real], seen[row, real], error[row, real])
            found.append(_Object(label, *values, (float(z), float(z_error))))
    return found
