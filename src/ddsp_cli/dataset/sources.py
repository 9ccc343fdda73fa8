"""Find the recordings and shards of a data set, name each without the folders of this machine, and list them on disk.

The list, a `Ledger`, is a temporary SQLite database that vanishes with the process: memory does not grow with the
number of recordings. A killed run resumes with the files of `cache`, not with this list.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import sqlite3
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from ddsp_cli.audio import read
from ddsp_cli.dataset import nsynth
from ddsp_cli.dataset.cache import CutRecording, Job, decode_cut, encode_cut
from ddsp_cli.dataset.manifest import NoteLabel
from ddsp_cli.errors import InputError, OutputError, UsageError, closest
from ddsp_cli.remote import as_place, base_name, files, is_address, reading

#: Names of shards, of `ddsp_prepare_tfrecord` and of this program.
SHARD_NAME = re.compile(r".*\.tfrecord(-\d{5}-of-\d{5})?$")

#: Number of names that a mistyped pattern is compared with.
MAX_SUGGESTED_FROM = 10_000

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE found (relative TEXT, path BLOB);
CREATE TABLE recording (
    number INTEGER PRIMARY KEY,
    path BLOB NOT NULL,    -- several recordings may be in one shard
    name TEXT NOT NULL UNIQUE,
    folder TEXT NOT NULL,  -- of the name
    place BLOB NOT NULL,   -- folder of the file
    offset INTEGER,        -- of a record in the file
    label BLOB,            -- what its metadata says, as JSON
    hash TEXT NOT NULL,    -- of the name
    held_out INTEGER NOT NULL DEFAULT 0,
    left_out TEXT NOT NULL DEFAULT '',
    sha256 TEXT NOT NULL DEFAULT '',
    usable INTEGER NOT NULL DEFAULT 0,
    n_frames INTEGER NOT NULL DEFAULT 0,
    note_s REAL NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0,
    cut BLOB
);
CREATE INDEX by_path ON recording (path);
CREATE TABLE gain (place BLOB PRIMARY KEY, gain_db REAL NOT NULL);
CREATE TABLE validation (number INTEGER PRIMARY KEY);
"""

MakeJob = Callable[[Path, str], Job]

#: Columns that `Ledger._job` takes.
_OF_JOB = "path, name, offset, label"


class _Connection(sqlite3.Connection):
    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        with _full_disk_named():
            return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        with _full_disk_named():
            return super().executemany(*arguments)


@contextlib.contextmanager
def _full_disk_named() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as problem:
        raise OutputError(
            f"the list of recordings cannot be kept in the folder for temporary files: {problem}",
            "Free some space there, or set TMPDIR to a folder with more.",
        ) from problem


