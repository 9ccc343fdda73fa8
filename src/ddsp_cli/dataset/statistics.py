"""Percentiles and histograms of pitch and level over the frames with a note, in memory that does not grow with them."""

from __future__ import annotations

import numpy as np

from ddsp_cli.bundle import Statistics
from ddsp_cli.dataset.manifest import Histogram
from ddsp_cli.scaling import hz_to_midi

#: Widths of histogram bins: pitch in semitones, level in dB.
SEMITONE, LEVEL_STEP_DB = 1.0, 2.0

#: Values are counted to this, in semitones or dB: percentiles are off by at most half of it.
RESOLUTION = 1e-3


class Counts:
    """Counts values to `RESOLUTION`."""

    def __init__(self) -> None:
        self._first = 0
        self._counts = np.zeros(0, np.int64)

    def add(self, values: np.ndarray) -> None:
        """Adds values [n]."""
        if not len(values):
            return
        bins = np.round(values.astype(np.float64) / RESOLUTION).astype(np.int64)
        low, high = int(bins.min()), int(bins.max()) + 1
        self._grow(low, high)
        self._counts[low - self._first : high - self._first] += np.bincount(bins - low, minlength=high - low)

    def merge(self, other: Counts) -> None:
        """Adds the values that another one counted."""
        if len(other._counts):
            self._grow(other._first, other._first + len(other._counts))
            at = other._first - self._first
            self._counts[at : at + len(other._counts)] += other._counts

    def _grow(self, low: int, high: int) -> None:
        """Makes room for bins [low, high)."""
        if not len(self._counts):
            self._first = low
        first, end = min(low, self._first), max(high, self._first + len(self._counts))
        if end - first != len(self._counts):
            grown = np.zeros(end - first, np.int64)
            grown[self._first - first : self._first - first + len(self._counts)] = self._counts
            self._first, self._counts = first, grown

    @property
    def n(self) -> int:
        """Number of values added."""
        return int(self._counts.sum())

    def percentiles(self, percents: np.ndarray) -> np.ndarray:
        """Percentiles as `numpy.percentile` interpolates them; there must be at least one value."""
        ranks = np.asarray(percents, np.float64) / 100.0 * (self.n - 1)
        below = np.floor(ranks).astype(np.int64)
        cumulative = np.cumsum(self._counts)

        def value(rank: np.ndarray) -> np.ndarray:
            return (self._first + np.searchsorted(cumulative, rank, side="right")) * RESOLUTION

        low, high = value(below), value(np.minimum(below + 1, self.n - 1))
        return low + (high - low) * (ranks - below)

    def histogram(self, step: float, frame_rate_hz: int) -> Histogram:
        """Seconds in bins of a width, centred on its multiples."""
        present = np.flatnonzero(self._counts)
        bins = np.round((self._first + present) * RESOLUTION / step).astype(np.int64)
        counts = np.bincount(bins - bins.min(), self._counts[present])
        seconds = [round(float(count) / frame_rate_hz, 3) for count in counts]
        return Histogram(start=(float(bins.min()) - 0.5) * step, step=step, seconds=seconds)


class NoteFigures:
    """Counts pitch and level of every frame with a note."""

    def __init__(self) -> None:
        self.pitch_midi, self.loudness_db, self.power_db = Counts(), Counts(), Counts()

    def add(self, example: dict[str, np.ndarray]) -> None:
        """Adds the frames of one example."""
        notes = example["f0_hz"] > 0
        self.pitch_midi.add(hz_to_midi(example["f0_hz"][notes]))
        self.loudness_db.add(example["loudness_db"][notes])
        self.power_db.add(example["power_db"][notes])

    def merge(self, other: NoteFigures) -> None:
        """Adds the frames that another one counted, in any order: the result is the same."""
        self.pitch_midi.merge(other.pitch_midi)
        self.loudness_db.merge(other.loudness_db)
        self.power_db.merge(other.power_db)

    def statistics(self, frame_rate_hz: int) -> Statistics:
        """Percentiles 0..100 of each; there must be at least one frame with a note."""

        def percentiles(counts: Counts) -> list[float]:
            return [round(float(value), 4) for value in counts.percentiles(np.arange(101))]

        return Statistics(
            pitch_midi=percentiles(self.pitch_midi),
            loudness_db=percentiles(self.loudness_db),
            power_db=percentiles(self.power_db),
            note_s=self.pitch_midi.n / frame_rate_hz,
        )

    def histograms(self, frame_rate_hz: int) -> dict[str, Histogram]:
        """Seconds of notes in each semitone, and in each step of level."""
        return {
            "pitch_midi": self.pitch_midi.histogram(SEMITONE, frame_rate_hz),
            "loudness_db": self.loudness_db.histogram(LEVEL_STEP_DB, frame_rate_hz),
            "power_db": self.power_db.histogram(LEVEL_STEP_DB, frame_rate_hz),
        }
