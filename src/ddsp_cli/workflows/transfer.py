"""`ddsp transfer`: recordings, MIDI files and edited curves, played on instruments.

In the order of the work: options, the plan of which file goes where, one performance (an input, analysed and adapted to
an instrument), its rendering, arrays, files, and files in several processes. Shapes: S samples, C channels, F frames.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, overload

import msgspec
import numpy as np

from ddsp_cli.adaptation import autotune, diagnostics
from ddsp_cli.adaptation.adapt import Adapted, AdaptSettings, adapt
from ddsp_cli.adaptation.curves import SUFFIXES as CONTROL_SUFFIXES
from ddsp_cli.adaptation.curves import read_controls, write_controls
from ddsp_cli.adaptation.f0_cleanup import confirm_leaps
from ddsp_cli.adaptation.midi import SUFFIXES as SCORE_SUFFIXES
from ddsp_cli.adaptation.midi import adapt_score, read_score
from ddsp_cli.adaptation.segmentation import Segments, SegmentSettings, find_segments
from ddsp_cli.adaptation.transcription import SUFFIXES as NOTES_SUFFIXES
from ddsp_cli.adaptation.transcription import transcribe, write_notes
from ddsp_cli.analysis.extract import Analysis, analyze
from ddsp_cli.analysis.features import Features
from ddsp_cli.analysis.pitch import trackers
from ddsp_cli.analysis.recording_checks import ClippingWatch, file_warnings
from ddsp_cli.arrays import FloatArray
from ddsp_cli.atomic import write_bytes, writing
from ddsp_cli.audio import read
from ddsp_cli.audio.integrated_loudness import LoudnessMeter, integrated_lufs
from ddsp_cli.audio.recording import ArrayRecording, FileRecording, Recording
from ddsp_cli.audio.resample import at_rate
from ddsp_cli.audio.write import Fit, check_writable, fit_level, nearest_rate_hz, write_fitting, written_by_ddsp
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.errors import InputError, Kind, OutputError, UsageError, did_you_mean
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.reverb import tail_s
from ddsp_cli.workflows import models
from ddsp_cli.workflows.arguments import PathLike, as_path, as_paths, number, number_or_word

#: Called with what is being done, seconds of sound done and seconds in all.
Progress = Callable[[str, float, float], None]

# --- options ---------------------------------------------------------------------------------------------------------

#: Lowest and highest value of each option that is a number.
RANGES: dict[str, tuple[float, float]] = {
    "transpose": (-60.0, 60.0),
    "dynamics": (0.0, 1.0),
    "loudness": (-40.0, 40.0),
    "autotune": (0.0, 1.0),
    "tuning": (400.0, 480.0),
    "retune": (0.0, 1.0),
    "vibrato": (0.0, 3.0),
    "glide": (0.0, 1.0),
    "threshold": (3.0, 80.0),
    "wet": (0.0, models.MOST_WET),
    "formant": (-24.0, 24.0),
    "loudness_match": (-70.0, 0.0),
    "seed": (0, 2**32 - 1),
}


@dataclass(frozen=True)
class TransferOptions:
    """How a performance is adapted to an instrument and rendered, the same for files and arrays.

    Attributes:
      adapt: how it is adapted.
      tracker: the pitch tracker.
      room: `model`, `none`, an instrument's name, or a sound file with an impulse response.
      wet: gain of the room; 1 is as learned or recorded.
      formant_semitones: shift of the instrument's resonances; pitch and level stay.
      loudness_match: integrated loudness of the output in LUFS; `input` for that of the input (plus
        `adapt.louder_db`), `off` for what the instrument gives.
      tail: the output goes on until the room is 60 dB down.
      seed: of noise and dither.
    """

    adapt: AdaptSettings = field(default_factory=AdaptSettings)
    tracker: str = trackers.DEFAULT_TRACKER
    room: str = "model"
    wet: float = 1.0
    formant_semitones: float = 0.0
    loudness_match: float | Literal["input", "off"] = "input"
    tail: bool = False
    seed: int = 0


def make_options(
    *,
    transpose: float | str = "auto",
    dynamics: float | str = 1.0,
    loudness: float | str = 0.0,
    autotune: float | str = 0.0,
    key: str = "auto",
    tuning: float | str = "auto",
    retune: float | str = 0.05,
    vibrato: float | str = 1.0,
    glide: float | str = 0.0,
    threshold: float | str = 35.0,
    pitch: str = trackers.DEFAULT_TRACKER,
    room: str | os.PathLike[str] = "model",
    wet: float | str = 1.0,
    formant: float | str = 0.0,
    loudness_match: float | str = "input",
    tail: bool = False,
    seed: int = 0,
) -> TransferOptions:
    """Options as a user gives them, checked; `api.transfer` says what each means.

    Raises:
      UsageError: one is out of range, no number, or no such key or tracker; `parameter` names it.
    """
    given = {
        "dynamics": dynamics, "loudness": loudness, "autotune": autotune, "retune": retune, "vibrato": vibrato,
        "glide": glide, "threshold": threshold, "wet": wet, "formant": formant, "seed": seed,
    }  # fmt: skip
    checked = {name: number(value, name, *RANGES[name]) for name, value in given.items()}
    shift = number_or_word(transpose, "transpose", *RANGES["transpose"], words=("auto",))
    a_hz = number_or_word(tuning, "tuning", *RANGES["tuning"], words=("auto",))
    match = number_or_word(loudness_match, "loudness_match", *RANGES["loudness_match"], words=("input", "off"))
    if checked["autotune"] == 0.0 and (key != "auto" or a_hz != "auto"):
        raise UsageError("key and tuning have no effect where autotune is 0", "Set autotune to 1.", kind=Kind.AUTOTUNE)
    if round(checked["seed"]) != checked["seed"]:
        raise UsageError(f"{seed} is not a whole number", parameter="seed")
    try:
        trackers.check_tracker(pitch)
    except UsageError as problem:
        problem.parameter = "tracker"
        raise
    below_db = checked["threshold"]
    return TransferOptions(
        adapt=AdaptSettings(
            segments=SegmentSettings(below_peak_db=below_db, hold_below_peak_db=below_db + 10.0),
            transpose=None if shift == "auto" else float(shift),
            dynamics=checked["dynamics"],
            louder_db=checked["loudness"],
            autotune=checked["autotune"],
            key=parse_key(key),
            tuning_semitones=None if a_hz == "auto" else 12.0 * math.log2(float(a_hz) / 440.0),
            retune_s=checked["retune"],
            vibrato=checked["vibrato"],
            glide_s=checked["glide"],
        ),
        tracker=pitch,
        room=os.fspath(room),
        wet=checked["wet"],
        formant_semitones=checked["formant"],
        loudness_match=match if match in {"input", "off"} else float(match),  # type: ignore[arg-type]
        tail=tail,
        seed=round(checked["seed"]),
    )


def parse_key(text: str) -> autotune.Key | None:
    """A key such as `A minor`; None for `auto`.

    Raises:
      UsageError: neither.
    """
    if text.lower() == "auto":
        return None
    try:
        return autotune.parse_key(text)
    except ValueError:
        raise UsageError(f"{text} is not a key", did_you_mean(text, autotune.known_keys()), parameter="key") from None


# --- results ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TransferResult:
    """One input, played on one instrument.

    Attributes:
      input, output: files.
      plot, controls, notes: a picture, a table of curves and the notes, where they were asked for.
      instrument: its name.
      seconds: length of the output.
      wall_s: how long it took.
      transpose_semitones: what was added to the pitch.
      key: the scale that was tuned to; empty where nothing was.
      n_segments: segments between rests.
      peak: of the output, 1 is full scale.
      gain_db: what the sound was turned up by, to match a loudness or to fit below full scale.
      loudness_lufs: integrated loudness of the output; None where no loudness was asked for.
      short_of_db: how much is missing to the loudness asked for, because the peak leaves no more room.
      sample_rate_hz: of the output.
      tail_s: how long the room rings.
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
    loudness_lufs: float | None
    short_of_db: float
    sample_rate_hz: int
    tail_s: float
    remarks: tuple[str, ...] = ()
    notes: Path | None = None


