"""The space of the base: the network of many instruments plays any vector in it, those between instruments too.

Shapes: I instruments, D entries of a vector, F frames, K harmonics, M noise bands.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.bundle.conditioning import CONDITION, VECTORS, fold_condition
from ddsp_cli.config import ModelConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.synthesis.decoder import dense_stack
from ddsp_cli.synthesis.ops import NumpyOps


def vectors(model: ModelConfig, weights: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """The vectors [D] of the instruments that a base learned, by name.

    Raises:
      ModelError: the model is no base.
    """
    if not model.instruments or VECTORS not in weights:
        raise ModelError("this model is not conditioned on instruments")
    return dict(zip(model.instruments.names, weights[VECTORS], strict=True))


def at_vector(
    model: ModelConfig, weights: Mapping[str, FloatArray], vector: FloatArray
) -> tuple[ModelConfig, dict[str, FloatArray]]:
    """Makes a model of one instrument from a base and a vector.

    Args:
      model: of the base.
      weights: of the base, by name.
      vector: [D], one that the base learned, or any other.

    Returns:
      The configuration, and the weights by name.
    """
    row = np.asarray(vector, np.float32)[None]
    constant = dense_stack(NumpyOps(), weights, f"decoder/input_stacks/{CONDITION}", row)[0]
    return fold_condition(model, weights, constant)
