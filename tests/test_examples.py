"""The example voice: the committed file is the output of its script, and its pitch can be tracked."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import wave
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def make_voice() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_voice", EXAMPLES / "make_voice.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sung(make_voice: ModuleType) -> tuple[np.ndarray, np.ndarray, int]:
    return make_voice.sing(44100)


def read_wav(path: Path) -> tuple[np.ndarray, int]:
    with wave.open(str(path)) as stream:
        assert (stream.getnchannels(), stream.getsampwidth()) == (1, 2)
        return np.frombuffer(stream.readframes(stream.getnframes()), "<i2").astype(int), stream.getframerate()


def test_script_writes_the_committed_voice(tmp_path: Path) -> None:
    out = tmp_path / "voice.wav"
    subprocess.run([sys.executable, EXAMPLES / "make_voice.py", "--out", out], check=True, capture_output=True)
    made, made_rate_hz = read_wav(out)
    committed, committed_rate_hz = read_wav(EXAMPLES / "voice.wav")
    assert made_rate_hz == committed_rate_hz == 44100
    assert made.shape == committed.shape
    assert np.abs(made - committed).max() <= 1  # one step of 16 bits: other processors round otherwise


def test_voice_is_small_and_does_not_clip(sung: tuple[np.ndarray, np.ndarray, int]) -> None:
    audio, _, _ = sung
    assert (EXAMPLES / "voice.wav").stat().st_size < 1_000_000
    assert 0.5 < np.abs(audio).max() < 0.75


def test_voice_has_dynamics_pauses_and_a_room(sung: tuple[np.ndarray, np.ndarray, int]) -> None:
    audio, f0_hz, frame_rate_hz = sung
    block = 44100 // frame_rate_hz * 5
    blocks = audio[: len(audio) // block * block].reshape(-1, block)
    level_db = 10 * np.log10(np.mean(blocks**2, axis=1))
    voiced = f0_hz[2::5][: len(level_db)] > 0
    steady = voiced[1:-1] & voiced[:-2] & voiced[2:]  # not the edges of notes
    loud, soft = np.percentile(level_db[1:-1][steady], [99, 1])
    assert loud - soft >= 20
    assert np.percentile(level_db, 2) == pytest.approx(-70, abs=3)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], f0_hz > 0, [0]))))
    pauses_s = (edges[2::2] - edges[1:-1:2]) / frame_rate_hz
    assert np.sum((pauses_s > 0.3) & (pauses_s < 0.8)) >= 3


def test_pitch_curve_is_on_the_frame_grid(sung: tuple[np.ndarray, np.ndarray, int]) -> None:
    audio, f0_hz, frame_rate_hz = sung
    assert len(f0_hz) == -(-len(audio) * frame_rate_hz // 44100)
    assert f0_hz[0] == f0_hz[-1] == 0
    voiced_hz = f0_hz[f0_hz > 0]
    assert 250 < voiced_hz.min() < 300
    assert 590 < voiced_hz.max() < 640


@pytest.mark.parametrize("sample_rate_hz", [16000, 44100])
def test_tracker_reads_the_true_pitch(make_voice: ModuleType, sample_rate_hz: int) -> None:
    import soxr
    from swift_f0 import SwiftF0

    audio, f0_hz, frame_rate_hz = make_voice.sing(sample_rate_hz)
    result = SwiftF0(threads=1).detect(soxr.resample(audio, sample_rate_hz, 16000).astype(np.float32), 16000)
    true_hz = np.interp(
        result.timestamps, np.arange(len(f0_hz)) / frame_rate_hz, np.where(f0_hz > 0, f0_hz, np.nan)
    )  # NaN beside every gap, so only frames well inside a note count
    voiced = np.isfinite(true_hz)
    assert voiced.sum() > 400
    error_cents = 1200 * np.abs(np.log2(result.pitch_hz[voiced] / true_hz[voiced]))
    read = (error_cents < 50) & (result.confidence[voiced] >= 0.5)
    assert read.mean() > 0.97
    assert np.median(error_cents) < 10
