"""Numbers of the original: figures computed by magenta/ddsp 3.7.0 in float32 (tests/golden)."""

from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

FOLDER = Path(__file__).parent.parent / "golden"

#: Agreement asked of everything that does not accumulate phase.
RELATIVE = 1e-4


class Golden:
    """One file: arrays by name, as tensors of the backend (`g["x"]`) or as NumPy holds them (`g.array("x")`)."""

    def __init__(self, name: str) -> None:
        with np.load(FOLDER / f"{name}.npz") as file:
            self.arrays = dict(file)

    def __getitem__(self, key: str) -> Any:
        return ops.convert_to_tensor(self.arrays[key])

    def array(self, key: str) -> np.ndarray:
        return self.arrays[key]


def error(ours: Any, theirs: Any) -> float:
    """Largest difference, as a share of the largest value."""
    ours, theirs = (np.asarray(ops.convert_to_numpy(x), np.float64) for x in (ours, theirs))
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    assert np.isfinite(ours).all()
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-12))
