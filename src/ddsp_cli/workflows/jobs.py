"""What is to be played from where to where: everything about paths that can be known before work begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ddsp_cli.errors import InputError, OutputError, UsageError, did_you_mean
from ddsp_cli.features import io
from ddsp_cli.features.sink import check_writable
from ddsp_cli.runtime.score import SUFFIXES as SCORE_SUFFIXES
from ddsp_cli.workflows.controls import SUFFIXES as CONTROL_SUFFIXES

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
    info: io.AudioInfo | None
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
    if rate_hz is not None and not io.PLAUSIBLE_RATES_HZ[0] <= rate_hz <= io.PLAUSIBLE_RATES_HZ[1]:
        raise UsageError(f"a sample rate of {rate_hz} Hz makes no sense")
    n_jobs, out = len(sources) * len(names), wanted.out
    as_file = _is_file("--out", out, io.AUDIO_SUFFIXES, n_jobs)
    one_table = _is_file("--controls", wanted.controls, frozenset(CONTROL_SUFFIXES), n_jobs)
    jobs: list[Job] = []
    taken: set[str] = set()
    for path, kind in sources:
        is_sound = kind == "sound" or (kind == "controls" and path.suffix.lower() in io.AUDIO_SUFFIXES)
        info = io.probe(path) if is_sound else None
        for model, name in enumerate(names):
            stem = free_name(f"{path.stem}_{name}", taken)
            output = out if as_file and out is not None else (out or Path()) / f"{stem}.wav"
            if output.exists() and output.resolve() == path.resolve():
                raise OutputError(f"{output} is the input itself", "Name another place with --out.")
            picture = output.with_suffix(".png") if wanted.plot else None
            table = wanted.controls if one_table or wanted.controls is None else wanted.controls / f"{stem}.csv"
            for target, place in ((output, out), (picture, out), (table, wanted.controls)):
                if target is not None and (place is None or place.is_dir() or target == place or as_file):
                    check_writable(target, wanted.force)
            own_rate_hz = rate_hz or (info.sample_rate_hz if info else None)
            subtype = _subtype(path if info else None, output, wanted.bits)
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
            sources |= dict.fromkeys(io.list_audio([path]), "sound")
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


def _subtype(source: Path | None, output: Path, bits: str | None) -> str | None:
    """The depth that is asked for, else as many bits as the input has, where the output's format has a choice.

    Raises:
      UsageError: a depth that the format does not have.
    """
    import soundfile

    kind = output.suffix.lower()
    if kind not in _DEEP:
        if bits is not None:
            raise UsageError(f"{kind[1:]} files have no --bits to choose", "Choose it for wav, flac or aiff.")
        return None
    if bits is not None:
        if kind == ".flac" and bits in {"32", "float"}:
            raise UsageError(f"flac files cannot hold --bits {bits}", "Use 16 or 24, or a wav file.")
        return BITS[bits]
    own = soundfile.info(source).subtype if source is not None else "PCM_24"
    if own in {"FLOAT", "DOUBLE"}:
        return "PCM_24" if kind == ".flac" else "FLOAT"
    return "PCM_24" if own in {"PCM_24", "PCM_32"} else "PCM_16"
