"""How fast a transfer is: its parts warm, live, and the whole command cold, as a user meets it.

python benchmarks/transfer.py [--model models/flute] [--minutes 60]
"""

from __future__ import annotations

import argparse
import os

# As the command line does, and before NumPy is loaded: small products lose more by waking threads than they gain.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from ddsp_cli import bundle
from ddsp_cli.features import io
from ddsp_cli.features.extract import measure
from ddsp_cli.features.frames import hold_f0
from ddsp_cli.runtime.adapt import adapt
from ddsp_cli.runtime.instrument import Instrument
from ddsp_cli.runtime.performer import Performer

ROOT = Path(__file__).parent.parent
VOICE = ROOT / "examples" / "voice.wav"


def best_s(work: Callable[[], object], repeats: int = 3) -> tuple[float, float]:
    """Wall and processor seconds of the fastest of some runs."""
    times = []
    for _ in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        work()
        times.append((time.perf_counter() - start, time.process_time() - start_cpu))
    return min(times)


def row(what: str, seconds: tuple[float, float], audio_s: float, note: str = "") -> None:
    """One line of the report."""
    wall_s, cpu_s = seconds
    print(f"{what:<36} {wall_s:8.2f} s wall {cpu_s:8.2f} s cpu {audio_s / cpu_s:8.1f} x real time  {note}", flush=True)


def command(source: Path, model: Path, folder: Path) -> tuple[float, float, float]:
    """Wall and processor seconds and peak memory in MB of the whole command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = [
        sys.executable,
        "-m",
        "ddsp_cli",
        "transfer",
        source,
        "--model",
        model,
        "--out",
        folder / "out.wav",
        "--force",
    ]
    subprocess.run(words, check=True, capture_output=True)
    wall_s, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall_s, cpu_s, after.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure how fast a transfer is.")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "flute")
    parser.add_argument("--repeats", type=int, default=3, help="how often the voice is sung in a row, warm")
    parser.add_argument("--minutes", type=float, default=0.0, help="also play so much of it as one file")
    options = parser.parse_args()

    voice = np.tile(io.read_mono(VOICE), options.repeats)
    audio_s = len(voice) / 16000
    instrument = Instrument(bundle.load(options.model))
    model, statistics = instrument.model, instrument.bundle.card.statistics
    features = measure(voice)
    frames = features.at(model.frame_rate_hz)
    f0_hz, level_db = hold_f0(frames.f0_hz), getattr(frames, model.level)

    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {audio_s:.0f} s of voice, {options.model}")
    row("measure pitch and level", best_s(lambda: measure(voice)), audio_s)
    row("fit to the instrument", best_s(lambda: adapt(features, statistics, model.level)), audio_s)
    row("network and synthesis", best_s(lambda: list(instrument.render(f0_hz, level_db))), audio_s)
    live = Performer(instrument)
    blocks = np.array_split(voice, len(voice) // 512)
    row(
        "live, blocks of 512 samples",
        best_s(lambda: [live.push(block) for block in blocks], 1),
        audio_s,
        f"{1000 * live.latency_s:.1f} ms late",
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command(VOICE, options.model, folder)  # the first one compiles what is imported
        wall_s, cpu_s, peak_mb = min(command(VOICE, options.model, folder) for _ in range(3))
        row("ddsp transfer, whole process, cold", (wall_s, cpu_s), audio_s / options.repeats, f"peak {peak_mb:.0f} MB")
        if options.minutes > 0:
            once, rate_hz = soundfile.read(VOICE, dtype="float32")
            with soundfile.SoundFile(folder / "long.wav", "w", rate_hz, 1) as file:
                for _ in range(round(60 * options.minutes * rate_hz / len(once))):
                    file.write(once)
            wall_s, cpu_s, peak_mb = command(folder / "long.wav", options.model, folder)
            row(f"{options.minutes:g} minutes", (wall_s, cpu_s), 60 * options.minutes, f"peak {peak_mb:.0f} MB")


if __name__ == "__main__":
    main()
