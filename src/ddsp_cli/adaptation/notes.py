"""The notes of a performance: transcribe them, write them as MIDI or as a table, and play edited ones in its manner.

A musician moves, transposes, lengthens, softens, deletes and adds some of the notes that were written. Then the curves
of the performance are put where the edited notes are: a note that is moved takes its vibrato, its swell and its
consonant with it. Where nothing was edited the performance stays as it was.

Shapes: F frames, N notes.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli.adaptation import NOTE_SUFFIXES, f0_cleanup
from ddsp_cli.adaptation.autotune import scale_vibrato
from ddsp_cli.adaptation.midi import (
    BEND_SEMITONES,
    DRUM_CHANNEL,
    LONGEST_S,
    VELOCITY_PERCENTILES,
    lead_line,
    read_midi,
    velocity_db,
)
from ddsp_cli.adaptation.segmentation import Segments
from ddsp_cli.analysis.features import Features
from ddsp_cli.analysis.melody import centre, find_notes, find_tuning, nearest_note
from ddsp_cli.arrays import DoubleArray, RealArray, percentiles
from ddsp_cli.atomic import beside, writing
from ddsp_cli.audio.write import check_writable
from ddsp_cli.errors import InputError, UsageError
from ddsp_cli.limits import read_regular
from ddsp_cli.pitch_names import midi_number, note_name
from ddsp_cli.scaling import midi_to_hz

#: Shorter notes are ornaments or errors, and belong to the note before.
SHORTEST_NOTE_S = 0.05

#: Frequencies of vibrato, in notes that hold two swings; narrower ones than `LEAST_VIBRATO_CENTS` do not count.
VIBRATO_HZ = (4.0, 8.5)

LEAST_VIBRATO_CENTS = 8.0

#: Interval of pitch bends: a swing of vibrato has 15 to 20 of them.
BEND_S = 0.01

#: A tick of the MIDI files that are written is a millisecond: 500 ticks a beat, 120 beats a minute.
TICKS_PER_BEAT, TEMPO_US = 500, 500_000


@dataclass(frozen=True)
class Note:
    """One note of a performance.

    Attributes:
      start_s, stop_s: when it sounds.
      midi: number of the nearest semitone in the performance's own tuning.
      cents: by how much its median pitch is above that semitone at A = 440 Hz.
      level_db: median power in dBFS.
      velocity: 1 to 127, from its level relative to the levels of the performance.
      vibrato_hz, vibrato_cents: frequency and amplitude of its vibrato; 0 where it has none.
    """

    start_s: float
    stop_s: float
    midi: int
    cents: float
    level_db: float
    velocity: int
    vibrato_hz: float
    vibrato_cents: float


@dataclass(frozen=True)
class Transcription:
    """The notes of a performance and its pitch inside them.

    Attributes:
      notes: in order, none over another.
      pitch_midi: [F], NaN outside notes.
      frame_rate_hz: frames per second.
      repaired_midi: [F], pitch without the errors of the tracker, also between notes; NaN where there is none.
      levels_db: [101], percentiles of the level of the performance.
    """

    notes: tuple[Note, ...]
    pitch_midi: DoubleArray
    frame_rate_hz: int
    repaired_midi: DoubleArray
    levels_db: RealArray


def transcribe(features: Features, segments: Segments) -> Transcription:
    """Finds the notes of a performance.

    A note that is repeated without a gap or another pitch between is one note.

    Args:
      features: of the performance.
      segments: found in them.
    """
    rate_hz = features.spec.frame_rate_hz
    midi = f0_cleanup.repair(
        f0_cleanup.to_midi(features.f0_hz), segments, rate_hz, features.f0_confidence, features.loudness_db
    )
    tuning = find_tuning(centre(midi, rate_hz))
    found = find_notes(midi, rate_hz, tuning)
    owner = nearest_note(found, midi)
    power_db = features.power_db
    own_db = percentiles(power_db[segments.voiced], np.arange(101)) if segments.voiced.any() else np.zeros(101)
    pitch_midi = np.full(len(features), np.nan)
    notes: list[Note] = []
    by_note = np.argsort(owner, kind="stable")
    edges = np.searchsorted(owner[by_note], np.arange(len(found) + 1))
    for i, semitone in enumerate(found.semitone.tolist()):
        frames = by_note[edges[i] : edges[i + 1]]
        if len(frames) < SHORTEST_NOTE_S * rate_hz:
            continue
        start, stop = int(frames[0]), int(frames[-1]) + 1
        pitch_midi[start:stop] = midi[start:stop]
        level_db = float(percentiles(power_db[start:stop], 50.0))
        vibrato_hz, vibrato_cents = measure_vibrato(midi[found.starts[i] : found.stops[i]], rate_hz)
        notes.append(
            Note(
                start_s=start / rate_hz,
                stop_s=stop / rate_hz,
                midi=semitone,
                cents=100.0 * (float(found.centre_midi[i]) - semitone),
                level_db=level_db,
                velocity=_velocity(level_db, own_db),
                vibrato_hz=vibrato_hz,
                vibrato_cents=vibrato_cents,
            )
        )
    return Transcription(tuple(notes), pitch_midi, rate_hz, midi, own_db)


def _velocity(level_db: float, own_db: RealArray) -> int:
    """Returns the velocity at the percentile of a level among the levels [101] of its performance.

    The inverse of `midi.velocity_db`: an instrument plays the note at the same percentile of its own levels.
    """
    low, high = VELOCITY_PERCENTILES
    share = (float(np.interp(level_db, own_db, np.arange(101))) - low) / (high - low)
    return round(1.0 + 126.0 * min(max(share, 0.0), 1.0))


def measure_vibrato(midi: RealArray, frame_rate_hz: int) -> tuple[float, float]:
    """Measures the vibrato of a note: the strongest frequency of its pitch within `VIBRATO_HZ`.

    Args:
      midi: [F], pitch of one note.
      frame_rate_hz: frames per second.

    Returns:
      Its frequency in Hz and its amplitude in cents, both 0 where there is none.
    """
    if len(midi) < 2.0 / VIBRATO_HZ[0] * frame_rate_hz:
        return 0.0, 0.0
    times = np.arange(len(midi), dtype=np.float64)
    swing = midi - np.polyval(np.polyfit(times, midi, 2), times)
    window = np.hanning(len(midi) + 2)[1:-1]
    spectrum = np.abs(np.fft.rfft(swing * window, 8 * len(midi))) * 2.0 / window.sum()
    frequencies_hz = np.arange(len(spectrum)) * frame_rate_hz / (8 * len(midi))
    inside = (frequencies_hz >= VIBRATO_HZ[0]) & (frequencies_hz <= VIBRATO_HZ[1])
    best = int(np.argmax(np.where(inside, spectrum, 0.0)))
    cents = 100.0 * float(spectrum[best])
    if cents < LEAST_VIBRATO_CENTS or not 0 < best < len(spectrum) - 1 or spectrum[best] < spectrum[best - 1]:
        return 0.0, 0.0
    return float(frequencies_hz[best]), cents


def write_notes(path: Path, transcription: Transcription | Sequence[Transcription], force: bool = False) -> None:
    """Writes notes as a MIDI file (velocity, pitch bends for tuning, vibrato and slides) or as a CSV table.

    Args:
      path: ends in .mid, .midi or .csv.
      transcription: to write; each of several voices has its own track and channel.
      force: replace an existing file.

    Raises:
      UsageError: another suffix.
      OutputError: the file exists or cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in NOTE_SUFFIXES:
        raise UsageError(f"{path} is neither .mid nor .csv")
    check_writable(path, force)
    voices = [transcription] if isinstance(transcription, Transcription) else list(transcription)
    with writing(path), beside(path) as part:
        if suffix == ".csv":
            notes = sorted((note for voice in voices for note in voice.notes), key=lambda note: note.start_s)
            part.write_text(_table(notes), encoding="utf-8")
        else:
            _write_midi(part, voices)


