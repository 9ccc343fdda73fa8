"""Spectrograms for the loss. Shapes: B batch, S samples, T spectral frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops


def frame(audio: Any, size: int, hop: int) -> Any:
    """Overlapping frames, the last ones padded with zeros: [B, S] → [B, ceil(S/hop), size]; hop divides size."""
    parts = size // hop
    n_samples = audio.shape[-1]
    n_frames = -(-n_samples // hop)
    padded = ops.pad(audio, [[0, 0], [0, (n_frames + parts - 1) * hop - n_samples]])
    hops = ops.reshape(padded, (-1, n_frames + parts - 1, hop))
    return ops.concatenate([hops[:, i : i + n_frames] for i in range(parts)], axis=-1)


def stft_magnitude(audio: Any, size: int, overlap: float = 0.75) -> Any:
    """Magnitudes of a Hann-windowed STFT (`spectral_ops.compute_mag`): [B, S] → [B, T, fft/2 + 1].

    The window is periodic; the FFT is as long as the next power of two; frame t starts at sample t·hop. The gradient
    is 0, not NaN, where a magnitude is 0.
    """
    hop = int(size * (1.0 - overlap))
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
    fft_length = 1 << (size - 1).bit_length()
    real, imaginary = ops.rfft(frame(audio, size, hop) * window, fft_length=fft_length)
    power = real * real + imaginary * imaginary
    positive = power > 0.0
    return ops.where(positive, ops.sqrt(ops.where(positive, power, ops.ones_like(power))), ops.zeros_like(power))


def safe_log(x: Any, eps: float = 1e-5) -> Any:
    """Natural logarithm with values of 0 and less replaced by eps, others kept (core.py:213)."""
    return ops.log(ops.where(x <= 0.0, ops.full_like(x, eps), x))