class Ledger:
    """Recordings in a fixed order, each with its file, its name in the data set, and its measurements."""

    def __init__(self) -> None:
        # a temporary file that is removed at the end
        self._database = sqlite3.connect("", isolation_level=None, factory=_Connection)
        self._database.executescript(_TABLES)
        self._make_job: MakeJob | None = None

    def __bool__(self) -> bool:
        return self._one("SELECT 1 FROM recording LIMIT 1") is not None

    def __len__(self) -> int:
        return int(self._one("SELECT COUNT(*) FROM recording"))

    def _one(self, query: str, *values: Any) -> Any:
        row = self._database.execute(query, values).fetchone()
        return row[0] if row else None

    def _all(self, query: str, *values: Any) -> Iterator[Any]:
        return iter(self._database.execute(query, values))

    # --- planning --------------------------------------------------------------------------------------------

    def add(self, files: Iterable[tuple[Path, str]], root: str) -> None:
        """Adds the files of one input, in the order of their relative paths.

        Args:
          files: path, and path relative to the input; "" for the input itself.
          root: name of the input.
        """
        self._database.execute("DELETE FROM found")
        rows = ((clean(relative), _stored(path)) for path, relative in files)
        self._database.executemany("INSERT INTO found VALUES (?, ?)", rows)
        for relative, path in self._all("SELECT relative, path FROM found ORDER BY relative, path"):
            if self._one("SELECT 1 FROM recording WHERE path = ?", path):
                continue
            self._insert(path, self._free(clean(f"{root}/{relative}" if relative else root)))

    def add_notes(self, path: Path, notes: Iterable[tuple[int, str, NoteLabel]], root: str) -> None:
        """Adds the records of a TFRecord file: offset in bytes, name and metadata of each."""
        for offset, note, label in notes:
            self._insert(_stored(path), self._free(clean(f"{root}/{note}")), offset, msgspec.json.encode(label))

    def set_labels(self, labels: Iterable[tuple[Path, NoteLabel]]) -> None:
        """Sets the labels of files; labels of unknown files are ignored."""
        rows = ((msgspec.json.encode(label), _stored(path)) for path, label in labels)
        self._database.executemany("UPDATE recording SET label = ? WHERE path = ?", rows)

    def _free(self, name: str) -> str:
        """Returns a name that no other recording has."""
        free, count = name, 1
        while self._one("SELECT 1 FROM recording WHERE name = ?", free):
            count += 1
            free = f"{name} ({count})"
        return free

    def _insert(self, path: bytes, name: str, offset: int | None = None, label: bytes | None = None) -> None:
        place = _stored(_read(path).parent)
        digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
        self._database.execute(
            "INSERT INTO recording (path, name, folder, place, hash, offset, label) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (path, name, name.rpartition("/")[0], place, digest, offset, label),
        )

    def names(self) -> Iterator[tuple[Path, str]]:
        """Returns file and name of each recording."""
        return ((_read(path), name) for path, name in self._all("SELECT path, name FROM recording"))

    def path_of(self, name: str) -> Path | None:
        """Returns the file of a recording; None where there is no such recording."""
        path = self._one("SELECT path FROM recording WHERE name = ?", name)
        return None if path is None else _read(path)

    def mark(self, names: Iterable[str], *, hold_out: bool = False, leave_out: str = "") -> None:
        """Marks recordings as held out, or as left out by a pattern, which keeps the first of several."""
        if hold_out:
            self._database.executemany("UPDATE recording SET held_out = 1 WHERE name = ?", ((name,) for name in names))
        else:
            self._database.executemany(
                "UPDATE recording SET left_out = ?, held_out = 0 WHERE name = ? AND left_out = ''",
                ((leave_out, name) for name in names),
            )

    @property
    def held_out(self) -> set[str]:
        """Names of the recordings that form the validation split."""
        return {name for (name,) in self._all("SELECT name FROM recording WHERE held_out")}

    @property
    def left_out(self) -> dict[str, str]:
        """Name of each recording that is not used → the pattern that matches it."""
        return dict(self._all("SELECT name, left_out FROM recording WHERE left_out != ''"))

    @property
    def any_held_out(self) -> bool:
        return self._one("SELECT 1 FROM recording WHERE held_out LIMIT 1") is not None

    # --- measuring -------------------------------------------------------------------------------------------

    def plan(self, make_job: MakeJob) -> None:
        """Says how a job is made from a file and a name, before anything is measured."""
        self._make_job = make_job

    def job(self, path: Path, name: str) -> Job:
        """Makes the job of a recording."""
        assert self._make_job is not None
        return self._make_job(path, name)

    def _job(self, path: bytes, name: str, offset: int | None, label: bytes | None) -> Job:
        job = self.job(_read(path), name)
        if offset is None and label is None:
            return job
        return replace(job, offset=offset, label=None if label is None else msgspec.json.decode(label, type=NoteLabel))

    def left_out_by(self, name: str) -> str:
        """Returns the pattern that a recording which is left out matches."""
        return str(self._one("SELECT left_out FROM recording WHERE name = ?", name))

    @property
    def n_to_measure(self) -> int:
        """Counts the recordings that are not left out."""
        return int(self._one("SELECT COUNT(*) FROM recording WHERE left_out = ''"))

    @property
    def n_to_learn(self) -> int:
        """Counts the recordings that are neither left out nor held out."""
        return int(self._one("SELECT COUNT(*) FROM recording WHERE left_out = '' AND NOT held_out"))

    def jobs(self, left_out: bool = False) -> Iterator[Job]:
        """Yields the jobs, or the recordings that are left out; the ledger may be changed meanwhile."""
        number = 0
        while True:  # in pieces: a row that is being read must not be written
            rows = list(
                self._all(
                    f"""SELECT number, {_OF_JOB} FROM recording WHERE number > ?
                    AND left_out {"!=" if left_out else "="} '' ORDER BY number LIMIT 1000""",
                    number,
                )
            )
            if not rows:
                return
            number = rows[-1][0]
            yield from (self._job(*row[1:]) for row in rows)

    def note(self, found: CutRecording) -> None:
        """Stores the measurements of a recording; adds the recording if it is new."""
        name = found.job.name
        if self._one("SELECT 1 FROM recording WHERE name = ?", name) is None:
            self._insert(_stored(found.job.path), name)  # of a shard
        self._database.execute(
            """UPDATE recording SET sha256 = ?, usable = ?, n_frames = ?, note_s = ?, seconds = ?, cut = ?
            WHERE name = ?""",
            (found.sha256, not found.reason, found.n_frames, found.note_s, found.seconds, encode_cut(found), name),
        )

    def leave_out_copies(self) -> None:
        """Leaves out copies: the same sound must not be both in training and in validation."""
        self._database.execute("CREATE INDEX by_digest ON recording (sha256, number)")
        copies = self._all(
            """SELECT copy.path, copy.name, copy.offset, copy.label, copy.cut, original.name FROM recording copy
            JOIN recording original ON original.number = (
                SELECT MIN(number) FROM recording first WHERE first.sha256 = copy.sha256)
            WHERE copy.sha256 != '' AND copy.usable AND copy.number > original.number ORDER BY copy.number"""
        )
        while batch := list(itertools.islice(copies, 1000)):
            for *of_job, cut, original in batch:
                found = decode_cut(self._job(*of_job), cut)
                reason = f"is a copy of {original}"
                self.note(replace(found, n_frames=0, note_s=0.0, doubts=(), n_doubts={}, reason=reason))

    # --- measurements ----------------------------------------------------------------------------------------

    def cuts(self, where: str = "1", order: str = "number") -> Iterator[CutRecording]:
        """Yields recordings with their measurements; `where` and `order` are SQL."""
        for *of_job, cut in self._all(f"SELECT {_OF_JOB}, cut FROM recording WHERE {where} ORDER BY {order}"):
            yield decode_cut(self._job(*of_job), cut)

    def usable(self, order: str = "number") -> Iterator[CutRecording]:
        """Yields the recordings that can be used."""
        return self.cuts("usable", order)

    def count(self, where: str) -> int:
        """Counts recordings; `where` is SQL."""
        return int(self._one(f"SELECT COUNT(*) FROM recording WHERE {where}"))

    @property
    def n_usable(self) -> int:
        return self.count("usable")

    @property
    def n_frames(self) -> int:
        """Frames of all recordings that can be used."""
        return int(self._one("SELECT COALESCE(SUM(n_frames), 0) FROM recording WHERE usable"))

    def lengths(self) -> Iterator[tuple[str, int, int]]:
        """Yields folder, frames and number of each usable recording, by folder and hash of the name."""
        return self._all("SELECT folder, n_frames, number FROM recording WHERE usable ORDER BY folder, hash")

    def note_s(self) -> float:
        """Returns seconds of notes in usable recordings that are not held out."""
        return float(self._one("SELECT COALESCE(SUM(note_s), 0.0) FROM recording WHERE usable AND NOT held_out"))

    def longest(self) -> CutRecording:
        """Returns the longest recording that can be used."""
        (found,) = itertools.islice(self.cuts("usable", "n_frames DESC, name DESC"), 1)
        return found

    # --- gains and splits ------------------------------------------------------------------------------------

    def set_gain(self, place: Path, gain_db: float) -> None:
        """Sets the gain of the recordings in a folder."""
        self._database.execute("INSERT INTO gain VALUES (?, ?)", (_stored(place), gain_db))

    def set_validation(self, numbers: Iterable[int] | None) -> None:
        """Chooses the recordings of the validation split by their numbers; None takes those that are held out."""
        if numbers is None:
            self._database.execute("INSERT INTO validation SELECT number FROM recording WHERE usable AND held_out")
        else:
            self._database.executemany("INSERT INTO validation VALUES (?)", ((number,) for number in numbers))

    def split(self, validation: bool) -> Iterator[tuple[CutRecording, float]]:
        """Yields the recordings of a split, each with its gain in dB."""
        query = f"""SELECT {_OF_JOB}, cut, COALESCE(gain_db, 0.0) FROM recording LEFT JOIN gain USING (place)
            WHERE usable AND number {"IN" if validation else "NOT IN"} (SELECT number FROM validation)
            ORDER BY number"""
        for *of_job, cut, gain_db in self._all(query):
            yield decode_cut(self._job(*of_job), cut), gain_db

    def entries(self) -> Iterator[tuple[CutRecording, bool, float]]:
        """Yields every recording in order, whether it is for validation, and its gain in dB."""
        query = f"""SELECT {_OF_JOB}, cut, validation.number IS NOT NULL, COALESCE(gain_db, 0.0) FROM recording
            LEFT JOIN gain USING (place) LEFT JOIN validation ON validation.number = recording.number
            ORDER BY recording.number"""
        for *of_job, cut, is_validation, gain_db in self._all(query):
            yield decode_cut(self._job(*of_job), cut), bool(is_validation), gain_db


