"""An input of any kind, heard or read, and fitted to an instrument."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.errors import InputError
from ddsp_cli.features import io, pitch
from ddsp_cli.features.frames import Features
from ddsp_cli.runtime import heard
from ddsp_cli.runtime.adapt import Adapted, AdaptSettings, adapt
from ddsp_cli.runtime.instrument import Instrument
from ddsp_cli.runtime.notes import Notes, find_notes, percentiles
from ddsp_cli.runtime.score import adapt_score, read_score
from ddsp_cli.runtime.strongest import track_strongest
from ddsp_cli.workflows.controls import read_controls
from ddsp_cli.workflows.jobs import Job

#: Performances are measured at this rate where the model's own divides it: notes are found to 4 ms.
MEASURE_RATE_HZ = 250

#: A recording that never reaches this is silent, not hard to follow.
AUDIBLE_DB = -70.0

#: Trackers are less sure of soft sounds: where the loudest are softer than this, a louder copy is tracked.
QUIET_DB, USUAL_DB = -35.0, -15.0

#: Trackers hear nothing above 2.1 kHz, where whistling and high strings go on. Where a melody comes near that, or has
#: no pitch, it is tracked once more at half its speed, and what lies above the second figure is taken from there.
HIGH_HZ, HIGHER_HZ = 1400.0, 1800.0

Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class Performance:
    """What an instrument is to play, and what it came from.

    Attributes:
      adapted: the curves.
      features: of the recording; None where there was none.
      seconds: how long the sound shall be.
      info: of the recording.
      remarks: what makes it hard to follow.
    """

    adapted: Adapted
    features: Features | None
    seconds: float
    info: io.AudioInfo | None = None
    remarks: tuple[str, ...] = ()

    def n_samples(self, rate_hz: int) -> int:
        """Length of the output: the input's to the sample, brought to another rate."""
        if self.info is not None:
            n_samples = round(self.info.n_samples * rate_hz / self.info.sample_rate_hz)
            if abs(n_samples / rate_hz - self.seconds) <= 0.1:
                return n_samples
        return round(self.seconds * rate_hz)  # of curves, or where a header promised another length than there is

    def timbre(self, instrument: Instrument) -> Iterator[np.ndarray]:
        """What an instrument with an encoder follows besides the curves: the recording, read again block by block."""
        if self.features is not None and self.info is not None and instrument.model.encoder:
            yield from instrument.timbre(io.mono_blocks(self.info.path, ANALYSIS_RATE_HZ))


def perform(
    job: Job,
    instrument: Instrument,
    settings: AdaptSettings,
    tracker: str,
    curves: Path | None,
    progress: Progress,
    last: Performance | None = None,
) -> Performance:
    """Hears or reads the input of a job and fits it to an instrument.

    Args:
      job: names the input and its kind.
      instrument: to fit it to.
      settings: how.
      tracker: which pitch tracker listens.
      curves: a file of curves, for a job of that kind.
      progress: told how far it is.
      last: what the job before it heard; the same input is not heard twice.

    Raises:
      InputError: nothing to play in it.
    """
    level, statistics = instrument.model.level, instrument.bundle.card.statistics
    rate_hz = frame_rate(instrument)
    if job.kind == "controls":
        assert curves is not None
        adapted = read_controls(curves, level, rate_hz)
        return Performance(adapted, None, job.info.seconds if job.info else len(adapted) / rate_hz, job.info)
    if job.kind == "score":
        score = read_score(job.source)
        chords = "it holds chords; of each the highest note is played"
        remarks: tuple[str, ...] = (chords,) if score.n_overlapping else ()
        adapted = adapt_score(score, statistics, level, rate_hz, settings)
        return Performance(adapted, None, len(adapted) / rate_hz, None, remarks)
    assert job.info is not None
    spec = _spec(instrument, tracker)
    if last is not None and last.info is job.info and last.features is not None and last.features.spec == spec:
        features, remarks = last.features, last.remarks
    else:
        features, remarks = _hear(job.info, spec, settings, progress)
    try:
        adapted = adapt(features, statistics, level, settings)
    except InputError as problem:
        if not remarks:
            raise InputError(f"{job.source}: {problem.message}", problem.hint) from problem
        adapted = resting(len(features), rate_hz)
    return Performance(adapted, features, features.n_samples / ANALYSIS_RATE_HZ, job.info, remarks)


def frame_rate(instrument: Instrument) -> int:
    """Frames a second of the curves: fine, where the model's own rate divides that."""
    own_hz = instrument.model.frame_rate_hz
    return MEASURE_RATE_HZ if MEASURE_RATE_HZ % own_hz == 0 else own_hz


def _spec(instrument: Instrument, tracker: str) -> FeatureSpec:
    """How to measure: as for the instrument, but for the tracker: pitch is pitch, whoever finds it."""
    import msgspec

    return msgspec.structs.replace(instrument.bundle.card.features.at(frame_rate(instrument)), pitch=tracker)


