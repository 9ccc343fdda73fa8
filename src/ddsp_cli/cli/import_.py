"""`ddsp import`: options, and what is said of the result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddsp_cli.cli import console
from ddsp_cli.cli.options import Force, typed
from ddsp_cli.pitch_names import note_name


def import_(
    path: Annotated[Path, typer.Argument(help="A DDSP-VST model (.tflite), or a Magenta checkpoint, folder or zip.")],
    name: Annotated[str, typer.Option(help="Of the instrument.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Its folder; by default models/NAME.")] = None,
    force: Force = False,
) -> None:
    """Make an instrument of a model of another program."""
    from ddsp_cli.workflows.import_ import import_instrument

    result = import_instrument(path, name, out=out, force=force)
    low, high = note_name(result.lowest_midi), note_name(result.highest_midi)
    console.say(f"{result.folder}: {result.kind}, {console.size(result.size_bytes)}, {low} to {high}")
    console.say(result.description)
    console.say(f"Play it with: ddsp transfer voice.wav --model {typed(result.name if out is None else result.folder)}")
