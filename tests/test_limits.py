"""benchmarks/limits.py: a recording is divided into harmonics and noise, and put together again."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import limits  # noqa: E402

RATE_HZ, SECONDS = 16000, 4


@pytest.fixture(scope="module")
def note() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Six harmonics under vibrato, each with a phase of its own, and soft noise; F0 [F], and the noise alone."""
    t = np.arange(SECONDS * RATE_HZ) / RATE_HZ
    f0_hz = 330.0 * 2.0 ** (0.3 * np.sin(2.0 * np.pi * 5.0 * t) / 12.0)
    phase = 2.0 * np.pi * np.cumsum(f0_hz) / RATE_HZ
    tone = sum(0.2 / k * np.cos(k * phase + k * k) for k in range(1, 7))
    noise = 1e-3 * np.random.default_rng(0).normal(size=len(t))
    return tone + noise, f0_hz[:: RATE_HZ // limits.FRAME_HZ], noise


def level_db(sound: np.ndarray, reference: np.ndarray) -> float:
    inner = slice(RATE_HZ // 4, -RATE_HZ // 4)
    return float(10 * np.log10(np.mean(sound[inner] ** 2) / np.mean(reference[inner] ** 2)))


def test_the_residual_is_the_noise(note):
    audio, f0_hz, noise = note
    own, pieces = limits.divide(audio.astype(np.float32), f0_hz)
    residual = audio - own
    assert level_db(residual, audio) < -35.0
    assert abs(level_db(residual, noise)) < 4.0
    assert len(pieces) == 1


def test_oscillators_have_the_levels_and_not_the_phases(note):
    audio, f0_hz, _ = note
    own, ((amplitudes, phase),) = limits.divide(audio.astype(np.float32), f0_hz)
    locked = limits.add_up(amplitudes, phase, step=5)
    assert abs(level_db(locked, own)) < 0.3
    assert level_db(audio - locked, audio) > -10.0


def test_noise_has_the_power_of_the_residual():
    rng = np.random.default_rng(1)
    sound = np.concatenate([rng.normal(size=32000), 0.1 * rng.normal(size=32000)])
    made = limits.noise_like(sound)
    for part in (slice(2000, 30000), slice(34000, 62000)):
        assert abs(10 * np.log10(np.mean(made[part] ** 2) / np.mean(sound[part] ** 2))) < 0.5
    assert abs(np.corrcoef(sound, made)[0, 1]) < 0.05
