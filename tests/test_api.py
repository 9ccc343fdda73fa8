"""The Python API: quick to import, the same sound as the command line, and a sentence for every mistake."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import ddsp_cli
from ddsp_cli.errors import DdspError, InputError, ModelError, UsageError
from fixtures import make_bundle, melody

ROOT = Path(__file__).parent.parent
STUB = ROOT / "src" / "ddsp_cli" / "__init__.pyi"


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("desk")
    make_bundle(folder / "models" / "testophone")
    return folder


@pytest.fixture(autouse=True)
def at_desk(desk, monkeypatch):
    monkeypatch.chdir(desk)


def test_import_loads_nothing():
    code = "import sys; before = set(sys.modules); import ddsp_cli; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"__future__", "ddsp_cli"}


def test_editors_see_the_same_names():
    names = {
        alias.asname
        for node in ast.parse(STUB.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert (names - {None}) | {"models"} == set(ddsp_cli.__all__) - {"__version__"}
    assert all(getattr(ddsp_cli, name) is not None for name in ddsp_cli.__all__)
    shown = dir(ddsp_cli)
    assert set(ddsp_cli.__all__) <= set(shown)
    assert len(shown) == len(set(shown))
    assert (STUB.parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute 'trensfer'"):
        _ = ddsp_cli.trensfer


@pytest.mark.parametrize("rate_hz", [16000, 44100])
@pytest.mark.parametrize("how", [{}, {"tail": True, "loudness_match": -20.0, "transpose": 5, "seed": 3}])
def test_an_array_sounds_as_the_file_does(tmp_path, rate_hz, how):
    voice = np.stack([melody(rate_hz=rate_hz), 0.5 * melody(rate_hz=rate_hz)])
    soundfile.write(tmp_path / "voice.wav", voice.T, rate_hz, subtype="FLOAT")
    result = ddsp_cli.transfer_file(str(tmp_path / "voice.wav"), "testophone", str(tmp_path / "out.wav"), **how)
    expected, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    audio, sample_rate = ddsp_cli.transfer(voice, rate_hz, ddsp_cli.load("testophone"), **how)
    assert (audio.dtype, audio.ndim, sample_rate) == (np.float32, 1, result.sample_rate_hz)
    assert len(audio) == len(expected)
    assert np.abs(audio - expected).max() < 1e-5 * np.abs(expected).max()  # -100 dB


def test_a_sound_keeps_its_length_and_may_come_in_any_form():
    voice = melody()
    flute = ddsp_cli.load("testophone")
    plain, rate_hz = ddsp_cli.transfer(voice, 16000, flute)
    assert (len(plain), rate_hz) == (len(voice), 16000)
    for same in (voice.astype(np.float64), voice[None], np.stack([voice, voice]), voice.tolist()):
        audio, _ = ddsp_cli.transfer(same, 16000.0, flute)
        np.testing.assert_allclose(audio, plain, atol=1e-5)
    integers = np.round(voice * 2**15).astype(np.int16)
    audio, _ = ddsp_cli.transfer(integers, 16000, flute)
    assert np.std(audio) == pytest.approx(np.std(plain), rel=0.05)
    low, rate_hz = ddsp_cli.transfer(voice[::2], 8000, flute)
    assert (len(low), rate_hz) == (len(voice), 16000)


def test_loudness_is_that_of_the_input_unless_asked_otherwise():
    from ddsp_cli.audio.integrated_loudness import integrated_lufs

    voice, flute = 0.3 * melody(), ddsp_cli.load("testophone")

    def lufs(**how):
        audio, rate_hz = ddsp_cli.transfer(voice, 16000, flute, **how)
        assert np.abs(audio).max() < 1.0
        return integrated_lufs([audio], rate_hz)

    own = integrated_lufs([voice], 16000)
    assert lufs() == pytest.approx(own, abs=0.1)
    assert lufs(loudness=3.0) == pytest.approx(own + 3.0, abs=0.1)
    assert lufs(loudness_match=-30) == pytest.approx(-30.0, abs=0.1)
    assert abs(lufs(loudness_match="off") - own) > 1.0
    loudest, _ = ddsp_cli.transfer(voice, 16000, flute, loudness_match=0.0)
    assert np.abs(loudest).max() == pytest.approx(10 ** (-0.1 / 20), abs=1e-3)


def test_features_of_an_array():
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)
    features = ddsp_cli.analyze(tone, 44100)
    assert len(features.times_s) == len(features.f0_hz) == len(features.power_db) == len(features.loudness_db) == 250
    assert features.times_s[1] == pytest.approx(0.004)
    middle = slice(50, 200)
    assert np.median(features.f0_hz[middle]) == pytest.approx(440, rel=0.005)
    assert features.f0_confidence[middle].min() > 0.5
    assert features.power_db[middle].mean() == pytest.approx(20 * np.log10(0.1 / np.sqrt(2)), abs=0.1)


def test_live():
    player = ddsp_cli.load("testophone").live(transpose=12, room="none", seed=1)
    voice = melody()
    played = np.concatenate([player.push(block) for block in np.array_split(voice, 41)])
    assert len(played) == len(voice)
    assert np.abs(played).max() > 0.001
    assert 0.03 < player.latency_s < 0.1
    device = ddsp_cli.load("testophone").live(sample_rate=44100)
    assert len(device.push(voice)) == len(voice)
    assert device.latency_samples == pytest.approx(44100 * (player.latency_s + 0.004), abs=60)
    with pytest.raises(UsageError, match="sample rate"):
        ddsp_cli.load("testophone").live(sample_rate=44100.5)
    with pytest.raises(UsageError, match="out of range"):
        ddsp_cli.load("testophone").live(wet=9)
    with pytest.raises(UsageError, match="whole number"):
        ddsp_cli.load("testophone").live(seed=0.5)


def test_instruments_are_listed_and_loaded(desk):
    assert "testophone" in [entry.name for entry in ddsp_cli.models()]
    flute = ddsp_cli.load(desk / "models" / "testophone")
    assert (flute.name, flute.sample_rate, ddsp_cli.load(flute)) == ("testophone", 16000, flute)
    assert "testophone" in repr(flute)
    with pytest.raises(ModelError, match="no instrument called testofone"):
        ddsp_cli.load("testofone")
    with pytest.raises(UsageError, match="not by a list"):
        ddsp_cli.load(["testophone"])


VOICE = melody((60,))
WRONG = {
    "path": ("v.wav", 16000, {}, UsageError, "array, not a path"),
    "samples first": (np.zeros((16000, 2)), 16000, {}, UsageError, "more channels than samples"),
    "three axes": (np.zeros((1, 1, 16000)), 16000, {}, UsageError, "shape"),
    "nothing": (np.zeros(0), 16000, {}, InputError, "empty"),
    "NaN": (np.full(16000, np.nan), 16000, {}, InputError, "NaN"),
    "infinity": (np.full(16000, np.inf), 16000, {}, InputError, "NaN or infinity"),
    "far too loud": (np.full(16000, 1e9), 16000, {}, InputError, "beyond full scale"),
    "bytes": (np.zeros(16000, np.uint8), 16000, {}, UsageError, "uint8"),
    "complex": (np.zeros(16000, complex), 16000, {}, UsageError, "complex"),
    "words": (["a", "b"], 16000, {}, UsageError, "array of"),
    "ragged": ([[0.0], [0.0, 1.0]], 16000, {}, UsageError, "array of numbers"),
    "silence": (np.zeros(16000), 16000, {}, InputError, "no notes"),
    "no rate": (VOICE, None, {}, UsageError, "sample rate"),
    "half a Hz": (VOICE, 16000.5, {}, UsageError, "sample rate"),
    "a rate of NaN": (VOICE, np.nan, {}, UsageError, "not a number"),
    "an endless rate": (VOICE, np.inf, {}, UsageError, "not a number"),
    "a rate of 7": (VOICE, 7, {}, UsageError, "out of range"),
    "a rate of True": (VOICE, True, {}, UsageError, "sample rate"),
    "transpose": (VOICE, 16000, {"transpose": "up"}, UsageError, "not a number"),
    "a list": (VOICE, 16000, {"dynamics": [1]}, UsageError, "not a number"),
    "dynamics": (VOICE, 16000, {"dynamics": 2}, UsageError, "out of range"),
    "seed": (VOICE, 16000, {"seed": 0.5}, UsageError, "whole number"),
    "key": (VOICE, 16000, {"key": "H"}, UsageError, "key"),
    "match": (VOICE, 16000, {"loudness_match": "inpt"}, UsageError, "not a number"),
    "tracker": (VOICE, 16000, {"pitch": "ear"}, UsageError, "tracker"),
    "room": (VOICE, 16000, {"room": "cellar"}, ModelError, "cellar"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_gets_a_sentence(case):
    audio, rate_hz, options, error, words = WRONG[case]
    with pytest.raises(error, match=words):
        ddsp_cli.transfer(audio, rate_hz, "testophone", **options)


def test_one_path_is_one_path(tmp_path):
    """Text is not taken for a list of letters, and everything takes text as well as paths."""
    soundfile.write(tmp_path / "v.wav", melody((60,)), 16000)
    (result,) = ddsp_cli.transfer_files(str(tmp_path / "v.wav"), "testophone", str(tmp_path / "o.wav"))
    assert result.output == tmp_path / "o.wav"
    (result,) = ddsp_cli.reverb_files(str(tmp_path / "v.wav"), "testophone", str(tmp_path / "r.wav"))
    assert result.output == tmp_path / "r.wav"
    with pytest.raises(DdspError, match="notes"):  # too little, said by name
        ddsp_cli.prepare(str(tmp_path / "v.wav"), out=str(tmp_path / "set"), report=False)
    (judged,) = ddsp_cli.evaluate("testophone", str(tmp_path / "v.wav"), out=str(tmp_path / "figures"))
    assert judged.figures
    exported = ddsp_cli.export("testophone", "onnx", out=str(tmp_path / "onnx"))
    assert exported.folder == tmp_path / "onnx"
    with pytest.raises(UsageError, match="folder"):
        ddsp_cli.transfer_file(tmp_path, "testophone")
    with pytest.raises(UsageError, match="not by a list"):
        ddsp_cli.transfer_file(["a.wav", "b.wav"], "testophone")
