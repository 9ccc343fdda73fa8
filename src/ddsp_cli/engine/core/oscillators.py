"""Banks of sinusoids. Shapes: B batch, F frames, S samples (S = F·hop), K harmonics; phases in turns (1 = 2π)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from ddsp_cli.engine.core.resample import next_frames, ramp


def harmonic_phase(f0_hz: Any, hop_samples: int, sample_rate_hz: float) -> tuple[Any, Any]:
    """Phase of the fundamental at every sample, from f0 linearly interpolated between frames.

    The sum over the samples of a frame has a closed form, so only one number per frame is accumulated, in double
    precision and modulo one turn: the phase does not drift as a float32 cumulative sum over samples does
    (`core.oscillator_bank`, core.py:912).

    Args:
      f0_hz: [B, F, 1].

    Returns:
      phase in turns [B, F, hop], inclusive as a cumulative sum is (sample 0 has advanced once), and
      the interpolated frequency in Hz [B, F, hop].
    """
    f0 = f0_hz[..., 0]
    following = next_frames(f0_hz)[..., 0]
    j = np.arange(hop_samples)
    hz = f0[..., None] + (following - f0)[..., None] * ramp(hop_samples, "linear")
    # Σ_{i≤j} f(i) = (j+1)·f + (f' - f)·j(j+1)/(2·hop)
    first = ops.convert_to_tensor((j + 1).astype(np.float32) / np.float32(sample_rate_hz))
    second = ops.convert_to_tensor((j * (j + 1) / (2.0 * hop_samples * sample_rate_hz)).astype(np.float32))
    within = f0[..., None] * first + (following - f0)[..., None] * second
    exact, exact_next = ops.cast(f0, "float64"), ops.cast(following, "float64")
    turns = (exact * hop_samples + (exact_next - exact) * ((hop_samples - 1) / 2.0)) / sample_rate_hz
    start = ops.cumsum(turns - ops.floor(turns), axis=1)
    start = ops.concatenate([ops.zeros_like(start[:, :1]), start[:, :-1]], axis=1)
    start = ops.cast(start - ops.floor(start), "float32")
    phase = start[..., None] + within
    return phase - ops.floor(phase), hz


def harmonic_synthesis(
    f0_hz: Any,
    harmonic_amplitudes: Any,
    hop_samples: int,
    sample_rate_hz: float,
    amp_resample_method: str = "window",
) -> Any:
    """A harmonic oscillator bank driven at frame rate (paper section 3.1; `core.harmonic_synthesis`, core.py:1048).

    Between two frames every amplitude moves from one value to the next along one common ramp, so the bank is a
    product of the sines of a frame with two amplitude vectors: [hop, K] × [K, 2]. Envelopes at sample rate
    [B, S, K] never exist.

    Args:
      f0_hz: [B, F, 1] in Hz.
      harmonic_amplitudes: [B, F, K], linear.
      amp_resample_method: `linear` or `window`.

    Returns:
      audio [B, S].
    """
    n_harmonics = harmonic_amplitudes.shape[-1]
    phase, hz = harmonic_phase(f0_hz, hop_samples, sample_rate_hz)
    k = ops.convert_to_tensor(np.arange(1, n_harmonics + 1, dtype=np.float32))
    turns = phase[..., None] * k
    sines = ops.sin((2.0 * math.pi) * (turns - ops.round(turns)))
    sines = ops.where(hz[..., None] * k < sample_rate_hz / 2.0, sines, ops.zeros_like(sines))
    pair = ops.stack([harmonic_amplitudes, next_frames(harmonic_amplitudes)], axis=-1)
    both = ops.matmul(sines, pair)  # [B, F, hop, 2]
    rising = ops.convert_to_tensor(ramp(hop_samples, amp_resample_method))
    audio = both[..., 0] * (1.0 - rising) + both[..., 1] * rising
    return ops.reshape(audio, (ops.shape(f0_hz)[0], -1))
