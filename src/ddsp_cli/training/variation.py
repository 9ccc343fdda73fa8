"""Measure the small, fast fluctuations of held notes: level and frequency of each partial, pitch, noise.

A network predicts an average for a level and a pitch. In recordings the partials also fluctuate independently, in level
and frequency, and the noise is not stationary. These fluctuations are measured as statistics, from which the player
draws its own (`synthesis.variation`).

Fluctuations depend on the pitch, so they are medians over the notes nearest to each of several pitches.

Shapes: N notes, F values of F0, K harmonics, G noise groups, P pitches.
"""

from __future__ import annotations

import itertools
import math

import msgspec
import numpy as np

from ddsp_cli.analysis.harmonics import N_PERIODS, Partials, measure_partials
from ddsp_cli.arrays import FloatArray, runs
from ddsp_cli.config import HarmonicConfig
from ddsp_cli.scaling import hz_to_midi
from ddsp_cli.synthesis.variation import (
    BAND_HZ,
    JITTER_HZ,
    MAX_POLE,
    MAX_VIBRATO_CENTS,
    NOISE_EDGES_HZ,
    PITCHES_MIDI,
    Variation,
    band_share,
)
from ddsp_cli.training.windows import Windows

#: Largest number of windows that are measured: 3 to 20 s of one core.
MAX_WINDOWS = 160

#: A note whose pitch jitters more than this is not held, or not alone: a trill, a chord, a note under which the one
#: before still sounds in the room. Of the recordings of the bundled instruments 1 to 32 % of the notes; the jitter of
#: the others has a median of 0.3 to 3 cents.
MAX_NOTE_JITTER_CENTS = 12.0

#: The statistics at each pitch are medians over this many notes, those nearest to it.
N_NEAREST = 40

#: A held note is at least this long and stays within this distance of its median; this much of both ends is left out.
LEAST_NOTE_S, NOTE_SEMITONES, END_S = 0.4, 0.4, 0.05

#: The two halves of the band; the ratio of their powers gives the speed of the fluctuations.
SLOW_HZ, FAST_HZ = (BAND_HZ[0], 12.0), (12.0, BAND_HZ[1])

#: A partial is measured where it is this much louder than the noise in its bin.
LEAST_SNR_DB = 20.0

#: Largest number of harmonics that are measured one by one; those above have the value of the highest.
MAX_MEASURED = 40

#: Number of the lowest harmonics that are not smoothed.
N_UNSMOOTHED = 6

#: Smallest number of notes for a value; other values are filled from their neighbours.
LEAST_NOTES = 3


#: Band of vibrato and of other slow movements of the pitch; the shortest notes that are measured.
VIBRATO_HZ, LEAST_VIBRATO_NOTE_S = (3.0, JITTER_HZ[0]), 0.3


class Note(msgspec.Struct, frozen=True):
    """Fluctuations in one note, NaN where they cannot be measured.

    Attributes:
      midi: its pitch.
      levels_db: [40] of each partial, without the movement that all partials share.
      cents: [40] frequency of each partial, likewise.
      slow, fast: power of the movements of levels in `SLOW_HZ` and `FAST_HZ`.
      jitter_cents: of the pitch.
      noise_db: [G] of the noise.
    """

    midi: float
    levels_db: FloatArray
    cents: FloatArray
    slow: float
    fast: float
    jitter_cents: float
    noise_db: FloatArray


