"""Measure the limits of the synthesisers with a perfect network, by loss and by a classifier.

    python benchmarks/limits.py NAME... [--datasets DIR] [--models DIR] [--musicnn DIR] [--draws N]

The held-out recordings of each instrument are divided, at 16 kHz, into harmonics (levels and phases measured 250 times
a second, pitch-synchronously) and the residual. The recordings are put together again from these parts; each variant
replaces one more part by the output of the synthesisers:

    copy with dither     the recording, with noise as of 16 bits: effect of an inaudible difference on the classifier
    phases of F0         harmonics with measured levels, their phases those of an oscillator; residual of the recording
    frame rate           the same with levels at 50 Hz
    noise                levels at 50 Hz; white noise with the power of the residual in 64 bands, 50 times a second
    fast controls        levels and noise 250 times a second
    own noise            levels at 50 Hz; the noise of the trained instrument
    own levels           harmonics of the trained instrument, with the power of those of the recording in 64 bands, 50
                         times a second; noise with the power of the residual
    own harmonics        harmonics of the trained instrument; noise with the power of the residual
    instrument           both of the trained instrument
    transfer             the same with fast envelope and level correction, as `ddsp transfer` plays it

Columns: multi-scale spectral loss, and the area under the curve of the classifiers of `realism.py`, with its standard
deviation over --draws performances, which draw other noise, movements and timbres of notes. The room of an instrument
plays in its own parts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from ddsp_cli.analysis.features import fill_f0
from ddsp_cli.analysis.harmonics import N_PERIODS, OVERSAMPLING, measure_partials
from ddsp_cli.bundle import Bundle
from ddsp_cli.bundle.layout import control_columns
from ddsp_cli.config import ANALYSIS_RATE_HZ, FilteredNoiseConfig, HarmonicConfig
from ddsp_cli.training.output_layer import BIAS, KERNEL
from ddsp_cli.workflows import models
from realism import FRAME_HZ, Judge, Musicnn, Performance, Sound, describe, play, read_split

ROOT = Path(__file__).parent.parent

#: Recordings are divided in pieces of this length.
PIECE_S = 4

#: Harmonics above this are left to the residual.
TOP_HZ = 7900.0

#: Noise is made in this many bands.
N_BANDS = 64

#: Standard deviation of the noise that rounding to 16 bits leaves, times ten: -80 dBFS.
DITHER = 1e-4

#: Raw output of a synthesiser that is silent.
SILENT = -30.0


def divide(audio: np.ndarray, f0_hz: np.ndarray) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Takes the harmonics out of a recording.

    Args:
      audio: [S] at 16 kHz.
      f0_hz: [F] at `FRAME_HZ`, nowhere 0.

    Returns:
      The harmonics with their own phases [S], and of each piece the amplitudes [F, K] and the phase of F0 [S], turns.
    """
    own, pieces = np.zeros(len(audio)), []
    for start, pitch_hz in cut(audio, f0_hz):
        part = audio[start : start + PIECE_S * ANALYSIS_RATE_HZ]
        n = int(TOP_HZ / pitch_hz.max())
        found = measure_partials(part, ANALYSIS_RATE_HZ, pitch_hz, FRAME_HZ, n)
        power = np.maximum(found.harmonic_power - found.noise_in_harmonics(pitch_hz), 0.0)
        amplitudes, phase = np.sqrt(power), phase_of(pitch_hz, len(part))
        drift = np.unwrap(2.0 * np.pi * found.harmonic_drift, axis=0)
        own[start : start + len(part)] = add_up(amplitudes, phase, drift)
        pieces.append((amplitudes, phase))
    return own, pieces


