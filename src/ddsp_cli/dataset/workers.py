"""Many recordings examined at once by worker processes that a bad file cannot take down.

The work of a worker process: one recording measured, judged and cut.

Neither TensorFlow nor Keras is imported here (but for the tracker crepe). Shapes: S samples, F frames.
"""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli.analysis import extract
from ddsp_cli.analysis.pitch.tracker import VOICED_CONFIDENCE
from ddsp_cli.analysis.recording_checks import ClippingWatch, HumWatch
from ddsp_cli.audio import read, resample
from ddsp_cli.checksum import sha256
from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.dataset import segments
from ddsp_cli.dataset.cache import Job, Measured, Take, finished, judge, known, read_floats, remember, write_floats
from ddsp_cli.dataset.manifest import Doubt
from ddsp_cli.errors import InputError

#: Notes that reach only this level in dBFS (95th percentile) are said to be very quiet.
QUIET_DB = -50.0

#: Why a recording is left out that has no monophonic segment.
POLYPHONIC = "is polyphonic throughout"

#: Doubtful places of one recording that are listed; their total length is always counted.
MAX_DOUBTS = 200

#: Peaks are compared over stretches of this length, so that a click is one of many and not the measure of all.
STRETCH_S = 0.02

Tick = Callable[[float], None]


def examine(job: Job, tick: Tick | None = None) -> Take:
    """Measures a recording, finds its notes, and writes what is to be kept below `job.stem`.

    A recording that cannot be used is no error here: the take says why. One that was examined before is not again.

    Args:
      job: what to do.
      tick: told how many more seconds of sound have been measured; may raise to stop the work.

    Raises:
      OSError: what is kept cannot be written.
    """
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
        take = finished(job, digest) or _examine(job, digest, progress).save()
    except InputError as problem:
        take = Take(job, digest, done_s if digest else 0.0, reason=problem.message.replace(f"{job.path} ", "", 1))
        take = take.save() if digest else take
    except OSError as problem:
        if digest:  # the input could be read: it is our own result that cannot be written
            raise
        take = Take(job, reason=f"cannot be read: {problem.strerror or problem}")
    tell(max(0.0, seconds - done_s))
    return take


def _examine(job: Job, digest: str, progress: Tick) -> Take:
    before = known(job.measured, digest, job.spec.hop_samples)
    if before is not None:
        return keep(job, before, digest, {})
    spool = job.stem.with_name(f".{secrets.token_hex(6)}.spool")
    try:
        measured = _measure(job, spool, progress)
        if job.measured is not None:
            remember(job.measured / f"{digest}.measured", measured)
        return keep(job, measured, digest, {ANALYSIS_RATE_HZ: spool})
    finally:
        spool.unlink(missing_ok=True)


def _measure(job: Job, spool: Path, progress: Tick) -> Measured:
    """Decodes a recording once: measured as it comes in, and put aside at 16 kHz for what needs a second look."""
    stream = extract.FeatureStream(job.spec, threads=1, weights=job.weights, with_loudness=False)
    clipping, hum = ClippingWatch(), HumWatch()
    resampler: resample.Resampler | None = None
    n_samples = rate_hz = 0
    with spool.open("wb") as file:

        def take_in(block_16k: np.ndarray) -> None:
            nonlocal n_samples
            if len(block_16k):
                stream.push(block_16k)
                hum.push(block_16k)
                file.write(np.ascontiguousarray(block_16k, "<f4").tobytes())
                n_samples += len(block_16k)
                progress(len(block_16k) / ANALYSIS_RATE_HZ)

        for info, block in read.decoded_blocks(job.path, watch=clipping):
            rate_hz = info.sample_rate_hz
            resampler = resampler or resample.Resampler(rate_hz, ANALYSIS_RATE_HZ)
            take_in(resampler.push(block))
        if resampler is not None:
            take_in(resampler.finish())
    features = stream.finish()
    remarks = []
    if (humming := hum.finish()) is not None:
        remarks.append(f"hums at {humming[0]} Hz and its multiples ({humming[1]:.0f} dBFS)")
    return judge(features.f0_hz, features.f0_confidence, features.power_db, spool, n_samples,
                 features.spec.frame_rate_hz, clipping.places_s(rate_hz), remarks)  # fmt: skip


def keep(job: Job, measured: Measured, digest: str, spools: Mapping[int, Path]) -> Take:
    """Cuts out what is worth learning from and writes it.

    Args:
      job: what to do.
      measured: of the recording.
      digest: of the file.
      spools: rate → the sound as float32, where it was put aside; else the recording is decoded again.
    """
    rate_hz = job.spec.frame_rate_hz
    take = Take(
        job,
        digest,
        measured.n_samples / ANALYSIS_RATE_HZ,
        polyphonic_s=float(measured.polyphonic.sum()) / rate_hz,
        doubts=_worst(measured.doubts),
        n_doubts=dict(Counter(doubt.kind for doubt in measured.doubts)),
        remarks=(*_remarks(measured),),
    )
    if measured.power_db.max(initial=job.spec.floor_db) <= job.spec.floor_db:
        return replace(take, reason="is silent")
    notes = segments.note_frames(measured.f0_hz, measured.power_db, rate_hz)
    if not notes.any():
        return replace(take, reason="holds no note: no pitch was found")
    unwanted = np.zeros_like(notes) if job.keep_polyphonic else measured.polyphonic
    kept = segments.segments(notes, rate_hz, unwanted)
    if not kept:
        return replace(take, reason=POLYPHONIC)
    notes = notes & ~unwanted
    confidence = np.where(notes, measured.confidence, np.minimum(measured.confidence, 0.98 * VOICED_CONFIDENCE))
    rows = (np.where(notes, measured.f0_hz, 0.0), confidence, measured.power_db)
    gathered = [segments.gather(row, kept) for row in rows]
    parts = {job.frames_file.name: write_floats(job.frames_file, gathered)}
    peaks = _Peaks()
    for audio_hz in job.rates_hz:
        blocks = _sound(job, audio_hz, spools.get(audio_hz))
        path = job.audio_file(audio_hz)
        parts[path.name] = write_floats(path, peaks.watch(segments.cut(blocks, kept, audio_hz, rate_hz), audio_hz))
    return replace(
        take,
        n_frames=segments.total_frames(kept),
        note_s=float((gathered[0] > 0).sum()) / rate_hz,
        peak=peaks.greatest,
        loud_peak=peaks.without_clicks(),
        parts=parts,
    )


