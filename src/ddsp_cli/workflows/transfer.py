"""`ddsp transfer`: a performance, played by an instrument."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.errors import InputError, OutputError, UsageError
from ddsp_cli.features import io
from ddsp_cli.features.frames import Features
from ddsp_cli.runtime.adapt import Adapted, AdaptSettings, adapt
from ddsp_cli.runtime.instrument import Instrument
from ddsp_cli.workflows import catalogue
from ddsp_cli.workflows.jobs import Job, make_folder, plan_jobs

#: Performances are measured at this rate where the model's own divides it: notes are found to 4 ms.
MEASURE_RATE_HZ = 250

#: Sound up to this size waits in memory for its peak to be known, longer sound in a temporary file.
SPOOL_BYTES = 16 * 1024 * 1024

PEAK_LIMIT = 10.0 ** (-0.1 / 20.0)
FADE_S = 0.008
MAX_TRANSPOSE = 60.0

#: Called with what is being done, seconds of sound done and seconds in all.
Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class TransferResult:
    """One performance, played.

    Attributes:
      input, output: sound files.
      plot: a picture of both, where it was asked for.
      instrument: its name.
      seconds: length of the sound.
      wall_s: how long it took.
      transpose_semitones: what was added to the pitch.
      n_notes: phrases found between rests.
      peak: of the file, 1 is full scale.
      gain_db: 0, or by how much the sound was turned down to fit.
      sample_rate_hz: of the output.
    """

    input: Path
    output: Path
    plot: Path | None
    instrument: str
    seconds: float
    wall_s: float
    transpose_semitones: float
    n_notes: int
    peak: float
    gain_db: float
    sample_rate_hz: int


def transfer(
    inputs: Sequence[str | Path],
    model: str | Path,
    out: Path | None = None,
    transpose: float | Literal["auto"] = "auto",
    seed: int = 0,
    force: bool = False,
    plot: bool = False,
    sample_rate_hz: int | None = None,
    progress: Progress | None = None,
) -> list[TransferResult]:
    """Plays performances on an instrument and writes them beside each other.

    Every path is checked before the first sound is made. Memory does not depend on the length of the sound.

    Args:
      inputs: sound files, or folders of them.
      model: an instrument's name, its folder, or a model of the DDSP-VST plug-in (`.tflite`).
      out: a file (with one input), or a folder; by default `INPUT_MODEL.wav` in the current folder.
      transpose: semitones, or "auto" for the octave that suits the instrument.
      seed: of the noise; the same seed gives the same file.
      force: replace files that exist.
      plot: also draw a picture, beside the sound.
      sample_rate_hz: of the output; by default the input's own.
      progress: told how far it is.

    Returns:
      One result per input, in order.

    Raises:
      UsageError: options that make no sense together.
      InputError: an input that is missing, not audio, empty, damaged, or without any notes.
      ModelError: no such instrument, or a damaged one.
      OutputError: an output that exists already or cannot be written.
    """
    if transpose != "auto" and not abs(transpose) <= MAX_TRANSPOSE:
        raise UsageError(f"a transposition of {transpose:g} semitones is out of range (±{MAX_TRANSPOSE:g})")
    name, loaded = catalogue.load(model)
    jobs = plan_jobs([Path(path) for path in inputs], name, out, force, plot, sample_rate_hz)
    instrument = Instrument(loaded)
    settings = AdaptSettings(transpose=None if transpose == "auto" else float(transpose))
    made_folder = make_folder(out, jobs)
    try:
        return [_play(job, instrument, name, settings, seed, force, progress or _silence) for job in jobs]
    finally:
        if made_folder is not None and not any(made_folder.iterdir()):
            made_folder.rmdir()


def _silence(what: str, done_s: float, total_s: float) -> None:
    """Tells nobody."""


def _play(
    job: Job,
    instrument: Instrument,
    name: str,
    settings: AdaptSettings,
    seed: int,
    force: bool,
    progress: Progress,
) -> TransferResult:
    started = time.perf_counter()
    path = job.info.path
    features = _measure(job, instrument, progress)
    card = instrument.bundle.card
    try:
        adapted = adapt(features, card.statistics, instrument.model.level, settings)
    except InputError as problem:
        raise InputError(f"{path}: {problem.message}", problem.hint) from problem
    seconds = features.n_samples / ANALYSIS_RATE_HZ
    n_samples = round(job.info.n_samples * job.rate_hz / job.info.sample_rate_hz)
    if abs(n_samples / job.rate_hz - seconds) > 0.1:  # the header promised another length than there is
        n_samples = round(seconds * job.rate_hz)
    with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
        peak = 0.0
        for block in _at_rate(_render(adapted, instrument, seed, path, seconds, progress), instrument, job.rate_hz):
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
            try:
                spool.write(block.tobytes())
            except OSError as problem:
                place = tempfile.gettempdir()
                raise OutputError(
                    f"{place} has no room for the sound until its peak is known: {problem.strerror or problem}",
                    "Free some space, or set TMPDIR to a folder that has some.",
                ) from problem
        gain = min(1.0, PEAK_LIMIT / peak) if peak > 0.0 else 1.0
        io.write_audio(job.output, _spooled(spool, n_samples, gain, job.rate_hz), job.rate_hz, job.subtype, force)
    if job.plot is not None:
        from ddsp_cli.plots import plot_transfer

        progress(f"{path.name}: drawing", 0.0, 0.0)
        plot_transfer(job.plot, path, job.output, features, adapted, instrument.model.level, name)
    return TransferResult(
        input=path,
        output=job.output,
        plot=job.plot,
        instrument=name,
        seconds=n_samples / job.rate_hz,
        wall_s=time.perf_counter() - started,
        transpose_semitones=adapted.transpose_semitones,
        n_notes=len(adapted.notes),
        peak=peak * gain,
        gain_db=20.0 * float(np.log10(gain)),
        sample_rate_hz=job.rate_hz,
    )


def _measure(job: Job, instrument: Instrument, progress: Progress) -> Features:
    from ddsp_cli.features.extract import measure_file

    frame_rate_hz = instrument.model.frame_rate_hz
    rate_hz = MEASURE_RATE_HZ if MEASURE_RATE_HZ % frame_rate_hz == 0 else frame_rate_hz
    what = f"{job.info.path.name}: listening"
    spec = instrument.bundle.card.features.at(rate_hz)
    # Whatever tracker the instrument was prepared with: pitch is pitch, and this one is quick.
    import msgspec

    spec = msgspec.structs.replace(spec, pitch="swift-f0")
    return measure_file(job.info.path, spec, lambda done: progress(what, min(done, job.info.seconds), job.info.seconds))


def _render(
    adapted: Adapted, instrument: Instrument, seed: int, path: Path, seconds: float, progress: Progress
) -> Iterator[np.ndarray]:
    """Blocks of sound at the model's rate."""
    what = f"{path.name}: playing"
    rate_hz = instrument.model.sample_rate_hz
    n_done = 0
    for block in instrument.render(*adapted.at(instrument.model.frame_rate_hz), seed=seed):
        n_done += len(block)
        progress(what, min(n_done / rate_hz, seconds), seconds)
        yield block


