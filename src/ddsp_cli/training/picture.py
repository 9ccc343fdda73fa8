"""A validation clip and its reconstruction, one above the other. matplotlib, loaded only when drawing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddsp_cli.plots import spectrogram_db


def plot_pair(path: Path, recording: np.ndarray, rendering: np.ndarray, rate_hz: int) -> None:
    """Draws spectrograms of both on one colour scale, and their levels over time.

    Args:
      path: the PNG to write.
      recording, rendering: [S] at `rate_hz`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ddsp_cli.features.quality import level_db

    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 1, sharex=True)
    length_s = len(recording) / rate_hz
    for axis, audio, title in zip(axes, (recording, rendering), ("recording", "reconstruction"), strict=False):
        axis.imshow(
            spectrogram_db(audio),
            origin="lower",
            aspect="auto",
            extent=(0, length_s, 0, rate_hz / 2000),
            cmap="magma",
            interpolation="nearest",
        )
        axis.set_title(title, loc="left", fontsize=9)
        axis.set_ylabel("kHz")
    for audio, label in ((recording, "recording"), (rendering, "reconstruction")):
        level = level_db(audio, rate_hz)
        axes[2].plot(np.arange(len(level)) * 0.02, level, label=label, linewidth=1)
    axes[2].set_ylabel("level, dBFS")
    axes[2].set_xlabel("seconds")
    axes[2].set_ylim(-90, 0)
    axes[2].legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=90)
