"""Imports thousands of hostile files of every kind, and says how each ended.

    python benchmarks/attack_imports.py [--tries 1200] [--seed 0] [--jobs 2] [--code DIR] [--only KIND]

Each try is a folder, an archive or a file that is whole but for one part, which is an attack of `tests/hostile.py` or
damaged at random. `import_instrument` reads it in a process of its own, whose time and whose memory, with that of its
children, are watched. What reaches no native code is read by `importers.read`, without the child process that would
hide a crash. Ctrl-C prints the table so far. Outcomes:

    read      an instrument was written
    sentence  a `DdspError`
    internal  another exception, or the process ended: a defect
    hang      more than 30 s of processor time, or 60 s in all
    memory    more than 1.5 GB at once

Also counted: tries that left something behind. `--code` measures another checkout of the program: the folder that
holds its `ddsp_cli`. Ends with 1 where anything but `read` and `sentence` was counted; those tries are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
HANG_CPU_S, HANG_S = 30.0, 60.0
MEMORY_BYTES = 1_500_000_000
#: Kinds that reach native code, which may crash: they are imported as a user does, in a child process with limits.
NATIVE = {"whole", "TFLite", "TFLite unknown graph", "room", "archive"}
OUTCOMES = ("read", "sentence", "internal", "hang", "memory")


# --- what is imported --------------------------------------------------------------------------------


@dataclass
class Case:
    """An import: the kind of attack, its name, and the files of its folder.

    Attributes:
      kind, name: what is attacked, and how.
      files: by name.
      target: the file that is imported; the folder if empty.
      links: name → where it points.
      fifos: names.
    """

    kind: str
    name: str
    files: dict[str, bytes]
    target: str = ""
    links: dict[str, str] = field(default_factory=dict)
    fifos: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> Path:
        """Makes the folder; returns the path to import."""
        folder.mkdir(parents=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        for name, target in self.links.items():
            (folder / name).symlink_to(target)
        for name in self.fifos:
            os.mkfifo(folder / name)
        return folder / self.target


def cases(n_tries: int, seed: int) -> Iterator[Case]:
    """Yields every written attack once, and damaged files of all kinds until there are enough tries."""
    sys.path.insert(0, str(ROOT / "tests"))
    import hostile
    from ddsp_cli.exporters import vst
    from format_fixtures import STATISTICS, checkpoint_files, loudness_model, plugin_bundle, unknown_graph

    whole = checkpoint_files(loudness_model())
    index, numbers, config, statistics = whole
    with tempfile.TemporaryDirectory() as folder:
        vst.export(plugin_bundle(), Path(folder))
        exported = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    name = next(name for name in exported if name.endswith(".tflite"))
    model, room = exported[name], exported["reverb_ir_16000_hz.wav"]
    bare = model[: model.rindex(b"PK\x03\x04")]
    card = exported_card(name)
    metadata = json.dumps({"mean_min_pitch_note": 62.0, "mean_max_pitch_note": 81.0}).encode()
    small = {"x.tflite": bare, "reverb_ir_16000_hz.wav": room, "metadata.json": metadata, "card.yaml": card.encode()}

    yield Case("whole", "checkpoint", whole)
    yield Case("whole", "plug-in model", small)
    yield Case("whole", "unknown graph", {"x.tflite": unknown_graph()})
    yield Case("whole", "archive", {"x.zip": zipped(whole)}, "x.zip")
    n_written = 4
    for case in written_attacks(whole, small):
        yield case
        n_written += 1

    dice = random.Random(seed)
    graph = range(bare.rindex(b"main"), len(bare))
    unknown = unknown_graph()
    protocols = [pickle.dumps(STATISTICS, protocol) for protocol in range(6)]
    archive = zipped(whole)
    makers: list[Callable[[], Case]] = [
        lambda: Case("pickle", "damaged", whole | {statistics: damaged(dice.choice(protocols), dice)}),
        lambda: Case("gin", "damaged", whole | {config: damaged(whole[config], dice)}),
        lambda: Case("gin", "odd", whole | {config: hostile.odd_gin(whole[config].decode(), dice).encode()}),
        lambda: Case("TensorFlow index", "damaged", whole | {index: damaged(whole[index], dice)}),
        lambda: Case("TensorFlow index", "damaged entry", whole | {index: wild_index(whole, dice)}),
        lambda: Case("TensorFlow data", "damaged", whole | {numbers: damaged(whole[numbers], dice)}),
        lambda: Case("TFLite", "damaged graph", small | {"x.tflite": damaged(bare, dice, graph)}),
        lambda: Case("TFLite", "damaged", small | {"x.tflite": damaged(model, dice)}),
        lambda: Case("TFLite unknown graph", "damaged", {"x.tflite": damaged(unknown, dice, graph_of(unknown))}),
        lambda: Case("archive", "damaged", {"x.zip": damaged(archive, dice)}, "x.zip"),
        lambda: Case("metadata", "damaged", small | {"metadata.json": damaged(metadata, dice)}),
        lambda: Case("card", "damaged", small | {"card.yaml": damaged(card.encode(), dice)}),
        lambda: Case("room", "damaged", small | {"reverb_ir_16000_hz.wav": damaged(room, dice, range(200))}),
    ]
    for i in range(max(0, n_tries - n_written)):
        yield makers[i % len(makers)]()


def written_attacks(whole: dict[str, bytes], small: dict[str, bytes]) -> Iterator[Case]:
    """Yields the attacks of `tests/hostile.py`, and odd files in a folder."""
    import hostile
    from format_fixtures import checkpoint_files, loudness_model

    index, numbers, config, statistics = whole
    for name, content in hostile.pickle_attacks().items():
        yield Case("pickle", name, whole | {statistics: content})
    for name, text in hostile.gin_attacks().items():
        yield Case("gin", f"{name}, before", whole | {config: text.encode() + whole[config]})
        yield Case("gin", f"{name}, behind", whole | {config: whole[config] + text.encode()})
    for name, content in hostile.tflite_attacks(small["x.tflite"]).items():
        yield Case("TFLite", name, small | {"x.tflite": content})
    for name, content in hostile.heavy_graphs().items():
        yield Case("TFLite unknown graph", name, {"x.tflite": content})
    for name, content in hostile.metadata_attacks().items():
        yield Case("metadata", name, small | {"metadata.json": content})
    for name, content in hostile.card_attacks(small["card.yaml"].decode()).items():
        yield Case("card", name, small | {"card.yaml": content})
    place = "model/decoder/dense_out/dense/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    shapes = [(-16, 38), (-1,), (1 << 31, 1 << 31), (1 << 62,), (0,), (1,) * 300, (1 << 40, 0), (-(1 << 63), 2)]
    for shape in shapes:
        for size in (None, 0, 1 << 62, -4):
            entry = hostile.BundleEntry(shape, b"", size=size)
            files = checkpoint_files(loudness_model(), {place: entry})
            yield Case("TensorFlow index", f"shape {str(shape)[:40]} in {size} bytes", files)
    for name, target in (("zero", "/dev/zero"), ("random", "/dev/urandom"), ("terminal", "/dev/tty"),
                         ("itself", "{}"), ("nothing", "nowhere"), ("kernel log", "/proc/kmsg")):  # fmt: skip
        for part in (index, numbers, config, statistics):
            rest = {other: content for other, content in whole.items() if other != part}
            yield Case("odd files", f"{part} is a link to {name}", rest,
                       links={part: target.format(part)})  # fmt: skip
    for part in (index, numbers, config, statistics):
        rest = {other: content for other, content in whole.items() if other != part}
        yield Case("odd files", f"{part} is a FIFO", rest, fifos=[part])
        yield Case("odd files", f"{part} is empty", rest | {part: b""})
        yield Case("odd files", f"{part} is cut", rest | {part: whole[part][: len(whole[part]) // 2]})
    for part in ("x.tflite", "metadata.json", "reverb_ir_16000_hz.wav", "card.yaml"):
        rest = {other: content for other, content in small.items() if other != part}
        yield Case("odd files", f"{part} is a FIFO", rest, fifos=[part])
        yield Case("odd files", f"{part} is endless", rest, links={part: "/dev/zero"})
    for name, content in archives(whole).items():
        yield Case("archive", name, {"x.zip": content}, "x.zip")
    for name, content in rooms().items():
        yield Case("room", name, small | {"reverb_ir_16000_hz.wav": content})


def exported_card(name: str) -> str:
    """Returns a card as `ddsp export` writes it."""
    from ddsp_cli.config import dump_yaml, to_plain
    from format_fixtures import plugin_bundle

    return dump_yaml(
        {
            "exported_with": "ddsp 0.1.0",
            "format": "vst",
            "checks": {"controls_difference": 1e-6},
            "contract": {"x.tflite": {}, name: {}},
            "instrument": to_plain(plugin_bundle().card),
        }
    )


def wild_index(whole: dict[str, bytes], dice: random.Random) -> bytes:
    """Returns an index whose checksums are right, with one entry of random numbers."""
    import hostile
    from format_fixtures import checkpoint_files, loudness_model

    sizes = (0, 1, 4, 16, -1, -4, 1 << 31, 1 << 40, 1 << 62, (1 << 63) - 1, -(1 << 63))
    shape = tuple(dice.choice(sizes) for _ in range(dice.randrange(5)))
    entry = hostile.BundleEntry(
        shape, bytes(4), dice.choice((0, 1, 1, 1, 2, 7, 99)), dice.choice((0, 0, 0, 1, -1)),
        dice.choice(sizes), dice.choice(sizes), dice.choice((None, 0)), dice.random() < 0.1,
    )  # fmt: skip
    place = "model/decoder/dense_out/dense/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    return checkpoint_files(loudness_model(), {place: entry})["ckpt-300.index"]


def zipped(files: dict[str, bytes], prefix: str = "solo/") -> bytes:
    """Returns a ZIP archive of files."""
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(prefix + name, content)
    return buffer.getvalue()


def archives(whole: dict[str, bytes]) -> dict[str, bytes]:
    """Yields hostile archives, by the attack."""
    link = zipfile.ZipInfo("ckpt-300.index")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    bomb = zipped({**whole, "ckpt-300.data-00000-of-00001": bytes(150 << 20)})
    return {
        "a bomb of 150 MB": bomb,
        "names that leave": zipped(whole, "../../"),
        "absolute names": zipped(whole, "/tmp/"),
        "a link": buffer.getvalue(),
        "20,000 members": zipped({f"{i}.gin": b"" for i in range(20_000)}),
        "an archive in an archive": zipped({"x.zip": zipped(whole)}),
        "zip64 that lies": zipped(whole).replace(b"PK\x01\x02", b"PK\x01\x02", 1)[:-10],
    }


def rooms() -> dict[str, bytes]:
    """Yields hostile impulse responses, by the attack."""
    import io

    import soundfile

    def wav(samples: np.ndarray, rate: int = 16000) -> bytes:
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, rate, format="WAV", subtype="FLOAT")
        return buffer.getvalue()

    long = bytearray(wav(np.zeros(100, np.float32)))
    at = long.index(b"data")
    long[at + 4 : at + 8] = b"\xf0\xff\xff\x7f"
    return {
        "NaN": wav(np.full(1000, np.nan, np.float32)),
        "infinity": wav(np.full(1000, np.inf, np.float32)),
        "an hour": wav(np.zeros(16000 * 60, np.float32), 16000),
        "another rate": wav(np.zeros(1000, np.float32), 48000),
        "stereo": wav(np.zeros((1000, 2), np.float32)),
        "empty": wav(np.zeros(0, np.float32)),
        "a length that lies": bytes(long),
        "text": b"no sound at all",
    }


def graph_of(data: bytes) -> range:
    """Finds the graph in a TFLite file of ours."""
    return range(data.rindex(b"main"), len(data))


def damaged(data: bytes, dice: random.Random, where: range | None = None) -> bytes:
    """Changes, inserts, cuts out or repeats some bytes."""
    found = bytearray(data)
    places = where or range(len(found))
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        at = min(dice.choice(places), max(len(found) - 1, 0))
        kind = dice.randrange(7)
        if kind == 0:
            found[at : at + 1] = bytes([dice.randrange(256)])
        elif kind == 1:
            piece = dice.choice((b"\xff\xff\xff\xff", bytes(4), b"\0\0\0\x80", b"\xff\xff\xff\x7f", b"\1", b"\xff"))
            found[at : at + len(piece)] = piece
        elif kind == 2 and found:
            found[at] ^= 1 << dice.randrange(8)
        elif kind == 3:
            del found[at : at + dice.randrange(1, 9)]
        elif kind == 4:
            found[at:at] = found[at : at + dice.randrange(1, 65)]
        elif kind == 5:
            found[at:at] = dice.randbytes(4)
        elif dice.randrange(4) == 0:
            del found[at:]
    return bytes(found)


# --- the process that imports ------------------------------------------------------------------------


def serve() -> None:
    """Reads lines of JSON with `path` and `out`, imports, and answers with a line each."""
    from ddsp_cli import importers
    from ddsp_cli.errors import DdspError
    from ddsp_cli.workflows.import_ import import_instrument

    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if order["inside"] and hasattr(importers, "read"):
                importers.read(Path(order["path"]))
            else:
                import_instrument(Path(order["path"]), "x", out=Path(order["out"]))
            reply = ["read", ""]
        except DdspError as problem:
            reply = ["sentence", problem.message]
        except BaseException:
            reply = ["internal", traceback.format_exc()]
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


class Runner:
    """A process that imports, started again when it ends or has to be ended."""

    def __init__(self, code: Path) -> None:
        self._code = code
        self._process: subprocess.Popen[str] | None = None

    def run(self, path: Path, out: Path, inside: bool) -> tuple[str, str, float, int]:
        """Imports a file; returns outcome, text, processor seconds and the most memory."""
        process = self._process = self._process if self._process and self._process.poll() is None else self._start()
        watched = psutil.Process(process.pid)
        before_s, started, most_bytes = cpu_s(watched), time.monotonic(), 0
        lines: queue.Queue[str] = queue.Queue()
        assert process.stdin is not None
        assert process.stdout is not None
        stdout = process.stdout
        threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
        process.stdin.write(json.dumps({"path": str(path), "out": str(out), "inside": inside}) + "\n")
        process.stdin.flush()
        while True:
            with contextlib.suppress(queue.Empty):
                line = lines.get(timeout=0.02)
                used_s = cpu_s(watched) - before_s
                if not line:
                    return "internal", f"ended with {process.wait()}", used_s, most_bytes
                outcome, text = json.loads(line)
                return outcome, text, used_s, most_bytes
            most_bytes = max(most_bytes, memory_bytes(watched))
            used_s = cpu_s(watched) - before_s
            if most_bytes > MEMORY_BYTES:
                self.close()
                return "memory", f"{most_bytes / 1e9:.1f} GB", used_s, most_bytes
            if used_s > HANG_CPU_S or time.monotonic() - started > HANG_S:
                self.close()
                return "hang", f"{used_s:.0f} s of processor time", used_s, most_bytes

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": str(self._code), "TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def close(self) -> None:
        """Ends it and its children."""
        if self._process is not None:
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(self._process.pid).children(recursive=True):
                    child.kill()
            self._process.kill()
            self._process.wait()


def memory_bytes(process: psutil.Process) -> int:
    """Returns the resident memory of a process and its children."""
    total = 0
    with contextlib.suppress(psutil.Error):
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += one.memory_info().rss
    return total


def cpu_s(process: psutil.Process) -> float:
    """Returns the processor time of a process and its children, those that have ended included."""
    try:
        times = process.cpu_times()
        total = times.user + times.system + times.children_user + times.children_system
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                own = child.cpu_times()
                total += own.user + own.system
    except psutil.Error:
        return 0.0
    return total


# --- all together ------------------------------------------------------------------------------------


def main() -> int:
    """Runs all tries and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tries", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--code", type=Path, default=ROOT / "src", help="Folder with the ddsp_cli that is attacked.")
    parser.add_argument("--only", default="", help="A kind of attack.")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return 0
    keep = Path(tempfile.mkdtemp(prefix="attack-imports-"))
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    longest_s: dict[str, float] = defaultdict(float)
    most_bytes: dict[str, int] = defaultdict(int)
    found: list[str] = []
    lock = threading.Lock()
    stopped: list[bool] = []
    orders = enumerate(case for case in cases(options.tries, options.seed) if options.only in case.kind)

    def work() -> None:
        runner = Runner(options.code)
        while True:
            with lock:
                order = None if stopped else next(orders, None)
            if order is None:
                runner.close()
                return
            number, case = order
            folder = keep / f"{number}"
            path = case.write(folder / "in")
            names = {entry.name for entry in (folder / "in").iterdir()}
            outcome, text, used_s, used_bytes = runner.run(path, folder / "out" / "x", case.kind not in NATIVE)
            left = {entry.name for entry in folder.iterdir()} - {"in", "out"}
            left |= {entry.name for entry in (folder / "in").iterdir()} - names
            if outcome != "read" and (folder / "out").exists():
                left |= {entry.name for entry in (folder / "out").iterdir()}
            with lock:
                outcomes[case.kind][outcome] += 1
                outcomes[case.kind]["left behind"] += bool(left)
                longest_s[case.kind] = max(longest_s[case.kind], used_s)
                most_bytes[case.kind] = max(most_bytes[case.kind], used_bytes)
                if outcome not in {"read", "sentence"} or left:
                    last = (text.strip().splitlines() or [""])[-1][:150]
                    found.append(f"{number}: {case.kind}, {case.name}: {outcome}: {last} {sorted(left) or ''}")
                    print(found[-1], flush=True)
                else:
                    shutil.rmtree(folder)

    threads = [threading.Thread(target=work) for _ in range(options.jobs)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        stopped.append(True)
        for thread in threads:
            thread.join()
    columns = (*OUTCOMES, "left behind")
    print(f"\n{'attack':22}{'tries':>7}" + "".join(f"{column:>13}" for column in columns) + f"{'CPU s':>8}{'MB':>7}")
    total: Counter[str] = Counter()
    for kind, counts in sorted(outcomes.items()):
        total.update(counts)
        tries = sum(counts[outcome] for outcome in OUTCOMES)
        row = "".join(f"{counts[column]:>13}" for column in columns)
        print(f"{kind:22}{tries:>7}{row}{longest_s[kind]:>8.1f}{most_bytes[kind] / 1e6:>7.0f}")
    tries = sum(total[outcome] for outcome in OUTCOMES)
    print(f"{'total':22}{tries:>7}" + "".join(f"{total[column]:>13}" for column in columns))
    if found:
        print(f"\nThe tries that failed are in {keep}.")
        return 1
    shutil.rmtree(keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
