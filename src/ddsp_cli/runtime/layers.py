"""What a network is made of, in NumPy: dense layers and a gated recurrent unit, their weights taken by name.

Legend of shapes: F frames, U recurrent units.
"""

from __future__ import annotations

import numpy as np

from ddsp_cli.errors import ModelError

NORM_EPSILON = np.float32(1e-3)  # Keras LayerNormalization default
LEAKY_SLOPE = np.float32(0.2)  # tf.nn.leaky_relu default


class Weights:
    """The bundle's arrays, taken by name and checked for shape."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self._weights = weights
        self.taken: set[str] = set()

    def take(self, name: str, *shape: int) -> np.ndarray:
        if name not in self._weights:
            raise ModelError(f"the instrument lacks the weight {name}", "It is incomplete; install or train it again.")
        value = self._weights[name]
        if value.shape != shape:
            raise ModelError(f"weight {name} has shape {list(value.shape)}, its configuration asks for {list(shape)}")
        self.taken.add(name)
        return np.ascontiguousarray(value, np.float32)


class Layer:
    """Dense, layer normalisation, leaky rectifier."""

    def __init__(self, weights: Weights, name: str, n_in: int, n_out: int) -> None:
        self.kernel = weights.take(f"{name}/dense/kernel", n_in, n_out)
        self.bias = weights.take(f"{name}/dense/bias", n_out)
        self.gamma = weights.take(f"{name}/norm/gamma", n_out)
        self.beta = weights.take(f"{name}/norm/beta", n_out)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        y = x @ self.kernel
        y += self.bias
        y -= y.mean(axis=-1, keepdims=True)
        variance = np.mean(y * y, axis=-1, keepdims=True)
        y *= self.gamma / np.sqrt(variance + NORM_EPSILON)
        y += self.beta
        return np.maximum(y, y * LEAKY_SLOPE)


class Stack:
    """A row of layers; the identity where there are none."""

    def __init__(self, weights: Weights, name: str, n_in: int, channels: int, n_layers: int) -> None:
        widths = [n_in] + [channels] * n_layers
        self.layers = [Layer(weights, f"{name}/{j}", widths[j], widths[j + 1]) for j in range(n_layers)]
        self.n_out = widths[-1]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        for layer in self.layers:
            x = layer(x)
        return x


class Gru:
    """Gated recurrent unit as Keras computes it with `reset_after=True`; gates in the order z, r, h.

    The input's share of all frames is one matrix product; only the recurrence runs frame by frame, in buffers
    made once, since at 512 units a frame takes tens of microseconds and allocation would double that.
    """

    def __init__(self, weights: Weights, name: str, n_in: int, units: int) -> None:
        self.units = units
        self.kernel = weights.take(f"{name}/kernel", n_in, 3 * units).copy()
        # Transposed: a matrix-vector product over contiguous rows is the faster one.
        self.recurrent = weights.take(f"{name}/recurrent_kernel", units, 3 * units).T.copy()
        bias = weights.take(f"{name}/bias", 2, 3 * units)
        self.input_bias, self.recurrent_bias = bias[0].copy(), bias[1].copy()
        # σ(x) = (tanh(x/2) + 1) / 2: the halving of the two gates is folded into the weights.
        self.kernel[:, : 2 * units] *= 0.5
        self.recurrent[: 2 * units] *= 0.5
        self.input_bias[: 2 * units] *= 0.5
        self.recurrent_bias[: 2 * units] *= 0.5
        self.reset()

    def reset(self) -> None:
        self.state = np.zeros(self.units, np.float32)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """[F, n_in] → [F, U]; the state goes on from the last call."""
        units = self.units
        projected = x @ self.kernel
        projected += self.input_bias
        # The recurrent bias of the two gates can join the input's share; that of the candidate is inside r·(…).
        projected[:, : 2 * units] += self.recurrent_bias[: 2 * units]
        candidate_bias = self.recurrent_bias[2 * units :]
        states = np.empty((len(x), units), np.float32)
        hidden = np.empty(3 * units, np.float32)
        gates, candidate = hidden[: 2 * units], hidden[2 * units :]
        update, reset = gates[:units], gates[units:]
        half = np.float32(0.5)
        state = self.state
        for frame, row, new in zip(projected, projected[:, 2 * units :], states, strict=True):
            np.dot(self.recurrent, state, out=hidden)
            gates += frame[: 2 * units]
            np.tanh(gates, out=gates)
            gates += 1.0
            gates *= half
            candidate += candidate_bias
            candidate *= reset
            candidate += row
            np.tanh(candidate, out=candidate)
            # h' = z·h + (1 − z)·ĥ = ĥ + z·(h − ĥ)
            np.subtract(state, candidate, out=new)
            new *= update
            new += candidate
            state = new
        if len(x):
            self.state = states[-1].copy()
        return states
