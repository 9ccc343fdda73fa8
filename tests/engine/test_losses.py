"""Losses: the original's values and gradients, and finite values at silence."""

import keras
import numpy as np
import pytest
from keras import ops

from ddsp_cli import engine
from ddsp_cli.config import LossConfig
from engine.golden import RELATIVE, Golden, error
from engine.gradients import gradient, slope
from fixtures import small_model

TERMS = {
    "mag": {},
    "mag_logmag": {"logmag_weight": 1.0},
    "L2": {"logmag_weight": 1.0, "loss_type": "L2"},
    "delta": {"mag_weight": 0.0, "delta_time_weight": 1.0, "delta_freq_weight": 1.0},
    "cumsum": {"mag_weight": 0.0, "cumsum_freq_weight": 1.0},
    "loud": {"mag_weight": 0.0, "loudness_weight": 1.0},
    "one512": {"fft_sizes": (512,), "logmag_weight": 1.0},
}
SMALL = {"fft_sizes": (64, 32)}


def tensor(x):
    return ops.convert_to_tensor(np.asarray(x, np.float32))


def test_a_single_window_has_no_change_over_time():
    """Audio shorter than the hop of the largest FFT size gave the mean of nothing, NaN."""
    one, other = np.random.default_rng(0).normal(size=(2, 1, 400)).astype(np.float32)
    for kind in ("L1", "L2", "COSINE"):
        loss, short = (engine.SpectralLoss(n, 0.0, delta_time_weight=1.0, loss_type=kind) for n in ((2048, 64), (64,)))
        assert float(loss.call(one, other)) == float(short.call(one, other)) > 0.0


@pytest.mark.parametrize("rate_hz", [16000, 24000, 32000, 44100, 48000])
def test_loudness_is_compared_at_every_rate_of_a_model(rate_hz):
    tone = (0.1 * np.sin(2 * np.pi * 1000 * np.arange(rate_hz) / rate_hz)).astype(np.float32)[None]
    loss = engine.SpectralLoss(mag_weight=0.0, loudness_weight=1.0, sample_rate_hz=rate_hz)
    assert float(loss.call(tone, tone / 2.0)) == pytest.approx(20.0 * np.log10(2.0), abs=0.1)


@pytest.mark.parametrize("name", TERMS)
def test_spectral_loss_and_gradient_agree(name):
    golden = Golden("spectral_loss")
    loss = engine.SpectralLoss(**TERMS[name])
    target = golden["a"]
    assert error(loss.call(target, golden["b"]), golden.array(f"loss_{name}")) < RELATIVE
    found = gradient(lambda b: loss.call(target, b), golden.array("b"))
    assert error(found[:, :500], golden.array(f"grad_{name}")) < RELATIVE


@pytest.mark.parametrize("name", TERMS)
def test_a_preset_chooses_the_terms_of_the_loss(name):
    golden = Golden("spectral_loss")
    terms = {"logmag_weight": 0.0, "log_floor": 0.0} | TERMS[name]
    loss = engine.Autoencoder(small_model(), LossConfig(**terms)).spectral_loss
    assert error(loss.call(golden["a"], golden["b"]), golden.array(f"loss_{name}")) < RELATIVE


@pytest.mark.parametrize("kind", engine.losses.LOSS_TYPES)
def test_terms_of_weight_0_are_not_computed(kind, monkeypatch):
    computed = set()

    def noted(name, function):
        return lambda *args, **kwargs: computed.add(name) or function(*args, **kwargs)

    for name in ("stft_magnitude", "a_weighted_loudness", "SpectralDistance"):
        monkeypatch.setattr(engine.losses, name, noted(name, getattr(engine.losses, name)))
    sounds = np.random.default_rng(5).standard_normal((2, 1, 4096))
    only = {
        "loudness_weight": {"a_weighted_loudness"},
        "delta_time_weight": {"stft_magnitude"},
        "mag_weight": {"stft_magnitude" if kind == "COSINE" else "SpectralDistance"},
    }
    for name, expected in only.items():
        engine.SpectralLoss((64,), loss_type=kind, **{"mag_weight": 0.0, name: 1.0}).call(*map(tensor, sounds))
        assert computed == expected
        computed.clear()


@pytest.mark.parametrize("kind", engine.losses.LOSS_TYPES)
def test_gradient_is_the_slope_of_all_terms(kind):
    rng = np.random.default_rng(0)
    target, value, along = rng.standard_normal((3, 2, 300))
    loss = engine.SpectralLoss(
        (64, 32), 1.0, 0.5, 1e-3, loss_type=kind, delta_time_weight=0.3, delta_freq_weight=0.2, cumsum_freq_weight=0.1
    )
    found = gradient(lambda x: loss.call(tensor(target), x), value)
    measured = slope(lambda x: loss.call(tensor(target), x), value, along, 1e-3)
    assert float((found * along).sum()) == pytest.approx(measured, rel=0.03, abs=1e-3)


def test_equal_sounds_are_at_distance_0_and_silence_has_a_gradient():
    sound = np.random.default_rng(0).standard_normal((1, 256))
    loss = engine.SpectralLoss(**SMALL, logmag_weight=1.0, log_floor=1e-5)
    assert float(ops.convert_to_numpy(loss.call(tensor(sound), tensor(sound)))) == 0.0
    for target, value in ((sound, 0 * sound), (0 * sound, 0 * sound), (0 * sound, sound)):
        assert np.isfinite(gradient(lambda x, t=target: loss.call(tensor(t), x), value)).all()


