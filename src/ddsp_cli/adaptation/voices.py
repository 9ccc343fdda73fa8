"""Split polyphonic sound: a performance for each voice, or the main voice alone.

- Voices: simultaneous notes of a recording or of a MIDI file are assigned to voices.
- Main voice (singing over a backing track, a solo with accompaniment): the path of the highest score through notes and
  rests. Its pitch is that of the tracker where the tracker follows the same voice.

`analysis.polyphony` finds the notes, and their shares of the power.

Shapes: F frames of the features, T steps of the path, N notes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np

from ddsp_cli import scaling
from ddsp_cli.adaptation import f0_cleanup
from ddsp_cli.adaptation.adapt import Adapted, AdaptSettings, adapt, choose_octave
from ddsp_cli.adaptation.f0_cleanup import JUMP_SEMITONES, JUMP_SEMITONES_PER_S, to_midi
from ddsp_cli.adaptation.segmentation import find_segments
from ddsp_cli.analysis.features import Features
from ddsp_cli.analysis.polyphony import FRAME_S, NoteShare, PolyNote
from ddsp_cli.arrays import BoolArray, DoubleArray, FloatArray, IntArray, percentiles, runs, thinned
from ddsp_cli.bundle import Statistics
from ddsp_cli.errors import InputError

#: Notes that begin this close together are a chord.
CHORD_S = 0.03

#: A voice continues with a note, legato, if the gap or the overlap is at most this.
LEGATO_GAP_S = 0.02

#: Largest number of voices; each costs as much as one instrument.
MAX_VOICES = 32

#: Cost of assigning a note to a voice: the interval in semitones, plus this for each second of rest, plus this for a
#: note of another family.
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


def assign_voices(
    notes: Sequence[TimedT], family: Callable[[TimedT], object] = lambda note: None
) -> tuple[list[list[TimedT]], int]:
    """Assigns notes to voices, so that no two notes of a voice overlap.

    Notes that begin together are given to the free voices at the least distance in pitch and time, those of their own
    family first; a note that finds no free voice begins a new one.

    Args:
      notes: in any order.
      family: of a note, such as its channel.

    Returns:
      The voices, at most `MAX_VOICES`, the highest first; and the number of notes cut short because of this limit.
    """
    voices: list[list[TimedT]] = []
    n_cut = 0
    for chord in _chords(sorted(notes, key=lambda note: (note.start_s, -note.key))):
        free = [voice for voice in voices if voice[-1].stop_s <= chord[0].start_s + LEGATO_GAP_S]
        continued = _match_voices(chord, [voice[-1] for voice in free], family)
        for i, note in enumerate(chord):
            if i in continued:
                _append(free[continued[i]], note)
            elif len(voices) < MAX_VOICES:
                voices.append([note])
            else:
                n_cut += 1
                _append(min(voices, key=lambda voice: voice[-1].start_s), note)
    voices.sort(key=lambda voice: -float(np.mean([note.key for note in voice])))
    return voices, n_cut


def _chords(notes: Sequence[TimedT]) -> Iterator[list[TimedT]]:
    """Yields the notes that begin within `CHORD_S` of the first of them; `notes` in order of their start."""
    chord: list[TimedT] = []
    for note in notes:
        if chord and note.start_s >= chord[0].start_s + CHORD_S:
            yield chord
            chord = []
        chord.append(note)
    if chord:
        yield chord


def _append(voice: list[TimedT], note: TimedT) -> None:
    """Adds a note to a voice and ends the previous note."""
    if voice[-1].stop_s > note.start_s:
        voice[-1] = replace(voice[-1], stop_s=note.start_s)  # type: ignore[type-var]
    voice.append(note)


def _match_voices(
    chord: Sequence[TimedT], last: Sequence[TimedT], family: Callable[[TimedT], object]
) -> dict[int, int]:
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
      notes: of the recording.
      shares: of each note in the power, see `polyphony.measure_shares`.

    Returns:
      Features of each voice, the highest first: F0 of its notes, and the level of their share of the whole.
    """
    audible = _audible(features, shares)
    numbered = [_Numbered(note.key, note.start_s, note.stop_s, i) for i, note in enumerate(notes) if audible[i]]
    voices, _ = assign_voices(numbered)
    return [
        _of_voice(features, [(notes[one.number], one.stop_s, shares[one.number]) for one in voice]) for voice in voices
    ]


