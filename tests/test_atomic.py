"""Whole or not there: files and folders when all goes well, when writing fails, and after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddsp_cli.atomic import beside, folder_beside, recover, write_bytes, writing
from ddsp_cli.errors import OutputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one file in it, in a place of its own."""
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "old").touch()
    return folder


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("name", ["", ".new"])
def test_a_file_is_seen_when_it_is_whole(tmp_path, name):
    path = tmp_path / "a.txt"
    write_bytes(path, b"before")
    with beside(path, name) as part:
        part.write_bytes(b"after")
        assert path.read_bytes() == b"before"
        assert part.parent == path.parent
        assert part.name.startswith(".")
    assert path.read_bytes() == b"after"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_a_broken_write_leaves_the_file_that_stood_there(tmp_path, failure):
    path = tmp_path / "a.txt"
    write_bytes(path, b"before")
    with pytest.raises(failure), beside(path) as part:
        part.write_bytes(b"af")
        raise failure
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_is_seen_when_it_is_whole(tmp_path):
    folder = tmp_path / "deep" / "a"
    for content in ("before", "after"):
        with folder_beside(folder) as staging:
            (staging / "file").write_text(content, encoding="utf-8")
            assert not folder.exists() or (folder / "file").read_text(encoding="utf-8") == "before"
        assert (folder / "file").read_text(encoding="utf-8") == content
    assert names(folder.parent) == ["a"]


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_a_broken_write_leaves_the_folder_that_stood_there(folder, failure):
    with pytest.raises(failure), folder_beside(folder) as staging:
        (staging / "new").touch()
        raise failure
    assert names(folder) == ["old"]
    assert names(folder.parent) == ["a"]


def fail_to_move_in(folder: Path, failure: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of the two moves, of the new folder to its place, fails; the one that stood there can come back."""
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if target == folder and self.parent == folder.parent:
            raise failure
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)


def test_ctrl_c_between_the_two_moves_leaves_the_folder_that_stood_there(folder, monkeypatch):
    fail_to_move_in(folder, KeyboardInterrupt(), monkeypatch)
    with pytest.raises(KeyboardInterrupt), folder_beside(folder):
        pass
    assert names(folder) == ["old"]
    assert names(folder.parent) == ["a"]


def test_a_folder_that_cannot_be_moved_leaves_the_one_that_stood_there(folder, monkeypatch):
    fail_to_move_in(folder, PermissionError(13, "Permission denied"), monkeypatch)
    refused = pytest.raises(OutputError, match="a cannot be written: Permission denied")
    with refused, writing(folder), folder_beside(folder) as staging:
        (staging / "new").touch()
    assert names(folder) == ["old"]
    assert names(folder.parent) == ["a"]


@pytest.mark.parametrize("failure", [PermissionError, KeyboardInterrupt])
def test_what_was_put_aside_is_never_lost(folder, monkeypatch, failure):
    """Neither when it cannot be brought back: then the next start does."""
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if target == folder:
            raise failure
        return rename(self, target)

    with monkeypatch.context() as patch, pytest.raises(failure), folder_beside(folder) as staging:
        patch.setattr(Path, "rename", refuse)
        (staging / "new").touch()
    assert not folder.exists()
    recover(folder)
    assert names(folder) == ["old"]
    assert names(folder.parent) == ["a"]


def test_what_a_kill_left_is_put_right(tmp_path):
    """Killed between the two renames, and twice before: the folder comes back, the rest goes, others' stay."""
    (tmp_path / ".a-old-01234567" / "a").mkdir(parents=True)
    (tmp_path / ".a-old-01234567" / "a" / "file").touch()
    for name in (".a-zyxwvuts", ".a-b-01234567", ".a-mine"):
        (tmp_path / name).mkdir()
    recover(tmp_path / "a")
    assert names(tmp_path) == [".a-b-01234567", ".a-mine", "a"]
    assert names(tmp_path / "a") == ["file"]
    recover(tmp_path / "a")
    recover(tmp_path / "nowhere" / "b")
    assert names(tmp_path / "a") == ["file"]
