"""Between what a network gives and what physics wants: bounded scalings, Hz, MIDI, decibels. Elementwise."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from keras import ops

from ddsp_cli import scaling
from ddsp_cli.engine.core.arrays import constant, counting

DB_RANGE = scaling.DB_RANGE

exp_sigmoid = functools.partial(scaling.exp_sigmoid, xp=ops)
hz_to_midi = functools.partial(scaling.hz_to_midi, xp=ops)


def sym_exp_sigmoid(x: Any, width: float = 8.0) -> Any:
    """`exp_sigmoid` mirrored at 0, where it is close to 0: for controls that may be of either sign (core.py:407)."""
    return exp_sigmoid(width * (ops.abs(x) / 2.0 - 1.0))


def soft_limit(x: Any, x_min: float = 0.0, x_max: float = 1.0) -> Any:
    """Identity between two bounds, bent smoothly into them."""
    return ops.softplus(x) + x_min - ops.softplus(x - (x_max - x_min))


def safe_log(x: Any, eps: float = 1e-5) -> Any:
    """Natural logarithm with values of 0 and less replaced by eps, others kept (core.py:213)."""
    return ops.log(ops.where(x <= 0.0, ops.full_like(x, eps), x))


def logb(x: Any, base: float = 2.0, eps: float = 1e-5) -> Any:
    """Logarithm to any base, with the care of `safe_log`."""
    return safe_log(x, eps) / math.log(base)


def safe_divide(numerator: Any, denominator: Any, eps: float = 1e-7) -> Any:
    """Quotient with denominators of exactly 0 replaced by eps (core.py:206)."""
    return numerator / ops.where(denominator == 0.0, ops.full_like(denominator, eps), denominator)


def midi_to_hz(midi: Any, midi_zero_silence: bool = False) -> Any:
    """Frequency in Hz of a MIDI note number; with `midi_zero_silence` note 0 is 0 Hz (core.py:280)."""
    hz = scaling.midi_to_hz(midi, xp=ops)
    return ops.where(midi == 0.0, ops.zeros_like(hz), hz) if midi_zero_silence else hz


def unit_to_midi(unit: Any, midi_min: float = 20.0, midi_max: float = 90.0, clip: bool = False) -> Any:
    """Maps 0..1 to a range of MIDI notes."""
    unit = ops.clip(unit, 0.0, 1.0) if clip else unit
    return midi_min + (midi_max - midi_min) * unit


def midi_to_unit(midi: Any, midi_min: float = 20.0, midi_max: float = 90.0, clip: bool = False) -> Any:
    """Maps a range of MIDI notes to 0..1."""
    unit = (midi - midi_min) / (midi_max - midi_min)
    return ops.clip(unit, 0.0, 1.0) if clip else unit


def _midi_of(hz: float) -> float:
    return float(scaling.hz_to_midi(np.asarray(hz, np.float64)))


def unit_to_hz(unit: Any, hz_min: float, hz_max: float, clip: bool = False) -> Any:
    """Maps 0..1 to a range of Hz, logarithmically: equal steps are equal intervals."""
    return midi_to_hz(unit_to_midi(unit, _midi_of(hz_min), _midi_of(hz_max), clip))


def hz_to_unit(hz: Any, hz_min: float, hz_max: float, clip: bool = False) -> Any:
    """Maps a range of Hz to 0..1, logarithmically."""
    return midi_to_unit(hz_to_midi(hz), _midi_of(hz_min), _midi_of(hz_max), clip)


def power_to_db(power: Any, ref_db: float = 0.0, range_db: float = DB_RANGE) -> Any:
    """Power to dB above `ref_db`, nothing below -range_db (core.py:253)."""
    floored = ops.maximum(power, 10.0 ** (-range_db / 10.0))
    return ops.maximum((10.0 / math.log(10.0)) * ops.log(floored) - ref_db, -range_db)


def amplitude_to_db(amplitude: Any, ref_db: float = 0.0, range_db: float = DB_RANGE) -> Any:
    """Amplitude to dB above `ref_db`, nothing below -range_db."""
    return power_to_db(ops.square(amplitude), ref_db, range_db)


def db_to_power(db: Any) -> Any:
    """Decibels to power."""
    return ops.exp(db * (math.log(10.0) / 10.0))


def db_to_amplitude(db: Any) -> Any:
    """Decibels to amplitude."""
    return db_to_power(db / 2.0)


# --- network output to frequencies, [B, F, N·depth] → [B, F, N] in Hz --------------------------------


def _with_depth(x: Any, depth: int) -> Any:
    return ops.reshape(x, (*ops.shape(x)[:-1], x.shape[-1] // depth, depth))


def frequencies_sigmoid(x: Any, depth: int = 1, hz_min: float = 0.0, hz_max: float = 8000.0) -> Any:
    """Each frequency a sum of `depth` logarithmic sigmoids, each covering a smaller part of the range."""
    unit = ops.sigmoid(_with_depth(x, depth))
    remainder = hz_max - hz_min
    share = 1.0 - remainder ** (-1.0 / depth)
    total: Any = 0.0
    for i in range(depth - 1):
        total = total + unit_to_hz(unit[..., i], 0.0, remainder * share)
        remainder -= remainder * share
    return total + unit_to_hz(unit[..., depth - 1], hz_min, remainder)


def frequencies_softmax(x: Any, depth: int = 1, hz_min: float = 20.0, hz_max: float = 8000.0) -> Any:
    """Each frequency the mean of `depth` points on a logarithmic scale, weighted by a softmax."""
    points = np.linspace(0.0, 1.0, depth, dtype=np.float32)
    return unit_to_hz(ops.sum(ops.softmax(_with_depth(x, depth), axis=-1) * constant(points), axis=-1), hz_min, hz_max)


def frequencies_critical_bands(
    x: Any, depth: int = 1, depth_scale: float = 10.0, hz_min: float = 20.0, hz_max: float = 8000.0
) -> Any:
    """Frequencies that stay near the centres of equally spaced Bark bands, each moving by its bandwidth.

    Centres by Traunmüller's formula, bandwidths by Glasberg and Moore's ERB.
    """
    modifier = ops.sum(ops.tanh(_with_depth(x, depth)) * constant(float(depth_scale) ** -np.arange(depth)), axis=-1)
    low, high = (26.81 / (1.0 + 1960.0 / hz) - 0.53 for hz in (hz_min, hz_max))
    bark = np.linspace(low, high, modifier.shape[-1])
    centre_hz = 1960.0 / (26.81 / (bark + 0.53) - 1.0)
    bandwidth_hz = 0.108 * centre_hz + 24.7
    return soft_limit(constant(centre_hz) + constant(bandwidth_hz) * modifier, hz_min, hz_max)


# --- harmonics -------------------------------------------------------------------------------------


def harmonic_frequencies(f0_hz: Any, n_harmonics: int) -> Any:
    """Integer multiples of f0: [B, F, 1] → [B, F, K]."""
    return f0_hz * counting(n_harmonics, start=1)


def remove_above_nyquist(frequencies_hz: Any, amplitudes: Any, sample_rate_hz: float = 16000) -> Any:
    """Amplitudes, 0 where the frequency is not below half the sample rate (core.py:869)."""
    return ops.where(frequencies_hz < sample_rate_hz / 2.0, amplitudes, ops.zeros_like(amplitudes))


def normalize_harmonics(distribution: Any, f0_hz: Any = None, sample_rate_hz: float = 16000) -> Any:
    """Sum 1 over the harmonics [..., K], those above Nyquist left out where f0 [..., 1] is given."""
    if f0_hz is not None:
        frequencies = harmonic_frequencies(f0_hz, distribution.shape[-1])
        distribution = remove_above_nyquist(frequencies, distribution, sample_rate_hz)
    return safe_divide(distribution, ops.sum(distribution, axis=-1, keepdims=True))


def harmonic_to_sinusoidal(
    amplitude: Any, distribution: Any, f0_hz: Any, sample_rate_hz: float = 16000
) -> tuple[Any, Any]:
    """Controls of a harmonic synth as amplitudes and frequencies [B, F, K] of free sinusoids."""
    frequencies = harmonic_frequencies(f0_hz, distribution.shape[-1])
    return amplitude * normalize_harmonics(distribution, f0_hz, sample_rate_hz), frequencies
