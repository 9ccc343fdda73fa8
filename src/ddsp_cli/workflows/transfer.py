"""`ddsp transfer`: a performance, played by an instrument.

What comes out of a transfer.

What is to be played from where to where: everything about paths that can be known before work begins.

Curves to a sound file: rendered in blocks, brought to the file's rate, its peak made to fit, rounded fairly.

Memory does not depend on the length: sound waits in a temporary file until its peak is known. Shapes: S samples, C
channels; mono is [S].


An input of any kind, heard or read, and fitted to an instrument.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ddsp_cli.adaptation import diagnostics
from ddsp_cli.adaptation.adapt import Adapted, AdaptSettings, adapt
from ddsp_cli.adaptation.curves import SUFFIXES as CONTROL_SUFFIXES
from ddsp_cli.adaptation.curves import read_controls, write_controls
from ddsp_cli.adaptation.midi import SUFFIXES as SCORE_SUFFIXES
from ddsp_cli.adaptation.midi import adapt_score, read_score
from ddsp_cli.adaptation.segmentation import Segments, find_segments
from ddsp_cli.analysis.extract import Analysis, analyze
from ddsp_cli.analysis.features import Features
from ddsp_cli.analysis.pitch import trackers
from ddsp_cli.analysis.recording_checks import ClippingWatch, file_warnings
from ddsp_cli.atomic import write_bytes, writing
from ddsp_cli.audio import read
from ddsp_cli.audio.recording import FileRecording
from ddsp_cli.audio.resample import at_rate
from ddsp_cli.audio.write import check_writable, nearest_rate_hz, write_fitting
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.errors import InputError, OutputError, UsageError, did_you_mean
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.reverb import tail_s
from ddsp_cli.workflows import models as workflows_models
from ddsp_cli.workflows.models import find_room

#: Called with what is being done, seconds of sound done and seconds in all.
Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class TransferResult:
    """One performance, played, or one recording in a room.

    Attributes:
      input, output: files.
      plot, controls: a picture and a table of curves, where they were asked for.
      instrument: its name; empty where a recording only came into a room.
      seconds: length of the sound.
      wall_s: how long it took.
      transpose_semitones: what was added to the pitch.
      key: the scale that was tuned to; empty where nothing was.
      n_segments: stretches between rests.
      peak: of the file, 1 is full scale.
      gain_db: 0, or by how much the sound was turned down to fit.
      sample_rate_hz: of the output.
      tail_s: how long the room goes on into rests.
      remarks: what makes this performance hard to follow, as sentences.
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
    sample_rate_hz: int
    tail_s: float
    remarks: tuple[str, ...] = ()


Kind = Literal["sound", "score", "controls"]

BITS = {"16": "PCM_16", "24": "PCM_24", "32": "PCM_32", "float": "FLOAT"}

#: Formats whose depth can be chosen; the others have one way of coding.
_DEEP = frozenset({".wav", ".flac", ".aiff", ".aif", ".w64", ".rf64", ".caf"})


@dataclass(frozen=True)
class Job:
    """One input on one instrument, with everything that can be known before work begins.

    Attributes:
      source: the file.
      kind: what it is.
      model: index of the instrument.
      info: of a sound file, also where curves are played in its place.
      output: where the sound goes.
      plot: where a picture goes.
      controls: where the curves go.
      rate_hz: of the output; None for the instrument's own.
      subtype: encoding of the output, as libsndfile names it; None for what the format has.
    """

    source: Path
    kind: Kind
    model: int
    info: read.AudioInfo | None
    output: Path
    plot: Path | None
    controls: Path | None
    rate_hz: int | None
    subtype: str | None


@dataclass(frozen=True)
class Wanted:
    """What shall come out of a transfer.

    Attributes:
      out: a file, a folder, or None for the current folder.
      force: existing files may be replaced.
      plot: pictures are wanted.
      controls: a file or folder for the curves.
      sample_rate_hz: of the outputs; None for that of each input.
      bits: one of `BITS`; None for what each input has.
    """

    out: Path | None = None
    force: bool = False
    plot: bool = False
    controls: Path | None = None
    sample_rate_hz: int | None = None
    bits: str | None = None


