"""`ddsp models`: which instruments there are; finding, sharing, renaming and removing them; and their rooms.

An instrument is looked for in `./models`, in the folders that `$DDSP_MODELS` names, in the library (the user's folder
for data of programs), and among those that came with the program. The first one found is taken.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from ddsp_cli import bundle, importers
from ddsp_cli.atomic import FolderKind, beside, check_replaceable, recover, remove_folder, replace_folder, writing
from ddsp_cli.audio import read
from ddsp_cli.audio.read import read_impulse_response
from ddsp_cli.audio.resample import resample_response
from ddsp_cli.audio.write import check_writable
from ddsp_cli.bundle import CARD, NETWORK, Bundle, Card, load_card, renamed
from ddsp_cli.bundle import load as load_bundle
from ddsp_cli.bundle.folder import is_export
from ddsp_cli.errors import DdspError, Kind, ModelError, UsageError, did_you_mean
from ddsp_cli.lock import exclusive, lock_file, stored
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.user_folders import data_folder
from ddsp_cli.workflows.arguments import PathLike, number

if TYPE_CHECKING:
    from ddsp_cli.synthesis.blend import Shares

#: Instruments of the current folder; `ddsp train` and `ddsp import` write here.
OWN = Path("models")

#: Hints that show how blends are written.
BLEND_HINT, TIMED_HINT = "Write flute:0.6+violin:0.4.", "Write 0:flute 8s:violin, with times that rise."

#: Name of the base: a network of many instruments with which new ones begin; it cannot be played.
BASE = "base"

#: The suffix of an instrument that is passed on as one file.
SHARED_SUFFIX = ".ddsp"

#: Files of an export that are parts of an instrument; the one of the format `vst` has its name.
_GRAPHS = frozenset({"controls.tflite", "audio.tflite"})

#: Environment variable that names further folders, separated as in `$PATH`; the first of them is then the library.
VARIABLE = "DDSP_MODELS"


class Entry(msgspec.Struct, frozen=True):
    """An instrument that can be named.

    Attributes:
      name: of its folder.
      path: of its folder.
      bundled: it came with the program.
      where: "here" (`./models`), "library" (see `library`), "bundled", or another folder of `$DDSP_MODELS`.
      size_bytes: of all its files.
      card: its card; None where that cannot be read.
      problem: why it cannot be read.
    """

    name: str
    path: Path
    bundled: bool
    size_bytes: int
    card: Card | None
    problem: str = ""
    where: str = ""


def library() -> Path:
    """Returns the user's own instruments, found from every folder."""
    named = os.environ.get(VARIABLE, "").split(os.pathsep)[0]
    if named:
        return Path(named).expanduser()
    return data_folder("models")


def folders() -> dict[Path, str]:
    """Lists the folders that are searched for instruments, in order, each with its kind (`Entry.where`)."""
    found = {OWN: "here"}
    for named in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        folder = Path(named).expanduser()
        found.setdefault(folder, "library" if folder == library() else named)
    found.setdefault(library(), "library")
    for folder in _bundled_folders():
        if folder.resolve() != OWN.resolve():
            found.setdefault(folder, "bundled")
    return found


def _bundled_folders() -> list[Path]:
    """Returns the instruments that came with the program: of an installed package, of a checkout."""
    from importlib import resources

    found = []
    packaged = resources.files("ddsp_cli") / "models"
    if isinstance(packaged, Path):  # not inside a zip, where no file could be opened by name
        found.append(packaged)
    checkout = Path(__file__).resolve().parents[3]
    if (checkout / "pyproject.toml").is_file():
        found.append(checkout / "models")
    return found


def catalogue() -> list[Entry]:
    """Lists every instrument in the order of names; of several with one name, the one that is used."""
    entries: dict[str, Entry] = {}
    for folder, where in folders().items():
        if where != "bundled":
            recover(folder)
        for path in _subfolders(folder):
            if path.name not in entries and path.name != BASE:
                entries[path.name] = _entry(path, where)
    return [entries[name] for name in sorted(entries)]


def names() -> list[str]:
    """Returns the names of all instruments."""
    return sorted({path.name for folder in folders() for path in _subfolders(folder) if path.name != BASE})


