"""Encoders, decoders and the whole model."""

from __future__ import annotations

import keras
import msgspec
import numpy as np
import pytest
from keras import ops

from ddsp_cli import engine
from ddsp_cli.config import ExpDecayReverbConfig, InstrumentsConfig, LossConfig, ModelConfig, load_preset
from ddsp_cli.engine.networks import FastGru
from ddsp_cli.errors import ModelError

RNG = np.random.default_rng(0)


def tensor(x):
    return ops.convert_to_tensor(np.asarray(x, np.float32))


def numpy(x):
    return ops.convert_to_numpy(x)


def features(n_frames, **sizes):
    return {name: tensor(RNG.standard_normal((2, n_frames, size))) for name, size in sizes.items()}


def test_rnn_decoder_takes_a_latent_and_is_causal():
    decoder = engine.RnnFcDecoder(["f0", "z"], {"a": 1, "b": 3}, 8, 8, 1, input_sizes={"z": 4})
    x = features(6, f0=1, z=4)
    out = decoder(x)
    assert out["a"].shape == (2, 6, 1) and out["b"].shape == (2, 6, 3)
    first = decoder({name: value[:, :4] for name, value in x.items()})
    np.testing.assert_allclose(numpy(first["b"]), numpy(out["b"])[:, :4], atol=1e-5)
    again = engine.RnnFcDecoder.from_config(decoder.get_config())
    again.build()
    assert [v.shape for v in again.variables] == [v.shape for v in decoder.variables]


def test_a_note_bias_is_that_of_the_semitone_and_interpolated_between_semitones():
    decoder = engine.RnnFcDecoder(["f0_scaled"], {"a": 1, "b": 3}, 8, 8, 1, note_bias=True)
    midi = np.array([60.0, 60.25, 61.0, 72.0, 5.0])
    x = {"f0_scaled": tensor(np.repeat(midi[:, None, None], 2, axis=1) / 127.0)}
    plain = {name: numpy(value) for name, value in decoder(x).items()}
    table = np.zeros((88, 4), np.float32)
    table[60 - 21], table[61 - 21] = [1.0, 2.0, 3.0, 4.0], [0.0, 4.0, 0.0, 8.0]
    decoder.note_bias.assign(table)
    added = {name: numpy(value)[:, 0] - plain[name][:, 0] for name, value in decoder(x).items()}
    wanted = np.array([[1, 2, 3, 4], [0.75, 2.5, 2.25, 5.0], [0, 4, 0, 8], [0, 0, 0, 0], [0, 0, 0, 0]], np.float32)
    np.testing.assert_allclose(np.concatenate([added["a"], added["b"]], axis=1), wanted, atol=1e-4)
    again = engine.RnnFcDecoder.from_config(decoder.get_config())
    again.build()
    assert again.named_weights()["note_bias"].shape == (88, 4)
    with pytest.raises(ValueError, match="f0_scaled"):
        engine.RnnFcDecoder(["f0"], {"a": 1}, 8, 8, 1, note_bias=True)


def test_convolutional_decoder_streams_as_it_reads_at_once():
    decoder = engine.DilatedConvDecoder({"f0": 1, "ld": 1}, {"a": 1, "b": 3}, 8, 3, 3, 2)
    assert [state.shape[1] for state in decoder.initial_state()] == [2 * d for d in (1, 2, 4)] * 2
    x = features(40, f0=1, ld=1)
    whole = numpy(decoder(x)["b"])
    state, parts = decoder.initial_state(2), []
    for start, stop in ((0, 1), (1, 2), (2, 17), (17, 40)):
        out, state = decoder.stream({name: value[:, start:stop] for name, value in x.items()}, state)
        parts.append(numpy(out["b"]))
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-5)
    later = {name: np.array(numpy(value)) for name, value in x.items()}
    for value in later.values():
        value[:, 20:] = 9.0
    changed = numpy(decoder({name: tensor(value) for name, value in later.items()})["b"])
    np.testing.assert_allclose(changed[:, :20], whole[:, :20], atol=1e-5)
    assert np.abs(changed[:, 20:] - whole[:, 20:]).max() > 0.01
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(decoder))
    assert [v.shape for v in again.variables] == [v.shape for v in decoder.variables]


def test_mfcc_encoder_gives_a_latent_at_frame_rate_and_ignores_gain():
    encoder = engine.MfccEncoder(4, 8, 10, 256, 0.5)
    audio = RNG.standard_normal((2, 2048))
    z = encoder(tensor(audio), n_frames=20)
    assert z.shape == (2, 20, 4)
    assert encoder(tensor(audio)).shape == (2, 16, 4)
    # Gain shifts the mean cepstrum, which normalisation over time takes away.
    np.testing.assert_allclose(numpy(encoder(tensor(0.5 * audio), n_frames=20)), numpy(z), atol=1e-2)
    again = engine.MfccEncoder.from_config(encoder.get_config())
    again.build()
    assert [v.shape for v in again.variables] == [v.shape for v in encoder.variables]


