"""Fundamental frequency: a shelf of trackers, and their frames brought onto our grid.

A tracker takes 16 kHz blocks of any size and answers with a `PitchTrack` on a time grid of its own. Only the tracker
that is asked for is imported. Shapes: S samples, T frames of a tracker, F frames of our grid.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddsp_cli.analysis.pitch.tracker import PITCH_RANGE_HZ, VOICED_CONFIDENCE, PitchTrack, Tracker
from ddsp_cli.errors import UsageError, did_you_mean

__all__ = [
    "DEFAULT_TRACKER",
    "PITCH_RANGE_HZ",
    "VOICED_CONFIDENCE",
    "PitchTrack",
    "Tracker",
    "check_tracker",
    "on_grid",
    "open_tracker",
    "track",
    "tracker_names",
]

DEFAULT_TRACKER = "swift-f0"

#: Two neighbouring frames of a tracker further apart than this are two notes, not a glide between them.
MAX_GLIDE_SEMITONES = 2.0

#: Frames that are brought onto the grid at once: bounds the memory of what is between.
_FRAMES_AT_ONCE = 1 << 15

CREPE_SIZES = ("tiny", "small", "medium", "large", "full")

#: `crepe` alone is the size that its weights have, the largest first where there are several.
_CREPE = {"crepe", *(f"crepe-{size}" for size in CREPE_SIZES)}


def tracker_names() -> list[str]:
    """Names that `open_tracker` takes."""
    return ["swift-f0", "pyin", "crepe", *(f"crepe-{size}" for size in CREPE_SIZES)]


def check_tracker(name: str, weights: Path | None = None) -> None:
    """Says early that a tracker cannot be had.

    Args:
      name: one of `tracker_names()`.
      weights: a file of weights to use, for crepe only.

    Raises:
      UsageError: no tracker of that name, or one whose library or weights are missing.
    """
    if name not in tracker_names():
        raise UsageError(f"there is no pitch tracker called {name}", did_you_mean(name, tracker_names()))
    if name in _CREPE:
        from ddsp_cli.analysis.pitch import crepe

        crepe.find_weights(name.removeprefix("crepe").removeprefix("-"), weights)
    elif weights is not None:
        raise UsageError(f"pitch tracker {name} takes no weights", "Weights are for the tracker crepe.")


def open_tracker(name: str = DEFAULT_TRACKER, threads: int | None = None, weights: Path | None = None) -> Tracker:
    """A tracker ready to take blocks.

    Args:
      name: one of `tracker_names()`.
      threads: how many threads it may use, where it uses any.
      weights: a file of weights, for crepe only.

    Raises:
      UsageError: unknown or unavailable.
    """
    check_tracker(name, weights)
    if name in _CREPE:
        from ddsp_cli.analysis.pitch.crepe import CrepeTracker

        return CrepeTracker(name.removeprefix("crepe").removeprefix("-"), weights)
    if name == "pyin":
        from ddsp_cli.analysis.pitch.pyin import PyinTracker

        return PyinTracker()
    from ddsp_cli.analysis.pitch.swift_f0 import SwiftTracker

    return SwiftTracker(threads)


def track(name: str, audio: np.ndarray, threads: int | None = None, weights: Path | None = None) -> PitchTrack:
    """Pitch of a whole 16 kHz signal [S] on the tracker's own grid.

    Raises:
      UsageError: unknown or unavailable tracker.
    """
    tracker = open_tracker(name, threads, weights)
    tracker.push(np.asarray(audio, np.float32))
    return tracker.finish()


def on_grid(pitch: PitchTrack, n_frames: int, hop_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Brings a tracker's frames onto our grid.

    Confidence is interpolated linearly. f0 is interpolated in log-frequency between two voiced frames that can belong
    to one glide; at the edge of a gap and at a jump the nearer voiced frame holds, so no frequency is invented.

    Args:
      pitch: what the tracker found.
      n_frames: F, how many frames to fill.
      hop_samples: distance of our frames.

    Returns:
      f0_hz [F] (0 where the confidence is below 0.5) and f0_confidence [F], both float32.
    """
    n_tracked = len(pitch.f0_hz)
    if n_tracked == 0:
        return np.zeros(n_frames, np.float32), np.zeros(n_frames, np.float32)
    source = np.nan_to_num(np.clip(pitch.confidence, 0.0, 1.0)).astype(np.float64)
    voiced = (source >= VOICED_CONFIDENCE) & (pitch.f0_hz > 0)
    source = np.where(voiced, source, np.minimum(source, np.nextafter(VOICED_CONFIDENCE, 0.0)))
    octaves = np.log2(np.where(voiced, pitch.f0_hz, 1.0).astype(np.float64))
    f0_hz, confidence = np.empty((2, n_frames), np.float32)
    for start in range(0, n_frames, _FRAMES_AT_ONCE):
        frames = np.arange(start, min(start + _FRAMES_AT_ONCE, n_frames))
        position = np.maximum((frames * hop_samples - pitch.delay_samples) / pitch.hop_samples, 0.0)
        f0_hz[frames], confidence[frames] = _between(position, voiced, octaves, source)
    return f0_hz, confidence


def _between(
    position: np.ndarray, voiced: np.ndarray, octaves: np.ndarray, source: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """f0 in Hz and confidence [n] at positions between tracked frames, see `on_grid`."""
    left = np.minimum(position.astype(np.int64), len(voiced) - 1)
    right = np.minimum(left + 1, len(voiced) - 1)
    share = np.clip(position - left, 0.0, 1.0)
    confidence = (1.0 - share) * source[left] + share * source[right]
    glide = np.abs(octaves[right] - octaves[left]) <= MAX_GLIDE_SEMITONES / 12.0
    nearer = np.where(share <= 0.5, left, right)
    only = np.where(voiced[left], left, right)  # where just one side is voiced
    held = octaves[np.where(voiced[left] & voiced[right], nearer, only)]
    blended = (1.0 - share) * octaves[left] + share * octaves[right]
    value = np.where(voiced[left] & voiced[right] & glide, blended, held)
    sounding = (confidence >= VOICED_CONFIDENCE) & (voiced[left] | voiced[right])
    return np.where(sounding, 2.0**value, 0.0), confidence
