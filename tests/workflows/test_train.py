"""`ddsp train` on a small prepared data set, through the real command where an error is answered."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import msgspec
import numpy as np
import pytest
import soundfile
import yaml

from command_fixtures import run_as_text
from ddsp_cli import bundle
from ddsp_cli.cli import options
from ddsp_cli.cli.train import OPTIONS
from ddsp_cli.config import EncoderConfig, InstrumentsConfig, ModDelayConfig, dump_yaml
from ddsp_cli.dataset import build
from ddsp_cli.dataset.manifest import load_manifest
from ddsp_cli.errors import DatasetError, ExitCode, Kind, ModelError, OutputError, UsageError
from ddsp_cli.lock import exclusive, lock_file
from ddsp_cli.synthesis.decoder import Encoder
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.training import checkpoint
from ddsp_cli.training.checkpoint import RunState
from ddsp_cli.workflows.prepare import prepare
from ddsp_cli.workflows.train import _NotedInterrupts, describe_plan, share_of_change, train
from ddsp_cli.workflows.train_plan import changed_argument, make_plan, new_state, state_to_start_from
from ddsp_cli.workflows.transfer import transfer_files
from fixtures import make_bundle, melody, small_model
from training_fixtures import op_by_op, small_preset

pytestmark = pytest.mark.usefixtures("uncompiled")
PRESET = small_preset(steps=3)


def ddsp(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run_as_text(*arguments, cwd=cwd, timeout=300)


def one_sentence(done: subprocess.CompletedProcess[str], code: ExitCode) -> str:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: ")
    return done.stderr


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder with `datasets/tone`, about 16 s of it, and `small.yaml`."""
    home = tmp_path_factory.mktemp("home")
    (home / "takes").mkdir()
    for i, notes in enumerate(((60, 62, 64, 65, 67), (67, 65, 64, 62, 60), (72,))):
        soundfile.write(home / "takes" / f"take {i}.wav", melody(notes, note_s=1.2, rest_s=0.2), 16000)
    (home / "sources.yaml").write_text("licence: CC0-1.0\nsources: [{title: tones, attribution: nobody}]\n")
    with mock.patch.object(build, "WINDOW_S", 1.0):  # two of them to validate on: one short batch
        prepare(
            [home / "takes"], "tone", home / "datasets/tone", workers=1, sources=home / "sources.yaml", report=False,
            hold_out=["take 2.wav"],
        )  # fmt: skip
    (home / "small.yaml").write_text(dump_yaml(PRESET), encoding="utf-8")
    return home


@pytest.fixture(scope="module")
def trained(prepared) -> Path:
    """A folder with `models/tone` after one step, without its page."""
    home = prepared / "trained"
    with op_by_op(), mock.patch("ddsp_cli.workflows.train.write_training_report"):
        train("tone", prepared / "datasets/tone", str(prepared / "small.yaml"), 1, home / "models/tone", listen=False)
    return home


