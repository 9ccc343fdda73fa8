"""Correct the pitch of a melody towards a scale; scale its vibrato; slide between its notes.

A note is moved as a whole to a degree of the scale, so vibrato keeps its width and its speed. Drift inside a note and
slides into and out of it are removed, over `retune_s`. If the user names the scale, every note is moved to it. An
estimated scale decides only for notes about halfway between two semitones: a note within `SURE_SEMITONES` of a semitone
stays there in every key. All functions are pure; melodies are [F] arrays of MIDI numbers, NaN where there is no pitch.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

import numpy as np

from ddsp_cli.adaptation.segmentation import Segments
from ddsp_cli.analysis.melody import (
    MEDIAN_S,
    SAME_NOTE_SEMITONES,
    Notes,
    centre,
    find_notes,
    find_tuning,
    nearest_note,
)
from ddsp_cli.arrays import BoolArray, DoubleArray, IntArray, RealArray, percentiles, runs
from ddsp_cli.pitch_names import SHARP_NAMES, pitch_class

#: Time that a corrected melody takes from one note to the next.
RETUNE_S = 0.05

#: At each end of a note vibrato fades in and out for this long: movement there is a slide.
VIBRATO_FADE_S = 0.1

#: In a short note the fade takes this share of the note. Weight of the frames of the fade in the fit of the vibrato.
FADE_SHARE, END_WEIGHT = 0.2, 0.1

#: The slow drift and the vibrato of a note are fitted over this time, or over the note if it is shorter: a parabola, or
#: a line in notes shorter than `PARABOLA_S`, and a sinusoid of one of these rates.
FIT_S, PARABOLA_S = 0.6, 0.4

VIBRATO_HZ = np.arange(4.0, 8.1, 0.5)

#: Number of fits; in each, frames further than this from the last fit weigh less.
N_FITS, OUTLIER_SEMITONES = 3, 0.15

#: Ridge of the fit, which prevents two large components that cancel each other.
RIDGE = 0.002

#: Vibrato and jitter are separated by smoothing twice under a Hann window of this length: a movement at 6 Hz counts by
#: 96 % as vibrato, one at 15 Hz by 36 %, one at 20 Hz by 3 %.
JITTER_S = 0.09

#: The width of a vibrato is measured over this time.
VIBRATO_WIDTH_S = 0.5

#: Pitch that moves further than this within `VIBRATO_FADE_S` is a slide.
SLIDE_SEMITONES = 0.4

#: An estimated key does not move a note that is this near to a semitone.
SURE_SEMITONES = 0.3

#: An estimated key counts if notes on its degrees have this share of the time, if the melody has this number of them,
#: and if every key with other degrees correlates less by this difference.
KEY_SHARE, KEY_DEGREES, KEY_MARGIN = 0.95, 6, 0.04

#: Degrees above the tonic, by mode. `minor` has both sevenths: the harmony decides between them.
SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10, 11),
    "natural minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "melodic minor": (0, 2, 3, 5, 7, 9, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "locrian": (0, 1, 3, 5, 6, 8, 10),
    "major pentatonic": (0, 2, 4, 7, 9),
    "minor pentatonic": (0, 3, 5, 7, 10),
    "blues": (0, 3, 5, 6, 7, 10),
    "whole tone": (0, 2, 4, 6, 8, 10),
    "chromatic": tuple(range(12)),
}

#: Other spellings of modes, without spaces.
_MODES = {
    "": "major", "maj": "major", "ionian": "major", "m": "minor", "min": "minor", "aeolian": "natural minor",
    "pentatonic": "major pentatonic", "wholetone": "whole tone",
} | {name.replace(" ", ""): name for name in SCALES}  # fmt: skip

#: How well each degree fits a key (Krumhansl and Kessler 1982, table 1). In the profiles of the modes the degrees are
#: exchanged in which the mode differs from major or minor.
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)

_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


def _exchanged(profile: tuple[float, ...], a: int, b: int) -> tuple[float, ...]:
    values = list(profile)
    values[a], values[b] = values[b], values[a]
    return tuple(values)


PROFILES = {
    "major": _MAJOR,
    "minor": _MINOR,
    "dorian": _exchanged(_MINOR, 8, 9),
    "phrygian": _exchanged(_MINOR, 1, 2),
    "lydian": _exchanged(_MAJOR, 5, 6),
    "mixolydian": _exchanged(_MAJOR, 10, 11),
}

#: A mode has to fit this much better than major or minor (difference of correlations): most tunes are one of the two.
_MODE_MARGIN = 0.05

#: How keys are usually written: D flat major, but C sharp minor.
_MAJOR_NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")

_MINOR_NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B")


@dataclass(frozen=True)
class Key:
    """A scale.

    Attributes:
      tonic: pitch class, C is 0.
      mode: one of `SCALES`.
      spelling: of the tonic; keys that differ only in spelling are equal.
    """

    tonic: int
    mode: str
    spelling: str = field(default="", compare=False)

    def __str__(self) -> str:
        if self.mode == "chromatic":
            return "chromatic"
        minor_third = 3 in SCALES[self.mode] and 4 not in SCALES[self.mode]
        return f"{self.spelling or (_MINOR_NAMES if minor_third else _MAJOR_NAMES)[self.tonic]} {self.mode}"

    @property
    def pitch_classes(self) -> IntArray:
        """Its degrees as pitch classes 0..11."""
        return (np.asarray(SCALES[self.mode]) + self.tonic) % 12


#: Every semitone.
CHROMATIC = Key(0, "chromatic")


def parse_key(text: str) -> Key:
    """Reads a key: `C major`, `f# minor`, `Bb`, `am`, `D dorian`, `A minor pentatonic` or `chromatic`.

    Raises:
      ValueError: not a key.
    """
    if text.strip().lower() == "chromatic":
        return CHROMATIC
    match = re.fullmatch(r"([A-Ga-g])([#♯b♭]?)(.*)", text.strip())
    mode = _MODES.get("".join(match[3].split()).lower()) if match else None
    if match is None or mode is None or mode == "chromatic":
        raise ValueError(text)
    spelling = match[1].upper() + match[2].replace("♯", "#").replace("♭", "b")
    return Key(pitch_class(spelling), mode, spelling)


def known_keys() -> list[str]:
    """Returns the keys that `parse_key` reads, for suggestions."""
    names = dict.fromkeys([*SHARP_NAMES, *_MAJOR_NAMES, *_MINOR_NAMES])
    return [f"{name} {mode}" for name in names for mode in SCALES if mode != "chromatic"] + ["chromatic"]


def find_key(notes: Notes, tuning_semitones: float = 0.0) -> Key:
    """Estimates the key: the one whose profile correlates best with the durations of the pitch classes.

    Notes further than `SURE_SEMITONES` from a semitone do not count.

    Args:
      notes: of the melody.
      tuning_semitones: how far the melody's A is above 440 Hz.

    Returns:
      The key if it is clear, else `CHROMATIC`: where less than `KEY_SHARE` of the time is spent on its
      degrees (modulation, blues, chromatic tunes), where there are few different notes, or where another key with
      other degrees fits about as well.
    """
    sure = np.abs(notes.centre_midi - tuning_semitones - notes.semitone) <= SURE_SEMITONES
    if not sure.any():
        return CHROMATIC
    share = np.bincount(notes.semitone[sure] % 12, weights=notes.n_frames[sure], minlength=12)
    share = share / share.sum()
    fits = {
        Key(tonic, mode): float(np.corrcoef(np.roll(profile, tonic), share)[0, 1])
        - (0.0 if mode in {"major", "minor"} else _MODE_MARGIN)
        for mode, profile in PROFILES.items()
        for tonic in range(12)
    }
    key = max(fits, key=lambda each: fits[each])
    degrees = set(SCALES[key.mode]) - ({11} if key.mode == "minor" else set())
    others = [
        fit
        for other, fit in fits.items()
        if not {(degree + key.tonic) % 12 for degree in degrees} <= set(other.pitch_classes.tolist())
    ]
    clear = (
        share[key.pitch_classes].sum() >= KEY_SHARE
        and np.count_nonzero(share[key.pitch_classes] > 0.01) >= KEY_DEGREES
        and fits[key] - max(others) >= KEY_MARGIN
    )
    return key if clear else CHROMATIC


def target_degrees(notes: Notes, key: Key, tuning_semitones: float, estimated: bool = False) -> DoubleArray:
    """Chooses the degree of the scale that each note is moved to.

    Args:
      notes: of the melody.
      key: the scale.
      tuning_semitones: how far its A is above 440 Hz.
      estimated: the key is an estimate of `find_key`; notes within `SURE_SEMITONES` of a semitone stay on it.

    Returns:
      [N], MIDI numbers with the tuning added.
    """
    centre_midi = notes.centre_midi - tuning_semitones
    numbers = np.arange(-24, 160)
    degrees = numbers[np.isin(numbers % 12, key.pitch_classes)]
    above = np.clip(np.searchsorted(degrees, centre_midi), 1, len(degrees) - 1)
    lower, upper = degrees[above - 1], degrees[above]
    nearest = np.where(centre_midi - lower <= upper - centre_midi, lower, upper)
    if estimated:
        semitone = np.rint(centre_midi)
        stays = (np.abs(centre_midi - semitone) <= SURE_SEMITONES) | (np.abs(nearest - centre_midi) >= 1.0)
        nearest = np.where(stays, semitone, nearest)
    return np.asarray(nearest + tuning_semitones, np.float64)


def move_notes(
    midi: RealArray, notes: Notes, degrees: RealArray, amount: float, frame_rate_hz: int, retune_s: float = RETUNE_S
) -> DoubleArray:
    """Moves the notes of a melody towards the degrees of a scale.

    Args:
      midi: [F].
      notes: of the melody.
      degrees: [N], where each note is moved to, see `target_degrees`.
      amount: 0 leaves the melody unchanged; 1 puts every note on its degree, without drift and slides, with vibrato.
      frame_rate_hz: frames per second.
      retune_s: how long a change from note to note takes; longer lets more of the performer's slides through.

    Returns:
      [F], NaN as before.
    """
    out = midi.astype(np.float64).copy()
    if amount == 0.0 or not len(notes):
        return out
    owner = nearest_note(notes, midi)
    vibrato = _vibrato(midi, notes, frame_rate_hz)
    width = round(retune_s * frame_rate_hz)
    for start, stop in zip(*runs(~np.isnan(midi)), strict=True):
        belongs = owner[start:stop] >= 0
        frames = np.arange(stop - start)
        target = degrees[np.maximum(owner[start:stop], 0)]
        if not belongs.all():  # a long slide is kept, from corrected note to corrected note
            correction = (target - out[start:stop])[belongs]
            target = np.where(belongs, target, out[start:stop] + np.interp(frames, frames[belongs], correction))
        target = moving_mean(target, width) + vibrato[start:stop]
        out[start:stop] += amount * (target - out[start:stop])
    return out


def _vibrato(midi: RealArray, notes: Notes, frame_rate_hz: int) -> DoubleArray:
    """Returns vibrato and jitter of each note [F], 0 outside notes.

    A parabola and a sinusoid are fitted together, so that neither contains a part of the other (`_fit`). Inside a note
    all movement around the parabola is kept; at its ends, where notes are approached and left, only the sinusoid.
    """
    out = np.zeros(len(midi))
    for start, stop in zip(notes.starts, notes.stops, strict=True):
        note = np.asarray(midi[start:stop], np.float64)
        centre_midi = percentiles(note, 50.0)
        near = np.abs(note - centre_midi) < SAME_NOTE_SEMITONES + 0.4
        ramp = max(1, round(min(VIBRATO_FADE_S, FADE_SHARE * len(note) / frame_rate_hz) * frame_rate_hz))
        frames = np.arange(1, len(note) + 1)
        fade = 0.5 - 0.5 * np.cos(np.pi * np.clip(np.minimum(frames, frames[::-1]) / (ramp + 1), 0.0, 1.0))
        slow, swing = _fit(note - centre_midi, near * (END_WEIGHT + (1.0 - END_WEIGHT) * fade), frame_rate_hz)
        inside = np.where(near, fade, 0.0)
        out[start:stop] = inside * (note - centre_midi - slow) + (1.0 - inside) * swing
    return out


def _fit(note: DoubleArray, weights: DoubleArray, frame_rate_hz: int) -> tuple[DoubleArray, DoubleArray]:
    """Fits the slow drift and the vibrato of a note [F], [F] each, in windows that overlap by half."""
    n_frames, length = len(note), round(FIT_S * frame_rate_hz)
    n_windows = max(1, round(2 * n_frames / length) - 1)
    starts = np.linspace(0, max(n_frames - length, 0), n_windows).round().astype(int)
    slow, swing, total = np.zeros(n_frames), np.zeros(n_frames), np.zeros(n_frames)
    for start in starts if n_windows > 1 else [0]:
        part = slice(start, start + length if n_windows > 1 else n_frames)
        blend = np.hanning(len(note[part]) + 2)[1:-1]
        if part.start == 0:
            blend[: len(blend) // 2] = 1.0
        if part.stop >= n_frames:
            blend[len(blend) // 2 :] = 1.0
        for sums, values in zip((slow, swing), _fit_window(note[part], weights[part], frame_rate_hz), strict=True):
            sums[part] += blend * values
        total[part] += blend
    return slow / total, swing / total


def _fit_window(note: DoubleArray, weights: DoubleArray, frame_rate_hz: int) -> tuple[DoubleArray, DoubleArray]:
    """Fits a parabola and the sinusoid with the least residual, by least squares with less weight for outliers."""
    x = np.linspace(-1.0, 1.0, len(note)) if len(note) > 1 else np.zeros(1)
    seconds = np.arange(len(note)) / frame_rate_hz
    n_slow = 3 if len(note) >= PARABOLA_S * frame_rate_hz else 2
    angles = 2.0 * np.pi * VIBRATO_HZ[:, None] * seconds
    course = np.broadcast_to(np.stack([x**power for power in range(n_slow)], axis=-1), (len(angles), len(note), n_slow))
    basis = np.concatenate([course, np.sin(angles)[..., None], np.cos(angles)[..., None]], axis=-1)
    ridge = RIDGE * len(note) * np.diag([0.0] + [1.0] * (basis.shape[-1] - 1))
    for _ in range(N_FITS):
        weighted = basis * weights[:, None]
        found = np.linalg.solve(weighted.swapaxes(1, 2) @ basis + ridge + 1e-9 * np.eye(len(ridge)),
                                (weighted.swapaxes(1, 2) @ note)[..., None])  # fmt: skip
        errors = note - (basis @ found)[..., 0]
        best = int(np.argmin((weights * errors**2).sum(axis=1)))
        left = np.abs(errors[best])
        weights = weights / (1.0 + (left / max(OUTLIER_SEMITONES, 2.0 * percentiles(left, 50.0))) ** 2)
    slow = basis[best, :, :n_slow] @ found[best, :n_slow, 0]
    return slow, basis[best, :, n_slow:] @ found[best, n_slow:, 0]


def scale_vibrato(midi: RealArray, factor: float, frame_rate_hz: int) -> DoubleArray:
    """Scales the movement of a melody [F] around its centre: 0 removes vibrato, 1 keeps it, 2 doubles its width."""
    if factor == 1.0:
        return midi.astype(np.float64).copy()
    middle = centre(midi, frame_rate_hz)
    return middle + factor * (midi - middle)


def limit_vibrato(midi: RealArray, limit_cents: float, keep_jitter: bool, frame_rate_hz: int) -> DoubleArray:
    """Narrows a vibrato that is wider than a limit, and removes jitter.

    Slides, drift, the ends of notes and quick notes stay as they are.

    Args:
      midi: [F], NaN where there is no pitch.
      limit_cents: width of vibrato that is kept, root mean square; infinity keeps any.
      keep_jitter: keep the movements that are faster than a vibrato.
      frame_rate_hz: frames per second.

    Returns:
      [F] float64.
    """
    out = midi.astype(np.float64).copy()
    if math.isinf(limit_cents) and keep_jitter:
        return out
    jitter_window, width_window = (_hann(seconds, frame_rate_hz) for seconds in (JITTER_S, VIBRATO_WIDTH_S))
    ramp = max(1, round(VIBRATO_FADE_S * frame_rate_hz))
    for start, stop in zip(*runs(~np.isnan(midi)), strict=True):
        stretch = out[start:stop]
        middle = centre(stretch, frame_rate_hz)
        movement = stretch - middle
        smooth = _smoothed(movement, jitter_window)
        vibrato = smooth + _smoothed(movement - smooth, jitter_window)
        width_cents = 100.0 * np.sqrt(_smoothed(vibrato**2, width_window))
        narrower = 1.0 - np.minimum(1.0, limit_cents / np.maximum(width_cents, 1e-9))
        removed = narrower * vibrato + (0.0 if keep_jitter else 1.0) * (movement - vibrato)
        stretch -= _steadiness(middle, _changes(stretch, frame_rate_hz), ramp) * removed
    return out


def _changes(stretch: RealArray, frame_rate_hz: int) -> BoolArray:
    """Marks frames [F] that begin a note, or that lie in no note long enough for a cycle of vibrato."""
    notes = find_notes(stretch, frame_rate_hz, find_tuning(stretch))
    changes = np.ones(len(stretch), bool)
    for start, stop in zip(notes.starts, notes.stops, strict=True):
        changes[start + 1 : stop] = stop - start < MEDIAN_S * frame_rate_hz
    return changes


def _steadiness(middle: RealArray, changes: BoolArray, ramp: int) -> DoubleArray:
    """Returns weights [F]: 1 inside notes, falling to 0 where notes change, in slides and at both ends of a stretch.

    Args:
      middle: [F], pitch without vibrato.
      changes: [F], where notes change.
      ramp: number of frames of the fall.
    """
    half = max(1, ramp // 2)
    around = np.pad(middle, half, mode="edge")
    moves = np.abs(around[2 * half :] - around[: -2 * half]) > SLIDE_SEMITONES
    moves |= changes
    moves[:1], moves[-1:] = True, True
    near = np.convolve(np.pad(moves.astype(np.float64), half), np.ones(2 * half + 1), "valid") > 0.5
    return moving_mean(1.0 - near, ramp)


def _hann(seconds: float, frame_rate_hz: int) -> DoubleArray:
    """Returns a Hann window of unit sum, of an odd number of frames."""
    window = np.hanning(2 * max(1, round(seconds * frame_rate_hz / 2)) + 3)[1:-1]
    return np.asarray(window / window.sum(), np.float64)


def _smoothed(values: DoubleArray, window: DoubleArray) -> DoubleArray:
    """Returns the mean of values [F] under a window; the ends are held."""
    return np.convolve(np.pad(values, len(window) // 2, mode="edge"), window, "valid")


def glide(midi: RealArray, segments: Segments, glide_s: float, frame_rate_hz: int) -> DoubleArray:
    """Turns the steps inside segments into slides that take `glide_s`, half of it before the step.

    A moving mean over that time turns a step into a line. Only the centre of the melody is averaged, so vibrato keeps
    its width. There is no slide across a rest.

    Args:
      midi: [F], nowhere NaN.
      segments: stretches between rests.
      glide_s: length of a slide in seconds.
      frame_rate_hz: frames per second.
    """
    out = midi.astype(np.float64).copy()
    width = round(glide_s * frame_rate_hz)
    if width < 2:
        return out
    for start, stop in zip(segments.starts, segments.stops, strict=True):
        middle = centre(midi[start:stop], frame_rate_hz)
        out[start:stop] += moving_mean(middle, width) - middle
    return out


def moving_mean(values: RealArray, width: int) -> DoubleArray:
    """Returns the mean of `width` values (an odd number, or one more) around each [n]; the ends are held."""
    width = max(1, width) | 1
    return np.convolve(np.pad(values, width // 2, mode="edge"), np.full(width, 1.0 / width), "valid")
