"""A gated recurrent unit with an explicit gradient. Shapes: B batch, F frames, U units.

Differentiating a loop step by step makes every step write its share of the weight gradient, a [U, 3U] matrix, and that
traffic is most of the cost of a small GRU on a CPU. Here the backward loop carries the state's gradient only; the
weights' gradient is one matrix product over all frames at the end.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ddsp_cli.errors import ModelError


def gru_sequence(projected: Any, recurrent_kernel: Any, recurrent_bias: Any) -> Any:
    """Runs a GRU (Cho et al. 2014, the `reset_after` form of Keras; gates in the order z, r, h) from state 0.

    Args:
      projected: [B, F, 3U], the inputs times the input kernel plus the input bias.
      recurrent_kernel: [U, 3U].
      recurrent_bias: [3U].

    Returns:
      states [B, F, U] after each frame.
    """
    return _gru_sequence(projected, recurrent_kernel, recurrent_bias)


def _gates(inputs: Any, hidden: Any) -> tuple[Any, Any, Any, Any]:
    """Gates z, r, the candidate n and the recurrent part of the candidate, from both projections [..., 3U]."""
    units = inputs.shape[-1] // 3
    # One sigmoid for both gates: compiled loops take half as long as with two.
    both = ops.sigmoid(inputs[..., : 2 * units] + hidden[..., : 2 * units])
    z, r, h_n = both[..., :units], both[..., units:], hidden[..., 2 * units :]
    return z, r, ops.tanh(inputs[..., 2 * units :] + r * h_n), h_n


@ops.custom_gradient
def _gru_sequence(projected: Any, recurrent_kernel: Any, recurrent_bias: Any) -> Any:
    units = recurrent_kernel.shape[0]
    inputs = ops.transpose(projected, (1, 0, 2))  # frames first, as loops want them
    initial = ops.zeros_like(inputs[0, :, :units])

    def step(carry: tuple[Any, Any], x: Any) -> tuple[Any, Any]:
        state, _ = carry
        hidden = ops.matmul(state, recurrent_kernel) + recurrent_bias
        z, _, n, _ = _gates(x, hidden)
        carry = (n + z * (state - n), hidden)  # TensorFlow's scan returns values of the form of the carry
        return carry, carry

    _, (states, hiddens) = ops.scan(step, (initial, ops.zeros_like(inputs[0])), inputs)

    def gradient(*args: Any, upstream: Any = None) -> tuple[Any, Any, Any]:
        of_states = ops.transpose(args[-1] if upstream is None else upstream, (1, 0, 2))
        before = ops.concatenate([initial[None], states[:-1]], axis=0)
        # All frames at once: gates again, and how each projection's gradient follows from the state's.
        z, r, n, h_n = _gates(inputs, hiddens)
        of_n = (1.0 - z) * (1.0 - n * n)
        of_z = (before - n) * z * (1.0 - z)
        of_r = of_n * h_n * r * (1.0 - r)
        of_hidden = ops.stack([of_z, of_r, of_n * r], axis=-2)  # [F, B, 3, U]
        transposed = ops.transpose(recurrent_kernel)

        def back(carry: Any, frame: tuple[Any, ...]) -> tuple[Any, Any]:
            of_state, z, of_hidden = frame
            d_state = carry + of_state
            d_hidden = ops.reshape(d_state[:, None] * of_hidden, (-1, 3 * units))
            return d_state * z + ops.matmul(d_hidden, transposed), d_state

        backwards = tuple(ops.flip(values, axis=0) for values in (of_states, z, of_hidden))
        _, d_states = ops.scan(back, ops.zeros_like(initial), backwards)
        d_states = ops.flip(d_states, axis=0)
        d_hidden = ops.reshape(d_states[..., None, :] * of_hidden, (*ops.shape(d_states)[:2], 3 * units))
        d_inputs = ops.concatenate([d_hidden[..., : 2 * units], d_states * of_n], axis=-1)
        flat = ops.reshape(d_hidden, (-1, 3 * units))
        d_kernel = ops.matmul(ops.transpose(ops.reshape(before, (-1, units))), flat)
        return ops.transpose(d_inputs, (1, 0, 2)), d_kernel, ops.sum(flat, axis=0)

    return ops.transpose(states, (1, 0, 2)), gradient


@keras.saving.register_keras_serializable("ddsp")
class FastGru(keras.layers.GRU):
    """`keras.layers.GRU(units, return_sequences=True, reset_after=True)` from state 0, with the gradient above.

    Args:
      units: U.
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        kwargs |= {"return_sequences": True, "reset_after": True}
        super().__init__(units, **kwargs)

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        """Runs the GRU: [B, F, C] → [B, F, U].

        Raises:
          ModelError: an initial state or a mask was given.
        """
        if initial_state is not None or mask is not None:
            raise ModelError("a FastGru begins from state 0 and takes no mask", "Use keras.layers.GRU.")
        cell = self.cell
        bias, recurrent_bias = cell.bias[0], cell.bias[1]  # JAX and PyTorch cannot unstack a variable
        projected = ops.matmul(sequences, cell.kernel) + bias
        # a copy, because a custom gradient is a function of tensors and must not see a variable
        return gru_sequence(projected, ops.copy(cell.recurrent_kernel), recurrent_bias)
