"""`ddsp export`: options, and what is said of the result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddsp_cli.cli import console
from ddsp_cli.cli.options import Force


def export(
    model: Annotated[str, typer.Option(metavar="NAME|DIR", help="The instrument; or a .tflite of DDSP-VST.")],
    format_: Annotated[str, typer.Option("--format", metavar="savedmodel|litert|onnx|vst", help="What to make of it.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to write it.")] = None,
    force: Force = False,
) -> None:
    """Turn an instrument into a format for other programs."""
    from ddsp_cli.workflows.export import export as run

    result = run(model, format_, out=out, force=force)
    checks = ", ".join(f"{key} {value:.3g}" for key, value in result.checks.items())
    console.say(f"{result.folder}: {result.format}, {console.size(result.size_bytes)}{'; ' if checks else ''}{checks}")
