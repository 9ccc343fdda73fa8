"""Assign simultaneous notes to voices, and split a polyphonic recording into one performance for each voice.

Shapes: F frames, N notes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np

from ddsp_cli.adaptation import f0_cleanup
from ddsp_cli.adaptation.adapt import Adapted, AdaptSettings, adapt, choose_octave
from ddsp_cli.adaptation.segmentation import find_segments
from ddsp_cli.analysis.features import Features
from ddsp_cli.analysis.polyphony import NoteShare, PolyNote
from ddsp_cli.arrays import BoolArray, DoubleArray, FloatArray, thinned
from ddsp_cli.bundle import Statistics
from ddsp_cli.errors import InputError

#: Notes that begin this close together are a chord.
CHORD_S = 0.03

#: A voice continues with a note, legato, if the gap or the overlap is at most this.
LEGATO_GAP_S = 0.02

#: Largest number of voices; each costs as much as an instrument of its own.
MAX_VOICES = 32

#: Cost of assigning a note to a voice: semitones between them, and for each second of rest; and what it costs to
#: play a note of another family.
REST_COST_PER_S, OTHER_FAMILY_COST = 2.0, 1000.0


#: A note that stays this far below the loudest one is not played.
AUDIBLE_BELOW_DB = 40.0


class Timed(Protocol):
    """A note with its key; a dataclass."""

    @property
    def key(self) -> int: ...
    @property
    def start_s(self) -> float: ...
    @property
    def stop_s(self) -> float: ...


TimedT = TypeVar("TimedT", bound=Timed)


def allot_voices(
    notes: Sequence[TimedT], family: Callable[[TimedT], object] = lambda note: None
) -> tuple[list[list[TimedT]], int]:
    """Assigns notes to voices, so that no two notes of a voice overlap.

    Notes that begin together are given to the free voices at the least distance in pitch and time, those of their own
    family first; a note that finds no free voice begins a new one.

    Args:
      notes: in any order.
      family: of a note, such as its channel.

    Returns:
      The voices, at most `MAX_VOICES`, the highest first; and how many notes were cut short for the lack of one more.
    """
    voices: list[list[TimedT]] = []
    n_cut = 0
    for chord in _chords(sorted(notes, key=lambda note: (note.start_s, -note.key))):
        free = [voice for voice in voices if voice[-1].stop_s <= chord[0].start_s + LEGATO_GAP_S]
        goes_on = _goes_on(chord, [voice[-1] for voice in free], family)
        for i, note in enumerate(chord):
            if i in goes_on:
                _append(free[goes_on[i]], note)
            elif len(voices) < MAX_VOICES:
                voices.append([note])
            else:
                n_cut += 1
                _append(min(voices, key=lambda voice: voice[-1].start_s), note)
    voices.sort(key=lambda voice: -float(np.mean([note.key for note in voice])))
    return voices, n_cut


def _chords(notes: Sequence[TimedT]) -> Iterator[list[TimedT]]:
    """Notes that begin within `CHORD_S` of the first of them; `notes` in order of their start."""
    chord: list[TimedT] = []
    for note in notes:
        if chord and note.start_s >= chord[0].start_s + CHORD_S:
            yield chord
            chord = []
        chord.append(note)
    if chord:
        yield chord


def _append(voice: list[TimedT], note: TimedT) -> None:
    """Continues a voice with a note, which ends the previous one."""
    if voice[-1].stop_s > note.start_s:
        voice[-1] = replace(voice[-1], stop_s=note.start_s)  # type: ignore[type-var]
    voice.append(note)


def _goes_on(chord: Sequence[TimedT], last: Sequence[TimedT], family: Callable[[TimedT], object]) -> dict[int, int]:
    """Assigns the notes of a chord to the free voices, by their last notes."""
    if not last:
        return {}
    from scipy.optimize import linear_sum_assignment

    cost = [
        [
            abs(note.key - before.key)
            + REST_COST_PER_S * max(note.start_s - before.stop_s, 0.0)
            + OTHER_FAMILY_COST * (family(note) != family(before))
            for before in last
        ]
        for note in chord
    ]
    return {int(i): int(j) for i, j in zip(*linear_sum_assignment(cost), strict=True)}


# --- voices of a recording --------------------------------------------------------------------------------------------


def separate(features: Features, notes: Sequence[PolyNote], shares: Sequence[NoteShare]) -> list[Features]:
    """Makes the features of each voice of a polyphonic recording.

    Args:
      features: of the whole.
      notes: that sound in it.
      shares: that each has of it, see `polyphony.measure_shares`.

    Returns:
      Of each voice, the highest first: F0 of its notes, and the level of the whole less what the others have of it.
    """
    audible = _audible(features, shares)
    numbered = [_Numbered(note.key, note.start_s, note.stop_s, i) for i, note in enumerate(notes) if audible[i]]
    voices, _ = allot_voices(numbered)
    return [
        _of_voice(features, [(notes[one.number], one.stop_s, shares[one.number]) for one in voice]) for voice in voices
    ]


def _audible(features: Features, shares: Sequence[NoteShare]) -> BoolArray:
    """Which notes rise to `AUDIBLE_BELOW_DB` below the loudest one, [N]; others are hum, or strings that ring."""
    own_db = [
        features.loudness_db[one.first : one.first + len(one.loudness)]
        + 10.0 * np.log10(one.loudness[: max(len(features) - one.first, 0)])
        for one in shares
    ]
    highest_db = np.array([float(db.max(initial=-np.inf)) for db in own_db])
    return highest_db >= highest_db.max(initial=-np.inf) - AUDIBLE_BELOW_DB


@dataclass(frozen=True)
class _Numbered:
    """Start, stop and number of a note."""

    key: int
    start_s: float
    stop_s: float
    number: int


def _of_voice(features: Features, notes: Sequence[tuple[PolyNote, float, NoteShare]]) -> Features:
    """Features of the notes of one voice, each with its end and its share of the power."""
    rate_hz, floor_db = features.spec.frame_rate_hz, features.spec.floor_db
    f0_hz, (power, loudness) = np.zeros(len(features)), np.zeros((2, len(features)))
    for note, stop_s, own in notes:
        stop = min(math.ceil(stop_s * rate_hz), own.first + len(own.power), len(features))
        if stop > own.first:
            f0_hz[own.first : stop] = note.f0_hz(np.arange(own.first, stop) / rate_hz)
            power[own.first : stop] = own.power[: stop - own.first]
            loudness[own.first : stop] = own.loudness[: stop - own.first]

    def of_share(level_db: FloatArray, share: DoubleArray) -> FloatArray:
        with np.errstate(divide="ignore"):
            return np.maximum(level_db + 10.0 * np.log10(share), floor_db).astype(np.float32)

    return replace(
        features,
        f0_hz=f0_hz.astype(np.float32),
        f0_confidence=(f0_hz > 0.0).astype(np.float32),
        loudness_db=of_share(features.loudness_db, loudness),
        power_db=of_share(features.power_db, power),
        envelope_db=None if features.envelope_db is None else of_share(features.envelope_db, power),
    )


def adapt_voices(
    voices: Sequence[Features], statistics: Statistics, level: str, settings: AdaptSettings | None = None
) -> list[Adapted]:
    """Adapts the voices of a performance to an instrument: transposed by the same octaves, their levels mapped alike.

    Args:
      voices: features of each.
      statistics: of the instrument.
      level: `loudness_db` or `power_db`, what drives the instrument.
      settings: as for `adapt`; pitch is not repaired.

    Raises:
      InputError: none of them has notes.
    """
    settings = replace(settings or AdaptSettings(), repair_pitch=False)
    if settings.segments is not None:
        # The notes are known: what lies between two of them is a rest, and no consonant to slide across.
        settings = replace(settings, segments=replace(settings.segments, bridge_s=0.0, bridge_loud_s=0.0))
    found = [(voice, find_segments(voice, settings.segments)) for voice in voices]
    sounding = [(voice, segments) for voice, segments in found if segments.voiced.any()]
    if not sounding:
        raise InputError("no notes were found in it", "It needs notes with a clear pitch, louder than the noise.")
    if settings.transpose is None:
        midi = np.concatenate([f0_cleanup.to_midi(voice.f0_hz[one.voiced]) for voice, one in sounding])
        settings = replace(settings, transpose=choose_octave(thinned(midi), np.asarray(statistics.pitch_midi)))
    levels_db = np.concatenate([getattr(voice, level)[one.voiced] for voice, one in sounding])
    return [adapt(voice, statistics, level, settings, one, levels_db) for voice, one in sounding]
