"""Which room an instrument sounds in: its own, none, another instrument's, or one from a file.

Which instruments there are, and where: one's own in `./models`, those that came with the program, any folder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddsp_cli import importers
from ddsp_cli.atomic import recover
from ddsp_cli.audio import read
from ddsp_cli.audio.impulse_response import from_file
from ddsp_cli.bundle import CARD, NETWORK, Bundle, Card, load_card, revise
from ddsp_cli.bundle import load as load_bundle
from ddsp_cli.errors import DdspError, Kind, ModelError, UsageError, did_you_mean
from ddsp_cli.workflows.arguments import PathLike

OWN = Path("models")


@dataclass(frozen=True)
class Entry:
    """An instrument that `--model` can name.

    Attributes:
      name: of its folder, which is what `--model` takes.
      path: of its folder.
      bundled: it came with the program.
      size_bytes: of all its files.
      card: what it says of itself; None where that cannot be read.
      problem: why it cannot be read.
    """

    name: str
    path: Path
    bundled: bool
    size_bytes: int
    card: Card | None
    problem: str = ""


def folders() -> list[Path]:
    """Where instruments are looked for, first found first served."""
    found = [OWN]
    from importlib import resources

    packaged = resources.files("ddsp_cli") / "models"
    if isinstance(packaged, Path):  # not inside a zip, where no file could be opened by name
        found.append(packaged)
    checkout = Path(__file__).resolve().parents[3]
    if (checkout / "pyproject.toml").is_file() and (checkout / "models").resolve() != OWN.resolve():
        found.append(checkout / "models")
    return found


def catalogue() -> list[Entry]:
    """Every instrument there is, in the order of their names; one's own hides a bundled one of the same name."""
    entries: dict[str, Entry] = {}
    recover(OWN)
    for folder in folders():
        for path in _subfolders(folder):
            if path.name not in entries:
                entries[path.name] = _entry(path, bundled=folder is not OWN)
    return [entries[name] for name in sorted(entries)]


def names() -> list[str]:
    """The names of all instruments."""
    return sorted({path.name for folder in folders() for path in _subfolders(folder)})


def _subfolders(folder: Path) -> list[Path]:
    """The folders inside a folder that have a card; none where it cannot be read."""
    try:
        return [path for path in sorted(folder.iterdir()) if path.name[0] != "." and _has_card(path)]
    except OSError:
        return []


def _has_card(folder: Path) -> bool:
    try:
        return (folder / CARD).is_file()
    except OSError:  # a folder that may not be entered, or a name that is too long
        return False


def _entry(path: Path, bundled: bool) -> Entry:
    try:
        size_bytes = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    except OSError as problem:
        return Entry(path.name, path, bundled, 0, None, f"{path} cannot be read: {problem.strerror or problem}")
    try:
        return Entry(path.name, path, bundled, size_bytes, load_card(path))
    except DdspError as problem:
        return Entry(path.name, path, bundled, size_bytes, None, problem.message)


def find(name: PathLike) -> Path:
    """The folder of an instrument by its name or path.

    Raises:
      ModelError: there is none; the hint names the closest ones.
    """
    path = Path(name)
    if len(path.parts) == 1 and str(name) not in {".", ".."}:
        recover(OWN)
        for folder in folders():
            if _has_card(folder / path):
                return folder / path
    else:
        recover(path.parent)
    if path.is_dir():
        if not _has_card(path) and importers.is_checkpoint(path):
            raise ModelError(
                f"{path} is a magenta/ddsp checkpoint, not an instrument",
                "Import it first.",
                kind=Kind.CHECKPOINT,
                path=path,
            )
        return path
    if path.exists():
        hint = "Import it first, if it is a model of another program."
        raise ModelError(f"{path} is a file, not the folder of an instrument", hint, kind=Kind.FOREIGN_MODEL)
    known = [entry.name for entry in catalogue()]
    message = f"there is no instrument called {name}"
    if hint := did_you_mean(path.name, known):
        raise ModelError(message, hint)
    raise ModelError(message, "Train one first.", kind=Kind.UNKNOWN_INSTRUMENT)


def find_playable(name: PathLike) -> Path:
    """The folder of an instrument, or the file of a DDSP-VST model (`.tflite`), which plays without being imported.

    Raises:
      ModelError: there is none.
    """
    path = Path(name)
    return path if importers.is_model(path) else find(name)


def title(place: Path) -> str:
    """What results made with an instrument are called after, also for `.` and `models/flute/`."""
    return place.stem if importers.is_model(place) else place.resolve().name


def open_at(place: Path) -> Bundle:
    """The instrument at a place that `find_playable` found.

    Raises:
      ModelError: it is damaged.
    """
    if not importers.is_model(place):
        loaded = load_bundle(place)
        if loaded.network is not None:
            importers.try_out(place / NETWORK)
        return loaded
    loaded, _ = importers.load(place)
    return dataclasses.replace(loaded, card=revise(loaded.card, name=title(place)))


def find_all(names: Sequence[str | Path]) -> list[Path]:
    """The places of several instruments, each once; `all` stands for every one that can be read.

    Raises:
      UsageError: no name at all.
      ModelError: one that does not exist; no instrument at all.
    """
    if not names:
        raise UsageError("no instrument was named", kind=Kind.NO_NAME)
    found: list[Path] = []
    for name in names:
        if str(name) == "all":
            readable = [entry.path for entry in catalogue() if entry.card is not None]
            if not readable:
                raise ModelError("there are no instruments yet", "Train one first.", kind=Kind.NO_INSTRUMENTS)
            found += readable
        else:
            found.append(find_playable(name))
    return list({path.resolve(): path for path in found}.values())


MOST_WET = 4.0


def find_room(name: str, wet: float, rate_hz: int, own: np.ndarray | None) -> np.ndarray | bool:
    """The impulse response that `--room` and `--wet` mean.

    Args:
      name: `model`, `none`, a sound file with a recorded impulse response, or an instrument.
      wet: 0 is dry, 1 as recorded or learned.
      rate_hz: of the instrument that plays.
      own: its own impulse response [L], or None where it learned no room.

    Returns:
      What `Instrument.render` takes as its `room`.

    Raises:
      UsageError: `wet` out of range.
      InputError: the file is no impulse response.
      ModelError: no such instrument, or one without a room.
    """
    if not 0.0 <= wet <= MOST_WET:
        raise UsageError(f"{wet:g} is out of range (0 to {MOST_WET:g})", parameter="wet")
    if name == "none" or wet == 0.0:
        return False
    if name == "model":
        if own is None:
            return False
        return True if wet == 1.0 else own * np.float32(wet)
    path = Path(name)
    is_file = path.is_file() or (path.suffix.lower() in read.AUDIO_SUFFIXES and not path.is_dir())
    response = from_file(path, rate_hz) if is_file else from_instrument(name, rate_hz)
    return response * np.float32(wet)


def from_instrument(name: str, rate_hz: int) -> np.ndarray:
    """The room [L] that another instrument learned, at the rate of the one that plays.

    Raises:
      ModelError: no such instrument, or it has no room.
    """
    from ddsp_cli import bundle

    other = bundle.load(find(name))
    if other.impulse_response is None:
        raise ModelError(f"the instrument {name} learned no room")
    own_hz = other.card.model.sample_rate_hz
    if own_hz == rate_hz:
        return other.impulse_response
    import soxr

    # Resampling keeps the height of a wave; a response is a sum over samples, of which there are now more or fewer.
    response = np.asarray(soxr.resample(other.impulse_response, own_hz, rate_hz), np.float32)
    return response * np.float32(own_hz / rate_hz)
