"""Tuning, key, correction, vibrato and slides on melodies whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddsp_cli.adaptation import autotune
from ddsp_cli.adaptation.autotune import CHROMATIC, RETUNE_S, Key
from ddsp_cli.adaptation.segmentation import Segments
from ddsp_cli.analysis.melody import centre, find_notes, find_tuning

RATE_HZ = 250
C_MAJOR = (60, 62, 64, 65, 67, 69, 71, 72, 67, 64, 60)
A_MINOR = (57, 59, 60, 62, 64, 65, 64, 60, 56, 57, 57)
FUER_ELISE = (76, 75, 76, 75, 76, 71, 74, 72, 69, 60, 64, 69, 71, 64, 68, 71, 72)
BLUES = (60, 63, 65, 66, 67, 70, 72, 70, 67, 66, 65, 63, 60)
CHROMATIC_SCALE = tuple(range(60, 73))
MODULATING = (60, 64, 67, 65, 62, 67, 60, 64, 68, 71, 69, 66, 71, 63, 64, 76)  # C major, then E major
WITH_ACCIDENTALS = (67, 66, 67, 69, 71, 72, 71, 70, 71, 67, 64, 66, 67, 61, 62, 67)  # G major with B flat and C sharp
TUNES = {
    "major": C_MAJOR, "minor": A_MINOR, "für elise": FUER_ELISE, "blues": BLUES, "chromatic": CHROMATIC_SCALE,
    "modulating": MODULATING, "accidentals": WITH_ACCIDENTALS,
} | {
    mode: tuple(60 + degree for degree in (*degrees, 12, *degrees[::-1]))
    for mode, degrees in autotune.SCALES.items() if mode not in {"chromatic", "major", "minor", "blues"}
}  # fmt: skip


def tune_melody(midi, amount, key, tuning_semitones, retune_s=RETUNE_S):
    """The melody [F] on a scale, or on its own if `key` is None, and the key."""
    notes = find_notes(midi, RATE_HZ, tuning_semitones)
    used = key if key is not None else autotune.find_key(notes, tuning_semitones)
    degrees = autotune.target_degrees(notes, used, tuning_semitones, estimated=key is None)
    return autotune.move_notes(midi, notes, degrees, amount, RATE_HZ, retune_s), used


def sung(notes, cents=0.0, vibrato=0.3, note_s=0.6, rest_s=0.1, spread_cents=0.0, seed=0):
    """A melody [F] off by some cents, each note a little more or less, with vibrato at 5.5 Hz and rests."""
    t = np.arange(round(note_s * RATE_HZ)) / RATE_HZ
    rest = np.full(round(rest_s * RATE_HZ), np.nan)
    wave = vibrato * np.sin(2 * np.pi * 5.5 * t)
    off = np.random.default_rng(seed).uniform(-spread_cents, spread_cents, len(notes))
    return np.concatenate(
        [part for note, own in zip(notes, off, strict=True) for part in (note + (cents + own) / 100 + wave, rest)]
    )


def played(tuned, n_notes, tuning=0.0, note_s=0.6, rest_s=0.1):
    """The semitone of the middle of each note [N]."""
    step = round((note_s + rest_s) * RATE_HZ)
    middle = slice(round(0.25 * note_s * RATE_HZ), round(0.75 * note_s * RATE_HZ))
    return np.array([np.mean(tuned[i * step : (i + 1) * step][middle]) for i in range(n_notes)]) - tuning


@pytest.mark.parametrize("cents", [-40, -20, 0, 15, 45])
def test_tuning_is_found(cents):
    assert find_tuning(sung(C_MAJOR, cents)) * 100 == pytest.approx(cents, abs=4)


@pytest.mark.parametrize("shift", range(12))
@pytest.mark.parametrize(("notes", "mode", "tonic"), [(C_MAJOR, "major", 0), (A_MINOR, "minor", 9)])
def test_key_is_found(notes, mode, tonic, shift):
    found = autotune.find_key(find_notes(sung([note + shift for note in notes]), RATE_HZ))
    assert found == Key((tonic + shift) % 12, mode)


@pytest.mark.parametrize("tune", TUNES)
def test_an_estimated_key_holds_the_tune_or_is_not_used(tune):
    """No key is claimed whose degrees leave out a twentieth of the tune, in any transposition."""
    for shift in range(12):
        notes = [note + shift for note in TUNES[tune]]
        key = autotune.find_key(find_notes(sung(notes), RATE_HZ))
        assert np.mean(np.isin(np.array(notes) % 12, key.pitch_classes)) >= 0.94
    if tune in {"chromatic", "modulating", "blues", "major pentatonic", "whole tone"}:
        assert key == CHROMATIC


@pytest.mark.parametrize("tune", TUNES)
@pytest.mark.parametrize(("cents", "spread"), [(0, 5), (-20, 25), (40, 25), (-60, 25)])
def test_an_estimated_key_moves_no_note_to_another_semitone(tune, cents, spread):
    """Each note within 30 cents of a semitone goes to that one: accidentals, blue notes and other keys stay."""
    for shift in (0, 5, 10):
        notes = np.array(TUNES[tune]) + shift
        melody = sung(notes, cents, spread_cents=spread, seed=shift)
        own = find_tuning(centre(melody, RATE_HZ))
        tuned, _ = tune_melody(melody, 1.0, None, own)
        octave_free = played(tuned, len(notes), own) - notes  # a tuning of -60 cents is one of +40, a semitone lower
        assert np.ptp(np.rint(octave_free)) == 0
        np.testing.assert_allclose(octave_free, np.rint(octave_free), atol=0.05)


def test_an_estimated_key_decides_for_notes_between_two_semitones():
    melody = sung((*C_MAJOR, 65.4, 60))
    tuned, key = tune_melody(melody, 1.0, None, 0.0)
    assert key == Key(0, "major")
    assert played(tuned, 12)[11] == pytest.approx(65.0, abs=0.05)
    melody = sung((*C_MAJOR, 65.6, 60))  # nearer to the F sharp, which C major has not
    assert played(tune_melody(melody, 1.0, None, 0.0)[0], 12)[11] == pytest.approx(65.0, abs=0.05)
    melody = sung((*C_MAJOR, 65.75, 60))
    assert played(tune_melody(melody, 1.0, None, 0.0)[0], 12)[11] == pytest.approx(66.0, abs=0.05)


def test_a_named_key_holds_for_every_note():
    tuned, key = tune_melody(sung((61.2, 66.3)), 1.0, Key(0, "major"), 0.1)
    assert key == Key(0, "major")
    np.testing.assert_allclose(played(tuned, 2), [62.1, 67.1], atol=0.05)
    pentatonic = autotune.parse_key("A minor pentatonic")
    tuned, _ = tune_melody(sung((57, 58.9, 60, 64.8)), 1.0, pentatonic, 0.0)
    np.testing.assert_allclose(played(tuned, 4), [57, 60, 60, 64], atol=0.05)


def test_correction_leaves_vibrato_and_goes_as_far_as_it_should():
    melody = sung(C_MAJOR, 30)
    tuned, _ = tune_melody(melody, 1.0, Key(0, "major"), 0.0)
    known = ~np.isnan(melody)
    assert (np.isnan(tuned) == ~known).all()
    note = slice(32, 122)  # 2 swings in the middle of the first note
    assert np.mean(tuned[note]) == pytest.approx(60.0, abs=0.05)
    assert np.std(tuned[note]) == pytest.approx(np.std(melody[note]), rel=0.1)
    half, _ = tune_melody(melody, 0.5, Key(0, "major"), 0.0)
    np.testing.assert_allclose(half[known], ((melody + tuned) / 2)[known], atol=1e-9)
    assert (tune_melody(melody, 0.0, Key(0, "major"), 0.0)[0][known] == melody[known]).all()


@pytest.mark.parametrize("rate_hz", [4.5, 5.5, 7.0])
@pytest.mark.parametrize("depth", [0.2, 0.5])
@pytest.mark.parametrize("note_s", [0.45, 1.3])
def test_vibrato_keeps_its_width_to_the_ends_of_a_note(rate_hz, depth, note_s):
    t = np.arange(round(note_s * RATE_HZ)) / RATE_HZ
    drift = 0.3 - 0.3 * t / note_s
    scoop = 0.8 * np.clip(1.0 - t / 0.08, 0.0, 1.0)
    kept = []
    for phase in range(6):
        vibrato = depth * np.sin(2 * np.pi * rate_hz * t + phase)
        for slide in (0.0, scoop):
            tuned, _ = tune_melody(60.0 + drift - slide + vibrato, 1.0, CHROMATIC, 0.0)
            kept.append(vibrato @ (tuned - tuned.mean()) / (vibrato @ vibrato))
            assert np.sqrt(np.mean((tuned - 60.0 - vibrato) ** 2)) < (0.2 if slide is scoop else 0.02)
    assert np.min(kept[::2]) > 0.96  # without a scoop
    assert np.mean(kept) == pytest.approx(1.0, abs=0.06)


def test_a_wide_vibrato_is_one_note_and_a_trill_is_not():
    t = np.arange(500) / RATE_HZ
    wide = 60.4 + np.sin(2 * np.pi * 5.0 * t)
    assert find_notes(wide, RATE_HZ).semitone.tolist() == [60]
    trill = np.repeat([60.0, 61.0] * 8, 30)  # 0.12 s each
    assert find_notes(trill, RATE_HZ).semitone.tolist() == [60, 61] * 8


def test_drift_and_slides_come_to_the_note():
    t = np.arange(500) / RATE_HZ
    drifting = 60.4 - 0.3 * t  # 2 s, down by 0.6 semitones
    scooped = 60.0 - 1.4 * np.clip(1.0 - t / 0.2, 0.0, 1.0)
    for melody in (drifting, scooped):
        melody = melody + 0.25 * np.sin(2 * np.pi * 5.5 * t) * (t > 0.4)
        before = np.mean(np.abs(melody - 60.0) < 0.15)
        tuned, _ = tune_melody(melody, 1.0, None, 0.0)
        smooth = autotune.moving_mean(tuned, round(RATE_HZ / 5.5))
        assert np.mean(np.abs(smooth - 60.0) < 0.1) > 0.94
        assert np.mean(np.abs(tuned - 60.0) < 0.15) > before
        assert np.ptp(tuned[250:400]) == pytest.approx(0.5, abs=0.08)


def test_a_slower_retune_lets_slides_through():
    t = np.arange(500) / RATE_HZ
    melody = 60.0 - 1.4 * np.clip(1.0 - t / 0.2, 0.0, 1.0)
    quick, _ = tune_melody(melody, 1.0, CHROMATIC, 0.0, retune_s=0.0)
    step = np.concatenate([np.full(250, 60.2), np.full(250, 64.2)])
    assert np.abs(quick - 60.0).max() < 0.15  # of 1.4
    for retune_s in (0.05, 0.3):
        tuned, _ = tune_melody(step, 1.0, CHROMATIC, 0.0, retune_s=retune_s)
        sliding = np.count_nonzero((tuned > 60.01) & (tuned < 63.99)) / RATE_HZ
        assert sliding == pytest.approx(retune_s, abs=0.01)


def test_a_legato_step_stays_a_step():
    melody = np.repeat([60.3, 64.3], 150)
    tuned, _ = tune_melody(melody, 1.0, CHROMATIC, 0.0)
    away = np.r_[0:140, 160:300]
    np.testing.assert_allclose(tuned[away], np.repeat([60.0, 64.0], 150)[away], atol=0.01)


def test_a_long_slide_stays_one():
    t = np.arange(500) / RATE_HZ
    melody = np.interp(t, [0.0, 0.8, 1.2, 2.0], [60.2, 60.2, 72.2, 72.2])
    tuned, _ = tune_melody(melody, 1.0, CHROMATIC, 0.0)
    assert np.abs(np.diff(tuned)).max() < 0.6
    np.testing.assert_allclose(tuned[[50, 450]], [60.0, 72.0], atol=0.01)


def test_a_note_near_the_border_does_not_flutter():
    melody = 60.5 + 0.1 * np.sin(np.arange(2000) / 100)
    tuned, _ = tune_melody(melody, 1.0, CHROMATIC, 0.0)
    assert np.ptp(centre(tuned, RATE_HZ)) < 0.1


@pytest.mark.parametrize(("factor", "expected"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (2.0, 2.0)])
def test_vibrato_is_scaled_and_steps_are_not(factor, expected):
    t = np.arange(500) / RATE_HZ
    melody = np.where(t < 1.0, 60.0, 67.0) + 0.4 * np.sin(2 * np.pi * 6.0 * t)
    out = autotune.scale_vibrato(melody, factor, RATE_HZ)
    for part in (slice(60, 200), slice(300, 440)):
        assert np.std(out[part]) == pytest.approx(expected * np.std(melody[part]), abs=0.04)
    assert out[230] - out[270] == pytest.approx(-7.0, abs=1.2)


@pytest.mark.parametrize(
    ("text", "key", "written"),
    [("C", Key(0, "major"), "C major"), ("c major", Key(0, "major"), "C major"),
     ("F# minor", Key(6, "minor"), "F# minor"), ("Bb major", Key(10, "major"), "Bb major"),
     ("A# major", Key(10, "major"), "A# major"), ("am", Key(9, "minor"), "A minor"),
     ("Ebmin", Key(3, "minor"), "Eb minor"), ("chromatic", CHROMATIC, "chromatic"), ("B", Key(11, "major"), "B major"),
     ("D dorian", Key(2, "dorian"), "D dorian"), ("f♯ Lydian", Key(6, "lydian"), "F# lydian"),
     ("C pentatonic", Key(0, "major pentatonic"), "C major pentatonic"), ("b blues", Key(11, "blues"), "B blues"),
     ("A minor pentatonic", Key(9, "minor pentatonic"), "A minor pentatonic")],
)  # fmt: skip
def test_keys_are_read_and_written_as_typed(text, key, written):
    assert autotune.parse_key(text) == key
    assert str(autotune.parse_key(text)) == written


def test_estimated_keys_are_spelled_as_usual():
    assert [str(Key(tonic, "major")) for tonic in (10, 1, 6)] == ["Bb major", "Db major", "F# major"]
    assert [str(Key(tonic, "minor")) for tonic in (10, 1, 3)] == ["Bb minor", "C# minor", "Eb minor"]


def test_every_known_key_can_be_read():
    for name in autotune.known_keys():
        assert str(autotune.parse_key(name)) == name


@pytest.mark.parametrize("text", ["H", "C doric", "major", "12", "C chromatic"])
def test_what_is_no_key(text):
    with pytest.raises(ValueError, match=text):
        autotune.parse_key(text)


@given(st.lists(st.one_of(st.just(np.nan), st.floats(20, 110)), max_size=80), st.floats(0, 1), st.floats(-0.5, 0.5))
def test_any_melody_survives(values, amount, own):
    melody = np.array(values, np.float64)
    tuned, _ = tune_melody(melody, amount, None, own)
    assert (np.isnan(tuned) == np.isnan(melody)).all()
    known = ~np.isnan(melody)
    if known.any():  # nothing leaves the range of what was sung
        assert tuned[known].min() >= melody[known].min() - 1.5
        assert tuned[known].max() <= melody[known].max() + 1.5


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


def melody_of_two_notes(swing_hz, depth):
    """Two bound notes of 1.5 s, a tone apart, that both swing."""
    t = np.arange(3 * RATE_HZ) / RATE_HZ
    return np.where(t < 1.5, 60.0, 62.0) + depth * np.sin(2 * np.pi * swing_hz * t)


def width_cents(midi, note):
    """Root mean square of the movement in the middle of the first or the second note."""
    middle = midi[round((1.5 * note + 0.4) * RATE_HZ) : round((1.5 * note + 1.1) * RATE_HZ)]
    return 100 * np.std(middle)


def test_a_vibrato_is_narrowed_to_the_limit():
    sung_midi = melody_of_two_notes(5.5, 0.5)
    found = autotune.limit_vibrato(sung_midi, 3.0, True, RATE_HZ)
    for note in (0, 1):
        assert width_cents(sung_midi, note) == pytest.approx(35, rel=0.05)
        assert width_cents(found, note) == pytest.approx(3, abs=1.5)
    assert np.median(np.diff(found)) == pytest.approx(0, abs=1e-3)
    around = slice(round(1.45 * RATE_HZ), round(1.55 * RATE_HZ))
    assert np.ptp(found[around]) > 1.5, "the step stays"


def test_a_vibrato_within_the_limit_stays_and_jitter_goes_where_the_instrument_has_its_own():
    swing, jitter = melody_of_two_notes(5.5, 0.3), melody_of_two_notes(22.0, 0.1)
    kept = autotune.limit_vibrato(swing, np.inf, False, RATE_HZ)
    assert width_cents(kept, 0) == pytest.approx(width_cents(swing, 0), rel=0.05)
    smooth = autotune.limit_vibrato(jitter, np.inf, False, RATE_HZ)
    assert width_cents(smooth, 0) < 0.4 * width_cents(jitter, 0)
    assert np.array_equal(autotune.limit_vibrato(jitter, np.inf, True, RATE_HZ), jitter)


@pytest.mark.parametrize("note_s", [0.08, 0.12, 0.2])
@pytest.mark.parametrize("steps", [(0, 4, 7, 4), (0, 12), (0, 2, 4, 5)])
def test_quick_notes_are_no_vibrato(note_s, steps):
    melody = np.repeat([60.0 + steps[i % len(steps)] for i in range(24)], round(note_s * RATE_HZ))
    for limit_cents in (5.0, np.inf):
        np.testing.assert_allclose(autotune.limit_vibrato(melody, limit_cents, False, RATE_HZ), melody, atol=0.01)


def test_a_slide_and_rests_are_no_vibrato():
    slide = np.concatenate([np.full(RATE_HZ, 60.0), np.linspace(60, 67, RATE_HZ // 3), np.full(RATE_HZ, 67.0)])
    found = autotune.limit_vibrato(slide, 0.0, False, RATE_HZ)
    assert np.abs(found - slide).max() < 0.25
    with_rest = np.concatenate([slide, np.full(50, np.nan), slide])
    assert np.array_equal(np.isnan(autotune.limit_vibrato(with_rest, 0.0, False, RATE_HZ)), np.isnan(with_rest))


def test_nothing_slides_across_a_rest():
    melody = np.repeat([60.0, 67.0], 250)
    segments = Segments(np.array([0, 280]), np.array([220, 500]), np.ones(500, bool), -40.0, -80.0)
    np.testing.assert_allclose(autotune.glide(melody, segments, 0.4, RATE_HZ), melody, atol=1e-9)
    assert (autotune.glide(melody, segments, 0.0, RATE_HZ) == melody).all()
