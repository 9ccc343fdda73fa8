"""Measure one recording and cut out its notes; `executors` does so for many at the same time.

A recording is decoded once. Its features are measured as it comes in; its audio at 16 kHz is spooled for octave
correction and for the search for polyphony. Neither TensorFlow nor Keras is imported here (but for the
tracker crepe). Shapes: S samples, F frames.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from ddsp_cli.analysis import extract
from ddsp_cli.analysis.melody import judge_manner
from ddsp_cli.analysis.pitch.octave_correction import correct_octaves
from ddsp_cli.analysis.pitch.trackers import UNVOICED_CONFIDENCE
from ddsp_cli.analysis.recording_checks import ClippingWatch, HumWatch
from ddsp_cli.arrays import percentiles, runs
from ddsp_cli.audio import read, resample
from ddsp_cli.checksum import sha256
from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.dataset import nsynth, segments
from ddsp_cli.dataset.cache import (
    CutRecording,
    Job,
    Measured,
    Spool,
    load_cut,
    load_measured,
    save_measured,
    write_floats,
)
from ddsp_cli.dataset.manifest import Doubt, DoubtKind, NoteLabel
from ddsp_cli.errors import DdspError, InputError
from ddsp_cli.pitch_names import note_name
from ddsp_cli.remote import is_address, local_copy
from ddsp_cli.scaling import hz_to_midi

#: Level of the notes in dBFS (95th percentile) below which a recording gets the remark that it is very quiet.
QUIET_DB = -50.0

#: Largest distance of a note from its label without a remark.
LABEL_SEMITONES = 0.7

#: Whether a recording is sung or spoken is judged by its first notes, of this total duration; shorter ones are not
#: judged.
JUDGED_S, LEAST_JUDGED_S = 30.0, 1.0

#: Remark about one that is spoken.
SPEECH = "sounds like speech"

#: Reason given for a recording without a monophonic segment.
POLYPHONIC = "is polyphonic throughout"

#: Doubtful places of one recording that are listed; all are counted.
MAX_DOUBTS = 200

#: Peaks are taken over stretches of this length, so that a click is one of many.
STRETCH_S = 0.02

#: Polyphony shorter than this is ignored, and monophonic moments shorter than `BETWEEN_S` between two polyphonic ones
#: count as polyphonic.
LEAST_POLYPHONY_S = 0.06
BETWEEN_S = 0.3

Tick = Callable[[float], None]


def examine(job: Job, tick: Tick | None = None) -> CutRecording:
    """Measures a recording, finds its notes, and writes the segments beside `job.stem`.

    A recording that cannot be used is not an error here: the result says why. Work that an earlier run has
    finished is not repeated.

    Args:
      job: to do.
      tick: called with how many more seconds of sound have been measured; may raise to stop the work.

    Raises:
      OSError: a measurement cannot be written.
    """
    if job.offset is not None:
        return _examine_note(job, tick)
    if is_address(job.path):
        try:
            with local_copy(job.path, job.stem.parent) as copy:
                return replace(examine(replace(job, path=copy), tick), job=job)
        except InputError as problem:
            return CutRecording(job, reason=problem.message.replace(f"{job.path} ", "", 1))
    tell = tick or (lambda _: None)
    digest = ""
    seconds = done_s = 0.0

    def progress(more_s: float) -> None:
        nonlocal done_s
        tell(more_s)
        done_s += more_s

    try:
        seconds = read.probe(job.path).seconds
        digest = sha256(job.path)
        found = load_cut(job, digest) or _examine(job, digest, progress).save()
    except InputError as problem:
        found = CutRecording(
            job, digest, done_s if digest else 0.0, reason=problem.message.replace(f"{job.path} ", "", 1)
        )
        found = found.save() if digest else found
    except OSError as problem:
        if digest:  # the input could be read: it is our own result that cannot be written
            raise
        found = CutRecording(job, reason=f"cannot be read: {problem.strerror or problem}")
    tell(max(0.0, seconds - done_s))
    return found


def _examine_note(job: Job, tick: Tick | None) -> CutRecording:
    """Runs `examine` on a record of a TFRecord file, whose sound is written to a temporary file."""
    import soundfile

    assert job.offset is not None
    copy = job.stem.with_name(f".{secrets.token_hex(6)}.au")  # a format of the same bytes for the same sound
    try:
        try:
            audio, rate_hz = nsynth.read_note(job.path, job.offset)
        except DdspError as problem:
            return CutRecording(job, reason=problem.message)
        soundfile.write(copy, audio, rate_hz, "FLOAT", format="AU")
        return replace(examine(replace(job, path=copy, offset=None), tick), job=job)
    finally:
        copy.unlink(missing_ok=True)


def _examine(job: Job, digest: str, progress: Tick) -> CutRecording:
    before = load_measured(job.measured, digest, job.spec.hop_samples)
    if before is not None:
        return cut_out(job, before, digest, {})
    with Spool(job.stem.with_name(f".{secrets.token_hex(6)}.spool")) as spool:
        measured = measure(job, spool, progress)
        if job.measured is not None:
            save_measured(job.measured / f"{digest}.measured", measured)
        return cut_out(job, measured, digest, {ANALYSIS_RATE_HZ: spool})


def measure(job: Job, spool: Spool, progress: Tick) -> Measured:
    """Measures a recording while it is decoded, and spools its audio at 16 kHz.

    Args:
      job: of the recording.
      spool: for the audio at 16 kHz.
      progress: called with seconds of sound done.

    Returns:
      Features, and the results of the recording checks.

    Raises:
      InputError: as `read.mono_blocks`.
    """
    stream = extract.FeatureStream(job.spec, threads=1, weights=job.weights, with_loudness=False)
    clipping, hum = ClippingWatch(), HumWatch()
    resampler: resample.Resampler | None = None
    rate_hz = 0
    decoded = read.Decoded()

    def take_in(block_16k: np.ndarray) -> None:
        if len(block_16k):
            stream.push(block_16k)
            hum.push(block_16k)
            spool.push(block_16k)
            progress(len(block_16k) / ANALYSIS_RATE_HZ)

    for info, block in read.decoded_blocks(job.path, watch=clipping, decoded=decoded):
        rate_hz = info.sample_rate_hz
        resampler = resampler or resample.Resampler(rate_hz, ANALYSIS_RATE_HZ)
        take_in(resampler.push(block))
    if resampler is not None:
        take_in(resampler.finish())
    if not spool.n_samples:
        raise read.too_short(job.path, ANALYSIS_RATE_HZ)
    features = stream.finish()
    remarks = [read.OPPOSITE] if decoded.is_opposite else []
    if (humming := hum.finish()) is not None:
        remarks.append(f"hums at {humming[0]} Hz and its multiples ({humming[1]:.0f} dBFS)")
    return assess(features.f0_hz, features.f0_confidence, features.power_db, spool,
                 features.spec.frame_rate_hz, clipping.places_s(rate_hz), remarks)  # fmt: skip


def assess(
    f0_hz: np.ndarray, confidence: np.ndarray, power_db: np.ndarray, spool: Spool, frame_rate_hz: int,
    clipped_s: Iterable[tuple[float, float]] = (), remarks: Iterable[str] = (),
) -> Measured:  # fmt: skip
    """Corrects octave errors of the F0 and finds polyphonic frames.

    Args:
      f0_hz, confidence, power_db: [F] as measured.
      spool: the audio at 16 kHz.
      frame_rate_hz: of the frames.
      clipped_s: start and end of each clipped place.
      remarks: those found before.
    """
    corrected = correct_octaves(spool.read, spool.n_samples, f0_hz, frame_rate_hz)
    voiced = corrected.f0_hz > 0
    polyphonic = corrected.harmonicity.polyphonic(len(f0_hz), frame_rate_hz)
    polyphonic = segments.without_short_runs(polyphonic & voiced, round(LEAST_POLYPHONY_S * frame_rate_hz))
    polyphonic = ~segments.without_short_runs(~polyphonic, round(BETWEEN_S * frame_rate_hz)) & polyphonic.any()
    places: tuple[tuple[DoubtKind, np.ndarray], ...] = (
        ("polyphony", polyphonic), ("octave", corrected.corrected), ("jump", corrected.removed),
    )  # fmt: skip
    doubts = [
        Doubt(kind=kind, start_s=round(int(start) / frame_rate_hz, 2), end_s=round(int(end) / frame_rate_hz, 2))
        for kind, mask in places
        for start, end in zip(*runs(mask), strict=True)
    ]
    doubts += [Doubt(kind="clipping", start_s=round(start, 2), end_s=round(end, 2)) for start, end in clipped_s]
    confidence = np.where(voiced, confidence, np.minimum(confidence, UNVOICED_CONFIDENCE))
    return Measured(
        f0_hz=corrected.f0_hz,
        confidence=confidence.astype(np.float32),
        power_db=power_db,
        polyphonic=polyphonic,
        n_samples=spool.n_samples,
        doubts=tuple(sorted(doubts, key=lambda doubt: (doubt.start_s, doubt.kind))),
        remarks=tuple(remarks),
    )


def cut_out(job: Job, measured: Measured, digest: str, spools: Mapping[int, Spool]) -> CutRecording:
    """Cuts out the notes with some of the rests around them, and writes them.

    Args:
      job: to do.
      measured: features of the recording.
      digest: SHA-256 of the file.
      spools: sample rate → spooled audio; at other rates the recording is decoded again.
    """
    rate_hz = job.spec.frame_rate_hz
    found = CutRecording(
        job,
        digest,
        measured.n_samples / ANALYSIS_RATE_HZ,
        polyphonic_s=float(measured.polyphonic.sum()) / rate_hz,
        doubts=_longest(measured.doubts),
        n_doubts=dict(Counter(doubt.kind for doubt in measured.doubts)),
        remarks=(*_remarks(measured, job.label, rate_hz),),
    )
    if measured.power_db.max(initial=job.spec.floor_db) <= job.spec.floor_db:
        return replace(found, reason="is silent")
    notes = segments.note_frames(measured.f0_hz, measured.power_db, rate_hz)
    if not notes.any():
        return replace(found, reason="holds no note: no pitch was found")
    unwanted = np.zeros_like(notes) if job.keep_polyphonic else measured.polyphonic
    kept = segments.segments(notes, rate_hz, unwanted)
    if not kept:
        return replace(found, reason=POLYPHONIC)
    notes = notes & ~unwanted
    confidence = np.where(notes, measured.confidence, np.minimum(measured.confidence, UNVOICED_CONFIDENCE))
    rows = (np.where(notes, measured.f0_hz, 0.0), confidence, measured.power_db)
    gathered = [segments.gather(row, kept) for row in rows]
    parts = {job.frames_file.name: write_floats(job.frames_file, gathered)}
    peaks = _Peaks()
    for audio_hz in job.rates_hz:
        blocks = _audio(job, audio_hz, spools.get(audio_hz))
        path = job.audio_file(audio_hz)
        parts[path.name] = write_floats(path, peaks.watch(segments.cut(blocks, kept, audio_hz, rate_hz), audio_hz))
    return replace(
        found,
        n_frames=segments.total_frames(kept),
        note_s=float((gathered[0] > 0).sum()) / rate_hz,
        peak=peaks.largest,
        loud_peak=peaks.without_clicks(),
        parts=parts,
    )


def _audio(job: Job, rate_hz: int, spool: Spool | None) -> Iterator[np.ndarray]:
    return read.mono_blocks(job.path, rate_hz) if spool is None else spool.blocks(10 * rate_hz)


class _Peaks:
    """The largest absolute sample, and the same without clicks."""

    def __init__(self) -> None:
        self.largest = 0.0
        self._stretches: dict[int, list[np.ndarray]] = {}

    def watch(self, blocks: Iterable[np.ndarray], rate_hz: int) -> Iterator[np.ndarray]:
        """Passes blocks [S] on and keeps their peaks."""
        size = round(STRETCH_S * rate_hz)
        found = self._stretches.setdefault(rate_hz, [])
        for block in blocks:
            level = np.abs(block)
            found.append(np.maximum.reduceat(level, np.arange(0, len(level), size)) if len(level) else level)
            self.largest = max(self.largest, float(level.max(initial=0.0)))
            yield block

    def without_clicks(self) -> float:
        """Returns the largest level, at most 3 dB above the 99.5th percentile of the stretches."""
        usual = max(float(percentiles(np.concatenate(found), 99.5)) for found in self._stretches.values() if found)
        return min(self.largest, usual * 2.0**0.5)


def _longest(doubts: tuple[Doubt, ...]) -> tuple[Doubt, ...]:
    """Returns the longest in order of time, where there are too many to list."""
    if len(doubts) <= MAX_DOUBTS:
        return doubts
    longest = sorted(doubts, key=lambda doubt: doubt.start_s - doubt.end_s)[:MAX_DOUBTS]
    return tuple(sorted(longest, key=lambda doubt: (doubt.start_s, doubt.kind)))


def _remarks(measured: Measured, label: NoteLabel | None, rate_hz: int) -> Iterator[str]:
    n_clipped = sum(doubt.kind == "clipping" for doubt in measured.doubts)
    if n_clipped:
        yield f"is clipped in {n_clipped} place{'s' if n_clipped > 1 else ''}"
    yield from measured.remarks
    voiced = measured.f0_hz > 0
    if voiced.any() and percentiles(measured.power_db[voiced], 95) < QUIET_DB:
        yield "is very quiet: its noise will be raised with it"
    if label is None and _is_spoken(measured, rate_hz):
        yield SPEECH
    if label is not None and voiced.any():
        pitch_midi = float(np.median(hz_to_midi(measured.f0_hz[voiced])))
        if abs(pitch_midi - label.pitch_midi) > LABEL_SEMITONES:
            yield f"is labelled {note_name(label.pitch_midi)} and was measured as {note_name(pitch_midi)}"


def _is_spoken(measured: Measured, rate_hz: int) -> bool:
    """Whether the pitch of a recording moves as in speech."""
    notes = segments.note_frames(measured.f0_hz, measured.power_db, rate_hz) & ~measured.polyphonic
    n_notes = np.cumsum(notes)
    if not len(notes) or n_notes[-1] < LEAST_JUDGED_S * rate_hz:
        return False
    end = int(np.searchsorted(n_notes, min(n_notes[-1], JUDGED_S * rate_hz))) + 1
    known = np.where(notes[:end], measured.f0_hz[:end], 1.0)
    return judge_manner(np.where(notes[:end], hz_to_midi(known), np.nan), rate_hz) == "spoken"
