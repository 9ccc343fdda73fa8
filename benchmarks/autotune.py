"""What `--autotune 1` does to vibrato, drift and slides of held notes, on singers and on melodies made here.

    python benchmarks/autotune.py [RECORDING...]

Notes of at least 0.4 s are measured, before and after. Vibrato is the part of their F0 from 3.5 to 9 Hz, under a Hann
window over the note, without its straight line: the ratio of the amplitudes, and the share that keeps its phase.
Drift is the F0 without vibrato (mean under two Hann windows of 0.36 s), as the root mean square of its distance from
the note that it is tuned to, and the share of frames within 15 cents of it; before, from its own centre. Of the
melodies made here, with vibratos of known depth and rate, drift, scoops and jitter, the known vibrato is compared
instead: the ratio is the projection of the F0 on it, over the whole note with its ends.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ddsp_cli.adaptation import f0_cleanup
from ddsp_cli.adaptation.autotune import CHROMATIC, move_notes, target_degrees
from ddsp_cli.adaptation.segmentation import find_segments
from ddsp_cli.analysis.extract import analyze
from ddsp_cli.analysis.melody import Notes, centre, find_notes, find_tuning
from ddsp_cli.audio import read
from ddsp_cli.audio.recording import ArrayRecording
from ddsp_cli.config import FeatureSpec

RATE_HZ = 250
HELD_S = 0.4
BAND_HZ = (3.5, 9.0)
SMOOTH_S = 0.36
NEAR_CENTS = 15.0


class Melody(NamedTuple):
    """F0 [F] as MIDI numbers; the vibrato that was put into it [F], where it is known; and its true notes."""

    midi: np.ndarray
    vibrato: np.ndarray | None = None
    steps: np.ndarray | None = None


def made(seed: int, depth_cents: float, rate_hz: float) -> Melody:
    """Makes a melody of 20 notes up to 40 cents out of tune, half of them legato, with drift, scoops, jitter, rests."""
    rng = np.random.default_rng(seed)
    midi, vibrato, steps = [], [], []
    note = 60.0
    for i in range(20):
        note = float(np.clip(note + rng.choice([-4, -3, -2, -1, 1, 2, 3, 5]), 50, 74))
        seconds = float(rng.choice([0.45, 0.6, 0.9, 1.4, 2.5]))
        t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
        onset_s = float(rng.choice([0.0, 0.15, 0.3])) if seconds > 0.8 else 0.0
        swing = np.clip((t - onset_s) / 0.15, 0.0, 1.0) if onset_s else np.ones_like(t)
        phase = 2 * np.pi * np.cumsum(rate_hz * (1 + 0.04 * np.sin(2 * np.pi * 0.7 * t))) / RATE_HZ
        wave = depth_cents / 100 * swing * np.sin(phase + rng.uniform(0, 2 * np.pi))
        drift = rng.uniform(-0.4, 0.4) + rng.uniform(-0.3, 0.3) * (t / seconds - 0.5)
        drift = drift + rng.uniform(0, 0.15) * np.sin(2 * np.pi * rng.uniform(0.3, 1.5) * t + rng.uniform(0, 6))
        scoop = rng.uniform(0.0, 1.2) * np.clip(1.0 - t / rng.uniform(0.08, 0.16), 0.0, 1.0) ** 1.5
        midi.append(note + drift - scoop + wave + 0.03 * rng.standard_normal(len(t)))
        vibrato.append(wave)
        steps.append(np.full(len(t), note))
        if i % 2:
            rest = np.full(round(0.2 * RATE_HZ), np.nan)
            for part in (midi, vibrato, steps):
                part.append(rest)
    return Melody(*(np.concatenate(part) for part in (midi, vibrato, steps)))


def heard(path: Path) -> Melody:
    """Returns the melody of a recording, as `ddsp transfer` repairs it."""
    recording = ArrayRecording(read.read_mono(path))
    analysis = analyze(recording, FeatureSpec(), find_segments)
    features, segments = analysis.features, analysis.segments
    features = f0_cleanup.confirm_leaps(features, segments, recording)
    midi = f0_cleanup.to_midi(features.f0_hz)
    return Melody(f0_cleanup.repair(midi, segments, RATE_HZ, features.f0_confidence, features.loudness_db))


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Removes movements faster than 3 Hz from values [F]."""
    window = np.hanning(round(SMOOTH_S * RATE_HZ) | 1)
    for _ in range(2):
        values = np.convolve(values, window, "same") / np.convolve(np.ones_like(values), window, "same")
    return values


