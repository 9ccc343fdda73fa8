"""Curves as files: written, edited, read back, and refused when they cannot be played."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ddsp_cli.adaptation.notes import TABLE_HEAD
from ddsp_cli.cli.options import error_hint
from ddsp_cli.errors import InputError, Kind, OutputError, UsageError
from transfer_fixtures import at_desk, desk, level_db, pitch_hz, play, transfer

__all__ = ["at_desk", "desk"]  # fixtures are found by their names


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_curves_go_out_and_come_back(tmp_path, suffix):
    curves = tmp_path / f"curves{suffix}"
    original, result = play(tmp_path, "a", controls=curves)
    assert result.controls == curves
    again, result = play(tmp_path, "b", source=None, from_controls=curves)
    n = min(len(original), len(again))
    assert abs(len(original) - len(again)) <= 64
    assert np.abs(original[: n - 400] - again[: n - 400]).max() < 1e-3 * np.abs(original).max()
    assert result.n_segments == 3
    named, result = play(tmp_path, "c", from_controls=curves)
    assert len(named) == len(original)
    assert result.input == Path("voice.wav")


@pytest.mark.parametrize(("suffix", "writer"), [(".csv", "savetxt"), (".npz", "savez")])
def test_a_full_disk_leaves_the_curves_that_stood_there(tmp_path, monkeypatch, suffix, writer):
    def full(stream, *_, **__):
        stream.write(b"time")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, writer, full)
    curves = tmp_path / f"curves{suffix}"
    curves.write_bytes(b"before")
    with pytest.raises(OutputError, match="cannot be written: No space left"):
        play(tmp_path, controls=curves, force=True)
    assert curves.read_bytes() == b"before"
    assert not list(tmp_path.glob(".*"))


def test_curves_in_place_of_a_recording_keep_its_rate_and_depth(tmp_path):
    soundfile.write(tmp_path / "in.wav", np.zeros(33075), 22050, subtype="PCM_24")
    (tmp_path / "edit.csv").write_text("time_s,f0_hz,power_db\n0,440,-20\n5,440,-20\n", encoding="utf-8")
    transfer([tmp_path / "in.wav"], "testophone", tmp_path / "o.wav", from_controls=tmp_path / "edit.csv", plot=True)
    info = soundfile.info(tmp_path / "o.wav")
    assert (info.frames, info.samplerate, info.subtype) == (33075, 22050, "PCM_24")
    assert (tmp_path / "o.png").is_file()


@pytest.mark.parametrize(("rows", "n_remarks"), [("3,440,-20", 1), ("1,440,-20\n1.01,0,\n3,0,", 0), ("1,440,-20", 0)])
def test_curves_that_sound_beyond_the_recording_are_cut_with_a_remark(tmp_path, rows, n_remarks):
    soundfile.write(tmp_path / "in.wav", np.zeros(24000), 16000)
    (tmp_path / "edit.csv").write_text(f"time_s,f0_hz,power_db\n0,440,-20\n{rows}\n", encoding="utf-8")
    audio, result = play(tmp_path, source=tmp_path / "in.wav", from_controls=tmp_path / "edit.csv")
    assert len(audio) == 24000
    assert len(result.remarks) == n_remarks
    assert result.notices == ()
    if n_remarks:
        assert "last 3.0 s and the recording 1.5 s" in result.remarks[0]


def test_curves_instead_of_a_recording_with_a_wrong_header(tmp_path):
    """A FLAC of 60 kB whose header claims 2^36 samples does not make an output of 50 days."""
    soundfile.write(tmp_path / "in.flac", np.zeros(32000), 16000)
    data = bytearray((tmp_path / "in.flac").read_bytes())
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    (tmp_path / "in.flac").write_bytes(data)
    (tmp_path / "edit.csv").write_text("time_s,f0_hz,power_db\n0,440,-20\n1,440,-20\n", encoding="utf-8")
    transfer([tmp_path / "in.flac"], "testophone", tmp_path / "o.wav", from_controls=tmp_path / "edit.csv")
    assert soundfile.info(tmp_path / "o.wav").frames == 32000


def test_edited_curves_are_played(tmp_path):
    n = 500
    rows = ["time_s,f0_hz,power_db,gate"]
    rows += [f"{i / 250},{440 if i < 250 else 660},{-20},{0 if 200 <= i < 300 else 1}" for i in range(n)]
    (tmp_path / "edit.csv").write_text("\n".join(rows), encoding="utf-8")
    audio, result = play(tmp_path, source=None, from_controls=tmp_path / "edit.csv", room="none")
    assert result.seconds == pytest.approx(2.0)
    assert pitch_hz(audio, 0.2, 0.7) == pytest.approx(440, rel=0.01)
    assert pitch_hz(audio, 1.4, 1.9) == pytest.approx(660, rel=0.01)
    assert level_db(audio, 0.82, 1.18) < -90


def test_coarse_curves_are_filled_in(tmp_path):
    (tmp_path / "edit.csv").write_text("time_s,f0_hz,power_db\n0,220,-30\n2,880,-20\n", encoding="utf-8")
    audio, _ = play(tmp_path, source=None, from_controls=tmp_path / "edit.csv", room="none")
    assert pitch_hz(audio, 0.95, 1.05) == pytest.approx(440, rel=0.05)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "table"), ("time_s,f0_hz\n0,440\n", "power_db"),
     ("time_s,f0_hz,loudness_db\n0,440,-20\n", "plays by power_db"),
     ("time_s,f0_hz,power_db\n0,440,x\n", "numbers"), ("time_s,f0_hz,power_db\n0,nan,-20\n", "row 2|f0_hz"),
     ("time_s,f0_hz,power_db\n0,440,-20\n0,440,-20\n", "rise"), ("time_s,f0_hz,power_db\n0,-1,-20\n", "f0_hz"),
     ("time_s,f0_hz,power_db\n0,440,900\n", "level"), ("time_s,f0_hz,power_db,gate\n0,440,-20,7\n", "gate"),
     ("time_s,f0_hz,power_db\n0,440\n", "numbers|columns"), ("time_s,f0_hz,power_db\n1e9,440,-20\n", "day")],
)  # fmt: skip
def test_curves_that_cannot_be_played(tmp_path, text, words):
    (tmp_path / "edit.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        play(tmp_path, source=None, from_controls=tmp_path / "edit.csv")
    (tmp_path / "edit.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="arrays"):
        play(tmp_path, source=None, from_controls=tmp_path / "edit.npz")


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_table_of_notes_is_told_from_curves(tmp_path, separator):
    table = tmp_path / "notes.csv"
    table.write_text(TABLE_HEAD.replace(",", separator) + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match="holds the notes of a recording") as caught:
        transfer([table], "testophone", out=tmp_path / "out.wav")
    assert "--from-notes" in error_hint(caught.value)


def test_curves_are_not_taken_for_sound(tmp_path):
    (tmp_path / "edit.csv").write_text("time_s,f0_hz,power_db\n0,440,-20\n")
    with pytest.raises(UsageError, match="holds curves") as caught:
        transfer([tmp_path / "edit.csv"], "testophone", out=tmp_path / "out.wav")
    assert caught.value.kind == Kind.CURVES
