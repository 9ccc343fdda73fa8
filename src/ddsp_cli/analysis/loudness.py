"""A-weighted loudness and RMS power on the grid of the features, of whole signals or of streams.

Both follow magenta/ddsp 3.7.0 (spectral_ops.py:223-325), centred: the window of frame i reaches window/2 samples to
either side of sample i·hop, and is silent outside the recording. Shapes: S samples, F frames.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ddsp_cli import spool
from ddsp_cli.analysis.features import fill_f0, n_frames
from ddsp_cli.arrays import DoubleArray, FloatArray, RealArray, hann_window, overlapping_windows
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec

#: Pole frequencies of the A-weighting filter in Hz (IEC 61672-1, annex E).
_A_POLES_HZ = (20.598997, 107.65265, 737.86223, 12194.217)

#: Offset that makes the weight 0 dB at 1 kHz (IEC 61672-1, rounded as the standard and librosa round it).
_A_OFFSET_DB = 2.0

#: Floor of the weight: at 0 Hz it is minus infinity.
A_FLOOR_DB = -80.0

#: Offset that magenta/ddsp 1.x subtracts, so that about 0 dB is the loudest (tag v1.6.2, spectral_ops.py:39).
_REFERENCE_2020_DB = 20.7

#: Window of the envelope: half that of the power that drives an instrument, and still two periods of a bass.
ENVELOPE_WINDOW_S = 0.04

#: Shorter windows of the envelope, for sound of a higher pitch.
SHORT_WINDOWS_S = (0.02, 0.01)

#: Periods of F0 that a window must hold: under a Hann window of two, power does not follow single periods.
PERIODS_IN_WINDOW = 2.0

#: Differences up to this between envelopes in a short window and in that of `ENVELOPE_WINDOW_S` are left out: unequal
#: periods of a voice, and noise. Attacks and releases differ by more.
RIPPLE_DB = 2.0

#: Frames computed at once: bounds the memory of the spectra to a few MiB.
_FRAMES_AT_ONCE = 256

#: Frames of finished curves that are combined at once.
_FRAMES_COMBINED = 1 << 15


def a_weighting_db(frequencies_hz: RealArray) -> DoubleArray:
    """Returns A-weighting in dB by the formula of IEC 61672-1, annex E; 0 dB at 1 kHz.

    Args:
      frequencies_hz: any shape.

    Returns:
      Weights in dB of the same shape, float64, at least `A_FLOOR_DB`.
    """
    f1, f2, f3, f4 = (pole * pole for pole in _A_POLES_HZ)
    squared = np.square(np.asarray(frequencies_hz, np.float64))
    gain = f4 * squared**2 / ((squared + f1) * np.sqrt((squared + f2) * (squared + f3)) * (squared + f4))
    with np.errstate(divide="ignore"):
        return np.maximum(20.0 * np.log10(gain) + _A_OFFSET_DB, A_FLOOR_DB)


class FrameStream:
    """Cuts pushed blocks into overlapping windows and measures each; the result does not depend on block sizes.

    Args:
      window_samples: length of a window.
      hop_samples: distance between the centres of two windows.
      measure: windows [n, window] float32 → one number each, [n], or a row of them, [n, C].
      ahead_samples: how far window i reaches beyond sample i·hop. None for half a window, which centres it; a whole
        window lets it begin there, as magenta/ddsp 1.x did.
    """

    def __init__(
        self,
        window_samples: int,
        hop_samples: int,
        measure: Callable[[FloatArray], RealArray],
        ahead_samples: int | None = None,
    ) -> None:
        self.window_samples, self._hop, self._measure = window_samples, hop_samples, measure
        self.ahead_samples = window_samples - window_samples // 2 if ahead_samples is None else ahead_samples
        self._tail = np.zeros(window_samples - self.ahead_samples, np.float32)  # silence before the recording
        self._n_between = 0  # samples still to skip: between the last window and the next, where these are apart
        self._n_samples = 0
        self._n_done = 0

    def push(self, block: FloatArray) -> FloatArray:
        """Takes the next samples [S]; returns the frames [n] that they complete."""
        self._n_samples += len(block)
        self._tail = np.concatenate([self._tail, np.asarray(block, np.float32)])
        self._skip(0)
        return self._drain((len(self._tail) - self.window_samples) // self._hop + 1)

    def finish(self) -> FloatArray:
        """Returns the frames [n] still missing from ceil(S/hop); silence follows the recording."""
        n_left = n_frames(self._n_samples, self._hop) - self._n_done
        needed = max(0, (n_left - 1) * self._hop + self.window_samples)
        self._tail = np.pad(self._tail, (0, max(0, self._n_between + needed - len(self._tail))))
        self._skip(0)
        return self._drain(n_left)

    def _skip(self, n_samples: int) -> None:
        """Drops samples from the tail; those that have not arrived are dropped when they do."""
        n_dropped = min(self._n_between + n_samples, len(self._tail))
        self._n_between += n_samples - n_dropped
        if n_dropped:
            self._tail = self._tail[n_dropped:].copy()

    def _drain(self, n_ready: int) -> FloatArray:
        if n_ready <= 0:
            return np.zeros(0, np.float32)
        windows = overlapping_windows(self._tail, self.window_samples, self._hop)[:n_ready]
        parts = [
            self._measure(windows[start : start + _FRAMES_AT_ONCE]) for start in range(0, n_ready, _FRAMES_AT_ONCE)
        ]
        self._skip(n_ready * self._hop)
        self._n_done += n_ready
        return np.concatenate(parts).astype(np.float32)


def loudness_stream(spec: FeatureSpec, ahead_samples: int | None = None) -> FrameStream:
    """Measures `loudness_db` of the kind that the spec names; see `loudness_db` and `_loudness_2020_stream`.

    Args:
      spec: hop, window, kind and floor.
      ahead_samples: see `FrameStream`; None for the default of the kind.
    """
    if spec.loudness == "a-weighted-2020":
        return _loudness_2020_stream(spec, ahead_samples)
    window_samples = spec.loudness_window_samples
    window = hann_window(window_samples)
    weights = _power_weights(window_samples)

    def measure(windows: FloatArray) -> RealArray:
        spectra = np.fft.rfft(windows * window, axis=-1)
        power = spectra.real.astype(np.float64) ** 2 + spectra.imag.astype(np.float64) ** 2
        return power_to_db(power @ weights, spec.floor_db)

    return FrameStream(window_samples, spec.hop_samples, measure, ahead_samples)


def _loudness_2020_stream(spec: FeatureSpec, ahead_samples: int | None) -> FrameStream:
    """Measures the loudness of magenta/ddsp 1.x (tag v1.6.2, spectral_ops.py), on which its models were trained.

    The mean over all bins of their A-weighted level in dB, floored; quiet bins pull it far below the level of the mean
    power. Windows are not centred: that of frame i begins at sample i·hop.
    """
    window = hann_window(spec.loudness_window_samples)
    offset_db = a_weighting_db(np.fft.rfftfreq(len(window), 1.0 / ANALYSIS_RATE_HZ)) - _REFERENCE_2020_DB

    def measure(windows: FloatArray) -> RealArray:
        magnitudes = np.abs(np.fft.rfft(windows * window, axis=-1)).astype(np.float64)
        bins_db = 20.0 * np.log10(np.maximum(magnitudes, 1e-20)) + offset_db
        return np.asarray(np.maximum(bins_db, spec.floor_db).mean(axis=-1))

    return FrameStream(len(window), spec.hop_samples, measure, len(window) if ahead_samples is None else ahead_samples)


def power_stream(spec: FeatureSpec, ahead_samples: int | None = None) -> FrameStream:
    """Measures `power_db`; see the function of that name, and `FrameStream` for `ahead_samples`."""

    def measure(windows: FloatArray) -> RealArray:
        energy = np.einsum("fs,fs->f", windows, windows, dtype=np.float64)
        return power_to_db(energy / windows.shape[-1], spec.floor_db)

    return FrameStream(spec.power_window_samples, spec.hop_samples, measure, ahead_samples)


def envelope_stream(
    sample_rate_hz: int,
    hop_samples: int,
    floor_db: float,
    window_s: float = ENVELOPE_WINDOW_S,
    ahead_samples: int | None = None,
) -> FrameStream:
    """Measures RMS power in dB as `power_stream` does, under a Hann window, at any rate.

    Args:
      sample_rate_hz: of the sound.
      hop_samples: samples between two frames.
      floor_db: lower limit.
      window_s: length of the window.
      ahead_samples: see `FrameStream`.
    """
    window = hann_window(round(window_s * sample_rate_hz))
    weights = window / window.sum()

    def measure(windows: FloatArray) -> RealArray:
        return power_to_db(np.einsum("fs,fs,s->f", windows, windows, weights), floor_db)

    return FrameStream(len(window), hop_samples, measure, ahead_samples)


def short_windows_s(spec: FeatureSpec) -> list[float]:
    """Returns `SHORT_WINDOWS_S` without those shorter than two hops, which would miss sound between frames."""
    return [window_s for window_s in SHORT_WINDOWS_S if window_s * spec.frame_rate_hz >= 2.0]


def beyond_ripple(difference_db: RealArray) -> RealArray:
    """Returns the part of differences that is beyond `RIPPLE_DB`, of the same sign."""
    return np.asarray(np.sign(difference_db) * np.maximum(np.abs(difference_db) - RIPPLE_DB, 0.0))


class SharpEnvelope:
    """Measures RMS power in windows as short as F0 allows, so that attacks keep their shape.

    Args:
      spec: frames and floor.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        windows_s = (ENVELOPE_WINDOW_S, *short_windows_s(spec))
        self._meters = {
            window_s: envelope_stream(ANALYSIS_RATE_HZ, spec.hop_samples, spec.floor_db, window_s)
            for window_s in windows_s
        }
        self._levels_db = {window_s: spool.GrowingArray() for window_s in windows_s}

    def push(self, block: FloatArray) -> None:
        """Takes the next samples, [S] at 16 kHz."""
        for window_s, meter in self._meters.items():
            self._levels_db[window_s].push(meter.push(block))

    def finish(self, f0_hz: FloatArray, power_db: FloatArray) -> FloatArray:
        """Returns the envelope in dB [F].

        Args:
          f0_hz: [F], 0 where unvoiced. Unvoiced frames get the F0 that `analysis.features.fill_f0` gives them.
          power_db: [F], to fill F0.
        """
        for window_s, meter in self._meters.items():
            self._levels_db[window_s].push(meter.finish())
        envelope_db = self._levels_db.pop(ENVELOPE_WINDOW_S).finish()
        if not self._levels_db:
            return envelope_db
        shorter = {window_s: levels.finish() for window_s, levels in self._levels_db.items()}
        f0_hz = fill_f0(f0_hz, power_db)
        for start in range(0, len(envelope_db), _FRAMES_COMBINED):
            part = slice(start, start + _FRAMES_COMBINED)
            smooth_db = envelope_db[part].copy()
            for window_s, levels_db in shorter.items():
                sharp_db = smooth_db + beyond_ripple(levels_db[part] - smooth_db)
                fits = f0_hz[part] * window_s >= PERIODS_IN_WINDOW
                envelope_db[part][fits] = sharp_db[fits]
            spool.release()
        return envelope_db


