"""Key, tuning, correction and vibrato on melodies whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddsp_cli.adaptation import autotune
from ddsp_cli.adaptation.autotune import Key
from ddsp_cli.adaptation.segmentation import Segments

RATE_HZ = 250
C_MAJOR = (60, 62, 64, 65, 67, 69, 71, 72, 67, 64, 60)
A_MINOR = (57, 59, 60, 62, 64, 65, 64, 60, 56, 57, 57)


def sung(notes, cents=0.0, vibrato=0.3, note_s=0.6, rest_s=0.1):
    """A melody [F] off by some cents, with vibrato at 5.5 Hz and rests."""
    t = np.arange(round(note_s * RATE_HZ)) / RATE_HZ
    rest = np.full(round(rest_s * RATE_HZ), np.nan)
    wave = vibrato * np.sin(2 * np.pi * 5.5 * t)
    return np.concatenate([part for note in notes for part in (note + cents / 100 + wave, rest)])


@pytest.mark.parametrize("cents", [-40, -20, 0, 15, 45])
def test_tuning_is_found(cents):
    assert autotune.find_tuning(sung(C_MAJOR, cents)) * 100 == pytest.approx(cents, abs=4)


@pytest.mark.parametrize("shift", range(12))
@pytest.mark.parametrize(("notes", "mode", "tonic"), [(C_MAJOR, "major", 0), (A_MINOR, "minor", 9)])
def test_key_is_found(notes, mode, tonic, shift):
    assert autotune.find_key(sung([note + shift for note in notes])) == Key((tonic + shift) % 12, mode)


def test_correction_moves_notes_and_leaves_vibrato():
    melody = sung(C_MAJOR, 30)
    tuned = autotune.correct(melody, 1.0, Key(0, "major"), 0.0, RATE_HZ)
    known = ~np.isnan(melody)
    assert (np.isnan(tuned) == ~known).all()
    note = slice(30, 120)
    assert np.mean(tuned[note]) == pytest.approx(60.0, abs=0.05)
    assert np.std(tuned[note]) == pytest.approx(np.std(melody[note]), rel=0.05)
    half = autotune.correct(melody, 0.5, Key(0, "major"), 0.0, RATE_HZ)
    np.testing.assert_allclose(half[known], ((melody + tuned) / 2)[known], atol=1e-9)
    assert (autotune.correct(melody, 0.0, Key(0, "major"), 0.0, RATE_HZ)[known] == melody[known]).all()


def test_correction_goes_to_the_scale_and_its_tuning():
    melody = sung((61.2, 66.3), vibrato=0.0)
    tuned = autotune.correct(melody, 1.0, Key(0, "major"), 0.1, RATE_HZ)
    assert np.isnan(tuned[155])
    np.testing.assert_allclose(tuned[50:100], 62.1, atol=1e-6)
    np.testing.assert_allclose(tuned[240:290], 67.1, atol=1e-6)


def test_a_legato_step_stays_a_step():
    melody = np.repeat([60.3, 64.3], 150)
    tuned = autotune.correct(melody, 1.0, Key(0, "chromatic"), 0.0, RATE_HZ)
    np.testing.assert_allclose(tuned, np.repeat([60.0, 64.0], 150), atol=0.01)


def test_a_note_near_the_border_does_not_flutter():
    melody = 60.5 + 0.1 * np.sin(np.arange(2000) / 100)
    tuned = autotune.correct(melody, 1.0, Key(0, "chromatic"), 0.0, RATE_HZ)
    degree = tuned - (melody - autotune.centre(melody, RATE_HZ))
    assert np.ptp(degree) < 0.05


@pytest.mark.parametrize(("factor", "expected"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (2.0, 2.0)])
def test_vibrato_is_scaled_and_steps_are_not(factor, expected):
    t = np.arange(500) / RATE_HZ
    melody = np.where(t < 1.0, 60.0, 67.0) + 0.4 * np.sin(2 * np.pi * 6.0 * t)
    out = autotune.scale_vibrato(melody, factor, RATE_HZ)
    for part in (slice(60, 200), slice(300, 440)):
        assert np.std(out[part]) == pytest.approx(expected * np.std(melody[part]), abs=0.04)
    assert out[230] - out[270] == pytest.approx(-7.0, abs=1.2)


@pytest.mark.parametrize(
    ("text", "key"),
    [("C", Key(0, "major")), ("c major", Key(0, "major")), ("F# minor", Key(6, "minor")), ("Bb", Key(10, "major")),
     ("am", Key(9, "minor")), ("Ebmin", Key(3, "minor")), ("chromatic", Key(0, "chromatic")), ("B", Key(11, "major"))],
)  # fmt: skip
def test_keys_are_read(text, key):
    assert autotune.parse_key(text) == key


@pytest.mark.parametrize("text", ["H", "C dorian", "major", "12"])
def test_what_is_no_key(text):
    with pytest.raises(ValueError, match=text):
        autotune.parse_key(text)


@given(st.lists(st.one_of(st.just(np.nan), st.floats(20, 110)), max_size=80), st.floats(0, 1), st.floats(-0.5, 0.5))
def test_any_melody_survives(values, amount, own):
    melody = np.array(values, np.float64)
    key = autotune.find_key(melody)
    tuned = autotune.correct(melody, amount, key, own, RATE_HZ)
    assert (np.isnan(tuned) == np.isnan(melody)).all()
    known = ~np.isnan(melody)
    assert np.abs(tuned[known] - melody[known]).max(initial=0.0) <= 2.5


@pytest.mark.parametrize("glide_s", [0.06, 0.2, 0.5])
def test_a_step_slides_for_so_long_and_vibrato_stays(glide_s):
    t = np.arange(1000) / RATE_HZ
    vibrato = 0.3 * np.sin(2 * np.pi * 5.5 * t)
    steps = np.where(t < 2.0, 60.0, 67.0)
    whole = Segments(np.array([0]), np.array([1000]), np.ones(1000, bool), -40.0, -80.0)
    out = autotune.glide(steps, whole, glide_s, RATE_HZ)
    sliding = (out > 60.001) & (out < 66.999)
    assert sliding.sum() / RATE_HZ == pytest.approx(glide_s, abs=0.01)
    assert np.median(t[sliding]) == pytest.approx(2.0, abs=0.01)
    np.testing.assert_allclose(np.diff(out)[sliding[1:] & sliding[:-1]], 7.0 / (glide_s * RATE_HZ), rtol=0.1)
    out = autotune.glide(steps + vibrato, whole, glide_s, RATE_HZ)
    for part in (slice(60, 350), slice(650, 940)):
        assert np.ptp(out[part]) == pytest.approx(0.6, rel=0.05)


def test_nothing_slides_across_a_rest():
    melody = np.repeat([60.0, 67.0], 250)
    segments = Segments(np.array([0, 280]), np.array([220, 500]), np.ones(500, bool), -40.0, -80.0)
    np.testing.assert_allclose(autotune.glide(melody, segments, 0.4, RATE_HZ), melody, atol=1e-9)
    assert (autotune.glide(melody, segments, 0.0, RATE_HZ) == melody).all()
