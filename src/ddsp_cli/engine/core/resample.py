"""From frame rate to sample rate: controls as smooth curves. Shapes: B batch, F frames, S samples, C channels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from ddsp_cli.engine.core.arrays import constant

METHODS = ("nearest", "linear", "cubic", "window")


def next_frames(frames: Any, steps: int = 1) -> Any:
    """Frames shifted by so many steps, the ends held: [B, F, C] → [B, F, C]."""
    for _ in range(abs(steps)):
        kept = (frames[:, 1:], frames[:, -1:]) if steps > 0 else (frames[:, :1], frames[:, :-1])
        frames = ops.concatenate(kept, axis=1)
    return frames


def _keys(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Keys' cubic convolution kernel, for distances from 0 to 2 frames."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, far)


def taps(position: np.ndarray, method: str) -> tuple[list[int], np.ndarray]:
    """Which frames around it a point between two frames is made of.

    Args:
      position: 0 at a frame, towards 1 at the next, any shape.
      method: `nearest` (the frame before), `linear` (a straight line; core.py:613), `cubic` (Keys' kernel with a =
        -0.75, as TensorFlow's bicubic resize), `window` (the crossfade of overlapping periodic Hann windows of two
        hops; core.py:645).

    Returns:
      offsets of the frames, and their weights [offsets, *position.shape], which sum to 1.

    Raises:
      ValueError: no such method.
    """
    x = np.asarray(position, np.float64)
    if method == "nearest":
        return [0], np.ones((1, *x.shape), np.float32)
    if method == "linear":
        return [0, 1], np.stack([1.0 - x, x]).astype(np.float32)
    if method == "window":
        rising = 0.5 - 0.5 * np.cos(math.pi * x)
        return [0, 1], np.stack([1.0 - rising, rising]).astype(np.float32)
    if method == "cubic":
        return [-1, 0, 1, 2], np.stack([_keys(x + 1), _keys(x), _keys(1 - x), _keys(2 - x)]).astype(np.float32)
    raise ValueError(f"unknown resampling method {method!r}; known are {', '.join(METHODS)}")


def ramp(hop_samples: int, method: str) -> np.ndarray:
    """Weight of the next frame at each of the samples between two frames, shape [hop], from 0 up towards 1.

    Raises:
      ValueError: a method that is not made of two frames.
    """
    offsets, weights = taps(np.arange(hop_samples) / hop_samples, method)
    if offsets != [0, 1]:
        raise ValueError(f"{method} is not a ramp between two frames; linear and window are")
    return weights[1]


def upsample(frames: Any, hop_samples: int, method: str = "linear") -> Any:
    """Frame-rate controls at sample rate: [B, F, C] → [B, F·hop, C].

    Frame i is met exactly at sample i·hop; the last frame is held. The number of frames need not be known while a
    graph is built.
    """
    offsets, weights = taps(np.arange(hop_samples) / hop_samples, method)
    curves: Any = 0.0
    for offset, weight in zip(offsets, weights, strict=True):
        curves = curves + next_frames(frames, offset)[:, :, None, :] * constant(weight[:, None])
    batch, n_frames, channels = ops.shape(frames)
    return ops.reshape(curves, (batch, n_frames * hop_samples, channels))


def resample(frames: Any, n_timesteps: int, method: str = "linear", add_endpoint: bool = True) -> Any:
    """Interpolates controls in time to any number of steps (`core.resample`, core.py:568).

    Args:
      frames: [F], [B, F], [B, F, C] or [B, F, N, C].
      n_timesteps: wanted.
      method: `nearest`, `linear`, `cubic` or `window`; see `taps`.
      add_endpoint: frame i lies at step i·n_timesteps/F and the last frame is held; if False the last frame lies at
        the last step (for `window`, as in the original, one step after it).

    Returns:
      As frames, with n_timesteps in place of F.

    Raises:
      ValueError: unknown method; `window` where the steps are not a multiple of the intervals.
    """
    rank = len(frames.shape)
    shape = ops.shape(frames)
    if rank == 1:
        return resample(frames[None], n_timesteps, method, add_endpoint)[0]
    n_frames = shape[1]
    flat = ops.reshape(frames, (shape[0], n_frames, math.prod(shape[2:])))
    if add_endpoint and n_timesteps % n_frames == 0:
        out = upsample(flat, n_timesteps // n_frames, method)
    else:
        out = _gather(flat, n_timesteps, method, add_endpoint)
    return ops.reshape(out, (shape[0], n_timesteps, *shape[2:]))


def _gather(frames: Any, n_timesteps: int, method: str, add_endpoint: bool) -> Any:
    n_frames = frames.shape[1]
    step = np.arange(n_timesteps, dtype=np.float64)
    if add_endpoint:
        position = step * (n_frames / n_timesteps)
    elif method == "window":
        position = step * ((n_frames - 1) / n_timesteps)
    else:
        position = step * ((n_frames - 1) / max(n_timesteps - 1, 1))
    if method == "window" and n_timesteps % (n_frames if add_endpoint else n_frames - 1):
        raise ValueError(f"{n_timesteps} steps are not a multiple of the intervals between {n_frames} frames")
    if method == "nearest" and not add_endpoint:
        position = np.floor(position + 0.5)
    before = np.floor(position + 1e-9).astype(np.int64)
    offsets, weights = taps(np.clip(position - before, 0.0, 1.0), method)
    total: Any = 0.0
    for offset, weight in zip(offsets, weights, strict=True):
        index = np.clip(before + offset, 0, n_frames - 1).astype(np.int32)
        total = total + ops.take(frames, ops.convert_to_tensor(index), axis=1) * constant(weight[:, None])
    return total
