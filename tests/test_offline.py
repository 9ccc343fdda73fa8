"""The real commands send no data, and write files only where requested.

Every command runs once with a home folder of its own, watched in two ways: by Python's audit hooks, which work on every
system and raise at the first use of the network (`watcher/sitecustomize.py`), and by strace, where it is installed,
which also sees what native libraries do.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ddsp_cli.config import dump_yaml
from fixtures import make_bundle, melody
from training_fixtures import small_preset

WATCHER = Path(__file__).parent / "watcher"
SOURCE = Path(__file__).resolve().parents[1] / "src"

#: Caches that are kept for the next time, below the home folder: the fonts that Matplotlib found, compiled steps.
CACHES = (
    ".cache/matplotlib", ".config/matplotlib", ".matplotlib", "AppData/Local/matplotlib",
    ".cache/ddsp/xla", "Library/Caches/ddsp/xla", "AppData/Local/ddsp/xla",
)  # fmt: skip


def works_strace() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode == 0


HAS_STRACE = works_strace()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with inputs of every command."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "home").mkdir()
    (folder / "tmp").mkdir()
    make_bundle(folder / "models" / "testophone")
    soundfile.write(folder / "voice.wav", melody(), 16000)
    (folder / "takes").mkdir()
    for i in range(2):
        soundfile.write(folder / "takes" / f"{i}.wav", np.tile(melody((57 + i, 60, 64)), 4), 16000)
    (folder / "small.yaml").write_text(dump_yaml(small_preset(validation_steps=5)), encoding="utf-8")
    return folder


#: Name → arguments, and the places that the command may write to. The order counts: some read what others wrote.
COMMANDS = {
    "models": (["models"], []),
    "transfer": (["transfer", "voice.wav", "--model", "testophone", "--out", "out.wav"], ["out.wav"]),
    "pictures": (["transfer", "voice.wav", "--model", "flute", "--out", "played", "--plot", "--report", "page.html",
                  "--controls", "curves.csv"], ["played", "page.html", "curves.csv"]),
    "curves": (["transfer", "--from-controls", "curves.csv", "--model", "flute", "--out", "again.wav"], ["again.wav"]),
    "blend": (["transfer", "voice.wav", "--model", "testophone:0.6+flute:0.4", "--ensemble", "2", "--out", "blend.wav",
               "--notes", "tune.csv"], ["blend.wav", "tune.csv"]),
    "notes": (["transfer", "voice.wav", "--model", "testophone", "--from-notes", "tune.csv", "--out", "edited.wav"],
              ["edited.wav"]),
    "chords": (["transfer", "voice.wav", "--model", "testophone", "--voices", "chords", "--out", "chords.wav"],
               ["chords.wav"]),
    "reverb": (["reverb", "voice.wav", "--room", "flute", "--out", "room.wav"], ["room.wav"]),
    "live": (["live", "--model", "testophone", "--input", "null", "--output", "null", "--seconds", "0.3", "--record",
              "take.wav"], ["take.wav"]),
    "prepare": (["prepare", "takes", "--name", "set", "--workers", "2"], ["datasets"]),
    "train": (["train", "--instrument", "new", "--dataset", "datasets/set", "--preset", "small.yaml", "--steps", "10"],
              ["models/new", "models/new.run"]),
    "evaluate": (["evaluate", "--model", "new", "--dataset", "datasets/set", "--out", "judged"], ["judged"]),
    "export vst": (["export", "--model", "flute", "--format", "vst", "--out", "vst"], ["vst"]),
    "export onnx": (["export", "--model", "testophone", "--format", "onnx", "--out", "onnx"], ["onnx"]),
    "export litert": (["export", "--model", "testophone", "--format", "litert", "--out", "litert"], ["litert"]),
    "export savedmodel": (["export", "--model", "flute", "--format", "savedmodel", "--out", "saved"], ["saved"]),
    "import": (["import", "vst/flute.tflite", "--name", "back"], ["models/back"]),
}  # fmt: skip

#: gRPC inside TensorFlow, and urllib3, open a socket to learn whether the system has IPv6, and close it unconnected.
#: urllib3 binds it to ::1, this computer.
PROBES = {"train", "export savedmodel"}

SLOW = {"train", "evaluate", "export savedmodel"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in COMMANDS]
)
def test_watched(desk, name):
    arguments, wanted = COMMANDS[name]
    command, environment = watched(desk, arguments)
    done = subprocess.run(command, cwd=desk, env=environment, capture_output=True, timeout=500)
    assert done.returncode == 0, done.stderr.decode()
    allowed = [desk / place for place in wanted] + [desk / "tmp"] + [desk / "home" / cache for cache in CACHES]
    network, written = seen(desk)
    if name in PROBES:
        network = [call for call in network if not is_probe(call)]
    assert network == []
    assert sorted(path for path in written if not is_allowed(Path(path), allowed, desk)) == []
    assert [path.name for path in (desk / "tmp").iterdir()] == []
    assert [path.name for path in desk.rglob(".ddsp*")] == []


def is_probe(call: str) -> bool:
    """Whether a use of the network only asks for IPv6: a socket, or its binding to any port of ::1."""
    binds = "bind" in call.split("(")[0].split(" ")[0] and "::1" in call and ("', 0)" in call or "htons(0)" in call)
    return call.startswith("socket(AF_INET6,") or binds


def watched(desk: Path, arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """A command line and an environment in which the command is watched."""
    log, trace = desk / "log", desk / "trace"
    log.write_text("", encoding="utf-8")
    trace.unlink(missing_ok=True)
    of_folders = ("XDG_", "MPL", "KERAS_", "DDSP_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(of_folders)}
    environment |= {
        "HOME": str(desk / "home"), "USERPROFILE": str(desk / "home"), "TMPDIR": str(desk / "tmp"),
        "TMP": str(desk / "tmp"), "TEMP": str(desk / "tmp"), "PYTHONPATH": os.pathsep.join([str(WATCHER), str(SOURCE)]),
        "DDSP_WATCH_LOG": str(log), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "ddsp_cli", *arguments]
    if HAS_STRACE:
        calls = (
            "socket,bind,connect,sendto,sendmsg,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat"
        )
        command = ["strace", "-f", "-qq", "-y", "-s", "4096", "-e", f"trace={calls}", "-o", str(trace), *command]
    return command, environment


def seen(desk: Path) -> tuple[list[str], set[str]]:
    """Uses of the network, and paths written to, of the last command that was watched."""
    network, written = hooks(desk / "log")
    if HAS_STRACE:
        seen_network, seen_written = system_calls(desk / "trace", desk)
        network, written = network + seen_network, written | seen_written
    return network, written


def test_studio_listens_on_the_loopback_and_opens_no_connection(desk):
    """This test requests the page, and plays a sound in it."""
    command, environment = watched(desk, ["studio", "--port", "0", "--no-browser"])
    process = subprocess.Popen(
        command, cwd=desk, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    try:
        address = process.stdout.readline().strip()
        origin = "/".join(address.split("/")[:3])

        def ask(path: str, body: bytes | None = None) -> bytes:
            request = urllib.request.Request(f"{address}{path}", body, {"Origin": origin})
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.read()

        assert b"<title>" in ask("")
        take = json.loads(ask("api/takes?name=voice.wav", (desk / "voice.wav").read_bytes()))["id"]
        played = ask("api/play", json.dumps({"take": take, "instrument": "testophone"}).encode())
        assert b'"done"' in played.splitlines()[-1]
        ask("api/quit", b"")
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    network, written = seen(desk)
    binds = [call for call in network if "bind" in call]
    assert binds and all("127.0.0.1" in call for call in binds)
    assert [call for call in network if call not in binds and not call.startswith(("socket(", "sendto("))] == []
    # Answers go to whom has connected (no address); nothing else is sent.
    assert [call for call in network if call.startswith("sendto(") and "sin_addr" in call] == []
    allowed = [desk / "home", desk / "tmp"]
    assert sorted(path for path in written if not is_allowed(Path(path), allowed, desk)) == []


def hooks(log: Path) -> tuple[list[str], set[str]]:
    """Uses of the network, and paths written to, that Python saw."""
    events = [line.split("\t", 1) for line in log.read_text(encoding="utf-8").splitlines()]
    network = [f"{event} {words}" for event, words in events if event.startswith("socket")]
    return network, {words for event, words in events if not event.startswith("socket")}


_PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')


def system_calls(trace: Path, desk: Path) -> tuple[list[str], set[str]]:
    """Uses of the network, and paths written to, that the system saw."""
    network: list[str] = []
    written: set[str] = set()
    for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
        _, _, call = line.partition(" ")
        call = call.strip()
        if re.search(r"AF_INET6?\b|AF_PACKET", call):
            network.append(call)
        name = call.partition("(")[0]
        writes = re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", call) or name not in {"open", "openat"}
        if name in {"socket", "bind", "connect", "sendto", "sendmsg"} or not writes or " = -1 " in call:
            continue
        paths = _PATH.findall(call)
        written |= {str(desk / path.encode().decode("unicode_escape")) for path in paths}
    return network, written


def is_allowed(path: Path, allowed: list[Path], desk: Path) -> bool:
    if path.is_relative_to("/dev") or path.is_relative_to("/proc") or path == desk / "log":
        return True
    if any(path.is_relative_to(place) or place.is_relative_to(path) for place in allowed):
        return True  # also the folders above, which are created
    # The hidden neighbours of a result while it is written, and locks.
    hidden = (
        next((part for part in path.relative_to(desk).parts if part.startswith(".")), "")
        if (path.is_relative_to(desk))
        else ""
    )
    return hidden.startswith((".ddsp-", ".set.preparing"))


def test_the_watcher_sees(tmp_path):
    """A process that connects and writes is found out: the test above can fail."""
    words = "import socket, pathlib; pathlib.Path('x').write_text(''); socket.create_connection(('127.0.0.1', 9))"
    environment = os.environ | {"PYTHONPATH": str(WATCHER), "DDSP_WATCH_LOG": str(tmp_path / "log")}
    command = [sys.executable, "-c", words]
    if HAS_STRACE:
        command = ["strace", "-f", "-qq", "-e", "trace=socket,openat,open", "-o", str(tmp_path / "trace"), *command]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 1
    assert b"may not use the network" in done.stderr
    network, written = hooks(tmp_path / "log")
    assert network and str(tmp_path / "x") in written
    if HAS_STRACE:
        _, written = system_calls(tmp_path / "trace", tmp_path)
        assert str(tmp_path / "x") in written
