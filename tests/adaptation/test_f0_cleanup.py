"""Leaps of a tracker against the sound: what it invents goes, what is played stays."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.adaptation.adapt import AdaptSettings, adapt
from ddsp_cli.adaptation.f0_cleanup import confirm_leaps
from ddsp_cli.adaptation.segmentation import find_segments
from ddsp_cli.audio.recording import ArrayRecording
from performance_fixtures import RATES, STATISTICS, change, performance

RATE_HZ = 16000


def sound(f0_hz, frame_rate_hz, rolloff=0.6):
    """Five harmonics that follow an F0 [F], silent where it is 0; [S] at 16 kHz."""
    hop = RATE_HZ // frame_rate_hz
    phase = 2.0 * np.pi * np.cumsum(np.repeat(f0_hz, hop)) / RATE_HZ
    audio = sum(rolloff**k * np.sin((k + 1) * phase) for k in range(5))
    return (0.1 * audio * (np.repeat(f0_hz, hop) > 0)).astype(np.float32)


def legato(frame_rate_hz, played=1.0, tracked=1.0, stop_s=1.62, confidence=0.7):
    """A tone of 220 Hz; from 1.5 s on for a while another ratio is played, and yet another is tracked."""
    features = performance(frame_rate_hz, notes=((1.0, min(3.0, max(stop_s, 2.5)), 57.0),))
    leap = (features.times_s >= 1.5) & (features.times_s < stop_s)
    truth = features.f0_hz * np.where(leap, played, 1.0)
    certain = np.where(leap, confidence, features.f0_confidence)
    wrong = change(features, f0_hz=features.f0_hz * np.where(leap, tracked, 1.0), f0_confidence=certain)
    return wrong, truth, leap, ArrayRecording(sound(truth, frame_rate_hz))


@RATES
@pytest.mark.parametrize("ratio", [2.0, 0.5, 3.0, 4.0, 0.25, 1.9, 7.1])
def test_a_leap_that_does_not_sound_is_taken_out(rate_hz, ratio):
    features, truth, leap, recording = legato(rate_hz, tracked=ratio)
    mended = confirm_leaps(features, find_segments(features), recording)
    np.testing.assert_allclose(mended.f0_hz[leap], truth[leap], rtol=1e-3)
    np.testing.assert_array_equal(mended.f0_hz[~leap], features.f0_hz[~leap])


@RATES
@pytest.mark.parametrize("ratio", [2.0, 3.0, 4.0, 0.5, 1.9])
def test_a_leap_that_sounds_stays(rate_hz, ratio):
    """A lower one also in what is played, though the tracker was unsure and there is no onset."""
    features, _, _, recording = legato(rate_hz, played=ratio, tracked=ratio)
    kept = confirm_leaps(features, find_segments(features), recording)
    np.testing.assert_array_equal(kept.f0_hz, features.f0_hz)
    if ratio > 1.0:
        return
    adapted = adapt(kept, STATISTICS, "power_db", AdaptSettings(transpose=0.0))
    voiced = features.f0_hz > 0
    np.testing.assert_allclose(adapted.f0_hz[voiced], features.f0_hz[voiced], rtol=1e-4)


@RATES
def test_what_nothing_explains_has_no_pitch(rate_hz):
    features, truth, leap, _ = legato(rate_hz, tracked=2.3)
    audio = sound(truth, rate_hz)
    noisy = np.repeat(leap, RATE_HZ // rate_hz)
    audio[noisy] = 0.05 * np.random.default_rng(0).normal(size=noisy.sum())
    mended = confirm_leaps(features, find_segments(features), ArrayRecording(audio))
    assert (mended.f0_hz[leap] == 0.0).all()
    assert mended.f0_confidence[leap].max() < 0.5
    sure = legato(rate_hz, tracked=2.3, confidence=0.95)[0]
    unchanged = confirm_leaps(sure, find_segments(sure), ArrayRecording(audio))
    np.testing.assert_array_equal(unchanged.f0_hz, sure.f0_hz)
    np.testing.assert_array_equal(unchanged.f0_confidence[leap], sure.f0_confidence[leap])


def test_a_recording_without_leaps_is_not_read_again():
    class Unreadable:
        def blocks(self):
            raise AssertionError

    features = performance(250)
    assert confirm_leaps(features, find_segments(features), Unreadable()) is features
