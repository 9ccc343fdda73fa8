"""Fitting a performance to an instrument, at both frame rates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddsp_cli.adaptation import f0_cleanup
from ddsp_cli.adaptation.adapt import AdaptSettings, adapt, choose_octave
from ddsp_cli.adaptation.dynamics import make_gate
from ddsp_cli.adaptation.segmentation import find_segments
from ddsp_cli.errors import InputError
from performance_fixtures import RATES, STATISTICS, change, make, performance


@RATES
def test_clicks_breath_and_room_noise_are_not_notes(rate_hz):
    features = performance(rate_hz)
    f0_hz, confidence, level = features.f0_hz.copy(), features.f0_confidence.copy(), features.power_db.copy()
    t = features.times_s
    click = (t >= 0.3) & (t < 0.34)
    f0_hz[click], confidence[click], level[click] = 200.0, 0.9, -20.0
    breath = (t >= 2.1) & (t < 2.4)
    confidence[breath], level[breath] = 0.3, -30.0
    hum = (t >= 3.6) & (t < 3.9)  # pitched, sure, but far below the notes
    f0_hz[hum], confidence[hum], level[hum] = 50.0, 0.95, -58.0
    features = change(
        features, f0_hz=f0_hz, f0_confidence=confidence, power_db=level, loudness_db=level + np.float32(15.0)
    )
    segments = find_segments(features)
    np.testing.assert_allclose(segments.starts / rate_hz, [1.0, 2.5], atol=0.03)
    gate = adapt(features, STATISTICS, "power_db").gate
    assert gate[click].max() == gate[hum].max() == 0.0
    assert gate[(t >= 2.15) & (t < 2.4)].max() == 0.0


@RATES
def test_octave_slip_and_hiccup_are_repaired(rate_hz):
    features = performance(rate_hz, notes=((1.0, 3.0, 57.0),))
    t, f0_hz = features.times_s, features.f0_hz.copy()
    f0_hz[(t >= 1.5) & (t < 1.62)] *= 2.0  # a slip
    f0_hz[(t >= 2.0) & (t < 2.1)] /= 2.0
    f0_hz[(t >= 2.97) & (t < 3.0)] *= 1.7  # a hiccup at the end
    f0_hz[(t >= 1.0) & (t < 1.02)] *= 0.6  # and at the start
    result = adapt(change(features, f0_hz=f0_hz), STATISTICS, "power_db", AdaptSettings(transpose=0.0))
    inside = (t >= 1.0) & (t < 3.0)
    np.testing.assert_allclose(result.f0_hz[inside], 220.0, rtol=1e-3)
    kept = adapt(
        change(features, f0_hz=f0_hz), STATISTICS, "power_db", AdaptSettings(transpose=0.0, repair_pitch=False)
    )
    assert kept.f0_hz[inside].max() > 430.0


@RATES
def test_an_octave_that_is_played_is_no_slip(rate_hz):
    """A short note an octave above its neighbours stays if a bow or a tongue began it; a wavering tracker is mended."""
    features = performance(rate_hz, notes=((1.0, 3.0, 57.0),))
    t, f0_hz = features.times_s, features.f0_hz.copy()
    high = (t >= 1.5) & (t < 1.7)
    f0_hz[high] *= 2.0
    steady = np.where(features.f0_hz > 0, -20.0, features.power_db)
    stroke = np.where((t >= 1.48) & (t < 1.5), -28.0, steady)
    unsure = np.where(high, 0.7, features.f0_confidence)
    for level, confidence, played_hz in (
        (stroke, features.f0_confidence, 440.0),
        (steady, features.f0_confidence, 220.0),
        (stroke, unsure, 220.0),
    ):
        changed = change(features, f0_hz=f0_hz, f0_confidence=confidence, power_db=level, loudness_db=level + 15.0)
        result = adapt(changed, STATISTICS, "power_db", AdaptSettings(transpose=0.0))
        np.testing.assert_allclose(result.f0_hz[high], played_hz, rtol=1e-3)


@RATES
def test_what_a_singer_does_is_left_alone(rate_hz):
    """Vibrato, glides, leaps of an octave that last."""
    features = performance(rate_hz, notes=((1.0, 3.0, 57.0),))
    t = features.times_s
    for melody in (
        57.0 + np.sin(2 * np.pi * 6.0 * t),
        57.0 + 12.0 * np.clip((t - 1.5) / 0.15, 0, 1),
        57.0 + 12.0 * ((t >= 1.6) & (t < 2.2)),
        57.0 + 2.0 * np.floor((t - 1.0) / 0.1),
    ):
        f0_hz = np.where(features.f0_hz > 0, 440.0 * 2.0 ** ((melody - 69.0) / 12.0), 0.0)
        result = adapt(change(features, f0_hz=f0_hz), STATISTICS, "power_db", AdaptSettings(transpose=0.0))
        inside = f0_hz > 0
        np.testing.assert_allclose(f0_cleanup.to_midi(result.f0_hz)[inside], melody[inside], atol=0.01)


def test_a_large_step_across_a_gap_is_not_a_slide():
    features = performance(250, notes=((1.0, 2.0, 57.0), (2.06, 3.0, 64.0)), noise_db=-40.0)
    level = features.loudness_db.copy()
    level[505] = -60.0  # 2.02 s
    result = adapt(change(features, loudness_db=level), STATISTICS, "power_db", AdaptSettings(transpose=0.0))
    midi = f0_cleanup.to_midi(result.f0_hz)
    assert len(result.segments) == 1
    np.testing.assert_allclose(midi[400:505], 57.0, atol=0.01)
    np.testing.assert_allclose(midi[505:700], 64.0, atol=0.01)


@RATES
def test_rests_hold_pitch_and_lead_into_the_next_note(rate_hz):
    result = adapt(performance(rate_hz), STATISTICS, "power_db", AdaptSettings(transpose=0.0))
    t = np.arange(len(result)) / rate_hz
    midi = f0_cleanup.to_midi(result.f0_hz)
    assert (result.f0_hz > 0).all()
    np.testing.assert_allclose(midi[t < 2.0], 57.0, atol=0.01)
    np.testing.assert_allclose(midi[(t > 2.47)], 60.0, atol=0.01)
    np.testing.assert_allclose(midi[(t > 2.0) & (t < 2.4)], 57.0, atol=0.01)


@RATES
def test_dynamics_act_on_what_is_played(rate_hz):
    features = performance(rate_hz)
    plain = adapt(features, STATISTICS, "power_db")
    louder = adapt(features, STATISTICS, "power_db", AdaptSettings(louder_db=6.0))
    inside = plain.segments.voiced
    np.testing.assert_allclose(louder.level_db[inside] - plain.level_db[inside], 6.0, atol=1e-4)
    keep = adapt(features, STATISTICS, "power_db", AdaptSettings(dynamics=0.0))
    assert np.std(plain.level_db[inside]) > 1.3 * np.std(keep.level_db[inside])


@RATES
def test_rests_are_silent(rate_hz):
    result = adapt(performance(rate_hz), STATISTICS, "power_db")
    t = np.arange(len(result)) / rate_hz
    rest = (t < 0.9) | ((t > 2.25) & (t < 2.4)) | (t > 3.8)
    assert result.level_db[rest].max() <= -79.9
    assert result.gate[rest].max() == 0.0
    assert result.gate[(t >= 1.0) & (t < 2.0)].min() == 1.0


@RATES
def test_gate_ramps_outside_the_notes(rate_hz):
    result = adapt(performance(rate_hz), STATISTICS, "power_db")
    gate, mask = result.gate, result.segments.mask
    assert (gate[result.segments.voiced] == 1.0).all()
    assert (gate[mask] > 0.0).all()
    gate = make_gate(result.segments, rate_hz)
    assert (gate[mask] == 1.0).all()
    ramp_s = np.count_nonzero((gate > 0) & (gate < 1)) / rate_hz / 4
    assert 0.008 <= ramp_s <= 0.021
    assert result.gate.dtype == np.float32
    assert (result.gate <= gate).all()


def test_nothing_to_play_is_said():
    n = 500
    silence = make(np.zeros(n), np.zeros(n), np.full(n, -80.0), 250)
    with pytest.raises(InputError, match="no notes"):
        adapt(silence, STATISTICS, "power_db")


def test_both_grids_agree():
    fine, coarse = performance(250), performance(50)
    a, b = adapt(fine, STATISTICS, "power_db"), adapt(coarse, STATISTICS, "power_db")
    f0_hz, level_db, gate = a.at(50)
    assert len(level_db) == len(b)
    assert len(f0_hz) == len(gate) == 5 * len(b)
    sounding = (gate[::5] == 1.0) & (b.gate == 1.0)
    assert sounding.mean() > 0.45
    np.testing.assert_allclose(f0_hz[::5][sounding], b.f0_hz[sounding], rtol=1e-4)
    with pytest.raises(ValueError, match="divide"):
        b.at(250)


@RATES
def test_what_the_driving_level_blurs_is_in_the_gate(rate_hz):
    features = performance(rate_hz)
    t = features.times_s
    stroke = (t >= 1.5) & (t < 1.54)
    features = change(features, envelope_db=features.power_db - np.where(stroke, 8.0, 0.0))
    result = adapt(features, STATISTICS, "power_db")
    plain = adapt(features, STATISTICS, "power_db", AdaptSettings(fast_envelope=False))
    np.testing.assert_array_equal(result.level_db, plain.level_db)
    np.testing.assert_allclose(result.gate[~stroke], plain.gate[~stroke], atol=1e-6)
    fall_db = 20.0 * np.log10(result.gate[stroke] / plain.gate[stroke])
    assert fall_db.max() < -0.3 * 8.0
    # Loudness, the other measure, has a window as short as the envelope's.
    by_loudness = adapt(features, STATISTICS, "loudness_db")
    np.testing.assert_allclose(by_loudness.gate[stroke], 1.0, atol=1e-6)


@RATES
def test_the_gate_stays_within_what_curves_may_hold(rate_hz):
    features = performance(rate_hz)
    features = change(features, envelope_db=features.power_db + 30.0)
    assert adapt(features, STATISTICS, "power_db", AdaptSettings(louder_db=20.0)).gate.max() <= 2.0


def test_register_is_the_octave_of_the_instrument():
    target = np.linspace(60.0, 84.0, 101)
    assert choose_octave(np.full(100, 50.0), target) == 12.0
    assert choose_octave(np.full(100, 72.0), target) == 0.0
    assert choose_octave(np.full(100, 100.0), target) == -24.0
    assert choose_octave(np.full(100, 64.0), target) == 0.0  # 76 would be as good; the smaller shift wins
    assert choose_octave(np.full(100, 5.0), target) == 60.0
    assert choose_octave(np.linspace(55, 67, 100), target) == 12.0


@given(midi=st.floats(20, 110), span=st.floats(0, 24))
def test_register_never_drifts_further_than_needed(midi, span):
    target = np.linspace(60.0, 84.0, 101)
    notes = np.linspace(midi - span / 2, midi + span / 2, 50)
    shift = choose_octave(notes, target)
    assert shift % 12.0 == 0.0

    def inside(x):
        return np.mean((x >= 60.5) & (x <= 83.5))

    assert inside(notes + shift) >= inside(notes) - 0.2


def test_what_fits_is_left_alone():
    """A low note of the violin stays on the violin, though it seldom plays there; one out of its range does not."""
    violin = np.interp(np.arange(101), [0, 1, 5, 50, 95, 99, 100], [47.1, 57.0, 60.0, 71.9, 82.9, 85.2, 98.5])
    assert choose_octave(np.full(100, 59.0), violin) == 0.0
    assert choose_octave(np.full(100, 49.0), violin) == 12.0
    assert choose_octave(np.concatenate([np.full(100, 59.0), [12.0]]), violin) == 0.0  # an error of the tracker
