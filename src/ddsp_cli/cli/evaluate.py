"""`ddsp evaluate`: figures of an instrument on recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddsp_cli import console
from ddsp_cli.cli.options import Force


def evaluate(
    model: Annotated[str, typer.Option(metavar="NAME|DIR", help="The instrument.")],
    audio: Annotated[
        list[Path] | None, typer.Argument(metavar="[AUDIO]...", help="Recordings of the same instrument, or folders.")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="Data set whose validation part is judged; by default datasets/NAME.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write evaluation.json and a picture of each here.")
    ] = None,
    force: Force = False,
) -> None:
    """Measure how near an instrument comes to recordings that it plays after."""
    from ddsp_cli.workflows.evaluate import evaluate as run

    with console.Progress("recordings") as progress:
        found = run(model, audio or [], dataset=dataset, out=out, force=force, progress=progress)
    rows = [
        [
            one.name,
            f"{one.seconds:.0f} s",
            f"{one.figures['spectral_loss']:.2f}",
            f"{one.figures['pitch_within_50_cents']:.1%}",
            f"{one.figures['pitch_error_cents']:.1f}",
            f"{one.figures['voiced_recall']:.1%}",
            f"{one.figures['loudness_error_db']:.1f} dB",
        ]
        for one in found
    ]
    columns = ["recording", "length", "spectral loss", "within 50 cents", "cents", "notes found", "loudness error"]
    console.table(columns, rows)
    if out is not None:
        console.say(f"Figures and pictures: {out}")
