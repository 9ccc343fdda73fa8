"""Notes of a recording beside its transfer, and played again."""

from __future__ import annotations

import csv

import pytest

from ddsp_cli.errors import OutputError, UsageError
from transfer_fixtures import at_desk, desk, play, transfer

__all__ = ["at_desk", "desk"]  # fixtures are found by their names


def test_notes_are_written_and_played(tmp_path):
    _, result = play(tmp_path, "a", notes=tmp_path / "tune.csv")
    assert result.notes == tmp_path / "tune.csv"
    with result.notes.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3
    play(tmp_path, "b", notes=tmp_path / "tune.mid")
    _, again = play(tmp_path, "c", source=tmp_path / "tune.mid")
    assert again.n_segments == 3
    with pytest.raises(OutputError, match="exists"):
        play(tmp_path, "d", notes=tmp_path / "tune.mid")


def test_notes_of_several_recordings_go_into_a_folder(tmp_path, desk):
    (tmp_path / "second.wav").write_bytes((desk / "voice.wav").read_bytes())
    inputs = ["voice.wav", tmp_path / "second.wav"]
    results = transfer(inputs, "testophone", out=tmp_path / "out", notes=tmp_path / "notes")
    assert {result.notes for result in results} == {tmp_path / "notes" / f"{name}.mid" for name in ("voice", "second")}
    with pytest.raises(UsageError, match="one file"):
        transfer(inputs, "testophone", out=tmp_path / "out2", notes=tmp_path / "all.mid")


def test_only_recordings_have_notes_to_write(tmp_path):
    play(tmp_path, "a", notes=tmp_path / "tune.mid")
    with pytest.raises(UsageError, match="only recordings"):
        play(tmp_path, "b", source=tmp_path / "tune.mid", notes=tmp_path / "again.mid")
    with pytest.raises(UsageError, match="no suffix"):
        play(tmp_path, "c", notes=tmp_path / "tune.txt")
