"""benchmarks/few_shot.py: which recordings it takes, and what it asks the commands for."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def script():
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


def test_the_last_recording_is_cut(script, recordings, tmp_path):
    assert script.take(recordings, 1.5, tmp_path / "few") == pytest.approx(1.5)
    lengths = [soundfile.info(path).frames for path in sorted((tmp_path / "few").iterdir())]
    assert lengths == [48000, 24000]


def test_a_shorter_take_is_part_of_a_longer_one(script, recordings, tmp_path):
    for seconds in (1.5, 2.5):
        script.take(recordings, seconds, tmp_path / str(seconds))
    short, long = (
        np.concatenate([soundfile.read(path)[0] for path in sorted((tmp_path / str(s)).iterdir())]) for s in (1.5, 2.5)
    )
    np.testing.assert_array_equal(short, long[: len(short)])


def test_fewer_recordings_than_asked_for(script, recordings, tmp_path):
    assert script.take(recordings, 10.0, tmp_path / "few") == pytest.approx(3.0)


@pytest.mark.parametrize(("pattern", "held"), [("*mov8*", True), ("b/x_mov8.mp3", True), ("mov8*", False)])
def test_patterns_match_as_those_of_prepare(script, pattern, held):
    assert script.is_held_out(Path("a") / "b" / "x_mov8.mp3", [pattern]) == held


def test_with_a_data_set_its_training_recordings_are_taken(script, recordings, monkeypatch):
    @dataclass
    class Recording:
        path: str
        split: str
        note_s: float
        gain_db: float = 6.0

    kept = [Recording("few/a.wav", "train", 1.0), Recording("few/b.wav", "validation", 1.0),
            Recording("few/c.wav", "train", 0.0)]  # fmt: skip
    monkeypatch.setattr(script, "load_manifest", lambda folder: None)
    monkeypatch.setattr(script, "iter_recordings", lambda folder, manifest: iter(kept))
    assert script.of_training(recordings, Path("datasets/few")) == {recordings[0]: 6.0}


def test_recordings_are_taken_at_the_level_of_the_data_set(script, recordings, tmp_path):
    script.take(recordings[:1], 1.0, tmp_path / "few", {recordings[0]: -6.0})
    (path,) = (tmp_path / "few").iterdir()
    np.testing.assert_allclose(soundfile.read(path)[0], 0.1 * 10 ** (-6.0 / 20.0), rtol=1e-3)


def test_a_command_that_fails_says_why(script, tmp_path):
    with pytest.raises(SystemExit, match="nowhere"):
        script.run("prepare", tmp_path / "nowhere")
