"""Clean up a measured F0: leaps that the sound does not confirm, octave errors, blips, gaps.

`confirm_leaps` measures the sound again where the F0 leaps; the other functions are pure and take features only.
Shapes: F frames, S samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ddsp_cli import scaling, spool
from ddsp_cli.adaptation.segmentation import Segments
from ddsp_cli.analysis import harmonics
from ddsp_cli.analysis.features import Features
from ddsp_cli.arrays import BoolArray, DoubleArray, FloatArray, IntArray, RealArray, percentiles, runs
from ddsp_cli.audio.recording import Recording

#: Between two frames pitch may move by this much plus this much per second before it counts as a jump. Singers'
#: vibrato (± 1 semitone at 6 Hz) moves 38 semitones a second, an octave of glide in a tenth of a second 120.
JUMP_SEMITONES = 0.6

JUMP_SEMITONES_PER_S = 130.0

#: A piece of melody between two jumps that is shorter is a blip of the tracker.
SHORTEST_PIECE_S = 0.04

#: A piece an octave (or two, or a twelfth) off both its neighbours is an error of the tracker up to this length.
LONGEST_SLIP_S = 0.25

SLIPS_SEMITONES = (12.0, -12.0, 24.0, -24.0, 19.02, -19.02)

SLIP_TOLERANCE_SEMITONES = 1.5

#: Such a piece is nevertheless a note, a leap that was played, if the tracker has this confidence in it and it has an
#: onset: within `ONSET_S` of its start the level changes by `OWN_ONSET_DB`. Trackers err in the middle of a tone.
OWN_CONFIDENCE = 0.9

OWN_ONSET_DB = 3.0

ONSET_S = 0.03

#: Confidence of a pitch that the sound proves: `repair` keeps it.
CONFIRMED = 1.0

#: A piece at least this far from the pitch beside it is checked against the sound if no longer than `LONGEST_LEAP_S`.
LEAP_SEMITONES = 7.0

#: It is also checked if it is `FAR_SEMITONES` from the pitch on one side and `STEP_SEMITONES` from that on the other.
FAR_SEMITONES, STEP_SEMITONES = 10.0, 4.5

#: A piece between two others that is longer than `LONGEST_LOST_S` keeps its pitch or gets the pitch an octave away. At
#: the end of a segment, where notes fade, it may also become unvoiced.
LONGEST_LEAP_S, LONGEST_LOST_S = 0.6, 0.25

#: The pitch beside a leap is the median over this time.
BESIDE_S = 0.12

#: Where this share of the energy lies beside the harmonics, there is another sound: then the pitch beside a long piece
#: may replace that of the piece, if it explains the sound.
FOREIGN = 0.5

#: A pitch explains the sound if at most this share of the energy is beside its harmonics and at least that share at
#: its odd ones. In 36 leaps over more than 10 semitones, pitches that pYIN confirms have 0.00 to 0.02 and 0.43 to 0.99;
#: others, read an octave too low, less than 0.02 at the odd ones, or, too high, more than 0.3 beside.
MAX_INHARMONIC, MIN_ODD = 0.15, 0.35

#: The pitch of a note beside the leap needs only this share at the odd harmonics: an oboe has little there.
MIN_ODD_BESIDE = 0.03

#: A pitch with less than `MIN_ODD`, but this share, is not confirmed; it may stay if no other pitch explains the sound
#: better and the melody does not return to the note before it.
POSSIBLE_ODD = 0.25

#: Only a pitch with less than this share at its odd harmonics can be an octave too low.
TOO_LOW_ODD = 0.03

#: A pitch of which notes beside it are harmonics, within `BLEND_SEMITONES`, explains their reverberation. It is a note
#: only if this share of the energy is at harmonics that they do not have.
MIN_OWN, BLEND_SEMITONES = 0.1, 0.5

#: Notes that end less than this time before a leap may ring in it, at most this number of them.
RINGING_S, N_RINGING = 0.5, 3

#: An unsure pitch that is a harmonic of a neighbour is an octave (a twelfth, two octaves) too high if, in its middle,
#: the lower pitch leaves less energy beside its harmonics, by this share, and has this share at its odd ones.
LESS_INHARMONIC, MIN_ODD_BELOW = 0.05, 0.05

#: An unsure pitch that does not explain the sound, further than `LEAP_SEMITONES` above or below both sides, is an
#: octave error if the octave between is within this of both, explains the sound as well, within `AS_WELL`, and
#: leaves no more than `MAX_NOISE` beside its harmonics: noise leaves 0.6 and more.
NEAR_SEMITONES, AS_WELL, MAX_NOISE = 7.0, 0.01, 0.5

#: The octave below always explains as much; it is played only if this share of the energy lies at its odd harmonics.
#: Of 15 notes of two violinists, ten had less, and no partials there in their spectra.
MIN_ODD_OCTAVE = 0.0125

#: A pitch without this share of the energy at its two lowest harmonics together is an undertone of a squeak, or of a
#: chord. Low notes of a double bass have nothing at the first, but half of their energy at the second.
MIN_LOWEST = 0.03

#: Without energy at the two lowest, a harmonic with this share is the pitch. Trills above the range of a tracker
#: are read at a third or a quarter of their pitch.
MIN_ALONE = 0.5

#: A pitch with a high confidence stays if at most `MAX_NOTHING` of the energy is beside its harmonics and at least
#: `MIN_ODD_SURE` at its odd ones: an oboe has no more there, and a wrong octave would explain its sound too.
MAX_NOTHING, MIN_ODD_SURE = 0.01, 0.05

#: A pitch an octave too high has this share of the energy halfway between its harmonics.
TOO_HIGH_HALF = 0.3

#: Largest interval that F0 bridges in a straight line across a gap inside a segment; across a larger one it jumps.
LARGEST_BRIDGE_SEMITONES = 2.0

#: Time before a note, in the rest, from which on F0 has the pitch of the note.
LEAD_S = 0.06

#: Pitch of a performance without notes.
NO_NOTES_MIDI = 69.0


def confirm_leaps(features: Features, segments: Segments, recording: Recording) -> Features:
    """Checks brief leaps of F0 against the sound, and keeps those that the sound confirms.

    The tracked pitch stays if it explains the sound (`analysis.harmonics`). Otherwise it is replaced by the pitch of a
    note beside it, or by one an octave, a twelfth or two octaves away, if that explains the sound. If no pitch does,
    frames with a low confidence that are further than `FAR_SEMITONES` from both sides become unvoiced.

    Args:
      features: of one voice.
      segments: found in them.
      recording: the sound; read once more, if there are leaps.

    Returns:
      The features, with a confidence of `CONFIRMED` where the sound proves the pitch, and of 0 in frames that became
      unvoiced. The same object if there are no leaps.
    """
    leaps = _find_leaps(features, segments)
    if not leaps:
        return features
    f0_hz, confidence = spool.copy(features.f0_hz), spool.copy(features.f0_confidence)
    hop = features.spec.hop_samples
    margin = -(-harmonics.LOW_WINDOW_SAMPLES // (2 * hop)) + 1
    spans = [(max(leap.start - margin, 0) * hop, (leap.stop + margin) * hop) for leap in leaps]
    for leap, (first, _), audio in zip(leaps, spans, read_spans(recording, spans), strict=True):
        part = slice(leap.start, leap.stop)
        tracked_hz = features.f0_hz[part]
        found_hz, is_confirmed = _confirmed_hz(leap, tracked_hz, audio, leap.start - first // hop, features)
        f0_hz[part] = np.where(tracked_hz > 0, found_hz, 0.0)
        if not found_hz.any():
            confidence[part] = 0.0
        elif is_confirmed:
            confidence[part] = np.where(f0_hz[part] > 0, np.float32(CONFIRMED), confidence[part])
    return replace(features, f0_hz=f0_hz, f0_confidence=confidence)


class _Leap(NamedTuple):
    start: int
    stop: int
    before_hz: float  # pitch beside it, 0 at the ends of a segment
    after_hz: float
    ringing_hz: tuple[float, ...] = ()  # of notes that ended shortly before


def _find_leaps(features: Features, segments: Segments) -> list[_Leap]:
    """Finds pieces between two jumps, or a jump and the end of a segment, that are far from the pitch beside them."""
    rate_hz = features.spec.frame_rate_hz
    limit = JUMP_SEMITONES + JUMP_SEMITONES_PER_S / rate_hz
    leaps: list[_Leap] = []
    for start, stop in zip(segments.starts, segments.stops, strict=True):
        frames = np.flatnonzero(segments.voiced[start:stop]) + start
        midi = to_midi(features.f0_hz[frames])
        shortest, near = SHORTEST_PIECE_S * rate_hz, round(BESIDE_S * rate_hz)
        pieces = [piece for piece in _split_at_jumps(midi, frames, limit) if piece[1] - piece[0] >= shortest]
        pieces = _join_pieces(pieces, midi)
        for i, (first, end) in enumerate(pieces):
            before = [midi[max(a, b - near) : b] for a, b in pieces[max(i - 1, 0) : i]]
            after = [midi[a : min(b, a + near)] for a, b in pieces[i + 1 : i + 2]]
            if not (before or after) or end - first > LONGEST_LEAP_S * rate_hz:
                continue
            middle = float(percentiles(midi[first:end], 50.0))
            beside = [float(percentiles(part, 50.0)) for part in (*before, *after)]
            distances = sorted(abs(middle - side) for side in beside)
            if distances[0] >= LEAP_SEMITONES or (distances[0] >= STEP_SEMITONES and distances[-1] >= FAR_SEMITONES):
                beside_hz = scaling.midi_to_hz(np.array(beside)).tolist()
                ringing = [
                    float(percentiles(midi[a:b], 50.0))
                    for a, b in pieces[max(i - 1 - N_RINGING, 0) : max(i - 1, 0)]
                    if frames[first] - frames[b - 1] <= RINGING_S * rate_hz
                ]
                leaps.append(
                    _Leap(
                        int(frames[first]),
                        int(frames[end - 1]) + 1,
                        before_hz=beside_hz[0] if before else 0.0,
                        after_hz=beside_hz[-1] if after else 0.0,
                        ringing_hz=tuple(scaling.midi_to_hz(np.array(ringing)).tolist()),
                    )
                )
    return leaps


def read_spans(recording: Recording, spans: list[tuple[int, int]]) -> Iterator[FloatArray]:
    """Reads the sound of spans of a recording in one pass.

    Args:
      recording: at 16 kHz.
      spans: first sample and end of each, in the order of their starts.

    Yields:
      The sound [S] of each span.
    """
    blocks = iter(recording.blocks())
    held, position = np.zeros(0, np.float32), 0  # the sound from sample `position` on
    for first, end in spans:
        while position + len(held) < end:
            block = next(blocks, None)
            if block is None:
                break
            n_past = min(max(first - position, 0), len(held))
            held, position = np.concatenate([held[n_past:], block]), position + n_past
        yield held[max(first - position, 0) : max(end - position, 0)]


class _Shares(NamedTuple):
    """How the energy of a leap is spread around the harmonics of a pitch, see `harmonics.Harmonicity`."""

    beside: float
    odd: float
    half: float
    lowest: float


class _LeapSound:
    """The sound of a leap, in which pitches are tried.

    Args:
      leap: the frames.
      tracked_hz: [n], their F0.
      audio: [S], the sound around them.
      offset: frame of `audio` that is the first of the leap.
      rate_hz: frames per second.
    """

    def __init__(self, leap: _Leap, tracked_hz: FloatArray, audio: FloatArray, offset: int, rate_hz: int) -> None:
        self.leap, self.tracked_hz, self.rate_hz = leap, tracked_hz, rate_hz
        self._audio, self._offset = audio, offset
        self.middle_hz = _median_hz(tracked_hz)
        self.sides_hz = [side_hz for side_hz in (leap.before_hz, leap.after_hz) if side_hz > 0]
        self.tracked = self.shares(tracked_hz)
        #: Semitones from the nearest side.
        self.leap_semitones = self.distance(tracked_hz)
        # an undertone of a squeak or chord, see `MIN_LOWEST`
        self.is_hollow = self.tracked.lowest + self.shares(2.0 * tracked_hz).lowest < MIN_LOWEST

    @property
    def is_long_inside(self) -> bool:
        """Whether it is longer than a tracker loses a pitch, between notes on both sides."""
        return len(self.sides_hz) == 2 and len(self.tracked_hz) > LONGEST_LOST_S * self.rate_hz

    def shares(self, candidate_hz: FloatArray) -> _Shares:
        """Measures the energy around the harmonics of an F0 [n], 0 in frames that do not count."""
        found = harmonics.measure_harmonicity(
            lambda a, b: self._audio[a:b], len(self._audio), self._curve_hz(candidate_hz), self.rate_hz
        )
        total = float(found.energy.sum())
        if total <= 0.0:
            return _Shares(1.0, 0.0, 0.0, 0.0)
        ratios = found.inharmonic_ratio, found.odd_harmonic_ratio, found.half_harmonic_ratio, found.fundamental_ratio
        return _Shares(*(float((found.energy * ratio).sum()) / total for ratio in ratios))

    def own_share(self, candidate_hz: FloatArray, others_hz: list[float]) -> float:
        """Returns the share of the energy at harmonics of an F0 [n] that other pitches do not have."""
        return harmonics.measure_own_share(self._audio, self._curve_hz(candidate_hz), self.rate_hz, others_hz)

    def is_undertone(self, side_hz: float) -> bool:
        """Whether a pitch explains the tracked one only together with notes that ring."""
        ringing_hz = [other_hz for other_hz in self.leap.ringing_hz if _is_harmonic(other_hz, side_hz)]
        if not _is_harmonic(self.middle_hz, side_hz) or not ringing_hz:
            return False
        return self.own_share(np.full_like(self.tracked_hz, side_hz), [self.middle_hz, *ringing_hz]) < MIN_OWN

    def is_blend(self) -> bool:
        """Whether the tracked pitch only explains the reverberation of the notes around it."""
        others_hz = (self.leap.before_hz, self.leap.after_hz, *self.leap.ringing_hz)
        over_hz = [other_hz for other_hz in others_hz if _is_harmonic(other_hz, self.middle_hz)]
        return bool(over_hz) and (self.is_hollow or self.own_share(self.tracked_hz, over_hz) < MIN_OWN)

    def distance(self, candidate_hz: FloatArray) -> float:
        """Returns the semitones of an F0 [n] from the nearest side."""
        return min(abs(12.0 * np.log2(_median_hz(candidate_hz) / side_hz)) for side_hz in self.sides_hz)

    def is_nearer(self, candidate_hz: FloatArray) -> bool:
        """Whether an F0 [n] is nearer to a side than the tracked one, by more than a semitone."""
        return self.distance(candidate_hz) < self.leap_semitones - 1.0

    def _curve_hz(self, candidate_hz: FloatArray) -> FloatArray:
        """Returns an F0 [n] of the leap on the frames of the sound, with an unvoiced frame at the end."""
        return np.concatenate([np.zeros(self._offset, np.float32), candidate_hz, np.zeros(1, np.float32)])


def _confirmed_hz(
    leap: _Leap, tracked_hz: FloatArray, audio: FloatArray, offset: int, features: Features
) -> tuple[FloatArray, bool]:
    """Returns F0 [n] for the frames of a leap, 0 where unvoiced, and whether the sound proves it.

    Args:
      leap: the frames.
      tracked_hz: [n], their F0.
      audio: [S], the sound around them.
      offset: frame of `audio` that is the first of the leap.
      features: for the confidence and the grid.
    """
    sound = _LeapSound(leap, tracked_hz, audio, offset, features.spec.frame_rate_hz)
    tracked, is_blend = sound.tracked, sound.is_blend()
    sure = float(percentiles(features.f0_confidence[leap.start : leap.stop], 50.0)) >= OWN_CONFIDENCE
    if not sure and (below_hz := _octaves_below(sound)) is not None:
        return below_hz, False
    if sound.is_hollow and (above_hz := _only_harmonic(sound)) is not None:
        return above_hz, False
    if not is_blend and tracked.beside <= MAX_INHARMONIC and tracked.odd >= MIN_ODD:
        # Energy at the odd harmonics proves a lower pitch. A higher pitch may be an overblown onset of the lower note.
        return tracked_hz, sound.middle_hz < max(leap.before_hz, leap.after_hz)
    if sure and not sound.is_hollow and tracked.beside <= MAX_NOTHING and tracked.odd >= MIN_ODD_SURE:
        return tracked_hz, False
    best_hz = _best_candidate(sound, sure)
    if best_hz is not None:
        return best_hz, False
    if not sure and not sound.is_long_inside and tracked.beside > MAX_INHARMONIC:
        octave_hz = _octave_between(sound)
        if octave_hz is not None:
            return octave_hz, False
    # An unexplained pitch may still be one of several sounds, or lie in the reverberation of others.
    possible = sure or sound.is_long_inside or sound.leap_semitones < FAR_SEMITONES
    returns = len(sound.sides_hz) == 2 and abs(12.0 * np.log2(leap.before_hz / leap.after_hz)) <= 1.0
    possible |= tracked.beside <= MAX_INHARMONIC and tracked.odd >= (MIN_ODD if returns else POSSIBLE_ODD)
    return tracked_hz if possible and not is_blend else np.zeros_like(tracked_hz), False


def _octaves_below(sound: _LeapSound) -> FloatArray | None:
    """Returns F0 [n] an octave, a twelfth or two octaves lower, where a note beside the leap has that pitch.

    See `LESS_INHARMONIC`.
    """
    for side_hz in sound.sides_hz:
        number = round(sound.middle_hz / side_hz)
        if not _is_harmonic(sound.middle_hz, side_hz) or number > 4 or sound.is_undertone(side_hz):
            continue
        # sound at its ends belongs to the notes beside it
        inside = _middle(len(sound.tracked_hz), sound.rate_hz)
        below_hz = sound.tracked_hz / np.float32(number)
        below = sound.shares(np.where(inside, below_hz, np.float32(0.0)))
        tracked = sound.shares(np.where(inside, sound.tracked_hz, np.float32(0.0)))
        if below.beside <= tracked.beside - LESS_INHARMONIC and below.odd >= MIN_ODD_BELOW:
            return below_hz
    return None


def _only_harmonic(sound: _LeapSound) -> FloatArray | None:
    """Returns F0 [n] at a harmonic of the tracked pitch that holds most of the energy, see `MIN_ALONE`."""
    for number in (2, 3, 4):
        candidate_hz = sound.tracked_hz * np.float32(number)
        found = sound.shares(candidate_hz)
        is_explained = found.beside <= MAX_INHARMONIC and found.odd >= MIN_ODD and found.lowest >= MIN_ALONE
        if is_explained and sound.is_nearer(candidate_hz):
            return candidate_hz
    return None


def _best_candidate(sound: _LeapSound, sure: bool) -> FloatArray | None:
    """Returns the F0 [n] that explains the sound best: of a note beside the leap, or octaves away from the tracked one.

    Args:
      sound: of the leap.
      sure: the tracker has a high confidence.
    """
    tracked_hz, is_foreign = sound.tracked_hz, sound.tracked.beside >= FOREIGN
    candidates: list[FloatArray] = []
    if not sound.is_long_inside or is_foreign:
        candidates += [
            np.full_like(tracked_hz, side_hz) for side_hz in sound.sides_hz if not sound.is_undertone(side_hz)
        ]
    ratios: list[float] = []
    if sound.tracked.odd < TOO_LOW_ODD and not sure:
        ratios += [2.0, 3.0, 4.0]
    if sound.tracked.half >= TOO_HIGH_HALF or is_foreign:
        ratios += [1 / 2, 1 / 3, 1 / 4]
    candidates += [tracked_hz * np.float32(ratio) for ratio in ratios]
    best_hz, least = None, MAX_INHARMONIC
    for candidate_hz in candidates:
        found = sound.shares(candidate_hz)
        is_odd = found.odd >= (MIN_ODD_BESIDE if sound.distance(candidate_hz) <= 1.0 else MIN_ODD)
        if found.beside <= least and is_odd and sound.is_nearer(candidate_hz):
            best_hz, least = candidate_hz, found.beside
    return best_hz


def _octave_between(sound: _LeapSound) -> FloatArray | None:
    """Returns F0 [n] an octave nearer to both sides, if it explains the sound as well, see `NEAR_SEMITONES`."""
    steps = [12.0 * np.log2(sound.middle_hz / side_hz) for side_hz in sound.sides_hz]
    octave = -12.0 if min(steps) > LEAP_SEMITONES else 12.0 if max(steps) < -LEAP_SEMITONES else 0.0
    if not octave or any(abs(step + octave) > NEAR_SEMITONES for step in steps):
        return None
    shifted_hz = sound.tracked_hz * np.float32(2.0 ** (octave / 12.0))
    found = sound.shares(shifted_hz)
    if found.beside > min(sound.tracked.beside + AS_WELL, MAX_NOISE) or (octave < 0 and found.odd < MIN_ODD_OCTAVE):
        return None
    return shifted_hz


def _median_hz(f0_hz: FloatArray) -> float:
    """Returns the median of an F0 [n], unvoiced frames (0) left out: a leap may have a gap."""
    return float(percentiles(f0_hz[f0_hz > 0], 50.0))


def _middle(n_frames: int, rate_hz: int) -> BoolArray:
    """Returns the middle third of a leap [n], at least one frame of `analysis.harmonics`."""
    n_inside = min(n_frames, max(round(n_frames / 3), -(-rate_hz // harmonics.FRAME_RATE_HZ) + 1))
    first = (n_frames - n_inside) // 2
    inside = np.zeros(n_frames, bool)
    inside[first : first + n_inside] = True
    return inside


def _is_harmonic(f0_hz: float, of_hz: float) -> bool:
    """Whether a pitch is a harmonic of another one, but not its first."""
    number = round(f0_hz / of_hz)
    return number >= 2 and abs(12.0 * np.log2(f0_hz / of_hz / number)) <= BLEND_SEMITONES


def repair(
    midi: RealArray, segments: Segments, frame_rate_hz: int, confidence: RealArray, loudness_db: RealArray
) -> DoubleArray:
    """Removes octave errors and blips of a tracker, segment by segment.

    Args:
      midi: [F] pitch as MIDI numbers, meaningful where `segments.voiced`.
      segments: stretches between rests.
      frame_rate_hz: frames per second.
      confidence: [F] of the pitch, 0..1.
      loudness_db: [F] of the sound.

    Returns:
      [F], NaN where there is no pitch to rely on (to be filled by `fill`).
    """
    out = np.where(segments.voiced, midi, np.nan).astype(np.float64)
    limit = JUMP_SEMITONES + JUMP_SEMITONES_PER_S / frame_rate_hz
    reach = max(1, round(ONSET_S * frame_rate_hz))

    def is_own(frames: IntArray) -> bool:
        """Whether these frames are a note in their own right."""
        if (confidence[frames] >= CONFIRMED).all():
            return True
        around = loudness_db[max(frames[0] - reach, 0) : frames[0] + reach]
        return bool(np.median(confidence[frames]) >= OWN_CONFIDENCE and np.ptp(around) >= OWN_ONSET_DB)

    for start, stop in zip(segments.starts, segments.stops, strict=True):
        stretch = out[start:stop]
        frames = np.flatnonzero(~np.isnan(stretch))
        if len(frames):
            stretch[frames] = _repair_segment(stretch[frames], frames + start, limit, frame_rate_hz, is_own)
    return out


def _split_at_jumps(pitch: RealArray, frames: IntArray, limit: float) -> list[tuple[int, int]]:
    """Splits pitch [n] at jumps into pieces (start, end); `frames` [n] are the frame numbers of the values."""
    if not len(pitch):
        return []
    # Across a gap the pitch had more time to move.
    jumps = np.abs(np.diff(pitch)) > limit * np.minimum(np.diff(frames), 4)
    return list(itertools.pairwise([0, *(np.flatnonzero(jumps) + 1).tolist(), len(pitch)]))


def _repair_segment(
    pitch: DoubleArray, frames: IntArray, limit: float, frame_rate_hz: int, is_own: Callable[[IntArray], bool]
) -> DoubleArray:
    """Shifts octave errors in the pitch [n] of a segment's voiced frames, and makes blips NaN."""
    pieces = _split_at_jumps(pitch, frames, limit)
    pitch = pitch.copy()
    shortest = SHORTEST_PIECE_S * frame_rate_hz
    longest_slip = LONGEST_SLIP_S * frame_rate_hz
    kept = [piece for piece in pieces if piece[1] - piece[0] >= shortest]
    if not kept:  # no steady piece: take the octave of most frames
        semitones = np.rint(pitch).astype(np.int64)
        lowest = semitones.min()
        usual = lowest + np.argmax(np.convolve(np.bincount(semitones - lowest), np.ones(3), "same"))
        middle = float(np.median(pitch[np.abs(semitones - usual) <= 1]))
        for start, stop in pieces:
            pitch[start:stop] += _find_slip(pitch[start], pitch[stop - 1], middle, middle)
        return pitch
    for start, stop in pieces:
        if stop - start < shortest:
            pitch[start:stop] = np.nan
    kept = _join_pieces(kept, pitch)
    for i, (start, stop) in enumerate(kept):
        if stop - start > longest_slip or len(kept) < 2:
            continue
        before = pitch[kept[i - 1][1] - 1] if i else None
        after = pitch[kept[i + 1][0]] if i + 1 < len(kept) else None
        # At the edge of a note a short neighbour is no evidence.
        if before is None and kept[i + 1][1] - kept[i + 1][0] < 2 * (stop - start):
            continue
        if after is None and kept[i - 1][1] - kept[i - 1][0] < 2 * (stop - start):
            continue
        shift = _find_slip(pitch[start], pitch[stop - 1], before, after)
        if shift and not is_own(frames[start:stop]):
            pitch[start:stop] += shift
    return pitch


