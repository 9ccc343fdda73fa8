"""Add what varies in recordings at the same pitch and level: within held notes, and from note to note.

Within a note level and frequency of each partial, F0 and noise fluctuate fast, and the levels of partials also drift;
without that a held note is frozen, and all partials move together, as level and pitch move. From one note to the next
of the same pitch the timbre varies; without that all notes have the same average timbre. Statistics of the recordings
(`training.variation`, `training.note_timbre`) say how much; the movements are drawn during playing, from the seed.

Shapes: F frames, K harmonics, M noise bands, G noise groups, P pitches.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import msgspec
import numpy as np

from ddsp_cli.arrays import BoolArray, FloatArray, RealArray, db_to_gain
from ddsp_cli.bundle import Bundle
from ddsp_cli.bundle.layout import VARIATION
from ddsp_cli.config import HarmonicConfig
from ddsp_cli.scaling import hz_to_midi

#: The statistics are known at these pitches, E1 to C8, and interpolated between them.
PITCHES_MIDI = np.arange(28.0, 109.0, 8.0)

#: Fast movements are measured between these frequencies: faster than vibrato, which is an input of the network. At 50
#: frames a second there is nothing faster.
BAND_HZ = (6.5, 25.0)

#: Time constant of the drift of levels. In recordings of ten instruments constants of 0.2 to 1.5 s fit best.
DRIFT_S = 0.7

#: Band of the movements of pitch: faster than vibrato, which belongs to the performer.
JITTER_HZ = (10.0, 25.0)

#: Noise moves in these groups of bands, in Hz.
NOISE_EDGES_HZ = (0.0, 1000.0, 2000.0, 4000.0, 8000.0, 24000.0)

#: Statistics beyond these are errors of the measurement.
MAX_DB, MAX_CENTS, MAX_POLE, MAX_VIBRATO_CENTS = 3.0, 15.0, 0.8, 100.0

#: Largest standard deviation of the level of a harmonic from note to note, and of its drift. At 8 dB some notes of a
#: double bass lose their fundamental, and a pitch tracker takes 10 % of its frames for another note; at 6 dB 1 %.
MAX_NOTE_DB = 6.0

#: An instrument whose usual vibrato is narrower than this, root mean square, is played without one.
LEAST_VIBRATO_CENTS = 3.0

#: Lower limit of a power that is divided by, so that silence stays silent.
TINY = np.float32(1e-20)

#: The pole of the movements of phases.
PHASE_POLE = 0.5

#: In each frame the timbre of a note moves by this share of the distance from that of the note before.
NOTE_PACE = 0.5

#: From note to note brightness varies: the levels of all upper harmonics rise or fall together. Their correlation with
#: the common factor, at harmonics 1, 2, 4, 8, 16 and 32. In recordings of nine instruments the levels of neighbours
#: correlate by 0.3 at harmonics 5 to 8, 0.45 at 9 to 16, 0.52 at 17 to 24 and 0.58 at 25 to 40.
BRIGHTNESS = (-0.2, 0.15, 0.3, 0.55, 0.7, 0.76)

#: Correlation of the levels of two groups of noise from note to note: 0.4 to 0.8 in recordings of cello and flute.
NOISE_CORRELATION = 0.6

#: Correlation of the part that all groups of noise have in common with brightness: bright notes have more noise.
BRIGHT_NOISE_CORRELATION = 0.5


class Variation(msgspec.Struct, frozen=True):
    """Standard deviations of the movements of a held note, at the pitches of `PITCHES_MIDI`.

    Attributes:
      harmonic_db: [P, K] levels of the harmonics within `BAND_HZ`, apart from what all do together.
      harmonic_cents: [P, K] their frequencies, likewise.
      pole: of the first-order process that the levels follow, at frame rate: 0 is white.
      jitter_cents: [P] the pitch, faster than a vibrato.
      noise_db: [G] levels of the noise, from frame to frame, beyond what even noise does.
      note_db: [P, K] levels of the harmonics from one note to the next of the same pitch; constant within a note.
      note_noise_db: [G] levels of the noise, likewise.
      drift_db: [P, K] drift of the levels of the harmonics within a note, with the time constant `DRIFT_S`.
      vibrato_cents: the usual movement of the pitch between 3 and 10 Hz. It is not drawn: the pitch is the performer's.
    """

    harmonic_db: FloatArray
    harmonic_cents: FloatArray
    pole: float
    jitter_cents: FloatArray
    noise_db: FloatArray
    note_db: FloatArray
    note_noise_db: FloatArray
    drift_db: FloatArray
    vibrato_cents: float = MAX_VIBRATO_CENTS

    @property
    def vibrato_limit_cents(self) -> float:
        """The usual vibrato of an instrument with hardly any; infinity for other instruments."""
        return self.vibrato_cents if self.vibrato_cents < LEAST_VIBRATO_CENTS else math.inf

    @property
    def has_jitter(self) -> bool:
        """Whether the pitch moves at any pitch."""
        return bool(np.any(self.jitter_cents > 0.0))

    def as_weights(self) -> dict[str, FloatArray]:
        """Returns the arrays by their names in a bundle."""
        return {
            f"{VARIATION}{name}": np.atleast_1d(np.asarray(value, np.float32))
            for name, value in msgspec.structs.asdict(self).items()
        }


def variation_of(bundle: Bundle) -> Variation | None:
    """Reads the variation of an instrument; None if it is missing or does not fit."""
    harmonic = bundle.card.model.only(HarmonicConfig)
    return None if harmonic is None else read_variation(bundle.weights, harmonic[1].n_harmonics)


def read_variation(weights: Mapping[str, FloatArray], n_harmonics: int) -> Variation | None:
    """Takes the variation out of a bundle's weights; None if it is missing or does not fit."""
    found = {name: weights.get(f"{VARIATION}{name}") for name in Variation.__struct_fields__}
    n_pitches = len(PITCHES_MIDI)
    shapes = {"harmonic_db": (n_pitches, n_harmonics), "harmonic_cents": (n_pitches, n_harmonics), "pole": (1,),
              "jitter_cents": (n_pitches,), "noise_db": (len(NOISE_EDGES_HZ) - 1,),
              "note_db": (n_pitches, n_harmonics), "note_noise_db": (len(NOISE_EDGES_HZ) - 1,),
              "drift_db": (n_pitches, n_harmonics), "vibrato_cents": (1,)}  # fmt: skip
    # bundles of earlier versions
    if found["vibrato_cents"] is None:
        found["vibrato_cents"] = np.array([MAX_VIBRATO_CENTS], np.float32)
    for name in ("note_db", "note_noise_db", "drift_db"):
        if found[name] is None:
            found[name] = np.zeros(shapes[name], np.float32)
    values: dict[str, FloatArray] = {}
    for name, value in found.items():
        # bundles of earlier versions have one value for all pitches
        if value is None or value.shape not in (shapes[name], shapes[name][1:] or (1,)) or not np.isfinite(value).all():
            return None
        values[name] = np.array(np.broadcast_to(value, shapes[name]), np.float32)
    return Variation(
        np.clip(values["harmonic_db"], 0.0, MAX_DB),
        np.clip(values["harmonic_cents"], 0.0, MAX_CENTS),
        float(np.clip(values["pole"][0], 0.0, MAX_POLE)),
        np.clip(values["jitter_cents"], 0.0, MAX_CENTS),
        np.clip(values["noise_db"], 0.0, MAX_DB),
        np.clip(values["note_db"], 0.0, MAX_NOTE_DB),
        np.clip(values["note_noise_db"], 0.0, MAX_NOTE_DB),
        np.clip(values["drift_db"], 0.0, MAX_NOTE_DB),
        float(np.clip(values["vibrato_cents"][0], 0.0, MAX_VIBRATO_CENTS)),
    )


