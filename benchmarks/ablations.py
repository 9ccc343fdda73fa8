"""Ablations: variants of the model trained without a part, and a trained instrument played without it.

    python benchmarks/ablations.py DATASET [--preset light] [--steps 2000] [--seeds 0 1] [--only full,tiny]
                                           [--out DIR] [--picture FILE]
    python benchmarks/ablations.py DATASET --of violin [--picture FILE]

DATASET is a folder that `ddsp prepare` made, with a validation split. The variants are those of the paper of DDSP
(Engel et al., ICLR 2020) that can be trained here, each for the same number of steps, from random weights:

    full       the preset
    no reverb  without the learned room: the recording's room has to come from the synthesisers
    no noise   without filtered noise: harmonics alone
    tiny       the recurrent layer alone, without dense stacks
    encoder z  with an encoder of timbre, 16 latent dimensions

The first seed trains all variants; each further one trains `full` again (all variants with --all-seeds), which tells
how far two trainings of the same model are apart. A training that is complete in --out is not repeated.

With --of nothing is trained. A trained instrument plays the held-out recordings whole, and with one part switched off:

    no reverb       dry
    no noise        harmonics alone
    noise alone     no harmonics
    fixed spectrum  at all times the mean harmonic distribution of the same notes; level and noise as before

The table is Markdown: number of weights, processor seconds of a step (all cores together), lowest validation loss of
the training, and the figures of `ddsp evaluate` on the validation split. The picture shows one held-out clip, as it
was recorded and as each variant of the first seed plays it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ddsp_cli.analysis import metrics
from ddsp_cli.analysis.features import fill_f0
from ddsp_cli.analysis.metrics import METRICS
from ddsp_cli.bundle import Bundle, load
from ddsp_cli.bundle.layout import control_columns, learned
from ddsp_cli.config import (
    ANALYSIS_RATE_HZ,
    EncoderConfig,
    FilteredNoiseConfig,
    HarmonicConfig,
    ModelConfig,
    Preset,
    dump_yaml,
    load_preset,
)
from ddsp_cli.dataset import loader
from ddsp_cli.dataset.loader import Dataset
from ddsp_cli.scaling import MAX_AMPLITUDE
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.training.checkpoint import TrainProgress, read_state
from ddsp_cli.workflows.evaluate import choose_windows, resynthesise
from ddsp_cli.workflows.models import find_playable
from ddsp_cli.workflows.train import train

FIGURES = (
    "spectral_loss", "f0_l1_semitones", "f0_outliers", "loudness_l1_db", "loudness_error_db", "noise_balance_db",
)  # fmt: skip
ROOMS = ("Reverb", "FilteredNoiseReverb", "ExpDecayReverb")

#: A raw control whose amplitude is below -120 dB.
SILENT_RAW = -30.0

#: Validations in a training; the schedule ends at a learning rate near 0, so the last is usually the best.
N_VALIDATIONS = 2


def without(model: ModelConfig, wanted: Any) -> ModelConfig:
    """Removes the processors for which `wanted` is true; processors that took them take their first input instead."""
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
    """Returns the preset and its variants by name."""
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
    """Returns the folder of a variant's instrument."""
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
    """Returns the folder of the run beside an instrument."""
    return folder.with_name(f"{folder.name}.run")


def data_of(bundle: Bundle, dataset: Path) -> Dataset:
    """Reads a data set as an instrument needs it."""
    return loader.load(dataset, bundle.card.features, bundle.card.model.sample_rate_hz)


def figures_of(bundle: Bundle, data: Dataset) -> list[str]:
    """Returns figures of `ddsp evaluate` on the validation split, as text."""
    clip = resynthesise(bundle, data)
    found = clip.figures() | metrics.resynthesis_figures(*clip.at_16_khz())
    return [METRICS[key][1].format(found[key]) if key in found else "–" for key in FIGURES]


def row(name: str, seed: int, folder: Path, options: argparse.Namespace) -> list[str]:
    """Describes and measures a trained variant."""
    kept = folder.with_suffix(".json")
    if kept.exists():
        return list(json.loads(kept.read_text(encoding="utf-8")))
    state = read_state(run_of(folder))
    assert state is not None, f"{folder} was not trained here"
    bundle = load(folder)
    n_weights = sum(weight.size for weight in learned(bundle.weights).values())
    figures = figures_of(bundle, data_of(bundle, options.dataset))
    cost_s = float(json.loads(folder.with_suffix(".cost.json").read_text(encoding="utf-8")))
    cells = [name, str(seed), f"{n_weights:,}", f"{cost_s:.3f} s", f"{state.best_loss:.2f}", *figures]
    kept.write_text(json.dumps(cells, ensure_ascii=False), encoding="utf-8")
    return cells


# --- a trained instrument, played without a part of it ---------------------------------------------------------------


def with_constant(bundle: Bundle, columns: slice, raw: np.ndarray | float) -> Bundle:
    """Replaces predicted raw controls, some columns of the decoder's last layer, by constants."""
    kernel, bias = (bundle.weights[f"decoder/dense_out/{name}"].copy() for name in ("kernel", "bias"))
    kernel[:, columns], bias[columns] = 0.0, raw
    changed = {"decoder/dense_out/kernel": kernel, "decoder/dense_out/bias": bias}
    return dataclasses.replace(bundle, weights={**bundle.weights, **changed})


