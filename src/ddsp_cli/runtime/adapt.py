"""A performance fitted to an instrument: its notes, its melody, its register, its dynamics, its rests.

What a player does who reads somebody else's part. Each step is a function of its own and can be switched off;
`adapt` runs them in order. Shapes: F frames at the rate of the features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddsp_cli import formulas
from ddsp_cli.bundle import Statistics
from ddsp_cli.errors import InputError
from ddsp_cli.features.frames import Features
from ddsp_cli.runtime import pitch
from ddsp_cli.runtime.notes import Notes, NoteSettings, find_notes, percentiles

#: Percentiles between which levels are matched. The ends are left out: they are single moments.
MATCHED_PERCENTILES = np.arange(5.0, 96.0, 10.0)

#: How much the matching may stretch or squeeze differences of level. Without bounds the small unevenness of a
#: performance at constant level would be blown up to the whole range of the instrument.
SLOPES = (0.35, 1.6)

#: The sound before and after a note falls towards silence this fast.
ATTACK_DB_PER_S = 1200.0
RELEASE_DB_PER_S = 500.0

#: Length of the ramps of the gate, outside the note.
RAMP_S = 0.014

#: What one octave of transposition costs, as a share of the notes: a shift has to be worth it.
OCTAVE_COST = 0.03


@dataclass(frozen=True)
class AdaptSettings:
    """Which steps are done, and how far.

    Attributes:
      notes: what counts as a note; None plays everything, rests included.
      repair_pitch: take out octave slips and hiccups.
      transpose: semitones, or None for the octave that suits the instrument.
      dynamics: 0 keeps the performance's differences of level, 1 makes them the instrument's own.
      louder_db: added to the level that drives the instrument.
    """

    notes: NoteSettings | None = NoteSettings()
    repair_pitch: bool = True
    transpose: float | None = None
    dynamics: float = 1.0
    louder_db: float = 0.0


@dataclass(frozen=True)
class Adapted:
    """What the instrument is to play. Arrays [F] float32.

    Attributes:
      f0_hz: nowhere 0.
      level_db: the measure that the model takes, -80 in rests.
      gate: 0 in rests, 1 in notes.
      transpose_semitones: what was added to the pitch.
      notes: where the notes are.
      frame_rate_hz: frames per second.
    """

    f0_hz: np.ndarray
    level_db: np.ndarray
    gate: np.ndarray
    transpose_semitones: float
    notes: Notes
    frame_rate_hz: int

    def __len__(self) -> int:
        return len(self.f0_hz)

    def at(self, frame_rate_hz: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pitch, level and gate on a coarser grid whose frames all lie on this one.

        Raises:
          ValueError: the rate does not divide this one.
        """
        step, rest = divmod(self.frame_rate_hz, frame_rate_hz)
        if rest or step < 1:
            raise ValueError(f"{frame_rate_hz} Hz does not divide {self.frame_rate_hz} Hz")
        return self.f0_hz[::step], self.level_db[::step], self.gate[::step]


def adapt(features: Features, statistics: Statistics, level: str, settings: AdaptSettings | None = None) -> Adapted:
    """Fits a performance to an instrument.

    Args:
      features: of the performance, at any frame rate.
      statistics: of the instrument.
      level: `loudness_db` or `power_db`, what drives it.
      settings: which steps, how far.

    Raises:
      InputError: the performance has no notes.
    """
    settings = settings or AdaptSettings()
    rate_hz = features.spec.frame_rate_hz
    notes = find_notes(features, settings.notes) if settings.notes else _everything(features)
    if not notes.voiced.any():
        raise InputError(
            "no notes were found in it", "It needs one voice or instrument with a clear pitch, louder than the noise."
        )
    midi = pitch.to_midi(features.f0_hz)
    midi = pitch.repair(midi, notes, rate_hz) if settings.repair_pitch else np.where(notes.voiced, midi, np.nan)
    sounding = notes.voiced & ~np.isnan(midi)
    target_midi = np.asarray(statistics.pitch_midi)
    transpose = settings.transpose
    if transpose is None:
        transpose = choose_octave(midi[sounding], target_midi)
    played_midi = pitch.fill(midi, notes, rate_hz) + transpose
    own_level = np.asarray(getattr(features, level), np.float64)
    level_map = match_levels(own_level[notes.voiced], statistics.level(level), settings.dynamics)
    level_db = level_map(tame_consonants(own_level, notes)) + settings.louder_db
    if settings.notes:
        level_db = rest_levels(level_db, notes, rate_hz, features.spec.floor_db)
    return Adapted(
        f0_hz=np.asarray(formulas.midi_to_hz(played_midi), np.float32),
        level_db=np.maximum(level_db, features.spec.floor_db).astype(np.float32),
        gate=make_gate(notes, rate_hz),
        transpose_semitones=float(transpose),
        notes=notes,
        frame_rate_hz=rate_hz,
    )


def _everything(features: Features) -> Notes:
    """The whole recording as one note."""
    n_frames = len(features)
    return Notes(np.array([0]), np.array([n_frames]), features.f0_hz > 0, -np.inf, float(features.spec.floor_db))