def base_folder() -> Path | None:
    """Returns the folder of the base that came with the program (`training.pretrain`); None where it is missing."""
    found = [folder / BASE for folder in [*_bundled_folders(), OWN] if _has_card(folder / BASE)]
    return found[0] if found else None


def _subfolders(folder: Path) -> list[Path]:
    """Returns the folders inside a folder that have a card; none where it cannot be read."""
    try:
        return [path for path in sorted(folder.iterdir()) if path.name[0] != "." and _has_card(path)]
    except OSError:
        return []


def _has_card(folder: Path) -> bool:
    try:
        return (folder / CARD).is_file()
    except OSError:  # a folder that may not be entered, or a name that is too long
        return False


def _entry(path: Path, where: str) -> Entry:
    bundled = where == "bundled"
    try:
        size_bytes = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    except OSError as problem:
        reason = f"{path} cannot be read: {problem.strerror or problem}"
        return Entry(path.name, path, bundled, 0, None, reason, where)
    try:
        return Entry(path.name, path, bundled, size_bytes, load_card(path), where=where)
    except DdspError as problem:
        return Entry(path.name, path, bundled, size_bytes, None, problem.message, where)


def is_bundled(name: str) -> bool:
    """Whether an instrument of this name came with the program."""
    return any(_has_card(folder / name) for folder in _bundled_folders() if folder.resolve() != OWN.resolve())


#: Words that mean something else where an instrument, a room or the start of a training is named.
_TAKEN_WORDS = frozenset({"all", "none", "model", BASE})


def check_name(name: str) -> None:
    """Checks that an instrument of this name can be made, and chosen by it later.

    Raises:
      UsageError: it cannot be the name of a folder, or it would be read as something else.
    """
    hint = "Give a plain name, such as viola."
    if name[:1] in {"", ".", "-"} or PurePosixPath(name).name != name or PureWindowsPath(name).name != name:
        raise UsageError(f"{name!r} cannot be the name of an instrument", hint)
    if name.lower() in _TAKEN_WORDS or "+" in name or ":" in name:
        means = "means something else" if name.lower() in _TAKEN_WORDS else "would be taken for a blend"
        raise UsageError(f"{name!r} cannot be the name of an instrument: it {means} where one is chosen", hint)


def check_new_name(name: str) -> None:
    """Makes the checks of `check_name`, and that no bundled instrument has the name.

    Raises:
      UsageError: it cannot be the name of an instrument, or it would hide a bundled one.
    """
    check_name(name)
    if is_bundled(name):
        raise UsageError(f"{name} is the name of a bundled instrument, which yours would hide",
                         f"Choose another name, such as my-{name}.")  # fmt: skip


def as_word(name: str) -> str:
    """Returns `all`, `none`, `model` or `base` for a name that is this word in other letters, and in no folder."""
    is_taken = name.lower() in _TAKEN_WORDS and name != name.lower()
    return name.lower() if is_taken and not (Path(name).exists() or name in names()) else name


def room_word(name: str) -> str:
    """Returns `model` or `none` where a room is that word in any letters; otherwise its name."""
    return found if (found := as_word(name)) in {"model", "none"} else name


def find(name: PathLike) -> Path:
    """Returns the folder of an instrument by its name or path; capitals may differ if only one name is alike then.

    Raises:
      ModelError: there is no such instrument; the hint names similar ones.
    """
    path = Path(name)
    if len(path.parts) == 1 and str(name) not in {".", ".."}:
        for folder, where in folders().items():
            if where != "bundled":
                recover(folder)
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
        if not _has_card(path) and is_export(path):
            plays = [str(file) for file in sorted(path.glob("*.tflite")) if file.name not in _GRAPHS]
            hint = f"Choose {''.join(f'{file} in it, or ' for file in plays[:1])}the instrument that it was made of."
            raise ModelError(f"{path} is an export, not the folder of an instrument", hint)
        return path
    if path.exists() and path.suffix.lower() == SHARED_SUFFIX:
        raise ModelError(f"{path} is an instrument in one file, which has to be imported", "Import it first.",
                         kind=Kind.SHARED_FILE, path=path)  # fmt: skip
    if path.exists():
        hint = "Import it first, if it is a model of another program."
        raise ModelError(f"{path} is a file, not the folder of an instrument", hint, kind=Kind.FOREIGN_MODEL)
    alike = {place.name for folder in folders() for place in _subfolders(folder)}
    alike = {known for known in alike if known.lower() == str(name).lower()}
    if len(alike) == 1:
        return find(alike.pop())
    if "+" in path.name and len(path.parts) == 1:
        raise ModelError(f"{name} is a blend, but one instrument is needed here", "Make an instrument of it first.",
                         kind=Kind.BLEND, mix=name)  # fmt: skip
    searched = ", ".join("the bundled ones" if where == "bundled" else str(place) for place, where in folders().items())
    searched = ", ".join(dict.fromkeys(searched.split(", ")))
    closest_ones = did_you_mean(path.name, names())
    raise ModelError(
        f"there is no instrument called {name}",
        f"{closest_ones} Searched {searched}.".strip(),
        kind=Kind.NONE if closest_ones else Kind.UNKNOWN_INSTRUMENT,
        searched=searched,
    )


