"""Adapt a performance to an instrument: its pitch, its register, its dynamics, its rests.

Each step is a separate function and can be switched off; `adapt` runs them in order. Shapes: F frames at the rate of
the features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ddsp_cli import scaling, spool
from ddsp_cli.adaptation import f0_cleanup
from ddsp_cli.adaptation.autotune import (
    RETUNE_S,
    Key,
    find_key,
    glide,
    limit_vibrato,
    move_notes,
    scale_vibrato,
    target_degrees,
)
from ddsp_cli.adaptation.dynamics import (
    FRAMES_AT_ONCE,
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
from ddsp_cli.analysis.melody import centre, find_notes, find_tuning, joined_notes
from ddsp_cli.arrays import DoubleArray, FloatArray, RealArray, percentiles, thinned
from ddsp_cli.bundle import Statistics
from ddsp_cli.errors import InputError

#: Penalty for one octave of transposition, as a share of the frames that it would bring into range.
OCTAVE_COST = 0.03

#: A melody stays where it is if this share of it is within these percentiles of the instrument's pitch.
FITTING_SHARE, FITTING_PERCENTILES = 0.98, (1, 99)

#: Pitch is adapted in chapters of about this many frames, cut in rests: 35 minutes at 250 frames a second. The result
#: does not depend on it.
CHAPTER_FRAMES = 1 << 19


@dataclass(frozen=True)
class AdaptSettings:
    """Settings of the adaptation: its steps, and their amounts.

    Attributes:
      segments: settings of a segment; None plays everything, rests included.
      repair_pitch: correct octave errors and blips of the tracker.
      transpose: semitones, or None for the octave that suits the instrument.
      dynamics: 0 keeps the performance's differences of level, 1 makes them the instrument's own.
      fast_envelope: attacks and releases keep their shape where the level that drives the instrument smooths them.
      louder_db: added to the level that drives the instrument.
      autotune: 0 leaves pitch alone, 1 puts every note on the scale.
      key: the scale to tune to; None estimates it, and it decides only for notes between two semitones.
      tuning_semitones: how far the A of the scale is above 440 Hz; None for that of the performance.
      retune_s: how long a tuned melody takes from note to note; longer keeps more of the performer's slides.
      vibrato: 0 removes it, 1 keeps it, 2 doubles its width; None keeps it as far as the instrument has vibrato.
      vibrato_limit_cents: with `vibrato` None, the width of vibrato that is kept, root mean square.
      keep_jitter: with `vibrato` None, keep movements of the pitch that are faster than a vibrato. An instrument that
        adds its own (`synthesis.variation`) needs none of the performer's.
      glide_s: how long steps inside segments take; 0 leaves them.
    """

    segments: SegmentSettings | None = SegmentSettings()
    repair_pitch: bool = True
    transpose: float | None = None
    dynamics: float = 1.0
    fast_envelope: bool = True
    louder_db: float = 0.0
    autotune: float = 0.0
    key: Key | None = None
    tuning_semitones: float | None = None
    retune_s: float = RETUNE_S
    vibrato: float | None = 1.0
    vibrato_limit_cents: float = math.inf
    keep_jitter: bool = True
    glide_s: float = 0.0


@dataclass(frozen=True)
class Adapted:
    """Curves for the instrument.

    Attributes:
      f0_hz: [F], nowhere 0.
      level_db: [F], the measure that drives the instrument; -80 in rests.
      gate: [F], multiplies the sound: 0 in rests, 1 in segments, less where a note is softer than the instrument's
        softest tone.
      transpose_semitones: the shift that was applied.
      segments: stretches between rests.
      frame_rate_hz: frames per second.
      key: the scale of autotune; None without autotune.
      tuning_semitones: how far that scale's A is above 440 Hz.
    """

    f0_hz: FloatArray
    level_db: FloatArray
    gate: FloatArray
    transpose_semitones: float
    segments: Segments
    frame_rate_hz: int
    key: Key | None = None
    tuning_semitones: float = 0.0

    def __len__(self) -> int:
        return len(self.f0_hz)

    def at(self, frame_rate_hz: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Takes the level on a coarser grid whose frames all lie on this one; F0 and gate keep their rate.

        Returns:
          F0 [C·n], level [C] and gate [C·n], for C coarse frames of n frames each.

        Raises:
          ValueError: the rate does not divide this one.
        """
        step, rest = divmod(self.frame_rate_hz, frame_rate_hz)
        if rest or step < 1:
            raise ValueError(f"{frame_rate_hz} Hz does not divide {self.frame_rate_hz} Hz")
        n_missing = -len(self) % step
        f0_hz, gate = self.f0_hz, self.gate
        if n_missing:
            f0_hz, gate = (np.pad(fine, (0, n_missing), mode="edge") for fine in (f0_hz, gate))
        return f0_hz, self.level_db[::step], gate


