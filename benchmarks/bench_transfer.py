"""How fast a transfer is: its parts warm, and the whole command cold, as a user meets it.

python benchmarks/bench_transfer.py [--model models/flute]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ddsp_cli import bundle
from ddsp_cli.features import io
from ddsp_cli.features.extract import measure
from ddsp_cli.features.frames import hold_f0
from ddsp_cli.runtime.instrument import Instrument

ROOT = Path(__file__).parent.parent
VOICE = ROOT / "examples" / "voice.wav"


def best_s(work: Callable[[], object], repeats: int = 3) -> float:
    """Wall time of the fastest of some runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def row(what: str, seconds: float, audio_s: float, note: str = "") -> None:
    """One line of the report."""
    print(f"{what:<40} {seconds:8.3f} s {audio_s / seconds:8.1f} x real time  {note}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure how fast a transfer is.")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "flute")
    parser.add_argument("--repeats", type=int, default=6, help="how often the voice is sung in a row, warm")
    options = parser.parse_args()

    voice = np.tile(io.read_mono(VOICE), options.repeats)
    audio_s = len(voice) / 16000
    instrument = Instrument(bundle.load(options.model))
    model = instrument.model
    features = measure(voice)
    frames = features.at(model.frame_rate_hz)
    f0_hz, level_db = hold_f0(frames.f0_hz), getattr(frames, model.level)

    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {audio_s:.0f} s of voice, {options.model}")
    row("measure pitch and level", best_s(lambda: measure(voice)), audio_s)
    row("network and synthesis", best_s(lambda: list(instrument.render(f0_hz, level_db))), audio_s)

    once_s = audio_s / options.repeats
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "ddsp_cli", "transfer", VOICE, "--model", options.model]
        start = time.perf_counter()
        subprocess.run([*command, "--out", Path(folder) / "out.wav"], check=True, capture_output=True)
        whole_s = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
    unit = "bytes" if sys.platform == "darwin" else "MB"
    row("ddsp transfer, whole process, cold", whole_s, once_s, f"peak {peak:.0f} {unit}")


if __name__ == "__main__":
    main()
