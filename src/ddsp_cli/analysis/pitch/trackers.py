"""Pitch trackers: their protocol, their registry, and their frames brought onto the grid of the features.

A tracker takes blocks of 16 kHz sound and gives one `PitchTrack`. swift-f0, pYIN and CREPE are built in; only the one
that is opened is imported. Other packages add trackers by an entry point, which is looked up for names that are not
built in:

    [project.entry-points."ddsp_cli.pitch_trackers"]
    yin = "their_package:open_yin"  # (threads: int | None, weights: Path | None) -> Tracker

`UndecidedPath` serves trackers that decode their frames by the Viterbi algorithm.

Shapes: S samples, T frames of a tracker, F frames of the features, N states.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ddsp_cli import spool
from ddsp_cli.arrays import BoolArray, DoubleArray, FloatArray, IntArray
from ddsp_cli.errors import UsageError, did_you_mean

#: A frame is voiced from this confidence on.
VOICED_CONFIDENCE = 0.5

#: The most that a frame keeps which is unvoiced whatever its confidence was: below `VOICED_CONFIDENCE` also in float32.
UNVOICED_CONFIDENCE = 0.98 * VOICED_CONFIDENCE

#: swift-f0 and pYIN search this range, the former's own; the notes F♯1 to C7.
PITCH_RANGE_HZ = (46.875, 2093.75)


@dataclass(frozen=True)
class PitchTrack:
    """F0 on a tracker's own grid: frame i is centred on sample i·hop_samples + delay_samples.

    Attributes:
      f0_hz: [T] Hz, meaningful where voiced.
      confidence: [T] 0..1, voiced from 0.5 on.
      hop_samples: distance of two frames.
      delay_samples: how much later than sample i·hop_samples frame i is centred.
    """

    f0_hz: FloatArray
    confidence: FloatArray
    hop_samples: int
    delay_samples: int = 0


class Tracker(Protocol):
    """Takes a 16 kHz signal in blocks and returns its F0 at the end."""

    def push(self, block: FloatArray) -> None:
        """Takes the next samples [S] float32."""

    def finish(self) -> PitchTrack:
        """Returns F0 of everything pushed."""


DEFAULT_TRACKER = "swift-f0"

#: `crepe` alone takes the largest size whose weights are there.
CREPE_SIZES = ("full", "large", "medium", "small", "tiny")

BUILT_IN = ("swift-f0", "pyin", "crepe", *(f"crepe-{size}" for size in CREPE_SIZES))

#: Where other packages name their trackers.
ENTRY_POINTS = "ddsp_cli.pitch_trackers"

#: Two neighbouring frames of a tracker further apart than this are two notes, not a glide between them.
MAX_GLIDE_SEMITONES = 2.0

#: Frames that are brought onto the grid at once: bounds the memory of intermediate arrays.
_FRAMES_AT_ONCE = 1 << 15


def tracker_names() -> list[str]:
    """Returns the names that `open_tracker` takes: the built-in ones, then those of other packages."""
    from importlib.metadata import entry_points

    return [*BUILT_IN, *sorted(entry_points(group=ENTRY_POINTS).names - set(BUILT_IN))]


def check_tracker(name: str, weights: Path | None = None) -> Path | None:
    """Checks before any work that a tracker can be opened.

    Args:
      name: one of `tracker_names()`.
      weights: a file of weights, for trackers that need one.

    Returns:
      The file of weights that the tracker will use; None where it needs none.

    Raises:
      UsageError: there is no tracker of this name, or its library or weights are missing.
    """
    if name not in BUILT_IN:
        _added_tracker(name)
        return weights
    if name.startswith("crepe"):
        from ddsp_cli.analysis.pitch import crepe

        return crepe.find_weights(_crepe_size(name), weights)
    if weights is not None:
        raise UsageError(f"pitch tracker {name} takes no weights", "Weights are for the tracker crepe.")
    return None


def open_tracker(name: str = DEFAULT_TRACKER, threads: int | None = None, weights: Path | None = None) -> Tracker:
    """Opens a tracker, which then takes blocks of sound.

    Args:
      name: one of `tracker_names()`.
      threads: how many threads it may use; None leaves it to the tracker.
      weights: a file of weights, for trackers that need one.

    Raises:
      UsageError: there is no tracker of this name, or its library or weights are missing.
    """
    if name not in BUILT_IN:
        return _added_tracker(name)(threads, weights)
    weights = check_tracker(name, weights)
    if weights is not None:
        from ddsp_cli.analysis.pitch import crepe

        return crepe.CrepeTracker(crepe.load_network(weights))
    if name == "pyin":
        from ddsp_cli.analysis.pitch.pyin import PyinTracker

        return PyinTracker()
    from ddsp_cli.analysis.pitch.swift_f0 import SwiftTracker

    return SwiftTracker(threads)


def preload(name: str = DEFAULT_TRACKER) -> None:
    """Starts to load the network of a tracker in another thread, if it is the default one; `open_tracker` waits for it.

    Args:
      name: one of `tracker_names()`.
    """
    if name == DEFAULT_TRACKER:
        from ddsp_cli.analysis.pitch import swift_f0

        swift_f0.preload()


def _crepe_size(name: str) -> str:
    return name.removeprefix("crepe").removeprefix("-")


def _added_tracker(name: str) -> Callable[[int | None, Path | None], Tracker]:
    """Finds the function that opens the tracker of another package.

    Raises:
      UsageError: no package has one of this name, or it cannot be imported.
    """
    from importlib.metadata import entry_points

    for found in entry_points(group=ENTRY_POINTS, name=name):
        try:
            return found.load()
        except (ImportError, AttributeError) as problem:
            raise UsageError(f"pitch tracker {name} ({found.value}) cannot be imported: {problem}") from problem
    names = tracker_names()
    raise UsageError(f"there is no pitch tracker called {name}", did_you_mean(name, names), parameter="tracker")


def track(name: str, audio: FloatArray, threads: int | None = None, weights: Path | None = None) -> PitchTrack:
    """Tracks the pitch of a whole signal.

    Args:
      name: one of `tracker_names()`.
      audio: [S] at 16 kHz.
      threads, weights: see `open_tracker`.

    Returns:
      The pitch on the tracker's own grid.

    Raises:
      UsageError: as `open_tracker`.
    """
    tracker = open_tracker(name, threads, weights)
    tracker.push(np.asarray(audio, np.float32))
    return tracker.finish()


def on_grid(pitch: PitchTrack, n_frames: int, hop_samples: int) -> tuple[FloatArray, FloatArray]:
    """Brings a tracker's frames onto the grid of the features.

    Confidence is interpolated linearly. f0 is interpolated in log-frequency between two voiced frames that can belong
    to one glide; at the edge of a gap and at a jump the nearer voiced frame holds, so no frequency is made up.

    Args:
      pitch: result of the tracker.
      n_frames: F, how many frames to fill.
      hop_samples: distance of the features' frames.

    Returns:
      f0_hz [F] (0 where the confidence is below 0.5) and f0_confidence [F], both float32.
    """
    n_tracked = len(pitch.f0_hz)
    if n_tracked == 0:
        return np.zeros(n_frames, np.float32), np.zeros(n_frames, np.float32)
    f0_hz, confidence = spool.empty(n_frames), spool.empty(n_frames)
    for start in range(0, n_frames, _FRAMES_AT_ONCE):
        frames = np.arange(start, min(start + _FRAMES_AT_ONCE, n_frames))
        position = np.maximum((frames * hop_samples - pitch.delay_samples) / pitch.hop_samples, 0.0)
        first = min(int(position[0]), n_tracked - 1)
        tracked = slice(first, int(position[-1]) + 2)
        source = np.nan_to_num(np.clip(pitch.confidence[tracked], 0.0, 1.0)).astype(np.float64)
        voiced = (source >= VOICED_CONFIDENCE) & (pitch.f0_hz[tracked] > 0)
        source = np.where(voiced, source, np.minimum(source, np.nextafter(VOICED_CONFIDENCE, 0.0)))
        octaves = np.log2(np.where(voiced, pitch.f0_hz[tracked], 1.0).astype(np.float64))
        part = slice(start, start + len(frames))
        f0_hz[part], confidence[part] = _between(position - first, voiced, octaves, source)
        spool.release()
    return f0_hz, confidence


def _between(
    position: DoubleArray, voiced: BoolArray, octaves: DoubleArray, source: DoubleArray
) -> tuple[DoubleArray, DoubleArray]:
    """Interpolates F0 in Hz and confidence [n] at positions between tracked frames, see `on_grid`."""
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


# --- Viterbi paths ----------------------------------------------------------------------------------------------------


class UndecidedPath:
    """The last frames of a path of the Viterbi algorithm (Viterbi 1967), which later frames can still change.

    A frame is decided when the best paths to all states of a later frame pass through the same state of it. The result
    is the best path through the whole recording, but only the undecided frames are in memory (usually a few).
    """

    def __init__(self) -> None:
        self._before: list[IntArray] = []  # of each undecided frame but the first: the best state before it, [N]
        self._rows: list[FloatArray] = []

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, row: FloatArray, before: IntArray | None) -> None:
        """Adds a frame.

        Args:
          row: [N] values that `take_decided` and `take` return with the frame.
          before: [N] for each state of the frame, the state of the frame before on the best path to it; None for the
            first frame.
        """
        if before is not None:
            self._before.append(before.astype(np.int16))
        self._rows.append(row)

    def take_decided(self) -> tuple[IntArray, FloatArray] | None:
        """Takes out the frames that are decided: their states [T] and rows [T, N]; None where there are none."""
        if not self._before:
            return None
        states: IntArray = np.arange(len(self._before[-1]))
        for frame in range(len(self._rows) - 2, -1, -1):
            states = np.unique(self._before[frame][states])
            if len(states) == 1:
                return self.take(frame, int(states[0]))
        return None

    def take(self, last: int, state: int) -> tuple[IntArray, FloatArray]:
        """Takes out the frames up to `last`, which is in `state`: their states [T] and rows [T, N]."""
        path = np.empty(last + 1, np.int64)
        for frame in range(last, -1, -1):
            path[frame] = state
            if frame:
                state = int(self._before[frame - 1][state])
        rows = np.stack(self._rows[: last + 1])
        del self._rows[: last + 1]
        del self._before[: last + 1]
        return path, rows