def _measure(info: io.AudioInfo, spec: FeatureSpec, progress: Progress) -> Features:
    from ddsp_cli.features.extract import measure_file

    what = f"{info.path.name}: listening"
    return measure_file(info.path, spec, lambda done: progress(what, min(done, info.seconds), info.seconds))


def _hear(
    info: io.AudioInfo, spec: FeatureSpec, settings: AdaptSettings, progress: Progress
) -> tuple[Features, tuple[str, ...]]:
    """Features of a recording, and what makes it hard to follow, judged by its beginning."""
    features = _measure(info, spec, progress)
    if float(features.power_db.max(initial=-80.0)) < AUDIBLE_DB:
        return features, ()
    loud_db = float(percentiles(features.power_db, 98))
    gain = 10.0 ** ((USUAL_DB - loud_db) / 20.0) if loud_db < QUIET_DB else 1.0
    if gain > 1.0:
        features = _listen_closer(info, features, gain)
    if _ends_high(features, find_notes(features, settings.notes)):
        features = _listen_higher(info, features, gain)
    n_blocks = int(heard.LONGEST_S / 10.0)
    audio = np.concatenate(list(islice(io.mono_blocks(info.path, ANALYSIS_RATE_HZ, 10.0), n_blocks)))
    notes = find_notes(features, settings.notes)
    if heard.pitched_share(features, notes) >= heard.NOISE_PITCHED_SHARE:
        return features, tuple(heard.remarks(features, notes, audio))
    # Little of it has a pitch to a tracker of single voices. In chords the strongest voice has one all the same.
    track = track_strongest(io.mono_blocks(info.path, ANALYSIS_RATE_HZ, 10.0))
    f0_hz, confidence = pitch.on_grid(track, len(features), spec.hop_samples)
    strongest = replace(features, f0_hz=f0_hz, f0_confidence=confidence)
    if heard.pitched_share(strongest, find_notes(strongest, settings.notes)) >= heard.NOISE_PITCHED_SHARE:
        return strongest, (heard.CHORDS,)
    return features, (heard.NOISE,)


def _listen_closer(info: io.AudioInfo, features: Features, gain: float) -> Features:
    """The same features with the pitch of the sound made louder."""
    from ddsp_cli.features.extract import FeatureStream

    stream = FeatureStream(features.spec)
    for block in io.mono_blocks(info.path, ANALYSIS_RATE_HZ):
        stream.push(block * np.float32(gain))
    closer = stream.finish()
    return replace(features, f0_hz=closer.f0_hz, f0_confidence=closer.f0_confidence)


def _ends_high(features: Features, notes: Notes) -> bool:
    """Whether there may be notes too high for a tracker: beside high ones, or where there is hardly any."""
    pitched = features.f0_hz[notes.voiced]
    if len(pitched) and float(percentiles(pitched, 95)) > HIGH_HZ:
        return True
    return heard.pitched_share(features, notes) < heard.NOISE_PITCHED_SHARE


def _listen_higher(info: io.AudioInfo, features: Features, gain: float) -> Features:
    """The same features with the pitch of what is too high for the tracker, of the sound made louder."""
    import soxr

    stream = soxr.ResampleStream(ANALYSIS_RATE_HZ, 2 * ANALYSIS_RATE_HZ, 1, dtype="float32")
    tracker = pitch.open_tracker(features.spec.pitch)
    for block in io.mono_blocks(info.path, ANALYSIS_RATE_HZ):
        tracker.push(np.asarray(stream.resample_chunk(block * np.float32(gain))))
    tracker.push(np.asarray(stream.resample_chunk(np.zeros(0, np.float32), last=True)))
    slow = tracker.finish()
    track = replace(slow, f0_hz=2.0 * slow.f0_hz, hop_samples=slow.hop_samples // 2)
    f0_hz, confidence = pitch.on_grid(track, len(features), features.spec.hop_samples)
    higher = (f0_hz > HIGHER_HZ) & (features.power_db > features.spec.floor_db)
    return replace(
        features,
        f0_hz=np.where(higher, f0_hz, features.f0_hz),
        f0_confidence=np.where(higher, confidence, features.f0_confidence),
    )


def resting(n_frames: int, frame_rate_hz: int) -> Adapted:
    """Curves [F] of an instrument that has nothing to play."""
    nothing = np.zeros(0, np.int64)
    return Adapted(
        f0_hz=np.full(n_frames, 440.0, np.float32),
        level_db=np.full(n_frames, -80.0, np.float32),
        gate=np.zeros(n_frames, np.float32),
        transpose_semitones=0.0,
        notes=Notes(nothing, nothing, np.zeros(n_frames, bool), np.inf, -80.0),
        frame_rate_hz=frame_rate_hz,
    )
