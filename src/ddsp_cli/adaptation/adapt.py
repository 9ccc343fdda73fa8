"""A performance fitted to an instrument: its notes, its melody, its register, its dynamics, its rests.

What a player does who reads somebody else's part. Each step is a function of its own and can be switched off;
`adapt` runs them in order. Shapes: F frames at the rate of the features.


The register: the octave in which an instrument plays a melody.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ddsp_cli import scaling
from ddsp_cli.adaptation import autotune as adaptation_autotune
from ddsp_cli.adaptation import f0_cleanup
from ddsp_cli.adaptation.dynamics import (
    MAX_GAIN_DB,
    fast_envelope_gain_db,
    make_gate,
    match_levels,
    rest_levels,
    tame_consonants,
    within_reach,
)
from ddsp_cli.adaptation.segmentation import Segments, SegmentSettings, find_segments
from ddsp_cli.analysis.features import Features
from ddsp_cli.arrays import percentiles
from ddsp_cli.bundle import Statistics
from ddsp_cli.errors import InputError

#: What one octave of transposition costs, as a share of the notes: a shift has to be worth it.
OCTAVE_COST = 0.03


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


#: Levels are mapped so many at a time, so that an hour of them takes little memory.
_FRAMES_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class AdaptSettings:
    """Which steps are done, and how far.

    Attributes:
      segments: what counts as a segment; None plays everything, rests included.
      repair_pitch: take out octave slips and hiccups.
      transpose: semitones, or None for the octave that suits the instrument.
      dynamics: 0 keeps the performance's differences of level, 1 makes them the instrument's own.
      fast_envelope: attacks and releases keep their shape where the level that drives the instrument blurs them.
      louder_db: added to the level that drives the instrument.
      autotune: 0 leaves pitch alone, 1 puts every note on the scale.
      key: the scale to tune to; None for the one that the melody seems to be in.
      tuning_semitones: by how much its A differs from 440 Hz; None for what the melody has.
      vibrato: 0 takes it out, 1 leaves it, 2 doubles it.
      glide_s: how long steps inside notes take; 0 leaves them.
    """

    segments: SegmentSettings | None = SegmentSettings()
    repair_pitch: bool = True
    transpose: float | None = None
    dynamics: float = 1.0
    fast_envelope: bool = True
    louder_db: float = 0.0
    autotune: float = 0.0
    key: adaptation_autotune.Key | None = None
    tuning_semitones: float | None = None
    vibrato: float = 1.0
    glide_s: float = 0.0


@dataclass(frozen=True)
class Adapted:
    """What the instrument is to play. Arrays [F] float32.

    Attributes:
      f0_hz: nowhere 0.
      level_db: the measure that the model takes, -80 in rests.
      gate: multiplies the sound: 0 in rests, 1 in notes, less where one fades beyond the softest tone there is.
      transpose_semitones: what was added to the pitch.
      segments: stretches between rests.
      frame_rate_hz: frames per second.
      key: the scale that was tuned to; None where nothing was.
      tuning_semitones: by how much that scale's A differs from 440 Hz.
    """

    f0_hz: np.ndarray
    level_db: np.ndarray
    gate: np.ndarray
    transpose_semitones: float
    segments: Segments
    frame_rate_hz: int
    key: adaptation_autotune.Key | None = None
    tuning_semitones: float = field(default=0.0)

    def __len__(self) -> int:
        return len(self.f0_hz)

    def at(self, frame_rate_hz: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Level on a coarser grid [C] whose frames all lie on this one; pitch and gate as fine as they are here, [C·n].

        Raises:
          ValueError: the rate does not divide this one.
        """
        step, rest = divmod(self.frame_rate_hz, frame_rate_hz)
        if rest or step < 1:
            raise ValueError(f"{frame_rate_hz} Hz does not divide {self.frame_rate_hz} Hz")
        n_coarse = -(-len(self) // step)
        f0_hz, gate = (np.pad(fine, (0, n_coarse * step - len(self)), mode="edge") for fine in (self.f0_hz, self.gate))
        return f0_hz, self.level_db[::step], gate


def adapt(
    features: Features,
    statistics: Statistics,
    level: str,
    settings: AdaptSettings | None = None,
    segments: Segments | None = None,
) -> Adapted:
    """Fits a performance to an instrument.

    Args:
      features: of the performance, at any frame rate.
      statistics: of the instrument.
      level: `loudness_db` or `power_db`, what drives it.
      settings: which steps, how far.
      segments: found in these features with `settings.segments`; None finds them here.

    Raises:
      InputError: the performance has no notes.
    """
    settings = settings or AdaptSettings()
    if settings.segments is None:
        segments = _everything(features)
    elif segments is None:
        segments = find_segments(features, settings.segments)
    if not segments.voiced.any():
        raise InputError(
            "no notes were found in it", "It needs one voice or instrument with a clear pitch, louder than the noise."
        )
    melody = _melody(features, segments, np.asarray(statistics.pitch_midi), settings)
    level_db, gate = _dynamics(features, segments, statistics.level(level), level, settings)
    return Adapted(
        f0_hz=melody.f0_hz,
        level_db=level_db,
        gate=gate,
        transpose_semitones=melody.transpose_semitones,
        segments=segments,
        frame_rate_hz=features.spec.frame_rate_hz,
        key=melody.key,
        tuning_semitones=melody.tuning_semitones,
    )


class _Melody(NamedTuple):
    f0_hz: np.ndarray  # [F] float32
    transpose_semitones: float
    key: adaptation_autotune.Key | None
    tuning_semitones: float


def _melody(features: Features, segments: Segments, register_midi: np.ndarray, settings: AdaptSettings) -> _Melody:
    """What is played, in the instrument's register, which its percentiles of pitch [101] tell."""
    rate_hz = features.spec.frame_rate_hz
    midi = f0_cleanup.to_midi(features.f0_hz)
    if settings.repair_pitch:
        midi = f0_cleanup.repair(midi, segments, rate_hz, features.f0_confidence, features.loudness_db)
    else:
        midi = np.where(segments.voiced, midi, np.nan)
    midi = adaptation_autotune.scale_vibrato(midi, settings.vibrato, rate_hz)
    midi, key, own_tuning = _tuned(midi, settings, rate_hz)
    transpose = settings.transpose
    if transpose is None:
        transpose = choose_octave(midi[segments.voiced & ~np.isnan(midi)], register_midi)
    midi = f0_cleanup.fill(midi, segments, rate_hz, features.loudness_db)
    midi = adaptation_autotune.glide(midi, segments, settings.glide_s, rate_hz) + transpose
    return _Melody(np.asarray(scaling.midi_to_hz(midi), np.float32), float(transpose), key, own_tuning)


def _dynamics(
    features: Features, segments: Segments, target: np.ndarray, level: str, settings: AdaptSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Level and gate, [F] float32 each, for an instrument whose levels have the percentiles `target` [101]."""
    own_level, floor_db = getattr(features, level), features.spec.floor_db
    envelope_db = features.envelope_db if settings.fast_envelope and level == "power_db" else None
    level_map = match_levels(own_level[segments.voiced], target, settings.dynamics)
    tamed = tame_consonants(own_level, segments)
    level_db, gain_db = np.empty((2, len(features)), np.float32)
    for start in range(0, len(features), _FRAMES_AT_ONCE):
        part = slice(start, start + _FRAMES_AT_ONCE)
        reached_db, rest_db = within_reach(level_map(tamed[part]) + settings.louder_db, target)
        if envelope_db is not None:
            rest_db = rest_db + fast_envelope_gain_db(
                level_map, tamed[part], envelope_db[part], features.power_db[part]
            )
        level_db[part], gain_db[part] = reached_db, np.minimum(rest_db, MAX_GAIN_DB)
    if settings.segments:
        level_db = rest_levels(level_db, segments, features.spec.frame_rate_hz, floor_db)
    gate = make_gate(segments, features.spec.frame_rate_hz) * np.float32(10.0) ** (gain_db / np.float32(20.0))
    return np.maximum(level_db, np.float32(floor_db)), gate


def _tuned(
    midi: np.ndarray, settings: AdaptSettings, rate_hz: int
) -> tuple[np.ndarray, adaptation_autotune.Key | None, float]:
    """The melody [F] drawn to its scale, the scale, and its tuning."""
    if settings.autotune == 0.0:
        return midi, None, 0.0
    middle = adaptation_autotune.centre(midi, rate_hz)
    own = (
        settings.tuning_semitones if settings.tuning_semitones is not None else adaptation_autotune.find_tuning(middle)
    )
    key = settings.key or adaptation_autotune.find_key(middle - own)
    return adaptation_autotune.correct(midi, settings.autotune, key, own, rate_hz), key, own


def _everything(features: Features) -> Segments:
    """The whole recording as one note."""
    n_frames = len(features)
    return Segments(np.array([0]), np.array([n_frames]), features.f0_hz > 0, -np.inf, float(features.spec.floor_db))
