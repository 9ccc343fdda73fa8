"""Attacks the real server of `ddsp studio` over its socket, and says how each try ended.

    python benchmarks/attack_studio.py [--tries 400] [--seed 0] [--kills 5]

Random requests to every address of the page: hostile bodies, names, headers, uploads and WebSocket messages, bytes that
are no HTTP, connections that end in the middle. Then the server is killed (SIGKILL) while files arrive, and started
again. Outcomes are those of `attack.py`:

    done, sentence  an answer below 400, or one that refuses
    internal        500, no JSON where there should be, or the server has ended
    hang            no answer in 30 s
    memory          more than 1.5 GB at once
    sockets         the server called or looked up another address
    lost            a sound that was kept before a kill is not there after it, or half a file is listed
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import io
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psutil
import soundfile

ROOT = Path(__file__).resolve().parents[1]
HANG_S, MEMORY_BYTES = 30.0, 1_500_000_000
OUTCOMES = ("done", "sentence", "internal", "hang", "memory", "lost", "sockets")

WORDS = (
    "",
    "..",
    "../..",
    "%2e%2e",
    "..%2f..%2fetc%2fpasswd",
    "example",
    "flute",
    "a" * 300,
    "\0",
    "\x1b[2J",
    "é",
    "C:",
    "con",
    "x\\y",
    "0123456789abcdef",
    "none",
    "dataset",
    "training",
    "original.wav",
    "wav",
    "midi",
    "curves",
    "picture",
    "prepare",
    "train",
    "{0}",
)

ROUTES = (
    ("GET", ""),
    ("GET", "static/{}"),
    ("GET", "api/state"),
    ("POST", "api/takes?name={}"),
    ("GET", "api/takes/{}"),
    ("DELETE", "api/takes/{}"),
    ("GET", "api/takes/{}/file"),
    ("GET", "api/takes/{}/pcm"),
    ("GET", "api/takes/{}/spectrogram"),
    ("GET", "api/instruments/{}/preview"),
    ("POST", "api/play"),
    ("POST", "api/curves?take=example&instrument=flute&name={}"),
    ("POST", "api/draw?take=example&instrument={}"),
    ("GET", "api/played/{}/pcm"),
    ("GET", "api/played/{}/spectrogram"),
    ("GET", "api/played/{}/curves"),
    ("GET", "api/played/{}/download/{}"),
    ("POST", "api/presets/{}"),
    ("DELETE", "api/presets/{}"),
    ("GET", "api/teach"),
    ("POST", "api/teach"),
    ("DELETE", "api/teach/{}"),
    ("POST", "api/teach/{}/recordings?name={}"),
    ("DELETE", "api/teach/{}/recordings/{}"),
    ("POST", "api/teach/{}/start/{}"),
    ("POST", "api/teach/{}/stop"),
    ("GET", "api/teach/{}/page/{}"),
    ("GET", "api/teach/{}/clips/{}"),
    ("PUT", "api/state"),
    ("OPTIONS", "api/play"),
    ("TRACE", ""),
    ("GET", "{}"),
    ("POST", "api/{}"),
)

VALUES = (
    None,
    True,
    0,
    -1,
    1e308,
    float("nan"),
    float("inf"),
    10**400,
    "",
    "nan",
    "auto",
    "9" * 5000,
    "é",
    "\ud800",
    "\x1b[2J",
    [],
    [[]],
    {},
    {"a": 1},
    "x" * 100_000,
    "example",
    "flute",
    "testophone:0.5",
    "flute:0.5+violin:0.5",
    "flute:9+violin:9",
    "..",
    "/etc/passwd",
)
SETTINGS = (
    "transpose",
    "dynamics",
    "loudness",
    "autotune",
    "key",
    "vibrato",
    "glide",
    "threshold",
    "room",
    "wet",
    "formant",
    "ensemble",
    "seed",
    "pitch",
    "x",
)


def sound(seconds: float = 0.5) -> bytes:
    """Returns a tone, as a WAV file."""
    out = io.BytesIO()
    t = np.arange(round(16000 * seconds)) / 16000
    soundfile.write(out, 0.3 * np.sin(2 * np.pi * 330 * t), 16000, format="WAV")
    return out.getvalue()


class Studio:
    """The server, in a separate process that is watched.

    Args:
      folder: a home folder of its own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "network.log"
        self.log.touch()
        paths = os.pathsep.join([str(ROOT / "tests" / "watcher"), str(ROOT / "src")])
        environment = os.environ | {
            "PYTHONPATH": paths,
            "DDSP_WATCH_LOG": str(self.log),
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder / "data"),
            "DDSP_MODELS": str(folder / "library"),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ddsp_cli", "studio", "--no-browser"], cwd=folder, env=environment,
            stdout=subprocess.PIPE, stderr=(folder / "said").open("ab"), text=True, encoding="utf-8",
        )  # fmt: skip
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        self.host, self.token = self.address.split("/")[2:4]
        self.origin = f"http://{self.host}"

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, timeout=HANG_S)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        """Sends a request; returns status and body of the answer."""
        connection = self.connect()
        try:
            sent = {"Origin": self.origin, **{name.replace("_", "-"): value for name, value in headers.items()}}
            connection.request(method, f"/{self.token}/{path}", body or None, sent)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def raw(self, content: bytes) -> bytes:
        """Sends bytes; returns the answer."""
        host, port = self.host.split(":")
        with socket.create_connection((host, int(port)), timeout=HANG_S) as line:
            line.sendall(content)
            line.shutdown(socket.SHUT_WR)
            parts = []
            while part := line.recv(1 << 16):
                parts.append(part)
            return b"".join(parts)

    def memory_bytes(self) -> int:
        with contextlib.suppress(psutil.Error):
            own = psutil.Process(self.process.pid)
            return sum(one.memory_info().rss for one in (own, *own.children(recursive=True)))
        return 0

    def sockets(self) -> list[str]:
        """Uses of the network but for its own socket."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in lines if line.startswith("socket") and "127.0.0.1" not in line]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def body_of(path: str, chance: random.Random) -> bytes:
    """Returns a body that a request to a path may have, mostly a hostile one."""
    kind = chance.randrange(6)
    if path.startswith(("api/takes", "api/teach/")) and kind < 3:
        content = bytearray(sound())
        for _ in range(chance.choice((0, 1, 4))):
            content[chance.randrange(60)] = chance.randrange(256)
        return bytes(content[: chance.choice((len(content), 44, 1000))])
    if path.startswith("api/draw") and kind < 4:
        values = np.asarray([chance.choice((440.0, 0.0, -1.0, np.nan, np.inf, 1e38, 1.0)) for _ in range(30)], "<f4")
        return values.tobytes()
    if kind == 0:
        return chance.choice(
            (b"", b"[", b"[]", b"{", b"null", b"5", b'"x"', b"[" * 100_000, b"\xff\xfe", bytes(1000), b"{" * 50_000)
        )
    if kind == 1:
        return chance.randbytes(chance.choice((1, 12, 300, 1 << 16)))
    asked = {
        name: chance.choice(VALUES)
        for name in ("take", "instrument", "curves", "name", "preset", "start_from", "steps")
    }
    if chance.random() < 0.6:
        asked |= {"take": "example", "instrument": chance.choice(("flute", "flute:0.5+violin:0.5")), "curves": ""}
    settings = {chance.choice(SETTINGS): chance.choice(VALUES) for _ in range(chance.randrange(1, 3))}
    asked["settings"] = settings if chance.random() < 0.8 else chance.choice(VALUES)
    return json.dumps(settings if path.startswith("api/presets") else asked).encode()


def request(studio: Studio, chance: random.Random) -> str:
    """Sends one request; returns its outcome."""
    method, path = chance.choice(ROUTES)
    while "{}" in path:
        path = path.replace("{}", quote(chance.choice(WORDS), safe="%" if chance.random() < 0.5 else "/\\"), 1)
    headers = {}
    if chance.random() < 0.2:
        name = chance.choice(
            ("Origin", "Host", "Sec_Fetch_Site", "Content_Type", "Range", "Cookie", "Content_Encoding", "Expect")
        )
        headers[name] = chance.choice(
            ("http://evil.example", "null", "cross-site", "x" * 5000, "bytes=-1", "bytes=0-,0-,0-", "gzip", "")
        )
    status, answer = studio.ask(method, path, body_of(path, chance) if method in {"POST", "PUT"} else b"", **headers)
    if b"inside ddsp" in answer or status >= 500:
        raise AssertionError(f"{method} {path}: {status} {answer[-200:]!r}")
    if b'"error"' in answer.splitlines()[-1:][0] if answer else False:
        return "sentence"
    return "done" if status < 400 else "sentence"


def bytes_on_the_line(studio: Studio, chance: random.Random) -> str:
    """Sends bytes that are not HTTP, or only half of a request."""
    path = f"/{studio.token}/api/takes?name=x.wav"
    whole = f"POST {path} HTTP/1.1\r\nHost: {studio.host}\r\nOrigin: {studio.origin}\r\n".encode()
    content = chance.choice(
        (
            b"",
            b"\0" * 100,
            b"\x16\x03\x01\x02\0",
            chance.randbytes(500),
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n",
            whole + b"Content-Length: 100000\r\n\r\nhalf",
            whole + b"Content-Length: -1\r\n\r\n",
            whole + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nx",
            whole + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
            whole + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
            whole + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
            whole * 50,
            whole[: chance.randrange(len(whole))],
            whole + b"Expect: 100-continue\r\nContent-Length: 10\r\n\r\n",
        )
    )
    try:
        answer = studio.raw(content)
    except ConnectionError:
        return "sentence"
    if b"HTTP/1.1 5" in answer:
        raise AssertionError(f"{content[:200]!r}: {answer[:200]!r}")
    return "sentence"


def frame(opcode: int, content: bytes, chance: random.Random) -> bytes:
    """Returns a WebSocket frame of a client."""
    mask, n = chance.randbytes(4), len(content)
    size = (
        bytes([0x80 | n])
        if n < 126
        else b"\xfe" + struct.pack(">H", n)
        if n < 1 << 16
        else b"\xff" + struct.pack(">Q", n)
    )
    return bytes([0x80 | opcode]) + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(content))


def live(studio: Studio, chance: random.Random) -> str:
    """Sends messages to the live line."""
    host, port = studio.host.split(":")
    rate = chance.choice(("48000", "44100", "0", "nan", "9" * 50, "", "-1"))
    with socket.create_connection((host, int(port)), timeout=HANG_S) as line:
        head = (
            f"GET /{studio.token}/live?rate={rate} HTTP/1.1\r\nHost: {studio.host}\r\nOrigin: {studio.origin}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(chance.randbytes(16)).decode()}\r\n\r\n"
        )
        line.sendall(head.encode())
        if b" 101 " not in line.recv(4096):
            raise AssertionError("the live line was not opened")
        said = b""
        with contextlib.suppress(ConnectionError):
            for _ in range(chance.randrange(1, 6)):
                kind = chance.randrange(6)
                block = (
                    struct.pack("<I", chance.randrange(2**32))
                    + np.float32(chance.choice((0.1, np.nan, np.inf, 1e30))).tobytes() * 512
                )
                wish = {
                    "instrument": chance.choice(("flute", *VALUES)),
                    "settings": chance.choice(({"transpose": chance.choice(VALUES)}, *VALUES)),
                }
                content = (json.dumps(wish).encode(), block, chance.randbytes(300), b"", b"[" * 50_000, bytes(100_000))[
                    kind
                ]
                line.sendall(frame(chance.choice((1, 2, 1, 2, 9, 3)), content, chance))
            line.sendall(frame(8, b"", chance))
            while part := line.recv(1 << 16):
                said += part
    if b"inside ddsp" in said:
        raise AssertionError(f"live: {said[-300:]!r}")
    return "sentence" if b"error" in said else "done"


def is_well(studio: Studio) -> bool:
    """Whether the server still answers."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return studio.ask("GET", "api/state")[0] == 200
    return False


