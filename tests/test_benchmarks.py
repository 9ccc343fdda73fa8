"""Scripts of benchmarks/: limits, time_to_quality, ablations and few_shot, on small inputs."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
from safetensors.numpy import save_file

from ddsp_cli import scaling
from ddsp_cli.bundle import load
from ddsp_cli.bundle.layout import processing_order
from ddsp_cli.config import load_preset
from ddsp_cli.errors import ModelError
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.training.checkpoint import CHECKPOINT, Point, RunState, TrainProgress

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import limits  # noqa: E402

RATE_HZ, SECONDS = 16000, 4


@pytest.fixture(scope="module")
def note() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Six harmonics under vibrato, each with a different phase, and soft noise; F0 [F], and the noise alone."""
    t = np.arange(SECONDS * RATE_HZ) / RATE_HZ
    f0_hz = 330.0 * 2.0 ** (0.3 * np.sin(2.0 * np.pi * 5.0 * t) / 12.0)
    phase = 2.0 * np.pi * np.cumsum(f0_hz) / RATE_HZ
    tone = sum(0.2 / k * np.cos(k * phase + k * k) for k in range(1, 7))
    noise = 1e-3 * np.random.default_rng(0).normal(size=len(t))
    return tone + noise, f0_hz[:: RATE_HZ // limits.FRAME_HZ], noise


def level_db(sound: np.ndarray, reference: np.ndarray) -> float:
    inner = slice(RATE_HZ // 4, -RATE_HZ // 4)
    return float(10 * np.log10(np.mean(sound[inner] ** 2) / np.mean(reference[inner] ** 2)))


def test_the_residual_is_the_noise(note):
    audio, f0_hz, noise = note
    own, pieces = limits.divide(audio.astype(np.float32), f0_hz)
    residual = audio - own
    assert level_db(residual, audio) < -35.0
    assert abs(level_db(residual, noise)) < 4.0
    assert len(pieces) == 1


def test_oscillators_have_the_levels_and_not_the_phases(note):
    audio, f0_hz, _ = note
    own, ((amplitudes, phase),) = limits.divide(audio.astype(np.float32), f0_hz)
    locked = limits.add_up(amplitudes, phase, step=5)
    assert abs(level_db(locked, own)) < 0.3
    assert level_db(audio - locked, audio) > -10.0


def test_noise_has_the_power_of_the_residual():
    rng = np.random.default_rng(1)
    sound = np.concatenate([rng.normal(size=32000), 0.1 * rng.normal(size=32000)])
    made = limits.noise_like(sound)
    for part in (slice(2000, 30000), slice(34000, 62000)):
        assert abs(10 * np.log10(np.mean(made[part] ** 2) / np.mean(sound[part] ** 2))) < 0.5
    assert abs(np.corrcoef(sound, made)[0, 1]) < 0.05


def test_a_sound_gets_the_levels_of_another_in_each_band():
    t = np.arange(64000) / RATE_HZ
    low, high = np.cos(2.0 * np.pi * 1000.0 * t), np.cos(2.0 * np.pi * 3000.0 * t + 1.0)
    fading = np.where(t < 2.0, 0.5, 0.1)
    made = limits.with_levels_of(0.2 * (low + high), fading * low + 0.1 * high)
    for part in (slice(2000, 30000), slice(34000, 62000)):
        for tone, wanted in ((low, fading[part][0]), (high, 0.1)):
            share = abs(np.mean(made[part] * tone[part]) * 2.0)
            assert abs(20 * np.log10(share / wanted)) < 0.5
    quiet = limits.with_levels_of(low, 1e-4 * low)
    assert level_db(quiet, low) == pytest.approx(-limits.MAX_CHANGE_DB, abs=0.5), "no more than the largest change"


SCRIPT = Path(__file__).parent.parent / "benchmarks" / "time_to_quality.py"


@pytest.fixture(scope="module")
def time_to_quality():
    spec = importlib.util.spec_from_file_location("time_to_quality", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_run(folder: Path, losses: list[float], each_s: float) -> Path:
    """A run with a validation every so many seconds; 0 for one that noted no times."""
    folder.mkdir()
    history = [Point(100 * i, loss, loss, each_s * i) for i, loss in enumerate(losses, 1)]
    state = RunState(preset="", dataset="", seed=0, best_loss=min(losses), history=history)
    save_file({"x": np.zeros(1)}, folder / CHECKPOINT, metadata={"state": msgspec.json.encode(state).decode()})
    return folder


def test_the_lowest_so_far_counts(time_to_quality, tmp_path):
    found = time_to_quality.curve(make_run(tmp_path / "a.run", [9.0, 7.0, 8.0, 6.5], 60.0))
    np.testing.assert_allclose(found[1], [9.0, 7.0, 7.0, 6.5])
    assert [time_to_quality.at(*found, minute) for minute in (1, 3.5, 4)] == [9.0, 7.0, 6.5]
    assert math.isnan(time_to_quality.at(*found, 0.5))
    assert math.isnan(time_to_quality.at(*found, 5))
    assert [time_to_quality.first_below(*found, loss) for loss in (8.6, 7.0, 6.6)] == [2.0, 2.0, 4.0]
    assert math.isnan(time_to_quality.first_below(*found, 6.0))


def test_a_run_that_knows_no_times_is_refused(time_to_quality, tmp_path):
    with pytest.raises(ModelError, match="know their time"):
        time_to_quality.curve(make_run(tmp_path / "old.run", [9.0], 0.0))
    with pytest.raises(ModelError, match="know their time"):
        time_to_quality.curve(tmp_path / "nowhere")


def test_table_and_picture(tmp_path):
    make_run(tmp_path / "a.run", np.linspace(12, 6.4, 200).tolist(), 15.0)
    done = subprocess.run(
        [sys.executable, SCRIPT, "a.run", "--out", "new/curves.png"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if line.startswith(("original", "a "))] == [
        "original", "a", "original", "a"
    ]  # fmt: skip
    assert 5_000 < (tmp_path / "new/curves.png").stat().st_size < 150_000


@pytest.fixture(scope="module")
def ablations():
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
def test_variants_have_graphs_without_loose_ends(ablations, name, nodes):
    model = ablations.variants(load_preset("light"))[name].model
    assert set(model.processors) == nodes
    sources = ["amplitude", "harmonic_distribution", "f0_hz", "noise_magnitudes"]
    order = processing_order({key: node.inputs for key, node in model.processors.items()}, sources)
    taken = {signal for node in model.processors.values() for signal in node.inputs}
    assert [key for key in order if key not in taken] == [order[-1]]
    assert model.sizes.layers_per_stack == (0 if name == "tiny" else 1)
    assert ("z" in model.inputs) == (name == "encoder z")


def test_the_clock_measures_steps_alone(ablations, monkeypatch):
    clock = ablations.Clock()
    times = iter([0.0, 9.0, 9.5, 20.0, 21.0, 22.0])
    monkeypatch.setattr(ablations.time, "process_time", lambda: next(times))
    for step, event in ((1, "step"), (2, "step"), (4, "step"), (4, "validation"), (5, "step"), (7, "step")):
        clock(TrainProgress(step, 10, event=event))
    assert clock.costs_s == [0.25, 0.5]  # without the compilation in step 1, and without the validation


def test_raw_values_of_a_distribution_give_its_multiple(ablations):
    distribution = np.array([0.5, 0.3, 0.15, 0.05])
    scaled = scaling.exp_sigmoid(ablations.raw_of(distribution))
    np.testing.assert_allclose(scaled / scaled.sum(), distribution, atol=1e-5)


def test_parts_that_are_switched_off_are_silent(ablations, monkeypatch):
    bundle = load(ROOT / "models" / "flute")
    n_harmonics = bundle.card.model.processors["harmonic"].n_harmonics
    monkeypatch.setattr(ablations, "mean_distribution", lambda *_: np.full(n_harmonics, 1 / n_harmonics))
    parts = ablations.switched_off(bundle, None)
    f0_hz, level_db = np.full(100, 440.0, np.float32), np.full(20, -20.0, np.float32)

    def power(name, **options):
        blocks = Instrument(parts[name]).render(f0_hz, level_db, variation=False, **options)
        return float(np.mean(np.square(np.concatenate(list(blocks)), dtype=np.float64)))

    assert power("no reverb") == pytest.approx(power("full", room=False))
    alone = power("no noise", room=False) + power("noise alone", room=False)
    assert alone == pytest.approx(power("full", room=False), rel=0.02)  # they do not correlate
    assert power("noise alone", room=False) < power("full", room=False)


BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def few_shot():
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("few_shot", BENCHMARKS / "few_shot.py")
    module = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, "few_shot", module)  # its dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    patch.undo()
    sys.modules.pop("realism", None)


@pytest.fixture
def recordings(tmp_path):
    paths = [tmp_path / f"{name}.wav" for name in "abc"]
    for i, path in enumerate(paths):
        soundfile.write(path, np.full(48000, 0.1 * (i + 1), np.float32), 48000)
    return paths


def test_the_last_recording_is_cut(few_shot, recordings, tmp_path):
    assert few_shot.take(recordings, 1.5, tmp_path / "few") == pytest.approx(1.5)
    lengths = [soundfile.info(path).frames for path in sorted((tmp_path / "few").iterdir())]
    assert lengths == [48000, 24000]


def test_a_shorter_take_is_part_of_a_longer_one(few_shot, recordings, tmp_path):
    for seconds in (1.5, 2.5):
        few_shot.take(recordings, seconds, tmp_path / str(seconds))
    short, long = (
        np.concatenate([soundfile.read(path)[0] for path in sorted((tmp_path / str(s)).iterdir())]) for s in (1.5, 2.5)
    )
    np.testing.assert_array_equal(short, long[: len(short)])


def test_fewer_recordings_than_requested(few_shot, recordings, tmp_path):
    assert few_shot.take(recordings, 10.0, tmp_path / "few") == pytest.approx(3.0)


@pytest.mark.parametrize(("pattern", "held"), [("*mov8*", True), ("b/x_mov8.mp3", True), ("mov8*", False)])
def test_patterns_match_as_those_of_prepare(few_shot, pattern, held):
    assert few_shot.is_held_out(Path("a") / "b" / "x_mov8.mp3", [pattern]) == held


def test_with_a_data_set_its_training_recordings_are_taken(few_shot, recordings, monkeypatch):
    @dataclass
    class Recording:
        path: str
        split: str
        note_s: float
        gain_db: float = 6.0

    kept = [Recording("few/a.wav", "train", 1.0), Recording("few/b.wav", "validation", 1.0),
            Recording("few/c.wav", "train", 0.0)]  # fmt: skip
    monkeypatch.setattr(few_shot, "load_manifest", lambda folder: None)
    monkeypatch.setattr(few_shot, "iter_recordings", lambda folder, manifest: iter(kept))
    assert few_shot.of_training(recordings, Path("datasets/few")) == {recordings[0]: 6.0}


def test_recordings_are_taken_at_the_level_of_the_data_set(few_shot, recordings, tmp_path):
    few_shot.take(recordings[:1], 1.0, tmp_path / "few", {recordings[0]: -6.0})
    (path,) = (tmp_path / "few").iterdir()
    np.testing.assert_allclose(soundfile.read(path)[0], 0.1 * 10 ** (-6.0 / 20.0), rtol=1e-3)


def test_a_command_that_fails_says_why(few_shot, tmp_path):
    with pytest.raises(SystemExit, match="nowhere"):
        few_shot.run("prepare", tmp_path / "nowhere")
