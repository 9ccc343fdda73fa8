"""Controls from frame rate to sample rate. Shapes: B batch, F frames, S samples, C channels."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np
from keras import ops

from ddsp_cli.engine.core.tensors import ArgumentError, Tensor, constant, one_of, takes, whole

METHODS = ("nearest", "linear", "cubic", "window")


def next_frames(frames: Tensor, steps: int = 1) -> Tensor:
    """Shifts frames in time, holding the end: [B, F, C] → [B, F, C].

    Args:
      frames: [B, F, C].
      steps: 1 moves the next frame to the place of each, -1 the one before.

    Returns:
      [B, F, C].
    """
    for _ in range(abs(steps)):
        kept = (frames[:, 1:], frames[:, -1:]) if steps > 0 else (frames[:, :1], frames[:, :-1])
        frames = ops.concatenate(kept, axis=1)
    return frames


def _keys(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Evaluates the cubic convolution kernel of Keys (IEEE Trans. ASSP 29, 1981) at distances from 0 to 2 frames."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, far)


def taps(position: np.ndarray, method: str) -> tuple[list[int], np.ndarray]:
    """Returns the interpolation weights of the frames around a point.

    Args:
      position: any shape, 0 at a frame, towards 1 at the next.
      method: `nearest` (the frame before), `linear` (a straight line; core.py:613), `cubic` (Keys' kernel with a =
        -0.75, as TensorFlow's bicubic resize), `window` (the crossfade of overlapping periodic Hann windows of two
        hops; core.py:645).

    Returns:
      offsets of the frames, and their weights [offsets, *position.shape], which sum to 1.

    Raises:
      ValueError: no such method.
    """
    one_of(method, "the resampling method", METHODS)
    x = np.asarray(position, np.float64)
    if method == "nearest":
        return [0], np.ones((1, *x.shape), np.float32)
    if method == "linear":
        return [0, 1], np.stack([1.0 - x, x]).astype(np.float32)
    if method == "window":
        rising = 0.5 - 0.5 * np.cos(math.pi * x)
        return [0, 1], np.stack([1.0 - rising, rising]).astype(np.float32)
    return [-1, 0, 1, 2], np.stack([_keys(x + 1), _keys(x), _keys(1 - x), _keys(2 - x)]).astype(np.float32)


def ramp(hop_samples: int, method: str) -> np.ndarray:
    """Returns the weight of the next frame at each sample between two frames.

    Args:
      hop_samples: samples between two frames.
      method: `linear` or `window`, see `taps`.

    Returns:
      [hop_samples], from 0 up towards 1.

    Raises:
      ValueError: the method interpolates between more or fewer than two frames.
    """
    offsets, weights = taps(np.arange(hop_samples) / hop_samples, method)
    if offsets != [0, 1]:
        raise ArgumentError(f"method {method!r} does not resample between two frames; use linear or window")
    return weights[1]


@takes(frames="B F C")
def upsample(frames: Tensor, hop_samples: int, method: str = "linear") -> Tensor:
    """Interpolates controls from frame rate to sample rate.

    The number of frames need not be known while a graph is built.

    Args:
      frames: [B, F, C].
      hop_samples: samples between two frames.
      method: `nearest`, `linear`, `cubic` or `window`, see `taps`.

    Returns:
      [B, F·hop_samples, C]. Frame i is met exactly at sample i·hop_samples; the last frame is held.

    Raises:
      ValueError: no such method, or the hop is not a whole number.
    """
    hop_samples = whole(hop_samples, "hop_samples")
    offsets, weights = taps(np.arange(hop_samples) / hop_samples, method)
    curves: Any = 0.0
    for offset, weight in zip(offsets, weights, strict=True):
        curves = curves + next_frames(frames, offset)[:, :, None, :] * constant(weight[:, None])
    batch, n_frames, channels = ops.shape(frames)
    return ops.reshape(curves, (batch, n_frames * hop_samples, channels))


@takes(frames="F | B F | B F C | B F N C")
def resample(frames: Tensor, n_timesteps: int, method: str = "linear", add_endpoint: bool = True) -> Tensor:
    """Interpolates controls in time to any number of steps (`core.resample`, core.py:568).

    Args:
      frames: [F], [B, F], [B, F, C] or [B, F, N, C].
      n_timesteps: number of steps T to return.
      method: `nearest`, `linear`, `cubic` or `window`, see `taps`.
      add_endpoint: frame i is at step i·T/F and the last frame is held; if False the last frame is at the last step
        (for `window`, as in the original, one step after it).

    Returns:
      the shape of `frames` with T in place of F.

    Raises:
      ValueError: no such method, or `window` where T is not a multiple of the intervals.
    """
    if isinstance(n_timesteps, numbers.Real):  # else a tensor, while a graph is built
        n_timesteps = whole(n_timesteps, "n_timesteps")
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
    n_intervals = n_frames if add_endpoint else n_frames - 1
    if method == "window" and (not n_intervals or n_timesteps % n_intervals):
        raise ArgumentError(f"{n_timesteps} steps are not a multiple of the intervals between {n_frames} frames")
    if method == "nearest" and not add_endpoint:
        position = np.floor(position + 0.5)
    before = np.floor(position + 1e-9).astype(np.int64)
    offsets, weights = taps(np.clip(position - before, 0.0, 1.0), method)
    total: Any = 0.0
    for offset, weight in zip(offsets, weights, strict=True):
        index = np.clip(before + offset, 0, n_frames - 1).astype(np.int32)
        total = total + ops.take(frames, ops.convert_to_tensor(index), axis=1) * constant(weight[:, None])
    return total