def cut(audio: np.ndarray, f0_hz: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the first sample and F0 of each whole piece."""
    size = PIECE_S * FRAME_HZ
    for i in range(min(len(f0_hz) // size, len(audio) // (PIECE_S * ANALYSIS_RATE_HZ))):
        yield i * PIECE_S * ANALYSIS_RATE_HZ, np.asarray(f0_hz[i * size : (i + 1) * size], np.float32)


def phase_of(f0_hz: np.ndarray, n_samples: int) -> np.ndarray:
    """Returns the phase of F0 in turns [S], as `analysis.harmonics.measure_partials` counts it."""
    rate_hz = OVERSAMPLING * ANALYSIS_RATE_HZ
    margin = int(np.ceil(0.5 * N_PERIODS * rate_hz / float(f0_hz.min()))) + 4
    times_s = (np.arange(OVERSAMPLING * n_samples + margin) - margin) / rate_hz
    phase = np.cumsum(np.exp(np.interp(times_s, np.arange(len(f0_hz)) / FRAME_HZ, np.log(f0_hz)))) / rate_hz
    return phase[margin::OVERSAMPLING]


def add_up(amplitudes: np.ndarray, phase: np.ndarray, drift: np.ndarray | None = None, step: int = 1) -> np.ndarray:
    """Adds harmonics [F, K] up, [S]; every `step`-th amplitude counts, between them they are interpolated."""
    frames = np.arange(0, len(amplitudes), step)
    places = np.arange(len(phase)) * FRAME_HZ / ANALYSIS_RATE_HZ
    total = np.zeros(len(phase))
    for k in range(amplitudes.shape[1]):
        turn = 2.0 * np.pi * (k + 1) * phase
        if drift is not None:
            turn = turn + np.interp(places, np.arange(len(drift)), drift[:, k])
        total += np.interp(places, frames, amplitudes[frames, k]) * np.cos(turn)
    return total


def frames(n_fft: int, rate_hz: int) -> dict[str, Any]:
    """Returns the parameters of a short-time Fourier transform with frames of `n_fft` samples, `rate_hz` a second."""
    overlap = n_fft - ANALYSIS_RATE_HZ // rate_hz
    return {"fs": ANALYSIS_RATE_HZ, "nperseg": n_fft, "noverlap": overlap, "window": "hann"}


#: Frames of the noise: 50 a second, as the instruments have them, and as many as F0 has.
SLOW, FAST = frames(1024, 50), frames(256, FRAME_HZ)

#: The power in a band is changed by at most so much, and bands below the floor count as the floor.
MAX_CHANGE_DB, FLOOR = 20.0, 1e-10


def band_powers(sound: np.ndarray, layout: Mapping[str, Any] = SLOW) -> np.ndarray:
    """Returns the power of a sound [S] in `N_BANDS` + 1 overlapping bands of each frame, [M, F]."""
    from scipy.signal import stft

    bins_hz, _, spectrum = stft(sound, **layout)
    centres = np.linspace(0.0, ANALYSIS_RATE_HZ / 2.0, N_BANDS + 1)
    weights = np.maximum(0.0, 1.0 - np.abs(bins_hz - centres[:, None]) / centres[1])
    return np.asarray(weights / weights.sum(axis=1, keepdims=True) @ np.abs(spectrum) ** 2)


def filtered(sound: np.ndarray, gains: np.ndarray, layout: Mapping[str, Any] = SLOW) -> np.ndarray:
    """Multiplies the power of a sound [S] by gains [M, F], between the centres of the bands interpolated."""
    from scipy.signal import istft, stft

    bins_hz, _, spectrum = stft(sound, **layout)
    centres = np.linspace(0.0, ANALYSIS_RATE_HZ / 2.0, N_BANDS + 1)
    of_bins = np.stack([np.interp(bins_hz, centres, column) for column in gains.T], axis=1)
    _, made = istft(spectrum * np.sqrt(of_bins), **layout)
    return np.pad(made, (0, max(0, len(sound) - len(made))))[: len(sound)]


def noise_like(residual: np.ndarray, seed: int = 5, layout: Mapping[str, Any] = SLOW) -> np.ndarray:
    """Makes white noise with the power of a sound [S] in the bands of each frame."""
    noise = np.random.default_rng(seed).normal(size=len(residual))
    return filtered(noise, band_powers(residual, layout) / np.mean(band_powers(noise, layout)), layout)


def with_levels_of(sound: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Gives a sound [S] the power of another in the bands of each frame, changed by at most `MAX_CHANGE_DB`."""
    largest = 10.0 ** (MAX_CHANGE_DB / 10.0)
    gains = (band_powers(other) + FLOOR) / (band_powers(sound) + FLOOR)
    return filtered(sound, np.clip(gains, 1.0 / largest, largest))


def without(loaded: Bundle, kind: type, control: str) -> Bundle:
    """Returns an instrument with a silent synthesiser."""
    found = loaded.card.model.only(kind)
    assert found is not None
    columns = control_columns(loaded.card.model, found[0])[control]
    kernel, bias = loaded.weights[KERNEL].copy(), loaded.weights[BIAS].copy()
    kernel[:, columns], bias[columns] = 0.0, SILENT
    return replace(loaded, weights=loaded.weights | {KERNEL: kernel, BIAS: bias})


def variants(loaded: Bundle, performance: Performance, n_draws: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the recording at 16 kHz with one part after the other made by synthesisers; see the head of this file.

    Those that draw something are yielded `n_draws` times.
    """

    def at_16k(sound: np.ndarray) -> np.ndarray:
        return np.asarray(soxr.resample(sound, performance.rate_hz, ANALYSIS_RATE_HZ), np.float64)

    audio = at_16k(performance.audio)
    features = performance.features
    own, pieces = divide(audio.astype(np.float32), fill_f0(features.f0_hz, features.power_db))
    audio = audio[: len(pieces) * PIECE_S * ANALYSIS_RATE_HZ]
    residual = audio - own[: len(audio)]
    fine = np.concatenate([add_up(*piece) for piece in pieces])
    coarse = np.concatenate([add_up(*piece, step=FRAME_HZ // 50) for piece in pieces])
    toneless = without(loaded, HarmonicConfig, "amplitude")
    noiseless = without(loaded, FilteredNoiseConfig, "noise_magnitudes")
    yield "copy with dither", audio + np.random.default_rng(0).normal(0.0, DITHER, len(audio))
    yield "phases of F0", fine + residual
    yield "frame rate", coarse + residual
    for draw in range(n_draws):
        noise = noise_like(residual, seed=draw)
        harmonics = at_16k(play(noiseless, performance, as_transfer=False, draw=draw))[: len(audio)]
        breath = at_16k(play(toneless, performance, as_transfer=False, draw=draw))[: len(audio)]
        yield "noise", coarse + noise
        yield "fast controls", fine + noise_like(residual, draw, FAST)
        yield "own noise", coarse + breath
        yield "own levels", with_levels_of(harmonics, fine) + noise
        yield "own harmonics", harmonics + noise
        yield "instrument", harmonics + breath
        yield "transfer", at_16k(play(loaded, performance, draw=draw))[: len(audio)]


def judge(judged: Judge, sound: np.ndarray) -> dict[str, float]:
    """Returns loss and areas under the curve of a sound at 16 kHz."""
    made = Sound(*[np.asarray(sound, np.float32)] * 2, ANALYSIS_RATE_HZ)
    rows = judged.compare(made)
    return {row.measure: row.value for row in rows if row.measure == "spectral_loss" or row.measure.startswith("auc")}


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Measure the limits of the synthesisers.")
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--datasets", type=Path, default=Path("datasets"))
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--musicnn", type=Path, help="folder with the package musicnn, for a second classifier")
    parser.add_argument("--draws", type=int, default=6, help="number of performances with other noise and timbres")
    options = parser.parse_args()
    embeddings: dict[str, Callable] = {"log_mel": describe}
    if options.musicnn is not None:
        embeddings["musicnn"] = Musicnn(options.musicnn)
    for name in options.names:
        loaded, performance = models.open_at(options.models / name), read_split(options.datasets / name)
        judged = Judge(performance, ["loss", "classifier"], embeddings)
        found: dict[str, list[dict[str, float]]] = {}
        for label, sound in variants(loaded, performance, options.draws):
            found.setdefault(label, []).append(judge(judged, sound))
        for label, rows in found.items():
            figures = []
            for measure in rows[0]:
                values = [row[measure] for row in rows]
                spread = f" ({np.std(values):.2f})" if len(values) > 1 else ""
                figures.append(f"{measure} {np.mean(values):.2f}{spread}")
            print(f"{name:<12}{label:<20}{'  '.join(figures)}", flush=True)


if __name__ == "__main__":
    main()
