"""Percentiles and histograms of pitch and level, over the frames with a note."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ddsp_cli.bundle import Statistics
from ddsp_cli.dataset.manifest import Histogram
from ddsp_cli.scaling import hz_to_midi

#: Widths of histogram bins: pitch in semitones, level in dB.
SEMITONE, LEVEL_STEP_DB = 1.0, 2.0


@dataclass
class NoteFigures:
    """Collects pitch and level of every frame with a note."""

    pitch_midi: list[np.ndarray] = field(default_factory=list)
    loudness_db: list[np.ndarray] = field(default_factory=list)
    power_db: list[np.ndarray] = field(default_factory=list)

    def add(self, example: dict[str, np.ndarray]) -> None:
        """Adds the frames of one example."""
        notes = example["f0_hz"] > 0
        self.pitch_midi.append(hz_to_midi(example["f0_hz"][notes]).astype(np.float32))
        self.loudness_db.append(example["loudness_db"][notes])
        self.power_db.append(example["power_db"][notes])

    def statistics(self, frame_rate_hz: int) -> Statistics:
        """Percentiles 0..100 of each; there must be at least one frame with a note."""

        def percentiles(parts: list[np.ndarray]) -> list[float]:
            values = np.percentile(np.concatenate(parts).astype(np.float64), np.arange(101))
            return [round(float(value), 4) for value in values]

        n_frames = sum(map(len, self.pitch_midi))
        return Statistics(
            pitch_midi=percentiles(self.pitch_midi),
            loudness_db=percentiles(self.loudness_db),
            power_db=percentiles(self.power_db),
            note_s=n_frames / frame_rate_hz,
        )

    def histograms(self, frame_rate_hz: int) -> dict[str, Histogram]:
        """Seconds of notes in each semitone, and in each step of level."""

        def histogram(parts: list[np.ndarray], step: float) -> Histogram:
            bins = np.round(np.concatenate(parts) / step).astype(np.int64)
            counts = np.bincount(bins - bins.min())
            seconds = [round(float(count) / frame_rate_hz, 3) for count in counts]
            return Histogram(start=(float(bins.min()) - 0.5) * step, step=step, seconds=seconds)

        return {
            "pitch_midi": histogram(self.pitch_midi, SEMITONE),
            "loudness_db": histogram(self.loudness_db, LEVEL_STEP_DB),
            "power_db": histogram(self.power_db, LEVEL_STEP_DB),
        }
