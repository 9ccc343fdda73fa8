"""Formulas and constants that the differentiable engine and the NumPy player share.

Each function takes the array namespace to compute in: `xp=numpy` (default) or `xp=keras.ops`, and is elementwise unless
its docstring says otherwise. Sources are files of magenta/ddsp 3.7.0. K harmonics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

#: An array of NumPy, or a tensor of the Keras backend: of the namespace that a function computes in.
Array: TypeAlias = Any

#: Range of the levels that a decoder takes as 0..1, in dB below full scale.
DB_RANGE = 80.0

#: Range of the pitches that a decoder takes as 0..1, in MIDI note numbers.
F0_RANGE_MIDI = 127.0

#: A decoder with `note_bias` has a bias for each semitone of a piano: A0, as a MIDI note number, and how many.
LOWEST_NOTE, N_NOTES = 21, 88

#: Bounds of a control after `exp_sigmoid`.
MAX_AMPLITUDE = 2.0

CONTROL_FLOOR = 1e-7

#: Variance of the noise that is filtered, uniform within ±1.
NOISE_VARIANCE = 1.0 / 3.0

#: Added to the variance by the decoder's layer normalisation, Keras's default (nn.py:844).
NORM_EPSILON = 1e-3

#: Slope below 0 of the decoder's leaky rectifier, tf.nn.leaky_relu's default (nn.py:844).
LEAKY_SLOPE = 0.2


def sigmoid(x: Array, xp: Any = np) -> Array:
    """Computes the logistic function; that of the array library if it has one, for its gradient."""
    if hasattr(xp, "sigmoid"):
        return xp.sigmoid(x)
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-x))


def exp_sigmoid(
    x: Array, exponent: float = 10.0, max_value: float = MAX_AMPLITUDE, threshold: float = CONTROL_FLOOR, xp: Any = np
) -> Array:
    """Scales to positive bounded numbers: max·σ(x)^ln(exponent) + threshold (core.py:387)."""
    return max_value * sigmoid(x, xp) ** math.log(exponent) + threshold


def hz_to_midi(hz: Array, xp: Any = np) -> Array:
    """Converts a frequency in Hz to a MIDI note number; 0 for frequencies of 0 or less (core.py:300)."""
    positive = hz > 0
    safe = xp.where(positive, hz, xp.ones_like(hz))
    return xp.where(positive, 12.0 * (xp.log2(safe) - math.log2(440.0)) + 69.0, xp.zeros_like(hz))


def midi_to_hz(midi: Array, xp: Any = np) -> Array:
    """Converts a MIDI note number to Hz, A4 = 69 = 440 Hz (core.py:280)."""
    return 440.0 * xp.exp((midi - 69.0) * (math.log(2.0) / 12.0))


def scale_f0(f0_hz: Array, xp: Any = np) -> Array:
    """Scales F0 in Hz to the decoder input `f0_scaled`: MIDI / 127, 0 where F0 is 0 (preprocessing.py:47)."""
    return hz_to_midi(f0_hz, xp) / F0_RANGE_MIDI


def scale_db(db: Array) -> Array:
    """Scales dB to the decoder inputs `ld_scaled` and `pw_scaled`: -80 dB → 0, 0 dB → 1 (preprocessing.py:37)."""
    return db / DB_RANGE + 1.0


def unscale_db(scaled: Array) -> Array:
    """Inverts `scale_db`."""
    return (scaled - 1.0) * DB_RANGE


def below_nyquist(f0_hz: Array, n_harmonics: int, sample_rate_hz: float, xp: Any = np) -> Array:
    """Makes a mask [..., K], 1 where harmonic k of F0 [..., 1] is below half the sample rate (core.py:869)."""
    k = (
        xp.cast(xp.arange(1, n_harmonics + 1), "float32")
        if hasattr(xp, "cast")
        else np.arange(1, n_harmonics + 1, dtype=np.float32)
    )
    mask = f0_hz * k < sample_rate_hz / 2.0
    return xp.cast(mask, "float32") if hasattr(xp, "cast") else mask.astype(np.float32)


def harmonic_distribution(
    raw: Array,
    f0_hz: Array,
    sample_rate_hz: float,
    normalize_below_nyquist: bool = True,
    xp: Any = np,
    scale: Callable[[Array], Array] | None = None,
) -> Array:
    """Scales raw decoder output to a distribution over audible harmonics (`Harmonic.get_controls`, synths.py:94).

    Args:
      raw: [..., K].
      f0_hz: [..., 1].
      sample_rate_hz: harmonics above half of it are 0.
      normalize_below_nyquist: whether they are left out of the sum as well.
      xp: the array namespace.
      scale: makes positive weights of raw output; None for `exp_sigmoid`.

    Returns:
      [..., K] of sum 1; all 0 where every harmonic is above half the sample rate.
    """
    weights = exp_sigmoid(raw, xp=xp) if scale is None else scale(raw)
    if normalize_below_nyquist:
        weights = weights * below_nyquist(f0_hz, raw.shape[-1], sample_rate_hz, xp)
    total = xp.sum(weights, axis=-1, keepdims=True)
    return weights / xp.where(total == 0.0, xp.full_like(total, CONTROL_FLOOR), total)


def impulse_window(n_taps: int, window_size_samples: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Makes the window and lags that turn a zero-phase impulse response into a causal one (core.py:1477-1540).

    A window of odd length T is symmetric, with its peak on the middle tap: the filter has linear phase. (The original's
    peak is half a sample off.) Of an even length below `n_taps` the original keeps T - 1 taps, of which the first has
    lag 2 - T/2 and the last weighs 0; of the full length it keeps all.

    Args:
      n_taps: length of the zero-phase response.
      window_size_samples: length of the Hann window; 0, or more than `n_taps`, means `n_taps`.

    Returns:
      window: [T] float32, periodic Hann, 1 at lag 0.
      lags: [T] int, position of each tap in the zero-phase response (negative lags at its end).
    """
    size = window_size_samples if 0 < window_size_samples < n_taps else n_taps
    half = size // 2
    whole = size % 2 or size == n_taps
    lags = np.arange(size) - half if whole else np.arange(-max(half - 2, 0), half + 1)
    return (0.5 + 0.5 * np.cos(2.0 * np.pi * lags / size)).astype(np.float32), lags


def impulse_delay(lags: np.ndarray) -> int:
    """Returns samples that a filter with the taps of `impulse_window` drops at its start, as compensation of its delay.

    Those before lag 0 where the window is symmetric, so that the sound is not moved. Otherwise (T - 1)//2 - 1 as in the
    original (core.py:1288), which leaves a filter of the full, even length two samples late.
    """
    half = len(lags) // 2
    return half if len(lags) % 2 and lags[half] == 0 else max((len(lags) - 1) // 2 - 1, 0)
