"""Training in the page: recordings, data set, training in a separate process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

from ddsp_cli import bundle
from ddsp_cli.errors import InputError
from ddsp_cli.studio import teach
from ddsp_cli.studio.teach import ProjectProgress, Teacher
from fixtures import make_bundle, melody


@pytest.fixture
def teacher(tmp_path, monkeypatch):
    monkeypatch.setenv("DDSP_MODELS", str(tmp_path / "library"))
    monkeypatch.chdir(tmp_path)
    found = Teacher(tmp_path / "teach")
    yield found
    found.close()


def record(teacher, name, n=2):
    for i in range(n):
        part = teacher.receiving(name)
        soundfile.write(part, np.tile(melody((60 + i, 64, 67)), 6), 16000, format="WAV")
        teacher.add(name, part, f"take {i}.wav")


def wait(teacher, name, done, seconds=120):
    ends = time.monotonic() + seconds
    while not done(found := teacher.describe(name)):
        assert time.monotonic() < ends, found
        time.sleep(0.1)
    return found


def test_recordings_are_kept_under_plain_names(teacher):
    teacher.create("mine", "tiny", "")
    record(teacher, "mine")
    assert teacher.describe("mine")["recordings"] == ["001_take_0.wav", "002_take_1.wav"]
    assert teacher.remove_recording("mine", "001_take_0.wav")["recordings"] == ["002_take_1.wav"]
    assert teacher.remove_recording("mine", "../project.json")["recordings"] == ["002_take_1.wav"]
    part = teacher.receiving("mine")
    part.write_text("no sound")
    with pytest.raises(Exception, match=r"x\.wav is not a sound file") as problem:
        teacher.add("mine", part, "../../x.wav")
    assert "teach" not in str(problem.value)
    assert teacher.describe("mine")["recordings"] == ["002_take_1.wav"]


def test_recordings_that_arrive_at_once_are_all_kept(teacher, monkeypatch):
    teacher.create("mine", "tiny", "")
    parts = [teacher.receiving("mine") for _ in range(2)]
    for part in parts:
        soundfile.write(part, melody(), 16000, format="WAV")
    together, rename = threading.Barrier(2), Path.rename

    def rename_together(path, target):  # both have chosen their names by now, unless the second has to wait
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(1.0)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_together)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda part: teacher.add("mine", part, "take.wav"), parts))
    assert teacher.describe("mine")["recordings"] == ["001_take.wav", "002_take.wav"]


def test_a_project_that_is_being_removed_hides_no_other(teacher, tmp_path):
    for name in ("mine", "yours"):
        teacher.create(name, "tiny", "")
    (tmp_path / "teach" / "mine" / "recordings").rmdir()
    assert [one["name"] for one in teacher.projects()] == ["yours"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "flute", "x" * 41, "-rf", "mine", "none", "all"])
def test_name_has_to_be_plain_and_free(teacher, name):
    teacher.create("mine", "tiny", "")
    with pytest.raises(Exception, match=r"name|called"):
        teacher.create(name, "tiny", "")


def test_what_is_missing_is_said(teacher):
    for wrong in ("../..", "..", "none", "x" * 300, "\0", "C:", "a\\b"):
        for call in (teacher.describe, teacher.stop, teacher.remove, teacher.receiving):
            with pytest.raises(InputError, match="no such project"):
                call(wrong)
        with pytest.raises(InputError, match="no such project"):
            teacher.remove_recording(wrong, "x.wav")
        with pytest.raises(InputError, match="no such project"):
            teacher.start(wrong, "prepare")
    teacher.create("mine", "tiny", "")
    with pytest.raises(Exception, match="not prepared"):
        teacher.start("mine", "train")
    with pytest.raises(Exception, match="no recordings"):
        teacher.start("mine", "prepare")
    with pytest.raises(Exception, match="no such clip"):
        teacher.clip("mine", "../../../etc/passwd")
    with pytest.raises(Exception, match="no such page"):
        teacher.page("mine", "dataset")


def test_work_whose_process_was_killed_can_be_started_again(teacher, tmp_path):
    teacher.create("mine", "tiny", "")
    told = ProjectProgress("train", "training", done=5, total=10)
    (tmp_path / "teach" / "mine" / "progress.json").write_bytes(msgspec.json.encode(told))
    (tmp_path / "teach" / "mine" / "child.json").write_text('{"pid": 1, "born": 5.0}')
    found = teacher.describe("mine")
    assert not found["running"]
    assert "ended before it was done" in found["now"]["error"]


def test_what_arrived_when_a_server_was_killed_is_removed(teacher, tmp_path):
    teacher.create("mine", "tiny", "")
    old, new = teacher.receiving("mine"), teacher.receiving("mine")
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    Teacher(tmp_path / "teach")
    assert (old.exists(), new.exists()) == (False, True)


def test_failure_is_told(teacher, tmp_path):
    teacher.create("mine", "tiny", "")
    part = teacher.receiving("mine")
    soundfile.write(part, np.zeros(16000), 16000, format="WAV")
    teacher.add("mine", part, "silence.wav")
    teach.main(tmp_path / "teach" / "mine", "prepare")
    now = teacher.describe("mine")["now"]
    assert now["ended"]
    assert now["error"]


def test_prepare_in_a_separate_process(teacher, tmp_path):
    """It reports as `ddsp prepare` does, survives the server that started it, and is found by the next one."""
    teacher.create("mine", "tiny", "")
    record(teacher, "mine")
    assert teacher.start("mine", "prepare")["running"]
    with pytest.raises(Exception, match="being worked on"):
        teacher.start("mine", "prepare")
    after_a_crash = Teacher(tmp_path / "teach")
    assert after_a_crash.describe("mine")["running"]
    found = wait(teacher, "mine", lambda one: not one["running"])
    assert found["now"]["error"] == ""
    assert found["prepared"]["n_used"] == 2
    assert "little" in found["prepared"]["advice"]
    assert b"<html" in teacher.page("mine", "dataset")
    teacher.remove("mine")
    assert teacher.projects() == []


@pytest.mark.parametrize(("choice", "given"), [("", None), ("none", "none"), ("mine_too", "mine_too")])
def test_training_begins_with_what_was_chosen(teacher, tmp_path, monkeypatch, choice, given):
    from ddsp_cli.workflows import prepare, train

    if choice == "mine_too":
        make_bundle(tmp_path / "library" / "mine_too")
    teacher.create("mine", "tiny", choice)
    asked = {}

    def note(*_, **options):
        asked.update(options)
        raise InputError("enough")

    for module, action in ((prepare, "prepare"), (train, "train")):
        monkeypatch.setattr(module, action, note)
        teach.main(tmp_path / "teach" / "mine", action)
        assert teacher.describe("mine")["now"]["error"] == "enough"
        assert asked["like" if action == "prepare" else "start_from"] == (
            None if action == "prepare" and choice == "none" else given
        )
    assert asked["steps"] is None  # as many as suit


def test_training_starts_again_when_the_recordings_have_changed(teacher, tmp_path, monkeypatch):
    """A run of another data set is not resumed; the page can start it again, and only then its work is given up."""
    from ddsp_cli.training import checkpoint
    from ddsp_cli.workflows import train as workflow

    teacher.create("mine", "tiny", "")
    record(teacher, "mine")
    folder, run = tmp_path / "teach" / "mine", tmp_path / "library" / "mine.run"
    teach.main(folder, "prepare")
    plan = workflow.make_plan("mine", folder / "dataset", "tiny", None, run.with_name("mine"), 0, None)
    before = msgspec.structs.replace(
        workflow.new_state(plan), dataset="0" * 64, step=7, history=[checkpoint.Point(7, 1.0, 1.0)]
    )
    run.mkdir(parents=True)
    checkpoint.write(run, {"weight/000": np.ones(3, np.float32)}, before)
    begun = []

    def note(_plan, state, *_):
        begun.append(state.step)
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "_train", note)
    teach.main(folder, "train")
    now = teacher.describe("mine")["now"]
    assert now["restartable"]
    assert "recordings have changed" in now["error"]
    assert "force" not in now["hint"]
    assert begun == []
    teach.main(folder, "train", again=True)
    assert begun == [0]
    assert not teacher.describe("mine")["now"]["restartable"]


def test_work_is_stopped_when_the_server_leaves(teacher, tmp_path):
    teacher.create("mine", "tiny", "")
    record(teacher, "mine", n=1)
    teacher.start("mine", "prepare")
    teacher.close()
    assert not teacher.describe("mine")["running"]


@pytest.mark.slow
def test_train_stop_and_resume(teacher, tmp_path):
    """Stopped before its first checkpoint; resuming is tested in tests/training."""
    teacher.create("mine", "tiny", "")
    record(teacher, "mine")
    teach.main(tmp_path / "teach" / "mine", "prepare")
    teacher.start("mine", "train", steps=100000)
    wait(teacher, "mine", lambda one: one["now"]["doing"] == "training", 300)
    teacher.stop("mine")
    stopped = wait(teacher, "mine", lambda one: not one["running"])
    assert (stopped["now"]["error"], stopped["now"]["doing"]) == ("", "stopped")
    assert not stopped["now"]["finished"]
    teacher.start("mine", "train", steps=3)
    finished = wait(teacher, "mine", lambda one: not one["running"], 300)
    assert finished["now"]["finished"], finished["now"]
    assert finished["curve"][-1][0] == 3
    assert finished["playable"]
    assert "original.wav" in finished["clips"]
    assert teacher.clip("mine", "original.wav").startswith(b"RIFF")
    assert b"<html" in teacher.page("mine", "training")
    assert bundle.load(tmp_path / "library" / "mine").card.training.preset == "tiny"


def test_server_loads_no_training_framework():
    heavy = ("tensorflow", "keras", "librosa", "matplotlib", "scipy.signal")
    code = f"import sys, ddsp_cli.studio.server; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_teaching_over_the_page(studio, monkeypatch, tmp_path):
    monkeypatch.setenv("DDSP_MODELS", str(tmp_path / "library"))
    client = studio.client
    assert client.post("api/teach", json={"name": "mine", "preset": "tiny", "start_from": ""}).status_code == 200
    sound = (studio.desk / "voice.wav").read_bytes()
    one = client.post("api/teach/mine/recordings", params={"name": "a.wav"}, content=sound).json()
    assert one["recordings"] == ["001_a.wav"]
    assert client.post("api/teach/mine/recordings", params={"name": "a.wav"}, content=b"x").status_code == 400
    for path, status in (
        ("api/teach/mine/start/rm", 400),
        ("api/teach/none/start/train", 400),
        ("api/teach/mine/page/dataset", 400),
        ("api/teach/mine/clips/original.wav", 400),
    ):
        method = client.post if "start" in path else client.get
        arguments = {"json": {}} if "start" in path else {}
        assert method(path, **arguments).status_code == status, path
    assert [one["name"] for one in client.get("api/teach").json()["projects"]] == ["mine"]
    with monkeypatch.context() as patch:
        asked: list[tuple[object, ...]] = []
        patch.setattr(Teacher, "start", lambda _, *given: asked.append(given))
        assert client.post("api/teach/mine/start/train", json={"steps": 5, "again": True}).status_code == 200
        assert asked == [("mine", "train", 5, True)]
    assert client.delete("api/teach/mine/recordings/001_a.wav").json()["recordings"] == []
    assert client.delete("api/teach/mine").status_code == 200
    assert client.post("api/teach", json={"name": "../x", "preset": "tiny"}).status_code == 400