def _sound(job: Job, rate_hz: int, spool: Path | None) -> Iterator[np.ndarray]:
    if spool is None:
        return read.mono_blocks(job.path, rate_hz)
    return read_floats(spool, 0, spool.stat().st_size // 4, 10 * rate_hz)


class _Peaks:
    """The greatest sample, and the greatest of all but the few loudest stretches."""

    def __init__(self) -> None:
        self.greatest = 0.0
        self._stretches: dict[int, list[np.ndarray]] = {}

    def watch(self, blocks: Iterable[np.ndarray], rate_hz: int) -> Iterator[np.ndarray]:
        """Passes blocks [S] on and looks at them."""
        size = round(STRETCH_S * rate_hz)
        found = self._stretches.setdefault(rate_hz, [])
        for block in blocks:
            level = np.abs(block)
            found.append(np.maximum.reduceat(level, np.arange(0, len(level), size)) if len(level) else level)
            self.greatest = max(self.greatest, float(level.max(initial=0.0)))
            yield block

    def without_clicks(self) -> float:
        """No more than 3 dB above what 99.5 % of the stretches stay below."""
        usual = max(float(np.percentile(np.concatenate(found), 99.5)) for found in self._stretches.values() if found)
        return min(self.greatest, usual * 2.0**0.5)


def _worst(doubts: tuple[Doubt, ...]) -> tuple[Doubt, ...]:
    """The longest, in order of time, where there are too many to list."""
    if len(doubts) <= MAX_DOUBTS:
        return doubts
    longest = sorted(doubts, key=lambda doubt: doubt.start_s - doubt.end_s)[:MAX_DOUBTS]
    return tuple(sorted(longest, key=lambda doubt: (doubt.start_s, doubt.kind)))


def _remarks(measured: Measured) -> Iterator[str]:
    n_clipped = sum(doubt.kind == "clipping" for doubt in measured.doubts)
    if n_clipped:
        yield f"is clipped in {n_clipped} place{'s' if n_clipped > 1 else ''}"
    yield from measured.remarks
    voiced = measured.f0_hz > 0
    if voiced.any() and np.percentile(measured.power_db[voiced], 95) < QUIET_DB:
        yield "is very quiet: its noise will be raised with it"


#: How often progress is looked at.
_POLL_S = 0.2

_shared: list[Any] = []  # in a worker: seconds done by all, and whether to stop


class _StoppedError(Exception):
    """The run was interrupted; the worker gives up its recording."""


def default_workers() -> int:
    """The cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def examine_all(jobs: Sequence[Job], workers: int, tick: Callable[[float], None]) -> list[Take]:
    """Examines recordings, several at a time.

    Args:
      jobs: what to do.
      workers: how many processes; 1 does it in this one.
      tick: told how many seconds of sound were measured since it was last called.

    Returns:
      One take per job, in the order of the jobs.
    """
    if workers <= 1 or len(jobs) <= 1:
        return [examine(job, tick) for job in jobs]
    takes: dict[int, Take] = {}
    _run(dict(enumerate(jobs)), workers, tick, takes)
    # A decoder that crashed took the pool with it: what was under way is done again, each in a process of its own.
    for index, job in enumerate(jobs):
        if index not in takes:
            _run({index: job}, 1, tick, takes)
            takes.setdefault(index, Take(job, reason="crashed the program that reads it; it is probably damaged"))
    return [takes[index] for index in range(len(jobs))]


def _run(jobs: dict[int, Job], workers: int, tick: Callable[[float], None], takes: dict[int, Take]) -> None:
    """Fills `takes` as far as the worker processes live."""
    # A forked process would inherit the threads' locks of libraries already in use.
    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("d", 0.0), context.Event()
    reported = 0.0
    executor = ProcessPoolExecutor(min(workers, len(jobs)), context, _start_worker, (counter, stop))
    try:
        pending: dict[Future[Take], int] = {executor.submit(_work, job): index for index, job in jobs.items()}
        while pending:
            done, _ = wait(pending, _POLL_S, FIRST_COMPLETED)
            for future in done:
                takes[pending.pop(future)] = future.result()
            now = float(counter.value)
            tick(now - reported)
            reported = now
    except BrokenProcessPool:
        return
    finally:
        stop.set()
        executor.shutdown(wait=True, cancel_futures=True)


def _start_worker(counter: Any, stop: Any) -> None:
    _shared[:] = counter, stop
    # Ctrl-C reaches the whole group; the parent alone answers it and tells the workers to stop.
    for name in ("SIGINT", "SIGHUP"):  # a terminal that closes reaches the whole group too
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    # Decoders remark on every damaged frame there, behind Python's back; what matters comes back as a result.
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(job: Job) -> Take:
    return examine(job, _tick)


def _tick(seconds: float) -> None:
    counter, stop = _shared
    if stop.is_set():
        raise _StoppedError
    with counter.get_lock():
        counter.value += seconds
