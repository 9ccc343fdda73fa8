"""`ddsp evaluate`: figures that follow from the recordings, files that are written whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import soundfile
import typer

from ddsp_cli import bundle
from ddsp_cli.analysis import metrics
from ddsp_cli.config import FeatureSpec
from ddsp_cli.errors import DatasetError, ExitCode, InputError, OutputError, UsageError
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.workflows.evaluate import Clip, evaluate, resynthesise, room_share
from fixtures import make_bundle, melody
from training_fixtures import tones


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("evaluate")
    made = make_bundle(home / "models" / "testophone")
    f0_hz = np.full(100, 330.0, np.float32)
    played = np.concatenate(list(Instrument(made).render(f0_hz, np.full(100, -20.0, np.float32))))
    soundfile.write(home / "own.wav", played / np.abs(played).max() * 0.5, 16000)
    soundfile.write(home / "other.wav", melody((60, 64, 67)), 44100)
    soundfile.write(home / "silence.wav", np.zeros(16000), 16000)
    return home


def test_figures_and_files(home, tmp_path):
    out = tmp_path / "out"
    found = evaluate(home / "models/testophone", [home / "own.wav", home / "other.wav"], out=out)
    assert [one.name for one in found] == ["own.wav", "other.wav"]
    written = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert written["instrument"] == "testophone"
    assert [row["spectral_loss"] for row in written["recordings"]] == [one.figures["spectral_loss"] for one in found]
    assert {entry.name for entry in out.iterdir()} == {"evaluation.json", "own.png", "other.png"}
    assert found[0].figures["spectral_loss"] < found[1].figures["spectral_loss"], "it is nearest to itself"
    with pytest.raises(OutputError, match="exists already"):
        evaluate(home / "models/testophone", [home / "own.wav"], out=out)


def test_recordings_of_one_name_have_a_picture_each(home, tmp_path):
    recordings = [tmp_path / "one" / "a.wav", tmp_path / "one" / "A.flac", tmp_path / "two" / "a.wav"]
    for i, path in enumerate(recordings):
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, melody((60 + i, 64)), 16000)
    found = evaluate(home / "models/testophone", recordings, out=tmp_path / "out")
    assert [one.name for one in found] == [recordings[0].as_posix(), "A.flac", recordings[2].as_posix()]
    pictures = {one.picture for one in found}
    assert {path.name.lower() for path in pictures} == {"a.png", "a-2.png", "a-3.png"}
    assert len({path.read_bytes() for path in pictures}) == 3


def test_a_clip_against_itself_is_perfect():
    sound = melody((60, 64))
    figures = Clip("same", sound, sound, 16000).quality().as_dict()
    assert figures["spectral_loss"] == 0
    assert figures["pitch_within_50_cents"] == 1


def test_a_clip_is_compared_with_the_requested_pitch():
    sound = melody((60, 64))
    asked_hz = np.full(len(sound) // 64, 440.0, np.float32)
    assert Clip("other", sound, sound, 16000, asked_hz).figures()["pitch_within_50_cents"] == 0


def test_a_recording_is_played_with_its_pitch_mended(home, monkeypatch):
    """Octave errors of the tracker are corrected, as in data sets, and not counted against the instrument."""
    asked = []
    monkeypatch.setattr(metrics, "correct_f0_hz", lambda audio, f0_hz, rate_hz: asked.append(f0_hz) or f0_hz * 2)
    clips = []
    monkeypatch.setattr(Clip, "quality", lambda clip: clips.append(clip) or metrics.Quality(0, 0, 0, 0, 0, 0))
    evaluate(home / "models/testophone", [home / "other.wav"])
    np.testing.assert_array_equal(clips[0].f0_hz, asked[0] * 2)


@pytest.mark.parametrize("n_samples", [16000, 16001, 16063, 16065, 16319, 16321])
def test_pitch_keeps_its_place_in_recordings_of_any_length(home, monkeypatch, n_samples):
    """250 values of F0 a second for 50 levels, also in an incomplete last frame: a rising tone ends at its own F0."""
    played = {}
    whole = Instrument.render
    monkeypatch.setattr(
        Instrument, "render",
        lambda self, f0_hz, level_db, **settings: played.update(f0=f0_hz, n=len(level_db)) or whole(
            self, f0_hz, level_db, **settings),
    )  # fmt: skip
    monkeypatch.setattr(metrics, "correct_f0_hz", lambda audio, f0_hz, rate_hz: 200 + np.arange(len(f0_hz), dtype="f4"))
    soundfile.write(home / "length.wav", melody((60,), note_s=1.2)[:n_samples], 16000)
    evaluate(home / "models/testophone", [home / "length.wav"])
    n = -(-n_samples // 64)
    assert len(played["f0"]) % played["n"] == 0
    np.testing.assert_array_equal(played["f0"][:n], 200 + np.arange(n))
    assert (played["f0"][n:] == played["f0"][n - 1]).all()


def test_a_data_set_is_judged_by_its_own_pitch(home):
    """It was measured in the whole recording; windows that are joined up would be heard otherwise."""
    data = SimpleNamespace(
        validation=tones(2), manifest=SimpleNamespace(name="scales", features=FeatureSpec(), window_s=1.0)
    )
    clip = resynthesise(bundle.load(home / "models/testophone"), data, np.array([0, 1]))
    np.testing.assert_array_equal(clip.f0_hz, data.validation.f0_hz.reshape(-1))


def test_windows_of_a_data_set_are_played_one_by_one(home):
    """A window begins as every performance does, independent of the sound before it."""
    data = SimpleNamespace(
        validation=tones(2), manifest=SimpleNamespace(name="scales", features=FeatureSpec(), window_s=1.0)
    )
    loaded = bundle.load(home / "models/testophone")
    both, second = (resynthesise(loaded, data, np.array(rows)) for rows in ([0, 1], [1]))
    np.testing.assert_array_equal(both.rendering[len(both.rendering) // 2 :], second.rendering)


def test_the_share_of_the_room_is_that_of_its_energy():
    """An echo at half the amplitude of a sound that it does not overlap: a quarter of the energy beside the whole."""
    dry = np.zeros(200, np.float32)
    dry[:100] = np.random.default_rng(0).normal(size=100)
    echo = np.roll(dry, 100) / 2
    assert room_share(dry + echo, dry) == pytest.approx(0.2)
    assert room_share(dry, dry) == 0.0
    assert room_share(np.zeros(10), np.zeros(10)) == 0.0


def test_a_room_is_reported_where_there_is_one(tmp_path):
    sound = tmp_path / "phrase.wav"
    soundfile.write(sound, melody((60, 64)), 16000)
    made = make_bundle(tmp_path / "models" / "hall")
    (found,) = evaluate(made.path, [sound])
    assert 0 < found.figures["room_share"] < 1
    nodes = {name: node for name, node in made.card.model.processors.items() if name != "reverb"}
    dry = bundle.revise(made.card, model=msgspec.structs.replace(made.card.model, processors=nodes))
    bundle.save(tmp_path / "models" / "dry", dry, made.weights)
    (found,) = evaluate(tmp_path / "models" / "dry", [sound])
    assert "room_share" not in found.figures


def test_the_command_shows_what_was_measured(home, monkeypatch, capsys):
    from ddsp_cli.cli.evaluate import evaluate as command

    monkeypatch.chdir(home)
    command(["testophone"], [home / "own.wav"])
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["recording", "length"]
    assert head.split()[-2:] == ["noise", "room"]
    assert row.startswith("own.wav")
    assert row.endswith("%")


def test_reliable_frames_are_measured_on_request(home):
    (found,) = evaluate(home / "models/testophone", [home / "other.wav"], reliable=True)
    assert found.figures["reliable_share"] > 0.8
    assert 0 <= found.figures["reliable_within_50_cents"] <= 1


def test_a_recording_without_notes_does_not_stop_the_others(home, tmp_path, monkeypatch, capsys):
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    recordings = [tmp_path / "typo.wav", home / "silence.wav", home / "own.wav", tmp_path / "broken.wav"]
    found = evaluate(home / "models/testophone", recordings, out=tmp_path / "out")
    assert [one.name for one in found] == ["own.wav"]
    assert [failure.input.name for failure in found.failures] == ["typo.wav", "silence.wav", "broken.wav"]
    assert [row["name"] for row in json.loads((tmp_path / "out/evaluation.json").read_text())["recordings"]] == [
        "own.wav"
    ]
    with pytest.raises(InputError):
        evaluate(home / "models/testophone", [home / "silence.wav", tmp_path / "broken.wav"], out=tmp_path / "none")
    assert not (tmp_path / "none").exists()

    from ddsp_cli.cli.evaluate import evaluate as command

    monkeypatch.chdir(home)
    with pytest.raises(typer.Exit) as ended:
        command(["testophone"], recordings)
    assert ended.value.exit_code == ExitCode.PARTIAL
    said = capsys.readouterr()
    assert said.out.splitlines()[1].startswith("own.wav")
    assert "3 of 4 recordings could not be compared:" in said.err
    assert "silence.wav" in said.err
    assert "broken.wav" in said.err


def test_mistakes(home, tmp_path):
    with pytest.raises(InputError, match="no note"):
        evaluate(home / "models/testophone", [home / "silence.wav"])
    with pytest.raises(UsageError, match="a data set were given"):
        evaluate(home / "models/testophone", [home / "own.wav"], dataset=home)
    nothing_kept_apart = SimpleNamespace(validation=tones(0), manifest=SimpleNamespace(name="scales"))
    with pytest.raises(DatasetError, match="scales has no validation split"):
        resynthesise(bundle.load(home / "models/testophone"), nothing_kept_apart)
    command = [sys.executable, "-m", "ddsp_cli", "evaluate", "--model", "testophone"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=120)
    assert done.returncode == ExitCode.DATASET
    assert done.stderr.startswith("Error: no recordings were named, and there is no data set datasets")
    assert "ddsp evaluate --model NAME RECORDINGS" in done.stderr


def test_no_framework_is_loaded(home):
    code = (
        "import sys; from pathlib import Path; from ddsp_cli.workflows.evaluate import evaluate; "
        "evaluate(Path('models/testophone'), [Path('own.wav')]); "
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'librosa', 'torch', 'jax')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=home, timeout=120).returncode == 0
