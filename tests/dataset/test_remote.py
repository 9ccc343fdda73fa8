"""Recordings and data sets at addresses, on a server of this machine that speaks S3."""

from __future__ import annotations

import contextlib
import http.server
import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from ddsp_cli import dataset, remote
from ddsp_cli.dataset import loader
from ddsp_cli.dataset.sources import Inputs
from ddsp_cli.errors import DatasetError, DdspError, InputError, OutputError, UsageError
from ddsp_cli.workflows.prepare import find_existing, prepare
from fixtures import melody
from scale_fixtures import serve_s3


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """An empty bucket `s3://archive`, and credentials in the environment."""
    monkeypatch.chdir(tmp_path)
    with serve_s3("archive", monkeypatch) as fs:
        yield fs


@pytest.fixture
def wavs(bucket, tmp_path: Path) -> Path:
    """Recordings in a folder and below `s3://archive/wavs`."""
    folder = tmp_path / "wavs"
    folder.mkdir()
    for i in range(4):
        soundfile.write(folder / f"{i}.wav", 0.2 * melody((57 + i, 64 + i, 60 + i, 65), 1.0, 0.2), 16000)
    (folder / "text.wav").write_text("not audio")
    bucket.put(str(folder), "archive/wavs", recursive=True)
    bucket.pipe_file("archive/wavs/readme.txt", b"not listed")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_recordings_at_an_address_make_the_same_data_set(wavs, tmp_path):
    here = prepare([wavs], name="x", out=tmp_path / "here", workers=1, report=False)
    there = prepare(["s3://archive/wavs"], name="x", out=tmp_path / "there", workers=1, report=False)
    assert there.skipped == here.skipped
    assert [name for name, _ in there.skipped] == ["wavs/text.wav"]
    assert content(here.folder) == content(there.folder)
    some = prepare(["s3://archive/wavs/[0-2].wav"], name="x", out=tmp_path / "some", workers=1, report=False)
    assert {r.path for r in dataset.load_manifest(some.folder).recordings} == {f"wavs/{i}.wav" for i in range(3)}


def test_a_data_set_at_an_address_is_whole_or_absent(wavs, bucket, tmp_path, monkeypatch):
    place = "s3://archive/sets/x"
    fs = remote.as_place(place).fs
    put, n_put = fs.put_file, 0

    failures = [OSError("the connection was lost"), KeyboardInterrupt()]

    def fail_at_third(*arguments: object, **options: object) -> object:
        nonlocal n_put
        n_put += 1
        if n_put == 3:
            raise failures[-1]
        return put(*arguments, **options)

    while failures:
        n_put = 0
        monkeypatch.setattr(fs, "put_file", fail_at_third)
        with pytest.raises((KeyboardInterrupt, OutputError)) as caught:
            prepare([wavs], out=place, workers=1)
        assert len(bucket.find("archive/sets", refresh=True)) == 2
        failures.pop()
    assert "run the same command again" in caught.value.hint
    monkeypatch.setattr(fs, "put_file", put)
    with pytest.raises(DatasetError):
        dataset.load_manifest(remote.as_place(place))
    monkeypatch.setattr("ddsp_cli.dataset.workers.measure", lambda *_: pytest.fail("measured again"))
    result = prepare([wavs], out=place, workers=1)
    assert dataset.load_manifest(result.folder).n_recordings == 5
    assert result.report is not None
    assert str(result.folder) == place


def test_a_data_set_at_an_address_is_read_as_one_of_this_machine(wavs, bucket, tmp_path):
    place = "s3://archive/sets/x"
    there = prepare([wavs], name="x", out=place, workers=1, report=False)
    here = prepare([wavs], name="x", out=tmp_path / "here", workers=1, report=False)
    assert (there.n_train, there.note_s) == (here.n_train, here.note_s)
    assert prepare([wavs], name="x", out=place, workers=1, report=False).unchanged
    assert not (tmp_path / "datasets").exists() or not list((tmp_path / "datasets").iterdir())
    remote_set, local_set = loader.load(remote.as_place(place)), loader.load(here.folder)
    assert np.array_equal(remote_set.train.audio, local_set.train.audio)
    streamed = loader.StreamedExamples(remote.as_place(place), remote_set.manifest, remote_set.manifest.train)
    rows = np.array([len(streamed) - 1, 0])
    assert np.array_equal(streamed.take(rows).audio, local_set.train.audio[rows])
    stored = b"".join(bucket.cat(name) for name in bucket.find("archive/sets")).lower()
    assert b"of-the-environment" not in stored
    with pytest.raises(OutputError, match="exists already"):
        prepare([wavs / "0.wav", wavs / "1.wav", wavs / "2.wav"], name="x", out=place, workers=1, report=False)


