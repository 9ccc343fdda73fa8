"""What each part of the model is worth: one data set, one preset, and variants without a part of it.

    python benchmarks/ablations.py DATASET [--preset light] [--steps 2000] [--seeds 0 1] [--only full,tiny]
                                           [--out DIR] [--picture FILE]

DATASET is a folder that `ddsp prepare` made, with a validation split. The variants are those of the paper of DDSP
(Engel et al., ICLR 2020) that can be trained here, each for the same number of steps, from random weights:

    full       the preset
    no reverb  without the learned room: the recording's room has to come from the synthesisers
    no noise   without filtered noise: harmonics alone
    tiny       the recurrent layer alone, without dense stacks
    encoder z  with an encoder of timbre, 16 latent dimensions

The first seed trains all variants; each further one trains `full` again (all variants with --all-seeds), which tells
how far two trainings of the same model are apart. A training that is complete in --out is not repeated.

The table is Markdown: number of weights, processor seconds of a step (all cores together), lowest validation loss of
the training, and the figures of `ddsp evaluate` on the validation split. The picture shows one held-out clip, as it
was recorded and as each variant of the first seed plays it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ddsp_cli.analysis.metrics import METRICS
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
from ddsp_cli.dataset import loader
from ddsp_cli.training.checkpoint import read_state
from ddsp_cli.training.progress import TrainProgress
from ddsp_cli.workflows.evaluate import choose_windows, evaluate, resynthesise
from ddsp_cli.workflows.train import train

FIGURES = (
    "spectral_loss", "f0_l1_semitones", "f0_outliers", "loudness_l1_db", "loudness_error_db", "noise_balance_db",
)  # fmt: skip
ROOMS = ("Reverb", "FilteredNoiseReverb", "ExpDecayReverb")

#: Validations in a training; the schedule ends at a learning rate near 0, so the last is usually the best.
N_VALIDATIONS = 2


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


def place(name: str, seed: int, out: Path) -> Path:
    """The folder of a variant's instrument."""
    return out / f"{name.replace(' ', '-')}-{seed}"


class Clock:
    """Measures the processor time of training steps from the reports of a training.

    Attributes:
      costs_s: processor seconds of a step, all cores together, one for each two successive reports of steps.
    """

    def __init__(self) -> None:
        self.costs_s: list[float] = []
        self.last: tuple[int, float] | None = None

    def __call__(self, report: TrainProgress) -> None:
        """Takes a report; steps between two others than `step` are not measured, they hold validations."""
        now = (report.step, time.process_time())
        if report.event != "step":
            self.last = None
            return
        if self.last is not None and now[0] > self.last[0] > 1:  # the first steps hold the compilation
            self.costs_s.append((now[1] - self.last[1]) / (now[0] - self.last[0]))
        self.last = now


def train_variant(name: str, preset: Preset, seed: int, options: argparse.Namespace) -> Path:
    """Trains a variant, unless that is done, and returns the folder of its instrument."""
    folder = place(name, seed, options.out)
    options.out.mkdir(parents=True, exist_ok=True)
    path = folder.with_suffix(".yaml")
    path.write_text(dump_yaml(preset), encoding="utf-8")
    state = read_state(run_of(folder))
    if state is not None and state.finished and folder.is_dir():
        return folder
    clock, started = Clock(), time.monotonic()
    train(folder.name, options.dataset, path, options.steps, folder, seed=seed, start_from="none", listen=False,
          progress=clock)  # fmt: skip
    cost_s = float(np.median(clock.costs_s)) if clock.costs_s else float("nan")
    folder.with_suffix(".cost.json").write_text(json.dumps(cost_s), encoding="utf-8")
    print(f"{folder.name}: {time.monotonic() - started:.0f} s, {cost_s:.3f} s a step", file=sys.stderr, flush=True)
    return folder


def run_of(folder: Path) -> Path:
    """The folder of the run beside an instrument."""
    return folder.with_name(f"{folder.name}.run")


def row(name: str, seed: int, folder: Path, options: argparse.Namespace) -> list[str]:
    """The figures of a trained variant."""
    kept = folder.with_suffix(".json")
    if kept.exists():
        return list(json.loads(kept.read_text(encoding="utf-8")))
    state = read_state(run_of(folder))
    assert state is not None, f"{folder} was not trained here"
    (judged,) = evaluate(folder, dataset=options.dataset)
    n_weights = sum(weight.size for weight in load(folder).weights.values())
    figures = [METRICS[key][1].format(judged.figures[key]) if key in judged.figures else "–" for key in FIGURES]
    cost_s = float(json.loads(folder.with_suffix(".cost.json").read_text(encoding="utf-8")))
    cells = [name, str(seed), f"{n_weights:,}", f"{cost_s:.3f} s", f"{state.best_loss:.2f}", *figures]
    kept.write_text(json.dumps(cells, ensure_ascii=False), encoding="utf-8")
    return cells


def draw(names: list[str], options: argparse.Namespace) -> None:
    """Draws the spectrograms of one held-out window: the recording, and what each variant plays."""
    from ddsp_cli.reports.plots import as_png, new_figure, show_spectrogram

    sounds: dict[str, np.ndarray] = {}
    for name in names:
        bundle = load(place(name, options.seeds[0], options.out))
        data = loader.load(options.dataset, bundle.card.features, bundle.card.model.sample_rate_hz)
        windows = choose_windows(data)
        clip = resynthesise(bundle, data, np.array(windows[len(windows) // 2 :][:1]))
        sounds.setdefault("recording", clip.recording)
        sounds[name] = clip.rendering
    n_columns = 2
    n_rows = -(-len(sounds) // n_columns)
    figure = new_figure(11, 2.2 * n_rows)
    axes = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, (name, audio) in zip(axes, sounds.items(), strict=False):
        show_spectrogram(axis, audio, bundle.card.model.sample_rate_hz)
        axis.set_title(name, loc="left", fontsize=9)
    for axis in axes[len(sounds) :]:
        axis.set_axis_off()
    for axis in axes[-n_columns:]:
        axis.set_xlabel("seconds")
    options.picture.write_bytes(as_png(figure, dpi=80))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--preset", default="light")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--all-seeds", action="store_true", help="train every variant with every seed")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--crop-s", type=float)
    parser.add_argument("--out", type=Path, default=Path("ablations"))
    parser.add_argument("--only", help="names of variants, with commas")
    parser.add_argument("--picture", type=Path, help="PNG to draw")
    options = parser.parse_args()
    preset = load_preset(options.preset)
    changes = {name: getattr(options, name) for name in ("batch_size", "crop_s") if getattr(options, name)}
    changes |= {"validation_steps": -(-options.steps // N_VALIDATIONS)}
    preset = msgspec.structs.replace(preset, training=msgspec.structs.replace(preset.training, patience=0, **changes))
    presets = variants(preset)
    wanted = options.only.split(",") if options.only else list(presets)
    unknown = [name for name in wanted if name not in presets]
    if unknown:
        sys.exit(f"no variant is named {', '.join(unknown)}; there are {', '.join(presets)}")
    titles = ["variant", "seed", "weights", "a step", "validation loss", *(METRICS[key][0] for key in FIGURES)]
    runs = [
        (name, seed)
        for name in wanted
        for seed in (options.seeds if name == "full" or options.all_seeds else options.seeds[:1])
    ]
    for name, seed in runs:
        train_variant(name, presets[name], seed, options)
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for name, seed in runs:
        print(f"| {' | '.join(row(name, seed, place(name, seed, options.out), options))} |", flush=True)
    if options.picture is not None:
        draw(wanted, options)


if __name__ == "__main__":
    main()
