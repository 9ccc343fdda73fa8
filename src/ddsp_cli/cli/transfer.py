"""`ddsp transfer`: options, and the summary of the result."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddsp_cli.cli import console, options, pipes
from ddsp_cli.cli.options import Bits, Force, Instruments, Seed, Tail, Tracker, Wet, one_of
from ddsp_cli.errors import ExitCode, Kind, UsageError

if TYPE_CHECKING:
    from ddsp_cli.workflows.reverb import ReverbResult
    from ddsp_cli.workflows.transfer import Batch, TransferResult
    from ddsp_cli.workflows.transfer_plan import Failure

#: Groups of options in the help.
PITCH, LEVEL, SOUND, VOICES, FILES = "Pitch", "Level", "Sound", "Voices and players", "Files"

#: Arguments that remarks recommend, which are typed as options.
OPTIONS = re.compile(r"\b(voices (?:lead|chords)|autotune 1)\b")

#: Arguments that a remark says have no effect; each but the word between them is one.
WITHOUT_EFFECT, ARGUMENT = re.compile(r"^[\w ]+(?= (?:has|have) no effect on )"), re.compile(r"\b(?!and\b)\w+")

EPILOG = """
Examples:

  ddsp transfer voice.wav --model flute

  ddsp transfer takes/ -m flute -m violin -o played/ --report compare.html
