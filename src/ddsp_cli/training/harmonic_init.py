"""Initial weights whose harmonics fall with their number.

Random weights give all harmonics one amplitude. At 16 kHz training soon shapes them; at 48 kHz most of them lie where
instruments have no energy, so that the first thing learned is to play no harmonics at all, and noise takes their place
for good (magenta/ddsp#478). Harmonics that begin with the roll-off of most instruments are kept and shaped.
"""

from __future__ import annotations

import math

import numpy as np
from keras import ops

from ddsp_cli.config import HarmonicConfig
from ddsp_cli.engine import Autoencoder
from ddsp_cli.scaling import MAX_AMPLITUDE

#: The amplitude of a harmonic before normalisation where the network's output is 0, as random weights have it.
FIRST_AMPLITUDE = MAX_AMPLITUDE * 0.5 ** math.log(10.0)


def init_harmonic_rolloff(model: Autoencoder, rolloff: float) -> None:
    """Initialises the output bias so that harmonic k starts at 1/k**rolloff of the first.

    Args:
      model: with random weights, whose output bias is 0.
      rolloff: exponent; 0 changes nothing.
    """
    distributions = {node.inputs[1] for node in model.config.processors.values() if isinstance(node, HarmonicConfig)}
    bias = model.decoder.dense_out.bias
    values, start = np.array(ops.convert_to_numpy(bias)), 0
    for name, size in model.decoder.outputs.items():
        if name in distributions:
            values[start : start + size] = rolloff_bias(size, rolloff)
        start += size
    bias.assign(values)


def rolloff_bias(n_harmonics: int, rolloff: float) -> np.ndarray:
    """Raw network output for amplitudes of 1/k**rolloff: the inverse of `scaling.exp_sigmoid` without its threshold.

    Returns:
      [K] float32.
    """
    amplitudes = FIRST_AMPLITUDE / np.arange(1, n_harmonics + 1) ** rolloff
    sigmoid = (amplitudes / MAX_AMPLITUDE) ** (1.0 / math.log(10.0))
    return np.log(sigmoid / (1.0 - sigmoid)).astype(np.float32)
