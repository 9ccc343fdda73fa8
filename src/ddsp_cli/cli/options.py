"""What several commands share: options of one kind, and checks of their values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from ddsp_cli.errors import UsageError, did_you_mean

Force = Annotated[bool, typer.Option("--force", help="Replace what exists.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of everything random.")]


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
