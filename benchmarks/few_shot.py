"""How good an instrument gets from few recordings, and how soon.

    python benchmarks/few_shot.py RECORDINGS (--hold-out PATTERN... | --dataset DIR) [--seconds 10,30,60,120,300,600]
                                  [--from none,NEAREST,base] [--also NAME...] [--steps N] [--preset P] [--scale]
                                  [--sample-rate HZ] [--csv FILE] [--plot FILE] [--keep DIR]

RECORDINGS is a folder of sound files of one instrument. Those that --hold-out matches are what every instrument is
judged by; with --dataset it is the validation split of a prepared data set of them, and the recordings of its training
split are taken, at the levels that they have there. From the others so many seconds are taken, in an order drawn with
--seed, the last one cut; 30 s hold the 10 s. With --scale single notes are taken, evenly spread over their range, in
turn loud and soft, as a player would record them for this purpose; the held-out recordings have no part in the choice.
For each length, and each instrument to begin with ("none": from nothing),
`ddsp prepare` and `ddsp train` run as a user runs them. --also judges trained instruments by the same recordings.

Leaving an instrument out of the base:

    python models/recipes/make_base.py datasets/* --leave-out violin --out models/no_violin
    python benchmarks/few_shot.py AUDIO/violin --dataset datasets/violin --seconds 30 \
        --from models/no_violin,none,cello --also violin

Columns:

    prepare_s, train_s  wall time of both commands, start of Python and TensorFlow included
    cpu_s       CPU time of both; on a machine with other work it says more
    loss        multi-scale spectral loss at 16 kHz on the held-out recordings; this and the next as `ddsp evaluate`
    in_tune     share of their frames within 50 cents
    level_db    mean error of the level
    noise_db    how much more noise there is between the harmonics than in the recordings
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePath

import numpy as np
import soundfile

from ddsp_cli.analysis.extract import measure
from ddsp_cli.audio import read
from ddsp_cli.bundle import Bundle
from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.dataset import loader
from ddsp_cli.dataset.loader import Dataset
from ddsp_cli.dataset.manifest import iter_recordings, load_manifest
from ddsp_cli.scaling import hz_to_midi
from ddsp_cli.workflows import models
from ddsp_cli.workflows.evaluate import resynthesise

#: Rate of the cut recordings.
RATE_HZ = 48000

#: A single note: a recording of at most this length whose pitches (10th to 90th percentile) lie within this range.
LONGEST_NOTE_S, NOTE_SEMITONES = 6.0, 0.8

#: From so many notes nearest in pitch the loudest or the softest is taken.
N_NEAR = 5


@dataclass(frozen=True)
class Result:
    """One training and its results; see the head of this file."""

    seconds: float
    start: str
    prepare_s: float
    train_s: float
    cpu_s: float
    loss: float
    in_tune: float
    level_db: float
    noise_db: float

    @property
    def total_s(self) -> float:
        """Wall time of both commands."""
        return self.prepare_s + self.train_s


def is_held_out(path: PurePath, patterns: Sequence[str]) -> bool:
    """Whether a pattern of `ddsp prepare --hold-out` matches a file."""
    return any(path.match(pattern) for pattern in patterns)


def take(paths: Sequence[Path], seconds: float, folder: Path, gains_db: Mapping[Path, float] | None = None) -> float:
    """Copies the first recordings that make up so many seconds; the last is cut.

    Args:
      paths: of the recordings.
      seconds: in all.
      folder: where they are written, as FLAC with 24 bits.
      gains_db: added to the level of each; None for none.

    Returns:
      How many seconds there were.
    """
    folder.mkdir(parents=True)
    left = round(seconds * RATE_HZ)
    for i, path in enumerate(paths):
        if left <= 0:
            break
        audio = read.read_mono(path, RATE_HZ)[:left]
        if gains_db is not None:
            audio = np.clip(audio * np.float32(10.0 ** (gains_db[path] / 20.0)), -1.0, 1.0)
        soundfile.write(folder / f"{i:03d}_{path.stem}.flac", audio, RATE_HZ, subtype="PCM_24")
        left -= len(audio)
    return seconds - left / RATE_HZ


def choose_scale(paths: Sequence[Path], seconds: float, gains_db: Mapping[Path, float] | None) -> list[Path]:
    """Chooses single notes evenly spread over their range, in turn loud and soft.

    Args:
      paths: of the recordings; those with one held pitch and at most `LONGEST_NOTE_S` long are single notes.
      seconds: in all.
      gains_db: as for `take`.

    Returns:
      Recordings from the lowest to the highest note, about so many seconds.

    Raises:
      SystemExit: there are no single notes.
    """
    notes: list[tuple[float, float, Path]] = []
    lengths = []
    for path in paths:
        if soundfile.info(path).duration > LONGEST_NOTE_S:
            continue
        found = measure(read.read_mono(path, ANALYSIS_RATE_HZ))
        pitches = hz_to_midi(found.f0_hz[found.f0_hz > 0.0])
        if len(pitches) and np.ptp(np.percentile(pitches, [10, 90])) < NOTE_SEMITONES:
            gain_db = 0.0 if gains_db is None else gains_db[path]
            notes.append((float(np.median(pitches)), float(found.power_db.max()) + gain_db, path))
            lengths.append(len(found.f0_hz) / found.spec.frame_rate_hz)
    if not notes:
        raise SystemExit("there are no single notes among these recordings")
    chosen: list[Path] = []
    n = min(len(notes), math.ceil(seconds / float(np.median(lengths))))
    for i, pitch in enumerate(np.linspace(min(notes)[0], max(notes)[0], n)):
        near = sorted((note for note in notes if note[2] not in chosen), key=lambda note: abs(note[0] - pitch))[:N_NEAR]
        loudest = max if i % 2 == 0 else min
        chosen.append(loudest(near, key=lambda note: note[1])[2])
    return chosen


def of_training(paths: Sequence[Path], dataset: Path) -> dict[Path, float]:
    """Finds the recordings of the training split of a data set by their names, and its changes of their levels, dB."""
    recordings = iter_recordings(dataset, load_manifest(dataset))
    gains_db = {PurePath(r.path).name: r.gain_db for r in recordings if r.split == "train" and r.note_s > 0}
    return {path: gains_db[path.name] for path in paths if path.name in gains_db}


def judged(
    held: Dataset, loaded: Bundle, seconds: float, start: str, times_s: tuple[float, float, float] = (math.nan,) * 3
) -> Result:
    """Judges an instrument by the validation split of a data set."""
    found = resynthesise(loaded, held).figures()
    return Result(seconds, start, *times_s, found["spectral_loss"], found["pitch_within_50_cents"],
                  found["loudness_error_db"], found.get("noise_balance_db", math.nan))  # fmt: skip


def show(result: Result) -> None:
    """Prints a row."""
    values = asdict(result).values()
    print("".join(f"{v:>12.3f}" if isinstance(v, float) else f"{v:>12}" for v in values), flush=True)


def run(*words: object) -> tuple[float, float]:
    """Runs a command of ddsp; returns its wall and its CPU time in seconds.

    Raises:
      SystemExit: it failed; with what it said.
    """
    started, before = time.perf_counter(), os.times()
    command = [sys.executable, "-m", "ddsp_cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        raise SystemExit(f"ddsp {' '.join(map(str, words))} failed:\n{done.stderr[-2000:]}")
    after = os.times()  # on Windows it does not count children
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, cpu_s


def draw(path: Path, results: Sequence[Result]) -> None:
    """Draws loss and share in tune against the seconds of recordings, a line for each start."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, 2), ("loss", "in_tune"), strict=True):
        for start in dict.fromkeys(result.start for result in results):
            own = [result for result in results if result.start == start]
            axes.semilogx([r.seconds for r in own], [getattr(r, name) for r in own], "o-", label=f"from {start}")
        axes.set(xlabel="seconds of recordings", ylabel=name)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Measure how good an instrument gets from few recordings.")
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--hold-out", action="append", default=[], metavar="PATTERN")
    parser.add_argument("--dataset", type=Path, help="judge by its validation split, take its training recordings")
    parser.add_argument("--also", action="append", default=[], metavar="NAME", help="judge this instrument too")
    parser.add_argument("--leave-out", action="append", default=[], metavar="PATTERN")
    parser.add_argument("--seconds", default="10,30,60,120,300,600")
    parser.add_argument("--from", dest="starts", default="none", help="comma-separated: none, base, names, folders")
    parser.add_argument("--steps", type=int, help="of a training; by default those of the preset")
    parser.add_argument("--preset")
    parser.add_argument("--sample-rate", type=int, help="of the data sets; by default that of ddsp prepare")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the recordings")
    parser.add_argument("--scale", action="store_true", help="take single notes over the range, in turn loud and soft")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--keep", type=Path, help="keep recordings, data sets and instruments in this new folder")
    options = parser.parse_args()
    lengths = [float(word) for word in options.seconds.split(",")]
    paths = read.list_audio([options.recordings])
    if bool(options.hold_out) == (options.dataset is not None):
        parser.error("give either --hold-out or --dataset")
    if options.dataset is not None:
        gains_db = of_training(paths, options.dataset)
        usable = list(gains_db)
    else:
        gains_db = None
        usable = [path for path in paths if not is_held_out(path, [*options.hold_out, *options.leave_out])]
    if not usable:
        parser.error("every recording is held out")
    np.random.default_rng(options.seed).shuffle(usable)
    with tempfile.TemporaryDirectory() as temporary:
        place = options.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        rate = [] if options.sample_rate is None else ["--sample-rate", options.sample_rate]
        held = options.dataset
        if held is None:
            held = place / "held"
            patterns = [word for pattern in options.hold_out for word in ("--hold-out", pattern)]
            patterns += [word for pattern in options.leave_out for word in ("--leave-out", pattern)]
            run("prepare", options.recordings, "--name", "held", "--out", held, "--no-report", *rate, *patterns)
        judge = loader.load(held)
        results = []
        print("".join(f"{field.name:>12}" for field in fields(Result)), flush=True)
        for seconds in lengths:
            name = f"{seconds:g}s"
            order = choose_scale(usable, seconds, gains_db) if options.scale else usable
            taken_s = take(order, seconds, place / "recordings" / name, gains_db)
            if taken_s < seconds - 1.0:
                print(f"there are only {taken_s:.0f} s of recordings", file=sys.stderr)
            data = place / "datasets" / name
            prepare_s, prepare_cpu_s = run(
                "prepare", place / "recordings" / name, "--name", "few", "--out", data, *rate
            )
            for start in options.starts.split(","):
                out = place / "models" / f"{name}_{PurePath(start).name}"
                words = ["--instrument", "few", "--dataset", data, "--out", out, "--from", start]
                words += ["--steps", options.steps] if options.steps else []
                # an instrument to begin with brings its own model
                words += ["--preset", options.preset] if options.preset and start == "none" else []
                train_s, train_cpu_s = run("train", *words)
                times_s = (prepare_s, train_s, prepare_cpu_s + train_cpu_s)
                result = judged(judge, models.open_at(out), taken_s, PurePath(start).name, times_s)
                results.append(result)
                show(result)
        for name in options.also:
            loaded = models.open_at(models.find_playable(name))
            result = judged(judge, loaded, loaded.card.training.audio_s, f"({name})")
            results.append(result)
            show(result)
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream)
            table.writerow([field.name for field in fields(Result)])
            table.writerows(asdict(result).values() for result in results)
    if options.plot:
        draw(options.plot, results)


if __name__ == "__main__":
    main()
