"""From sound to `Features`: F0, loudness and power on one grid, block by block in bounded memory.

`measure` and `FeatureStream` make one pass. `analyze` makes as many as a performance needs: a tracker of single pitches
finds little in quiet sound, nothing above 2.1 kHz, and one voice at most of a chord. Shapes: S samples, F frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np

from ddsp_cli import spool
from ddsp_cli.analysis import loudness
from ddsp_cli.analysis.features import Features, n_frames
from ddsp_cli.analysis.pitch import trackers
from ddsp_cli.analysis.pitch.salience import track_strongest
from ddsp_cli.arrays import BoolArray, FloatArray, percentiles
from ddsp_cli.audio.recording import Recording
from ddsp_cli.audio.resample import Resampler
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.errors import InputError

#: Sound is measured in blocks of this length, cut at its multiples however it is pushed, so that the result is the same
#: to the last bit; 10 s keep the tracker's memory small.
BLOCK_SAMPLES = 10 * ANALYSIS_RATE_HZ


class FeatureStream:
    """Measures a recording that arrives in blocks, in one pass.

    Memory does not grow with the length: features longer than `spool.KEPT_BYTES` lie in temporary files.

    Args:
      spec: how to measure.
      threads: how many threads the tracker may use; None leaves it to the tracker.
      weights: a file of weights for the tracker, see `pitch.open_tracker`.
      with_loudness: False leaves `loudness_db` at its floor, which saves a tenth of the time.

    Raises:
      UsageError: the tracker that the spec names is unknown or unavailable.
    """

    def __init__(
        self,
        spec: FeatureSpec | None = None,
        threads: int | None = None,
        weights: Path | None = None,
        with_loudness: bool = True,
    ) -> None:
        self.spec = spec or FeatureSpec()
        self._tracker = trackers.open_tracker(self.spec.pitch, threads, weights)
        self._loudness = loudness.loudness_stream(self.spec) if with_loudness else None
        self._power = loudness.power_stream(self.spec)
        self._envelope = loudness.SharpEnvelope(self.spec)
        self._loudness_db, self._power_db = spool.GrowingArray(), spool.GrowingArray()
        self._waiting: list[FloatArray] = []
        self._n_waiting = 0
        self._n_samples = 0

    def push(self, block: FloatArray) -> None:
        """Takes the next samples, [S] float32 at 16 kHz.

        Raises:
          InputError: NaN or infinity.
        """
        block = np.asarray(block, np.float32)
        if not np.isfinite(block).all():
            raise InputError("the sound contains NaN or infinity")
        self._waiting.append(block)
        self._n_waiting += len(block)
        if self._n_waiting >= BLOCK_SAMPLES:
            audio = np.concatenate(self._waiting)
            n_whole = len(audio) // BLOCK_SAMPLES * BLOCK_SAMPLES
            for start in range(0, n_whole, BLOCK_SAMPLES):
                self._measure(audio[start : start + BLOCK_SAMPLES])
            self._waiting = [audio[n_whole:].copy()]
            self._n_waiting = len(audio) - n_whole

    def finish(self) -> Features:
        """Returns the features of everything pushed.

        Raises:
          InputError: nothing was pushed.
          OutputError: the disk has no space for the temporary files.
        """
        if self._n_waiting:
            self._measure(np.concatenate(self._waiting))
        self._waiting, self._n_waiting = [], 0
        if self._n_samples == 0:
            raise InputError("the sound is empty: it has 0 samples")
        hop_samples = self.spec.hop_samples
        f0_hz, confidence = trackers.on_grid(
            self._tracker.finish(), n_frames(self._n_samples, hop_samples), hop_samples
        )
        self._power_db.push(self._power.finish())
        power_db = self._power_db.finish()
        # Trackers can be sure of a pitch in silence.
        silent = power_db <= self.spec.floor_db
        f0_hz[silent] = confidence[silent] = 0.0
        if self._loudness is not None:
            self._loudness_db.push(self._loudness.finish())
            loudness_db = self._loudness_db.finish()
        else:
            loudness_db = spool.empty(len(power_db))
            loudness_db[:] = self.spec.floor_db
        spool.release()
        return Features(
            f0_hz=f0_hz,
            f0_confidence=confidence,
            loudness_db=loudness_db,
            power_db=power_db,
            spec=self.spec,
            n_samples=self._n_samples,
            envelope_db=self._envelope.finish(f0_hz, power_db),
        )

    def _measure(self, block: FloatArray) -> None:
        self._n_samples += len(block)
        self._tracker.push(block)
        if self._loudness is not None:
            self._loudness_db.push(self._loudness.push(block))
        self._power_db.push(self._power.push(block))
        self._envelope.push(block)


def measure(audio: FloatArray, spec: FeatureSpec | None = None) -> Features:
    """Measures a whole signal in one pass.

    Args:
      audio: [S] at 16 kHz, mono.
      spec: how to measure; the default is that of data sets.

    Raises:
      InputError: no samples, or NaN among them.
      UsageError: the tracker is unknown or unavailable.
    """
    stream = FeatureStream(spec)
    stream.push(audio)
    return stream.finish()


#: A recording whose power never reaches this is silent.
AUDIBLE_DB = -70.0

#: Trackers are less sure of quiet sound: where the loudest frames (98th percentile) are below `QUIET_DB`, a copy
#: amplified to `USUAL_DB` is tracked.
QUIET_DB, USUAL_DB = -35.0, -15.0

#: Trackers find no pitch above 2.1 kHz, where whistling and high strings go on. Where a melody (95th percentile) comes
#: above `HIGH_HZ`, or hardly any pitch is found, it is tracked again at half speed, for the pitch above `HIGHER_HZ`.
HIGH_HZ, HIGHER_HZ = 1400.0, 1800.0

#: Frames at most this far below the loudest (98th percentile) count for the share of frames that have a pitch. Where
#: that share is less than `PITCHED_SHARE`, the sound is a chord, noise, percussion or whispering.
LOUD_RANGE_DB, PITCHED_SHARE = 25.0, 0.4

#: The beginning of a recording that is kept as sound, for classifiers of its kind of sound.
BEGINNING_S = 60.0


class Voiced(Protocol):
    """The part of segments, found in features, that `analyze` needs."""

    @property
    def voiced(self) -> BoolArray:
        """[F], true in frames of a segment that have a pitch."""


SegmentsT = TypeVar("SegmentsT", bound=Voiced)


@dataclass(frozen=True)
class Analysis(Generic[SegmentsT]):
    """A recording, analysed.

    Attributes:
      features: of the whole recording.
      segments: found in them.
      character: `silent`; `pitched`, a tracker of single pitches follows it; `polyphonic`, it does not, and `f0_hz` is
        that of the strongest voice; `unpitched`, neither finds a pitch in most of it.
      beginning: [S] at 16 kHz, the first `BEGINNING_S` of the sound.
      passes: that were made, in order: `features`, `amplified`, `half speed`, `salience`.
    """

    features: Features
    segments: SegmentsT
    character: Literal["silent", "pitched", "polyphonic", "unpitched"]
    beginning: FloatArray
    passes: tuple[str, ...]


def analyze(
    recording: Recording,
    spec: FeatureSpec,
    find_segments: Callable[[Features], SegmentsT],
    *,
    progress: Callable[[float], None] | None = None,
) -> Analysis[SegmentsT]:
    """Measures a performance, with the further passes that it needs.

    The first pass measures all features. Of quiet sound the pitch is tracked again in an amplified copy; of sound that
    may be too high for the tracker, at half speed. Where most of the loud frames have no pitch, the strongest voice is
    found by its salience.

    Args:
      recording: read once for each pass.
      spec: how to measure.
      find_segments: finds segments in features; called once for each pass after which they can differ.
      progress: called with the seconds measured so far in the first pass.

    Raises:
      InputError: the recording cannot be read, is empty, or contains NaN or infinity.
      UsageError: the tracker is unknown or unavailable.
    """
    features, beginning = _first_pass(recording, spec, progress)
    passes = ["features"]
    if float(features.power_db.max(initial=spec.floor_db)) < AUDIBLE_DB:
        return Analysis(features, find_segments(features), "silent", beginning, tuple(passes))
    loud_db = float(percentiles(features.power_db, 98))
    gain = 10.0 ** ((USUAL_DB - loud_db) / 20.0) if loud_db < QUIET_DB else 1.0
    if gain > 1.0:
        features = _track_amplified(recording, features, gain)
        passes.append("amplified")
    segments = find_segments(features)
    if _may_be_higher(features, segments.voiced):
        features = _track_half_speed(recording, features, gain)
        segments = find_segments(features)
        passes.append("half speed")
    if pitched_share(features, segments.voiced) >= PITCHED_SHARE:
        return Analysis(features, segments, "pitched", beginning, tuple(passes))
    track = track_strongest(recording.blocks)
    passes.append("salience")
    f0_hz, confidence = trackers.on_grid(track, len(features), spec.hop_samples)
    strongest = replace(features, f0_hz=f0_hz, f0_confidence=confidence)
    strongest_segments = find_segments(strongest)
    if pitched_share(strongest, strongest_segments.voiced) >= PITCHED_SHARE:
        return Analysis(strongest, strongest_segments, "polyphonic", beginning, tuple(passes))
    return Analysis(features, segments, "unpitched", beginning, tuple(passes))


def pitched_share(features: Features, voiced: BoolArray) -> float:
    """Returns the share of the loud frames that are voiced.

    Args:
      features: of a recording.
      voiced: [F], frames of segments that have a pitch.
    """
    if not len(features):
        return 0.0
    loudness_db = features.loudness_db
    loud = loudness_db >= float(percentiles(loudness_db, 98)) - LOUD_RANGE_DB
    return float(voiced[loud].mean())


def _first_pass(
    recording: Recording, spec: FeatureSpec, progress: Callable[[float], None] | None
) -> tuple[Features, FloatArray]:
    """Returns all features of a recording, and its first `BEGINNING_S` as sound, [S]."""
    stream = FeatureStream(spec)
    n_samples, n_beginning = 0, round(BEGINNING_S * ANALYSIS_RATE_HZ)
    beginning: list[FloatArray] = []
    for block in recording.blocks():
        stream.push(block)
        if n_samples < n_beginning:
            beginning.append(block[: n_beginning - n_samples])
        n_samples += len(block)
        if progress is not None:
            progress(n_samples / ANALYSIS_RATE_HZ)
    features = stream.finish()
    return features, np.concatenate(beginning)


def _track_amplified(recording: Recording, features: Features, gain: float) -> Features:
    """Returns the features with the pitch of the sound multiplied by `gain`."""
    stream = FeatureStream(features.spec, with_loudness=False)
    for block in recording.blocks():
        stream.push(block * np.float32(gain))
    amplified = stream.finish()
    return replace(features, f0_hz=amplified.f0_hz, f0_confidence=amplified.f0_confidence)


def _may_be_higher(features: Features, voiced: BoolArray) -> bool:
    """Whether there may be pitch above the tracker's range: the melody comes near it, or has hardly any pitch."""
    f0_hz = features.f0_hz[voiced]
    if len(f0_hz) and float(percentiles(f0_hz, 95)) > HIGH_HZ:
        return True
    return pitched_share(features, voiced) < PITCHED_SHARE


def _track_half_speed(recording: Recording, features: Features, gain: float) -> Features:
    """Returns the features with the pitch above `HIGHER_HZ` of the sound at half its speed, multiplied by `gain`."""
    resampler = Resampler(ANALYSIS_RATE_HZ, 2 * ANALYSIS_RATE_HZ)
    tracker = trackers.open_tracker(features.spec.pitch)
    for block in recording.blocks():
        tracker.push(resampler.push(block * np.float32(gain)))
    tracker.push(resampler.finish())
    slow = tracker.finish()
    track = replace(slow, f0_hz=2.0 * slow.f0_hz, hop_samples=slow.hop_samples // 2)
    f0_hz, confidence = trackers.on_grid(track, len(features), features.spec.hop_samples)
    kept = (f0_hz <= HIGHER_HZ) | (features.power_db <= features.spec.floor_db)
    f0_hz[kept], confidence[kept] = features.f0_hz[kept], features.f0_confidence[kept]
    return replace(features, f0_hz=f0_hz, f0_confidence=confidence)
