"""Oscillators: banks of sinusoids, wavetables, delay lines, and their phase without drift.

The kernel is `Bank`: it sums frames of sinusoids without keeping all sines in memory. `harmonic_synthesis` and
`sinusoidal_synthesis` drive it at frame rate; `oscillator_bank` takes frequencies and amplitudes at every sample.
Phases are exact sums of frequencies with 32-bit integers, in turns (1 turn = 2π radians).

Shapes: B batch, F frames, S samples (S = F·hop), H hop, K sinusoids, W points of a table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from keras import ops

from ddsp_cli.engine.core.resample import next_frames, ramp, resample, taps, upsample
from ddsp_cli.engine.core.scaling import normalize_harmonics, remove_above_nyquist
from ddsp_cli.engine.core.tensors import ArgumentError, Tensor, constant, counting, in_blocks, positive, takes, whole

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
    """Returns cumulative sums along axis 1 of numbers given by digits."""
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
    if exclusive:  # subtract the last term; negative digits carry as well
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


# --- sines -------------------------------------------------------------------------------------------

#: sin(2πx) = x·Σ cₙ·x²ⁿ for |x| ≤ 1/4, a minimax fit with an error of 3.4e-9, below float32 rounding.
_COEFFICIENTS = (6.283185160089456, -41.341655031411456, 81.60100407298819, -76.54978228782494, 39.53670602516019)


def _quarter(x: Any) -> Any:
    square = x * x
    total: Any = _COEFFICIENTS[-1]
    for coefficient in _COEFFICIENTS[-2::-1]:
        total = total * square + coefficient
    return total * x


def sine(turns: Tensor) -> Tensor:
    """Computes sin(2π·turns) with sums and products alone.

    Compilers for CPUs call the C library for a sine, one number after the other, at 10 ns each; this takes a third of a
    nanosecond.

    Args:
      turns: any shape, phase in turns, in [-1/2, 1/2].

    Returns:
      the sine, to 3e-7.
    """
    return _quarter(ops.maximum(ops.minimum(turns, 0.5 - turns), -0.5 - turns))


def cosine(turns: Tensor) -> Tensor:
    """Computes cos(2π·turns) for phases in [-1/2, 1/2], to 3e-7; see `sine`."""
    return _quarter(0.25 - ops.abs(turns))


# --- the kernel --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bank:
    """A bank of K sinusoids over N frames of H samples.

    Within a frame a frequency moves along a straight line, so its phase is a polynomial; an amplitude is a sum of T
    fixed curves, so a frame of sound is a matrix of sines [H, K] times a matrix [K, T]. Only a few frames' sines exist
    at a time, and they are computed again for the gradient: memory grows with B·S, not with B·S·K. Phases have C
    channels: K, or 1 where all sinusoids are multiples of one.

    Attributes:
      sample_rate_hz: of the audio.
      ratios: [K], the multiple of its phase that each sinusoid has.
      curves: [T, H], the weights of the amplitude taps at each sample.
    """

    sample_rate_hz: float
    ratios: np.ndarray
    curves: np.ndarray

    def render(self, start: Any, hz: Any, step_hz: Any, amplitudes: Any) -> Any:
        """Renders frames; differentiable in all arguments.

        Args:
          start: [N, C], phase in turns before the frame's first sample.
          hz: [N, C], frequency at the frame's first sample.
          step_hz: [N, C], change of the frequency until the next frame.
          amplitudes: [N, K, T], linear.

        Returns:
          audio [N, H]. Sinusoids at or above half the sample rate are silent, as are those whose frequency is NaN.
        """
        return ops.custom_gradient(self._with_gradient)(start, hz, step_hz, amplitudes)

    def _with_gradient(self, start: Any, hz: Any, step_hz: Any, amplitudes: Any) -> tuple[Any, Any]:
        size = self.curves.shape[-1] * len(self.ratios)

        def gradient(*gradients: Any, upstream: Any = None) -> tuple[Any, ...]:
            upstream = gradients[0] if upstream is None else upstream
            # Two passes: a compiler leaves the second out where the gradient of the phase is not used.
            of_amplitudes = in_blocks(self._amplitude_gradient, (start, hz, step_hz, upstream), size)
            of_phase = in_blocks(self._phase_gradient, (start, hz, step_hz, amplitudes, upstream), size)
            return (*of_phase, of_amplitudes)

        return in_blocks(self._sound, (start, hz, step_hz, amplitudes), size), gradient

    @property
    def _advance(self) -> tuple[Any, Any]:
        """Turns made at each sample [H, 1] by 1 Hz held, and by 1 Hz reached at the next frame."""
        n = self.curves.shape[-1]
        j = np.arange(n, dtype=np.float64)[:, None]
        held = (j + 1) / self.sample_rate_hz
        return constant(held), constant(held * j / (2 * n))

    def _turns(self, start: Any, hz: Any, step_hz: Any) -> tuple[Any, Any]:
        """Returns the phase in turns of every sinusoid [N, H, K], and whether its frequency is below Nyquist."""
        held, reached = self._advance
        n = self.curves.shape[-1]
        phase = start[:, None] + hz[:, None] * held + step_hz[:, None] * reached
        turns = (phase - ops.floor(phase)) * constant(self.ratios)
        now_hz = hz[:, None] + step_hz[:, None] * (counting(n)[:, None] / n)
        return turns - ops.round(turns), now_hz * constant(self.ratios) < self.sample_rate_hz / 2.0

    def _sines(self, start: Any, hz: Any, step_hz: Any) -> Any:
        turns, audible = self._turns(start, hz, step_hz)
        return ops.where(audible, sine(turns), ops.zeros_like(turns))

    def _sound(self, start: Any, hz: Any, step_hz: Any, amplitudes: Any) -> Any:
        products = ops.matmul(self._sines(start, hz, step_hz), amplitudes)  # [N, H, T]
        return ops.sum(products * constant(self.curves.T), axis=-1)

    def _amplitude_gradient(self, start: Any, hz: Any, step_hz: Any, upstream: Any) -> Any:
        weighted = upstream[:, None] * constant(self.curves)  # [N, T, H]
        return ops.swapaxes(ops.matmul(weighted, self._sines(start, hz, step_hz)), 1, 2)

    def _phase_gradient(
        self, start: Any, hz: Any, step_hz: Any, amplitudes: Any, upstream: Any
    ) -> tuple[Any, Any, Any]:
        turns, audible = self._turns(start, hz, step_hz)
        slope = cosine(turns) * constant(2.0 * math.pi * self.ratios)
        curve = ops.swapaxes(ops.matmul(amplitudes, constant(self.curves)), 1, 2)  # [N, H, K]
        change = upstream[:, :, None] * ops.where(audible, curve * slope, ops.zeros_like(turns))
        if hz.shape[-1] == 1:
            change = ops.sum(change, axis=-1, keepdims=True)
        held, reached = self._advance
        return ops.sum(change, axis=1), ops.sum(change * held, axis=1), ops.sum(change * reached, axis=1)


# --- banks driven at frame rate ----------------------------------------------------------------------


@takes(hz="B F K")
def frame_phase(hz: Tensor, hop_samples: int, sample_rate_hz: float) -> tuple[Tensor, Tensor]:
    """Returns the phase before each frame of oscillators whose frequency is interpolated linearly between frames.

    The sum over the samples of a frame has a closed form, and the sum over frames is exact (`cumulative_phase`).

    Args:
      hz: [B, F, K] in Hz.
      hop_samples: samples between two frames.
      sample_rate_hz: of the audio.

    Returns:
      phase in turns before the first sample of every frame, and the change of the frequency until the next frame in
      Hz; both [B, F, K].

    Raises:
      ValueError: hop or sample rate are out of range.
    """
    hop_samples = whole(hop_samples, "hop_samples")
    rate = Fraction(positive(sample_rate_hz, "sample_rate_hz")).limit_denominator(1000) / hop_samples
    steady = finite_or_zero(hz)
    # Σ over a frame = hop·f + (f' - f)(hop-1)/2, and the differences telescope.
    trapezoid = (steady - steady[:, :1]) * ((hop_samples - 1) / (2.0 * sample_rate_hz))
    turns = cumulative_phase(steady, rate, exclusive=True) + (trapezoid - ops.floor(trapezoid))
    return turns, next_frames(hz) - hz


@takes(f0_hz="B F 1")
def harmonic_phase(f0_hz: Tensor, hop_samples: int, sample_rate_hz: float) -> tuple[Tensor, Tensor]:
    """Returns the phase of the fundamental at every sample, and its frequency there.

    Args:
      f0_hz: [B, F, 1] in Hz.
      hop_samples: samples between two frames.
      sample_rate_hz: of the audio.

    Returns:
      phase in turns [B, F, hop], inclusive as a cumulative sum is (sample 0 has advanced once), and the interpolated
      frequency in Hz [B, F, hop].

    Raises:
      ValueError: hop or sample rate are out of range.
    """
    start, step_hz = frame_phase(f0_hz, hop_samples, sample_rate_hz)
    j = counting(hop_samples)
    hz = f0_hz + step_hz * (j / hop_samples)
    first = (j + 1.0) / float(sample_rate_hz)
    phase = start + f0_hz * first + step_hz * (first * j / (2.0 * hop_samples))
    return phase - ops.floor(phase), hz


@takes(f0_hz="B F 1", harmonic_amplitudes="B F K", harmonic_shifts="B F K")
def harmonic_synthesis(
    f0_hz: Tensor,
    harmonic_amplitudes: Tensor,
    hop_samples: int,
    sample_rate_hz: float,
    amp_resample_method: str = "window",
    harmonic_shifts: Tensor | None = None,
) -> Tensor:
    """Renders a harmonic oscillator bank at frame rate (paper section 3.1; `core.harmonic_synthesis`, core.py:1048).

    Args:
      f0_hz: [B, F, 1] in Hz, 0 or more. Frames whose F0 is NaN are silent, with the hop before them; the phase of what
        follows is not touched.
      harmonic_amplitudes: [B, F, K], linear.
      hop_samples: samples between two frames.
      sample_rate_hz: of the audio.
      amp_resample_method: how amplitudes move between frames, see `resample.taps`.
      harmonic_shifts: [B, F, K], inharmonicity: harmonic k has the frequency f0·k·(1 + shift).

    Returns:
      audio [B, S], S = F·hop. Harmonics at or above half the sample rate are silent.

    Raises:
      ValueError: hop or sample rate are out of range, or no such method.
    """
    ratios = np.arange(1, harmonic_amplitudes.shape[-1] + 1, dtype=np.float32)
    if harmonic_shifts is None:
        return _render(f0_hz, harmonic_amplitudes, ratios, hop_samples, sample_rate_hz, amp_resample_method)
    shifted_hz = f0_hz * constant(ratios) * (1.0 + harmonic_shifts)
    return sinusoidal_synthesis(shifted_hz, harmonic_amplitudes, hop_samples, sample_rate_hz, amp_resample_method)


@takes(frequencies_hz="B F K", amplitudes="B F K")
def sinusoidal_synthesis(
    frequencies_hz: Tensor,
    amplitudes: Tensor,
    hop_samples: int,
    sample_rate_hz: float,
    amp_resample_method: str = "window",
) -> Tensor:
    """Renders a bank of sinusoids of any frequencies at frame rate.

    Args:
      frequencies_hz: [B, F, K] in Hz.
      amplitudes: [B, F, K], linear.
      hop_samples: samples between two frames.
      sample_rate_hz: of the audio.
      amp_resample_method: how amplitudes move between frames, see `resample.taps`.

    Returns:
      audio [B, S], S = F·hop. Sinusoids at or above half the sample rate are silent.

    Raises:
      ValueError: hop or sample rate are out of range, or no such method.
    """
    ratios = np.ones(amplitudes.shape[-1], np.float32)
    return _render(frequencies_hz, amplitudes, ratios, hop_samples, sample_rate_hz, amp_resample_method)


def _render(hz: Any, amplitudes: Any, ratios: np.ndarray, hop: int, rate: float, method: str) -> Any:
    hop = whole(hop, "hop_samples")
    batch, n_frames, n_phases = ops.shape(hz)
    start, step_hz = frame_phase(hz, hop, rate)
    offsets, curves = taps(np.arange(hop) / hop, method)
    tapped = ops.stack([next_frames(amplitudes, offset) for offset in offsets], axis=-1)
    start, hz, step_hz = (ops.reshape(x, (batch * n_frames, n_phases)) for x in (start, hz, step_hz))
    tapped = ops.reshape(tapped, (batch * n_frames, *tapped.shape[2:]))
    sound = Bank(rate, ratios, curves).render(start, hz, step_hz, tapped)
    return ops.reshape(sound, (batch, n_frames * hop))


# --- banks driven at sample rate, and streams --------------------------------------------------------


@takes(frequencies_hz="B S K", amplitudes="B S K")
def oscillator_bank(
    frequencies_hz: Tensor, amplitudes: Tensor, sample_rate_hz: float = 16000, sum_sinusoids: bool = True
) -> Tensor:
    """Renders sinusoids whose frequencies and amplitudes are given at every sample (core.py:912).

    Keeps arrays of [B, S, K] in memory; `harmonic_synthesis` and `sinusoidal_synthesis` do not.

    Args:
      frequencies_hz: [B, S, K] in Hz. A NaN frequency is silent and leaves the phase where it was.
      amplitudes: [B, S, K], linear.
      sample_rate_hz: of the audio.
      sum_sinusoids: return their sum.

    Returns:
      audio [B, S], or [B, S, K] without the sum.

    Raises:
      ValueError: the sample rate is out of range.
    """
    turns = cumulative_phase(frequencies_hz, positive(sample_rate_hz, "sample_rate_hz"))
    audible = remove_above_nyquist(frequencies_hz, amplitudes, sample_rate_hz)
    waves = audible * sine(turns - ops.round(turns))
    return ops.sum(waves, axis=-1) if sum_sinusoids else waves


@takes(f0_hz="B 2 1", amplitude="B 2 1", harmonic_distribution="B 2 K")
def streaming_harmonic_synthesis(
    f0_hz: Tensor,
    amplitude: Tensor,
    harmonic_distribution: Tensor,
    n_samples: int,
    sample_rate_hz: float = 16000,
    initial_turns: Tensor = 0.0,
    amp_resample_method: str = "linear",
    add_endpoint: bool = True,
) -> tuple[Tensor, Tensor]:
    """Renders the sound between two frames, from the phase where the last piece ended (core.py:967).

    Args:
      f0_hz: [B, 2, 1] in Hz, at both frames.
      amplitude: [B, 2, 1], linear.
      harmonic_distribution: [B, 2, K], normalised here.
      n_samples: between the frames.
      sample_rate_hz: of the audio.
      initial_turns: [B, 1, 1], phase in turns, returned by the call before.
      amp_resample_method: how amplitudes move between the frames, see `resample.taps`.
      add_endpoint: as the original does, reach the second frame half way and hold it; if False, reach it at the end.

    Returns:
      audio [B, n_samples], and the phase of the fundamental after it in turns [B, 1, 1].
    """
    positive(sample_rate_hz, "sample_rate_hz")
    hz = resample(f0_hz, n_samples, "linear", add_endpoint)
    levels = amplitude * normalize_harmonics(harmonic_distribution, f0_hz, sample_rate_hz)
    levels = resample(levels, n_samples, amp_resample_method, add_endpoint)
    ratios = counting(levels.shape[-1], start=1)
    levels = remove_above_nyquist(hz * ratios, levels, sample_rate_hz)
    phase = cumulative_phase(hz, sample_rate_hz) + initial_turns
    phase = phase - ops.floor(phase)
    turns = phase * ratios
    audio = ops.sum(levels * sine(turns - ops.round(turns)), axis=-1)
    return audio, phase[:, -1:]


@takes(phase="B? S | B? S H", wavetables="B? W | B? S W")
def linear_lookup(phase: Tensor, wavetables: Tensor) -> Tensor:
    """Reads one cycle of a wave at given phases, with linear interpolation (core.py:1168).

    Args:
      phase: in turns, 0 to 1, [B, S, 1] or [B, S], or [B, F, H] for a table per frame.
      wavetables: [B, W] (one each), [B, S, W] (one per sample), or [B, F, W] with phase [B, F, H].

    Returns:
      [B, S], or [B, F, H].
    """
    if len(wavetables.shape) == 2:
        flat = len(phase.shape) == 3
        return linear_lookup(phase[..., 0][:, None] if flat else phase[:, None], wavetables[:, None])[:, 0]
    if len(phase.shape) == 2:
        phase = phase[..., None]
    n_points = wavetables.shape[-1]
    position = phase * n_points
    before = ops.floor(position)
    index = ops.mod(ops.cast(before, "int32"), n_points)
    here = ops.take_along_axis(wavetables, index, axis=-1)
    there = ops.take_along_axis(wavetables, ops.mod(index + 1, n_points), axis=-1)
    out = here + (there - here) * (position - before)
    return out[..., 0] if phase.shape[-1] == 1 else out


@takes(f0_hz="B F 1", amplitude="B F 1", wavetables="B F W | B W")
def wavetable_synthesis(
    f0_hz: Tensor, amplitude: Tensor, wavetables: Tensor, hop_samples: int, sample_rate_hz: float = 16000
) -> Tensor:
    """Renders an oscillator that plays a table, which may change with every frame (core.py:1216).

    Args:
      f0_hz: [B, F, 1] in Hz.
      amplitude: [B, F, 1], linear.
      wavetables: [B, F, W], or [B, W] for a constant one; one cycle each.
      hop_samples: samples between two frames.
      sample_rate_hz: of the audio.

    Returns:
      audio [B, S], S = F·hop; the first sample is read at phase 0.

    Raises:
      ValueError: hop or sample rate are out of range.
    """
    phase, hz = harmonic_phase(f0_hz, hop_samples, sample_rate_hz)
    phase = phase - hz / sample_rate_hz
    phase = phase - ops.floor(phase)
    if len(wavetables.shape) == 2:
        wavetables = ops.broadcast_to(wavetables[:, None], (*ops.shape(f0_hz)[:2], wavetables.shape[-1]))
    here, there = linear_lookup(phase, wavetables), linear_lookup(phase, next_frames(wavetables))
    waves = here + (there - here) * constant(ramp(hop_samples, "linear"))
    batch, n_frames = ops.shape(f0_hz)[:2]
    return ops.reshape(waves, (batch, n_frames * hop_samples)) * upsample(amplitude, hop_samples, "window")[..., 0]


@takes(phase="B S | B S 1", audio="B S")
def variable_length_delay(phase: Tensor, audio: Tensor, max_length: int = 512) -> Tensor:
    """Delays audio by a time that changes with every sample (core.py:1281).

    The original reads a ring, so that delays in the last sample before the greatest one slide back to the present; here
    the greatest delay is really `max_length`.

    Args:
      phase: [B, S, 1] or [B, S], 0 to 1 for a delay of 0 to `max_length` samples.
      audio: [B, S]; before it there is silence.
      max_length: the greatest delay in samples.

    Returns:
      [B, S].

    Raises:
      ValueError: the greatest delay is not a whole number of samples.
    """
    max_length = whole(max_length, "max_length")
    delay = (phase[..., 0] if len(phase.shape) == 3 else phase) * max_length
    batch, n_samples = ops.shape(audio)
    padded = ops.concatenate([ops.zeros((batch, max_length + 1), audio.dtype), audio], axis=1)
    before = ops.floor(delay)
    now = ops.arange(0, n_samples, dtype="int32") + (max_length + 1)
    index = ops.clip(now - ops.cast(before, "int32"), 1, n_samples + max_length)
    here = ops.take_along_axis(padded, index, axis=1)
    earlier = ops.take_along_axis(padded, index - 1, axis=1)
    return here + (earlier - here) * (delay - before)