def _band(values: np.ndarray) -> np.ndarray:
    """Returns the spectrum of values [F] in the band of vibrato."""
    x = np.arange(len(values))
    values = (values - np.polyval(np.polyfit(x, values, 1), x)) * np.hanning(len(values))
    n = 2048
    hz = np.fft.rfftfreq(n, 1 / RATE_HZ)
    return np.fft.rfft(values, n)[(hz >= BAND_HZ[0]) & (hz <= BAND_HZ[1])] if len(values) <= n else np.zeros(0)


def measured(melody: Melody, held: Notes, targets: np.ndarray, tuned: np.ndarray) -> Iterator[dict[str, float]]:
    """Sums of each held note, before and after."""
    for start, stop, own, target in zip(held.starts, held.stops, held.centre_midi, targets, strict=True):
        if stop - start < HELD_S * RATE_HZ:
            continue
        before, after = melody.midi[start:stop] - own, tuned[start:stop] - target
        sums = {"frames": float(stop - start)}
        if melody.vibrato is not None:
            known = melody.vibrato[start:stop]
            sums |= {"before": float(known @ known), "after": float(known @ (after - after.mean()))}
        else:
            x, y = _band(before), _band(after)
            sums |= {"before": float(np.sum(abs(x) ** 2)), "after": float(np.sum(abs(y) ** 2)),
                     "coherent": float(np.real(np.vdot(x, y)))}  # fmt: skip
        for name, values in (("0", before), ("1", after)):
            slow = 100 * _smoothed(values)
            sums |= {f"slow{name}": float(slow @ slow), f"near{name}": float(np.sum(abs(slow) <= NEAR_CENTS)),
                     f"raw_near{name}": float(np.sum(abs(100 * values) <= NEAR_CENTS))}  # fmt: skip
        yield sums


def report(name: str, melodies: list[Melody]) -> None:
    """Prints one line."""
    total: dict[str, float] = defaultdict(float)
    n_notes = 0
    for melody in melodies:
        tuning = 0.0 if melody.vibrato is not None else find_tuning(centre(melody.midi, RATE_HZ))
        held = find_notes(melody.midi if melody.steps is None else melody.steps, RATE_HZ, tuning)
        targets = target_degrees(held, CHROMATIC, tuning)
        notes = find_notes(melody.midi, RATE_HZ, tuning)
        tuned = move_notes(melody.midi, notes, target_degrees(notes, CHROMATIC, tuning), 1.0, RATE_HZ)
        for sums in measured(melody, held, targets, tuned):
            n_notes += 1
            for key, value in sums.items():
                total[key] += value
    frames = total["frames"]
    if melodies[0].vibrato is not None:
        kept = f"vibrato {total['after'] / total['before']:.0%} of the known one"
    else:
        in_phase = total["coherent"] / total["before"]
        kept = f"vibrato {np.sqrt(total['after'] / total['before']):.0%} in width, {in_phase:.0%} in phase"
    print(
        f"{name:24s} {n_notes:3d} notes, {frames / RATE_HZ:4.0f} s: {kept}; without vibrato "
        f"{np.sqrt(total['slow0'] / frames):.0f} -> {np.sqrt(total['slow1'] / frames):.0f} cents, within 15 cents "
        f"{total['near0'] / frames:.0%} -> {total['near1'] / frames:.0%} (with vibrato "
        f"{total['raw_near0'] / frames:.0%} -> {total['raw_near1'] / frames:.0%})"
    )


def main() -> None:
    """Prints a line for each recording, then for each kind of vibrato."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, nargs="*")
    for path in read.list_audio(parser.parse_args().recordings):
        report(path.stem, [heard(path)])
    for rate_hz in (4.5, 5.5, 7.0):
        for depth_cents in (20.0, 50.0, 100.0):
            melodies = [made(seed, depth_cents, rate_hz) for seed in range(5)]
            report(f"+-{depth_cents:.0f} cents at {rate_hz} Hz", melodies)


if __name__ == "__main__":
    main()
