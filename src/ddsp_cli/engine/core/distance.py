"""The multi-scale spectral distance with its gradient, in memory for a few examples. Shapes: B batch, S samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from ddsp_cli.engine.core.arrays import constant
from ddsp_cli.engine.core.blocks import in_blocks
from ddsp_cli.engine.core.filters import overlap_add
from ddsp_cli.engine.core.spectra import frame, hann, safe_log, safe_sqrt, stft_magnitude

OVERLAP = 0.75


@dataclass(frozen=True)
class SpectralDistance:
    """Mean distance of magnitudes and of their logarithms, summed over FFT sizes.

    Differentiating step by step keeps the spectra of all sizes until the end, several hundred bytes for each sample of
    sound. Here the gradient is found along with the distance, some examples and one size at a time, and only a number
    for each sample is kept.

    Attributes:
      fft_sizes: window lengths in samples, 75 % overlap.
      mag_weight, logmag_weight: of the two terms.
      log_floor: magnitudes below it count as it in the logarithmic term.
      squared: square the differences (L2) instead of taking their size (L1).
    """

    fft_sizes: tuple[int, ...]
    mag_weight: float
    logmag_weight: float
    log_floor: float = 0.0
    squared: bool = False

    def __call__(self, target: Any, value: Any) -> Any:
        """Distance of audio `value` from audio `target`, both [B, S]: a scalar. The target is taken as constant."""
        return ops.custom_gradient(self._with_gradient)(target, value)

    def _with_gradient(self, target: Any, value: Any) -> tuple[Any, Any]:
        distances, slopes = in_blocks(self._examples, (target, value), 16 * target.shape[-1])
        batch = ops.cast(ops.shape(target)[0], "float32")

        def gradient(*gradients: Any, upstream: Any = None) -> tuple[Any, Any]:
            upstream = gradients[0] if upstream is None else upstream
            return ops.zeros_like(target), slopes * (upstream / batch)

        return ops.sum(distances) / batch, gradient

    def _examples(self, target: Any, value: Any) -> tuple[Any, Any]:
        """Distances [n] of some examples, and their slopes [n, S] along `value`."""
        distance, slope = 0.0, 0.0
        for size in self.fft_sizes:
            one, its_slope = self._size(target, value, size)
            distance, slope = distance + one, slope + its_slope
        return distance, slope

    def _size(self, target: Any, value: Any, size: int) -> tuple[Any, Any]:
        hop, fft_length = int(size * (1.0 - OVERLAP)), 1 << (size - 1).bit_length()
        real, imaginary = ops.rfft(frame(value, size, hop) * constant(hann(size)), fft_length=fft_length)
        ours, theirs = safe_sqrt(real * real + imaginary * imaginary), stft_magnitude(target, size, OVERLAP)
        positive = ours > 0.0
        inverse = ops.where(positive, 1.0 / ops.where(positive, ours, ops.ones_like(ours)), ops.zeros_like(ours))
        distance, slope = 0.0, 0.0
        if self.mag_weight > 0:
            term, of_term = self._term(ours - theirs)
            distance, slope = distance + self.mag_weight * term, slope + self.mag_weight * of_term
        if self.logmag_weight > 0:
            term, of_term = self._term(safe_log(self._floored(ours)) - safe_log(self._floored(theirs)))
            of_term = ops.where(ours >= self.log_floor, of_term * inverse, ops.zeros_like(of_term))
            distance, slope = distance + self.logmag_weight * term, slope + self.logmag_weight * of_term
        n_values = ours.shape[-1] * ours.shape[-2]
        # Back through |z|, the real FFT (whose inner bins stand for two), the window and the frames.
        share = np.full(ours.shape[-1], 0.5, np.float32)
        share[[0, -1]] = 1.0
        along = slope * inverse * constant(share * (fft_length / n_values))
        frames = ops.irfft((real * along, imaginary * along), fft_length=fft_length)[..., :size] * constant(hann(size))
        mean = ops.sum(distance, axis=(-2, -1)) / n_values
        return mean, overlap_add(frames, hop)[:, : value.shape[-1]]

    def _floored(self, magnitude: Any) -> Any:
        return ops.maximum(magnitude, self.log_floor) if self.log_floor > 0 else magnitude

    def _term(self, difference: Any) -> tuple[Any, Any]:
        """Distance and slope of each bin."""
        if self.squared:
            return ops.square(difference), 2.0 * difference
        return ops.abs(difference), ops.sign(difference)
