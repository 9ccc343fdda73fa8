"""Spectrograms and levels. Shapes: B batch, S samples, T spectral frames, N frequency bins, F frames at frame rate."""

from __future__ import annotations

import numpy as np
from keras import ops

from ddsp_cli.analysis.mfcc import cosine_matrix, mel_matrix
from ddsp_cli.arrays import hann_window
from ddsp_cli.engine.core.scaling import DB_RANGE, power_to_db, safe_log
from ddsp_cli.engine.core.tensors import ArgumentError, Tensor, constant, finite, one_of, positive, takes, whole

PADDINGS = ("center", "same", "valid")

# --- spectrograms ------------------------------------------------------------------------------------


def hann(size: int) -> Tensor:
    """Returns a periodic Hann window [size]."""
    return constant(hann_window(size).copy())  # PyTorch warns of arrays that cannot be written


def hop_of(size: int, overlap: float) -> int:
    """Returns samples between two windows of a given size and overlap.

    Raises:
      ValueError: the overlap is not in [0, 1), or leaves no whole sample.
    """
    hop = int(whole(size, "the window size") * (1.0 - overlap)) if 0.0 <= overlap < 1.0 else 0
    if hop < 1:
        raise ArgumentError(
            f"an overlap of {overlap} of {size} samples is out of range; it must be 0 or more, and below 1"
        )
    return hop


