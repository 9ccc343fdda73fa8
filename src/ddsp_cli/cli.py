"""The `ddsp` command: options to one call of a workflow, and the one place where failures are caught.

What a command needs is imported inside it: `ddsp --help` and `ddsp transfer` load no training framework.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddsp_cli import __version__, console
from ddsp_cli.errors import DdspError, ExitCode, UsageError, did_you_mean

if TYPE_CHECKING:
    from ddsp_cli.workflows.transfer import TransferResult

app = typer.Typer(
    name="ddsp",
    help="Play a recording on an instrument learned from recordings (DDSP timbre transfer).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

#: What is there after Ctrl-C.
KEPT = {
    "prepare": "Nothing half-made is left; run the same command to start over.",
    "train": "The last checkpoint is kept; run the same command to go on from it.",
    "transfer": "Sound files that were finished are kept.",
    "export": "Nothing half-made is left.",
}

#: Of click, which typer brings along inside or beside itself.
_ClickUsageError: Any = typer.BadParameter.__mro__[1]

Force = Annotated[bool, typer.Option("--force", help="Replace what exists.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of everything random.")]


def _version(wanted: bool) -> None:
    if wanted:
        console.say(f"ddsp {__version__}")
        raise typer.Exit


@app.callback()
def _ddsp(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Play a recording on an instrument learned from recordings (DDSP timbre transfer)."""


@app.command()
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