"""


def transfer(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT...", help="Recordings, folders of them, MIDI files; - is standard input."),
    ] = None,
    model: Instruments = None,
    blend: Annotated[
        list[str] | None,
        typer.Option(
            metavar='"0:NAME 8s:NAME"',
            help="Instead of --model: one instrument becomes another over time.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE|DIR|-",
            help="Output file or folder; by default INPUT_NAME.wav in this folder. - is standard output.",
        ),
    ] = None,
    transpose: Annotated[
        str,
        typer.Option(
            metavar="auto|SEMITONES",
            help="Shift the melody; auto shifts it by octaves into the range of the instrument.",
            rich_help_panel=PITCH,
        ),
    ] = "auto",
    autotune: Annotated[
        str,
        typer.Option(
            metavar="0..1", help="Pitch correction: 0 is off, 1 puts every note on the scale.", rich_help_panel=PITCH
        ),
    ] = "0",
    key: Annotated[
        str,
        typer.Option(
            metavar="auto|KEY",
            help="Scale for --autotune, such as C major, f# minor, D dorian or chromatic.",
            rich_help_panel=PITCH,
        ),
    ] = "auto",
    tuning: Annotated[
        str,
        typer.Option(metavar="auto|HZ", help="Frequency of A for --autotune; auto measures it.", rich_help_panel=PITCH),
    ] = "auto",
    retune: Annotated[
        str,
        typer.Option(
            metavar="SECONDS", help="Seconds that --autotune takes from note to note, 0..1.", rich_help_panel=PITCH
        ),
    ] = "0.05",
    vibrato: Annotated[
        str,
        typer.Option(
            metavar="auto|0..3",
            help="Width of the vibrato: 0 removes it, 1 keeps it, 2 doubles it; auto narrows it if the instrument has "
            "little.",
            rich_help_panel=PITCH,
        ),
    ] = "auto",
    glide: Annotated[
        str,
        typer.Option(
            metavar="SECONDS", help="Seconds that a slide from note to note takes, 0..1.", rich_help_panel=PITCH
        ),
    ] = "0",
    pitch: Tracker = "swift-f0",
    dynamics: Annotated[
        str,
        typer.Option(
            metavar="0..1",
            help="0 keeps the dynamics of the recording, 1 uses those of the instrument.",
            rich_help_panel=LEVEL,
        ),
    ] = "1",
    loudness: Annotated[
        str,
        typer.Option(
            metavar="DB",
            help="Play louder or softer by this many dB, with the tone of that level, -40..40.",
            rich_help_panel=LEVEL,
        ),
    ] = "0",
    loudness_match: Annotated[
        str,
        typer.Option(
            metavar="input|off|LUFS",
            help="Loudness of the output: input for that of the recording, a number such as -16, or off to leave it.",
            rich_help_panel=LEVEL,
        ),
    ] = "input",
    threshold: Annotated[
        str,
        typer.Option(
            metavar="DB",
            help="Segments more than this many dB below the loudest notes are silent, 3..80.",
            rich_help_panel=LEVEL,
        ),
    ] = "35",
    room: Annotated[
        str,
        typer.Option(
            metavar="model|none|NAME|FILE",
            help="Room: model (the instrument's own), none, another instrument's name, or an impulse-response file.",
            rich_help_panel=SOUND,
        ),
    ] = "model",
    wet: Wet = "1",
    tail: Tail = False,
    formant: Annotated[
        str,
        typer.Option(
            metavar="SEMITONES",
            help="Formant shift: positive sounds like a smaller instrument, negative like a larger one, -24..24.",
            rich_help_panel=SOUND,
        ),
    ] = "0",
    voices: Annotated[
        str,
        typer.Option(
            **one_of("auto", "chords", "lead"),
            help="chords plays every note; lead plays the main voice only, also of a song with accompaniment; auto is "
            "chords for a MIDI file, one voice for a recording.",
            rich_help_panel=VOICES,
        ),
    ] = "auto",
    track: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBER|NAME", help="Track of a MIDI file; may be repeated.", rich_help_panel=VOICES),
    ] = None,
    channel: Annotated[
        list[str] | None,
        typer.Option(metavar="1..16", help="Channel of a MIDI file; may be repeated.", rich_help_panel=VOICES),
    ] = None,
    ensemble: Annotated[
        str,
        typer.Option(
            metavar="1..24",
            help="Number of players of the same part, spread in stereo.",
            rich_help_panel=VOICES,
        ),
    ] = "1",
    seed: Seed = 0,
    sample_rate: Annotated[
        int | None,
        typer.Option(
            metavar="HZ",
            help="Sample rate of the output; by default that of the input, but not below the instrument's.",
            rich_help_panel=FILES,
        ),
    ] = None,
    bits: Bits = None,
    controls: Annotated[
        Path | None,
        typer.Option(metavar="CSV|NPZ|DIR", help="Also write the curves of F0 and level.", rich_help_panel=FILES),
    ] = None,
    from_controls: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV|NPZ", help="Play the curves in a file, as --controls writes them.", rich_help_panel=FILES
        ),
    ] = None,
    notes: Annotated[
        Path | None,
        typer.Option(metavar="MID|CSV|DIR", help="Also write the notes of the recording.", rich_help_panel=FILES),
    ] = None,
    from_notes: Annotated[
        Path | None,
        typer.Option(
            metavar="MID|CSV",
            help="Play the recording with an edited file of --notes; each note keeps its own curves.",
            rich_help_panel=FILES,
        ),
    ] = None,
    plot: Annotated[
        bool,
        typer.Option(
            "--plot", help="Also draw waveform, spectrogram, pitch and level as a PNG.", rich_help_panel=FILES
        ),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="HTML", help="Also write a page to listen and compare in a browser.", rich_help_panel=FILES
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Play recordings on an instrument."""
    if not inputs and from_controls is None:
        raise UsageError("no input was given", kind=Kind.NO_INPUT)
    from ddsp_cli.adaptation import SCORE_SUFFIXES

    if any(Path(name).suffix.lower() not in SCORE_SUFFIXES for name in inputs or []):
        from ddsp_cli.analysis.pitch import trackers

        trackers.preload(pitch)  # while the modules below are imported
    from ddsp_cli.limits import usable_cores
    from ddsp_cli.workflows.models import as_word, check_timed
    from ddsp_cli.workflows.performance import make_options
    from ddsp_cli.workflows.transfer import transfer_files

    if model and blend:
        raise UsageError(
            "--blend already names the instruments, and --model names another", "Leave out one of the two options."
        )
    chosen = model or list(map(check_timed, blend or []))
    if not chosen:
        raise UsageError("no instrument was named", kind=Kind.NO_NAME)
    if "none" in map(as_word, chosen):
        raise UsageError("no instrument is called none", kind=Kind.REVERB)
    options = make_options(
        transpose=transpose, dynamics=dynamics, loudness=loudness, autotune=autotune, key=key, tuning=tuning,
        retune=retune, vibrato=vibrato, glide=glide, threshold=threshold, pitch=pitch, room=room, wet=wet,
        formant=formant, loudness_match=loudness_match, tail=tail, voices=voices, track=track,
        channel=channel, ensemble=ensemble, seed=seed,
    )  # fmt: skip
    with pipes.Pipes(inputs or [], out) as ends, console.Progress() as progress:
        if plot and ends.piped_out:
            raise UsageError(
                "--plot writes a picture beside the sound file, but the sound goes to standard output",
                "Give --out a file.",
            )
        batch = transfer_files(
            ends.inputs,
            chosen,
            ends.out,
            options=options,
            force=force or ends.piped_out,
            plot=plot,
            sample_rate_hz=sample_rate,
            bits=bits,
            controls=controls,
            from_controls=from_controls,
            from_notes=from_notes,
            notes=notes,
            report=report,
            workers=usable_cores(),
            progress=progress,
        )
        ends.deliver()
    warn(batch, ends)
    came_from = origins(batch)
    for result in batch:
        ends.say(f"{ends.name(result.output)}: {_about(result)}{came_from.get(result.input, '')}", wrap=True)
        for extra in (result.plot, result.controls, result.notes):
            if extra is not None:
                ends.say(str(extra))
    if batch.report is not None:
        ends.say(str(batch.report))
    finish(batch)