def _at_rate(blocks: Iterator[np.ndarray], instrument: Instrument, rate_hz: int) -> Iterator[np.ndarray]:
    """The same sound at another rate, in time with it."""
    own_hz = instrument.model.sample_rate_hz
    if own_hz == rate_hz:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(own_hz, rate_hz, 1, dtype="float32")
    for block in blocks:
        yield np.asarray(stream.resample_chunk(block))
    yield np.asarray(stream.resample_chunk(np.zeros(0, np.float32), last=True))


def _spooled(spool: IO[Any], n_samples: int, gain: float, rate_hz: int) -> Iterator[np.ndarray]:
    """Reads the sound back: exactly `n_samples`, turned down by `gain`, its end faded out."""
    spool.seek(0)
    n_fade = min(n_samples, max(1, round(FADE_S * rate_hz)))
    position = 0
    while position < n_samples:
        n = min(1 << 16, n_samples - position)
        block = np.frombuffer(spool.read(4 * n), np.float32)
        block = np.concatenate([block, np.zeros(n - len(block), np.float32)]) * np.float32(gain)
        # The room's tail goes on beyond the end; cut off there, it would click.
        remaining = n_samples - position - np.arange(n, dtype=np.float32)
        yield block * np.minimum(1.0, remaining / n_fade)
        position += n
