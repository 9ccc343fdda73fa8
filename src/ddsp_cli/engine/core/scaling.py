"""Scalings between the output of a network and physical controls: bounded functions, Hz, MIDI, decibels.

All functions are elementwise unless they say otherwise. Shapes: B batch, F frames, K harmonics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from ddsp_cli import scaling
from ddsp_cli.engine.core.tensors import ArgumentError, Tensor, constant, counting, one_of, takes
from ddsp_cli.errors import did_you_mean

DB_RANGE = scaling.DB_RANGE

# --- bounded scalings --------------------------------------------------------------------------------


@takes(x="...")
def exp_sigmoid(
    x: Tensor,
    exponent: float = 10.0,
    max_value: float = scaling.MAX_AMPLITUDE,
    threshold: float = scaling.CONTROL_FLOOR,
) -> Tensor:
    """Scales real numbers to amplitudes: max·σ(x)^ln(exponent) + threshold (core.py:387).

    Args:
      x: any shape, any real number.
      exponent: how steeply the lower end falls; at 10 it falls by 20 dB for each unit of x below about -2.
      max_value: the upper bound.
      threshold: the lower bound.

    Returns:
      values in (threshold, max_value + threshold), of the shape of x; 0.405 at x = 0 by default.
    """
    return scaling.exp_sigmoid(x, exponent, max_value, threshold, xp=ops)


@takes(x="...")
def sym_exp_sigmoid(x: Tensor, width: float = 8.0) -> Tensor:
    """Mirrors `exp_sigmoid` at 0, where it is close to 0 (core.py:407).

    Args:
      x: any shape, any real number.
      width: the larger, the narrower the valley around 0.

    Returns:
      values in (0, 2), of the shape of x.
    """
    return exp_sigmoid(width * (ops.abs(x) / 2.0 - 1.0))


@takes(x="...")
def soft_limit(x: Tensor, x_min: float = 0.0, x_max: float = 1.0) -> Tensor:
    """Limits values to a range, bending smoothly into both bounds (core.py:428).

    Args:
      x: any shape.
      x_min: the lower bound.
      x_max: the upper bound.

    Returns:
      values in (x_min, x_max), of the shape of x.
    """
    return ops.softplus(x) + x_min - ops.softplus(x - (x_max - x_min))


#: Scalings of raw network outputs by the names that processors take; `none` does not change values.
SCALE_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp_sigmoid": exp_sigmoid,
    "sigmoid": ops.sigmoid,
    "softplus": ops.softplus,
    "tanh": ops.tanh,
    "none": lambda x: x,
}

ScaleFunction = str | Callable[[Tensor], Tensor]


def scale_function(choice: Any) -> Callable[[Tensor], Tensor]:
    """Finds a scaling of raw network outputs.

    Args:
      choice: a name of `SCALE_FUNCTIONS`, or a function of a tensor.

    Returns:
      the function.

    Raises:
      ValueError: no such name, or something else.
    """
    if callable(choice):
        return choice
    if choice in SCALE_FUNCTIONS:
        return SCALE_FUNCTIONS[choice]
    known = list(SCALE_FUNCTIONS)
    raise ArgumentError(
        f"scale_fn must be a function, or one of {', '.join(known)}, not {choice!r}. {did_you_mean(str(choice), known)}"
    )


def serialized_scale(choice: ScaleFunction) -> Any:
    """Returns a scaling as configurations keep it: its name, or Keras' record of a registered function."""
    return choice if isinstance(choice, str) else keras.saving.serialize_keras_object(choice)


def deserialized_scale(saved: Any) -> ScaleFunction:
    """Inverts `serialized_scale`."""
    return saved if isinstance(saved, str) or callable(saved) else keras.saving.deserialize_keras_object(saved)


# --- arithmetic without singularities ----------------------------------------------------------------


