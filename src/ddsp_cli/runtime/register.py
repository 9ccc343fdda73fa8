"""The register: the octave in which an instrument plays a melody."""

from __future__ import annotations

import numpy as np

from ddsp_cli.runtime.notes import percentiles

#: What one octave of transposition costs, as a share of the notes: a shift has to be worth it.
OCTAVE_COST = 0.03


def choose_octave(midi: np.ndarray, target_midi: np.ndarray) -> float:
    """The shift in whole octaves that puts most of the melody where the instrument is at home.

    Args:
      midi: [N] pitch of every frame that sounds.
      target_midi: [101] percentiles of what the instrument played.

    Returns:
      A multiple of 12; the smaller shift where two are about as good.
    """
    low, high = percentiles(target_midi, [5, 95])
    lowest, highest = target_midi[0], target_midi[-1]

    def worth(octaves: int) -> float:
        shifted = midi + 12.0 * octaves
        comfortable = np.mean((shifted >= low - 0.5) & (shifted <= high + 0.5))
        possible = np.mean((shifted >= lowest - 0.5) & (shifted <= highest + 0.5))
        distance = np.mean(np.maximum(np.maximum(low - shifted, shifted - high), 0.0))
        # The distance decides where nothing reaches the range at all.
        return float(comfortable + 0.5 * possible - OCTAVE_COST * abs(octaves) - 0.02 * distance)

    return 12.0 * max(sorted(range(-5, 6), key=abs), key=worth)
