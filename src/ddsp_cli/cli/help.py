"""Lay out the help of a command: options in groups, examples unwrapped."""

from __future__ import annotations

from typing import Any, ClassVar

from typer.core import TyperCommand


class Command(TyperCommand):
    """A command whose options stand in the groups that `rich_help_panel` names, in the order in which they come.

    Attributes:
      value_optional: options that may stand without their value, which is "" then.
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
