"""The GRU of the networks is that of Keras, computed another way."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from ddsp_cli.engine.networks import FastGru

RNG = np.random.default_rng(0)


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
    """What Keras asks of a GRU before it hands it to cuDNN (`use_cudnn` of `keras.layers.GRU`)."""
    fast, plain, _ = both()
    assert [value.shape for value in fast.get_weights()] == [value.shape for value in plain.get_weights()]
    config = fast.get_config()
    asked = {"activation": "tanh", "recurrent_activation": "sigmoid", "recurrent_dropout": 0.0, "unroll": False,
             "use_bias": True, "reset_after": True}  # fmt: skip
    assert {name: config[name] for name in asked} == asked
    assert fast.use_cudnn == "auto"
