"""TODO."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np


class Resampler:
    """Brings a mono stream from one rate to another (soxr, high quality); the same whatever the block sizes.

    Args:
      from_hz: rate of what is pushed.
      to_hz: rate of what comes out.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._stream: Any = None
        if from_hz != to_hz:
            import soxr

            self._stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32")

    def push(self, block: np.ndarray) -> np.ndarray:
        """The samples [S'] that are ready after the next block [S]."""
        return block if self._stream is None else np.asarray(self._stream.resample_chunk(block))

    def finish(self) -> np.ndarray:
        """The samples still inside."""
        nothing = np.zeros(0, np.float32)
        return nothing if self._stream is None else np.asarray(self._stream.resample_chunk(nothing, last=True))


def at_rate(blocks: Iterable[np.ndarray], from_hz: int, to_hz: int, n_channels: int = 1) -> Iterator[np.ndarray]:
    """The same sound, [S] or [S, C] a block, at another rate, in time with it."""
    if from_hz == to_hz:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(from_hz, to_hz, n_channels, dtype="float32")
    end = np.zeros((0, n_channels) if n_channels > 1 else 0, np.float32)
    for block in blocks:
        yield np.asarray(stream.resample_chunk(block))
    yield np.asarray(stream.resample_chunk(end, last=True))
