"""Measure the harmonics of a tracked F0: how well they account for a sound, and the level of each.

`measure_harmonicity` compares the energy near the multiples of F0 with all energy from 70 Hz to 5 kHz, in frames of 64
or 128 ms, 20 ms apart. A second voice, a chord or music in the background leaves energy beside the multiples. F0
tracked an octave too high leaves energy halfway between them; F0 tracked an octave too low finds none at the odd
multiples.

`measure_partials` measures the power of each harmonic, and the density of the noise between harmonics. The sound is
resampled so that every period has the same number of samples. In a Hann window of four periods harmonic k then falls
exactly on bin 4k of the DFT, however fast F0 moves, and every fourth bin in between (4k - 2) lies on the zeros of the
two nearest harmonics and holds noise only.

Shapes: S samples, F frames of the features, L frames of the harmonicity, K harmonics.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from ddsp_cli.arrays import AnyArray, BoolArray, DoubleArray, FloatArray, RealArray, hann_window
from ddsp_cli.config import ANALYSIS_RATE_HZ

# --- how well the harmonics account for the sound --------------------------------------------------------------------


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


class Harmonicity(msgspec.Struct, frozen=True):
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
    """Brings F0 on the grid of the features to that of this analysis: [F] → [L], 0 in unvoiced frames."""
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
    """Measures the share of the energy that is at harmonics of an F0 and not at those of other pitches.

    Where one note follows another and both ring, a lower pitch of which they are harmonics explains all of the sound,
    but there is no energy at its other harmonics.

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
        window, band, bins_hz = _spectrum_layout(size)
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
    """Marks bins within the main lobe of a multiple of a pitch (of several: [n, 1] → [n, bins])."""
    distance_hz = np.abs(bins_hz - _nearest_multiple(bins_hz, pitch_hz) * pitch_hz)
    return np.asarray(distance_hz <= np.minimum(_lobe_hz(bins_hz, size), 0.4 * pitch_hz))


def _nearest_multiple(bins_hz: FloatArray, pitch_hz: RealArray | float) -> RealArray:
    """Returns the number of the harmonic that is nearest to each bin, at least 1."""
    return np.maximum(np.round(bins_hz / pitch_hz), 1.0)


def _lobe_hz(bins_hz: FloatArray, size: int) -> FloatArray:
    """Returns half the width of the main lobe of a harmonic at each bin, widened by vibrato."""
    return LOBE_BINS * ANALYSIS_RATE_HZ / size + VIBRATO_SHARE * bins_hz


def _around(read: Callable[[int, int], FloatArray], first: int, last: int, n_samples: int) -> FloatArray:
    """Returns samples for windows centred on `first` to `last - 1`; outside the recording they are 0."""
    half = LOW_WINDOW_SAMPLES // 2
    low, high = first - half, last - 1 + half
    inside = read(max(low, 0), min(high, n_samples))
    return np.pad(inside, (max(-low, 0), max(high - n_samples, 0)))


def _shares(windows: FloatArray, pitch_hz: FloatArray) -> FloatArray:
    """Returns the five attributes of `Harmonicity`, [5, n], of windows [n, size] with F0 [n]."""
    size = windows.shape[1]
    window, band, bins_hz = _spectrum_layout(size)
    spectra = np.fft.rfft(windows * window, axis=1)[:, band].astype(np.complex64)
    power = spectra.real**2 + spectra.imag**2
    pitch = pitch_hz[:, None]
    multiple = _nearest_multiple(bins_hz, pitch)
    near = _near_multiples(bins_hz, pitch, size)
    odd = near & (multiple % 2 == 1)
    offset = np.abs(bins_hz - (np.floor(bins_hz / pitch) + 0.5) * pitch)
    halfway = offset <= np.minimum(_lobe_hz(bins_hz, size), 0.2 * pitch)
    energy = power.sum(axis=1)
    total = np.maximum(energy, 1e-12)
    parts = [
        np.where(mask, power, 0.0).sum(axis=1) / total for mask in (~near, odd, halfway & ~near, near & (multiple == 1))
    ]
    return np.stack([energy, *parts])


@functools.cache
def _spectrum_layout(size: int) -> tuple[FloatArray, slice, FloatArray]:
    """Returns a periodic Hann window, the bins of the band, and their frequencies."""
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


# --- the level of each harmonic --------------------------------------------------------------------------------------


#: Periods in a window, and the distance of harmonics in bins.
N_PERIODS = 4

#: The sound is oversampled by this factor before it is read between its samples by cubic interpolation.
OVERSAMPLING = 2

#: Frames analysed at once, which bounds the memory.
_FRAMES_AT_ONCE = 256


