"""Random crops of a data set as Keras batches. The batch of step n depends on the seed and n alone.

A training that resumes at step n therefore sees the batches that it would have seen. Shapes: B batch.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from ddsp_cli.training.windows import AnyWindows, Batch

#: Largest number of windows that are shuffled as a whole; of more, each batch is drawn.
MAX_SHUFFLED = 100_000


class RandomCrops(keras.utils.PyDataset):
    """Batches of random crops for consecutive steps.

    Args:
      windows: to crop.
      batch_size: crops in a batch.
      crop_s: length of a crop.
      seed: of the choice of crops.
      n_steps: how many batches.
      first_step: the step of the first batch, counted from the beginning of the training.
      favoured: windows from which half of each batch is drawn, the other half from all; None for all from all.
    """

    def __init__(
        self, windows: AnyWindows, batch_size: int, crop_s: float, seed: int, n_steps: int, first_step: int = 0,
        favoured: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        super().__init__(workers=1, use_multiprocessing=False)
        self.windows = windows
        self.batch_size = batch_size
        self.crop_frames = min(windows.n_frames, max(1, round(crop_s * windows.model.frame_rate_hz)))
        self.seed = seed
        self.n_steps = n_steps
        self.first_step = first_step
        self.favoured = favoured

    def __len__(self) -> int:
        return self.n_steps

    def batch(self, step: int) -> Batch:
        """Returns the batch of a step, counted from the beginning of the training."""
        return self.windows.cut(*self.places(step), self.crop_frames)

    def places(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws the windows of a step and the first frame of each crop, [B] each."""
        random = np.random.default_rng([self.seed, step])
        # a permutation per batch: no window is drawn twice before all others, as far as the batch allows
        n = len(self.windows)
        rows = (
            np.resize(random.permutation(n), self.batch_size)
            if n <= MAX_SHUFFLED
            else random.choice(n, self.batch_size, replace=False)
        )
        if self.favoured is not None:
            half = self.batch_size // 2
            rows[:half] = np.resize(random.permutation(self.favoured), half)
        return rows, random.integers(0, self.windows.n_frames - self.crop_frames + 1, self.batch_size)

    def __getitem__(self, index: int) -> Batch:
        return self.batch(self.first_step + index)


def as_arrays(batch: Batch) -> tuple[dict[str, Any], Any]:
    """Converts a batch to tensors of the backend."""
    inputs, audio = batch
    convert = keras.ops.convert_to_tensor
    return {name: convert(value) for name, value in inputs.items()}, convert(audio)
