"""Fixed arrays on their way into a computation."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops


def constant(values: Any) -> Any:
    """A NumPy array as a float32 tensor of the backend: PyTorch mixes the two reluctantly, and on a GPU not at all."""
    return ops.convert_to_tensor(np.asarray(values, np.float32))


def counting(n: int, start: int = 0) -> Any:
    """start, start + 1, …: n float32 numbers."""
    return constant(np.arange(start, start + n))
