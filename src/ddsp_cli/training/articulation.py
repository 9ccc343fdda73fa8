"""Measure articulation: onsets and releases of notes in recordings, less those of their resynthesis.

At the end of a training the instrument plays windows of the recordings. From the onset of each note on, levels of
recording and resynthesis are compared: noise between the harmonics, harmonics, and total power. Onsets are found in the
same curves as during playing (`synthesis.onsets`). A difference that persists in the sustain does not belong to
the onset and is subtracted. Differences found in few notes are shrunk.

Shapes: N notes, P points in time, T time steps, L steps of the fall, G noise bands, H groups of harmonics.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from ddsp_cli.analysis.harmonics import measure_partials
from ddsp_cli.arrays import DEVIATION_PER_MEDIAN, DoubleArray, FloatArray, hann_window
from ddsp_cli.bundle import Bundle
from ddsp_cli.config import FilteredNoiseConfig, HarmonicConfig
from ddsp_cli.synthesis.articulation import (
    BAND_EDGES_HZ,
    FALL_STEP_DB,
    GROUP_ENDS,
    MAX_HARMONIC_DB,
    MAX_NOISE_DB,
    N_BANDS,
    N_FALLS,
    N_GROUPS,
    N_STEPS,
    STEP_TIME_S,
    Articulation,
)
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.onsets import BOUND, HARD, SOFT, detector_of
from ddsp_cli.training.output_layer import is_playable, play_window
from ddsp_cli.training.targets import BAND_SHARE
from ddsp_cli.training.windows import Windows

#: Largest number of windows that are rendered: 5 to 20 s of one core at 48 kHz.
MAX_WINDOWS = 40

#: Notes are measured for `FOLLOWED_S`; from `SUSTAIN_S` on they count as sustain.
FOLLOWED_S, SUSTAIN_S = 0.4, 0.2

#: The end of a note is left out for this long, since windows of the measurement reach into the next note.
END_S = 0.03

#: A note with this many points of sustain is compared with its own sustain, a shorter one with that of all notes.
LEAST_SUSTAIN = 5

#: Largest number of harmonics that are measured.
MAX_MEASURED = 200

#: A group of harmonics is measured where its power is this many times that of the noise in its bins, in both sounds.
LEAST_SNR = 2.0

#: A difference found in `HALF_NOTES` notes is halved; one found in fewer than `LEAST_NOTES` is ignored.
HALF_NOTES, LEAST_NOTES = 8, 8

#: Length of the windows in which total power is measured.
TOTAL_S = 0.02


@dataclass(frozen=True)
class Levels:
    """Levels of a sound in dB.

    Attributes:
      noise_db: [P, G] density between the harmonics.
      harmonic_db: [P, H] power of the harmonics in each group, NaN where noise covers them.
      sum_db: [P] power of all harmonics.
      total_db: [P, G] power of everything in the bands of the noise.
      floor_db: [P, G] power of the noise between the harmonics, extended to the whole band.
    """

    noise_db: DoubleArray
    harmonic_db: DoubleArray
    sum_db: DoubleArray
    total_db: DoubleArray
    floor_db: DoubleArray


def measure_articulation(loaded: Bundle, windows: Windows) -> Articulation | None:
    """Measures the articulation of an instrument.

    Args:
      loaded: the instrument, which is played without an articulation.
      windows: of the training split, with F0 at 100 Hz or more.

    Returns:
      The articulation; None if the recordings have too few notes, or the player cannot play the instrument.
    """
    model = loaded.card.model
    rate_hz = model.frame_rate_hz * windows.f0_step
    parts = model.only(HarmonicConfig), model.only(FilteredNoiseConfig)
    if None in parts or rate_hz < 100 or not is_playable(model):
        return None
    player = Instrument(loaded)
    found = [_differences(loaded, player, windows, int(row)) for row in windows.voiced_rows(MAX_WINDOWS)]
    if not found:
        return None
    points = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    notes = np.unique(points["note"])
    return _medians(points) if len(notes) >= LEAST_NOTES else None


def _differences(loaded: Bundle, player: Instrument, windows: Windows, row: int) -> dict[str, np.ndarray]:
    """Measures recording less resynthesis at the points of a window that lie in a note whose onset is known.

    Returns:
      By name, [P, ...]: number of the `note`, `kind` of its onset, seconds `since` the onset, dB by which the level has
      `fallen`; differences of `noise`, `harmonic` and `total` in dB; and `share`, noise relative to total power in dB.
    """
    step = max(1, windows.f0_step // 2)
    rate_hz = loaded.card.model.frame_rate_hz * windows.f0_step
    f0_hz, level_db = windows.fine_f0_hz[row], windows.level_db(row)
    onsets = detector_of(loaded).push(f0_hz, level_db, None)
    kinds, since_s, fallen_db = onsets.kinds, onsets.since_s, onsets.fallen_db
    times_s = np.arange(0, len(f0_hz), step) / rate_hz
    frames = np.minimum((times_s * loaded.card.model.frame_rate_hz + 1e-6).astype(int), len(kinds) - 1)
    within_s = times_s - frames / loaded.card.model.frame_rate_hz
    real, made = (
        _levels(sound, loaded.card.model.sample_rate_hz, f0_hz, rate_hz, step, float(windows.bandwidth_hz[row]))
        for sound in (windows.audio[row], play_window(player, windows, row))
    )
    starts = np.flatnonzero(onsets.begins)
    note = np.searchsorted(starts, frames, side="right")
    ends_s = np.append(starts, len(kinds)) / loaded.card.model.frame_rate_hz
    since = since_s[frames] + within_s
    inside = (note > 0) & windows.voiced[row][frames] & (times_s < ends_s[np.minimum(note, len(starts))] - END_S)
    inside[len(real.sum_db) :] = False
    sum_db = real.sum_db - made.sum_db
    values = {
        "note": note + 1000 * row,
        "kind": kinds[frames],
        "since": since,
        "fallen": fallen_db[frames],
        "noise": real.noise_db - made.noise_db,
        "harmonic": real.harmonic_db - made.harmonic_db - sum_db[:, None],
        "total": real.total_db - made.total_db,
        "share": made.floor_db - made.total_db,
    }
    return {name: value[inside] for name, value in values.items()}


def _levels(
    audio: FloatArray, sample_rate_hz: int, f0_hz: FloatArray, f0_rate_hz: int, step: int, bandwidth_hz: float
) -> Levels:
    n = int(min(MAX_MEASURED, BAND_SHARE * sample_rate_hz / 2.0 / float(f0_hz.max())))
    partials = measure_partials(audio, sample_rate_hz, f0_hz, f0_rate_hz, max(n, 2), step)
    f0_hz = f0_hz[::step].astype(np.float64)
    covering = partials.noise_in_harmonics(f0_hz.astype(np.float32)).astype(np.float64)
    power = partials.harmonic_power.astype(np.float64)
    places_hz = (np.arange(power.shape[1]) + 0.5) * f0_hz[:, None]
    top_hz = min(bandwidth_hz, BAND_SHARE * sample_rate_hz / 2.0)
    size = 2 * round(TOTAL_S * sample_rate_hz / 2)
    centres = np.round(np.arange(len(f0_hz)) * step * sample_rate_hz / f0_rate_hz).astype(int)
    padded = np.pad(audio, size)
    spectra = np.lib.stride_tricks.sliding_window_view(padded, size)[centres + size // 2] * hann_window(size)
    bins_hz = np.fft.rfftfreq(size, 1.0 / sample_rate_hz)
    bins = np.abs(np.fft.rfft(spectra, axis=1)) ** 2 * (2.0 / np.sum(hann_window(size).astype(np.float64) ** 2))
    bins = bins / (sample_rate_hz / 2.0) * bins_hz[1]  # the sum over bins is the power
    noise, total = np.full((2, len(f0_hz), N_BANDS), np.nan)
    edges_hz = np.array(BAND_EDGES_HZ)
    for band, (low_hz, high_hz) in enumerate(itertools.pairwise(edges_hz)):
        if high_hz > top_hz and band > 0:
            continue
        between = (places_hz >= low_hz) & (places_hz < high_hz)
        count = between.sum(axis=1)
        noise[:, band] = np.where(
            count > 0, (partials.noise_density * between).sum(axis=1) / np.maximum(count, 1), np.nan
        )
        total[:, band] = bins[:, (bins_hz >= low_hz) & (bins_hz < high_hz)].sum(axis=1)
    harmonic = np.full((len(f0_hz), N_GROUPS), np.nan)
    for group, (first, last) in enumerate(zip((0, *GROUP_ENDS[:-1]), GROUP_ENDS, strict=True)):
        own, under = power[:, first:last].sum(axis=1), covering[:, first:last].sum(axis=1)
        known = (first < power.shape[1]) & (own > LEAST_SNR * under) & (last * f0_hz < top_hz)
        harmonic[:, group] = np.where(known, own - under, np.nan)
    return Levels(
        _db(noise),
        _db(harmonic),
        _db(np.maximum(power - covering, 0.1 * power).sum(axis=1)),
        _db(total),
        _db(noise * np.diff(edges_hz)),
    )


def _db(power: np.ndarray) -> DoubleArray:
    with np.errstate(invalid="ignore"):
        return np.asarray(10.0 * np.log10(np.maximum(power, 1e-20)))


def _medians(points: dict[str, np.ndarray]) -> Articulation:
    """Returns the medians over notes of differences from their sustain, shrunk."""
    is_sustain = (points["since"] >= SUSTAIN_S) & (points["since"] < FOLLOWED_S) & (points["fallen"] < FALL_STEP_DB)
    arrays = {}
    for name in ("noise", "harmonic", "total"):
        arrays[name] = points[name] - _sustained(points["note"], is_sustain, points[name])
    share_db = _known_median(points["share"][is_sustain])
    early = points["since"] < N_STEPS * STEP_TIME_S
    step = (points["since"] / STEP_TIME_S + 1e-6).astype(int)
    onsets = {name: np.zeros((3, N_STEPS, arrays[name].shape[1])) for name in ("noise", "harmonic")}
    for t in range(N_STEPS):
        now = early & (step == t) & (points["fallen"] < FALL_STEP_DB)
        rows = now & (points["kind"] == BOUND)
        # Where F0 changes, part of the power between the harmonics is the other note. So the noise is raised at most
        # by the power that the whole band lacks.
        lacking = np.maximum(10.0 ** (_known_median(arrays["total"][rows]) / 10.0) - 1.0, 0.0)
        most_db = 10.0 * np.log10(1.0 + lacking * 10.0 ** (-np.minimum(share_db, 0.0) / 10.0))
        for name, values in onsets.items():
            values[BOUND - 1, t] = _shrunk(points["note"][rows], arrays[name][rows])
        onsets["noise"][BOUND - 1, t] = np.minimum(onsets["noise"][BOUND - 1, t], most_db)
        # Soft and hard onsets: their common difference, plus the shrunk difference of each from it.
        for name, values in onsets.items():
            rows = now & (points["kind"] != BOUND)
            both = _shrunk(points["note"][rows], arrays[name][rows])
            for kind in (SOFT, HARD):
                rows = now & (points["kind"] == kind)
                values[kind - 1, t] = both + _shrunk(points["note"][rows], arrays[name][rows] - both)
    falls = {name: np.zeros((N_FALLS, arrays[name].shape[1])) for name in ("noise", "harmonic")}
    place = np.round(points["fallen"] / FALL_STEP_DB).astype(int) - 1
    for level in range(N_FALLS):
        rows = ~early & (np.minimum(place, N_FALLS - 1) == level)
        for name, values in falls.items():
            values[level] = _shrunk(points["note"][rows], arrays[name][rows])
    bounds = {"noise": MAX_NOISE_DB, "harmonic": MAX_HARMONIC_DB}
    return Articulation(**{
        f"{part}_{name}_db": np.clip(values[name], -bound, bound).astype(np.float32)
        for part, values in (("onset", onsets), ("fall", falls)) for name, bound in bounds.items()
    })  # fmt: skip


def _sustained(notes: np.ndarray, is_sustain: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the levels in the sustain of each note, [P, C]; for short notes those of all notes."""
    common = _known_median(values[is_sustain])
    out = np.tile(common, (len(values), 1))
    for note in np.unique(notes):
        own = notes == note
        rows = values[own & is_sustain]
        enough = np.isfinite(rows).sum(axis=0) >= LEAST_SUSTAIN
        if enough.any():
            out[np.ix_(own, enough)] = _known_median(rows[:, enough])
    return out