def _audible(features: Features, shares: Sequence[NoteShare]) -> BoolArray:
    """Marks notes [N] that rise to `AUDIBLE_BELOW_DB` below the loudest one; others are hum, or strings that ring."""
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
    """Makes the features of the notes of one voice, each with its end and its share of the power."""
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
    """Adapts the voices of a performance to an instrument, with one transposition and one map of levels for all.

    Args:
      voices: features of each.
      statistics: of the instrument.
      level: `loudness_db` or `power_db`, the level of the instrument.
      settings: as for `adapt`; pitch is not repaired.

    Raises:
      InputError: no voice has notes.
    """
    settings = replace(settings or AdaptSettings(), repair_pitch=False)
    if settings.segments is not None:
        # the notes are known: a gap between two of them is a rest, not a consonant to bridge
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


#: Steps of the path in a second.
STEP_RATE_HZ = 50

#: Score of a note in a step: a tenth for each dB relative to the loud notes (95th percentile of the loudest one in each
#: step), up to 3 dB above them. `TRACKED` times the confidence is added where the tracker finds the note too; `MOVING`
#: if its pitch moves as a singer's does, by `MOVING_CENTS` (standard deviation) or more, unlike that of a keyboard or a
#: guitar. `REGISTER` times the squared distance from the middle of the voice, in units of `REGISTER_SEMITONES` and at
#: most 4, is subtracted. A rest scores `REST`. These figures were chosen on 6 s of three recordings (a low voice, a
#: high voice, a trumpet) over cello chords, guitar chords and a violin's double stops at 0 to -10 dB.
DB_PER_POINT, MOST_ABOVE_DB = 10.0, 3.0

TRACKED, MOVING, REGISTER, REST = 0.7, 0.8, 0.8, -0.7

MOVING_CENTS, REGISTER_SEMITONES = 5.0, 9.0

#: Cost of a change to another note or a rest, and of each semitone between two notes.
CHANGE_COST, SEMITONE_COST = 0.7, 0.05

#: The tracker confirms a note within this interval of it.
SAME_SEMITONES = 0.8

#: A piece of the tracker's pitch between two jumps belongs to the voice if this share of it is on the path.
OWN_SHARE = 0.35

#: A piece of the tracker's pitch that matches no note becomes a note if it has this confidence and this length. Its
#: share of the sound is set to `MISSED_SHARE`.
SURE_CONFIDENCE, SHORTEST_S, MISSED_SHARE = 0.8, 0.06, 0.5

#: Confidence of a pitch that comes from the notes and not from the tracker.
NOTE_CONFIDENCE = 0.9


