"""`ddsp live` through the audio process, on miniaudio's null device; keys and lines of the terminal."""

from __future__ import annotations

import functools
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile

import live_fixtures
from ddsp_cli import cli
from ddsp_cli.cli import live as command
from ddsp_cli.cli.live import Keys, key_names
from ddsp_cli.errors import InputError, ModelError, OutputError, UsageError
from ddsp_cli.live.devices import Device
from ddsp_cli.live.mixer import Controls
from ddsp_cli.live.process import LiveProcess, LiveStatus
from ddsp_cli.workflows import live as workflow
from ddsp_cli.workflows.live import LiveSession, LiveView, free_name
from fixtures import make_bundle
from page_fixtures import ROOT, known_options, options


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("desk")
    make_bundle(folder / "models" / "testophone")
    make_bundle(folder / "models" / "otherophone", seed=5)
    return folder


@pytest.fixture(autouse=True)
def at_desk(desk, monkeypatch):
    monkeypatch.chdir(desk)


def test_a_performance_on_the_null_device_is_recorded_and_changed_while_it_runs(tmp_path):
    first = tmp_path / "take.wav"
    with LiveSession(["testophone", "otherophone"], input="null", output="null", record=first) as session:
        while (view := session.view()).status.seconds < 0.2:
            assert view.status.input_db < -100.0  # also before the first block
            time.sleep(0.01)
        assert view.recording == first
        assert view.instrument == "testophone"
        for key in ("2", "up", "o", "[", "m", "r", "r"):
            command.handle_key(session, key)
        assert session.controls == Controls(1, 12.0, room=False, below_peak_db=38.0, muted=True)
        while (view := session.view()).status.instrument != 1:
            time.sleep(0.01)
        assert view.recording == tmp_path / "take-2.wav"
    assert session.recordings == [first, tmp_path / "take-2.wav"]
    for path in session.recordings:
        sound, rate_hz = soundfile.read(path)
        assert rate_hz == session.rate_hz
        assert not sound.any()
    assert soundfile.info(first).duration >= 0.2
    assert {path.name for path in tmp_path.iterdir()} == {"take.wav", "take-2.wav"}


def test_a_recording_is_whole_after_ctrl_c(tmp_path):
    with (
        pytest.raises(KeyboardInterrupt),
        LiveSession(["testophone"], input="null", output="null", record=tmp_path / "take.flac") as session,
    ):
        while session.view().status.seconds < 0.1:
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert soundfile.info(tmp_path / "take.flac").duration >= 0.1


def test_a_recording_is_whole_after_a_device_is_unplugged(tmp_path, monkeypatch):
    monkeypatch.setattr(workflow, "LiveProcess", functools.partial(LiveProcess, target=live_fixtures.vanish))
    with (
        pytest.raises(InputError, match="unplugged"),
        LiveSession(["testophone"], input="null", output="null", record=tmp_path / "take.wav") as session,
    ):
        while session.view() is not None:
            time.sleep(0.01)
    assert session.recordings == [tmp_path / "take.wav"]
    # All that was played since the recording began, which is a little after the device.
    assert 0 < soundfile.info(tmp_path / "take.wav").frames <= live_fixtures.N_BLOCKS * live_fixtures.BLOCK


def test_a_process_that_dies_is_no_riddle(monkeypatch):
    monkeypatch.setattr(workflow, "LiveProcess", functools.partial(LiveProcess, target=live_fixtures.die))
    with pytest.raises(RuntimeError, match="has ended"):
        LiveSession(["testophone"], input="null", output="null")


def test_remarks_say_what_is_wrong_and_what_to_do(monkeypatch):
    session = object.__new__(LiveSession)
    session.rate_hz, session._dropouts = 48000, []
    session._recorder = types.SimpleNamespace(n_lost=0)
    session._feedback = types.SimpleNamespace(is_feedback=False)
    assert session._remarks(LiveStatus(seconds=10.0, load=0.3)) == []
    assert session._remarks(LiveStatus(seconds=11.0, load=0.3, n_dropouts=2.0)) == []
    (sentence,) = session._remarks(LiveStatus(seconds=12.0, load=0.3, n_dropouts=3.0))
    assert "cannot keep up" in sentence
    assert "larger blocks" in sentence
    assert session._remarks(LiveStatus(seconds=20.0, load=0.3, n_dropouts=3.0)) == []
    assert "cannot keep up" in session._remarks(LiveStatus(seconds=21.0, load=0.95, n_dropouts=3.0))[0]
    session._recorder.n_lost, session._feedback.is_feedback = 24000, True
    remarks = session._remarks(LiveStatus(seconds=40.0, n_dropouts=3.0))
    assert "0.5 s of the recording" in remarks[0]
    assert "headphones" in remarks[1]


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal")
def test_keys_come_one_by_one_and_the_terminal_is_as_it_was(monkeypatch):
    import os
    import pty
    import termios

    leader, follower = pty.openpty()
    with os.fdopen(follower, "r", closefd=False) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        before = termios.tcgetattr(follower)
        with Keys() as keys:
            assert keys.pressed() == []
            os.write(leader, b"2\x1b[Aq")
            found = []
            while len(found) < 3:
                found += keys.pressed()
            assert found == ["2", "up", "q"]
        assert termios.tcgetattr(follower) == before
    os.close(leader)
    os.close(follower)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"models": []}, UsageError, "no instrument"),
        ({"models": ["nothing"]}, ModelError, "nothing"),
        ({"block": 8}, UsageError, "out of range"),
        ({"transpose": "high"}, UsageError, "not a number"),
        ({"record": "there.wav"}, OutputError, "exists"),
        ({"record": "take.txt"}, UsageError, "suffix"),
        ({"output": "no such device"}, (InputError, UsageError), "null|no such device|sound system|found"),
    ],
)
def test_bad_arguments_are_reported_before_anything_starts(desk, changes, error, words):
    (desk / "there.wav").touch()
    arguments = {"models": ["testophone"], "input": "null", "output": "null"} | changes
    with pytest.raises(error, match=words):
        LiveSession(**arguments)