def plan_jobs(inputs: list[Path], names: list[str], wanted: Wanted, curves: Path | None = None) -> list[Job]:
    """Checks every path and decides where everything goes.

    Args:
      inputs: files and folders.
      names: of the instruments, for the names of outputs.
      wanted: what shall come out.
      curves: a file of curves to play, in place of what the inputs (none, or one) hold.

    Returns:
      One job per input and instrument, the instruments of one input beside each other.

    Raises:
      UsageError, InputError, OutputError: see their messages.
    """
    sources = _sources(inputs, curves)
    if not sources:
        raise UsageError("no input was given")
    if wanted.bits is not None and wanted.bits not in BITS:
        raise UsageError(f"--bits {wanted.bits} is not known", did_you_mean(wanted.bits, BITS))
    rate_hz = wanted.sample_rate_hz
    if rate_hz is not None and not read.PLAUSIBLE_RATES_HZ[0] <= rate_hz <= read.PLAUSIBLE_RATES_HZ[1]:
        raise UsageError(f"a sample rate of {rate_hz} Hz makes no sense")
    n_jobs, out = len(sources) * len(names), wanted.out
    as_file = _is_file("--out", out, read.AUDIO_SUFFIXES, n_jobs)
    one_table = _is_file("--controls", wanted.controls, frozenset(CONTROL_SUFFIXES), n_jobs)
    jobs: list[Job] = []
    taken: set[str] = set()
    for path, kind in sources:
        is_sound = kind == "sound" or (kind == "controls" and path.suffix.lower() in read.AUDIO_SUFFIXES)
        info = read.probe(path) if is_sound else None
        for model, name in enumerate(names):
            stem = free_name(f"{path.stem}_{name}", taken)
            output = out if as_file and out is not None else (out or Path()) / f"{stem}.wav"
            if output.exists() and output.resolve() == path.resolve():
                raise OutputError(f"{output} is the input itself", "Name another place with --out.")
            if rate_hz is not None and nearest_rate_hz(output, rate_hz) != rate_hz:
                raise UsageError(
                    f"{output.suffix[1:]} files have no sample rate of {rate_hz} Hz",
                    f"The nearest they have is {nearest_rate_hz(output, rate_hz)} Hz.",
                    parameter="sample_rate_hz",
                )
            picture = output.with_suffix(".png") if wanted.plot else None
            table = wanted.controls if one_table or wanted.controls is None else wanted.controls / f"{stem}.csv"
            for target, place in ((output, out), (picture, out), (table, wanted.controls)):
                if target is not None and (place is None or place.is_dir() or target == place or as_file):
                    check_writable(target, wanted.force)
            own_rate_hz = rate_hz or (info.sample_rate_hz if info else None)
            subtype = _subtype(info, output, wanted.bits)
            jobs.append(Job(path, kind, model, info, output, picture, table, own_rate_hz, subtype))
    for folder, is_file in ((out, as_file), (wanted.controls, one_table)):
        if folder is not None and not is_file:
            _check_folder(folder)
    return jobs


def _sources(inputs: list[Path], curves: Path | None) -> list[tuple[Path, Kind]]:
    """Every input file with what it is, folders searched for sound."""
    if curves is not None:
        if len(inputs) > 1:
            raise UsageError("--from-controls plays one file of curves, but there are several inputs")
        if not curves.is_file():
            raise InputError(f"{curves} does not exist" if not curves.exists() else f"{curves} is not a file")
        return [(inputs[0] if inputs and inputs[0].is_file() else curves, "controls")]
    sources: dict[Path, Kind] = {}
    for path in inputs:
        if path.suffix.lower() in SCORE_SUFFIXES and not path.is_dir():
            if not path.exists():
                raise InputError(f"{path} does not exist")
            sources[path] = "score"
        elif path.suffix.lower() in CONTROL_SUFFIXES and path.is_file():
            raise UsageError(f"{path} holds curves, not sound", f"Play it with --from-controls {path}.")
        else:
            sources |= dict.fromkeys(read.list_audio([path]), "sound")
    return list(sources.items())


