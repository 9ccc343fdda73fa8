"""How real instruments sound: measures of recordings beside those of their resynthesis.

    python benchmarks/realism.py NAME... [--models DIR]... [--datasets DIR | --recordings DIR] [--rows ROW,...]
                                 [--voices PATH]... [--musicnn DIR] [--csv FILE]

For each instrument NAME the validation split of the data set DIR/NAME (`ddsp prepare`, best at 48 kHz) is played by
models/NAME: the F0 and the level of the recording go in, as `ddsp transfer` plays them, and the result is measured
beside the recording. --models may be given several times; the instruments are then compared on the same recordings,
each resampled to their rate. With --recordings the sound files in DIR/NAME take the place of the data set.

Rows, by the names that --rows takes. Measures of notes are medians over notes, and the difference is the median of the
differences note by note. A note has a steady F0 (within 0.8 semitones of its running median) for at least 0.28 s.

    loss        multi-scale spectral loss at 16 kHz, share of frames in tune, level error, noise balance, as `ddsp
                evaluate` has them, of the network alone; loss and level error of the transfer
    ltas        power of the mean spectrum in octaves up to 16 kHz, dB of the power below 8 kHz; power above 8 kHz,
                plain and A-weighted, dB of that of all. Only recordings whose bandwidth reaches so far
    neighbours  power in octaves, summed over notes: of the recordings, the instrument, and the notes of the training
                split within 1.5 semitones and 3 dB of each, at its level: what a perfect copy of these would have.
                Only with --datasets, and only where it is named
    dead        controls without effect: harmonics below 7 and 16 kHz under -80 dB on every note of a chromatic scale at
                three levels; partials that stand out of the noise in the recordings and are under -80 dB in the
                controls for the same note; noise bands more than 6 dB below the line between their neighbours
    partials    share of the partials from 1.5 to 6 kHz that stand 3 dB out of the noise between them, dry: on the low
                notes of the recordings, and on a steady scale over the lowest fifth
    lines       share of the partials from 2.5 to 20 kHz, from the twelfth on, that stand 10 dB out of their neighbours
    life        partials' levels together (mean correlation, 3-30 Hz), their frequencies apart (cents, 3-30 Hz), vibrato
                (3.5-8.5 Hz) and jitter (10-30 Hz) of the strongest, fast AM (dB, 10-35 Hz)
    noise       harmonic-to-noise ratio in four bands, and of low notes; fluctuation of the noise at 2-4 kHz
    onsets      attack (10-90 %), noise at onsets against that in the note, noise at changes of note without a rest
    room        share of frames that Praat's autocorrelation reads within 50 cents of the F0 that was played
    classifier  area under the curve of a logistic regression, and Fréchet distance, on log-mel statistics of 3 s; with
                --musicnn also on the mean-pooled layer of musicnn (`pip install --no-deps --target DIR musicnn`).
                --classifier or --musicnn adds this row
    transfers   with --voices: noise, onsets and vibrato of transfers, against the five notes of the recordings that are
                nearest in pitch, and the Fréchet distance of the transfers to the recordings, beside that of the
                held-out recordings to the others
"""

from __future__ import annotations

import argparse
import csv
import functools
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ddsp_cli.adaptation.autotune import limit_vibrato
from ddsp_cli.adaptation.dynamics import fast_envelope_db
from ddsp_cli.analysis import metrics
from ddsp_cli.analysis.extract import measure
from ddsp_cli.analysis.features import Features, fill_f0
from ddsp_cli.analysis.harmonics import measure_partials
from ddsp_cli.analysis.loudness import SharpEnvelope, a_weighting_db
from ddsp_cli.analysis.recording_checks import bandwidth_hz
from ddsp_cli.arrays import hann_window, runs
from ddsp_cli.audio import read
from ddsp_cli.bundle import Bundle
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.dataset import loader
from ddsp_cli.importers import tensor_bundle
from ddsp_cli.importers.files import Folder
from ddsp_cli.scaling import hz_to_midi, midi_to_hz
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.variation import variation_of
from ddsp_cli.training.output_layer import HARMONIC_SPIKE_DB, NEIGHBOURS, SPIKE_RANGE_DB, harmonic_excess_db
from ddsp_cli.workflows import models
from ddsp_cli.workflows.transfer import transfer_files

ROOT = Path(__file__).parent.parent

#: Recordings are compared at this rate where they are given as files.
RATE_HZ = 48000

#: F0 and level of a performance have so many frames a second.
FRAME_HZ = FeatureSpec().frame_rate_hz

#: Seconds of one performance at most.
LONGEST_S = 180.0

#: Classifier and Fréchet distance compare pieces of this length, one a second.
PATCH_S, PATCH_HOP_S = 3.0, 1.0

#: So many pieces of recordings that are not played show how much recordings differ among themselves.
N_OTHERS = 80


# --- performances ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Performance:
    """Recordings of one instrument, one after the other, and their renderings.

    Attributes:
      audio: [S] at `rate_hz`.
      rate_hz: of the audio.
      features: at `FRAME_HZ`, F0 with 0 where unvoiced.
      starts_s: where each recording starts.
      others: [N, S] pieces of other recordings of the instrument at 16 kHz, `PATCH_S` long.
    """

    audio: np.ndarray
    rate_hz: int
    features: Features
    starts_s: np.ndarray
    others: np.ndarray = field(default_factory=lambda: np.zeros((0, round(PATCH_S * ANALYSIS_RATE_HZ)), np.float32))

    @property
    def seconds(self) -> float:
        """Length of all recordings."""
        return len(self.audio) / self.rate_hz


def read_split(folder: Path, split: str = "validation", longest_s: float = LONGEST_S) -> Performance:
    """Takes the windows of one split of a data set, which continue one another, at most `longest_s`."""
    import soxr

    data = loader.load(folder)
    examples = getattr(data, split)
    manifest = data.manifest
    n = max(1, round(min(longest_s / manifest.window_s, len(examples))))
    seconds = min(len(examples), n) * manifest.window_s
    values = {
        name: np.ascontiguousarray(getattr(examples, name)[:n].reshape(-1))
        for name in ("f0_hz", "f0_confidence", "loudness_db", "power_db")
    }
    n_samples = round(seconds * ANALYSIS_RATE_HZ)
    features = Features(**values, spec=manifest.features, n_samples=n_samples).at(FRAME_HZ)
    lengths = [r.used_s for r in manifest.recordings if r.split in (split, "both")]
    starts_s = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    audio = np.ascontiguousarray(examples.audio[:n].reshape(-1))
    envelope = SharpEnvelope(features.spec)
    envelope.push(soxr.resample(audio, manifest.sample_rate_hz, ANALYSIS_RATE_HZ))
    features = replace(features, envelope_db=envelope.finish(features.f0_hz, features.power_db))
    rest = data.train if split == "validation" else data.validation
    which = np.unique(np.linspace(0, len(rest) - 1, min(N_OTHERS, len(rest))).round().astype(int))
    size = round(PATCH_S * manifest.sample_rate_hz)
    pieces = [soxr.resample(rest.audio[i, :size], manifest.sample_rate_hz, ANALYSIS_RATE_HZ) for i in which]
    starts_s = starts_s[starts_s < seconds]
    return Performance(audio, manifest.sample_rate_hz, features, starts_s, np.array(pieces, np.float32))


