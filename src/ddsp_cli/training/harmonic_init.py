"""What a network plays before it has learned anything.

Random weights give all harmonics one amplitude. At 16 kHz that is a buzz which training soon shapes; at 48 kHz most of
it lies where instruments have nothing, so that the first thing learned is to play no harmonics at all, and noise takes
their place for good (magenta/ddsp#478). Harmonics that begin by falling with their number, as those of most instruments
do, are kept and shaped.
"""

from __future__ import annotations

import math

import numpy as np
from keras import ops

from ddsp_cli.config import HarmonicConfig
from ddsp_cli.engine import Autoencoder
from ddsp_cli.scaling import MAX_AMPLITUDE

#: The amplitude of the first harmonic before normalisation, that of random weights.
FIRST_AMPLITUDE = MAX_AMPLITUDE * 0.5 ** math.log(10.0)


def let_harmonics_fall(model: Autoencoder, exponent: float) -> None:
    """Sets the bias of the distributions that oscillators take from the network, so that harmonic k has 1/k^exponent.

    To be called on fresh weights, whose bias is 0: an exponent of 0 changes nothing.
    """
    distributions = {node.inputs[1] for node in model.config.processors.values() if isinstance(node, HarmonicConfig)}
    bias = model.decoder.dense_out.bias
    values, start = np.array(ops.convert_to_numpy(bias)), 0
    for name, size in model.decoder.outputs.items():
        if name in distributions:
            values[start : start + size] = falling(size, exponent)
        start += size
    bias.assign(values)


def falling(n_harmonics: int, exponent: float) -> np.ndarray:
    """Raw network output [K] whose amplitudes fall with 1/k^exponent (`formulas.exp_sigmoid` without its threshold)."""
    amplitudes = FIRST_AMPLITUDE / np.arange(1, n_harmonics + 1) ** exponent
    sigmoid = (amplitudes / MAX_AMPLITUDE) ** (1.0 / math.log(10.0))
    return np.log(sigmoid / (1.0 - sigmoid)).astype(np.float32)