def find_playable(name: PathLike) -> Path:
    """Finds the folder of an instrument, or the file of a DDSP-VST model (`.tflite`), which plays without import.

    Raises:
      ModelError: there is no such instrument or file.
    """
    path = Path(name)
    return path if importers.is_model(path) else find(name)


def title(place: Path) -> str:
    """Returns the name of an instrument for its results, also for `.` and `models/flute/`."""
    return place.stem if importers.is_model(place) else place.resolve().name


def open_at(place: Path) -> Bundle:
    """Returns the instrument at a place that `find_playable` found.

    Raises:
      ModelError: it is damaged.
    """
    if not importers.is_model(place):
        loaded = load_bundle(place)
        if loaded.network is not None:
            importers.try_out(place / NETWORK)
        return loaded
    loaded, _ = importers.load(place)
    return dataclasses.replace(loaded, card=renamed(loaded.card, title(place)))


def choose_all(names: Sequence[PathLike]) -> list[Choice]:
    """Chooses several instruments, each once; `all` stands for every one that can be read.

    Raises:
      UsageError: no name at all, or a blend that cannot be read.
      ModelError: one that does not exist; no instrument at all.
    """
    if not names:
        raise UsageError("no instrument was named", kind=Kind.NO_NAME)
    found: list[Choice] = []
    for name in names:
        if as_word(os.fspath(name)) == "all":
            readable = [entry.path for entry in catalogue() if entry.card is not None]
            if not readable:
                raise ModelError("there are no instruments yet", "Train one first.", kind=Kind.NO_INSTRUMENTS)
            found += [Choice((place,)) for place in readable]
        else:
            found.append(choose(name))
    return list({(tuple(place.resolve() for place in one.places), one.shares): one for one in found}.values())


# --- blends ----------------------------------------------------------------------------------------------------------

#: `8s:violin` or `1:30:violin`, an instrument of a blend over time.
_TIMED = re.compile(r"(?:(?P<minutes>\d+):)?(?P<seconds>\d+(?:\.\d+)?)s?:(?P<name>\D.*)")

#: `flute:0.5`, an instrument with its share of a blend.
_SHARED = re.compile(r".+:\s*\d*[.,]?\d+\s*")

#: A time with a comma for the point.
_COMMA = re.compile(r"(?:^|\s)\d+,\d+s?:\D")

#: Separator of two parts of such a blend.
_BETWEEN = re.compile(r"[\s,]+(?=(?:\d+:)?\d+(?:\.\d+)?s?:\D)")


class Choice(msgspec.Struct, frozen=True):
    """A chosen instrument, or several that are blended.

    Attributes:
      places: folders and files of instruments, as `find_playable` finds them.
      shares: of each in a blend; None for one instrument.
      expression: the blend as it was written.
    """

    places: tuple[Path, ...]
    shares: Shares | None = None
    expression: str = ""

    @property
    def name(self) -> str:
        """Name in results."""
        return self.expression if self.shares is not None else title(self.places[0])

    @property
    def title(self) -> str:
        """Name in the names of output files."""
        names = [title(place) for place in self.places]
        if self.shares is None:
            return names[0]
        if not self.shares.is_constant:
            return "-to-".join(names)
        return "+".join(f"{name}{share:.0%}".rstrip("%") for name, share in zip(names, self.shares.mean, strict=True))

    def load(self) -> Instrument:
        """Returns the instrument, ready to play.

        Raises:
          ModelError: one is damaged, or they cannot be blended.
        """
        loaded = [Instrument(open_at(place)) for place in self.places]
        if self.shares is None:
            return loaded[0]
        from ddsp_cli.synthesis.blend import BlendedInstrument

        return BlendedInstrument(loaded, self.shares, self.expression)


