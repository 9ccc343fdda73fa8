"""The sounds of the studio, dropped or recorded, kept in a folder of the user until they are removed in the page.

A client names sounds by ids of this module, never by a path. Files have names of the program's own;
the name that a user gave is text in a card beside them. Shapes: S samples.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np

from ddsp_cli.adaptation import SCORE_SUFFIXES
from ddsp_cli.adaptation.midi import Part, lead_line, read_midi
from ddsp_cli.adaptation.notes import Transcription, transcribe
from ddsp_cli.adaptation.segmentation import Segments
from ddsp_cli.analysis.extract import Analysis
from ddsp_cli.arrays import FloatArray
from ddsp_cli.atomic import write_bytes, writing
from ddsp_cli.audio import read
from ddsp_cli.errors import DdspError, InputError, OutputError
from ddsp_cli.limits import read_regular
from ddsp_cli.workflows.performance import Performance
from ddsp_cli.workflows.transfer_plan import InputKind

#: The largest file, and the longest sound in it; `ddsp transfer` has no such limits.
MAX_FILE_BYTES = 512 << 20

MAX_SOUND_S = 1200.0

#: 20 minutes at 96 kHz: a small FLAC file of silence may say that it has a million samples a second.
MAX_SOUND_SAMPLES = 1200 * 96_000

#: All files together.
MAX_FOLDER_BYTES = 8 << 30

#: Largest number of transcriptions of one sound; each keeps its analysis.
MAX_TRANSCRIPTIONS = 6

#: Size up to which sounds stay decoded and analysed.
KEPT_BYTES = 512 << 20

#: An upload older than this is abandoned.
ABANDONED_S = 3600.0

#: The sound that comes with the program.
EXAMPLE = "example"

_ID = re.compile(r"[0-9a-f]{16}")

_SUFFIXES = read.READABLE_SUFFIXES | frozenset(SCORE_SUFFIXES)

_MAX_CARD_BYTES = 1 << 16


class TakeCard(msgspec.Struct, forbid_unknown_fields=True):
    """Metadata written beside a sound.

    Attributes:
      name: as its user calls it.
      suffix: of the file.
      added: seconds since 1970.
    """

    name: str
    suffix: str
    added: float


@dataclass
class Take:
    """A sound or a MIDI file.

    Attributes:
      id: its name in the page's requests.
      name: the user's name for it.
      path: of the file.
      kind: `sound` or `score`.
      info: from its header; None for a score.
      seconds: its length, counted.
      pcm: [S] float32, mono, at its own rate; empty for a score.
      added: seconds since 1970.
      parts: of a score: the notes of each channel in each track.
      lock: held during an analysis.
      performances: analysed, one for each way of measuring that an instrument needed.
      transcriptions: the notes of each analysis.
    """

    id: str
    name: str
    path: Path
    kind: InputKind
    info: read.AudioInfo | None
    seconds: float
    pcm: FloatArray
    added: float
    parts: tuple[Part, ...] = ()
    lock: threading.Lock = field(default_factory=threading.Lock)
    performances: dict[Hashable, Performance] = field(default_factory=dict)
    transcriptions: list[tuple[Analysis[Segments], Transcription]] = field(default_factory=list)

    def transcription(self, analysis: Analysis[Segments]) -> Transcription:
        """Returns the notes of an analysis of this sound, found once."""
        for known, found in self.transcriptions:
            if known is analysis:
                return found
        found = transcribe(analysis.features, analysis.segments)
        self.transcriptions.append((analysis, found))
        del self.transcriptions[:-MAX_TRANSCRIPTIONS]
        return found


def example_path() -> Path | None:
    """Returns `examples/voice.wav` of the checkout, or its copy in an installed package."""
    here = Path(__file__).resolve()
    for path in (here.parent / "voice.wav", here.parents[3] / "examples" / "voice.wav"):
        if path.is_file():
            return path
    return None


def plain_name(name: str) -> str:
    """Makes a name for display and downloads: the last part of a path, without control characters."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(letter for letter in last if letter.isprintable()).strip()[:120] or "sound"


def size_of_files(folder: Path) -> int:
    """Returns the size of the files in a folder in bytes; one that is moved or removed meanwhile does not count."""
    n_bytes = 0
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            n_bytes += path.stat().st_size if path.is_file() else 0
    return n_bytes


def remove_abandoned(folder: Path, pattern: str) -> None:
    """Removes files that were arriving when a server was killed."""
    for part in folder.glob(pattern) if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > ABANDONED_S:
                part.unlink()


