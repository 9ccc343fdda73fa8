"""Pictures. Matplotlib is loaded by whoever asks for one, and draws without a screen."""

from __future__ import annotations

import os
import secrets
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.errors import OutputError
from ddsp_cli.features import io

if TYPE_CHECKING:
    from ddsp_cli.features.frames import Features
    from ddsp_cli.runtime.adapt import Adapted

#: A picture shows this much; beyond it details could not be seen, and memory stays small.
MAX_SHOWN_S = 60.0
RANGE_DB = 80.0


def plot_transfer(
    path: Path,
    source: Path,
    output: Path,
    features: Features,
    adapted: Adapted,
    level: str,
    instrument: str,
) -> None:
    """Draws a performance and what the instrument made of it: waveforms, spectrograms, pitch, level, gate.

    Args:
      path: the PNG to write; replaced if it stands there.
      source, output: the two sound files.
      features: of the performance.
      adapted: what was played.
      level: which measure of level drove the instrument.
      instrument: its name.

    Raises:
      OutputError: the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 11), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(6, 1, sharex=True, height_ratios=[1, 1, 2, 2, 1.6, 1.3])
    sounds = [(source.name, _read(source), "tab:blue"), (output.name, _read(output), "tab:orange")]
    shown_s = max(len(audio) for _, audio, _ in sounds) / ANALYSIS_RATE_HZ
    for (name, audio, colour), wave, picture in zip(sounds, axes[:2], axes[2:4], strict=True):
        _waveform(wave, audio, colour)
        wave.set_title(name, fontsize=9, loc="left")
        _spectrogram(picture, audio)
        picture.set_title(name, fontsize=9, loc="left")
    n_shown = int(np.ceil(shown_s * features.spec.frame_rate_hz))
    _pitch(axes[4], features, adapted, n_shown)
    _level(axes[5], features, adapted, level, n_shown)
    axes[5].set_xlabel("seconds")
    axes[5].set_xlim(0, shown_s)
    total_s = features.n_samples / ANALYSIS_RATE_HZ
    cut = f", first {shown_s:.0f} of {total_s:.0f} s" if total_s > shown_s + 0.5 else ""
    figure.suptitle(f"{source.name} on {instrument}, transposed {adapted.transpose_semitones:+g} semitones{cut}")
    part = path.parent / f".ddsp-{secrets.token_hex(6)}.png"
    try:
        figure.savefig(part, dpi=100)
        os.replace(part, path)
    except OSError as problem:
        raise OutputError(f"{path} cannot be written: {problem.strerror or problem}") from problem
    finally:
        part.unlink(missing_ok=True)


def _read(path: Path) -> np.ndarray:
    """The part that is shown, [S] at 16 kHz."""
    blocks = islice(io.mono_blocks(path, ANALYSIS_RATE_HZ, block_s=10.0), int(MAX_SHOWN_S / 10.0) + 1)
    return np.concatenate(list(blocks))[: int(MAX_SHOWN_S * ANALYSIS_RATE_HZ)]


def _waveform(axis: Any, audio: np.ndarray, colour: str) -> None:
    """The envelope of the wave, drawn as the area between the lowest and highest sample of each stretch."""
    step = max(1, len(audio) // 4000)
    n = len(audio) // step
    stretches = audio[: n * step].reshape(n, step)
    times = np.arange(n) * step / ANALYSIS_RATE_HZ
    axis.fill_between(times, stretches.min(axis=1), stretches.max(axis=1), color=colour, linewidth=0.2)
    limit = max(0.05, float(np.abs(audio).max(initial=0.0)) * 1.1)
    axis.set_ylim(-limit, limit)
    axis.set_ylabel("amplitude")


def spectrogram_db(audio: np.ndarray, n_fft: int = 1024, hop_samples: int = 256) -> np.ndarray:
    """Level of each time and frequency in dB below the loudest, [n_fft/2 + 1, T], floor -80."""
    padded = np.pad(audio, n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_samples]
    magnitudes = np.abs(np.fft.rfft(frames * np.hanning(n_fft).astype(np.float32), axis=1)).T
    db = 20.0 * np.log10(np.maximum(magnitudes, 1e-9))
    return np.maximum(db - db.max(initial=-180.0), -RANGE_DB)


def _spectrogram(axis: Any, audio: np.ndarray) -> None:
    hop_samples = 256 if len(audio) < 20 * ANALYSIS_RATE_HZ else 1024
    extent = (0, len(audio) / ANALYSIS_RATE_HZ, 0, ANALYSIS_RATE_HZ / 2000)
    axis.imshow(
        spectrogram_db(audio, hop_samples=hop_samples),
        origin="lower",
        aspect="auto",
        extent=extent,
        cmap="magma",
        interpolation="nearest",
    )
    axis.set_ylabel("kHz")


def _pitch(axis: Any, features: Features, adapted: Adapted, n_shown: int) -> None:
    shown = slice(0, n_shown)
    times = features.times_s[shown]
    heard = np.where(features.f0_hz > 0, features.f0_hz, np.nan)[shown]
    played = np.where(adapted.gate > 0, adapted.f0_hz, np.nan)[shown]
    axis.plot(times, heard, color="tab:blue", linewidth=1.2, label="heard")
    axis.plot(times, played, color="tab:orange", linewidth=1.2, label="played")
    axis.set_yscale("log", base=2)
    axis.yaxis.set_major_formatter(lambda hz, _: f"{hz:g}")
    axis.set_ylabel("pitch (Hz)")
    axis.grid(alpha=0.3)
    axis.legend(loc="upper right", fontsize=8)


def _level(axis: Any, features: Features, adapted: Adapted, level: str, n_shown: int) -> None:
    shown = slice(0, n_shown)
    times = features.times_s[shown]
    axis.plot(times, getattr(features, level)[shown], color="tab:blue", linewidth=1.0, label="heard")
    axis.plot(times, adapted.level_db[shown], color="tab:orange", linewidth=1.0, label="played")
    axis.set_ylabel(f"{level.removesuffix('_db')} (dB)")
    axis.grid(alpha=0.3)
    gate = axis.twinx()
    gate.fill_between(times, adapted.gate[shown], color="tab:green", alpha=0.15, linewidth=0)
    gate.set_ylim(0, 1.05)
    gate.set_ylabel("gate")
    axis.legend(loc="lower right", fontsize=8)
