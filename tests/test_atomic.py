"""Old or new, never half: files and folders when writing succeeds, when it fails, and after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddsp_cli import atomic
from ddsp_cli.atomic import FolderKind, beside, check_replaceable, folder_beside, recover, write_bytes, writing
from ddsp_cli.errors import OutputError

KIND = FolderKind("a thing", lambda folder: (folder / "mark").is_file(), ("mark", "part_*"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one file in it."""
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "old").touch()
    return folder


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("name", ["", ".new"])
@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_seen_when_it_is_whole(tmp_path, name, durable):
    path = tmp_path / "a.txt"
    write_bytes(path, b"before")
    with beside(path, name, durable=durable) as part:
        part.write_bytes(b"after")
        assert path.read_bytes() == b"before"
        assert part.relative_to(tmp_path).parts[0].startswith(".")
    assert path.read_bytes() == b"after"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("name", ["", ".new"])
def test_a_broken_write_leaves_the_old_file(tmp_path, failure, name):
    path = tmp_path / "a.txt"
    write_bytes(path, b"before")
    with pytest.raises(failure), beside(path, name) as part:
        part.write_bytes(b"af")
        raise failure
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("length", [1, 250])
def test_names_may_be_as_long_as_the_file_system_takes(tmp_path, length):
    path = tmp_path / ("x" * length)
    write_bytes(path, b"1")
    with folder_beside(tmp_path / ("y" * length)) as new:
        (new / "file").touch()
    assert names(tmp_path) == ["x" * length, "y" * length]


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("before", encoding="utf-8")
    (tmp_path / "file").symlink_to(tmp_path / "real" / "file")
    (tmp_path / "folder").symlink_to(tmp_path / "real", target_is_directory=True)
    write_bytes(tmp_path / "file", b"after")
    assert (tmp_path / "real" / "file").read_bytes() == b"after"
    with folder_beside(tmp_path / "folder") as new:
        (new / "fresh").touch()
    assert names(tmp_path / "real") == ["fresh"]
    assert (tmp_path / "file").is_symlink()
    assert (tmp_path / "folder").is_symlink()
    assert names(tmp_path) == ["file", "folder", "real"]


def test_a_folder_is_seen_when_it_is_whole(tmp_path):
    folder = tmp_path / "deep" / "a"
    for content in ("before", "after"):
        with folder_beside(folder) as new:
            (new / "file").write_text(content, encoding="utf-8")
            assert not folder.exists() or (folder / "file").read_text(encoding="utf-8") == "before"
        assert (folder / "file").read_text(encoding="utf-8") == content
    assert names(folder.parent) == ["a"]


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_a_broken_write_leaves_the_old_folder(folder, failure):
    with pytest.raises(failure), folder_beside(folder) as new:
        (new / "new").touch()
        raise failure
    assert names(folder) == ["old"]
    assert names(folder.parent) == ["a"]