def measure_variation(windows: Windows) -> Variation | None:
    """Measures the variation of held notes in windows of recordings.

    Args:
      windows: of the training split, with F0 at 100 Hz or more.

    Returns:
      The variation; None if the recordings have no held notes, or the model has no harmonics.
    """
    harmonic = windows.model.only(HarmonicConfig)
    rate_hz = windows.model.frame_rate_hz * windows.f0_step
    if harmonic is None or rate_hz < 100:
        return None
    rows = windows.voiced_rows(MAX_WINDOWS)
    notes = [note for row in rows for note in _measure_window(windows, int(row), rate_hz)]
    notes = [note for note in notes if note.jitter_cents < MAX_NOTE_JITTER_CENTS]
    if len(notes) < LEAST_NOTES:
        return None
    levels_db, cents, jitter_cents, noise_db = (
        np.array([getattr(note, name) for note in notes]) for name in ("levels_db", "cents", "jitter_cents", "noise_db")
    )
    if not (np.sum(np.isfinite(levels_db), axis=0) >= LEAST_NOTES).any():
        return None
    distances = np.abs(np.array([note.midi for note in notes]) - PITCHES_MIDI[:, None])
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :N_NEAREST]
    n_harmonics = harmonic[1].n_harmonics
    slow, fast = (_known_median(np.array([getattr(note, name) for note in notes])) for name in ("slow", "fast"))
    harmonic_db = at_pitches(levels_db, nearest, n_harmonics)
    return Variation(
        harmonic_db=harmonic_db,
        harmonic_cents=at_pitches(cents, nearest, n_harmonics),
        pole=_pole(slow, fast, windows.model.frame_rate_hz),
        jitter_cents=np.array([_known_median(jitter_cents[own]) for own in nearest], np.float32),
        noise_db=_noise_movements(noise_db, windows.hop_samples * windows.model.frame_rate_hz),
        # see `training.note_timbre`
        note_db=np.zeros_like(harmonic_db),
        note_noise_db=np.zeros(len(NOISE_EDGES_HZ) - 1, np.float32),
        drift_db=np.zeros_like(harmonic_db),
        vibrato_cents=_usual_vibrato(windows, rate_hz),
    )


def _usual_vibrato(windows: Windows, rate_hz: int) -> float:
    """Returns the median width of vibrato, root mean square in cents.

    The median, because slides and trills count as wide vibrato. Notes may be shorter here than for the partials: a
    melody has few long notes.
    """
    found = []
    shortest = round(LEAST_VIBRATO_NOTE_S * rate_hz)
    for f0_hz, voiced in zip(windows.fine_f0_hz, windows.voiced, strict=True):
        inside = np.repeat(voiced, windows.f0_step) & steady(f0_hz, rate_hz, 0.2, 0.5)
        for start, stop in zip(*runs(inside), strict=True):
            if stop - start >= shortest:
                cents = 1200.0 * np.log2(f0_hz[start:stop, None])
                found.append(float(_filtered(cents, rate_hz, VIBRATO_HZ).std()))
    return float(np.median(found)) if found else MAX_VIBRATO_CENTS


def _measure_window(windows: Windows, row: int, rate_hz: int) -> list[Note]:
    """Measures the held notes of a window."""
    f0_hz = windows.fine_f0_hz[row]
    sample_rate_hz = windows.hop_samples * windows.model.frame_rate_hz  # at which sound is rendered: 16 kHz is faster
    n = int(min(MAX_MEASURED, 0.45 * sample_rate_hz / float(f0_hz.max())))
    if n < 2:
        return []
    partials = measure_partials(windows.sound[row], sample_rate_hz, f0_hz, rate_hz, n)
    voiced = np.repeat(windows.voiced[row], windows.f0_step)
    found = []
    trim = round(END_S * rate_hz)
    for start, stop in zip(*runs(voiced & steady(f0_hz, rate_hz)), strict=True):
        if stop - start >= LEAST_NOTE_S * rate_hz + 2 * trim:
            part = slice(start + trim, stop - trim)
            note = Partials(*(values[part] for values in msgspec.structs.astuple(partials)))
            measured = _measure_note(note, f0_hz[part], rate_hz)
            if measured is not None:
                found.append(measured)
    return found


