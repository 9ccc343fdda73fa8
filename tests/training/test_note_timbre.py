"""Deviations of notes in recordings that an instrument of known deviations plays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ddsp_cli.bundle import Bundle
from ddsp_cli.bundle.layout import VARIATION, control_columns
from ddsp_cli.config import DecoderConfig
from ddsp_cli.dataset.loader import Examples
from ddsp_cli.scaling import LOWEST_NOTE, midi_to_hz
from ddsp_cli.synthesis.decoder import NOTE_BIAS, Decoder
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.variation import NOISE_EDGES_HZ, PITCHES_MIDI, Variation, read_variation
from ddsp_cli.training.note_timbre import measure_deviation
from ddsp_cli.training.output_layer import BIAS, KERNEL
from ddsp_cli.training.windows import Windows
from fixtures import make_card, random_weights, small_model

N_WINDOWS, NOTE_FRAMES, REST_FRAMES = 12, 34, 16

#: Frames of a window.
N_FRAMES = 250

#: Notes of the recordings.
PLAYED = (57, 60, 64, 66)


def variation(note_db: float, note_noise_db: float, drift_db: float) -> Variation:
    """Nothing moves fast within a note."""
    n_harmonics = small_model().processors["harmonic"].n_harmonics
    still = np.zeros((len(PITCHES_MIDI), n_harmonics), np.float32)
    noise_db = np.zeros(len(NOISE_EDGES_HZ) - 1, np.float32)
    of_notes, drift = (still + np.float32(size_db) for size_db in (note_db, drift_db))
    return Variation(still, still, 0.0, still[:, 0], noise_db, of_notes, noise_db + note_noise_db, drift)


def bundle(note_db: float = 0.0, note_noise_db: float = 0.0, drift_db: float = 0.0) -> Bundle:
    """Even noise, well below the harmonics, and no bias of any note."""
    model = small_model(decoder=DecoderConfig(channels=16, rnn_units=16, layers_per_stack=1, note_bias=True))
    weights = random_weights(model)
    columns = control_columns(model, "noise")["noise_magnitudes"]
    weights[KERNEL][:, columns], weights[BIAS][columns] = 0.0, 3.0
    moving = variation(note_db, note_noise_db, drift_db).as_weights()
    return Bundle(make_card(model), weights | moving, np.zeros(1, np.float32))


def raised(loaded: Bundle) -> Bundle:
    """The same instrument with another timbre on each of the notes; a raw unit is up to 20 dB."""
    columns = control_columns(loaded.card.model, "harmonic")["harmonic_distribution"]
    bias = np.zeros_like(loaded.weights[NOTE_BIAS])
    rows = np.array(PLAYED) - LOWEST_NOTE
    bias[rows, columns] = 0.6 * np.random.default_rng(0).normal(size=(len(rows), columns.stop - columns.start))
    return replace(loaded, weights=loaded.weights | {NOTE_BIAS: bias})


def windows(player: Instrument, n_notes: int = 5) -> Windows:
    """Notes of equal length in each window, after rests."""
    random = np.random.default_rng(1)
    note_frames = N_FRAMES // n_notes - REST_FRAMES
    level = np.tile(np.r_[np.full(REST_FRAMES, -80.0), np.full(note_frames, -20.0)], n_notes)
    curves = {"f0_hz": [], "power_db": [], "audio": []}
    for i in range(N_WINDOWS):
        midi = random.choice(PLAYED, n_notes)
        f0_hz = np.repeat(midi_to_hz(midi.astype(np.float64)), (REST_FRAMES + note_frames) * 5).astype(np.float32)
        sound = player.render(f0_hz, level.astype(np.float32), seed=100 + i, articulation=False)
        curves["audio"].append(np.concatenate(list(sound)))
        curves["f0_hz"].append(f0_hz * np.repeat(level > -50.0, 5))
        curves["power_db"].append(np.repeat(level, 5))
    arrays = {name: np.array(values, np.float32) for name, values in curves.items()}
    examples = Examples(f0_confidence=np.ones_like(arrays["f0_hz"]), loudness_db=arrays["power_db"], **arrays)
    return Windows(examples, player.model, 250)


def deviation(player: Bundle, recorded: Bundle, n_notes: int = 5) -> Variation:
    """What is measured when an instrument is compared with recordings of another."""
    found = read_variation(measure_deviation(player, windows(Instrument(recorded), n_notes)), 20)
    assert found is not None
    return found


def test_the_deviation_of_single_notes_is_measured():
    # the strongest harmonics hold most of the power, which is kept, so they deviate less
    assert np.median(deviation(bundle(), bundle(note_db=4.0)).note_db[4]) == pytest.approx(4.0, rel=0.35)
    same = deviation(bundle(), bundle())
    assert np.median(same.note_db) < 0.5
    assert same.note_noise_db.max() < 1.0


def test_the_deviation_of_noise_is_measured():
    found = deviation(bundle(), bundle(note_noise_db=4.0))
    assert found.note_noise_db == pytest.approx(np.full(len(NOISE_EDGES_HZ) - 1, 4.0), rel=0.4)


def test_drift_within_notes_is_measured():
    found = deviation(bundle(), bundle(drift_db=4.0), n_notes=2)
    assert np.median(found.drift_db[4]) == pytest.approx(4.0, rel=0.35)
    # the mean of the drift over a note, 2.8 dB, is not drawn a second time
    assert np.median(found.note_db[4]) < 2.0
    assert np.median(deviation(bundle(), bundle(note_db=4.0), n_notes=2).drift_db) < 0.5


def test_short_notes_tell_no_drift():
    assert not deviation(bundle(), bundle(drift_db=4.0)).drift_db.any()


def test_what_notes_of_one_pitch_share_is_no_deviation():
    alone, among = deviation(raised(bundle()), bundle()), deviation(bundle(), raised(bundle()))
    for found in (alone, among):
        assert np.median(found.note_db[4]) < 1.5
    plain_db, raised_db = (levels_db(one, PLAYED[1]) for one in (bundle(), raised(bundle())))
    assert np.abs(plain_db - raised_db).mean() > 2.5


def levels_db(loaded: Bundle, midi: int) -> np.ndarray:
    """Levels [K] of the harmonics of a held note."""
    f0_hz = np.full(NOTE_FRAMES, midi_to_hz(np.float64(midi)), np.float32)
    controls = Decoder(loaded).controls(f0_hz, np.full(NOTE_FRAMES, -20.0, np.float32))
    return 20.0 * np.log10((controls["amplitude"] * controls["harmonic_distribution"])[-1] + 1e-12)


def test_weights_without_variation_stay_unchanged():
    plain = replace(bundle(), weights={k: v for k, v in bundle().weights.items() if not k.startswith(VARIATION)})
    found = measure_deviation(plain, windows(Instrument(bundle())))
    assert found.keys() == plain.weights.keys()


def test_recordings_without_held_notes_tell_nothing():
    made = windows(Instrument(bundle()))
    made.voiced[:] = False
    found = measure_deviation(bundle(), made)
    for name, value in bundle().weights.items():
        np.testing.assert_array_equal(found[name], value)
