"""Read a standard MIDI file and turn it into curves: one line of notes with bends, velocities, attacks and releases.

Shapes: F frames.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli import scaling
from ddsp_cli.adaptation import f0_cleanup
from ddsp_cli.adaptation.adapt import Adapted, AdaptSettings, choose_octave
from ddsp_cli.adaptation.autotune import moving_mean
from ddsp_cli.adaptation.dynamics import make_gate, rest_levels, within_reach
from ddsp_cli.adaptation.segmentation import Segments
from ddsp_cli.arrays import DoubleArray, RealArray, runs
from ddsp_cli.bundle import Statistics
from ddsp_cli.errors import InputError

SUFFIXES = frozenset({".mid", ".midi", ".smf"})

#: Softest and loudest velocity become these percentiles of the instrument's levels.
VELOCITY_PERCENTILES = (5.0, 97.0)

#: A note rises to its level from `ATTACK_DB` below, falls by `SETTLE_DB`, and dies away by `RELEASE_DB`.
ATTACK_S, ATTACK_DB = 0.05, 14.0

SETTLE_S, SETTLE_DB = 0.4, 2.0

RELEASE_S, RELEASE_DB = 0.06, 12.0

#: A note rises from `LEGATO_DB` below if the gap to the one before is at most `LEGATO_GAP_S`; F0 then takes `LEGATO_S`
#: from note to note.
LEGATO_GAP_S, LEGATO_DB, LEGATO_S = 0.02, 4.0, 0.03

#: Notes that begin this close together are a chord.
CHORD_S = 0.03

#: The room rings on this long after the last note.
RING_S = 1.5

#: Range of the pitch wheel, as General MIDI has it until a file says otherwise.
BEND_SEMITONES = 2.0

#: The sustain pedal, and the value from which it is down.
SUSTAIN_CONTROL, SUSTAIN_DOWN = 64, 64

DRUM_CHANNEL = 9

LONGEST_S = 6 * 3600.0

FLOOR_DB = -80.0


@dataclass(frozen=True)
class Played:
    """One note of the line that is played.

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
    """A line of notes, none over another.

    Attributes:
      notes: in order.
      bends: (seconds, semitones), in order; a bend holds until the next.
      n_overlapping: notes that are left out because a higher one begins with them: chords.
      seconds: end of the last note.
    """

    notes: tuple[Played, ...]
    bends: tuple[tuple[float, float], ...]
    n_overlapping: int
    seconds: float


def read_score(path: Path) -> Score:
    """Reads a MIDI file: all channels but the drums together, of which the newest note sounds.

    Raises:
      InputError: missing, not a MIDI file, without notes, or longer than `LONGEST_S`.
    """
    import mido

    try:
        file = mido.MidiFile(path)
        timed, now_s = [], 0.0
        for message in file:  # mido turns ticks into seconds, tempo changes included
            now_s += message.time
            if not message.is_meta and getattr(message, "channel", DRUM_CHANNEL) != DRUM_CHANNEL:
                timed.append((now_s, message))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except Exception as problem:  # mido lets through whatever goes wrong in a damaged file
        raise InputError(
            f"{path} is not a MIDI file that can be read", "It should be a standard MIDI file."
        ) from problem
    if now_s > LONGEST_S:
        raise InputError(f"{path} lasts {now_s / 3600:.0f} hours")
    score = _one_line(timed)
    if not score.notes:
        raise InputError(f"{path} contains no notes outside the drum channel")
    return score


class _Line:
    """The one line that is heard: the newest key, until it and the pedal are released or another key comes."""

    def __init__(self) -> None:
        self.notes: list[Played] = []
        self.n_overlapping = 0
        self._sounding: tuple[int, int, float, int] | None = None  # channel, key, start, velocity
        self._released = False  # the key is up, the pedal still down
        self._pedals: set[int] = set()  # channels whose pedal is down

    def press(self, channel: int, key: int, velocity: int, now_s: float) -> None:
        """A key goes down; of a chord the highest is heard."""
        if self._sounding is not None and now_s - self._sounding[2] < CHORD_S:
            self.n_overlapping += 1
            if key < self._sounding[1]:
                return
            self._sounding = None
        self.end(now_s)
        self._sounding, self._released = (channel, key, now_s, velocity), False

    def release(self, channel: int, key: int, now_s: float) -> None:
        """A key goes up."""
        if self._sounding is not None and (channel, key) == self._sounding[:2]:
            self._released = True
            if channel not in self._pedals:
                self.end(now_s)

    def pedal(self, channel: int, is_down: bool, now_s: float) -> None:
        """The sustain pedal of a channel goes down or up."""
        if is_down:
            self._pedals.add(channel)
            return
        self._pedals.discard(channel)
        if self._released and self._sounding is not None and self._sounding[0] == channel:
            self.end(now_s)

    def end(self, now_s: float) -> None:
        """What sounds has ended."""
        if self._sounding is not None and now_s > self._sounding[2]:
            _, key, start_s, velocity = self._sounding
            self.notes.append(Played(float(key), start_s, now_s, velocity))
        self._sounding = None


