"""Banks of sinusoids. Shapes: B batch, F frames, S samples (S = F·hop), K sinusoids; phases in turns (1 turn = 2π).

The kernel is `Bank`: it sums frames of sinusoids without keeping all sines in memory. `harmonic_synthesis` and
`sinusoidal_synthesis` drive it at frame rate; `oscillator_bank` takes frequencies and amplitudes at every sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from keras import ops

from ddsp_cli.engine.core.phase import cumulative_phase, finite_or_zero
from ddsp_cli.engine.core.resample import next_frames, resample, taps
from ddsp_cli.engine.core.scaling import normalize_harmonics, remove_above_nyquist
from ddsp_cli.engine.core.tensors import Tensor, constant, counting, in_blocks, positive, takes, whole

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
        """Phase in turns of every sinusoid [N, H, K], and whether its frequency lies below Nyquist."""
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
    """Phase before each frame of oscillators whose frequency is interpolated linearly between frames.

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
    """Phase of the fundamental at every sample, and its frequency there.

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