def _is_file(option: str, place: Path | None, suffixes: frozenset[str], n_jobs: int) -> bool:
    """Whether a place names one file; a folder has no suffix, or exists."""
    if place is None or place.is_dir() or place.suffix == "":
        return False
    if place.suffix.lower() not in suffixes:
        known = ", ".join(sorted(suffixes & {".wav", ".flac", ".ogg", ".mp3", ".csv", ".npz"}))
        what = "a sound format" if option == "--out" else "a table"
        raise UsageError(f"{place} has no suffix of {what}", f"Use {known}; or name a folder.")
    if n_jobs > 1:
        raise UsageError(f"{option} {place} is one file, but there are {n_jobs} inputs", "Give a folder instead.")
    return True


def free_name(stem: str, taken: set[str]) -> str:
    """The stem, numbered where it is taken already, which capitals do not change; now it is taken as well."""
    name, number = stem, 2
    while name.lower() in taken:
        name, number = f"{stem}-{number}", number + 1
    taken.add(name.lower())
    return name


def _check_folder(out: Path) -> None:
    if out.is_dir():
        return
    if out.exists():
        raise OutputError(f"{out} is a file, not a folder", "With an ending such as .wav it would be taken for a file.")
    if not out.parent.is_dir():
        raise OutputError(f"the folder {out.parent} does not exist", "Make it first, or write somewhere else.")


@contextmanager
def folders_for(jobs: list[Job]) -> Iterator[None]:
    """Makes the folders of the outputs; takes those away again that stay empty.

    Raises:
      OutputError: one cannot be made.
    """
    targets = [target.parent for job in jobs for target in (job.output, job.controls) if target is not None]
    missing = [folder for folder in dict.fromkeys(targets) if not folder.is_dir()]
    try:
        for folder in missing:
            try:
                folder.mkdir()
            except OSError as problem:
                raise OutputError(f"the folder {folder} cannot be made: {problem.strerror or problem}") from problem
        yield
    finally:
        for folder in missing:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def _subtype(info: read.AudioInfo | None, output: Path, bits: str | None) -> str | None:
    """The depth that is asked for, else as many bits as the input has, where the output's format has a choice.

    Raises:
      UsageError: a depth that the format does not have.
    """
    kind = output.suffix.lower()
    if kind not in _DEEP:
        if bits is not None:
            raise UsageError(f"{kind[1:]} files have no --bits to choose", "Choose it for wav, flac or aiff.")
        return None
    if bits is not None:
        if kind == ".flac" and bits in {"32", "float"}:
            raise UsageError(f"flac files cannot hold --bits {bits}", "Use 16 or 24, or a wav file.")
        return BITS[bits]
    own = info.subtype if info is not None else "PCM_24"
    if own in {"FLOAT", "DOUBLE"}:
        return "PCM_24" if kind == ".flac" else "FLOAT"
    return "PCM_24" if own in {"PCM_24", "PCM_32"} else "PCM_16"


def play_to_file(
    adapted: Adapted,
    instrument: Instrument,
    path: Path,
    *,
    rate_hz: int,
    n_samples: int,
    subtype: str | None,
    seed: int = 0,
    room: bool | np.ndarray = True,
    force: bool = False,
    progress: Callable[[float], None] | None = None,
    timbre: Iterable[np.ndarray] = (),
    formant: float = 0.0,
) -> tuple[float, float]:
    """Plays curves into a file.

    Args:
      adapted: what to play.
      instrument: what plays it.
      path: where to; the suffix decides the format.
      rate_hz: of the file.
      n_samples: of the file; the end is faded out.
      subtype: encoding, None for what the format has.
      seed: of the noise.
      room: see `Instrument.render`.
      force: replace an existing file.
      progress: told the seconds that are rendered.
      timbre, formant: see `Instrument.render`.

    Returns:
      The peak of the file, and by how much the sound was turned down to fit (a factor up to 1).

    Raises:
      OutputError: no space, or the file cannot be written.
    """
    curves = adapted.at(instrument.model.frame_rate_hz)
    blocks = instrument.render(*curves, seed=seed, room=room, level_correction=True, timbre=timbre, formant=formant)
    own_hz = instrument.model.sample_rate_hz
    blocks = at_rate(_told(blocks, own_hz, progress), own_hz, rate_hz)
    return write_fitting(path, blocks, rate_hz, n_samples=n_samples, subtype=subtype, seed=seed, force=force)