def warn(batch: "Batch[TransferResult] | Batch[ReverbResult]", ends: pipes.Pipes) -> None:
    """Prints the remarks of each input once, for any number of instruments, and marks warnings."""
    for source in dict.fromkeys(result.input for result in batch):
        remarks = dict.fromkeys(words for result in batch if result.input == source for words in result.remarks)
        notices = {words for result in batch for words in getattr(result, "notices", ())}
        for words in remarks:
            typed = OPTIONS.sub(r"--\1", words)
            typed = WITHOUT_EFFECT.sub(lambda found: ARGUMENT.sub(r"--\g<0>", found[0]), typed)
            console.remark(f"{'' if words in notices else 'Warning: '}{ends.name(source)}: {typed}.")


def origins(batch: "Batch[TransferResult] | Batch[ReverbResult]") -> dict[Path, str]:
    """Returns, for inputs of several folders that have the same name, the words that name each in its result."""
    inputs = dict.fromkeys(result.input for result in batch)
    n_named = Counter(path.name.lower() for path in inputs)
    return {path: f", from {path}" for path in inputs if n_named[path.name.lower()] > 1}


def finish(batch: "Batch[TransferResult] | Batch[ReverbResult]") -> None:
    """Says which inputs were left out; ends with `ExitCode.PARTIAL` where one could not be played.

    Raises:
      typer.Exit: in that case.
    """
    if batch.own:
        what = "file" if len(batch.own) == 1 else "files"
        console.remark(f"Left out {len(batch.own)} {what} that ddsp itself wrote, such as {batch.own[0]}.")
    n_inputs = len({result.input for result in batch}) + len(batch.failures)
    if not batch.failures:
        if n_inputs > 1:
            console.remark(f"Played {n_inputs} inputs.")
        return
    end_with_failures(batch.failures, n_inputs, "inputs could not be played")


def end_with_failures(failures: "Sequence[Failure]", n_inputs: int, what: str) -> None:
    """Lists the inputs that failed, with the reasons; ends with `ExitCode.PARTIAL` if there are any.

    Raises:
      typer.Exit: in that case.
    """
    if not failures:
        return
    console.remark(f"{len(failures)} of {n_inputs} {what}:")
    for failure in failures:
        hint = options.error_hint(failure.error)
        console.remark(f"  {options.error_message(failure.error)}.{' ' if hint else ''}{hint}")
    raise typer.Exit(ExitCode.PARTIAL)


def _about(result: "TransferResult") -> str:
    """Formats one line about a result."""
    amount = f"{result.n_segments} segment{'s' if result.n_segments != 1 else ''}"
    if result.n_voices > 1:
        amount = f"{result.n_voices} voices"
    parts = [
        f"{console.duration(result.seconds)} on {result.instrument}{f' × {n}' if (n := result.n_players) > 1 else ''}",
        amount,
        f"transposed {result.transpose_semitones:+g} semitones" if result.transpose_semitones else "not transposed",
    ]
    if result.key:
        parts[-1] += f", tuned to {result.key}"
    if result.tail_s > 0.05:
        parts.append(f"room {result.tail_s:.1f} s")
    if result.short_of_db > 0.5:
        parts.append(f"{result.short_of_db:.1f} dB below the target loudness, to avoid clipping")
    elif result.loudness_lufs is None and result.gain_db < -0.05:
        parts.append(f"turned down {-result.gain_db:.1f} dB to fit")
    parts.append(f"in {console.duration(result.wall_s)}")
    return ", ".join(parts)
