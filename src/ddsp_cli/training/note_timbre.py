"""Measure how the timbre of single notes deviates from what an instrument plays, and how it drifts within a note.

A network with a note bias (`DecoderConfig.note_bias`) learns what notes of one pitch have in common. Single notes of
one pitch and level still differ, by another string, position of the bow or angle of the embouchure, and a network plays
their average. The levels of harmonics and noise in held notes of the recordings are compared with those that the
instrument plays, and the deviation is kept as a statistic, from which the player draws the timbre of each note
(`synthesis.variation`). The deviation also drifts within a note, as bow, breath and embouchure move. Its covariance at
lags of tenths of a second, where errors of the measurement have none, gives the size of the drift.

Shapes: N notes, F values of F0, K harmonics, G noise groups, P pitches.
"""

from __future__ import annotations

import functools
import itertools

import msgspec
import numpy as np

from ddsp_cli.analysis.harmonics import Partials, measure_partials
from ddsp_cli.arrays import DEVIATION_PER_MEDIAN, DoubleArray, FloatArray, runs
from ddsp_cli.bundle import Bundle
from ddsp_cli.scaling import hz_to_midi
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.variation import (
    BAND_HZ,
    NOISE_EDGES_HZ,
    PITCHES_MIDI,
    Variation,
    drift_pole,
    variation_of,
    whole_deviation,
)
from ddsp_cli.training.output_layer import is_playable, play_window
from ddsp_cli.training.targets import BAND_SHARE
from ddsp_cli.training.variation import END_S, LEAST_NOTES, MAX_MEASURED, N_NEAREST, at_pitches, steady
from ddsp_cli.training.windows import Windows

#: Largest number of windows that are played and measured (15 s of one core).
MAX_WINDOWS = 80

#: Notes of at least this length count, without `END_S` at both ends.
LEAST_NOTE_S = 0.2

#: The covariance of the drift is measured in notes of at least this length, at these lags. The second is twice the
#: first: the covariances of a vibrato of 5 Hz have opposite signs there.
LEAST_DRIFT_S, LAGS_S = 1.0, (0.1, 0.2)

#: A harmonic is compared in frames in which its power is this many times that of the noise in its bin, in the recording
#: and in the rendering, if these are at least this share of the frames of the note.
LEAST_SNR, LEAST_SHARE = 4.0, 0.5

#: Notes of one pitch differ by at most `SAME_PITCH` semitones. The mean difference of n of them is multiplied by
#: n / (n + `PRIOR_NOTES`): before a note bias was trained two of them had a correlation of 0.2 to 0.5.
SAME_PITCH, PRIOR_NOTES = 0.5, 3.0

#: Larger differences are errors of the measurement.
MAX_DIFFERENCE_DB = 20.0


class NoteTimbres(msgspec.Struct, frozen=True):
    """Timbres of held notes in recordings, relative to what an instrument plays.

    Attributes:
      midi: [N] pitches.
      harmonic_db: [N, K] levels of the harmonics in the recording less those played, without the difference of their
        common level; NaN where noise covers a harmonic.
      noise_db: [N, G] levels of the noise, likewise; NaN where there is no bin between harmonics.
      n_frames: [N] lengths in frames.
      covariance: [N, K] of these levels of the harmonics from frame to frame, in dB², averaged over `LAGS_S`.
    """

    midi: DoubleArray
    harmonic_db: DoubleArray
    noise_db: DoubleArray
    n_frames: np.ndarray
    covariance: DoubleArray


