"""Formant shift: moves the resonances of an instrument along the frequency axis; pitch and level stay.

Shapes: F frames, K harmonics, M noise bands.
"""

from __future__ import annotations

import numpy as np

from ddsp_cli.arrays import FloatArray, RealArray

#: Floor of the harmonics' amplitudes when their envelope is computed in dB.
AMPLITUDE_FLOOR = 1e-6


def shift_formants(controls: dict[str, FloatArray], semitones: float) -> dict[str, FloatArray]:
    """Moves the spectral envelopes of controls along the frequency axis.

    Args:
      controls: `harmonic_distribution` [F, K] and `noise_magnitudes` [F, M], either or both; others stay as they are.
      semitones: up where positive.

    Returns:
      Controls with the same power of harmonics and of noise in each frame; the distribution no longer sums to 1.
    """
    if semitones == 0.0:
        return controls
    factor = 2.0 ** (semitones / 12.0)
    moved = dict(controls)
    for name, move in (("harmonic_distribution", _harmonics), ("noise_magnitudes", _noise)):
        if name in controls:
            moved[name] = _with_power_of(move(controls[name], factor), controls[name])
    return moved


def _harmonics(amplitudes: RealArray, factor: float) -> RealArray:
    """Multiplies each harmonic [F, K] by the change of the envelope at its frequency.

    Harmonics are multiplied and not interpolated, so that those which are soft in this instrument, such as the even
    ones of a clarinet, stay soft. The envelope is a mean over neighbours, in dB, which even and odd ones share.
    """
    n_harmonics = amplitudes.shape[1]
    # Above half the sample rate the envelope is that of the last audible harmonic.
    n_audible = np.maximum(np.count_nonzero(amplitudes, axis=1), 1)
    places = np.minimum(np.arange(n_harmonics), n_audible[:, None] - 1)
    log = np.log(np.maximum(np.take_along_axis(amplitudes, places, axis=1), AMPLITUDE_FLOOR))
    padded = np.pad(log, ((0, 0), (1, 1)), mode="reflect" if n_harmonics > 1 else "edge")
    envelope = 0.25 * padded[:, :-2] + 0.5 * padded[:, 1:-1] + 0.25 * padded[:, 2:]
    number = np.arange(1, n_harmonics + 1)
    return np.asarray(amplitudes * np.exp(_at(envelope, number / factor - 1.0) - envelope), np.float32)


def _noise(magnitudes: RealArray, factor: float) -> RealArray:
    """Gives each band [F, M] the magnitude of the frequency that has moved there."""
    return np.asarray(_at(magnitudes, np.arange(magnitudes.shape[1]) / factor), np.float32)


def _at(values: RealArray, places: RealArray) -> RealArray:
    """Returns values [F, n] read at fractional places [m], the ends held: [F, m]."""
    places = np.clip(places, 0.0, values.shape[1] - 1.0)
    left = np.minimum(places.astype(int), max(values.shape[1] - 2, 0))
    right = np.minimum(left + 1, values.shape[1] - 1)
    return np.asarray(values[:, left] + (values[:, right] - values[:, left]) * (places - left))


def _with_power_of(values: RealArray, reference: RealArray) -> RealArray:
    """Returns values [F, n] scaled to the power of others, frame by frame."""
    own, wanted = (np.sum(np.square(x), axis=1, keepdims=True, dtype=np.float64) for x in (values, reference))
    return np.asarray(values * np.sqrt(wanted / np.maximum(own, 1e-30)), np.float32)
