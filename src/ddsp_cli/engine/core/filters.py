"""FIR filters designed in the frequency domain, applied per frame. Shapes: B batch, F frames, S samples, M bands."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from ddsp_cli.engine.core.tensors import ArgumentError, Tensor, constant, one_of, positive, takes, whole
from ddsp_cli.scaling import impulse_delay, impulse_window

PADDINGS = ("same", "valid")


def next_power_of_two(n: int) -> int:
    """Returns the smallest power of two that is at least n."""
    return 1 << max(0, (n - 1).bit_length())


def fir_design(n_bands: int, window_size_samples: int = 0) -> np.ndarray:
    """Makes the matrix that turns band magnitudes into a windowed causal FIR filter.

    Sampling a real, even spectrum at M points from 0 Hz to Nyquist and transforming it back is a cosine transform, so
    design, shift and Hann window are one matrix (`core.frequency_impulse_response`, core.py:1477-1565).

    Args:
      n_bands: M, the first band at 0 Hz, the last at Nyquist; 2 or more.
      window_size_samples: length of the Hann window, see `scaling.impulse_window`; 0, or more than 2(M-1), means the
        full length.

    Returns:
      [M, taps] float32.

    Raises:
      ValueError: one of the numbers is out of range.
    """
    n_bands = whole(n_bands, "the number of bands", smallest=2)
    window_size_samples = whole(window_size_samples, "window_size_samples", smallest=0)
    length = 2 * (n_bands - 1)
    band = np.arange(n_bands)
    weight = np.where((band == 0) | (band == n_bands - 1), 1.0, 2.0) / length
    window, lag = impulse_window(length, window_size_samples)
    return (weight[:, None] * np.cos(2 * np.pi * np.outer(band, lag) / length) * window).astype(np.float32)


@takes(magnitudes="M | B M | B F M")
def impulse_response(magnitudes: Tensor, window_size_samples: int = 0) -> Tensor:
    """Designs FIR filters from magnitudes.

    Args:
      magnitudes: [..., M], linear gain at M equally spaced frequencies from 0 Hz to Nyquist.
      window_size_samples: length of the Hann window, see `fir_design`.

    Returns:
      [..., taps].
    """
    return ops.matmul(magnitudes, constant(fir_design(magnitudes.shape[-1], window_size_samples)))


@takes(audio="B S", ir="B? L | B? F L")
def fft_convolve(
    audio: Tensor, ir: Tensor, delay_compensation: int = -1, hop_samples: int | None = None, padding: str = "same"
) -> Tensor:
    """Convolves audio with one filter, or with one filter per frame (`core.fft_convolve`, core.py:1317).

    The audio is cut into blocks, each is filtered (with its own filter where there is one per frame) and the results
    overlap-added.

    Args:
      audio: [B, S].
      ir: [B or 1, taps], or [B or 1, F, taps] for time-varying filtering; frame i filters the samples from i·hop on,
        hop = ceil(S/F).
      delay_compensation: samples to drop at the start; -1 means (taps - 1) // 2 - 1 but not less than 0, the original's
        centring, which leaves a linear-phase filter of even length two samples late.
      hop_samples: samples of a frame; needed only where S or F is not known while a graph is built.
      padding: `same` for as many samples as came in, `valid` for S + taps - 1. (Where the original's window is short,
        its `valid` returns nothing at all or too little.)

    Returns:
      [B, S] or [B, S + taps - 1].

    Raises:
      ValueError: the frames cannot cover the samples, a negative delay other than -1, or an unknown padding.
    """
    one_of(padding, "padding", PADDINGS)
    delay_compensation = whole(delay_compensation, "delay_compensation", smallest=-1)
    taps = ir.shape[-1]
    n_samples = ops.shape(audio)[-1]
    start = max((taps - 1) // 2 - 1, 0) if delay_compensation < 0 else delay_compensation
    if len(ir.shape) == 2:
        hop, n_blocks = _uniform_blocks(n_samples, taps)
        filters = ir[:, None, :]
    else:
        n_blocks = ops.shape(ir)[1]
        hop = hop_samples or -(-n_samples // n_blocks)
        if isinstance(n_samples, int) and isinstance(n_blocks, int) and -(-n_samples // hop) != n_blocks:
            raise ArgumentError(
                f"fft_convolve: {n_samples} samples cannot be cut into {n_blocks} equal frames, one for each filter"
            )
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
    """Returns block length and count for one filter: a single block if short, else the FFT's most useful size."""
    if isinstance(n_samples, int) and n_samples <= 4 * taps:
        return n_samples, 1
    hop = next_power_of_two(2 * taps) - taps + 1
    return hop, -(-n_samples // hop)


def _extend(audio: Any, n_zeros: Any) -> Any:
    """Appends zeros: [B, S] → [B, S + n]."""
    if isinstance(n_zeros, int) and n_zeros == 0:
        return audio
    return ops.concatenate([audio, ops.zeros((ops.shape(audio)[0], n_zeros), audio.dtype)], axis=-1)


@takes(blocks="B F L")
def overlap_add(blocks: Tensor, hop: int) -> Tensor:
    """Sums overlapping blocks.

    Args:
      blocks: [B, F, L].
      hop: samples from the start of one block to the start of the next.

    Returns:
      [B, (F-1)·hop + ceil(L/hop)·hop].
    """
    hop = whole(hop, "hop")
    batch, n_blocks, length = ops.shape(blocks)
    n_parts = -(-length // hop)
    blocks = ops.pad(blocks, [[0, 0], [0, 0], [0, n_parts * hop - length]])
    parts = ops.reshape(blocks, (batch, n_blocks, n_parts, hop))
    total = 0.0
    for i in range(n_parts):  # part i of every block is i hops after the block's start
        total = total + ops.pad(parts[:, :, i], [[0, 0], [i, n_parts - 1 - i], [0, 0]])
    return ops.reshape(total, (batch, (n_blocks + n_parts - 1) * hop))


@takes(audio="B S", magnitudes="B? M | B? F M")
def frequency_filter(
    audio: Tensor,
    magnitudes: Tensor,
    window_size_samples: int = 0,
    hop_samples: int | None = None,
    padding: str = "same",
) -> Tensor:
    """Filters audio by magnitudes (core.py:1568). A window of odd length does not move the sound.

    Args:
      audio: [B, S].
      magnitudes: [B or 1, M], or [B or 1, F, M] for filters that change with every frame; linear gain.
      window_size_samples: length of the Hann window, see `fir_design`.
      hop_samples: see `fft_convolve`.
      padding: see `fft_convolve`.

    Returns:
      [B, S], or [B, S + taps - 1] with `valid` padding.

    Raises:
      ValueError: see `fft_convolve`.
    """
    _, lags = impulse_window(2 * (magnitudes.shape[-1] - 1), window_size_samples)
    ir = impulse_response(magnitudes, window_size_samples)
    return fft_convolve(audio, ir, impulse_delay(lags), hop_samples, padding)


@takes(cutoff="B F 1")
def sinc_impulse_response(
    cutoff: Tensor, window_size_samples: int = 512, sample_rate_hz: float | None = None, high_pass: bool = False
) -> Tensor:
    """Designs windowed-sinc filters (core.py:1601).

    Args:
      cutoff: [B, F, 1], as a share of Nyquist, or in Hz where a sample rate is given.
      window_size_samples: length of the Hamming window; an even number becomes the next odd one.
      sample_rate_hz: of the audio; None where the cutoff is a share of Nyquist.
      high_pass: pass frequencies above the cutoff, in place of those below.

    Returns:
      [B, F, taps], of unit gain at 0 Hz (low pass).
    """
    window_size_samples = whole(window_size_samples, "window_size_samples")
    if sample_rate_hz is not None:
        cutoff = cutoff * (2.0 / positive(sample_rate_hz, "sample_rate_hz"))
    half = window_size_samples // 2
    lag = np.arange(-half, half + 1)
    n_taps = 2 * half + 1
    hamming = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(n_taps) / max(n_taps - 1, 1)) if half else np.ones(1)
    x = cutoff * constant(np.pi * np.where(lag == 0, 1.0, lag))
    tiny = ops.abs(x) < 1e-7
    sinc = ops.where(tiny, ops.ones_like(x), ops.sin(x) / ops.where(tiny, ops.ones_like(x), x))
    ir = ops.where(ops.convert_to_tensor(lag == 0), ops.ones_like(sinc), sinc) * constant(hamming)
    ir = ir / ops.abs(ops.sum(ir, axis=-1, keepdims=True))
    return constant(lag == 0) - ir if high_pass else ir


@takes(audio="B S", cutoff="B? F 1")
def sinc_filter(
    audio: Tensor,
    cutoff: Tensor,
    window_size_samples: int = 512,
    sample_rate_hz: float | None = None,
    padding: str = "same",
    high_pass: bool = False,
) -> Tensor:
    """Filters audio by a low or high pass whose cutoff changes with every frame (core.py:1652).

    Args:
      audio: [B, S].
      cutoff: [B or 1, F, 1], see `sinc_impulse_response`, as are the other arguments.
      window_size_samples: length of the Hamming window.
      sample_rate_hz: where the cutoff is in Hz.
      padding: `same` or `valid`, see `fft_convolve`.
      high_pass: pass frequencies above the cutoff, in place of those below.

    Returns:
      [B, S], or [B, S + taps - 1] with `valid` padding.
    """
    ir = sinc_impulse_response(cutoff, window_size_samples, sample_rate_hz, high_pass)
    return fft_convolve(audio, ir, padding=padding)
