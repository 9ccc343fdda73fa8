"""Measure the quality of a transfer: one row of figures per recording.

python benchmarks/quality.py [RECORDING...] [--model flute] [--out DIR]

Reliable frames are those where two unlike trackers, pYIN and swift-f0, agree about the source within 50 cents. The
output's pitch is read by pYIN and compared with the source's, transposed as the transfer said. Columns:

    reliable  share of the source's voiced frames (by swift-f0) that are reliable
    pitch     share of reliable frames whose output pitch is within 50 cents; silence there counts as wrong
    limit     the same for a plain tone exactly at the requested pitch: pYIN uses 128 ms, and rounds off glides
    same      share of reliable frames where pYIN reads the same pitch in both, so that it rounds off both
    loud      correlation of RMS levels in dB, 20 ms, over frames within 40 dB of the source's loudest
    notes     the same over those of them in which a note was found: without breaths and remains of consonants
    sung      the same over reliable frames only
    live      as sung, played block by block by `Performer`
    rest      median and 95th percentile of the level in rests after the room's tail, dBFS
    dry       95th percentile of the level in all rests when the room is left out, from 50 ms after a note
    clicks    samples whose second difference is far above that of their neighbours
    shift     delay of the output's envelope relative to the source's, by cross-correlation, ms
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ddsp_cli import bundle
from ddsp_cli.adaptation.adapt import Adapted, AdaptSettings, adapt
from ddsp_cli.analysis.extract import measure
from ddsp_cli.analysis.metrics import level_db
from ddsp_cli.analysis.pitch import trackers
from ddsp_cli.audio import read
from ddsp_cli.live.performer import LiveSettings, Performer
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.reverb import tail_s
from ddsp_cli.workflows import models
from ddsp_cli.workflows.transfer import transfer_files

ROOT = Path(__file__).parent.parent
RATE_HZ = 16000
FRAME_S = 0.02


def pitch_at(tracker: str, audio: np.ndarray, n_frames: int) -> np.ndarray:
    """Returns the pitch every 16 ms, [n_frames] Hz, 0 in unvoiced frames."""
    f0_hz, _ = trackers.on_grid(trackers.track(tracker, audio), n_frames, 256)
    return f0_hz


def within_50_cents(a_hz: np.ndarray, b_hz: np.ndarray) -> np.ndarray:
    """Returns the mask [F] of frames that both have pitch and agree."""
    both = (a_hz > 0) & (b_hz > 0)
    return both & (np.abs(1200 * np.log2(np.where(both, a_hz, 1.0) / np.where(both, b_hz, 1.0))) < 50)


def clicks(audio: np.ndarray, factor: float = 12.0) -> int:
    """Counts stretches of 5 ms with a second difference far above the root mean square of the 50 ms around."""
    bend = np.abs(np.diff(audio.astype(np.float64), 2))
    size = RATE_HZ // 200
    peaks = bend[: len(bend) // size * size].reshape(-1, size)
    power = np.pad(np.mean(peaks**2, axis=1), 5, mode="reflect")
    around = np.array([np.median(power[i : i + 11]) for i in range(len(peaks))])
    # Onsets rise; what rises and stays is no click.
    stays = np.maximum(np.roll(power, -1)[5:-5], np.roll(power, -2)[5:-5])
    highest = peaks.max(axis=1)
    return int(np.sum(highest > factor * np.sqrt(np.maximum(around, stays)) + 1e-4))


def envelope(audio: np.ndarray) -> np.ndarray:
    """Returns the RMS of 10 ms under a Hann window, every millisecond."""
    window = np.hanning(161)
    return np.sqrt(np.convolve(audio.astype(np.float64) ** 2, window / window.sum(), "same")[:: RATE_HZ // 1000])


def lateness_ms(source: np.ndarray, output: np.ndarray, longest_ms: int = 100) -> float:
    """Finds the shift in ms that fits the output's envelope best to the source's; positive if the output is late."""
    a, b = envelope(source), envelope(output)
    a, b = (a - a.mean()) / a.std(), (b - b.mean()) / b.std()
    shifts = np.arange(-longest_ms, longest_ms + 1)
    fits = np.array([np.mean(a[longest_ms:-longest_ms] * np.roll(b, -s)[longest_ms:-longest_ms]) for s in shifts])
    best = int(np.argmax(fits))
    if 0 < best < len(fits) - 1:
        left, top, right = fits[best - 1 : best + 2]
        return float(shifts[best] + 0.5 * (left - right) / (left - 2 * top + right))
    return float(shifts[best])


def plain_tone(adapted: Adapted, n_samples: int) -> np.ndarray:
    """Renders an ideal instrument, [S]: eight harmonics at the requested pitch, level and gate."""
    place = np.arange(n_samples) * adapted.frame_rate_hz / RATE_HZ
    frames = np.arange(len(adapted))
    turns = np.cumsum(np.interp(place, frames, adapted.f0_hz) / RATE_HZ)
    amplitude = np.interp(place, frames, 10.0 ** (adapted.level_db / 20.0) * adapted.gate)
    tone = sum(np.sin(2.0 * np.pi * k * turns) / k for k in range(1, 9))
    return np.asarray(tone * amplitude, np.float32)


def play_live(instrument: Instrument, source: np.ndarray, transpose: float) -> np.ndarray:
    """Renders a live performance, [S], advanced by its latency."""
    performer = Performer(instrument, LiveSettings(transpose=transpose))
    blocks = [performer.push(source[start : start + 512]) for start in range(0, len(source), 512)]
    return np.concatenate([*blocks, performer.finish()])[performer.latency_samples :][: len(source)]


def judge(path: Path, model: Path, out: Path) -> dict[str, float | str]:
    """Transfers one recording and measures the result."""
    started = time.process_time()
    (result,) = transfer_files(
        [path], model, out=out / f"{path.stem}.wav", force=True, sample_rate_hz=RATE_HZ, plot=True
    )
    cpu_s = time.process_time() - started
    source, output = read.read_mono(path, RATE_HZ), read.read_mono(result.output, RATE_HZ)
    n = min(len(source), len(output))
    source, output = source[:n], output[:n]

    n_frames = -(-n // 256)
    swift, pyin = pitch_at("swift-f0", source, n_frames), pitch_at("pyin", source, n_frames)
    reliable = within_50_cents(swift, pyin)
    wanted = swift * 2.0 ** (result.transpose_semitones / 12.0)
    heard = pitch_at("pyin", output, n_frames)
    right = within_50_cents(wanted, heard)
    same = within_50_cents(pyin * 2.0 ** (result.transpose_semitones / 12.0), heard)

    source_db, output_db = level_db(source, RATE_HZ, FRAME_S), np.maximum(level_db(output, RATE_HZ, FRAME_S), -80.0)
    loud = source_db > source_db.max() - 40.0
    times_s = (np.arange(len(source_db)) + 0.5) * FRAME_S
    sung = reliable[np.minimum((times_s * RATE_HZ / 256).round().astype(int), n_frames - 1)] & loud

    instrument = Instrument(bundle.load(models.find(model)))
    room_s = tail_s(instrument.bundle.impulse_response, instrument.model.sample_rate_hz)
    statistics, level = instrument.bundle.card.statistics, instrument.model.level
    adapted = adapt(measure(source), statistics, level, AdaptSettings(transpose=result.transpose_semitones))
    ideal = within_50_cents(wanted, pitch_at("pyin", plain_tone(adapted, n), n_frames))
    gap = np.interp(times_s, np.arange(len(adapted)) / adapted.frame_rate_hz, adapted.gate) > 0.0
    live_db = np.maximum(level_db(play_live(instrument, source, result.transpose_semitones), RATE_HZ, FRAME_S), -80.0)
    since = times_s - np.maximum.accumulate(np.where(gap, times_s, -np.inf))
    ahead = (times_s - np.minimum.accumulate(np.where(gap, times_s, np.inf)[::-1])[::-1]) < -0.03
    rests = (since > room_s + 0.02) & ahead
    dry = np.concatenate(list(instrument.render(*adapted.at(instrument.model.frame_rate_hz), room=False)))
    dry_db = np.pad(level_db(dry, RATE_HZ, FRAME_S), (0, 2), constant_values=-120)[: len(times_s)]
    return {
        "clip": path.stem,
        "s": n / RATE_HZ,
        "st": result.transpose_semitones,
        "reliable": reliable.sum() / max(1, (swift > 0).sum()),
        "pitch": right[reliable].mean() if reliable.any() else np.nan,
        "limit": ideal[reliable].mean() if reliable.any() else np.nan,
        "same": same[reliable].mean() if reliable.any() else np.nan,
        "loud": np.corrcoef(source_db[loud], output_db[loud])[0, 1],
        "notes": np.corrcoef(source_db[loud & gap], output_db[loud & gap])[0, 1],
        "sung": np.corrcoef(source_db[sung], output_db[sung])[0, 1] if sung.any() else np.nan,
        "live": np.corrcoef(source_db[sung], live_db[sung])[0, 1] if sung.any() else np.nan,
        "rest50": np.median(output_db[rests]) if rests.any() else np.nan,
        "rest95": np.percentile(output_db[rests], 95) if rests.any() else np.nan,
        "dry95": np.percentile(dry_db[(since > 0.05) & ahead], 95),
        "clicks": clicks(output),
        "shift": lateness_ms(source, output),
        "peak": 20 * np.log10(max(1e-6, np.abs(output).max())),
        "cpu_s": cpu_s,
    }


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Measure how good a transfer sounds.")
    parser.add_argument("recordings", type=Path, nargs="*", default=[ROOT / "examples" / "voice.wav"])
    parser.add_argument("--model", default=str(ROOT / "models" / "flute"))
    parser.add_argument("--out", type=Path, help="keep the results here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = options.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        first = True
        for path in read.list_audio(options.recordings):
            row = judge(path, options.model, out)
            if first:
                print(f"Python {sys.version.split()[0]}, {options.model}")
                print(f"{'clip':<18}" + "".join(f"{name:>9}" for name in list(row)[1:]))
                first = False
            print(
                f"{str(row['clip'])[:18]:<18}" + "".join(f"{value:>9.3f}" for value in list(row.values())[1:]),
                flush=True,
            )


if __name__ == "__main__":
    main()