def follow_lead(features: Features, notes: Sequence[PolyNote], shares: Sequence[NoteShare]) -> Features:
    """Makes the features of the main voice of polyphonic sound.

    Args:
      features: of the whole, F0 of a tracker of single pitches.
      notes: of the sound.
      shares: of each note in the power.

    Returns:
      F0 of the voice, 0 where it rests; the level of its share of the whole, at the floor in rests.
    """
    n_frames, rate_hz = len(features), features.spec.frame_rate_hz
    missed = _missed_notes(features, notes)
    notes, shares = [*notes, *(note for note, _ in missed)], [*shares, *(share for _, share in missed)]
    steps = np.arange(0, n_frames, max(1, rate_hz // STEP_RATE_HZ))
    level_db, midi = _on_steps(features, notes, shares, steps)
    path = _find_path(_scores(features, notes, level_db, midi, steps), level_db, midi)
    on_frames = np.repeat(path, np.diff(np.append(steps, n_frames)))
    f0_hz, power, loudness = np.zeros((3, n_frames))
    for i in np.unique(on_frames[on_frames < len(notes)]):
        frames = np.flatnonzero(on_frames == i)
        place = np.minimum(frames - shares[i].first, len(shares[i].power) - 1)
        f0_hz[frames] = notes[i].f0_hz(frames / rate_hz)
        power[frames], loudness[frames] = shares[i].power[place], shares[i].loudness[place]
    confidence = np.where(f0_hz > 0.0, NOTE_CONFIDENCE, 0.0)
    tracked = _own_pieces(features, f0_hz)
    f0_hz[tracked] = features.f0_hz[tracked]
    confidence[tracked] = np.maximum(features.f0_confidence[tracked], confidence[tracked])

    def of_share(whole_db: FloatArray, share: DoubleArray) -> FloatArray:
        """Returns the level of the voice; where only the tracker found it, with the share of the nearest note."""
        own_db = np.full(n_frames, features.spec.floor_db)
        known = np.flatnonzero(share > 0.0)
        if len(known):
            sounding = np.flatnonzero(f0_hz > 0.0)
            share_db = np.interp(sounding, known, 10.0 * np.log10(share[known]))
            own_db[sounding] = np.maximum(whole_db[sounding] + share_db, features.spec.floor_db)
        return own_db.astype(np.float32)

    return replace(
        features,
        f0_hz=f0_hz.astype(np.float32),
        f0_confidence=confidence.astype(np.float32),
        loudness_db=of_share(features.loudness_db, loudness),
        power_db=of_share(features.power_db, power),
        envelope_db=None if features.envelope_db is None else of_share(features.envelope_db, power),
    )


def _missed_notes(features: Features, notes: Sequence[PolyNote]) -> list[tuple[PolyNote, NoteShare]]:
    """Makes notes of pieces of the tracker's pitch that have a high confidence and match no note."""
    rate_hz = features.spec.frame_rate_hz
    midi = to_midi(features.f0_hz)
    known = np.zeros(len(features), bool)
    for note in notes:
        frames = np.arange(math.ceil(note.start_s * rate_hz), min(math.ceil(note.stop_s * rate_hz), len(features)))
        known[frames] |= np.abs(scaling.hz_to_midi(note.f0_hz(frames / rate_hz)) - midi[frames]) < SAME_SEMITONES
    found = []
    for first, stop in _tracked_pieces(features, midi):
        sure = float(percentiles(features.f0_confidence[first:stop], 50.0)) >= SURE_CONFIDENCE
        if not sure or stop - first < SHORTEST_S * rate_hz or known[first:stop].mean() >= 0.5:
            continue
        times_s = np.arange(first / rate_hz, stop / rate_hz, FRAME_S)
        key = round(float(percentiles(midi[first:stop], 50.0)))
        cents = 100.0 * (np.interp(times_s * rate_hz, np.arange(first, stop), midi[first:stop]) - key)
        share = np.full(stop - first, MISSED_SHARE, np.float32)
        found.append(
            (PolyNote(first / rate_hz, stop / rate_hz, key, SURE_CONFIDENCE, cents), NoteShare(first, share, share))
        )
    return found


def _tracked_pieces(features: Features, midi: DoubleArray) -> Iterator[tuple[int, int]]:
    """Yields the first frame, and the frame after the last, of each piece of the tracker's pitch between two jumps."""
    limit = JUMP_SEMITONES + JUMP_SEMITONES_PER_S / features.spec.frame_rate_hz
    for start, stop in zip(*runs((features.f0_hz > 0.0) & (features.f0_confidence >= 0.5)), strict=True):
        jumps = np.flatnonzero(np.abs(np.diff(midi[start:stop])) > limit) + start + 1
        yield from itertools.pairwise([int(start), *jumps.tolist(), int(stop)])


def _on_steps(
    features: Features, notes: Sequence[PolyNote], shares: Sequence[NoteShare], steps: IntArray
) -> tuple[DoubleArray, DoubleArray]:
    """Returns loudness in dB and MIDI number of each note in each step, [N, T]; -inf and 0 where it does not sound."""
    rate_hz, n_frames = features.spec.frame_rate_hz, len(features)
    level_db, midi = np.full((len(notes), len(steps)), -np.inf), np.zeros((len(notes), len(steps)))
    for i, (note, own) in enumerate(zip(notes, shares, strict=True)):
        first, stop = np.searchsorted(steps, [own.first, min(own.first + len(own.loudness), n_frames)])
        frames = steps[first:stop]
        level_db[i, first:stop] = features.loudness_db[frames] + 10.0 * np.log10(own.loudness[frames - own.first])
        midi[i, first:stop] = scaling.hz_to_midi(note.f0_hz(frames / rate_hz))
    return level_db, midi


def _scores(
    features: Features, notes: Sequence[PolyNote], level_db: DoubleArray, midi: DoubleArray, steps: IntArray
) -> DoubleArray:
    """Returns the score of each note in each step, without the register, [N, T]; -inf where it does not sound."""
    sounds = np.isfinite(level_db)
    if not sounds.any():
        return level_db
    loudest_db = level_db.max(axis=0)
    above_db = level_db - float(percentiles(loudest_db[np.isfinite(loudest_db)], 95))
    tracked = np.abs(to_midi(features.f0_hz[steps]) - midi) < SAME_SEMITONES
    moving = np.array([min(_movement_cents(note.cents) / MOVING_CENTS, 1.0) for note in notes])
    scores = np.minimum(above_db, MOST_ABOVE_DB) / DB_PER_POINT
    scores += TRACKED * tracked * features.f0_confidence[steps] + MOVING * moving[:, None]
    return np.where(sounds, scores, -np.inf)


def _movement_cents(cents: DoubleArray) -> float:
    """Measures the deviation of the pitch of a note [T'] from a straight line, without its ends."""
    inner = cents[3:-3] if len(cents) > 12 else cents
    if len(inner) < 4:
        return 0.0
    times = np.arange(len(inner))
    return float(np.std(inner - np.polyval(np.polyfit(times, inner, 1), times)))


def _find_path(scores: DoubleArray, level_db: DoubleArray, midi: DoubleArray) -> IntArray:
    """Finds the note of each step [T], N for a rest: first without register, then twice with that of the last path."""
    n_notes = len(scores)
    path = _best_path(scores, midi)
    sung = np.flatnonzero(path < n_notes)
    if not len(sung):
        return path
    for _ in range(2):
        middle = float(np.median(midi[path[sung], sung]))
        away = np.minimum(((midi - middle) / REGISTER_SEMITONES) ** 2, 4.0)
        path = _best_path(np.where(np.isfinite(level_db), scores - REGISTER * away, -np.inf), midi)
        sung = np.flatnonzero(path < n_notes)
        if not len(sung):
            break
    return path


def _best_path(scores: DoubleArray, midi: DoubleArray) -> IntArray:
    """Returns the path [T] of the highest score less the cost of its changes (Viterbi)."""
    n_notes, n_steps = scores.shape
    states, best = np.array([n_notes]), np.zeros(1)
    back: list[tuple[IntArray, IntArray]] = []  # of each step: its states, and the index of the one before
    for step in range(n_steps):
        now = np.append(np.flatnonzero(np.isfinite(scores[:, step])), n_notes)
        cost = np.where(now[:, None] == states, 0.0, CHANGE_COST)
        if step:
            are_notes = (now[:, None] < n_notes) & (states < n_notes) & (now[:, None] != states)
            last_midi = np.append(midi[:, step - 1], 0.0)[states]
            cost += SEMITONE_COST * are_notes * np.abs(np.append(midi[:, step], 0.0)[now][:, None] - last_midi)
        total = best - cost
        before = np.argmax(total, axis=1)
        best = total[np.arange(len(now)), before] + np.append(scores[:, step], REST)[now]
        back.append((now, before))
        states = now
    path = np.full(n_steps, n_notes)
    place = int(np.argmax(best))
    for step in range(n_steps - 1, -1, -1):
        now, before = back[step]
        path[step] = now[place]
        place = int(before[place])
    return path


def _own_pieces(features: Features, f0_hz: DoubleArray) -> BoolArray:
    """Marks frames [F] of the tracker's pitch that belong to the voice with F0 [F], 0 where it is silent."""
    own = np.zeros(len(features), bool)
    midi, voice_midi = to_midi(features.f0_hz), to_midi(f0_hz)
    same = (f0_hz > 0.0) & (np.abs(midi - voice_midi) < SAME_SEMITONES)
    for first, stop in _tracked_pieces(features, midi):
        if same[first:stop].mean() >= OWN_SHARE:
            own[first:stop] = True
    return own
