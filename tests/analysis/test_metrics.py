"""Figures of nearness, and the ratio of noise to harmonics: sounds whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.analysis import metrics
from ddsp_cli.analysis.metrics import noise_to_harmonics_db
from fixtures import melody


@pytest.fixture(scope="module")
def phrase():
    return melody((60, 64, 67), note_s=0.6)


def test_a_sound_is_itself(phrase):
    same = metrics.compare(phrase, phrase)
    assert same.spectral_loss == 0.0
    assert same.pitch_within_50_cents == 1.0
    assert same.pitch_error_cents == 0.0
    assert same.voiced_recall == 1.0
    assert same.loudness_error_db == 0.0
    assert same.noise_balance_db == 0.0


def test_half_the_amplitude_is_six_decibels(phrase):
    assert metrics.compare(phrase, phrase / 2).loudness_error_db == pytest.approx(6.02, abs=0.01)


def test_a_semitone_is_a_hundred_cents(phrase):
    other = metrics.compare(phrase, melody((61, 65, 68), note_s=0.6))
    assert other.pitch_error_cents == pytest.approx(100, abs=10)
    assert other.pitch_within_50_cents < 0.05


def test_silence_has_no_pitch(phrase):
    nothing = metrics.compare(phrase, np.zeros_like(phrase))
    assert nothing.voiced_recall == 0.0
    assert nothing.pitch_within_50_cents == 0.0
    figures = nothing.as_dict()
    assert "pitch_error_cents" not in figures, "nothing was measured"
    assert "noise_balance_db" not in figures
    assert all(np.isfinite(value) for value in figures.values())


def test_ten_times_the_noise_is_ten_decibels_more(phrase):
    noise = np.random.default_rng(0).normal(size=len(phrase)).astype(np.float32) * 1e-3
    found = metrics.compare(phrase + noise, phrase + np.sqrt(10) * noise)
    assert found.noise_balance_db == pytest.approx(10, abs=0.7)
    assert metrics.compare(phrase + np.sqrt(10) * noise, phrase + noise).noise_balance_db == -found.noise_balance_db


def test_reliable_frames_are_those_that_two_trackers_agree_about():
    phrase = melody((60, 65), note_s=0.4, rest_s=0.1)  # pYIN takes as long as the sound
    assert metrics.reliable_pitch(phrase, phrase)["reliable_within_50_cents"] == 1.0
    half = phrase.copy()
    half[len(half) // 2 :] = 0
    found = metrics.reliable_pitch(phrase, half)
    assert found["reliable_share"] > 0.9
    assert found["reliable_within_50_cents"] == pytest.approx(0.5, abs=0.05), "silence is wrong"
    assert metrics.reliable_pitch(np.zeros(4000, np.float32), phrase[:4000]) == {"reliable_share": 0.0}


def test_a_given_pitch_of_the_recording_is_not_measured_again(phrase):
    """The requested F0 counts, here a semitone above the recording."""
    asked_hz = metrics.pitch_hz(phrase) * np.float32(2 ** (1 / 12))
    found = metrics.compare(phrase, phrase, reference_hz=asked_hz)
    assert found.pitch_error_cents == pytest.approx(100, abs=1)
    note, note_hz = phrase[:12000], asked_hz[:188]  # pYIN takes as long as the sound
    assert (note_hz > 0).any()
    assert metrics.reliable_pitch(note, note, note_hz) == {"reliable_share": 0.0}, "pYIN does not agree"
    shorter = metrics.compare(phrase, phrase, reference_hz=metrics.pitch_hz(phrase)[:-10])
    assert shorter.pitch_within_50_cents == 1.0


def test_spectral_distance_of_scaled_sound_is_known():
    """Half the amplitude: each log magnitude differs by ln 2, each magnitude by half of itself."""
    noise = np.random.default_rng(0).normal(size=8000).astype(np.float32)
    log_part = len(metrics.FFT_SIZES) * np.log(2)
    # frames beyond the end are zero in both and add nothing; where a frame is partly padded the ratio still is 2
    linear = sum(0.5 * np.mean(metrics._magnitudes(noise, size)) for size in metrics.FFT_SIZES)
    assert metrics.spectral_distance(noise, noise / 2) == pytest.approx(log_part + linear, rel=1e-3)


def test_lengths_must_agree(phrase):
    with pytest.raises(ValueError, match="one length"):
        metrics.compare(phrase, phrase[:-1])


def test_the_figures_of_the_paper_have_known_answers(phrase):
    same = metrics.resynthesis_figures(phrase, phrase)
    assert same == {"loudness_l1_db": 0.0, "f0_l1_semitones": 0.0, "f0_outliers": 0.0}
    higher = metrics.resynthesis_figures(phrase, melody((61, 65, 68), note_s=0.6))
    assert higher["f0_l1_semitones"] == pytest.approx(1.0, abs=0.1)
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.normal(size=len(phrase))).astype(np.float32)
    found = metrics.resynthesis_figures(phrase, noise)
    assert found["f0_outliers"] > 0.9
    assert metrics.resynthesis_figures(noise, phrase).keys() >= {"loudness_l1_db"}
    half = metrics.resynthesis_figures(noise, noise / 2)
    assert half["loudness_l1_db"] == pytest.approx(6.02, abs=0.01)


RATE_HZ = 16000


def note(f0_hz, vibrato_cents=0.0, seconds=2.0):
    """Harmonics that fall off as 1/k, and their pitch at 250 Hz."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    f0 = f0_hz * 2.0 ** (vibrato_cents / 1200 * np.sin(2 * np.pi * 5.5 * t))
    phase = 2 * np.pi * np.cumsum(f0) / RATE_HZ
    tone = sum(np.sin(k * phase) / k for k in range(1, int(7400 / f0_hz) + 1))
    return tone, f0[::64]


