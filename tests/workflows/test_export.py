"""`ddsp export`: a failed export leaves no file under the final name."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from command_fixtures import ddsp
from ddsp_cli import bundle
from ddsp_cli.errors import ExitCode, ModelError, OutputError, UsageError
from ddsp_cli.exporters import litert
from ddsp_cli.exporters.checks import audio_difference_db
from ddsp_cli.workflows.export import FORMATS, export
from ddsp_cli.workflows.import_ import import_instrument
from fixtures import make_bundle, small_model
from format_fixtures import plugin_bundle

ODD_NAME = "mein Modell (größer) 音"


@pytest.fixture(scope="module")
def instrument(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd path") / "flûte"
    make_bundle(folder, small_model())
    return folder


def test_formats() -> None:
    assert {*FORMATS} == {"savedmodel", "litert", "onnx", "vst"}


@pytest.mark.parametrize("kind", ["litert", "onnx"])
def test_export_into_odd_paths(kind: str, instrument: Path, tmp_path: Path) -> None:
    result = export(str(instrument), kind, out=tmp_path / "neu" / ODD_NAME)
    assert result.folder == tmp_path / "neu" / ODD_NAME
    assert result.size_bytes == sum(path.stat().st_size for path in result.folder.iterdir())
    card = yaml.safe_load((result.folder / "card.yaml").read_text(encoding="utf-8"))
    assert card["format"] == kind
    assert card["checks"] == result.checks
    assert card["instrument"]["name"] == "flûte"
    assert {*card["contract"]} == {path.name for path in result.folder.iterdir() if path.suffix in {".tflite", ".onnx"}}
    assert [path.name for path in result.folder.parent.iterdir()] == [ODD_NAME], "no staging folder is left"


def test_plugin_export_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundle → vst → import: the same weights, the same statistics, the same room."""
    import numpy as np

    monkeypatch.chdir(tmp_path)
    original = plugin_bundle()
    bundle.save(Path("models/flöte"), original.card, original.weights, original.impulse_response)
    original = bundle.load(Path("models/flöte"))
    result = export("flöte", "VST")
    assert result.folder == Path("flöte_vst")
    import_instrument(result.folder, "back")
    back = bundle.load(Path("models/back"))
    assert back.card.statistics == original.card.statistics
    assert back.card.model.decoder == original.card.model.decoder
    assert back.card.model.inputs == original.card.model.inputs
    for name, value in original.weights.items():
        np.testing.assert_array_equal(back.weights[name], value, err_msg=name)
    assert original.impulse_response is not None
    np.testing.assert_allclose(back.impulse_response, original.impulse_response, atol=1e-7)
    again = export("back", "vst", out=Path("again"))
    assert again.checks["controls_difference"] <= 1e-4


def test_only_an_export_is_replaced(instrument: Path, tmp_path: Path) -> None:
    target = tmp_path / "there"
    export(str(instrument), "litert", out=target)
    (target / "keep.txt").write_text("mine")
    (target / "audio.tflite").write_text("old")
    with pytest.raises(OutputError, match="exists already"):
        export(str(instrument), "litert", out=target)
    export(str(instrument), "litert", out=target, force=True)
    assert (target / "keep.txt").read_text() == "mine"
    assert (target / "audio.tflite").stat().st_size > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_folder_with_other_things_gets_a_folder_more(instrument: Path, tmp_path: Path) -> None:
    """`--out Documents --force` adds to it, and replaces nothing but an earlier export."""
    documents = tmp_path / "Documents"
    documents.mkdir()
    (documents / "card.yaml").write_text("letters: mine", encoding="utf-8")
    result = export(str(instrument), "litert", out=documents, force=True)
    assert result.folder == documents / "flûte_litert"
    assert sorted(path.name for path in documents.iterdir()) == ["card.yaml", "flûte_litert"]
    assert (documents / "card.yaml").read_text(encoding="utf-8") == "letters: mine"
    with pytest.raises(OutputError, match="flûte_litert exists already"):
        export(str(instrument), "litert", out=documents)
    (documents / "flûte_litert" / "card.yaml").write_text("mine too", encoding="utf-8")
    with pytest.raises(OutputError, match="not an export, so it is not replaced"):
        export(str(instrument), "litert", out=documents, force=True)


