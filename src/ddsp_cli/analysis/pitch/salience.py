"""The strongest voice in a mixture, for chords and noisy recordings in which a tracker of single pitches finds none.

Salience of a pitch: the sum of the spectrum's peaks at its multiples, higher ones counting less (after Klapuri 2006);
the line is the path of most salience that does not leap about. Shapes: S samples, T looks, C candidates.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ddsp_cli.analysis.pitch.tracker import PitchTrack
from ddsp_cli.config import ANALYSIS_RATE_HZ

#: A look every 16 ms over 128 ms.
HOP_SAMPLES, WINDOW_SAMPLES = 256, 2048

FFT_SAMPLES = 4096

#: Candidates: A2 to A5, four to a semitone.
LOWEST_HZ, N_CANDIDATES, PER_OCTAVE = 110.0, 145, 48

N_PARTIALS = 8

PARTIAL_WEIGHT = 0.8

#: What a semitone of movement from one look to the next costs, as a share of the usual salience, and the largest cost.
MOVE_COST, LEAP_COST = 0.1, 0.6

#: A pitch stands out when its salience is so many times the mean over all candidates. White noise
#: reaches 2.4, rumble 3.4, chords 6 to 12, one voice 17.
SURE_CONTRAST = 4.0

#: And when it has so large a share in the peaks of the spectrum. Hiss above 3 kHz favours high candidates, but each has
#: 1 % of it at most; chords have 15 % and more, under noise half as loud 4 %.
SURE_SHARE = 0.02

_LOOKS_AT_ONCE = 256


def track_strongest(blocks: Iterable[np.ndarray]) -> PitchTrack:
    """The line of the strongest voice.

    Args:
      blocks: [S] float32 at 16 kHz, in order.
    """
    looks = list(_saliences(blocks))
    salience = np.concatenate([np.zeros((0, N_CANDIDATES), np.float32), *(part for part, _ in looks)])
    everything = np.concatenate([np.zeros(0, np.float32), *(part for _, part in looks)])
    if not len(salience):
        return PitchTrack(np.zeros(0, np.float32), np.zeros(0, np.float32), HOP_SAMPLES)
    path = _smoothest(salience)
    found = salience[np.arange(len(path)), path]
    contrast = found / np.maximum(salience.mean(axis=1), 1e-9)
    standing_out = np.minimum(contrast / SURE_CONTRAST, found / np.maximum(everything, 1e-9) / SURE_SHARE)
    f0_hz = LOWEST_HZ * 2.0 ** (path / PER_OCTAVE)
    # A confidence as trackers give it: 0.5 where the pitch begins to stand out, sure from a little more on.
    confidence = np.clip(0.5 + 0.5 * (standing_out - 1.0) / 0.25, 0.0, 1.0)
    return PitchTrack(f0_hz.astype(np.float32), confidence.astype(np.float32), HOP_SAMPLES)


def _saliences(blocks: Iterable[np.ndarray]) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """[t, C] and the sum of all peaks [t], for as many looks as each stretch of sound completes."""
    window = np.hanning(WINDOW_SAMPLES).astype(np.float32)
    kept = np.zeros(WINDOW_SAMPLES // 2, np.float32)
    tail = np.zeros(WINDOW_SAMPLES // 2, np.float32)
    for block in _with_tail(blocks, tail):
        kept = np.concatenate([kept, block])
        n_looks = (len(kept) - WINDOW_SAMPLES) // HOP_SAMPLES + 1
        for start in range(0, n_looks, _LOOKS_AT_ONCE):
            n = min(_LOOKS_AT_ONCE, n_looks - start)
            part = kept[start * HOP_SAMPLES : (start + n - 1) * HOP_SAMPLES + WINDOW_SAMPLES]
            looks = np.lib.stride_tricks.sliding_window_view(part, WINDOW_SAMPLES)[::HOP_SAMPLES]
            yield _salience(np.abs(np.fft.rfft(looks * window, FFT_SAMPLES)).astype(np.float32))
        if n_looks > 0:
            kept = kept[n_looks * HOP_SAMPLES :]


def _with_tail(blocks: Iterable[np.ndarray], tail: np.ndarray) -> Iterable[np.ndarray]:
    yield from blocks
    yield tail


def _salience(magnitudes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spectra [t, bins] → [t, C], and the sum of all peaks [t].

    Only peaks count, compressed so that loud partials do not drown the others.
    """
    peaks = np.zeros_like(magnitudes)
    inner = magnitudes[:, 1:-1]
    peaks[:, 1:-1] = np.where((inner >= magnitudes[:, :-2]) & (inner > magnitudes[:, 2:]), inner, 0.0)
    peaks = np.sqrt(peaks)
    # A candidate's multiples lie a little beside bins: the larger of the neighbours counts.
    wide = np.maximum(peaks, np.maximum(np.roll(peaks, 1, axis=1), np.roll(peaks, -1, axis=1)))
    candidates_hz = LOWEST_HZ * 2.0 ** (np.arange(N_CANDIDATES) / PER_OCTAVE)
    out = np.zeros((len(magnitudes), N_CANDIDATES), np.float32)
    for k in range(1, N_PARTIALS + 1):
        bins = np.rint(candidates_hz * k * FFT_SAMPLES / ANALYSIS_RATE_HZ).astype(int)
        inside = bins < wide.shape[1]
        out[:, inside] += np.float32(PARTIAL_WEIGHT ** (k - 1)) * wide[:, bins[inside]]
    return out, peaks.sum(axis=1)


def _smoothest(salience: np.ndarray) -> np.ndarray:
    """The path [T] of candidates with the most salience, less what its movements cost (Viterbi)."""
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