#: Head of a table of notes.
TABLE_HEAD = "number,start_s,length_s,note,midi,cents,level_db,velocity,vibrato_hz,vibrato_cents"


def is_note_table(path: Path) -> bool:
    """Whether a file is a table of notes as `write_notes` writes it, edited or not; any separator of columns."""
    with path.open("rb") as file:
        head = file.readline(1000).decode("utf-8-sig", "replace")
    return {"number", "start_s", "length_s"} <= set(re.split(r"[^a-z0-9_]+", head.lower()))


def _table(notes: Sequence[Note]) -> str:
    lines = [TABLE_HEAD]
    lines += [
        f"{i},{note.start_s:.3f},{note.stop_s - note.start_s:.3f},{note_name(note.midi)},{note.midi},{note.cents:.0f},"
        f"{note.level_db:.1f},{note.velocity},{note.vibrato_hz:.1f},{note.vibrato_cents:.0f}"
        for i, note in enumerate(notes, start=1)
    ]
    return "\n".join(lines) + "\n"


def _write_midi(path: Path, voices: Sequence[Transcription]) -> None:
    import mido

    file = mido.MidiFile(ticks_per_beat=TICKS_PER_BEAT)
    channels = [channel for channel in range(16) if channel != DRUM_CHANNEL]
    for i, voice in enumerate(voices):
        file.tracks.append(_midi_track(voice, channels[min(i, len(channels) - 1)]))
    file.save(str(path))


