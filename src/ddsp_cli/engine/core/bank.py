"""The kernel of the oscillators: frames of sinusoids, added up without ever keeping them all.

Shapes: N frames (of the whole batch), H samples in a frame, K sinusoids, T taps of an amplitude's curve, C phases: K,
or 1 where all sinusoids are multiples of one. Phases in turns (1 = 2π).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from ddsp_cli.engine.core.arrays import constant, counting
from ddsp_cli.engine.core.blocks import in_blocks
from ddsp_cli.engine.core.waves import cosine, sine


@dataclass(frozen=True)
class Bank:
    """A bank of K sinusoids over frames of H samples.

    Within a frame a frequency moves along a straight line, so the phase is a polynomial; an amplitude is a sum of T
    fixed curves, so a frame of sound is a matrix of sines [H, K] times a matrix [K, T]. Only a few frames' sines exist
    at a time, and they are computed again for the gradient: memory grows with B·S, not with B·S·K.

    Attributes:
      sample_rate_hz: of the audio.
      ratios: [K], the multiple of its phase that each sinusoid has.
      curves: [T, H], the weights of the amplitude taps at each sample.
    """

    sample_rate_hz: float
    ratios: np.ndarray
    curves: np.ndarray

    def render(self, start: Any, hz: Any, step_hz: Any, amplitudes: Any) -> Any:
        """Sound of frames, differentiable in all arguments.

        Args:
          start: [N, C], phase in turns before the frame's first sample.
          hz: [N, C], frequency at the frame's first sample.
          step_hz: [N, C], by how much it grows until the next frame.
          amplitudes: [N, K, T].

        Returns:
          [N, H].
        """
        return ops.custom_gradient(self._with_gradient)(start, hz, step_hz, amplitudes)

    def _with_gradient(self, start: Any, hz: Any, step_hz: Any, amplitudes: Any) -> tuple[Any, Any]:
        size = self.curves.shape[-1] * len(self.ratios)

        def gradient(*gradients: Any, upstream: Any = None) -> tuple[Any, ...]:
            upstream = gradients[0] if upstream is None else upstream
            # Two passes: where nobody asks for the gradient of the phase, a compiler leaves the second out.
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
        """Phase in turns, and whether it may be heard, of every sinusoid [N, H, K]."""
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
