"""Phase that does not drift: exact sums of frequencies on machines with 32 bits. Phases in turns (1 = 2π)."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from keras import ops

#: Steps summed before a carry; with 8-bit digits no sum of a chunk, nor of two million chunks, leaves 31 bits.
_CHUNK = 1024
_DIGIT = 256


def _digits(hz: Any, modulus: int) -> list[Any]:
    """A frequency as whole Hz modulo `modulus` and three digits of 1/256 each; exact from 1 Hz on in float32."""
    whole = ops.floor(hz)
    rest = (hz - whole) * _DIGIT
    digits = [ops.mod(ops.cast(whole, "int32"), modulus)]
    for _ in range(2):
        digit = ops.floor(rest)
        digits.append(ops.cast(digit, "int32"))
        rest = (rest - digit) * _DIGIT
    return [*digits, ops.cast(ops.round(rest), "int32")]


def _carry(digits: list[Any], modulus: int) -> list[Any]:
    whole, *small = digits
    for i in (2, 1):
        small[i - 1] = small[i - 1] + small[i] // _DIGIT
        small[i] = ops.mod(small[i], _DIGIT)
    return [ops.mod(whole + small[0] // _DIGIT, modulus), ops.mod(small[0], _DIGIT), *small[1:]]


def _exact_sums(digits: list[Any], modulus: int) -> list[Any]:
    """Cumulative sums along axis 1 of numbers given by digits."""
    shape = ops.shape(digits[0])
    steps = shape[1]
    chunk = min(steps, _CHUNK) if isinstance(steps, int) else _CHUNK
    missing = -steps % chunk
    filler = ops.zeros((shape[0], missing, *shape[2:]), "int32")
    folded = (shape[0], (steps + missing) // chunk, chunk, *shape[2:])
    within = [ops.cumsum(ops.reshape(ops.concatenate([d, filler], axis=1), folded), axis=2) for d in digits]
    totals = _carry([w[:, :, -1] for w in within], modulus)
    before = _carry([ops.cumsum(t, axis=1) - t for t in totals], modulus)
    sums = _carry([w + b[:, :, None] for w, b in zip(within, before, strict=True)], modulus)
    return [ops.reshape(s, (shape[0], steps + missing, *shape[2:]))[:, :steps] for s in sums]


def cumulative_phase(hz: Any, steps_per_s: float | Fraction, exclusive: bool = False) -> Any:
    """Phase after each of many steps, the sum of the frequencies so far divided by the rate, modulo one turn.

    Summed in integers, so nothing is lost however many steps there are: a float32 cumulative sum
    (`core.oscillator_bank`, core.py:912) is off by whole radians after minutes. Needs no float64, which JAX and
    most accelerators lack. The gradient is that of a plain cumulative sum.

    Args:
      hz: [B, T, ...], frequency at each step; below 1 Hz rounded to 2⁻²⁴ Hz.
      steps_per_s: rate of the steps; a ratio of integers such as Fraction(44100, 64) is exact.
      exclusive: the phase before each step instead of after it.

    Returns:
      [B, T, ...] float32 in [0, 1).

    Raises:
      ValueError: the rate is no ratio of small integers.
    """
    rate = Fraction(steps_per_s).limit_denominator(1_000_000)
    modulus, factor = rate.numerator, rate.denominator
    if modulus * factor >= 2**31 or modulus >= 2**21:
        raise ValueError(f"{steps_per_s} steps a second are no ratio of integers small enough to sum exactly")
    digits = _digits(hz, modulus)
    sums = _exact_sums(digits, modulus)
    if exclusive:  # what was added last, taken away again; negative digits carry as well
        sums = _carry([s - d for s, d in zip(sums, digits, strict=True)], modulus)
    whole, high, middle, low = (ops.cast(s, "float32") for s in (ops.mod(sums[0] * factor, modulus), *sums[1:]))
    turns = (whole + ((low / _DIGIT + middle) / _DIGIT + high) / _DIGIT * factor) / modulus
    # Integers have no gradient: add 0, whose gradient is that of the sum.
    smooth = ops.cumsum(hz, axis=1)
    smooth = (smooth - hz if exclusive else smooth) / float(rate)
    return turns - ops.floor(turns) + (smooth - ops.stop_gradient(smooth))


def angular_cumsum(radians_per_sample: Any) -> Any:
    """Cumulative sum of angular frequencies, modulo 2π, that does not drift (core.py:800).

    Args:
      radians_per_sample: [B, S, ...].

    Returns:
      phase in radians, in [0, 2π).
    """
    # Two parts whose products with the two parts of 1/2π are exact, or too small to matter.
    inverse = 1.0 / (2.0 * math.pi)
    inverse_high = round(inverse * 2**12) / 2**12
    inverse_low = inverse - inverse_high
    high = ops.round(radians_per_sample * 1024.0) / 1024.0
    low = radians_per_sample - high
    fine = (high * inverse_low + low * inverse) * 1024.0
    turns = cumulative_phase(high * inverse_high, 1) + cumulative_phase(fine, 1024)
    return (turns - ops.floor(turns)) * (2.0 * math.pi)
