"""Measure the power of each harmonic and the density of the noise between harmonics, pitch-synchronously. NumPy only.

The sound is resampled so that every period has the same number of samples. In a Hann window of four periods harmonic k
then falls exactly on bin 4k of the DFT, however fast F0 moves, and every fourth bin in between (4k - 2) lies on the
zeros of the two nearest harmonics: what it holds is noise. Shapes: S samples, F frames, K harmonics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddsp_cli.arrays import FloatArray, hann_window

#: Periods in a window, and the distance of harmonics in bins.
N_PERIODS = 4

#: The sound is oversampled by this factor before it is read between its samples by cubic interpolation.
OVERSAMPLING = 2

#: Frames analysed at once, which bounds the memory.
_FRAMES_AT_ONCE = 256


@dataclass(frozen=True)
class Partials:
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
        """Expected noise power in the bin of each harmonic, [F, K], from the noise on both sides of it."""
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
      n_harmonics: K. What lies above half the sample rate reads near 0.
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
    """Noise of density 1 reads this power in a bin: 2 · Σ window² / (Σ window)² · the rate of the resampled sound.

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
