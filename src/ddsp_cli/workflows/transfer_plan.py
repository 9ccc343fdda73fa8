"""Which file goes where: the inputs of a transfer, the place of each output, and checks of both before any work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import msgspec

from ddsp_cli.adaptation import CURVE_SUFFIXES, NOTE_SUFFIXES, SCORE_SUFFIXES
from ddsp_cli.audio import read
from ddsp_cli.audio.write import check_writable, nearest_rate_hz, written_by_ddsp
from ddsp_cli.bundle import CARD
from ddsp_cli.bundle.folder import is_export
from ddsp_cli.errors import DdspError, InputError, Kind, OutputError, UsageError
from ddsp_cli.workflows.arguments import number, word

InputKind = Literal["sound", "score", "controls"]

#: Depths that can be chosen, as libsndfile names them.
BITS = {"16": "PCM_16", "24": "PCM_24", "32": "PCM_32", "float": "FLOAT"}

#: Formats whose depth can be chosen; the others have one coding.
_WITH_DEPTH = frozenset({".wav", ".flac", ".aiff", ".aif", ".w64", ".rf64", ".caf", ".au"})

#: Encodings of inputs whose outputs have more than 16 bits, where nobody chose a depth.
_DEEP = {"PCM_24": "PCM_24", "PCM_32": "PCM_32", "FLOAT": "FLOAT", "DOUBLE": "FLOAT", "ALAC_20": "PCM_24",
         "ALAC_24": "PCM_24", "ALAC_32": "PCM_32"}  # fmt: skip

#: What each output holds, by its argument.
_HELD = {"out": "the sound", "plot": "the picture", "controls": "the curves", "notes": "the notes"}


class Job(msgspec.Struct, frozen=True):
    """One input on one instrument, with everything about its files that is known before work begins.

    Attributes:
      source: the file.
      kind: recording, score or curves.
      model: index of the instrument.
      info: of a sound file, also where curves are played in its place.
      output: where the sound goes.
      plot: where a picture goes.
      controls: where the curves go.
      notes: where the notes of a recording go; one job of each input has them.
      rate_hz: of the output; None for the instrument's own.
      rate_is_given: the user chose that rate; otherwise it is the input's, and at least the instrument's.
      subtype: encoding of the output, as libsndfile names it; None for the default of the format.
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
        """Returns the sample rate of the output: as given, else the input's, but not below the instrument's."""
        if self.rate_is_given and self.rate_hz is not None:
            return self.rate_hz
        return max(self.rate_hz or 0, instrument_rate_hz)