def band_share(pole: float, band_hz: tuple[float, float], frame_rate_hz: float) -> float:
    """Returns the share of the power of a first-order process, x' = pole·x + noise, within a band."""
    hz = np.linspace(0.0, frame_rate_hz / 2.0, 512)
    power = 1.0 / (1.0 + pole**2 - 2.0 * pole * np.cos(2.0 * np.pi * hz / frame_rate_hz))
    return float(power[(hz >= band_hz[0]) & (hz <= band_hz[1])].sum() / power.sum())


def whole_deviation(pole: float, band_hz: tuple[float, float], frame_rate_hz: float) -> float:
    """Returns the factor from the deviation within a band to that of the process; 0 if frames are too far apart."""
    if frame_rate_hz < 4.0 * band_hz[0]:  # next to nothing of the process lies in the band
        return 0.0
    return 1.0 / math.sqrt(band_share(pole, band_hz, frame_rate_hz))


def drift_pole(frame_rate_hz: float) -> float:
    """Returns the pole of the first-order process that the drift follows at a frame rate."""
    return math.exp(-1.0 / (DRIFT_S * frame_rate_hz))


class Movements:
    """The movements of one performance. Their random numbers do not depend on how frames are cut into blocks.

    Args:
      variation: of the instrument.
      frame_rate_hz: of the controls.
      n_bands: M, from 0 Hz to half the sample rate.
      sample_rate_hz: of the instrument.
      seed: of the movements.
    """

    def __init__(
        self, variation: Variation, frame_rate_hz: int, n_bands: int, sample_rate_hz: int, seed: int = 0
    ) -> None:
        self._variation, self._rate = variation, frame_rate_hz
        n = variation.harmonic_db.shape[1]
        self._random = np.random.default_rng([seed, 1])  # not the stream of the noise
        self._level = _FirstOrder(n, variation.pole)
        self._phase = _FirstOrder(n, PHASE_POLE)
        self._drift = _FirstOrder(n, drift_pole(frame_rate_hz))
        self._drift_random = np.random.default_rng([seed, 3])
        # of each note: brightness, what the noise has in common, harmonics, groups of noise
        self._note = _PerNote(2 + n + len(variation.note_noise_db), np.random.default_rng([seed, 2]))
        # the band holds a part of the process; the rest, which is slower, belongs to it
        self._level_db = variation.harmonic_db * whole_deviation(variation.pole, BAND_HZ, frame_rate_hz)
        self._jitter_cents = variation.jitter_cents * whole_deviation(0.0, JITTER_HZ, frame_rate_hz)
        k = np.arange(1, n + 1)
        self._brightness = np.interp(np.log2(k), np.arange(len(BRIGHTNESS)), BRIGHTNESS).astype(np.float32)
        # a phase of deviation σ that follows the process changes by σ·sqrt(2(1 - pole)) in a frame
        per_cent = k * (math.log(2.0) / 1200.0) / (frame_rate_hz * math.sqrt(2.0 * (1.0 - PHASE_POLE)))
        self._turns_per_hz = np.asarray(variation.harmonic_cents * per_cent, np.float32)
        bands_hz = np.linspace(0.0, sample_rate_hz / 2.0, max(n_bands, 2))
        self._group = np.clip(np.searchsorted(NOISE_EDGES_HZ, bands_hz, "right") - 1, 0, len(NOISE_EDGES_HZ) - 2)
        self._last_cents = 0.0

    def push(
        self, f0_hz: FloatArray, controls: dict[str, FloatArray], begins: BoolArray
    ) -> tuple[FloatArray, dict[str, FloatArray], FloatArray]:
        """Moves the next frames.

        Args:
          f0_hz: [F·p], p values a frame.
          controls: of the decoder, scaled; `harmonic_distribution` [F, K] and, where there is noise,
            `noise_magnitudes` [F, M].
          begins: [F] the frames in which a note begins.

        Returns:
          F0 [F·p], the controls, and the phases to add to the harmonics, [F, K] in turns.
        """
        n_frames, n = controls["harmonic_distribution"].shape
        drawn = self._random.standard_normal((n_frames, 2 * n + 1 + len(self._variation.noise_db)), np.float32)
        n_fine = len(f0_hz) // n_frames
        at = _Between(f0_hz[::n_fine])
        level_db = self._level.push(drawn[:, :n]) * at(self._level_db)
        bright, noisy, harmonics, groups = np.split(self._note.push(begins), (1, 2, 2 + n), axis=1)
        level_db += _with_common(bright, harmonics, self._brightness) * at(self._variation.note_db)
        drift = self._drift.push(self._drift_random.standard_normal((n_frames, n), np.float32))
        level_db += drift * at(self._variation.drift_db)
        phases = self._phase.push(drawn[:, n : 2 * n]) * at(self._turns_per_hz) * f0_hz[::n_fine, None]
        cents = np.concatenate([[self._last_cents], drawn[:, 2 * n] * at(self._jitter_cents)])
        self._last_cents = float(cents[-1])
        fine = np.interp(np.arange(1, n_frames * n_fine + 1) / n_fine, np.arange(n_frames + 1), cents)
        moved = dict(controls)
        moved["harmonic_distribution"] = _move_levels(controls["harmonic_distribution"], level_db)
        if "noise_magnitudes" in controls:
            noise_db = drawn[:, 2 * n + 1 :] * self._variation.noise_db
            noisy = _with_common(bright, noisy, BRIGHT_NOISE_CORRELATION)
            # The controls are medians over notes. So the mean power rises, as in recordings, where few notes hold most.
            noise_db += _with_common(noisy, groups, math.sqrt(NOISE_CORRELATION)) * self._variation.note_noise_db
            moved["noise_magnitudes"] = controls["noise_magnitudes"] * db_to_gain(noise_db[:, self._group])
        return np.asarray(f0_hz * 2.0 ** (fine / 1200.0), np.float32), moved, phases


