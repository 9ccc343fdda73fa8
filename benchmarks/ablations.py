"""What each part of the model is worth: one data set, one preset, and variants without a part of it.

    python benchmarks/ablations.py DATASET [--steps 2000] [--preset light] [--out DIR] [--only full,tiny]

DATASET is a folder that `ddsp prepare` made, with a validation split. The variants are those of the paper of DDSP
(Engel et al., ICLR 2020) that can be trained here, each for the same number of steps:

    full       the preset
    no reverb  without the learned room: the recording's room has to come from the synthesisers
    no noise   without filtered noise: harmonics alone
    tiny       the recurrent layer alone, without dense stacks
    encoder z  with an encoder of timbre, 16 latent dimensions

The table is Markdown: number of weights, lowest validation loss of the training, and the figures of
`ddsp evaluate` on the validation split.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from ddsp_cli.bundle import load
from ddsp_cli.config import (
    EncoderConfig,
    FilteredNoiseConfig,
    HarmonicConfig,
    ModelConfig,
    Preset,
    dump_yaml,
    load_preset,
)
from ddsp_cli.training.checkpoint import read_state
from ddsp_cli.workflows.evaluate import evaluate

FIGURES = ("spectral_loss", "loudness_l1_db", "f0_l1_semitones", "f0_outliers", "noise_balance_db")
ROOMS = ("Reverb", "FilteredNoiseReverb", "ExpDecayReverb")


def without(model: ModelConfig, wanted: Any) -> ModelConfig:
    """A model without the processors for which `wanted` is true; what took them takes their first input instead."""
    nodes = dict(model.processors)
    for name in [name for name, node in nodes.items() if wanted(node)]:
        node = nodes.pop(name)
        through = node.inputs[:1] if node.inputs[0] in nodes else []
        for other, taker in nodes.items():
            inputs = [signal for i in taker.inputs for signal in (through if i == name else [i])]
            nodes[other] = msgspec.structs.replace(taker, inputs=inputs)
    # an Add of one signal is that signal
    for name in [name for name, node in nodes.items() if type(node).__name__ == "AddConfig" and len(node.inputs) == 1]:
        (only,) = nodes.pop(name).inputs
        nodes = {
            other: msgspec.structs.replace(node, inputs=[only if i == name else i for i in node.inputs])
            for other, node in nodes.items()
        }
    return msgspec.structs.replace(model, processors=nodes)


def variants(preset: Preset) -> dict[str, Preset]:
    """The preset and its variants by name."""
    model = preset.model
    if model.only(HarmonicConfig) is None or model.only(FilteredNoiseConfig) is None:
        sys.exit("the preset needs one harmonic synthesiser and one of filtered noise")
    models = {
        "full": model,
        "no reverb": without(model, lambda node: type(node).__name__.removesuffix("Config") in ROOMS),
        "no noise": without(model, lambda node: isinstance(node, FilteredNoiseConfig)),
        "tiny": msgspec.structs.replace(model, decoder=msgspec.structs.replace(model.sizes, layers_per_stack=0)),
        "encoder z": msgspec.structs.replace(
            model, inputs=[*model.inputs, "z"], encoder=EncoderConfig(rnn_units=model.sizes.rnn_units)
        ),
    }
    return {name: msgspec.structs.replace(preset, model=changed) for name, changed in models.items()}


def row(name: str, preset: Preset, options: argparse.Namespace) -> list[str]:
    """Trains a variant, unless it was trained before, and measures it."""
    folder = options.out / name.replace(" ", "-")
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{folder.name}.yaml"
    path.write_text(dump_yaml(preset), encoding="utf-8")
    started = time.monotonic()
    command = [sys.executable, "-m", "ddsp_cli", "train", "--instrument", folder.name, "--dataset", options.dataset,
               "--preset", path, "--steps", options.steps, "--out", folder, "--no-listen"]  # fmt: skip
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    bundle = load(folder)
    (judged,) = evaluate(folder, dataset=options.dataset)
    state = read_state(folder.with_name(f"{folder.name}.run"))
    loss = f"{state.best_loss:.2f}" if state is not None else "-"
    n_weights = sum(weight.size for name, weight in bundle.weights.items())
    figures = [f"{judged.figures[key]:.3f}" if key in judged.figures else "-" for key in FIGURES]
    return [name, f"{n_weights:,}", loss, *figures]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--preset", default="light")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--crop-s", type=float)
    parser.add_argument("--out", type=Path, default=Path("ablations"))
    parser.add_argument("--only", help="names of variants, with commas")
    options = parser.parse_args()
    preset = load_preset(options.preset)
    changes = {name: getattr(options, name) for name in ("batch_size", "crop_s") if getattr(options, name)}
    preset = msgspec.structs.replace(preset, training=msgspec.structs.replace(preset.training, patience=0, **changes))
    wanted = options.only.split(",") if options.only else None
    titles = ["variant", "weights", "validation loss", "spectral distance", "loudness L1, dB", "F0 L1, semitones",
              "F0 outliers", "noise, dB"]  # fmt: skip
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for name, changed in variants(preset).items():
        if wanted is None or name in wanted:
            print(f"| {' | '.join(row(name, changed, options))} |", flush=True)


if __name__ == "__main__":
    main()
