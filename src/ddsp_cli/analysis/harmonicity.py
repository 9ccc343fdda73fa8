"""Measure how well the harmonics of a tracked F0 account for the energy of a sound.

In frames of 64 or 128 ms, 20 ms apart, the energy near the multiples of F0 is compared with all energy from 70 Hz to
5 kHz. A second voice, a chord or music in the background leaves energy beside the multiples. F0 tracked an octave too
high leaves it halfway between them; F0 tracked an octave too low finds none at the odd multiples.

Shapes: S samples, F frames of the features, L frames of this analysis.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ddsp_cli.arrays import AnyArray, BoolArray, DoubleArray, FloatArray, RealArray, hann_window
from ddsp_cli.config import ANALYSIS_RATE_HZ

HOP_SAMPLES = 320

FRAME_RATE_HZ = ANALYSIS_RATE_HZ // HOP_SAMPLES

#: 64 ms resolve the harmonics of most notes; below `LOW_HZ` they lie closer together and need twice that.
WINDOW_SAMPLES, LOW_WINDOW_SAMPLES = 1024, 2048

LOW_HZ = 200.0

BAND_HZ = (70.0, 5000.0)

#: Energy this near to a multiple is harmonic: within the main lobe of the Hann window, plus the share of the frequency
#: by which vibrato widens it.
LOBE_BINS, VIBRATO_SHARE = 2.05, 0.012

#: The inharmonic ratio is averaged over this long, weighted by energy: an onset or the decay of the note before is not
#: a second voice.
AVERAGED_S = 0.5

#: Above this average inharmonic ratio there is more than one voice; tuned on aligned violin recordings (docs/data.md).
POLYPHONIC_RATIO = 0.16

#: Frames computed at once; bounds memory to a few MiB.
_AT_ONCE = 512


@dataclass(frozen=True)
class Harmonicity:
    """Shares of the energy of each frame, float32 [L]; all 0 in unvoiced frames.

    Attributes:
      energy: of the band, in arbitrary units.
      inharmonic_ratio: share of it beside the multiples of F0.
      odd_harmonic_ratio: share of it at the odd multiples.
      half_harmonic_ratio: share of it halfway between the multiples.
      fundamental_ratio: share of it at F0 itself.
    """

    energy: FloatArray
    inharmonic_ratio: FloatArray
    odd_harmonic_ratio: FloatArray
    half_harmonic_ratio: FloatArray
    fundamental_ratio: FloatArray

    def average_inharmonic_ratio(self) -> DoubleArray:
        """Averages the inharmonic ratio over `AVERAGED_S` around each frame, weighted by energy, [L]."""
        size = round(AVERAGED_S * FRAME_RATE_HZ)
        inharmonic = _moving_sum(self.energy * self.inharmonic_ratio, size)
        return inharmonic / np.maximum(_moving_sum(self.energy, size), 1e-9)

    def polyphonic(self, n_frames: int, frame_rate_hz: int) -> BoolArray:
        """Marks where more than one voice sounds, [F] on the grid of the features."""
        return to_feature_frames(self.average_inharmonic_ratio() > POLYPHONIC_RATIO, n_frames, frame_rate_hz)


def to_feature_frames(values: AnyArray, n_frames: int, frame_rate_hz: int) -> AnyArray:
    """Brings values of this analysis to the grid of the features, each frame taking the nearest: [L] → [F]."""
    if not len(values):
        return np.zeros(n_frames, values.dtype)
    nearest = np.round(np.arange(n_frames) * (FRAME_RATE_HZ / frame_rate_hz)).astype(np.int64)
    return values[np.minimum(nearest, len(values) - 1)]


def from_feature_frames(f0_hz: FloatArray, n_frames: int, frame_rate_hz: int) -> FloatArray:
    """Brings F0 on the grid of the features to that of this analysis: [F] → [L], 0 where there is none."""
    if not len(f0_hz):
        return np.zeros(n_frames, np.float32)
    nearest = np.round(np.arange(n_frames) * (frame_rate_hz / FRAME_RATE_HZ)).astype(np.int64)
    return f0_hz[np.minimum(nearest, len(f0_hz) - 1)]


def measure_harmonicity(
    read: Callable[[int, int], FloatArray], n_samples: int, f0_hz: FloatArray, frame_rate_hz: int
) -> Harmonicity:
    """Measures a recording that need not be in memory.

    Args:
      read: (start, end) → the samples [start, end) at 16 kHz, both inside the recording.
      n_samples: S.
      f0_hz: [F], 0 in unvoiced frames.
      frame_rate_hz: of f0_hz.

    Returns:
      L = ceil(S / 320) frames.
    """
    n_frames = -(-n_samples // HOP_SAMPLES)
    pitch_hz = from_feature_frames(f0_hz, n_frames, frame_rate_hz)
    rows = np.zeros((5, n_frames), np.float32)
    for start in range(0, n_frames, _AT_ONCE):
        end = min(start + _AT_ONCE, n_frames)
        block_hz = pitch_hz[start:end]
        if not (block_hz > 0).any():
            continue
        audio = _around(read, start * HOP_SAMPLES, (end - 1) * HOP_SAMPLES + 1, n_samples)
        windows = np.lib.stride_tricks.sliding_window_view(audio, LOW_WINDOW_SAMPLES)[::HOP_SAMPLES]
        for size, chosen in (
            (WINDOW_SAMPLES, np.flatnonzero(block_hz >= LOW_HZ)),
            (LOW_WINDOW_SAMPLES, np.flatnonzero((block_hz > 0) & (block_hz < LOW_HZ))),
        ):
            if len(chosen):
                edge = (LOW_WINDOW_SAMPLES - size) // 2
                rows[:, start + chosen] = _shares(
                    windows[chosen, edge : edge + size], block_hz[chosen].astype(np.float32)
                )
    return Harmonicity(*rows)


def measure_own_share(audio: FloatArray, f0_hz: FloatArray, frame_rate_hz: int, others_hz: Sequence[float]) -> float:
    """Measures the share of the energy that lies at harmonics of an F0 and at none of other pitches.

    Where one note follows another and both ring, a lower pitch of which they are harmonics explains all of the sound,
    but nothing lies at its other harmonics.

    Args:
      audio: [S] at 16 kHz.
      f0_hz: [F], 0 where it is not measured.
      frame_rate_hz: of f0_hz.
      others_hz: pitches of the notes beside it.

    Returns:
      The share, 0..1, of the energy of all frames together.
    """
    n_frames = -(-len(audio) // HOP_SAMPLES)
    pitch_hz = from_feature_frames(f0_hz, n_frames, frame_rate_hz)
    own_energy, energy = 0.0, 0.0
    for frame in np.flatnonzero(pitch_hz > 0):
        size = WINDOW_SAMPLES if pitch_hz[frame] >= LOW_HZ else LOW_WINDOW_SAMPLES
        window, band, bins_hz = _analysis(size)
        place = int(frame) * HOP_SAMPLES
        part = _around(lambda first, end: audio[first:end], place, place + 1, len(audio))
        edge = (len(part) - size) // 2
        power = np.abs(np.fft.rfft(part[edge : edge + size] * window)[band]) ** 2
        own = _near_multiples(bins_hz, pitch_hz[frame], size)
        for other_hz in others_hz:
            own &= ~_near_multiples(bins_hz, other_hz, size)
        own_energy, energy = own_energy + float(power[own].sum()), energy + float(power.sum())
    return own_energy / energy if energy > 0.0 else 0.0


def _near_multiples(bins_hz: FloatArray, pitch_hz: RealArray | float, size: int) -> BoolArray:
    """Bins within the main lobe of a multiple of a pitch (of several: [n, 1] → [n, bins])."""
    multiple = np.maximum(np.round(bins_hz / pitch_hz), 1.0)
    width_hz = LOBE_BINS * ANALYSIS_RATE_HZ / size + VIBRATO_SHARE * bins_hz
    return np.asarray(np.abs(bins_hz - multiple * pitch_hz) <= np.minimum(width_hz, 0.4 * pitch_hz))


def _around(read: Callable[[int, int], FloatArray], first: int, last: int, n_samples: int) -> FloatArray:
    """Samples for windows centred on `first` to `last - 1`; outside the recording they are 0."""
    half = LOW_WINDOW_SAMPLES // 2
    low, high = first - half, last - 1 + half
    inside = read(max(low, 0), min(high, n_samples))
    return np.pad(inside, (max(-low, 0), max(high - n_samples, 0)))


def _shares(windows: FloatArray, pitch_hz: FloatArray) -> FloatArray:
    """The five attributes of `Harmonicity`, [5, n], of windows [n, size] with F0 [n]."""
    size = windows.shape[1]
    window, band, bins_hz = _analysis(size)
    spectra = np.fft.rfft(windows * window, axis=1)[:, band].astype(np.complex64)
    power = spectra.real**2 + spectra.imag**2
    pitch = pitch_hz[:, None]
    multiple = np.maximum(np.round(bins_hz / pitch), 1.0)
    width_hz = LOBE_BINS * ANALYSIS_RATE_HZ / size + VIBRATO_SHARE * bins_hz
    near = _near_multiples(bins_hz, pitch, size)
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
def _analysis(size: int) -> tuple[FloatArray, slice, FloatArray]:
    """Periodic Hann window, the bins of the band, their frequencies."""
    frequencies_hz = np.fft.rfftfreq(size, 1.0 / ANALYSIS_RATE_HZ).astype(np.float32)
    first, last = np.searchsorted(frequencies_hz, BAND_HZ)
    return hann_window(size), slice(int(first), int(last)), frequencies_hz[first:last]


def _moving_sum(values: FloatArray, size: int) -> DoubleArray:
    """Sums `size` values centred on each, [L]; values outside count as 0."""
    before = size // 2
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    index = np.arange(len(values))
    low, high = np.maximum(index - before, 0), np.minimum(index - before + size, len(values))
    return total[high] - total[low]