def test_a_batch_costs_the_mean_of_its_examples():
    target, value = np.random.default_rng(3).standard_normal((2, 3, 256))
    loss = engine.SpectralLoss(**SMALL, logmag_weight=1.0)
    together = float(ops.convert_to_numpy(loss.call(tensor(target), tensor(value))))
    alone = [
        float(ops.convert_to_numpy(loss.call(tensor(target[i : i + 1]), tensor(value[i : i + 1])))) for i in range(3)
    ]
    assert together == pytest.approx(np.mean(alone), rel=1e-5)


def test_loss_goes_through_its_config():
    loss = engine.SpectralLoss((64,), 1.0, 0.5, 1e-5, loss_type="L2", loudness_weight=0.1)
    again = engine.SpectralLoss.from_config(loss.get_config())
    assert again.get_config() == loss.get_config()
    with pytest.raises(ValueError, match="must be one of L1, L2, COSINE"):
        engine.SpectralLoss(loss_type="L3")


def test_embedding_loss_trains_the_sound_and_not_the_model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((256,))
    model = keras.Model(inputs, [keras.layers.Dense(8)(inputs), keras.layers.Dense(3)(inputs)])
    loss = engine.EmbeddingLoss(model, weight=2.0)
    target, value = np.random.default_rng(4).standard_normal((2, 2, 256))
    assert not model.trainable_variables
    assert float(ops.convert_to_numpy(loss.call(tensor(value), tensor(value)))) == 0.0
    found = gradient(lambda x: loss.call(tensor(target), x), value)
    # along the gradient, where the slope is steepest and least lost in float32
    steepest = found / np.linalg.norm(found)
    measured = slope(lambda x: loss.call(tensor(target), x), value, steepest, 1e-3)
    assert float(np.linalg.norm(found)) == pytest.approx(measured, rel=0.01)
    assert engine.EmbeddingLoss.from_config(loss.get_config()).weight == 2.0


def test_silence_is_left_towards_the_target():
    target = np.random.default_rng(0).standard_normal((1, 512)).astype(np.float32)
    loss = engine.SpectralLoss((128, 64), logmag_weight=1.0, log_floor=1e-3)
    found = gradient(lambda x: loss.call(target, x), np.zeros_like(target))
    assert np.abs(found).max() > 1e-3
    assert float((found * target).sum()) < 0.0  # a step against the gradient goes towards the target
    before = float(ops.convert_to_numpy(loss.call(target, 0 * target)))
    assert float(ops.convert_to_numpy(loss.call(target, -1e-3 * found / np.abs(found).max()))) < before


@pytest.mark.parametrize("kind", engine.losses.LOSS_TYPES)
def test_weights_of_examples_and_samples(kind):
    rng = np.random.default_rng(1)
    target, value = rng.standard_normal((2, 2, 512)).astype(np.float32)
    weights = {"delta_time_weight": 0.5, "loudness_weight": 0.1}
    loss = engine.SpectralLoss((128, 64), 1.0, 0.5, 1e-3, loss_type=kind, **weights)

    def number(*args):
        return float(ops.convert_to_numpy(loss.call(*args)))

    plain = number(target, value)
    assert number(target, value, np.ones((2, 512))) == pytest.approx(plain, rel=1e-5)
    assert number(target, value, np.ones(2)) == pytest.approx(plain, rel=1e-5)
    first = number(target[:1], value[:1])
    assert number(target, value, np.array([1.0, 0.0])) == pytest.approx(first / 2, rel=1e-4)
    assert float(ops.convert_to_numpy(loss(target, value, sample_weight=np.array([1.0, 0.0])))) == pytest.approx(
        first / 2, rel=1e-4
    )
    changed = value.copy()
    changed[:, 300:] += 1.0
    mask = (np.arange(512) < 256).astype(np.float32)[None].repeat(2, 0)
    without = engine.SpectralLoss((32,), 1.0, 0.5, 1e-3, loss_type=kind)
    assert float(ops.convert_to_numpy(without.call(target, changed, mask))) == pytest.approx(
        float(ops.convert_to_numpy(without.call(target, value, mask))), rel=1e-6
    )
    found = gradient(lambda x: without.call(target, x, mask), value)
    along = rng.standard_normal(value.shape)
    measured = slope(lambda x: without.call(tensor(target), x, mask), value, along, 1e-3)
    assert float((found * along).sum()) == pytest.approx(measured, rel=0.03, abs=2e-3)


def test_a_group_of_losses_is_their_sum():
    target, dry, wet = np.random.default_rng(2).standard_normal((3, 1, 256)).astype(np.float32)
    group = engine.LossGroup(
        {
            "wet": (engine.SpectralLoss((64,)), ["target", "audio"]),
            "dry": (engine.SpectralLoss((64,), mag_weight=0.5), ["target", "dry"]),
        }
    )
    found = {
        name: float(ops.convert_to_numpy(x)) for name, x in group({"target": target, "dry": dry, "audio": wet}).items()
    }
    assert found["total"] == pytest.approx(found["wet"] + found["dry"], rel=1e-6)
    again = engine.LossGroup.from_config(group.get_config())
    assert float(ops.convert_to_numpy(again({"target": target, "dry": dry, "audio": wet})["total"])) == pytest.approx(
        found["total"], rel=1e-6
    )
    with pytest.raises(ValueError, match="must name two outputs"):
        engine.LossGroup({"a": (engine.mean_difference, ["audio"])})
