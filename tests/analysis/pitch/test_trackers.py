import importlib.util
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest

from ddsp_cli import packages
from ddsp_cli.analysis.extract import measure
from ddsp_cli.analysis.pitch import pyin, swift_f0, trackers
from ddsp_cli.config import FeatureSpec
from ddsp_cli.errors import UsageError
from fixtures import melody

RATE_HZ = 16000


def sing(f0_hz: np.ndarray) -> np.ndarray:
    """Twelve harmonics that follow f0 [S]."""
    phase = 2 * np.pi * np.cumsum(f0_hz) / RATE_HZ
    tone = sum(np.where(f0_hz * k < 7500, 1 / k, 0) * np.sin(k * phase) for k in range(1, 13))
    return (0.2 * tone).astype(np.float32)


def cents(estimated_hz: np.ndarray, true_hz: np.ndarray) -> np.ndarray:
    return 1200 * np.log2(np.maximum(estimated_hz, 1e-3) / true_hz)


@pytest.fixture(scope="module")
def glissandi() -> list[tuple[np.ndarray, np.ndarray]]:
    """(f0 of each sample, features of the sound) of an octave in one second, up and down."""
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    found = []
    for sign in (1, -1):
        f0_hz = 300.0 * 2.0 ** (sign * (t - 1.0))
        found.append((f0_hz, measure(sing(f0_hz), FeatureSpec())))
    return found


def test_pitch_of_a_glissando_has_no_bias(glissandi):
    for f0_hz, features in glissandi:
        inner = slice(50, -50)
        assert (features.f0_hz[inner] > 0).all()
        error = cents(features.f0_hz, f0_hz[::64])[inner]
        assert abs(np.median(error)) < 2.0
        assert np.abs(error).max() < 25.0


def test_pitch_is_on_time_to_a_millisecond(glissandi):
    # A delay shifts the rising glissando down and the falling one up; half the difference is the delay.
    (rising, up), (falling, down) = glissandi
    inner = slice(50, -50)
    difference = np.median(cents(up.f0_hz, rising[::64])[inner]) - np.median(cents(down.f0_hz, falling[::64])[inner])
    assert abs(difference / 2 / 1200) < 0.001