def read_recordings(folder: Path) -> Performance:
    """Measures the sound files of a folder, joined, at most `LONGEST_S`."""
    import soxr

    spec, parts, starts, total = FeatureSpec(), [], [], 0
    for path in read.list_audio([folder]):
        if total >= LONGEST_S * RATE_HZ:
            break
        audio = read.read_mono(path, RATE_HZ)[: round(LONGEST_S * RATE_HZ) - total]
        audio = audio[: len(audio) // (RATE_HZ // FRAME_HZ) * (RATE_HZ // FRAME_HZ)]
        starts.append(total / RATE_HZ)
        parts.append(audio)
        total += len(audio)
    audio = np.concatenate(parts)
    low = soxr.resample(audio, RATE_HZ, ANALYSIS_RATE_HZ)
    found = measure(low, spec)
    f0_hz = metrics.correct_f0_hz(low, found.f0_hz, spec.frame_rate_hz)
    return Performance(audio, RATE_HZ, replace(found, f0_hz=f0_hz), np.array(starts))


#: Distance of the seeds of two performances.
DRAW_SEEDS = 1_000_000


def play(
    loaded: Bundle,
    performance: Performance,
    room: bool = True,
    gain_db: float = 0.0,
    as_transfer: bool = True,
    draw: int = 0,
) -> np.ndarray:
    """Plays F0 and level of a performance as a transfer does, each recording from the beginning.

    Jitter of the recordings is left out where the instrument adds its own.

    Args:
      loaded: the instrument.
      performance: what it plays.
      room: with its own room.
      gain_db: added to the level before and taken off the sound after, for recordings at another level than those
        that the instrument learned from.
      as_transfer: with fast envelope and level correction; False plays what the network predicts.
      draw: number of the performance; each draws other movements and timbres of notes.

    Returns:
      [S], at the rate of the performance and as long.
    """
    import soxr

    model, features = loaded.card.model, performance.features
    instrument = Instrument(loaded)
    n_frames = len(features) * model.frame_rate_hz // FRAME_HZ
    level_db = getattr(features, model.level)[:: FRAME_HZ // model.frame_rate_hz][:n_frames] + np.float32(gain_db)
    f0_hz = fill_f0(features.f0_hz, features.power_db)[: n_frames * FRAME_HZ // model.frame_rate_hz]
    low = soxr.resample(performance.audio, performance.rate_hz, ANALYSIS_RATE_HZ) * np.float32(10 ** (gain_db / 20))
    variation = variation_of(loaded)
    if variation is not None and variation.has_jitter:
        smooth = limit_vibrato(hz_to_midi(f0_hz.astype(np.float64)), np.inf, False, FRAME_HZ)
        f0_hz = np.asarray(midi_to_hz(smooth), np.float32)
    envelope_db = features.power_db if features.envelope_db is None else features.envelope_db
    gates = 10.0 ** (fast_envelope_db(envelope_db, features.power_db) / 20.0)
    parts = []
    edges = [*(round(s * model.frame_rate_hz) for s in performance.starts_s), n_frames]
    for first, stop in itertools.pairwise(edges):
        fine = slice(first * FRAME_HZ // model.frame_rate_hz, stop * FRAME_HZ // model.frame_rate_hz)
        own = low[first * ANALYSIS_RATE_HZ // model.frame_rate_hz : stop * ANALYSIS_RATE_HZ // model.frame_rate_hz]
        parts += instrument.render(
            f0_hz[fine],
            level_db[first:stop],
            gates[fine].astype(np.float32) if as_transfer else None,
            room=room,
            level_correction=as_transfer,
            timbre=instrument.timbre([own]),
            seed=first + DRAW_SEEDS * draw,
        )
    sound = np.concatenate(parts)
    sound = soxr.resample(sound, model.sample_rate_hz, performance.rate_hz) * np.float32(10 ** (-gain_db / 20))
    return np.pad(sound, (0, max(0, len(performance.audio) - len(sound))))[: len(performance.audio)]


def gain_for(loaded: Bundle, features: Features) -> float:
    """Returns the gain in dB that brings the loud notes of a performance to the level of an instrument's loud notes."""
    voiced = features.f0_hz > 0
    return float(loaded.card.statistics.power_db[95] - np.percentile(features.power_db[voiced], 95))


@dataclass(frozen=True)
class Note:
    """A note of a performance: its bounds and its F0."""

    start_s: float
    stop_s: float
    f0_hz: float

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.stop_s - self.start_s


LEAST_NOTE_S = 0.28
STEADY_SEMITONES = 0.8
LEAST_CONFIDENCE = 0.55


def find_notes(features: Features, least_s: float = LEAST_NOTE_S) -> list[Note]:
    """Finds notes: voiced, F0 within 0.8 semitones of its running median of 0.2 s, which itself is steady."""
    from scipy.ndimage import median_filter

    rate = features.spec.frame_rate_hz
    voiced = (features.f0_hz > 0) & (features.f0_confidence > LEAST_CONFIDENCE)
    midi = np.where(features.f0_hz > 0, hz_to_midi(np.maximum(features.f0_hz, 1.0).astype(np.float64)), 0.0)
    found = []
    for start, stop in zip(*runs(voiced), strict=True):
        if stop - start < 0.05 * rate:
            continue
        own = midi[start:stop]
        median = median_filter(own, min(round(0.2 * rate) | 1, (stop - start) // 2 * 2 + 1), mode="nearest")
        reach = max(1, round(0.02 * rate))
        ahead = np.abs(np.pad(median, (0, reach), mode="edge")[reach:] - median)
        behind = np.abs(np.pad(median, (reach, 0), mode="edge")[:-reach] - median)
        # half a semitone in 20 ms is a change of note, vibrato moves the running median less
        steady = (np.abs(own - median) < STEADY_SEMITONES) & (np.maximum(ahead, behind) < 0.5)
        for a, b in zip(*runs(steady), strict=True):
            if b - a >= least_s * rate:
                f0 = float(midi_to_hz(np.median(own[a:b])))
                found.append(Note(float(start + a) / rate, float(start + b) / rate, f0))
    return found


# --- sounds and their measures: one value per note, NaN where it cannot be measured -----------------------------------


@dataclass
class Sound:
    """A recording or a resynthesis.

    Attributes:
      audio: [S] at `rate_hz`.
      dry: [S] without the room; for a recording the same as `audio`.
      rate_hz: of both.
    """

    audio: np.ndarray
    dry: np.ndarray
    rate_hz: int
    _low: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def audio_16k(self) -> np.ndarray:
        """The sound at 16 kHz."""
        return self._at_16k("audio")

    @property
    def dry_16k(self) -> np.ndarray:
        """The sound without the room at 16 kHz."""
        return self._at_16k("dry")

    def _at_16k(self, which: str) -> np.ndarray:
        import soxr

        if which not in self._low:
            self._low[which] = soxr.resample(getattr(self, which), self.rate_hz, ANALYSIS_RATE_HZ)
        return self._low[which]


def to_db(power: np.ndarray | float, floor: float = 1e-20) -> np.ndarray:
    """Returns 10 · log10 with a floor."""
    return 10.0 * np.log10(np.maximum(power, floor))


def band_limited(values: np.ndarray, rate_hz: float, low_hz: float, high_hz: float) -> np.ndarray:
    """Band-passes [T, ...] along the first axis without delay (Butterworth of order 2, forwards and backwards)."""
    from scipy.signal import butter, sosfiltfilt

    return sosfiltfilt(butter(2, (low_hz, high_hz), "bandpass", fs=rate_hz, output="sos"), values, axis=0)


#: Frames of demodulated partials a second.
PARTIAL_RATE_HZ = 200
PARTIAL_TOP_HZ = 7500.0
MAX_PARTIALS = 40
AUDIBLE_DB = 25.0


def track_partials(audio: np.ndarray, f0_hz: np.ndarray, note: Note) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Demodulates the partials of a note, low-passed at 40 Hz or 0.35 F0, whichever is less.

    The carriers follow F0, smoothed, so that vibrato stays within the filter at high partials; what they followed is
    given back in the deviations.

    Args:
      audio: [S] at 16 kHz.
      f0_hz: [F] at `FRAME_HZ`, filled where unvoiced.
      note: which.

    Returns:
      Levels in dB [T, K], deviations of the partials' frequencies from multiples of the carrier in cents [T, K], and
      the carrier in cents [T] relative to the note's F0; `PARTIAL_RATE_HZ` frames a second.
    """
    from scipy.ndimage import gaussian_filter1d

    rate, hop = ANALYSIS_RATE_HZ, ANALYSIS_RATE_HZ // PARTIAL_RATE_HZ
    n_hops = 2 * int(np.ceil(0.5 * max(0.03, 3.4 / note.f0_hz) * rate / hop))
    window = np.blackman(n_hops * hop + 1)[:-1]
    n_frames = int(note.seconds * PARTIAL_RATE_HZ)
    first = round(note.start_s * rate)
    span = np.arange(first - n_hops * hop // 2, first + n_frames * hop + n_hops * hop // 2 - hop)
    sound = np.where((span >= 0) & (span < len(audio)), audio[np.clip(span, 0, len(audio) - 1)], 0.0)
    frames = slice(max(0, int(note.start_s * FRAME_HZ) - 50), int(note.stop_s * FRAME_HZ) + 50)
    cents = gaussian_filter1d(1200.0 * np.log2(f0_hz[frames].astype(np.float64) / note.f0_hz), 5.0, mode="nearest")
    cents = np.clip(cents, -150.0, 150.0)
    carrier = np.interp(span / rate * FRAME_HZ - frames.start, np.arange(len(cents)), cents)
    phase = 2.0 * np.pi * np.cumsum(note.f0_hz * 2.0 ** (carrier / 1200.0)) / rate
    n_partials = max(1, min(MAX_PARTIALS, int(PARTIAL_TOP_HZ / note.f0_hz)))
    step = np.exp(-1j * phase).astype(np.complex64)
    turned = sound.astype(np.complex64)
    pieces = (window / (0.5 * window.sum())).reshape(n_hops, hop).T.astype(np.complex64)
    found = np.empty((n_frames, n_partials), np.complex64)
    for k in range(n_partials):
        turned = turned * step
        blocks = turned.reshape(-1, hop) @ pieces  # [n_frames + n_hops - 1, n_hops]
        found[:, k] = sum(blocks[i : i + n_frames, i] for i in range(n_hops))
    levels = to_db(np.abs(found) ** 2)
    turns = np.angle(found[1:] * np.conj(found[:-1])) / (2.0 * np.pi) * PARTIAL_RATE_HZ
    shift = 1200.0 / np.log(2.0) * turns / (note.f0_hz * np.arange(1, n_partials + 1))
    middle = span[n_hops * hop // 2 :: hop][:n_frames]
    track = np.interp(middle / rate * FRAME_HZ - frames.start, np.arange(len(cents)), cents)
    return levels, np.concatenate([shift[:1], shift]), track


#: What is cut off a note before its movements are measured: attack and release.
EDGE_S = (0.06, 0.03)

#: Levels are averaged over this long before their drift is measured: a period of a vibrato of 5 Hz.
DRIFT_AVERAGED_S = 0.2


def life(sound: Sound, f0_hz: np.ndarray, notes: Sequence[Note]) -> dict[str, np.ndarray]:
    """Measures the fluctuations of the partials of each note."""
    from scipy.ndimage import uniform_filter1d

    names = ("together", "apart_cents", "vibrato_cents", "jitter_cents", "fast_am_db", "drift_db")
    found = {name: np.full(len(notes), np.nan) for name in names}
    cut = slice(round(EDGE_S[0] * PARTIAL_RATE_HZ), -round(EDGE_S[1] * PARTIAL_RATE_HZ))

    def rms(values: np.ndarray) -> np.ndarray:
        return np.sqrt(np.mean(np.square(values), axis=0))

    for i, note in enumerate(notes):
        levels, deviations, carrier = (x[cut] for x in track_partials(sound.audio_16k, f0_hz, note))
        mean = levels.mean(axis=0)
        loud = mean > mean.max() - AUDIBLE_DB
        strongest = int(np.argmax(mean))
        track = carrier + deviations[:, strongest]
        found["vibrato_cents"][i] = rms(band_limited(track, PARTIAL_RATE_HZ, 3.5, 8.5))
        found["jitter_cents"][i] = rms(band_limited(track, PARTIAL_RATE_HZ, 10.0, 30.0))
        found["fast_am_db"][i] = np.median(rms(band_limited(levels[:, loud], PARTIAL_RATE_HZ, 10.0, 35.0)))
        n = int(loud.sum())
        if n < 2:
            continue
        relative = levels[:, loud] - to_db(np.sum(10.0 ** (levels[:, loud] / 10.0), axis=1))[:, None]
        averaged = uniform_filter1d(relative, round(DRIFT_AVERAGED_S * PARTIAL_RATE_HZ), axis=0)
        found["drift_db"][i] = np.median(averaged.std(axis=0))
        slow = band_limited(levels[:, loud], PARTIAL_RATE_HZ, 3.0, 30.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            found["together"][i] = np.nanmean(np.corrcoef(slow.T)[np.triu_indices(n, 1)])
        if n >= 3:
            own = deviations[:, loud] - np.median(deviations[:, loud], axis=1, keepdims=True)
            found["apart_cents"][i] = np.median(rms(band_limited(own, PARTIAL_RATE_HZ, 3.0, 30.0)))
    return found


BANDS_HZ = ((0.0, 1000.0), (1000.0, 2000.0), (2000.0, 4000.0), (4000.0, 7500.0))
LOW_NOTE_HZ = 110.0

#: Distance from a multiple of F0, in F0, within which power is harmonic, and beyond which it is noise.
HARMONIC_WITHIN, NOISE_BEYOND = 0.2, 0.33


def windows_at(audio: np.ndarray, centres: np.ndarray, size: int) -> np.ndarray:
    """Returns windows [n, size] of a sound around samples, silent outside."""
    padded = np.pad(np.asarray(audio, np.float32), size)
    starts = np.clip(centres + size // 2, 0, len(padded) - size)
    return np.lib.stride_tricks.sliding_window_view(padded, size)[starts]


def power_between(power: np.ndarray, f0_hz: np.ndarray, band_hz: tuple[float, float], bin_hz: float) -> tuple:
    """Divides the power of a band into that of harmonics and the noise.

    Args:
      power: [n, bins].
      f0_hz: [n].
      band_hz: from, to.
      bin_hz: width of a bin.

    Returns:
      Power of the harmonics less the noise density there, and noise density times the band, [n] each; NaN without
      bins between harmonics.
    """
    low, high = (round(edge / bin_hz) for edge in band_hz)
    number = np.arange(low, high) * bin_hz / f0_hz[:, None]
    apart = np.abs(number - np.round(number))
    harmonic = (apart < HARMONIC_WITHIN) & (number > 0.5)
    noise = (apart > NOISE_BEYOND) & (number > 0.5)
    part = power[:, low:high]
    with np.errstate(invalid="ignore", divide="ignore"):
        density = np.sum(part * noise, axis=1) / np.where(noise.any(axis=1), noise.sum(axis=1), np.nan)
    density = np.where(harmonic.any(axis=1), density, np.nan)
    return np.sum(part * harmonic, axis=1) - density * harmonic.sum(axis=1), density * (high - low)


def noise(sound: Sound, f0_hz: np.ndarray, notes: Sequence[Note]) -> dict[str, np.ndarray]:
    """Measures harmonic-to-noise ratio in bands, and the fluctuation of the noise, of each note."""
    names = [f"hnr_{low / 1000:g}_{high / 1000:g}k_db" for low, high in BANDS_HZ]
    found = {name: np.full(len(notes), np.nan) for name in (*names, "hnr_low_notes_db", "noise_fluctuation_db")}
    for i, note in enumerate(notes):
        # ten periods keep the main lobe within a fifth of F0
        size = next((s for s in (1024, 2048, 4096) if s >= 10.0 * ANALYSIS_RATE_HZ / note.f0_hz), 4096)
        middle = np.arange(note.start_s + 0.5 * EDGE_S[0], note.stop_s - EDGE_S[1], 0.5 * size / ANALYSIS_RATE_HZ)
        spectra = windows_at(sound.audio_16k, np.round(middle * ANALYSIS_RATE_HZ).astype(int), size)
        power = np.abs(np.fft.rfft(spectra * hann_window(size), axis=1)) ** 2
        pitch = f0_hz[np.minimum((middle * FRAME_HZ).astype(int), len(f0_hz) - 1)].astype(np.float64)
        total_harmonic = total_noise = 0.0
        for name, band in zip(names, BANDS_HZ, strict=True):
            harmonic, between = power_between(power, pitch, band, ANALYSIS_RATE_HZ / size)
            if not np.isfinite(between).any():
                continue
            found[name][i] = ratio_db(np.nansum(harmonic), np.nansum(between))
            total_harmonic += np.nansum(harmonic)
            total_noise += np.nansum(between)
            if band[0] == 2000.0 and len(between) > 2:
                steps = np.diff(to_db(between))
                found["noise_fluctuation_db"][i] = np.nanstd(steps) / np.sqrt(2.0)
        if note.f0_hz < LOW_NOTE_HZ:
            found["hnr_low_notes_db"][i] = ratio_db(total_harmonic, total_noise)
    return found


def ratio_db(harmonic: float, between: float) -> float:
    """Returns harmonics against noise in dB, -30 at least: below the scatter of the noise nothing is harmonic."""
    return float(to_db(max(harmonic, 1e-3 * between) / max(between, 1e-20)))


#: An onset comes out of quiet where the level is below a tenth of the note's peak for this long before.
QUIET_S = 0.05


def onsets(
    sound: Sound, f0_hz: np.ndarray, notes: Sequence[Note], changes: Sequence[float] = ()
) -> dict[str, np.ndarray]:
    """Measures attack and noise of notes that begin out of quiet, and noise around changes of note."""
    from scipy.ndimage import uniform_filter1d
    from scipy.signal import butter, fftconvolve, sosfiltfilt

    rate, step = ANALYSIS_RATE_HZ, 32  # 2 ms
    audio = sound.audio_16k.astype(np.float64)
    window = np.hanning(round(0.012 * rate) + 2)[1:-1]
    envelope = np.sqrt(np.maximum(fftconvolve(audio**2, window / window.sum(), "same")[::step], 1e-14))
    attack, burst = np.full(len(notes), np.nan), np.full(len(notes), np.nan)
    for i, note in enumerate(notes):
        first, last = (round(s * rate / step) for s in (note.start_s - 0.15, min(note.stop_s, note.start_s + 1.0)))
        if first < 0:
            continue
        own = envelope[first:last]
        peak = own.max()
        top = int(np.argmax(own > 0.9 * peak))
        below = np.flatnonzero(own[:top] < 0.1 * peak)
        quiet = round(QUIET_S * rate / step)
        # out of quiet: that long at or below the threshold before the last step below it
        if not len(below) or below[-1] < quiet or np.median(own[below[-1] - quiet : below[-1]]) > 0.1 * peak:
            continue
        attack[i] = (top - below[-1]) * step / rate * 1000.0
        onset = (first + below[-1]) * step
        if note.stop_s * rate - onset > 0.3 * rate:
            burst[i] = noise_share_db(audio, onset, onset + 0.05 * rate, note.f0_hz) - noise_share_db(
                audio, onset + 0.15 * rate, onset + 0.3 * rate, note.f0_hz
            )
    high = sosfiltfilt(butter(4, (3000.0, 7500.0), "bandpass", fs=rate, output="sos"), audio)
    power = uniform_filter1d(high**2, round(0.01 * rate))[::step]
    bound = np.full(len(changes), np.nan)
    for i, when in enumerate(changes):
        place = round(when * rate / step)
        near, far = round(0.05 * rate / step), round(0.15 * rate / step)
        if place - far < 0 or place + far >= len(power):
            continue
        beside = np.concatenate([power[place - far : place - near], power[place + near : place + far]])
        bound[i] = to_db(power[place - near : place + near].max() + 1e-14) - to_db(beside.mean() + 1e-14)
    return {"attack_ms": attack, "onset_burst_db": burst, "change_noise_db": bound}


def noise_share_db(audio: np.ndarray, start: float, stop: float, f0_hz: float) -> float:
    """Returns the power between harmonics at 2.5 to 7.5 kHz against that of all, dB, in windows of 50 ms."""
    size = round(0.05 * ANALYSIS_RATE_HZ)
    centres = np.arange(start + size / 2, stop - size / 2 + 1, size / 2).astype(int)
    spectra = windows_at(audio, centres, size) * hann_window(size)
    power = np.abs(np.fft.rfft(spectra, 2048, axis=1)) ** 2
    _, between = power_between(power, np.full(len(power), f0_hz), (2500.0, 7500.0), ANALYSIS_RATE_HZ / 2048)
    return float(to_db(np.nansum(between) + 1e-14) - to_db(power.sum() + 1e-14))


def find_changes(notes: Sequence[Note], longest_gap_s: float = 0.08) -> list[float]:
    """Finds the times of changes from one note to the next without a rest."""
    return [
        0.5 * (one.stop_s + other.start_s)
        for one, other in itertools.pairwise(notes)
        if 0.0 <= other.start_s - one.stop_s < longest_gap_s
        and abs(12.0 * np.log2(other.f0_hz / one.f0_hz)) > STEADY_SEMITONES
    ]


#: Partials are looked for between these frequencies ...
STANDING_HZ = (1500.0, 6000.0)
#: ... on the lowest notes, which have many, and must be this much stronger than the noise in their bin.
LOW_SHARE, STANDING_DB = 0.35, 3.0

#: The steady scale: semitones from the lowest note on, percentiles of the level, seconds of each note.
FIFTH, STEADY_LEVELS, STEADY_S = 7, (50, 80), 1.2


def play_steady_scale(loaded: Bundle) -> tuple[Sound, np.ndarray, list[Note]]:
    """Plays the lowest fifth of an instrument, dry, with steady controls.

    Returns:
      The sound, its F0 [F] at `FRAME_HZ`, and the notes.
    """
    model, statistics = loaded.card.model, loaded.card.statistics
    lowest = np.ceil(statistics.range_midi[0])
    pitches = np.tile(midi_to_hz(np.arange(lowest, lowest + FIFTH + 1)), len(STEADY_LEVELS))
    levels = np.repeat([statistics.level(model.level)[p] for p in STEADY_LEVELS], FIFTH + 1)
    f0_hz = np.repeat(pitches, round(STEADY_S * FRAME_HZ)).astype(np.float32)
    level_db = np.repeat(levels, round(STEADY_S * model.frame_rate_hz)).astype(np.float32)
    sound = np.concatenate(list(Instrument(loaded).render(f0_hz, level_db, room=False)))
    starts = np.arange(len(pitches)) * STEADY_S
    notes = [Note(t + 0.2, t + STEADY_S, float(hz)) for t, hz in zip(starts, pitches, strict=True)]
    return Sound(sound, sound, model.sample_rate_hz), f0_hz, notes


def standing_partials(
    sound: Sound, f0_hz: np.ndarray, notes: Sequence[Note], low_share: float = LOW_SHARE
) -> dict[str, np.ndarray]:
    """Returns the share of the partials of each low note that stand out of the noise between them."""
    found = np.full(len(notes), np.nan)
    if not notes:
        return {"standing_partials": found}
    limit_hz = np.quantile([note.f0_hz for note in notes], low_share)
    for i, note in enumerate(notes):
        if note.f0_hz > max(limit_hz, 1.01 * min(other.f0_hz for other in notes)):
            continue
        start, stop = note.start_s + EDGE_S[0], note.stop_s - EDGE_S[1]
        frames = np.arange(int(start * FRAME_HZ), int(stop * FRAME_HZ))
        first = frames[0] * ANALYSIS_RATE_HZ // FRAME_HZ
        around = round(8.0 * ANALYSIS_RATE_HZ / note.f0_hz)
        low = max(0, (first - around) // 64 * 64)
        audio = sound.dry_16k[low : round(stop * ANALYSIS_RATE_HZ) + around]
        every = np.arange(low // 64, frames[-1] + 1)
        own_hz = np.clip(f0_hz[every], note.f0_hz * 0.94, note.f0_hz * 1.06)
        n_harmonics = int(STANDING_HZ[1] / note.f0_hz)
        partials = measure_partials(audio, ANALYSIS_RATE_HZ, own_hz, FRAME_HZ, n_harmonics)
        kept = slice(frames[0] - low // 64, None)
        power = partials.harmonic_power[kept].mean(axis=0)
        between = partials.noise_in_harmonics(own_hz)[kept].mean(axis=0)
        k = np.arange(1, n_harmonics + 1) * note.f0_hz
        inside = (k >= STANDING_HZ[0]) & (k <= STANDING_HZ[1])
        if inside.any():
            found[i] = np.mean(power[inside] > 10 ** (STANDING_DB / 10) * between[inside])
    return {"standing_partials": found}


#: Lines in the spectrum: partials in this band, from this number on, that stand out of their neighbours.
LINES_HZ, LINES_FROM = (2500.0, 20000.0), 12

#: Number of partials that are measured, and that are needed for a share.
MOST_LINES, LEAST_LINES = 200, 200


def line_share(sound: Sound, f0_hz: np.ndarray, notes: Sequence[Note], tops_hz: np.ndarray) -> float:
    """Returns the share of high partials that stand `HARMONIC_SPIKE_DB` out of their neighbours, over all notes.

    It is NaN with fewer than `LEAST_LINES` partials.
    """
    n_lines = n_partials = 0
    for note, top_hz in zip(notes, tops_hz, strict=True):
        first, last = round((note.start_s + EDGE_S[0]) * FRAME_HZ), round((note.stop_s - EDGE_S[1]) * FRAME_HZ)
        start, stop = (round(frame / FRAME_HZ * sound.rate_hz) for frame in (first, last))
        pitch = np.asarray(f0_hz[first:last], np.float32)
        top_hz = min(float(top_hz), LINES_HZ[1])
        n = min(MOST_LINES, int(top_hz / note.f0_hz))
        if len(pitch) < 3 or n <= LINES_FROM + NEIGHBOURS:
            continue
        partials = measure_partials(sound.audio[start:stop], sound.rate_hz, pitch, FRAME_HZ, n)
        # a partial that noise covers counts as a tenth of the power in its bin
        above_noise = partials.harmonic_power - partials.noise_in_harmonics(pitch)
        power = np.maximum(above_noise, 0.1 * partials.harmonic_power)
        levels_db = np.median(to_db(power), axis=0)
        hz = np.arange(1, n + 1) * note.f0_hz
        counts = (hz > LINES_HZ[0]) & (levels_db > levels_db.max() - SPIKE_RANGE_DB)
        counts[: LINES_FROM - 1] = counts[n - NEIGHBOURS :] = False
        n_lines += int(np.sum(harmonic_excess_db(levels_db[None])[0, counts] > HARMONIC_SPIKE_DB))
        n_partials += int(counts.sum())
    return n_lines / n_partials if n_partials >= LEAST_LINES else np.nan


#: Spectra of notes and recordings: Hann windows of this length, so far apart.
SPECTRUM_SAMPLES, SPECTRUM_HOP_S = 4096, 0.03


def note_spectra(audio: np.ndarray, rate_hz: int, notes: Sequence[Note]) -> np.ndarray:
    """Returns the mean power spectrum of each note [n, bins]."""
    found = np.zeros((len(notes), SPECTRUM_SAMPLES // 2 + 1))
    for i, note in enumerate(notes):
        middle_s = np.arange(note.start_s + SPECTRUM_HOP_S, note.stop_s, SPECTRUM_HOP_S)
        windows = windows_at(audio, np.round(middle_s * rate_hz).astype(int), SPECTRUM_SAMPLES)
        found[i] = np.mean(np.abs(np.fft.rfft(windows * hann_window(SPECTRUM_SAMPLES), axis=1)) ** 2, axis=0)
    return found


def high_energy(sound: Sound, notes: Sequence[Note], tops_hz: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the energy above 8 kHz relative to all of each note, dB, plain and A-weighted, up to the bandwidth."""
    found = {name: np.full(len(notes), np.nan) for name in ("above_8k_db", "above_8k_a_db")}
    frequencies = np.fft.rfftfreq(SPECTRUM_SAMPLES, 1.0 / sound.rate_hz)
    weights = 10.0 ** (a_weighting_db(frequencies) / 10.0)
    spectra = note_spectra(sound.audio, sound.rate_hz, notes)
    for i, (power, top_hz) in enumerate(zip(spectra, tops_hz, strict=True)):
        if top_hz < 10000.0:
            continue
        high = (frequencies >= 8000.0) & (frequencies < min(top_hz, 20000.0))
        for name, weight in (("above_8k_db", np.ones_like(weights)), ("above_8k_a_db", weights)):
            found[name][i] = max(-100.0, float(to_db(np.sum(power[high] * weight[high]) / np.sum(power * weight))))
    return found


# --- sounds and their measures: of a whole performance ----------------------------------------------------------------

#: Edges of the octaves.
OCTAVES_HZ = (88.4, 176.8, 353.6, 707.1, 1414.2, 2828.4, 5656.9, 8000.0, 11313.7, 16000.0)

#: The power in octaves and the rows of the classifier are means over so many performances, since the timbre of each
#: note is drawn: sixteen of a flute have areas under the curve of 0.68 to 0.95, with a standard deviation of 0.07.
N_DRAWS = 12

#: Octaves below this do not count for the worst one.
HEARD_DB = -55.0


def total_spectra(audio: np.ndarray, rate_hz: int, starts_s: np.ndarray) -> np.ndarray:
    """Returns the total power spectrum of each recording [n, bins]."""
    size, hop = SPECTRUM_SAMPLES, round(SPECTRUM_HOP_S * rate_hz)
    centres = np.arange(size // 2, len(audio) - size // 2, hop)
    which = np.clip(np.searchsorted(starts_s, centres / rate_hz, side="right") - 1, 0, None)
    total = np.zeros((len(starts_s), size // 2 + 1))
    for part in np.array_split(np.arange(len(centres)), max(1, len(centres) // 500)):
        power = np.abs(np.fft.rfft(windows_at(audio, centres[part], size) * hann_window(size), axis=1)) ** 2
        np.add.at(total, which[part], power)
    return total


def bandwidths_hz(performance: Performance) -> np.ndarray:
    """Finds where the spectrum of each recording ends."""
    bounds = np.append(np.round(performance.starts_s * performance.rate_hz).astype(int), len(performance.audio))
    parts = (performance.audio[start:stop] for start, stop in itertools.pairwise(bounds))
    return np.array([bandwidth_hz(part, performance.rate_hz) for part in parts])


def octave_levels(spectra: np.ndarray, rate_hz: int, tops_hz: np.ndarray) -> dict[str, float]:
    """Returns the power in octaves of recordings whose bandwidth reaches so far, dB of the power below 8 kHz."""
    frequencies = np.linspace(0.0, rate_hz / 2.0, spectra.shape[1])
    found = {}
    for low, high in itertools.pairwise(OCTAVES_HZ):
        reach = tops_hz >= 0.95 * high
        if not reach.any():
            continue
        inside = (frequencies >= low) & (frequencies < high)
        whole = spectra[reach][:, frequencies < 8000.0].sum()
        share = spectra[reach][:, inside].sum() / max(whole, 1e-20)
        found[f"octave_{low:.0f}_{high:.0f}_db"] = float(to_db(share, 1e-10))
    return found


#: A note of the training split is a neighbour of a note within so many semitones and dB.
NEAR_SEMITONES, NEAR_DB = 1.5, 3.0


def note_levels_db(features: Features, notes: Sequence[Note]) -> np.ndarray:
    """Returns the mean level of each note, dB."""
    rate = features.spec.frame_rate_hz
    power = 10.0 ** (features.power_db.astype(np.float64) / 10.0)
    return to_db(np.array([power[round(n.start_s * rate) : round(n.stop_s * rate)].mean() for n in notes]))


def neighbour_spectra(held: Performance, notes: Sequence[Note], others: Performance) -> np.ndarray:
    """Finds how other recordings play the notes of a performance.

    Args:
      held: the performance.
      notes: of it.
      others: recordings of the same rate.

    Returns:
      [n, bins] mean power spectrum of the notes of `others` within `NEAR_SEMITONES` and `NEAR_DB` of each note, each
      with the power of the note; NaN where there are none.
    """
    candidates = find_notes(others.features)
    spectra = note_spectra(others.audio, others.rate_hz, candidates)
    midi, wanted_midi = (hz_to_midi(np.array([n.f0_hz for n in some])) for some in (candidates, notes))
    level_db, wanted_db = note_levels_db(others.features, candidates), note_levels_db(held.features, notes)
    found = np.full((len(notes), spectra.shape[1]), np.nan)
    for i in range(len(notes)):
        near = (np.abs(midi - wanted_midi[i]) <= NEAR_SEMITONES) & (np.abs(level_db - wanted_db[i]) <= NEAR_DB)
        if near.any():
            gains = 10.0 ** ((wanted_db[i] - level_db[near]) / 10.0)
            found[i] = np.mean(spectra[near] * gains[:, None], axis=0)
    return found


#: Steps, highest F0 and cost of octaves. The lowest F0 is below the lowest note. It is known where notes are, so that
#: quiet and noisy frames of them are to be read too: thresholds are low.
PRAAT = {"time_step": 0.004, "pitch_ceiling": 2000.0, "octave_cost": 0.03, "voicing_threshold": 0.2,
         "silence_threshold": 0.001}  # fmt: skip


def read_by_praat(audio_16k: np.ndarray, f0_hz: np.ndarray, notes: Sequence[Note]) -> float:
    """Returns the share of the frames in notes that Praat's autocorrelation (Boersma 1993) reads within 50 cents.

    Args:
      audio_16k: [S].
      f0_hz: [F] at `FRAME_HZ`, what was played.
      notes: where to look.
    """
    import parselmouth

    lowest_hz = min([120.0, *(0.8 * note.f0_hz for note in notes)])
    sound = parselmouth.Sound(audio_16k.astype(np.float64), ANALYSIS_RATE_HZ)
    pitch = sound.to_pitch_ac(pitch_floor=lowest_hz, **PRAAT)
    frames = np.round(pitch.xs() * FRAME_HZ).astype(int)
    inside = np.zeros(len(f0_hz), bool)
    for note in notes:
        inside[round(note.start_s * FRAME_HZ) : round(note.stop_s * FRAME_HZ)] = True
    usable = (frames < len(f0_hz)) & inside[np.minimum(frames, len(f0_hz) - 1)]
    read_hz, played_hz = pitch.selected_array["frequency"][usable], f0_hz[frames[usable]]
    return float(np.mean(metrics.same_pitch(read_hz, played_hz))) if usable.any() else float("nan")


# --- controls ---------------------------------------------------------------------------------------------------------

DEAD_DB, HOLE_DB = -80.0, 6.0
LEVELS = (10, 50, 90)


def scale_controls(loaded: Bundle) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the controls of a chromatic scale over the range of an instrument at three levels.

    Returns:
      F0 [N], levels of the harmonics in dB [N, K], noise magnitudes in dB [N, M] (K or M 0 without such a part).
    """
    model, statistics = loaded.card.model, loaded.card.statistics
    low, high = statistics.range_midi
    pitches = midi_to_hz(np.arange(np.ceil(low), np.floor(high) + 1.0))
    held = round(0.4 * model.frame_rate_hz)
    f0, harmonics, noises = [], [], []
    for percentile in LEVELS:
        level_db = statistics.level(model.level)[percentile]
        decoder = Instrument(loaded).open_decoder()
        controls = decoder.controls(
            np.repeat(pitches, held).astype(np.float32), np.full(held * len(pitches), level_db, np.float32)
        )
        last = slice(held - 1, None, held)
        f0.append(pitches)
        if "amplitude" in controls:
            harmonics.append(controls["amplitude"][last] * controls["harmonic_distribution"][last])
        if "noise_magnitudes" in controls:
            noises.append(controls["noise_magnitudes"][last])
    empty = np.zeros((len(pitches) * len(LEVELS), 0))
    return (
        np.concatenate(f0),
        2.0 * to_db(np.concatenate(harmonics)) if harmonics else empty,
        2.0 * to_db(np.concatenate(noises)) if noises else empty,
    )


def dead_harmonics(f0_hz: np.ndarray, levels_db: np.ndarray, top_hz: float) -> float:
    """Returns the share of the harmonics below a frequency that are silent on every note on which they lie below it."""
    inside = f0_hz[:, None] * np.arange(1, levels_db.shape[1] + 1) < top_hz
    loudest = np.where(inside, levels_db, -np.inf).max(axis=0)
    return float(np.mean(loudest[inside.any(axis=0)] < DEAD_DB)) if inside.any() else float("nan")


def find_holes(noise_db: np.ndarray, least_db: float = HOLE_DB) -> np.ndarray:
    """Finds bands of noise magnitudes [N, M] in dB that are holes, in their mean over notes.

    A hole lies more than `least_db` below the line between the bands one, or two, on both sides of it. The lowest and
    the highest band are left out.
    """
    mean = noise_db.mean(axis=0)
    hole = np.zeros(len(mean), bool)
    for reach in (1, 2):
        for i in range(max(1, reach), len(mean) - max(1, reach)):
            hole[i] |= mean[i] < 0.5 * (mean[i - reach] + mean[i + reach]) - least_db
    return np.flatnonzero(hole)


#: Rate at which the partials of recordings are measured.
HEARD_RATE_HZ = 50
MAX_HEARD = 200

#: A partial is audible where it is this much stronger than the noise in its bin.
HEARD_RATIO_DB = 6.0


def heard_partials(performance: Performance, notes: Sequence[Note], tops_hz: np.ndarray) -> list[np.ndarray]:
    """Returns the numbers of partials up to 16 kHz that stand out of the noise in each note of a recording."""
    if not notes:
        return []
    features = performance.features.at(HEARD_RATE_HZ)
    f0_hz = np.clip(fill_f0(features.f0_hz, features.power_db), 0.9 * min(note.f0_hz for note in notes), None)
    n_harmonics = min(MAX_HEARD, int(16000.0 / f0_hz.min()))
    partials = measure_partials(performance.audio, performance.rate_hz, f0_hz, HEARD_RATE_HZ, n_harmonics)
    noise_power = partials.noise_in_harmonics(f0_hz)
    found = []
    for note, top_hz in zip(notes, tops_hz, strict=True):
        frames = slice(round(note.start_s * HEARD_RATE_HZ) + 2, round(note.stop_s * HEARD_RATE_HZ) - 1)
        power, between = partials.harmonic_power[frames].mean(axis=0), noise_power[frames].mean(axis=0)
        stands = power > 10 ** (HEARD_RATIO_DB / 10) * between
        k = np.arange(1, n_harmonics + 1)
        found.append(k[stands & (k * note.f0_hz < min(16000.0, top_hz))])
    return found


def silent_partials(
    loaded: Bundle, performance: Performance, notes: Sequence[Note], heard: Sequence[np.ndarray]
) -> dict[str, float]:
    """Returns the share of partials that are audible in the recordings and silent in the controls for these notes."""
    model = loaded.card.model
    features = performance.features.at(model.frame_rate_hz)
    level_db = getattr(features, model.level)
    controls = Instrument(loaded).open_decoder().controls(fill_f0(features.f0_hz, level_db), level_db)
    if "amplitude" not in controls:
        return {}
    levels_db = 2.0 * to_db(controls["amplitude"] * controls["harmonic_distribution"])
    n_heard, n_silent = np.zeros(2), np.zeros(2)
    for note, numbers in zip(notes, heard, strict=True):
        frames = slice(round(note.start_s * model.frame_rate_hz) + 1, round(note.stop_s * model.frame_rate_hz))
        own = np.full(max(MAX_HEARD, levels_db.shape[1]), -np.inf)
        own[: levels_db.shape[1]] = np.median(levels_db[frames], axis=0)
        for i, top_hz in enumerate((7000.0, 16000.0)):
            inside = numbers[numbers * note.f0_hz < top_hz]
            n_heard[i] += len(inside)
            n_silent[i] += np.sum(own[inside - 1] < DEAD_DB)
    names = ("silent_below_7k", "silent_below_16k")
    return {name: float(n_silent[i] / n_heard[i]) for i, name in enumerate(names) if n_heard[i]}


def dead(loaded: Bundle) -> dict[str, float]:
    """Returns the shares of dead harmonics, and the number of holes in the noise from the lowest note on.

    Below the lowest note the noise of recordings falls by up to 30 dB from one band to the next, and the skirt of the
    filter of the band above covers a softer one.
    """
    f0_hz, levels_db, noise_db = scale_controls(loaded)
    half = loaded.card.model.sample_rate_hz / 2.0
    found = {}
    if levels_db.shape[1]:
        found["dead_below_7k"] = dead_harmonics(f0_hz, levels_db, 7000.0)
        found["dead_below_16k"] = dead_harmonics(f0_hz, levels_db, min(16000.0, half))
    if noise_db.shape[1]:
        lowest = float(midi_to_hz(np.float64(loaded.card.statistics.range_midi[0]))) * (noise_db.shape[1] - 1) / half
        found["noise_holes_6db"] = float(np.sum(find_holes(noise_db) >= lowest))
        found["noise_holes_15db"] = float(np.sum(find_holes(noise_db, 15.0) >= lowest))
    return found


# --- classifier -------------------------------------------------------------------------------------------------------

PATCH_DBFS = -23.0
N_MELS, MEL_TOP_HZ = 64, 7000.0  # above, the filters of resampling differ
CLASSIFIER_C, N_FOLDS, N_AXES = 0.02, 5, 24


@functools.cache
def mel_matrix(size: int) -> np.ndarray:
    """Returns triangles on the mel scale [bins, N_MELS] at 16 kHz."""
    edges = 700.0 * (10.0 ** (np.linspace(0.0, 2595.0 * np.log10(1.0 + MEL_TOP_HZ / 700.0), N_MELS + 2) / 2595.0) - 1.0)
    edges[0] = 30.0
    bins = np.fft.rfftfreq(size, 1.0 / ANALYSIS_RATE_HZ)[:, None]
    rise, fall = (bins - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - bins) / np.diff(edges)[1:]
    triangles = np.maximum(0.0, np.minimum(rise, fall))
    return triangles / np.maximum(triangles.sum(axis=0), 1e-9)


def patches(audio_16k: np.ndarray) -> np.ndarray:
    """Cuts patches of 3 s, one a second, each at -23 dBFS, [N, S]; those without sound are NaN."""
    size, hop = round(PATCH_S * ANALYSIS_RATE_HZ), round(PATCH_HOP_S * ANALYSIS_RATE_HZ)
    padded = np.pad(audio_16k, (0, max(0, size - len(audio_16k))))
    return level_patches(np.lib.stride_tricks.sliding_window_view(padded, size)[::hop].astype(np.float32))


def level_patches(found: np.ndarray) -> np.ndarray:
    """Scales patches [N, S] to -23 dBFS, NaN where they are silent."""
    rms = np.sqrt(np.mean(np.square(found), axis=1, keepdims=True))
    return found * np.where(rms > 1e-4, 10 ** (PATCH_DBFS / 20) / np.maximum(rms, 1e-9), np.nan)


def describe(found: np.ndarray) -> np.ndarray:
    """Returns log-mel statistics of patches [N, S]: mean, deviation, and those of the changes from frame to frame."""
    size, hop = 1024, 320
    rows = []
    for patch in found:
        frames = np.lib.stride_tricks.sliding_window_view(patch, size)[::hop]
        power = np.abs(np.fft.rfft(frames * hann_window(size), axis=1)) ** 2
        mel = to_db(power @ mel_matrix(size), 1e-6)
        change = np.abs(np.diff(mel, axis=0))
        rows.append(np.concatenate([mel.mean(axis=0), mel.std(axis=0), change.mean(axis=0), change.std(axis=0)]))
    return np.array(rows)


#: musicnn's input: 96 mel bands of frames of 512 samples, 256 apart (Pons & Serra 2019).
MUSICNN_FRAMES, MUSICNN_MELS = 187, 96


class Musicnn:
    """The mean-pooled layer of musicnn as published, with the weights learned from MagnaTagATune.

    The network: convolutions over time and frequency ("timbral", 7 frames x 0.4 and 0.7 of the bands) and over time
    ("temporal", 128, 64, 32 frames), the maximum over frequency, three convolutions over time of 7 frames, and the
    mean over time of all of these (Pons & Serra, "musicnn", ISMIR late breaking 2019).

    Args:
      folder: where the package musicnn was installed to; only its file of weights is read.
    """

    def __init__(self, folder: Path) -> None:
        places = [p for p in (folder / "musicnn" / "MTT_musicnn", folder / "MTT_musicnn") if p.is_dir()]
        if not places:
            raise SystemExit(f"{folder} does not hold musicnn: pip install --no-deps --target {folder} musicnn")
        files = Folder(places[0], lambda name: name.startswith((".index", ".data")))
        self._weights = tensor_bundle.read(files, "", lambda name: "Adam" not in name and "/" in name)

    def __call__(self, found: np.ndarray) -> np.ndarray:
        """Embeds patches [N, S] at 16 kHz: [N, 753]."""
        import librosa

        rows = []
        for patch in found:
            mel = librosa.feature.melspectrogram(
                y=patch, sr=ANALYSIS_RATE_HZ, hop_length=256, n_fft=512, n_mels=MUSICNN_MELS
            )
            rows.append(np.log10(1e4 * mel.T[:MUSICNN_FRAMES] + 1.0))
        x = np.asarray(rows, np.float32)
        return np.concatenate([self._embed(part) for part in np.array_split(x, max(1, len(x) // 8))])

    def _embed(self, mel: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        x = self._normal(tf.constant(mel)[..., None], 0)
        around = [[0, 0], [3, 3], [0, 0], [0, 0]]
        padded = tf.pad(x, around)
        parts = [tf.reduce_max(self._layer(padded, 0), 2), tf.reduce_max(self._layer(padded, 1), 2)]
        parts += [tf.reduce_max(self._layer(x, i, "SAME"), 2) for i in (2, 3, 4)]
        front = tf.concat(parts, 2)[..., None]
        first = self._middle(tf.pad(front, around), 5)
        second = self._middle(tf.pad(first, around), 6) + first
        third = self._middle(tf.pad(second, around), 7) + second
        return tf.reduce_mean(tf.concat([front, first, second, third], 2), 1)[..., 0].numpy()

    def _layer(self, x, i: int, padding: str = "VALID"):
        """Applies convolution i, rectifier, normalisation: [N, T, bands, channels]."""
        import tensorflow as tf

        name = "conv2d" if i == 0 else f"conv2d_{i}"
        x = tf.nn.conv2d(x, self._weights[f"{name}/kernel"], 1, padding) + self._weights[f"{name}/bias"]
        return self._normal(tf.nn.relu(x), i + 1)

    def _middle(self, x, i: int):
        """Applies a convolution over time, [N, T, channels, 1]."""
        import tensorflow as tf

        return tf.transpose(self._layer(x, i), [0, 1, 3, 2])

    def _normal(self, x, i: int):
        """Applies batch normalisation i with the statistics of the training."""
        name = "batch_normalization" if i == 0 else f"batch_normalization_{i}"
        mean, variance, gamma, beta = (
            self._weights[f"{name}/{part}"] for part in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta


def patch_groups(n: int, starts_s: np.ndarray, seconds: float) -> np.ndarray:
    """Returns the recording that contains the middle of each patch; equal parts where there are too few recordings."""
    middle = np.arange(n) * PATCH_HOP_S + 0.5 * PATCH_S
    if len(starts_s) < N_FOLDS:
        return np.minimum((middle / seconds * 2 * N_FOLDS).astype(int), 2 * N_FOLDS - 1)
    return np.searchsorted(starts_s, middle, side="right") - 1


def area_under_curve(real: np.ndarray, made: np.ndarray, groups: np.ndarray) -> float:
    """Measures how well a logistic regression distinguishes two sets [N, D] that it has not seen, 0.5 for not at all.

    Both members of a pair, and all of one group, are in the same fold. The area is that of each fold, weighted by its
    pairs, because the scores of two regressions have different scales.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    n_folds = min(N_FOLDS, len(np.unique(groups)))
    if n_folds < 2:
        return float("nan")
    x, y = np.concatenate([real, made]), np.repeat([0, 1], [len(real), len(made)])
    both = np.concatenate([groups, groups])
    areas, weights = [], []
    for train, test in GroupKFold(n_folds).split(x, y, both):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=CLASSIFIER_C, max_iter=1000))
        model.fit(x[train], y[train])
        areas.append(roc_auc_score(y[test], model.decision_function(x[test])))
        weights.append(len(test))
    return float(np.average(areas, weights=weights))


#: Dimensions that hardly change within the recordings are not scaled up beyond this share of the usual deviation.
LEAST_SPREAD = 0.5


def frechet_distance(one: np.ndarray, other: np.ndarray, reference: np.ndarray | None = None) -> float:
    """Returns the Fréchet distance of two sets [N, D], standardised by a third, on at most 24 of its principal axes.

    Equal numbers are compared, spread over both sets: the distance falls with their number.

    Args:
      one, other: the sets.
      reference: the third; by default `one`.
    """
    n = min(len(one), len(other))
    if n < 4:
        return float("nan")
    reference = one if reference is None else reference
    spread = reference.std(axis=0)
    spread = np.maximum(spread, LEAST_SPREAD * np.sqrt(np.mean(np.square(spread))) + 1e-9)
    centre = reference.mean(axis=0)
    axes = np.linalg.svd((reference - centre) / spread, full_matrices=False)[2][: min(N_AXES, n // 2)].T
    one, other = ((x[np.linspace(0, len(x) - 1, n).round().astype(int)] - centre) / spread @ axes for x in (one, other))
    a, b = np.atleast_2d(np.cov(one.T)), np.atleast_2d(np.cov(other.T))
    # trace of the root of a product: the roots of its eigenvalues, which are real and not negative
    root = np.sqrt(np.maximum(np.linalg.eigvals(a @ b).real, 0.0)).sum()
    return float(np.sum((one.mean(axis=0) - other.mean(axis=0)) ** 2) + np.trace(a) + np.trace(b) - 2.0 * root)


# --- the table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One measure of one instrument.

    Attributes:
      recording: of the recording; NaN where it has none.
      value: of the resynthesis.
      difference: of the resynthesis to the recording; median over notes where it is a measure of notes.
      n: how many notes it comes from; 0 for one of the whole performance.
    """

    group: str
    measure: str
    recording: float
    value: float
    difference: float
    n: int = 0


ROWS = ("loss", "ltas", "neighbours", "dead", "partials", "lines", "life", "noise", "onsets", "room", "classifier",
        "transfers")  # fmt: skip

#: Rows that are measured only where they are named.
OPTIONAL = ("classifier", "transfers", "neighbours")


def of_notes(group: str, real: dict[str, np.ndarray], made: dict[str, np.ndarray]) -> list[Row]:
    """Returns the medians over the notes that both have, and the median of the differences."""
    found = []
    for name, one in real.items():
        both = np.isfinite(one) & np.isfinite(made[name])
        if both.any():
            values = (np.median(one[both]), np.median(made[name][both]), np.median((made[name] - one)[both]))
            found.append(Row(group, name, *map(float, values), n=int(both.sum())))
    return found


def of_whole(group: str, real: dict[str, float], made: dict[str, float]) -> list[Row]:
    """Returns one value for each measure."""
    return [Row(group, name, real.get(name, np.nan), v, v - real.get(name, np.nan)) for name, v in made.items()]


class Judge:
    """Measures resyntheses of one performance; measurements of the recording are cached.

    Args:
      performance: the recordings.
      rows: what to measure.
      embeddings: name → patches [N, S] to vectors [N, D], for the classifier and Fréchet distances.
      voices: sound files to transfer.
      training: recordings that the instrument learned from, which the row neighbours needs.
    """

    def __init__(
        self,
        performance: Performance,
        rows: Sequence[str],
        embeddings: dict[str, Callable[[np.ndarray], np.ndarray]] | None = None,
        voices: Sequence[Path] = (),
        training: Performance | None = None,
    ) -> None:
        self.performance, self.rows, self.voices, self.training = performance, rows, voices, training
        self.embeddings = embeddings or {"log_mel": describe}
        self.f0_hz = fill_f0(performance.features.f0_hz, performance.features.power_db)
        self.notes = find_notes(performance.features)
        self.changes = find_changes(find_notes(performance.features, 0.18))
        self.real = Sound(performance.audio, performance.audio, performance.rate_hz)
        self._spectra = total_spectra(performance.audio, performance.rate_hz, performance.starts_s)
        self.tops_hz = bandwidths_hz(performance)
        self._kept: dict[str, dict] = {}
        self._drawn: list[Sound] = []

    def judge(self, loaded: Bundle, gain_db: float = 0.0) -> list[Row]:
        """Plays the performance and measures the rows."""
        dry = play(loaded, self.performance, room=False, gain_db=gain_db)
        wet = dry if loaded.impulse_response is None else play(loaded, self.performance, gain_db=gain_db)
        made = Sound(wet, dry, self.performance.rate_hz)
        return [row for name in self.rows for row in getattr(self, f"_{name}")(loaded, made)]

    def compare(self, made: Sound) -> list[Row]:
        """Measures any sound by the rows that need no instrument: loss and classifier."""
        return [*self._loss(None, made), *self._classifier(None, made)]

    def _draw(self, loaded: Bundle, made: Sound) -> list[Sound]:
        """Returns a performance and others with other draws, `N_DRAWS` in all; kept for the next rows."""
        if not self._drawn or self._drawn[0] is not made:
            others = (play(loaded, self.performance, draw=i) for i in range(1, N_DRAWS))
            self._drawn = [made, *(Sound(audio, audio, made.rate_hz) for audio in others)]
        return self._drawn

    def _per_note(self, group: str, function: Callable[..., dict], made: Sound, *arguments) -> list[Row]:
        if group not in self._kept:
            self._kept[group] = function(self.real, *arguments)
        return of_notes(group, self._kept[group], function(made, *arguments))

    def _loss(self, loaded: Bundle | None, made: Sound) -> list[Row]:
        predicted = made
        if loaded is not None:
            audio = play(loaded, self.performance, as_transfer=False)
            predicted = Sound(audio, audio, made.rate_hz)
        reference_hz = self.performance.features.f0_hz
        quality = metrics.compare(self.real.audio_16k, predicted.audio_16k, reference_hz=reference_hz)
        zero = {"spectral_loss": 0.0, "pitch_within_50_cents": 1.0, "loudness_error_db": 0.0, "noise_balance_db": 0.0}
        found = {name: getattr(quality, name) for name in zero}
        if loaded is not None:
            played = metrics.compare(self.real.audio_16k, made.audio_16k, reference_hz=reference_hz)
            found["transfer_spectral_loss"] = played.spectral_loss
            found["transfer_loudness_error_db"] = played.loudness_error_db
        return of_whole("loss", dict.fromkeys(found, 0.0) | zero, found)

    def _ltas(self, loaded: Bundle, made: Sound) -> list[Row]:
        # a few loud notes hold most of the power of an octave
        drawn = self._draw(loaded, made)
        spectra = sum(total_spectra(x.audio, x.rate_hz, self.performance.starts_s) for x in drawn) / len(drawn)
        levels = [octave_levels(x, made.rate_hz, self.tops_hz) for x in (self._spectra, spectra)]
        tops_hz = self._note_tops_hz()
        rows = self._per_note("ltas", high_energy, made, self.notes, tops_hz)
        loud = {}
        for name, sound in (("real", self.real), ("made", made)):
            values = high_energy(sound, self.notes, tops_hz)["above_8k_db"]
            values = values[np.isfinite(values)]
            loud[name] = {"above_8k_loud_tenth_db": float(np.quantile(values, 0.9))} if len(values) else {}
        worst = max((abs(levels[1][o] - db) for o, db in levels[0].items() if db > HEARD_DB), default=np.nan)
        found = of_whole("ltas", *levels) + of_whole("ltas", {"octave_worst_db": 0.0}, {"octave_worst_db": worst})
        return found + rows + of_whole("ltas", loud["real"], loud["made"])

    def _neighbours(self, loaded: Bundle, made: Sound) -> list[Row]:
        assert self.training is not None
        if "neighbours" not in self._kept:
            near = neighbour_spectra(self.performance, self.notes, self.training)
            self._kept["neighbours"] = {"near": near, "has": np.isfinite(near[:, 0])}
        near, has = self._kept["neighbours"]["near"], self._kept["neighbours"]["has"]
        notes, tops_hz = list(itertools.compress(self.notes, has)), self._note_tops_hz()[has]
        drawn = self._draw(loaded, made)
        sounds = [note_spectra(x.audio, x.rate_hz, notes) for x in (self.real, *drawn)]
        real, played = sounds[0], np.mean(sounds[1:], axis=0)
        levels = [octave_levels(x, made.rate_hz, tops_hz) for x in (real, played, near[has])]
        n = int(has.sum())
        return [
            Row("neighbours", label + name, db, values[name], values[name] - db, n)
            for label, values in (("", levels[1]), ("near_", levels[2]))
            for name, db in levels[0].items()
        ]

    def _dead(self, loaded: Bundle, made: Sound) -> list[Row]:
        if "dead" not in self._kept:
            self._kept["dead"] = {"heard": heard_partials(self.performance, self.notes, self._note_tops_hz())}
        found = dead(loaded) | silent_partials(loaded, self.performance, self.notes, self._kept["dead"]["heard"])
        return of_whole("dead", dict.fromkeys(found, 0.0), found)

    def _note_tops_hz(self) -> np.ndarray:
        """Returns the bandwidth of the recording that each note is in."""
        which = np.searchsorted(self.performance.starts_s, [n.start_s for n in self.notes], side="right") - 1
        return self.tops_hz[np.maximum(which, 0)] if self.notes else np.zeros(0)

    def _partials(self, loaded: Bundle, made: Sound) -> list[Row]:
        rows = self._per_note("partials", standing_partials, made, self.f0_hz, self.notes)
        scale, f0_hz, notes = play_steady_scale(loaded)
        steady = standing_partials(scale, f0_hz, notes, 1.0)["standing_partials"]
        real = self._kept["partials"]["standing_partials"]
        means = [float(np.nanmean(x)) if np.isfinite(x).any() else np.nan for x in (real, steady)]
        return rows + of_whole("partials", {"standing_on_scale": means[0]}, {"standing_on_scale": means[1]})

    def _lines(self, loaded: Bundle, made: Sound) -> list[Row]:
        measure_lines = functools.partial(line_share, f0_hz=self.f0_hz, notes=self.notes, tops_hz=self._note_tops_hz())
        if "lines" not in self._kept:
            self._kept["lines"] = {"share_of_lines": measure_lines(self.real)}
        return of_whole("lines", self._kept["lines"], {"share_of_lines": measure_lines(made)})

    def _life(self, loaded: Bundle, made: Sound) -> list[Row]:
        return self._per_note("life", life, made, self.f0_hz, self.notes)

    def _noise(self, loaded: Bundle, made: Sound) -> list[Row]:
        return self._per_note("noise", noise, made, self.f0_hz, self.notes)

    def _onsets(self, loaded: Bundle, made: Sound) -> list[Row]:
        return self._per_note("onsets", onsets, made, self.f0_hz, self.notes, self.changes)

    def _room(self, loaded: Bundle, made: Sound) -> list[Row]:
        if "room" not in self._kept:
            self._kept["room"] = {"real": read_by_praat(self.real.audio_16k, self.f0_hz, self.notes)}
        found = {"praat_right": made.audio_16k, "praat_right_dry": made.dry_16k}
        values = {name: read_by_praat(audio, self.f0_hz, self.notes) for name, audio in found.items()}
        return of_whole("room", dict.fromkeys(found, self._kept["room"]["real"]), values)

    def _classifier(self, loaded: Bundle | None, made: Sound) -> list[Row]:
        drawn = [made] if loaded is None else self._draw(loaded, made)
        each = [self._classify(sound) for sound in drawn]
        found = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
        return of_whole("classifier", {name: 0.5 if name.startswith("auc") else 0.0 for name in found}, found)

    def _classify(self, made: Sound) -> dict[str, float]:
        """Returns area under the curve and Fréchet distance of one performance, for each embedding."""
        real, other = patches(self.real.audio_16k), patches(made.audio_16k)
        usable = np.isfinite(real).all(axis=1) & np.isfinite(other).all(axis=1)
        groups = patch_groups(len(real), self.performance.starts_s, self.performance.seconds)[usable]
        found = {}
        for name, embed in self.embeddings.items():
            one, two = self._embedded(name, embed)[usable], embed(other[usable])
            every = np.concatenate([self._others(name, embed), one])
            found |= {f"auc_{name}": area_under_curve(one, two, groups)}
            found |= {f"frechet_{name}": frechet_distance(one, two, every)}
        return found

    def _embedded(self, name: str, embed: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Returns patches of the recording as vectors [N, D]; NaN where it is silent."""
        key = f"embedded {name}"
        if key not in self._kept:
            real = patches(self.real.audio_16k)
            sounding = np.isfinite(real).all(axis=1)
            vectors = embed(real[sounding])
            whole = np.full((len(real), vectors.shape[1]), np.nan)
            whole[sounding] = vectors
            self._kept[key] = {"vectors": whole}
        return self._kept[key]["vectors"]

    def _others(self, name: str, embed: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Returns the pieces of the recordings that are not played as vectors [N, D]."""
        key = f"others {name}"
        if key not in self._kept:
            pieces = level_patches(self.performance.others)
            pieces = pieces[np.isfinite(pieces).all(axis=1)]
            vectors = embed(pieces) if len(pieces) else np.zeros((0, self._embedded(name, embed).shape[1]))
            self._kept[key] = {"vectors": vectors}
        return self._kept[key]["vectors"]

    def _transfers(self, loaded: Bundle, made: Sound) -> list[Row]:
        if not self.voices:
            return []
        measured, cut = {}, []
        for path in self.voices:
            sound, features = transfer_voice(path, loaded, self.performance.rate_hz)
            f0_hz, notes = fill_f0(features.f0_hz, features.power_db), find_notes(features)
            values = noise(sound, f0_hz, notes) | onsets(sound, f0_hz, notes) | life(sound, f0_hz, notes)
            for name, each in (values | {"f0_hz": np.array([note.f0_hz for note in notes])}).items():
                measured.setdefault(name, []).append(each)
            cut.append(patches(sound.audio_16k))
        measured = {name: np.concatenate(parts) for name, parts in measured.items()}
        for group, function, extra in (("noise", noise, ()), ("onsets", onsets, (self.changes,)), ("life", life, ())):
            if group not in self._kept:
                self._kept[group] = function(self.real, self.f0_hz, self.notes, *extra)
        own_hz, real_hz = measured.pop("f0_hz"), np.array([note.f0_hz for note in self.notes])
        rows = []
        for group in ("noise", "onsets", "life"):
            for name, real in self._kept[group].items():
                if name in measured and name != "change_noise_db":
                    nearest = of_nearest(real_hz, real, own_hz)
                    rows += of_notes("transfers", {name: nearest}, {name: measured[name]})
        found = np.concatenate(cut)
        found = found[np.isfinite(found).all(axis=1)]
        for name, embed in self.embeddings.items():
            real = self._embedded(name, embed)
            real, others = real[np.isfinite(real).all(axis=1)], self._others(name, embed)
            every = np.concatenate([others, real])
            best = {f"frechet_{name}": frechet_distance(real, others, every)}
            rows += of_whole("transfers", best, {f"frechet_{name}": frechet_distance(every, embed(found), every)})
        return rows


#: Transfers are compared with so many notes of the recordings ...
N_NEAREST = 5
#: ... within so many semitones.
NEAREST_SEMITONES = 2.0


def of_nearest(real_hz: np.ndarray, values: np.ndarray, wanted_hz: np.ndarray) -> np.ndarray:
    """Returns the medians of the values of the notes nearest in pitch, [N]; NaN without a note within two semitones."""
    found = np.full(len(wanted_hz), np.nan)
    usable = np.isfinite(values)
    for i, hz in enumerate(wanted_hz):
        apart = np.abs(12.0 * np.log2(real_hz[usable] / hz))
        nearest = np.argsort(apart)[:N_NEAREST]
        nearest = nearest[apart[nearest] <= NEAREST_SEMITONES]
        if len(nearest):
            found[i] = np.median(values[usable][nearest])
    return found


def transfer_voice(path: Path, loaded: Bundle, rate_hz: int) -> tuple[Sound, Features]:
    """Transfers a recording as `ddsp transfer` does, and measures the result."""
    import soxr

    with tempfile.TemporaryDirectory() as folder:
        (result,) = transfer_files([path], loaded.path, out=Path(folder) / "transfer.wav", sample_rate_hz=rate_hz)
        audio = read.read_mono(result.output, rate_hz)
    low = soxr.resample(audio, rate_hz, ANALYSIS_RATE_HZ)
    features = measure(low)
    f0_hz = metrics.correct_f0_hz(low, features.f0_hz, features.spec.frame_rate_hz)
    return Sound(audio, audio, rate_hz), replace(features, f0_hz=f0_hz)


def label_of(folder: Path, taken: Sequence[str]) -> str:
    """Returns a column's head: the folder's name, with that of its parent where another has it."""
    return folder.name if folder.name not in taken else f"{folder.parent.name}/{folder.name}"


def show(name: str, performance: Performance, judged: dict[str, list[Row]]) -> None:
    """Prints the table of one instrument."""
    labels = list(judged)
    print(f"\n{name}: {performance.seconds:.0f} s, {len(performance.starts_s)} recordings")
    head = "".join(f"{label[-18:]:>20}{'differs':>9}" for label in labels)
    print(f"{'row':<11}{'measure':<26}{'notes':>6}{'recording':>11}{head}{'gone':>7}")
    measures = dict.fromkeys((row.group, row.measure) for rows in judged.values() for row in rows)
    for key in measures:
        found = [next((r for r in judged[label] if (r.group, r.measure) == key), None) for label in labels]
        some = next(r for r in found if r)
        line = f"{key[0]:<11}{key[1]:<26}{some.n or '':>6}{some.recording:>11.3f}"
        line += "".join(f"{r.value:>20.3f}{r.difference:>+9.3f}" if r else f"{'':>29}" for r in found)
        if len(found) > 1 and found[0] and found[-1] and abs(found[0].difference) > 1e-9:
            line += f"{100.0 * (1.0 - abs(found[-1].difference) / abs(found[0].difference)):>6.0f}%"
        print(line, flush=True)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Measure how real instruments sound.")
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--models", type=Path, action="append", help="folder of instruments; may be repeated")
    parser.add_argument("--datasets", type=Path, default=ROOT / "datasets")
    parser.add_argument("--recordings", type=Path, help="folder with a folder of sound files for each NAME")
    parser.add_argument("--split", choices=("validation", "train"), default="validation")
    parser.add_argument("--rows", default=",".join(r for r in ROWS if r not in OPTIONAL))
    parser.add_argument("--classifier", action="store_true", help="also the row classifier")
    parser.add_argument("--musicnn", type=Path, help="folder with the package musicnn, for the row classifier")
    parser.add_argument("--voices", type=Path, action="append", default=[], help="sound files to transfer, or folders")
    parser.add_argument("--csv", type=Path, help="write the table to this file")
    options = parser.parse_args()
    rows = options.rows.split(",")
    rows += ["classifier"] * ((options.classifier or options.musicnn is not None) and "classifier" not in rows)
    rows += ["transfers"] * (bool(options.voices) and "transfers" not in rows)
    unknown = sorted(set(rows) - set(ROWS))
    if unknown:
        parser.error(f"there is no row {unknown[0]}: choose among {', '.join(ROWS)}")
    if "neighbours" in rows and options.recordings:
        parser.error("the row neighbours needs --datasets, which have a training split")
    if "transfers" in rows and not options.voices:
        parser.error("the row transfers needs --voices")
    embeddings = {"log_mel": describe} | ({"musicnn": Musicnn(options.musicnn)} if options.musicnn else {})
    voices = read.list_audio(options.voices) if options.voices else []
    folders = {}
    for folder in options.models or [ROOT / "models"]:
        folders[label_of(folder, list(folders))] = folder
    lines = []
    for name in options.names:
        started = time.process_time()
        recordings = options.recordings and options.recordings / name
        performance = read_recordings(recordings) if recordings else read_split(options.datasets / name, options.split)
        wanted = "neighbours" in rows
        training = read_split(options.datasets / name, "train", longest_s=np.inf) if wanted else None
        judge = Judge(performance, rows, embeddings, voices, training)
        judged = {}
        for label, folder in folders.items():
            if not (folder / name).is_dir():
                continue
            loaded = models.open_at(folder / name)
            judged[label] = judge.judge(loaded, gain_for(loaded, performance.features) if recordings else 0.0)
        show(name, performance, judged)
        print(f"{time.process_time() - started:.0f} s of CPU time", file=sys.stderr)
        lines += [(name, label, r) for label, found in judged.items() for r in found]
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream)
            table.writerow(["instrument", "models", "row", "measure", "notes", "recording", "value", "difference"])
            for name, label, r in lines:
                table.writerow([name, label, r.group, r.measure, r.n, r.recording, r.value, r.difference])


if __name__ == "__main__":
    main()
