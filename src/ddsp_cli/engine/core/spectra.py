"""Spectrograms and levels. Shapes: B batch, S samples, T spectral frames, N frequency bins."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from ddsp_cli.analysis.mfcc import cosine_matrix, mel_matrix
from ddsp_cli.engine.core.arrays import constant
from ddsp_cli.engine.core.scaling import power_to_db, safe_log

__all__ = [
    "a_weighted_loudness", "frame", "hann", "log_magnitude", "log_mel", "mel", "mel_matrix", "mfcc", "pad_for",
    "rms", "rms_power", "safe_log", "safe_sqrt", "stft", "stft_magnitude",
]  # fmt: skip


def hann(size: int) -> np.ndarray:
    """Periodic Hann window [size]."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


def frame(audio: Any, size: int, hop: int, pad_end: bool = True) -> Any:
    """Overlapping frames, frame t from sample t·hop: [B, S] → [B, T, size].

    With `pad_end` T = ceil(S/hop), the last frames filled up with zeros; without it only full frames are made.
    """
    n_samples = audio.shape[-1]
    n_frames = -(-n_samples // hop) if pad_end else max(0, (n_samples - size) // hop + 1)
    n_parts = -(-size // hop)
    n_hops = n_frames + n_parts - 1
    missing = n_hops * hop - n_samples
    padded = ops.pad(audio, [[0, 0], [0, missing]]) if missing > 0 else audio[:, : n_hops * hop]
    hops = ops.reshape(padded, (-1, n_hops, hop))
    frames = ops.concatenate([hops[:, i : i + n_frames] for i in range(n_parts)], axis=-1)
    return frames[..., :size] if n_parts * hop != size else frames


def stft(audio: Any, size: int, overlap: float = 0.75, pad_end: bool = True) -> tuple[Any, Any]:
    """Real and imaginary part of a Hann-windowed short-time Fourier transform, [B, T, N] each.

    The FFT is as long as the next power of two; frame t starts at sample t·hop; N = fft/2 + 1.
    """
    fft_length = 1 << (size - 1).bit_length()
    return ops.rfft(
        frame(audio, size, int(size * (1.0 - overlap)), pad_end) * constant(hann(size)), fft_length=fft_length
    )


def safe_sqrt(power: Any) -> Any:
    """Square root whose gradient is 0, not infinite, at 0."""
    nothing = power <= 0.0  # false for NaN, which must not pass for silence
    return ops.where(nothing, ops.zeros_like(power), ops.sqrt(ops.where(nothing, ops.ones_like(power), power)))


def stft_magnitude(audio: Any, size: int, overlap: float = 0.75, pad_end: bool = True) -> Any:
    """Magnitudes of `stft` (`spectral_ops.compute_mag`): [B, S] → [B, T, N]; gradient 0 where a magnitude is 0."""
    real, imaginary = stft(audio, size, overlap, pad_end)
    return safe_sqrt(real * real + imaginary * imaginary)


def log_magnitude(audio: Any, size: int = 2048, overlap: float = 0.75, pad_end: bool = True) -> Any:
    """Natural logarithm of `stft_magnitude` (`spectral_ops.compute_logmag`)."""
    return safe_log(stft_magnitude(audio, size, overlap, pad_end))


def mel(
    audio: Any,
    size: int = 2048,
    n_mels: int = 64,
    low_hz: float = 0.0,
    high_hz: float = 8000.0,
    sample_rate_hz: float = 16000,
    overlap: float = 0.75,
) -> Any:
    """Mel spectrogram of magnitudes (`spectral_ops.compute_mel`): [B, S] → [B, T, n_mels]."""
    magnitude = stft_magnitude(audio, size, overlap)
    return ops.matmul(magnitude, constant(mel_matrix(n_mels, magnitude.shape[-1], sample_rate_hz, low_hz, high_hz)))


def log_mel(
    audio: Any,
    size: int = 2048,
    n_mels: int = 64,
    low_hz: float = 80.0,
    high_hz: float = 7600.0,
    sample_rate_hz: float = 16000,
    overlap: float = 0.75,
) -> Any:
    """Natural logarithm of `mel` (`spectral_ops.compute_logmel`, whose range is narrower by default)."""
    return safe_log(mel(audio, size, n_mels, low_hz, high_hz, sample_rate_hz, overlap))


def mfcc(
    audio: Any,
    n_mfccs: int = 13,
    size: int = 1024,
    n_mels: int = 128,
    low_hz: float = 20.0,
    high_hz: float = 8000.0,
    sample_rate_hz: float = 16000,
    overlap: float = 0.75,
) -> Any:
    """Mel-frequency cepstral coefficients (`spectral_ops.compute_mfcc`): [B, S] → [B, T, n_mfccs]."""
    levels = log_mel(audio, size, n_mels, low_hz, high_hz, sample_rate_hz, overlap)
    return ops.matmul(levels, constant(cosine_matrix(n_mfccs, n_mels)))


# --- levels at frame rate ----------------------------------------------------------------------------


def pad_for(audio: Any, size: int, hop: int, padding: str) -> Any:
    """Silence around audio [B, S] so that `frame` without end padding makes the wanted frames.

    Args:
      padding: `center`: frame i centred on sample i·hop, S//hop + 1 frames; `same`: frame i from sample i·hop on,
        ceil(S/hop) frames; `valid`: as they fit.

    Raises:
      ValueError: no such padding.
    """
    n_samples = audio.shape[-1]
    if padding == "center":
        return ops.pad(audio, [[0, 0], [size // 2, size // 2]])
    if padding == "same":
        return ops.pad(audio, [[0, 0], [0, max(0, (-(-n_samples // hop) - 1) * hop + size - n_samples)]])
    if padding == "valid":
        return audio
    raise ValueError(f"padding is center, same or valid, not {padding!r}")


def rms(
    audio: Any, sample_rate_hz: int = 16000, frame_rate_hz: int = 250, size: int = 512, padding: str = "center"
) -> Any:
    """Root mean square of frames (`spectral_ops.compute_rms_energy`): [B, S] → [B, F]."""
    hop = sample_rate_hz // frame_rate_hz
    frames = frame(pad_for(audio, size, hop, padding), size, hop, pad_end=False)
    return safe_sqrt(ops.mean(ops.square(frames), axis=-1))


def rms_power(
    audio: Any,
    sample_rate_hz: int = 16000,
    frame_rate_hz: int = 250,
    size: int = 512,
    padding: str = "center",
    ref_db: float = 0.0,
    range_db: float = 80.0,
) -> Any:
    """Power of frames in dB, full scale 0 (`spectral_ops.compute_power`): [B, S] → [B, F]."""
    return power_to_db(ops.square(rms(audio, sample_rate_hz, frame_rate_hz, size, padding)), ref_db, range_db)


def a_weighted_loudness(
    audio: Any,
    sample_rate_hz: int = 16000,
    frame_rate_hz: int = 250,
    size: int = 512,
    padding: str = "center",
    ref_db: float = 0.0,
    range_db: float = 80.0,
) -> Any:
    """A-weighted loudness in dB, as magenta/ddsp defines it since 2.0 (`compute_loudness`): [B, S] → [B, F].

    Not divided by the energy of the window: a full-scale sine at 1 kHz reads about +20 dB with 512 samples.
    """
    from ddsp_cli.analysis.loudness import a_weighting_db

    hop = sample_rate_hz // frame_rate_hz
    frames = frame(pad_for(audio, size, hop, padding), size, hop, pad_end=False)
    real, imaginary = ops.rfft(frames * constant(hann(size)), fft_length=1 << (size - 1).bit_length())
    weights = 10.0 ** (a_weighting_db(np.linspace(0.0, sample_rate_hz / 2.0, real.shape[-1])) / 10.0)
    power = ops.mean((real * real + imaginary * imaginary) * constant(weights), axis=-1)
    return power_to_db(power, ref_db, range_db)
