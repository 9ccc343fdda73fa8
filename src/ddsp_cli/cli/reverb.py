"""`ddsp reverb`: options, and the summary of the result."""

from typing import Annotated

import typer

from ddsp_cli.cli import console, pipes
from ddsp_cli.cli.options import Bits, Force, SampleRate, Seed, Tail, Wet
from ddsp_cli.cli.transfer import finish, origins, warn

EPILOG = """
Examples:

  ddsp reverb voice.wav --room flute

  ddsp reverb drums/ --room clap.wav --wet 0.5 --tail --out wet/
"""


def reverb(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Recordings, or folders of them; - is standard input.")
    ],
    room: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Room: an instrument's name, or an impulse-response file.")
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE|DIR|-",
            help="Output file or folder; by default INPUT_ROOM-room.wav in this folder. - is standard output.",
        ),
    ] = None,
    wet: Wet = "1",
    tail: Tail = False,
    sample_rate: SampleRate = None,
    bits: Bits = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Put recordings into the room of an instrument or impulse response."""
    from ddsp_cli.workflows.reverb import reverb_files

    with pipes.Pipes(inputs, out) as ends, console.Progress() as progress:
        batch = reverb_files(
            ends.inputs,
            room,
            ends.out,
            wet=wet,
            tail=tail,
            sample_rate_hz=sample_rate,
            bits=bits,
            seed=seed,
            force=force or ends.piped_out,
            progress=progress,
        )
        ends.deliver()
    warn(batch, ends)
    came_from = origins(batch)
    for result in batch:
        turned = f", turned down {-result.gain_db:.1f} dB to fit" if result.gain_db < -0.05 else ""
        room = f"in a room of {result.tail_s:.1f} s"
        length, took = console.duration(result.seconds), console.duration(result.wall_s)
        about = f"{length} {room}{turned}, in {took}{came_from.get(result.input, '')}"
        ends.say(f"{ends.name(result.output)}: {about}", wrap=True)
    finish(batch)
