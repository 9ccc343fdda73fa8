"""Mel-frequency cepstral coefficients on the grid of the features, the input of a timbre encoder.

Coefficient 0, the level of the whole spectrum, is left out: the level is an input as well, and the timbre must not
depend on how loud a recording is. Shapes: S samples at 16 kHz, F frames, C coefficients.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator

import numpy as np

from ddsp_cli.analysis.loudness import FrameStream
from ddsp_cli.arrays import DoubleArray, FloatArray, hann_window
from ddsp_cli.config import ANALYSIS_RATE_HZ

#: As magenta/ddsp 3.7.0 computes them for its encoder (spectral_ops.py:`compute_mfcc`, encoders.py:60).
WINDOW_SAMPLES = 1024

N_MELS = 128

LOW_HZ, HIGH_HZ = 20.0, 8000.0

#: Magnitudes are limited to this from below; the original does so for 0 (core.py:`safe_log`).
FLOOR = 1e-5


def mfcc(audio: FloatArray, frame_rate_hz: int, n_mfccs: int) -> FloatArray:
    """Computes coefficients 1 to C of a recording.

    Args:
      audio: [S] at 16 kHz.
      frame_rate_hz: frame i is centred on sample i·hop, F = ceil(S / hop).
      n_mfccs: C.

    Returns:
      [F, C] float32.
    """
    return np.concatenate([np.zeros((0, n_mfccs), np.float32), *mfcc_blocks([audio], frame_rate_hz, n_mfccs)])


def mfcc_blocks(blocks: Iterable[FloatArray], frame_rate_hz: int, n_mfccs: int) -> Iterator[FloatArray]:
    """Computes them for sound [S] that arrives in blocks of any size: frames [n, C] as they are complete."""
    stream = mfcc_stream(frame_rate_hz, n_mfccs)
    for block in blocks:
        yield from _some(stream.push(block))
    yield from _some(stream.finish())


def _some(frames: FloatArray) -> list[FloatArray]:
    return [frames] if len(frames) else []


def mfcc_stream(frame_rate_hz: int, n_mfccs: int, ahead_samples: int | None = None) -> FrameStream:
    """Returns a stream that measures `mfcc` of pushed blocks; it returns [0] where no frame is complete.

    Args:
      frame_rate_hz, n_mfccs: see `mfcc`.
      ahead_samples: see `FrameStream`.
    """
    window = hann_window(WINDOW_SAMPLES)
    bands, cosines = matrices(n_mfccs)

    def measure(windows: FloatArray) -> FloatArray:
        magnitudes = np.abs(np.fft.rfft(windows * window, axis=-1)).astype(np.float32)
        return np.asarray(np.log(np.maximum(magnitudes @ bands, FLOOR)) @ cosines)

    return FrameStream(WINDOW_SAMPLES, ANALYSIS_RATE_HZ // frame_rate_hz, measure, ahead_samples)


def matrices(n_mfccs: int) -> tuple[FloatArray, FloatArray]:
    """Returns matrices from magnitudes to mel bands [N, n_mels], and from log mel to coefficients [n_mels, C]."""
    bands = mel_matrix(N_MELS, WINDOW_SAMPLES // 2 + 1, ANALYSIS_RATE_HZ, LOW_HZ, HIGH_HZ)
    return bands, cosine_matrix(n_mfccs + 1, N_MELS)[:, 1:]


@functools.cache
def mel_matrix(n_mels: int, n_bins: int, sample_rate_hz: float, low_hz: float, high_hz: float) -> FloatArray:
    """Makes triangular filters of equal width on the mel scale of HTK, m = 1127 ln(1 + f / 700 Hz).

    Args:
      n_mels: number of filters.
      n_bins: of a spectrum from 0 Hz to half the sample rate.
      sample_rate_hz: of the sound.
      low_hz, high_hz: lower edge of the first filter and upper edge of the last one.

    Returns:
      Weights [n_bins, n_mels] float32, peak 1; bin 0 has no weight, as in TensorFlow.
    """

    def to_mel(hz: DoubleArray | float) -> DoubleArray:
        return np.asarray(1127.0 * np.log1p(np.asarray(hz, np.float64) / 700.0))

    bins = to_mel(np.linspace(0.0, sample_rate_hz / 2.0, n_bins))[1:, None]
    edges = np.linspace(to_mel(low_hz), to_mel(high_hz), n_mels + 2)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.pad(np.maximum(0.0, np.minimum(rising, falling)), [[1, 0], [0, 0]]).astype(np.float32)


def cosine_matrix(n_mfccs: int, n_mels: int) -> FloatArray:
    """Returns the matrix from mel levels to coefficients from 0 on, scaled as in TensorFlow: [n_mels, n_mfccs]."""
    k, n = np.arange(n_mfccs), np.arange(n_mels)[:, None]
    cosines = 2.0 * np.cos(np.pi * k * (2 * n + 1) / (2 * n_mels)) / math.sqrt(2.0 * n_mels)
    return np.asarray(cosines, np.float32)
