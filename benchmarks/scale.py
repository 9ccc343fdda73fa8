"""How `ddsp prepare` behaves with very many short files, and on how many workers.

    python benchmarks/scale.py files --n 30000        files a second, memory, a kill at half, resuming, training
    python benchmarks/scale.py plan --n 300000        only the lists: planning, split and manifest of so many recordings
    python benchmarks/scale.py workers                processor seconds for an hour of sound with 1, 2 and 4 workers

Memory is that of the coordinating process alone, resident, sampled ten times a second; the memory of a worker does not
depend on how many recordings there are.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import psutil
import soundfile

import usage
from small import PRESET

RATE_HZ = 16_000


def note(seconds: float, seed: int) -> np.ndarray:
    """Makes a note of random pitch with eight harmonics, [S]."""
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    f0_hz = 440.0 * 2.0 ** ((random.uniform(50, 82) - 69.0) / 12.0)
    sound = sum(np.sin(2 * np.pi * k * f0_hz * t) / k for k in range(1, 9) if k * f0_hz < RATE_HZ / 2)
    return 0.15 * sound * np.minimum(1.0, np.minimum(t, t[::-1]) / 0.02)


def synthesise(folder: Path, n: int, seconds: float) -> None:
    """Fills a folder with notes, 1000 in each folder below it, all different."""
    notes = []
    for seed in range(64):
        soundfile.write(folder.parent / "note.wav", note(seconds, seed), RATE_HZ, subtype="PCM_16")
        notes.append((folder.parent / "note.wav").read_bytes())
    for i in range(n):
        place = folder / f"{i // 1000:03}"
        if i % 1000 == 0:
            place.mkdir(parents=True)
        content = bytearray(notes[i % 64])
        content[44:48] = (i + 1).to_bytes(4, "little")  # two samples, so that no file is a copy of another
        (place / f"{i:06}.wav").write_bytes(content)


class Watch(threading.Thread):
    """Samples the resident memory of one process, and notes when so many recordings are done.

    Args:
      pid: of the process.
      parts: where the records of recordings appear.
      reached: a name for each number of recordings.
    """

    def __init__(self, pid: int, parts: Path, reached: dict[str, int]) -> None:
        super().__init__(daemon=True)
        self._process, self._begun = psutil.Process(pid), time.monotonic()
        self._parts, self._waiting = parts, reached
        self.peak_mb = self.cpu_s = 0.0
        self._workers_s: dict[int, float] = {}
        self.n_done = self._told = 0
        self.reached_s: dict[str, float] = {}
        self.curve: list[tuple[int, float]] = []

    def run(self) -> None:
        """Takes samples until the process ends."""
        counted_at, counting_s = 0.0, 0.0
        while True:
            try:
                mb = self._process.memory_info().rss / 1e6
                self.cpu_s = sum(self._process.cpu_times()[:2])
                children = self._process.children(recursive=True)
            except psutil.Error:
                return
            for child in children:
                with contextlib.suppress(psutil.Error):
                    self._workers_s[child.pid] = sum(child.cpu_times()[:2])
            self.peak_mb = max(self.peak_mb, mb)
            # To count takes long where there are many, and must not take time from what is measured.
            if time.monotonic() - counted_at > 50.0 * counting_s:
                counted_at, counting_s = time.monotonic(), -time.thread_time()
                self.n_done = n_done(self._parts)
                counting_s += time.thread_time()
                self.curve.append((self.n_done, mb))
                if self.n_done >= self._told + 10_000:
                    self._told = self.n_done
                    passed_s = time.monotonic() - self._begun
                    print(f"    {self.n_done} recordings, {passed_s:.0f} s; processor: coordinator {self.cpu_s:.0f} s, "
                          f"workers {self.workers_cpu_s:.0f} s; {mb:.1f} MB", flush=True)  # fmt: skip
                for name in [name for name, n in self._waiting.items() if self.n_done >= n]:
                    self.reached_s[name] = time.monotonic() - self._begun
                    del self._waiting[name]
            time.sleep(0.1)

    @property
    def workers_cpu_s(self) -> float:
        """Processor seconds of all workers, also of those that have ended."""
        return sum(self._workers_s.values())

    def table(self) -> str:
        """Prints memory over the number of recordings, for ten numbers."""
        rows = [min(self.curve, key=lambda row: abs(row[0] - k * self.curve[-1][0] / 10)) for k in range(1, 11)]
        return "; ".join(f"{n} recordings {mb:.0f} MB" for n, mb in dict(rows).items())


def n_done(parts: Path) -> int:
    """Counts the recordings that have a record."""
    try:
        return sum(entry.name.endswith(".json") for entry in os.scandir(parts))
    except OSError:
        return 0


def prepare(wavs: Path, out: Path, options: list[str]) -> subprocess.Popen[bytes]:
    """Starts the command."""
    command = [sys.executable, "-m", "ddsp_cli", "prepare", str(wavs), "--out", str(out), *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run_files(n: int, seconds: float, options: list[str], home: Path) -> None:
    """Runs a preparation that is killed at half and started again."""
    wavs, out = home / "wavs", home / "set"
    parts = home / ".set.preparing" / "parts"
    started = time.monotonic()
    synthesise(wavs, n, seconds)
    print(f"{n} files of {seconds} s synthesised in {time.monotonic() - started:.0f} s", flush=True)

    started = time.monotonic()
    run = prepare(wavs, out, options)
    watch = Watch(run.pid, parts, {"first": 1})
    watch.start()
    while watch.n_done < n // 2 and run.poll() is None:
        time.sleep(0.2)
    run.send_signal(signal.SIGKILL)
    run.wait()
    half_s, n_half = time.monotonic() - started, n_done(parts)
    planned_s = watch.reached_s["first"]
    print(f"| planning, start to first recording | {planned_s:.1f} s |")
    print(f"| measuring | {n_half / (half_s - planned_s):.0f} files/s |")
    print(f"| processor seconds, coordinator and workers | {watch.cpu_s:.0f} and {watch.workers_cpu_s:.0f} |")
    print(f"| killed after | {n_half} files, {half_s:.0f} s |")
    print(f"| memory of the coordinator | {watch.table()} |", flush=True)
    time.sleep(2.0)

    n_before = n_done(parts)
    started = time.monotonic()
    run = prepare(wavs, out, options)
    watch = Watch(run.pid, parts, {"new": n_before + 1, "all": n})
    watch.start()
    code = run.wait()
    total_s = time.monotonic() - started
    assert code == 0, code
    if "new" in watch.reached_s:
        print(f"| resumed: start to the first new recording | {watch.reached_s['new']:.1f} s |")
    if "all" in watch.reached_s:
        print(f"| split, statistics, shards, manifest, page | {total_s - watch.reached_s['all']:.0f} s |")
    print(f"| processor seconds, coordinator and workers | {watch.cpu_s:.0f} and {watch.workers_cpu_s:.0f} |")
    print(f"| memory of the coordinator | {watch.table()}; at most {watch.peak_mb:.0f} MB |")
    shards = list(out.glob("*.tfrecord*"))
    print(f"| data set | {sum(shard.stat().st_size for shard in shards) / 1e9:.2f} GB in {len(shards)} shards |")
    for name in ("dataset.yaml", "recordings.jsonl", "report.html"):
        if (out / name).exists():
            print(f"| {name} | {(out / name).stat().st_size / 1e6:.2f} MB |", flush=True)
    train_a_little(out, home)


def train_a_little(dataset: Path, home: Path) -> None:
    """Takes the first training steps of a tiny preset on a data set."""
    (home / "small.yaml").write_text(PRESET, encoding="utf-8")
    options = f"--from none --steps 50 --out {home / 'x'} --dataset {dataset} --preset {home / 'small.yaml'}".split()
    command = [sys.executable, "-m", "ddsp_cli", "train", "--instrument", "x", *options]
    (before_s, _), started = usage.taken(children=True), time.monotonic()
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    watch = Watch(run.pid, home / "none", {})
    watch.start()
    assert run.wait() == 0
    cpu_s = usage.taken(children=True)[0] - before_s
    wall_s = time.monotonic() - started
    print(f"| train, 50 steps | {wall_s:.0f} s, {cpu_s:.0f} processor seconds, {watch.peak_mb:.0f} MB |")


def run_plan(n: int, home: Path) -> None:
    """Makes the lists of n recordings: found, noted, split and listed, without any sound."""
    from ddsp_cli.config import FeatureSpec
    from ddsp_cli.dataset import build
    from ddsp_cli.dataset.build import list_recordings, manifest_entry
    from ddsp_cli.dataset.cache import CutRecording, Job
    from ddsp_cli.dataset.manifest import Manifest
    from ddsp_cli.dataset.sources import find

    wavs = home / "wavs"
    for i in range(n):
        place = wavs / f"{i // 1000:03}"
        if i % 1000 == 0:
            place.mkdir(parents=True)
        (place / f"{i:06}.wav").touch()
    process, marks = psutil.Process(), []

    def mark(what: str) -> None:
        marks.append((what, time.process_time(), process.memory_info().rss / 1e6))

    mark("start")
    ledger = find([wavs]).recordings
    mark("find files")
    spec = FeatureSpec()
    ledger.plan(lambda path, name: Job(path, name, home / "parts" / name, RATE_HZ, spec, measured=home))
    for i, job in enumerate(ledger.jobs()):
        ledger.note(CutRecording(job, f"{i:064x}", 4.0, 900 + i % 200, 3.0, 0.3, 0.3, parts={"a.frames": 1}))
    mark("note results")
    ledger.leave_out_copies()
    mark("find copies")
    ledger.set_validation(build.choose_validation(ledger.lengths, ledger.n_usable, 0.1))
    mark("choose validation")
    assert sum(1 for _ in ledger.split(validation=True)) > 0.08 * n
    mark("read split")
    shards = {"n_examples": 0, "used_s": 0.0, "shards": {}}
    statistics = {"pitch_midi": [60.0] * 101, "loudness_db": [0.0] * 101, "power_db": [0.0] * 101, "note_s": 1.0}
    manifest = msgspec.convert(
        {"format": 1, "name": "x", "created_with": "", "sample_rate_hz": RATE_HZ, "features": msgspec.to_builtins(spec),
         "statistics": statistics, "train": shards, "validation": shards, "recordings": []}, Manifest,
    )  # fmt: skip
    list_recordings(home, manifest, (manifest_entry(*row, False) for row in ledger.entries()))
    mark("list recordings")
    print(f"| {n} recordings | processor seconds | resident memory (MB) |\n|---|---|---|")
    for (_, before_s, _), (what, after_s, mb) in itertools.pairwise(marks):
        print(f"| {what} | {after_s - before_s:.1f} | {mb:.0f} |")


def run_workers(home: Path, minutes: float) -> None:
    """Measures processor and wall seconds with several workers, local and on a cluster of this machine."""
    wavs = home / "wavs"
    wavs.mkdir()
    for i in range(round(minutes * 60 / 10)):
        soundfile.write(wavs / f"{i:04}.wav", np.concatenate([note(1.0, 10 * i + k) for k in range(10)]), RATE_HZ)
    print("| workers | processor s for an hour of sound | wall s for an hour |\n|---|---|---|")
    for options in (["--workers", "1"], ["--workers", "2"], ["--workers", "4"],
                    ["--cluster", "local:1"], ["--cluster", "local:2"], ["--cluster", "local:4"]):  # fmt: skip
        before, started = os.times(), time.monotonic()
        code = prepare(wavs, home / "".join(options).replace(":", ""), [*options, "--name", "x", "--no-report"]).wait()
        after = os.times()
        assert code == 0
        cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
        scale = 60.0 / minutes
        print(f"| {' '.join(options)} | {cpu_s * scale:.0f} | {(time.monotonic() - started) * scale:.0f} |", flush=True)


def main() -> None:
    """Reads the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["files", "plan", "workers"])
    parser.add_argument("--n", type=int, default=30_000, help="recordings")
    parser.add_argument("--seconds", type=float, default=0.4, help="length of each")
    parser.add_argument("--minutes", type=float, default=10.0, help="sound for `workers`")
    parser.add_argument("--home", type=Path, help="where the files go; by default a temporary folder")
    options, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="ddsp-scale-", dir=options.home) as folder:
        if options.what == "files":
            run_files(options.n, options.seconds, more, Path(folder))
        elif options.what == "plan":
            run_plan(options.n, Path(folder))
        else:
            run_workers(Path(folder), options.minutes)


if __name__ == "__main__":
    main()
