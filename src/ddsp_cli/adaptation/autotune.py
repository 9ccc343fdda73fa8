"""Pitch on a scale: tuning and key of a melody, correction towards them, more or less vibrato, slides between notes.

A melody is seen as a centre, which steps and glides, and a movement around it, which is vibrato. Correction moves the
centre only. Pure functions on [F] arrays of MIDI numbers, NaN where there is no pitch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ddsp_cli.adaptation.segmentation import Segments
from ddsp_cli.arrays import runs

#: Vibrato swings 5 to 7 times a second. A median over more than one swing, a mean over two.
MEDIAN_S = 0.25

MEAN_S = 0.36

#: Further from its note a frame belongs to another one.
SAME_NOTE_SEMITONES = 0.8

#: How long a corrected note takes from one degree of the scale to the next.
CORRECTION_S = 0.04

#: The centre has to come this much nearer to another degree before it counts as that, in semitones.
STICK_SEMITONES = 0.15

#: Degrees above the key note. A minor scale has both sevenths; harmony decides between them.
SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10, 11),
    "chromatic": tuple(range(12)),
}

#: How well each degree fits a key (Krumhansl and Kessler 1982).
PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")

_FLATS = {"DB": 1, "EB": 3, "GB": 6, "AB": 8, "BB": 10, "CB": 11, "FB": 4, "E#": 5, "B#": 0}

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Key:
    """A scale: its key note 0..11 (C is 0) and which kind it is."""

    tonic: int
    mode: str

    def __str__(self) -> str:
        return "chromatic" if self.mode == "chromatic" else f"{NAMES[self.tonic]} {self.mode}"

    @property
    def pitch_classes(self) -> np.ndarray:
        """Its degrees as pitch classes 0..11."""
        return (np.asarray(SCALES[self.mode]) + self.tonic) % 12


def parse_key(text: str) -> Key:
    """`C major`, `f# minor`, `Bb`, `am` or `chromatic`.

    Raises:
      ValueError: none of these.
    """
    word = "".join(text.split()).lower()
    if word == "chromatic":
        return Key(0, "chromatic")
    mode = "major"
    for ending, its_mode in (
        ("minor", "minor"),
        ("major", "major"),
        ("min", "minor"),
        ("maj", "major"),
        ("m", "minor"),
    ):
        if word.endswith(ending):
            word, mode = word.removesuffix(ending), its_mode
            break
    name = word.upper()
    if name in NAMES:
        return Key(NAMES.index(name), mode)
    if name in _FLATS:
        return Key(_FLATS[name], mode)
    raise ValueError(text)


def centre(midi: np.ndarray, frame_rate_hz: int) -> np.ndarray:
    """The melody [F] without its vibrato, stretch by stretch of pitch.

    A running median finds the note, since it keeps steps as they are. The mean under a Hann window as long as two
    swings of vibrato, over the frames that belong to that note, finds its middle.
    """
    out = midi.astype(np.float64).copy()
    half_median = max(1, round(MEDIAN_S * frame_rate_hz / 2))
    half_mean = max(1, round(MEAN_S * frame_rate_hz / 2))
    window = np.hanning(2 * half_mean + 3)[1:-1]
    for start, stop in zip(*runs(~np.isnan(midi)), strict=True):
        stretch = np.asarray(midi[start:stop], np.float64)
        note = np.empty(len(stretch))
        for part, rows in _windows(stretch, half_median):
            note[part] = np.partition(rows, half_median, axis=1)[:, half_median]
        for part, rows in _windows(stretch, half_mean):
            weights = window * (np.abs(rows - note[part, None]) < SAME_NOTE_SEMITONES)
            total = weights.sum(axis=1)
            mean = (weights * rows).sum(axis=1) / np.maximum(total, 1e-9)
            out[start:stop][part] = np.where(total > 0, mean, note[part])
    return out


def _windows(stretch: np.ndarray, half: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Windows [n, 2·half + 1] around each value, the ends mirrored, not too many at once."""
    padded = np.pad(stretch, half, mode="reflect" if len(stretch) > half else "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    for first in range(0, len(windows), _ROWS_AT_ONCE):
        rows = windows[first : first + _ROWS_AT_ONCE]
        yield slice(first, first + len(rows)), rows


def find_tuning(midi: np.ndarray) -> float:
    """By how much the melody's own A differs from 440 Hz, in semitones -0.5..0.5: the mean on the circle of one."""
    known = midi[~np.isnan(midi)]
    if not len(known):
        return 0.0
    return float(np.angle(np.mean(np.exp(2j * np.pi * known))) / (2.0 * np.pi))


def find_key(midi: np.ndarray) -> Key:
    """The major or minor key whose profile correlates best with how long each pitch class sounds.

    Args:
      midi: [F] of one tuning, see `find_tuning`.
    """
    known = midi[~np.isnan(midi)]
    if not len(known):
        return Key(0, "chromatic")
    share = np.bincount(np.rint(known).astype(int) % 12, minlength=12) / len(known)
    fits = {
        Key(tonic, mode): np.corrcoef(np.roll(profile, tonic), share)[0, 1]
        for mode, profile in PROFILES.items()
        for tonic in range(12)
    }
    return max(fits, key=lambda key: fits[key])


def nearest_degrees(centres: np.ndarray, key: Key, tuning: float = 0.0) -> np.ndarray:
    """The degree of the scale [n] that each centre [n] means; near the middle between two the last one sticks."""
    numbers = np.arange(-24, 160)
    degrees = numbers[np.isin(numbers % 12, key.pitch_classes)] + tuning
    borders = (degrees[1:] + degrees[:-1]) / 2.0
    chosen = np.searchsorted(borders, centres)
    last = chosen[0] if len(chosen) else 0
    for i, (candidate, value) in enumerate(zip(chosen, centres, strict=True)):
        if candidate != last:
            border = borders[max(candidate, last) - 1] if abs(candidate - last) == 1 else None
            if border is None or abs(value - border) > STICK_SEMITONES:
                last = candidate
        chosen[i] = last
    return degrees[chosen]


def correct(midi: np.ndarray, amount: float, key: Key, tuning: float, frame_rate_hz: int) -> np.ndarray:
    """Moves each note towards the scale, its vibrato and its slides with it.

    Args:
      midi: [F], NaN where there is no pitch.
      amount: 0 leaves all as it is, 1 puts every centre on the scale.
      key: the scale.
      tuning: by how much its A differs from 440 Hz, in semitones.
      frame_rate_hz: frames per second.
    """
    out = midi.astype(np.float64).copy()
    if amount == 0.0:
        return out
    middle = centre(midi, frame_rate_hz)
    width = round(CORRECTION_S * frame_rate_hz)
    for start, stop in zip(*runs(~np.isnan(midi)), strict=True):
        correction = nearest_degrees(middle[start:stop], key, tuning) - middle[start:stop]
        out[start:stop] += amount * moving_mean(correction, width)
    return out


def scale_vibrato(midi: np.ndarray, factor: float, frame_rate_hz: int) -> np.ndarray:
    """The melody [F] with its movement around the centre scaled: 0 is straight, 1 as it was, 2 twice as wide."""
    if factor == 1.0:
        return midi.astype(np.float64).copy()
    middle = centre(midi, frame_rate_hz)
    return middle + factor * (midi - middle)


def glide(midi: np.ndarray, segments: Segments, glide_s: float, frame_rate_hz: int) -> np.ndarray:
    """The melody [F], nowhere NaN, with slides inside notes: what was a step takes `glide_s`, half of it before.

    The mean over that time makes a line of a step. It is taken of the centre, so vibrato keeps its width; across a
    rest nothing slides.
    """
    out = midi.astype(np.float64).copy()
    width = round(glide_s * frame_rate_hz)
    if width < 2:
        return out
    for start, stop in zip(segments.starts, segments.stops, strict=True):
        middle = centre(midi[start:stop], frame_rate_hz)
        out[start:stop] += moving_mean(middle, width) - middle
    return out


def moving_mean(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of `width` values, an odd number or one more, around each [n]; the ends are held."""
    width = max(1, width) | 1
    return np.convolve(np.pad(values, width // 2, mode="edge"), np.full(width, 1.0 / width), "valid")
