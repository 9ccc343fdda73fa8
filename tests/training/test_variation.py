"""Movements of made notes, whose depth is known."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from ddsp_cli.config import HarmonicConfig
from ddsp_cli.training.variation import measure_variation
from ddsp_cli.training.windows import Windows
from fixtures import small_model
from training_fixtures import tones

RATE_HZ = 16000


def band_noise(random: np.random.Generator, n_samples: int, band_hz=(7.0, 24.0)) -> np.ndarray:
    """Unit variance within a band."""
    hz = np.fft.rfftfreq(n_samples, 1 / RATE_HZ)
    spectrum = np.fft.rfft(random.normal(size=n_samples)) * ((hz > band_hz[0]) & (hz < band_hz[1]))
    values = np.fft.irfft(spectrum, n_samples)
    return values / values.std()


def windows(level_db: float, cents: float, jitter_cents: float, n_windows: int = 6, f0_hz: float = 300.0) -> Windows:
    """Held notes with eight partials that move."""
    random = np.random.default_rng(0)
    examples = tones(n_windows, seconds=4.0)
    n = examples.audio.shape[1]
    for i in range(n_windows):
        jitter = 2.0 ** (jitter_cents * band_noise(random, n, (10.5, 24.0)) / 1200)
        sound = np.zeros(n)
        for k in range(1, 9):
            own = 2.0 ** (cents * band_noise(random, n) / 1200)
            phase = 2 * np.pi * np.cumsum(f0_hz * k * jitter * own) / RATE_HZ
            sound += 0.1 / k * 10 ** (level_db * band_noise(random, n) / 20) * np.sin(phase)
        examples.audio[i] = sound + 1e-5 * random.normal(size=n)
        examples.f0_hz[i] = f0_hz
    model = small_model()
    harmonic = msgspec.structs.replace(model.processors["harmonic"], n_harmonics=8)
    assert isinstance(harmonic, HarmonicConfig)
    model = msgspec.structs.replace(model, processors={**model.processors, "harmonic": harmonic})
    return Windows(examples, model, 250)


def test_depths_are_measured():
    found = measure_variation(windows(1.0, 3.0, 2.0))
    assert found is not None
    assert found.harmonic_db.mean() == pytest.approx(1.0, rel=0.25)
    assert found.harmonic_cents.mean() == pytest.approx(3.0, rel=0.3)
    assert found.jitter_cents.mean() == pytest.approx(2.0, rel=0.35)


def test_each_pitch_has_its_own_depths(monkeypatch):
    """Still low notes and high ones that move; the median over all notes would be that of the former."""
    monkeypatch.setattr("ddsp_cli.training.variation.N_NEAREST", 6)
    low, high = windows(0.1, 0.3, 0.2, n_windows=8, f0_hz=200.0), windows(1.5, 4.0, 3.0, n_windows=5, f0_hz=700.0)
    for name in ("sound", "audio", "fine_f0_hz", "voiced"):
        setattr(low, name, np.concatenate([getattr(low, name), getattr(high, name)]))
    found = measure_variation(low)
    assert found is not None
    assert found.jitter_cents[0] < 0.5 < 2.0 < found.jitter_cents[-1]
    assert found.harmonic_db[0].mean() < 0.4 < 1.0 < found.harmonic_db[-1].mean()
    assert found.harmonic_cents[0].mean() < 1.0 < 2.5 < found.harmonic_cents[-1].mean()


def test_notes_that_are_not_held_do_not_count():
    """Trills and overlapping notes measure as jitter of tens of cents."""
    held, other = windows(0.5, 1.0, 1.0, n_windows=4), windows(1.0, 3.0, 40.0, n_windows=6)
    for name in ("sound", "audio", "fine_f0_hz", "voiced"):
        setattr(held, name, np.concatenate([getattr(held, name), getattr(other, name)]))
    found = measure_variation(held)
    assert found is not None
    assert found.jitter_cents.max() < 1.5


def test_still_notes_have_none():
    found = measure_variation(windows(0.0, 0.0, 0.0))
    assert found is not None
    assert found.harmonic_db.max() < 0.1
    assert found.harmonic_cents.max() < 0.3
    assert found.jitter_cents.max() < 0.3


def test_recordings_without_held_notes_have_no_variation():
    made = windows(0.0, 0.0, 0.0)
    made.voiced[:] = False
    assert measure_variation(made) is None


def test_groups_of_noise_between_harmonics_alone_have_no_variation(recwarn):
    """Below 1 kHz notes of 300 Hz show two bins of noise; above half the sample rate the value below it holds."""
    found = measure_variation(windows(0.0, 0.0, 0.0))
    assert found is not None
    assert found.noise_db[-1] == found.noise_db[-2]
    assert np.isfinite(found.noise_db).all()
    assert not [warning for warning in recwarn if "NaN" in str(warning.message)]


def test_errors_of_the_tracked_pitch_are_no_jitter():
    """F0 that was tracked with noise of 4 cents, of notes that are still."""
    made = windows(0.0, 0.0, 0.0)
    random = np.random.default_rng(1)
    made.fine_f0_hz = (made.fine_f0_hz * 2.0 ** (4.0 * random.normal(size=made.fine_f0_hz.shape) / 1200)).astype(
        np.float32
    )
    found = measure_variation(made)
    assert found is not None
    assert found.jitter_cents.max() < 0.6


@pytest.mark.parametrize("width_cents", [0.0, 2.0, 20.0])
def test_the_usual_vibrato_is_measured_in_the_pitch(width_cents):
    made = windows(0.0, 0.0, 0.0)
    swing = np.sqrt(2) * width_cents * np.sin(2 * np.pi * 5.5 * np.arange(made.fine_f0_hz.shape[1]) / 250)
    made.fine_f0_hz = (made.fine_f0_hz * 2.0 ** (swing / 1200)).astype(np.float32)
    made.fine_f0_hz[0] *= 2.0 ** (np.linspace(0, 4, made.fine_f0_hz.shape[1]) / 12)  # a slide is no usual vibrato
    found = measure_variation(made)
    assert found is not None
    assert found.vibrato_cents == pytest.approx(width_cents, rel=0.1, abs=0.2)