def raw_of(distribution: np.ndarray) -> np.ndarray:
    """Returns the raw values [K] that `scaling.exp_sigmoid` turns into a multiple of a distribution [K]."""
    share = np.maximum(distribution / distribution.max(), 1e-6)
    sigmoid = (share / MAX_AMPLITUDE) ** (1.0 / np.log(10.0))
    return np.asarray(np.log(sigmoid / (1.0 - sigmoid)), np.float32)


def mean_distribution(bundle: Bundle, data: Dataset) -> np.ndarray:
    """Returns the mean harmonic distribution [K] of the notes of the validation split."""
    model = bundle.card.model
    step = data.manifest.features.frame_rate_hz // model.frame_rate_hz
    f0_hz = data.validation.f0_hz.reshape(-1)[::step]
    level_db = getattr(data.validation, model.level).reshape(-1)[::step]
    controls = Instrument(bundle).open_decoder().controls(fill_f0(f0_hz, level_db), level_db)
    return np.asarray(controls["harmonic_distribution"][f0_hz > 0].mean(axis=0))


def switched_off(bundle: Bundle, data: Dataset) -> dict[str, Bundle]:
    """Returns an instrument, and the same without a part of it, by name."""
    model = bundle.card.model
    harmonic, noise = model.only(HarmonicConfig), model.only(FilteredNoiseConfig)
    if harmonic is None or noise is None or not bundle.weights:
        sys.exit("the instrument needs weights, one harmonic synthesiser and one of filtered noise")
    of_harmonic, of_noise = control_columns(model, harmonic[0]), control_columns(model, noise[0])
    found = {"full": bundle}
    if bundle.impulse_response is not None:
        found["no reverb"] = dataclasses.replace(bundle, impulse_response=np.zeros_like(bundle.impulse_response))
    found["no noise"] = with_constant(bundle, of_noise["noise_magnitudes"], SILENT_RAW)
    found["noise alone"] = with_constant(bundle, of_harmonic["amplitude"], SILENT_RAW)
    fixed = raw_of(mean_distribution(bundle, data))
    found["fixed spectrum"] = with_constant(bundle, of_harmonic["harmonic_distribution"], fixed)
    return found


def draw(bundles: dict[str, Bundle], data: Dataset, path: Path) -> None:
    """Draws the spectrograms of one held-out window: the recording, and the rendering of each variant.

    Args:
      bundles: variants by name.
      data: its validation split has the window.
      path: of the PNG.
    """
    from ddsp_cli.reports.plots import as_png, new_figure, show_spectrogram

    windows = choose_windows(data)
    rows = np.array(windows[len(windows) // 2 :][:1])
    sounds: dict[str, np.ndarray] = {}
    for name, bundle in bundles.items():
        recording, rendering = resynthesise(bundle, data, rows).at_16_khz()
        sounds |= {"recording": recording, name: rendering}
    n_columns = 2
    n_rows = -(-len(sounds) // n_columns)
    figure = new_figure(10, 1.9 * n_rows)
    axes = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, (name, audio) in zip(axes, sounds.items(), strict=False):
        show_spectrogram(axis, audio, ANALYSIS_RATE_HZ)
        axis.set_title(name, loc="left", fontsize=9)
    for axis in axes[len(sounds) :]:
        axis.set_axis_off()
    for axis in axes[-n_columns:]:
        axis.set_xlabel("seconds")
    path.write_bytes(as_png(figure, dpi=70))


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
    parser.add_argument("--of", help="an instrument whose parts are switched off; nothing is trained")
    options = parser.parse_args()
    names = [METRICS[key][0] for key in FIGURES]
    if options.of:
        bundle = load(find_playable(options.of))
        data = data_of(bundle, options.dataset)
        bundles = switched_off(bundle, data)
        print_titles(["variant", *names])
        for name, changed in bundles.items():
            print(f"| {name} | {' | '.join(figures_of(changed, data))} |", flush=True)
        if options.picture is not None:
            draw(bundles, data, options.picture)
        return
    preset = load_preset(options.preset)
    changes = {name: getattr(options, name) for name in ("batch_size", "crop_s") if getattr(options, name)}
    changes |= {"validation_steps": -(-options.steps // N_VALIDATIONS)}
    preset = msgspec.structs.replace(preset, training=msgspec.structs.replace(preset.training, patience=0, **changes))
    presets = variants(preset)
    wanted = options.only.split(",") if options.only else list(presets)
    unknown = [name for name in wanted if name not in presets]
    if unknown:
        sys.exit(f"no variant is named {', '.join(unknown)}; there are {', '.join(presets)}")
    runs = [
        (name, seed)
        for name in wanted
        for seed in (options.seeds if name == "full" or options.all_seeds else options.seeds[:1])
    ]
    for name, seed in runs:
        train_variant(name, presets[name], seed, options)
    print_titles(["variant", "seed", "weights", "a step", "validation loss", *names])
    for name, seed in runs:
        print(f"| {' | '.join(row(name, seed, place(name, seed, options.out), options))} |", flush=True)
    if options.picture is not None:
        trained = {name: load(place(name, options.seeds[0], options.out)) for name in wanted}
        draw(trained, data_of(trained[wanted[0]], options.dataset), options.picture)


def print_titles(titles: list[str]) -> None:
    """Prints the head of a Markdown table."""
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)


if __name__ == "__main__":
    main()
