"""Several inputs: one that fails does not stop the rest, own outputs are left out, any number of processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from ddsp_cli.bundle.folder import EXPORT_CARD, EXPORT_CARD_BEGINS
from ddsp_cli.errors import ExitCode, InputError, OutputError, UsageError
from ddsp_cli.limits import usable_cores
from ddsp_cli.workflows import transfer
from ddsp_cli.workflows.reverb import reverb_files
from ddsp_cli.workflows.transfer import transfer_files
from fixtures import make_bundle, melody
from test_cli import ddsp


@pytest.fixture
def takes(tmp_path, monkeypatch):
    """Two takes among a silent one, one that is no sound, and a sound that ddsp made."""
    monkeypatch.chdir(tmp_path)
    make_bundle(tmp_path / "models" / "testophone")
    folder = tmp_path / "takes"
    folder.mkdir()
    soundfile.write(folder / "a.wav", melody((60, 64)), 16000)
    soundfile.write(folder / "b.wav", np.zeros(8000), 16000)
    (folder / "c.wav").write_text("no sound at all, whatever its name says")
    soundfile.write(folder / "d.flac", melody((67,)), 16000)
    transfer_files(folder / "a.wav", "testophone", folder / "e.wav")
    return folder


@pytest.mark.parametrize("workers", [1, 2])
def test_the_rest_is_played(takes, workers, monkeypatch):
    monkeypatch.setattr(transfer, "WORTH_PROCESSES_S", 0.0)
    batch = transfer_files(takes, "testophone", "played", workers=workers, report="page.html")
    assert [result.output.name for result in batch] == ["a_testophone.wav", "d_testophone.wav"]
    assert [failure.input.name for failure in batch.failures] == ["c.wav", "b.wav"]
    assert ["no notes" in str(failure.error) for failure in batch.failures] == [False, True]
    assert [path.name for path in batch.own] == ["e.wav"]
    assert sorted(path.name for path in (takes.parent / "played").iterdir()) == [r.output.name for r in batch]
    assert (takes.parent / "page.html").is_file()
    alone = transfer_files(takes / "d.flac", "testophone", "alone.wav")
    assert alone[0].output.read_bytes() == batch[1].output.read_bytes()


def end_at_once(_jobs):
    os._exit(9)


def test_a_process_that_is_killed_is_one_sentence(takes, monkeypatch):
    """As by a system without memory."""
    monkeypatch.setattr(transfer, "WORTH_PROCESSES_S", 0.0)
    monkeypatch.setattr(transfer, "_work_on", end_at_once)
    with pytest.raises(OutputError, match="a process that played one of the inputs ended") as problem:
        transfer_files(takes, "testophone", "played", workers=2)
    assert "memory" in problem.value.hint
    assert not (takes.parent / "played").exists()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs a CPU affinity")
def test_there_are_no_more_workers_than_cores_that_may_be_used():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_rooms_and_previews_of_instruments_are_no_recordings(takes):
    soundfile.write("models/testophone/clip.wav", melody((60,)), 16000)
    export = takes.parent / "testophone_vst"
    export.mkdir()
    (export / EXPORT_CARD).write_text(f"{EXPORT_CARD_BEGINS}1.0\n", encoding="utf-8")
    soundfile.write(export / "reverb_ir_16000_hz.wav", melody((60,)), 16000)
    batch = transfer_files(".", "testophone", "played")
    assert [result.input.name for result in batch] == ["a.wav", "d.flac"]
    assert sorted(path.name for path in batch.own) == [
        "clip.wav",
        "e.wav",
        "impulse_response.wav",
        "reverb_ir_16000_hz.wav",
    ]
    (one,) = transfer_files(export / "reverb_ir_16000_hz.wav", "testophone", "named.wav")  # it was asked for
    assert one.seconds > 0.5


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_goes_over_all_of_it(takes, workers, monkeypatch):
    monkeypatch.setattr(transfer, "WORTH_PROCESSES_S", 0.0)
    told = []
    transfer_files(takes, "testophone", "played", workers=workers, progress=lambda *now: told.append(now))
    assert {what for what, _, _ in told} == {"3 files"}  # c.wav was found out before
    done = [share for _, share, _ in told]
    assert done == sorted(done)
    assert done[-1] == pytest.approx(told[-1][2])


def test_a_worker_tells_of_stages_that_it_has_begun(monkeypatch):
    """Else the time left of a batch with one long recording grew while that one was played."""
    counter, event = multiprocessing.Value("d", 0.0), multiprocessing.Event()
    monkeypatch.setattr(transfer, "_shared", {"counter": counter, "stop": event})
    job = SimpleNamespace(info=SimpleNamespace(seconds=60.0))
    bar = transfer._WorkerProgress(None, [[job]])
    listening = bar.stage(job, "listening")
    listening(15.0)
    listening(45.0)
    assert counter.value == 45.0
    bar.advance(60.0)
    assert counter.value == 60.0
    bar.stage(job, "playing")(61.0)  # a room that rings
    bar.stage(job, "drawing")(0.0)
    assert counter.value == 120.0
    bar.advance(60.0)
    assert counter.value == 120.0
    event.set()
    with pytest.raises(transfer._StoppedError):
        listening(50.0)


def test_nothing_played_is_an_error(takes):
    with pytest.raises(InputError, match=r"c\.wav"):
        transfer_files([takes / "b.wav", takes / "c.wav"], "testophone", "played")
    with pytest.raises(InputError, match="no notes"):
        transfer_files(takes / "b.wav", "testophone", "played")
    assert not (takes.parent / "played").exists()
    (takes.parent / "ours").mkdir()
    (takes / "e.wav").rename(takes.parent / "ours" / "e.wav")
    with pytest.raises(InputError, match="only files that ddsp itself wrote"):
        transfer_files(takes.parent / "ours", "testophone", "played")
    assert len(transfer_files(takes.parent / "ours" / "e.wav", "testophone", "again.wav")) == 1  # by name it is played


def test_mistyped_paths_do_not_stop_the_others(takes):
    (takes.parent / "empty").mkdir()
    (takes.parent / "curves.csv").write_text("time_s,f0_hz\n0,440\n")
    inputs = ["takes/typo.wav", "takes/a.wav", "empty", "typo.mid", "curves.csv", "takes/d.flac"]
    for play, ending in ((transfer_files, ""), (reverb_files, "-room")):
        batch = play(inputs, "testophone", "played")
        assert [result.output.name for result in batch] == [f"{name}_testophone{ending}.wav" for name in "ad"]
        assert [failure.input.as_posix() for failure in batch.failures] == [inputs[i] for i in (0, 2, 3, 4)]
    (takes.parent / "tune.mid").write_bytes(b"MThd")
    assert [one.input.name for one in reverb_files(["takes/d.flac", "tune.mid"], "testophone", "p").failures] == [
        "tune.mid"
    ]
    with pytest.raises(UsageError, match="2 sounds to write"):  # as if it were there
        transfer_files(["takes/a.wav", "typo.wav"], "testophone", "one.wav")
    with pytest.raises(InputError, match=r"typo\.wav does not exist"):
        transfer_files(["typo.wav", "typo2.wav"], "testophone", "none")
    with pytest.raises(InputError, match=r"typo\.wav does not exist"):
        reverb_files("typo.wav", "testophone", "none")
    assert not (takes.parent / "none").exists()


def test_rooms_as_well(takes):
    batch = reverb_files(takes, "testophone", "wet")
    assert [result.output.name for result in batch] == [f"{name}_testophone-room.wav" for name in "abd"]
    assert [failure.input.name for failure in batch.failures] == ["c.wav"]


def test_the_command_names_the_bad_ones_at_the_end(takes):
    done = ddsp("transfer", "takes", "-m", "testophone", "-o", "played", cwd=takes.parent)
    assert done.returncode == ExitCode.PARTIAL
    assert done.stdout.decode().count("\n") == 2
    lines = done.stderr.decode().splitlines()
    assert lines[0] == "Left out 1 file that ddsp itself wrote, such as takes/e.wav."
    assert lines[1] == "2 of 4 inputs could not be played:"
    assert "c.wav is not a sound file" in lines[2]
    assert "b.wav: no notes were found" in lines[3]


def test_names_of_outputs_tell_inputs_of_one_stem_apart(takes):
    """By the suffix, whatever the order; of one name in several folders the report names the source."""
    soundfile.write(takes / "d.wav", melody((60,)), 16000)
    batch = transfer_files([takes / "d.wav", takes / "d.flac", takes / "a.wav"], "testophone", "played", notes="tunes")
    names = ["d.wav", "d.flac", "a"]
    assert [result.output.name for result in batch] == [f"{name}_testophone.wav" for name in names]
    assert [result.notes.name for result in batch] == [f"{name}.mid" for name in names]
    (takes / "more").mkdir()
    (takes / "more" / "a.wav").write_bytes((takes / "a.wav").read_bytes())
    done = ddsp("reverb", "takes/a.wav", "takes/more/a.wav", "takes/d.wav", "--room", "testophone", cwd=takes.parent)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert [", from " in line for line in lines] == [True, True, False]
    assert lines[1].endswith(f", from {Path('takes/more/a.wav')}")


def test_a_script_may_use_several_processes(takes):
    """Also without `if __name__ == "__main__"`; its processes do not run it again."""
    code = """
import json, ddsp_cli
from ddsp_cli.workflows import transfer
transfer.WORTH_PROCESSES_S = 0.0
batch = ddsp_cli.transfer_files("takes", "testophone", "played", workers=2)
print(json.dumps([result.output.name for result in batch]))
"""
    (takes.parent / "play.py").write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, "play.py"], cwd=takes.parent, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["a_testophone.wav", "d_testophone.wav"]
