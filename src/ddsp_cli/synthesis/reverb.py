"""Reverb: convolution with an impulse response of seconds, as a stream without delay. S samples."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ddsp_cli.arrays import ComplexArray, FloatArray

#: Shortest and longest partition of the impulse response and of the sound.
_PARTITION_SAMPLES = (256, 4096)

#: A reverb has ended where what is left of its energy is this far below that of direct sound and reverb together.
TAIL_FALL_DB = 60.0


class Room(Protocol):
    """Adds reverb to dry sound, as `Reverb` does."""

    def push(self, dry: FloatArray) -> FloatArray:
        """Takes the next samples [S]; gives as many, dry and wet together."""


class Reverb:
    """Adds reverb without delay: out = dry + dry ∗ response (magenta/ddsp 3.7.0, effects.py:28-117).

    Uniformly partitioned convolution (overlap-save, T. G. Stockham 1966; W. G. Gardner 1995). The share of finished
    partitions of the input, through all but the first partition of the response, is known when a new one begins; the
    share of the input's own partition through the first one is added as it arrives. So blocks may have any size. A
    partition that arrives whole needs one transform and one inverse for both shares.

    Args:
      impulse_response: [S] float32. Its first sample, the direct sound, is taken to be 0 as in training.
    """

    def __init__(self, impulse_response: FloatArray) -> None:
        response = np.array(impulse_response, np.float32)
        response[:1] = 0.0
        shortest, longest = _PARTITION_SAMPLES
        size = min(longest, max(shortest, 1 << max(len(response) - 1, 1).bit_length()))
        n_parts = max(1, -(-len(response) // size))
        padded = np.zeros(n_parts * size, np.float32)
        padded[: len(response)] = response
        self._size = size
        self._head = padded[:size]
        self._spectra = np.fft.rfft(padded.reshape(n_parts, size), 2 * size)
        # Spectra of finished partitions of the input, newest first from `_newest` on; each is stored twice, so that a
        # slice of the ring is contiguous.
        self._n_past = n_parts - 1
        self._past = np.zeros((2 * self._n_past, size + 1), np.complex64)
        self._newest = 0
        self._finished: ComplexArray | None = None  # the share of finished partitions, until it is transformed back
        self._input = np.zeros(size, np.float32)
        self._wet = np.zeros(2 * size, np.float32)  # sums so far of this partition and the next
        self._position = 0

    def push(self, dry: FloatArray) -> FloatArray:
        """Takes the next samples [S]; gives as many, dry and wet together."""
        out = np.array(dry, np.float32)
        size = self._size
        start = 0
        while start < len(out):
            n = min(size - self._position, len(out) - start)
            part = slice(start, start + n)
            spectrum = None
            if n == size:
                spectrum = self._take_whole(out[part])
            else:
                self._take(out[part])
            out[part] += self._wet[self._position - n : self._position]
            if self._position == size:
                self._next_partition(spectrum)
            start += n
        return out

    def _take(self, block: FloatArray) -> None:
        """Adds the share of the next samples of the current partition through the first partition of the response."""
        n, at = len(block), self._position
        self._position += n
        self._input[at : self._position] = block
        if self._finished is not None:
            self._wet += np.fft.irfft(self._finished, 2 * self._size)
            self._finished = None
        if not block.any():
            return
        n_out = n + self._size - 1
        n_fft = 1 << (n_out - 1).bit_length()
        head = self._spectra[0] if n_fft == 2 * self._size else np.fft.rfft(self._head, n_fft)
        self._wet[at : at + n_out] += np.fft.irfft(np.fft.rfft(block, n_fft) * head, n_fft)[:n_out]

    def _take_whole(self, block: FloatArray) -> ComplexArray:
        """Takes a whole partition, see `_take`; returns its spectrum."""
        self._position = self._size
        spectrum = np.fft.rfft(block, 2 * self._size)
        share = spectrum * self._spectra[0]
        if self._finished is not None:
            share += self._finished
            self._finished = None
        self._wet += np.fft.irfft(share, 2 * self._size)
        return spectrum

    def _next_partition(self, spectrum: ComplexArray | None) -> None:
        """Begins a partition with the share of all finished ones.

        Args:
          spectrum: of the last one, where it is known.
        """
        size = self._size
        self._wet[:size] = self._wet[size:]
        self._wet[size:] = 0.0
        self._position = 0
        if self._n_past:
            self._newest = (self._newest - 1) % self._n_past
            last = np.fft.rfft(self._input, 2 * size) if spectrum is None else spectrum
            self._past[self._newest] = self._past[self._newest + self._n_past] = last
            past = self._past[self._newest : self._newest + self._n_past]
            self._finished = (past * self._spectra[1:]).sum(axis=0)  # 2.6 times as fast as einsum


def tail_s(impulse_response: FloatArray | None, sample_rate_hz: int) -> float:
    """Measures how long a reverb rings after a sound: see `TAIL_FALL_DB`.

    Args:
      impulse_response: [S], without the direct sound (which is 1); None for no reverb.
      sample_rate_hz: its rate.

    Returns:
      Seconds.
    """
    if impulse_response is None or not len(impulse_response):
        return 0.0
    energy = np.asarray(impulse_response, np.float64) ** 2
    left = np.cumsum(energy[::-1])[::-1]
    audible = np.flatnonzero(left > (1.0 + left[0]) * 10.0 ** (-TAIL_FALL_DB / 10.0))
    return float(audible[-1] + 1) / sample_rate_hz if len(audible) else 0.0
