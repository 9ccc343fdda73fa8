"""The straightforward way: envelopes at sample rate for every harmonic, plain sums, TensorFlow's own transforms.

What the engine is measured against; the operations are those that magenta/ddsp performs.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf


def harmonic(f0_hz: Any, amplitudes: Any, hop: int, rate: int) -> Any:
    """Synthesises [B, F, 1] and [B, F, K] to audio [B, S] through arrays of [B, S, K]."""
    n_harmonics, n_samples = amplitudes.shape[-1], amplitudes.shape[1] * hop
    hz = (f0_hz * tf.range(1.0, n_harmonics + 1.0))[:, :, None]
    hz = tf.compat.v1.image.resize(hz, [n_samples, 1])[:, :, 0]
    held = tf.transpose(tf.concat([amplitudes, amplitudes[:, -1:]], 1), [0, 2, 1])
    curves = tf.signal.overlap_and_add(held[..., None] * tf.signal.hann_window(2 * hop), hop)
    curves = tf.transpose(curves, [0, 2, 1])[:, hop:-hop]
    audible = tf.where(hz >= rate / 2.0, tf.zeros_like(curves), curves)
    return tf.reduce_sum(audible * tf.sin(tf.cumsum(hz * (2.0 * math.pi / rate), axis=1)), -1)


def convolve(audio: Any, ir: Any) -> Any:
    """Applies one filter [1, taps], or one per frame [B, F, taps], by FFT and overlap-add; the length is kept."""
    ir = tf.tile(ir[:, None], [audio.shape[0], 1, 1]) if len(ir.shape) == 2 else ir
    hop, taps = -(-audio.shape[1] // ir.shape[1]), ir.shape[-1]
    size = 1 << (hop + taps - 2).bit_length()
    spectrum = tf.signal.rfft(tf.signal.frame(audio, hop, hop, pad_end=True), [size]) * tf.signal.rfft(ir, [size])
    return tf.signal.overlap_and_add(tf.signal.irfft(spectrum), hop)[:, : audio.shape[1]]


def filtered_noise(noise: Any, magnitudes: Any) -> Any:
    """Filters noise [B, S] by magnitudes [B, F, M], Hann-windowed."""
    ir = tf.signal.irfft(tf.complex(magnitudes, tf.zeros_like(magnitudes)))
    window = tf.signal.fftshift(tf.signal.hann_window(ir.shape[-1]))
    return convolve(noise, tf.signal.fftshift(ir * window, axes=-1))


def spectral_loss(target: Any, value: Any, fft_sizes: tuple[int, ...]) -> Any:
    """Sums the L1 distances of magnitudes and of their logarithms over FFT sizes."""
    total = 0.0
    for size in fft_sizes:
        ours, theirs = (tf.abs(tf.signal.stft(x, size, size // 4, pad_end=True)) for x in (value, target))
        logs = [tf.math.log(tf.where(x <= 0.0, 1e-5, x)) for x in (ours, theirs)]
        total += tf.reduce_mean(tf.abs(ours - theirs)) + tf.reduce_mean(tf.abs(logs[0] - logs[1]))
    return total
