"""Track the most salient F0 of a mixture: chords, and noisy recordings in which a tracker of single pitches fails.

The salience of a candidate F0 is the weighted sum of the spectral peaks at its harmonics (after Klapuri, "Multiple
fundamental frequency estimation by summing harmonic amplitudes", ISMIR 2006); the track is the Viterbi path of most
salience less a cost of moving. Shapes: S samples, T frames, C candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ddsp_cli.analysis.pitch.trackers import PitchTrack, UndecidedPath
from ddsp_cli.arrays import FloatArray, IntArray
from ddsp_cli.config import ANALYSIS_RATE_HZ

#: Frames of 128 ms, 16 ms apart.
HOP_SAMPLES, WINDOW_SAMPLES = 256, 2048

FFT_SAMPLES = 4096

#: Candidates: A2 to A5, four to a semitone.
LOWEST_HZ, N_CANDIDATES, PER_OCTAVE = 110.0, 145, 48

#: Harmonic k has the weight HARMONIC_WEIGHT^(k-1).
N_HARMONICS, HARMONIC_WEIGHT = 8, 0.8

#: Cost of moving by a semitone from one frame to the next, and the largest cost, as shares of the median salience.
MOVE_COST, LEAP_COST = 0.1, 0.6

#: F0 stands out when its salience is this many times the mean over all candidates. White noise reaches 2.4, rumble 3.4,
#: chords 6 to 12, one voice 17.
SURE_CONTRAST = 4.0

#: And when it has this share of the sum of all peaks. Hiss above 3 kHz favours high candidates, but each has 1 % of it
#: at most; chords have 15 % and more, under noise half as loud 4 %.
SURE_SHARE = 0.02

#: Frames computed at once; bounds memory to some 20 MiB.
_FRAMES_AT_ONCE = 256


def track_strongest(blocks: Callable[[], Iterable[FloatArray]]) -> PitchTrack:
    """Tracks the strongest voice, in memory that does not depend on the length but for the track itself.

    Args:
      blocks: gives the sound from its beginning, [S] float32 at 16 kHz a block. It is called twice: the cost of moving
        depends on the median salience of the whole sound.
    """
    strongest = [salience.max(axis=1) for salience, _ in _saliences(blocks())]
    if not strongest:
        return PitchTrack(np.zeros(0, np.float32), np.zeros(0, np.float32), HOP_SAMPLES)
    path = _ViterbiPath(np.maximum(np.median(np.concatenate(strongest)), 1e-9))
    means, peak_sums = [], []
    for salience, peak_sum in _saliences(blocks()):
        path.push(salience)
        means.append(salience.mean(axis=1))
        peak_sums.append(peak_sum)
    candidate, found = path.finish()
    contrast = found / np.maximum(np.concatenate(means), 1e-9)
    share = found / np.maximum(np.concatenate(peak_sums), 1e-9)
    standing_out = np.minimum(contrast / SURE_CONTRAST, share / SURE_SHARE)
    f0_hz = LOWEST_HZ * 2.0 ** (candidate / PER_OCTAVE)
    # A confidence as trackers give it: 0.5 where F0 begins to stand out, 1 from 25 % more on.
    confidence = np.clip(0.5 + 0.5 * (standing_out - 1.0) / 0.25, 0.0, 1.0)
    return PitchTrack(f0_hz.astype(np.float32), confidence.astype(np.float32), HOP_SAMPLES)


def _saliences(blocks: Iterable[FloatArray]) -> Iterable[tuple[FloatArray, FloatArray]]:
    """Yields salience [t, C] and the sum of all peaks [t] of the frames that each block completes."""
    window = np.hanning(WINDOW_SAMPLES).astype(np.float32)
    kept = np.zeros(WINDOW_SAMPLES // 2, np.float32)
    tail = np.zeros(WINDOW_SAMPLES // 2, np.float32)
    for block in _with_tail(blocks, tail):
        kept = np.concatenate([kept, block])
        n_frames = (len(kept) - WINDOW_SAMPLES) // HOP_SAMPLES + 1
        for start in range(0, n_frames, _FRAMES_AT_ONCE):
            n = min(_FRAMES_AT_ONCE, n_frames - start)
            part = kept[start * HOP_SAMPLES : (start + n - 1) * HOP_SAMPLES + WINDOW_SAMPLES]
            windows = np.lib.stride_tricks.sliding_window_view(part, WINDOW_SAMPLES)[::HOP_SAMPLES]
            yield _salience(np.abs(np.fft.rfft(windows * window, FFT_SAMPLES)).astype(np.float32))
        if n_frames > 0:
            kept = kept[n_frames * HOP_SAMPLES :]


def _with_tail(blocks: Iterable[FloatArray], tail: FloatArray) -> Iterable[FloatArray]:
    yield from blocks
    yield tail


def _salience(magnitudes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Converts spectra [t, bins] to salience [t, C] and the sum of all peaks [t].

    Only peaks count, their square root, so that loud harmonics do not mask the others.
    """
    peaks = np.zeros_like(magnitudes)
    inner = magnitudes[:, 1:-1]
    peaks[:, 1:-1] = np.where((inner >= magnitudes[:, :-2]) & (inner > magnitudes[:, 2:]), inner, 0.0)
    peaks = np.sqrt(peaks)
    # The harmonics of a candidate lie between bins: the largest of three neighbours counts.
    wide = np.maximum(peaks, np.maximum(np.roll(peaks, 1, axis=1), np.roll(peaks, -1, axis=1)))
    candidates_hz = LOWEST_HZ * 2.0 ** (np.arange(N_CANDIDATES) / PER_OCTAVE)
    out = np.zeros((len(magnitudes), N_CANDIDATES), np.float32)
    for k in range(1, N_HARMONICS + 1):
        bins = np.rint(candidates_hz * k * FFT_SAMPLES / ANALYSIS_RATE_HZ).astype(int)
        inside = bins < wide.shape[1]
        out[:, inside] += np.float32(HARMONIC_WEIGHT ** (k - 1)) * wide[:, bins[inside]]
    return out, peaks.sum(axis=1)