def kill(folder: Path, chance: random.Random) -> str:
    """Kills the server while a file arrives; finished sounds have to be in the next one, and no half file."""
    studio = Studio(folder)
    kept = json.loads(studio.ask("POST", "api/takes?name=kept.wav", sound())[1])["id"]
    connection = studio.connect()
    content = sound(30.0)
    connection.putrequest("POST", f"/{studio.token}/api/takes?name=half.wav")
    connection.putheader("Origin", studio.origin)
    connection.putheader("Content-Length", str(len(content)))
    connection.endheaders(content[: len(content) // 2])
    time.sleep(chance.uniform(0.0, 0.2))
    studio.end()
    connection.close()
    after = Studio(folder)
    try:
        takes = json.loads(after.ask("GET", "api/state")[1])["takes"]
        names = [take["name"] for take in takes]
        return "done" if kept in [take["id"] for take in takes] and "half.wav" not in names else "lost"
    finally:
        after.end()


def main() -> int:
    """Prints a table of attacks and outcomes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=5)
    given = parser.parse_args()
    kinds = {"requests": (request, 0.75), "bytes on the line": (bytes_on_the_line, 0.15), "live": (live, 0.1)}
    found = {kind: Counter[str]() for kind in (*kinds, "kills")}
    with tempfile.TemporaryDirectory(prefix="ddsp-studio-attack-", ignore_cleanup_errors=True) as name:
        studio = Studio(Path(name))
        for kind, (attack, share) in kinds.items():
            for i in range(round(given.tries * share)):
                chance = random.Random(f"{given.seed}-{kind}-{i}")
                try:
                    outcome = attack(studio, chance)
                except TimeoutError:
                    outcome = "hang"
                except (AssertionError, OSError, http.client.HTTPException, ValueError) as problem:
                    outcome = "internal"
                    print(f"  {kind} {i}: {problem!r}"[:600], flush=True)
                if studio.memory_bytes() > MEMORY_BYTES:
                    outcome = "memory"
                if studio.process.poll() is not None or (i % 20 == 0 and not is_well(studio)):
                    print(f"  {kind} {i}: the server does not answer any more", flush=True)
                    outcome = "internal"
                if outcome in {"hang", "memory"} or studio.process.poll() is not None:
                    studio.end()
                    studio = Studio(Path(name))
                if outcome == "hang":
                    print(f"  {kind} {i}: hang", flush=True)
                found[kind][outcome] += 1
            found[kind]["sockets"] += len(studio.sockets())
        studio.end()
        for i in range(given.kills):
            found["kills"][kill(Path(name), random.Random(f"{given.seed}-kill-{i}"))] += 1
    print(f"| attack | tries | {' | '.join(OUTCOMES)} |\n|---|---|{'---|' * len(OUTCOMES)}")
    total = sum(found.values(), Counter())
    for kind, counter in (*found.items(), ("all", total)):
        tries = sum(counter[outcome] for outcome in OUTCOMES if outcome != "sockets")
        print(f"| {kind} | {tries} | {' | '.join(str(counter[outcome] or '') for outcome in OUTCOMES)} |", flush=True)
    return int(any(total[outcome] for outcome in OUTCOMES[2:]))


if __name__ == "__main__":
    sys.exit(main())