def test_timbre_encoder_is_causal_and_normalised_by_its_training_set():
    encoder = engine.TimbreEncoder(4, 8, 10)
    measured = 30.0 + 7.0 * RNG.standard_normal((3, 20, 10))
    whole = numpy(encoder(tensor(measured)))
    assert whole.shape == (3, 20, 4)
    np.testing.assert_allclose(numpy(encoder(tensor(measured[:, :12]))), whole[:, :12], atol=1e-5)
    encoder.adapt(measured)
    of_usual = engine.TimbreEncoder.from_config(encoder.get_config())
    of_usual.build()
    for name, variable in of_usual.named_weights().items():
        if name not in ("mean", "spread"):
            variable.assign(encoder.named_weights()[name])
    normal = (measured - measured.mean((0, 1))) / measured.std((0, 1))
    np.testing.assert_allclose(numpy(encoder(tensor(measured))), numpy(of_usual(tensor(normal))), atol=1e-4)
    assert {id(v) for v in encoder.named_weights().values()} == {id(v) for v in encoder.weights}


def tiny(name):
    model = load_preset(name).model
    decoder = msgspec.structs.replace(model.decoder, channels=8, rnn_units=8, layers_per_stack=1)
    processors = dict(model.processors)
    room, small = "reverb", {"length_samples": 200} | ({"n_frames": 10} if name == "vst" else {})
    processors[room] = msgspec.structs.replace(processors[room], **small)
    return msgspec.structs.replace(model, decoder=decoder, processors=processors)


ORDER = {
    "vst": [
        *(f"decoder/input_stacks/pw_scaled/0/{part}" for part in ("dense/kernel", "dense/bias")),
        "reverb/magnitudes",
    ],
    "solo": [*(f"decoder/input_stacks/ld_scaled/0/{part}" for part in ("dense/kernel", "dense/bias")), "reverb/ir"],
}


