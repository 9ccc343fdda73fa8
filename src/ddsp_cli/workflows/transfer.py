"""`ddsp transfer`: a performance, played by an instrument."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from ddsp_cli.atomic import write_bytes, writing
from ddsp_cli.errors import UsageError
from ddsp_cli.features import pitch
from ddsp_cli.runtime.adapt import AdaptSettings
from ddsp_cli.runtime.instrument import Instrument
from ddsp_cli.runtime.room import tail_s
from ddsp_cli.workflows import catalogue
from ddsp_cli.workflows.controls import write_controls
from ddsp_cli.workflows.jobs import Job, Wanted, folders_for, plan_jobs
from ddsp_cli.workflows.performance import Performance, perform
from ddsp_cli.workflows.playing import play_to_file
from ddsp_cli.workflows.reverberate import NO_INSTRUMENT, reverberate
from ddsp_cli.workflows.rooms import find_room
from ddsp_cli.workflows.transfer_result import Progress, TransferResult

MAX_TRANSPOSE = 60.0
MAX_FORMANT = 24.0


def transfer(
    inputs: Sequence[str | Path],
    model: str | Path | Sequence[str | Path],
    out: Path | None = None,
    transpose: float | Literal["auto"] = "auto",
    seed: int = 0,
    force: bool = False,
    plot: bool = False,
    sample_rate_hz: int | None = None,
    progress: Progress | None = None,
    *,
    settings: AdaptSettings | None = None,
    tracker: str = pitch.DEFAULT_TRACKER,
    room: str = "model",
    wet: float = 1.0,
    formant: float = 0.0,
    bits: str | None = None,
    controls: Path | None = None,
    from_controls: Path | None = None,
    report: Path | None = None,
) -> list[TransferResult]:
    """Plays performances on instruments and writes them beside each other.

    Every path is checked before the first sound is made. Memory does not depend on the length of the sound.

    Args:
      inputs: sound files, folders of them, or MIDI files.
      model: an instrument's name, its folder, or a `.tflite` of DDSP-VST; several of them, or "all". "none" leaves the
        recording as it is and only puts it into a room.
      out: a file (with one input and instrument), or a folder; by default `INPUT_MODEL.wav` in the current folder.
      transpose: semitones, or "auto" for the octave that suits the instrument.
      seed: of the noise; the same seed gives the same file.
      force: replace files that exist.
      plot: also draw a picture, beside the sound.
      sample_rate_hz: of the output; by default the input's own, the instrument's for MIDI files and curves.
      progress: told how far it is.
      settings: how the performance is fitted to the instrument; its `transpose` is overruled by the one above.
      tracker: which pitch tracker listens.
      room: `model`, `none`, a sound file with an impulse response, or another instrument.
      wet: how much of the room; 1 is as learned or recorded.
      formant: semitones by which the instrument's resonances move; its pitch stays.
      bits: `16`, `24`, `32` or `float`; by default what the input has.
      controls: a .csv or .npz for the curves that are played, or a folder for several.
      from_controls: such a file to play; then `inputs` may be empty.
      report: an HTML page to write, with players and pictures.

    Returns:
      One result per input and instrument, in order.

    Raises:
      UsageError: options that make no sense together.
      InputError: an input that is missing, not audio, empty, damaged, or without any notes.
      ModelError: no such instrument, or a damaged one.
      OutputError: an output that exists already or cannot be written.
    """
    from ddsp_cli.features.sink import check_writable

    if transpose != "auto" and not abs(transpose) <= MAX_TRANSPOSE:
        raise UsageError(f"a transposition of {transpose:g} semitones is out of range (±{MAX_TRANSPOSE:g})")
    if not abs(formant) <= MAX_FORMANT:
        raise UsageError(f"a formant shift of {formant:g} semitones is out of range (±{MAX_FORMANT:g})")
    settings = replace(settings or AdaptSettings(), transpose=None if transpose == "auto" else float(transpose))
    pitch.check_tracker(tracker)
    wanted, tell = Wanted(out, force, plot, controls, sample_rate_hz, bits), progress or _silence
    paths, models = [Path(path) for path in inputs], [model] if isinstance(model, str | Path) else list(model)
    if NO_INSTRUMENT in map(str, models):
        fitting = settings != AdaptSettings() or tracker != pitch.DEFAULT_TRACKER
        others = (plot, controls, from_controls, report, formant, fitting, len(models) > 1)
        if any(others):
            raise UsageError(
                "with --model none no instrument plays, so there is nothing to fit, to draw or to compare",
                "Of the options only --room, --wet, --out, --sample-rate, --bits and --seed count then.",
            )
        return reverberate(paths, wanted, room, wet, seed, tell)
    places = catalogue.find_all(models)
    names = [catalogue.title(place) for place in places]
    jobs = plan_jobs(paths, names, wanted, from_controls)
    if report is not None:
        if report.suffix.lower() not in {".html", ".htm"}:
            raise UsageError(f"--report {report} is not an .html file")
        check_writable(report, force)
    instruments = [Instrument(catalogue.open_at(place)) for place in places]
    rooms = [
        find_room(room, wet, player.model.sample_rate_hz, player.bundle.impulse_response) for player in instruments
    ]
    results: list[TransferResult] = []
    shown: list[bytes] = []
    with folders_for(jobs):
        performance: Performance | None = None
        for job in jobs:
            started = time.perf_counter()
            instrument, its_room = instruments[job.model], rooms[job.model]
            performance = perform(job, instrument, settings, tracker, from_controls, tell, performance)
            rate_hz = job.rate_hz or instrument.model.sample_rate_hz
            n_samples = performance.n_samples(rate_hz)
            seconds = n_samples / rate_hz
            if job.controls is not None:
                write_controls(job.controls, performance.adapted, instrument.model.level, force)
            peak, gain = play_to_file(
                performance.adapted,
                instrument,
                job.output,
                rate_hz=rate_hz,
                n_samples=n_samples,
                subtype=job.subtype,
                seed=seed,
                room=its_room,
                force=force,
                progress=_playing(job, seconds, tell),
                timbre=performance.timbre(instrument),
                formant=formant,
            )
            if job.plot is not None or report is not None:
                tell(f"{job.source.name}: drawing", 0.0, 0.0)
                shown.append(_draw(job, performance, instrument, names[job.model]))
            result = _result(job, performance, instrument, names[job.model], its_room, peak, gain)
            results.append(
                replace(result, seconds=seconds, sample_rate_hz=rate_hz, wall_s=time.perf_counter() - started)
            )
        if report is not None:
            from ddsp_cli.report import write_report

            write_report(report, results, shown, force)
    return results


def _silence(what: str, done_s: float, total_s: float) -> None:
    """Tells nobody."""


def _playing(job: Job, seconds: float, progress: Progress) -> Callable[[float], None]:
    what = f"{job.source.name}: playing"
    return lambda done_s: progress(what, min(done_s, seconds), seconds)


def _draw(job: Job, performance: Performance, instrument: Instrument, name: str) -> bytes:
    """The picture of a job, also written where it was asked for."""
    from ddsp_cli.plots import draw_transfer

    picture = draw_transfer(
        job.source if job.info is not None else None,
        job.output,
        performance.features,
        performance.adapted,
        instrument.model.level,
        name,
    )
    if job.plot is not None:
        with writing(job.plot):
            write_bytes(job.plot, picture)
    return picture


def _result(
    job: Job,
    performance: Performance,
    instrument: Instrument,
    name: str,
    room: bool | np.ndarray,
    peak: float,
    gain: float,
) -> TransferResult:
    response = room if isinstance(room, np.ndarray) else instrument.bundle.impulse_response if room else None
    adapted = performance.adapted
    return TransferResult(
        input=job.source,
        output=job.output,
        plot=job.plot,
        controls=job.controls,
        instrument=name,
        seconds=performance.seconds,
        wall_s=0.0,
        transpose_semitones=adapted.transpose_semitones,
        key=str(adapted.key) if adapted.key is not None else "",
        n_notes=len(adapted.notes),
        peak=peak,
        gain_db=20.0 * math.log10(gain),
        sample_rate_hz=instrument.model.sample_rate_hz,
        tail_s=tail_s(response, instrument.model.sample_rate_hz),
        remarks=performance.remarks,
    )