def _one_line(timed: list[tuple[float, Any]]) -> Score:
    """The line that messages of mido, with their seconds, make."""
    line = _Line()
    bends: list[tuple[float, float]] = []
    now_s = 0.0
    for now_s, message in timed:
        if message.type == "pitchwheel":
            bends.append((now_s, message.pitch / 8192.0 * BEND_SEMITONES))
        elif message.type == "note_on" and message.velocity > 0:
            line.press(message.channel, message.note, message.velocity, now_s)
        elif message.type in {"note_on", "note_off"}:
            line.release(message.channel, message.note, now_s)
        elif message.type == "control_change" and message.control == SUSTAIN_CONTROL:
            line.pedal(message.channel, message.value >= SUSTAIN_DOWN, now_s)
    line.end(now_s)
    notes = line.notes
    gaps = [after.start_s - before.stop_s for before, after in itertools.pairwise(notes)]
    bound = [False, *(gap <= LEGATO_GAP_S for gap in gaps), False]
    notes = [replace(note, tied=bound[i], ties=bound[i + 1]) for i, note in enumerate(notes)]
    return Score(tuple(notes), tuple(bends), line.n_overlapping, notes[-1].stop_s if notes else 0.0)


def adapt_score(
    score: Score, statistics: Statistics, level: str, frame_rate_hz: int, settings: AdaptSettings | None = None
) -> Adapted:
    """Makes curves for an instrument: F0 from the notes, level from velocity, with attack, decay and release.

    Args:
      score: what to play.
      statistics: of the instrument.
      level: `loudness_db` or `power_db`, what drives the instrument.
      frame_rate_hz: of the curves.
      settings: `transpose`, `dynamics`, `louder_db` and `glide_s` count; the others are for recordings.
    """
    settings = settings or AdaptSettings()
    n_frames = max(1, round((score.seconds + RING_S) * frame_rate_hz))
    times_s = np.arange(n_frames) / frame_rate_hz
    midi, level_db = np.full(n_frames, np.nan), np.full(n_frames, -np.inf)
    inside = np.zeros(n_frames, bool)
    target = statistics.level(level)
    for note in score.notes:
        start, stop = round(note.start_s * frame_rate_hz), round(note.stop_s * frame_rate_hz)
        stop = max(stop, start + 1)
        since_s, left_s = times_s[start:stop] - note.start_s, note.stop_s - times_s[start:stop]
        shape_db = -(LEGATO_DB if note.tied else ATTACK_DB) * np.clip(1.0 - since_s / ATTACK_S, 0.0, 1.0) ** 2
        shape_db -= SETTLE_DB * np.clip((since_s - ATTACK_S) / SETTLE_S, 0.0, 1.0)
        shape_db -= (LEGATO_DB if note.ties else RELEASE_DB) * np.clip(1.0 - left_s / RELEASE_S, 0.0, 1.0) ** 2
        level_db[start:stop] = velocity_db(note.velocity, target, settings.dynamics) + shape_db
        midi[start:stop], inside[start:stop] = note.midi, True
    if score.bends:
        bend_s, bend = np.array(score.bends).T
        index = np.searchsorted(bend_s, times_s + 1e-9) - 1
        midi += np.where(index >= 0, bend[np.maximum(index, 0)], 0.0)
    transpose = settings.transpose
    if transpose is None:
        transpose = choose_octave(midi[inside], np.asarray(statistics.pitch_midi))
    segments = Segments(*runs(inside), inside, -np.inf, FLOOR_DB)
    level_db, gain_db = within_reach(np.where(inside, level_db, FLOOR_DB) + settings.louder_db, target)
    gate = make_gate(segments, frame_rate_hz) * np.where(inside, 10.0 ** (gain_db / 20.0), 1.0)
    played_midi = _connected(midi, segments, frame_rate_hz, settings.glide_s) + transpose
    return Adapted(
        f0_hz=scaling.midi_to_hz(played_midi).astype(np.float32),
        level_db=rest_levels(level_db, segments, frame_rate_hz, FLOOR_DB).astype(np.float32),
        gate=gate.astype(np.float32),
        transpose_semitones=float(transpose),
        segments=segments,
        frame_rate_hz=frame_rate_hz,
    )


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


def _connected(midi: RealArray, segments: Segments, frame_rate_hz: int, glide_s: float) -> DoubleArray:
    """Pitch for every frame [F]: legato takes `glide_s` or `LEGATO_S`, rests are filled by `f0_cleanup.fill`."""
    width = round(max(LEGATO_S, glide_s) * frame_rate_hz)
    out = midi.copy()
    for start, stop in zip(segments.starts, segments.stops, strict=True):
        out[start:stop] = moving_mean(midi[start:stop], width)
    return f0_cleanup.fill(out, segments, frame_rate_hz)
