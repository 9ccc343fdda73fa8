"""What `ddsp prepare` leaves out as more than one voice, against the alignments of recordings.

    python benchmarks/polyphony.py DATASET ALIGNMENTS

DATASET is a prepared data set whose recordings are named as the alignments are (X.mp3 and X.csv, rows of start and end
in seconds: one per note). Alignments are good to some tens of ms, and a released string rings on, so neither number
can be 100 %.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from ddsp_cli.dataset import load_manifest
from ddsp_cli.dataset.cache import load_measured


def voices(path: Path, n_frames: int, frame_rate_hz: int) -> np.ndarray:
    """How many notes sound at once in each frame, [F]."""
    count = np.zeros(n_frames, np.int64)
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            count[int(float(row["start"]) * frame_rate_hz) : int(float(row["end"]) * frame_rate_hz)] += 1
    return count


def main() -> None:
    """Prints one row per recording."""
    folder, alignments = map(Path, sys.argv[1:])
    manifest = load_manifest(folder)
    rate_hz = manifest.features.frame_rate_hz
    print("| recording | chords | left out | of the chords | wrongly, of the single notes | precision |")
    print("|---|---|---|---|---|---|")
    for recording in manifest.recordings:
        name = Path(recording.path).stem
        measured = load_measured(folder / "measured", recording.sha256, manifest.features.hop_samples)
        if measured is None or not (alignments / f"{name}.csv").is_file():
            continue
        left = measured.polyphonic
        count = voices(alignments / f"{name}.csv", len(left), rate_hz)
        chords, single = count >= 2, count == 1
        print(
            f"| {name} | {chords.sum() / max(1, (count > 0).sum()):.1%} | {left[count > 0].mean():.1%} "
            f"| {left[chords].mean() if chords.any() else float('nan'):.1%} | {left[single].mean():.1%} "
            f"| {chords[left].mean() if left.any() else float('nan'):.1%} |"
        )


if __name__ == "__main__":
    main()
