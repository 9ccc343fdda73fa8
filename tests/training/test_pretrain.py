"""Pretraining on tones whose harmonics are known: amplitude 0.1 / k for k up to 7, and nothing above."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from ddsp_cli.training import loop
from ddsp_cli.training.batches import Windows
from ddsp_cli.training.pretrain import FLOOR_DB, ControlFit, measure_targets, pretrain
from fixtures import small_model
from training_fixtures import small_preset, tones

HARMONICS_DB = 20 * np.log10(0.1 / np.arange(1, 8))


@pytest.fixture(scope="module")
def windows() -> Windows:
    return Windows(tones(8), small_model(), 250)


def predicted_db(model, windows):
    """Levels of the harmonics that would sound, [N, F, K]."""
    found = model({name: ops.convert_to_tensor(values) for name, values in windows.inputs.items()})
    amplitudes = ops.convert_to_numpy(found["harmonic/amplitude"] * found["harmonic/harmonic_distribution"])
    return 20 * np.log10(amplitudes + 1e-10)


def test_targets_are_the_amplitudes_of_the_recordings(windows):
    targets = measure_targets(windows)
    inner = slice(3, -3)
    assert (targets.harmonic_weight[:, inner, :7] == 1).all()
    assert np.abs(targets.harmonic_db[:, inner, :7] - HARMONICS_DB).max() < 0.5
    assert targets.noise_db[:, inner].max() < HARMONICS_DB[0] - 40
    assert targets.harmonic_db.min() >= FLOOR_DB
    f0_hz = windows.inputs["f0_hz"]
    above = np.arange(1, 21) * f0_hz > 8000
    assert above.any()
    assert (targets.harmonic_weight[above] == 0).all()


def test_unvoiced_frames_teach_nothing():
    examples = tones(2)
    examples.f0_hz[1] = 0.0
    targets = measure_targets(Windows(examples, small_model(), 250))
    assert targets.noise_weight[0].all()
    assert not targets.noise_weight[1].any()
    assert not targets.harmonic_weight[1].any()


def test_decoder_learns_the_measured_levels(windows):
    model = loop.build(small_preset(), seed=0)
    done: list[int] = []
    errors_db = [
        pretrain(model, windows, n_steps, 8, seed=0, compiled=False, report=done.append) for n_steps in (2, 200)
    ]
    assert done == [*range(1, 3), *range(1, 201)]
    assert errors_db[1] < 0.25 * errors_db[0]
    error = predicted_db(model, windows)[:, 5:-5, :7] - HARMONICS_DB
    assert np.abs(error).mean() < 4


def test_a_control_at_the_floor_is_pulled_back(windows):
    """The gradient of the levels does not vanish where that of the bounded scaling does."""
    model = loop.build(small_preset(), seed=0)
    bias = model.decoder.dense_out.bias
    values = np.array(ops.convert_to_numpy(bias))
    values[1:8] = -30.0  # of the distribution: amplitudes of 1e-26
    bias.assign(values)
    before = ControlFit(model)({name: ops.convert_to_tensor(v) for name, v in windows.inputs.items()})["harmonic"]
    assert ops.convert_to_numpy(before)[..., :7].max() < -400
    pretrain(model, windows, 100, 8, seed=0, compiled=False, report=lambda step: None)
    after = ControlFit(model)({name: ops.convert_to_tensor(v) for name, v in windows.inputs.items()})["harmonic"]
    assert (ops.convert_to_numpy(after - before)[..., :7] > 2).all()