def _join_pieces(pieces: list[tuple[int, int]], pitch: DoubleArray) -> list[tuple[int, int]]:
    """Joins pieces (start, end) of pitch [n] on both sides of a blip."""
    joined = pieces[:1]
    for start, stop in pieces[1:]:
        last = joined[-1]
        if abs(pitch[start] - pitch[last[1] - 1]) <= SLIP_TOLERANCE_SEMITONES:
            joined[-1] = (last[0], stop)
        else:
            joined.append((start, stop))
    return joined


def _find_slip(first: float, last: float, before: float | None, after: float | None) -> float:
    """Finds the shift in semitones that joins a piece smoothly to all its neighbours, or 0."""
    for shift in SLIPS_SEMITONES:
        ends = [(first, before), (last, after)]
        if all(abs(own + shift - other) <= SLIP_TOLERANCE_SEMITONES for own, other in ends if other is not None):
            return shift
    return 0.0


def fill(
    midi: RealArray,
    segments: Segments,
    frame_rate_hz: int,
    loudness_db: RealArray | None = None,
) -> DoubleArray:
    """Gives every frame a pitch: bridged across gaps inside segments, held through rests.

    A small step across a gap becomes a straight line. A large step happens at once, where the sound is softest: a
    player changes the note there without a slide. A rest keeps the pitch of the note before it, and changes to that of
    the next note shortly before it, so that no note starts with a glide.

    Args:
      midi: [F], NaN where unknown.
      segments: stretches between rests.
      frame_rate_hz: frames per second.
      loudness_db: [F], to find the softest frame of a gap; without it the middle is used.

    Returns:
      [F] float64 without NaN; A4 in all frames of a performance without notes.
    """
    n_frames = len(midi)
    inside = segments.mask
    out = np.where(inside, midi, np.nan).astype(np.float64)
    if np.isnan(out).all():
        return np.full(n_frames, NO_NOTES_MIDI)
    for start, stop in zip(*runs(np.isnan(out)), strict=True):
        if start == 0 or stop == n_frames:
            out[start:stop] = out[stop] if start == 0 else out[start - 1]
            continue
        before, after = out[start - 1], out[stop]
        if not inside[start:stop].all():
            rest = np.flatnonzero(~inside[start:stop]) + start
            turn = rest_turn(int(rest[0]), int(rest[-1]) + 1, frame_rate_hz)
        elif abs(after - before) <= LARGEST_BRIDGE_SEMITONES:
            out[start:stop] = np.interp(np.arange(start, stop), [start - 1, stop], [before, after])
            continue
        else:
            turn = (start + stop) // 2 if loudness_db is None else start + int(np.argmin(loudness_db[start:stop]))
        out[start:turn], out[turn:stop] = before, after
    return out


