"""`ddsp evaluate`: figures of an instrument on recordings."""

from pathlib import Path
from typing import Annotated

import typer

from ddsp_cli.cli import console
from ddsp_cli.cli.options import Force, Instrument, only_instrument
from ddsp_cli.cli.transfer import end_with_failures


def evaluate(
    model: Instrument,
    audio: Annotated[
        list[Path] | None,
        typer.Argument(metavar="AUDIO...", help="Recordings of the same instrument, or folders of them."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Data set whose validation split is used; by default datasets/NAME."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for evaluation.json and a picture of each recording."),
    ] = None,
    reliable: Annotated[
        bool,
        typer.Option(
            "--reliable", help="Also measure pitch in the frames where pYIN confirms the F0 of the recording; slow."
        ),
    ] = False,
    force: Force = False,
) -> None:
    """Resynthesise recordings and measure the errors."""
    from ddsp_cli.analysis.metrics import METRICS
    from ddsp_cli.workflows.evaluate import evaluate as run

    name = only_instrument(model)
    with console.Progress("recordings") as progress:
        found = run(name, audio or [], dataset=dataset, out=out, force=force, reliable=reliable, progress=progress)
    shown = {name: column for name, column in METRICS.items() if any(name in one.figures for one in found)}
    rows = [
        [one.name, f"{one.seconds:.0f} s"]
        + [form.format(one.figures[name]) if name in one.figures else "-" for name, (_, form) in shown.items()]
        for one in found
    ]
    console.table(["recording", "length", *(title for title, _ in shown.values())], rows)
    if out is not None:
        console.say(f"Figures and pictures: {out}")
    end_with_failures(found.failures, len(found) + len(found.failures), "recordings could not be compared")
