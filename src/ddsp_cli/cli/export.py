"""`ddsp export`: options, and the summary of the result."""

import math
from pathlib import Path
from typing import Annotated

import typer

from ddsp_cli.cli import console
from ddsp_cli.cli.options import Force, Instrument, one_of, only_instrument


def export(
    model: Instrument,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="Format: savedmodel, litert, onnx or vst.",
            **one_of("savedmodel", "litert", "onnx", "vst") | {"metavar": "FORMAT"},
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder to write; by default NAME_FORMAT.")
    ] = None,
    force: Force = False,
) -> None:
    """Convert an instrument to a format for other programs."""
    from ddsp_cli.workflows.export import export as run
    from ddsp_cli.workflows.models import find_playable, open_at

    name = only_instrument(model)
    result = run(name, format_, out=out, force=force)
    console.say(f"{result.folder}: {result.format}, {console.size(result.size_bytes)}")
    console.say(compared(result.checks, open_at(find_playable(name)).card.model.frame_rate_hz))
    console.say(NEXT_STEPS[result.format].format(folder=str(result.folder)))


#: Next step of the user, by format.
NEXT_STEPS = {
    "vst": "Copy its .tflite to the models of DDSP-VST, in Documents/Magenta/DDSP/Models, and open the plug-in again.",
    "savedmodel": "Load it in Python: tf.saved_model.load({folder!r}) (TensorFlow; docs/formats.md).",
    "litert": "Run it with LiteRT, frame by frame; card.yaml names inputs and outputs (docs/formats.md).",
    "onnx": "Run audio.onnx with the ONNX Runtime, on blocks of a second or whole phrases, or dry.onnx frame by frame; "
    "card.yaml names inputs and outputs (docs/formats.md).",
}


def compared(checks: dict[str, float], frame_rate_hz: int) -> str:
    """Describes the comparison of an export with its instrument, and the differences."""
    from ddsp_cli.exporters.checks import LEAST_DIFFERENCE_DB

    seconds = checks["checked_frames"] / frame_rate_hz
    difference = checks["controls_difference"]
    parts = [f"its controls {f'differ by {_plain(difference)} at most' if difference else 'are identical'}"]
    if "audio_difference_db" in checks:
        difference_db = checks["audio_difference_db"]
        is_equal = difference_db <= LEAST_DIFFERENCE_DB
        parts.append(f"its sound {'is identical' if is_equal else f'differs by {difference_db:.0f} dB of the peak'}")
    text = f"Compared with the instrument on a phrase of {seconds:.1f} s: {', '.join(parts)}."
    if "contract_rows" in checks:
        text += f" All {checks['contract_rows']:.0f} demands of the plug-in on the file are met."
    return text


def _plain(value: float) -> str:
    """Formats a small number above 0 with one digit that is not 0, and without an exponent."""
    return f"{value:.{max(0, math.ceil(-math.log10(value)))}f}"