def hiss(n_samples, seed=0):
    return np.random.default_rng(seed).normal(size=n_samples)


@pytest.mark.parametrize(("f0_hz", "bin_hz"), [(90.0, 3.90625), (196.0, 7.8125), (440.0, 15.625), (1400.0, 15.625)])
@pytest.mark.parametrize("wanted_db", [-40.0, -20.0, 0.0])
def test_a_known_mixture(f0_hz, bin_hz, wanted_db):
    """White noise up to 8 kHz, seen up to 7.5 kHz or to where smeared harmonics leave no two bins between them."""
    tone, f0 = note(f0_hz)
    noise = hiss(len(tone))
    noise *= 10 ** (wanted_db / 20) * np.sqrt(np.mean(tone**2) / np.mean(noise**2))
    seen_hz = min(7500, (f0_hz / 2 - 5 * bin_hz) / 0.012) - 50
    wanted_db += 10 * np.log10(seen_hz / 8000)
    assert np.nanmedian(noise_to_harmonics_db(tone + noise, f0, 250)) == pytest.approx(wanted_db, abs=0.5)


def test_twice_the_noise_is_six_decibels_more_in_spite_of_vibrato():
    tone, f0 = note(330.0, vibrato_cents=25.0)
    noise = hiss(len(tone)) * 0.05
    one, two = (np.nanmedian(noise_to_harmonics_db(tone + gain * noise, f0, 250)) for gain in (1, 2))
    assert two - one == pytest.approx(6.02, abs=0.6)


def test_a_pure_tone_has_next_to_no_noise():
    tone, f0 = note(440.0)
    assert np.nanmedian(noise_to_harmonics_db(tone, f0, 250)) < -70


def test_level_does_not_matter():
    tone, f0 = note(440.0)
    mixed = tone + 0.1 * hiss(len(tone))
    np.testing.assert_allclose(
        noise_to_harmonics_db(mixed, f0, 250), noise_to_harmonics_db(mixed / 1000, f0, 250), atol=1e-3
    )


def test_without_pitch_nothing_is_said():
    assert np.isnan(noise_to_harmonics_db(hiss(8000), np.zeros(125), 250)).all()
    assert np.isnan(noise_to_harmonics_db(np.zeros(8000), np.full(125, 440.0), 250)).all()
