"""Makes the base, with which new instruments begin, from the data sets of many instruments.

    python models/recipes/make_base.py DATASET... [--out models/base] [--steps 2500] [--sound-steps 600]
        [--start BASE] [--leave-out NAME]

The name of each data set is that of an instrument. The base is fitted to measured controls first, then trained on
sound. `--start` begins with an existing base of these instruments, which is trained on sound alone. The card tells the
sources of all: those of the data sets (one without is refused), or those of the existing base.
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

import msgspec

from ddsp_cli import __version__, backend, bundle
from ddsp_cli.config import ModelConfig, load_preset
from ddsp_cli.dataset.loader import load
from ddsp_cli.dataset.manifest import Manifest
from ddsp_cli.errors import DatasetError


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("models/base"))
    parser.add_argument("--steps", type=int, default=2500, help="on measured controls")
    parser.add_argument("--sound-steps", type=int, default=600, help="on sound, after them")
    parser.add_argument("--start", type=Path, metavar="BASE", help="a base of these instruments, to train on sound")
    parser.add_argument("--leave-out", metavar="NAME", help="an instrument that this base does not hear")
    arguments = parser.parse_args()
    backend.load()
    from ddsp_cli.training.base import fit_base, fit_base_to_sound
    from ddsp_cli.training.targets import measure_targets
    from ddsp_cli.training.windows import Windows

    preset = load_preset("hifi")
    windows, manifests = {}, []
    for folder in arguments.datasets:
        data = load(folder, sample_rate_hz=preset.model.sample_rate_hz)
        if data.manifest.name == arguments.leave_out:
            continue
        if not data.manifest.sources and not arguments.start:
            raise DatasetError(f"{folder} does not name its sources", "Prepare it with --sources.")
        render_rate_hz = preset.training.render_rate_hz
        found = Windows(data.train, preset.model, data.manifest.features.frame_rate_hz, render_rate_hz)
        found.measure_targets(measure_targets)
        found.audio = found.audio[:0]  # needed for the targets alone
        windows[data.manifest.name] = found
        manifests.append(data.manifest)
        print(f"{data.manifest.name}: {data.manifest.train.used_s / 60:.1f} minutes", flush=True)

    def report(step: int) -> None:
        if step % 100 == 0:
            print(f"step {step}", flush=True)

    if arguments.start:
        begun = bundle.load(arguments.start)
        card, weights = begun.card, dict(begun.weights)
        assert card.model.instruments
        windows = {name: windows[name] for name in card.model.instruments.names}
    else:
        print(f"{arguments.steps} steps on measured controls", flush=True)
        config, weights, error_db = fit_base(preset.model, windows, arguments.steps, report=report)
        card = _card(config, manifests, arguments.steps, error_db)
    if arguments.sound_steps:
        print(f"{arguments.sound_steps} steps on sound", flush=True)
        weights, loss = fit_base_to_sound(
            card.model, weights, preset.training, windows, arguments.sound_steps, report=report
        )
        card = bundle.revise(
            card,
            training=msgspec.structs.replace(card.training, steps=card.training.steps + arguments.sound_steps),
            metrics={**card.metrics, "sound_loss": round(loss, 3)},
            created=_now(),
        )
    bundle.save(arguments.out, card, weights, None, force=True)
    print(f"{arguments.out}: {card.metrics}")


def _card(config: ModelConfig, manifests: list[Manifest], n_steps: int, error_db: float) -> bundle.Card:
    """Makes the card of a base that was fitted to measured controls."""
    sources = {source.title: source for manifest in manifests for source in manifest.sources}
    return bundle.Card(
        format=bundle.FORMAT_VERSION,
        name="base",
        description=f"What {len(manifests)} instruments have in common. New instruments begin here.",
        licence="CC-BY-SA-3.0",
        model=config,
        features=manifests[0].features.at(config.frame_rate_hz),
        statistics=manifests[0].statistics,
        training=bundle.TrainingRecord(
            preset="hifi",
            steps=n_steps,
            seed=0,
            audio_s=round(sum(manifest.train.used_s for manifest in manifests), 1),
            program=f"ddsp {__version__}",
        ),
        metrics={"control_error_db": round(error_db, 3)},
        sources=list(sources.values()),
        created=_now(),
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    main()
