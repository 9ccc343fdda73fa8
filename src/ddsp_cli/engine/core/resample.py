"""From frame rate to sample rate: controls as smooth curves. Shapes: B batch, F frames, S samples, C channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops


def next_frames(frames: Any) -> Any:
    """Each frame's successor, the last one its own: [B, F, C] → [B, F, C]."""
    return ops.concatenate([frames[:, 1:], frames[:, -1:]], axis=1)


def ramp(hop_samples: int, method: str) -> np.ndarray:
    """Weight of the next frame at each of the samples between two frames, shape [hop], from 0 up towards 1.

    `linear` is the straight line of a bilinear resize without half-pixel shift (core.py:613); `window` is the
    crossfade that overlap-added periodic Hann windows of two hops make (core.py:645).

    Raises:
      ValueError: no such method.
    """
    position = np.arange(hop_samples, dtype=np.float64) / hop_samples
    if method == "linear":
        return position.astype(np.float32)
    if method == "window":
        return (0.5 - 0.5 * np.cos(np.pi * position)).astype(np.float32)
    raise ValueError(f"unknown resampling method {method!r}; known are linear and window")


def upsample(frames: Any, hop_samples: int, method: str = "linear") -> Any:
    """Frame-rate controls at sample rate: [B, F, C] → [B, F·hop, C].

    Frame i is met exactly at sample i·hop; the last frame is held.
    """
    weight = ops.convert_to_tensor(ramp(hop_samples, method))[None, None, :, None]
    here, there = frames[:, :, None, :], next_frames(frames)[:, :, None, :]
    curves = here + (there - here) * weight
    batch, n_frames, channels = ops.shape(frames)
    return ops.reshape(curves, (batch, n_frames * hop_samples, channels))