def measure_deviation(loaded: Bundle, windows: Windows) -> dict[str, FloatArray]:
    """Measures how far notes of recordings deviate from what an instrument plays, and how far they drift.

    Args:
      loaded: the instrument.
      windows: of the training split.

    Returns:
      Its weights, with deviations and drift in its variation. Without a variation, without notes, or where the player
      cannot play the instrument, they stay unchanged.
    """
    weights, variation = dict(loaded.weights), variation_of(loaded)
    if variation is None or not is_playable(loaded.card.model):
        return weights
    notes = compare_notes(loaded, windows)
    if len(notes.midi) < LEAST_NOTES:
        return weights
    nearest = _nearest(notes.midi)
    frame_rate_hz = loaded.card.model.frame_rate_hz
    deviation_db = DEVIATION_PER_MEDIAN * np.abs(notes.harmonic_db - _means_of_others(notes))
    note_db = at_pitches(deviation_db, nearest, variation.harmonic_db.shape[1])
    # The mean of a drift over a note is a part of the note's deviation, and no larger than that.
    of_drift = np.array([_variance_of_mean(n, drift_pole(frame_rate_hz)) for n in notes.n_frames.tolist()])
    share = np.median(of_drift[nearest], axis=1)[:, None]
    drift_db = np.minimum(_drift_db(notes, variation, frame_rate_hz), note_db / np.sqrt(share)).astype(np.float32)
    found = msgspec.structs.replace(
        variation,
        note_db=np.sqrt(np.maximum(note_db**2 - share * drift_db**2, 0.0)).astype(np.float32),
        note_noise_db=_noise_deviation_db(notes.noise_db),
        drift_db=drift_db,
    )
    return weights | found.as_weights()


def _nearest(midi: DoubleArray) -> np.ndarray:
    """Returns the indices of the notes nearest to each of `PITCHES_MIDI`, [P, N']."""
    return np.argsort(np.abs(midi - PITCHES_MIDI[:, None]), axis=1, kind="stable")[:, :N_NEAREST]


def _drift_db(notes: NoteTimbres, variation: Variation, frame_rate_hz: int) -> FloatArray:
    """Returns the standard deviation of the drift, [P, K], from covariances that the fast movements do not explain."""
    long = notes.n_frames >= LEAST_DRIFT_S * frame_rate_hz
    covariance = notes.covariance[long]
    if not (np.sum(np.isfinite(covariance), axis=0) >= LEAST_NOTES).any():
        return np.zeros_like(variation.harmonic_db)
    lags = _lags(frame_rate_hz)
    n_frames = notes.n_frames[long].tolist()
    slow, fast = (
        np.array([_covariance_within(n, pole, lags) for n in n_frames])
        for pole in (drift_pole(frame_rate_hz), variation.pole)
    )
    nearest = _nearest(notes.midi[long])
    measured = at_pitches(covariance, nearest, variation.harmonic_db.shape[1])  # medians: few notes drift by far more
    moved_db = variation.harmonic_db * whole_deviation(variation.pole, BAND_HZ, frame_rate_hz)
    explained = fast[nearest].mean(axis=1)[:, None] * moved_db**2
    share = slow[nearest].mean(axis=1)[:, None]
    return np.sqrt(np.maximum(measured - explained, 0.0) / share).astype(np.float32)


def _lags(frame_rate_hz: int) -> tuple[int, ...]:
    """Returns `LAGS_S` in frames."""
    return tuple(max(1, round(lag_s * frame_rate_hz)) for lag_s in LAGS_S)


def _process_covariance(n_frames: int, pole: float) -> DoubleArray:
    """Returns the covariances [F, F] of the values of a first-order process of variance 1."""
    frames = np.arange(n_frames)
    return np.asarray(pole ** np.abs(frames[:, None] - frames), np.float64)


@functools.cache
def _covariance_within(n_frames: int, pole: float, lags: tuple[int, ...]) -> float:
    """Returns the mean covariance at some lags of a first-order process whose mean over n frames was subtracted."""
    covariance = _process_covariance(n_frames, pole)
    centred = covariance - covariance.mean(axis=0) - covariance.mean(axis=1, keepdims=True) + covariance.mean()
    return float(np.mean([np.diagonal(centred, lag).mean() for lag in lags]))


