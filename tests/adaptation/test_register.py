"""The octave in which an instrument plays: where it is at home, and no further away than needed."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ddsp_cli.adaptation.adapt import choose_octave


def test_register_is_the_octave_of_the_instrument():
    target = np.linspace(60.0, 84.0, 101)
    assert choose_octave(np.full(100, 50.0), target) == 12.0
    assert choose_octave(np.full(100, 72.0), target) == 0.0
    assert choose_octave(np.full(100, 100.0), target) == -24.0
    assert choose_octave(np.full(100, 64.0), target) == 0.0  # 76 would be as good; the smaller shift wins
    assert choose_octave(np.full(100, 5.0), target) == 60.0
    assert choose_octave(np.linspace(55, 67, 100), target) == 12.0


@given(midi=st.floats(20, 110), span=st.floats(0, 24))
def test_register_never_drifts_further_than_needed(midi, span):
    target = np.linspace(60.0, 84.0, 101)
    notes = np.linspace(midi - span / 2, midi + span / 2, 50)
    shift = choose_octave(notes, target)
    assert shift % 12.0 == 0.0

    def inside(x):
        return np.mean((x >= 60.5) & (x <= 83.5))

    assert inside(notes + shift) >= inside(notes) - 0.2


def test_what_fits_is_left_alone():
    """A low note of the violin stays on the violin, though it seldom plays there; one out of its range does not."""
    violin = np.interp(np.arange(101), [0, 1, 5, 50, 95, 99, 100], [47.1, 57.0, 60.0, 71.9, 82.9, 85.2, 98.5])
    assert choose_octave(np.full(100, 59.0), violin) == 0.0
    assert choose_octave(np.full(100, 49.0), violin) == 12.0
    assert choose_octave(np.concatenate([np.full(100, 59.0), [12.0]]), violin) == 0.0  # an error of the tracker