def choose(name: PathLike) -> Choice:
    """Chooses an instrument, or a blend.

    Args:
      name: of an instrument, its folder, a `.tflite` of DDSP-VST; `flute:0.6+violin:0.4` for a blend (shares that are
        left out are 1), or `0:flute 8s:violin` for one that changes over time.

    Raises:
      UsageError: a blend with impossible shares or times.
      ModelError: there is no such instrument.
    """
    expression = os.fspath(name)
    if Path(expression).exists() or not (is_timed(expression) or "+" in expression):
        try:
            return Choice((find_playable(name),))
        except ModelError:
            if _SHARED.fullmatch(expression):
                raise UsageError(
                    f"a blend needs at least two instruments, and {expression} names one", BLEND_HINT
                ) from None
            raise
    return _timed_blend(expression) if is_timed(expression) else _constant_blend(expression)


def is_timed(expression: str) -> bool:
    """Whether an expression is a blend over time."""
    return _TIMED.fullmatch(expression.strip()) is not None


def named_in(expression: str) -> list[str]:
    """Returns the names of the instruments in an expression that `choose` takes, without access to files.

    Raises:
      UsageError: a blend with impossible shares or times.
    """
    if is_timed(expression):
        return [name for _, name in _timed_parts(expression)]
    return [name for name, _ in _constant_parts(expression)] if "+" in expression else [expression]


def _constant_parts(expression: str) -> list[tuple[str, float]]:
    """Returns the name and share of each part of `flute:0.6+violin:0.4`."""
    parts = []
    for part in expression.split("+"):
        name, colon, text = part.strip().rpartition(":")
        share = 1.0
        if colon and re.fullmatch(r"[\d.,eE-]+", text.strip()):
            share = number(text, "model", 0.0, 1000.0)
        else:
            name = part.strip()
        if not name:
            raise UsageError(f"{expression} names no instrument beside a +", BLEND_HINT, parameter="model")
        parts.append((name, share))
    return parts


def _timed_parts(expression: str) -> list[tuple[float, str]]:
    """Returns seconds and name of each part of `0:flute 8s:violin`."""
    parts = []
    for part in _BETWEEN.split(expression.strip()):
        match = _TIMED.fullmatch(part)
        if match is None:
            raise UsageError(f"{part} is not a time and an instrument", TIMED_HINT, parameter="blend")
        parts.append((60.0 * float(match["minutes"] or 0) + float(match["seconds"]), match["name"].strip()))
    if any(later <= earlier for (earlier, _), (later, _) in itertools.pairwise(parts)):
        raise UsageError(f"the times of {expression} do not rise", TIMED_HINT, parameter="blend")
    return parts


def _constant_blend(expression: str) -> Choice:
    """Returns the blend that `flute:0.6+violin:0.4` means."""
    shares: dict[Path, float] = {}
    for name, share in _constant_parts(expression):
        place = find_playable(name)
        shares[place] = shares.get(place, 0.0) + share
    if sum(shares.values()) <= 0.0:
        raise UsageError(f"the shares of {expression} are all 0", BLEND_HINT, parameter="model")
    if len(shares) == 1:
        return Choice(tuple(shares))
    from ddsp_cli.synthesis.blend import Shares

    return Choice(tuple(shares), Shares.constant(tuple(shares.values())), expression)


def _timed_blend(expression: str) -> Choice:
    """Returns the blend that `0:flute 8s:violin` means."""
    parts = _timed_parts(expression)
    times_s, found = [time_s for time_s, _ in parts], [_find_stage(name, expression) for _, name in parts]
    places = tuple(dict.fromkeys(found))
    if len(places) == 1:
        return Choice(places)
    from ddsp_cli.synthesis.blend import Shares

    values = tuple(tuple(float(place == one) for place in places) for one in found)
    return Choice(places, Shares(tuple(times_s), values), expression)


