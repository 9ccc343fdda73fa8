"""Harmonics of a tracked F0: how much of a sound they account for, and the level of each."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import asdict

from ddsp_cli.analysis import harmonics
from ddsp_cli.analysis.harmonics import measure_partials
from ddsp_cli.analysis.pitch import octave_correction

RATE_HZ = 16000


def tone(f0_hz: float | np.ndarray, seconds: float = 2.0, n_partials: int = 10) -> np.ndarray:
    n = round(seconds * RATE_HZ)
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(f0_hz, n)) / RATE_HZ
    return (0.1 * sum(np.sin(k * phase) / k for k in range(1, n_partials + 1))).astype(np.float32)


def harmonicity_of(audio: np.ndarray, f0_hz: float | np.ndarray) -> harmonics.Harmonicity:
    f0 = np.broadcast_to(np.float32(f0_hz), -(-len(audio) // 64))
    return harmonics.measure_harmonicity(lambda start, end: audio[start:end], len(audio), f0, 250)


@pytest.mark.parametrize("f0_hz", [82.4, 146.8, 220.0, 440.0, 987.8, 1760.0])
def test_one_voice_is_explained_and_its_octaves_are_not(f0_hz):
    n = min(10, int(4900 / f0_hz))  # partials in the band
    audio = tone(f0_hz, n_partials=n)
    inner = slice(10, -10)
    right, high, low = (harmonicity_of(audio, f0_hz * factor) for factor in (1, 2, 0.5))
    assert right.inharmonic_ratio[inner].max() < 0.02
    assert right.odd_harmonic_ratio[inner].min() > 0.5
    # The share of odd partials in a sawtooth: 1/k² summed over odd k, over the sum of all.
    odd, every = (sum(1 / k**2 for k in range(1, n + 1, step)) for step in (2, 1))
    assert right.odd_harmonic_ratio[20] == pytest.approx(odd / every, abs=0.02)
    assert high.inharmonic_ratio[inner].min() > 0.5 and high.half_harmonic_ratio[inner].min() > 0.3
    if f0_hz > 100:  # 41 Hz is below what two windows can part
        assert low.odd_harmonic_ratio[inner].max() < 0.02


@pytest.mark.parametrize("interval", [3, 4, 5, 7, 9])
def test_two_voices_are_polyphonic_and_one_is_not(interval):
    second = 440.0 * 2 ** (interval / 12)
    chord = tone(440.0) + tone(second)
    single = np.concatenate([tone(440.0), tone(second)])
    assert harmonicity_of(chord, 440.0).polyphonic(500, 250)[50:-50].mean() > 0.95
    f0_hz = np.repeat([440.0, second], 500)
    assert not harmonicity_of(single, f0_hz).polyphonic(1000, 250).any()


def test_noise_breath_and_vibrato_are_no_second_voice():
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    f0_hz = 440.0 * 2 ** (0.5 / 12 * np.sin(2 * np.pi * 6 * t))
    audio = tone(f0_hz) + 0.02 * np.random.default_rng(0).normal(size=len(t)).astype(np.float32)
    assert not harmonicity_of(audio, f0_hz[::64]).polyphonic(500, 250).any()


@pytest.mark.parametrize("n_samples", [0, 1, 63, 1000, 30_000])
def test_recordings_of_any_length_are_measured(n_samples):
    audio = tone(300.0)[:n_samples]
    found = harmonicity_of(audio, 300.0)
    assert len(found.inharmonic_ratio) == -(-n_samples // 320)
    assert all(np.isfinite(values).all() for values in asdict(found).values())


def test_the_number_of_frames_at_once_changes_nothing(monkeypatch):
    audio = tone(300.0, 3.0)
    whole = harmonicity_of(audio, 300.0)
    monkeypatch.setattr(harmonics, "_AT_ONCE", 7)
    np.testing.assert_allclose(harmonicity_of(audio, 300.0).inharmonic_ratio, whole.inharmonic_ratio, atol=1e-6)


def correct(audio: np.ndarray, f0_hz: np.ndarray) -> octave_correction.Corrected:
    return octave_correction.correct_octaves(
        lambda start, end: audio[start:end], len(audio), np.asarray(f0_hz, np.float32), 250
    )


@pytest.mark.parametrize("factor", [0.25, 0.5, 2.0, 3.0, 4.0])
def test_octave_errors_within_a_note_are_mended(factor):
    true_hz = np.full(500, 330.0)
    tracked = true_hz.copy()
    tracked[200:260] *= factor
    found = correct(tone(330.0), tracked)
    wrong = np.abs(12 * np.log2(np.maximum(found.f0_hz, 1) / true_hz)) > 0.5
    # At most a look on either side cannot be told: 20 ms hold both pitches.
    assert wrong.sum() <= 10 and found.corrected[210:250].all()
    assert not found.corrected[:190].any() and not found.corrected[270:].any()


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_whole_notes_an_octave_off_are_mended(factor):
    found = correct(tone(330.0), np.full(500, 330.0 * factor))
    assert np.median(found.f0_hz) == pytest.approx(330.0)
    assert found.corrected.mean() > 0.9


def test_a_real_leap_of_an_octave_stays():
    f0_hz = np.repeat([330.0, 660.0, 330.0], [200, 100, 200])
    found = correct(tone(np.repeat(f0_hz, 64)), f0_hz)
    assert not found.corrected[(np.arange(500) % 100 > 10) & (np.arange(500) % 100 < 90)].any()
    assert np.median(found.f0_hz[210:290]) == pytest.approx(660.0)


def test_a_fifth_is_no_octave_error():
    found = correct(tone(440.0) + tone(660.0), np.full(500, 440.0))
    assert not found.corrected.any()
    assert found.harmonicity.polyphonic(500, 250).mean() > 0.9


def test_blips_are_removed():
    tracked = np.full(500, 330.0)
    tracked[250:255] = 1234.0
    found = correct(tone(330.0) * 0 + 1e-9, tracked)  # nothing to hear: only the course of the pitch counts
    assert found.removed[250:255].all() and found.removed.sum() == 5
    assert (found.f0_hz[250:255] == 0).all()


def test_nothing_is_mended_in_silence():
    found = correct(np.zeros(32000, np.float32), np.zeros(500))
    assert not found.corrected.any() and not found.removed.any()


def test_two_notes_leave_nothing_to_their_undertone():
    """A tone of 440 and 660 Hz has no energy at other harmonics of 220 Hz; a real 220 Hz has its 1st, 5th, 7th ..."""
    curve = np.full(500, np.float32(220.0))
    both = tone(440.0) + tone(660.0)
    assert harmonics.measure_own_share(both, curve, 250, (440.0, 660.0)) < 0.01
    own = sum(1 / k**2 for k in range(1, 11) if k % 2 and k % 3) / sum(1 / k**2 for k in range(1, 11))
    found = harmonics.measure_own_share(tone(220.0), curve, 250, (440.0, 660.0))
    assert found == pytest.approx(own, abs=0.05)
    assert harmonics.measure_own_share(np.zeros(1000, np.float32), curve[:16], 250, (440.0,)) == 0.0


RATE_HZ, FRAME_RATE_HZ = 16000, 50


def glide(start_hz: float, stop_hz: float, seconds: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """F0 of every sample [S] and of every frame [F], exponential."""

    def at(rate_hz: int) -> np.ndarray:
        return start_hz * (stop_hz / start_hz) ** (np.arange(round(seconds * rate_hz)) / (seconds * rate_hz))

    return at(RATE_HZ), at(FRAME_RATE_HZ).astype(np.float32)


def sum_of_harmonics(f0_hz: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    phase = 2 * np.pi * np.cumsum(f0_hz) / RATE_HZ
    parts = [a * np.sin(k * phase) * (k * f0_hz < RATE_HZ / 2) for k, a in enumerate(amplitudes, 1)]
    return np.sum(parts, axis=0).astype(np.float32)


@pytest.mark.parametrize(("start_hz", "stop_hz"), [(220, 220), (200, 400), (80, 60), (900, 1100)])
def test_amplitudes_of_a_glide_are_read(start_hz, stop_hz):
    """An octave a second blurs an ordinary spectrum from the tenth harmonic on."""
    f0, frames = glide(start_hz, stop_hz)
    n = int(0.4 * RATE_HZ / max(start_hz, stop_hz))
    amplitudes = 0.2 / np.arange(1, n + 1)
    power = measure_partials(sum_of_harmonics(f0, amplitudes), RATE_HZ, frames, FRAME_RATE_HZ, n).harmonic_power
    inner = power[5:-5]
    assert np.abs(10 * np.log10(inner / amplitudes**2)).max() < 0.5


def test_there_is_no_noise_between_pure_harmonics():
    f0, frames = glide(200, 300)
    amplitudes = np.full(20, 0.05)
    partials = measure_partials(sum_of_harmonics(f0, amplitudes), RATE_HZ, frames, FRAME_RATE_HZ, 20)
    assert 10 * np.log10(partials.noise_density[5:-5].max() / 0.05**2) < -50


@pytest.mark.parametrize("f0_hz", [100.0, 440.0])
def test_noise_has_the_density_of_white_noise(f0_hz):
    """Variance σ² spread evenly up to half the sample rate."""
    audio = np.random.default_rng(0).normal(size=4 * RATE_HZ).astype(np.float32) * 0.1
    frames = np.full(4 * FRAME_RATE_HZ, f0_hz, np.float32)
    n = int(0.4 * RATE_HZ / f0_hz)
    partials = measure_partials(audio, RATE_HZ, frames, FRAME_RATE_HZ, n)
    expected = 0.1**2 / (RATE_HZ / 2)
    assert 10 * np.log10(partials.noise_density[5:-5].mean() / expected) == pytest.approx(0, abs=0.5)
    median = np.median(partials.noise_density[5:-5])
    assert 10 * np.log10(median / expected) == pytest.approx(-1.6, abs=0.6)
    # a harmonic bin that holds nothing but noise reads what is expected of noise
    noise = partials.noise_in_harmonics(frames)[5:-5].mean()
    assert 10 * np.log10(partials.harmonic_power[5:-5].mean() / noise) == pytest.approx(0, abs=0.5)
