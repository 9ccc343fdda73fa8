"""The pictures of docs/pictures.md: what a transfer does, drawn from sound that this project makes itself.

    python benchmarks/pictures.py [NAME...] [--out docs/pictures]

The singer is that of examples/make_voice.py, the instruments are the bundled ones. Every picture is drawn from what the
program measured and played in this run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import ddsp_cli
from ddsp_cli.adaptation.f0_cleanup import to_midi
from ddsp_cli.adaptation.segmentation import find_segments
from ddsp_cli.analysis.extract import analyze
from ddsp_cli.analysis.features import Features
from ddsp_cli.analysis.recording_checks import ClippingWatch
from ddsp_cli.audio.integrated_loudness import integrated_lufs
from ddsp_cli.audio.recording import ArrayRecording
from ddsp_cli.audio.resample import Resampler
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.pitch_names import note_name
from ddsp_cli.reports.plots import spectrogram_db
from ddsp_cli.workflows.performance import Performance, make_options, perform_recording, resting

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))
import make_voice  # noqa: E402
from make_voice import Note, Rest  # noqa: E402

SAMPLE_RATE_HZ = 48000

#: Of a picture, so that it is small.
N_COLOURS = 48

#: The input is grey, what is played has a colour.
INPUT, PLAYED, OTHER, MARK = "0.45", "C0", "C1", "C3"

#: What moves faster is a slide from note to note; vibrato of ± 0.4 semitones at 5.5 Hz moves 14 semitones a second.
SLIDE_SEMITONES_PER_S = 20.0

#: A tune in D major with a C natural and a G sharp. The singer is up to 40 cents off.
MISTUNED = (
    Rest(0.25),
    *(Note(midi + cents / 100, 0.55, "a", -6) for midi, cents in ((62, -15), (64, 20), (66, -25), (67, 10), (69, -30))),
    Rest(0.4),
    *(
        Note(midi + cents / 100, 0.55, "o", -4)
        for midi, cents in ((72, -22), (71, -5), (69, -30), (68, -12), (69, -30))
    ),
    Rest(0.4),
    *(Note(midi + cents / 100, 0.55, "e", -6) for midi, cents in ((67, -30), (66, -25), (64, -35))),
    Note(62 - 0.33, 1.6, "a", -6),
    Rest(0.4),
)


def sung(melody: tuple[Note | Rest, ...] | None = None, octaves: int = 0) -> np.ndarray:
    """Returns the example's phrase, or another one, [S] float32 at 48 kHz."""
    before = make_voice.MELODY
    chosen = before if melody is None else melody
    make_voice.MELODY = tuple(
        Note(one.midi + 12 * octaves, one.duration_s, one.text, one.level_db) if isinstance(one, Note) else one
        for one in chosen
    )
    try:
        return make_voice.sing(SAMPLE_RATE_HZ)[0].astype(np.float32)
    finally:
        make_voice.MELODY = before


def at_16_khz(audio: np.ndarray) -> np.ndarray:
    """Resamples a sound [S] to the rate at which features are measured."""
    resampler = Resampler(SAMPLE_RATE_HZ, ANALYSIS_RATE_HZ)
    return np.concatenate([resampler.push(audio), resampler.finish()]).astype(np.float32)


def performed(audio: np.ndarray, model: str, **options: Any) -> Performance:
    """Adapts a performance [S] at 48 kHz to an instrument."""
    recording = ArrayRecording(at_16_khz(audio))
    return perform_recording(
        recording, ddsp_cli.load(model), make_options(**options), lambda _: None, Performance(resting(0, 1), 0.0)
    )


def played(audio: np.ndarray, model: str, **options: Any) -> np.ndarray:
    """Plays a performance [S] at 48 kHz on an instrument, [S] or [2, S]."""
    return ddsp_cli.transfer(audio, SAMPLE_RATE_HZ, model, **options)[0]


def played_midi(performance: Performance) -> np.ndarray:
    """Returns the pitch that is played, [F], NaN where the gate is closed."""
    adapted = performance.adapted
    return np.where(adapted.gate > 0.0, to_midi(adapted.f0_hz), np.nan)


def tracked_midi(features: Features) -> np.ndarray:
    """Returns the pitch that was found, [F], NaN where there is none."""
    return np.where(features.f0_hz > 0.0, to_midi(features.f0_hz), np.nan)


