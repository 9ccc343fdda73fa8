"""Notes of a recording beside its transfer, and played again."""

from __future__ import annotations

import csv
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ddsp_cli.cli.transfer import warn
from ddsp_cli.errors import InputError, OutputError, UsageError
from ddsp_cli.workflows.transfer import Batch
from transfer_fixtures import at_desk, desk, level_db, pitch_hz, play, transfer

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


def test_edited_notes_keep_the_curves_of_the_performance(tmp_path):
    play(tmp_path, "a", notes=tmp_path / "tune.csv")
    as_sung, _ = play(tmp_path, "b")
    again, result = play(tmp_path, "c", from_notes=tmp_path / "tune.csv")
    assert any("0 were changed and 0 left out; 0 are new" in remark for remark in result.remarks)
    assert [remark for remark in result.remarks if remark in result.notices] == list(result.notices) != []
    assert level_db(again, 0.5, 0.9) == pytest.approx(level_db(as_sung, 0.5, 0.9), abs=0.3)
    lines = (tmp_path / "tune.csv").read_text(encoding="utf-8").splitlines()
    number, start_s, *rest = lines[3].split(",")
    rest[2] = str(int(rest[2]) + 5)
    (tmp_path / "edited.csv").write_text(
        "\n".join([*lines[:2], lines[3].replace(lines[3], ",".join([number, start_s, *rest]))]) + "\n", encoding="utf-8"
    )
    edited, result = play(tmp_path, "d", from_notes=tmp_path / "edited.csv")
    assert any("1 was changed and 1 left out" in remark for remark in result.remarks)
    assert level_db(edited, 1.5, 1.8) < level_db(as_sung, 1.5, 1.8) - 30.0  # the second note is left out
    ratio = pitch_hz(edited, 2.5, 2.8) / pitch_hz(as_sung, 2.5, 2.8)
    assert 12.0 * np.log2(ratio) % 12.0 == pytest.approx(5.0, abs=0.2)


def test_edited_notes_need_their_recording(tmp_path):
    play(tmp_path, "a", notes=tmp_path / "tune.csv")
    with pytest.raises(UsageError, match="the one recording"):
        transfer(["voice.wav", tmp_path / "a.wav"], "testophone", tmp_path, from_notes=tmp_path / "tune.csv")
    with pytest.raises(UsageError, match="neither"):
        play(tmp_path, "b", from_notes=tmp_path / "a.wav")
    with pytest.raises(InputError, match="does not exist"):
        play(tmp_path, "c", from_notes=tmp_path / "missing.csv")
    with pytest.raises(UsageError, match="one line"):
        play(tmp_path, "d", from_notes=tmp_path / "tune.csv", voices="chords")


def test_what_is_played_is_no_warning(tmp_path, capsys):
    play(tmp_path, "a", notes=tmp_path / "tune.csv")
    _, result = play(tmp_path, "b", from_notes=tmp_path / "tune.csv")
    result = replace(result, remarks=(*result.remarks, "it is clipped"))
    warn(Batch((result,)), SimpleNamespace(name=lambda path: path.name))
    said, warned = capsys.readouterr().err.splitlines()
    assert said.startswith("voice.wav: of its ")
    assert warned == "Warning: voice.wav: it is clipped."