ResultT = TypeVar("ResultT")


class Failure(NamedTuple):
    """An input that could not be played, and why."""

    input: Path
    error: InputError


@dataclass(frozen=True)
class Batch(Sequence[ResultT]):
    """What became of several inputs; a sequence of the results.

    Attributes:
      results: one for each input and instrument, in order.
      failures: inputs that could not be played.
      own: sound files in the given folders that this program wrote itself, which were left out.
      report: the page, where one was asked for.
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


# --- plan: which file goes where -------------------------------------------------------------------------------------

InputKind = Literal["sound", "score", "controls"]

#: Depths that can be chosen, as libsndfile names them.
BITS = {"16": "PCM_16", "24": "PCM_24", "32": "PCM_32", "float": "FLOAT"}

#: Formats whose depth can be chosen; the others have one coding.
_WITH_DEPTH = frozenset({".wav", ".flac", ".aiff", ".aif", ".w64", ".rf64", ".caf"})


@dataclass(frozen=True)
class Job:
    """One input on one instrument, with everything about its files that is known before work begins.

    Attributes:
      source: the file.
      kind: what it is.
      model: index of the instrument.
      info: of a sound file, also where curves are played in its place.
      output: where the sound goes.
      plot: where a picture goes.
      controls: where the curves go.
      notes: where the notes of a recording go; one job of each input has them.
      rate_hz: of the output; None for the instrument's own.
      rate_is_given: the user chose that rate; otherwise it is the input's, and at least the instrument's.
      subtype: encoding of the output, as libsndfile names it; None for what the format has.
    """

    source: Path
    kind: InputKind
    model: int
    info: read.AudioInfo | None
    output: Path
    plot: Path | None
    controls: Path | None
    notes: Path | None
    rate_hz: int | None
    rate_is_given: bool
    subtype: str | None

    def output_rate_hz(self, instrument_rate_hz: int) -> int:
        """Sample rate of the output: as given, else the input's, but not below the instrument's."""
        if self.rate_is_given and self.rate_hz is not None:
            return self.rate_hz
        return max(self.rate_hz or 0, instrument_rate_hz)


@dataclass(frozen=True)
class Outputs:
    """What a transfer writes, and where.

    Attributes:
      out: a file, a folder, or None for the current folder.
      force: existing files may be replaced.
      plot: pictures are wanted.
      controls: a file or folder for the curves.
      notes: a file or folder for the notes of recordings.
      sample_rate_hz: of the outputs; None for that of each input.
      bits: one of `BITS`; None for what each input has.
    """

    out: Path | None = None
    force: bool = False
    plot: bool = False
    controls: Path | None = None
    notes: Path | None = None
    sample_rate_hz: int | None = None
    bits: str | None = None


class Plan(NamedTuple):
    """Jobs, the inputs that cannot be read, and the files of our own that were passed over in folders."""

    jobs: list[Job]
    failures: list[Failure]
    own: list[Path]


def plan_jobs(inputs: Sequence[Path], names: Sequence[str], outputs: Outputs, curves: Path | None = None) -> Plan:
    """Checks every path and decides where everything goes.

    Args:
      inputs: files and folders.
      names: of the instruments, for the names of outputs.
      outputs: what to write.
      curves: a file of curves to play, in place of what the inputs (none, or one) hold.

    Returns:
      One job for each input and instrument, the instruments of one input beside each other. Of several inputs, those
      that are no sound files are failures.

    Raises:
      InputError: an input is missing; the only input cannot be read.
      UsageError, OutputError: see their messages.
    """
    sources, own = _find_sources(inputs, curves)
    if not sources:
        if own:
            raise InputError("there are only files that ddsp itself wrote", "Name a file to play it all the same.")
        raise UsageError("no input was given", parameter="inputs", kind=Kind.NO_INPUT)
    if outputs.bits is not None and outputs.bits not in BITS:
        raise UsageError(f"{outputs.bits} is not known", did_you_mean(outputs.bits, BITS), parameter="bits")
    rate_hz = outputs.sample_rate_hz
    if rate_hz is not None:
        number(rate_hz, "sample_rate", *read.PLAUSIBLE_RATES_HZ)
    n_jobs, out = len(sources) * len(names), outputs.out
    as_file = _is_file("out", out, read.AUDIO_SUFFIXES, n_jobs)
    one_table = _is_file("controls", outputs.controls, frozenset(CONTROL_SUFFIXES), n_jobs)
    one_score = _is_file("notes", outputs.notes, frozenset(NOTES_SUFFIXES), len(sources))
    if outputs.notes is not None and not any(kind == "sound" for _, kind in sources):
        raise UsageError("only recordings have notes to write", parameter="notes")
    plan = Plan([], [], own)
    taken: set[str] = set()
    for path, kind in sources:
        is_sound = kind == "sound" or (kind == "controls" and path.suffix.lower() in read.AUDIO_SUFFIXES)
        try:
            info = read.probe(path) if is_sound else None
        except InputError as problem:
            if len(sources) == 1:
                raise
            plan.failures.append(Failure(path, problem))
            continue
        for model, name in enumerate(names):
            stem = free_name(f"{path.stem}_{name}", taken)
            output = out if as_file and out is not None else (out or Path()) / f"{stem}.wav"
            if output.exists() and output.resolve() == path.resolve():
                raise OutputError(f"{output} is the input itself", "Choose another name.", parameter="out")
            if rate_hz is not None and nearest_rate_hz(output, rate_hz) != rate_hz:
                raise UsageError(
                    f"{output.suffix[1:]} files have no sample rate of {rate_hz} Hz",
                    f"The nearest they have is {nearest_rate_hz(output, rate_hz)} Hz.",
                    parameter="sample_rate",
                )
            picture = output.with_suffix(".png") if outputs.plot else None
            table = outputs.controls if one_table or outputs.controls is None else outputs.controls / f"{stem}.csv"
            notes = None
            if outputs.notes is not None and kind == "sound" and model == 0:
                notes = outputs.notes if one_score else outputs.notes / f"{stem.removesuffix(f'_{name}')}.mid"
            for target, place in ((output, out), (picture, out), (table, outputs.controls), (notes, outputs.notes)):
                if target is not None and (place is None or place.is_dir() or target == place or as_file):
                    check_writable(target, outputs.force)
            subtype = _subtype(info, output, outputs.bits)
            its_rate_hz = rate_hz or (info.sample_rate_hz if info else None)
            plan.jobs.append(
                Job(path, kind, model, info, output, picture, table, notes, its_rate_hz, rate_hz is not None, subtype)
            )
    for folder, is_file in ((out, as_file), (outputs.controls, one_table), (outputs.notes, one_score)):
        if folder is not None and not is_file:
            _check_folder(folder)
    return plan


def _find_sources(inputs: Sequence[Path], curves: Path | None) -> tuple[list[tuple[Path, InputKind]], list[Path]]:
    """Every input file with its kind, folders searched for sound; and the files of our own in those folders."""
    if curves is not None:
        if len(inputs) > 1:
            raise UsageError("one file of curves is played, but there are several inputs", parameter="from_controls")
        if not curves.is_file():
            raise InputError(f"{curves} does not exist" if not curves.exists() else f"{curves} is not a file")
        return [(inputs[0] if inputs and inputs[0].is_file() else curves, "controls")], []
    sources: dict[Path, InputKind] = {}
    own: list[Path] = []
    for path in inputs:
        if path.suffix.lower() in SCORE_SUFFIXES and not path.is_dir():
            if not path.exists():
                raise InputError(f"{path} does not exist")
            sources[path] = "score"
        elif path.suffix.lower() in CONTROL_SUFFIXES and path.is_file():
            raise UsageError(
                f"{path} holds curves, not sound", "Give it as from_controls.", kind=Kind.CURVES, path=path
            )
        else:
            for found in read.list_audio([path]):
                if path.is_dir() and written_by_ddsp(found):
                    own.append(found)
                else:
                    sources[found] = "sound"
    return list(sources.items()), own


def _is_file(parameter: str, place: Path | None, suffixes: frozenset[str], n_jobs: int) -> bool:
    """Whether a place names one file; a folder has no suffix, or exists."""
    if place is None or place.is_dir() or place.suffix == "":
        return False
    if place.suffix.lower() not in suffixes:
        known = ", ".join(sorted(suffixes & {".wav", ".flac", ".ogg", ".mp3", ".csv", ".npz", ".mid"}))
        what = {"out": "a sound format", "controls": "a table"}.get(parameter, "a MIDI file or a table")
        raise UsageError(f"{place} has no suffix of {what}", f"Use {known}; or name a folder.", parameter=parameter)
    if n_jobs > 1:
        raise UsageError(
            f"{place} is one file, but there are {n_jobs} sounds to write", "Name a folder.", parameter=parameter
        )
    return True


def free_name(stem: str, taken: set[str]) -> str:
    """The stem, numbered where it is taken already (capitals do not count); now it is taken as well."""
    name, count = stem, 2
    while name.lower() in taken:
        name, count = f"{stem}-{count}", count + 1
    taken.add(name.lower())
    return name


def _check_folder(out: Path) -> None:
    if out.is_dir():
        return
    if out.exists():
        raise OutputError(f"{out} is a file, not a folder", "With a suffix such as .wav it would name a file.")
    if not out.parent.is_dir():
        raise OutputError(f"the folder {out.parent} does not exist", "Make it first, or choose another folder.")


@contextmanager
def folders_for(jobs: Sequence[Job]) -> Iterator[None]:
    """Makes the folders of the outputs; takes those away again that stay empty.

    Raises:
      OutputError: one cannot be made.
    """
    targets = [target.parent for job in jobs for target in (job.output, job.controls, job.notes) if target is not None]
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
    """The depth that was chosen, else as many bits as the input has, where the output's format has a choice.

    Raises:
      UsageError: a depth that the format does not have.
    """
    suffix = output.suffix.lower()
    if suffix not in _WITH_DEPTH:
        if bits is not None:
            hint = "Choose a depth for wav, flac or aiff."
            raise UsageError(f"{suffix[1:]} files have no choice of depth", hint, parameter="bits")
        return None
    if bits is not None:
        if suffix == ".flac" and bits in {"32", "float"}:
            raise UsageError(f"flac files cannot hold {bits}", "Use 16 or 24, or a wav file.", parameter="bits")
        return BITS[bits]
    own = info.subtype if info is not None else "PCM_24"
    if own in {"FLOAT", "DOUBLE"}:
        return "PCM_24" if suffix == ".flac" else "FLOAT"
    return "PCM_24" if own in {"PCM_24", "PCM_32"} else "PCM_16"


# --- one performance: an input, analysed and adapted to an instrument ------------------------------------------------

#: Performances are analysed at this frame rate where the model's own divides it: notes are found to 4 ms.
ANALYSIS_FRAME_RATE_HZ = 250

#: Longer inputs are analysed at the model's own frame rate, 50 Hz for most: a day of curves at 250 Hz takes 2 GB.
LONG_S = 2.0 * 3600.0


class _Watch:
    """What is measured of a file while it is decoded for the first time; called with each block [S, C].

    Args:
      sample_rate_hz: of the file.
      with_loudness: also measure its integrated loudness.
    """

    def __init__(self, sample_rate_hz: int, with_loudness: bool) -> None:
        self.clipping = ClippingWatch()
        self.meter = LoudnessMeter(sample_rate_hz) if with_loudness else None

    def __call__(self, block: FloatArray) -> None:
        self.clipping(block)
        if self.meter is not None:
            self.meter.push(block[:, 0] if block.shape[1] == 1 else block.mean(axis=1))


@dataclass(frozen=True)
class Performance:
    """What an instrument is to play, and what it came from.

    Attributes:
      adapted: the curves.
      seconds: how long the output is, before any tail.
      info: what the header of the recording says.
      n_input_samples: length of the recording at its own rate, counted; 0 where there was none.
      analysis: of the recording; None where there was none.
      recording: the sound at 16 kHz.
      loudness_lufs: integrated loudness of the recording; None where it does not count.
      file_remarks: what is wrong with the file, as sentences.
      remarks: the same, and what makes the sound hard to follow.
    """

    adapted: Adapted
    seconds: float
    info: read.AudioInfo | None = None
    n_input_samples: int = 0
    analysis: Analysis[Segments] | None = None
    recording: Recording | None = None
    loudness_lufs: float | None = None
    file_remarks: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def features(self) -> Features | None:
        """Of the recording; None where there was none."""
        return self.analysis.features if self.analysis is not None else None

    def n_samples(self, rate_hz: int) -> int:
        """Length of the output: the input's to the sample, brought to another rate."""
        if self.info is not None:
            n_samples = round(self.n_input_samples * rate_hz / self.info.sample_rate_hz)
            if abs(n_samples / rate_hz - self.seconds) <= 0.1:
                return n_samples
        return round(self.seconds * rate_hz)

    def timbre(self, instrument: Instrument) -> Iterator[FloatArray]:
        """What an instrument with an encoder follows besides the curves: the recording, read once more."""
        if self.recording is not None and instrument.model.encoder:
            yield from instrument.timbre(self.recording.blocks())