def rest_turn(start: int, stop: int, frame_rate_hz: int) -> int:
    """Returns the frame at which a rest (start, stop) changes to the pitch of the next note."""
    return max(start, (start + stop) // 2, stop - round(LEAD_S * frame_rate_hz))


def chapters(segments: Segments, frame_rate_hz: int, longest_frames: int) -> Iterator[tuple[slice, Segments]]:
    """Cuts a performance into chapters that `fill` can process independently, in rests where its pitch changes.

    Args:
      segments: of the performance.
      frame_rate_hz: frames per second.
      longest_frames: a chapter is not longer than this, if there is a rest to cut it in.

    Yields:
      The frames of each chapter, and its segments, counted from its first frame.
    """
    n_frames, starts, stops = len(segments.voiced), segments.starts, segments.stops
    rests = np.flatnonzero(starts[1:] > stops[:-1])
    turns = [rest_turn(int(stops[i]), int(starts[i + 1]), frame_rate_hz) for i in rests]
    first, begun = 0, 0
    for i, (rest, turn) in enumerate(zip(rests, turns, strict=True)):
        following = turns[i + 1] if i + 1 < len(turns) else n_frames
        if following - first > longest_frames:
            yield slice(first, turn), _part(segments, begun, int(rest) + 1, first, turn)
            first, begun = turn, int(rest) + 1
    yield slice(first, n_frames), _part(segments, begun, len(starts), first, n_frames)


def _part(segments: Segments, begun: int, end: int, first: int, stop: int) -> Segments:
    """Returns the segments number `begun` to `end`, in the frames from `first` to `stop`."""
    own = slice(begun, end)
    return replace(
        segments,
        starts=segments.starts[own] - first,
        stops=segments.stops[own] - first,
        voiced=segments.voiced[first:stop],
    )


def to_midi(f0_hz: RealArray) -> DoubleArray:
    """Converts Hz [F] to MIDI numbers; 0 where there is no pitch."""
    return np.asarray(scaling.hz_to_midi(np.asarray(f0_hz, np.float64)))
