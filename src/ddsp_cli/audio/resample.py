"""Resample sound block by block (soxr, high quality). Shapes: S samples, C channels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ddsp_cli.arrays import FloatArray


class Resampler:
    """Resamples a mono stream; the result does not depend on the sizes of the blocks.

    Args:
      from_hz: rate of what is pushed.
      to_hz: rate of what comes out.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._stream: Any = None
        if from_hz != to_hz:
            import soxr

            self._stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32")

    def push(self, block: FloatArray) -> FloatArray:
        """Takes the next block [S]; returns the samples [S'] that are ready."""
        return block if self._stream is None else np.asarray(self._stream.resample_chunk(block))

    def finish(self) -> FloatArray:
        """Returns the samples still inside."""
        nothing = np.zeros(0, np.float32)
        return nothing if self._stream is None else np.asarray(self._stream.resample_chunk(nothing, last=True))


def at_rate(blocks: Iterable[FloatArray], from_hz: int, to_hz: int, n_channels: int = 1) -> Iterator[FloatArray]:
    """Resamples blocks [S] or [S, C]; the result is as long as the sound and aligned with it."""
    if from_hz == to_hz:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(from_hz, to_hz, n_channels, dtype="float32")
    end = np.zeros((0, n_channels) if n_channels > 1 else 0, np.float32)
    for block in blocks:
        yield np.asarray(stream.resample_chunk(block))
    yield np.asarray(stream.resample_chunk(end, last=True))


def resample_response(response: FloatArray, from_hz: int, to_hz: int) -> FloatArray:
    """Resamples an impulse response [S] so that a convolution with it has the same gain at the new rate.

    It is scaled by the ratio of the rates, since a convolution sums over samples, of which there are more or fewer in a
    second. (magenta/ddsp 3.7.0 does neither: ddsp_export.py:296-299.)
    """
    if from_hz == to_hz:
        return np.asarray(response, np.float32)
    import soxr

    resampled = soxr.resample(np.asarray(response, np.float64), from_hz, to_hz, quality="VHQ")
    return np.asarray(resampled * (from_hz / to_hz), np.float32)