class Takes:
    """All sounds of a studio.

    Args:
      folder: where they are kept; made with the first one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Take] = OrderedDict()
        self._reading: dict[str, threading.Lock] = {}
        remove_abandoned(folder, "*.part")

    def cards(self) -> list[dict[str, object]]:
        """Returns id, name, kind and age of each sound, the newest first; the example is the last."""
        found: list[tuple[float, dict[str, object]]] = []
        for path in self._folder.glob("*.json") if self._folder.is_dir() else ():
            card = self._card(path.stem)
            if card is not None:
                found.append((card.added, {"id": path.stem, "name": card.name}))
        listed = [entry for _, entry in sorted(found, key=lambda pair: -pair[0])]
        if example_path() is not None:
            listed.append({"id": EXAMPLE, "name": "voice.wav (example)"})
        return listed

    def receiving(self) -> Path:
        """Makes the path for an incoming file.

        Raises:
          OutputError: the folder is full, or cannot be made.
        """
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            if size_of_files(self._folder) > MAX_FOLDER_BYTES:
                raise OutputError(
                    f"the sounds of the studio take more than {MAX_FOLDER_BYTES >> 30} GiB", "Remove some in the page."
                )
        return self._folder / f"{secrets.token_hex(8)}.part"

    def add(self, part: Path, name: str) -> Take:
        """Adds a file that has arrived at a path of `receiving`; one that cannot be played is removed.

        Raises:
          InputError: no sound and no MIDI file, or a longer one than `MAX_SOUND_S`.
        """
        name = plain_name(name)
        suffix = Path(name).suffix.lower()
        path = part.with_suffix(suffix if suffix in _SUFFIXES else ".wav")
        try:
            part.rename(path)
            take = self._read(path.stem, TakeCard(name, path.suffix, time.time()))
            write_bytes(path.with_suffix(".json"), msgspec.json.encode(TakeCard(name, path.suffix, take.added)))
        except BaseException:
            part.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise
        with self._lock:
            self._keep(take)
        return take

    def _keep(self, take: Take) -> None:
        """Keeps a sound open; the least recently used ones are closed where all take too much memory."""
        self._open[take.id] = take
        self._open.move_to_end(take.id)
        while len(self._open) > 1 and sum(one.pcm.nbytes for one in self._open.values()) > KEPT_BYTES:
            self._open.popitem(last=False)

    def find(self, take_id: str) -> Take:
        """Returns a sound by its id. One that is not open is read once, while others can be found.

        Raises:
          InputError: there is no sound of that id, or its file is missing.
        """
        with self._lock:
            take = self._find_open(take_id)
            if take is not None:
                return take
            reading = self._reading.setdefault(take_id, threading.Lock())
        try:
            with reading:
                with self._lock:  # another request may have read it in the meantime
                    take = self._find_open(take_id)
                if take is None:
                    take = self._read_again(take_id)
                    with self._lock:
                        if take.path.is_file():  # it may have been removed in the meantime
                            self._keep(take)
                return take
        finally:
            with self._lock:
                self._reading.pop(take_id, None)

    def _find_open(self, take_id: str) -> Take | None:
        take = self._open.get(take_id)
        if take is None or not take.path.is_file():
            return None
        self._open.move_to_end(take_id)
        return take

    def _read_again(self, take_id: str) -> Take:
        if take_id == EXAMPLE and (path := example_path()) is not None:
            return _read(EXAMPLE, path, "voice.wav", 0.0)
        card = self._card(take_id)
        if card is None:
            raise InputError("this sound is not there any more", "Load the page again.")
        return self._read(take_id, card)

    def remove(self, take_id: str) -> None:
        """Removes a sound of the user.

        Raises:
          OSError: its file cannot be removed, as on Windows while it is read; the sound is kept then.
        """
        card = self._card(take_id)
        if card is not None:
            for suffix in (card.suffix, ".json"):  # in this order: without its card a sound would never be found again
                (self._folder / take_id).with_suffix(suffix).unlink(missing_ok=True)
        with self._lock:
            self._open.pop(take_id, None)

    def _card(self, take_id: str) -> TakeCard | None:
        path = self._folder / f"{take_id}.json"
        if not _ID.fullmatch(take_id) or not path.is_file():
            return None
        try:
            card = msgspec.json.decode(read_regular(path, _MAX_CARD_BYTES), type=TakeCard)
        except (msgspec.MsgspecError, DdspError, OSError):
            return None
        return card if card.suffix in _SUFFIXES else None

    def _read(self, take_id: str, card: TakeCard) -> Take:
        return _read(take_id, (self._folder / take_id).with_suffix(card.suffix), card.name, card.added)


def _read(take_id: str, path: Path, name: str, added: float) -> Take:
    """Reads a sound; messages have its name in place of its path.

    Raises:
      InputError: it cannot be played.
    """
    empty = np.zeros(0, np.float32)
    try:
        if path.suffix in SCORE_SUFFIXES:
            file = read_midi(path)
            seconds, parts = lead_line(file).seconds, tuple(sorted([*file.played, *file.left_out]))
            check_length(name, file.events[-1].time_s)  # other voices may last longer than the lead
            return Take(take_id, name, path, "score", None, seconds, empty, added, parts)
        info = read.probe(path)
        blocks, n_samples = [], 0
        for _, block in read.decoded_blocks(path, decoded=read.Decoded()):
            n_samples += len(block)
            check_length(name, n_samples / info.sample_rate_hz, info.sample_rate_hz)
            blocks.append(block)
        return Take(take_id, name, path, "sound", info, n_samples / info.sample_rate_hz, np.concatenate(blocks), added)
    except InputError as problem:
        raise problem.reworded(problem.message.replace(str(path), name)) from problem


def check_length(name: str, seconds: float, rate_hz: int = 0) -> None:
    """Checks that a sound, a MIDI file or curves are short enough to be held in memory.

    Raises:
      InputError: one is longer than `MAX_SOUND_S`, or has more samples than `MAX_SOUND_SAMPLES`.
    """
    most_s = min(MAX_SOUND_S, MAX_SOUND_SAMPLES / max(rate_hz, 1))
    if seconds > most_s:
        raise InputError(
            f"{name} is longer than {most_s / 60.0:.3g} minutes", "Play it with the command ddsp transfer."
        )


def receive(stream: BinaryIO, chunk: bytes, n_before: int) -> int:
    """Writes the next part of a file that arrives; returns how many bytes there are now.

    Raises:
      InputError: more than `MAX_FILE_BYTES`.
    """
    n_bytes = n_before + len(chunk)
    if n_bytes > MAX_FILE_BYTES:
        raise InputError(f"the file is larger than {MAX_FILE_BYTES >> 20} MiB")
    try:
        stream.write(chunk)
    except OSError as problem:
        raise OutputError(f"the sound cannot be kept: {problem.strerror or problem}") from problem
    return n_bytes
