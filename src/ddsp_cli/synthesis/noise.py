"""Filtered noise, rendered block by block. Shapes: F frames, S samples, M noise bands, H hop in samples, T taps."""

from __future__ import annotations

import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.scaling import impulse_delay, impulse_window


class FilteredNoise:
    """White noise through a filter that changes with every frame (magenta/ddsp 3.7.0, core.py:1317-1565).

    Each hop of noise is convolved with the impulse response of its own frame, and the results are added.
    `scaling.impulse_delay` says how many samples are cut off the front.

    Args:
      hop_samples: H.
      n_bands: M magnitudes, equally spaced from 0 Hz to half the sample rate.
      window_size_samples: width of the window on the impulse response; 0 for all of it.
      seed: of the noise; frames draw in order, so block sizes do not matter.
    """

    def __init__(self, hop_samples: int, n_bands: int, window_size_samples: int = 0, seed: int = 0) -> None:
        self._hop = hop_samples
        n_taps = 2 * (n_bands - 1)
        self._window, self._lags = impulse_window(n_taps, window_size_samples)
        n_kept = len(self._lags)
        # The shortest fast transform: a power of 2, or three quarters of it.
        power = 1 << (hop_samples + n_kept - 2).bit_length()
        self._n_fft = 3 * power // 4 if 3 * power // 4 >= hop_samples + n_kept - 1 else power
        self._carry = np.zeros(n_kept - 1, np.float32)
        self._skip = impulse_delay(self._lags)
        self._skipped = 0
        self._random = np.random.default_rng(seed)

    @property
    def delay_samples(self) -> int:
        """Samples of a hop that are returned with the next one only."""
        return self._skip

    def push(self, magnitudes: FloatArray, noise: FloatArray | None = None) -> FloatArray:
        """Renders the next frames.

        Args:
          magnitudes: [F, M].
          noise: [F, H] to filter in place of new noise, for comparisons.

        Returns:
          [S] float32; at the start `_skip` samples less than F·H.
        """
        n_frames = len(magnitudes)
        if noise is None:
            noise = white_noise(self._random, n_frames, self._hop)
        if not n_frames:
            return np.empty(0, np.float32)
        taps = np.fft.irfft(magnitudes.astype(np.float32))[:, self._lags] * self._window
        spectrum = np.fft.rfft(noise, self._n_fft) * np.fft.rfft(taps, self._n_fft)
        filtered = np.fft.irfft(spectrum, self._n_fft)[:, : self._hop + len(self._lags) - 1]
        return self._trim(self._overlap_add(filtered.astype(np.float32)))

    def finish(self) -> FloatArray:
        """Renders the tail after the last frame, so that every frame has given one hop of samples."""
        return self._trim(self._carry[: self._skip])

    def _overlap_add(self, filtered: FloatArray) -> FloatArray:
        n_frames, hop = len(filtered), self._hop
        n_tail = len(self._carry)
        total = np.zeros(n_frames * hop + n_tail, np.float32)
        total[:n_tail] = self._carry
        # Piece p of every frame's output starts p hops after the frame: one addition per piece, not per frame.
        for p in range(0, filtered.shape[1], hop):
            piece = filtered[:, p : p + hop]
            place = total[p : p + n_frames * hop]
            if len(place) < n_frames * hop:
                place = np.zeros(n_frames * hop, np.float32)
            place.reshape(n_frames, hop)[:, : piece.shape[1]] += piece
            if place.base is not total:
                total[p:] += place[: len(total) - p]
        self._carry = total[n_frames * hop :].copy()
        return total[: n_frames * hop]

    def _trim(self, samples: FloatArray) -> FloatArray:
        drop = min(self._skip - self._skipped, len(samples))
        self._skipped += drop
        return samples[drop:]


def white_noise(random: np.random.Generator, n_frames: int, hop_samples: int) -> FloatArray:
    """Draws uniform noise in [-1, 1) frame by frame, [F, H] float32."""
    return random.random((n_frames, hop_samples), dtype=np.float32) * np.float32(2.0) - np.float32(1.0)