def _shrunk(notes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns medians over notes [C] of the means of each note, less the standard error, shrunk where notes are few."""
    n_columns = values.shape[1]
    means = []
    for note in np.unique(notes):
        own = values[notes == note]
        count = np.isfinite(own).sum(axis=0)
        means.append(np.where(count > 0, np.nansum(own, axis=0) / np.maximum(count, 1), np.nan))
    if len(means) < LEAST_NOTES:
        return np.zeros(n_columns)
    table = np.array(means)
    n = np.isfinite(table).sum(axis=0)
    median = _known_median(table)
    spread = DEVIATION_PER_MEDIAN * _known_median(np.abs(table - median))
    error = 1.25 * spread / np.sqrt(np.maximum(n, 1))
    shrunk = np.sign(median) * np.maximum(np.abs(median) - error, 0.0) * n / (n + HALF_NOTES)
    return np.where(n >= LEAST_NOTES, shrunk, 0.0)


def _known_median(values: np.ndarray) -> np.ndarray:
    """Returns the medians [C] of the values that are not NaN; 0 where all are NaN."""
    known = np.isfinite(values).any(axis=0) if len(values) else np.zeros(values.shape[1], bool)
    out = np.zeros(values.shape[1])
    out[known] = np.nanmedian(values[:, known], axis=0)
    return out