class Partials(msgspec.Struct, frozen=True):
    """Levels of a recording at its harmonics and between them.

    Attributes:
      harmonic_power: [F, K] squared amplitude of harmonic k = 1 … K, the noise in its bin included.
      noise_density: [F, K] noise power per Hz (one-sided) at (k - 1/2) · F0. One bin of noise: single values scatter
        as a chi-squared variable of two degrees of freedom, with a median 1.6 dB below their mean.
      harmonic_drift: [F, K] phase of harmonic k less k times that of F0, in turns within ±1/2. Its change from frame to
        frame is how far the frequency of the harmonic is from k · F0.
    """

    harmonic_power: FloatArray
    noise_density: FloatArray
    harmonic_drift: FloatArray

    def noise_in_harmonics(self, f0_hz: FloatArray) -> FloatArray:
        """Returns the expected noise power in the bin of each harmonic, [F, K], from the noise on both sides of it."""
        above = np.concatenate([self.noise_density[:, 1:], self.noise_density[:, -1:]], axis=1)
        return 0.5 * (self.noise_density + above) * _bin_width_hz(f0_hz)[:, None]


def measure_partials(
    audio: FloatArray, sample_rate_hz: int, f0_hz: FloatArray, f0_rate_hz: float, n_harmonics: int, step: int = 1
) -> Partials:
    """Measures harmonics and noise of a recording.

    Args:
      audio: [S].
      sample_rate_hz: of the audio.
      f0_hz: [F·step], positive everywhere; value i is that of second i / `f0_rate_hz`. Between values the logarithm of
        F0 is interpolated linearly. An error of F0 counts K times at harmonic K, so F0 may be finer than the result.
      f0_rate_hz: values of F0 a second.
      n_harmonics: K. Harmonics above half the sample rate read near 0.
      step: measure at every step-th value of F0.
    """
    import soxr

    rate_hz = OVERSAMPLING * sample_rate_hz
    samples_per_period = _power_of_two(max(2 * (n_harmonics + 1), 2.0 * sample_rate_hz / float(f0_hz.min())))
    n_window = N_PERIODS * samples_per_period
    margin = int(np.ceil(0.5 * N_PERIODS * rate_hz / float(f0_hz.min()))) + 4
    fine = np.pad(soxr.resample(audio, sample_rate_hz, rate_hz).astype(np.float32), margin)
    times_s = (np.arange(len(fine)) - margin) / rate_hz
    f0_times_s = np.arange(len(f0_hz)) / f0_rate_hz
    phase = np.cumsum(np.exp(np.interp(times_s, f0_times_s, np.log(f0_hz)))) / rate_hz  # in periods
    f0_hz = np.asarray(f0_hz[::step], np.float32)
    frame_phase = np.interp(f0_times_s[::step], times_s, phase)
    window = hann_window(n_window) * np.float32(2.0 / (0.5 * n_window))  # a sinusoid of amplitude 1 reads 1
    periods = (np.arange(n_window) - n_window / 2) / samples_per_period
    harmonics = np.zeros((len(f0_hz), n_harmonics), np.float32)
    between, drift = np.zeros_like(harmonics), np.zeros_like(harmonics)
    k = np.arange(1, n_harmonics + 1)
    for start in range(0, len(f0_hz), _FRAMES_AT_ONCE):
        part = slice(start, start + _FRAMES_AT_ONCE)
        positions = np.interp(frame_phase[part, None] + periods, phase, np.arange(len(fine)))
        spectrum = np.fft.rfft(_between_samples(fine, positions) * window, axis=1)
        at_harmonics = spectrum[:, N_PERIODS : N_PERIODS * n_harmonics + 1 : N_PERIODS]
        harmonics[part] = np.abs(at_harmonics) ** 2
        # the window reaches two periods back from the frame: whole turns, so this is the phase at the frame
        turns = np.angle(at_harmonics) / (2.0 * np.pi) - k * (frame_phase[part, None] % 1.0)
        drift[part] = turns - np.rint(turns)
        between[part] = np.abs(spectrum[:, N_PERIODS // 2 : N_PERIODS * n_harmonics : N_PERIODS]) ** 2
    return Partials(harmonics, between / _bin_width_hz(f0_hz)[:, None], drift)


def _bin_width_hz(f0_hz: FloatArray) -> FloatArray:
    """Returns the power of noise of density 1 in a bin: 2 · Σ window² / (Σ window)² · the rate of the resampled sound.

    With the Hann window of four periods, scaled to read amplitudes: 0.75 · F0.
    """
    return np.asarray(3.0 / N_PERIODS * f0_hz, np.float32)


def _between_samples(audio: FloatArray, positions: np.ndarray) -> FloatArray:
    """Reads a signal between its samples by cubic Hermite (Catmull-Rom) interpolation."""
    positions = np.clip(positions, 1, len(audio) - 3)
    index = positions.astype(np.int64)
    x = (positions - index).astype(np.float32)
    before, left, right, after = (audio[index + shift] for shift in (-1, 0, 1, 2))
    slope = 0.5 * (right - before)
    square = before - 2.5 * left + 2.0 * right - 0.5 * after
    cube = 0.5 * (after - before) + 1.5 * (left - right)
    return ((cube * x + square) * x + slope) * x + left


def _power_of_two(at_least: float) -> int:
    return int(2 ** np.ceil(np.log2(at_least)))
