"""Processor and clock time of a whole `ddsp transfer` in a new process, and their ratios to another version's.

python benchmarks/cold_start.py [--model models/flute] [--against OLD/src] [--against-model FOLDER] [--pairs 12]

`--against` is what PYTHONPATH holds for the other version: folders, separated as the system separates them. A folder in
front can hold another release of a library, installed with `pip install --target`. The two versions take turns, so that
both see the same machine; byte code is compiled before, as it is after an installation. Both play with the same seed.
For the code before the redesign, on the instrument that both know:

    git worktree add /tmp/old e2143c2
    pip install --target /tmp/typer --no-deps "typer>=0.29"
    python benchmarks/cold_start.py --model /tmp/old/models/flute --against /tmp/typer:/tmp/old/src
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import usage

ROOT = Path(__file__).parent.parent
VOICE = ROOT / "examples" / "voice.wav"


def measure(code: str, model: Path, folder: Path) -> tuple[float, float]:
    """Measures processor seconds of a transfer, and seconds by the clock.

    Args:
      code: PYTHONPATH, which holds the version to run.
      model: the instrument.
      folder: for the output, and for the byte code of all versions.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment = kept | {"PYTHONPATH": code, "PYTHONPYCACHEPREFIX": str(folder / "byte code")}
    words = [sys.executable, "-m", "ddsp_cli", "transfer", VOICE, "--model", model, "--seed", "3"]
    before_s, _ = usage.taken(children=True)
    start_s = time.perf_counter()
    subprocess.run([*words, "--out", folder / "out.wav", "--force"], check=True, capture_output=True, env=environment)
    clock_s = time.perf_counter() - start_s
    return usage.taken(children=True)[0] - before_s, clock_s


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Measure the cold start of a transfer.")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "flute", help="the instrument, a folder")
    parser.add_argument("--against", default="", metavar="PYTHONPATH", help="another version of the code")
    parser.add_argument("--against-model", type=Path, help="its instrument; by default the same")
    parser.add_argument("--pairs", type=int, default=12, help="runs of each version")
    options = parser.parse_args()
    versions = {"this version": (str(ROOT / "src"), options.model)}
    if options.against:
        versions["the other"] = (options.against, options.against_model or options.model)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in versions}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for code, model in versions.values():
            measure(code, model, folder)  # compiles what is imported
        for i in range(options.pairs):
            for version in list(versions)[:: 1 if i % 2 else -1]:
                times[version].append(measure(*versions[version], folder))
    for kind, name in enumerate(["processor", "clock"]):
        columns = {version: [one[kind] for one in taken] for version, taken in times.items()}
        for version, taken in columns.items():
            print(f"{name:<10}{version:<14}min {min(taken):.3f} s   median {statistics.median(taken):.3f} s")
        if len(columns) == 2:
            ours, others = columns.values()
            ratios = [a / b for a, b in zip(ours, others, strict=True)]
            print(
                f"{name:<10}{'ratio':<14}min {min(ours) / min(others):.3f}     median {statistics.median(ratios):.3f}"
            )


if __name__ == "__main__":
    main()
