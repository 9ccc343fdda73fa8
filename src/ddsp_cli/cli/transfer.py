"""`ddsp transfer`: options, and what is said of the result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddsp_cli.cli import console, pipes
from ddsp_cli.cli.options import Force, Seed
from ddsp_cli.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from ddsp_cli.workflows.transfer import TransferResult


def transfer(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT...", help="Recordings, folders of them, MIDI files; - is standard input."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|DIR|all|none", help="The instrument, or several; none only adds a --room."),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE|DIR|-", help="By default INPUT_NAME.wav, here; - is standard output.")
    ] = None,
    transpose: Annotated[
        str, typer.Option(metavar="auto|SEMITONES", help="auto shifts by octaves into the instrument's range.")
    ] = "auto",
    dynamics: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="0 keeps your differences of level, 1 makes them the instrument's.")
    ] = 1.0,
    loudness: Annotated[
        float, typer.Option(metavar="DB", min=-40.0, max=40.0, help="Play that much louder or softer.")
    ] = 0.0,
    autotune: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="0 leaves pitch alone, 1 puts every note on the scale.")
    ] = 0.0,
    key: Annotated[
        str, typer.Option(metavar="auto|KEY", help="The scale for --autotune: C major, f# minor, D dorian, chromatic.")
    ] = "auto",
    tuning: Annotated[
        str, typer.Option(metavar="auto|HZ", help="The A of that scale; auto takes the performance's own.")
    ] = "auto",
    retune: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.0, max=1.0, help="How long --autotune takes from note to note."),
    ] = 0.05,
    vibrato: Annotated[float, typer.Option(min=0.0, max=3.0, help="0 takes it out, 1 leaves it, 2 doubles it.")] = 1.0,
    glide: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.0, max=1.0, help="How long to slide from note to note.")
    ] = 0.0,
    threshold: Annotated[
        float, typer.Option(metavar="DB", min=3.0, max=80.0, help="What is so far below the loudest is no note.")
    ] = 35.0,
    pitch: Annotated[str, typer.Option(metavar="swift-f0|pyin|crepe", help="The pitch tracker.")] = "swift-f0",
    room: Annotated[
        str, typer.Option(metavar="model|none|FILE|NAME", help="Its own, none, an impulse response, another's.")
    ] = "model",
    wet: Annotated[float, typer.Option(min=0.0, max=4.0, help="How much of the room.")] = 1.0,
    formant: Annotated[
        float, typer.Option(metavar="SEMITONES", help="Move its resonances, as of a smaller or larger instrument.")
    ] = 0.0,
    sample_rate: Annotated[
        int | None, typer.Option(metavar="HZ", help="Of the output; by default that of the input.")
    ] = None,
    bits: Annotated[
        str | None, typer.Option(metavar="16|24|32|float", help="Of the output; by default those of the input.")
    ] = None,
    controls: Annotated[
        Path | None, typer.Option(metavar="CSV|NPZ|DIR", help="Also write the curves that are played.")
    ] = None,
    from_controls: Annotated[
        Path | None, typer.Option(metavar="CSV|NPZ", help="Play such curves, edited or made by yourself.")
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Also draw sound, pitch and level of both, as a PNG.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="HTML", help="Also write a page with players and pictures.")
    ] = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Play recordings on an instrument."""
    from ddsp_cli.workflows.transfer import transfer as run

    if not inputs and from_controls is None:
        raise UsageError("no input was given", "Name a recording, or a file of curves with --from-controls.")
    if not model:
        raise UsageError("no instrument was named", "Give --model NAME; ddsp models lists them.")
    chosen: dict[str, Any] = {
        "transpose": parse_transpose(transpose),
        "settings": _settings(dynamics, loudness, autotune, key, tuning, retune, vibrato, glide, threshold),
    }
    with pipes.Pipes(inputs or [], out) as ends, console.Progress() as progress:
        if plot and ends.piped_out:
            raise UsageError("--plot draws beside the sound, but that goes to standard output", "Give --out a file.")
        results = run(
            ends.inputs,
            model,
            out=ends.out,
            seed=seed,
            force=force or ends.piped_out,
            plot=plot,
            sample_rate_hz=sample_rate,
            progress=progress,
            tracker=pitch,
            room=room,
            wet=wet,
            formant=formant,
            bits=bits,
            controls=controls,
            from_controls=from_controls,
            report=report,
            **chosen,
        )
        ends.deliver()
    for source in dict.fromkeys(result.input for result in results):
        remarks = dict.fromkeys(words for result in results if result.input == source for words in result.remarks)
        for words in remarks:
            console.remark(f"Warning: {ends.name(source)}: {words}.")
    for result in results:
        _tell(result, ends)
    if report is not None:
        ends.say(str(report))


