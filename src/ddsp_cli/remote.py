"""Read and write files at addresses: `s3://bucket/wavs`, `gs://`, `https://`, `sftp://` and other services of fsspec.

An address becomes a `UPath`, which has the methods of `pathlib.Path`; functions that only read and join paths take
either. Credentials come from the environment, where the library of each service searches for them; they are never
written. Addresses that contain credentials are refused and not shown, because addresses are written into data sets
and reports.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, cast

from ddsp_cli.errors import DdspError, InputError, OutputError, UsageError
from ddsp_cli.packages import require_extra

#: A scheme of two letters or more: one letter is a drive on Windows.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(?P<host>[^/]*)")

#: Services that store files. Other protocols of fsspec read a file with further addresses, and one of them
#: (`reference://`) fills in templates of such a file, which can run code; or they precede another address (`zip://`).
SERVICES = frozenset({
    "abfs", "abfss", "adl", "az", "file", "ftp", "gcs", "gs", "hdfs", "hf", "http", "https", "local", "memory", "oci",
    "oss", "s3", "s3a", "sftp", "smb", "ssh", "webhdfs",
})  # fmt: skip

#: Those whose addresses name no bucket, host or repository first.
_WITHOUT_HOST = frozenset({"file", "hdfs", "local", "memory", "webhdfs"})

#: `simplecache::https://...`, `zip://*.wav::s3://...`: an address inside another.
_CHAINED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(://[^:]*)?::[A-Za-z]")

#: Characters that make a pattern.
_MAGIC = re.compile(r"[*?\[]")


def is_address(text: object) -> bool:
    """Whether a text, or the path made of it, is an address and not a path of this machine."""
    return not isinstance(text, Path) and (_ADDRESS.match(str(text)) is not None or _is_chained(str(text)))


def _is_chained(text: str) -> bool:
    return _CHAINED.match(text) is not None and "://" in text


def as_place(text: str | os.PathLike[str]) -> Path:
    """Returns the path of a text: a `Path`, or a `UPath` for an address.

    Raises:
      UsageError: an address of a kind that is not known or whose package is not installed, one inside another, or one
        with a password.
      InputError: the service cannot be reached.
    """
    if not is_address(text):
        return Path(text)
    address = str(text)
    check_address(address)
    require_extra("remote", f"the address {address}", "fsspec", "upath")
    from upath import UPath

    try:
        place = UPath(address)
        _ = place.fs
    except ImportError as problem:
        raise UsageError(
            f"the address {address} needs a package that is not installed: {problem}",
            "Install the package that it names, or pip install 'ddsp-cli[remote]' for s3://.",
        ) from problem
    except OSError as problem:
        raise InputError(f"{address} cannot be reached: {_words(problem)}") from problem
    except Exception as problem:  # each service has its own exceptions
        raise UsageError(f"{address} cannot be opened as an address: {_words(problem)}") from problem
    return cast(Path, place)


def check_address(address: str) -> None:
    """Checks an address before anything opens it.

    Raises:
      UsageError: it holds a password or another address, names no bucket or host, or is of a kind that is not known.
    """
    if not address.isprintable():
        raise UsageError("an address holds a line break or another control character")
    if _is_chained(address):
        raise UsageError(
            f"nested addresses ({address.partition('::')[0].partition(':')[0]}::...) are not supported",
            "Give the address of the files themselves; unpack archives first.",
        )
    found = _ADDRESS.match(address)
    assert found is not None
    service, (user, at, _) = found[1].lower(), found["host"].partition("@")
    is_web = service in {"http", "https"}
    if at and (":" in user or is_web):
        raise UsageError(
            f"the address {service}://... holds a password",
            "Set credentials in the environment, as the service's own programs read them.",
        )
    if is_web and re.search(r"[?&#][^/]*=", address):  # a ? without a name and a value is a pattern
        raise UsageError(
            f"the address {service}://{found['host']}/... holds a query, which may be a key",
            "Addresses are written into data sets: download the file, and give its path.",
        )
    if service not in SERVICES:
        raise UsageError(f"{service}:// addresses are not supported", f"Supported are {', '.join(sorted(SERVICES))}.")
    if service not in _WITHOUT_HOST and not found["host"]:  # no request without a host
        raise UsageError(f"the address {address} names no bucket or host", f"Give {service}://NAME/FOLDER.")


@contextlib.contextmanager
def reading(place: Path) -> Iterator[None]:
    """Turns failures of a service inside the block into an `InputError`; those of a local disk pass.

    Raises:
      InputError: the service refuses, cannot be reached, or wants credentials.
    """
    if not is_address(place):
        yield
        return
    try:
        yield
    except (GeneratorExit, KeyboardInterrupt, DdspError):
        raise
    except Exception as problem:  # each service has its own exceptions
        raise InputError(
            f"{place} cannot be read: {_words(problem)}", "Check the address and credentials."
        ) from problem


def _words(problem: Exception) -> str:
    return " ".join(str(problem).split())[:200] or type(problem).__name__


def files(address: str) -> Iterator[tuple[Path, str]]:
    """Lists the files of an address: one file, those below a folder, or those that match a pattern.

    Args:
      address: may hold `*`, `?` and `[…]`; `**` for any folders.

    Yields:
      Each file, and its path relative to the folder or to what precedes the pattern; "" for a single file.

    Raises:
      InputError: nothing is there, or the service cannot be read.
    """
    place = cast(Any, as_place(address))
    with reading(place):
        fs, root = place.fs, place.path.rstrip("/")
        if _MAGIC.search(root):
            parts = root.split("/")  # not of pathlib, which makes one slash of the two of http://
            base = "/".join(itertools.takewhile(lambda part: not _MAGIC.search(part), parts))
            names = [name for name in fs.glob(root) if not fs.isdir(name)]
        elif fs.isfile(root):
            yield place, ""
            return
        else:
            base, names = root, fs.find(root)
        if not names:
            raise InputError(f"there is nothing at {address}")
        for name in names:
            try:
                found = as_place(fs.unstrip_protocol(name))
            except UsageError:  # a link of a web page that orders its list (?C=N;O=D), or a name that is an address
                continue
            yield found, name.removeprefix(base).lstrip("/")


def base_name(address: str) -> str:
    """Returns the name of the file or folder of an address; of a pattern the folder before it."""
    parts = [part for part in PurePosixPath(_ADDRESS.sub(r"\g<host>", address)).parts if part not in "/"]
    plain = parts[: next((i for i, part in enumerate(parts) if _MAGIC.search(part)), len(parts))]
    return plain[-1] if plain else "recordings"


@contextlib.contextmanager
def local_copy(place: Path, folder: Path | None = None) -> Iterator[Path]:
    """Copies the content of a place to a file of this machine, removed with the block; a local place stays itself.

    Args:
      place: a path or an address.
      folder: for the copy; by default that of temporary files.

    Raises:
      InputError: the service cannot be read.
    """
    if not is_address(place):
        yield place
        return
    import tempfile

    descriptor, name = tempfile.mkstemp(prefix=".ddsp-", suffix=place.suffix, dir=folder)
    copy = Path(name)
    try:
        with reading(place), os.fdopen(descriptor, "wb") as stream, place.open("rb") as source:
            while content := source.read(1 << 20):
                stream.write(content)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def read_range(place: Path, start: int, n_bytes: int) -> bytes:
    """Returns bytes of a file at an address.

    Raises:
      OSError: it cannot be read.
    """
    remote = cast(Any, place)
    content: bytes = remote.fs.cat_file(remote.path, start=start, end=start + n_bytes)
    return content


def publish(folder: Path, place: Path, last: str, own: tuple[str, ...]) -> None:
    """Copies the files of a folder to an address, so that a reader finds all of them or none.

    Objects cannot be renamed together: `last` is removed first and written after all others, and without it there is
    nothing to read.

    Args:
      folder: local.
      place: an address.
      last: name of the file that is written last.
      own: patterns of names that the program writes; other files at the address are left unchanged.

    Raises:
      OutputError: the service refuses or cannot be reached.
    """
    remote = cast(Any, place)
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and entry.name != last)
    try:
        standing = [entry.name for entry in remote.iterdir()] if remote.exists() else []
        if last in standing:
            (remote / last).unlink()
        for name in standing:
            if name != last and name not in names and any(PurePosixPath(name).match(pattern) for pattern in own):
                (remote / name).unlink()
        for name in [*names, last]:
            remote.fs.put_file(str(folder / name), (remote / name).path)
        remote.fs.invalidate_cache()
    except Exception as problem:  # each service has its own exceptions
        raise OutputError(
            f"{place} cannot be written: {_words(problem)}",
            "The finished part is kept: run the same command again to resume.",
        ) from problem
