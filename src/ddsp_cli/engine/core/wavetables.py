"""Wavetable oscillators and delay lines. Shapes: B batch, F frames, S samples, H hop, W points of a table."""

from __future__ import annotations

from keras import ops

from ddsp_cli.engine.core.oscillators import harmonic_phase
from ddsp_cli.engine.core.resample import next_frames, ramp, upsample
from ddsp_cli.engine.core.tensors import Tensor, constant, takes, whole


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