def clean(text: str) -> str:
    """Returns text without the bytes of file names that are not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _stored(path: Path) -> bytes:
    """Returns a path or an address as the table holds it."""
    return os.fsencode(str(path))


def _read(stored: bytes) -> Path:
    return as_place(os.fsdecode(stored))


@dataclass
class Inputs:
    """Files with the names that the data set gives them, in a fixed order.

    Attributes:
      recordings: sound files, some marked as held out or left out.
      shards: of data sets made by magenta/ddsp.
      unusable: paths that were given and are missing or folders without sound, each with its error.
    """

    recordings: Ledger = field(default_factory=Ledger)
    shards: dict[Path, str] = field(default_factory=dict)
    unusable: dict[Path, InputError] = field(default_factory=dict)


def find(paths: Sequence[Path]) -> Inputs:
    """Finds sound files among files and folders; a folder without any may hold shards instead, and NSynth be either.

    Raises:
      UsageError: nothing was given.
      InputError: all paths are missing or folders that hold neither; the metadata of NSynth is damaged.
      DatasetError: a shard is damaged.
    """
    if not paths:
        raise UsageError("no recordings were given", "Name files or folders of recordings.")
    inputs = Inputs()
    for given in paths:
        if is_address(given):
            _find_at(str(given), inputs)
            continue
        root = given.resolve().name
        shards = _shards(given)
        if shards and nsynth.is_shard(shards[0]):
            for path in shards:
                inputs.recordings.add_notes(path, nsynth.notes(path), path.name)
        elif shards:
            for path in shards:
                if path not in inputs.shards:
                    inputs.shards[path] = _free_label(path, given, root, inputs.shards.values())
        elif given.is_dir():
            n_before = len(inputs.recordings)
            inputs.recordings.add(((path, path.relative_to(given).as_posix()) for path in read.walk_audio(given)), root)
            if len(inputs.recordings) == n_before and next(read.walk_audio(given), None) is None:
                inputs.unusable[given] = read.no_sound_in(given)
                continue
            inputs.recordings.set_labels(nsynth.labels(given))
        elif not given.exists():
            inputs.unusable[given] = InputError(f"{given} does not exist")
        else:
            inputs.recordings.add([(given, "")], root)
    if inputs.unusable and not (inputs.recordings or inputs.shards):
        raise next(iter(inputs.unusable.values()))
    return inputs


def _find_at(address: str, inputs: Inputs) -> None:
    """Finds the sound files, or the notes of NSynth, at an address."""
    root, place = base_name(address), as_place(address)
    if SHARD_NAME.match(place.name):
        with reading(place):
            if not nsynth.is_shard(place):
                raise InputError(f"{address} holds shards of another program", "Copy them to this machine first.")
            inputs.recordings.add_notes(place, nsynth.notes(place), root)
        return
    n_before = len(inputs.recordings)
    found = ((path, name) for path, name in files(address) if not name or _is_sound(name))
    inputs.recordings.add(found, root)
    if len(inputs.recordings) == n_before and not any(_is_sound(name) for _, name in files(address)):
        raise read.no_sound_in(place)
    with reading(place):
        inputs.recordings.set_labels(nsynth.labels(place))


def _is_sound(name: str) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return not hidden and PurePosixPath(name).suffix.lower() in read.READABLE_SUFFIXES


def _free_label(path: Path, given: Path, root: str, taken: Collection[str]) -> str:
    """Returns the name of a shard in the data set."""
    stem = label = clean(f"{root}/{path.relative_to(given).as_posix()}" if given.is_dir() else root)
    count = 1
    while label in taken:
        count += 1
        label = f"{stem} ({count})"
    return label


def pick(inputs: Inputs, hold_out: Sequence[str] = (), leave_out: Sequence[str] = ()) -> Inputs:
    """Selects recordings by patterns: file names or ends of paths, with `*`, `?` and `[…]` as in a shell.

    Args:
      inputs: as found.
      hold_out: recordings for the validation split.
      leave_out: recordings not to use, even where a pattern of `hold_out` matches too.

    Returns:
      The same inputs, marked.

    Raises:
      UsageError: a pattern matches no recording, or none is left to learn from.
    """
    for pattern in hold_out:
        inputs.recordings.mark(_matching(inputs, pattern, "hold_out"), hold_out=True)
    for pattern in leave_out:
        inputs.recordings.mark(_matching(inputs, pattern, "leave_out"), leave_out=pattern)
    if inputs.recordings and not inputs.recordings.n_to_learn:
        parameter, used = ("hold_out", hold_out) if inputs.recordings.n_to_measure else ("leave_out", leave_out)
        matches = f"{used[0]!r} matches" if len(used) == 1 else "these patterns match"
        others = " that is not left out" if parameter == "hold_out" and leave_out else ""
        raise UsageError(
            f"{matches} every recording{others}, so none is left to learn from",
            "Give a pattern that some of them do not match.",
            parameter=parameter,
        )
    return inputs


def _matching(inputs: Inputs, pattern: str, parameter: str) -> list[str]:
    """Returns the names of the recordings that a pattern matches."""
    # Posix, so that small and capital letters differ on Windows too.
    wanted = pattern.replace(os.sep, "/")
    # A recording is called as the data set calls it, which is the same on every machine, or as it was given.
    found = [
        name
        for path, name in inputs.recordings.names()
        if matches_pattern(wanted, name) or matches_pattern(wanted, path.as_posix())
    ]
    if not found:
        known = itertools.islice((path.name for path, _ in inputs.recordings.names()), MAX_SUGGESTED_FROM)
        near = closest(pattern, sorted(known))
        raise UsageError(
            f"{pattern!r} matches none of the recordings",
            f"Did you mean {' or '.join(near)}?" if near else "Give a file name, or a pattern such as '*_forte_*'.",
            parameter=parameter,
        )
    return found


def matches_pattern(pattern: str, path: str) -> bool:
    """Whether a pattern matches a path or the end of it."""
    # macOS writes é as two characters into archives and on some disks, keyboards as one.
    pattern, path = (unicodedata.normalize("NFC", text) for text in (pattern, path))
    return bool(PurePosixPath(pattern).parts) and PurePosixPath(path).match(pattern)


def _shards(given: Path) -> list[Path]:
    """Returns the shards at a path; [] for a sound file or a folder with sound files."""
    if given.is_file():
        return [given] if SHARD_NAME.match(given.name) else []
    if not given.is_dir():
        return []
    found = sorted(path for path in given.iterdir() if SHARD_NAME.match(path.name) and path.is_file())
    return found if found and next(read.walk_audio(given), None) is None else []


def dataset_name(name: str, paths: Sequence[Path]) -> str:
    """Returns the name of a data set: as given, else that of the first input.

    Raises:
      UsageError: it could not be the name of a folder.
    """
    if not name:
        if is_address(paths[0]):
            return PurePosixPath(base_name(str(paths[0]))).stem.lstrip(".") or "recordings"
        first = Path(paths[0]).resolve()
        name = first.name if first.is_dir() else first.stem if len(paths) == 1 else first.parent.name
        return name.lstrip(".") or "recordings"
    if name in {".", ".."} or any(letter in name for letter in "/\\:\0\n\r"):
        raise UsageError(f"{name!r} cannot be the name of a data set", "Use letters, digits, - and _.")
    return name