def perform(
    job: Job,
    instrument: Instrument,
    options: TransferOptions,
    curves: Path | None,
    progress: Callable[[float], None],
    last: Performance | None = None,
) -> Performance:
    """Analyses or reads the input of a job and adapts it to an instrument.

    Args:
      job: names the input and its kind.
      instrument: to adapt it to.
      options: how.
      curves: a file of curves, for a job of that kind.
      progress: called with the seconds that are analysed.
      last: the performance before it; the same input is not analysed twice.

    Raises:
      InputError: nothing to play in it.
    """
    level, statistics = instrument.model.level, instrument.bundle.card.statistics
    rate_hz = frame_rate_hz(instrument)
    if job.kind == "controls":
        assert curves is not None
        adapted = read_controls(curves, level, rate_hz)
        if job.info is None:
            return Performance(adapted, len(adapted) / rate_hz)
        n_input_samples = read.count_samples(job.source)
        return Performance(adapted, n_input_samples / job.info.sample_rate_hz, job.info, n_input_samples)
    if job.kind == "score":
        score = read_score(job.source)
        remarks: tuple[str, ...] = ()
        if score.n_overlapping:
            remarks = ("it holds chords; of each the highest note is played",)
        adapted = adapt_score(score, statistics, level, rate_hz, options.adapt)
        remarks += diagnostics.range_warnings(adapted, statistics, instrument.bundle.card.name)
        return Performance(adapted, len(adapted) / rate_hz, remarks=remarks)
    assert job.info is not None
    try:
        if last is not None and last.info is job.info and last.recording is not None:
            return _perform_recording(last.recording, instrument, options, progress, last, job.info.seconds)
        watch = _Watch(job.info.sample_rate_hz, options.loudness_match == "input")
        recording = FileRecording(job.source, watch=watch)
        performance = _perform_recording(
            recording, instrument, options, progress, Performance(resting(0, rate_hz), 0.0), job.info.seconds
        )
    except InputError as problem:
        if str(job.source) in problem.message:
            raise
        raise problem.reworded(f"{job.source}: {problem.message}") from problem
    file_remarks = file_warnings(recording.decoded, watch.clipping, job.info.sample_rate_hz)
    return replace(
        performance,
        info=job.info,
        n_input_samples=recording.decoded.n_samples,
        loudness_lufs=watch.meter.integrated_lufs() if watch.meter is not None else None,
        file_remarks=file_remarks,
        remarks=(*file_remarks, *performance.remarks),
    )


