"""`training.html` and `training.png`: the curves of a training, its metrics, and clips of the validation split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ddsp_cli.analysis.metrics import describe
from ddsp_cli.atomic import write_bytes, writing
from ddsp_cli.reports import plots
from ddsp_cli.reports.page import as_mp3, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE, PICTURE = "training.html", "training.png"

ABOUT_LOSSES = (
    "The loss is the preset's; where it has a room_penalty (vst: 0.2 times the reverberance of the room), the training "
    "loss contains it and the validation loss does not. The spectral distance under a clip is measured at 16 kHz and "
    "is the same for every preset."
)

#: Curves of fewer validations have a marker at each.
MAX_MARKERS = 50


class Validation(Protocol):
    """A point of the curves; `training.checkpoint.Point` is one."""

    @property
    def step(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def validation_loss(self) -> float: ...
    @property
    def wall_s(self) -> float: ...


class Reconstruction(Protocol):
    """A recording and its rendering; `workflows.evaluate.Clip` is one."""

    @property
    def recording(self) -> np.ndarray: ...
    @property
    def rendering(self) -> np.ndarray: ...
    @property
    def rate_hz(self) -> int: ...
    def figures(self) -> dict[str, float]: ...


@dataclass(frozen=True)
class TrainingSummary:
    """Summary of a training for its page.

    Attributes:
      instrument: its name.
      preset: of its model.
      n_weights: of the model and its room.
      audio_s: seconds of sound in the training split.
      steps, wall_s: steps done, and the seconds they took.
      finished: False for a training that can go on.
      rollbacks: how often it went back to a checkpoint.
      history: all validations.
      metrics: on the validation split, with the seconds of sound they were measured on as `judged_s`.
    """

    instrument: str
    preset: str
    n_weights: int
    audio_s: float
    steps: int
    wall_s: float
    finished: bool
    rollbacks: int
    history: Sequence[Validation]
    metrics: Mapping[str, float]


def write_training_report(folder: Path, summary: TrainingSummary, clips: Sequence[Reconstruction]) -> Path:
    """Writes page and picture into the folder of a run, each whole or not at all.

    Args:
      folder: of the run.
      summary: of the training.
      clips: at least one; the picture shows the first.

    Returns:
      The page.

    Raises:
      OutputError: the files cannot be written.
    """
    picture = draw_training(summary.history, clips[0])
    page = make_page(summary, picture, clips)
    with writing(folder):
        write_bytes(folder / PICTURE, picture)
        write_bytes(folder / PAGE, page.encode())
    return folder / PAGE


def make_page(summary: TrainingSummary, picture: bytes, clips: Sequence[Reconstruction]) -> str:
    """Returns the page as HTML text.

    Args:
      summary, clips: as `write_training_report`.
      picture: see `draw_training`.
    """
    content = [
        {
            "recording": as_mp3([clip.recording], clip.rate_hz),
            "rendering": as_mp3([clip.rendering], clip.rate_hz),
            "about": describe(clip.figures()),
            "picture": plots.draw_pair(clip.recording, clip.rendering, clip.rate_hz),
        }
        for clip in clips
    ]
    name = summary.instrument
    return render(
        "training.html", f"{name}: ddsp train", f"The training of {name}",
        facts=_facts(summary), picture=picture, about_losses=ABOUT_LOSSES, clips=content,
    )  # fmt: skip


def _facts(summary: TrainingSummary) -> list[tuple[str, str]]:
    end = "" if summary.finished else ", not finished"
    facts = [
        ("model", f"{summary.preset}, {summary.n_weights:,} weights"),
        ("training split", _duration(summary.audio_s)),
        ("trained for", f"{summary.steps:,} steps in {_duration(summary.wall_s)}{end}"),
    ]
    if summary.history:
        first, best = summary.history[0], best_point(summary.history)
        text = f"{first.validation_loss:.2f} at first, {best.validation_loss:.2f} at its best, after step {best.step:,}"
        facts.append(("validation loss", text))
    if metrics := describe(summary.metrics):
        facts.append((f"on {_duration(summary.metrics.get('judged_s', 0.0))} of the validation split", metrics))
    if summary.rollbacks:
        times = "once" if summary.rollbacks == 1 else f"{summary.rollbacks} times"
        facts.append(("went back to a checkpoint", f"{times}, because the loss broke or the model fell silent"))
    return facts


def best_point(history: Sequence[Validation]) -> Validation:
    """Returns the validation with the lowest loss, whose weights were kept."""
    return min(history, key=lambda point: point.validation_loss)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def draw_training(history: Sequence[Validation], clip: Reconstruction) -> bytes:
    """Draws the loss against steps and minutes, and spectrograms of a recording and its reconstruction.

    Args:
      history: the validations; where they know no times, loss is drawn against steps alone.
      clip: to show.

    Returns:
      A PNG.
    """
    figure = plots.new_figure(12, 8)
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.2, 1])
    curves: Any = parts[0].subplots(1, 2, sharey=True)
    _curves(curves[0], history, [point.step for point in history], "steps")
    timed = [point for point in history if point.wall_s > 0]
    _curves(curves[1], timed, [point.wall_s / 60 for point in timed], "minutes")
    curves[0].set_ylabel("loss")
    sounds = ((clip.recording, "recording"), (clip.rendering, "reconstruction"))
    for axis, (audio, title) in zip(parts[1].subplots(1, 2, sharey=True), sounds, strict=True):
        plots.show_spectrogram(axis, audio, clip.rate_hz)
        axis.set_title(title, loc="left", fontsize=9)
        axis.set_xlabel("seconds")
    return plots.as_png(figure)


def _curves(axis: Axes, history: Sequence[Validation], places: Sequence[float], unit: str) -> None:
    axis.set_xlabel(unit)
    axis.grid(alpha=0.3)
    if not history:
        return
    for name, values in (
        ("training", [point.loss for point in history]),
        ("validation", [point.validation_loss for point in history]),
    ):
        axis.plot(places, values, linewidth=1.2, marker="." if len(history) < MAX_MARKERS else "", label=name)
    best = best_point(history)
    place = places[list(history).index(best)]
    words = f"best: {best.validation_loss:.2f} after {place:,.0f}" if unit == "steps" else f"best: after {place:.1f}"
    axis.plot([place], [best.validation_loss], "o", color="tab:red", label=f"{words} {unit}")
    axis.legend(loc="upper right", fontsize=8)
