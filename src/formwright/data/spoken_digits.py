"""Spoken digits as log-mel spectrograms, and generated sounds that stand in for them."""

from __future__ import annotations

import re
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from formwright.errors import UserError

BANDS, FRAMES = 40, 64
#: One second at 8 kHz is 64 frames of so many samples; each is seen through a window of twice as many, zero-padded.
RATE, HOP, WINDOW, FFT = 8000, 125, 250, 256
#: Every so many recordings of a speaker and digit, one is for testing.
TEST_EVERY = 10
_NAME = re.compile(r"(\d)_([A-Za-z]+)_(\d+)\.wav")


@dataclass(frozen=True)
class Sounds:
    """Spectrograms of one second, standardised over the training set, and what is said in each.

    Attributes:
        frames: ``(n, 64, 40)``, one for training and one for testing.
        labels: ``(n,)``, likewise.
        source: what they are, as a person would say it.
    """

    frames: tuple[Float[Tensor, "n time bands"], Float[Tensor, "m time bands"]]
    labels: tuple[Int[Tensor, " n"], Int[Tensor, " m"]]
    source: str


def mel_filters(bands: int = BANDS) -> Float[Tensor, "frequencies bands"]:
    """Triangles whose corners are evenly spaced in mel, ``2595 log10(1 + f / 700)``, up to half the sampling rate."""
    highest = 2595 * np.log10(1 + RATE / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, highest, bands + 2) / 2595) - 1)
    frequency = np.linspace(0, RATE / 2, FFT // 2 + 1)[:, None]
    rising = (frequency - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - frequency) / (corners[2:] - corners[1:-1])
    return torch.from_numpy(np.maximum(0, np.minimum(rising, falling))).float()


def log_mel(samples: Float[Tensor, "n samples"]) -> Float[Tensor, "n time bands"]:
    """Logarithms of the power in mel bands, a frame every ``HOP`` samples, each of the latest ``WINDOW`` samples."""
    padded = torch.nn.functional.pad(samples, (WINDOW - HOP, 0))
    windows = padded.unfold(1, WINDOW, HOP) * torch.hann_window(WINDOW)
    power = torch.fft.rfft(windows, FFT).abs().square()
    return (power @ mel_filters() + 1e-6).log()


def read_spoken_digits(folder: str | Path) -> Sounds:
    """The Free Spoken Digit Dataset: recordings ``DIGIT_SPEAKER_NUMBER.wav`` at 8 kHz, mono, 16 bits.

    A recording stands in the middle of a second of silence; longer ones are cut on both sides.

    Raises:
        UserError: there are no such files, or one of them is damaged or of another format.
    """
    paths = sorted(path for path in Path(folder).glob("*.wav") if _NAME.fullmatch(path.name))
    if not paths:
        raise UserError(f"There are no recordings like 7_name_0.wav in {folder}; give a folder of spoken digits.")
    waves = np.zeros((len(paths), RATE), dtype=np.float32)
    labels, numbers = [], []
    for row, path in zip(waves, paths, strict=True):
        samples = _read_wave(path)
        spare = RATE - len(samples)
        if spare < 0:
            samples, spare = samples[-spare // 2 :][:RATE], 0
        row[spare // 2 : spare // 2 + len(samples)] = samples
        digit, _, number = _NAME.fullmatch(path.name).groups()  # type: ignore[union-attr]
        labels.append(int(digit))
        numbers.append(int(number))
    test = np.array(numbers) % TEST_EVERY == 0
    return _split(log_mel(torch.from_numpy(waves)), labels, test, f"{len(paths):,} spoken digits")


def _read_wave(path: Path) -> NDArray[np.float32]:
    try:
        with wave.open(str(path), "rb") as file:
            layout = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            content = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise UserError(f"{path} is not a whole WAV file: {error}.") from None
    if layout != (1, 2, RATE):
        channels, width, rate = layout
        raise UserError(
            f"{path} has {channels} channels of {8 * width} bits at {rate} Hz; one of 16 at {RATE} is read."
        )
    return np.frombuffer(content, dtype="<i2").astype(np.float32) / np.float32(2**15)


def _split(frames: Tensor, labels: Sequence[int], test: NDArray[np.bool_], source: str) -> Sounds:
    for_test, targets = torch.from_numpy(test), torch.tensor(labels)
    train = frames[~for_test]
    frames = (frames - train.mean()) / train.std()
    return Sounds((frames[~for_test], frames[for_test]), (targets[~for_test], targets[for_test]), source)


def generated_sounds(count: int = 2000, classes: int = 10, *, seed: int = 0) -> Sounds:
    """Noise in which, somewhere and at some speed, two formants move as those of the row's class do."""
    random = np.random.default_rng(seed)
    paths = random.uniform(4, BANDS - 4, size=(classes, 2, 3))  # formants at the beginning, middle and end of a class
    labels = random.integers(classes, size=count)
    length = random.integers(FRAMES // 3, FRAMES // 2, size=(count, 1))
    start = random.integers(2, FRAMES // 3, size=(count, 1))
    share = (np.arange(FRAMES) - start) / length  # of the word that has passed, outside 0 to 1 where it is silent
    bends = np.stack([np.clip(1 - 2 * share, 0, 1), 1 - np.abs(2 * share - 1), np.clip(2 * share - 1, 0, 1)], axis=-1)
    formants = np.einsum("nfp,ntp->ntf", paths[labels], np.clip(bends, 0, 1))
    loudness = np.exp(-0.5 * ((np.arange(BANDS) - formants[..., None]) / 1.5) ** 2).sum(2)
    loudness *= ((share >= 0) & (share <= 1))[..., None]
    frames = torch.from_numpy(3 * loudness + random.standard_normal(loudness.shape)).float()
    test = np.arange(count) % TEST_EVERY == 0
    return _split(frames, labels.tolist(), test, f"{count:,} generated sounds")