def _perform_recording(
    recording: Recording,
    instrument: Instrument,
    options: TransferOptions,
    progress: Callable[[float], None],
    last: Performance,
    input_s: float = 0.0,
) -> Performance:
    """Analyses a recording, or takes the analysis of the last performance of it, and adapts it to an instrument.

    Args:
      recording: at 16 kHz.
      instrument: to adapt it to.
      options: how.
      progress: called with the seconds that are analysed.
      last: what is known of the recording.
      input_s: its length, as far as that is known before it is decoded.

    Raises:
      InputError: no notes in it, and nothing known of why.
    """
    spec = _spec(instrument, options.tracker, input_s)
    if last.analysis is not None and last.analysis.features.spec == spec:
        analysis = last.analysis
    else:
        analysis = analyze(
            recording, spec, lambda features: find_segments(features, options.adapt.segments), progress=progress
        )
        analysis = _confirmed(analysis, recording, options.adapt)
    remarks = diagnostics.warnings(analysis)
    features, card = analysis.features, instrument.bundle.card
    try:
        adapted = adapt(features, card.statistics, instrument.model.level, options.adapt, analysis.segments)
    except InputError:
        if not remarks:
            raise
        adapted = resting(len(features), spec.frame_rate_hz)
    remarks += diagnostics.range_warnings(adapted, card.statistics, card.name)
    seconds = features.n_samples / ANALYSIS_RATE_HZ
    return replace(
        last,
        adapted=adapted,
        analysis=analysis,
        seconds=seconds,
        recording=recording,
        remarks=(*last.file_remarks, *remarks),
    )


