"""`ddsp transfer`: options, and what is said of the result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddsp_cli import console
from ddsp_cli.cli.options import Force, Seed
from ddsp_cli.errors import UsageError

if TYPE_CHECKING:
    from ddsp_cli.workflows.transfer import TransferResult


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
