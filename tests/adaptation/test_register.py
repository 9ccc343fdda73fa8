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