def frame_rate_hz(instrument: Instrument, input_s: float = 0.0) -> int:
    """Frame rate of the curves.

    Args:
      instrument: whose own rate it is, or a finer one that its own divides.
      input_s: length of the input. The curves of one longer than `LONG_S` are as coarse as the model's own frames: they
        are kept in memory, about 80 bytes a frame.
    """
    own_hz = instrument.model.frame_rate_hz
    return ANALYSIS_FRAME_RATE_HZ if ANALYSIS_FRAME_RATE_HZ % own_hz == 0 and input_s <= LONG_S else own_hz


def _spec(instrument: Instrument, tracker: str, input_s: float) -> FeatureSpec:
    """How to measure: as for the instrument, but for the tracker: pitch is pitch, whoever finds it."""
    rate_hz = frame_rate_hz(instrument, input_s)
    return msgspec.structs.replace(instrument.bundle.card.features.at(rate_hz), pitch=tracker)


def _confirmed(analysis: Analysis[Segments], recording: Recording, settings: AdaptSettings) -> Analysis[Segments]:
    """The analysis without leaps of the F0 that the sound does not confirm."""
    if analysis.character != "pitched" or not settings.repair_pitch:
        return analysis
    features = confirm_leaps(analysis.features, analysis.segments, recording)
    if features is analysis.features:
        return analysis
    return replace(analysis, features=features, segments=find_segments(features, settings.segments))


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