def _told(blocks: Iterator[np.ndarray], rate_hz: int, progress: Callable[[float], None] | None) -> Iterator[np.ndarray]:
    n_done = 0
    for block in blocks:
        n_done += len(block)
        if progress is not None:
            progress(n_done / rate_hz)
        yield block


#: Performances are measured at this rate where the model's own divides it: notes are found to 4 ms.
MEASURE_RATE_HZ = 250


@dataclass(frozen=True)
class Performance:
    """What an instrument is to play, and what it came from.

    Attributes:
      adapted: the curves.
      analysis: of the recording; None where there was none.
      seconds: how long the sound shall be.
      info: of the recording.
      remarks: what makes it hard to follow.
      recording: the sound, for those who follow it more closely than by its features.
      clipping: what was found while it was decoded.
    """

    adapted: Adapted
    analysis: Analysis[Segments] | None
    seconds: float
    info: read.AudioInfo | None = None
    remarks: tuple[str, ...] = ()
    recording: FileRecording | None = None
    clipping: ClippingWatch | None = None

    @property
    def features(self) -> Features | None:
        """Of the recording; None where there was none."""
        return self.analysis.features if self.analysis is not None else None

    def n_samples(self, rate_hz: int) -> int:
        """Length of the output: the input's to the sample, brought to another rate."""
        if self.info is not None:
            # Counted while decoding: what the header says is not relied on.
            own = self.recording.decoded.n_samples if self.recording is not None else self.info.n_samples
            n_samples = round(own * rate_hz / self.info.sample_rate_hz)
            if abs(n_samples / rate_hz - self.seconds) <= 0.1:
                return n_samples
        return round(self.seconds * rate_hz)

    def timbre(self, instrument: Instrument) -> Iterator[np.ndarray]:
        """What an instrument with an encoder follows besides the curves: the recording, read again block by block."""
        if self.recording is not None and instrument.model.encoder:
            yield from instrument.timbre(self.recording.blocks())


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
        if job.info is None:
            return Performance(adapted, None, len(adapted) / rate_hz)
        info = replace(job.info, n_samples=read.count_samples(job.source))
        return Performance(adapted, None, info.n_samples / info.sample_rate_hz, info)
    if job.kind == "score":
        score = read_score(job.source)
        chords = "it holds chords; of each the highest note is played"
        remarks: tuple[str, ...] = (chords,) if score.n_overlapping else ()
        adapted = adapt_score(score, statistics, level, rate_hz, settings)
        return Performance(adapted, None, len(adapted) / rate_hz, None, remarks)
    assert job.info is not None
    spec = _spec(instrument, tracker)
    if last is not None and last.info is job.info and last.recording is not None and last.clipping is not None:
        recording, clipping = last.recording, last.clipping
    else:
        last, clipping = None, ClippingWatch()
        recording = FileRecording(job.source, watch=clipping)
    if last is not None and last.analysis is not None and last.analysis.features.spec == spec:
        analysis = last.analysis
    else:
        analysis = _analyze(recording, job.info, spec, settings, progress)
    remarks = diagnostics.warnings(analysis)
    features = analysis.features
    try:
        adapted = adapt(features, statistics, level, settings, analysis.segments)
    except InputError as problem:
        if not remarks:
            raise InputError(f"{job.source}: {problem.message}", problem.hint) from problem
        adapted = resting(len(features), rate_hz)
    remarks = (*file_warnings(recording.decoded, clipping, job.info.sample_rate_hz), *remarks)
    seconds = features.n_samples / ANALYSIS_RATE_HZ
    return Performance(adapted, analysis, seconds, job.info, remarks, recording, clipping)


def frame_rate(instrument: Instrument) -> int:
    """Frames a second of the curves: fine, where the model's own rate divides that."""
    own_hz = instrument.model.frame_rate_hz
    return MEASURE_RATE_HZ if MEASURE_RATE_HZ % own_hz == 0 else own_hz


def _spec(instrument: Instrument, tracker: str) -> FeatureSpec:
    """How to measure: as for the instrument, but for the tracker: pitch is pitch, whoever finds it."""
    import msgspec

    return msgspec.structs.replace(instrument.bundle.card.features.at(frame_rate(instrument)), pitch=tracker)


