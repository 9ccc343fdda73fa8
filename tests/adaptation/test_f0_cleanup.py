"""Leaps of F0 against the sound: errors of the tracker are removed, played leaps are kept."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.adaptation.adapt import AdaptSettings, adapt
from ddsp_cli.adaptation.f0_cleanup import confirm_leaps, repair, to_midi
from ddsp_cli.adaptation.segmentation import Segments, find_segments
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
    """A leap down in the sound is kept, though the tracker was uncertain and there is no onset."""
    features, _, _, recording = legato(rate_hz, played=ratio, tracked=ratio)
    kept = confirm_leaps(features, find_segments(features), recording)
    np.testing.assert_array_equal(kept.f0_hz, features.f0_hz)
    if ratio > 1.0:
        return
    adapted = adapt(kept, STATISTICS, "power_db", AdaptSettings(transpose=0.0))
    voiced = features.f0_hz > 0
    np.testing.assert_allclose(adapted.f0_hz[voiced], features.f0_hz[voiced], rtol=1e-4)


@RATES
def test_a_leap_that_is_mostly_a_gap_is_judged_by_its_pitch(rate_hz):
    features, truth, leap, recording = legato(rate_hz, tracked=2.0, stop_s=1.75)
    gap = leap & (features.times_s >= 1.55) & (features.times_s < 1.7)  # 150 of 250 ms
    features = change(features, f0_hz=np.where(gap, 0.0, features.f0_hz))
    mended = confirm_leaps(features, find_segments(features), recording)
    np.testing.assert_allclose(mended.f0_hz[leap & ~gap], truth[leap & ~gap], rtol=1e-3)
    assert (mended.f0_hz[gap] == 0.0).all()


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


def two_notes(frame_rate_hz, between_hz, rings=True):
    """E5 (660 Hz), then B5 (990 Hz); for 80 ms between them `between_hz` is tracked, and both of them may ring."""
    features = performance(frame_rate_hz, notes=((1.0, 3.0, 76.0),))
    times_s = features.times_s
    between = (times_s >= 1.96) & (times_s < 2.04)
    low, high = (np.where(features.f0_hz > 0, hz, 0.0) for hz in (660.0, 990.0))
    tracked = np.where(times_s < 1.96, low, np.where(between, between_hz, high))
    wrong = change(features, f0_hz=tracked, f0_confidence=np.where(between, 0.75, features.f0_confidence))
    ringing = [sound(np.where(part, hz, 0.0), frame_rate_hz) for part, hz in
               ((times_s < 2.04, low), (times_s >= 1.96, high))]  # fmt: skip
    single = sound(tracked, frame_rate_hz, rolloff=0.8)
    return wrong, between, ArrayRecording(sum(ringing) if rings else single)


@RATES
def test_an_undertone_of_two_notes_that_ring_together_is_no_note(rate_hz):
    """330 Hz explains all of 660 and 990 Hz; the melody goes from one to the other without it."""
    features, between, recording = two_notes(rate_hz, 330.0)
    mended = confirm_leaps(features, find_segments(features), recording)
    assert (mended.f0_hz[between] == 0.0).all()
    np.testing.assert_array_equal(mended.f0_hz[~between], features.f0_hz[~between])
    adapted = adapt(mended, STATISTICS, "power_db", AdaptSettings(transpose=0.0))
    inside = (features.times_s > 1.1) & (features.times_s < 2.9)
    assert adapted.f0_hz[inside].min() > 650.0


@RATES
def test_a_low_note_between_its_harmonics_stays_where_it_sounds(rate_hz):
    features, _, recording = two_notes(rate_hz, 330.0, rings=False)
    kept = confirm_leaps(features, find_segments(features), recording)
    np.testing.assert_array_equal(kept.f0_hz, features.f0_hz)


@RATES
def test_an_undertone_without_its_lowest_harmonics_is_a_squeak(rate_hz):
    """A clarinet's squeak between C6 and C5: 3, 5, 8 and 9 times 175 Hz, which itself does not sound."""
    features = performance(rate_hz, notes=((1.0, 3.0, 84.0),))
    times_s = features.times_s
    squeak = (times_s >= 1.95) & (times_s < 2.05)
    tracked = np.where(times_s < 1.95, 1047.0, np.where(squeak, 1047.0 / 6, 523.5)) * (features.f0_hz > 0)
    wrong = change(features, f0_hz=tracked, f0_confidence=np.where(squeak, 0.7, features.f0_confidence))
    audio = sound(np.where(squeak, 0.0, tracked), rate_hz)
    t = np.arange(len(audio)) / RATE_HZ
    partials = sum(np.sin(2.0 * np.pi * k * 1047.0 / 6 * t) for k in (3, 5, 8, 9))
    audio += (0.05 * np.repeat(squeak, RATE_HZ // rate_hz) * partials).astype(np.float32)
    mended = confirm_leaps(wrong, find_segments(wrong), ArrayRecording(audio))
    assert (mended.f0_hz[squeak] == 0.0).all()


def partials(features, part, of_hz):
    """Sines [S] of given amplitudes (Hz → amplitude) that sound in some of the frames."""
    t = np.arange(len(features) * RATE_HZ // features.spec.frame_rate_hz) / RATE_HZ
    mask = np.repeat(part, RATE_HZ // features.spec.frame_rate_hz)
    return (mask * sum(gain * np.sin(2.0 * np.pi * hz * t) for hz, gain in of_hz.items())).astype(np.float32)


@RATES
@pytest.mark.parametrize("ringing_db", [-100.0, -18.0])
@pytest.mark.parametrize("is_played", [False, True])
def test_a_weak_fundamental_tells_the_octave_and_the_end_of_the_note_before_does_not(rate_hz, is_played, ringing_db):
    """A tenth of the energy at the odd harmonics: the tracker follows the even ones, and finds few others beside."""
    features, truth, leap, _ = legato(rate_hz, played=1.0, tracked=2.0)
    audio = sound(np.where(leap, 0.0, truth), rate_hz)
    audio += partials(features, leap, {440.0: 0.1, 880.0: 0.06, 1320.0: 0.03})
    audio += partials(features, leap, {220.0: 0.1 * 10 ** (ringing_db / 20)})
    if not is_played:
        audio += partials(features, leap, {220.0: 0.03, 660.0: 0.02})
    mended = confirm_leaps(features, find_segments(features), ArrayRecording(audio))
    expected = features.f0_hz if is_played else truth
    np.testing.assert_allclose(mended.f0_hz[leap], expected[leap], rtol=1e-3)


def three_notes(frame_rate_hz, first_hz, leap_hz, last_hz, confidence=0.65):
    """Notes until 1.94 s and from 2.06 s on, with tracked F0 between them."""
    features = performance(frame_rate_hz, notes=((1.0, 3.0, 69.0),))
    leap = (features.times_s >= 1.94) & (features.times_s < 2.06)
    f0_hz = np.where(leap, leap_hz, np.where(features.times_s < 1.94, first_hz, last_hz)) * (features.f0_hz > 0)
    certain = np.where(leap, confidence, features.f0_confidence)
    return change(features, f0_hz=f0_hz, f0_confidence=certain), leap


@RATES
def test_of_two_octaves_that_explain_a_sound_equally_the_nearer_is_played(rate_hz):
    """A violin's F4, B4, D5 (Bach, BWV 1003): of B4 sounds hardly more than the octave, while other strings ring."""
    features, leap = three_notes(rate_hz, 349.0, 988.0, 587.0)
    audio = sound(np.where(leap, 0.0, features.f0_hz), rate_hz)
    audio += partials(features, leap, {988.0: 0.05, 1976.0: 0.02, 494.0: 0.005, 1482.0: 0.006})
    audio += partials(features, leap, {294.0: 0.025, 349.0: 0.016, 392.0: 0.016, 880.0: 0.01})
    mended = confirm_leaps(features, find_segments(features), ArrayRecording(audio))
    np.testing.assert_allclose(mended.f0_hz[leap], 494.0, rtol=1e-3)
    # A tracker that is sure of it is left alone.
    features, _ = three_notes(rate_hz, 349.0, 988.0, 587.0, confidence=0.95)
    kept = confirm_leaps(features, find_segments(features), ArrayRecording(audio))
    np.testing.assert_array_equal(kept.f0_hz, features.f0_hz)


@RATES
def test_a_sure_note_with_weak_odd_harmonics_is_not_read_an_octave_too_high(rate_hz):
    """The tone before it was read an octave too high; that octave explains nine tenths of this one, too."""
    features, truth, leap, _ = legato(rate_hz, tracked=1.0, confidence=0.98)
    lead = (features.times_s >= 1.3) & (features.times_s < 1.5)
    f0_hz = np.where(lead, 2.0, np.where(features.times_s >= 1.62, 2.0 ** (-7 / 12), 1.0)) * truth
    confidence = np.where(lead, 0.7, features.f0_confidence)
    audio = sound(np.where(lead, truth, f0_hz), rate_hz)
    strong = 0.2 * np.sin(2 * np.pi * 440.0 * np.arange(len(audio)) / RATE_HZ)
    strong *= np.repeat(leap | lead, RATE_HZ // rate_hz)[: len(audio)]
    wrong = change(features, f0_hz=f0_hz, f0_confidence=confidence)
    mended = confirm_leaps(wrong, find_segments(wrong), ArrayRecording((audio + strong).astype(np.float32)))
    np.testing.assert_array_equal(mended.f0_hz[leap], wrong.f0_hz[leap])


@RATES
def test_a_leap_back_to_its_note_is_confirmed_or_removed(rate_hz):
    """330 Hz of a second string beside 220 Hz: 110 Hz explains all, but has little of its own."""
    features, truth, leap, recording = legato(rate_hz, tracked=0.5)
    times_s = np.arange(features.n_samples) / RATE_HZ
    second = 0.084 * np.sin(2 * np.pi * 1.5 * truth.max() * times_s) * ((times_s > 1.4) & (times_s < 1.72))
    (audio,) = recording.blocks()
    recording = ArrayRecording((audio + second[: len(audio)]).astype(np.float32))
    mended = confirm_leaps(features, find_segments(features), recording)
    assert (mended.f0_hz[leap] == 0.0).all()
    adapted = adapt(mended, STATISTICS, "power_db", AdaptSettings(transpose=0.0))
    np.testing.assert_allclose(adapted.f0_hz[leap], truth[leap], rtol=0.01)


@RATES
@pytest.mark.parametrize("divisor", [3, 4])
def test_a_trill_read_at_a_fraction_of_its_pitch_is_mended(rate_hz, divisor):
    """Nothing sounds at the first two harmonics of what is tracked; the tone beside it is no harmonic of it."""
    features, truth, leap, _ = legato(rate_hz, played=2 ** (2 / 12), tracked=2 ** (2 / 12) / divisor, confidence=0.95)
    mended = confirm_leaps(features, find_segments(features), ArrayRecording(sound(truth, rate_hz, rolloff=0.05)))
    np.testing.assert_allclose(mended.f0_hz[leap], truth[leap], rtol=1e-3)


@RATES
def test_a_leap_that_is_played_stays_while_other_strings_ring(rate_hz):
    """A violin's G4, E5, A4 in a hall (Bach, BWV 1002): E4 explains all that E5 explains, but is silent."""
    features, leap = three_notes(rate_hz, 390.0, 662.0, 441.0, confidence=0.8)
    audio = sound(np.where(leap, 0.0, features.f0_hz), rate_hz)
    audio += partials(features, leap, {662.0: 0.05, 1324.0: 0.03, 1986.0: 0.02})
    audio += partials(features, leap, {390.0: 0.025, 780.0: 0.014, 1170.0: 0.01})
    kept = confirm_leaps(features, find_segments(features), ArrayRecording(audio))
    np.testing.assert_array_equal(kept.f0_hz, features.f0_hz)


@RATES
def test_undertone_of_a_note_and_of_one_that_still_rings_is_no_note(rate_hz):
    """196 Hz explains 392 Hz, which is played, and 588 Hz, which was played before it (Bach, BWV 1002)."""
    features = performance(rate_hz, notes=((1.0, 3.0, 69.0),))
    times_s = features.times_s
    wrong = (times_s >= 1.9) & (times_s < 1.98)
    tracked = np.where(times_s < 1.7, 588.0, np.where(times_s < 2.1, np.where(wrong, 196.0, 392.0), 659.0))
    features = change(features, f0_hz=tracked * (features.f0_hz > 0),
                      f0_confidence=np.where(wrong, 0.65, features.f0_confidence))  # fmt: skip
    audio = sound(np.where(wrong, 392.0, features.f0_hz), rate_hz)
    audio += partials(features, (times_s >= 1.7) & (times_s < 2.1), {588.0: 0.03, 1176.0: 0.02, 1764.0: 0.02})
    mended = confirm_leaps(features, find_segments(features), ArrayRecording(audio))
    np.testing.assert_allclose(mended.f0_hz[wrong], 392.0, rtol=1e-3)


@RATES
@pytest.mark.parametrize("played", [1.0, 2.0])
def test_half_a_second_an_octave_too_high_is_mended_and_one_that_is_played_stays(rate_hz, played):
    features, truth, leap, recording = legato(rate_hz, played=played, tracked=2.0, stop_s=1.95)
    mended = confirm_leaps(features, find_segments(features), recording)
    np.testing.assert_allclose(mended.f0_hz[leap], truth[leap], rtol=1e-3)


@RATES
@pytest.mark.parametrize("ratio", [4.0, 4.25])
def test_half_a_second_of_a_pitch_that_does_not_sound_is_mended_where_the_tracker_is_sure(rate_hz, ratio):
    features, truth, leap, recording = legato(rate_hz, tracked=ratio, stop_s=1.95, confidence=0.95)
    mended = confirm_leaps(features, find_segments(features), recording)
    np.testing.assert_allclose(mended.f0_hz[leap], truth[leap], rtol=1e-3)


@RATES
def test_a_leap_with_a_blip_inside_is_one_leap(rate_hz):
    """Between two pieces an octave too high, 20 ms are tracked as they sound."""
    features, truth, leap, recording = legato(rate_hz, tracked=2.0, stop_s=1.7)
    blip = (features.times_s >= 1.6) & (features.times_s < 1.62)
    features = change(features, f0_hz=np.where(blip, truth, features.f0_hz))
    mended = confirm_leaps(features, find_segments(features), recording)
    np.testing.assert_allclose(mended.f0_hz[leap & ~blip], truth[leap & ~blip], rtol=1e-3)


@RATES
def test_pieces_of_a_wrong_octave_with_a_blip_between_are_one(rate_hz):
    """200 ms an octave up, 20 ms of them at another pitch: each half by itself has another one beside it."""
    features = performance(rate_hz, notes=((1.0, 3.0, 57.0),))
    times_s = features.times_s
    wrong = (times_s >= 1.5) & (times_s < 1.7)
    blip = (times_s >= 1.6) & (times_s < 1.62)
    f0_hz = features.f0_hz * np.where(blip, 1.0, np.where(wrong, 2.0, 1.0))
    midi = to_midi(f0_hz)
    confidence = np.where(wrong, 0.7, features.f0_confidence)
    segments = find_segments(features)
    mended = repair(midi, segments, rate_hz, confidence, features.loudness_db)
    np.testing.assert_allclose(mended[wrong & ~blip], 57.0, atol=0.01)


def test_in_a_segment_of_short_pieces_most_frames_tell_the_octave():
    """Pieces of 36, 32, 16 and 28 ms; the longest is wrong."""
    features = performance(250, notes=((1.0, 1.112, 81.0),))
    inside = np.flatnonzero(features.f0_hz)
    midi = to_midi(features.f0_hz)
    midi[inside[:9]] -= 12.0
    midi[inside[17:21]] -= 12.0
    segments = Segments(inside[:1], inside[-1:] + 1, features.f0_hz > 0, -60.0, -80.0)
    mended = repair(midi, segments, 250, features.f0_confidence, features.loudness_db)
    np.testing.assert_allclose(mended[inside], 81.0, atol=0.01)