def choose_octave(midi: np.ndarray, target_midi: np.ndarray) -> float:
    """The shift in whole octaves that puts most of the melody where the instrument is at home.

    Args:
      midi: [N] pitch of every frame that sounds.
      target_midi: [101] percentiles of what the instrument played.

    Returns:
      A multiple of 12; the smaller shift where two are about as good.
    """
    low, high = percentiles(target_midi, [5, 95])
    lowest, highest = target_midi[0], target_midi[-1]

    def worth(octaves: int) -> float:
        shifted = midi + 12.0 * octaves
        comfortable = np.mean((shifted >= low - 0.5) & (shifted <= high + 0.5))
        possible = np.mean((shifted >= lowest - 0.5) & (shifted <= highest + 0.5))
        distance = np.mean(np.maximum(np.maximum(low - shifted, shifted - high), 0.0))
        # The distance decides where nothing reaches the range at all.
        return float(comfortable + 0.5 * possible - OCTAVE_COST * abs(octaves) - 0.02 * distance)

    return 12.0 * max(sorted(range(-5, 6), key=abs), key=worth)


class LevelMap:
    """A monotone curve from levels of the performance to levels of the instrument, in dB.

    Straight lines between the given points, continued at slope 1 beyond them.
    """

    def __init__(self, own_db: np.ndarray, target_db: np.ndarray) -> None:
        self.own_db = np.asarray(own_db, np.float64)
        self.target_db = np.asarray(target_db, np.float64)

    def __call__(self, level_db: np.ndarray) -> np.ndarray:
        level_db = np.asarray(level_db, np.float64)
        inside = np.interp(level_db, self.own_db, self.target_db)
        beyond = level_db - np.clip(level_db, self.own_db[0], self.own_db[-1])
        return inside + beyond


def match_levels(own_db: np.ndarray, target_percentiles_db: np.ndarray, dynamics: float = 1.0) -> LevelMap:
    """Quantile matching: the performance's soft is the instrument's soft, its loud the instrument's loud.

    Slopes stay within bounds and the medians meet, so the curve is strictly monotone and never steep: differences
    of level keep their order and nothing pumps.

    Args:
      own_db: [N] levels of the frames that sound.
      target_percentiles_db: [101] of the instrument.
      dynamics: 0 shifts only, 1 matches.
    """
    own = percentiles(own_db, MATCHED_PERCENTILES)
    target = np.interp(MATCHED_PERCENTILES, np.arange(101), target_percentiles_db)
    own_median = float(percentiles(own_db, 50.0))
    target_median = float(np.interp(50.0, np.arange(101), target_percentiles_db))
    steps = np.diff(own)
    slopes = np.clip(np.diff(target) / np.maximum(steps, 1e-3), *SLOPES)
    slopes = 1.0 + dynamics * (slopes - 1.0)
    curve = np.concatenate([[0.0], np.cumsum(slopes * steps)])
    curve += target_median - np.interp(own_median, own, curve)
    return LevelMap(own, curve)


def tame_consonants(level_db: np.ndarray, notes: Notes) -> np.ndarray:
    """Levels [F] in which the unpitched parts of notes are no louder than the pitched ones around them.

    An s between two vowels would otherwise become an accent.
    """
    out = level_db.copy()
    frames = np.arange(len(level_db))
    for start, stop in zip(notes.starts, notes.stops, strict=True):
        voiced = frames[start:stop][notes.voiced[start:stop]]
        if len(voiced):
            around = np.interp(frames[start:stop], voiced, level_db[voiced])
            out[start:stop] = np.minimum(out[start:stop], around)
    return out


def rest_levels(level_db: np.ndarray, notes: Notes, frame_rate_hz: int, floor_db: float) -> np.ndarray:
    """Levels [F] that fall to the floor outside notes, steeply before a note and less so after it."""
    out = np.full(len(level_db), floor_db)
    before, after = ATTACK_DB_PER_S / frame_rate_hz, RELEASE_DB_PER_S / frame_rate_hz
    for i in range(len(notes)):
        start, stop = int(notes.starts[i]), int(notes.stops[i])
        out[start:stop] = level_db[start:stop]
        last = int(notes.stops[i - 1]) if i else 0
        rise = level_db[start] - before * np.arange(start - last, 0, -1)
        out[last:start] = np.maximum(out[last:start], rise)
        following = int(notes.starts[i + 1]) if i + 1 < len(notes) else len(level_db)
        if stop > start:
            fall = level_db[stop - 1] - after * np.arange(1, following - stop + 1)
            out[stop:following] = np.maximum(out[stop:following], fall)
    return np.maximum(out, floor_db)


def make_gate(notes: Notes, frame_rate_hz: int) -> np.ndarray:
    """[F] float32: 1 in notes, 0 in rests, ramps of `RAMP_S` between them, outside the notes."""
    ramp = max(1, round(RAMP_S * frame_rate_hz))
    gate = notes.mask.astype(np.float32)
    kernel = 1.0 - np.abs(np.arange(-ramp, ramp + 1)) / (ramp + 1)
    out = gate.copy()
    for offset, value in zip(range(-ramp, ramp + 1), kernel, strict=True):
        shifted = np.zeros_like(gate)
        shifted[max(offset, 0) : len(gate) + min(offset, 0)] = gate[max(-offset, 0) : len(gate) + min(-offset, 0)]
        np.maximum(out, shifted * np.float32(value), out=out)
    return out