def _with_common(common: FloatArray, own: FloatArray, correlation: RealArray | float) -> FloatArray:
    """Returns values of unit variance, [F, n], that have a correlation with a common one, [F, 1]."""
    return np.asarray(correlation * common + np.sqrt(1.0 - np.square(correlation)) * own, np.float32)


def _move_levels(distribution: FloatArray, level_db: FloatArray) -> FloatArray:
    """Changes the levels of harmonics [F, K] without a change of their total power.

    The level that drives the instrument already contains the movements of that power.
    """
    moved = distribution * db_to_gain(level_db)
    power, moved_power = (np.einsum("fk,fk->f", x, x) for x in (distribution, moved))
    return moved * np.sqrt(power / np.maximum(moved_power, TINY))[:, None]


class _Between:
    """Interpolates values at `PITCHES_MIDI` [P, ...] to the pitches of frames.

    Args:
      f0_hz: [F] pitches of the frames.
    """

    def __init__(self, f0_hz: FloatArray) -> None:
        places = np.interp(hz_to_midi(f0_hz), PITCHES_MIDI, np.arange(len(PITCHES_MIDI)))
        self._below = np.minimum(places.astype(int), len(PITCHES_MIDI) - 2)
        self._share = np.asarray(places - self._below, np.float32)

    def __call__(self, values: FloatArray) -> FloatArray:
        """Returns the values at the frames, [F, ...]."""
        share = self._share.reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray((1.0 - share) * values[self._below] + share * values[self._below + 1], np.float32)


