"""Makes the base, with which new instruments begin, from the data sets of many instruments.

    python models/recipes/make_base.py DATASET... [--out models/base] [--steps 2500] [--leave-out NAME]

The name of each data set is that of an instrument. The card tells the sources of all; a data set that does not say
where its recordings come from is refused.
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

from ddsp_cli import __version__, backend, bundle
from ddsp_cli.config import load_preset
from ddsp_cli.dataset.loader import load
from ddsp_cli.errors import DatasetError


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("models/base"))
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--leave-out", metavar="NAME", help="an instrument that this base does not hear")
    arguments = parser.parse_args()
    backend.load()
    from ddsp_cli.training.base import fit_base
    from ddsp_cli.training.targets import measure_targets
    from ddsp_cli.training.windows import Windows

    preset = load_preset("hifi")
    windows, manifests = {}, []
    for folder in arguments.datasets:
        data = load(folder, sample_rate_hz=preset.model.sample_rate_hz)
        if data.manifest.name == arguments.leave_out:
            continue
        if not data.manifest.sources:
            raise DatasetError(f"{folder} does not name its sources", "Prepare it with --sources.")
        found = Windows(data.train, preset.model, data.manifest.features.frame_rate_hz)
        found.measure_targets(measure_targets)
        found.audio = found.sound = found.audio[:0]  # only the targets are needed
        windows[data.manifest.name] = found
        manifests.append(data.manifest)
        print(f"{data.manifest.name}: {data.manifest.train.used_s / 60:.1f} minutes", flush=True)

    def report(step: int) -> None:
        if step % 100 == 0:
            print(f"step {step} of {arguments.steps}", flush=True)

    config, weights, error_db = fit_base(preset.model, windows, arguments.steps, report=report)
    sources = {source.title: source for manifest in manifests for source in manifest.sources}
    card = bundle.Card(
        format=bundle.FORMAT_VERSION,
        name="base",
        description=f"What {len(windows)} instruments have in common. New instruments begin here.",
        licence="CC-BY-SA-3.0",
        model=config,
        features=manifests[0].features.at(config.frame_rate_hz),
        statistics=manifests[0].statistics,
        training=bundle.TrainingRecord(
            preset="hifi",
            steps=arguments.steps,
            seed=0,
            audio_s=round(sum(manifest.train.used_s for manifest in manifests), 1),
            program=f"ddsp {__version__}",
        ),
        metrics={"control_error_db": round(error_db, 3)},
        sources=list(sources.values()),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    bundle.save(arguments.out, card, weights, None, force=True)
    print(f"{arguments.out}: mean error {error_db:.2f} dB")


if __name__ == "__main__":
    main()