def fail_to_move_in(folder: Path, failure: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of the two renames, of the new folder to its place, fails; the old one can be moved back."""
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if target == folder and self.name == "new":
            raise failure
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)


def test_ctrl_c_between_the_two_renames_leaves_the_old_folder(folder, monkeypatch):
    fail_to_move_in(folder, KeyboardInterrupt(), monkeypatch)
    with pytest.raises(KeyboardInterrupt), folder_beside(folder):
        pass
    assert names(folder) == ["old"]
    assert names(folder.parent) == ["a"]


def test_a_folder_that_cannot_be_renamed_leaves_the_old_one(folder, monkeypatch):
    fail_to_move_in(folder, PermissionError(13, "Permission denied"), monkeypatch)
    refused = pytest.raises(OutputError, match="a cannot be written: Permission denied")
    with refused, writing(folder), folder_beside(folder) as new:
        (new / "new").touch()
    assert names(folder) == ["old"]
    assert names(folder.parent) == ["a"]


def test_an_old_folder_that_cannot_be_moved_back_is_kept_for_the_next_command(folder, monkeypatch):
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if target == folder:
            raise PermissionError
        return rename(self, target)

    with monkeypatch.context() as patch, pytest.raises(PermissionError), folder_beside(folder) as new:
        patch.setattr(Path, "rename", refuse)
        (new / "new").touch()
    assert not folder.exists()
    recover(folder.parent)
    assert names(folder) == ["old"]
    assert names(folder.parent) == ["a"]


def workspace(parent: Path, digit: str, plan: str = "") -> Path:
    """Makes the remains of a killed process."""
    work = parent / f".ddsp-{digit * 12}"
    work.mkdir()
    (work / "lock").touch()
    if plan:
        (work / "plan.json").write_text(plan, encoding="utf-8")
        (work / "old").mkdir()
        (work / "old" / "old").touch()
        (work / "old" / "mine").touch()
    return work


def test_a_kill_before_the_second_rename_is_undone(tmp_path):
    workspace(tmp_path, "0", '{"target": "a", "carry_over": ["mine"]}')
    recover(tmp_path)
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["mine", "old"]


def test_a_kill_after_the_second_rename_is_completed(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "new").touch()
    workspace(tmp_path, "0", '{"target": "a", "carry_over": ["mine"]}')
    recover(tmp_path)
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["mine", "new"]


def test_only_our_own_abandoned_workspaces_are_removed(tmp_path):
    workspace(tmp_path, "0")
    (workspace(tmp_path, "1") / "new.wav").write_bytes(b"half")
    (tmp_path / f".ddsp-{'2' * 12}").mkdir()  # killed before it was locked
    (tmp_path / f".ddsp-{'3' * 12}.lock").touch()
    others = [".ddsp-mine", ".a-01234567", f".ddsp-{'4' * 12}"]
    for name in others:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    recover(tmp_path)
    assert names(tmp_path) == sorted(others)
    recover(tmp_path / "nowhere")


@pytest.mark.parametrize("plan", ['{"target": "../b"}', '{"target": ""}', '{"target": "a", "carry_over": ["../x"]}',
                                  "nothing"])  # fmt: skip
def test_a_workspace_of_a_stranger_moves_nothing(tmp_path, plan):
    inside = tmp_path / "inside"
    inside.mkdir()
    work = workspace(inside, "0", plan)
    recover(inside)
    assert names(tmp_path) == ["inside"]
    assert names(inside) == [work.name]


def test_a_living_process_is_left_alone(tmp_path):
    with folder_beside(tmp_path / "a") as new:
        recover(tmp_path)
        assert new.is_dir()
    assert names(tmp_path) == ["a"]


def test_without_locks_a_workspace_is_abandoned_after_a_day(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "try_lock", lambda stream: None)
    work = workspace(tmp_path, "0")
    recover(tmp_path)
    assert work.is_dir()
    for entry in (work / "lock", work):
        os.utime(entry, (time.time() - 2 * atomic.ABANDONED_AFTER_S,) * 2)
    recover(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("force", [True, False])
def test_what_may_be_replaced(tmp_path, force):
    folder = tmp_path / "a"
    check_replaceable(folder, KIND, force)
    folder.mkdir()
    check_replaceable(folder, KIND, force)  # nothing in it is lost
    (folder / "letter").touch()
    with pytest.raises(OutputError, match="is not a thing"):
        check_replaceable(folder, KIND, force)
    with pytest.raises(OutputError, match="is a file"):
        check_replaceable(folder / "letter", KIND, force)
    (folder / "mark").touch()
    if force:
        check_replaceable(folder, KIND, force)
    else:
        with pytest.raises(OutputError, match="exists already"):
            check_replaceable(folder, KIND, force)


def test_entries_of_the_user_are_carried_over(tmp_path):
    folder = tmp_path / "a"
    (folder / "sub").mkdir(parents=True)
    for name in ("mark", "part_1", "letter", ".DS_Store"):
        (folder / name).write_bytes(b"old")
    (folder / "sub" / "file").touch()
    with folder_beside(folder, KIND) as new:
        (new / "mark").touch()
    assert names(folder) == ["letter", "mark", "sub"]
    assert names(folder / "sub") == ["file"]
    assert (folder / "mark").read_bytes() == b""


WRITER = """
import pathlib, sys, ddsp_cli.atomic as atomic
folder = pathlib.Path(sys.argv[1])
kind = atomic.FolderKind("", lambda folder: True, ("[0-9]*",))
for i in range(10**6):
    with atomic.folder_beside(folder, kind) as new:
        for j in range(3):
            (new / f"{j}").write_text(str(i), encoding="utf-8")
    atomic.write_bytes(folder.parent / "file", str(i).encode() * 1000)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_random_kills_leave_the_old_or_the_new(tmp_path):
    """A process that replaces a folder and a file again and again is killed; both are whole after the next command."""
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "mine").write_text("precious", encoding="utf-8")
    for i in range(12):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)])
        time.sleep(0.15 + 0.013 * i)
        process.send_signal(signal.SIGKILL)
        process.wait()
        recover(tmp_path)
        assert (folder / "mine").read_text(encoding="utf-8") == "precious"
        found = {(folder / str(j)).read_text(encoding="utf-8") for j in range(3)} if (folder / "0").exists() else {""}
        assert len(found) == 1
        if (tmp_path / "file").exists():
            content = (tmp_path / "file").read_bytes()
            assert content == content[: len(content) // 1000] * 1000
        assert set(names(tmp_path)) <= {"a", "file"}
