"""Beginnings of notes of an instrument whose difference is known: it plays the recordings itself, with a burst."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from ddsp_cli.bundle import Bundle
from ddsp_cli.bundle.layout import control_columns
from ddsp_cli.dataset.loader import Examples
from ddsp_cli.synthesis.articulation import SHAPES, Articulation
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.onsets import BOUND, HARD
from ddsp_cli.training.articulation import MAX_WINDOWS, measure_articulation
from ddsp_cli.training.output_layer import BIAS, KERNEL
from ddsp_cli.training.windows import Windows
from fixtures import make_card, random_weights, small_model

N_WINDOWS, N_NOTES, NOTE_FRAMES, REST_FRAMES = 8, 4, 36, 14

#: The bands of noise that hold bins between harmonics of 240 Hz, at 16 kHz.
KNOWN = slice(0, 5)


def bundle() -> Bundle:
    """Even noise, well below the harmonics."""
    model = small_model()
    weights = random_weights(model)
    columns = control_columns(model, "noise")["noise_magnitudes"]
    weights[KERNEL][:, columns], weights[BIAS][columns] = 0.0, 2.0
    return Bundle(make_card(model), weights, np.zeros(1, np.float32))


def windows(noise_db: float, steps: slice) -> Windows:
    """Pairs of bound notes after rests, played by the instrument with a burst at all onsets."""
    onset = np.zeros(SHAPES["onset_noise_db"], np.float32)
    onset[:, steps] = noise_db
    own = Articulation(
        **{name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()} | {"onset_noise_db": onset}
    )
    player = Instrument(Bundle(bundle().card, bundle().weights | own.as_weights(), np.zeros(1, np.float32)))
    note = np.arange(REST_FRAMES + NOTE_FRAMES)
    level = np.tile(np.where(note < REST_FRAMES, -80.0, -20.0), N_NOTES).astype(np.float32)
    second = np.tile(note >= REST_FRAMES + NOTE_FRAMES // 2, N_NOTES)
    curves = {"f0_hz": [], "power_db": [], "audio": []}
    for i in range(N_WINDOWS):
        f0_hz = np.repeat(np.where(second, 262.0, 233.0), 5).astype(np.float32)
        curves["audio"].append(np.concatenate(list(player.render(f0_hz, level, seed=100 + i))))
        curves["f0_hz"].append(f0_hz)
        curves["power_db"].append(np.repeat(level, 5))
    arrays = {name: np.array(values, np.float32) for name, values in curves.items()}
    examples = Examples(f0_confidence=np.ones_like(arrays["f0_hz"]), loudness_db=arrays["power_db"], **arrays)
    return Windows(examples, small_model(), 250)


def test_a_burst_of_noise_is_found_where_it_was_played():
    found = measure_articulation(bundle(), windows(9.0, slice(0, 3)))
    assert found is not None
    after_rest = found.onset_noise_db[HARD - 1, :, KNOWN]
    assert 4.0 < after_rest[1:3].mean() < 9.5
    assert np.abs(after_rest[5:]).mean() < 0.3
    assert np.abs(found.onset_harmonic_db[HARD - 1]).mean() < 0.5
    bound = found.onset_noise_db[BOUND - 1, :, KNOWN]
    assert bound[1:3].mean() > 2.0
    measured_db = bound[:3][bound[:3] != 0.0]  # 0 where too few notes have noise that can be measured
    assert len(measured_db) >= 4
    assert measured_db.min() > 3.0
    assert 4.5 < measured_db.mean() < 9.5
    assert np.abs(bound[5:]).mean() < 0.3


def test_an_instrument_that_plays_its_recordings_needs_nothing():
    found = measure_articulation(bundle(), windows(0.0, slice(0, 1)))
    assert found is not None
    for name, values in msgspec.structs.asdict(found).items():
        assert np.abs(values).mean() < 0.15, name
        assert np.abs(values).max() < 2.0, name


def test_recordings_of_few_notes_tell_nothing():
    made = windows(9.0, slice(0, 3))
    made.voiced[1:] = False
    made.voiced[0, 100:] = False
    assert measure_articulation(bundle(), made) is None


def test_an_instrument_that_cannot_be_played_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ddsp_cli.training.articulation.is_playable", lambda _: False)
    assert MAX_WINDOWS > 0
    assert measure_articulation(bundle(), windows(0.0, slice(0, 1))) is None
