"""`ddsp export`: options, and what is said of the result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddsp_cli.cli import console
from ddsp_cli.cli.options import Force, Instrument


def export(
    model: Instrument,
    format_: Annotated[str, typer.Option("--format", metavar="savedmodel|litert|onnx|vst", help="The format.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder to write; by default NAME_FORMAT.")
    ] = None,
    force: Force = False,
) -> None:
    """Turn an instrument into a format for other programs."""
    from ddsp_cli.workflows.export import export as run

    result = run(model, format_, out=out, force=force)
    checks = ", ".join(f"{key} {value:.3g}" for key, value in result.checks.items())
    console.say(f"{result.folder}: {result.format}, {console.size(result.size_bytes)}{'; ' if checks else ''}{checks}")
