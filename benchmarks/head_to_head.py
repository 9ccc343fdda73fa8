"""Compares reconstructions by several models with the recordings they were made of.

    python benchmarks/head_to_head.py FOLDER [--max-delay-ms 200] [--json FILE]

FOLDER holds a folder `recordings`, and one folder for each model, such as `ours` and `magenta`. A reconstruction has
the name of its recording (`recordings/a.wav`, `ours/a.wav`, `magenta/a.flac`). Every sound is read as mono at 16 kHz. A
constant delay of a reconstruction, as streaming models have, is found by cross-correlation of the levels and removed;
its level is brought to that of the recording, unless --keep-level. Rows are models; a figure is the mean over the
recordings that all models have.

The figures are those of `ddsp evaluate`: F0 L1, F0 outliers and loudness L1 as in Table 1 of the paper of DDSP,
spectral distance, share of frames within 50 cents. F0 is tracked with swift-f0, or with the tracker that --pitch names.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from ddsp_cli.analysis import metrics
from ddsp_cli.analysis.metrics import METRICS
from ddsp_cli.audio import read
from ddsp_cli.config import ANALYSIS_RATE_HZ

RECORDINGS = "recordings"
ENDINGS = {".wav", ".flac", ".ogg", ".aiff", ".aif", ".mp3"}

#: Levels are correlated on a grid this fine.
STEP_S = 0.001


def sounds(folder: Path) -> dict[str, Path]:
    """Returns the sound files of a folder by their names without ending."""
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in ENDINGS}


def delay_samples(recording: np.ndarray, other: np.ndarray, longest_ms: float) -> int:
    """Finds the delay of `other` in samples by cross-correlation of levels; 0 where it is not late."""
    size = round(STEP_S * ANALYSIS_RATE_HZ)
    n = min(len(recording), len(other)) // size
    one, two = (
        np.log10(np.maximum(np.mean(x[: n * size].reshape(n, size) ** 2, axis=1), 1e-8)) for x in (recording, other)
    )
    longest = min(round(longest_ms / 1000 / STEP_S), n - 1)
    scores = []
    for lag in range(-longest, longest + 1):
        a, b = (one[: n - lag], two[lag:]) if lag >= 0 else (one[-lag:], two[: n + lag])
        scores.append(float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else -1.0)
    return (int(np.argmax(scores)) - longest) * size if max(scores) > 0 else 0


def shifted(sound: np.ndarray, samples: int, length: int) -> np.ndarray:
    """Moves a sound `samples` earlier, cut or filled up with silence to a length."""
    moved = sound[samples:] if samples >= 0 else np.pad(sound, (-samples, 0))
    return np.pad(moved[:length], (0, max(0, length - len(moved))))


def figures(recording: np.ndarray, other: np.ndarray, options: argparse.Namespace) -> dict[str, float]:
    """Returns all figures of a pair."""
    delay = delay_samples(recording, other, options.max_delay_ms)
    aligned = shifted(other, delay, len(recording))
    if not options.keep_level and np.any(aligned):
        aligned = aligned * np.float32(np.sqrt(np.mean(recording**2) / np.mean(aligned**2)))
    found = metrics.resynthesis_figures(recording, aligned, options.pitch)
    return {**found, **metrics.compare(recording, aligned).as_dict(), "delay_ms": 1000 * delay / ANALYSIS_RATE_HZ}


def main() -> None:
    """Compares the models of a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--max-delay-ms", type=float, default=200.0)
    parser.add_argument("--keep-level", action="store_true")
    parser.add_argument("--pitch", help="tracker, such as crepe or pyin")
    parser.add_argument("--json", type=Path, help="also write the figures of each pair here")
    options = parser.parse_args()
    if not (options.folder / RECORDINGS).is_dir():
        sys.exit(f"{options.folder} holds no folder {RECORDINGS}")
    recordings = sounds(options.folder / RECORDINGS)
    models = {path.name: sounds(path) for path in sorted(options.folder.iterdir()) if path.is_dir()}
    del models[RECORDINGS]
    common = [name for name in recordings if all(name in files for files in models.values())]
    if not models or not common:
        sys.exit(f"{options.folder} holds no model that reconstructed one of the {len(recordings)} recordings")
    for model, files in models.items():
        for missing in sorted(set(recordings) - set(files)):
            print(f"{model} has no {missing}: left out for all", file=sys.stderr)
    rows: dict[str, dict[str, dict[str, float]]] = {model: {} for model in models}
    for name in common:
        recording = read.read_mono(recordings[name], ANALYSIS_RATE_HZ)
        for model, files in models.items():
            rows[model][name] = figures(recording, read.read_mono(files[name], ANALYSIS_RATE_HZ), options)
    shown = [metric for metric in METRICS if any(metric in one for found in rows.values() for one in found.values())]
    print("\t".join(["model", *(METRICS[metric][0] for metric in shown), "delay"]))
    for model, found in rows.items():
        cells = []
        for metric in shown:
            values = [one[metric] for one in found.values() if metric in one]
            cells.append(METRICS[metric][1].format(float(np.mean(values))) if values else "-")
        delay = float(np.median([one["delay_ms"] for one in found.values()]))
        print("\t".join([model, *cells, f"{delay:+.0f} ms"]))
    print(f"{len(common)} recordings, means; delay is the median")
    if options.json:
        options.json.write_text(f"{json.dumps(rows, indent=2)}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