def adapt(
    features: Features,
    statistics: Statistics,
    level: str,
    settings: AdaptSettings | None = None,
    segments: Segments | None = None,
    levels_db: RealArray | None = None,
) -> Adapted:
    """Adapts a performance to an instrument.

    Args:
      features: of the performance, at any frame rate.
      statistics: of the instrument.
      level: `loudness_db` or `power_db`, the level of the instrument.
      settings: which steps, how far.
      segments: found in these features with `settings.segments`; None finds them here.
      levels_db: [N], levels of notes to match the dynamics by; None for the notes of this performance.

    Raises:
      InputError: the performance has no notes.
    """
    settings = settings or AdaptSettings()
    if settings.segments is None:
        segments = _whole(features)
    elif segments is None:
        segments = find_segments(features, settings.segments)
    if not segments.voiced.any():
        raise InputError(
            "no notes were found in it", "It needs one voice or instrument with a clear pitch, louder than the noise."
        )
    melody = _adapt_pitch(features, segments, np.asarray(statistics.pitch_midi), settings)
    level_db, gate = _adapt_level(features, segments, statistics.level(level), level, settings, levels_db)
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


def choose_octave(midi: RealArray, target_midi: RealArray) -> float:
    """Chooses the octave in which the instrument plays a melody.

    A melody that fits is not shifted. Otherwise the shift is chosen that puts most of it between the 5th and the 95th
    percentile of the instrument's pitch; the smaller shift where two are about as good.

    Args:
      midi: [N], pitch of every voiced frame.
      target_midi: [101], percentiles of the instrument's pitch.

    Returns:
      Semitones, a multiple of 12.
    """
    lower, upper = target_midi[list(FITTING_PERCENTILES)]
    if np.mean((midi >= lower - 0.5) & (midi <= upper + 0.5)) >= FITTING_SHARE:
        return 0.0
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


class _Melody(NamedTuple):
    f0_hz: FloatArray  # [F]
    transpose_semitones: float
    key: Key | None
    tuning_semitones: float


def _adapt_pitch(features: Features, segments: Segments, target_midi: RealArray, settings: AdaptSettings) -> _Melody:
    """Repairs, tunes and transposes the pitch; `target_midi` [101] are the percentiles of the instrument's pitch."""
    rate_hz = features.spec.frame_rate_hz
    chapters = list(f0_cleanup.chapters(segments, rate_hz, CHAPTER_FRAMES))
    midi = spool.empty(len(features), np.float64)
    for part, own in chapters:
        midi[part] = f0_cleanup.to_midi(features.f0_hz[part])
        if settings.repair_pitch:
            sure, loudness_db = features.f0_confidence[part], features.loudness_db[part]
            midi[part] = f0_cleanup.repair(midi[part], own, rate_hz, sure, loudness_db)
        else:
            midi[part][~own.voiced] = np.nan
        spool.release()
    parts = [midi[part] for part, _ in chapters]
    key, tuning_semitones = _tune(parts, settings, rate_hz)
    for part in parts:
        if settings.vibrato is None:
            part[:] = limit_vibrato(part, settings.vibrato_limit_cents, settings.keep_jitter, rate_hz)
        else:
            part[:] = scale_vibrato(part, settings.vibrato, rate_hz)
        spool.release()
    transpose = settings.transpose
    if transpose is None:
        transpose = choose_octave(_known(parts), target_midi)
    f0_hz = spool.empty(len(features))
    for part, own in chapters:
        filled = f0_cleanup.fill(midi[part], own, rate_hz, features.loudness_db[part])
        f0_hz[part] = scaling.midi_to_hz(glide(filled, own, settings.glide_s, rate_hz) + transpose)
        spool.release()
    return _Melody(f0_hz, float(transpose), key, tuning_semitones)


