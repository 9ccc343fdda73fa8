"""Options that several commands share, and checks of their values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from ddsp_cli.errors import UsageError, did_you_mean


def choice(option: str, value: str, known: tuple[str, ...]) -> None:
    """Checks an option with a fixed set of values.

    Raises:
      UsageError: it is none of them.
    """
    if value not in known:
        raise UsageError(f"{option} {value} is not known", did_you_mean(value, known))


def typed(argument: str | Path) -> str:
    """An argument as it is typed into a shell: in quotation marks where it holds more than words and paths do."""
    return str(argument) if re.fullmatch(r"[\w./\\:-]+", str(argument)) else f'"{argument}"'


def instrument_names(incomplete: str) -> list[str]:
    """Names of instruments, for the shell to complete; of a blend, those of its last part."""
    from ddsp_cli.workflows.models import names

    before, plus, last = incomplete.rpartition("+")
    return [before + plus + name for name in names() if name.startswith(last)]


def preset_names(incomplete: str) -> list[str]:
    """Names of presets, for the shell to complete."""
    from ddsp_cli import config

    return [name for name in config.preset_names() if name.startswith(incomplete)]


Force = Annotated[bool, typer.Option("--force", help="Replace what exists.")]
Seed = Annotated[int, typer.Option(help="Random seed.")]
Instrument = Annotated[
    str,
    typer.Option("--model", "-m", metavar="NAME|DIR", help="The instrument.", autocompletion=instrument_names),
]
Instruments = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|DIR|all",
        help="The instrument; may be repeated. flute:0.6+violin:0.4 is a blend of two.",
        autocompletion=instrument_names,
    ),
]
Wet = Annotated[
    str, typer.Option(metavar="0..4", help="How much of the room.", rich_help_panel="Sound of the instrument")
]
Tail = Annotated[
    bool,
    typer.Option(
        "--tail",
        help="Let the room ring out, to -60 dB, after the input ends.",
        rich_help_panel="Sound of the instrument",
    ),
]
Tracker = Annotated[
    str, typer.Option(metavar="swift-f0|pyin|crepe", help="The pitch tracker.", rich_help_panel="Pitch")
]
SampleRate = Annotated[
    int | None,
    typer.Option(metavar="HZ", help="Of the output; by default that of the input.", rich_help_panel="Files"),
]
Bits = Annotated[
    str | None,
    typer.Option(
        metavar="16|24|32|float", help="Of the output; by default those of the input.", rich_help_panel="Files"
    ),
]
