"""What an instrument learned from, and what was missing: notes and dynamics outside of it are a guess."""

from __future__ import annotations

import numpy as np

from ddsp_cli.bundle.card import Statistics
from ddsp_cli.pitch_names import note_name

#: Percentiles of pitch that count as heard; single frames beyond are mistakes of the tracker.
PERCENTILES = (1, 99)

#: Between two neighbouring percentiles that are so far apart lies a gap; smaller ones are bridged well.
GAP_SEMITONES = 5.0

#: A range below this is said to be all that was heard.
NARROW_SEMITONES = 18.0

#: Half of the frames of a note lie within so few dB, attacks and releases among the rest: one loudness. Tenor and
#: alto saxophone and clarinet, recorded at one dynamic, have 3.1 to 4.1; the bassoon 6.4, all others 7.4 and more.
ONE_LOUDNESS_DB = 5.0


def heard_ranges_midi(statistics: Statistics) -> list[tuple[float, float]]:
    """The stretches of pitch that recordings filled, lowest and highest note of each, in rising order."""
    low, high = PERCENTILES
    pitches = np.asarray(statistics.pitch_midi[low : high + 1], np.float64)
    parts = np.split(pitches, np.flatnonzero(np.diff(pitches) >= GAP_SEMITONES) + 1)
    return [(float(part[0]), float(part[-1])) for part in parts]


def say_ranges(statistics: Statistics) -> str:
    """Those stretches in words: `C4 to G4`, or `C3 to E3 and C4 to G4`."""
    return " and ".join(f"{note_name(low)} to {note_name(high)}" for low, high in heard_ranges_midi(statistics))


def missing(statistics: Statistics, level: str) -> list[str]:
    """Says what was missing in the recordings of an instrument.

    Args:
      statistics: of its recordings.
      level: the measure that drives it, `loudness_db` or `power_db`.

    Returns:
      Sentences without a full stop; none where the recordings hold a wide range and several dynamics.
    """
    found = []
    lowest_midi, highest_midi = statistics.range_midi
    if highest_midi - lowest_midi < NARROW_SEMITONES or len(heard_ranges_midi(statistics)) > 1:
        found.append(f"only {say_ranges(statistics)} was heard: outside it guesses")
    levels_db = statistics.level(level)
    spread_db = float(levels_db[75] - levels_db[25])
    if spread_db < ONE_LOUDNESS_DB:
        found.append(f"one loudness only: half of what was heard lies within {spread_db:.1f} dB, "
                     "so soft and loud notes have much the same timbre")  # fmt: skip
    return found
