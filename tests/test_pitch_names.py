"""Names of notes and pitch classes."""

from __future__ import annotations

import pytest

from ddsp_cli.pitch_names import note_name, pitch_class


def test_notes_are_named():
    assert [note_name(midi) for midi in (69, 60, 61.4, 21)] == ["A4", "C4", "C#4", "A0"]


def test_pitch_classes_are_read():
    assert [pitch_class(name) for name in ("C", "bb", "A#", "E♭", "f♯", "Cb", "B#")] == [0, 10, 10, 3, 6, 11, 0]
    for name in ("", "H", "C##", "Cx", "#"):
        with pytest.raises(ValueError, match="note"):
            pitch_class(name)