class _ViterbiPath:
    """The path of candidates with the most salience less the cost of its moves, decided as soon as it is certain.

    Args:
      usual: salience that a cost of 1 corresponds to.
    """

    def __init__(self, usual: np.floating[Any]) -> None:
        steps = np.abs(np.arange(N_CANDIDATES)[:, None] - np.arange(N_CANDIDATES)) / (PER_OCTAVE / 12.0)
        self._cost = (np.minimum(MOVE_COST * steps, LEAP_COST) * usual).astype(np.float32)
        self._best: FloatArray | None = None
        self._undecided = UndecidedPath()  # its rows are saliences
        self._decided: list[tuple[IntArray, FloatArray]] = []

    @property
    def n_undecided(self) -> int:
        """Number of frames that are kept."""
        return len(self._undecided)

    def push(self, salience: FloatArray) -> None:
        """Takes the salience of the next frames, [t, C]."""
        candidates = np.arange(N_CANDIDATES)
        for row in salience:
            before: IntArray | None = None
            if self._best is None:
                self._best = row
            else:
                total = self._best - self._cost
                before = np.argmax(total, axis=1)
                best = total[candidates, before] + row
                self._best = best - best.max()
            self._undecided.append(row, before)
        self._keep(self._undecided.take_decided())

    def finish(self) -> tuple[IntArray, FloatArray]:
        """Returns the candidate of each frame and its salience, [T] each."""
        if self._best is not None and len(self._undecided):
            self._keep(self._undecided.take(len(self._undecided) - 1, int(np.argmax(self._best))))
        candidates, saliences = zip(*self._decided, strict=True)
        return np.concatenate(candidates), np.concatenate(saliences)

    def _keep(self, decided: tuple[IntArray, FloatArray] | None) -> None:
        if decided is not None:
            path, saliences = decided
            self._decided.append((path, saliences[np.arange(len(path)), path]))
