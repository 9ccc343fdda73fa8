"""F0 of unvoiced frames."""

from __future__ import annotations

import numpy as np

from ddsp_cli.analysis.features import fill_f0


def filled(f0_hz, level_db, **options):
    return fill_f0(np.array(f0_hz, np.float32), np.array(level_db, np.float32), **options).tolist()


def test_a_gap_changes_to_the_next_note_where_it_is_softest():
    assert filled([300, 0, 0, 0, 400], [-20, -30, -60, -30, -20]) == [300, 300, 400, 400, 400]


def test_of_equally_soft_frames_the_last_counts():
    assert filled([300, 0, 0, 0, 400], [-20, -80, -80, -80, -20]) == [300, 300, 300, 400, 400]


def test_the_ends_hold_the_nearest_note():
    assert filled([0, 0, 300, 0, 0], [-80, -20, -20, -20, -80]) == [300] * 5


def test_rows_are_filled_each_for_itself():
    rows = filled([[300, 0], [0, 400], [0, 0]], np.full((3, 2), -20.0), default_hz=220.0)
    assert rows == [[300, 300], [400, 400], [220, 220]]


def test_arrays_of_any_order():
    f0_hz = np.array([[300, 0, 400], [0, 200, 0]], np.float32)
    level_db = np.zeros_like(f0_hz)
    assert fill_f0(np.asfortranarray(f0_hz), level_db).tolist() == [[300, 400, 400], [200, 200, 200]]


def test_the_input_is_left_unchanged():
    f0_hz = np.array([300, 0, 400], np.float32)
    fill_f0(f0_hz, np.zeros(3, np.float32))
    assert f0_hz.tolist() == [300, 0, 400]
