"""Where a performance has notes and where it rests."""

from __future__ import annotations

import numpy as np

from ddsp_cli.adaptation.segmentation import find_segments
from performance_fixtures import RATES, change, performance


@RATES
def test_notes_are_found_where_they_are(rate_hz):
    segments = find_segments(performance(rate_hz))
    np.testing.assert_allclose(segments.starts / rate_hz, [1.0, 2.5], atol=0.03)
    np.testing.assert_allclose(segments.stops / rate_hz, [2.0, 3.5], atol=0.1)


@RATES
def test_short_gap_is_bridged_and_long_one_is_not(rate_hz):
    for gap_s, expected in ((0.06, 1), (0.12, 1), (0.2, 2)):
        features = performance(rate_hz, notes=((1.0, 2.0, 57.0), (2.0 + gap_s, 3.0, 57.0)))
        assert len(find_segments(features)) == expected


@RATES
def test_quiet_recording_has_the_same_notes(rate_hz):
    loud = find_segments(performance(rate_hz))
    quiet = find_segments(performance(rate_hz, noise_db=-75.0, note_db=-45.0))
    np.testing.assert_allclose(quiet.starts, loud.starts, atol=0.02 * rate_hz)


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
        assert len(find_segments(spoken)) == expected, (gap_s, gap_db, noise_db)


@RATES
def test_soft_notes_of_quick_playing_are_not_taken_for_noise(rate_hz):
    """Between quick notes there is never silence, only onsets and reverb; softer sound may be a note."""
    times = np.arange(0.0, 4.0, 0.16)
    features = performance(rate_hz, notes=[(t, t + 0.12, 60.0 + i % 5) for i, t in enumerate(times)], note_db=-15.0)
    voiced = features.f0_hz > 0
    level = np.where(voiced, features.power_db, -22.0)
    soft = voiced & (features.times_s >= times[8]) & (features.times_s < times[9])
    level[soft] = -35.0
    segments = find_segments(change(features, loudness_db=level + 15.0, power_db=level))
    assert segments.voiced[soft].all()
    np.testing.assert_array_equal(segments.voiced, voiced)


@RATES
def test_an_unsure_note_has_to_be_loud_and_long(rate_hz):
    for seconds, level_db, found in ((0.3, -20.0, True), (0.3, -45.0, False), (0.06, -20.0, False)):
        features = performance(rate_hz, notes=((1.0, 2.0, 57.0), (2.5, 2.5 + seconds, 60.0)))
        unsure = (features.times_s >= 2.5) & (features.f0_hz > 0)
        confidence = np.where(unsure, 0.6, features.f0_confidence)
        level = np.where(unsure, level_db, features.power_db)
        changed = change(features, f0_confidence=confidence, power_db=level, loudness_db=level + 15.0)
        assert find_segments(changed).mask[unsure].any() == found, (seconds, level_db)