def _tune(parts: list[DoubleArray], settings: AdaptSettings, rate_hz: int) -> tuple[Key | None, float]:
    """Tunes a melody, in place, to its scale; returns the scale and its tuning in semitones.

    Args:
      parts: [F] each, MIDI numbers, NaN where there is no pitch.
      settings: how far, and to which scale.
      rate_hz: frames per second.
    """
    if settings.autotune == 0.0:
        return None, 0.0
    tuning_semitones = settings.tuning_semitones
    if tuning_semitones is None:
        tuning_semitones = find_tuning(_known([centre(part, rate_hz) for part in parts]))
    notes = [find_notes(part, rate_hz, tuning_semitones) for part in parts]
    key = settings.key if settings.key is not None else find_key(joined_notes(notes), tuning_semitones)
    for part, own in zip(parts, notes, strict=True):
        degrees = target_degrees(own, key, tuning_semitones, estimated=settings.key is None)
        part[:] = move_notes(part, own, degrees, settings.autotune, rate_hz, settings.retune_s)
        spool.release()
    return key, tuning_semitones


def _known(parts: list[DoubleArray]) -> DoubleArray:
    """Returns the values of a melody that are not NaN, thinned out where there are very many."""
    step = -(-sum(map(len, parts)) // (1 << 20)) or 1
    known: list[DoubleArray] = []
    for part in parts:
        known.append(part[~np.isnan(part)][::step])
        spool.release()
    return np.concatenate(known)


def _adapt_level(
    features: Features,
    segments: Segments,
    target_db: RealArray,
    level: str,
    settings: AdaptSettings,
    levels_db: RealArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Returns level and gate, [F] each, for an instrument whose levels have the percentiles `target_db` [101]."""
    own_level, floor_db = getattr(features, level), features.spec.floor_db
    envelope_db = features.envelope_db if settings.fast_envelope and level == "power_db" else None
    levels_db = own_level[segments.voiced] if levels_db is None else levels_db
    level_map = match_levels(thinned(levels_db), target_db, settings.dynamics)
    spool.release()
    tamed = tame_consonants(own_level, segments)
    spool.release()
    level_db, gain_db = spool.empty(len(features)), spool.empty(len(features))
    for start in range(0, len(features), FRAMES_AT_ONCE):
        part = slice(start, start + FRAMES_AT_ONCE)
        played_db, rest_db = within_reach(level_map(tamed[part]) + settings.louder_db, target_db)
        if envelope_db is not None:
            rest_db = rest_db + fast_envelope_gain_db(
                level_map, tamed[part], envelope_db[part], features.power_db[part]
            )
        level_db[part], gain_db[part] = played_db, np.minimum(rest_db, MAX_GAIN_DB)
        spool.release()
    if settings.segments:
        level_db = rest_levels(level_db, segments, features.spec.frame_rate_hz, floor_db)
        spool.release()
    np.maximum(level_db, np.float32(floor_db), out=level_db)
    gate = make_gate(segments, features.spec.frame_rate_hz)
    for start in range(0, len(features), FRAMES_AT_ONCE):
        part = slice(start, start + FRAMES_AT_ONCE)
        gate[part] *= np.float32(10.0) ** (gain_db[part] / np.float32(20.0))
    spool.release()
    return level_db, gate


def _whole(features: Features) -> Segments:
    """Returns the whole recording as one segment."""
    n_frames = len(features)
    return Segments(np.array([0]), np.array([n_frames]), features.f0_hz > 0, -np.inf, float(features.spec.floor_db))
