"""`ddsp prepare`: options, and the summary of the result."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddsp_cli.cli import console
from ddsp_cli.cli.options import Force, one_of
from ddsp_cli.cli.transfer import end_with_failures
from ddsp_cli.pitch_names import note_name
from ddsp_cli.shell import quoted

if TYPE_CHECKING:
    from ddsp_cli.workflows.prepare import PrepareResult

#: Recordings that are remarked upon one by one; the rest is in the report.
MAX_REMARKS = 20


def prepare(
    audio: Annotated[
        list[str], typer.Argument(metavar="AUDIO...", help="Recordings, folders of them, or addresses: s3://...")
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the data set; by default that of the first folder.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder or address to write; by default datasets/NAME."),
    ] = None,
    sample_rate: Annotated[
        int | None,
        typer.Option(
            metavar="HZ",
            help="Sample rate of the data set; by default 48000, or that of --like. Presets with a lower rate can "
            "use it.",
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="NAME|DIR", help="Measure with the settings of this instrument, to train it further."),
    ] = None,
    pitch: Annotated[str, typer.Option(help="Pitch tracker.", **one_of("swift-f0", "pyin", "crepe"))] = "swift-f0",
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Number of processes; by default one per core.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Dask cluster that measures the recordings: tcp://HOST:8786, local:N or slurm:N."
        ),
    ] = None,
    level: Annotated[
        str,
        typer.Option(
            help="match brings the loudest notes of each folder to -14 dBFS; keep leaves them unchanged.",
            **one_of("match", "keep"),
        ),
    ] = "match",
    keep_polyphonic: Annotated[bool, typer.Option("--keep-polyphonic", help="Also use polyphonic passages.")] = False,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Use recordings that match for validation only; may be repeated."),
    ] = None,
    leave_out: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Do not use recordings that match; may be repeated.")
    ] = None,
    crepe_weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights for --pitch crepe: model-tiny.h5 to model-full.h5.")
    ] = None,
    licence: Annotated[
        str, typer.Option(metavar="TEXT", help="Licence of the recordings, for the instrument's card.")
    ] = "unknown",
    sources: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML file with authors and licences of the recordings, for the card."),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write a page with pictures and players.")
    ] = True,
    force: Force = False,
) -> None:
    """Measure recordings and make a data set of them."""
    from ddsp_cli.workflows.prepare import MEASURING_MANY, POLYPHONIC, SPEECH
    from ddsp_cli.workflows.prepare import prepare as run
    from ddsp_cli.workflows.transfer_plan import Failure

    with console.Progress(units={MEASURING_MANY: "recordings"}) as progress:
        result = run(
            audio,
            name=name,
            out=out,
            sample_rate_hz=sample_rate,
            like=like,
            pitch=pitch,
            workers=workers,
            cluster=cluster,
            notice=progress.line,
            force=force,
            level=level,  # type: ignore[arg-type]
            licence=licence,
            sources=sources,
            keep_polyphonic=keep_polyphonic,
            hold_out=hold_out or (),
            leave_out=leave_out or (),
            crepe_weights=crepe_weights,
            report=report,
            progress=progress,
        )
    _remarks([(title, f"left out, it {reason}") for title, reason in result.skipped])
    if any(reason == POLYPHONIC for _, reason in result.skipped):
        console.remark("Polyphonic recordings are used with --keep-polyphonic.")
    _remarks(list(result.notes))
    if any(SPEECH in text.split("; ") for _, text in result.notes):
        console.remark("Speech has no steady pitch to learn from. Leave such recordings out: --leave-out NAME.")
    console.say(f"{result.folder} {'is up to date' if result.unchanged else 'is ready'}.")
    for name_, text in summary(result):
        console.fact(name_, text)
    if result.report is not None:
        console.say(f"More in {result.report}")
    console.say(f"Train on it with: ddsp train --instrument {quoted(result.name)}")
    if result.unusable:
        failures = [Failure(path, error) for path, error in result.unusable.items()]
        end_with_failures(failures, len(audio), "inputs could not be used")


def summary(result: "PrepareResult") -> list[list[str]]:
    """Describes a data set as rows of two cells."""
    seconds = console.duration
    low, high = note_name(result.lowest_midi), note_name(result.highest_midi)
    used_s = min(result.minutes * 60.0, result.given_s)  # ends are rounded up to 20 ms
    polyphonic = f"{seconds(result.polyphonic_s)}{' (kept)' if result.keep_polyphonic else ''}"
    rests_s = max(0.0, result.given_s - used_s - (0.0 if result.keep_polyphonic else result.polyphonic_s))
    rows = [
        ["recordings", f"{result.n_used} of {result.n_recordings} used"],
        [
            "sound",
            f"{seconds(used_s)} of {seconds(result.given_s)}, {seconds(result.note_s)} of it notes to learn from",
        ],
        ["notes", f"{low} to {high}"],
        ["dynamics", f"{result.quietest_db:.0f} to {result.loudest_db:.0f} dBFS"],
        ["left out", f"{seconds(rests_s)} of rests and what could not be used"],
    ]
    if result.polyphonic_s > 0:
        rows.append(["more than one voice", polyphonic if result.keep_polyphonic else f"{polyphonic}, left out"])
    for kind, text in (("octave", "pitch corrected"), ("jump", "pitch removed"), ("clipping", "clipped")):
        if count := result.n_doubts.get(kind, 0):
            rows.append([text, f"in {count} place{'s' if count > 1 else ''}"])
    rows.append(["amount", result.advice])
    return rows


def _remarks(lines: list[tuple[str, str]]) -> None:
    for title, text in lines[:MAX_REMARKS]:
        console.remark(f"{' '.join(title.split())}: {text}")
    if len(lines) > MAX_REMARKS:
        console.remark(f"... and {len(lines) - MAX_REMARKS} more.")