@functools.cache
def _variance_of_mean(n_frames: int, pole: float) -> float:
    """Returns the variance of the mean over n frames of a first-order process of variance 1."""
    return float(_process_covariance(n_frames, pole).mean())


def compare_notes(loaded: Bundle, windows: Windows) -> NoteTimbres:
    """Compares held notes of recordings with those that an instrument plays."""
    player = Instrument(loaded)
    rows = windows.voiced_rows(MAX_WINDOWS)
    notes = [note for row in rows for note in _compare_window(player, windows, int(row))]
    midi, harmonic_db, noise_db, n_frames, covariance = zip(*notes, strict=True) if notes else ((), (), (), (), ())
    return NoteTimbres(
        np.array(midi),
        np.reshape(harmonic_db, (-1, MAX_MEASURED)),
        np.reshape(noise_db, (-1, len(NOISE_EDGES_HZ) - 1)),
        np.array(n_frames, int),
        np.reshape(covariance, (-1, MAX_MEASURED)),
    )


def _compare_window(
    player: Instrument, windows: Windows, row: int
) -> list[tuple[float, DoubleArray, DoubleArray, int, DoubleArray]]:
    """Returns the fields of `NoteTimbres` for each held note of a window."""
    import soxr

    model, step = player.model, windows.f0_step
    rate_hz = windows.hop_samples * model.frame_rate_hz
    played = soxr.resample(play_window(player, windows, row, variation=False), model.sample_rate_hz, rate_hz)
    f0_hz = windows.fine_f0_hz[row]
    partials = [
        measure_partials(sound, rate_hz, f0_hz, model.frame_rate_hz * step, MAX_MEASURED, step)
        for sound in (windows.sound[row], played)
    ]
    f0_hz = f0_hz[::step]
    recorded_db, played_db = (_harmonic_levels_db(one, f0_hz, rate_hz) for one in partials)
    trim = round(END_S * model.frame_rate_hz)
    found = []
    for start, stop in zip(*runs(windows.voiced[row] & steady(f0_hz, model.frame_rate_hz)), strict=True):
        if stop - start < LEAST_NOTE_S * model.frame_rate_hz + 2 * trim:
            continue
        part = slice(start + trim, stop - trim)
        harmonic_db = _difference_db(recorded_db[part], played_db[part])
        if harmonic_db is None:
            continue
        noise_db = np.subtract(*(_noise_levels_db(one.noise_density[part], f0_hz[part], rate_hz) for one in partials))
        midi = float(np.median(hz_to_midi(f0_hz[part])))
        covariance = _covariance(recorded_db[part], played_db[part], _lags(model.frame_rate_hz))
        found.append((midi, harmonic_db, noise_db, stop - start - 2 * trim, covariance))
    return found


def _covariance(recorded_db: DoubleArray, played_db: DoubleArray, lags: tuple[int, ...]) -> DoubleArray:
    """Returns the mean covariance at some lags of the differences of harmonics [F, K] → [K]; NaN where few are known.

    The difference of the total level is subtracted in each frame, because the level is an input of the instrument.
    """
    both = np.isfinite(recorded_db) & np.isfinite(played_db)
    power = np.where(both, 10.0 ** (played_db / 10.0), 0.0)
    difference_db = np.where(both, recorded_db - played_db, 0.0)
    total_db = np.sum(power * difference_db, axis=1) / np.maximum(power.sum(axis=1), 1e-20)
    relative_db = np.where(both, difference_db - total_db[:, None], 0.0)
    mean_db = relative_db.sum(axis=0) / np.maximum(both.sum(axis=0), 1)
    deviation_db = np.clip(np.where(both, relative_db - mean_db, 0.0), -MAX_DIFFERENCE_DB, MAX_DIFFERENCE_DB)
    found = []
    for lag in lags:
        pairs = (both[lag:] & both[:-lag]).sum(axis=0)
        found.append(np.sum(deviation_db[lag:] * deviation_db[:-lag], axis=0) / np.maximum(pairs, 1))
    known = both.sum(axis=0) >= max(LEAST_SHARE * len(both), 2 * max(lags))
    return np.where(known, np.mean(found, axis=0), np.nan)


