"""A base of two synthetic instruments: it distinguishes them, and a new instrument starts near the more similar one."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from ddsp_cli.bundle.layout import base_config
from ddsp_cli.config import load_preset
from ddsp_cli.dataset.loader import Examples
from ddsp_cli.engine import Autoencoder
from ddsp_cli.errors import ModelError
from ddsp_cli.synthesis.decoder import NOTE_BIAS, decode, instrument_vectors
from ddsp_cli.synthesis.ops import NumpyOps
from ddsp_cli.training.base import VECTOR_DIMS, MixedCrops, MixedSound, fit_base, fit_base_to_sound
from ddsp_cli.training.start import SequencesOps, find_start, interpolate_from_base
from ddsp_cli.training.targets import measure_targets
from ddsp_cli.training.windows import Windows
from ddsp_cli.workflows.train_plan import is_base
from fixtures import small_model


def made(rolloff: float, n: int = 4, seed: int = 0) -> Windows:
    """Windows of tones whose harmonic k has the amplitude 0.1 / k**rolloff."""
    random = np.random.default_rng(seed)
    f0_hz = random.uniform(200, 400, (n, 1))
    t = np.arange(8000) / 16000
    audio = sum(0.1 / k**rolloff * np.sin(2 * np.pi * k * f0_hz * t) for k in range(1, 15))
    flat = np.ones((n, 125), np.float32)
    found = Windows(
        Examples(audio.astype(np.float32), (f0_hz * flat).astype(np.float32), flat, -20 * flat, -20 * flat),
        small_model(),
        250,
    )
    found.measure_targets(measure_targets)
    return found


@pytest.fixture(scope="module")
def base():
    return fit_base(small_model(), {"bright": made(0.5), "dull": made(2.5)}, 120, compiled=False)


def test_a_new_instrument_begins_as_the_nearest(base):
    config, weights, error_db = base
    assert error_db < 15
    for rolloff, nearest in ((0.8, "bright"), (2.2, "dull")):
        start = find_start(config, weights, made(rolloff, seed=1), "mine")
        assert start.nearest == nearest
        assert start.errors_db[nearest] == min(start.errors_db.values())
        assert start.weights
        assert all(name.startswith("decoder/") for name in start.weights)


def test_an_instrument_that_the_base_knows_begins_as_itself(base):
    config, weights, _ = base
    start = find_start(config, weights, made(0.5, seed=1), "dull")
    assert start.nearest == "dull"
    np.testing.assert_array_equal(start.vector, instrument_vectors(config, weights)["dull"])


def test_the_vector_of_a_new_instrument_is_fitted_between_those_of_others(base):
    config, weights, _ = base
    windows = made(1.5, n=6, seed=2)
    start = find_start(config, weights, windows, "mine")
    assert start.error_db < min(start.errors_db.values()) - 0.5
    known = instrument_vectors(config, weights)
    assert all(np.abs(start.vector - vector).max() > 0.01 for vector in known.values())
    assert np.abs(start.vector - known[start.nearest]).max() < 5.0, "no direction is followed without end"
    unfitted = find_start(config, weights, windows, "mine", vector_steps=0)
    np.testing.assert_array_equal(unfitted.vector, known[unfitted.nearest])
    # only the vector was fitted: the network is that of the base
    np.testing.assert_array_equal(start.weights["decoder/dense_out/kernel"], weights["decoder/dense_out/kernel"])


def test_weights_are_interpolated_from_the_base_at_the_vector(base):
    config, weights, _ = base
    start = find_start(config, weights, made(1.5, seed=1), "mine")
    trained = {name: value + 1.0 for name, value in start.weights.items()}
    trained |= {NOTE_BIAS: np.full((128, 3), 2.0, np.float32), "reverb/magnitudes": np.ones((4, 4), np.float32)}
    found = interpolate_from_base(config, weights, start.vector, trained, 0.75)
    assert found.keys() == trained.keys()
    for name, value in start.weights.items():
        np.testing.assert_allclose(found[name], value + 0.75, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(found[NOTE_BIAS], 1.5)
    np.testing.assert_array_equal(found["reverb/magnitudes"], trained["reverb/magnitudes"])


def test_only_a_model_of_the_same_kind_has_a_base():
    model = small_model()
    assert is_base(base_config(model, ["a", "b"], VECTOR_DIMS), model)
    assert not is_base(model, model)
    with_bias = msgspec.structs.replace(model, decoder=msgspec.structs.replace(model.sizes, note_bias=True))
    assert is_base(base_config(with_bias, ["a", "b"], VECTOR_DIMS), with_bias), "a base has no note bias"
    assert base_config(with_bias, ["a", "b"], VECTOR_DIMS) == base_config(model, ["a", "b"], VECTOR_DIMS)
    with pytest.raises(ModelError, match="no instruments"):
        find_start(model, {}, made(1.0, n=1), "mine")


def test_every_instrument_appears_as_often():
    inputs, targets = MixedCrops([made(1.0), made(2.0)], 8, 0.5, seed=0, n_steps=2)[1]
    assert sorted(inputs["instrument"][:, 0, 0]) == [0.0] * 4 + [1.0] * 4
    assert inputs["f0_hz"].shape == (8, 25, 1)
    assert targets["harmonic_db"].shape[:2] == (8, 25)


def test_sequences_side_by_side_are_those_one_by_one(base):
    config, weights, _ = base
    random = np.random.default_rng(4)
    n, n_frames = 3, 7
    inputs = {
        "pw_scaled": random.uniform(0.3, 0.9, (n * n_frames, 1)),
        "f0_scaled": random.uniform(0.4, 0.6, (n * n_frames, 1)),
        "instrument": random.normal(size=(n * n_frames, 16)),
    }
    inputs = {name: np.asarray(inputs[name], np.float32) for name in config.inputs}
    f0_hz = np.asarray(440.0 * 2.0 ** ((127.0 * inputs["f0_scaled"] - 69.0) / 12.0), np.float32)
    state = np.zeros((1, config.sizes.rnn_units), np.float32)
    together, _ = decode(SequencesOps(n_frames), config, weights, inputs, f0_hz, state)
    for i in range(n):
        part = slice(i * n_frames, (i + 1) * n_frames)
        own = {name: value[part] for name, value in inputs.items()}
        alone, _ = decode(NumpyOps(), config, weights, own, f0_hz[part], state)
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][part], value, rtol=1e-3, atol=1e-6)


@pytest.mark.usefixtures("uncompiled")
def test_a_base_learns_from_sound_with_a_room_for_each_instrument(base):
    config, weights, _ = base
    training = load_preset("vst").training
    loss = msgspec.structs.replace(training.loss, fft_sizes=(256,))
    training = msgspec.structs.replace(training, batch_size=4, crop_s=0.5, warmup_steps=2, room_pace=100.0, loss=loss)
    windows = {"bright": made(0.5), "dull": made(2.5)}
    echo = windows["dull"].sound  # half of the sound once more, after 0.1 s: only the room can explain its end
    echo[:, 1600:] += 0.5 * echo[:, :-1600].copy()
    losses = []
    for n_steps in (1, 12):
        found, loss = fit_base_to_sound(config, weights, training, windows, n_steps, compiled=False)
        losses.append(loss)
    assert losses[1] < 0.92 * losses[0]
    assert found.keys() == weights.keys()
    moved = {name for name in weights if np.any(found[name] != weights[name])}
    assert moved == {name for name in weights if name.startswith(("decoder/", "instruments/"))}


def test_separate_rooms_are_those_of_the_examples(base):
    config, _, _ = base
    training = load_preset("vst").training
    model = Autoencoder(config, training.loss, lowest_hz=100.0, separate_rooms=True)
    model.rooms.assign(np.stack([np.full(model.rooms.shape[1], -9.0), np.zeros(model.rooms.shape[1])]))
    inputs, sound = MixedSound([made(1.0), made(2.0)], 4, 0.5, seed=0, n_steps=1)[0]
    rendered = model(inputs)
    energy = np.sum(np.square(np.asarray(rendered["reverb/ir"])), axis=1)
    index = inputs["instrument"][:, 0, 0]
    assert energy[index == 1.0].min() > 100.0 * energy[index == 0.0].max()
    assert np.asarray(rendered["audio"]).shape == sound.shape
    plain, penalised = (float(model.compute_loss(inputs, sound, rendered, training=on)) for on in (False, True))
    controls = float(model.control_penalty(inputs, rendered))
    assert penalised - controls > plain + 0.1 * training.loss.room_penalty * energy.mean()


def test_a_model_of_one_of_the_instruments_has_its_room_and_sounds_the_same(base):
    config, _, _ = base
    model = Autoencoder(config, seed=1, separate_rooms=True)
    random = np.random.default_rng(0)
    model.rooms.assign(random.normal(-1.0, 0.5, model.rooms.shape))
    assert not any("room" in name or "reverb" in name for name in model.get_weights_by_name())
    inputs, _ = MixedSound([made(1.0), made(2.0)], 2, 0.5, seed=0, n_steps=1)[0]
    for i, name in enumerate(config.instruments.names):
        own, weights = model.for_instrument(name)
        alone = Autoencoder(own, seed=1)
        alone.set_weights_by_name(weights)
        inputs["instrument"][:] = i
        together, single = model(inputs), alone(inputs)
        for signal in ("harmonic", "noise/noise_magnitudes"):
            np.testing.assert_allclose(
                np.asarray(together[signal])[0], np.asarray(single[signal])[0], rtol=1e-3, atol=1e-5, err_msg=signal
            )
        response = np.asarray(together["reverb/ir"])[0] * (np.arange(4000) > 0)  # its first tap is the dry sound's
        np.testing.assert_allclose(alone.impulse_response(), response, atol=1e-6)
        np.testing.assert_allclose(model.impulse_response(weights), response, atol=1e-6)


def test_separate_rooms_need_instruments():
    with pytest.raises(ModelError, match="several instruments"):
        Autoencoder(small_model(), separate_rooms=True)
