"""Fundamental frequency: a shelf of trackers, and their frames brought onto our grid.

A tracker takes 16 kHz blocks of any size and answers with a `PitchTrack` on a time grid of its own. Only the tracker
that is asked for is imported. Shapes: S samples, T frames of a tracker, F frames of our grid.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.errors import UsageError, did_you_mean

DEFAULT_TRACKER = "swift-f0"

#: From this confidence on a frame is voiced.
VOICED_CONFIDENCE = 0.5

#: Two neighbouring frames of a tracker (16 ms) further apart than this are two notes, not a glide between them.
MAX_GLIDE_SEMITONES = 2.0

#: Both trackers search this range, swift-f0's own; the notes F♯1 to C7.
PITCH_RANGE_HZ = (46.875, 2093.75)

SWIFT_HOP_SAMPLES = 256

#: Frames (of 16 ms) that swift-f0 is given at once: 10 s keep its memory small.
SWIFT_BLOCK_FRAMES = 625

#: Its receptive field reaches 2815 samples to either side (swift_f0/core.py), so with this many frames around it a
#: block comes out as it would in the whole recording.
SWIFT_CONTEXT_FRAMES = 11

#: Where swift-f0's frame 0 is centred. Measured with version 0.3 on glides of 1 and 3 octaves in 6 s and on vibrato
#: of 3 and 5.5 Hz: the offset that fits best is 0.0 ± 0.5 ms, the bias at 0 below 0.7 cents; nothing to make up for.
SWIFT_DELAY_SAMPLES = 0

#: pYIN is run on this much at once (20 s), a multiple of its hop as the context is, so that frames stay on one grid.
PYIN_BLOCK_SAMPLES = 1250 * 256

#: pYIN's Viterbi path forgets where it started within this context on either side of a block.
PYIN_CONTEXT_SAMPLES = 64 * 256


@dataclass(frozen=True)
class PitchTrack:
    """Pitch on a tracker's own grid: frame i is centred on sample i·hop_samples + delay.

    Attributes:
      f0_hz: [T] Hz, meaningful where voiced.
      confidence: [T] 0..1, voiced from 0.5 on.
      hop_samples: distance of two frames.
      delay_samples: how much later than sample i·hop frame i is really centred.
    """

    f0_hz: np.ndarray
    confidence: np.ndarray
    hop_samples: int
    delay_samples: int = 0


class Tracker(Protocol):
    """Takes a 16 kHz signal in blocks, gives its pitch at the end."""

    def push(self, block: np.ndarray) -> None:
        """The next samples [S] float32."""

    def finish(self) -> PitchTrack:
        """The pitch of everything pushed."""


class SwiftTracker:
    """swift-f0: a small convolutional network on onnxruntime, shipped inside its package (MIT).

    Args:
      threads: size of its thread pool; None lets onnxruntime choose.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._network = _swift_network(threads)
        self._buffer = np.zeros(0, np.float32)
        self._n_context = 0  # frames at the start of the buffer that were tracked already
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []

    def push(self, block: np.ndarray) -> None:
        self._buffer = np.concatenate([self._buffer, block])
        while len(self._buffer) >= (self._n_context + SWIFT_BLOCK_FRAMES + SWIFT_CONTEXT_FRAMES) * SWIFT_HOP_SAMPLES:
            end = self._n_context + SWIFT_BLOCK_FRAMES
            self._track(self._buffer[: (end + SWIFT_CONTEXT_FRAMES) * SWIFT_HOP_SAMPLES], end)
            self._buffer = self._buffer[(end - SWIFT_CONTEXT_FRAMES) * SWIFT_HOP_SAMPLES :]
            self._n_context = SWIFT_CONTEXT_FRAMES

    def finish(self) -> PitchTrack:
        # Whole hops only reach the network; silence fills up the last one so that the end is tracked as well.
        audio = np.pad(self._buffer, (0, -len(self._buffer) % SWIFT_HOP_SAMPLES))
        end = len(audio) // SWIFT_HOP_SAMPLES
        if end > self._n_context:
            self._track(audio, end)
        f0_hz, confidence = _joined(self._parts)
        return PitchTrack(f0_hz, confidence, SWIFT_HOP_SAMPLES, SWIFT_DELAY_SAMPLES)

    def _track(self, audio: np.ndarray, end: int) -> None:
        """Tracks `audio` and keeps its frames from the context up to `end`."""
        found = self._network.detect(audio, ANALYSIS_RATE_HZ)
        keep = slice(self._n_context, end)
        self._parts.append((found.pitch_hz[keep].astype(np.float32), found.confidence[keep].astype(np.float32)))


@functools.lru_cache(maxsize=2)
def _swift_network(threads: int | None) -> Any:
    """The network, loaded once for all recordings (20 ms each otherwise)."""
    from swift_f0 import SwiftF0

    # Not spinning leaves the cores to the other workers between two blocks.
    return SwiftF0(threads=threads, spin=False)