def _midi_track(transcription: Transcription, channel: int) -> Any:
    """Returns the notes of one voice as a track of mido."""
    import mido

    rate_hz = transcription.frame_rate_hz
    events: list[tuple[int, int, mido.Message]] = []  # milliseconds, order, message
    for note in transcription.notes:
        start, stop = round(note.start_s * rate_hz), round(note.stop_s * rate_hz)
        start_ms, stop_ms = round(1000 * note.start_s), round(1000 * note.stop_s)
        step = max(1, round(BEND_S * rate_hz))
        last = None
        for frame in range(start, stop, step):
            off = transcription.pitch_midi[frame] - note.midi
            if np.isnan(off):
                continue
            wheel = int(np.clip(round(8192 * off / BEND_SEMITONES), -8192, 8191))
            if wheel != last:
                events.append(
                    (round(1000 * frame / rate_hz), 1, mido.Message("pitchwheel", pitch=wheel, channel=channel))
                )
            last = wheel
        events.append((start_ms, 2, mido.Message("note_on", note=note.midi, velocity=note.velocity, channel=channel)))
        events.append((stop_ms, 0, mido.Message("note_off", note=note.midi, channel=channel)))
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=TEMPO_US)])
    now_ms = 0
    for at_ms, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=at_ms - now_ms))
        now_ms = at_ms
    return track


#: Sound around a note, such as its consonant and its release, is moved with it up to this distance.
AROUND_S = 0.12

#: The beginning and the end of a note are not stretched when its length changes.
EDGE_S = 0.06

#: An added note, which has no performed curves, rises and falls over this time, by `NEW_RAMP_DB`.
NEW_RAMP_S, NEW_RAMP_DB = 0.04, 20.0

#: Costs by which the notes of a MIDI file are matched to those performed: another pitch, and a semitone of it; a factor
#: of 2 in length; 127 steps of velocity; a second of delay, at most `DELAY_COST`; a note that is new or deleted.
PITCH_COST, SEMITONE_COST, LENGTH_COST, VELOCITY_COST, SECOND_COST, DELAY_COST, UNMATCHED_COST = (
    0.5, 0.02, 0.3, 2.0, 0.3, 0.6, 1.0,
)  # fmt: skip

#: The most notes that are matched: the table of costs has the square of it.
MAX_MATCHED = 5000

#: The resolution of the tables and MIDI files that are written: a shorter note is left out.
RESOLUTION_S = 1e-3