def loudness_db(audio: FloatArray, spec: FeatureSpec | None = None) -> FloatArray:
    """Measures A-weighted loudness as magenta/ddsp defines it since 2.0 (spectral_ops.py:253).

    The mean over all bins of |STFT|² weighted by 10^(A(f)/10), in dB, floored. Nothing is divided by the energy of
    the window, so a full-scale sine at 1 kHz reads about +19.8 dB: 0 dB is not full scale here.

    Args:
      audio: [S] at 16 kHz.
      spec: hop, window and floor.

    Returns:
      [F] float32, F = ceil(S / hop).
    """
    return _whole(loudness_stream(spec or FeatureSpec()), audio)


def power_db(audio: FloatArray, spec: FeatureSpec | None = None) -> FloatArray:
    """Measures RMS power in dBFS, floored below and not limited above (spectral_ops.py:223).

    Args:
      audio: [S] at 16 kHz.
      spec: hop, window and floor.

    Returns:
      [F] float32, F = ceil(S / hop).
    """
    return _whole(power_stream(spec or FeatureSpec()), audio)


def power_to_db(power: RealArray, floor_db: float) -> RealArray:
    """Returns 10·log10 of power, never below the floor."""
    return 10.0 * np.log10(np.maximum(power, 10.0 ** (floor_db / 10.0)))


def _whole(stream: FrameStream, audio: FloatArray) -> FloatArray:
    return np.concatenate([stream.push(audio), stream.finish()])


@functools.cache
def _power_weights(window_samples: int) -> DoubleArray:
    """Returns the linear A-weights of the bins of a 16 kHz spectrum, divided by their number, [window/2 + 1]."""
    frequencies_hz = np.fft.rfftfreq(window_samples, 1.0 / ANALYSIS_RATE_HZ)
    return 10.0 ** (a_weighting_db(frequencies_hz) / 10.0) / len(frequencies_hz)