@pytest.mark.parametrize("name", ["vst", "solo"])
def test_weights_have_the_names_and_the_order_of_bundles_and_checkpoints(name):
    model = engine.Autoencoder(tiny(name))
    names = list(model.named_variables())
    assert [*names[:2], names[-1]] == ORDER[name]
    assert [id(v) for v in model.trainable_variables] == [id(v) for v in model.named_variables().values()]
    copy = engine.Autoencoder(tiny(name))
    copy.set_weights_by_name(model.get_weights_by_name())
    for ours, theirs in zip(copy.trainable_variables, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(numpy(ours), numpy(theirs))


@pytest.mark.parametrize("axis", [False, True])
def test_single_numbers_of_a_room_fit_with_and_without_an_axis(axis):
    """Bundles of earlier versions keep them with one."""
    config = tiny("vst")
    nodes = config.processors | {"reverb": ExpDecayReverbConfig(inputs=["dry"], length_samples=200)}
    model, copy = (engine.Autoencoder(msgspec.structs.replace(config, processors=nodes)) for _ in range(2))
    weights = model.get_weights_by_name() | {"reverb/gain": np.array(3.0, np.float32)}
    assert weights["reverb/decay"].shape == ()
    stored = {name: value.reshape(1) if axis and value.ndim == 0 else value for name, value in weights.items()}
    copy.set_weights_by_name(stored)
    assert numpy(copy.named_variables()["reverb/gain"]) == 3.0
    np.testing.assert_array_equal(copy.impulse_response(stored), copy.impulse_response())


TERMS = [
    LossConfig(fft_sizes=(256, 64)),
    LossConfig(fft_sizes=(256, 64), loss_type="COSINE", delta_time_weight=0.5, cumsum_freq_weight=0.1),
    LossConfig(fft_sizes=(256, 64), loss_type="L2", delta_freq_weight=0.5, loudness_weight=0.1),
]


@pytest.mark.parametrize("loss", TERMS, ids=range(len(TERMS)))
def test_a_model_learns(loss):
    config = tiny("vst")
    keras.utils.set_random_seed(0)
    model = engine.Autoencoder(config, loss, seed=0)
    eager = keras.config.backend() != "jax"  # tracing costs more than these steps
    model.compile(optimizer=keras.optimizers.Adam(0.01), run_eagerly=eager, jit_compile=not eager)
    n_frames = 4
    x = {name: RNG.random((2, n_frames, 1)).astype(np.float32) for name in config.inputs}
    x["f0_hz"] = np.full((2, n_frames, 1), 300.0, np.float32)
    n_samples = n_frames * config.hop_samples
    y = 0.1 * np.sin(2 * np.pi * 300.0 / 16000 * np.arange(n_samples, dtype=np.float32))[None].repeat(2, 0)
    losses = model.fit(x, y, epochs=4, batch_size=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and min(losses[-3:]) < losses[0]
    assert model.impulse_response().shape == (200,)


def conditioned(vector_dims, layers_per_stack=1):
    config = tiny("vst")
    decoder = msgspec.structs.replace(config.decoder, layers_per_stack=layers_per_stack)
    instruments = InstrumentsConfig(["flute", "violin", "horn"], vector_dims)
    inputs = [config.inputs[0], "instrument", *config.inputs[1:]]
    return msgspec.structs.replace(config, decoder=decoder, inputs=inputs, instruments=instruments)


@pytest.mark.parametrize(("vector_dims", "layers"), [(0, 1), (4, 1), (4, 0)])
def test_a_model_of_many_instruments_makes_one_of_each(vector_dims, layers):
    keras.utils.set_random_seed(0)
    model = engine.Autoencoder(conditioned(vector_dims, layers), seed=0)
    assert ("instruments/vectors" in model.named_variables()) == bool(vector_dims)
    assert {id(v) for v in model.trainable_variables} == {id(v) for v in model.named_variables().values()}
    x = {name: RNG.random((1, 6, 1)).astype(np.float32) for name in ("pw_scaled", "f0_scaled")}
    x["f0_hz"] = np.full((1, 6, 1), 300.0, np.float32)
    sounds = []
    for index, name in enumerate(["flute", "violin", "horn"]):
        noise = model.group.draw(1, 6 * model.config.hop_samples)
        expected = numpy(model({**x, "instrument": np.full((1, 6, 1), index)}, given=noise)["audio"])
        config, weights = model.for_instrument(name)
        assert config.inputs == ["pw_scaled", "f0_scaled"] and not config.instruments
        alone = engine.Autoencoder(config, seed=0)
        alone.set_weights_by_name(weights)
        np.testing.assert_allclose(numpy(alone(x, given=noise)["audio"]), expected, atol=1e-4)
        sounds.append(numpy(alone(x, given=noise)["harmonic"]))
    assert np.abs(sounds[0] - sounds[1]).max() > 1e-3
    half = 0.5 * (model.instruments.vector(0) + model.instruments.vector(1))
    mixed = model({**x, "instrument": np.broadcast_to(half, (1, 6, len(half)))})
    assert np.isfinite(numpy(mixed["audio"])).all()
    with pytest.raises(ModelError, match="has no instrument trumpet"):
        model.for_instrument("trumpet")


def test_instruments_and_the_input_go_together():
    for change in ({"inputs": ["pw_scaled", "f0_scaled"]}, {"instruments": msgspec.UNSET}):
        data = msgspec.to_builtins(msgspec.structs.replace(conditioned(0)))
        for name, value in change.items():
            data.pop(name) if value is msgspec.UNSET else data.__setitem__(name, value)
        with pytest.raises(msgspec.ValidationError, match="instrument"):
            msgspec.convert(data, ModelConfig)


def both(units: int = 5) -> tuple[FastGru, keras.layers.GRU, np.ndarray]:
    """Our layer and Keras' with the same weights, and something to hear [2, 7, 3]."""
    x = RNG.standard_normal((2, 7, 3)).astype(np.float32)
    fast, plain = FastGru(units), keras.layers.GRU(units, return_sequences=True, reset_after=True)
    fast(x), plain(x)
    weights = [RNG.standard_normal(value.shape).astype(np.float32) for value in plain.get_weights()]
    plain.set_weights(weights)
    fast.set_weights(weights)
    return fast, plain, x


def test_states_are_those_of_keras():
    fast, plain, x = both()
    np.testing.assert_allclose(ops.convert_to_numpy(fast(x)), ops.convert_to_numpy(plain(x)), atol=1e-5)


def test_gradients_are_those_of_keras():
    if keras.config.backend() != "tensorflow":
        pytest.skip("gradients are taken by TensorFlow")
    import tensorflow as tf

    fast, plain, x = both()
    found = []
    for layer in (fast, plain):
        sounds = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(sounds)
            loss = tf.reduce_sum(tf.square(layer(sounds)) * tf.range(1.0, 8.0)[:, None])
        found.append(tape.gradient(loss, [sounds, *(variable.value for variable in layer.trainable_variables)]))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_its_weights_could_be_computed_by_cudnn():
    """The conditions of Keras for running a GRU by cuDNN (`use_cudnn` of `keras.layers.GRU`)."""
    fast, plain, _ = both()
    assert [value.shape for value in fast.get_weights()] == [value.shape for value in plain.get_weights()]
    config = fast.get_config()
    asked = {"activation": "tanh", "recurrent_activation": "sigmoid", "recurrent_dropout": 0.0, "unroll": False,
             "use_bias": True, "reset_after": True}  # fmt: skip
    assert {name: config[name] for name in asked} == asked
    assert fast.use_cudnn == "auto"