# --- rendering -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Player:
    """An instrument in the room that it plays in.

    Attributes:
      name: for results.
      instrument: what plays.
      room: see `Instrument.render`.
    """

    name: str
    instrument: Instrument
    room: bool | FloatArray

    @property
    def tail_s(self) -> float:
        """How long the room rings, until it is 60 dB down."""
        response = self.instrument.bundle.impulse_response if self.room is True else self.room
        return tail_s(response if isinstance(response, np.ndarray) else None, self.instrument.model.sample_rate_hz)


def make_player(name: str, instrument: Instrument, options: TransferOptions) -> Player:
    """An instrument in the room that the options name.

    Raises:
      UsageError, InputError, ModelError: there is no such room.
    """
    own = instrument.bundle.impulse_response
    room = models.find_room(options.room, options.wet, instrument.model.sample_rate_hz, own)
    return Player(name, instrument, room)


def render(
    performance: Performance,
    player: Player,
    options: TransferOptions,
    rate_hz: int,
    progress: Callable[[float], None] | None = None,
) -> tuple[Iterator[FloatArray], int]:
    """Plays a performance.

    Returns:
      The sound [S] a block at `rate_hz`, and how many samples of it count; those beyond are the end of the room.
    """
    instrument, adapted = player.instrument, performance.adapted
    n_samples = performance.n_samples(rate_hz)
    if options.tail and player.tail_s > 0.0:
        n_frames = math.ceil(player.tail_s * adapted.frame_rate_hz)
        adapted = _with_rest(adapted, n_frames)
        n_samples += round(player.tail_s * rate_hz)
    own_hz = instrument.model.sample_rate_hz
    blocks = instrument.render(
        *adapted.at(instrument.model.frame_rate_hz),
        seed=options.seed,
        room=player.room,
        level_correction=True,
        timbre=performance.timbre(instrument),
        formant=options.formant_semitones,
    )
    return at_rate(_told(blocks, own_hz, progress), own_hz, rate_hz), n_samples


