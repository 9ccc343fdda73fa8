"""Levels of a performance as levels of an instrument."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddsp_cli.adaptation.dynamics import (
    ARTICULATION_DB,
    ATTACK_DB_PER_S,
    FAST_ENVELOPE_RANGE_DB,
    RELEASE_DB_PER_S,
    fast_envelope_gain_db,
    match_levels,
    rest_levels,
    tame_consonants,
    within_reach,
)
from ddsp_cli.adaptation.segmentation import find_segments
from performance_fixtures import RATES, change, performance


@RATES
def test_a_consonant_is_tongued(rate_hz):
    """An s as loud as the vowels around it separates them; a softer t keeps its level."""
    gap = (2.0, 2.1)
    features = performance(rate_hz, notes=((1.0, gap[0], 57.0), (gap[1], 3.0, 57.0)), noise_db=-70.0)
    t = features.times_s
    inside = (t >= gap[0]) & (t < gap[1])
    for spoken_db in (-10.0, -20.0, -50.0):
        level = np.where(inside, spoken_db, features.power_db)
        tamed = tame_consonants(level, find_segments(change(features, power_db=level, loudness_db=level + 15.0)))
        around = np.mean([level[t < gap[0]][-1], level[t >= gap[1]][0]])
        assert tamed[inside].min() == pytest.approx(min(around - ARTICULATION_DB, spoken_db), abs=1.0)
        np.testing.assert_array_equal(tamed[~inside], level[~inside])


@given(
    own=st.lists(st.floats(-80, 20), min_size=2, max_size=60),
    low=st.floats(-70, -20),
    width=st.floats(0, 40),
    dynamics=st.floats(0, 1),
)
def test_levels_are_matched_monotonically_and_never_steeply(own, low, width, dynamics):
    curve = match_levels(np.array(own), np.linspace(low, low + width, 101), dynamics)
    x = np.linspace(-90, 30, 500)
    slopes = np.diff(curve(x)) / np.diff(x)
    assert slopes.min() >= 0.34
    assert slopes.max() <= 1.61


def test_matched_levels_have_the_instruments_median_and_spread():
    random = np.random.default_rng(0)
    own = random.normal(-30, 5, 5000)
    target = np.percentile(random.normal(-20, 7, 5000), np.arange(101))
    matched = match_levels(own, target)(own)
    np.testing.assert_allclose(np.percentile(matched, [10, 50, 90]), target[[10, 50, 90]], atol=0.6)
    shifted = match_levels(own, target, dynamics=0.0)(own)
    np.testing.assert_allclose(shifted - own, np.median(shifted - own), atol=1e-6)


@given(low=st.floats(-60, -20), width=st.floats(1, 40))
def test_beyond_its_reach_an_instrument_fades(low, width):
    wanted = np.linspace(-80, 10, 200)
    target = np.linspace(low, low + width, 101)
    played, gain_db = within_reach(wanted, target)
    assert played.min() >= low
    assert played.max() <= low + width
    assert gain_db.max() <= 6.0
    quiet = wanted <= target[-1]
    np.testing.assert_allclose((played + gain_db)[quiet], wanted[quiet], atol=1e-9)


def test_rest_levels_keep_the_louder_slope_between_close_notes():
    segments = find_segments(performance(250, notes=((1.0, 2.0, 57.0), (2.15, 3.0, 57.0))))
    level = rest_levels(np.full(1000, -20.0), segments, 250, -80.0)
    assert level[: segments.starts[0]].min() == -80.0
    between = level[segments.stops[0] : segments.starts[1]]
    n_frames = np.arange(1, len(between) + 1)
    fall = -20.0 - RELEASE_DB_PER_S / 250 * n_frames
    rise = -20.0 - ATTACK_DB_PER_S / 250 * n_frames[::-1]
    np.testing.assert_allclose(between, np.maximum(fall, rise))
    assert between.min() > -80.0
    assert between[0] == fall[0] > rise[0]
    assert between[-1] == rise[-1] > fall[-1]


@given(finer=st.floats(-60, 40), level=st.floats(-70, 0), dynamics=st.floats(0, 1))
def test_finer_dynamics_keep_the_scale_of_the_others(finer, level, dynamics):
    """A change that is quicker than the driving level is stretched as slow ones are, and bounded."""
    level_map = match_levels(np.linspace(-50, -10, 100), np.linspace(-35, -20, 101), dynamics)
    power = np.array([-30.0])
    gain_db = fast_envelope_gain_db(level_map, np.array([level]), power + finer, power)
    bounded = np.clip(finer, *FAST_ENVELOPE_RANGE_DB)
    np.testing.assert_allclose(gain_db, level_map([level + bounded]) - level_map([level]), atol=1e-9)
    assert 0.34 * abs(bounded) - 1e-9 <= abs(gain_db[0]) <= 1.61 * abs(bounded) + 1e-9
    assert gain_db[0] * bounded >= 0.0


def test_how_notes_end_is_no_dynamics():
    """Half of the frames are a hall that dies away: notes are matched as without it, and it keeps its distance."""
    random = np.random.default_rng(0)
    notes, tail = random.normal(-20.0, 3.0, 2000), np.linspace(-46.0, -70.0, 2000)
    target = np.percentile(random.normal(-25.0, 4.0, 2000), np.arange(101))
    alone, both = match_levels(notes, target), match_levels(np.concatenate([notes, tail]), target)
    levels_db = np.linspace(-25.0, -14.0, 30)
    np.testing.assert_allclose(both(levels_db), alone(levels_db), atol=0.1)
    assert both([-40.0])[0] - both([-60.0])[0] == pytest.approx(20.0)
