"""An instrument made smaller or larger: its resonances move, pitch and level stay.

Shapes: F frames, K harmonics, M noise bands.
"""

from __future__ import annotations

import numpy as np

#: Softer harmonics than this, against an amplitude of 1, count as this soft.
SOFTEST = 1e-6


def shift_formants(controls: dict[str, np.ndarray], semitones: float) -> dict[str, np.ndarray]:
    """Controls whose spectral envelopes are moved along the frequency axis.

    Args:
      controls: `harmonic_distribution` [F, K] and `noise_magnitudes` [F, M], either or both; others stay as they are.
      semitones: how far up; down below 0.

    Returns:
      The same with the power of the harmonics and of the noise unchanged; the distribution no longer sums to 1.
    """
    if semitones == 0.0:
        return controls
    factor = 2.0 ** (semitones / 12.0)
    moved = dict(controls)
    for name, move in (("harmonic_distribution", _harmonics), ("noise_magnitudes", _noise)):
        if name in controls:
            moved[name] = _as_loud(move(controls[name], factor), controls[name])
    return moved


def _harmonics(amplitudes: np.ndarray, factor: float) -> np.ndarray:
    """Each harmonic [F, K] gains what the envelope gains at its frequency.

    Harmonics are multiplied and not interpolated, so that those which are soft by nature, such as the even ones of a
    clarinet, stay soft. The envelope is their mean over neighbours, in dB, which even and odd ones share.
    """
    n_harmonics = amplitudes.shape[1]
    # Above half the sample rate there is nothing: the last one that sounds goes on.
    n_sounding = np.maximum(np.count_nonzero(amplitudes, axis=1), 1)
    places = np.minimum(np.arange(n_harmonics), n_sounding[:, None] - 1)
    log = np.log(np.maximum(np.take_along_axis(amplitudes, places, axis=1), SOFTEST))
    padded = np.pad(log, ((0, 0), (1, 1)), mode="reflect" if n_harmonics > 1 else "edge")
    envelope = 0.25 * padded[:, :-2] + 0.5 * padded[:, 1:-1] + 0.25 * padded[:, 2:]
    number = np.arange(1, n_harmonics + 1)
    return np.asarray(amplitudes * np.exp(_at(envelope, number / factor - 1.0) - envelope), np.float32)


def _noise(magnitudes: np.ndarray, factor: float) -> np.ndarray:
    """Each band [F, M] takes the magnitude of the frequency that has moved there."""
    return np.asarray(_at(magnitudes, np.arange(magnitudes.shape[1]) / factor), np.float32)


def _at(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values [F, n] read at fractional places [m], the ends held: [F, m]."""
    places = np.clip(places, 0.0, values.shape[1] - 1.0)
    left = np.minimum(places.astype(int), max(values.shape[1] - 2, 0))
    right = np.minimum(left + 1, values.shape[1] - 1)
    return np.asarray(values[:, left] + (values[:, right] - values[:, left]) * (places - left))


def _as_loud(values: np.ndarray, as_these: np.ndarray) -> np.ndarray:
    """Values [F, n] scaled to the power of others, frame by frame."""
    own, wanted = (np.sum(np.square(x), axis=1, keepdims=True, dtype=np.float64) for x in (values, as_these))
    return np.asarray(values * np.sqrt(wanted / np.maximum(own, 1e-30)), np.float32)