def _with_rest(adapted: Adapted, n_frames: int) -> Adapted:
    """The same curves [F], then a rest."""
    return replace(
        adapted,
        f0_hz=np.pad(adapted.f0_hz, (0, n_frames), mode="edge"),
        level_db=np.pad(adapted.level_db, (0, n_frames), mode="edge"),
        gate=np.pad(adapted.gate, (0, n_frames)),
    )


def _told(blocks: Iterator[FloatArray], rate_hz: int, progress: Callable[[float], None] | None) -> Iterator[FloatArray]:
    n_done = 0
    for block in blocks:
        n_done += len(block)
        if progress is not None:
            progress(n_done / rate_hz)
        yield block


def _target_lufs(performance: Performance, options: TransferOptions) -> float | None:
    """The integrated loudness that the output is brought to; None leaves it alone."""
    if options.loudness_match == "off":
        return None
    if options.loudness_match == "input":
        known = performance.loudness_lufs
        return None if known is None else known + options.adapt.louder_db
    return float(options.loudness_match)


def _short_of_db(target_lufs: float | None, fit: Fit) -> float:
    """How much louder the sound should have been."""
    if target_lufs is None or fit.loudness_lufs is None or not math.isfinite(target_lufs + fit.loudness_lufs):
        return 0.0
    return max(0.0, target_lufs - fit.loudness_lufs)


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
      Sound [S], and its sample rate: that of the input, or the instrument's where that is higher.

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
    performance = _perform_recording(recording, player.instrument, options, lambda done_s: None, known)
    rate_hz = max(sample_rate_hz, player.instrument.model.sample_rate_hz)
    blocks, n_samples = render(performance, player, options, rate_hz)
    target_lufs = _target_lufs(performance, options)
    with fit_level(blocks, rate_hz, n_samples=n_samples, target_lufs=target_lufs) as fitted:
        return np.concatenate(list(fitted.blocks())), rate_hz


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
    bits: str | None = None,
    controls: PathLike | None = None,
    from_controls: PathLike | None = None,
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
      model: an instrument's name, its folder, or a `.tflite` of DDSP-VST; several of them, or "all".
      out: a file (for one input and one instrument), or a folder; by default `INPUT_MODEL.wav` in the current folder.
      options: how it is played, see `make_options`.
      force: replace files that exist.
      plot: also draw a picture, beside the sound.
      sample_rate_hz: of the output; by default the input's own, or the instrument's where that is higher.
      bits: `16`, `24`, `32` or `float`; by default what the input has.
      controls: a .csv or .npz for the curves that are played, or a folder for several.
      from_controls: such a file to play; then `inputs` may be empty.
      notes: a .mid or .csv for the notes of the recording, or a folder for several.
      report: an HTML page to write, with players and pictures.
      workers: processes at most, for several inputs that last long enough. A script that asks for more than 1 needs
        `if __name__ == "__main__"`.
      progress: called as work goes on, see `Progress`.

    Raises:
      UsageError: options that make no sense together.
      InputError: the only input cannot be played, or none of several; an input is missing.
      ModelError: no such instrument, or a damaged one.
      OutputError: an output exists already or cannot be written.
    """
    options = options or TransferOptions()
    outputs = Outputs(as_path(out), force, plot, as_path(controls), as_path(notes), sample_rate_hz, bits)
    curves, page = as_path(from_controls), as_path(report)
    places = models.find_all(as_paths(model))
    names = [models.title(place) for place in places]
    plan = plan_jobs(as_paths(inputs), names, outputs, curves)
    if page is not None:
        if page.suffix.lower() not in {".html", ".htm"}:
            raise UsageError(f"{page} is not an .html file", parameter="report")
        check_writable(page, force)
    work = _Work(tuple(places), tuple(names), options, curves, force, draw=plot or page is not None)
    players = work.players()  # what is wrong with one is said before any sound is made
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
            from ddsp_cli.reports.transfer_report import write_report

            write_report(page, [one.result for one in played], [one.picture for one in played], force)
    return Batch(tuple(one.result for one in played), tuple(failures), tuple(plan.own), page)


@dataclass(frozen=True)
class _Work:
    """What all jobs have in common; it can be sent to another process."""

    places: tuple[Path, ...]
    names: tuple[str, ...]
    options: TransferOptions
    curves: Path | None
    force: bool
    draw: bool

    def players(self) -> list[Player]:
        """The instruments, loaded."""
        loaded = [Instrument(models.open_at(place)) for place in self.places]
        return [make_player(name, one, self.options) for name, one in zip(self.names, loaded, strict=True)]


class _Played(NamedTuple):
    """The result of a job, and its picture where one is wanted."""

    result: TransferResult
    picture: bytes


class _BatchProgress:
    """Progress of one input by itself, of several inputs together.

    Args:
      progress: who is told.
      by_source: the jobs of each input.
    """

    def __init__(self, progress: Progress | None, by_source: Sequence[Sequence[Job]]) -> None:
        self._progress, self._n_sources = progress, len(by_source)
        self.total_s = sum(self.seconds(jobs[0]) * (1 + len(jobs)) for jobs in by_source)
        self._before_s = 0.0

    @staticmethod
    def seconds(job: Job) -> float:
        """Length of an input as far as it is known."""
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
        """A stage of so many seconds is over."""
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
                job, player.instrument, work.options, work.curves, bar.stage(job, "listening"), performance
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
    wanted_hz = job.output_rate_hz(instrument.model.sample_rate_hz)
    rate_hz = nearest_rate_hz(job.output, wanted_hz)
    remarks = performance.remarks
    if rate_hz != wanted_hz:
        suffix = job.output.suffix[1:]
        remarks += (f"{suffix} has no sample rate of {wanted_hz} Hz, so it was written at {rate_hz} Hz",)
    if job.controls is not None:
        write_controls(job.controls, adapted, instrument.model.level, work.force)
    if job.notes is not None and performance.analysis is not None:
        write_notes(job.notes, transcribe(performance.analysis.features, performance.analysis.segments), work.force)
    target_lufs = _target_lufs(performance, options)
    blocks, n_samples = render(performance, player, options, rate_hz, bar.stage(job, "playing"))
    fit = write_fitting(
        job.output,
        blocks,
        rate_hz,
        n_samples=n_samples,
        subtype=job.subtype,
        seed=options.seed,
        force=work.force,
        target_lufs=target_lufs,
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
            short_of_db=_short_of_db(target_lufs, fit),
            sample_rate_hz=rate_hz,
            tail_s=player.tail_s,
            remarks=remarks,
        ),
        picture,
    )


def _draw(job: Job, performance: Performance, player: Player) -> bytes:
    """The picture of a job, also written where one was asked for."""
    from ddsp_cli.reports.plots import draw_transfer

    picture = draw_transfer(
        job.source if job.info is not None else None,
        job.output,
        performance.features,
        performance.adapted,
        player.instrument.model.level,
        player.name,
    )
    if job.plot is not None:
        with writing(job.plot):
            write_bytes(job.plot, picture)
    return picture


# --- files in several processes --------------------------------------------------------------------------------------

#: Less sound than this, listened to and played, is done before another process has started.
WORTH_PROCESSES_S = 120.0

#: How often progress is told.
_POLL_S = 0.2

#: In a worker process: the work, its instruments, seconds done by all workers, and whether to stop.
_shared: dict[str, object] = {}


class _StoppedError(Exception):
    """The parent asked a worker to stop."""


class _WorkerProgress(_BatchProgress):
    """Adds up what all workers have done."""

    def stage(self, job: Job, what: str) -> Callable[[float], None]:
        stop = _shared["stop"]

        def tell(done_s: float) -> None:
            if stop.is_set():  # type: ignore[attr-defined]
                raise _StoppedError

        return tell

    def advance(self, seconds: float) -> None:
        counter = _shared["counter"]
        with counter.get_lock():  # type: ignore[attr-defined]
            counter.value += seconds  # type: ignore[attr-defined]


def _play_in_processes(
    by_source: Sequence[Sequence[Job]], work: _Work, n_workers: int, bar: _BatchProgress
) -> list[list[_Played] | Failure]:
    """Plays inputs, several at a time.

    Raises:
      DdspError: as `_play_source`; the others are stopped then.
    """
    import multiprocessing
    from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

    # A forked process would inherit the threads' locks of libraries already in use.
    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("d", 0.0), context.Event()
    executor = ProcessPoolExecutor(n_workers, context, _start_worker, (work, counter, stop))
    outcomes: dict[int, list[_Played] | Failure] = {}
    told_s = 0.0
    try:
        pending: dict[Future[list[_Played] | Failure], int] = {
            executor.submit(_work_on, list(jobs)): index for index, jobs in enumerate(by_source)
        }
        while pending:
            done, _ = wait(pending, _POLL_S, FIRST_COMPLETED)
            for future in done:
                outcomes[pending.pop(future)] = future.result()
            done_s = float(counter.value)
            bar.advance(done_s - told_s)
            told_s = done_s
    finally:
        stop.set()
        executor.shutdown(wait=True, cancel_futures=True)
    return [outcomes[index] for index in range(len(by_source))]


def _start_worker(work: _Work, counter: object, stop: object) -> None:
    import signal
    import threading

    # Ctrl-C reaches the whole group; the parent alone answers it and tells the workers to stop.
    with suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _shared.update(work=work, players=work.players(), counter=counter, stop=stop)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work_on(jobs: Sequence[Job]) -> list[_Played] | Failure:
    players, work = _shared["players"], _shared["work"]
    return _play_source(jobs, players, work, _WorkerProgress(None, [jobs]))  # type: ignore[arg-type]