def _find_stage(name: str, expression: str) -> Path:
    """Finds the instrument of one stage of a blend over time.

    Raises:
      UsageError: it is a blend, or a time has a comma for the point.
      ModelError: there is no such instrument.
    """
    try:
        return find_playable(name)
    except ModelError:
        if "+" in name:
            raise UsageError(f"{name} is a blend, and a stage of a blend over time is one instrument", TIMED_HINT,
                             parameter="blend") from None  # fmt: skip
        if _COMMA.search(expression):
            raise UsageError(f"a time in {expression} has a comma", "Write a point for it, as in 2.5s:violin.",
                             parameter="blend") from None  # fmt: skip
        raise


def check_timed(expression: str) -> str:
    """Checks that a text is a blend over time, and returns it.

    Raises:
      UsageError: it is something else.
    """
    if not is_timed(expression):
        raise UsageError(f"{expression} is not a blend over time", TIMED_HINT, parameter="blend")
    return expression.strip()


def share(model: PathLike, out: PathLike | None = None, force: bool = False) -> Path:
    """Packs an instrument into one file, which `import_instrument` takes on another machine.

    Args:
      model: its name or folder.
      out: the file, to which `.ddsp` is added where it has no suffix, or a folder: one that exists, or a name that ends
        in `/`; by default `NAME.ddsp` in the current folder.
      force: replace a file that exists.

    Returns:
      The file.

    Raises:
      UsageError: the file has another suffix than `.ddsp`, or is `-`.
      ModelError: there is no such instrument, or it is damaged.
      OutputError: the file exists, or cannot be written.
    """
    folder = find(model)
    card = load_bundle(folder).card  # every file is checked before it is passed on
    target = _shared_file(out, f"{title(folder)}{SHARED_SUFFIX}")
    check_writable(target, force)
    import zipfile

    with writing(target), beside(target) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (CARD, *sorted(card.files)):
            archive.writestr(f"{title(folder)}/{name}", (folder / name).read_bytes())
    return target


def _shared_file(out: PathLike | None, default: str) -> Path:
    """Returns the file that `share` writes, and makes its folder where `out` ends in `/`; see there."""
    if out is None:
        return Path(default)
    words = os.fspath(out)
    if words == "-":
        raise UsageError("a shared instrument is written to a file, not to standard output", parameter="out")
    target = Path(words)
    if words.endswith(("/", os.sep)) or target.is_dir():
        with writing(target):
            target.mkdir(parents=True, exist_ok=True)
        return target / default
    if not target.suffix:
        return target.with_name(f"{target.name}{SHARED_SUFFIX}")
    if target.suffix.lower() != SHARED_SUFFIX:
        raise UsageError(
            f"{target} is not a {SHARED_SUFFIX} file", f"Name it {target.with_suffix(SHARED_SUFFIX)}.", parameter="out"
        )
    return target


# --- renaming and removing -------------------------------------------------------------------------------------------


def find_own(name: PathLike) -> Path:
    """Returns the folder of an instrument that may be renamed and removed, spelled as it is stored.

    Raises:
      ModelError: there is no such instrument, or it came with the program.
    """
    folder = find(name)
    folder = stored(folder if folder.name not in {"", ".."} else folder.resolve())
    if came_with_program(folder):
        message = f"{folder.name} came with the program, so it stays as it is"
        raise ModelError(message, "Name an instrument of your own.")
    with writing(folder):
        is_instrument = bundle.INSTRUMENT.recognise(folder)
    if not is_instrument:
        raise ModelError(f"{folder} is not the folder of an instrument")
    return folder


def came_with_program(folder: Path) -> bool:
    """Whether a folder is that of a bundled instrument or the base.

    A checkout holds instruments of the user beside them, which its `.gitignore` does not list.
    """
    for bundled in _bundled_folders():
        if bundled.is_dir() and folder.parent.exists() and bundled.samefile(folder.parent):
            listed = bundled.with_name(".gitignore")
            return not listed.is_file() or f"!/models/{folder.name}/" in listed.read_text(encoding="utf-8").splitlines()
    return False


def training_of(folder: Path) -> Path | None:
    """Returns the folder that the training of an instrument left beside it; None where there is none."""
    from ddsp_cli.training.checkpoint import RUN, run_folder

    run = run_folder(folder)
    return run if RUN.recognise(run) else None