def level_db(audio: np.ndarray, window_s: float = 0.02) -> np.ndarray:
    """Returns the RMS level in dBFS of each window of a sound [S]."""
    size = round(window_s * SAMPLE_RATE_HZ)
    frames = audio[: len(audio) // size * size].reshape(-1, size).astype(np.float64)
    return 10.0 * np.log10(np.mean(frames**2, axis=1) + 1e-12)


def times_s(values: np.ndarray, rate_hz: float) -> np.ndarray:
    """Returns the time of each value."""
    return np.arange(len(values)) / rate_hz


def note_axis(axis: Any, low: int, high: int, names: str = "C D E F G A B") -> None:
    """Names the notes at the left, with a line for each semitone."""
    ticks = [midi for midi in range(low, high + 1) if note_name(midi)[:-1] in names.split()]
    axis.set_yticks(ticks, [note_name(midi) for midi in ticks])
    axis.set_yticks(range(low, high + 1), minor=True)
    axis.grid(axis="y", which="both", color="0.88", lw=0.6)
    axis.set(ylim=(low - 0.6, high + 0.6), xlabel="time (s)")


def draw_spectrogram(axis: Any, audio: np.ndarray, top_hz: float, n_fft: int = 2048) -> None:
    """Draws a spectrogram of a sound [S], from 0 Hz to `top_hz`, 80 dB deep."""
    seconds = len(audio) / SAMPLE_RATE_HZ
    axis.imshow(
        spectrogram_db(audio, n_fft, 720), origin="lower", aspect="auto", vmin=-80, vmax=0, cmap="magma",
        extent=(0, seconds, 0, SAMPLE_RATE_HZ / 2000), interpolation="nearest",
    )  # fmt: skip
    axis.set(ylim=(0, top_hz / 1000), ylabel="frequency (kHz)")


def autotune(figure: Any) -> None:
    """Tunes a sung melody."""
    voice = sung(MISTUNED)
    axes = figure.subplots(2, sharex=True, height_ratios=(3, 2))
    performance = performed(voice, "flute", autotune=1, tuning=440)
    features = performance.features
    assert features is not None
    rate_hz = features.spec.frame_rate_hz
    tracked, tuned = tracked_midi(features), played_midi(performance)
    octaves = performance.adapted.transpose_semitones
    axes[0].plot(times_s(tracked, rate_hz), tracked, color=INPUT, lw=2.2, label="sung")
    axes[0].plot(times_s(tuned, performance.adapted.frame_rate_hz), tuned - octaves, color=PLAYED, lw=1.3,
                 label="played with --autotune 1 --tuning 440")  # fmt: skip
    for midi in (72, 68):
        axes[0].annotate(f"{note_name(midi)} is not in D major, and stays", (4.0 if midi == 72 else 5.75, midi),
                         (4.6, 73.2) if midi == 72 else (6.2, 70.4), color=MARK, fontsize=9,
                         arrowprops={"arrowstyle": "->", "color": MARK})  # fmt: skip
    note_axis(axes[0], 61, 73)
    axes[0].set(ylabel="note", xlabel="")
    axes[0].legend(loc="lower center", ncols=2, fontsize=9)
    rate_hz, tuned_s = performance.adapted.frame_rate_hz, times_s(tuned, performance.adapted.frame_rate_hz)
    tracked = np.interp(tuned_s, times_s(tracked, features.spec.frame_rate_hz), tracked)
    grid = np.where(np.abs(np.gradient(tuned)) * rate_hz < SLIDE_SEMITONES_PER_S, np.round(tuned), np.nan)
    axes[1].plot(tuned_s, 100 * (tracked + octaves - grid), color=INPUT, lw=1.8)
    axes[1].plot(tuned_s, 100 * (tuned - grid), color=PLAYED, lw=1.2)
    axes[1].axhspan(-15, 15, color=PLAYED, alpha=0.1, lw=0)
    axes[1].set(ylim=(-75, 75), yticks=(-50, 0, 50), ylabel="cents from the note", xlabel="time (s)")


def ringing(notes: tuple[int, ...], step_s: float = 0.2, ring_s: float = 0.5) -> np.ndarray:
    """Returns an arpeggio whose notes ring on, [S] at 48 kHz."""
    out = np.zeros(round((len(notes) * step_s + 1.0) * SAMPLE_RATE_HZ))
    for i, midi in enumerate(notes):
        n_held, n_rings = round(step_s * SAMPLE_RATE_HZ), round(2 * ring_s * SAMPLE_RATE_HZ)
        t = np.arange(n_held + n_rings) / SAMPLE_RATE_HZ
        tone = sum(np.sin(2 * np.pi * k * 440 * 2 ** ((midi - 69) / 12) * t) / k for k in range(1, 12))
        tone *= np.minimum(1.0, t / 0.02)
        tone[n_held:] *= 0.5 * 10 ** (-3 * t[:n_rings] / ring_s)
        start = round((0.3 + i * step_s) * SAMPLE_RATE_HZ)
        part = tone[: len(out) - start]
        out[start : start + len(part)] += part
    return (0.3 * out / np.abs(out).max()).astype(np.float32)


def leap(figure: Any) -> None:
    """Mends a leap of the pitch tracker."""
    audio = ringing((79, 76, 72, 64, 67, 60, 60, 60, 64, 79))
    tracked = analyze(ArrayRecording(at_16_khz(audio)), FeatureSpec(), find_segments).features
    performance = performed(audio, "violin")
    axis = figure.subplots()
    draw_spectrogram(axis, audio, 3000.0, 4096)
    rate_hz = tracked.spec.frame_rate_hz
    raw_khz = np.where(tracked.f0_hz > 0, tracked.f0_hz / 1000.0, np.nan)
    adapted = performance.adapted
    own_khz = np.where(adapted.gate > 0, adapted.f0_hz / 1000.0, np.nan) / 2.0 ** (adapted.transpose_semitones / 12.0)
    axis.plot(times_s(raw_khz, rate_hz), raw_khz, color="white", lw=4.5, label="found by the pitch tracker")
    axis.plot(times_s(own_khz, adapted.frame_rate_hz), own_khz, color="C2", lw=2.0, label="played")
    axis.set(xlim=(1.4, 2.9), xlabel="time (s)")
    axis.legend(loc="upper left", fontsize=9, facecolor="0.35", labelcolor="white")


def loudness(figure: Any) -> None:
    """Measures the loudness of all instruments with and without matching."""
    voice = sung()
    recipes = ROOT / "models" / "recipes"
    names = [entry.name for entry in ddsp_cli.models() if (recipes / f"{entry.name}.yaml").exists()]
    axis = figure.subplots()
    for j, (match, color) in enumerate((("off", OTHER), ("input", PLAYED))):
        values = [integrated_lufs([played(voice, name, loudness_match=match)], SAMPLE_RATE_HZ) for name in names]
        places = np.arange(len(names)) + 0.36 * j
        axis.bar(places, np.array(values) + 40.0, 0.34, bottom=-40.0, color=color,
                 label=f"--loudness-match {match}{' (default)' if match == 'input' else ''}")  # fmt: skip
    axis.axhline(integrated_lufs([voice], SAMPLE_RATE_HZ), color=INPUT, lw=1.5, ls="--", label="the voice")
    axis.set_xticks(np.arange(len(names)) + 0.18, [name.replace("_", "\n") for name in names], fontsize=9)
    axis.set(ylim=(-36, -10), ylabel="integrated loudness (LUFS)")
    axis.legend(loc="upper right", ncols=3, fontsize=9)


def rests(figure: Any) -> None:
    """Compares the levels of the voice and of an instrument in a dry room."""
    voice = sung()
    axis = figure.subplots()
    flute = played(voice, "flute", room="none")
    for audio, color, label in ((voice, INPUT, "voice"), (flute, PLAYED, "flute, --room none")):
        values = np.maximum(level_db(audio), -100.0)
        axis.plot(times_s(values, 50.0), values, color=color, lw=1.6, label=label)
    axis.annotate("a breath", (2.15, -56), (1.2, -90), color=MARK, arrowprops={"arrowstyle": "->", "color": MARK})
    axis.set(ylim=(-103, 0), xlim=(0, len(voice) / SAMPLE_RATE_HZ), ylabel="level (dBFS)", xlabel="time (s)")
    axis.legend(loc="lower right", fontsize=9)


def tail(figure: Any) -> None:
    """Shows the end of a transfer with and without the tail of its room."""
    voice = sung()[: round(4.2 * SAMPLE_RATE_HZ)]
    axis = figure.subplots()
    for is_long, color, width in ((True, PLAYED, 1.4), (False, OTHER, 2.8)):
        values = np.maximum(level_db(played(voice, "french_horn", tail=is_long)), -110.0)
        axis.plot(times_s(values, 50.0), values, color=color, lw=width, label="--tail" if is_long else "without",
                  zorder=2 if is_long else 1)  # fmt: skip
    end_s = len(voice) / SAMPLE_RATE_HZ
    axis.axvline(end_s, color=INPUT, ls="--")
    axis.text(end_s + 0.01, -14, "end of the recording", color=INPUT)
    axis.set(xlim=(3.2, 4.8), ylim=(-95, -8), ylabel="level (dBFS)", xlabel="time (s)")
    axis.legend(loc="upper right", fontsize=9)


def octave(figure: Any) -> None:
    """Shows the ranges of instruments, and where one low voice is played on them."""
    voice = sung(octaves=-1)
    names = ("double_bass", "cello", "clarinet", "flute")
    axes = figure.subplots(1, len(names), sharey=True)
    for axis, name in zip(axes, names, strict=True):
        performance = performed(voice, name)
        features = performance.features
        assert features is not None
        low, high = ddsp_cli.load(name).bundle.card.statistics.range_midi
        axis.axhspan(low, high, color=PLAYED, alpha=0.12, lw=0)
        tracked = tracked_midi(features)
        axis.plot(times_s(tracked, features.spec.frame_rate_hz), tracked, color=INPUT, lw=2.4)
        midi = played_midi(performance)
        axis.plot(times_s(midi, performance.adapted.frame_rate_hz), midi, color=PLAYED, lw=1.2)
        shift = round(performance.adapted.transpose_semitones)
        axis.set_title(f"{name.replace('_', ' ')}: {f'{shift:+d} semitones' if shift else 'stays'}", fontsize=10)
        axis.set(xlabel="time (s)")
    ticks = range(24, 97, 12)
    axes[0].set_yticks(list(ticks), [note_name(midi) for midi in ticks])
    axes[0].set(ylim=(22, 98), ylabel="note")


def notes(figure: Any) -> None:
    """Draws the notes that are found over the pitch."""
    performance = performed(sung(), "flute")
    features = performance.features
    assert features is not None
    axis = figure.subplots()
    (transcription,) = performance.transcriptions()
    rate_hz = features.spec.frame_rate_hz
    for i, note in enumerate(transcription.notes):
        axis.barh(
            note.midi, note.stop_s - note.start_s, 0.9, note.start_s, color=PLAYED, edgecolor=PLAYED,
            alpha=0.2 + 0.5 * note.velocity / 127, label=None if i else "note; the darker, the louder",
        )  # fmt: skip
    midi = tracked_midi(features)
    axis.plot(times_s(midi, rate_hz), midi, color="black", lw=1.3, label="F0")
    note_axis(axis, 61, 75)
    axis.set(ylabel="note")
    axis.legend(loc="lower center", fontsize=9)


def blend(figure: Any) -> None:
    """Turns a clarinet into a violin."""
    t = np.arange(8 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    phase = 2 * np.pi * 293.7 * t
    held = sum(np.sin(k * phase) / k for k in range(1, 9)) * np.clip(np.minimum(t - 0.3, 7.7 - t) / 0.1, 0.0, 1.0)
    audio = played((0.1 * held).astype(np.float32), "0:clarinet 8s:violin", room="none")
    axis = figure.subplots()
    draw_spectrogram(axis, audio, 8000.0)
    axis.set(xlabel="time (s)")
    for text, place in (("clarinet: even harmonics are weak", 0.4), ("violin: all harmonics", 6.0)):
        axis.text(place, 7.4, text, color="white", fontsize=10)


def ensemble(figure: Any) -> None:
    """Compares one harmonic of one player and of six."""
    t = np.arange(6 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    phase = 2 * np.pi * 440.0 * t
    held = sum(np.sin(k * phase) / k for k in range(1, 9)) * np.clip(np.minimum(t - 0.3, 5.7 - t) / 0.1, 0.0, 1.0)
    audio = (0.1 * held).astype(np.float32)
    one = played(audio, "violin", vibrato=0, room="none")
    left, right = played(audio, "violin", vibrato=0, room="none", ensemble=6)
    axes = figure.subplots(1, 2, width_ratios=(3, 2))
    middle = slice(1 * SAMPLE_RATE_HZ, 5 * SAMPLE_RATE_HZ)
    for sound, color, label in ((one, INPUT, "one player"), (left, PLAYED, "six, left"), (right, OTHER, "six, right")):
        power = np.abs(np.fft.rfft(sound[middle] * np.hanning(4 * SAMPLE_RATE_HZ))) ** 2
        hz = np.arange(len(power)) / 4.0
        power = np.convolve(power, np.ones(13) / 13, "same")
        near = (hz > 4330) & (hz < 4470)
        axes[0].plot(hz[near], 10 * np.log10(power[near] / power[near].max() + 1e-9), color=color, lw=1.3, label=label)
        values = level_db(sound, 0.005)
        axes[1].plot(times_s(values, 200.0), values, color=color, lw=1.3)
    axes[0].set(xlabel="frequency (Hz)", ylabel="level (dB)", ylim=(-60, 3), title="The tenth harmonic of A4")
    axes[1].set(xlabel="time (s)", ylabel="level (dBFS)", ylim=(-70, -10), xlim=(0.2, 0.6), title="The attack")
    axes[0].legend(loc="upper right", fontsize=9)


def band(figure: Any) -> None:
    """Draws spectrograms of the voice and of three instruments."""
    voice = sung()
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for axis, name in zip(axes.flat, ("voice", "flute", "violin", "oboe"), strict=True):
        draw_spectrogram(axis, voice if name == "voice" else played(voice, name), 24000.0)
        axis.set_title(name, fontsize=10)
        axis.set(ylabel="")
    figure.supxlabel("time (s)", fontsize=10)
    figure.supylabel("frequency (kHz)", fontsize=10)


def clipping(figure: Any) -> None:
    """Marks the clipped places of a voice that was turned down after it was clipped."""
    voice = sung()
    clipped = 0.5 * np.clip(3.0 * voice / np.abs(voice).max(), -1.0, 1.0)
    watch = ClippingWatch()
    for start in range(0, len(clipped), SAMPLE_RATE_HZ):
        watch(clipped[start : start + SAMPLE_RATE_HZ, None].astype(np.float32))
    axes = figure.subplots(1, 2, width_ratios=(2, 1))
    step = 60
    highs = clipped[: len(clipped) // step * step].reshape(-1, step)
    axes[0].fill_between(times_s(highs, SAMPLE_RATE_HZ / step), highs.min(axis=1), highs.max(axis=1), color=INPUT, lw=0)
    for i, (start_s, end_s) in enumerate(watch.places_s(SAMPLE_RATE_HZ)):
        axes[0].axvspan(start_s, end_s, color=MARK, alpha=0.25, lw=0, label=None if i else "found to be clipped")
    axes[0].set(xlabel="time (s)", ylabel="amplitude", ylim=(-1, 1))
    axes[0].legend(loc="upper left", fontsize=9)
    first = round((watch.places_s(SAMPLE_RATE_HZ)[-1][0] + 0.02) * SAMPLE_RATE_HZ)
    part = clipped[first : first + 480]
    axes[1].plot(1000 * times_s(part, SAMPLE_RATE_HZ), part, color="black", lw=1.2)
    axes[1].axhline(0.5, color=MARK, lw=1)
    axes[1].axhline(-0.5, color=MARK, lw=1)
    axes[1].set(xlabel="time (ms)", ylim=(-1, 1), title="Flat tops, below full scale")
    axes[1].title.set_fontsize(10)


#: Height in inches of each picture, in the order of the page.
PICTURES: dict[str, tuple[Callable[[Any], None], float]] = {
    "rests": (rests, 3.2),
    "band": (band, 4.6),
    "notes": (notes, 3.4),
    "autotune": (autotune, 4.8),
    "leap": (leap, 3.4),
    "octave": (octave, 3.4),
    "loudness": (loudness, 3.4),
    "tail": (tail, 3.0),
    "blend": (blend, 3.4),
    "ensemble": (ensemble, 3.2),
    "clipping": (clipping, 3.0),
}


def main() -> None:
    """Draws the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*PICTURES, []], default=[])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    given = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from PIL import Image

    pyplot.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 10})
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.names or PICTURES:
        draw, height = PICTURES[name]
        figure = pyplot.figure(figsize=(9.0, height), dpi=90, constrained_layout=True)
        draw(figure)
        path = given.out / f"{name}.png"
        figure.canvas.draw()
        Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3]).quantize(N_COLOURS).save(path, optimize=True)
        pyplot.close(figure)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