def _analyze(
    recording: FileRecording, info: read.AudioInfo, spec: FeatureSpec, settings: AdaptSettings, progress: Progress
) -> Analysis[Segments]:
    return analyze(
        recording,
        spec,
        lambda features: find_segments(features, settings.segments),
        progress=lambda done_s: progress(f"{info.path.name}: listening", min(done_s, info.seconds), info.seconds),
    )


def resting(n_frames: int, frame_rate_hz: int) -> Adapted:
    """Curves [F] of an instrument that has nothing to play."""
    nothing = np.zeros(0, np.int64)
    return Adapted(
        f0_hz=np.full(n_frames, 440.0, np.float32),
        level_db=np.full(n_frames, -80.0, np.float32),
        gate=np.zeros(n_frames, np.float32),
        transpose_semitones=0.0,
        segments=Segments(nothing, nothing, np.zeros(n_frames, bool), np.inf, -80.0),
        frame_rate_hz=frame_rate_hz,
    )


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
    tracker: str = trackers.DEFAULT_TRACKER,
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
    from ddsp_cli.audio.write import check_writable

    if transpose != "auto" and not abs(transpose) <= MAX_TRANSPOSE:
        raise UsageError(f"a transposition of {transpose:g} semitones is out of range (±{MAX_TRANSPOSE:g})")
    if not abs(formant) <= MAX_FORMANT:
        raise UsageError(f"a formant shift of {formant:g} semitones is out of range (±{MAX_FORMANT:g})")
    settings = replace(settings or AdaptSettings(), transpose=None if transpose == "auto" else float(transpose))
    trackers.check_tracker(tracker)
    wanted, tell = Wanted(out, force, plot, controls, sample_rate_hz, bits), progress or _silence
    paths, models = [Path(path) for path in inputs], [model] if isinstance(model, str | Path) else list(model)
    from ddsp_cli.workflows.reverb import NO_INSTRUMENT, reverberate

    if NO_INSTRUMENT in map(str, models):
        fitting = settings != AdaptSettings() or tracker != trackers.DEFAULT_TRACKER
        others = (plot, controls, from_controls, report, formant, fitting, len(models) > 1)
        if any(others):
            raise UsageError(
                "with --model none no instrument plays, so there is nothing to fit, to draw or to compare",
                "Of the options only --room, --wet, --out, --sample-rate, --bits and --seed count then.",
            )
        return reverberate(paths, wanted, room, wet, seed, tell)
    places = workflows_models.find_all(models)
    names = [workflows_models.title(place) for place in places]
    jobs = plan_jobs(paths, names, wanted, from_controls)
    if report is not None:
        if report.suffix.lower() not in {".html", ".htm"}:
            raise UsageError(f"--report {report} is not an .html file")
        check_writable(report, force)
    instruments = [Instrument(workflows_models.open_at(place)) for place in places]
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
            wanted_hz = job.rate_hz or instrument.model.sample_rate_hz
            rate_hz = nearest_rate_hz(job.output, wanted_hz)
            if rate_hz != wanted_hz:
                lacks = (
                    f"{job.output.suffix[1:]} has no sample rate of {wanted_hz} Hz, so it was written at {rate_hz} Hz"
                )
                performance = replace(performance, remarks=(*performance.remarks, lacks))
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
            from ddsp_cli.reports.transfer_report import write_report

            write_report(report, results, shown, force)
    return results


def _silence(what: str, done_s: float, total_s: float) -> None:
    """Tells nobody."""


def _playing(job: Job, seconds: float, progress: Progress) -> Callable[[float], None]:
    what = f"{job.source.name}: playing"
    return lambda done_s: progress(what, min(done_s, seconds), seconds)


def _draw(job: Job, performance: Performance, instrument: Instrument, name: str) -> bytes:
    """The picture of a job, also written where it was asked for."""
    from ddsp_cli.reports.plots import draw_transfer

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
        n_segments=len(adapted.segments),
        peak=peak,
        gain_db=20.0 * math.log10(gain),
        sample_rate_hz=instrument.model.sample_rate_hz,
        tail_s=tail_s(response, instrument.model.sample_rate_hz),
        remarks=performance.remarks,
    )
