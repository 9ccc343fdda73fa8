"""`ddsp transfer`: recordings, MIDI files and edited curves, played on instruments.

`transfer_plan` decides which file goes where, `performance` analyses an input, adapts it and renders it. Here: results,
arrays, files, and files in several processes. Shapes: S samples, C channels.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar, overload

import msgspec
import numpy as np

from ddsp_cli.adaptation import NOTE_SUFFIXES, SCORE_SUFFIXES
from ddsp_cli.arrays import FloatArray
from ddsp_cli.atomic import write_bytes, writing
from ddsp_cli.audio import read
from ddsp_cli.audio.integrated_loudness import integrated_lufs
from ddsp_cli.audio.recording import ArrayRecording
from ddsp_cli.audio.write import check_writable, fit_level, write_fitting
from ddsp_cli.errors import InputError, Kind, OutputError, UsageError
from ddsp_cli.limits import end_with_parent, undisturbed_start
from ddsp_cli.workflows import models
from ddsp_cli.workflows.arguments import PathLike, as_path, as_paths
from ddsp_cli.workflows.performance import (
    Performance,
    Player,
    TransferOptions,
    make_player,
    perform,
    perform_recording,
    render,
    resting,
    short_of_db,
    target_lufs,
)
from ddsp_cli.workflows.transfer_plan import Failure, Job, Outputs, folders_for, plan_jobs, written_rate

#: Called with a description of the current step, seconds of sound done, and seconds in all.
Progress = Callable[[str, float, float], None]

# --- results ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TransferResult:
    """One input, played on one instrument.

    Attributes:
      input, output: files.
      plot, controls, notes: files of the picture, the curves and the notes, where requested.
      instrument: its name.
      seconds: length of the output.
      wall_s: how long it took.
      transpose_semitones: the shift that was applied.
      key: the scale of autotune; empty without autotune.
      n_segments: segments between rests.
      peak: of the output, 1 is full scale.
      gain_db: gain that was applied, to match a loudness or to fit below full scale.
      loudness_lufs: integrated loudness of the output; None where no loudness was requested.
      short_of_db: by how much the output is softer than the requested loudness, because its peak is at full scale.
      sample_rate_hz: of the output.
      tail_s: how long the room rings.
      n_players: that played the part together.
      n_voices: that were played, of chords.
      remarks: faults of the input, difficulties for the tracker, parts that are played; as sentences.
      notices: the remarks that are not warnings, such as the voice that is played.
    """

    input: Path
    output: Path
    plot: Path | None
    controls: Path | None
    instrument: str
    seconds: float
    wall_s: float
    transpose_semitones: float
    key: str
    n_segments: int
    peak: float
    gain_db: float
    loudness_lufs: float | None
    short_of_db: float
    sample_rate_hz: int
    tail_s: float
    remarks: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    notes: Path | None = None
    n_players: int = 1
    n_voices: int = 1


ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Batch(Sequence[ResultT]):
    """Results of several inputs, as a sequence, and the inputs that failed.

    Attributes:
      results: one for each input and instrument, in order.
      failures: inputs that could not be played.
      own: sound files in the given folders that this program wrote itself, which were left out.
      report: the page, where one was requested.
    """

    results: tuple[ResultT, ...]
    failures: tuple[Failure, ...] = ()
    own: tuple[Path, ...] = ()
    report: Path | None = None

    def __len__(self) -> int:
        return len(self.results)

    @overload
    def __getitem__(self, index: int) -> ResultT: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ResultT]: ...
    def __getitem__(self, index: int | slice) -> ResultT | Sequence[ResultT]:
        return self.results[index]


# --- arrays ----------------------------------------------------------------------------------------------------------


def transfer_audio(
    audio: FloatArray, sample_rate_hz: int, player: Player, options: TransferOptions
) -> tuple[FloatArray, int]:
    """Plays sound in memory on an instrument.

    Args:
      audio: [S], or [C, S] whose channels are averaged; finite.
      sample_rate_hz: its rate.
      player: what plays.
      options: how.

    Returns:
      Sound [S] (of a section [2, S]), and its sample rate: that of the input, or the instrument's where that is higher.

    Raises:
      InputError: no notes in it.
    """
    channels = np.atleast_2d(audio)
    n_samples = channels.shape[1]
    known = Performance(
        resting(0, 1),
        0.0,
        info=read.AudioInfo(Path(), sample_rate_hz, len(channels), n_samples, n_samples / sample_rate_hz),
        n_input_samples=n_samples,
        loudness_lufs=integrated_lufs([read.average_channels(channels.T)], sample_rate_hz)
        if options.loudness_match == "input"
        else None,
    )
    recording = ArrayRecording(channels, sample_rate_hz)
    performance = perform_recording(recording, player.instrument, options, lambda done_s: None, known)
    rate_hz = max(sample_rate_hz, player.instrument.model.sample_rate_hz)
    blocks, n_samples = render(performance, player, options, rate_hz)
    target = target_lufs(performance, options)
    with fit_level(blocks, rate_hz, n_samples=n_samples, target_lufs=target) as fitted:
        return np.concatenate(list(fitted.blocks())).T, rate_hz


# --- files -----------------------------------------------------------------------------------------------------------


def transfer_files(
    inputs: PathLike | Sequence[PathLike],
    model: PathLike | Sequence[PathLike],
    out: PathLike | None = None,
    *,
    options: TransferOptions | None = None,
    force: bool = False,
    plot: bool = False,
    sample_rate_hz: int | None = None,
    bits: str | int | None = None,
    controls: PathLike | None = None,
    from_controls: PathLike | None = None,
    from_notes: PathLike | None = None,
    notes: PathLike | None = None,
    report: PathLike | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Batch[TransferResult]:
    """Plays files on instruments and writes them.

    Every path is checked before the first sound is made. Memory does not depend on the length of the sound. Of several
    inputs those that cannot be played are left out and listed in the result.

    Args:
      inputs: sound files, folders of them, or MIDI files.
      model: an instrument's name, its folder, or a `.tflite` of DDSP-VST; a blend, see `models.choose`; several of
        them, or "all".
      out: a file (for one input and one instrument), or a folder; by default `INPUT_MODEL.wav` in the current folder.
      options: how it is played, see `make_options`.
      force: replace files that exist.
      plot: also draw a picture, beside the sound.
      sample_rate_hz: of the output; by default the input's own, or the instrument's where that is higher.
      bits: `16`, `24`, `32` or `float`; by default as the input.
      controls: a .csv or .npz for the curves that are played, or a folder for several.
      from_controls: such a file to play; then `inputs` may be empty.
      from_notes: such notes of the one input, edited; they are played with the curves of the recording inside them.
      notes: a .mid or .csv for the notes of the recording, or a folder for several.
      report: an HTML page to write, with players and pictures.
      workers: processes at most, for several inputs that last long enough.
      progress: called while the work is done, see `Progress`.

    Raises:
      UsageError: options that exclude each other.
      InputError: the only input cannot be played, or none of several; an input is missing.
      ModelError: no such instrument, or a damaged one.
      OutputError: an output exists already or cannot be written.
    """
    options = options or TransferOptions()
    outputs = Outputs(as_path(out), force, plot, as_path(controls), as_path(notes), sample_rate_hz, bits)
    curves, page = as_path(from_controls), as_path(report)
    choices = models.choose_all([model] if isinstance(model, str | os.PathLike) else model)
    edited = as_path(from_notes)
    if edited is not None:
        check_edited(edited, as_paths(inputs), curves, options)
    also_read = [path for path in (edited, Path(options.room)) if path is not None and path.is_file()]
    plan = plan_jobs(as_paths(inputs), [choice.title for choice in choices], outputs, curves, also_read)
    selection = options.selection
    if selection is not None and not any(job.kind == "score" for job in plan.jobs):
        raise UsageError("only MIDI files have tracks and channels", "Leave it out.",
                         parameter="track" if selection.tracks else "channel")  # fmt: skip
    if page is not None:
        if page.suffix.lower() not in {".html", ".htm"}:
            raise UsageError(f"{page} is not an .html file", parameter="report")
        check_writable(page, force)
    work = _Work(tuple(choices), options, curves, edited, force, draw=plot or page is not None)
    players = work.players()  # an instrument that cannot be played fails before any sound is made
    by_source: list[list[Job]] = []
    for job in plan.jobs:
        if job.model == 0:
            by_source.append([])
        by_source[-1].append(job)
    bar = _BatchProgress(progress, by_source)
    n_workers = min(workers, len(by_source)) if bar.total_s >= WORTH_PROCESSES_S else 1
    with folders_for(plan.jobs):
        if n_workers > 1:
            done = _play_in_processes(by_source, work, n_workers, bar)
        else:
            done = [_play_source(jobs, players, work, bar) for jobs in by_source]
        failures = [*plan.failures, *(outcome for outcome in done if isinstance(outcome, Failure))]
        played = [one for outcome in done if not isinstance(outcome, Failure) for one in outcome]
        if failures and not played:
            raise failures[0].error
        if page is not None:
            from ddsp_cli.reports.pages import write_transfer_report

            write_transfer_report(page, [one.result for one in played], [one.picture for one in played], force)
    return Batch(tuple(one.result for one in played), tuple(failures), tuple(plan.own), page)


def check_edited(edited: Path, inputs: Sequence[Path], curves: Path | None, options: TransferOptions) -> None:
    """Checks that edited notes can be played.

    Raises:
      UsageError: there is not exactly one recording, curves or chords are played, or the file has another suffix.
      InputError: the file does not exist.
    """
    is_sound = len(inputs) == 1 and not inputs[0].is_dir() and inputs[0].suffix.lower() not in SCORE_SUFFIXES
    if not is_sound or curves is not None:
        raise UsageError("edited notes are played with the one recording that they were found in",
                         "Name that recording.", parameter="from_notes")  # fmt: skip
    if options.voices == "chords":
        raise UsageError("only the notes of one line can be edited", parameter="from_notes")
    if edited.suffix.lower() not in NOTE_SUFFIXES:
        raise UsageError(f"{edited} is neither .mid nor .csv", parameter="from_notes")
    if not edited.is_file():
        raise InputError(f"{edited} does not exist" if not edited.exists() else f"{edited} is not a file")


class _Work(msgspec.Struct, frozen=True):
    """Settings that all jobs share; can be sent to another process."""

    choices: tuple[models.Choice, ...]
    options: TransferOptions
    curves: Path | None
    edited: Path | None
    force: bool
    draw: bool

    def players(self) -> list[Player]:
        """Returns the instruments, loaded."""
        return [make_player(choice.name, choice.load(), self.options) for choice in self.choices]


class _Played(NamedTuple):
    """The result of a job, and its picture if one was requested."""

    result: TransferResult
    picture: bytes


class _BatchProgress:
    """Progress of one input by itself, of several inputs together.

    Args:
      progress: called with the seconds that are done, see `transfer_files`.
      by_source: the jobs of each input.
    """

    def __init__(self, progress: Progress | None, by_source: Sequence[Sequence[Job]]) -> None:
        self._progress, self._n_sources = progress, len(by_source)
        self.total_s = sum(self.seconds(jobs[0]) * (1 + len(jobs)) for jobs in by_source)
        self._before_s = 0.0

    @staticmethod
    def seconds(job: Job) -> float:
        """Returns the length of an input, where it is known."""
        return job.info.seconds if job.info is not None else 10.0

    def stage(self, job: Job, what: str) -> Callable[[float], None]:
        """Takes the seconds of sound that are done in one stage of a job."""
        seconds = self.seconds(job)

        def tell(done_s: float) -> None:
            if self._progress is None:
                return
            done_s = min(done_s, seconds)
            if self._n_sources == 1:
                self._progress(f"{job.source.name}: {what}", done_s, seconds)
            else:
                self._progress(f"{self._n_sources} files", self._before_s + done_s, self.total_s)

        return tell

    def advance(self, seconds: float) -> None:
        """Counts a finished stage with its seconds."""
        self._before_s += seconds
        if self._progress is not None and self._n_sources > 1:
            self._progress(f"{self._n_sources} files", self._before_s, self.total_s)


def _play_source(
    jobs: Sequence[Job], players: Sequence[Player], work: _Work, bar: _BatchProgress
) -> list[_Played] | Failure:
    """Plays one input on all instruments; an input that cannot be played is a failure."""
    performance: Performance | None = None
    played = []
    try:
        for job in jobs:
            started = time.perf_counter()
            player = players[job.model]
            performance = perform(
                job, player.instrument, work.options, work.curves, bar.stage(job, "listening"), performance, work.edited
            )
            if job.model == 0:
                bar.advance(bar.seconds(job))
            played.append(_play_job(job, performance, player, work, bar, started))
            bar.advance(bar.seconds(job))
    except InputError as problem:
        bar.advance(bar.seconds(jobs[0]) * (1 + len(jobs) - len(played) - (1 if performance is not None else 0)))
        return Failure(jobs[0].source, problem)
    return played


def _play_job(
    job: Job, performance: Performance, player: Player, work: _Work, bar: _BatchProgress, started: float
) -> _Played:
    """Renders a performance into the files of a job."""
    instrument, adapted, options = player.instrument, performance.adapted, work.options
    rate_hz, of_rate = written_rate(job.output, job.output_rate_hz(instrument.model.sample_rate_hz))
    remarks = performance.remarks + of_rate
    if job.controls is not None:
        if performance.others:
            raise InputError(f"{job.source} has {1 + len(performance.others)} voices, and a table of curves holds one",
                             "Choose one line.", kind=Kind.SEVERAL_VOICES)  # fmt: skip
        from ddsp_cli.adaptation.curves import write_controls

        write_controls(job.controls, adapted, instrument.model.level, work.force)
    if job.notes is not None and performance.analysis is not None:
        from ddsp_cli.adaptation.notes import write_notes

        write_notes(job.notes, performance.transcriptions(), work.force)
    target = target_lufs(performance, options)
    blocks, n_samples = render(performance, player, options, rate_hz, bar.stage(job, "playing"))
    fit = write_fitting(
        job.output,
        blocks,
        rate_hz,
        n_samples=n_samples,
        subtype=job.subtype,
        seed=options.seed,
        force=work.force,
        target_lufs=target,
    )
    picture = b""
    if work.draw:
        bar.stage(job, "drawing")(0.0)
        picture = _draw(job, performance, player)
    return _Played(
        TransferResult(
            input=job.source,
            output=job.output,
            plot=job.plot,
            controls=job.controls,
            notes=job.notes,
            instrument=player.name,
            seconds=n_samples / rate_hz,
            wall_s=time.perf_counter() - started,
            transpose_semitones=adapted.transpose_semitones,
            key=str(adapted.key) if adapted.key is not None else "",
            n_segments=len(adapted.segments),
            peak=fit.peak,
            gain_db=fit.gain_db,
            loudness_lufs=fit.loudness_lufs,
            short_of_db=short_of_db(target, fit),
            sample_rate_hz=rate_hz,
            tail_s=player.tail_s,
            remarks=remarks,
            notices=performance.notices,
            n_players=options.n_players,
            n_voices=1 + len(performance.others),
        ),
        picture,
    )


def _draw(job: Job, performance: Performance, player: Player) -> bytes:
    """Draws the picture of a job; writes it where one was requested."""
    from ddsp_cli.reports.plots import draw_transfer

    picture = draw_transfer(
        job.source if job.info is not None else None,
        job.output,
        performance.features,
        performance.adapted,
        player.instrument.model.level,
        player.name,
        performance.others,
    )
    if job.plot is not None:
        with writing(job.plot):
            write_bytes(job.plot, picture)
    return picture


# --- files in several processes --------------------------------------------------------------------------------------

#: Less sound than this is measured and played before another process has started.
WORTH_PROCESSES_S = 120.0

#: Seconds between two reports of progress.
_POLL_S = 0.2

#: In a worker process: the work, its instruments, seconds done by all workers, and whether to stop.
_shared: dict[str, object] = {}


class _StoppedError(Exception):
    """The parent process told a worker to stop."""


class _WorkerProgress(_BatchProgress):
    """Adds up what all workers have done, also of stages that are not finished."""

    _told_s = 0.0  # of the stages that `advance` will count

    def stage(self, job: Job, what: str) -> Callable[[float], None]:
        stop, seconds = _shared["stop"], self.seconds(job)

        def tell(done_s: float) -> None:
            if stop.is_set():  # type: ignore[attr-defined]
                raise _StoppedError
            told_s, self._told_s = self._told_s, max(self._told_s, min(done_s, seconds))
            self._count(self._told_s - told_s)

        return tell

    def advance(self, seconds: float) -> None:
        self._count(seconds - self._told_s)
        self._told_s = 0.0

    @staticmethod
    def _count(seconds: float) -> None:
        counter = _shared["counter"]
        with counter.get_lock():  # type: ignore[attr-defined]
            counter.value += seconds  # type: ignore[attr-defined]


def _play_in_processes(
    by_source: Sequence[Sequence[Job]], work: _Work, n_workers: int, bar: _BatchProgress
) -> list[list[_Played] | Failure]:
    """Plays inputs, several at a time.

    Raises:
      DdspError: as `_play_source`; the others are stopped then.
      OutputError: a process was ended from outside, as by a system without memory.
    """
    import multiprocessing
    from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool

    # A forked process would inherit the threads' locks of libraries already in use.
    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("d", 0.0), context.Event()
    executor = ProcessPoolExecutor(n_workers, context, _start_worker, (work, counter, stop))
    outcomes: dict[int, list[_Played] | Failure] = {}
    reported_s = 0.0
    try:
        with undisturbed_start():
            pending: dict[Future[list[_Played] | Failure], int] = {
                executor.submit(_work_on, list(jobs)): index for index, jobs in enumerate(by_source)
            }
        while pending:
            done, _ = wait(pending, _POLL_S, FIRST_COMPLETED)
            for future in done:
                outcomes[pending.pop(future)] = future.result()
            done_s = float(counter.value)
            bar.advance(done_s - reported_s)
            reported_s = done_s
    except BrokenProcessPool as problem:
        raise OutputError(
            "a process that played one of the inputs ended before it was done",
            "There may be too little memory for several at once. What is finished is kept: play the rest one by one.",
        ) from problem
    finally:
        stop.set()
        executor.shutdown(wait=True, cancel_futures=True)
    return [outcomes[index] for index in range(len(by_source))]


def _start_worker(work: _Work, counter: object, stop: object) -> None:
    import signal

    # Ctrl-C reaches the whole group; only the parent handles it and tells the workers to stop.
    with suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    _shared.update(work=work, players=work.players(), counter=counter, stop=stop)


def _work_on(jobs: Sequence[Job]) -> list[_Played] | Failure:
    players, work = _shared["players"], _shared["work"]
    return _play_source(jobs, players, work, _WorkerProgress(None, [jobs]))  # type: ignore[arg-type]
