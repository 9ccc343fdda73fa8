"""How fast `ddsp prepare` is, and how much memory all its processes take together.

    python benchmarks/prepare.py                    10 minutes of synthetic melodies
    python benchmarks/prepare.py --hours 3 --rate 48000 --files 1
    python benchmarks/prepare.py FOLDER...          recordings of your own

Memory is the sum over the command and its workers, sampled ten times a second: resident (shared pages counted for
each process) and, where Linux tells, proportional (shared pages counted once). CPU seconds do not depend on what else
the machine does; wall seconds do.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import soundfile

from ddsp_cli.audio import read


def melody(rate_hz: int, seconds: float, seed: int) -> np.ndarray:
    """Makes notes of random pitch and level with vibrato and rests, a little noise under it, [S] float32."""
    random = np.random.default_rng(seed)
    parts: list[np.ndarray] = []
    length = 0
    while length < seconds * rate_hz:
        t = np.arange(round(random.uniform(0.2, 1.2) * rate_hz)) / rate_hz
        f0_hz = 440 * 2 ** ((random.uniform(50, 82) - 69 + 0.2 * np.sin(2 * np.pi * 5.5 * t)) / 12)
        phase = 2 * np.pi * np.cumsum(f0_hz) / rate_hz
        tone = sum(np.sin(k * phase) / k for k in range(1, 7))
        fade = np.minimum(1, np.minimum(t, t[::-1]) / 0.03)
        parts += [random.uniform(0.02, 0.3) * tone * fade, np.zeros(round(random.uniform(0.05, 0.4) * rate_hz))]
        length += len(parts[-1]) + len(parts[-2])
    sound = np.concatenate(parts)[: round(seconds * rate_hz)]
    return (sound + 1e-3 * random.normal(size=len(sound))).astype(np.float32)


def synthesise(folder: Path, hours: float, n_files: int, rate_hz: int) -> None:
    """Fills a folder with recordings; a minute of melody is repeated in each, at ever new levels."""
    for i in range(n_files):
        minute = melody(rate_hz, 60.0, i)
        n_left = round(hours * 3600 / n_files * rate_hz)
        with soundfile.SoundFile(folder / f"take {i:04}.flac", "w", rate_hz, 1, "PCM_16") as file:
            step = 0
            while n_left > 0:
                file.write(minute[:n_left] * (0.6 + 0.1 * (step % 5)))
                n_left -= len(minute)
                step += 1


class Watch(threading.Thread):
    """Samples the memory of a process and all below it."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.resident, self.proportional, self.ended = pid, 0, 0, False

    def run(self) -> None:
        """Runs until `ended` is set."""
        while not self.ended and Path("/proc").is_dir():
            family = self._family()
            self.resident = max(self.resident, sum(self._kb(pid, "smaps_rollup", "Rss:") for pid in family))
            self.proportional = max(self.proportional, sum(self._kb(pid, "smaps_rollup", "Pss:") for pid in family))
            time.sleep(0.1)

    def _family(self) -> list[int]:
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                except (OSError, ValueError, IndexError):
                    continue
        family = [self.pid]
        for pid in family:
            family += [child for child, parent in parents.items() if parent == pid]
        return family

    @staticmethod
    def _kb(pid: int, file: str, key: str) -> int:
        try:
            lines = Path(f"/proc/{pid}/{file}").read_text(encoding="ascii").splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith(key)), 0)


def main() -> None:
    """Prepares and prints one line of figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--hours", type=float, default=1 / 6)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--rate", type=int, default=44100)
    parser.add_argument("--options", default="", help="for ddsp prepare, for example '--sample-rate 48000'")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folders = [folder.resolve() for folder in given.folders]
        if not folders:
            folders = [Path(place) / "takes"]
            folders[0].mkdir()
            synthesise(folders[0], given.hours, given.files, given.rate)
        seconds = sum(read.probe(path).seconds for path in read.list_audio(folders))
        command = [sys.executable, "-m", "ddsp_cli", "prepare", *map(str, folders), "--name", "bench",
                   "--out", str(Path(place) / "set"), *given.options.split()]  # fmt: skip
        before = os.times()
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        watch = Watch(process.pid)
        watch.start()
        said, complaints = process.communicate()
        wall_s = time.monotonic() - start
        watch.ended = True
        after = os.times()
        if process.returncode:
            sys.exit(complaints)
        cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
        size = sum(path.stat().st_size for path in (Path(place) / "set").rglob("*") if path.is_file())
    print(said)
    print(
        f"{seconds:.0f} s of sound in {wall_s:.1f} s: {seconds / wall_s:.0f} a second; "
        f"CPU {cpu_s:.1f} s: {seconds / cpu_s:.0f} for each of its seconds; memory of all processes at most "
        f"{watch.resident / 1024:.0f} MB resident, {watch.proportional / 1024:.0f} MB proportional; "
        f"{size / 1e6:.0f} MB written"
    )


if __name__ == "__main__":
    main()