@app.command()
def train(
    instrument: Annotated[str, typer.Option(help="Name of the instrument.")],
    dataset: Annotated[Path | None, typer.Option(help="Data set; by default datasets/NAME.")] = None,
    preset: Annotated[str, typer.Option(help="Which model: vst, solo, or a YAML file.")] = "vst",
    steps: Annotated[int | None, typer.Option(min=1, help="How long, in all; by default what the preset says.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the instrument; by default models/NAME.")] = None,
    resume: Annotated[bool, typer.Option("--resume/--fresh", help="Go on with a training, or start anew.")] = True,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Train an instrument on a data set."""
    from ddsp_cli.config import load_preset

    load_preset(preset)  # a mistyped name is found before the framework has loaded for seconds
    from ddsp_cli.workflows.train import train as run

    with console.Progress("steps") as progress:

        def watch(event: Any) -> None:
            extra = f"loss {event.loss:.3f}, best {event.best_loss:.3f}"
            progress(f"training {instrument}", event.step, event.total, extra)
            if event.event in {"best", "rollback"}:
                what = "went back to the last good state" if event.event == "rollback" else "best so far"
                progress.line(f"step {event.step}: validation loss {event.validation_loss:.3f}, {what}")

        result = run(
            instrument,
            dataset=dataset,
            preset=preset,
            steps=steps,
            out=out,
            resume=resume,
            seed=seed,
            force=force,
            progress=watch,
        )
    if not result.finished:
        raise KeyboardInterrupt
    console.say(
        f"{result.folder} is trained: {result.steps} steps in {console.duration(result.wall_s)}, "
        f"validation loss {result.first_loss:.2f} → {result.best_loss:.2f}."
    )
    if result.metrics:
        console.say(", ".join(f"{key} {value:.3g}" for key, value in result.metrics.items()))
    console.say(f"Play it with: ddsp transfer voice.wav --model {instrument}")


@app.command()
def transfer(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Recordings, or folders of them.")],
    model: Annotated[str, typer.Option(metavar="NAME|DIR", help="The instrument.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE|DIR", help="By default INPUT_NAME.wav, here.")] = None,
    transpose: Annotated[
        str, typer.Option(metavar="auto|SEMITONES", help="auto shifts by octaves into the instrument's range.")
    ] = "auto",
    seed: Seed = 0,
    sample_rate: Annotated[
        int | None, typer.Option(metavar="HZ", help="Of the output; by default that of the input.")
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Also draw sound, pitch and level of both, as a PNG.")] = False,
    force: Force = False,
) -> None:
    """Play recordings on an instrument."""
    from ddsp_cli.workflows.transfer import transfer as run

    semitones = parse_transpose(transpose)
    with console.Progress() as progress:
        results = run(
            inputs,
            model,
            out=out,
            transpose=semitones,
            seed=seed,
            force=force,
            plot=plot,
            sample_rate_hz=sample_rate,
            progress=progress,
        )
    for result in results:
        _report(result)


def _report(result: TransferResult) -> None:
    shift = f"transposed {result.transpose_semitones:+g} semitones" if result.transpose_semitones else "not transposed"
    turned = f", turned down {-result.gain_db:.1f} dB to fit" if result.gain_db < -0.05 else ""
    phrases = f"{result.n_notes} phrase{'s' if result.n_notes != 1 else ''}"
    console.say(
        f"{result.output}: {console.duration(result.seconds)} on {result.instrument}, {phrases}, {shift}{turned}, "
        f"in {console.duration(result.wall_s)}"
    )
    if result.plot is not None:
        console.say(str(result.plot))


@app.command()
def export(
    model: Annotated[str, typer.Option(metavar="NAME|DIR", help="The instrument.")],
    format_: Annotated[str, typer.Option("--format", metavar="savedmodel|litert|onnx|vst", help="What to make of it.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to write it.")] = None,
    force: Force = False,
) -> None:
    """Turn an instrument into a format for other programs."""
    from ddsp_cli.workflows.export import export as run

    result = run(model, format_, out=out, force=force)
    checks = ", ".join(f"{key} {value:.3g}" for key, value in result.checks.items())
    console.say(f"{result.folder}: {result.format}, {console.size(result.size_bytes)}{'; ' if checks else ''}{checks}")


@app.command()
def models() -> None:
    """List the instruments that there are, with range, size and quality."""
    from ddsp_cli.workflows.catalogue import catalogue

    entries = catalogue()
    if not entries:
        console.say("There are no instruments here yet. Train one with: ddsp train --instrument NAME")
        return
    rows = []
    for entry in entries:
        place = "bundled" if entry.bundled else str(entry.path.parent)
        if entry.card is None:
            rows.append([entry.name, "unreadable", "", console.size(entry.size_bytes), entry.problem, "", place])
            continue
        pitch = entry.card.statistics.pitch_midi
        quality = ", ".join(f"{key} {value:.3g}" for key, value in entry.card.metrics.items())
        rows.append([
            entry.name,
            f"{console.note_name(pitch[1])} to {console.note_name(pitch[99])}",
            f"{entry.card.training.preset}, {entry.card.model.sample_rate_hz / 1000:g} kHz",
            console.size(entry.size_bytes),
            quality or "not measured",
            entry.card.licence,
            place,
        ])  # fmt: skip
    console.table(["name", "range", "model", "size", "quality", "licence", "where"], rows)


def choice(option: str, value: str, known: tuple[str, ...]) -> None:
    """Checks an option with a fixed set of values.

    Raises:
      UsageError: it is none of them.
    """
    if value not in known:
        raise UsageError(f"{option} {value} is not known", did_you_mean(value, known))


def parse_transpose(text: str) -> Any:
    """`auto`, or a finite number of semitones.

    Raises:
      UsageError: neither.
    """
    if text.lower() == "auto":
        return "auto"
    try:
        semitones = float(text)
    except ValueError:
        semitones = float("nan")
    if semitones != semitones or abs(semitones) == float("inf"):
        raise UsageError(f"--transpose {text} is not a number of semitones", "Give auto, or a number such as 12 or -5.")
    return semitones


def main() -> None:
    """Runs the command line and ends the process with an exit code of `ExitCode`."""
    # Short products in a loop lose more by waking threads than they gain. Read when NumPy loads, so set before.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    arguments = sys.argv[1:]
    end_of_options = arguments.index("--") if "--" in arguments else len(arguments)
    debug = "--debug" in arguments[:end_of_options]
    arguments = [word for i, word in enumerate(arguments) if word != "--debug" or i >= end_of_options]
    sys.exit(_run(arguments, debug))


def _run(arguments: list[str], debug: bool) -> int:
    command = next((word for word in arguments if not word.startswith("-")), "")
    try:
        code = app(arguments, prog_name="ddsp", standalone_mode=False)
        if code == ExitCode.INTERRUPTED:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
        return int(code) if isinstance(code, int) else ExitCode.OK
    except DdspError as problem:
        _trace(debug)
        console.error(problem.message, problem.hint)
        return problem.exit_code
    except _ClickUsageError as problem:
        return _usage(problem, command)
    except (KeyboardInterrupt, typer.Abort):
        console.remark(f"Interrupted. {KEPT.get(command, '')}".strip())
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as problem:
        _trace(debug)
        detail = str(problem).splitlines()[0] if str(problem) else ""
        name = type(problem).__name__
        console.error(
            f"something went wrong inside ddsp ({name}{': ' if detail else ''}{detail})",
            "" if debug else "Run again with --debug for details.",
        )
        return ExitCode.INTERNAL


def _usage(problem: Any, command: str) -> int:
    """Says what is wrong with the options; a bare `ddsp` shows its help."""
    message = problem.format_message()
    if type(problem).__name__ == "NoArgsIsHelpError":
        console.remark(message)
        return ExitCode.USAGE
    known = command in {entry.name or getattr(entry.callback, "__name__", "") for entry in app.registered_commands}
    console.error(message, f"See: ddsp {command} --help" if known else "See: ddsp --help")
    return ExitCode.USAGE


def _trace(debug: bool) -> None:
    if debug:
        import traceback

        console.remark(traceback.format_exc())
