"""Map instruments by timbre: spectra of the same notes, and the plane that shows most of their differences.

The vectors of a base do not show this: they start at random values, to which the network adapts.

Shapes: I instruments, N notes played, K harmonics, M noise bands, C entries of a description.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.config import FilteredNoiseConfig
from ddsp_cli.scaling import midi_to_hz
from ddsp_cli.synthesis.instrument import Instrument

#: Notes that every instrument plays, C3 to C#5, at these percentiles of its own levels.
NOTES_MIDI = (48, 53, 58, 63, 68, 73)
LEVEL_PERCENTILES = (25, 75)

#: Each note is held for this long, until the recurrent network has settled.
HOLD_S = 1.2

#: Harmonics and frequencies of noise that are compared, within the band of instruments of 16 kHz.
N_HARMONICS, TOP_HZ = 24, 7500.0
NOISE_HZ = np.geomspace(200.0, TOP_HZ, 12)

#: Floors of the levels, and weight of the noise, which would otherwise outweigh the harmonics.
HARMONIC_FLOOR_DB, NOISE_FLOOR_DB, NOISE_WEIGHT = -60.0, -90.0, 0.7


@dataclass(frozen=True)
class Timbre:
    """The timbre of an instrument at the notes of the map.

    Attributes:
      description: [C] levels of harmonics and noise in dB, relative to the loudest harmonic and to all of them.
      brightness: mean of the spectral centroids, in harmonics.
      hollowness: how much softer even harmonics (2, 4, 6) are than odd ones (1, 3, 5), in dB.
      noise_db: level of the noise against the harmonics.
    """

    description: FloatArray
    brightness: float
    hollowness: float
    noise_db: float


def describe(instrument: Instrument) -> Timbre:
    """Plays notes and measures their timbre; levels of missing harmonics or noise are at the floor."""
    levels_db = instrument.bundle.card.statistics.level(instrument.model.level)
    parts, brightness, hollowness, noises = [], [], [], []
    for midi in NOTES_MIDI:
        f0_hz = float(midi_to_hz(np.float64(midi)))
        for percentile in LEVEL_PERCENTILES:
            harmonic_db, noise_db = _play(instrument, f0_hz, float(levels_db[percentile]))
            power = 10.0 ** (harmonic_db / 10.0)
            number = np.arange(1, N_HARMONICS + 1)
            brightness.append(float(np.sum(number * power) / np.sum(power)))
            hollowness.append(float(harmonic_db[0:6:2].mean() - harmonic_db[1:6:2].mean()))
            noises.append(float(noise_db.mean()))
            parts += [harmonic_db, NOISE_WEIGHT * noise_db]
    return Timbre(
        np.concatenate(parts).astype(np.float32),
        float(np.mean(brightness)),
        float(np.mean(hollowness)),
        float(np.mean(noises)),
    )


def _play(instrument: Instrument, f0_hz: float, level_db: float) -> tuple[FloatArray, FloatArray]:
    """Returns levels of harmonics [N_HARMONICS] and of noise [12] at the end of a held note, in dB."""
    model = instrument.model
    n_frames = round(HOLD_S * model.frame_rate_hz)
    flat = np.ones(n_frames, np.float32)
    controls = instrument.open_decoder().controls(f0_hz * flat, level_db * flat)
    harmonics = np.zeros(N_HARMONICS)
    if "amplitude" in controls:
        found = (controls["amplitude"] * controls["harmonic_distribution"])[-1][:N_HARMONICS]
        harmonics[: len(found)] = found
    harmonics[f0_hz * np.arange(1, N_HARMONICS + 1) > TOP_HZ] = 0.0
    noise = np.zeros(len(NOISE_HZ))
    node = model.only(FilteredNoiseConfig)
    if node is not None:
        bands_hz = np.linspace(0.0, model.sample_rate_hz / 2.0, node[1].n_bands)
        # noise of one variance has a density that falls with the sample rate
        density = np.sqrt(48000.0 / model.sample_rate_hz)
        noise = density * np.interp(NOISE_HZ, bands_hz, controls["noise_magnitudes"][-1])
    total = np.sqrt(np.sum(np.square(harmonics))) or 1.0
    loudest = harmonics.max() or 1.0
    return (
        np.maximum(20.0 * np.log10(harmonics / loudest + 1e-9), HARMONIC_FLOOR_DB),
        np.maximum(20.0 * np.log10(noise / total + 1e-9), NOISE_FLOOR_DB),
    )


@dataclass(frozen=True)
class TimbreMap:
    """Instruments in a plane.

    Attributes:
      names: [I].
      places: [I, 2] coordinates in dB (root mean square over the entries of a description).
      shown: share of the variance that the two axes show.
      axes: meaning of each axis, in words: `brighter`, `hollower`, `noisier`.
      distances_db: [I, I] between descriptions, in all dimensions.
    """

    names: tuple[str, ...]
    places: FloatArray
    shown: float
    axes: tuple[str, str]
    distances_db: FloatArray

    def nearest(self, name: str) -> list[tuple[str, float]]:
        """Returns the other instruments and their distances in dB, nearest first."""
        row = self.distances_db[self.names.index(name)]
        return [(self.names[i], float(row[i])) for i in np.argsort(row, kind="stable") if self.names[i] != name]


def make_map(timbres: dict[str, Timbre]) -> TimbreMap:
    """Finds the plane in which instruments differ most (principal components).

    Each axis is named after the trait that it correlates with most, the second after a different one. It points to
    where this trait increases.

    Args:
      timbres: of at least three instruments, by name.
    """
    descriptions = np.stack([timbre.description for timbre in timbres.values()]).astype(np.float64)
    centred = descriptions - descriptions.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    places = left[:, :2] * singular[:2] / np.sqrt(descriptions.shape[1])
    traits = {
        "brighter": [timbre.brightness for timbre in timbres.values()],
        "hollower": [timbre.hollowness for timbre in timbres.values()],
        "noisier": [timbre.noise_db for timbre in timbres.values()],
    }
    axes: list[str] = []
    for axis in range(2):
        found = {word: _correlation(places[:, axis], np.array(values)) for word, values in traits.items()}
        word = max((word for word in found if word not in axes), key=lambda word: abs(found[word]))
        axes.append(word)
        if found[word] < 0.0:
            places[:, axis] *= -1.0
    squares = np.square(descriptions[:, None] - descriptions[None]).mean(axis=-1)
    return TimbreMap(
        tuple(timbres),
        places.astype(np.float32),
        float(np.sum(singular[:2] ** 2) / max(np.sum(singular**2), 1e-12)),
        (axes[0], axes[1]),
        np.sqrt(squares).astype(np.float32),
    )


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Returns Pearson's correlation; 0 if one of the two is constant."""
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt(np.sum(a**2) * np.sum(b**2)))
    return float(np.sum(a * b)) / norm if norm > 0.0 else 0.0
