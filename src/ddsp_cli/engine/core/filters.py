"""FIR filters designed in the frequency domain, applied per frame. Shapes: B batch, F frames, S samples, M bands."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from ddsp_cli.engine.core.arrays import constant


def next_power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << max(0, (n - 1).bit_length())


def fir_design(n_bands: int, window_size_samples: int = 0) -> np.ndarray:
    """The matrix [M, taps] that turns band magnitudes into a windowed causal linear-phase FIR filter.

    Sampling a real, even spectrum at M points from 0 Hz to Nyquist and transforming it back is a cosine transform,
    so design, shift and Hann window are one matrix (`core.frequency_impulse_response`, core.py:1477-1565).

    Args:
      n_bands: M, the first at 0 Hz, the last at Nyquist.
      window_size_samples: length of the Hann window; 0, or more than 2(M-1), means the full length.
    """
    length = 2 * (n_bands - 1)
    band = np.arange(n_bands)
    weight = np.where((band == 0) | (band == n_bands - 1), 1.0, 2.0) / length
    if window_size_samples <= 0 or window_size_samples > length:
        size, lag = length, np.arange(length) - length // 2
    else:
        size, half = window_size_samples, (window_size_samples + 1) // 2
        lag = np.arange(-(half - 2), half + 1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * ((size // 2 + lag) % size) / size)
    return (weight[:, None] * np.cos(2 * np.pi * np.outer(band, lag) / length) * hann).astype(np.float32)


def impulse_response(magnitudes: Any, window_size_samples: int = 0) -> Any:
    """FIR filters with given magnitudes: [..., M] → [..., taps]. See `fir_design`."""
    design = fir_design(magnitudes.shape[-1], window_size_samples)
    return ops.matmul(magnitudes, constant(design))


def fft_convolve(
    audio: Any, ir: Any, delay_compensation: int = -1, hop_samples: int | None = None, padding: str = "same"
) -> Any:
    """Convolution of audio with one filter, or with one filter per frame (`core.fft_convolve`, core.py:1317).

    The audio is cut into blocks, each is filtered (with its own filter where there is one per frame) and the results
    overlap-added.

    Args:
      audio: [B, S].
      ir: [B or 1, taps], or [B or 1, F, taps] for time-varying filtering; frame i filters the samples from i·hop on,
        hop = ceil(S/F).
      delay_compensation: samples to drop at the start; -1 means (taps - 1) // 2 - 1, the original's centring, which
        leaves a linear-phase filter two samples late.
      hop_samples: samples of a frame; needed only where S or F is not known while a graph is built.
      padding: `same` for as many samples as came in, `valid` for S + taps - 1. (Where the original's window is short,
        its `valid` returns nothing at all or too little.)

    Returns:
      [B, S] or [B, S + taps - 1].

    Raises:
      ValueError: so many frames cannot cover so many samples, or an unknown padding.
    """
    if padding not in ("same", "valid"):
        raise ValueError(f"padding is same or valid, not {padding!r}")
    taps = ir.shape[-1]
    n_samples = ops.shape(audio)[-1]
    start = (taps - 1) // 2 - 1 if delay_compensation < 0 else delay_compensation
    if len(ir.shape) == 2:
        hop, n_blocks = _uniform_blocks(n_samples, taps)
        filters = ir[:, None, :]
    else:
        n_blocks = ops.shape(ir)[1]
        hop = hop_samples or -(-n_samples // n_blocks)
        if isinstance(n_samples, int) and isinstance(n_blocks, int) and -(-n_samples // hop) != n_blocks:
            raise ValueError(f"{n_samples} samples cannot be cut into {n_blocks} equal frames")
        filters = ir
    size = next_power_of_two(hop + taps - 1)
    blocks = ops.reshape(_extend(audio, n_blocks * hop - n_samples), (-1, n_blocks, hop))
    a_re, a_im = ops.rfft(blocks, fft_length=size)
    h_re, h_im = ops.rfft(filters, fft_length=size)
    product = (a_re * h_re - a_im * h_im, a_re * h_im + a_im * h_re)
    filtered = ops.irfft(product, fft_length=size)[..., : hop + taps - 1]
    n_out = n_samples if padding == "same" else n_samples + taps - 1
    return _extend(overlap_add(filtered, hop), start)[:, start : start + n_out]


def _uniform_blocks(n_samples: Any, taps: int) -> tuple[int, Any]:
    """Block length and count for one filter: all at once where that is short, else at the FFT's most useful size."""
    if isinstance(n_samples, int) and n_samples <= 4 * taps:
        return n_samples, 1
    hop = next_power_of_two(2 * taps) - taps + 1
    return hop, -(-n_samples // hop)


def _extend(audio: Any, n_zeros: Any) -> Any:
    """Zeros after the end: [B, S] → [B, S + n]."""
    if isinstance(n_zeros, int) and n_zeros == 0:
        return audio
    return ops.concatenate([audio, ops.zeros((ops.shape(audio)[0], n_zeros), audio.dtype)], axis=-1)


def overlap_add(blocks: Any, hop: int) -> Any:
    """Sums blocks [B, F, L] that start `hop` samples apart: [B, (F-1)·hop + ceil(L/hop)·hop]."""
    batch, n_blocks, length = ops.shape(blocks)
    n_parts = -(-length // hop)
    blocks = ops.pad(blocks, [[0, 0], [0, 0], [0, n_parts * hop - length]])
    parts = ops.reshape(blocks, (batch, n_blocks, n_parts, hop))
    total = 0.0
    for i in range(n_parts):  # part i of every block lies i hops after the block's start
        total = total + ops.pad(parts[:, :, i], [[0, 0], [i, n_parts - 1 - i], [0, 0]])
    return ops.reshape(total, (batch, (n_blocks + n_parts - 1) * hop))


def frequency_filter(
    audio: Any,
    magnitudes: Any,
    window_size_samples: int = 0,
    hop_samples: int | None = None,
    padding: str = "same",
) -> Any:
    """Filters audio [B, S] by magnitudes [B, M], or [B, F, M] that change with every frame (core.py:1568)."""
    ir = impulse_response(magnitudes, window_size_samples)
    return fft_convolve(audio, ir, hop_samples=hop_samples, padding=padding)


def sinc_impulse_response(
    cutoff: Any, window_size_samples: int = 512, sample_rate_hz: float | None = None, high_pass: bool = False
) -> Any:
    """Windowed-sinc filters (core.py:1601).

    Args:
      cutoff: [B, F, 1], as a share of Nyquist, or in Hz where a sample rate is given.
      window_size_samples: of the Hamming window, made odd.
      high_pass: pass what is above the cutoff.

    Returns:
      [B, F, taps], of unit gain at 0 Hz (low pass).
    """
    if sample_rate_hz is not None:
        cutoff = cutoff * (2.0 / sample_rate_hz)
    half = window_size_samples // 2
    lag = np.arange(-half, half + 1)
    n_taps = 2 * half + 1
    hamming = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(n_taps) / max(n_taps - 1, 1))
    x = cutoff * constant(np.pi * np.where(lag == 0, 1.0, lag))
    tiny = ops.abs(x) < 1e-7
    sinc = ops.where(tiny, ops.ones_like(x), ops.sin(x) / ops.where(tiny, ops.ones_like(x), x))
    ir = ops.where(ops.convert_to_tensor(lag == 0), ops.ones_like(sinc), sinc) * constant(hamming)
    ir = ir / ops.abs(ops.sum(ir, axis=-1, keepdims=True))
    return constant(lag == 0) - ir if high_pass else ir


def sinc_filter(
    audio: Any,
    cutoff: Any,
    window_size_samples: int = 512,
    sample_rate_hz: float | None = None,
    padding: str = "same",
    high_pass: bool = False,
) -> Any:
    """Low or high pass whose cutoff [B, F, 1] changes with every frame; see `sinc_impulse_response`."""
    ir = sinc_impulse_response(cutoff, window_size_samples, sample_rate_hz, high_pass)
    return fft_convolve(audio, ir, padding=padding)
