"""Recordings become spectrograms of one second, and bad ones are named."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from formwright.data.spoken_digits import (
    BANDS,
    FRAMES,
    HOP,
    RATE,
    generated_sounds,
    log_mel,
    mel_filters,
    read_spoken_digits,
)
from formwright.errors import UserError


def write(path: Path, samples: np.ndarray, *, rate: int = RATE, channels: int = 1) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 2**14).astype("<i2").tobytes())


def tone(hertz: float, seconds: float) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(RATE * seconds)) / RATE)


def test_a_tone_is_in_its_band() -> None:
    frames = log_mel(torch.from_numpy(tone(1000, 1)).float()[None])
    assert frames.shape == (1, FRAMES, BANDS)
    centres = mel_filters().argmax(0) * RATE / 256
    assert abs(centres[frames[0, FRAMES // 2].argmax()] - 1000) < 100


def test_a_frame_sees_no_later_sample() -> None:
    samples = torch.from_numpy(tone(700, 1)).float()[None]
    cut = samples.clone()
    cut[:, 20 * HOP :] = 0
    assert torch.equal(log_mel(samples)[:, :20], log_mel(cut)[:, :20])
    assert not torch.equal(log_mel(samples)[:, 20], log_mel(cut)[:, 20])


def test_recordings_are_read_and_split(tmp_path: Path) -> None:
    for digit in (0, 7):
        for number in range(20):
            write(tmp_path / f"{digit}_ann_{number}.wav", tone(300 + 200 * digit, 0.3 if number else 1.4))
    (tmp_path / "notes.txt").write_text("not a recording")
    data = read_spoken_digits(tmp_path)
    assert [len(labels) for labels in data.labels] == [36, 4]
    assert data.frames[0].shape == (36, FRAMES, BANDS)
    assert torch.isfinite(data.frames[1]).all()
    assert sorted(data.labels[1].tolist()) == [0, 0, 7, 7]
    torch.testing.assert_close(data.frames[0].std(), torch.tensor(1.0))
    loud = data.frames[0].amax(-1) > 0
    assert not loud[:, : FRAMES // 4].any()
    assert loud[:, FRAMES // 2].all()


def test_bad_recordings_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no recordings"):
        read_spoken_digits(tmp_path)
    write(tmp_path / "1_ann_0.wav", tone(300, 0.2), rate=16000)
    with pytest.raises(UserError, match="16000 Hz"):
        read_spoken_digits(tmp_path)
    (tmp_path / "1_ann_0.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match="not a whole WAV"):
        read_spoken_digits(tmp_path)


def test_generated_sounds_can_be_told_apart_by_their_means() -> None:
    """Templates of the mean spectrum alone tell classes apart better than chance, so there is something to learn."""
    data = generated_sounds(400, 4)
    assert torch.equal(data.frames[0], generated_sounds(400, 4).frames[0])
    spectra = [frames.mean(1) for frames in data.frames]
    templates = torch.stack([spectra[0][data.labels[0] == label].mean(0) for label in range(4)])
    guesses = torch.cdist(spectra[1], templates).argmin(1)
    assert (guesses == data.labels[1]).float().mean() > 0.5
