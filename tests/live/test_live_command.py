"""`ddsp live` through the process that plays, on miniaudio's null device; keys and lines of the terminal."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from ddsp_cli.cli import live as command
from ddsp_cli.cli.keys import names
from ddsp_cli.errors import InputError, ModelError, OutputError, UsageError
from ddsp_cli.live.mixer import Controls
from ddsp_cli.live.process import LiveStatus
from ddsp_cli.workflows.live import LiveSession, LiveView, free_name
from fixtures import make_bundle


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
            pass
        assert view.recording == first
        assert view.instrument == "testophone"
        for key in ("2", "up", "o", "[", "m", "r", "r"):
            command.obey(session, key)
        assert session.controls == Controls(1, 12.0, room=False, below_peak_db=38.0, muted=True)
        while (view := session.view()).status.instrument != 1:
            pass
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
            pass
        raise KeyboardInterrupt
    assert soundfile.info(tmp_path / "take.flac").duration >= 0.1


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
def test_bad_arguments_are_told_before_anything_starts(desk, changes, error, words):
    (desk / "there.wav").touch()
    arguments = {"models": ["testophone"], "input": "null", "output": "null"} | changes
    with pytest.raises(error, match=words):
        LiveSession(**arguments)


def test_a_free_name_is_beside_those_that_exist(tmp_path):
    for expected in ("a.wav", "a-2.wav", "a-3.wav"):
        found = free_name(tmp_path / "a.wav")
        assert found.name == expected
        found.touch()


def test_arrow_keys_are_told_from_characters():
    assert names("a\x1b[A\x1bOB]q\x1b") == ["a", "up", "down", "]", "q", "\x1b"]


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


def test_pitch_is_the_nearest_note():
    assert command.pitch(440.0 * 2 ** (-0.49 / 12)) == "A4 -49 cents"
    assert command.pitch(np.float64(261.63)) == "C4 +0 cents"
