"""`ddsp prepare`: options, and what is said of the result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddsp_cli import console
from ddsp_cli.cli.options import Force, choice


def prepare(
    audio: Annotated[list[Path], typer.Argument(help="Recordings, or folders of them.")],
    name: Annotated[str | None, typer.Option(help="Of the data set; by default that of the first folder.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; by default datasets/NAME.")] = None,
    sample_rate: Annotated[int, typer.Option(metavar="HZ", help="Of the sound that the model will make.")] = 16000,
    pitch: Annotated[str, typer.Option(metavar="swift-f0|pyin|crepe", help="The pitch tracker.")] = "swift-f0",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; by default one per core.")] = None,
    level: Annotated[
        str, typer.Option(metavar="match|keep", help="Bring folders to one level, or leave levels alone.")
    ] = "match",
    licence: Annotated[str, typer.Option(help="Of the recordings; it goes into the instrument's card.")] = "unknown",
    sources: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML that names the recordings' authors and licences, for the same card."),
    ] = None,
    force: Force = False,
) -> None:
    """Measure recordings of an instrument and make a data set of them."""
    from ddsp_cli.workflows.prepare import prepare as run

    choice("--level", level, ("match", "keep"))
    with console.Progress() as progress:
        result = run(
            audio,
            name=name,
            out=out,
            sample_rate_hz=sample_rate,
            pitch=pitch,
            workers=workers,
            force=force,
            level=level,  # type: ignore[arg-type]
            licence=licence,
            sources=sources,
            progress=progress,
        )
    for title, reason in result.skipped:
        console.remark(f"Left out {title}: {reason}")
    for title, reason in result.notes:
        console.remark(f"{title}: {reason}")
    low, high = console.note_name(result.lowest_midi), console.note_name(result.highest_midi)
    done = "is up to date" if result.unchanged else "is ready"
    console.say(
        f"{result.folder} {done}: {result.minutes:.1f} minutes from {result.n_used} of {result.n_recordings} "
        f"recordings, notes {low} to {high}, {result.quietest_db:.0f} to {result.loudest_db:.0f} dBFS."
    )
    if result.advice:
        console.say(result.advice)
    console.say(f"Train on it with: ddsp train --instrument {result.name}")
