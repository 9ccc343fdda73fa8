"""Pretraining on tones whose harmonics are known: amplitude 0.1 / k for k up to 7, and 0 above."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from keras import ops

from ddsp_cli.engine.losses import CONTROL_TARGETS, ControlLoss
from ddsp_cli.scaling import NOISE_VARIANCE
from ddsp_cli.training import loop, start
from ddsp_cli.training.batches import as_arrays
from ddsp_cli.training.pretrain import BrokenLossError, pretrain
from ddsp_cli.training.targets import FLOOR_DB, measure_targets, window_levels
from ddsp_cli.training.windows import Windows
from fixtures import small_model
from training_fixtures import small_preset, tones

HARMONICS_DB = 20 * np.log10(0.1 / np.arange(1, 8))


@pytest.fixture(scope="module")
def windows() -> Windows:
    return Windows(tones(8, seconds=0.48), small_model(), 250)


def predicted_db(model, windows):
    """Levels of the harmonics that would sound, [N, F, K]."""
    found = model({name: ops.convert_to_tensor(values) for name, values in windows.inputs.items()})
    amplitudes = ops.convert_to_numpy(found["harmonic/amplitude"] * found["harmonic/harmonic_distribution"])
    return 20 * np.log10(amplitudes + 1e-10)


def test_targets_are_the_amplitudes_of_the_recordings(windows):
    targets = measure_targets(windows)
    inner = slice(3, -3)
    assert (targets.harmonic_weight[:, inner, :7] > 0.2).all()  # higher ones count less
    assert (np.diff(targets.harmonic_weight[:, inner, :7], axis=-1) < 0).all()
    assert np.abs(targets.harmonic_db[:, inner, :7] - HARMONICS_DB).max() < 0.5
    assert targets.noise_db[:, inner].max() < HARMONICS_DB[0] - 40
    assert targets.harmonic_db.min() >= FLOOR_DB
    f0_hz = windows.inputs["f0_hz"]
    above = np.arange(1, 21) * f0_hz > 8000
    assert above.any()
    assert (targets.harmonic_weight[above] == 0).all()


def test_noise_below_half_of_f0_is_measured_where_it_is():
    """White noise, and the same without what is below 250 Hz, under a tone of 660 Hz."""
    model = small_model()
    rate_hz = model.sample_rate_hz
    t_s = np.arange(2 * rate_hz) / rate_hz
    white = np.random.default_rng(0).normal(size=len(t_s))
    spectrum = np.fft.rfft(white)
    spectrum[np.fft.rfftfreq(len(white), 1 / rate_hz) < 250.0] = 0.0
    tone = 0.1 * np.sin(2 * np.pi * 660.0 * t_s)
    f0_hz = np.full(2 * model.frame_rate_hz, 660.0, np.float32)
    measured = [
        window_levels((tone + 1e-3 * noise).astype(np.float32), model, f0_hz, rate_hz / 2, 20, 65, 1)[1]
        for noise in (white, np.fft.irfft(spectrum))
    ]
    flat_db, cut_db = (np.median(one[10:-10, :5], axis=0) for one in measured)
    level_db = -60.0 - 10.0 * np.log10(NOISE_VARIANCE)  # magnitude of noise of that variance
    np.testing.assert_allclose(flat_db[:3], level_db, atol=1.5)  # bands at 0, 125 and 250 Hz
    assert (cut_db[:2] < level_db - 20.0).all()
    np.testing.assert_allclose(cut_db[3:], flat_db[3:], atol=1.5)


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
    inputs = {name: ops.convert_to_tensor(value) for name, value in windows.inputs.items()}
    loss = ControlLoss(model.config, balance_weight=0.0)
    before_db = float(loss.call(model.raw_controls(inputs), vars(measure_targets(windows))))
    error_db = pretrain(model, windows, 140, 8, seed=0, compiled=False, report=done.append)
    assert done == [*range(1, 141)]
    assert error_db < 0.25 * before_db
    error = predicted_db(model, windows)[:, 5:-5, :7] - HARMONICS_DB
    assert np.abs(error).mean() < 4


def test_a_control_at_the_floor_is_pulled_back(windows):
    """The gradient of the levels does not vanish where that of the bounded scaling does."""
    model = loop.build(small_preset(), seed=0)
    bias = model.decoder.dense_out.bias
    values = np.array(ops.convert_to_numpy(bias))
    values[1:8] = -30.0  # of the distribution: amplitudes of 1e-26
    bias.assign(values)
    inputs = {name: ops.convert_to_tensor(value) for name, value in windows.inputs.items()}
    before = ops.convert_to_numpy(model.raw_controls(inputs)["harmonic_distribution"])[..., :7]
    pretrain(model, windows, 50, 8, seed=0, compiled=False, report=lambda step: None)
    after = ops.convert_to_numpy(model.raw_controls(inputs)["harmonic_distribution"])[..., :7]
    assert (after - before > 0.1).all()


def test_the_mean_power_of_an_octave_counts(windows):
    """Levels that vary unpredictably between -20 and -40 dB: every level between has the same mean error in dB, and the
    one whose power is the mean power has no error of balance."""
    model = loop.build(small_preset(), seed=0)
    inputs = {name: ops.convert_to_tensor(value[:1]) for name, value in windows.inputs.items()}
    raw = model.raw_controls(inputs)
    n_frames = raw["amplitude"].shape[1]
    mean_db = 10 * np.log10((10**-2.0 + 10**-4.0) / 2)

    def error_db(balance_weight, level_db):
        shape = {name: raw[name].shape for name in ("harmonic_distribution", "noise_magnitudes")}
        measured = np.where(np.arange(n_frames) % 2, -20.0, -40.0)[None, :, None]
        targets = {
            "harmonic_db": np.full(shape["harmonic_distribution"], -60.0, np.float32),
            "harmonic_weight": np.zeros(shape["harmonic_distribution"], np.float32),
            "noise_db": np.broadcast_to(measured, shape["noise_magnitudes"]).astype(np.float32),
            "noise_weight": np.ones(shape["noise_magnitudes"], np.float32),
        }
        # the sigmoid whose scaled value has that level
        share = 10 ** ((level_db - 20 * np.log10(2.0)) / (20 * np.log(10.0)))
        logit = np.log(share / (1 - share)) - model.config.processors["noise"].initial_bias
        played = {**raw, "noise_magnitudes": ops.full(shape["noise_magnitudes"], logit)}
        return float(ControlLoss(model.config, balance_weight=balance_weight).call(played, targets))

    plain = [error_db(0.0, level_db) for level_db in (-30.0, mean_db)]
    assert plain[0] == pytest.approx(plain[1], abs=0.05)
    balance = [error_db(1.0, level_db) - error_db(0.0, level_db) for level_db in (-30.0, mean_db)]
    assert balance[0] == pytest.approx(0.5 * (mean_db + 30.0), abs=0.1)
    assert balance[1] == pytest.approx(0.0, abs=0.1)


def test_measured_levels_count_beside_the_spectral_loss(windows):
    """The weighted error in dB is added while training, and only there."""
    from msgspec.structs import replace

    windows.targets = windows.targets or vars(measure_targets(windows))
    rows, starts = np.arange(4), np.zeros(4, int)
    inputs, audio = as_arrays(windows.cut(rows, starts, 20))
    preset = small_preset()
    training = replace(preset.training, loss=replace(preset.training.loss, control_weight=0.5))
    weighted = loop.build(replace(preset, training=training), seed=0)
    rendered = weighted(inputs)
    plain = weighted.compute_loss(inputs, audio, rendered, training=False)
    both = weighted.compute_loss(inputs, audio, rendered, training=True)
    raw = {name: rendered[f"raw/{name}"] for name in weighted.decoder.outputs}
    error_db = float(ControlLoss(weighted.config).call(raw, {name: inputs[name] for name in CONTROL_TARGETS}))
    assert error_db > 5
    assert float(both - plain) == pytest.approx(0.5 * error_db, rel=1e-4)
    assert float(weighted.control_penalty({"f0_hz": inputs["f0_hz"]}, rendered)) == 0.0


def test_an_error_that_is_not_a_number_ends_the_fit():
    windows = Windows(tones(2), small_model(), 250)
    windows.measure_targets(measure_targets)
    windows.targets["noise_db"] = np.full_like(windows.targets["noise_db"], np.nan)
    done: list[int] = []
    with pytest.raises(BrokenLossError):
        pretrain(loop.build(small_preset(), seed=0), windows, 3, 2, seed=0, compiled=False, report=done.append)
    assert done == []


def test_the_first_fit_of_a_vector_weighs_levels_as_the_training():
    defaults = {name: one.default for name, one in inspect.signature(ControlLoss).parameters.items()}
    assert (defaults["noise_weight"], defaults["level_weight"]) == (start.NOISE_WEIGHT, start.LEVEL_WEIGHT)