@takes(x="...")
def safe_log(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Computes the natural logarithm with values of 0 and less replaced by eps, others kept (core.py:213)."""
    return ops.log(ops.where(x <= 0.0, ops.full_like(x, eps), x))


def logb(x: Tensor, base: float = 2.0, eps: float = 1e-5) -> Tensor:
    """Computes the logarithm to any base, with values of 0 and less replaced by eps (core.py:219)."""
    return safe_log(x, eps) / math.log(base)


@takes(numerator="...", denominator="...")
def safe_divide(numerator: Tensor, denominator: Tensor, eps: float = 1e-7) -> Tensor:
    """Divides, with denominators of exactly 0 replaced by eps (core.py:206)."""
    return numerator / ops.where(denominator == 0.0, ops.full_like(denominator, eps), denominator)


# --- pitch -------------------------------------------------------------------------------------------


@takes(hz="...")
def hz_to_midi(hz: Tensor) -> Tensor:
    """Converts Hz to MIDI note numbers, A4 = 440 Hz = 69; frequencies of 0 and less become 0 (core.py:300)."""
    return scaling.hz_to_midi(hz, xp=ops)


@takes(midi="...")
def midi_to_hz(midi: Tensor, midi_zero_silence: bool = False) -> Tensor:
    """Converts MIDI note numbers to Hz (core.py:280).

    Args:
      midi: any shape, note numbers, fractions allowed.
      midi_zero_silence: note 0 becomes 0 Hz instead of 8.18 Hz.

    Returns:
      frequencies in Hz, of the shape of `midi`.
    """
    hz = scaling.midi_to_hz(midi, xp=ops)
    return ops.where(midi == 0.0, ops.zeros_like(hz), hz) if midi_zero_silence else hz


@takes(unit="...")
def unit_to_midi(unit: Tensor, midi_min: float = 20.0, midi_max: float = 90.0, clip: bool = False) -> Tensor:
    """Maps 0..1 to a range of MIDI notes (core.py:309).

    Args:
      unit: any shape, 0 to 1.
      midi_min: note at 0.
      midi_max: note at 1.
      clip: limit `unit` to 0..1 first.

    Returns:
      note numbers, of the shape of `unit`.
    """
    unit = ops.clip(unit, 0.0, 1.0) if clip else unit
    return midi_min + (midi_max - midi_min) * unit


@takes(midi="...")
def midi_to_unit(midi: Tensor, midi_min: float = 20.0, midi_max: float = 90.0, clip: bool = False) -> Tensor:
    """Maps a range of MIDI notes to 0..1 (core.py:318).

    Args:
      midi: any shape, note numbers, fractions allowed.
      midi_min: note that becomes 0.
      midi_max: note that becomes 1.
      clip: limit the result to 0..1.

    Returns:
      numbers of the shape of `midi`, 0 to 1 within the range.
    """
    unit = (midi - midi_min) / (midi_max - midi_min)
    return ops.clip(unit, 0.0, 1.0) if clip else unit


def _midi_of(hz: float) -> float:
    return float(scaling.hz_to_midi(np.asarray(hz, np.float64)))


def unit_to_hz(unit: Tensor, hz_min: float, hz_max: float, clip: bool = False) -> Tensor:
    """Maps 0..1 to a range of frequencies logarithmically, equal steps to equal intervals (core.py:327).

    Args:
      unit: any shape, 0 to 1.
      hz_min: frequency at 0, in Hz.
      hz_max: frequency at 1, in Hz.
      clip: limit `unit` to 0..1 first.

    Returns:
      frequencies in Hz, of the shape of `unit`.
    """
    return midi_to_hz(unit_to_midi(unit, _midi_of(hz_min), _midi_of(hz_max), clip))


def hz_to_unit(hz: Tensor, hz_min: float, hz_max: float, clip: bool = False) -> Tensor:
    """Maps a range of frequencies to 0..1 logarithmically, equal intervals to equal steps (core.py:339).

    Args:
      hz: any shape, in Hz.
      hz_min: frequency that becomes 0, in Hz.
      hz_max: frequency that becomes 1, in Hz.
      clip: limit the result to 0..1.

    Returns:
      numbers of the shape of `hz`, 0 to 1 within the range.
    """
    return midi_to_unit(hz_to_midi(hz), _midi_of(hz_min), _midi_of(hz_max), clip)


# --- levels ------------------------------------------------------------------------------------------


@takes(power="...")
def power_to_db(power: Tensor, ref_db: float = 0.0, range_db: float = DB_RANGE) -> Tensor:
    """Converts power to decibels (core.py:253).

    Args:
      power: any shape, 0 or more.
      ref_db: subtracted from the result.
      range_db: the result is -range_db or more.

    Returns:
      decibels, of the shape of `power`.
    """
    floored = ops.maximum(power, 10.0 ** (-range_db / 10.0))
    return ops.maximum((10.0 / math.log(10.0)) * ops.log(floored) - ref_db, -range_db)


@takes(amplitude="...")
def amplitude_to_db(amplitude: Tensor, ref_db: float = 0.0, range_db: float = DB_RANGE) -> Tensor:
    """Converts linear amplitudes to decibels.

    Args:
      amplitude: any shape; its sign does not count.
      ref_db, range_db: see `power_to_db`.

    Returns:
      decibels, of the shape of `amplitude`.
    """
    return power_to_db(ops.square(amplitude), ref_db, range_db)


@takes(db="...")
def db_to_power(db: Tensor) -> Tensor:
    """Converts decibels to power."""
    return ops.exp(db * (math.log(10.0) / 10.0))


@takes(db="...")
def db_to_amplitude(db: Tensor) -> Tensor:
    """Converts decibels to amplitude."""
    return db_to_power(db / 2.0)


# --- network outputs to frequencies ------------------------------------------------------------------


def _with_depth(x: Any, depth: int) -> Any:
    if x.shape[-1] % depth:
        raise ArgumentError(f"{x.shape[-1]} channels are not a multiple of the depth {depth}")
    return ops.reshape(x, (*ops.shape(x)[:-1], x.shape[-1] // depth, depth))


@takes(x="B F K")
def frequencies_sigmoid(x: Tensor, depth: int = 1, hz_min: float = 0.0, hz_max: float = 8000.0) -> Tensor:
    """Scales network outputs to frequencies: sums of logarithmic sigmoids, each over a smaller part of the range.

    Args:
      x: [B, F, N·depth], any real numbers.
      depth: sigmoids in each frequency.
      hz_min: the lowest frequency in Hz.
      hz_max: the highest frequency in Hz.

    Returns:
      [B, F, N] in Hz.

    Raises:
      ValueError: the channels are not a multiple of the depth.
    """
    unit = ops.sigmoid(_with_depth(x, depth))
    remainder = hz_max - hz_min
    share = 1.0 - remainder ** (-1.0 / depth)
    total: Any = 0.0
    for i in range(depth - 1):
        total = total + unit_to_hz(unit[..., i], 0.0, remainder * share)
        remainder -= remainder * share
    return total + unit_to_hz(unit[..., depth - 1], hz_min, remainder)


@takes(x="B F K")
def frequencies_softmax(x: Tensor, depth: int = 1, hz_min: float = 20.0, hz_max: float = 8000.0) -> Tensor:
    """Scales network outputs to frequencies: means of points on a logarithmic scale, weighted by a softmax.

    Args:
      x: see `frequencies_sigmoid`, whose result and error this one has.
      depth: points in each frequency.
      hz_min: the lowest point in Hz.
      hz_max: the highest point in Hz.
    """
    points = np.linspace(0.0, 1.0, depth, dtype=np.float32)
    return unit_to_hz(ops.sum(ops.softmax(_with_depth(x, depth), axis=-1) * constant(points), axis=-1), hz_min, hz_max)


@takes(x="B F K")
def frequencies_critical_bands(
    x: Tensor, depth: int = 1, depth_scale: float = 10.0, hz_min: float = 20.0, hz_max: float = 8000.0
) -> Tensor:
    """Scales network outputs to frequencies near the centres of equally spaced Bark bands.

    Centres by Traunmüller's formula (1990), bandwidths by Glasberg and Moore's ERB (1990).

    Args:
      x: [B, F, N·depth], any real numbers.
      depth: numbers in each frequency, each finer than the one before by `depth_scale`.
      depth_scale: see `depth`.
      hz_min: the lowest frequency in Hz.
      hz_max: the highest frequency in Hz.

    Returns:
      [B, F, N] in Hz, each at most about one bandwidth from its centre.

    Raises:
      ValueError: the channels are not a multiple of the depth.
    """
    modifier = ops.sum(ops.tanh(_with_depth(x, depth)) * constant(float(depth_scale) ** -np.arange(depth)), axis=-1)
    low, high = (26.81 / (1.0 + 1960.0 / hz) - 0.53 for hz in (hz_min, hz_max))
    bark = np.linspace(low, high, modifier.shape[-1])
    centre_hz = 1960.0 / (26.81 / (bark + 0.53) - 1.0)
    bandwidth_hz = 0.108 * centre_hz + 24.7
    return soft_limit(constant(centre_hz) + constant(bandwidth_hz) * modifier, hz_min, hz_max)


#: Scalings of raw network outputs to frequencies, by the names that `Sinusoidal` takes.
FREQUENCY_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "sigmoid": frequencies_sigmoid,
    "softmax": frequencies_softmax,
    "critical_bands": frequencies_critical_bands,
}


def frequency_function(choice: str) -> Callable[..., Tensor]:
    """Finds a scaling to frequencies by its name in `FREQUENCY_FUNCTIONS`.

    Raises:
      ValueError: no such name.
    """
    return FREQUENCY_FUNCTIONS[one_of(choice, "frequency_scale", list(FREQUENCY_FUNCTIONS))]


# --- harmonics ---------------------------------------------------------------------------------------


@takes(f0_hz="B F 1")
def harmonic_frequencies(f0_hz: Tensor, n_harmonics: int) -> Tensor:
    """Returns integer multiples of F0: [B, F, 1] in Hz → [B, F, K] in Hz."""
    return f0_hz * counting(n_harmonics, start=1)


@takes(frequencies_hz="B F K", amplitudes="B F K")
def remove_above_nyquist(frequencies_hz: Tensor, amplitudes: Tensor, sample_rate_hz: float = 16000) -> Tensor:
    """Sets amplitudes to 0 where the frequency is not below half the sample rate (core.py:869).

    Args:
      frequencies_hz: [B, F, K] in Hz; NaN counts as above.
      amplitudes: [B, F, K].
      sample_rate_hz: of the audio.

    Returns:
      amplitudes [B, F, K].
    """
    return ops.where(frequencies_hz < sample_rate_hz / 2.0, amplitudes, ops.zeros_like(amplitudes))


@takes(distribution="B F K", f0_hz="B F 1")
def normalize_harmonics(distribution: Tensor, f0_hz: Tensor | None = None, sample_rate_hz: float = 16000) -> Tensor:
    """Scales harmonics to a sum of 1 in each frame (core.py:893).

    Args:
      distribution: [B, F, K], 0 or more.
      f0_hz: [B, F, 1] in Hz; harmonics above Nyquist become 0 where it is given.
      sample_rate_hz: of the audio.

    Returns:
      [B, F, K], of sum 1, or 0 where no harmonic is left.
    """
    if f0_hz is not None:
        frequencies = harmonic_frequencies(f0_hz, distribution.shape[-1])
        distribution = remove_above_nyquist(frequencies, distribution, sample_rate_hz)
    return safe_divide(distribution, ops.sum(distribution, axis=-1, keepdims=True))


@takes(amplitude="B F 1", distribution="B F K", f0_hz="B F 1")
def harmonic_to_sinusoidal(
    amplitude: Tensor, distribution: Tensor, f0_hz: Tensor, sample_rate_hz: float = 16000
) -> tuple[Tensor, Tensor]:
    """Converts controls of a harmonic synth to those of free sinusoids (core.py:1031).

    Args:
      amplitude: [B, F, 1], linear.
      distribution: [B, F, K], normalised here.
      f0_hz: [B, F, 1] in Hz.
      sample_rate_hz: of the audio.

    Returns:
      amplitudes, and frequencies in Hz, both [B, F, K].
    """
    frequencies = harmonic_frequencies(f0_hz, distribution.shape[-1])
    return amplitude * normalize_harmonics(distribution, f0_hz, sample_rate_hz), frequencies
