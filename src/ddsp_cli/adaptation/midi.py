"""A standard MIDI file as something to play: one line of notes with pitch bends, velocities, attacks and releases."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ddsp_cli import scaling
from ddsp_cli.adaptation import f0_cleanup
from ddsp_cli.adaptation.adapt import Adapted, AdaptSettings, choose_octave
from ddsp_cli.adaptation.autotune import moving_mean
from ddsp_cli.adaptation.dynamics import make_gate, rest_levels, within_reach
from ddsp_cli.adaptation.segmentation import Segments
from ddsp_cli.arrays import runs
from ddsp_cli.bundle import Statistics
from ddsp_cli.errors import InputError

SUFFIXES = frozenset({".mid", ".midi", ".smf"})

#: Softest and loudest velocity become these percentiles of the instrument's levels.
VELOCITY_PERCENTILES = (5.0, 97.0)

#: A note swells to its level in this time from so far below, gives way by so much, and dies away.
ATTACK_S = 0.05

ATTACK_DB = 14.0

SETTLE_DB = 2.0

SETTLE_S = 0.4

RELEASE_S = 0.06

RELEASE_DB = 12.0

#: A note that follows another without a rest swells from only so far below.
LEGATO_DB = 4.0

LEGATO_GAP_S = 0.02

#: Pitch goes from one note to the next of a legato in this time.
LEGATO_S = 0.03

#: Notes that begin this close together are a chord.
CHORD_S = 0.03

#: The last note may ring so long.
RING_S = 1.5

#: A bend to its end is this much, as General MIDI has it until a file says otherwise.
BEND_SEMITONES = 2.0

DRUM_CHANNEL = 9

LONGEST_S = 6 * 3600.0


@dataclass(frozen=True)
class Played:
    """One note of the line that is played: number, seconds, velocity 1..127, and whether it is bound to its neighbours.

    Attributes:
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
      bends: (second, semitones), in order; a bend holds until the next.
      n_overlapping: notes that were left out because a higher one began with them: chords.
      seconds: end of the last note.
    """

    notes: tuple[Played, ...]
    bends: tuple[tuple[float, float], ...]
    n_overlapping: int
    seconds: float


def read_score(path: Path) -> Score:
    """Reads a MIDI file: all channels but the drums together, the newest note sounds.

    Raises:
      InputError: missing, not a MIDI file, without notes, or impossibly long.
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
        raise InputError(f"{path} holds no notes outside the drum channel")
    return score


def _one_line(timed: list[tuple[float, object]]) -> Score:
    """The newest key is heard until it is let go or another one comes; of a chord the highest."""
    notes: list[Played] = []
    bends: list[tuple[float, float]] = []
    sounding: tuple[int, int, float, int] | None = None  # channel, key, since, velocity
    overlapping = 0

    def end(now_s: float | None) -> None:
        nonlocal sounding
        if now_s is None:
            return
        if sounding is not None and now_s > sounding[2]:
            notes.append(Played(float(sounding[1]), sounding[2], now_s, sounding[3]))
        sounding = None

    now_s = 0.0
    for now_s, message in timed:
        kind = getattr(message, "type", "")
        if kind == "pitchwheel":
            bends.append((now_s, message.pitch / 8192.0 * BEND_SEMITONES))  # type: ignore[attr-defined]
        elif kind == "note_on" and message.velocity > 0:  # type: ignore[attr-defined]
            chord = sounding is not None and now_s - sounding[2] < CHORD_S
            overlapping += chord
            if chord and sounding is not None and message.note < sounding[1]:  # type: ignore[attr-defined]
                continue  # of a chord the highest note is the melody
            if not chord:
                end(now_s)
            sounding = (message.channel, message.note, now_s, message.velocity)  # type: ignore[attr-defined]
        elif sounding is not None and kind in {"note_on", "note_off"}:
            key = (message.channel, message.note)  # type: ignore[attr-defined]
            end(now_s if key == sounding[:2] else None)
    end(now_s)
    gaps = [after.start_s - before.stop_s for before, after in itertools.pairwise(notes)]
    bound = [False, *(gap <= LEGATO_GAP_S for gap in gaps), False]
    notes = [replace(note, tied=bound[i], ties=bound[i + 1]) for i, note in enumerate(notes)]
    return Score(tuple(notes), tuple(bends), overlapping, notes[-1].stop_s if notes else 0.0)


def adapt_score(
    score: Score, statistics: Statistics, level: str, frame_rate_hz: int, settings: AdaptSettings | None = None
) -> Adapted:
    """Curves for an instrument: pitch of the notes, velocity as level, attack, decay and release.

    Args:
      score: what to play.
      statistics: of the instrument.
      level: `loudness_db` or `power_db`, what drives it.
      frame_rate_hz: of the curves.
      settings: transpose, dynamics, louder_db and glide_s count; the others are about recordings.
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
    segments = Segments(*runs(inside), inside, -np.inf, -80.0)
    level_db, gain_db = within_reach(np.where(inside, level_db, -80.0) + settings.louder_db, target)
    gate = make_gate(segments, frame_rate_hz) * np.where(inside, 10.0 ** (gain_db / 20.0), 1.0)
    played_midi = _connected(midi, segments, frame_rate_hz, settings.glide_s) + transpose
    return Adapted(
        f0_hz=scaling.midi_to_hz(played_midi).astype(np.float32),
        level_db=rest_levels(level_db, segments, frame_rate_hz, -80.0).astype(np.float32),
        gate=gate.astype(np.float32),
        transpose_semitones=float(transpose),
        segments=segments,
        frame_rate_hz=frame_rate_hz,
    )


def velocity_db(velocity: int, target_percentiles_db: np.ndarray, dynamics: float = 1.0) -> float:
    """Velocity 1..127 as a level of the instrument, rising; `dynamics` 0 makes all alike."""
    share = 0.5 + dynamics * ((velocity - 1) / 126.0 - 0.5)
    low, high = VELOCITY_PERCENTILES
    return float(np.interp(low + share * (high - low), np.arange(101), target_percentiles_db))


def _connected(midi: np.ndarray, segments: Segments, frame_rate_hz: int, glide_s: float) -> np.ndarray:
    """Pitch for every frame [F]: a legato takes `glide_s` or `LEGATO_S`, rests are as `pitch.fill` makes them."""
    width = round(max(LEGATO_S, glide_s) * frame_rate_hz)
    out = midi.copy()
    for start, stop in zip(segments.starts, segments.stops, strict=True):
        out[start:stop] = moving_mean(midi[start:stop], width)
    return f0_cleanup.fill(out, segments, frame_rate_hz)