def _tell(result: TransferResult, ends: pipes.Pipes) -> None:
    shift = f"transposed {result.transpose_semitones:+g} semitones" if result.transpose_semitones else "not transposed"
    tuned = f", tuned to {result.key}" if result.key else ""
    turned = f", turned down {-result.gain_db:.1f} dB to fit" if result.gain_db < -0.05 else ""
    room = f", room {result.tail_s:.1f} s" if result.tail_s > 0.05 else ""
    phrases = f"{result.n_segments} phrase{'s' if result.n_segments != 1 else ''}"
    what = (
        f"on {result.instrument}, {phrases}, {shift}{tuned}{room}"
        if result.instrument
        else f"in a room of {result.tail_s:.1f} s"
    )
    ends.say(
        f"{ends.name(result.output)}: {console.duration(result.seconds)} {what}{turned}, "
        f"in {console.duration(result.wall_s)}"
    )
    for extra in (result.plot, result.controls):
        if extra is not None:
            ends.say(str(extra))


def _settings(
    dynamics: float,
    loudness: float,
    autotune: float,
    key: str,
    tuning: str,
    retune: float,
    vibrato: float,
    glide: float,
    threshold: float,
) -> Any:
    """The options as `AdaptSettings`.

    Raises:
      UsageError: no such key or tuning; a number that is none.
    """
    from ddsp_cli.adaptation.adapt import AdaptSettings
    from ddsp_cli.adaptation.segmentation import SegmentSettings

    for name, value in (("dynamics", dynamics), ("loudness", loudness), ("autotune", autotune), ("retune", retune),
                        ("vibrato", vibrato), ("glide", glide), ("threshold", threshold)):  # fmt: skip
        if value != value:
            raise UsageError(f"--{name} is not a number")
    if autotune == 0.0 and (key != "auto" or tuning != "auto"):
        raise UsageError("--key and --tuning say where --autotune goes, which is 0", "Add --autotune 1.")
    return AdaptSettings(
        segments=SegmentSettings(below_peak_db=threshold, hold_below_peak_db=threshold + 10.0),
        dynamics=dynamics,
        louder_db=loudness,
        autotune=autotune,
        key=parse_key(key),
        tuning_semitones=parse_tuning(tuning),
        retune_s=retune,
        vibrato=vibrato,
        glide_s=glide,
    )


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


def parse_key(text: str) -> Any:
    """`auto` (None), or a key.

    Raises:
      UsageError: neither.
    """
    if text.lower() == "auto":
        return None
    from ddsp_cli.adaptation import autotune

    try:
        return autotune.parse_key(text)
    except ValueError:
        raise UsageError(f"--key {text} is not a key", did_you_mean(text, autotune.known_keys())) from None


def parse_tuning(text: str) -> float | None:
    """`auto` (None), or the frequency of A4 in Hz as semitones from 440.

    Raises:
      UsageError: neither, or no A.
    """
    import math

    if text.lower() == "auto":
        return None
    try:
        a_hz = float(text)
    except ValueError:
        a_hz = float("nan")
    if not 400.0 <= a_hz <= 480.0:
        raise UsageError(f"--tuning {text} is no frequency of A4", "Give auto, or a number such as 440 or 442.")
    return 12.0 * math.log2(a_hz / 440.0)
