"""Models of one instrument from a network that is conditioned on many (`instrument` among its inputs)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np
from msgspec import UNSET

from ddsp_cli.arrays import FloatArray
from ddsp_cli.config import ModelConfig

#: The input that tells instruments apart, and the prefixes of the weights that serve it alone.
CONDITION: Literal["instrument"] = "instrument"
CONDITION_WEIGHTS = (f"decoder/input_stacks/{CONDITION}/", "instruments/")

#: Weights of the vectors of all instruments, [I, D].
VECTORS = "instruments/vectors"


def unconditioned(model: ModelConfig) -> ModelConfig:
    """The configuration of one instrument of a network of many."""
    inputs = [name for name in model.inputs if name != CONDITION]
    return msgspec.structs.replace(model, inputs=inputs, instruments=UNSET)


def fold_condition(
    model: ModelConfig, weights: Mapping[str, FloatArray], constant: FloatArray
) -> tuple[ModelConfig, dict[str, FloatArray]]:
    """Makes a model of one instrument, which sounds the same and has one input less.

    The vector of an instrument is constant, and so is the output of its input stack; its part of the GRU and of the
    layer behind it is a constant too, and is added to their biases.

    Args:
      model: of the network of many instruments.
      weights: of it, by name.
      constant: [C] the output of the input stack of the instrument.

    Returns:
      The configuration without `instruments`, and the weights by name.
    """
    place = model.inputs.index(CONDITION)
    layered = model.sizes.layers_per_stack > 0
    widths = [model.sizes.channels if layered else model.input_sizes.get(name, 1) for name in model.inputs]
    rows = slice(sum(widths[:place]), sum(widths[: place + 1]))
    kept = {name: value for name, value in weights.items() if not name.startswith(CONDITION_WEIGHTS)}
    behind = "decoder/out_stack/0/dense" if layered else "decoder/dense_out"
    kernel = kept["decoder/rnn/kernel"]
    bias = kept["decoder/rnn/bias"].copy()  # [2, 3U]: of the inputs, of the state
    bias[0] += constant @ kernel[rows]
    kept |= {"decoder/rnn/kernel": np.delete(kernel, rows, axis=0), "decoder/rnn/bias": bias}
    kernel = kept[f"{behind}/kernel"]
    kept[f"{behind}/bias"] = kept[f"{behind}/bias"] + constant @ kernel[rows]
    kept[f"{behind}/kernel"] = np.delete(kernel, rows, axis=0)
    return unconditioned(model), kept
