"""Gradients on whichever backend runs the tests."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops


def gradient(function: Callable[[Any], Any], at: np.ndarray) -> np.ndarray:
    """Gradient of a scalar function of one array."""
    backend = keras.config.backend()
    x = ops.convert_to_tensor(np.asarray(at, np.float32))
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        found = tape.gradient(y, x)
    elif backend == "jax":
        import jax

        found = jax.jit(jax.grad(function))(x)  # one compilation, not one for every operation
    else:
        x = x.clone().requires_grad_(True)
        function(x).backward()
        found = x.grad
    return np.asarray(ops.convert_to_numpy(found))


def slope(function: Callable[[Any], Any], at: np.ndarray, along: np.ndarray, step: float) -> float:
    """Central difference of a scalar function along a direction."""
    if keras.config.backend() == "jax":
        import jax

        function = jax.jit(function)
    ahead, behind = (
        float(ops.convert_to_numpy(function(ops.convert_to_tensor(np.asarray(at + s * along, np.float32)))))
        for s in (step, -step)
    )
    return (ahead - behind) / (2.0 * step)