class Outputs(msgspec.Struct, frozen=True):
    """The files that a transfer writes.

    Attributes:
      out: a file, a folder, or None for the current folder.
      force: existing files may be replaced.
      plot: also draw pictures.
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
    bits: str | int | None = None


def written_rate(output: Path, wanted_hz: int) -> tuple[int, tuple[str, ...]]:
    """Returns the sample rate at which an output is written, and a remark where its format has no such rate."""
    rate_hz = nearest_rate_hz(output, wanted_hz)
    if rate_hz == wanted_hz:
        return rate_hz, ()
    return rate_hz, (f"{output.suffix[1:]} has no sample rate of {wanted_hz} Hz, so it was written at {rate_hz} Hz",)


class Failure(NamedTuple):
    """An input that could not be played, and why."""

    input: Path
    error: DdspError


FoundT = TypeVar("FoundT")


def each_input(inputs: Sequence[Path], find: Callable[[Path], FoundT]) -> tuple[list[FoundT], list[Failure]]:
    """Reads each input by itself, so that a missing or unreadable one does not stop the others.

    Args:
      inputs: files and folders.
      find: returns the files of an input.

    Returns:
      The files found, and the inputs that failed.

    Raises:
      DdspError: the only input failed.
    """
    found, failures = [], []
    for path in inputs:
        try:
            found.append(find(path))
        except (InputError, UsageError) as problem:
            if len(inputs) == 1:
                raise
            failures.append(Failure(path, problem))
    return found, failures


class Plan(NamedTuple):
    """Jobs, the inputs that are missing or unreadable, and files written by ddsp that were left out of folders."""

    jobs: list[Job]
    failures: list[Failure]
    own: list[Path]


def plan_jobs(
    inputs: Sequence[Path],
    names: Sequence[str],
    outputs: Outputs,
    curves: Path | None = None,
    also_read: Sequence[Path] = (),
) -> Plan:
    """Checks every path and decides where everything goes.

    Args:
      inputs: files and folders.
      names: of the instruments, for the names of outputs.
      outputs: what to write.
      curves: a file of curves to play, in place of the curves of the input (none, or one).
      also_read: further files that are read, such as edited notes or an impulse response; none is replaced.

    Returns:
      One job for each input and instrument, the instruments of one input beside each other. Of several inputs, those
      that are missing or not sound files are failures.

    Raises:
      InputError: the only input is missing or cannot be read, or all inputs are missing.
      UsageError, OutputError: see their messages.
    """
    sources, failures, own = _find_sources(inputs, curves)
    n_inputs = len(sources) + len(failures)
    if not sources:
        if failures:
            raise failures[0].error
        if own:
            raise InputError("there are only files that ddsp itself wrote", "Name a file to play it anyway.")
        raise UsageError("no input was given", parameter="inputs", kind=Kind.NO_INPUT)
    bits = None if outputs.bits is None else word(outputs.bits, "bits", BITS)
    rate_hz = outputs.sample_rate_hz
    if rate_hz is not None:
        number(rate_hz, "sample_rate", *read.PLAUSIBLE_RATES_HZ)
    n_jobs, out = n_inputs * len(names), outputs.out
    as_file = _is_file("out", out, read.AUDIO_SUFFIXES, n_jobs)
    one_table = _is_file("controls", outputs.controls, frozenset(CURVE_SUFFIXES), n_jobs)
    one_score = _is_file("notes", outputs.notes, frozenset(NOTE_SUFFIXES), n_inputs)
    if outputs.notes is not None and not any(kind == "sound" for _, kind in sources):
        raise UsageError("only recordings have notes to write", parameter="notes")
    plan = Plan([], failures, own)
    stems = _stems([path for path, _ in sources])
    taken: set[str] = set()
    taken_by_notes: set[str] = set()
    curves_read = () if curves is None else (curves,)
    claims = _Claims((*(path for path, _ in sources), *curves_read, *also_read))
    for path, kind in sources:
        is_sound = kind == "sound" or (kind == "controls" and path.suffix.lower() in read.AUDIO_SUFFIXES)
        try:
            info = read.probe(path) if is_sound else None
        except InputError as problem:
            if n_inputs == 1:
                raise
            plan.failures.append(Failure(path, problem))
            continue
        for model, name in enumerate(names):
            stem = free_name(f"{stems[path]}_{name}", taken)
            output = out if as_file and out is not None else (out or Path()) / f"{stem}.wav"
            if rate_hz is not None:
                _check_rate(output, rate_hz)
            picture = output.with_suffix(".png") if outputs.plot else None
            table = outputs.controls if one_table or outputs.controls is None else outputs.controls / f"{stem}.csv"
            notes = None
            if outputs.notes is not None and kind == "sound" and model == 0:
                notes = outputs.notes if one_score else outputs.notes / f"{free_name(stems[path], taken_by_notes)}.mid"
            for target, place, is_file, parameter in (
                (output, out, as_file, "out"),
                (picture, out, as_file, "plot"),
                (table, outputs.controls, one_table, "controls"),
                (notes, outputs.notes, one_score, "notes"),
            ):
                if target is None:
                    continue
                claims.add(target, path, parameter)
                if place is None or place.is_dir() or is_file:
                    check_writable(target, outputs.force)
            subtype = _subtype(info, output, bits)
            its_rate_hz = rate_hz or (info.sample_rate_hz if info else None)
            plan.jobs.append(
                Job(path, kind, model, info, output, picture, table, notes, its_rate_hz, rate_hz is not None, subtype)
            )
    for folder, is_file in ((out, as_file), (outputs.controls, one_table), (outputs.notes, one_score)):
        if folder is not None and not is_file:
            _check_folder(folder)
    return plan


def _check_rate(output: Path, rate_hz: int) -> None:
    if nearest_rate_hz(output, rate_hz) != rate_hz:
        raise UsageError(
            f"{output.suffix[1:]} files have no sample rate of {rate_hz} Hz",
            f"The nearest they have is {nearest_rate_hz(output, rate_hz)} Hz.",
            parameter="sample_rate",
        )


class _Claims:
    """The paths that a transfer writes: none is read by it or written twice.

    Args:
      read_from: the files that it reads.
    """

    def __init__(self, read_from: Iterable[Path]) -> None:
        self._read_from = {path.resolve() for path in read_from}
        self._written: dict[Path, str] = {}

    def add(self, target: Path, source: Path, parameter: str) -> None:
        """Adds a path.

        Args:
          target: to write.
          source: the input that it is made from.
          parameter: the argument that asks for it.

        Raises:
          OutputError: it is read, or already written.
        """
        real = target.resolve()
        if real in self._read_from and target.exists():
            what = "the input itself" if real == source.resolve() else "also an input"
            raise OutputError(f"{target} is {what}", "Choose another name.", parameter=parameter)
        if real in self._written:
            raise OutputError(f"{target} cannot hold both {_HELD[self._written[real]]} and {_HELD[parameter]}",
                              "Name two files.", parameter=parameter)  # fmt: skip
        self._written[real] = parameter


def _find_sources(
    inputs: Sequence[Path], curves: Path | None
) -> tuple[list[tuple[Path, InputKind]], list[Failure], list[Path]]:
    """Finds every input file with its kind, searching folders; inputs that fail; our own files in those folders."""
    if curves is not None:
        if len(inputs) > 1:
            raise UsageError("one file of curves is played, but there are several inputs", parameter="from_controls")
        if not curves.is_file():
            raise InputError(f"{curves} does not exist" if not curves.exists() else f"{curves} is not a file")
        return [(inputs[0] if inputs and inputs[0].is_file() else curves, "controls")], [], []
    own: list[Path] = []
    found, failures = each_input(inputs, lambda path: _sources_at(path, own))
    return list({path: (path, kind) for sources in found for path, kind in sources}.values()), failures, own


def _sources_at(path: Path, own: list[Path]) -> list[tuple[Path, InputKind]]:
    """Finds the files of one input with their kinds; files in a folder that this program wrote are added to `own`.

    Raises:
      InputError: it is missing, or a folder without sound.
      UsageError: it holds the notes or the curves of a recording.
    """
    if path.suffix.lower() in SCORE_SUFFIXES and not path.is_dir():
        if not path.exists():
            raise InputError(f"{path} does not exist")
        return [(path, "score")]
    if path.suffix.lower() in CURVE_SUFFIXES and path.is_file():
        from ddsp_cli.adaptation.notes import is_note_table

        if is_note_table(path):
            raise UsageError(
                f"{path} holds the notes of a recording, not sound",
                "Give it as from_notes, with that recording as the input.",
                kind=Kind.NOTE_TABLE,
                path=path,
            )
        raise UsageError(f"{path} holds curves, not sound", "Give it as from_controls.", kind=Kind.CURVES, path=path)
    sources: list[tuple[Path, InputKind]] = []
    for found in read.list_audio([path]):
        if path.is_dir() and (_belongs_to_instrument(found.parent) or written_by_ddsp(found)):
            own.append(found)
        else:
            sources.append((found, "sound"))
    return sources


def _belongs_to_instrument(folder: Path) -> bool:
    """Whether a folder is a bundle or an export: its sounds are impulse responses and previews."""
    return (folder / CARD).is_file() or is_export(folder)


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


def _stems(sources: Sequence[Path]) -> dict[Path, str]:
    """Returns how each input begins the names of its outputs: with its suffix where others have the same stem."""
    names: dict[str, set[str]] = {}
    for path in sources:
        names.setdefault(path.stem.lower(), set()).add(path.name.lower())
    return {path: path.stem if len(names[path.stem.lower()]) == 1 else path.name for path in sources}


def free_name(stem: str, taken: set[str]) -> str:
    """Returns the stem, numbered where it is taken already (capitals do not count); now it is taken as well."""
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
    """Returns the depth that was chosen, else as many bits as the input has, where the output's format has a choice.

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
    own = _DEEP.get(info.subtype, "PCM_16") if info is not None else "PCM_24"
    return "PCM_24" if suffix == ".flac" and own != "PCM_16" else own