def test_the_folder_of_the_plugin_gets_one_file(tmp_path: Path) -> None:
    original = plugin_bundle()
    bundle.save(tmp_path / "flute", original.card, original.weights, original.impulse_response)
    plugin = tmp_path / "Models"
    plugin.mkdir()
    (plugin / "Violin.tflite").write_bytes(b"of somebody else")
    result = export(str(tmp_path / "flute"), "vst", out=plugin)
    name = result.folder.name
    assert result.folder.parent == plugin
    assert sorted(path.name for path in plugin.iterdir()) == sorted(["Violin.tflite", name])
    assert result.size_bytes == (plugin / name).stat().st_size
    with pytest.raises(OutputError, match="exists already"):
        export(str(tmp_path / "flute"), "vst", out=plugin)
    export(str(tmp_path / "flute"), "vst", out=plugin, force=True)
    (plugin / name).write_bytes(b"of somebody else")
    with pytest.raises(OutputError, match="was not written by ddsp"):
        export(str(tmp_path / "flute"), "vst", out=plugin, force=True)
    assert (plugin / name).read_bytes() == b"of somebody else"
    assert (plugin / "Violin.tflite").read_bytes() == b"of somebody else"
    assert sorted(path.name for path in plugin.iterdir()) == sorted(["Violin.tflite", name])


@pytest.mark.parametrize("problem", [OutputError("does not agree"), KeyboardInterrupt(), OSError(28, "No space left")])
@pytest.mark.parametrize("existing", [False, True])
def test_nothing_broken_is_left(
    problem: BaseException, existing: bool, instrument: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    if existing:
        target.mkdir()
        (target / "card.yaml").write_text("exported_with: ddsp 0")

    def half(loaded: Any, folder: Path) -> Any:
        (folder / "controls.tflite").write_bytes(b"half")
        raise problem

    monkeypatch.setattr(litert, "export", half)
    with pytest.raises((OutputError, KeyboardInterrupt)):
        export(str(instrument), "litert", out=target, force=True)
    assert [path.name for path in tmp_path.iterdir()] == (["target"] if existing else [])
    if existing:
        assert [path.name for path in target.iterdir()] == ["card.yaml"]


def test_a_file_as_parent_is_one_sentence(instrument: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        export(str(instrument), "litert", out=tmp_path / "file" / "x")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser writes anywhere")
def test_read_only_parent(instrument: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            export(str(instrument), "litert", out=tmp_path / "x")
    finally:
        tmp_path.chmod(0o755)


def test_refusals(instrument: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as unknown:
        export(str(instrument), "onx", out=tmp_path / "x")
    assert "onnx" in unknown.value.hint
    with pytest.raises(ModelError, match="DDSP-VST cannot play"):
        export(str(instrument), "vst", out=tmp_path / "x")
    with pytest.raises(UsageError, match="an export is a folder") as refused:
        export(str(instrument), "litert", out=tmp_path / "x.tflite")
    assert refused.value.parameter == "out"
    assert not list(tmp_path.iterdir())


def test_several_instruments_are_refused(tmp_path: Path) -> None:
    """Of a repeated option the last one would count."""
    for command in (("export", "--format", "onnx"), ("evaluate", "voice.wav")):
        done = ddsp(*command, "-m", "flute", "-m", "violin", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (ExitCode.USAGE, b"")
        assert b"--model: one instrument is taken, not flute and violin." in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_was_compared_and_where_the_file_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ddsp_cli.cli.export import NEXT_STEPS, compared
    from ddsp_cli.cli.export import export as command

    monkeypatch.chdir(tmp_path)
    made = plugin_bundle()
    bundle.save(Path("models/reed"), made.card, made.weights, made.impulse_response)
    command(["reed"], "vst")
    size, figures, next_step = capsys.readouterr().out.splitlines()
    assert size.startswith("reed_vst: vst, ")
    assert re.fullmatch(
        r"Compared with the instrument on a phrase of 4\.0 s: its controls differ by 0\.0+[1-9] at most\. "
        r"All \d+ demands of the plug-in on the file are met\.", figures
    )  # fmt: skip
    assert "Documents/Magenta/DDSP/Models" in next_step
    assert set(NEXT_STEPS) == set(FORMATS)
    both = compared({"controls_difference": 2e-6, "audio_difference_db": -83.4, "checked_frames": 200.0}, 50)
    assert both.endswith("its controls differ by 0.000002 at most, its sound differs by -83 dB of the peak.")
    equal_db = audio_difference_db(np.ones(3), np.ones(3))
    equal = compared({"controls_difference": 0.0, "audio_difference_db": equal_db, "checked_frames": 200.0}, 50)
    assert equal.endswith("its controls are identical, its sound is identical.")
    tenth = compared({"controls_difference": 1e-5, "checked_frames": 200.0}, 50)
    assert tenth.endswith("its controls differ by 0.00001 at most.")
