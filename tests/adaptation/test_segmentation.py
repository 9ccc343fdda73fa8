"""Where a performance has notes and where it rests."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ddsp_cli.adaptation.segmentation import find_notes
from ddsp_cli.arrays import percentiles, runs, spans_to_mask
from performance_fixtures import RATES, change, performance


@RATES
def test_notes_are_found_where_they_are(rate_hz):
    notes = find_notes(performance(rate_hz))
    np.testing.assert_allclose(notes.starts / rate_hz, [1.0, 2.5], atol=0.03)
    np.testing.assert_allclose(notes.stops / rate_hz, [2.0, 3.5], atol=0.1)


@RATES
def test_short_gap_is_bridged_and_long_one_is_not(rate_hz):
    for gap_s, expected in ((0.06, 1), (0.12, 1), (0.2, 2)):
        features = performance(rate_hz, notes=((1.0, 2.0, 57.0), (2.0 + gap_s, 3.0, 57.0)))
        assert len(find_notes(features)) == expected


@RATES
def test_quiet_recording_has_the_same_notes(rate_hz):
    loud = find_notes(performance(rate_hz))
    quiet = find_notes(performance(rate_hz, noise_db=-75.0, note_db=-45.0))
    np.testing.assert_allclose(quiet.starts, loud.starts, atol=0.02 * rate_hz)


@given(st.lists(st.booleans(), max_size=50))
def test_runs_and_masks_are_inverse(mask):
    mask = np.array(mask, bool)
    starts, stops = runs(mask)
    assert (spans_to_mask(starts, stops, len(mask)) == mask).all()


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=50))
def test_percentiles_are_numpys(values):
    wanted = np.array([0.0, 5.0, 33.3, 50.0, 95.0, 100.0])
    np.testing.assert_allclose(percentiles(np.array(values), wanted), np.percentile(values, wanted), atol=1e-9)


@RATES
def test_a_long_consonant_is_no_rest(rate_hz):
    """Nobody rests during an s as loud as the vowels; during a pause, or for as long as a breath, one does."""
    for gap_s, gap_db, noise_db, expected in (
        (0.25, -28.0, -60.0, 1),
        (0.25, -45.0, -60.0, 2),
        (0.35, -28.0, -60.0, 2),
        (0.25, -28.0, -30.0, 2),  # no louder than the noise of the room
    ):
        features = performance(rate_hz, notes=((1.0, 2.0, 57.0), (2.0 + gap_s, 3.0, 57.0)), noise_db=noise_db)
        gap = (features.times_s >= 2.0) & (features.times_s < 2.0 + gap_s)
        spoken = change(features, loudness_db=np.where(gap, gap_db + 15.0, features.loudness_db))
        assert len(find_notes(spoken)) == expected, (gap_s, gap_db, noise_db)


@RATES
def test_soft_notes_of_quick_playing_are_not_taken_for_noise(rate_hz):
    """Between quick notes there is never silence, only their onsets and the room; what is softer may be a note."""
    times = np.arange(0.0, 4.0, 0.16)
    features = performance(rate_hz, notes=[(t, t + 0.12, 60.0 + i % 5) for i, t in enumerate(times)], note_db=-15.0)
    voiced = features.f0_hz > 0
    level = np.where(voiced, features.power_db, -22.0)
    soft = voiced & (features.times_s >= times[8]) & (features.times_s < times[9])
    level[soft] = -35.0
    notes = find_notes(change(features, loudness_db=level + 15.0, power_db=level))
    assert notes.voiced[soft].all()
    np.testing.assert_array_equal(notes.voiced, voiced)


@RATES
def test_an_unsure_note_has_to_be_loud_and_long(rate_hz):
    for seconds, level_db, found in ((0.3, -20.0, True), (0.3, -45.0, False), (0.06, -20.0, False)):
        features = performance(rate_hz, notes=((1.0, 2.0, 57.0), (2.5, 2.5 + seconds, 60.0)))
        unsure = (features.times_s >= 2.5) & (features.f0_hz > 0)
        confidence = np.where(unsure, 0.6, features.f0_confidence)
        level = np.where(unsure, level_db, features.power_db)
        changed = change(features, f0_confidence=confidence, power_db=level, loudness_db=level + 15.0)
        assert find_notes(changed).mask[unsure].any() == found, (seconds, level_db)