def test_pitch_stands_where_the_note_stands():
    audio = np.zeros(2 * RATE_HZ, np.float32)
    audio[RATE_HZ // 2 : RATE_HZ] = sing(np.full(RATE_HZ // 2, 440.0))
    voiced = np.flatnonzero(measure(audio, FeatureSpec()).f0_hz > 0)
    assert abs(voiced[0] - 125) <= 8  # 32 ms, two frames of the tracker
    assert abs(voiced[-1] - 250) <= 8


def test_interpolation_is_in_log_frequency():
    track = trackers.PitchTrack(np.array([400.0, 404.0]), np.array([0.9, 0.7]), 256)
    f0_hz, confidence = trackers.on_grid(track, 5, 64)
    np.testing.assert_allclose(f0_hz, [*(400 * 1.01 ** (np.arange(5) / 4))], rtol=1e-6)
    np.testing.assert_allclose(confidence, np.linspace(0.9, 0.7, 5), rtol=1e-6)


def test_gaps_are_never_bridged_and_jumps_never_swept():
    gap = trackers.PitchTrack(np.array([200.0, 50.0, 400.0]), np.array([1.0, 0.0, 1.0]), 256)
    f0_hz, confidence = trackers.on_grid(gap, 9, 64)
    np.testing.assert_allclose(f0_hz, [200, 200, 200, 0, 0, 0, 400, 400, 400], rtol=1e-6)
    assert ((confidence >= 0.5) == (f0_hz > 0)).all()
    jump = trackers.PitchTrack(np.array([200.0, 400.0]), np.array([1.0, 1.0]), 256)
    assert set(np.round(trackers.on_grid(jump, 5, 64)[0])) == {200.0, 400.0}


def test_the_grid_may_reach_beyond_the_tracker_or_find_nothing():
    track = trackers.PitchTrack(np.array([200.0]), np.array([1.0]), 256)
    np.testing.assert_allclose(trackers.on_grid(track, 4, 64)[0], 200.0, rtol=1e-6)
    empty = trackers.PitchTrack(np.zeros(0), np.zeros(0), 256)
    assert (trackers.on_grid(empty, 3, 64)[0] == 0).all()


def test_unknown_trackers_are_refused():
    with pytest.raises(UsageError, match="swiftf0") as refused:
        trackers.open_tracker("swiftf0")
    assert "swift-f0" in refused.value.hint
    with pytest.raises(UsageError, match="takes no weights"):
        trackers.check_tracker("pyin", Path("model-tiny.h5"))


def test_pyin_in_blocks_agrees_with_pyin_at_once(monkeypatch):
    pytest.importorskip("librosa")
    t = np.arange(5 * RATE_HZ // 2) / RATE_HZ
    f0_hz = 220 * 2 ** (t / 2.5)
    whole = trackers.track("pyin", sing(f0_hz))
    assert pyin.PYIN_BLOCK_SAMPLES % 256 == pyin.PYIN_CONTEXT_SAMPLES % 256 == 0
    monkeypatch.setattr(pyin, "PYIN_BLOCK_SAMPLES", RATE_HZ // 256 * 256)
    monkeypatch.setattr(pyin, "PYIN_CONTEXT_SAMPLES", 32 * 256)
    tracker = trackers.open_tracker("pyin")
    for block in np.array_split(sing(f0_hz), 9):
        tracker.push(block)
    blocks = tracker.finish()
    assert blocks.f0_hz.shape == whole.f0_hz.shape or len(whole.f0_hz) - len(blocks.f0_hz) == 1
    n = len(blocks.f0_hz)
    both = (blocks.confidence >= 0.5) & (whole.confidence[:n] >= 0.5)
    assert both.mean() > 0.95
    assert np.abs(cents(blocks.f0_hz[both], whole.f0_hz[:n][both])).max() <= 20


def test_swift_in_blocks_agrees_with_swift_at_once(monkeypatch):
    t = np.arange(12 * RATE_HZ) / RATE_HZ
    audio = sing(300 * 2 ** (0.5 * np.sin(t)))
    monkeypatch.setattr(swift_f0, "SWIFT_BLOCK_FRAMES", 10_000)
    whole = trackers.track("swift-f0", audio)
    monkeypatch.setattr(swift_f0, "SWIFT_BLOCK_FRAMES", 100)
    blocks = trackers.track("swift-f0", audio)
    assert blocks.f0_hz.shape == whole.f0_hz.shape == (750,)
    assert np.abs(cents(blocks.f0_hz, whole.f0_hz)).max() < 0.1
    np.testing.assert_allclose(blocks.confidence, whole.confidence, atol=1e-3)


class CountingTracker:
    """Hears 100 Hz everywhere."""

    def __init__(self, threads, weights):
        self.n_samples = 0

    def push(self, block):
        self.n_samples += len(block)

    def finish(self):
        n = self.n_samples // 100
        return trackers.PitchTrack(np.full(n, 100.0, np.float32), np.ones(n, np.float32), 100)


@pytest.fixture
def added(tmp_path, monkeypatch):
    """A package that adds the trackers `counting` and `broken`."""
    folder = tmp_path / "other_package-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: other-package\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(
        f"[{trackers.ENTRY_POINTS}]\ncounting = other_package:CountingTracker\nbroken = no_such_module:open\n"
        "pyin = other_package:CountingTracker\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = types.ModuleType("other_package")
    module.CountingTracker = CountingTracker
    monkeypatch.setitem(sys.modules, "other_package", module)


def test_other_packages_add_trackers(added):
    assert trackers.tracker_names()[-2:] == ["broken", "counting"]
    trackers.check_tracker("counting")
    features = measure(np.full(RATE_HZ, 0.1, np.float32), FeatureSpec(pitch="counting"))
    assert (features.f0_hz[:-2] == 100.0).all()
    with pytest.raises(UsageError, match=r"broken.*cannot be imported"):
        trackers.open_tracker("broken")
    with pytest.raises(UsageError, match="no pitch tracker called countin") as refused:
        trackers.check_tracker("countin")
    assert "counting" in refused.value.hint


def test_a_built_in_tracker_cannot_be_replaced_and_costs_no_search(added, monkeypatch):
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: pytest.fail("entry points were searched"))
    assert trackers.check_tracker("swift-f0") is None
    assert isinstance(trackers.open_tracker("swift-f0"), swift_f0.SwiftTracker)
    trackers.check_tracker("pyin")


def test_swift_called_directly_agrees_with_its_package():
    """Notes, silence, and sound below its silence threshold."""
    packages.load_onnx_runtime()
    from swift_f0 import SwiftF0, core

    audio = np.concatenate([melody((60, 67), note_s=0.8), np.zeros(8000), 5e-4 * melody((64,), note_s=0.5)])
    audio = audio[: len(audio) // 256 * 256].astype(np.float32)
    expected = SwiftF0(threads=1).detect(audio, 16000)
    found = trackers.track("swift-f0", audio, threads=1)
    np.testing.assert_array_equal(found.f0_hz, expected.pitch_hz.astype(np.float32))
    np.testing.assert_array_equal(found.confidence, expected.confidence.astype(np.float32))
    assert (*trackers.PITCH_RANGE_HZ, swift_f0.SWIFT_HOP_SAMPLES) == (core.FMIN, core.FMAX, core.HOP)
    assert core.SILENCE_PEAK == swift_f0.SWIFT_SILENCE_PEAK


def test_the_network_for_one_frame_agrees_with_the_whole_one():
    """It is that network without the parts that do not affect the frame."""
    rng = np.random.default_rng(1)
    whole, single = swift_f0._Network(1), swift_f0.SwiftFrameTracker()
    t = np.arange(swift_f0.FRAME_INPUT * swift_f0.SWIFT_HOP_SAMPLES) / 16000
    for f0_hz in np.geomspace(60.0, 1800.0, 20):
        audio = sum(0.1 / k * np.sin(2 * np.pi * f0_hz * k * t) for k in range(1, 6))
        audio = (audio + rng.normal(0.0, 0.02, len(t))).astype(np.float32)
        expected = [values[swift_f0.FRAME_TRACKED] for values in whole(audio)]
        np.testing.assert_allclose(single(audio), expected, rtol=1e-5, atol=1e-6)
    assert single(np.zeros(len(t), np.float32))[1] == 0.0, "digital silence"


def test_the_network_for_one_frame_is_made_from_the_installed_package():
    pytest.importorskip("onnx")
    path = Path(__file__).parents[3] / "tools" / "swift_frame.py"
    spec = importlib.util.spec_from_file_location("swift_frame", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.make() == swift_f0.FRAME_NETWORK.read_bytes()


def test_a_tracker_waits_for_the_network_that_another_thread_loads(monkeypatch):
    calls = []

    def load_slowly():
        calls.append(threading.current_thread().name)
        time.sleep(0.1)
        return load()

    load = packages.load_onnx_runtime
    monkeypatch.setattr(packages, "load_onnx_runtime", load_slowly)
    swift_f0.preload(threads=5)
    swift_f0.SwiftTracker(threads=5)
    assert calls == ["load swift-f0"]


def test_errors_of_preloading_are_left_to_the_tracker(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    trackers.preload()
    with pytest.raises(UsageError, match="swift-f0 needs swift_f0, which is not installed"):
        trackers.open_tracker()
