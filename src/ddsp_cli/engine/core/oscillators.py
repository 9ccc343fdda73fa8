"""Banks of sinusoids. Shapes: B batch, F frames, S samples (S = F·hop), K sinusoids; phases in turns (1 = 2π)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from keras import ops

from ddsp_cli.engine.core.arrays import constant, counting
from ddsp_cli.engine.core.bank import Bank
from ddsp_cli.engine.core.phase import cumulative_phase
from ddsp_cli.engine.core.resample import next_frames, resample, taps
from ddsp_cli.engine.core.scaling import normalize_harmonics, remove_above_nyquist
from ddsp_cli.engine.core.waves import sine


def frame_phase(hz: Any, hop_samples: int, sample_rate_hz: float) -> tuple[Any, Any]:
    """Phase before each frame of oscillators whose frequency is interpolated linearly between frames.

    The sum over the samples of a frame has a closed form, and the sum over frames is exact (`cumulative_phase`).

    Args:
      hz: [B, F, K].

    Returns:
      phase in turns before the first sample of every frame, and what the frequency grows by until the next frame in
      Hz; both [B, F, K].
    """
    rate = Fraction(sample_rate_hz).limit_denominator(1000) / hop_samples
    # Σ over a frame = hop·f + (f' - f)(hop-1)/2, and the differences telescope.
    trapezoid = (hz - hz[:, :1]) * ((hop_samples - 1) / (2.0 * sample_rate_hz))
    turns = cumulative_phase(hz, rate, exclusive=True) + (trapezoid - ops.floor(trapezoid))
    return turns, next_frames(hz) - hz


def harmonic_phase(f0_hz: Any, hop_samples: int, sample_rate_hz: float) -> tuple[Any, Any]:
    """Phase of the fundamental at every sample, and its frequency there.

    Args:
      f0_hz: [B, F, 1].

    Returns:
      phase in turns [B, F, hop], inclusive as a cumulative sum is (sample 0 has advanced once), and
      the interpolated frequency in Hz [B, F, hop].
    """
    start, step_hz = frame_phase(f0_hz, hop_samples, sample_rate_hz)
    j = counting(hop_samples)
    hz = f0_hz + step_hz * (j / hop_samples)
    first = (j + 1.0) / float(sample_rate_hz)
    phase = start + f0_hz * first + step_hz * (first * j / (2.0 * hop_samples))
    return phase - ops.floor(phase), hz


def harmonic_synthesis(
    f0_hz: Any,
    harmonic_amplitudes: Any,
    hop_samples: int,
    sample_rate_hz: float,
    amp_resample_method: str = "window",
    harmonic_shifts: Any = None,
) -> Any:
    """A harmonic oscillator bank driven at frame rate (paper section 3.1; `core.harmonic_synthesis`, core.py:1048).

    Args:
      f0_hz: [B, F, 1] in Hz.
      harmonic_amplitudes: [B, F, K], linear.
      amp_resample_method: how amplitudes move between frames, see `resample.taps`.
      harmonic_shifts: [B, F, K], inharmonicity: harmonic k sounds at f0·k·(1 + shift).

    Returns:
      audio [B, S], S = F·hop. Nothing at or above half the sample rate sounds.
    """
    ratios = np.arange(1, harmonic_amplitudes.shape[-1] + 1, dtype=np.float32)
    if harmonic_shifts is None:
        return _render(f0_hz, harmonic_amplitudes, ratios, hop_samples, sample_rate_hz, amp_resample_method)
    shifted_hz = f0_hz * constant(ratios) * (1.0 + harmonic_shifts)
    return sinusoidal_synthesis(shifted_hz, harmonic_amplitudes, hop_samples, sample_rate_hz, amp_resample_method)


def sinusoidal_synthesis(
    frequencies_hz: Any,
    amplitudes: Any,
    hop_samples: int,
    sample_rate_hz: float,
    amp_resample_method: str = "window",
) -> Any:
    """A bank of sinusoids of any frequencies, driven at frame rate: [B, F, K] twice → [B, S]."""
    ratios = np.ones(amplitudes.shape[-1], np.float32)
    return _render(frequencies_hz, amplitudes, ratios, hop_samples, sample_rate_hz, amp_resample_method)


def _render(hz: Any, amplitudes: Any, ratios: np.ndarray, hop: int, rate: float, method: str) -> Any:
    batch, n_frames, n_phases = ops.shape(hz)
    start, step_hz = frame_phase(hz, hop, rate)
    offsets, curves = taps(np.arange(hop) / hop, method)
    tapped = ops.stack([next_frames(amplitudes, offset) for offset in offsets], axis=-1)
    start, hz, step_hz = (ops.reshape(x, (batch * n_frames, n_phases)) for x in (start, hz, step_hz))
    tapped = ops.reshape(tapped, (batch * n_frames, *tapped.shape[2:]))
    sound = Bank(rate, ratios, curves).render(start, hz, step_hz, tapped)
    return ops.reshape(sound, (batch, n_frames * hop))


def oscillator_bank(
    frequencies_hz: Any, amplitudes: Any, sample_rate_hz: float = 16000, sum_sinusoids: bool = True
) -> Any:
    """Sinusoids whose frequencies and amplitudes are given at every sample (`core.oscillator_bank`, core.py:912).

    Keeps arrays of [B, S, K]; `harmonic_synthesis` and `sinusoidal_synthesis` do not.

    Args:
      frequencies_hz, amplitudes: [B, S, K].
      sum_sinusoids: add them up.

    Returns:
      audio [B, S], or [B, S, K].
    """
    turns = cumulative_phase(frequencies_hz, sample_rate_hz)
    audible = remove_above_nyquist(frequencies_hz, amplitudes, sample_rate_hz)
    waves = audible * sine(turns - ops.round(turns))
    return ops.sum(waves, axis=-1) if sum_sinusoids else waves


def streaming_harmonic_synthesis(
    f0_hz: Any,
    amplitude: Any,
    harmonic_distribution: Any,
    n_samples: int,
    sample_rate_hz: float = 16000,
    initial_turns: Any = 0.0,
    amp_resample_method: str = "linear",
    add_endpoint: bool = True,
) -> tuple[Any, Any]:
    """The sound between two frames, beginning at the phase where the last piece ended (core.py:967).

    Args:
      f0_hz, amplitude: [B, 2, 1], the frames at both ends.
      harmonic_distribution: [B, 2, K].
      n_samples: between them.
      initial_turns: [B, 1, 1], what the call before returned.
      add_endpoint: as the original does, reach the second frame half way and hold it; if False, reach it at the end.

    Returns:
      audio [B, n_samples], and the phase of the fundamental after it in turns [B, 1, 1].
    """
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