def test_a_free_name_is_beside_those_that_exist(tmp_path):
    for expected in ("a.wav", "a-2.wav", "a-3.wav"):
        found = free_name(tmp_path / "a.wav")
        assert found.name == expected
        found.touch()


def test_every_option_of_the_page_exists():
    page = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")
    assert options(page) <= known_options("live")
    for key in ("`o`", "`[`, `]`", "`m`", "`r`", "`q`"):
        assert key in page


def test_devices_are_listed_with_their_numbers(monkeypatch, capsys):
    devices = [
        Device("Microphone", "input", (44100, 48000)),
        Device("Webcam", "input", ()),
        Device("Speaker", "output", ()),
    ]
    monkeypatch.setattr("ddsp_cli.live.devices.list_devices", lambda: ("ALSA", devices))
    monkeypatch.setattr("ddsp_cli.live.devices.list_midi_ports", lambda: ["Keystation"])
    command.live(list_=True)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == [
        ["input", "1", "Microphone", "44.1,", "48"],
        ["input", "2", "Webcam", "any"],
        ["output", "1", "Speaker", "any"],
        ["midi", "1", "Keystation"],
    ]


def test_arrow_keys_are_distinguished_from_characters():
    assert key_names("a\x1b[A\x1bOB]q\x1b") == ["a", "up", "down", "]", "q", "\x1b"]


def test_the_lines_on_the_terminal_name_note_cents_latency_and_dropouts():
    status = LiveStatus(
        input_db=-30.0, f0_hz=440.0 * 2 ** (0.12 / 12), played_hz=880.0, plays=1.0, latency_s=0.071, n_dropouts=3.0,
        load=0.17,
    )  # fmt: skip
    view = LiveView(status, Controls(transpose=12.0), "flute", None, 0.0, ())
    text = "\n".join(command.describe(view, ("flute", "violin")))
    for words in (">1 flute", " 2 violin", "-30 dBFS", "A4 +12 cents → A5 +0 cents", "71 ms", "17%", "drop-outs 3"):
        assert words in text
    assert text.count("█") == 15
    assert "A4 +12 cents → A5" in command.one_line(view)
    assert "no note" in command.one_line(LiveView(LiveStatus(), Controls(), "flute", None, 0.0, ()))


def test_a_narrow_terminal_shows_every_instrument_and_the_mute():
    names = tuple(f"instrument_{letter}" for letter in "abcdefghijkl")
    controls = Controls(instrument=11, muted=True)
    view = LiveView(LiveStatus(), controls, names[11], Path("a" * 70) / f"{'b' * 40}.wav", 65.0, ())
    lines = command.describe(view, names, width=60)
    assert all(len(line) <= 60 for line in lines if "instrument" in line)
    assert "".join(lines).count("instrument_") == 12
    assert any(line.endswith(">12 instrument_l") for line in lines)
    (state,) = [line for line in lines if "gate" in line]
    assert "MUTED" in state[:60]
    assert "recording 1:05 bbb" in state


def test_pitch_is_the_nearest_note():
    assert command.pitch(440.0 * 2 ** (-0.49 / 12)) == "A4 -49 cents"
    assert command.pitch(np.float64(261.63)) == "C4 +0 cents"


@pytest.mark.parametrize("seconds", ["nan", "inf", "-inf", "-1", "1e300"])
def test_an_end_that_never_comes_is_refused(seconds, capsys):
    """A performance until NaN would last for ever."""
    words = ["live", "--model", "testophone", "--input", "null", "--output", "null", f"--seconds={seconds}"]
    assert cli.run_command(words, False) == 2
    assert "seconds" in capsys.readouterr().err
