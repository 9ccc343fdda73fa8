"""Track the most salient F0 of a mixture: chords, and noisy recordings in which a tracker of single pitches finds none.

The salience of a candidate F0 is the weighted sum of the spectral peaks at its harmonics (after Klapuri, "Multiple
fundamental frequency estimation by summing harmonic amplitudes", ISMIR 2006); the track is the Viterbi path of most
salience less a cost of moving. Shapes: S samples, T frames, C candidates.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ddsp_cli.analysis.pitch.tracker import PitchTrack
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


def track_strongest(blocks: Iterable[FloatArray]) -> PitchTrack:
    """Tracks the strongest voice.

    Args:
      blocks: [S] float32 at 16 kHz, in order.
    """
    frames = list(_saliences(blocks))
    salience = np.concatenate([np.zeros((0, N_CANDIDATES), np.float32), *(part for part, _ in frames)])
    peak_sum = np.concatenate([np.zeros(0, np.float32), *(part for _, part in frames)])
    if not len(salience):
        return PitchTrack(np.zeros(0, np.float32), np.zeros(0, np.float32), HOP_SAMPLES)
    path = _viterbi(salience)
    found = salience[np.arange(len(path)), path]
    contrast = found / np.maximum(salience.mean(axis=1), 1e-9)
    standing_out = np.minimum(contrast / SURE_CONTRAST, found / np.maximum(peak_sum, 1e-9) / SURE_SHARE)
    f0_hz = LOWEST_HZ * 2.0 ** (path / PER_OCTAVE)
    # A confidence as trackers give it: 0.5 where the pitch begins to stand out, sure from a little more on.
    confidence = np.clip(0.5 + 0.5 * (standing_out - 1.0) / 0.25, 0.0, 1.0)
    return PitchTrack(f0_hz.astype(np.float32), confidence.astype(np.float32), HOP_SAMPLES)


def _saliences(blocks: Iterable[FloatArray]) -> Iterable[tuple[FloatArray, FloatArray]]:
    """Salience [t, C] and the sum of all peaks [t] of the frames that each block completes."""
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
    """Spectra [t, bins] → salience [t, C] and the sum of all peaks [t].

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


def _viterbi(salience: FloatArray) -> IntArray:
    """The path [T] of candidates with the most salience less the cost of its moves (Viterbi)."""
    usual = np.maximum(np.median(salience.max(axis=1)), 1e-9)
    steps = np.abs(np.arange(N_CANDIDATES)[:, None] - np.arange(N_CANDIDATES)) / (PER_OCTAVE / 12.0)
    cost = (np.minimum(MOVE_COST * steps, LEAP_COST) * usual).astype(np.float32)
    best = salience[0]
    back = np.zeros(salience.shape, np.int16)
    for t in range(1, len(salience)):
        total = best - cost
        back[t] = np.argmax(total, axis=1)
        best = total[np.arange(N_CANDIDATES), back[t]] + salience[t]
        best = best - best.max()
    path = np.zeros(len(salience), np.int64)
    path[-1] = int(np.argmax(best))
    for t in range(len(salience) - 1, 0, -1):
        path[t - 1] = back[t, path[t]]
    return path
