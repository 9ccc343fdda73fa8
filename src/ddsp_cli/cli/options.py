"""Options: the layout of their help, those that several commands share, and checks of their values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperCommand

from ddsp_cli.errors import UsageError, did_you_mean


class Command(TyperCommand):
    """Groups options in the help by their `rich_help_panel`, in the order of their declaration.

    Attributes:
      value_optional: options whose value may be left out; it is "" then.
    """

    value_optional: ClassVar[tuple[str, ...]] = ()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts in the values that were left out."""
        filled = []
        for i, word in enumerate(args):
            filled.append(word)
            if word in self.value_optional and (i + 1 == len(args) or args[i + 1].startswith("-")):
                filled.append("")
        return list(super().parse_args(ctx, filled))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes arguments, options, and further groups of options."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            title = "Arguments" if param.param_type_name == "argument" else "Options"
            groups.setdefault(getattr(param, "rich_help_panel", None) or title, []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes examples line by line."""
        if self.epilog:
            formatter.write_paragraph()
            for line in self.epilog.strip().splitlines():
                formatter.write(f"{line}\n")


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