#: The largest table; a note takes 80 bytes.
MAX_TABLE_BYTES = 16 << 20

#: Ranges of values in a table: the pitch of a note with the cents, its level, the width of its vibrato.
MIDI_RANGE, LEVEL_DB_RANGE, VIBRATO_CENTS_RANGE = (0.0, 127.0), (-120.0, 20.0), (0.0, 12700.0)

#: Characters of a cell that an error quotes.
_SHOWN = 60


@dataclass(frozen=True)
class EditedNote:
    """A note of the edited performance.

    Attributes:
      start_s, stop_s: when.
      midi: its pitch, fractions included.
      source: index of the note that was performed; None for a new one.
      louder_db: than that note.
      vibrato: factor of its width.
      velocity: of a new note.
    """

    start_s: float
    stop_s: float
    midi: float
    source: int | None
    louder_db: float = 0.0
    vibrato: float = 1.0
    velocity: int = 80


def read_edited(path: Path, transcription: Transcription) -> list[EditedNote]:
    """Reads edited notes.

    Args:
      path: a .csv as `write_notes` writes it, or a MIDI file.
      transcription: the notes of the performance.

    Raises:
      InputError: the file is missing, or not such a table, or has no notes.
      UsageError: another suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in NOTE_SUFFIXES:
        raise UsageError(f"{path} is neither .mid nor .csv", parameter="from_notes")
    notes = _read_table(path, transcription) if suffix == ".csv" else _read_midi(path, transcription)
    if not notes:
        raise InputError(f"{path} has no notes")
    return sorted(notes, key=lambda note: note.start_s)


def count_changes(edited: Sequence[EditedNote], transcription: Transcription) -> tuple[int, int, int]:
    """Counts the notes that were changed, added and left out."""
    pairs = [(note, transcription.notes[note.source]) for note in edited if note.source is not None]
    changed = sum(not _is_as_performed(note, performed) for note, performed in pairs)
    sources = {note.source for note, _ in pairs}
    return changed, len(edited) - len(pairs), len(transcription.notes) - len(sources)


def _is_as_performed(note: EditedNote, performed: Note) -> bool:
    """Whether a note has the time, pitch, level and vibrato of the performance, within the precision of the files."""
    return (
        abs(note.start_s - performed.start_s) < 0.0015
        and abs(note.stop_s - performed.stop_s) < 0.0025
        and abs(note.midi - performed.midi - performed.cents / 100.0) < 0.006
        and abs(note.louder_db) < 0.06
        and abs(note.vibrato - 1.0) < 0.01
    )


# --- tables -----------------------------------------------------------------------------------------------------------


def _read_table(path: Path, transcription: Transcription) -> list[EditedNote]:
    try:
        text = read_regular(path, MAX_TABLE_BYTES, InputError).decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise InputError(f"{path} is not text in UTF-8", "Save it as CSV in UTF-8.") from problem
    head = text.partition("\n")[0]
    delimiter = next((each for each in (";", "\t") if each in head), ",")
    if delimiter == ";":
        text = text.replace(",", ".")
    try:
        rows = list(csv.DictReader(text.splitlines(), delimiter=delimiter))
    except csv.Error as problem:  # a field of more than 128 kB
        raise InputError(f"{path} is not a table of notes: {problem}") from problem
    names = {name.strip() for name in (rows[0] if rows else {}) if name}
    if rows and not ({"start_s", "length_s"} <= names and names & {"midi", "note"}):
        raise InputError(f"{path} has no columns start_s, length_s and midi", "Edit a table that was written as notes.")
    filled = [_Row(path, line, row) for line, row in enumerate(rows, start=2) if any(map(_cell, row.values()))]
    return [_of_row(row, transcription) for row in filled]


def _cell(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


class _Row:
    """A line of a table of notes: its cells by column, and errors that name the line."""

    def __init__(self, path: Path, line: int, row: dict[str, str]) -> None:
        self._path, self._line = path, line
        self._cells = {name.strip(): _cell(value) for name, value in row.items() if name}

    def number(self, name: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        """Returns the number in a column; None where the cell is empty or the column is missing.

        Raises:
          InputError: it is no number, or outside the limits.
        """
        text = self._cells.get(name)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"{self._path}: {name} is not a number in line {self._line}: {text[:_SHOWN]}")
        if not low <= value <= high:
            raise InputError(f"{self._path}: {name} in line {self._line} must be {low:g} to {high:g}")
        return value

    def span_s(self, longest_s: float) -> tuple[float, float]:
        """Returns the start and the length of the note.

        Raises:
          InputError: one is missing or not possible, or the note ends after `longest_s`.
        """
        start_s, length_s = self.number("start_s"), self.number("length_s")
        if start_s is None or length_s is None or start_s < 0.0 or length_s < RESOLUTION_S:
            raise InputError(
                f"{self._path}: line {self._line} needs a start_s from 0 and a length_s of at least {RESOLUTION_S:g}"
            )
        if start_s + length_s > longest_s:
            raise InputError(f"{self._path}: the note in line {self._line} ends after {LONGEST_S / 3600.0:g} hours")
        return start_s, length_s

    def source(self, n_notes: int) -> int | None:
        """Returns the index of the performed note; None for a new note.

        Raises:
          InputError: the performance has no such note.
        """
        number = self.number("number")
        if number is None:
            return None
        source = round(number) - 1
        if not 0 <= source < n_notes:
            shown = self._cells["number"][:_SHOWN]
            raise InputError(
                f"{self._path}: the performance has no note {shown} (line {self._line})",
                f"Its notes are 1 to {n_notes}; leave the number of a new note empty.",
            )
        return source

    def midi(self, performed: Note | None) -> float:
        """Returns the pitch, cents included. Of its two columns, number and name, the one that was edited counts.

        Raises:
          InputError: it is missing, not a pitch, or outside `MIDI_RANGE`.
        """
        midi, spelled = self.number("midi"), None
        if name := self._cells.get("note"):
            try:
                spelled = float(midi_number(name))
            except (ValueError, OverflowError):
                shown = name[:_SHOWN]
                raise InputError(
                    f"{self._path}: {shown} in line {self._line} is not the name of a note such as C#4"
                ) from None
        if midi is None or (spelled is not None and performed is not None and midi == performed.midi):
            midi = spelled
        if midi is not None:
            midi += (self.number("cents") or 0.0) / 100.0
        if midi is None or not MIDI_RANGE[0] <= midi <= MIDI_RANGE[1]:
            raise InputError(f"{self._path}: line {self._line} needs a note, {MIDI_RANGE[0]:g} to {MIDI_RANGE[1]:g}")
        return midi


def _of_row(row: _Row, transcription: Transcription) -> EditedNote:
    """Returns the note in a line of a table."""
    longest_s = max(LONGEST_S, len(transcription.pitch_midi) / transcription.frame_rate_hz)
    start_s, length_s = row.span_s(longest_s)
    source = row.source(len(transcription.notes))
    performed = None if source is None else transcription.notes[source]
    midi = row.midi(performed)
    velocity = row.number("velocity", 0.0, 127.0)
    level_db = row.number("level_db", *LEVEL_DB_RANGE)
    vibrato_cents = row.number("vibrato_cents", *VIBRATO_CENTS_RANGE)
    if performed is None:
        return EditedNote(start_s, start_s + length_s, midi, None, velocity=round(velocity or 80))
    louder_db = 0.0 if level_db is None else level_db - round(performed.level_db, 1)
    if velocity is not None and louder_db == 0.0:
        louder_db = _velocity_change_db(round(velocity), performed, transcription)
    vibrato = 1.0
    if vibrato_cents is not None and performed.vibrato_cents > 0.0 and vibrato_cents != round(performed.vibrato_cents):
        vibrato = vibrato_cents / performed.vibrato_cents
    start_s = _unless_edited(start_s, performed.start_s, 0.0006)
    length_s = _unless_edited(length_s, performed.stop_s - performed.start_s, 0.0006)
    midi = _unless_edited(midi, performed.midi + performed.cents / 100.0, 0.0051)
    return EditedNote(start_s, start_s + length_s, midi, source, louder_db, vibrato)


def _unless_edited(written: float, performed: float, rounding: float) -> float:
    """Returns the exact value of the performance where the written one differs by no more than its rounding."""
    return performed if abs(written - performed) < rounding else written


# --- MIDI files -------------------------------------------------------------------------------------------------------


def _read_midi(path: Path, transcription: Transcription) -> list[EditedNote]:
    """Matches the notes of a MIDI file to the performed ones, in order."""
    played = lead_line(read_midi(path)).notes
    if max(len(played), len(transcription.notes)) > MAX_MATCHED:
        raise InputError(f"{path} has too many notes to be matched", "Edit the table (.csv) of the notes instead.")
    sources = _match([(note.start_s, note.stop_s, note.midi, note.velocity) for note in played], transcription.notes)
    out = []
    for note, source in zip(played, sources, strict=True):
        if source is None:
            out.append(EditedNote(note.start_s, note.stop_s, note.midi, None, velocity=note.velocity))
            continue
        performed = transcription.notes[source]
        start_s = _unless_edited(note.start_s, performed.start_s, 0.0011)  # a tick is a millisecond
        length_s = _unless_edited(note.stop_s - note.start_s, performed.stop_s - performed.start_s, 0.0021)
        midi = note.midi + performed.cents / 100.0  # its tuning is in the performance's own pitch
        louder_db = _velocity_change_db(note.velocity, performed, transcription)
        out.append(EditedNote(start_s, start_s + length_s, midi, source, louder_db))
    return out


def _velocity_change_db(velocity: int, performed: Note, transcription: Transcription) -> float:
    """Returns level change of a note with another velocity, in dB."""
    if velocity == performed.velocity:
        return 0.0
    own_db = transcription.levels_db
    return velocity_db(velocity, own_db) - velocity_db(performed.velocity, own_db)


def _match(played: Sequence[tuple[float, float, float, int]], performed: Sequence[Note]) -> list[int | None]:
    """Finds the performed note of each of the played notes (start, stop, number, velocity), in order, or None.

    The cheapest alignment of the two sequences (Needleman and Wunsch 1970).
    """
    n, m = len(played), len(performed)
    if not n or not m:
        return [None] * n
    start, stop, midi, velocity = (np.array(column, np.float64) for column in zip(*played, strict=True))
    own = np.array([(one.start_s, one.stop_s, one.midi, one.velocity) for one in performed], np.float64).T
    interval = np.abs(midi[:, None] - own[2])
    cost = PITCH_COST * (interval > 0.0) + SEMITONE_COST * interval
    lengths = np.abs(np.log2(np.maximum(stop - start, 1e-3)[:, None] / np.maximum(own[1] - own[0], 1e-3)))
    cost += LENGTH_COST * np.minimum(lengths, 3.0) + VELOCITY_COST * np.abs(velocity[:, None] - own[3]) / 127.0
    cost += np.minimum(SECOND_COST * np.abs(start[:, None] - own[0]), DELAY_COST)
    total = np.empty((n + 1, m + 1))
    total[0], total[:, 0] = UNMATCHED_COST * np.arange(m + 1), UNMATCHED_COST * np.arange(n + 1)
    for i in range(1, n + 1):
        row = np.minimum(total[i - 1, :-1] + cost[i - 1], total[i - 1, 1:] + UNMATCHED_COST)
        best = total[i, 0]
        for j in range(m):
            best = min(row[j], best + UNMATCHED_COST)
            total[i, j + 1] = best
    found: list[int | None] = [None] * n
    i, j = n, m
    while i and j:
        if total[i, j] == total[i - 1, j - 1] + cost[i - 1, j - 1]:
            found[i - 1] = j - 1
            i, j = i - 1, j - 1
        elif total[i, j] == total[i - 1, j] + UNMATCHED_COST:
            i -= 1
        else:
            j -= 1
    return found


# --- curves -----------------------------------------------------------------------------------------------------------


def rearrange(features: Features, transcription: Transcription, edited: Sequence[EditedNote]) -> Features:
    """Moves the curves of a performance to its edited notes.

    Args:
      features: of the performance.
      transcription: its notes, found in these features.
      edited: the notes to play.

    Returns:
      Features as long as the performance, or longer where a note ends later; F0 without the tracker's errors.
    """
    canvas = _Canvas(features, transcription)
    for note in edited:
        canvas.surround(note)
    for note in edited:
        canvas.place(note)
    return canvas.features(max(note.stop_s for note in edited))


class _Canvas:
    """Curves [F'] of a performance under construction, note by note."""

    def __init__(self, features: Features, transcription: Transcription) -> None:
        self._features, self._notes = features, transcription.notes
        self._rate_hz = rate_hz = features.spec.frame_rate_hz
        n_frames = len(features)
        self._pitch = transcription.repaired_midi
        self._names = ("loudness_db", "power_db", *(["envelope_db"] if features.envelope_db is not None else []))
        self._levels = {name: np.asarray(getattr(features, name), np.float64) for name in self._names}
        self._rest = {name: float(np.percentile(values, 2.0)) for name, values in self._levels.items()}
        self._spans = [(round(note.start_s * rate_hz), round(note.stop_s * rate_hz)) for note in self._notes]
        self._around = self._surroundings(n_frames, round(AROUND_S * rate_hz))
        # frames far from all notes are kept, the others are silent unless a note is written there
        background = np.ones(n_frames, bool)
        for first, last in self._around:
            background[first:last] = False
        self._out_pitch = np.where(background, self._pitch, np.nan)
        self._out_sure = np.where(background, features.f0_confidence, 0.0).astype(np.float64)
        self._out = {name: np.where(background, values, self._rest[name]) for name, values in self._levels.items()}
        offsets = self._levels["loudness_db"] - self._levels["power_db"]
        voiced = np.isfinite(self._pitch)
        self._loudness_offset_db = float(np.median(offsets[voiced])) if voiced.any() else 0.0
        self._own_db = transcription.levels_db

    def _surroundings(self, n_frames: int, most: int) -> list[tuple[int, int]]:
        """Finds the frames of each note with its surroundings: half of a short gap, `most` frames of a long one."""
        out = []
        for i, (start, stop) in enumerate(self._spans):
            before = start - self._spans[i - 1][1] if i else start
            after = self._spans[i + 1][0] - stop if i + 1 < len(self._spans) else n_frames - stop
            left = min(most, before if i == 0 else before - before // 2)
            right = min(most, after if i + 1 == len(self._spans) else after // 2)
            out.append((start - max(left, 0), stop + max(right, 0)))
        return out

    def surround(self, note: EditedNote) -> None:
        """Places the sound before and after a note."""
        if note.source is None:
            return
        (start, stop), (first, last) = self._spans[note.source], self._around[note.source]
        new_start, new_stop = self._frames(note)
        self._put(np.arange(first, start, dtype=np.float64), new_start - (start - first), note)
        self._put(np.arange(stop, last, dtype=np.float64), new_stop, note)

    def place(self, note: EditedNote) -> None:
        """Places a note."""
        new_start, new_stop = self._frames(note)
        if note.source is None:
            self._put_new(note, new_start, new_stop)
            return
        start, stop = self._spans[note.source]
        self._put(_stretched(start, stop, new_stop - new_start, round(EDGE_S * self._rate_hz)), new_start, note)

    def _frames(self, note: EditedNote) -> tuple[int, int]:
        start = round(note.start_s * self._rate_hz)
        return start, max(round(note.stop_s * self._rate_hz), start + 1)

    def _room_for(self, n_frames: int) -> None:
        """Extends the curves to at least this length."""
        more = n_frames - len(self._out_pitch)
        if more > 0:
            self._out_pitch = np.pad(self._out_pitch, (0, more), constant_values=np.nan)
            self._out_sure = np.pad(self._out_sure, (0, more))
            for name, values in self._out.items():
                self._out[name] = np.pad(values, (0, more), constant_values=self._rest[name])

    def _put(self, places: RealArray, at: int, note: EditedNote) -> None:
        """Copies the frames at `places` [n] of the performance, changed as the note says, to frame `at` and after."""
        if at < 0:
            places, at = places[-at:], 0
        if not len(places) or note.source is None:
            return
        self._room_for(at + len(places))
        part = slice(at, at + len(places))
        nearest = np.clip(np.rint(places).astype(int), 0, len(self._pitch) - 1)
        performed = self._notes[note.source]
        pitch = self._pitch[nearest]
        if note.vibrato != 1.0:
            voiced = np.isfinite(pitch)
            if voiced.any():
                pitch[voiced] = scale_vibrato(pitch[voiced], note.vibrato, self._rate_hz)
        self._out_pitch[part] = pitch + note.midi - performed.midi - performed.cents / 100.0
        self._out_sure[part] = self._features.f0_confidence[nearest]
        frames = np.arange(len(self._pitch))
        for name, values in self._levels.items():
            self._out[name][part] = np.interp(places, frames, values) + note.louder_db

    def _put_new(self, note: EditedNote, start: int, stop: int) -> None:
        """Places an added note: a steady pitch, with a short rise and fall."""
        self._room_for(stop)
        n, ramp = stop - start, max(1.0, NEW_RAMP_S * self._rate_hz)
        frames = np.arange(n, dtype=np.float64)
        shape_db = -NEW_RAMP_DB * np.clip(1.0 - np.minimum(frames, n - 1.0 - frames) / ramp, 0.0, 1.0) ** 2
        power_db = velocity_db(note.velocity, self._own_db) + shape_db
        self._out_pitch[start:stop], self._out_sure[start:stop] = note.midi, 1.0
        for name, values in self._out.items():
            values[start:stop] = power_db + (self._loudness_offset_db if name == "loudness_db" else 0.0)

    def features(self, stop_s: float) -> Features:
        """Returns the features, as long as the performance or until `AROUND_S` after the last note."""
        hop, rate_hz = self._features.spec.hop_samples, self._rate_hz
        n_frames = max(len(self._features), math.ceil((stop_s + AROUND_S) * rate_hz))
        self._room_for(n_frames)
        voiced = np.isfinite(self._out_pitch[:n_frames])
        f0_hz = np.where(voiced, midi_to_hz(np.where(voiced, self._out_pitch[:n_frames], 0.0)), 0.0)
        levels = {name: values[:n_frames].astype(np.float32) for name, values in self._out.items()}
        return replace(
            self._features,
            f0_hz=f0_hz.astype(np.float32),
            f0_confidence=np.where(voiced, self._out_sure[:n_frames], 0.0).astype(np.float32),
            n_samples=self._features.n_samples if n_frames == len(self._features) else n_frames * hop,
            loudness_db=levels["loudness_db"],
            power_db=levels["power_db"],
            envelope_db=levels.get("envelope_db"),
        )


def _stretched(start: int, stop: int, n_frames: int, edge: int) -> DoubleArray:
    """Returns places [n] in a note from `start` to `stop`, with its middle stretched to the number of frames."""
    n_own = stop - start
    if n_own == n_frames:
        return np.arange(start, stop, dtype=np.float64)
    edge = min(edge, n_own // 3, n_frames // 3)
    own = [0, edge, n_own - 1 - edge, n_own - 1]
    new = [0, edge, n_frames - 1 - edge, n_frames - 1]
    return start + np.interp(np.arange(n_frames, dtype=np.float64), new, own)
