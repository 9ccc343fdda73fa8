"""Mask the harmonics that no recording could train."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ddsp_cli.bundle.layout import control_columns
from ddsp_cli.config import HarmonicConfig, ModelConfig

KERNEL, BIAS = "decoder/dense_out/kernel", "decoder/dense_out/bias"

#: Raw output of a masked harmonic: `exp_sigmoid` makes 2e-5 of it, 90 dB below the others, and is steep enough there
#: to learn it when training goes on with lower notes. At its floor it has no gradient.
MASKED_OUTPUT = -5.0


def mask_untrained_harmonics(
    weights: Mapping[str, np.ndarray], model: ModelConfig, lowest_hz: float
) -> dict[str, np.ndarray]:
    """Weights whose network leaves out the harmonics above half the sample rate at every note of the data set.

    Those had no gradient and are as loud as random weights make them: below its range the instrument would whistle.

    Args:
      weights: by name; kernel [C, outputs] and bias [outputs] of the last layer are replaced in a copy.
      model: whose weights they are.
      lowest_hz: F0 of the lowest note in the data set.
    """
    changed = dict(weights)
    harmonic = model.only(HarmonicConfig)
    if harmonic is None or lowest_hz <= 0:
        return changed
    columns = control_columns(model, harmonic[0]).get("harmonic_distribution")
    if columns is None:
        return changed
    first = columns.start + int(model.sample_rate_hz / 2 / lowest_hz)  # harmonic k stands at start + k - 1
    kernel, bias = weights[KERNEL].copy(), weights[BIAS].copy()
    kernel[:, first : columns.stop] = 0.0
    bias[first : columns.stop] = MASKED_OUTPUT
    return changed | {KERNEL: kernel, BIAS: bias}
