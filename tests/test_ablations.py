"""benchmarks/ablations.py: variants of a preset, and parts of an instrument that are switched off."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from ddsp_cli import scaling
from ddsp_cli.bundle import load
from ddsp_cli.bundle.layout import processing_order
from ddsp_cli.config import load_preset
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.training.checkpoint import TrainProgress

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("ablations", ROOT / "benchmarks" / "ablations.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["ablations"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["ablations"]


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("full", {"harmonic", "noise", "dry", "reverb"}),
        ("no reverb", {"harmonic", "noise", "dry"}),
        ("no noise", {"harmonic", "reverb"}),
        ("tiny", {"harmonic", "noise", "dry", "reverb"}),
        ("encoder z", {"harmonic", "noise", "dry", "reverb"}),
    ],
)
def test_variants_have_graphs_without_loose_ends(script, name, nodes):
    model = script.variants(load_preset("light"))[name].model
    assert set(model.processors) == nodes
    sources = ["amplitude", "harmonic_distribution", "f0_hz", "noise_magnitudes"]
    order = processing_order({key: node.inputs for key, node in model.processors.items()}, sources)
    taken = {signal for node in model.processors.values() for signal in node.inputs}
    assert [key for key in order if key not in taken] == [order[-1]]
    assert model.sizes.layers_per_stack == (0 if name == "tiny" else 1)
    assert ("z" in model.inputs) == (name == "encoder z")


def test_the_clock_measures_steps_alone(script, monkeypatch):
    clock = script.Clock()
    times = iter([0.0, 9.0, 9.5, 20.0, 21.0, 22.0])
    monkeypatch.setattr(script.time, "process_time", lambda: next(times))
    for step, event in ((1, "step"), (2, "step"), (4, "step"), (4, "validation"), (5, "step"), (7, "step")):
        clock(TrainProgress(step, 10, event=event))
    assert clock.costs_s == [0.25, 0.5]  # without the compilation in step 1, and without the validation


def test_raw_values_of_a_distribution_give_its_multiple(script):
    distribution = np.array([0.5, 0.3, 0.15, 0.05])
    scaled = scaling.exp_sigmoid(script.raw_of(distribution))
    np.testing.assert_allclose(scaled / scaled.sum(), distribution, atol=1e-5)


def test_parts_that_are_switched_off_are_silent(script, monkeypatch):
    bundle = load(ROOT / "models" / "flute")
    n_harmonics = bundle.card.model.processors["harmonic"].n_harmonics
    monkeypatch.setattr(script, "mean_distribution", lambda *_: np.full(n_harmonics, 1 / n_harmonics))
    parts = script.switched_off(bundle, None)
    f0_hz, level_db = np.full(100, 440.0, np.float32), np.full(20, -20.0, np.float32)

    def power(name, **options):
        blocks = Instrument(parts[name]).render(f0_hz, level_db, variation=False, **options)
        return float(np.mean(np.square(np.concatenate(list(blocks)), dtype=np.float64)))

    assert power("no reverb") == pytest.approx(power("full", room=False))
    alone = power("no noise", room=False) + power("noise alone", room=False)
    assert alone == pytest.approx(power("full", room=False), rel=0.02)  # they do not correlate
    assert power("noise alone", room=False) < power("full", room=False)
