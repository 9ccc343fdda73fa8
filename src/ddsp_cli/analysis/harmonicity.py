"""How well one pitch explains a sound: is it one voice, and is the pitch in the right octave?

Each look (every 20 ms, over 64 or 128 ms) compares the energy near the multiples of the tracked pitch with all energy
between 70 Hz and 5 kHz. A second voice, a chord or music in the background leaves energy beside the multiples. Pitch
read an octave too high leaves it halfway between them; pitch read an octave too low finds nothing at the odd ones.
Shapes: S samples, F frames, L looks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ddsp_cli.config import ANALYSIS_RATE_HZ

#: A look every 20 ms.
LOOK_SAMPLES = 320

LOOKS_PER_S = ANALYSIS_RATE_HZ // LOOK_SAMPLES

#: 64 ms part the partials of most notes; below `LOW_HZ` they lie closer together and need twice that.
WINDOW_SAMPLES, LOW_WINDOW_SAMPLES = 1024, 2048

LOW_HZ = 200.0

BAND_HZ = (70.0, 5000.0)

#: What counts as near a multiple: the main lobe of the Hann window, and what vibrato smears.
LOBE_BINS = 2.05

SMEAR = 0.012

#: Strays are weighed by energy over this long: an onset or the ring of the last note is no second voice.
WEIGHED_S = 0.5

#: From this share of stray energy on it is more than one voice; tuned on aligned violin recordings (docs/data.md).
POLYPHONY_SHARE = 0.16

#: Looks computed at once; bounds memory to a few MiB.
_AT_ONCE = 512


@dataclass(frozen=True)
class Voices:
    """What each look found, float32 [L]; all 0 where there is no pitch.

    Attributes:
      energy: of the band, in arbitrary units.
      stray: share of it beside the multiples of the pitch.
      odd: share of it at the odd multiples.
      halfway: share of it halfway between the multiples.
      first: share of it at the pitch itself.
    """

    energy: np.ndarray
    stray: np.ndarray
    odd: np.ndarray
    halfway: np.ndarray
    first: np.ndarray

    def strays(self) -> np.ndarray:
        """Share of stray energy over `WEIGHED_S` around each look, [L]."""
        size = round(WEIGHED_S * LOOKS_PER_S)
        return _moving_sum(self.energy * self.stray, size) / np.maximum(_moving_sum(self.energy, size), 1e-9)

    def polyphonic(self, n_frames: int, frame_rate_hz: int) -> np.ndarray:
        """Where more than one voice sounds, [F] bool on the grid of the features."""
        return on_frames(self.strays() > POLYPHONY_SHARE, n_frames, frame_rate_hz)


def on_frames(looks: np.ndarray, n_frames: int, frame_rate_hz: int) -> np.ndarray:
    """Each frame takes the value of the look nearest to it: [L] to [F]."""
    if not len(looks):
        return np.zeros(n_frames, looks.dtype)
    nearest = np.round(np.arange(n_frames) * (LOOKS_PER_S / frame_rate_hz)).astype(np.int64)
    return looks[np.minimum(nearest, len(looks) - 1)]


def explain(read: Callable[[int, int], np.ndarray], n_samples: int, f0_hz: np.ndarray, frame_rate_hz: int) -> Voices:
    """Looks at a recording that need not be in memory.

    Args:
      read: (start, end) → the samples [start, end) at 16 kHz, both inside the recording.
      n_samples: S.
      f0_hz: [F], 0 where there is no pitch.
      frame_rate_hz: of f0.
    """
    n_looks = -(-n_samples // LOOK_SAMPLES)
    frames = np.round(np.arange(n_looks) * (frame_rate_hz / LOOKS_PER_S)).astype(np.int64)
    pitch_hz = f0_hz[np.minimum(frames, max(len(f0_hz) - 1, 0))] if len(f0_hz) else np.zeros(n_looks)
    rows = np.zeros((5, n_looks), np.float32)
    for start in range(0, n_looks, _AT_ONCE):
        end = min(start + _AT_ONCE, n_looks)
        block_hz = pitch_hz[start:end]
        if not (block_hz > 0).any():
            continue
        audio = _around(read, start * LOOK_SAMPLES, (end - 1) * LOOK_SAMPLES + 1, n_samples)
        windows = np.lib.stride_tricks.sliding_window_view(audio, LOW_WINDOW_SAMPLES)[::LOOK_SAMPLES]
        for size, chosen in (
            (WINDOW_SAMPLES, np.flatnonzero(block_hz >= LOW_HZ)),
            (LOW_WINDOW_SAMPLES, np.flatnonzero((block_hz > 0) & (block_hz < LOW_HZ))),
        ):
            if len(chosen):
                edge = (LOW_WINDOW_SAMPLES - size) // 2
                look = windows[chosen, edge : edge + size]
                rows[:, start + chosen] = _shares(look, block_hz[chosen].astype(np.float32))
    return Voices(*rows)


def _around(read: Callable[[int, int], np.ndarray], first: int, last: int, n_samples: int) -> np.ndarray:
    """Samples for windows centred on `first` to `last - 1`; silence lies outside the recording."""
    half = LOW_WINDOW_SAMPLES // 2
    low, high = first - half, last - 1 + half
    inside = read(max(low, 0), min(high, n_samples))
    return np.pad(inside, (max(-low, 0), max(high - n_samples, 0)))


def _shares(windows: np.ndarray, pitch_hz: np.ndarray) -> np.ndarray:
    """Energy, stray, odd, halfway and first [5, n] of windows [n, size] with pitch [n]."""
    size = windows.shape[1]
    window, band, bins_hz = _analysis(size)
    spectra = np.fft.rfft(windows * window, axis=1)[:, band].astype(np.complex64)
    power = spectra.real**2 + spectra.imag**2
    pitch = pitch_hz[:, None]
    multiple = np.maximum(np.round(bins_hz / pitch), 1.0)
    width_hz = LOBE_BINS * ANALYSIS_RATE_HZ / size + SMEAR * bins_hz
    near = np.abs(bins_hz - multiple * pitch) <= np.minimum(width_hz, 0.4 * pitch)
    odd = near & (multiple % 2 == 1)
    offset = np.abs(bins_hz - (np.floor(bins_hz / pitch) + 0.5) * pitch)
    halfway = offset <= np.minimum(width_hz, 0.2 * pitch)
    energy = power.sum(axis=1)
    total = np.maximum(energy, 1e-12)
    parts = [
        np.where(mask, power, 0.0).sum(axis=1) / total for mask in (~near, odd, halfway & ~near, near & (multiple == 1))
    ]
    return np.stack([energy, *parts])


@functools.cache
def _analysis(size: int) -> tuple[np.ndarray, slice, np.ndarray]:
    """Periodic Hann window, the bins of the band, their frequencies."""
    window = (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)).astype(np.float32)
    frequencies_hz = np.fft.rfftfreq(size, 1.0 / ANALYSIS_RATE_HZ).astype(np.float32)
    first, last = np.searchsorted(frequencies_hz, BAND_HZ)
    return window, slice(int(first), int(last)), frequencies_hz[first:last]


def _moving_sum(values: np.ndarray, size: int) -> np.ndarray:
    """Sum over `size` values centred on each, [L]; nothing counts outside."""
    before = size // 2
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    index = np.arange(len(values))
    low, high = np.maximum(index - before, 0), np.minimum(index - before + size, len(values))
    return total[high] - total[low]
