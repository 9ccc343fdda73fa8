"""Notes of chords are found where they are, and the power of the sound is shared out among them."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli.analysis import polyphony
from ddsp_cli.analysis.polyphony import (
    FRAME_S,
    PolyNote,
    find_poly_notes,
    measure_shares,
    note_energies,
    track_activations,
)
from ddsp_cli.errors import InputError


def tone(midi, start_s, stop_s, seconds=3.0, gain=1.0, n_harmonics=8, turn=0.0):
    """A note of falling harmonics with ramps of 10 ms, all with a phase of `turn`, [S] at 16 kHz."""
    t = np.arange(round(seconds * 16000)) / 16000
    f0_hz = 440.0 * 2.0 ** ((np.asarray(midi) - 69.0) / 12.0)
    phase = 2.0 * np.pi * np.cumsum(np.broadcast_to(f0_hz, t.shape)) / 16000
    gate = np.clip(np.minimum(t - start_s, stop_s - t) / 0.01, 0.0, 1.0)
    return (0.1 * gain * gate * sum(np.sin(k * phase + turn) / k for k in range(1, n_harmonics + 1))).astype(np.float32)


def heard(sound, n_blocks=1):
    return find_poly_notes(track_activations(np.array_split(sound, n_blocks)))


@pytest.fixture(scope="module")
def chord():
    """A triad whose third comes later, and an octave above its root."""
    return tone(57, 0.5, 2.0) + tone(61, 1.0, 2.5) + tone(64, 0.5, 2.0) + tone(69, 0.5, 2.0)


def test_the_notes_of_a_chord_are_found(chord):
    notes = {note.key: note for note in heard(chord)}
    assert sorted(notes) == [57, 61, 64, 69]
    for key, start_s, stop_s in ((57, 0.5, 2.0), (61, 1.0, 2.5), (64, 0.5, 2.0)):
        assert notes[key].start_s == pytest.approx(start_s, abs=0.05)
        assert notes[key].stop_s == pytest.approx(stop_s, abs=0.1)


def test_blocks_do_not_matter(chord):
    whole, parts = track_activations([chord]), track_activations(np.array_split(chord, 17))
    assert np.abs(whole.notes.astype(int) - parts.notes).max() <= 2
    assert len(whole.notes) == len(parts.notes) == -(-round(3.0 * 22050) // 256)


def test_windows_join_without_a_seam():
    """A note that lasts over several windows of the network is one note."""
    (note,) = heard(tone(60, 0.5, 7.5, seconds=8.0))
    assert (note.key, note.start_s, note.stop_s) == (60, pytest.approx(0.5, abs=0.05), pytest.approx(7.5, abs=0.1))


def test_pitch_is_followed_inside_a_note():
    midi = 69.0 + 0.3 * np.sin(2.0 * np.pi * 5.5 * np.arange(48000) / 16000) + 0.2
    (note,) = heard(tone(midi, 0.3, 2.7))
    times_s = np.arange(0.5, 2.5, FRAME_S)
    wanted = 69.2 + 0.3 * np.sin(2.0 * np.pi * 5.5 * times_s)
    found = 69.0 + 12.0 * np.log2(note.f0_hz(times_s) / 440.0)
    assert np.median(np.abs(found - wanted)) < 0.12
    assert np.corrcoef(found, wanted)[0, 1] > 0.9


def test_a_low_note_lasts_some_periods():
    """A thud that the network reports as a B0 is removed; an equally short bass note and a held B0 are kept."""

    def found(key, seconds):
        n_frames = round(seconds / FRAME_S)
        activations = np.zeros((2, 400, 88), np.uint8)
        activations[:, 100 : 100 + n_frames, key - 21] = 200
        cents = np.zeros((400, 88), np.int8)
        return [note.key for note in find_poly_notes(polyphony.Activations(*activations, cents))]

    assert found(23, 0.18) == []
    assert found(23, 0.5) == [23]
    assert found(35, 0.18) == [35]


def test_silence_and_noise_have_no_notes():
    assert heard(np.zeros(16000, np.float32)) == []
    noise = (0.1 * np.random.default_rng(0).normal(size=32000)).astype(np.float32)
    assert len(heard(noise)) <= 1


def test_nothing_and_too_much_are_refused(monkeypatch):
    with pytest.raises(InputError, match="empty"):
        track_activations([])
    monkeypatch.setattr(polyphony, "LONGEST_S", 0.5)
    with pytest.raises(InputError, match="longer than"):
        track_activations([np.zeros(16000, np.float32)])


def power_shares(spectrum, f0_hz):
    """The shares [n] of notes in a power spectrum."""
    power = note_energies(spectrum, f0_hz)[1].sum(axis=1)
    return power / power.sum()


@pytest.mark.parametrize("difference_db", [-6.0, 0.0, 6.0, 12.0])
@pytest.mark.parametrize("interval", [4, 7, 12, 12 * np.log2(3), 24])
@pytest.mark.parametrize("turn", [0.0, np.pi / 2])
def test_shares_are_those_of_the_powers(interval, difference_db, turn):
    """Also of notes whose harmonics partly or all coincide. With one phase their amplitudes add there, not powers."""
    other = tone(60 + interval, 0.0, 3.0, gain=10.0 ** (-difference_db / 20.0), n_harmonics=12, turn=turn)
    sound = tone(60, 0.0, 3.0, n_harmonics=24) + other
    spectrum = np.abs(np.fft.rfft(sound[16000:18048] * np.hanning(2048))) ** 2
    shares = power_shares(spectrum, 440.0 * 2.0 ** ((np.array([60.0, 60.0 + interval]) - 69.0) / 12.0))
    assert shares.sum() == pytest.approx(1.0)
    found_db = 10.0 * np.log10(shares[0] / shares[1])
    is_sum = interval >= 12 and turn == 0.0
    assert found_db == pytest.approx(difference_db, abs=9.0 if is_sum else 1.5)


def test_odd_harmonics_leave_the_even_ones_to_the_octave_above():
    phase = 2.0 * np.pi * 220.0 * np.arange(2048) / 16000
    low = sum(np.sin(k * phase) / k**2 for k in range(1, 24, 2))
    for octave_db in (-20.0, -10.0, 0.0):
        high = 10.0 ** (octave_db / 20.0) * sum(np.cos(2 * k * phase) / k for k in range(1, 12))
        shares = power_shares(np.abs(np.fft.rfft((low + high) * np.hanning(2048))) ** 2, np.array([220.0, 440.0]))
        expected_db = 10.0 * np.log10(np.mean(high**2) / np.mean(low**2))
        assert 10.0 * np.log10(shares[1] / shares[0]) == pytest.approx(expected_db, abs=1.5)


def test_shares_end_with_their_notes(chord):
    notes = [PolyNote(start, stop, key, 0.9, np.zeros(round((stop - start) / FRAME_S)))
             for key, start, stop in ((57, 0.5, 2.0), (61, 1.0, 2.5))]  # fmt: skip
    low, high = measure_shares(np.array_split(chord, 5), notes, 250)
    assert (low.first, len(low.power), high.first, len(high.power)) == (125, 375, 250, 375)
    np.testing.assert_allclose(low.power[5:115], 1.0)  # alone
    np.testing.assert_allclose(high.power[255:], 1.0)
    np.testing.assert_allclose(low.power[135:365] + high.power[10:240], 1.0, atol=0.15)
    for one, again in zip((low, high), measure_shares([chord], notes, 250), strict=True):
        np.testing.assert_allclose(again.power, one.power, atol=1e-6)
