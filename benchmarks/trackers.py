"""How good the pitch trackers are: on glides with noise, and on a voice whose pitch is known.

    python benchmarks/trackers.py [--voice AUDIO --reference CSV] [--crepe-weights FILE] [--pitch NAME ...]

Glides run from 60 to 1500 Hz in 8 s, with 10 harmonics, clean and under pink noise at 20 and 5 dB. The reference is
rows of seconds and Hz, 0 where nothing is sung (vocadito: R. Bittner et al. 2021). Frames within 50 cents are right;
those whose reference is voiced and the tracker's is not are wrong. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np

from ddsp_cli.analysis.pitch import trackers
from ddsp_cli.analysis.pitch.octave_correction import correct_octaves
from ddsp_cli.audio import read
from ddsp_cli.errors import DdspError

RATE_HZ, HOP_SAMPLES = 16000, 64


def glide(seconds: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sound [S] and its f0 at each sample [S]."""
    f0_hz = 60.0 * 25.0 ** (np.arange(round(seconds * RATE_HZ)) / (seconds * RATE_HZ))
    phase = 2 * np.pi * np.cumsum(f0_hz) / RATE_HZ
    sound = sum(np.where(k * f0_hz < 7600, 1 / k, 0) * np.sin(k * phase) for k in range(1, 11))
    return (0.2 * sound).astype(np.float32), f0_hz


def with_noise(sound: np.ndarray, snr_db: float, seed: int = 0) -> np.ndarray:
    """Adds pink noise of a given level below the sound."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=len(sound)))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 10)), len(sound))
    noise *= np.sqrt(np.mean(sound**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    return (sound + noise).astype(np.float32)


def measured(name: str, audio: np.ndarray, weights: Path | None, mend: bool) -> tuple[np.ndarray, float]:
    """Returns F0 on our grid [F], and how many seconds of sound a second of computing took."""
    tracker = trackers.open_tracker(name, threads=1, weights=weights if name.startswith("crepe") else None)
    start = time.process_time()
    tracker.push(audio)
    f0_hz, _ = trackers.on_grid(tracker.finish(), -(-len(audio) // HOP_SAMPLES), HOP_SAMPLES)
    speed = len(audio) / RATE_HZ / (time.process_time() - start)
    if mend:
        f0_hz = correct_octaves(lambda first, last: audio[first:last], len(audio), f0_hz, RATE_HZ // HOP_SAMPLES).f0_hz
    return f0_hz, speed


def figures(f0_hz: np.ndarray, true_hz: np.ndarray) -> list[str]:
    """Returns: right within 50 cents, median error where right, octave errors, voiced where the reference is silent."""
    voiced = true_hz > 0
    found = f0_hz > 0
    cents = np.abs(1200 * np.log2(np.where(found & voiced, f0_hz, 1) / np.where(found & voiced, true_hz, 1)))
    right = found & voiced & (cents <= 50)
    octave = found & voiced & (np.abs(cents - 1200) <= 50)
    silent = ~voiced
    return [
        f"{right.sum() / voiced.sum():.1%}",
        f"{np.median(cents[right]):.1f}" if right.any() else "-",
        f"{octave.sum() / voiced.sum():.1%}",
        f"{found[silent].mean():.1%}" if silent.any() else "-",
    ]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voice", type=Path)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--crepe-weights", type=Path)
    parser.add_argument("--pitch", nargs="*", default=["swift-f0", "pyin", "crepe"])
    given = parser.parse_args()
    clean, true_hz = glide()
    cases = [("glide", clean, true_hz[::HOP_SAMPLES])]
    cases += [(f"glide, noise at {db} dB", with_noise(clean, db), true_hz[::HOP_SAMPLES]) for db in (20, 5)]
    if given.voice and given.reference:
        audio = read.read_mono(given.voice)
        with given.reference.open(encoding="utf-8", newline="") as stream:
            rows = np.array([[float(cell) for cell in row[:2]] for row in csv.reader(stream)])
        centres_s = np.arange(-(-len(audio) // HOP_SAMPLES)) * HOP_SAMPLES / RATE_HZ
        # the nearest row: a reference is not interpolated across its gaps
        nearest = np.clip(np.searchsorted(rows[:, 0], centres_s - np.diff(rows[:2, 0]) / 2), 0, len(rows) - 1)
        cases.append((given.voice.stem, audio, np.where(centres_s <= rows[-1, 0], rows[nearest, 1], 0.0)))
    print(
        "| tracker | sound | within 50 cents | median error (cents) | an octave off | voiced in silence | x real time |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in given.pitch:
        for label, audio, reference in cases:
            for mend in (False, True):
                try:
                    f0_hz, speed = measured(name, audio, given.crepe_weights, mend)
                except DdspError as problem:
                    print(f"| {name} | {problem.message} | | | | | |")
                    break
                called = f"{name}, corrected" if mend else name
                print(f"| {called} | {label} | {' | '.join(figures(f0_hz, reference))} | {speed:.0f} |", flush=True)


if __name__ == "__main__":
    main()