def _difference_db(recorded_db: DoubleArray, played_db: DoubleArray) -> DoubleArray | None:
    """Returns the mean differences of harmonics [F, K] → [K], less that of the total; None if one harmonic is known."""
    both = np.isfinite(recorded_db) & np.isfinite(played_db)
    counts = both.sum(axis=0)
    known = counts >= LEAST_SHARE * len(both)
    if known.sum() < 2:
        return None
    sums = np.where(both, recorded_db - played_db, 0.0).sum(axis=0)
    difference_db = np.where(known, sums / np.maximum(counts, 1), np.nan)
    power = np.where(both, 10.0 ** (played_db / 10.0), 0.0).sum(axis=0)[known]
    difference_db -= power @ difference_db[known] / power.sum()
    return np.clip(difference_db, -MAX_DIFFERENCE_DB, MAX_DIFFERENCE_DB)


def _harmonic_levels_db(partials: Partials, f0_hz: FloatArray, rate_hz: int) -> DoubleArray:
    """Returns the levels [F, K] of the harmonics of a sound, NaN where noise covers them."""
    noise = partials.noise_in_harmonics(f0_hz)
    numbers = np.arange(1, partials.harmonic_power.shape[1] + 1)
    inside = f0_hz[:, None] * numbers < BAND_SHARE * rate_hz / 2.0
    known = inside & (partials.harmonic_power > LEAST_SNR * noise)
    power = np.maximum(partials.harmonic_power - noise, 1e-20)
    return np.where(known, 10.0 * np.log10(power), np.nan).astype(np.float64)


def _noise_levels_db(density: FloatArray, f0_hz: FloatArray, rate_hz: int) -> DoubleArray:
    """Returns the mean level [G] of the noise between the harmonics of a note, density [F, K]; NaN where unknown."""
    hz = (np.arange(density.shape[1]) + 0.5) * f0_hz[:, None]
    known = (hz < BAND_SHARE * rate_hz / 2.0) & (density > 0.0)
    found = np.full(len(NOISE_EDGES_HZ) - 1, np.nan)
    for i, (low_hz, high_hz) in enumerate(itertools.pairwise(NOISE_EDGES_HZ)):
        inside = known & (hz >= low_hz) & (hz < high_hz)
        if inside.any():
            found[i] = 10.0 * np.log10(density[inside].mean(dtype=np.float64))
    return found


def _means_of_others(notes: NoteTimbres) -> DoubleArray:
    """Returns for each note the mean of the other notes of its pitch, [N, K], shrunk by `PRIOR_NOTES`.

    What notes of one pitch share is not drawn: it is no deviation of a single note.
    """
    known = np.isfinite(notes.harmonic_db)
    values = np.where(known, notes.harmonic_db, 0.0)
    same = np.abs(notes.midi[:, None] - notes.midi) < SAME_PITCH
    np.fill_diagonal(same, False)
    return same @ values / (same @ known.astype(float) + PRIOR_NOTES)


def _noise_deviation_db(noise_db: DoubleArray) -> FloatArray:
    """Returns how far the noise of single notes, [N, G], deviates from the median, [G].

    Groups that are not measured take the value of the one below.
    """
    found = np.zeros(noise_db.shape[1], np.float32)
    for i, own_db in enumerate(noise_db.T):
        known_db = own_db[np.isfinite(own_db)]
        if len(known_db) >= LEAST_NOTES:
            found[i] = DEVIATION_PER_MEDIAN * np.median(np.abs(known_db - np.median(known_db)))
        elif i > 0:
            found[i] = found[i - 1]
    return found