def test_trains_evaluates_and_resumes(prepared, monkeypatch):
    from ddsp_cli.engine import Autoencoder

    monkeypatch.chdir(prepared)
    events = []
    result = train("tone", preset="small.yaml", progress=events.append)
    assert result.finished
    assert result.steps == 3
    assert result.folder == Path("models/tone")
    loaded = bundle.load(result.folder)
    variables = Autoencoder(loaded.card.model, seed=0).get_weights_by_name()
    assert result.parameters == sum(value.size for value in variables.values())
    assert loaded.card.training.steps == 3
    card = loaded.card
    assert (card.licence, card.sources[0].title, card.name) == ("CC0-1.0", "tones", "tone"), "as the data set says"
    assert card.features.frame_rate_hz == 50
    assert loaded.impulse_response.shape == (4000,)
    assert loaded.impulse_response[0] == 0.0
    of_stored_weights = Autoencoder(loaded.card.model, seed=0).impulse_response(loaded.weights)
    np.testing.assert_allclose(loaded.impulse_response, of_stored_weights, atol=1e-6 * np.abs(of_stored_weights).max())
    wanted = {"validation_loss", "spectral_loss", "pitch_within_50_cents", "loudness_error_db", "judged_s"}
    assert wanted <= loaded.card.metrics.keys()
    preview, rate = soundfile.read(result.folder / bundle.PREVIEW)
    assert rate == 16000
    assert len(preview) > 16000
    run = Path("models/tone.run")
    left = {"log.csv", "clips", "checkpoint.safetensors", "training.html", "training.png"}
    assert left <= {entry.name for entry in run.iterdir()}
    assert "3 steps" in (run / "training.html").read_text(encoding="utf-8")
    assert list((run / "clips").glob("step_*.png"))
    assert [event.step for event in events if event.event == "step"] == [1, 2, 3]

    monkeypatch.setattr("ddsp_cli.workflows.train.write_training_report", lambda *_: None)  # it was seen above
    again = train("tone", preset="small.yaml", steps=5, listen=False)
    assert again.steps == 5
    rows = (run / "log.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "3", "5"]


def noted(function, results):
    """Wraps the function so that it also records its results."""

    def call(*arguments):
        results.append(function(*arguments))
        return results[-1]

    return call


@pytest.fixture
def no_page(monkeypatch) -> None:
    """A training without its page at the end, which takes longer than a few steps."""
    monkeypatch.setattr("ddsp_cli.workflows.train.write_training_report", lambda *_: None)


@pytest.mark.usefixtures("no_page")
def test_an_encoder_is_trained_and_follows_what_it_hears(prepared, monkeypatch):
    monkeypatch.chdir(prepared)
    encoder = EncoderConfig(z_dims=3, rnn_units=8, n_mfccs=6)
    model = small_model(inputs=["ld_scaled", "f0_scaled", "z"], encoder=encoder)
    Path("timbre.yaml").write_text(dump_yaml(msgspec.structs.replace(PRESET, model=model)), encoding="utf-8")
    result = train("timbre", prepared / "datasets" / "tone", preset="timbre.yaml", steps=1, listen=False)
    loaded = bundle.load(result.folder)
    assert loaded.card.model == model
    assert np.abs(loaded.weights["encoder/mean"]).max() > 1.0, "measured over the training set"
    take = soundfile.read(prepared / "takes" / "take 0.wav", dtype="float32")[0]
    soundfile.write("bright.wav", take, 16000)
    soundfile.write("dull.wav", np.convolve(take, np.ones(4) / 4, "same"), 16000)
    heard = []
    monkeypatch.setattr(Encoder, "__call__", noted(Encoder.__call__, heard))
    done = transfer_files(["bright.wav", "dull.wav"], result.folder, out=Path("played"))
    bright, dull = np.array_split(np.concatenate(heard), 2)
    assert len(bright) == -(-len(take) // 320), "a latent for every frame"
    assert np.abs(bright - dull).max() > 1e-3
    assert all(np.abs(soundfile.read(one.output)[0]).max() > 0 for one in done)


def test_a_graph_that_cannot_be_played_is_refused_before_training(prepared, monkeypatch):
    monkeypatch.chdir(prepared)
    nodes = dict(PRESET.model.processors) | {"chorus": ModDelayConfig(inputs=["reverb", "gain", "phase"])}
    preset = msgspec.structs.replace(PRESET, model=small_model(processors=nodes))
    Path("chorus.yaml").write_text(dump_yaml(preset), encoding="utf-8")
    with pytest.raises(ModelError, match=r"preset chorus\.yaml: processor chorus .* cannot be played: ModDelay"):
        train("chorus", prepared / "datasets" / "tone", preset="chorus.yaml")
    many = small_model(inputs=["pw_scaled", "f0_scaled", "instrument"], instruments=InstrumentsConfig(names=["a", "b"]))
    Path("many.yaml").write_text(dump_yaml(msgspec.structs.replace(PRESET, model=many)), encoding="utf-8")
    with pytest.raises(ModelError, match=r"preset many\.yaml has several instruments") as problem:
        train("chorus", prepared / "datasets" / "tone", preset="many.yaml")
    assert "from Python" in problem.value.hint
    assert not Path("models/chorus").exists()


def test_a_full_disk_is_one_sentence_and_the_checkpoint_stands(prepared, trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    source = prepared / "datasets/tone"
    run = tmp_path / "models/tone.run"
    before = (run / "checkpoint.safetensors").read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ddsp_cli.training.checkpoint.os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        train("tone", dataset=source, preset=str(prepared / "small.yaml"), steps=2)
    assert (run / "checkpoint.safetensors").read_bytes() == before
    assert not list(run.glob(".*")), "nothing half-written is left"
    assert bundle.load(tmp_path / "models/tone").card.training.steps == 1


@pytest.mark.usefixtures("no_page")
def test_the_same_command_again_leaves_a_finished_instrument_as_it_is(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = []
    for _ in range(2):
        metrics = train("tone", prepared / "datasets/tone", str(prepared / "small.yaml"), 2, listen=False).metrics
        found.append((metrics, (tmp_path / "models/tone" / bundle.WEIGHTS).read_bytes()))
    assert found[0][0]["judged_s"] > 0
    assert found[0] == found[1], "noise and level would be corrected twice"


@pytest.mark.usefixtures("no_page")
def test_a_run_killed_at_its_first_instrument_resumes(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, preset = prepared / "datasets/tone", str(prepared / "small.yaml")

    def kill(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ddsp_cli.training.run_log.RunFolder.clear", kill)
        with pytest.raises(KeyboardInterrupt):
            train("tone", dataset=source, preset=preset, steps=1, seed=1)
    with monkeypatch.context() as patch:  # nothing was made yet: another seed is no mistake
        from ddsp_cli.training import checkpoint

        save = checkpoint.save
        patch.setattr(checkpoint, "save", lambda *given: kill() if given[2].history else save(*given))
        with pytest.raises(KeyboardInterrupt):
            train("tone", dataset=source, preset=preset, steps=1, listen=False)
    assert bundle.load_card(tmp_path / "models/tone").training.steps == 1
    with pytest.raises(ModelError, match="another seed"):
        train("tone", dataset=source, preset=preset, steps=1, seed=1)
    assert train("tone", dataset=source, preset=preset, steps=1, listen=False).finished


@pytest.mark.usefixtures("no_framework")
def test_a_run_killed_in_its_fit_to_measured_controls_resumes(prepared):
    """There is no instrument yet, and the steps of the fit would be lost."""
    plan = make_plan("fitting", prepared / "datasets/tone", str(prepared / "small.yaml"), None, None, 0, "none")
    fresh = new_state(plan)
    plan.run_folder.mkdir(parents=True)

    def start(begun: RunState, resume: bool = True) -> RunState:
        checkpoint.write(plan.run_folder, {"weight": np.zeros(1)}, begun)
        return state_to_start_from(plan, fresh, lambda progress: None, resume=resume, force=False)

    fitting = msgspec.structs.replace(fresh, fit_steps=1000, fit_step=100)
    assert start(fitting) == fitting
    assert start(fitting, resume=False) == fresh
    assert start(msgspec.structs.replace(fresh, wall_s=1.0)) == fresh, "one that had made nothing"
    with pytest.raises(ModelError, match="another seed"):
        start(msgspec.structs.replace(fitting, seed=1))


@pytest.mark.parametrize("name", ["all", "base", "a+b", "../a"])
def test_a_name_that_cannot_be_chosen_again_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="cannot be the name of an instrument"):
        train(name, dataset=tmp_path / "nowhere")


def test_the_name_of_a_bundled_instrument_is_refused_unless_it_is_meant(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ddsp_cli.backend.load", lambda: (_ for _ in ()).throw(KeyboardInterrupt))

    def begin(name, **options):
        events = []
        with pytest.raises(KeyboardInterrupt):
            train(name, dataset=prepared / "datasets/tone", preset=str(prepared / "small.yaml"),
                  progress=events.append, **options)  # fmt: skip
        return any("also a bundled instrument" in event.message for event in events)

    with pytest.raises(UsageError, match="name of a bundled instrument") as problem:
        train("flute", dataset=prepared / "datasets/tone", preset=str(prepared / "small.yaml"))
    assert "my-flute" in options.error_hint(problem.value)
    assert "--force" in options.error_hint(problem.value)
    assert not (tmp_path / "models").exists()
    assert not begin("nobody")
    assert begin("flute", force=True)
    (tmp_path / "models/flute.run").mkdir(exist_ok=True)  # a run that has begun goes on
    assert not begin("flute")


def test_two_trainings_of_one_instrument_are_refused(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    with (
        exclusive(lock_file(Path("models/tone")), "models/tone", "training", "folder"),
        pytest.raises(OutputError, match="another training is writing") as problem,
    ):
        train("tone", dataset=prepared / "datasets/tone", preset=str(prepared / "small.yaml"))
    assert "another folder" in problem.value.hint
    assert not list(Path("models").iterdir())


@pytest.mark.usefixtures("no_page")
def test_fine_tuning_begins_with_the_weights_of_another(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parent = make_bundle(tmp_path / "models" / "parent")
    slow = msgspec.structs.replace(PRESET.training, learning_rate=1e-9)
    (tmp_path / "slow.yaml").write_text(dump_yaml(msgspec.structs.replace(PRESET, training=slow)), encoding="utf-8")
    weights = parent.weights | {"reverb/magnitudes": np.zeros((500, 32), np.float32)}
    bundle.save(tmp_path / "models/parent", parent.card, weights, parent.impulse_response, force=True)
    source = prepared / "datasets/tone"
    train("child", dataset=source, preset="slow.yaml", start_from="parent", steps=1, listen=False)
    child = bundle.load(tmp_path / "models/child")
    for name, value in weights.items():
        np.testing.assert_allclose(child.weights[name], value, atol=2e-3)
    assert child.card.training.started_from == "parent"
    assert "began as parent" in child.card.licence
    with pytest.raises(ModelError, match="no instrument called nobody"):
        train("other", dataset=source, start_from="nobody")
    with pytest.raises(ModelError, match="was started from something else"):  # whose licence would be forgotten
        train("child", dataset=source, preset="slow.yaml", steps=2)


def test_with_a_base_a_clip_is_rendered_before_the_framework_loads(prepared, tmp_path, monkeypatch):
    from ddsp_cli.bundle.layout import base_config
    from ddsp_cli.engine import Autoencoder

    model = base_config(small_model(), ["a", "b"], 16)
    card = bundle.revise(make_bundle(tmp_path / "one").card, model=model, name="base")
    bundle.save(tmp_path / "base", card, Autoencoder(model, seed=0).get_weights_by_name())

    def load() -> str:
        raise KeyboardInterrupt  # here a musician has heard enough

    monkeypatch.setattr("ddsp_cli.backend.load", load)
    events, place = [], tmp_path / "models" / "mine"
    with pytest.raises(KeyboardInterrupt):
        train("mine", prepared / "datasets/tone", str(prepared / "small.yaml"), 1, place,
              start_from=tmp_path / "base", progress=events.append)  # fmt: skip
    clip = place.with_name("mine.run") / "clips" / "step_000000.wav"
    assert any(str(clip) in event.message for event in events)
    sound, recording = (soundfile.read(path)[0] for path in (clip, clip.with_name("original.wav")))
    assert sound.shape == recording.shape
    assert np.abs(sound).max() > 0


@pytest.mark.usefixtures("no_page")
def test_little_material_keeps_a_share_of_the_base(two_players, monkeypatch):
    from ddsp_cli.training.start import weights_at_vector

    monkeypatch.chdir(two_players)
    source, base = two_players / "datasets/both", bundle.load(two_players / "base")
    assert load_manifest(source).statistics.note_s < 30.0
    fast = msgspec.structs.replace(PRESET.training, learning_rate=0.4)
    (two_players / "fast.yaml").write_text(dump_yaml(msgspec.structs.replace(PRESET, training=fast)), encoding="utf-8")
    train("little", source, "fast.yaml", 1, start_from=two_players / "base", listen=False)
    loaded = bundle.load(two_players / "models/little")
    vector = np.array(loaded.card.training.vector, np.float32)
    start = weights_at_vector(base.card.model, base.weights, vector)
    arrays = checkpoint.read(two_players / "models/little.run").arrays.values()
    compared = 0
    for name, value in start.items():
        trained = [a for a in arrays if a.shape == value.shape and 0 < np.abs(a - value).max() < 0.5]
        if name.startswith("decoder/dense_out") or len(trained) != 1:
            continue
        np.testing.assert_allclose(loaded.weights[name], value + 0.8 * (trained[0] - value), atol=1e-3, err_msg=name)
        compared += np.abs(trained[0] - value).max() > 0.01
    assert compared > 0, "the training changed weights by more than the rounding"

    other = {name: value + 1.0 for name, value in base.weights.items()}
    shutil.copytree(two_players / "base", two_players / "changing")
    train("resumed", source, "fast.yaml", 1, start_from=two_players / "changing", listen=False)
    bundle.save(two_players / "changing", base.card, other, force=True)
    train("resumed", source, "fast.yaml", 2, start_from=two_players / "changing", listen=False)
    loaded = bundle.load(two_players / "models/resumed")
    assert loaded.card.training.steps == 2
    assert loaded.card.training.base == base.card.files[bundle.WEIGHTS], "the one it began with"
    arrays = checkpoint.read(two_players / "models/resumed.run").arrays.values()
    for name in (name for name in start if not name.startswith("decoder/dense_out")):
        value = loaded.weights[name]
        assert any(a.shape == value.shape and np.abs(a - value).max() < 2e-3 for a in arrays), f"{name} as trained"


def test_the_last_weights_of_little_material_are_kept_unless_more_steps_are_wanted(two_players):
    def keep(start: Path | str, steps: int | None) -> tuple[str, int]:
        training = make_plan("mine", source, preset, steps, None, 0, start).settings.training
        return training.keep, training.steps

    source, base = two_players / "datasets/both", two_players / "base"
    preset = str(two_players / "many.yaml")
    many = msgspec.structs.replace(PRESET.training, steps=500)
    Path(preset).write_text(dump_yaml(msgspec.structs.replace(PRESET, training=many)), encoding="utf-8")
    assert keep(base, None) == ("last", 100)
    assert keep(base, 50) == ("last", 100)
    assert keep(base, 101) == ("best", 100), "these may be overfitted"
    assert keep("none", None) == ("best", 500)
    own = msgspec.structs.replace(PRESET, training=msgspec.structs.replace(many, keep="last"))
    Path(preset).write_text(dump_yaml(own), encoding="utf-8")
    assert keep("none", 501) == ("last", 500), "as the preset says"


def test_more_material_keeps_more_of_the_change():
    shares = [share_of_change(note_s) for note_s in (0.0, 5.0, 30.0, 60.0, 120.0, 900.0)]
    assert shares == sorted(shares)
    assert shares[:3] == [0.8] * 3
    assert 0.8 < shares[3] < 1.0
    assert shares[4:] == [1.0] * 2


@pytest.fixture(scope="module")
def two_players(prepared) -> Path:
    """A folder with `datasets/both`, tones of a bright and of a dull player, and with a base of two instruments."""
    from ddsp_cli.bundle.layout import base_config
    from ddsp_cli.engine import Autoencoder

    home = prepared / "two"
    for player, rolloff in (("bright", 0.3), ("dull", 3.0)):
        (home / "takes" / player).mkdir(parents=True)
        for i, notes in enumerate(((60, 64, 67, 62), (65, 60, 62, 64), (62, 67))):
            take = melody(notes, note_s=1.0, rest_s=0.2, rolloff=rolloff)
            soundfile.write(home / "takes" / player / f"take {i}.wav", take, 16000)
    with mock.patch.object(build, "WINDOW_S", 1.0):
        prepare([home / "takes"], "both", home / "datasets/both", workers=1, report=False, hold_out=["take 2.wav"])
    model = base_config(small_model(), ["a", "b"], 16)
    card = bundle.revise(make_bundle(home / "one").card, model=model, name="base")
    bundle.save(home / "base", card, Autoencoder(model, seed=0).get_weights_by_name())
    settings = msgspec.structs.replace(PRESET.training, room_pace=1000.0)
    text = dump_yaml(msgspec.structs.replace(PRESET, training=settings))
    (home / "quick.yaml").write_text(text, encoding="utf-8")
    return home


@pytest.mark.usefixtures("no_page")
def test_the_timbre_of_one_of_two_players_is_played(two_players, monkeypatch):
    monkeypatch.chdir(two_players)
    source, base, vectors, events = two_players / "datasets/both", two_players / "base", [], []
    for i, timbre in enumerate(("bright", "dull")):
        place = two_players / "models" / f"my {timbre}"
        train(place.name, source, "quick.yaml", 4, start_from=base, timbre=timbre, listen=False,
              progress=events.append)  # fmt: skip
        loaded = bundle.load(place)
        assert loaded.card.training.timbre == timbre
        assert not loaded.card.model.instruments, "an instrument like any other"
        assert np.concatenate(list(Instrument(loaded).render(np.full(5, 300.0), np.full(5, -20.0)))).any()
        found = checkpoint.read(place.with_name(place.name + ".run"))
        own = loaded.weights["reverb/magnitudes"].ravel()
        (learned,) = [a for name, a in found.arrays.items() if name.startswith("weight") and a.shape == (2, len(own))]
        np.testing.assert_allclose(own, learned[i], atol=5e-3)  # stored in half precision
        assert np.abs(own - learned[1 - i]).max() > 0.02, "a room for each"
        vectors.append(loaded.card.training.vector)
    assert np.abs(np.subtract(*vectors)).max() > 0.01, "each begins where its own recordings are"
    assert any("plays those of dull" in event.message for event in events)
    with pytest.raises(ModelError, match="started with another timbre"):
        train("my dull", source, "quick.yaml", 5, start_from=base, timbre="bright")
    again = train("my dull", source, "quick.yaml", 5, start_from=base, timbre="dull", listen=False)
    assert again.steps == 5, "resumed, rooms and all"


@pytest.mark.usefixtures("no_framework")
def test_a_timbre_has_to_be_there(two_players, prepared):
    base, preset = two_players / "base", str(two_players / "quick.yaml")
    with pytest.raises(DatasetError, match="no recordings in a folder brigt") as problem:
        train("mine", two_players / "datasets/both", preset, start_from=base, timbre="brigt")
    assert "bright" in problem.value.hint
    plan = make_plan("mine", two_players / "datasets/both", preset, None, None, 0, base)
    (said,) = (line for line in describe_plan(plan) if "2 folders of recordings are learned as one" in line)
    assert OPTIONS.sub(r"--\1", said).endswith("choose one of them with --timbre")
    with pytest.raises(DatasetError, match="not in several folders"):
        train("mine", prepared / "datasets/tone", preset, start_from=base, timbre="bright")
    with pytest.raises(UsageError, match="begins with the base"):
        train("mine", two_players / "datasets/both", preset, start_from="none", timbre="bright")


def test_mistakes_are_answered_before_anything_is_loaded(prepared, tmp_path):
    try:
        (tmp_path / "datasets").symlink_to(prepared / "datasets", target_is_directory=True)
    except OSError:
        pytest.skip("Windows lets only administrators and developers make links")
    assert "Did you mean tone" in one_sentence(ddsp("train", "--instrument", "tome", cwd=tmp_path), ExitCode.DATASET)


@pytest.fixture
def no_framework(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ddsp_cli.backend.load", lambda: pytest.fail("a framework was loaded"))


@pytest.mark.usefixtures("no_framework")
def test_an_unknown_preset_and_an_instrument_that_exists(prepared):
    with pytest.raises(ModelError) as problem:
        train("tone", prepared / "datasets/tone", preset="vts")
    assert "vst" in problem.value.hint
    make_bundle(Path("models/tone"))
    with pytest.raises(OutputError, match="exists already") as problem:
        train("tone", prepared / "datasets/tone")
    assert options.error_hint(problem.value).startswith("Use --force")


@pytest.mark.usefixtures("no_framework")
@pytest.mark.parametrize("options", [{}, {"force": True}, {"force": True, "resume": False}])
def test_a_log_of_somebody_else_is_not_replaced(prepared, options):
    log = Path("models/tone.run/log.csv")
    log.parent.mkdir(parents=True)
    log.write_text("distance_km,time\n5,0:26\n", encoding="utf-8")
    with pytest.raises(OutputError, match="is not the log of a training, so it is not replaced"):
        train("tone", prepared / "datasets/tone", str(prepared / "small.yaml"), **options)
    assert log.read_text(encoding="utf-8").startswith("distance_km")


def _with_manifest(prepared: Path, folder: Path, **changes: object) -> Path:
    text = (prepared / "datasets/tone/dataset.yaml").read_text(encoding="utf-8")
    manifest = yaml.safe_load(text)
    for key, value in changes.items():
        manifest[key] = manifest[key] | value if isinstance(value, dict) else value
    place = folder / "datasets" / "tone"
    place.mkdir(parents=True)
    (place / "dataset.yaml").write_text(yaml.safe_dump(manifest), encoding="utf-8")
    return folder


@pytest.mark.usefixtures("no_framework")
@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"features": {"floor_db": -120.0}}, "floor_db -120.0 against -80.0", "--like"),
        ({"sample_rate_hz": 16000}, "16000 Hz", "--sample-rate 48000"),
        ({"validation": {"n_examples": 0, "shards": {}}}, "has no validation split", "--hold-out"),
    ],
)
def test_a_data_set_that_does_not_suit_is_refused(prepared, tmp_path, changes, message, hint):
    _with_manifest(prepared, tmp_path, **changes)
    with pytest.raises(DatasetError, match=message) as problem:
        train("tone")
    assert hint in options.error_hint(problem.value)
    assert not Path("models").exists()


@pytest.mark.usefixtures("no_framework")
def test_a_changed_data_set_is_noticed(prepared, trained, tmp_path):
    shutil.copytree(prepared / "datasets", tmp_path / "datasets")
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    manifest = tmp_path / "datasets/tone/dataset.yaml"
    manifest.write_text(manifest.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with pytest.raises(ModelError, match="another data set, or before its recordings changed") as problem:
        train("tone", preset=str(prepared / "small.yaml"))
    assert "--fresh" in options.error_hint(problem.value)


@pytest.mark.parametrize(
    ("found", "fresh", "argument"),
    [
        ({"started_from": "base", "base": "1"}, {"preset": "light"}, "preset"),  # which has no base of its kind
        ({"preset": "light"}, {"started_from": "base", "base": "1"}, "preset"),
        ({"started_from": "base", "base": "1"}, {}, "start_from"),  # none is requested
        ({"started_from": "flute", "preset": "light"}, {"started_from": "base", "base": "1"}, "start_from"),
        ({"started_from": "base", "base": "1"}, {"started_from": "flute", "preset": "light"}, "start_from"),
        ({"started_from": None}, {"dataset": "other"}, "dataset"),  # a record of an early version
        ({}, {}, ""),
    ],
)
def test_the_argument_that_changed_is_named(found, fresh, argument):
    """The default start depends on the preset, and an instrument to start from brings its own model."""
    usual = {"preset": "hifi", "dataset": "own", "seed": 0, "started_from": "", "base": ""}
    assert changed_argument(RunState(**usual | found), RunState(**usual | fresh)) == argument


def test_the_option_of_an_argument_that_changed_is_named():
    problem = ModelError("m", kind=Kind.OTHER_RUN, parameter="start_from", argument="start_from")
    assert options.error_message(problem) == "--from: m"
    assert options.error_hint(problem).endswith("or give the --from it was started with.")


@pytest.mark.usefixtures("no_framework")
def test_a_damaged_checkpoint_is_one_sentence_and_the_instrument_stays(prepared, trained, tmp_path):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    run = Path("models/tone.run")
    for path in run.glob("checkpoint*"):
        content = bytearray(path.read_bytes())
        content[-101] ^= 0x40
        path.write_bytes(content)
    before = bundle.load_card(Path("models/tone"))
    with pytest.raises(ModelError, match="damaged") as problem:
        train("tone", prepared / "datasets/tone", preset=str(prepared / "small.yaml"), steps=2)
    assert "The instrument is as it was" in options.error_hint(problem.value)
    assert bundle.load_card(Path("models/tone")) == before


def test_a_second_ctrl_c_skips_the_page(prepared, trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("ddsp_cli.training.loop.advance", stop)
    monkeypatch.setattr("ddsp_cli.workflows.train.write_training_report", stop)
    events = []
    result = train("tone", prepared / "datasets/tone", str(prepared / "small.yaml"), steps=9, progress=events.append)
    assert (result.finished, result.page, result.steps) == (False, None, 1)
    assert "models/tone can be played" in events[-1].message.replace("\\", "/")
    assert not Path("models/tone.run/training.html").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for a child process")
def test_ctrl_c_and_kill_keep_a_usable_instrument(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "ddsp_cli", "train", "--instrument", "tone", "--preset", "small.yaml"]
    command += ["--dataset", str(prepared / "datasets/tone"), "--steps", "100000"]
    shutil.copy(prepared / "small.yaml", tmp_path)
    for stop, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, ExitCode.INTERRUPTED)):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        log = tmp_path / "models/tone.run/log.csv"
        before = log.stat().st_mtime_ns if log.exists() else 0
        deadline = time.monotonic() + 240
        while not (log.exists() and log.stat().st_mtime_ns > before):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(stop)
        _, said = process.communicate(timeout=240)
        assert process.returncode == code
        assert "Traceback" not in said
        assert np.isfinite(bundle.load(tmp_path / "models/tone").weights["decoder/rnn/kernel"]).all()
    rows = log.read_text(encoding="utf-8").splitlines()[1:]
    steps = [int(row.split(",")[0]) for row in rows]
    assert steps == sorted(set(steps))
    assert len(steps) >= 2
    assert "The same command resumes from the last checkpoint" in said
    page = (tmp_path / "models/tone.run/training.html").read_text(encoding="utf-8")
    assert "not finished" in page


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for a child process")
def test_an_interrupt_that_a_library_swallows_is_raised_again(monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.default_int_handler)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with _NotedInterrupts() as interrupts:
            interrupts.raise_if_lost()
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                interrupts.raise_if_lost()
    finally:
        signal.signal(signal.SIGINT, before)


class _InterruptedWhenCollected:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for a child process")
def test_an_interrupt_in_a_finalizer_prints_no_traceback(monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with _NotedInterrupts() as interrupts:
            del_me = _InterruptedWhenCollected()
            del del_me
            assert not reported
            with pytest.raises(KeyboardInterrupt):
                interrupts.raise_if_lost()
        assert sys.unraisablehook == reported.append
        del_me = _InterruptedWhenCollected()
        del del_me
        assert len(reported) == 1  # outside of training such a traceback is reported as ever
    finally:
        signal.signal(signal.SIGINT, before)
