"""The room an instrument sounds in: convolution with an impulse response of seconds, sample by sample exact."""

from __future__ import annotations

import numpy as np

#: Longest piece of the impulse response and of the sound that one Fourier transform handles.
_MAX_PARTITION_SAMPLES = 4096


class Room:
    """Adds reverberation without delay: out = dry + dry ∗ response (magenta/ddsp 3.7.0, effects.py:28-117).

    Convolution in equal partitions: what finished pieces of the past send through all but the first part of
    the response is known when a new piece begins; what the piece itself sends through the first part is added
    as it arrives. So blocks may have any size and nothing has to wait.

    Args:
      impulse_response: [L] float32. Its first sample, the direct sound, is taken to be 0 as in training.
    """

    def __init__(self, impulse_response: np.ndarray) -> None:
        response = np.array(impulse_response, np.float32)
        response[:1] = 0.0
        size = min(_MAX_PARTITION_SAMPLES, 1 << max(len(response) - 1, 1).bit_length())
        n_parts = max(1, -(-len(response) // size))
        padded = np.zeros(n_parts * size, np.float32)
        padded[: len(response)] = response
        self._size = size
        self._head = padded[:size]
        self._spectra = np.fft.rfft(padded.reshape(n_parts, size), 2 * size)
        self._past = np.zeros((max(n_parts - 1, 1), size + 1), np.complex64)  # newest first
        self._piece = np.zeros(size, np.float32)
        self._wet = np.zeros(2 * size, np.float32)  # what is known of this piece and the next
        self._position = 0

    def push(self, dry: np.ndarray) -> np.ndarray:
        """[S] float32 → [S] float32, dry and wet together."""
        out = np.array(dry, np.float32)
        start = 0
        while start < len(out):
            n = min(self._size - self._position, len(out) - start)
            stretch = slice(start, start + n)
            self._take(out[stretch])
            out[stretch] += self._wet[self._position - n : self._position]
            if self._position == self._size:
                self._turn()
            start += n
        return out

    def _take(self, block: np.ndarray) -> None:
        """Adds what a stretch of the current piece sends through the first part of the response."""
        n, at = len(block), self._position
        self._position += n
        self._piece[at : self._position] = block
        if not block.any():
            return
        n_out = n + self._size - 1
        n_fft = 1 << (n_out - 1).bit_length()
        head = self._spectra[0] if n_fft == 2 * self._size else np.fft.rfft(self._head, n_fft)
        self._wet[at : at + n_out] += np.fft.irfft(np.fft.rfft(block, n_fft) * head, n_fft)[:n_out]

    def _turn(self) -> None:
        """The piece is full: the next one starts with what all finished pieces send into it."""
        size = self._size
        self._wet[:size] = self._wet[size:]
        self._wet[size:] = 0.0
        self._position = 0
        if len(self._spectra) > 1:
            self._past[1:] = self._past[:-1]
            self._past[0] = np.fft.rfft(self._piece, 2 * size)
            total = np.einsum("pf,pf->f", self._past, self._spectra[1:])
            self._wet += np.fft.irfft(total, 2 * size).astype(np.float32)


def tail_s(impulse_response: np.ndarray | None, sample_rate_hz: int, fall_db: float = 60.0) -> float:
    """How long a room goes on after a sound ends: until what is left of it is `fall_db` below the direct sound.

    Args:
      impulse_response: [L], without the direct sound (which is 1); None for no room.
      sample_rate_hz: its rate.
      fall_db: how far down counts as gone, of the energy of noise sent through.
    """
    if impulse_response is None or not len(impulse_response):
        return 0.0
    energy = np.asarray(impulse_response, np.float64) ** 2
    left = np.cumsum(energy[::-1])[::-1]
    audible = np.flatnonzero(left > (1.0 + left[0]) * 10.0 ** (-fall_db / 10.0))
    return float(audible[-1] + 1) / sample_rate_hz if len(audible) else 0.0
