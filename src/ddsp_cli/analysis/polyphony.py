"""Find the notes of polyphonic sound: chords, double stops, several voices.

The network is that of basic-pitch 0.4.0 (Bittner, Bosch, Rubinstein, Meseguer-Brocal and Ewert, "A lightweight
instrument-agnostic model for polyphonic note transcription and multipitch estimation", ICASSP 2022; Copyright Spotify
AB, Apache License 2.0), 230 kB, run by ONNX Runtime. The steps after it are our own: notes from its activations,
and the share of the sound that belongs to each note.

Shapes: S samples at 16 kHz, T frames of the network, F frames of the features, N notes, K keys of a piano.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from ddsp_cli import packages
from ddsp_cli.analysis.loudness import FrameStream, a_weighting_db
from ddsp_cli.arrays import DoubleArray, FloatArray, IntArray, RealArray, hann_window, runs
from ddsp_cli.audio.resample import Resampler
from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.errors import InputError
from ddsp_cli.scaling import midi_to_hz

#: The network takes windows of sound at this rate and gives a frame for each hop.
RATE_HZ, HOP_SAMPLES, WINDOW_SAMPLES = 22050, 256, 43844

#: Frames at the edges of a window that lack context; windows are a whole number of hops apart.
EDGE_FRAMES, STEP_FRAMES = 15, 141

FRAME_S = HOP_SAMPLES / RATE_HZ

#: Keys from A0 to C8.
LOWEST_MIDI, N_KEYS = 21, 88

#: Names of the tensors: activation of notes and of onsets, and of pitch in thirds of a semitone.
_INPUT, _NOTES, _ONSETS, _CONTOURS = (
    "serving_default_input_2:0",
    "StatefulPartitionedCall:1",
    "StatefulPartitionedCall:2",
    "StatefulPartitionedCall:0",
)

#: Longer recordings are refused: the curves of each voice are kept in memory, 7 MB for 20 minutes.
LONGEST_S = 1200.0

#: A note lasts while its activation is at least `HOLD`, rises to `SURE` in between, and is at least `SHORTEST_S` long.
#: Gaps up to `BRIDGE_S` do not end it; a peak of the onset activation of at least `ONSET` begins another. Chosen on
#: the first 30 s of a violin movement with double stops (BWV 1002, Tempo di Borea).
HOLD, SURE, ONSET = 0.3, 0.4, 0.7

SHORTEST_S, BRIDGE_S = 0.08, 0.06

#: A low note also lasts this number of periods: the thud of a string that is damped is a B0 of 5 periods for the
#: network.
SHORTEST_PERIODS = 8.0

#: A note at one of these intervals above another is a harmonic of it if its activation is less than `GHOST_SHARE` of
#: the other's and most of it is within the other.
HARMONIC_SEMITONES = (12, 19, 24, 28, 31, 34, 36)

GHOST_SHARE, WITHIN_SHARE = 0.8, 0.7

#: And a note a semitone beside another is its vibrato if its activation is less than this share of the other's.
NEIGHBOUR_SHARE = 0.6

#: Shares of the sound are measured in windows of 128 ms, 16 ms apart, from this number of harmonics of each note.
SHARE_WINDOW_SAMPLES, SHARE_HOP_SAMPLES, N_HARMONICS = 2048, 256, 24

#: The power of a harmonic is summed over this number of bins on both sides; harmonics of two notes that are less than
#: `SHARED_BINS` apart cannot be distinguished.
LOBE_BINS, SHARED_BINS = 2, 2.5

#: Templates of how the power of harmonic k falls off: k^-slope, and for the odd harmonics alone k^-odd_slope, as of a
#: flute's or a clarinet's low notes. That differs from the others: with the octave above, odd harmonics of one slope
#: and all harmonics of that slope are the same sum. Chosen on 144 chords of the bundled instruments.
SLOPES, ODD_SLOPE = (1.0, 2.0, 3.0), 4.0

#: A share is never less than this, -40 dB.
LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class Activations:
    """Output of the network, 86 frames a second.

    Attributes:
      notes, onsets: [T, K], 0..255 for 0..1.
      cents: [T, K], pitch above the key.
    """

    notes: np.ndarray
    onsets: np.ndarray
    cents: np.ndarray


@dataclass(frozen=True)
class PolyNote:
    """One of several notes that may sound at once.

    Attributes:
      start_s, stop_s: when it sounds.
      key: MIDI number.
      strength: mean activation, 0..1.
      cents: pitch above the key in each frame of the network, [T'].
    """

    start_s: float
    stop_s: float
    key: int
    strength: float
    cents: DoubleArray

    def f0_hz(self, times_s: RealArray) -> DoubleArray:
        """Returns the pitch of the note at times [n]; before and after it that of its ends."""
        own_s = self.start_s + FRAME_S * np.arange(len(self.cents))
        midi = self.key + np.interp(times_s, own_s, self.cents) / 100.0
        return np.asarray(midi_to_hz(midi), np.float64)


@functools.cache
def _session() -> Any:
    """Returns the network, loaded once (50 ms)."""
    runtime = packages.load_onnx_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    content = (resources.files("ddsp_cli.analysis.pitch") / "data" / "basic_pitch.onnx").read_bytes()
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def track_activations(blocks: Iterable[FloatArray]) -> Activations:
    """Runs the network over a sound.

    Args:
      blocks: [S] at 16 kHz each.

    Raises:
      InputError: longer than `LONGEST_S`, or empty.
    """
    resampler = Resampler(ANALYSIS_RATE_HZ, RATE_HZ)
    step = STEP_FRAMES * HOP_SAMPLES
    waiting = np.zeros(EDGE_FRAMES * HOP_SAMPLES, np.float32)  # silence before the beginning
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    n_samples = 0

    def run(window: FloatArray) -> None:
        notes, onsets, contours = _session().run([_NOTES, _ONSETS, _CONTOURS], {_INPUT: window[None, :, None]})
        kept = slice(EDGE_FRAMES, EDGE_FRAMES + STEP_FRAMES)
        found.append((_as_bytes(notes[0, kept]), _as_bytes(onsets[0, kept]), _cents(contours[0, kept])))

    for block in _with_end(blocks, resampler):
        n_samples += len(block)
        if n_samples > LONGEST_S * RATE_HZ:
            raise InputError(f"it is longer than {LONGEST_S / 60:.0f} minutes", "Cut it into shorter pieces.")
        waiting = np.concatenate([waiting, block])
        while len(waiting) >= WINDOW_SAMPLES:
            run(waiting[:WINDOW_SAMPLES])
            waiting = waiting[step:]
    n_frames = -(-n_samples // HOP_SAMPLES)
    if not n_frames:
        raise InputError("the sound is empty: it has 0 samples")
    while len(found) * STEP_FRAMES < n_frames:
        run(np.pad(waiting, (0, max(0, WINDOW_SAMPLES - len(waiting))))[:WINDOW_SAMPLES])
        waiting = waiting[step:]
    notes, onsets, cents = (np.concatenate(parts)[:n_frames] for parts in zip(*found, strict=True))
    return Activations(notes, onsets, cents)


def _with_end(blocks: Iterable[FloatArray], resampler: Resampler) -> Iterator[FloatArray]:
    for block in blocks:
        yield resampler.push(np.asarray(block, np.float32))
    yield resampler.finish()


def _as_bytes(activation: FloatArray) -> np.ndarray:
    return np.rint(255.0 * np.clip(activation, 0.0, 1.0)).astype(np.uint8)


def _cents(contours: FloatArray) -> np.ndarray:
    """Returns the pitch above each key in cents [T, K] int8, at the strongest of the thirds within two of the key."""
    padded = np.pad(contours.astype(np.float64), ((0, 0), (2, 2)))
    thirds = np.stack([padded[:, i + 1 : i + 1 + 3 * N_KEYS : 3] for i in range(5)])  # two below to two above
    best = np.argmax(thirds[1:4], axis=0) + 1
    below, peak, above = (np.take_along_axis(thirds, (best + i)[None], axis=0)[0] for i in (-1, 0, 1))
    bend = 0.5 * (above - below) / np.maximum(2.0 * peak - above - below, 1e-6)
    return np.rint((best - 2 + np.clip(bend, -0.5, 0.5)) * 100.0 / 3.0).astype(np.int8)


# --- notes ------------------------------------------------------------------------------------------------------------


def find_poly_notes(activations: Activations) -> list[PolyNote]:
    """Finds the notes in the activations of the network, in order of their start."""
    found: list[tuple[int, int, int, float]] = []  # first frame, frame after the last, key, strength
    for key in np.flatnonzero(activations.notes.max(axis=0, initial=0) >= 255 * SURE):
        notes, onsets = activations.notes[:, key] / 255.0, activations.onsets[:, key] / 255.0
        least_s = SHORTEST_PERIODS / float(midi_to_hz(np.float64(LOWEST_MIDI + key)))
        for start, stop in _held(notes, onsets):
            if (stop - start) * FRAME_S >= least_s:
                found.append((start, stop, int(key), float(notes[start:stop].mean())))
    kept = [note for note in found if not _is_ghost(note, found)]
    return [
        PolyNote(start * FRAME_S, stop * FRAME_S, LOWEST_MIDI + key, strength,
                 _smooth(activations.cents[start:stop, key].astype(np.float64)))
        for start, stop, key, strength in sorted(kept)
    ]  # fmt: skip


def _held(notes: DoubleArray, onsets: DoubleArray) -> Iterator[tuple[int, int]]:
    """Yields the first frame, and the frame after the last, of each note of one key."""
    active = notes >= HOLD
    for start, stop in zip(*runs(~active), strict=True):
        if start > 0 and stop < len(active) and stop - start <= BRIDGE_S / FRAME_S:
            active[start:stop] = True
    shortest = SHORTEST_S / FRAME_S
    for start, stop in zip(*runs(active), strict=True):
        peaks = [
            i
            for i in range(max(start + round(shortest), 1), min(stop, len(onsets) - 1))
            if onsets[i] >= ONSET and onsets[i] >= onsets[i - 1] and onsets[i] > onsets[i + 1]
        ]
        edges = [start, *peaks, stop]
        for first, end in itertools.pairwise(edges):
            if end - first >= shortest and notes[first:end].max() >= SURE:
                yield int(first), int(end)


def _is_ghost(note: tuple[int, int, int, float], others: Sequence[tuple[int, int, int, float]]) -> bool:
    """Whether a candidate is a harmonic, or the vibrato, of a stronger note."""
    start, stop, key, strength = note
    covered = 0
    for other_start, other_stop, other_key, other_strength in others:
        share = GHOST_SHARE if key - other_key in HARMONIC_SEMITONES else 0.0
        if abs(key - other_key) == 1:
            share = NEIGHBOUR_SHARE
        if strength < share * other_strength:
            covered += max(0, min(stop, other_stop) - max(start, other_start))
    return covered >= WITHIN_SHARE * (stop - start)


def _smooth(cents: DoubleArray) -> DoubleArray:
    """Returns the mean of three neighbours; a vibrato of 6 Hz loses 2 %."""
    padded = np.pad(cents, 1, mode="edge")
    return np.asarray((padded[:-2] + padded[1:-1] + padded[2:]) / 3.0)


# --- which part of the sound belongs to which note --------------------------------------------------------------------


class NoteShare(NamedTuple):
    """The share of a sound that belongs to one note.

    Attributes:
      first: its first frame.
      power, loudness: its share of the power and of the A-weighted power from there on, [F'].
    """

    first: int
    power: FloatArray
    loudness: FloatArray


def measure_shares(blocks: Iterable[FloatArray], notes: Sequence[PolyNote], rate_hz: int) -> list[NoteShare]:
    """Measures the share of a sound that belongs to each of several notes.

    Args:
      blocks: of the sound, [S] at 16 kHz.
      notes: which may sound at once.
      rate_hz: frames per second of the result.

    Returns:
      Of each note its share while it sounds, at least `LEAST_SHARE`.
    """
    measured = _Shares(notes)
    stream = FrameStream(SHARE_WINDOW_SAMPLES, SHARE_HOP_SAMPLES, measured)
    for block in blocks:
        stream.push(block)
    stream.finish()
    found = []
    for note, own in zip(notes, measured.shares, strict=True):
        first, stop = math.ceil(note.start_s * rate_hz), math.ceil(note.stop_s * rate_hz)
        times_s = np.arange(first, stop) / rate_hz
        logs = np.zeros((2, len(times_s)))
        if own:  # else it is shorter than the distance of two windows, or beyond the end
            own_s, *values = np.array(own, np.float64).T
            logs = np.stack([np.interp(times_s, own_s, np.log(np.maximum(one, LEAST_SHARE))) for one in values])
        power, loudness = np.exp(logs).astype(np.float32)
        found.append(NoteShare(first, power, loudness))
    return found


class _Shares:
    """Measures the shares of notes in windows [n, S] that come one after another.

    Attributes:
      shares: of each note (seconds, share of the power, of the A-weighted power) for every window in which it sounds.
    """

    def __init__(self, notes: Sequence[PolyNote]) -> None:
        self.shares: list[list[tuple[float, float, float]]] = [[] for _ in notes]
        self._notes = notes
        self._window = hann_window(SHARE_WINDOW_SAMPLES)
        self._audible = 10.0 ** (a_weighting_db(np.fft.rfftfreq(SHARE_WINDOW_SAMPLES, 1.0 / ANALYSIS_RATE_HZ)) / 10.0)
        self._n_done = 0

    def __call__(self, windows: FloatArray) -> FloatArray:
        spectra = np.abs(np.fft.rfft(windows * self._window, axis=-1)) ** 2
        times_s = (self._n_done + np.arange(len(windows))) * SHARE_HOP_SAMPLES / ANALYSIS_RATE_HZ
        self._n_done += len(windows)
        first_s, last_s = times_s[0], times_s[-1]
        near = [i for i, note in enumerate(self._notes) if note.start_s <= last_s and note.stop_s > first_s]
        pitches = {i: self._notes[i].f0_hz(times_s) for i in near}
        for frame, time_s in enumerate(times_s):
            sounding = [i for i in near if self._notes[i].start_s <= time_s < self._notes[i].stop_s]
            if sounding:
                f0_hz = np.array([pitches[i][frame] for i in sounding])
                bins, energies = note_energies(spectra[frame], f0_hz)
                both = [_as_shares(energies.sum(axis=1)), _as_shares(energies @ self._audible[bins])]
                for i, power, loudness in zip(sounding, *both, strict=True):
                    self.shares[i].append((float(time_s), float(power), float(loudness)))
        return np.zeros(len(windows), np.float32)


def _as_shares(energies: DoubleArray) -> DoubleArray:
    total = energies.sum()
    return energies / total if total > 0.0 else np.full(len(energies), 1.0 / len(energies))


def note_energies(spectrum: RealArray, f0_hz: RealArray) -> tuple[IntArray, DoubleArray]:
    """Measures the shares of notes of several pitches in a power spectrum.

    The power at each harmonic is modelled as the sum over the notes that have a harmonic there. The harmonics of a note
    fall off along a mixture of templates with weights that are not negative, found by non-negative least squares. Each
    note then has the part of the power of each harmonic that the model ascribes to it, as in a Wiener filter. So the
    lower note of an octave is known from its odd harmonics, and the upper one from what rises above the rest.

    Args:
      spectrum: [bins] from 0 Hz to 8 kHz.
      f0_hz: [n].

    Returns:
      The bins of the harmonics [P], and the power of each note there, [n, P].
    """
    from scipy.optimize import nnls

    n_bins = len(spectrum)
    first = f0_hz * (n_bins - 1) / (ANALYSIS_RATE_HZ / 2.0)
    places = np.sort((first[:, None] * np.arange(1, N_HARMONICS + 1)).ravel())
    places = places[places < n_bins - LOBE_BINS - 1]
    if not len(places):
        return np.zeros(0, np.int64), np.zeros((len(f0_hz), 0))
    kept = [0]  # harmonics of two notes that lie together are one place
    for i, place in enumerate(places):
        if place - places[kept[-1]] > SHARED_BINS:
            kept.append(i)
    places = places[kept]
    bins = np.maximum(np.rint(places).astype(int), LOBE_BINS)
    power = sum(spectrum[bins + offset] for offset in range(-LOBE_BINS, LOBE_BINS + 1))
    number = np.maximum(np.rint(places / first[:, None]), 1.0)  # [n, places]
    is_near = np.abs(places / first[:, None] - number) * first[:, None] <= SHARED_BINS
    templates = [is_near * number**-slope for slope in SLOPES]
    templates.append(is_near * (number % 2 == 1) * number**-ODD_SLOPE)
    stacked = np.stack(templates, axis=1)  # [n, templates, places]
    weight = 1.0 / np.sqrt(power + 1e-4 * power.max() + 1e-30)
    mixture, _ = nnls((stacked.reshape(-1, len(places)) * weight).T, power * weight)
    models = np.einsum("nt,ntp->np", mixture.reshape(stacked.shape[:2]), stacked)
    return bins, power * models / np.maximum(models.sum(axis=0), 1e-30)