class PyinTracker:
    """pYIN (Mauch and Dixon 2014) as librosa implements it; slow, without a network, good on clean single notes.

    Blocks overlap by `PYIN_CONTEXT_SAMPLES` on either side, so memory is bounded whatever the length.
    """

    HOP_SAMPLES = 256
    FRAME_SAMPLES = 2048

    def __init__(self, threads: int | None = None) -> None:
        try:
            import librosa
        except ImportError as problem:
            raise UsageError("pitch tracker pyin needs librosa, which is not installed") from problem
        self._pyin = librosa.pyin
        self._buffer = np.zeros(0, np.float32)
        self._n_context = 0  # samples at the start of the buffer that were tracked already
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []

    def push(self, block: np.ndarray) -> None:
        self._buffer = np.concatenate([self._buffer, block])
        while len(self._buffer) >= self._n_context + PYIN_BLOCK_SAMPLES + PYIN_CONTEXT_SAMPLES:
            end = self._n_context + PYIN_BLOCK_SAMPLES
            self._track(self._buffer[: end + PYIN_CONTEXT_SAMPLES], end)
            self._buffer = self._buffer[end - PYIN_CONTEXT_SAMPLES :]
            self._n_context = PYIN_CONTEXT_SAMPLES

    def finish(self) -> PitchTrack:
        if len(self._buffer) > self._n_context:
            self._track(self._buffer, len(self._buffer))
        f0_hz, confidence = _joined(self._parts)
        return PitchTrack(f0_hz, confidence, self.HOP_SAMPLES)

    def _track(self, audio: np.ndarray, end: int) -> None:
        """Tracks `audio` and keeps the frames centred on samples from the context up to `end`."""
        f0_hz, voiced, probability = self._pyin(
            audio,
            fmin=PITCH_RANGE_HZ[0],
            fmax=PITCH_RANGE_HZ[1],
            sr=ANALYSIS_RATE_HZ,
            frame_length=self.FRAME_SAMPLES,
            hop_length=self.HOP_SAMPLES,
            fill_na=0.0,
        )
        # The decision is the Viterbi path's; the probability only says how far from it a frame is.
        split = VOICED_CONFIDENCE
        confidence = np.where(voiced, np.maximum(probability, split), np.minimum(probability, 0.98 * split))
        keep = slice(self._n_context // self.HOP_SAMPLES, -(-end // self.HOP_SAMPLES))
        self._parts.append((f0_hz[keep].astype(np.float32), confidence[keep].astype(np.float32)))


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    empty = np.zeros(0, np.float32)
    return np.concatenate([empty, *(part[0] for part in parts)]), np.concatenate([empty, *(part[1] for part in parts)])


_TRACKERS: dict[str, Callable[[int | None], Tracker]] = {"swift-f0": SwiftTracker, "pyin": PyinTracker}


def tracker_names() -> list[str]:
    """Names that `open_tracker` takes."""
    return sorted(_TRACKERS)


def check_tracker(name: str) -> None:
    """Says early that a tracker cannot be had.

    Raises:
      UsageError: no tracker of that name, or one that this version does not have.
    """
    if name == "crepe":
        raise UsageError(
            "pitch tracker crepe is not part of this version of ddsp yet", f"Use one of {', '.join(tracker_names())}."
        )
    if name not in _TRACKERS:
        raise UsageError(f"there is no pitch tracker called {name}", did_you_mean(name, tracker_names()))


def open_tracker(name: str = DEFAULT_TRACKER, threads: int | None = None) -> Tracker:
    """A tracker ready to take blocks.

    Args:
      name: one of `tracker_names()`.
      threads: how many threads it may use, where it uses any.

    Raises:
      UsageError: unknown or unavailable.
    """
    check_tracker(name)
    return _TRACKERS[name](threads)


def track(name: str, audio: np.ndarray, threads: int | None = None) -> PitchTrack:
    """Pitch of a whole 16 kHz signal [S] on the tracker's own grid.

    Raises:
      UsageError: unknown or unavailable tracker.
    """
    tracker = open_tracker(name, threads)
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
    position = (np.arange(n_frames) * hop_samples - pitch.delay_samples) / pitch.hop_samples
    position = np.maximum(position, 0.0)
    left = np.minimum(position.astype(np.int64), n_tracked - 1)
    right = np.minimum(left + 1, n_tracked - 1)
    share = np.clip(position - left, 0.0, 1.0)

    source = np.nan_to_num(np.clip(pitch.confidence, 0.0, 1.0)).astype(np.float64)
    voiced = (source >= VOICED_CONFIDENCE) & (pitch.f0_hz > 0)
    source = np.where(voiced, source, np.minimum(source, np.nextafter(VOICED_CONFIDENCE, 0.0)))
    confidence = (1.0 - share) * source[left] + share * source[right]

    octaves = np.log2(np.where(voiced, pitch.f0_hz, 1.0).astype(np.float64))
    glide = np.abs(octaves[right] - octaves[left]) <= MAX_GLIDE_SEMITONES / 12.0
    nearer = np.where(share <= 0.5, left, right)
    only = np.where(voiced[left], left, right)  # where just one side is voiced
    held = octaves[np.where(voiced[left] & voiced[right], nearer, only)]
    blended = (1.0 - share) * octaves[left] + share * octaves[right]
    value = np.where(voiced[left] & voiced[right] & glide, blended, held)
    sounding = (confidence >= VOICED_CONFIDENCE) & (voiced[left] | voiced[right])
    return np.where(sounding, 2.0**value, 0.0).astype(np.float32), confidence.astype(np.float32)