class _FirstOrder:
    """Processes x' = pole·x + sqrt(1 - pole²)·noise of unit variance, as a stream."""

    def __init__(self, n: int, pole: float) -> None:
        self._pole, self._gain = np.float32(pole), np.float32(math.sqrt(1.0 - pole**2))
        self._last: FloatArray | None = None
        self._n = n

    def push(self, noise: FloatArray) -> FloatArray:
        """Takes noise [F, n] of unit variance; gives [F, n]."""
        out = np.empty_like(noise)
        last = self._last
        for i, row in enumerate(noise):
            last = row if last is None else self._pole * last + self._gain * row
            out[i] = last
        self._last = None if last is None else np.array(last)
        return out


class _PerNote:
    """Values of unit variance that are drawn for each note and constant within it, as a stream.

    Args:
      n: number of values.
      random: to draw from.
    """

    def __init__(self, n: int, random: np.random.Generator) -> None:
        self._n, self._random = n, random
        self._wanted = random.standard_normal(n, np.float32)
        self._last = self._wanted

    def push(self, begins: BoolArray) -> FloatArray:
        """Takes the frames in which a note begins, [F]; gives [F, n]."""
        out = np.empty((len(begins), self._n), np.float32)
        starts = np.flatnonzero(begins).tolist()
        for start, stop in itertools.pairwise(dict.fromkeys([0, *starts, len(begins)])):
            if begins[start]:
                self._wanted = self._random.standard_normal(self._n, np.float32)
            remaining = np.float32(1.0 - NOTE_PACE) ** np.arange(1, stop - start + 1, dtype=np.float32)
            out[start:stop] = self._wanted + remaining[:, None] * (self._last - self._wanted)
            self._last = out[stop - 1].copy()
        return out
