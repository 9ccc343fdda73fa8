"""`ddsp import`: options, and the summary of the result."""

from pathlib import Path
from typing import Annotated

import typer

from ddsp_cli.cli import console
from ddsp_cli.cli.options import Force
from ddsp_cli.pitch_names import note_name
from ddsp_cli.shell import quoted

EPILOG = """
Examples:

  ddsp import viola.ddsp --library

  ddsp import model.tflite --name viola
"""


def import_(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A shared instrument (.ddsp), a DDSP-VST model (.tflite), or a Magenta checkpoint, folder or zip.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the instrument; by default that of a shared one.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder of the instrument; by default models/NAME."),
    ] = None,
    library: Annotated[
        bool, typer.Option("--library", help="Install it in your library, where ddsp finds it from every folder.")
    ] = False,
    force: Force = False,
) -> None:
    """Import a shared instrument, or a model of another program."""
    from ddsp_cli.workflows.import_ import import_instrument

    result = import_instrument(path, name, out=out, force=force, library=library)
    low, high = note_name(result.lowest_midi), note_name(result.highest_midi)
    console.say(f"{result.folder}: {result.kind}, {console.size(result.size_bytes)}, {low} to {high}")
    console.say(result.description)
    console.say(
        f"Play it with: ddsp transfer voice.wav --model {quoted(result.name if out is None else result.folder)}"
    )
