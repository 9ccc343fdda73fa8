"""Phase without drift: exact sums of frequencies with 32-bit integers. Phases are in turns (1 turn = 2π radians)."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from keras import ops

from ddsp_cli.engine.core.tensors import ArgumentError, Tensor, takes

#: Steps summed before a carry; with 8-bit digits no sum of a chunk, nor of two million chunks, leaves 31 bits.
_CHUNK = 1024
_DIGIT = 256


def finite_or_zero(x: Tensor) -> Tensor:
    """Replaces NaN and infinite values by 0, also in the gradient."""
    finite = ops.isfinite(x)
    return ops.where(finite, x, ops.zeros_like(x))


def _digits(hz: Any, modulus: int) -> list[Any]:
    """Splits frequencies into whole Hz modulo `modulus` and three digits of 1/256 each; exact from 1 Hz in float32."""
    whole_hz = ops.floor(hz)
    rest = (hz - whole_hz) * _DIGIT
    digits = [ops.mod(ops.cast(whole_hz, "int32"), modulus)]
    for _ in range(2):
        digit = ops.floor(rest)
        digits.append(ops.cast(digit, "int32"))
        rest = (rest - digit) * _DIGIT
    return [*digits, ops.cast(ops.round(rest), "int32")]


def _carry(digits: list[Any], modulus: int) -> list[Any]:
    whole_hz, *small = digits
    for i in (2, 1):
        small[i - 1] = small[i - 1] + small[i] // _DIGIT
        small[i] = ops.mod(small[i], _DIGIT)
    return [ops.mod(whole_hz + small[0] // _DIGIT, modulus), ops.mod(small[0], _DIGIT), *small[1:]]


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


@takes(hz="B T | B T K")
def cumulative_phase(hz: Tensor, steps_per_s: float | Fraction, exclusive: bool = False) -> Tensor:
    """Sums frequencies over time: the phase after each step, modulo one turn.

    The sum is made in integers and loses nothing however many steps there are: a float32 cumulative sum
    (`core.oscillator_bank`, core.py:912) is off by whole radians after minutes. It needs no float64, which JAX and
    most accelerators lack. The gradient is that of a plain cumulative sum.

    Args:
      hz: [B, T] or [B, T, K] in Hz, frequency at each step; below 1 Hz rounded to 2⁻²⁴ Hz. A NaN or infinite frequency
        counts as 0 Hz.
      steps_per_s: steps in a second; a ratio of integers such as Fraction(44100, 64) is exact.
      exclusive: return the phase before each step instead of after it.

    Returns:
      phase in turns, float32 in [0, 1), of the shape of `hz`.

    Raises:
      ValueError: the rate is no ratio of small integers.
    """
    rate = Fraction(steps_per_s).limit_denominator(1_000_000)
    modulus, factor = rate.numerator, rate.denominator
    if not 0 < modulus < 2**21 or modulus * factor >= 2**31:
        raise ArgumentError(
            f"{steps_per_s} steps a second are not a ratio of integers that are small enough for an exact sum"
        )
    hz = finite_or_zero(hz)
    digits = _digits(hz, modulus)
    sums = _exact_sums(digits, modulus)
    if exclusive:  # subtract what was added last; negative digits carry as well
        sums = _carry([s - d for s, d in zip(sums, digits, strict=True)], modulus)
    whole_turns, high, middle, low = (ops.cast(s, "float32") for s in (ops.mod(sums[0] * factor, modulus), *sums[1:]))
    turns = (whole_turns + ((low / _DIGIT + middle) / _DIGIT + high) / _DIGIT * factor) / modulus
    # Integers have no gradient: add 0, whose gradient is that of the sum.
    smooth = ops.cumsum(hz, axis=1)
    smooth = (smooth - hz if exclusive else smooth) / float(rate)
    return turns - ops.floor(turns) + (smooth - ops.stop_gradient(smooth))


@takes(radians_per_sample="B S | B S K")
def angular_cumsum(radians_per_sample: Tensor) -> Tensor:
    """Sums angular frequencies over time, modulo 2π, without drift (core.py:800).

    Args:
      radians_per_sample: [B, S] or [B, S, K], angular frequency at each sample.

    Returns:
      phase in radians, in [0, 2π), of the shape of `radians_per_sample`.
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
