"""`training.html` and `training.png`: how a training went, and the instrument beside what it did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddsp_cli import bundle
from ddsp_cli.atomic import write_bytes, writing
from ddsp_cli.reports import page as reports_page
from ddsp_cli.reports import plots
from ddsp_cli.training.checkpoint import Point, RunState, read_state
from ddsp_cli.workflows.evaluate import SHOWN, Clip, resynthesise

if TYPE_CHECKING:
    from ddsp_cli.dataset.loader import Dataset


PAGE, PICTURE = "training.html", "training.png"

ABOUT_LOSSES = (
    "Where the preset has a room_penalty (vst: 0.2 times the reverberance of the room), the training loss contains it, "
    "the validation loss does not."
)

#: So many windows are played, those that hold notes for at least this share of their time, spread over the recordings.
N_CLIPS = 4

LEAST_VOICED = 0.5


def write_training_report(run_folder: Path, bundle_folder: Path, data: Dataset) -> Path:
    """Writes page and picture into the folder of a run, each whole or not at all.

    Args:
      run_folder: of the run, whose checkpoint knows the curves.
      bundle_folder: the instrument as it is now.
      data: what it learns from; its validation part is played.

    Returns:
      the page.

    Raises:
      ModelError: instrument or checkpoint cannot be read.
      OutputError: the files cannot be written.
    """
    loaded = bundle.load(bundle_folder)
    state = read_state(run_folder) or RunState(preset="", dataset="", seed=0)
    clips = [resynthesise(loaded, data, np.array([row])) for row in choose_windows(data)]
    picture = draw_training(state.history, clips[0])
    page = make_page(loaded, state, picture, clips)
    with writing(run_folder):
        write_bytes(run_folder / PICTURE, picture)
        write_bytes(run_folder / PAGE, page.encode())
    return run_folder / PAGE


def choose_windows(data: Dataset) -> list[int]:
    """Validation windows to listen to: up to `N_CLIPS` that hold notes, in the order of the recordings."""
    voiced = np.mean(data.validation.f0_hz > 0, axis=1)
    usable = np.flatnonzero(voiced >= LEAST_VOICED)
    if not len(usable):
        usable = np.array([int(np.argmax(voiced))])
    places = np.linspace(0, len(usable) - 1, min(N_CLIPS, len(usable))).round().astype(int)
    return [int(row) for row in usable[np.unique(places)]]


def make_page(loaded: bundle.Bundle, state: RunState, picture: bytes, clips: Sequence[Clip]) -> str:
    """The page as text."""
    name = loaded.card.name
    sections = [f"<section>{reports_page.table(_facts(loaded, state))}"]
    sections.append(
        reports_page.picture(picture, "Loss against steps and minutes; spectrograms of a recording and of ours")
    )
    sections.append(f"<p>{ABOUT_LOSSES}</p></section>")
    for i, clip in enumerate(clips, 1):
        sounds = (("recording", clip.recording, ""), ("reconstruction", clip.rendering, in_words(clip.figures())))
        players = "".join(
            reports_page.player(reports_page.mp3([s], clip.rate_hz), title, about) for title, s, about in sounds
        )
        pair = plots.draw_pair(clip.recording, clip.rendering, clip.rate_hz)
        sections.append(
            f'<section><h2>Clip {i}</h2><div class="players">{players}</div>'
            + reports_page.picture(pair, f"Clip {i}: spectrograms of recording and reconstruction, and their levels")
            + "</section>"
        )
    return reports_page.document(f"{name}: ddsp train", f"The training of {name}", "\n".join(sections))


def in_words(figures: dict[str, float]) -> str:
    """Figures with their names, in the order in which `ddsp evaluate` shows them."""
    known = [(name, shown) for name, shown in SHOWN.items() if name in figures]
    return ", ".join(f"{title} {form.format(figures[name])}" for name, (title, form) in known)


def _facts(loaded: bundle.Bundle, state: RunState) -> list[tuple[str, str]]:
    card = loaded.card
    n_weights = sum(value.size for value in loaded.weights.values())
    end = "" if state.finished else ", not finished"
    facts = [
        ("model", f"{card.training.preset}, {n_weights:,} weights"),
        ("learned from", _time(card.training.audio_s)),
        ("trained for", f"{state.step:,} steps in {_time(state.wall_s)}{end}"),
    ]
    if state.history:
        best = best_point(state.history)
        facts.append((
            "validation loss",
            f"{state.history[0].validation_loss:.2f} at first, {best.validation_loss:.2f} at its best, after step "
            f"{best.step:,}",
        ))  # fmt: skip
    if judged := in_words(card.metrics):
        facts.append((f"on {_time(card.metrics.get('judged_s', 0.0))} it did not learn from", judged))
    if state.rollbacks:
        times = "once" if state.rollbacks == 1 else f"{state.rollbacks} times"
        facts.append(("went back to a checkpoint", f"{times}, because the loss broke or the model fell silent"))
    return facts


def best_point(history: Sequence[Point]) -> Point:
    """The validation whose weights were kept."""
    return min(history, key=lambda point: point.validation_loss)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def draw_training(history: Sequence[Point], clip: Clip) -> bytes:
    """Draws the curves of a training, and spectrograms of a recording and of what the instrument makes of it.

    Args:
      history: the validations; where they know no times, loss is drawn against steps alone.
      clip: what to show.

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


def _curves(axis: Any, history: Sequence[Point], places: Sequence[float], unit: str) -> None:
    axis.set_xlabel(unit)
    axis.grid(alpha=0.3)
    if not history:
        return
    for name, values in (
        ("training", [point.loss for point in history]),
        ("validation", [point.validation_loss for point in history]),
    ):
        axis.plot(places, values, linewidth=1.2, marker="." if len(history) < 50 else "", label=name)
    best = best_point(history)
    place = places[list(history).index(best)]
    words = f"best: {best.validation_loss:.2f} after {place:,.0f}" if unit == "steps" else f"best: after {place:.1f}"
    axis.plot([place], [best.validation_loss], "o", color="tab:red", label=f"{words} {unit}")
    axis.legend(loc="upper right", fontsize=8)
