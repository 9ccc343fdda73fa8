"""`ddsp train`: options, progress, and the summary of the result."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddsp_cli.cli import console
from ddsp_cli.cli.models import quality
from ddsp_cli.cli.options import Force, Seed, preset_names, start_names
from ddsp_cli.shell import quoted

if TYPE_CHECKING:
    from ddsp_cli.training.checkpoint import TrainProgress

#: Arguments that messages recommend, which are typed as options.
OPTIONS = re.compile(r"\bthe option (timbre)\b")

REMARKS = {
    "best": "best so far",
    "kept": "kept as the latest",
    "rollback": "went back to the last good state",
    "enough": "no improvement for a while: early stopping",
}


def train(
    instrument: Annotated[str, typer.Option(metavar="NAME", help="Name of the instrument.")],
    dataset: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder or address of the data set; by default datasets/NAME.")
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="Preset of model and training: hifi (full band), light, vst, solo, tiny, autoencoder, or a YAML file.",
            autocompletion=preset_names,
        ),
    ] = "hifi",
    steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Number of training steps; by default that of the preset."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder of the instrument; by default models/NAME."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume/--fresh", help="Resume a training, or start it again.")] = True,
    start_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NAME|DIR",
            help="Start from an instrument, from base (a network trained on many) or from none (random weights); by "
            "default from base if the preset allows it.",
            autocompletion=start_names,
        ),
    ] = None,
    timbre: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Learn a timbre and a room for each folder of the recordings (a player, a place), and play those of "
            "this folder; by default all folders are learned as one.",
        ),
    ] = None,
    listen: Annotated[
        bool, typer.Option("--listen/--no-listen", help="Render clips to listen to during training.")
    ] = True,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Train an instrument on a data set."""
    from ddsp_cli.config import load_preset

    load_preset(preset)  # a mistyped name is found before the framework has loaded for seconds
    from ddsp_cli.workflows.train import train as run

    place = out or f"models/{instrument}"
    playable = False

    with console.Progress("steps", speed=True) as progress:

        def watch(event: "TrainProgress") -> None:
            nonlocal playable
            if event.event in ("phase", "damaged"):
                words = OPTIONS.sub(r"--\1", event.message)
                progress.line(f"{words[:1].upper()}{words[1:]}.")
                return
            if event.event == "pretrain":
                progress("fit", event.step, event.total)
                return
            if event.event in REMARKS:
                remark = REMARKS[event.event]
                progress.line(f"step {event.step}: validation loss {event.validation_loss:.3f}, {remark}")
                if event.event in ("best", "kept") and not playable:
                    playable = True
                    progress.line(f"{place} can be played from now on.")
            # before the first step, and after a return to a checkpoint, the training has no loss
            loss = "" if math.isnan(event.loss) else f"loss {event.loss:.1f}"
            best = "" if math.isnan(event.best_loss) else f"best {event.best_loss:.2f}"
            # short: at 80 columns the bar, the time left and the best loss have to fit
            progress("train", event.step, event.total, f"{loss} {best}".strip())

        result = run(
            instrument,
            dataset=dataset,
            preset=preset,
            steps=steps,
            out=out,
            resume=resume,
            seed=seed,
            force=force,
            start_from=start_from,
            timbre=timbre,
            listen=listen,
            progress=watch,
        )
    if result.follows and result.finished:
        return
    if not result.finished:
        if result.page is not None:
            console.remark(f"Report so far: {result.page}")
        raise KeyboardInterrupt
    console.say(
        f"{result.folder} is trained: {result.steps} steps in {console.duration(result.wall_s)}, "
        f"validation loss {result.first_loss:.2f} → {result.kept_loss:.2f}."
    )
    if result.metrics:
        console.say(f"On recordings that it was not trained on: {quality(result.metrics)}.")
    console.say(f"Report, with clips to compare: {result.page}")
    console.say(f"Play it with: ddsp transfer voice.wav --model {quoted(instrument if out is None else result.folder)}")
