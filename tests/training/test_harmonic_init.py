"""What a network plays before it learns: harmonics that fall, where the preset says so."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from ddsp_cli import scaling
from ddsp_cli.config import load_preset
from ddsp_cli.engine import Autoencoder
from ddsp_cli.training.harmonic_init import init_harmonic_rolloff, rolloff_bias


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 4.0])
def test_amplitudes_fall_with_their_number(exponent):
    amplitudes = scaling.exp_sigmoid(rolloff_bias(100, exponent), threshold=0.0)
    np.testing.assert_allclose(amplitudes / amplitudes[0], np.arange(1, 101) ** -exponent, rtol=1e-4)
    assert amplitudes[0] == pytest.approx(scaling.exp_sigmoid(np.zeros(1), threshold=0.0)[0])


def test_only_the_distribution_is_set():
    preset = load_preset("hifi")
    model = Autoencoder(preset.model, preset.training.loss, seed=0)
    rng = np.random.default_rng(0)
    before = rng.normal(size=model.decoder.dense_out.bias.shape).astype(np.float32)
    model.decoder.dense_out.bias.assign(before)
    init_harmonic_rolloff(model, 2.0)
    after = np.array(ops.convert_to_numpy(model.decoder.dense_out.bias))
    start = 0
    for name, size in model.decoder.outputs.items():
        part = slice(start, start + size)
        expected = rolloff_bias(size, 2.0) if name == "harmonic_distribution" else before[part]
        np.testing.assert_array_equal(after[part], expected, err_msg=name)
        start += size
    assert start == len(after)


def test_no_fall_changes_nothing():
    model = Autoencoder(load_preset("light").model, seed=0)
    before = np.array(ops.convert_to_numpy(model.decoder.dense_out.bias))
    init_harmonic_rolloff(model, 0.0)
    np.testing.assert_array_equal(np.array(ops.convert_to_numpy(model.decoder.dense_out.bias)), before)
