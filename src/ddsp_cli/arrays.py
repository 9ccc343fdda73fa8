"""Types of arrays, and the small functions over arrays that every room uses. NumPy only.

Shapes are written in docstrings: S samples, F frames, C channels.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

#: Sound, features and controls.
FloatArray: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

#: Intermediate results that need more digits.
DoubleArray: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

#: Either of the two, for formulas that keep the type of their input.
RealArray: TypeAlias = np.ndarray[Any, np.dtype[np.floating[Any]]]

#: Spectra.
ComplexArray: TypeAlias = np.ndarray[Any, np.dtype[np.complexfloating[Any, Any]]]

#: Indices of samples and frames.
IntArray: TypeAlias = np.ndarray[Any, np.dtype[np.integer[Any]]]

#: Of any type, where only the shape counts.
AnyArray: TypeAlias = np.ndarray[Any, np.dtype[Any]]

#: Masks.
BoolArray: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

#: Values that are enough for a percentile; of a day of frames more would only take time and memory.
ENOUGH_VALUES = 1 << 20

#: Ratio of the standard deviation to the median of the magnitudes, of a normal distribution.
DEVIATION_PER_MEDIAN = 1.4826


@functools.lru_cache(maxsize=16)
def hann_window(n_samples: int) -> FloatArray:
    """Returns a periodic Hann window [S], read-only: 0.5 − 0.5·cos(2πn/S), for spectra of overlapping windows."""
    window = (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_samples) / n_samples)).astype(np.float32)
    window.setflags(write=False)
    return window


def runs(mask: BoolArray) -> tuple[IntArray, IntArray]:
    """Returns starts and stops (exclusive) of the stretches where a mask [F] is true."""
    padded = np.zeros(len(mask) + 2, bool)
    padded[1:-1] = mask
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return edges[::2], edges[1::2]


def spans_to_mask(starts: IntArray, stops: IntArray, n_frames: int) -> BoolArray:
    """Returns [F] bool, true from each start to its stop; the inverse of `runs` for spans that do not touch."""
    steps = np.zeros(n_frames + 1, np.int16)
    np.add.at(steps, starts, 1)
    np.add.at(steps, stops, -1)
    return np.asarray(np.cumsum(steps, dtype=np.int16, out=steps)[:-1] > 0)


def db_to_gain(level_db: RealArray) -> FloatArray:
    """Returns levels in dB, of any shape, as factors of amplitude: 10^(x/20)."""
    return np.asarray(10.0 ** (level_db / 20.0), np.float32)


def evenly_spread(n: int, most: int) -> IntArray:
    """Returns at most `most` of the indices 0..n - 1, rising, the first and the last among them."""
    return np.asarray(np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)))


def overlapping_windows(values: RealArray, size: int, hop: int = 1) -> RealArray:
    """Returns windows of `size` values, `hop` apart: views of an array [S], [(S − size) // hop + 1, size], read-only.

    As `numpy.lib.stride_tricks.sliding_window_view`, which takes 20 µs for each call: as long as the sums over one
    frame that is measured live.
    """
    step = values.itemsize
    n_windows = max((len(values) - size) // hop + 1, 0)
    windows = np.ndarray((n_windows, size), values.dtype, np.ascontiguousarray(values), strides=(hop * step, step))
    windows.flags.writeable = False
    return windows


def percentiles(values: RealArray, percents: ArrayLike) -> DoubleArray:
    """Returns percentiles, interpolated linearly between the sorted values, as NumPy defines them by default.

    NumPy's own function loads masked arrays, a twentieth of the time that a short transfer takes.
    """
    ordered = np.sort(values)
    places = np.asarray(percents) / 100.0 * (len(ordered) - 1)
    below = np.floor(places).astype(np.int64)
    low = ordered[below].astype(np.float64)
    high = ordered[np.minimum(below + 1, len(ordered) - 1)].astype(np.float64)
    return (high - low) * (places - below) + low


def thinned(values: RealArray) -> RealArray:
    """Returns every n-th of the values [N], at most `ENOUGH_VALUES` of them; all if there are fewer."""
    return values[:: -(-len(values) // ENOUGH_VALUES) or 1]


def decimated(audio: AnyArray, from_hz: int, to_hz: int) -> FloatArray:
    """Resamples signals [N, S] to a lower rate that divides theirs, with a flat response up to half of it.

    An ordinary resampler falls off below half the lower rate. Sound rendered at that rate does not, and a loss on
    logarithms of magnitudes would teach it to.
    """
    n_samples = audio.shape[1] * to_hz // from_hz
    n_bins = n_samples // 2 + 1
    out = np.empty((len(audio), n_samples), np.float32)
    for i, window in enumerate(audio):
        spectrum = np.fft.rfft(window[: n_samples * (from_hz // to_hz)])[:n_bins]
        out[i] = np.fft.irfft(spectrum, n_samples) * (to_hz / from_hz)
    return out
