"""Options: layout of the help, options that several commands share, checks of values, and errors in terms of options.

Errors of the library name no option. `error_message` and `error_hint` say which option is wrong, and which option or
command helps.
"""

import os
import re
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperCommand

from ddsp_cli.errors import DdspError, Kind, UsageError
from ddsp_cli.shell import escaped, quoted

#: Text that click adds about the limits of a number, `[x>=1]` or `; 0<=x<=9]`: the metavar has them, as `0..9`.
_NUMBERS = re.compile(r"\s*\[[\d<=]*x[<>=]+\d+\]|; [\d<=]*x[<>=]+\d+(?=\])")


class Command(TyperCommand):
    """Groups options in the help by their `rich_help_panel`, in the order of their declaration.

    Attributes:
      value_optional: options whose value may be left out; it is "" then.
    """

    value_optional: ClassVar[tuple[str, ...]] = ()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Inserts empty values for options whose value was left out."""
        filled = []
        for i, word in enumerate(args):
            filled.append(word)
            if word in self.value_optional and (i + 1 == len(args) or args[i + 1].startswith("-")):
                filled.append("")
        return list(super().parse_args(ctx, filled))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes arguments, options, and further groups of options."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            record = (record[0], _NUMBERS.sub("", record[1]))
            title = "Arguments" if param.param_type_name == "argument" else "Options"
            groups.setdefault(getattr(param, "rich_help_panel", None) or title, []).append(record)
        for title, records in groups.items():
            if not records:
                continue
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes examples line by line."""
        if self.epilog:
            formatter.write_paragraph()
            for line in self.epilog.strip().splitlines():
                formatter.write(f"{line}\n")


def only_instrument(models: list[str]) -> str:
    """Returns the one instrument of `Instrument`, of which the last would be taken otherwise.

    Raises:
      UsageError: several are named.
    """
    if len(models) > 1:
        raise UsageError(f"--model: one instrument is taken, not {' and '.join(models)}", "Name them one by one.")
    return models[0]


class Completion(str):
    """A word that the shell completes, which may have spaces.

    bash inserts what it gets without a change: spaces need a backslash, but not inside quotation marks. Other shells
    add what they need themselves. typer compares the word with what was typed, and then formats it.
    """

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        """Returns the word as the shell inserts it."""
        if os.environ.get("_DDSP_COMPLETE") != "complete_bash":
            return str.__format__(self, spec)
        typed = os.environ.get("COMP_WORDS", "").split("\n")[int(os.environ.get("COMP_CWORD", "0")) :]
        is_quoted = bool(typed) and typed[0].startswith(('"', "'"))
        return str.__format__(self if is_quoted else escaped(self), spec)


def instrument_names(incomplete: str) -> list[str]:
    """Returns the names of instruments, for the shell to complete; of a blend, those of its last part."""
    from ddsp_cli.workflows.models import names

    before, plus, last = incomplete.rpartition("+")
    return [Completion(before + plus + name) for name in names() if name.startswith(last)]


def start_names(incomplete: str) -> list[str]:
    """Returns the instruments that a training can start from, for the shell to complete."""
    return [*instrument_names(incomplete), *(name for name in ("base", "none") if name.startswith(incomplete))]


def one_of(*words: str) -> dict[str, Any]:
    """Makes the arguments of an option that takes one of some words, for its help and for the shell to complete."""
    return {
        "metavar": "|".join(words),
        "autocompletion": lambda incomplete: [word for word in words if word.startswith(incomplete)],
    }


def preset_names(incomplete: str) -> list[str]:
    """Returns the names of presets, for the shell to complete."""
    from ddsp_cli import config

    return [name for name in config.preset_names() if name.startswith(incomplete)]


Force = Annotated[bool, typer.Option("--force", help="Replace existing files.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Random seed; the same seed gives the same result.")]
Instrument = Annotated[
    list[str],
    typer.Option("--model", "-m", metavar="NAME|DIR", help="The instrument.", autocompletion=instrument_names),
]
Instruments = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|DIR|all",
        help="Instrument: a name, a folder, or all; may be repeated. flute:0.6+violin:0.4 blends two.",
        autocompletion=instrument_names,
    ),
]
Wet = Annotated[
    str,
    typer.Option(
        metavar="0..4", help="Amount of reverb: 0 is dry, 1 leaves the room unchanged.", rich_help_panel="Sound"
    ),
]
Tail = Annotated[
    bool,
    typer.Option(
        "--tail",
        help="Let the room ring out, to -60 dB, after the input ends.",
        rich_help_panel="Sound",
    ),
]
Tracker = Annotated[
    str,
    typer.Option(
        help="Pitch tracker: swift-f0 is fast, pyin is slow, crepe needs an extra package.",
        rich_help_panel="Pitch",
        **one_of("swift-f0", "pyin", "crepe"),
    ),
]
SampleRate = Annotated[
    int | None,
    typer.Option(
        metavar="HZ", help="Sample rate of the output; by default that of the input.", rich_help_panel="Files"
    ),
]
Bits = Annotated[
    str | None,
    typer.Option(
        help="Bit depth of the output; by default that of the input, and at least 16.",
        rich_help_panel="Files",
        **one_of("16", "24", "32", "float"),
    ),
]