def remove(model: PathLike) -> Path:
    """Removes an instrument of the user, and what its training left beside it.

    Files in its folders that the program did not write stay there. Of a link to a folder only the link is removed.

    Args:
      model: its name or folder.

    Returns:
      The folder, which is there no longer unless it holds other files.

    Raises:
      ModelError: there is no such instrument, or it came with the program.
      OutputError: it is being trained or written, or cannot be removed.
    """
    from ddsp_cli.training.checkpoint import RUN

    folder = find_own(model)
    with exclusive(lock_file(folder), str(folder), "program"), writing(folder):
        run = training_of(folder)
        if run is not None:  # first: if this is the end, the instrument can be named again
            remove_folder(run, RUN)
        remove_folder(folder, bundle.INSTRUMENT)
    return folder


def rename(model: PathLike, name: str, force: bool = False) -> Path:
    """Gives an instrument of the user another name, in its folder and its card; its training comes along.

    Args:
      model: its name or folder.
      name: the new one.
      force: replace another instrument of that name, with its training.

    Returns:
      The new folder, beside the former place.

    Raises:
      UsageError: the name cannot be that of an instrument, is that of a bundled one, or the present one.
      ModelError: there is no such instrument, it came with the program, or its card is damaged.
      OutputError: an instrument of that name exists, one of them is being trained or written, or cannot be renamed.
    """
    from ddsp_cli.training.checkpoint import RUN, run_folder

    check_new_name(name)
    folder = find_own(model)
    target = folder.with_name(name)
    if folder.name == name:
        raise UsageError(f"{folder} has this name already")
    card, run, new_run = renamed(load_card(folder), name), training_of(folder), run_folder(target)
    if came_with_program(target):
        raise UsageError(f"{name} is the name of a bundled instrument", f"Choose another name, such as my-{name}.")
    is_respelled = stored(target).name == folder.name  # in other capitals, where these do not count
    if not is_respelled:
        with writing(target):
            check_replaceable(target, bundle.INSTRUMENT, force)
            check_replaceable(new_run, RUN, force)
    with contextlib.ExitStack() as locks:
        for lock, place in {lock_file(place): place for place in (folder, target)}.items():
            locks.enter_context(exclusive(lock, str(place), "program"))
        with writing(target):
            if run is not None:
                _move(run, new_run, RUN, is_respelled)
            elif new_run.exists():  # of the instrument that is replaced; no training of this one may resume it
                remove_folder(new_run, RUN)
            try:
                _move(folder, target, bundle.INSTRUMENT, is_respelled)
            except BaseException:
                if run is not None:
                    new_run.rename(run)
                raise
            bundle.write_card(target, card)
    return target


def _move(folder: Path, target: Path, kind: FolderKind, is_respelled: bool) -> None:
    if is_respelled:
        folder.rename(target)
    else:
        replace_folder(folder, target, kind)


# --- rooms -----------------------------------------------------------------------------------------------------------

#: The highest gain of a room.
MOST_WET = 4.0


def find_room(name: str, wet: float, rate_hz: int, own: np.ndarray | None) -> np.ndarray | bool:
    """Returns the impulse response that `room` and `wet` mean.

    Args:
      name: `model`, `none`, a sound file with a recorded impulse response, or an instrument.
      wet: 0 is dry, 1 as recorded or learned; at most `MOST_WET`.
      rate_hz: of the instrument that plays.
      own: its own impulse response [L], or None where it learned no room.

    Returns:
      What `Instrument.render` takes as its `room`.

    Raises:
      InputError: the file is no impulse response.
      ModelError: no such instrument, or one without a room.
    """
    if name == "none" or wet == 0.0:
        return False
    if name == "model":
        if own is None:
            return False
        return True if wet == 1.0 else own * np.float32(wet)
    path = Path(name)
    is_file = path.is_file() or (path.suffix.lower() in read.AUDIO_SUFFIXES and not path.is_dir())
    try:
        response = read_impulse_response(path, rate_hz) if is_file else room_of_instrument(name, rate_hz)
    except ModelError as problem:
        problem.parameter = "room"
        raise
    return response * np.float32(wet)


def room_of_instrument(name: str, rate_hz: int) -> np.ndarray:
    """Returns the room [L] that another instrument learned, at the rate of the one that plays.

    Raises:
      ModelError: no such instrument, or it has no room.
    """
    other = bundle.load(find(name))
    if other.impulse_response is None:
        raise ModelError(f"the instrument {name} learned no room")
    return resample_response(other.impulse_response, other.card.model.sample_rate_hz, rate_hz)
