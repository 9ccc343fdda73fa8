"""Archives of strangers: what leaves its folder, links, or explodes is refused before anything is written."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from ddsp_cli.errors import ModelError
from ddsp_cli.importers import archive


def everything(name: str) -> bool:
    return True


def pack(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return path


def unpack(source: Path, folder: Path) -> list[str]:
    folder.mkdir(exist_ok=True)
    return sorted(path.name for path in archive.unpack(source, folder, everything))


def test_plain(tmp_path: Path) -> None:
    source = pack(tmp_path / "a.zip", {"x/y/ckpt-1.index": b"1", "x/b.gin": b"2"})
    assert unpack(source, tmp_path / "out") == ["b.gin", "ckpt-1.index"]
    assert (tmp_path / "out" / "b.gin").read_bytes() == b"2"


@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "/evil", "C:/evil", "C:evil", "..\\evil", "\\\\host\\share\\evil", "a\\..\\..\\evil"],
)
def test_names_that_leave(name: str, tmp_path: Path) -> None:
    source = pack(tmp_path / "a.zip", {name: b"x", "fine": b"y"})
    with pytest.raises(ModelError, match="leave its folder"):
        unpack(source, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices(kind: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        info = zipfile.ZipInfo("ckpt-1.index")
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        target.writestr(info, "/etc/passwd")
    with pytest.raises(ModelError, match="link"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="impossible size"):
        unpack(pack(tmp_path / "a.zip", {"a": bytes(4 << 20)}), tmp_path / "out")
    with pytest.raises(ModelError, match="members"):
        unpack(pack(tmp_path / "b.zip", {str(i): b"" for i in range(1001)}), tmp_path / "out")
    with pytest.raises(ModelError, match="two files"):
        unpack(pack(tmp_path / "c.zip", {"a/x": b"1", "b/x": b"2"}), tmp_path / "out")
    monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 10)
    with pytest.raises(ModelError, match="more than any model"):
        unpack(pack(tmp_path / "d.zip", {"a": b"123456", "b": b"123456"}), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_size_that_lies(tmp_path: Path) -> None:
    """The directory says 10 bytes, the member holds more: it is cut off or refused, never written beyond."""
    source = pack(tmp_path / "a.zip", {"a": b"x" * 5000}, zipfile.ZIP_STORED)
    data = bytearray(source.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")
    source.write_bytes(data)
    with pytest.raises(ModelError):
        unpack(source, tmp_path / "out")
    assert sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) <= 10


def test_encrypted_and_damaged(tmp_path: Path) -> None:
    source = pack(tmp_path / "a.zip", {"a": b"x" * 100})
    data = bytearray(source.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    source.write_bytes(data)
    with pytest.raises(ModelError):
        unpack(source, tmp_path / "out")
    source.write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(ModelError):
        unpack(source, tmp_path / "out")
