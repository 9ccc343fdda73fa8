"""A recurrence in a larger one: programs that host the state of a GRU may want a certain number of units."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np

from ddsp_cli import bundle
from ddsp_cli.bundle import Bundle

_GATES = 3


def widened(small: Bundle, units: int) -> Bundle:
    """The same instrument with a GRU of more units, U → `units`. Its sound does not change.

    The weights of the new units are 0: their candidate is tanh(0) = 0 whatever goes in, so their state stays at 0, and
    nothing listens to them.

    Args:
      small: with at most so many units.

    Raises:
      ValueError: it has more.
    """
    model = small.card.model
    decoder = model.sizes
    n_new = units - decoder.rnn_units
    if n_new < 0:
        raise ValueError(f"{decoder.rnn_units} units do not fit into {units}")
    if n_new == 0:
        return small
    weights = dict(small.weights)
    for part in ("kernel", "recurrent_kernel", "bias"):
        name = f"decoder/rnn/{part}"
        gates = np.split(weights[name], _GATES, axis=-1)
        weights[name] = np.concatenate([_with_zeros(gate, n_new, axis=-1) for gate in gates], axis=-1)
    # Units come last wherever they are listened to.
    listener = "decoder/out_stack/0/dense/kernel" if decoder.layers_per_stack else "decoder/dense_out/kernel"
    for name in ("decoder/rnn/recurrent_kernel", listener):
        weights[name] = _with_zeros(weights[name], n_new, axis=0)
    wide = msgspec.structs.replace(decoder, rnn_units=units)
    card = bundle.revise(small.card, model=msgspec.structs.replace(model, decoder=wide))
    return dataclasses.replace(small, card=card, weights=weights)


def _with_zeros(values: np.ndarray, n_new: int, axis: int) -> np.ndarray:
    shape = list(values.shape)
    shape[axis] = n_new
    return np.concatenate([values, np.zeros(shape, values.dtype)], axis=axis)