@takes(audio="B S")
def frame(audio: Tensor, size: int, hop: int, pad_end: bool = True) -> Tensor:
    """Cuts audio into overlapping frames, frame t from sample t·hop on.

    Args:
      audio: [B, S].
      size: samples of a frame.
      hop: samples from the start of one frame to the start of the next.
      pad_end: make ceil(S/hop) frames, the last filled up with zeros, instead of full frames only.

    Returns:
      [B, T, size].

    Raises:
      ValueError: size or hop are out of range.
    """
    size, hop = whole(size, "size"), whole(hop, "hop")
    n_samples = audio.shape[-1]
    n_frames = -(-n_samples // hop) if pad_end else max(0, (n_samples - size) // hop + 1)
    n_parts = -(-size // hop)
    n_hops = n_frames + n_parts - 1
    missing = n_hops * hop - n_samples
    padded = ops.pad(audio, [[0, 0], [0, missing]]) if missing > 0 else audio[:, : n_hops * hop]
    hops = ops.reshape(padded, (-1, n_hops, hop))
    frames = ops.concatenate([hops[:, i : i + n_frames] for i in range(n_parts)], axis=-1)
    return frames[..., :size] if n_parts * hop != size else frames


def stft(audio: Tensor, size: int, overlap: float = 0.75, pad_end: bool = True) -> tuple[Tensor, Tensor]:
    """Computes the short-time Fourier transform with a periodic Hann window, in two real parts.

    Args:
      audio: [B, S].
      size: samples of the window; the FFT is as long as the next power of two.
      overlap: of neighbouring windows, from 0 up to but not including 1.
      pad_end: see `frame`.

    Returns:
      real and imaginary part, [B, T, N] each, N = fft/2 + 1; frame t starts at sample t·size·(1 - overlap).

    Raises:
      ValueError: size or overlap are out of range.
    """
    hop, size = hop_of(size, overlap), whole(size, "the window size")
    fft_length = 1 << (size - 1).bit_length()
    return ops.rfft(frame(audio, size, hop, pad_end) * hann(size), fft_length=fft_length)


@takes(power="...")
def safe_sqrt(power: Tensor) -> Tensor:
    """Computes the square root with a gradient of 0 instead of infinity at 0; NaN stays NaN."""
    at_zero = power <= 0.0
    return ops.where(at_zero, ops.zeros_like(power), ops.sqrt(ops.where(at_zero, ops.ones_like(power), power)))


def stft_magnitude(audio: Tensor, size: int, overlap: float = 0.75, pad_end: bool = True) -> Tensor:
    """Computes the magnitudes of `stft` (`spectral_ops.compute_mag`): [B, S] → [B, T, N]; gradient 0 at magnitude 0."""
    real, imaginary = stft(audio, size, overlap, pad_end)
    return safe_sqrt(real * real + imaginary * imaginary)


def log_magnitude(audio: Tensor, size: int = 2048, overlap: float = 0.75, pad_end: bool = True) -> Tensor:
    """Computes the logarithm of `stft_magnitude` (`spectral_ops.compute_logmag`): [B, S] → [B, T, N]."""
    return safe_log(stft_magnitude(audio, size, overlap, pad_end))


def mel(
    audio: Tensor,
    size: int = 2048,
    n_mels: int = 64,
    low_hz: float = 0.0,
    high_hz: float = 8000.0,
    sample_rate_hz: float = 16000,
    overlap: float = 0.75,
) -> Tensor:
    """Computes the mel spectrogram of magnitudes (`spectral_ops.compute_mel`).

    Args:
      audio: [B, S].
      size: samples of the window.
      n_mels: number of mel bands.
      low_hz: lower edge of the first band.
      high_hz: upper edge of the last band.
      sample_rate_hz: of the audio.
      overlap: of neighbouring windows.

    Returns:
      [B, T, n_mels], linear.

    Raises:
      ValueError: a number is out of range; the edges must lie between 0 Hz and Nyquist, the lower one first.
    """
    n_mels = whole(n_mels, "n_mels")
    if (
        not 0.0
        <= finite(low_hz, "low_hz")
        < finite(high_hz, "high_hz")
        <= positive(sample_rate_hz, "sample_rate_hz") / 2
    ):
        raise ArgumentError(
            f"low_hz {low_hz} must be 0 or more, and below high_hz {high_hz}, which must not be above half of "
            f"sample_rate_hz, {sample_rate_hz}"
        )
    magnitude = stft_magnitude(audio, size, overlap)
    return ops.matmul(magnitude, constant(mel_matrix(n_mels, magnitude.shape[-1], sample_rate_hz, low_hz, high_hz)))


def log_mel(
    audio: Tensor,
    size: int = 2048,
    n_mels: int = 64,
    low_hz: float = 80.0,
    high_hz: float = 7600.0,
    sample_rate_hz: float = 16000,
    overlap: float = 0.75,
) -> Tensor:
    """Computes the natural logarithm of `mel` (`spectral_ops.compute_logmel`, whose range is narrower by default)."""
    return safe_log(mel(audio, size, n_mels, low_hz, high_hz, sample_rate_hz, overlap))


def mfcc(
    audio: Tensor,
    n_mfccs: int = 13,
    size: int = 1024,
    n_mels: int = 128,
    low_hz: float = 20.0,
    high_hz: float = 8000.0,
    sample_rate_hz: float = 16000,
    overlap: float = 0.75,
) -> Tensor:
    """Computes mel-frequency cepstral coefficients (`spectral_ops.compute_mfcc`): [B, S] → [B, T, n_mfccs].

    Args:
      audio: [B, S].
      n_mfccs: number of coefficients, the first of which is level.
      size, n_mels, low_hz, high_hz, sample_rate_hz, overlap: see `mel`.

    Returns:
      [B, T, n_mfccs].

    Raises:
      ValueError: see `mel`; or there are more coefficients than mel bands.
    """
    if whole(n_mfccs, "n_mfccs") > whole(n_mels, "n_mels"):
        raise ArgumentError(f"n_mfccs {n_mfccs} must not be above n_mels {n_mels}")
    levels = log_mel(audio, size, n_mels, low_hz, high_hz, sample_rate_hz, overlap)
    return ops.matmul(levels, constant(cosine_matrix(n_mfccs, n_mels)))


# --- levels at frame rate ----------------------------------------------------------------------------


def pad_for(audio: Tensor, size: int, hop: int, padding: str) -> Tensor:
    """Pads audio with zeros so that `frame` without end padding makes the wanted frames.

    Args:
      audio: [B, S].
      size: samples of a frame.
      hop: samples between two frames.
      padding: `center`: frame i centred on sample i·hop, S//hop + 1 frames; `same`: frame i from sample i·hop on,
        ceil(S/hop) frames; `valid`: no padding.

    Returns:
      [B, S + padding].

    Raises:
      ValueError: no such padding.
    """
    one_of(padding, "padding", PADDINGS)
    n_samples = audio.shape[-1]
    if padding == "center":
        return ops.pad(audio, [[0, 0], [size // 2, size // 2]])
    if padding == "same":
        return ops.pad(audio, [[0, 0], [0, max(0, (-(-n_samples // hop) - 1) * hop + size - n_samples)]])
    return audio


def whole_hop(sample_rate_hz: float, frame_rate_hz: float) -> int:
    """Returns samples between two frames.

    Raises:
      ValueError: a second of samples does not hold a whole number of them for each frame.
    """
    positive(sample_rate_hz, "sample_rate_hz")
    hop = sample_rate_hz / positive(frame_rate_hz, "frame_rate_hz")
    if hop != int(hop):
        raise ArgumentError(
            f"{sample_rate_hz} samples a second cannot be cut into {frame_rate_hz} frames of equal, whole length; "
            "frame_rate_hz must divide sample_rate_hz"
        )
    return int(hop)


@takes(audio="B S")
def rms(
    audio: Tensor, sample_rate_hz: int = 16000, frame_rate_hz: int = 250, size: int = 512, padding: str = "center"
) -> Tensor:
    """Computes the root mean square of frames (`spectral_ops.compute_rms_energy`).

    Args:
      audio: [B, S].
      sample_rate_hz: of the audio.
      frame_rate_hz: of the result; divides the sample rate.
      size: samples of a frame.
      padding: `center`, `same` or `valid`, see `pad_for`.

    Returns:
      [B, F], linear.

    Raises:
      ValueError: the hop is not a whole number of samples, or no such padding.
    """
    hop = whole_hop(sample_rate_hz, frame_rate_hz)
    frames = frame(pad_for(audio, size, hop, padding), size, hop, pad_end=False)
    return safe_sqrt(ops.mean(ops.square(frames), axis=-1))


def rms_power(
    audio: Tensor,
    sample_rate_hz: int = 16000,
    frame_rate_hz: int = 250,
    size: int = 512,
    padding: str = "center",
    ref_db: float = 0.0,
    range_db: float = DB_RANGE,
) -> Tensor:
    """Computes the power of frames in dB, 0 dB for a full-scale constant (`spectral_ops.compute_power`).

    Args:
      audio: [B, S].
      sample_rate_hz: of the audio.
      frame_rate_hz: of the result; divides the sample rate.
      size: samples of a frame.
      padding: `center`, `same` or `valid`, see `pad_for`.
      ref_db: subtracted from the result.
      range_db: the result is -range_db or more.

    Returns:
      [B, F] in dB.

    Raises:
      ValueError: see `rms`.
    """
    return power_to_db(ops.square(rms(audio, sample_rate_hz, frame_rate_hz, size, padding)), ref_db, range_db)


@takes(audio="B S")
def a_weighted_loudness(
    audio: Tensor,
    sample_rate_hz: int = 16000,
    frame_rate_hz: int = 250,
    size: int = 512,
    padding: str = "center",
    ref_db: float = 0.0,
    range_db: float = DB_RANGE,
) -> Tensor:
    """Computes A-weighted loudness as magenta/ddsp defines it since 2.0 (`spectral_ops.compute_loudness`).

    It is not divided by the energy of the window: a full-scale sine at 1 kHz reads about +20 dB with 512 samples.

    Args:
      audio: [B, S].
      sample_rate_hz, frame_rate_hz, size, padding, ref_db, range_db: see `rms_power`.

    Returns:
      [B, F] in dB.

    Raises:
      ValueError: see `rms`.
    """
    from ddsp_cli.analysis.loudness import a_weighting_db

    hop = whole_hop(sample_rate_hz, frame_rate_hz)
    frames = frame(pad_for(audio, size, hop, padding), size, hop, pad_end=False)
    real, imaginary = ops.rfft(frames * hann(size), fft_length=1 << (size - 1).bit_length())
    weights = 10.0 ** (a_weighting_db(np.linspace(0.0, sample_rate_hz / 2.0, real.shape[-1])) / 10.0)
    power = ops.mean((real * real + imaginary * imaginary) * constant(weights), axis=-1)
    return power_to_db(power, ref_db, range_db)
