"""What is to be played from where to where: everything about paths that can be known before work begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ddsp_cli.errors import OutputError, UsageError
from ddsp_cli.features import io


@dataclass(frozen=True)
class Job:
    """One input with everything that can be known before work begins."""

    info: io.AudioInfo
    output: Path
    plot: Path | None
    rate_hz: int
    subtype: str | None


def plan_jobs(
    inputs: list[Path], name: str, out: Path | None, force: bool, plot: bool, sample_rate_hz: int | None
) -> list[Job]:
    """Checks every path and decides where everything goes.

    Args:
      inputs: files and folders.
      name: of the instrument, for the names of outputs.
      out: a file, a folder, or None for the current folder.
      force: existing files may be replaced.
      plot: pictures are wanted too.
      sample_rate_hz: of the outputs; None for that of each input.

    Raises:
      UsageError, InputError, OutputError: see their messages.
    """
    paths = io.list_audio(inputs)
    if not paths:
        raise UsageError("no input was given")
    as_file = out is not None and not out.is_dir() and out.suffix != ""
    if as_file and out is not None and out.suffix.lower() not in io.AUDIO_SUFFIXES:
        raise UsageError(f"{out} has no suffix of a sound format", "Use .wav, .flac, .ogg or .mp3; or name a folder.")
    if as_file and len(paths) > 1:
        raise UsageError(f"--out {out} is one file, but there are {len(paths)} inputs", "Give a folder instead.")
    jobs: list[Job] = []
    taken: set[str] = set()
    for path in paths:
        info = io.probe(path)
        if as_file:
            assert out is not None
            output = out
        else:
            output = _free_name(out or Path(), f"{path.stem}_{name}", taken)
        if output.exists() and output.resolve() == path.resolve():
            raise OutputError(f"{output} is the input itself", "Name another place with --out.")
        picture = output.with_suffix(".png") if plot else None
        for target in (output, picture):
            if target is not None and (as_file or out is None or out.is_dir()):
                io.check_writable(target, force)
        rate_hz = sample_rate_hz or info.sample_rate_hz
        if not io.PLAUSIBLE_RATES_HZ[0] <= rate_hz <= io.PLAUSIBLE_RATES_HZ[1]:
            raise UsageError(f"a sample rate of {rate_hz} Hz makes no sense")
        jobs.append(Job(info, output, picture, rate_hz, _subtype(path, output)))
    if out is not None and not as_file:
        _check_folder(out)
    return jobs


def _free_name(folder: Path, stem: str, taken: set[str]) -> Path:
    """`FOLDER/STEM.wav`, numbered where another input of this call has the same name."""
    name, number = stem, 2
    while name.lower() in taken:
        name, number = f"{stem}-{number}", number + 1
    taken.add(name.lower())
    return folder / f"{name}.wav"


def _check_folder(out: Path) -> None:
    if out.is_dir():
        return
    if out.exists():
        raise OutputError(f"{out} is a file, not a folder", "With an ending such as .wav it would be taken for a file.")
    parent = out.parent
    if not parent.is_dir():
        raise OutputError(f"the folder {parent} does not exist", "Make it first, or write somewhere else.")


def make_folder(out: Path | None, jobs: list[Job]) -> Path | None:
    """Makes the folder of the outputs; gives it back if it was not there before.

    Raises:
      OutputError: it cannot be made.
    """
    if out is None or out.exists() or jobs[0].output == out:
        return None
    try:
        out.mkdir()
    except OSError as problem:
        raise OutputError(f"the folder {out} cannot be made: {problem.strerror or problem}") from problem
    return out


def _subtype(source: Path, output: Path) -> str | None:
    """As many bits as the input has, where the output's format has a choice."""
    import soundfile

    kind = output.suffix.lower()
    if kind not in {".wav", ".flac", ".aiff", ".aif", ".w64", ".rf64", ".caf"}:
        return None
    own = soundfile.info(source).subtype
    if own in {"FLOAT", "DOUBLE"}:
        return "PCM_24" if kind == ".flac" else "FLOAT"
    return "PCM_24" if own in {"PCM_24", "PCM_32"} else "PCM_16"
