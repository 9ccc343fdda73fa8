"""The base: one network that has learned many instruments, where a new instrument begins.

What instruments have in common need not be learned again from half a minute of sound. The base is fitted to measured
controls alone (`training.pretrain`), with a vector for each instrument (`engine.encoders.InstrumentVectors`). A new
instrument begins as the one of them whose controls are nearest to its recordings, and learns from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from keras import ops

from ddsp_cli.config import ModelConfig
from ddsp_cli.engine import Autoencoder
from ddsp_cli.engine.losses import ControlLoss
from ddsp_cli.errors import ModelError
from ddsp_cli.training.batches import Windows

#: At most so many windows are compared with each instrument of the base.
COMPARED_WINDOWS = 24


@dataclass(frozen=True)
class Start:
    """Where a new instrument begins.

    Attributes:
      weights: of the decoder by name; those of the room are not among them.
      nearest: the instrument of the base that it begins as.
      errors_db: instrument → mean error of its controls on the recordings.
    """

    weights: dict[str, np.ndarray]
    nearest: str
    errors_db: dict[str, float]


def start_from_base(base: ModelConfig, weights: Mapping[str, np.ndarray], windows: Windows, instrument: str) -> Start:
    """Chooses the instrument of a base with which a new one begins.

    Args:
      base: configuration of the base.
      weights: of the base, by name.
      windows: of the new instrument, with targets.
      instrument: the name of the new one; where the base knows it, that one is taken.

    Returns:
      Weights of a model of one instrument.

    Raises:
      ModelError: the weights do not fit, or the base is none.
    """
    if not base.instruments:
        raise ModelError("the base has no instruments")
    model = Autoencoder(base, seed=0)
    model.set_weights_by_name(weights)
    rows = np.unique(np.linspace(0, len(windows) - 1, min(COMPARED_WINDOWS, len(windows))).astype(int))
    inputs = {name: ops.convert_to_tensor(values[rows]) for name, values in windows.inputs.items()}
    targets = {name: ops.convert_to_tensor(values[rows]) for name, values in windows.targets.items()}
    loss = ControlLoss(base)
    errors_db = {}
    for i, name in enumerate(base.instruments.names):
        index = ops.full_like(inputs["f0_hz"], float(i))
        errors_db[name] = float(loss.call(model.raw_controls({**inputs, "instrument": index}), targets))
    nearest = instrument if instrument in errors_db else min(errors_db, key=lambda name: errors_db[name])
    _, found = model.for_instrument(nearest)
    kept = {name: value for name, value in found.items() if name.startswith("decoder/")}
    return Start(kept, nearest, errors_db)
