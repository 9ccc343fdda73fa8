"""`ddsp import`: names, places and refusals; the imported instruments are tested with the importers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from command_fixtures import run_as_text
from ddsp_cli import bundle, importers
from ddsp_cli.errors import ExitCode, ModelError, OutputError, UsageError
from ddsp_cli.exporters import vst
from ddsp_cli.shell import quoted
from ddsp_cli.workflows.import_ import import_instrument
from fixtures import melody
from format_fixtures import plugin_bundle


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("in coming") / "Flöte.tflite"
    path.write_bytes(vst.build(plugin_bundle())[0])
    return path


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a\\b", "/a"])
def test_names(name: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="name"):
        import_instrument(model, name)
    assert not list(tmp_path.iterdir())


def test_places(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "Ö ö" / "x"
    result = import_instrument(model, "x", out=target)
    assert result.size_bytes == sum(path.stat().st_size for path in target.iterdir())
    with pytest.raises(OutputError, match="exists already"):
        import_instrument(model, "x", out=target)
    import_instrument(model, "y", out=target, force=True)
    assert bundle.load(target).card.name == "y"
    assert [path.name for path in target.parent.iterdir()] == ["x"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        import_instrument(model, "x", out=tmp_path / "file" / "x")


def test_force_replaces_only_instruments(model: Path, tmp_path: Path) -> None:
    documents = tmp_path / "Documents"
    documents.mkdir()
    (documents / "letter.txt").write_text("mine")
    with pytest.raises(OutputError, match="Documents exists and is not an instrument"):
        import_instrument(model, "x", out=documents, force=True)
    assert [path.name for path in documents.iterdir()] == ["letter.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["Documents"]


def test_a_failed_import_leaves_what_was_there(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "x"
    import_instrument(model, "x", out=target)
    before = (target / "model.yaml").read_bytes()
    with pytest.raises(ModelError):
        import_instrument(tmp_path / "nothing.tflite", "x", out=target, force=True)
    assert (target / "model.yaml").read_bytes() == before


def test_the_commands(model: Path, tmp_path: Path) -> None:
    """By the real commands: import and play; and one sentence for a file that cannot be imported."""

    def ddsp(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_as_text(*arguments, cwd=tmp_path)

    done = ddsp("import", str(model), "--name", "flöte")
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert "ddsp transfer voice.wav --model flöte" in done.stdout
    soundfile.write(tmp_path / "voice.wav", melody(), 16000)
    played = ddsp("transfer", "voice.wav", "--model", "flöte", "--out", "imported.wav")
    directly = ddsp("transfer", "voice.wav", "--model", str(model), "--out", "direct.wav")
    assert (played.returncode, directly.returncode) == (ExitCode.OK, ExitCode.OK), played.stderr + directly.stderr
    assert (tmp_path / "imported.wav").read_bytes() == (tmp_path / "direct.wav").read_bytes()
    spaced = ddsp("import", str(model), "--name", "erste Flöte")
    assert f"--model {quoted('erste Flöte')}" in spaced.stdout
    refused = ddsp("import", "voice.wav", "--name", "x")
    assert refused.returncode == ExitCode.MODEL
    assert refused.stderr.startswith("Error: voice.wav is not a model")
    assert "Traceback" not in refused.stderr


def test_playing_a_file_loads_no_framework(model: Path) -> None:
    code = f"""
import sys
from ddsp_cli.workflows import models
models.open_at(models.find_playable({str(model)!r}))
assert not {{"tensorflow", "keras"}} & {{*sys.modules}}
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_suffix_alone_makes_no_model(tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(b"")
    with pytest.raises(ModelError):
        importers.load(tmp_path / "x.tflite")