# --- errors in the words of the command line -------------------------------------------------------------------------


#: Hint for each kind of error; `{name}` is filled from the error's details.
HINTS = {
    Kind.EXISTS: "Use --force to replace it, or choose another name.",
    Kind.NO_INPUT: "Name a recording, or a file of curves with --from-controls.",
    Kind.AUTOTUNE: "Add --autotune 1.",
    Kind.REVERB: "Put recordings into a room with: ddsp reverb INPUT --room NAME",
    Kind.NO_ROOM: "Name an instrument or an impulse response: --room flute.",
    Kind.HIDES_BUNDLED: "Choose another name, such as my-{name}; with --force yours is played in its place.",
    Kind.SCORE: "Play it on an instrument: ddsp transfer {path} --model NAME",
    Kind.SEVERAL_VOICES: "Play one line with --voices lead.",
    Kind.NOTE_TABLE: "Play it with its recording: ddsp transfer RECORDING --from-notes {path} --model NAME",
    Kind.NOTHING_TO_COMPARE: "Name recordings: ddsp evaluate --model NAME RECORDINGS; or its data set: --dataset DIR.",
    Kind.CURVES: "Play it with --from-controls {path}.",
    Kind.UNKNOWN_INSTRUMENT: "List instruments with: ddsp models. Searched {searched}.",
    Kind.BLEND: "Make an instrument of it: ddsp models blend {mix} --name NAME",
    Kind.NO_INSTRUMENTS: "Train one with: ddsp train --instrument NAME",
    Kind.SHARE: "Name one; to pack one into a file: ddsp models share NAME",
    Kind.NO_NAME: "Give --model NAME; ddsp models lists them.",
    Kind.CHECKPOINT: "Import it with: ddsp import {path} --name NAME",
    Kind.NOT_PLAYED: "Name one instrument: ddsp models lists them. New ones begin with it: ddsp train --from base",
    Kind.SHARED_FILE: "Import it with: ddsp import {path}",
    Kind.FOREIGN_MODEL: "Import a model of another program with: ddsp import PATH --name NAME",
    Kind.UNKNOWN_DATASET: "Make one with: ddsp prepare FOLDER_OF_RECORDINGS",
    Kind.FOREIGN_SHARDS: "It holds shards of another program. Make a data set from them with: "
    "ddsp prepare {path} --name NAME",
    Kind.DATASET_DAMAGED: "Prepare the data set again with --force.",
    Kind.OTHER_FEATURES: "Prepare the recordings again with --force, and with --like NAME to train the instrument NAME "
    "further.",
    Kind.OTHER_RATE: "Prepare it again with --sample-rate {rate_hz} --force.",
    Kind.NO_VALIDATION: "Prepare it again with --hold-out, or name recordings.",
    Kind.OTHER_RUN: "Start again with --fresh --force, or give the {argument} it was started with.",
    Kind.CREPE_WEIGHTS: "Download {file} from {url} and put it into {folder} "
    "(ddsp prepare also takes --crepe-weights FILE).",
    Kind.CHECKPOINT_UNUSABLE: "The instrument is as it was. Start again with --fresh --force.",
}

#: Names of options that differ from the names of their arguments in the library; None for an argument without option.
OPTION_NAMES = {
    "inputs": None,
    "louder_db": "--loudness",
    "sample_rate_hz": "--sample-rate",
    "start_from": "--from",
    "formant_semitones": "--formant",
    "tracker": "--pitch",
}


def option_name(parameter: str) -> str:
    """Returns the option for an argument of the library: `--from-controls` for `from_controls`; empty without one."""
    return OPTION_NAMES.get(parameter, "--" + parameter.replace("_", "-")) or ""


def error_message(problem: DdspError) -> str:
    """Returns the message of an error, after the name of the option that is wrong."""
    name = option_name(problem.parameter) if problem.parameter else ""
    return f"{name}: {problem.message}" if name else problem.message


def _typed(name: str, value: object) -> object:
    """Returns a detail of an error as it is typed: a path or a blend quoted, an argument as its option."""
    if name == "argument":
        return option_name(str(value))
    return quoted(str(value)) if name in {"path", "mix"} else value


def error_hint(problem: DdspError) -> str:
    """Returns the hint for an error, in the words of the command line."""
    if problem.kind in HINTS:
        return HINTS[problem.kind].format(**{name: _typed(name, value) for name, value in problem.details.items()})
    return problem.hint
