"""How fast a transfer is: the whole command cold, as a user meets it, its parts warm, live, and an hour of sound.

python benchmarks/transfer.py [--model models/flute] [--minutes 60]

The recording is `examples/voice.wav` sung over and over. Columns:

    wall, cpu  seconds, of the fastest run
    speed      seconds of sound per second of processor
    memory     the most that the whole process holds, MB
"""

from __future__ import annotations

import argparse
import os

# As the command line does, and before NumPy is loaded: small products lose more by waking threads than they gain.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

import usage
from ddsp_cli import bundle
from ddsp_cli.adaptation.adapt import adapt
from ddsp_cli.analysis.extract import measure
from ddsp_cli.analysis.features import fill_f0
from ddsp_cli.audio import read
from ddsp_cli.live.performer import Performer
from ddsp_cli.synthesis.instrument import Instrument

ROOT = Path(__file__).parent.parent
VOICE = ROOT / "examples" / "voice.wav"

#: Sound is read in blocks of 10 s and played in blocks of 256 frames; a seam would lie within 75 ms of a border.
READ_S, PLAYED_FRAMES, SEAM_S = 10.0, 256, 0.075


def best_s(work: Callable[[], object], repeats: int = 3) -> tuple[float, float]:
    """Returns the wall and processor seconds of the fastest of some runs."""
    times = []
    for _ in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        work()
        times.append((time.perf_counter() - start, time.process_time() - start_cpu))
    return min(times)


def row(what: str, seconds: tuple[float, float], audio_s: float, note: str = "") -> None:
    """Formats one line of the table."""
    wall_s, cpu_s = seconds
    print(f"{what:<32}{wall_s:9.2f} s{cpu_s:9.2f} s{audio_s / cpu_s:9.1f} x  {note}", flush=True)


def recording(path: Path, seconds: float) -> Path:
    """Writes the voice, repeated to a length, as a file at its own rate."""
    once, rate_hz = soundfile.read(VOICE, dtype="float32")
    n_left = round(seconds * rate_hz)
    with soundfile.SoundFile(path, "w", rate_hz, 1) as file:
        while n_left > 0:
            file.write(once[:n_left])
            n_left -= len(once)
    return path


def command(source: Path, model: Path, out: Path, *options: str) -> tuple[float, float, float]:
    """Measures wall and processor seconds and peak memory in MB of the whole command."""
    words = [sys.executable, "-m", "ddsp_cli", "transfer", source, "--model", model, "--out", out, "--force", *options]
    (before_s, _), start = usage.taken(children=True), time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    wall_s, (after_s, peak_mb) = time.perf_counter() - start, usage.taken(children=True)
    # The children's peak only ever grows; runs go from short to long.
    return wall_s, after_s - before_s, peak_mb


def seams(path: Path, frame_rate_hz: int) -> tuple[float, int]:
    """Returns the share of block borders in a long sound that bend more than 95 % of other places, and their number.

    Where no border can be heard the share is 0.05.
    """
    places: dict[bool, list[float]] = {True: [], False: []}
    with soundfile.SoundFile(path) as file:
        rate_hz, length = file.samplerate, round(2 * SEAM_S * file.samplerate)
        borders = {round(k * READ_S * rate_hz) for k in range(1, int(file.frames / rate_hz / READ_S))}
        n_played = PLAYED_FRAMES * rate_hz // frame_rate_hz
        borders |= set(range(n_played, file.frames - length, n_played))
        at_borders = {max(border - length // 2, 0): True for border in borders}
        between = {start + n_played // 2: False for start in at_borders}
        starts = {start: which for start, which in (between | at_borders).items() if start + length <= file.frames}
        for start, is_border in sorted(starts.items()):
            file.seek(start)
            bend = np.abs(np.diff(file.read(length), 2))
            places[is_border].append(float(bend.max() / (np.median(bend) + 1e-5)))
    return float(np.mean(np.array(places[True]) > np.percentile(places[False], 95))), len(borders)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Measure how fast a transfer is.")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "flute")
    parser.add_argument("--minutes", type=float, default=0.0, help="also play so much as one file, and look for seams")
    options = parser.parse_args()

    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {options.model}")
    print(f"{'':<32}{'wall':>11}{'cpu':>11}{'speed':>11}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command(VOICE, options.model, folder / "out.wav")  # the first one compiles what is imported
        for seconds in (10.0, 60.0):
            source = recording(folder / f"{seconds:g}.wav", seconds)
            wall_s, cpu_s, peak_mb = min(command(source, options.model, folder / "out.wav") for _ in range(3))
            row(f"ddsp transfer, cold, {seconds:g} s", (wall_s, cpu_s), seconds, f"{peak_mb:.0f} MB")
        warm(options.model, read.read_mono(folder / "60.wav"))
        if options.minutes > 0:
            seconds = 60.0 * options.minutes
            source, out = recording(folder / "long.wav", seconds), folder / "long_out.wav"
            rate_hz, frame_rate_hz = rates(options.model)
            wall_s, cpu_s, peak_mb = command(source, options.model, out, "--sample-rate", str(rate_hz))
            sharp, n_borders = seams(out, frame_rate_hz)
            row(f"ddsp transfer, cold, {options.minutes:g} min", (wall_s, cpu_s), seconds, f"{peak_mb:.0f} MB")
            print(f"{'':<32}{sharp:.1%} of {n_borders} block borders bend more than 95 % of other places")


def rates(model: Path) -> tuple[int, int]:
    """Returns samples and frames a second of an instrument."""
    card = bundle.load(model).card
    return card.model.sample_rate_hz, card.model.frame_rate_hz


def warm(place: Path, voice: np.ndarray) -> None:
    """Measures the parts of a transfer of a voice [S] at 16 kHz once everything is loaded, and the same live."""
    audio_s = len(voice) / 16000
    instrument = Instrument(bundle.load(place))
    model, statistics = instrument.model, instrument.bundle.card.statistics
    features = measure(voice)
    frames = features.at(model.frame_rate_hz)
    level_db = getattr(frames, model.level)
    f0_hz = fill_f0(frames.f0_hz, level_db)

    def whole() -> object:
        adapted = adapt(measure(voice), statistics, model.level)
        return list(instrument.render(*adapted.at(model.frame_rate_hz), level_correction=True))

    row("warm: measure pitch and level", best_s(lambda: measure(voice)), audio_s)
    row("warm: fit to the instrument", best_s(lambda: adapt(features, statistics, model.level)), audio_s)
    row("warm: network and synthesis", best_s(lambda: list(instrument.render(f0_hz, level_db))), audio_s)
    row("warm: all of it", best_s(whole), audio_s)
    live = Performer(instrument)
    blocks = np.array_split(voice, len(voice) // 512)
    seconds = best_s(lambda: [live.push(block) for block in blocks], 1)
    note = f"{seconds[1] / audio_s:.1%} of one core, {1000 * live.latency_s:.1f} ms late"
    row("live, blocks of 512 samples", seconds, audio_s, note)


if __name__ == "__main__":
    main()