def test_what_cannot_be_read_is_a_sentence(bucket, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="there is nothing at s3://archive/none"):
        prepare(["s3://archive/none"], out=tmp_path / "set")
    with pytest.raises(InputError, match="s3://missing/wavs"):
        prepare(["s3://missing/wavs"], out=tmp_path / "set")
    with pytest.raises(UsageError, match="password"):
        prepare(["sftp://me:secret@host/wavs"], out=tmp_path / "set")
    with pytest.raises(UsageError, match="nosuch://"):
        prepare(["nosuch://host/wavs"], out=tmp_path / "set")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    "address",
    [
        "sftp://me:hunter2@host/wavs",
        "s3://AKIA:hunter2@bucket/wavs",
        "https://hunter2@host/wavs",
        "https://host/x.wav?X-Amz-Signature=hunter2",
        "https://host/x.wav?a&sig=hunter2",
        "https://host/x.wav#token=hunter2",
        "simplecache::https://me:hunter2@host/x.wav",
        "zip://*.wav::https://me:hunter2@host/x.zip",
        "zip://hunter2/x.wav::s3://bucket/x.zip",
        "filecache::s3://me:hunter2@bucket/x.wav",
        "reference://hunter2.json",
        "reference://x.json::https://hunter2@host/x.json",
        "dask://hunter2/x",
        "jupyter://hunter2/x",
        "github://me:hunter2@repository/x.wav",
        "data://audio/wav;base64,hunter2",
        "generic://hunter2",
        "HTTPS://hunter2@host/wavs",
    ],
)
@pytest.mark.parametrize("place", ["input", "out"])
def test_secrets_and_addresses_inside_addresses_are_refused_and_not_shown(address, place, tmp_path, monkeypatch):
    """They would be written into manifests and reports; `reference://` could run code of the file that it names."""
    monkeypatch.chdir(tmp_path)
    soundfile.write(tmp_path / "a.wav", melody(), 16000)
    inputs, out = (address, "set") if place == "input" else ("a.wav", address)
    with pytest.raises(UsageError) as caught:
        prepare([inputs], out=out, workers=1)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("address", ["s3://", "s3:///", "s3:///wavs", "https:///x.wav", "sftp://", "gs:///x"])
def test_an_address_without_a_bucket_or_host_is_not_opened(address, monkeypatch):
    """The library of the service would search for credentials first, also in the network."""
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection"))
    with pytest.raises(UsageError, match="names no bucket or host"):
        remote.as_place(address)


@pytest.mark.parametrize("address", ["http://a\n?b=", "s3://a\x1b[2J/b", "nosuch://a\nb"])
def test_an_address_is_one_line(address):
    with pytest.raises(UsageError, match="control character") as problem:
        remote.as_place(address)
    assert problem.value.message.isprintable()


def test_addresses_of_this_machine_need_no_host(tmp_path):
    assert remote.as_place(tmp_path.as_uri()).exists()


@pytest.mark.parametrize("address", ["s3://bucket", "s3://bucket/set"])
@pytest.mark.parametrize("method", ["exists", "is_dir", "is_file", "iterdir", "glob"])
def test_service_that_fails_in_any_call_is_a_sentence(address, method, monkeypatch):
    """No credentials, no bucket: whichever method of a place meets it, of a data set that is written or read."""
    place = remote.as_place(address)

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("Unable to locate credentials")  # an exception of a service's own library

    for name, answer in (("exists", True), ("is_dir", True), ("is_file", False), ("iterdir", iter(()))):
        monkeypatch.setattr(type(place), name, lambda *_, answer=answer, **__: answer)
    monkeypatch.setattr(type(place), method, refuse)
    with pytest.raises(DdspError):
        dataset.load_manifest(place)
    with contextlib.suppress(DdspError):
        find_existing(place, Inputs(), None, force=True)


@contextmanager
def serve_web(answers: dict[str, bytes], status: int = 200) -> Iterator[str]:
    """A web server of this machine; a page whose name ends in / is a list of links."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = answers.get(self.path)
            self.send_response(404 if body is None else status)
            self.send_header("Content-Length", str(len(body or b"")))
            if self.path.endswith("/"):
                self.send_header("Content-Type", "text/html")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body or b"")

        do_GET = do_HEAD = answer  # noqa: N815 - as http.server calls them

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_list_of_a_hostile_web_server_leads_nowhere_else(tmp_path):
    """Its links may name other machines, files of this one, queries and control characters."""
    pytest.importorskip("aiohttp")
    (tmp_path / "secret.wav").write_bytes(b"of this machine")
    sound = io.BytesIO()
    soundfile.write(sound, np.tile(melody(), 10), 16000, format="WAV")
    links = ["a.wav", "?C=N;O=D", "../../etc/passwd.wav", f"file://{tmp_path}/secret.wav", "http://127.0.0.1:9/b.wav",
             "//127.0.0.1:9/c.wav", "s3://bucket/d.wav", "simplecache::file:///e.wav", "%1b[2J.wav",
             "x" * 3000 + ".wav", "javascript:alert(1).wav", "b.wav?sig=1"]  # fmt: skip
    page = "".join(f'<a href="{link}">{link}</a>' for link in links).encode()
    with serve_web({"/wavs/": page, "/wavs": page, "/wavs/a.wav": sound.getvalue()}) as host:
        result = prepare([f"{host}/wavs/*.wav"], name="x", out=tmp_path / "set", workers=1, report=False)
    manifest = dataset.load_manifest(result.folder)
    used = [recording.path for recording in manifest.recordings if recording.split != "none"]
    assert used == ["wavs/a.wav"]
    assert {name.partition("/")[0] for name, _ in result.skipped} == {"wavs"}
    assert all("cannot be read" in reason for _, reason in result.skipped)


@pytest.mark.parametrize("status", [403, 500])
def test_web_server_that_refuses_is_a_sentence(tmp_path, status):
    pytest.importorskip("aiohttp")
    with serve_web({"/a.wav": b"no"}, status) as host, pytest.raises(InputError, match=host):
        prepare([f"{host}/a.wav"], name="x", out=tmp_path / "set", workers=1)


def test_paths_of_this_machine_are_no_addresses():
    for text in ("a/b.wav", "C:\\a.wav", "c:/a.wav", "/a", "s3:/bucket"):
        assert not remote.is_address(text)
        assert remote.as_place(text) == Path(text)
    assert [remote.base_name(f"s3://b/{end}") for end in ("x/*.wav", "x/y", "x/", "*.wav", "")] == [
        "x",
        "y",
        "x",
        "b",
        "b",
    ]
