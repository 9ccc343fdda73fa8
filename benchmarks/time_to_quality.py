"""How soon a training gets how good: held-out loss against minutes, beside the original's.

    python benchmarks/time_to_quality.py models/violin.run [MORE.run ...] [--out time-to-quality.png]

Reads the checkpoints of finished, running or broken-off trainings. Loss is the lowest validation loss until then: the
original's spectral loss, summed over six FFT sizes, of held-out windows of 4 s; runs of presets that use other terms
cannot be compared with it. Minutes are those of `fit`, validation and compilation, without loading the data.

The original (magenta/ddsp 3.7.0, vst.gin, batch 16, two CPU cores) learned from violin recordings by Garner
(movement 6) and Kim (movement 4) and was judged on Garner's movement 8.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli.errors import ModelError
from ddsp_cli.training.checkpoint import read_state

#: Minutes → held-out loss of the original, 1,200 steps in all.
ORIGINAL = {5: 8.6, 10: 7.5, 20: 7.2, 30: 7.3, 40: 7.1}

#: The minutes at which the table looks, and the losses whose first minute it tells.
MINUTES = (1, 2, 4, 5, 10, 15, 20, 30, 40, 60, 90)
LOSSES = (8.6, 7.5, 7.1, 6.5)


def curve(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns minutes [N] and the lowest validation loss until then [N].

    Raises:
      ModelError: there is no checkpoint, or it was made before times were noted.
    """
    state = read_state(run)
    timed = [point for point in state.history if point.wall_s > 0] if state is not None else []
    if not timed:
        raise ModelError(f"{run} holds no training whose validations know their time")
    minutes = np.array([point.wall_s / 60 for point in timed])
    return minutes, np.minimum.accumulate([point.validation_loss for point in timed])


def at(minutes: np.ndarray, losses: np.ndarray, minute: float) -> float:
    """Returns the lowest loss so far at a minute; NaN before the first validation and after the last."""
    index = int(np.searchsorted(minutes, minute, side="right")) - 1
    return float(losses[index]) if index >= 0 and minute <= minutes[-1] else float("nan")


def first_below(minutes: np.ndarray, losses: np.ndarray, loss: float) -> float:
    """Returns the minute at which a loss was reached; NaN where it never was."""
    reached = np.flatnonzero(losses <= loss)
    return float(minutes[reached[0]]) if len(reached) else float("nan")


def draw(path: Path, curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Draws all curves on a logarithmic axis of minutes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axis: Any = figure.subplots()
    for name, (minutes, losses) in curves.items():
        axis.step(minutes, losses, where="post", linewidth=1.5, label=f"{name}: {losses[-1]:.2f}")
    axis.plot(*zip(*ORIGINAL.items(), strict=True), "ks--", linewidth=1, markersize=5, label="the original's vst")
    axis.set_xscale("log")
    ticks = [minute for minute in MINUTES if minute != 4]
    axis.set_xticks(ticks, [str(minute) for minute in ticks])
    axis.minorticks_off()
    axis.set_xlim(0.9, max([50.0, *(minutes[-1] * 1.1 for minutes, _ in curves.values())]))
    lowest = min([min(ORIGINAL.values()), *(losses[-1] for _, losses in curves.values())])
    axis.set_ylim(np.floor(lowest * 2) / 2 - 0.25, 12)
    axis.set_xlabel("minutes of training")
    axis.set_ylabel("held-out spectral loss, lowest so far")
    axis.grid(alpha=0.3)
    axis.legend(loc="upper right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Prints a table, and draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders NAME.run beside the instruments")
    parser.add_argument("--out", type=Path, default=Path("time-to-quality.png"))
    given = parser.parse_args()
    try:
        curves = {run.name.removesuffix(".run"): curve(run) for run in given.runs}
    except ModelError as problem:
        sys.exit(f"{problem}")
    original = np.array(list(ORIGINAL)), np.minimum.accumulate(list(ORIGINAL.values()))
    rows = {"original": original, **curves}
    width = max(map(len, rows)) + 2
    print(f"{'after':<{width}}" + "".join(f"{minute:>6} m" for minute in MINUTES))
    for name, found in rows.items():
        print(f"{name:<{width}}" + "".join(f"{at(*found, minute):>8.2f}" for minute in MINUTES))
    print(f"\n{'minutes to':<{width}}" + "".join(f"{loss:>8}" for loss in LOSSES))
    for name, found in rows.items():
        print(f"{name:<{width}}" + "".join(f"{first_below(*found, loss):>8.1f}" for loss in LOSSES))
    draw(given.out, curves)
    print(f"\n{given.out}")


if __name__ == "__main__":
    main()