def steady(
    f0_hz: FloatArray, rate_hz: int, around_s: float = LEAST_NOTE_S, semitones: float = NOTE_SEMITONES
) -> np.ndarray:
    """Returns a mask [F] of values within some semitones of the running median over `around_s`."""
    size = round(around_s * rate_hz) | 1
    midi = 12.0 * np.log2(f0_hz)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(midi, size // 2, mode="edge"), size)
    return np.abs(midi - np.median(around, axis=1)) < semitones


def _measure_note(partials: Partials, f0_hz: FloatArray, rate_hz: int) -> Note | None:
    """Measures the fluctuations in one note; None if too few partials stand out of the noise."""
    power = partials.harmonic_power
    noise = partials.noise_in_harmonics(f0_hz)
    snr = np.median(power / np.maximum(noise, 1e-20), axis=0)
    good = np.flatnonzero(snr > 10.0 ** (LEAST_SNR_DB / 10.0))
    if len(good) < 3:
        return None
    k = good + 1
    levels_db = _filtered(10.0 * np.log10(power[:, good] + 1e-16), rate_hz, BAND_HZ)
    # The common movement is the mean weighted by power, mostly that of the strongest partial, which sets the pitch.
    weight = np.median(power[:, good], axis=0)
    weight /= weight.sum()
    apart_db = levels_db - (levels_db @ weight)[:, None]
    share = 1.0 / np.maximum(1.0 - 2.0 * weight + np.sum(weight**2), 0.2)  # restores what the mean removed
    # Noise also moves a partial: variance in dB² of a level with a noise share of 1/snr, within the band.
    within = _share_of_noise(float(np.median(f0_hz)))
    by_noise = within * (10.0 / math.log(10.0)) ** 2 * 2.0 / snr[good]
    variance_db = np.maximum(apart_db.var(axis=0) * share - by_noise, 0.0)
    # frequencies: changes of the phase against that of F0, relative to the frequency
    turns = np.diff(partials.harmonic_drift[:, good], axis=0)
    cents = (turns - np.rint(turns)) * rate_hz / (k * f0_hz[1:, None]) * (1200.0 / math.log(2.0))
    common = cents @ weight
    apart = _filtered(cents - common[:, None], rate_hz, BAND_HZ)
    by_noise = within * (1200.0 / math.log(2.0) * _rms_hz(BAND_HZ) / (k * np.median(f0_hz))) ** 2 / (2.0 * snr[good])
    variance = np.maximum(apart.var(axis=0) * share - by_noise, 0.0)
    slow, fast = ((_filtered(apart_db, rate_hz, band) ** 2).mean() for band in (SLOW_HZ, FAST_HZ))
    # the drift is relative to the tracked F0, which has errors; their sum is the pitch of the sound
    pitch_cents = 1200.0 * np.log2(0.5 * (f0_hz[1:] + f0_hz[:-1])) + common
    by_noise = within * (1200.0 / math.log(2.0) * _rms_hz(JITTER_HZ) / (k * np.median(f0_hz))) ** 2 / (2.0 * snr[good])
    jitter = _filtered(pitch_cents[:, None], rate_hz, JITTER_HZ).var() - np.sum(weight**2 * by_noise)
    jitter = math.sqrt(max(jitter, 0.0))
    out = np.full((2, MAX_MEASURED), np.nan)
    out[0, good], out[1, good] = np.sqrt(variance_db), np.sqrt(variance)
    midi = float(np.median(hz_to_midi(f0_hz)))
    return Note(midi, out[0], out[1], slow, fast, jitter, _noise_groups(partials, f0_hz, rate_hz))


def _noise_groups(partials: Partials, f0_hz: FloatArray, rate_hz: int) -> FloatArray:
    """Measures by how much the noise level fluctuates more than that of stationary noise, [G] dB; NaN where unknown."""
    hz = (np.arange(partials.noise_density.shape[1]) + 0.5) * float(np.median(f0_hz))
    step = max(1, round(0.02 * rate_hz))
    found = np.full(len(NOISE_EDGES_HZ) - 1, np.nan)
    for i, (low, high) in enumerate(itertools.pairwise(NOISE_EDGES_HZ)):
        inside = (hz >= low) & (hz < high)
        n = int(inside.sum())
        if n < 2:
            continue
        level_db = 10.0 * np.log10(partials.noise_density[::step, inside].mean(axis=1) + 1e-18)
        change = np.diff(level_db).std() / math.sqrt(2.0)
        even = 10.0 / math.log(10.0) * math.sqrt(1.0 / n + 1.0 / (2.0 * n * n) + 1.0 / (6.0 * n**3))
        found[i] = math.sqrt(max(change**2 - even**2, 0.0))
    return found


def _noise_movements(noise_db: np.ndarray, sample_rate_hz: int) -> FloatArray:
    """Returns medians over notes, [N, G] → [G]; groups above the measured sound take the value of the highest one."""
    found = np.array([_known_median(column) for column in noise_db.T], np.float32)
    n_measured = int(np.searchsorted(NOISE_EDGES_HZ, sample_rate_hz / 2.0))
    found[n_measured:] = found[n_measured - 1]
    return found


def _filtered(values: np.ndarray, rate_hz: int, band_hz: tuple[float, float]) -> np.ndarray:
    """Removes the trend of values [F, C] and band-passes them along the first axis."""
    n = len(values)
    line = np.linspace(-1.0, 1.0, n)[:, None]
    centred = values - values.mean(axis=0)
    centred = centred - line * (line * centred).sum(axis=0) / np.sum(line**2)
    spectrum = np.fft.rfft(centred, axis=0)
    hz = np.fft.rfftfreq(n, 1.0 / rate_hz)
    spectrum[(hz < band_hz[0]) | (hz > band_hz[1])] = 0.0
    return np.fft.irfft(spectrum, n, axis=0)


def _share_of_noise(f0_hz: float) -> float:
    """Returns the share of the noise in a harmonic's bin that moves the harmonic at frequencies within `BAND_HZ`.

    The bin of a Hann window of N periods is 1.5·F0/N wide: noise moves the harmonic at frequencies up to half of that.
    """
    return min(1.0, (BAND_HZ[1] - BAND_HZ[0]) / (0.75 * f0_hz / N_PERIODS))


def _rms_hz(band_hz: tuple[float, float]) -> float:
    """Returns the RMS deviation of frequency, in Hz, that white phase noise of variance 1 rad² in a band causes."""
    low, high = band_hz
    return math.sqrt((high**3 - low**3) / (3.0 * (high - low)))


def at_pitches(values: np.ndarray, nearest: np.ndarray, n_harmonics: int) -> FloatArray:
    """Returns medians over the nearest notes, values [N, 40] → [P, K]; where these have none, over all notes."""
    of_all = _filled(values)
    found = []
    for own in nearest:
        is_known = np.sum(np.isfinite(values[own]), axis=0) >= LEAST_NOTES
        found.append((_filled(values[own]) if is_known.any() else of_all)[: min(MAX_MEASURED, n_harmonics)])
    return np.pad(np.array(found), ((0, 0), (0, max(0, n_harmonics - MAX_MEASURED))), mode="edge")


def _filled(values: np.ndarray) -> FloatArray:
    """Returns medians over notes, [N, K] → [K]; harmonics of few notes take the value of their neighbours.

    High harmonics are smoothed. Low ones are not: they differ, and each is audible by itself.
    """
    known = np.sum(np.isfinite(values), axis=0) >= LEAST_NOTES
    k = np.arange(values.shape[1])
    medians = np.interp(k, k[known], np.nanmedian(values[:, known], axis=0))
    padded = np.pad(medians, 2, mode="edge")
    smooth = np.convolve(padded, np.ones(5) / 5.0, "valid")
    return np.where(k < N_UNSMOOTHED, medians, smooth).astype(np.float32)


def _known_median(values: np.ndarray) -> float:
    """Returns the median of the values that are not NaN; 0 if all are NaN."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else 0.0


def _pole(slow: float, fast: float, frame_rate_hz: int) -> float:
    """Returns the pole of a first-order process with the measured ratio of powers in `SLOW_HZ` and `FAST_HZ`."""
    poles = np.linspace(0.0, MAX_POLE, 81)
    ratios = [band_share(pole, SLOW_HZ, frame_rate_hz) / band_share(pole, FAST_HZ, frame_rate_hz) for pole in poles]
    return float(poles[int(np.argmin(np.abs(np.log(np.array(ratios)) - math.log(max(slow, 1e-9) / max(fast, 1e-9)))))])
