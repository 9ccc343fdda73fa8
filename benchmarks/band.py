"""Measure the quality of instruments on held-out recordings, and on scales beyond their range.

python benchmarks/band.py [NAME...] [--models models] [--datasets datasets] [--out DIR]

Each instrument needs a data set of its name (ddsp prepare), whose validation split is measured. First table:

    reliable  share of voiced frames about whose pitch swift-f0 and pYIN agree
    pitch     share of those that the instrument plays within 50 cents
    loud      mean difference of level in dB, 20 ms frames
    noise     how much more noise there is between the harmonics than in the recording, dB
    room      share of the room in the sound
    loss      multi-scale spectral loss of 60 s
    early     the same during training when a tenth of the steps were done, as far as the run's log has it
    late      the lowest of the training, comparable with `early`
    other     loss when another instrument plays the same: the nearest one, and its name

The second: a chromatic scale from a fifth below to a fifth above the range, at three dynamics. A note counts as dead
below a tenth of the median amplitude of its dynamic, as a scream above ten times, as wrong when its pitch is not within
50 cents of the requested pitch by pYIN (notes below 60 Hz or above 2 kHz, outside its range, are left out);
clicks as in benchmarks/quality.py. With --out a spectrogram of each scale is drawn.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from ddsp_cli import bundle
from ddsp_cli.analysis.metrics import spectral_distance
from ddsp_cli.dataset import loader
from ddsp_cli.scaling import hz_to_midi, midi_to_hz
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.workflows.evaluate import evaluate, resynthesise
from quality import clicks, pitch_at

ROOT = Path(__file__).parent.parent
NOTE_S, GAP_S, FADE_S = 0.6, 0.1, 0.03
FIFTH = 7
DYNAMICS = {"soft": 10, "middle": 50, "loud": 95}
RATE_HZ = 16000


def early_and_late(run: Path) -> tuple[float, float]:
    """Returns the validation losses of a run's log at a tenth of its steps, and the lowest."""
    if not (run / "log.csv").exists():
        return np.nan, np.nan
    with (run / "log.csv").open(encoding="utf-8") as stream:
        points = [(int(row["step"]), float(row["validation_loss"])) for row in csv.DictReader(stream)]
    tenth = min(points, key=lambda point: abs(point[0] - points[-1][0] / 10))
    return tenth[1], min(loss for _, loss in points)


def scale(loaded: bundle.Bundle, percentile: int) -> tuple[np.ndarray, list[tuple[float, int, int]]]:
    """Returns a chromatic scale, [S], and its notes: MIDI number, first and last frame of 20 ms."""
    rate = loaded.card.model.frame_rate_hz
    statistics = loaded.card.statistics
    low, high = (round(statistics.pitch_midi[p]) for p in (1, 99))
    level = statistics.level(loaded.card.model.level)[percentile]
    fade = np.minimum(1.0, (np.arange(round(NOTE_S * rate)) + 1) / (FADE_S * rate))
    shape = 20 * np.log10(np.minimum(fade, fade[::-1])) + level
    f0, levels, notes = [], [], []
    for midi in range(low - FIFTH, high + FIFTH + 1):
        first = len(f0)
        f0 += [float(midi_to_hz(midi))] * (len(shape) + round(GAP_S * rate))
        levels += [*shape, *[-80.0] * round(GAP_S * rate)]
        notes.append((float(midi), first * 50 // rate, (first + len(shape)) * 50 // rate))
    blocks = Instrument(loaded).render(np.asarray(f0, np.float32), np.asarray(levels, np.float32))
    return np.concatenate(list(blocks)), notes


def judge_scale(audio: np.ndarray, notes: list[tuple[float, int, int]]) -> tuple[int, int, int, int]:
    """Returns the dead notes, screams, notes of wrong pitch, and clicks."""
    size = RATE_HZ // 50
    frames = audio[: len(audio) // size * size].reshape(-1, size)
    f0_hz = pitch_at("pyin", audio, -(-len(audio) // 256))
    levels, wrong = [], 0
    for midi, first, last in notes:
        levels.append(float(np.sqrt(np.mean(frames[first + 5 : last - 3] ** 2))))
        heard = f0_hz[(first + 8) * 5 // 4 : (last - 5) * 5 // 4]
        cents = 100 * np.abs(hz_to_midi(np.maximum(heard, 1.0)) - midi)
        wrong += 60.0 < midi_to_hz(midi) < 2000.0 and float(np.median(cents)) > 50.0
    median = float(np.median(levels))
    dead = sum(level < median / 10 for level in levels)
    return dead, sum(level > median * 10 for level in levels), int(wrong), clicks(audio)


def draw(path: Path, audio: dict[str, np.ndarray]) -> None:
    """Draws spectrograms one above the other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(audio), 1, figsize=(14, 3 * len(audio)), constrained_layout=True)
    for axis, (name, sound) in zip(axes, audio.items(), strict=True):
        axis.specgram(sound + 1e-9, NFFT=1024, Fs=RATE_HZ, noverlap=768, vmin=-140, vmax=-30, cmap="magma")
        axis.set(title=name, ylabel="Hz", xlim=(0, len(sound) / RATE_HZ))
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Measure the instruments.")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--datasets", type=Path, default=ROOT / "datasets")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    folders = sorted(path.parent for path in options.models.glob("*/model.yaml") if path.parent.name != "base")
    band = {path.name: bundle.load(path) for path in folders if path.suffix != ".run"}
    names = options.names or list(band)
    columns = ("reliable", "pitch", "loud", "noise", "room", "loss", "early", "late")
    print(f"{'':<10}" + "".join(f"{column:>9}" for column in columns) + "  other")
    for name in names:
        (found,) = evaluate(options.models / name, dataset=options.datasets / name, reliable=True)
        figures = found.figures
        data = loader.load(options.datasets / name, band[name].card.features)
        n = max(1, min(len(data.validation), 15))
        rows = np.linspace(0, len(data.validation) - 1, n).round().astype(int)
        losses = {}
        for other, loaded in band.items():
            clip = resynthesise(loaded, data, rows)
            losses[other] = spectral_distance(clip.recording, clip.rendering)
        own = losses.pop(name)
        nearest = min(losses, key=losses.__getitem__, default="")
        early, late = early_and_late(options.models / f"{name}.run")
        keys = ("reliable_share", "reliable_within_50_cents", "loudness_error_db", "noise_balance_db", "room_share")
        row = [*(figures.get(key, np.nan) for key in keys), own, early, late]
        rest = f"  {losses.get(nearest, np.nan):.2f} {nearest}"
        print(f"{name:<10}" + "".join(f"{value:>9.3f}" for value in row) + rest, flush=True)
    print(f"\n{'scale':<10}{'dynamics':<10}{'notes':>6}{'dead':>6}{'screams':>8}{'wrong':>6}{'clicks':>7}")
    for name in names:
        sounds = {}
        for dynamic, percentile in DYNAMICS.items():
            audio, notes = scale(band[name], percentile)
            sounds[f"{name}, {dynamic}"] = audio
            dead, screams, wrong, n_clicks = judge_scale(audio, notes)
            print(f"{name:<10}{dynamic:<10}{len(notes):>6}{dead:>6}{screams:>8}{wrong:>6}{n_clicks:>7}", flush=True)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            draw(options.out / f"{name}_scale.png", sounds)


if __name__ == "__main__":
    main()
