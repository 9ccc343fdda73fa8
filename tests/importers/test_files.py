"""Files of an import: special files, links, paths out of the archive and bombs are refused unread."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
import zipfile
from pathlib import Path

import pytest

from ddsp_cli.errors import ModelError
from ddsp_cli.importers import files
from ddsp_cli.importers.files import Archive, Folder


def everything(name: str) -> bool:
    return True


def pack(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return path


def test_folder_and_archive_hold_the_same(tmp_path: Path) -> None:
    source = pack(tmp_path / "a.zip", {"x/y/ckpt-1.index": b"1", "x/b.gin": b"2", "x/notes.txt": b""})
    folder = tmp_path / "folder"
    (folder / "subfolder.gin").mkdir(parents=True)
    (folder / "ckpt-1.index").write_bytes(b"1")
    (folder / "b.gin").write_bytes(b"2")
    for found in (Archive(source, lambda name: not name.endswith(".txt")), Folder(folder, everything)):
        assert {"b.gin", "ckpt-1.index"} <= {*found.names()}
        assert (found.read("ckpt-1.index"), found.read("b.gin", 1)) == (b"1", b"2")
        with pytest.raises(ModelError, match=r"larger|too large"):
            found.read("b.gin", 0)
        with pytest.raises(ModelError):
            found.read("nothing.gin")
    with pytest.raises(ModelError, match="not a regular file"):
        Folder(folder, everything).read("subfolder.gin")


def test_all_files_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(bytes(10))
    monkeypatch.setattr(files, "MAX_BYTES", 25)
    found = Folder(tmp_path, everything)
    found.read("a", 100)
    found.read("a", 100)
    with pytest.raises(ModelError, match="larger"):
        found.read("a", 100)


@pytest.mark.skipif(sys.platform == "win32", reason="FIFOs and device files are of POSIX")
def test_fifos_devices_and_files_without_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.gin")
    (tmp_path / "zero.gin").symlink_to("/dev/zero")
    (tmp_path / "terminal.gin").symlink_to("/dev/tty")
    (tmp_path / "circle.gin").symlink_to("circle.gin")
    (tmp_path / "nowhere.gin").symlink_to("nothing")
    (tmp_path / "log.gin").symlink_to("/proc/kmsg")  # of size 0, and blocks where there are no new messages
    found = Folder(tmp_path, everything)
    for name in found.names():
        with contextlib.suppress(ModelError) if name == "log.gin" else pytest.raises(ModelError) as problem:
            found.read(name)
        assert problem is None or re.search("not a regular file|cannot be read", str(problem.value))
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link.gin").symlink_to("real")
    assert found.read("link.gin") == b"x"


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_ENTRIES", 3)
    for i in range(4):
        (tmp_path / f"{i}.gin").write_bytes(b"")
    with pytest.raises(ModelError, match="more than 3 files"):
        Folder(tmp_path, everything)
    assert Folder(tmp_path, lambda name: name == "1.gin").names() == ["1.gin"]


@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "/evil", "C:/evil", "C:evil", "..\\evil", "\\\\host\\share\\evil", "a\\..\\..\\evil"],
)
def test_names_that_leave(name: str, tmp_path: Path) -> None:
    source = pack(tmp_path / "a.zip", {name: b"x", "fine": b"y"})
    with pytest.raises(ModelError, match="leave its folder"):
        Archive(source, everything)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_archives(kind: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        info = zipfile.ZipInfo("ckpt-1.index")
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        target.writestr(info, "/etc/passwd")
    with pytest.raises(ModelError, match="link"):
        Archive(tmp_path / "a.zip", everything)


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="impossible size"):
        Archive(pack(tmp_path / "a.zip", {"a": bytes(4 << 20)}), everything)
    with pytest.raises(ModelError, match="two files"):
        Archive(pack(tmp_path / "c.zip", {"a/x": b"1", "b/x": b"2"}), everything)
    monkeypatch.setattr(files, "MAX_ENTRIES", 1000)
    with pytest.raises(ModelError, match="more than 1000 files"):
        Archive(pack(tmp_path / "b.zip", {str(i): b"" for i in range(1001)}), everything)
    monkeypatch.setattr(files, "MAX_BYTES", 500)
    with pytest.raises(ModelError, match="more than any model"):
        Archive(pack(tmp_path / "d.zip", {"a": bytes(300), "b": bytes(300)}), everything)


def test_a_size_that_lies(tmp_path: Path) -> None:
    """The directory says 10 bytes, the member holds more: it is refused."""
    source = pack(tmp_path / "a.zip", {"a": b"x" * 5000}, zipfile.ZIP_STORED)
    data = bytearray(source.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")
    source.write_bytes(data)
    with pytest.raises(ModelError):
        Archive(source, everything).read("a")


def test_encrypted_and_damaged(tmp_path: Path) -> None:
    source = pack(tmp_path / "a.zip", {"a": b"x" * 100})
    data = bytearray(source.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    source.write_bytes(data)
    with pytest.raises(ModelError):
        Archive(source, everything).read("a")
    source.write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(ModelError):
        Archive(source, everything)
