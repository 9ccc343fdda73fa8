"""Read a standard MIDI file and turn it into curves: lines of notes with bends, velocities, attacks and releases.

Shapes: F frames.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ddsp_cli import scaling
from ddsp_cli.adaptation import f0_cleanup
from ddsp_cli.adaptation.adapt import Adapted, AdaptSettings, choose_octave
from ddsp_cli.adaptation.autotune import glide
from ddsp_cli.adaptation.dynamics import make_gate, rest_levels, within_reach
from ddsp_cli.adaptation.segmentation import Segments
from ddsp_cli.adaptation.voices import CHORD_S, LEGATO_GAP_S, assign_voices
from ddsp_cli.arrays import RealArray, runs
from ddsp_cli.bundle import Statistics
from ddsp_cli.config import FLOOR_DB
from ddsp_cli.errors import InputError
from ddsp_cli.limits import read_regular

#: Softest and loudest velocity become these percentiles of the instrument's levels.
VELOCITY_PERCENTILES = (5.0, 97.0)

#: A note rises to its level from `ATTACK_DB` below, falls by `SETTLE_DB`, and fades by `RELEASE_DB` after its end.
ATTACK_S, ATTACK_DB = 0.05, 14.0

SETTLE_S, SETTLE_DB = 0.4, 2.0

RELEASE_S, RELEASE_DB = 0.06, 12.0

#: A legato note rises from `LEGATO_DB` below.
LEGATO_DB = 4.0

#: The room rings on this long after the last note.
RING_S = 1.5

#: Default range of the pitch wheel (General MIDI).
BEND_SEMITONES = 2.0

#: Controllers that select a parameter, and the one that sets it; parameter 0 is the range of the pitch wheel.
PARAMETER_CONTROLS, DATA_CONTROL = (101, 100), 6

#: The sustain pedal, and the value from which it is down.
SUSTAIN_CONTROL, SUSTAIN_DOWN = 64, 64

#: Volume and expression of a channel: their controllers, and the values that they begin with (General MIDI).
VOLUME_CONTROL, FIRST_VOLUME = 7, 100
EXPRESSION_CONTROL, FIRST_EXPRESSION = 11, 127

#: A reset of the controllers: of those that count here it sets expression, lifts the pedal, centres the pitch wheel and
#: selects no parameter. Volume and the range of the wheel stay (MIDI RP-015).
RESET_CONTROL = 121

#: All sound off and all notes off end the notes of a channel, also those that the pedal holds.
ALL_OFF_CONTROLS = (120, 123)

#: Changes of volume and expression are averaged over this time: steps of 1 in 127 are up to 6 dB.
FADER_SMOOTHING_S = 0.02

#: Default tempo: 120 beats a minute.
DEFAULT_TEMPO_US = 500_000

#: Frames per second of SMPTE time code as a file numbers them (Standard MIDI Files 1.0); 29 is 30 drop frame.
SMPTE_FRAMES_HZ = {24: 24.0, 25: 25.0, 29: 30_000 / 1001, 30: 30.0}

DRUM_CHANNEL = 9

#: The longest score, and the end of the last note in a table.
LONGEST_S = 6 * 3600.0

#: The largest file, and the most notes in its chosen parts. `notes.write_notes` needs 1.4 MB for an hour.
#: A message takes 500 bytes of memory, a note of a voice 1,000.
MAX_FILE_BYTES, MAX_NOTES = 4 << 20, 100_000

ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class Selection:
    """Selects the tracks and channels of a MIDI file that are played.

    Attributes:
      tracks: numbers from 1, or names; all tracks where it is empty.
      channels: 1 to 16; all but the drums (10) where it is empty.
    """

    tracks: tuple[str, ...] = ()
    channels: tuple[int, ...] = ()


class Part(NamedTuple):
    """The notes of one channel in one track: numbers from 1, the name of the track, how many notes."""

    track: int
    name: str
    channel: int
    n_notes: int

    def __str__(self) -> str:
        named = f"track {self.track}{f' {self.name}' if self.name else ''}"
        return f"{named} (channel {self.channel}{', drums' if self.channel - 1 == DRUM_CHANNEL else ''})"


class Event(NamedTuple):
    """A message of mido, when it comes, and the number of its track from 0."""

    time_s: float
    track: int
    message: Any


@dataclass(frozen=True)
class MidiFile:
    """The messages of a MIDI file that are played.

    Attributes:
      events: in order of time.
      played: whose notes these are.
      left_out: whose notes are not played.
    """

    events: tuple[Event, ...]
    played: tuple[Part, ...]
    left_out: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Played:
    """One note of a line that is played.

    Attributes:
      midi: its number.
      start_s, stop_s: when it sounds.
      velocity: 1 to 127.
      tied: it follows another without a rest.
      ties: another follows it so.
    """

    midi: float
    start_s: float
    stop_s: float
    velocity: int
    tied: bool = False
    ties: bool = False


@dataclass(frozen=True)
class Score:
    """A line of notes without overlaps.

    Attributes:
      notes: in order.
      bends: (seconds, semitones) of the channels of the notes, in order; a bend holds until the next.
      n_overlapping: notes that are left out because a higher one begins with them: chords.
      seconds: end of the last note, also of other lines that are played with it.
      faders: (seconds, dB of expression, dB of volume), in order, relative to the loudest of the file; they hold until
        the next. Empty where they never differ.
    """

    notes: tuple[Played, ...]
    bends: tuple[tuple[float, float], ...]
    n_overlapping: int
    seconds: float
    faders: tuple[tuple[float, float, float], ...] = ()


#: Types of messages that start and end notes.
_NOTES = frozenset({"note_on", "note_off"})


def read_midi(path: Path, selection: Selection | None = None) -> MidiFile:
    """Reads a MIDI file.

    Args:
      path: the file.
      selection: tracks and channels to play; None for all but the drums.

    Raises:
      InputError: missing, not a MIDI file, without notes, longer than `LONGEST_S`, without such a track, or beyond
        `MAX_FILE_BYTES` or `MAX_NOTES`.
    """
    import mido

    selection = selection or Selection()
    if not path.exists():
        raise InputError(f"{path} does not exist")
    content = read_regular(path, MAX_FILE_BYTES, InputError)
    try:
        file = mido.MidiFile(file=io.BytesIO(content))
        events = _timed(file)
        names = [_decoded(str(track.name)) for track in file.tracks]
    except Exception as problem:  # mido can raise anything for a damaged file
        raise InputError(
            f"{path} is not a MIDI file that can be read", "It should be a standard MIDI file of type 0 or 1."
        ) from problem
    if events and events[-1].time_s > LONGEST_S:
        raise InputError(
            f"{path} lasts {events[-1].time_s / 3600:.0f} hours",
            f"A MIDI file may last {LONGEST_S / 3600:.0f} hours; an event far behind the last note may be the cause.",
        )
    counts = Counter((event.track, event.message.channel) for event in events if _is_press(event.message))
    parts = [Part(track + 1, names[track], channel + 1, n) for (track, channel), n in sorted(counts.items())]
    tracks = _chosen_tracks(path, selection.tracks, names, parts)
    channels = set(selection.channels) or set(range(1, 17)) - {DRUM_CHANNEL + 1}
    played = tuple(part for part in parts if part.track in tracks and part.channel in channels)
    if not played:
        if not parts or selection == Selection():
            raise InputError(f"{path} contains no notes outside the drum channel")
        raise InputError(f"{path} contains no notes there", f"Its notes: {', '.join(map(str, parts))}.")
    if (n_notes := sum(part.n_notes for part in played)) > MAX_NOTES:
        raise InputError(
            f"{path} has {n_notes} notes; at most {MAX_NOTES} are played", "Choose some of its tracks or channels."
        )
    chosen = {(part.track - 1, part.channel - 1) for part in played}
    # Pedal, pitch wheel and faders may be on a track of their own.
    kept = [one for one in events if one.message.type not in _NOTES or (one.track, one.message.channel) in chosen]
    return MidiFile(tuple(kept), played, tuple(part for part in parts if part not in played))


def _timed(file: Any) -> list[Event]:
    """Returns the messages of all channels with their seconds, tempo changes included.

    Raises:
      ValueError: the tracks of the file are pieces of their own (type 2), or its division is none of the standard.
    """
    import mido

    if file.type == 2:
        raise ValueError("a file of separate pieces")
    smpte_tick_s = _smpte_tick_s(file.ticks_per_beat) if file.ticks_per_beat < 0 else None
    merged: list[tuple[int, int, Any]] = []
    for number, track in enumerate(file.tracks):
        tick = 0
        for message in track:
            tick += message.time
            merged.append((tick, number, message))
    merged.sort(key=lambda entry: entry[0])
    events, now_s, last, tempo = [], 0.0, 0, DEFAULT_TEMPO_US
    for tick, number, message in merged:
        if smpte_tick_s is not None:
            now_s += (tick - last) * smpte_tick_s  # whatever the tempo
        else:
            now_s += mido.tick2second(tick - last, file.ticks_per_beat, tempo)
        last = tick
        if message.type == "set_tempo":
            tempo = message.tempo
        elif hasattr(message, "channel"):
            events.append(Event(now_s, number, message))
    return events


def _smpte_tick_s(division: int) -> float:
    """Returns seconds of a tick from a negative division of 16 bits: -frames per second, ticks of a frame.

    Raises:
      ValueError: it has another number of frames, or no ticks.
    """
    frames, ticks = -(division >> 8), division & 0xFF
    if frames not in SMPTE_FRAMES_HZ or not ticks:
        raise ValueError(f"a division of {frames} frames with {ticks} ticks")
    return 1.0 / (SMPTE_FRAMES_HZ[frames] * ticks)


def _decoded(name: str) -> str:
    """Returns the name of a track, which mido read as Latin-1: as UTF-8 where its bytes are that, in one line."""
    with contextlib.suppress(UnicodeError):
        name = name.encode("latin-1").decode("utf-8")
    return " ".join(unicodedata.normalize("NFC", name).split())


def _is_press(message: Any) -> bool:
    return message.type == "note_on" and message.velocity > 0


def _chosen_tracks(path: Path, wanted: tuple[str, ...], names: list[str], parts: list[Part]) -> set[int]:
    """Returns the numbers, from 1, of tracks that are given by number or name."""
    if not wanted:
        return set(range(1, len(names) + 1))
    found: set[int] = set()
    for word in wanted:
        asked = unicodedata.normalize("NFC", word.strip()).lower()
        same = [i + 1 for i, name in enumerate(names) if name.lower() == asked]
        if not same and word.strip().isdecimal() and 1 <= int(word) <= len(names):
            same = [int(word)]
        if not same:
            raise InputError(f"{path} has no track {word}", f"Its notes: {', '.join(map(str, parts))}.")
        found.update(same)
    return found


# --- one line --------------------------------------------------------------------------------------------------------


class _Line:
    """Reduces keys to one line: the newest key sounds until it and the pedal are released or another key comes."""

    def __init__(self) -> None:
        self.notes: list[Played] = []
        self.channels: list[int] = []  # of each note
        self.n_overlapping = 0
        self._sounding: tuple[int, int, float, int] | None = None  # channel, key, start, velocity
        self._released = False  # the key is up, the pedal still down
        self._pedals: set[int] = set()  # channels whose pedal is down

    def press(self, channel: int, key: int, velocity: int, now_s: float) -> None:
        """Handles a key press; of a chord the highest note sounds."""
        if self._sounding is not None and now_s - self._sounding[2] < CHORD_S:
            self.n_overlapping += 1
            if key < self._sounding[1]:
                return
            self._sounding = None
        self.end(now_s)
        self._sounding, self._released = (channel, key, now_s, velocity), False

    def release(self, channel: int, key: int, now_s: float) -> None:
        """Handles the release of a key."""
        if self._sounding is not None and (channel, key) == self._sounding[:2]:
            self._released = True
            if channel not in self._pedals:
                self.end(now_s)

    def pedal(self, channel: int, is_down: bool, now_s: float) -> None:
        """Handles the sustain pedal of a channel."""
        if is_down:
            self._pedals.add(channel)
            return
        self._pedals.discard(channel)
        if self._released and self._sounding is not None and self._sounding[0] == channel:
            self.end(now_s)

    def silence(self, channel: int, now_s: float) -> None:
        """Ends the sounding note if it is of a channel."""
        if self._sounding is not None and self._sounding[0] == channel:
            self.end(now_s)

    def end(self, now_s: float) -> None:
        """Ends the sounding note."""
        if self._sounding is not None and now_s > self._sounding[2]:
            channel, key, start_s, velocity = self._sounding
            self.channels.append(channel)
            self.notes.append(Played(float(key), start_s, now_s, velocity))
        self._sounding = None


class _Wheel:
    """The pitch wheel of every channel, whose range a file may set (registered parameter 0)."""

    def __init__(self) -> None:
        self._range: dict[int, float] = {}
        self._parameter: dict[int, list[int]] = {}

    def turned(self, message: Any) -> float | None:
        """Takes a message; returns the bend in semitones where it turns or centres the wheel."""
        if message.type == "pitchwheel":
            return float(message.pitch / 8192.0 * self._range.get(message.channel, BEND_SEMITONES))
        if message.type == "control_change":
            if message.control == RESET_CONTROL:
                self._parameter.pop(message.channel, None)
                return 0.0
            chosen = self._parameter.setdefault(message.channel, [127, 127])
            if message.control in PARAMETER_CONTROLS:
                chosen[PARAMETER_CONTROLS.index(message.control)] = message.value
            elif message.control == DATA_CONTROL and chosen == [0, 0]:
                self._range[message.channel] = float(message.value)
        return None


class _Fader(NamedTuple):
    """Volume and expression of a channel, 0 to 127."""

    volume: int = FIRST_VOLUME
    expression: int = FIRST_EXPRESSION


def _faders_of_channels(file: MidiFile) -> dict[int, list[tuple[float, _Fader]]]:
    """Returns seconds and new values of every change of volume and expression of each channel."""
    faders: dict[int, list[tuple[float, _Fader]]] = {}
    for now_s, _, message in file.events:
        if message.type != "control_change":
            continue
        moved = faders[message.channel][-1][1] if message.channel in faders else _Fader()
        if message.control == VOLUME_CONTROL:
            moved = moved._replace(volume=message.value)
        elif message.control == EXPRESSION_CONTROL:
            moved = moved._replace(expression=message.value)
        elif message.control == RESET_CONTROL:
            moved = moved._replace(expression=FIRST_EXPRESSION)
        else:
            continue
        faders.setdefault(message.channel, []).append((now_s, moved))
    return faders


def _faders_db(lines: Sequence[Sequence[tuple[float, _Fader]]]) -> list[tuple[tuple[float, float, float], ...]]:
    """Returns `Score.faders` of each line: 40 log10 of the value (General MIDI), relative to the loudest of all lines.

    A constant value is a matter of mixing with sounds that are not played here, so it changes nothing.
    """
    values = {fader for line in lines for _, fader in line}
    if len(values) < 2:
        return [() for _ in lines]
    loudest = _Fader(max(fader.volume for fader in values), max(fader.expression for fader in values))

    def relative_db(value: int, highest: int) -> float:
        if value == highest:
            return 0.0
        return max(FLOOR_DB, 40.0 * math.log10(value / highest)) if value else FLOOR_DB

    levels_db = {
        fader: (relative_db(fader.expression, loudest.expression), relative_db(fader.volume, loudest.volume))
        for fader in values
    }
    return [tuple((at_s, *levels_db[fader]) for at_s, fader in line) for line in lines]


def _is_pedal(message: Any) -> bool:
    return message.type == "control_change" and message.control in {SUSTAIN_CONTROL, RESET_CONTROL}


def _is_down(message: Any) -> bool:
    """Whether the sustain pedal is down after a message that `_is_pedal` names."""
    return bool(message.control == SUSTAIN_CONTROL and message.value >= SUSTAIN_DOWN)


def _ends_all(message: Any) -> bool:
    return message.type == "control_change" and message.control in ALL_OFF_CONTROLS


def lead_line(file: MidiFile) -> Score:
    """Returns one line of a file: the newest key, and the highest of a chord."""
    line = _Line()
    now_s = 0.0
    for now_s, _, message in file.events:
        if _is_press(message):
            line.press(message.channel, message.note, message.velocity, now_s)
        elif message.type in _NOTES:
            line.release(message.channel, message.note, now_s)
        elif _is_pedal(message):
            line.pedal(message.channel, _is_down(message), now_s)
        elif _ends_all(message):
            line.silence(message.channel, now_s)
    line.end(now_s)
    notes = _bound(line.notes)
    places = [_Place(channel, note.start_s, note.stop_s) for note, channel in zip(notes, line.channels, strict=True)]
    bends = tuple(_along(places, _bends_of_channels(file), 0.0))
    (faders,) = _faders_db([_along(places, _faders_of_channels(file), _Fader())])
    return Score(notes, bends, line.n_overlapping, notes[-1].stop_s if notes else 0.0, faders)


def _bound(notes: Sequence[Played]) -> tuple[Played, ...]:
    """Marks notes without a rest between them as legato."""
    gaps = [after.start_s - before.stop_s for before, after in itertools.pairwise(notes)]
    bound = [False, *(gap <= LEGATO_GAP_S for gap in gaps), False]
    return tuple(replace(note, tied=bound[i], ties=bound[i + 1]) for i, note in enumerate(notes))


# --- all notes, in voices --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Key:
    """A key that is held, by a finger or the pedal."""

    key: int
    start_s: float
    stop_s: float
    velocity: int
    track: int
    channel: int


def split_voices(file: MidiFile) -> tuple[list[Score], int]:
    """Splits all notes of a file into lines without overlaps, see `voices.assign_voices`.

    Returns:
      The lines, the highest first; and how many notes were cut short because there are no more voices.
    """
    keys = _held_keys(file)
    seconds = max((key.stop_s for key in keys), default=0.0)
    voices, n_cut = assign_voices(keys, lambda key: (key.track, key.channel))
    bends, moves = _bends_of_channels(file), _faders_of_channels(file)
    places = [[_Place(key.channel, key.start_s, key.stop_s) for key in voice] for voice in voices]
    faders = _faders_db([_along(notes, moves, _Fader()) for notes in places])
    return [
        Score(
            _bound([Played(float(key.key), key.start_s, key.stop_s, key.velocity) for key in voice]),
            tuple(_along(places[i], bends, 0.0)),
            0,
            seconds,
            faders[i],
        )
        for i, voice in enumerate(voices)
    ], n_cut


def _held_keys(file: MidiFile) -> list[_Key]:
    """Returns every key press, until the key and the pedal of its channel are up or the key is pressed again."""
    notes: list[_Key] = []
    down: dict[tuple[int, int, int], tuple[float, int]] = {}  # track, channel, key → start, velocity
    held: dict[int, set[tuple[int, int, int]]] = {}  # channel → places that the pedal alone holds
    pedals: set[int] = set()

    def end(place: tuple[int, int, int], now_s: float) -> None:
        held.get(place[1], set()).discard(place)
        start_s, velocity = down.pop(place)
        if now_s > start_s:
            track, channel, key = place
            notes.append(_Key(key, start_s, now_s, velocity, track, channel))

    now_s = 0.0
    for now_s, track, message in file.events:
        if message.type in _NOTES:
            place = (track, message.channel, message.note)
            if _is_press(message):
                if place in down:
                    end(place, now_s)
                down[place] = now_s, message.velocity
            elif place in down:
                if message.channel in pedals:
                    held.setdefault(message.channel, set()).add(place)
                else:
                    end(place, now_s)
        elif _is_pedal(message):
            if _is_down(message):
                pedals.add(message.channel)
            else:
                pedals.discard(message.channel)
                for place in list(held.get(message.channel, ())):
                    end(place, now_s)
        elif _ends_all(message):
            for place in [place for place in down if place[1] == message.channel]:
                end(place, now_s)
    for place in list(down):
        end(place, now_s)
    return notes


def _bends_of_channels(file: MidiFile) -> dict[int, list[tuple[float, float]]]:
    """Returns the turns of the pitch wheel of each channel, as in `Score.bends`."""
    wheel = _Wheel()
    bends: dict[int, list[tuple[float, float]]] = {}
    for now_s, _, message in file.events:
        if (bend := wheel.turned(message)) is not None:
            bends.setdefault(message.channel, []).append((now_s, bend))
    return bends


class _Place(NamedTuple):
    """The channel of a note, and when it sounds."""

    channel: int
    start_s: float
    stop_s: float


def _along(
    notes: Sequence[_Place], changes: dict[int, list[tuple[float, ValueT]]], first: ValueT
) -> list[tuple[float, ValueT]]:
    """Returns what changes along the notes of a line: the value at the start of each, and its changes within it.

    Args:
      notes: in order, without overlaps.
      changes: channel → (seconds, value), in order; a value holds until the next.
      first: value of a channel before its first change.
    """
    own: list[tuple[float, ValueT]] = []
    times_s = {channel: [time_s for time_s, _ in turns] for channel, turns in changes.items()}
    for note in notes:
        turns, at_s = changes.get(note.channel, []), times_s.get(note.channel, [])
        after = bisect_right(at_s, note.start_s)
        own.append((note.start_s, turns[after - 1][1] if after else first))
        own += turns[after : bisect_left(at_s, note.stop_s, lo=after)]
    return own


def adapt_scores(
    scores: Sequence[Score],
    statistics: Statistics,
    level: str,
    frame_rate_hz: int,
    settings: AdaptSettings | None = None,
) -> list[Adapted]:
    """Makes curves for each of several lines, transposed by the same octaves; arguments as for `adapt_score`."""
    settings = settings or AdaptSettings()
    if settings.transpose is None:
        midi = np.concatenate([
            np.repeat(note.midi, max(1, round((note.stop_s - note.start_s) * frame_rate_hz)))
            for score in scores
            for note in score.notes
        ])  # fmt: skip
        settings = replace(settings, transpose=choose_octave(midi, np.asarray(statistics.pitch_midi)))
    return [adapt_score(score, statistics, level, frame_rate_hz, settings) for score in scores]


def adapt_score(
    score: Score, statistics: Statistics, level: str, frame_rate_hz: int, settings: AdaptSettings | None = None
) -> Adapted:
    """Makes curves for an instrument: F0 from the notes, level from velocity, with attack, decay and release.

    Args:
      score: to play.
      statistics: of the instrument.
      level: `loudness_db` or `power_db`, the level of the instrument.
      frame_rate_hz: of the curves.
      settings: `transpose`, `dynamics`, `louder_db` and `glide_s` count; the others are for recordings.
    """
    settings = settings or AdaptSettings()
    n_frames = max(1, round((score.seconds + RING_S) * frame_rate_hz))
    times_s = np.arange(n_frames) / frame_rate_hz
    midi, level_db = np.full(n_frames, np.nan), np.full(n_frames, -np.inf)
    inside = np.zeros(n_frames, bool)
    target = statistics.level(level)
    faders, volume_db = np.array(score.faders).T if score.faders else None, np.zeros(n_frames)
    bends = np.array(((-np.inf, 0.0), *score.bends)).T
    for note in score.notes:
        start, stop = round(note.start_s * frame_rate_hz), round(note.stop_s * frame_rate_hz)
        stop = max(stop, start + 1)
        since_s, left_s = times_s[start:stop] - note.start_s, note.stop_s - times_s[start:stop]
        shape_db = attack_db(since_s, note.tied)
        shape_db -= (LEGATO_DB if note.ties else RELEASE_DB) * np.clip(1.0 - left_s / RELEASE_S, 0.0, 1.0) ** 2
        level_db[start:stop] = velocity_db(note.velocity, target, settings.dynamics) + shape_db
        if faders is not None:
            expression_db, volume_db[start:stop] = _faded(note, times_s[start:stop], faders, frame_rate_hz)
            level_db[start:stop] += settings.dynamics * expression_db
        midi[start:stop], inside[start:stop] = note.midi + _held(note, times_s[start:stop], bends)[0], True
    transpose = settings.transpose
    if transpose is None:
        transpose = choose_octave(midi[inside], np.asarray(statistics.pitch_midi))
    segments = Segments(*runs(inside), inside, -np.inf, FLOOR_DB)
    level_db, gain_db = within_reach(np.where(inside, level_db, FLOOR_DB) + settings.louder_db, target)
    gate = make_gate(segments, frame_rate_hz) * np.where(inside, 10.0 ** ((gain_db + volume_db) / 20.0), 1.0)
    filled = f0_cleanup.fill(midi, segments, frame_rate_hz)
    played_midi = glide(filled, segments, settings.glide_s, frame_rate_hz) + transpose
    return Adapted(
        f0_hz=scaling.midi_to_hz(played_midi).astype(np.float32),
        level_db=rest_levels(level_db, segments, frame_rate_hz, FLOOR_DB).astype(np.float32),
        gate=gate.astype(np.float32),
        transpose_semitones=float(transpose),
        segments=segments,
        frame_rate_hz=frame_rate_hz,
    )


def attack_db(since_s: RealArray, is_legato: bool) -> RealArray:
    """Returns the envelope at the beginning of a note in dB: it rises to 0 and settles at -`SETTLE_DB`.

    Args:
      since_s: [F] seconds since the note began.
      is_legato: it rises from `LEGATO_DB` below; other notes rise from `ATTACK_DB` below.
    """
    rise_db = (LEGATO_DB if is_legato else ATTACK_DB) * np.clip(1.0 - since_s / ATTACK_S, 0.0, 1.0) ** 2
    return -rise_db - SETTLE_DB * np.clip((since_s - ATTACK_S) / SETTLE_S, 0.0, 1.0)


def _faded(note: Played, times_s: RealArray, faders: RealArray, frame_rate_hz: int) -> RealArray:
    """Returns expression and volume in dB along a note, [2, F].

    Args:
      note: whose faders these are.
      times_s: [F] of its frames.
      faders: [3, N], `Score.faders`.
      frame_rate_hz: of the frames.
    """
    held_db = _held(note, times_s, faders)
    reach = round(0.5 * FADER_SMOOTHING_S * frame_rate_hz)
    padded = np.pad(held_db, ((0, 0), (reach, reach)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=1).mean(axis=-1)


def _held(note: Played, times_s: RealArray, changes: RealArray) -> RealArray:
    """Returns values that hold from one change to the next along a note, [C, F].

    Args:
      note: whose values these are.
      times_s: [F] of its frames. The first and the last may reach beyond it, into notes of other values.
      changes: [1 + C, N], seconds of each change and its values; the first is not later than the note.
    """
    inside_s = np.clip(times_s, note.start_s, max(note.start_s, note.stop_s - 1e-6))
    return np.asarray(changes[1:, np.searchsorted(changes[0], inside_s + 1e-9) - 1])


def velocity_db(velocity: int, target_percentiles_db: RealArray, dynamics: float = 1.0) -> float:
    """Maps a velocity of 1 to 127 to a level of the instrument.

    Args:
      velocity: of the note.
      target_percentiles_db: [101], levels of the instrument.
      dynamics: 0 makes all notes equally loud, 1 uses the range of `VELOCITY_PERCENTILES`.
    """
    share = 0.5 + dynamics * ((velocity - 1) / 126.0 - 0.5)
    low, high = VELOCITY_PERCENTILES
    return float(np.interp(low + share * (high - low), np.arange(101), target_percentiles_db))
