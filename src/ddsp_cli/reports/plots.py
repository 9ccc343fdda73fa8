"""Figures, drawn by Matplotlib without a screen. It is loaded with the first figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddsp_cli.audio import read
from ddsp_cli.config import ANALYSIS_RATE_HZ, FLOOR_DB
from ddsp_cli.pitch_names import note_name
from ddsp_cli.scaling import hz_to_midi, midi_to_hz

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator

    from ddsp_cli.adaptation.adapt import Adapted
    from ddsp_cli.analysis.features import Features
    from ddsp_cli.synthesis.timbre_map import TimbreMap


#: Longest part of a sound that a picture shows: in a longer one details could not be seen, and it takes more memory.
MAX_SHOWN_S = 60.0

RANGE_DB = 80.0

#: Power of a voice that rests.
REST_POWER = 10.0 ** (FLOOR_DB / 10.0)


def draw_transfer(
    source: Path | None,
    output: Path,
    features: Features | None,
    adapted: Adapted,
    level: str,
    instrument: str,
    others: Sequence[Adapted] = (),
) -> bytes:
    """Draws a performance and its rendering: waveforms, spectrograms, pitch, level, gate.

    Args:
      source: the sound file that was played after; None where there was none.
      output: the sound file that was made.
      features: of the performance; None where there was none.
      adapted: the curves that were played.
      level: which measure of level drove the instrument.
      instrument: its name.
      others: further voices that were played; the pitch of each is drawn, and their level together.

    Returns:
      A PNG.
    """
    files = [(path, colour) for path, colour in ((source, "tab:blue"), (output, "tab:orange")) if path is not None]
    n = len(files)
    figure = new_figure(14, 5 + 3 * n)
    axes = figure.subplots(2 * n + 2, 1, sharex=True, height_ratios=[1] * n + [2] * n + [1.6, 1.3])
    shown_s = 0.0
    for i, (path, colour) in enumerate(files):
        audio = _read(path)
        shown_s = max(shown_s, len(audio) / ANALYSIS_RATE_HZ)
        _waveform(axes[i], audio, colour)
        axes[i].set_title(path.name, fontsize=9, loc="left")
        hop_samples = 256 if len(audio) < 20 * ANALYSIS_RATE_HZ else 1024
        show_spectrogram(axes[n + i], audio, ANALYSIS_RATE_HZ, hop_samples)
        axes[n + i].set_title(path.name, fontsize=9, loc="left")
    n_shown = int(np.ceil(shown_s * adapted.frame_rate_hz))
    _pitch(axes[-2], features, adapted, n_shown, others)
    _level(axes[-1], features, (adapted, *others), level, n_shown)
    axes[-1].set_xlabel("seconds")
    axes[-1].set_xlim(0, shown_s)
    total_s = len(adapted) / adapted.frame_rate_hz
    cut = f", first {shown_s:.0f} of {total_s:.0f} s" if total_s > shown_s + 2.0 else ""
    name = (source or output).name
    shift = adapted.transpose_semitones
    moved = f"transposed {shift:+g} semitones" if shift else "not transposed"
    figure.suptitle(f"{name} on {instrument}, {moved}{cut}")
    return as_png(figure, dpi=100)


def draw_map(timbres: TimbreMap, families: Mapping[str, str]) -> bytes:
    """Draws where instruments lie, coloured by family, each with a line to the one that sounds most like it.

    Args:
      timbres: places and distances.
      families: name → family.

    Returns:
      A PNG.
    """
    figure = new_figure(9, 6.5)
    axes = figure.subplots()
    order = list(dict.fromkeys(families[name] for name in timbres.names))
    for i, name in enumerate(timbres.names):
        other = timbres.names.index(timbres.nearest(name)[0][0])
        axes.plot(*timbres.places[[i, other]].T, color="0.85", zorder=1)
    for i, family in enumerate(order):
        rows = [k for k, name in enumerate(timbres.names) if families[name] == family]
        x, y = timbres.places[rows].T
        axes.scatter(x, y, s=55, color=f"C{i}", label=family, zorder=2)
    for name, (x, y) in zip(timbres.names, timbres.places, strict=True):
        axes.annotate(name, (x, y), xytext=(7, 5), textcoords="offset points", fontsize=9)
    axes.set(xlabel=f"{timbres.axes[0]} →", ylabel=f"{timbres.axes[1]} →")
    axes.set_title(f"How instruments sound: {timbres.shown:.0%} of the differences, in dB; lines to the nearest")
    axes.margins(0.12)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.2)
    return as_png(figure)


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure, in inches, that is drawn without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def as_png(figure: Figure, dpi: int = 90) -> bytes:
    """Returns a figure as the contents of a PNG file."""
    picture = BytesIO()
    figure.savefig(picture, dpi=dpi, format="png")
    return picture.getvalue()


def show_spectrogram(axis: Axes, audio: np.ndarray, rate_hz: int, hop_samples: int = 256) -> None:
    """Draws the spectrogram of audio [S] on an axis, over seconds and kHz."""
    axis.imshow(
        spectrogram_db(audio, hop_samples=hop_samples),
        origin="lower",
        aspect="auto",
        extent=(0, len(audio) / rate_hz, 0, rate_hz / 2000),
        cmap="magma",
        interpolation="nearest",
    )
    axis.set_ylabel("kHz")


def _read(path: Path) -> np.ndarray:
    """Returns the part that is shown, [S] at 16 kHz."""
    blocks = islice(read.mono_blocks(path, ANALYSIS_RATE_HZ, block_s=10.0), int(MAX_SHOWN_S / 10.0) + 1)
    return np.concatenate(list(blocks))[: int(MAX_SHOWN_S * ANALYSIS_RATE_HZ)]


def _waveform(axis: Axes, audio: np.ndarray, colour: str) -> None:
    """Draws the envelope of the wave as the area between the lowest and highest sample of each stretch."""
    step = max(1, len(audio) // 4000)
    n = len(audio) // step
    stretches = audio[: n * step].reshape(n, step)
    times = np.arange(n) * step / ANALYSIS_RATE_HZ
    axis.fill_between(times, stretches.min(axis=1), stretches.max(axis=1), color=colour, linewidth=0.2)
    limit = max(0.05, float(np.abs(audio).max(initial=0.0)) * 1.1)
    axis.set_ylim(-limit, limit)
    axis.set_ylabel("amplitude")


def spectrogram_db(audio: np.ndarray, n_fft: int = 1024, hop_samples: int = 256) -> np.ndarray:
    """Returns level of each time and frequency in dB below the loudest, [n_fft/2 + 1, T], floor -80."""
    padded = np.pad(audio, n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_samples]
    magnitudes = np.abs(np.fft.rfft(frames * np.hanning(n_fft).astype(np.float32), axis=1)).T
    db = 20.0 * np.log10(np.maximum(magnitudes, 1e-9))
    return np.maximum(db - db.max(initial=-180.0), -RANGE_DB)


def _times(adapted: Adapted, n_shown: int) -> np.ndarray:
    return np.arange(min(n_shown, len(adapted))) / adapted.frame_rate_hz


def _pitch(
    axis: Axes, features: Features | None, adapted: Adapted, n_shown: int, others: Sequence[Adapted] = ()
) -> None:
    shown, times = slice(0, n_shown), _times(adapted, n_shown)
    if features is not None:
        f0_hz = np.where(features.f0_hz > 0, features.f0_hz, np.nan)[shown]
        axis.plot(times, f0_hz, color="tab:blue", linewidth=1.0, label="input", zorder=3)
    for i, voice in enumerate((adapted, *others)):
        played = np.where(voice.gate > 0, voice.f0_hz, np.nan)[shown]
        axis.plot(times, played, color="tab:orange", linewidth=3.0, alpha=0.7, label="output" if i == 0 else None)
    _note_ticks(axis)
    axis.set_ylabel("pitch")
    axis.grid(alpha=0.3)
    axis.legend(loc="upper right", fontsize=8)


def _note_ticks(axis: Axes) -> None:
    """Makes a logarithmic axis in Hz with the names of notes, four to nine of them."""
    axis.set_yscale("log", base=2)
    lowest, highest = hz_to_midi(np.array(axis.get_ylim()))
    step = next(step for step in (1, 2, 3, 4, 6, 12, 24, 48) if (highest - lowest) / step <= 9 or step == 48)
    notes = np.arange(np.ceil(lowest / step) * step, highest + 1e-6, step)
    axis.set_yticks(midi_to_hz(notes), [note_name(n) for n in notes])
    axis.yaxis.set_minor_locator(_no_ticks())


def _no_ticks() -> Locator:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _level(axis: Axes, features: Features | None, voices: Sequence[Adapted], level: str, n_shown: int) -> None:
    shown, times = slice(0, n_shown), _times(voices[0], n_shown)
    level_db, gate_unit = together(voices)
    if features is not None:
        axis.plot(times, getattr(features, level)[shown], color="tab:blue", linewidth=1.0, label="input", zorder=3)
    axis.plot(times, level_db[shown], color="tab:orange", linewidth=3.0, alpha=0.7, label="output")
    axis.set_ylabel(f"{level.removesuffix('_db')} (dB)")
    axis.grid(alpha=0.3)
    gate = axis.twinx()
    gate.fill_between(times, gate_unit[shown], color="tab:green", alpha=0.15, linewidth=0)
    gate.set_ylim(0, 1.05 * max(1.0, float(gate_unit.max(initial=0.0))))
    gate.set_ylabel("gate")
    axis.legend(loc="lower right", fontsize=8)


def together(voices: Sequence[Adapted]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the level of the power of all voices [F], and in each frame the gate that is open widest [F]."""
    above_rest = sum(10.0 ** (voice.level_db / 10.0) - REST_POWER for voice in voices)
    level_db = 10.0 * np.log10(np.maximum(above_rest + REST_POWER, REST_POWER))
    return level_db, np.max([voice.gate for voice in voices], axis=0)


def draw_pair(recording: np.ndarray, rendering: np.ndarray, rate_hz: int) -> bytes:
    """Draws spectrograms of both, each in dB below its own loudest, and their levels over time.

    Args:
      recording, rendering: [S] at `rate_hz`.

    Returns:
      A PNG.
    """
    from ddsp_cli.analysis.metrics import level_db

    figure = new_figure(11, 7)
    axes = figure.subplots(3, 1, sharex=True)
    for axis, audio, title in zip(axes, (recording, rendering), ("recording", "reconstruction"), strict=False):
        show_spectrogram(axis, audio, rate_hz)
        axis.set_title(title, loc="left", fontsize=9)
    for audio, label in ((recording, "recording"), (rendering, "reconstruction")):
        level = level_db(audio, rate_hz)
        axes[2].plot(np.arange(len(level)) * 0.02, level, label=label, linewidth=1)
    axes[2].set_ylabel("level, dBFS")
    axes[2].set_xlabel("seconds")
    axes[2].set_ylim(-90, 0)
    axes[2].legend(loc="lower right", fontsize=8)
    return as_png(figure)
