"""Plays `voice.wav` on every bundled instrument: `transfers/voice_NAME.ogg`, and a picture of them all.

python examples/make_transfers.py [NAME...]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ddsp_cli.audio import read
from ddsp_cli.reports.plots import spectrogram_db
from ddsp_cli.workflows.transfer import transfer_files

EXAMPLES = Path(__file__).parent
ROOT = EXAMPLES.parent
OUT = EXAMPLES / "transfers"
RATE_HZ = 48000
COLUMNS = 3


def draw(sounds: dict[str, np.ndarray], path: Path) -> None:
    """Draws one small spectrogram for each sound, [S] at 48 kHz."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    n_rows = -(-len(sounds) // COLUMNS)
    figure, axes = pyplot.subplots(
        n_rows, COLUMNS, figsize=(12, 2.2 * n_rows), sharex=True, sharey=True, squeeze=False, constrained_layout=True
    )
    for axis in axes.flat[len(sounds) :]:
        axis.axis("off")
    for axis, (name, sound) in zip(axes.flat, sounds.items(), strict=False):
        seconds = len(sound) / RATE_HZ
        axis.imshow(
            spectrogram_db(sound, 2048, 768), origin="lower", aspect="auto", extent=(0, seconds, 0, RATE_HZ / 2000),
            vmin=-90, vmax=0, cmap="magma",
        )  # fmt: skip
        axis.set_title(name, fontsize=10)
    figure.supxlabel("seconds", fontsize=9)
    figure.supylabel("kHz", fontsize=9)
    figure.savefig(path, dpi=75)
    pyplot.close(figure)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Play the example voice on the bundled instruments.")
    parser.add_argument("names", nargs="*")
    names = parser.parse_args().names or sorted(
        path.stem for path in (ROOT / "models" / "recipes").glob("*.yaml") if (ROOT / "models" / path.stem).is_dir()
    )
    OUT.mkdir(exist_ok=True)
    voice = EXAMPLES / "voice.wav"
    sounds = {"voice": read.read_mono(voice, RATE_HZ)}
    for name in names:
        (result,) = transfer_files([voice], ROOT / "models" / name, out=OUT / f"voice_{name}.ogg", force=True)
        sounds[name.replace("_", " ")] = read.read_mono(result.output, RATE_HZ)
        print(f"{result.output}: {result.transpose_semitones:+g} semitones")
    draw(sounds, OUT / "band.png")


if __name__ == "__main__":
    main()
