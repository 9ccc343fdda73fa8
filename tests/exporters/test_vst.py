"""The plug-in's file: every row of its contract, and its numbers."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ddsp_cli import importers
from ddsp_cli.config import DecoderConfig, load_preset
from ddsp_cli.errors import ModelError, OutputError
from ddsp_cli.exporters import checks, vst
from ddsp_cli.exporters.vst import INPUTS, OPERATOR_VERSIONS, OUTPUTS, check_file, widened
from ddsp_cli.synthesis.ops import NumpyOps
from format_fixtures import in_memory, loudness_model, plugin_bundle


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("vst")
    return folder, vst.export(plugin_bundle(), folder)


def schema() -> Any:
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def test_figures(exported: tuple[Path, Any]) -> None:
    _, result = exported
    assert result.checks["controls_difference"] <= 1e-4
    assert result.checks["checked_frames"] == 200
    assert result.contract == {
        "Flöte 1.tflite": {
            "inputs": {name: [size] for name, size in INPUTS.items()},
            "outputs": {name: [size] for name, size in OUTPUTS.items()},
        }
    }


def test_file_as_the_plugin_sees_it(exported: tuple[Path, Any]) -> None:
    """As the interpreter reports them: names, sizes, types, and only builtins of version 1."""
    from ai_edge_litert.interpreter import Interpreter

    data = (exported[0] / "Flöte 1.tflite").read_bytes()
    assert 1 <= data[0] <= 127
    assert data[1] == 0
    assert data[4:8] == b"TFL3"
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    for details, wanted in ((interpreter.get_input_details(), INPUTS), (interpreter.get_output_details(), OUTPUTS)):
        assert {entry["name"]: list(entry["shape"]) for entry in details} == {n: [size] for n, size in wanted.items()}
        assert all(entry["dtype"] == np.float32 and list(entry["shape_signature"]) != [-1] for entry in details)
    model = schema().ModelT.InitFromObj(schema().Model.GetRootAs(data, 0))
    names = {code: name for name, code in vars(schema().BuiltinOperator).items() if isinstance(code, int)}
    for code in model.operatorCodes:
        assert code.version == 1
        assert code.customCode is None
        assert names[code.builtinCode] in OPERATOR_VERSIONS
    assert len(model.subgraphs) == 1


def test_metadata(exported: tuple[Path, Any]) -> None:
    path = exported[0] / "Flöte 1.tflite"
    with zipfile.ZipFile(path) as archive:
        (entry,) = archive.infolist()
        assert (entry.filename, entry.compress_type) == ("metadata.json", zipfile.ZIP_STORED)
        found = json.loads(archive.read(entry))
    assert found["mean_min_pitch_note_hz"] == pytest.approx(440 * 2 ** ((found["mean_min_pitch_note"] - 69) / 12))
    assert found["mean_min_power_note"] < found["mean_max_power_note"]
    assert (found["num_harmonics"], found["num_noise_amps"]) == (60, 65)
    again = vst.metadata(plugin_bundle())
    assert again["export_time"] != found["export_time"], "a session distinguishes models by it"


def mutated(data: bytes, change: Any) -> bytes:
    """The file with something changed in its tables; metadata kept."""
    import flatbuffers

    module = schema()
    model = module.ModelT.InitFromObj(module.Model.GetRootAs(data, 0))
    change(model)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def rename(model: Any) -> None:
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].name = "serving_default_f0_scaled:0"


def swap(model: Any) -> None:
    graph = model.subgraphs[0]
    first, second = (graph.tensors[i] for i in graph.outputs[1:3])
    first.name, second.name = second.name, first.name


def reshape(model: Any) -> None:
    graph = model.subgraphs[0]
    graph.tensors[graph.outputs[1]].shape = [1, 1, 60]


def retype(model: Any) -> None:
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[1]].type = schema().TensorType.FLOAT16


def drop(model: Any) -> None:
    model.subgraphs[0].outputs = list(model.subgraphs[0].outputs)[:-1]


def newer(model: Any) -> None:
    model.operatorCodes[0].version = 99


def flex(model: Any) -> None:
    model.operatorCodes[0].customCode = b"FlexAdd"


@pytest.mark.parametrize(
    ("change", "row"),
    [
        (rename, "call_f0_scaled:0"),
        (swap, "output StatefulPartitionedCall:1 is 60"),
        (reshape, "StatefulPartitionedCall:1 is 60"),
        (retype, "call_pw_scaled:0 is 1 float32"),
        (drop, "exactly 4 outputs"),
        (newer, "version 99"),
        (flex, "is a builtin"),
        (lambda model: None, "ZIP archive"),
    ],
)
def test_broken_rows_are_named(exported: tuple[Path, Any], change: Any, row: str) -> None:
    data = (exported[0] / "Flöte 1.tflite").read_bytes()
    assert check_file(data) == exported[1].checks["contract_rows"]
    with pytest.raises(OutputError, match=row):
        check_file(mutated(data, change))


def test_not_text() -> None:
    with pytest.raises(OutputError, match="byte 0"):
        check_file(_high_first_byte())


def _high_first_byte() -> bytes:
    """A valid file whose root offset ends in a byte that a text reader would transcode."""
    data = bytearray(vst.build(plugin_bundle())[0])
    root = int.from_bytes(data[:4], "little")
    # Move everything after the identifier up by 128 bytes: offsets inside are relative and stay right.
    return (root + 128).to_bytes(4, "little") + bytes(data[4:8]) + bytes(128) + bytes(data[8:])


VST = load_preset("vst").model


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (loudness_model(), "loudness and pitch and has 250 frames a second"),
        (load_preset("solo").model, "preset hifi, light or vst"),
        (msgspec.structs.replace(VST, sample_rate_hz=24000), "24000 Hz"),
        (msgspec.structs.replace(VST, sample_rate_hz=48000), "65 noise bands"),
        (msgspec.structs.replace(VST, decoder=DecoderConfig(256, 640, 1)), "640 recurrent units"),
    ],
)
def test_what_the_plugin_cannot_play_is_refused(tmp_path: Path, model: Any, reason: str) -> None:
    with pytest.raises(ModelError) as problem:
        vst.export(in_memory(model), tmp_path)
    assert reason in f"{problem.value.message} {problem.value.hint}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layers", [0, 1])
def test_fewer_units_are_written_as_512(tmp_path: Path, layers: int) -> None:
    """The file keeps the contract, its controls are the instrument's, and the units that were added stay at 0."""
    small = in_memory(msgspec.structs.replace(VST, decoder=DecoderConfig(32, 48, layers)))
    result = vst.export(small, tmp_path)
    assert result.contract["testophone.tflite"]["inputs"]["call_state:0"] == [512]
    wide = widened(small, 512)
    ours, theirs = (checks.expected_controls(one, checks.phrase(small)) for one in (small, wide))
    np.testing.assert_array_equal(theirs["state"][0, 48:], 0)
    np.testing.assert_allclose(theirs.pop("state")[:, :48], ours.pop("state"), atol=1e-5)
    for name, controls in ours.items():
        np.testing.assert_allclose(theirs[name], controls, atol=1e-5)
    with pytest.raises(ValueError, match="512 units do not fit into 48"):
        widened(wide, 48)


@pytest.mark.parametrize("name", ["../a", "a/b", "a\\b", "CON:", "", "..."])
def test_file_names_are_plain(name: str) -> None:
    stem = vst.file_stem(name)
    assert stem
    assert not set(stem) & set("/\\:")
    assert Path(f"{stem}.tflite").name == f"{stem}.tflite"


def test_a_full_band_instrument_plays_its_low_band(tmp_path: Path) -> None:
    """Harmonics keep their amplitudes, noise its power per Hz; the file agrees with the player's controls."""
    decoder = DecoderConfig(channels=8, rnn_units=8, layers_per_stack=1)
    full = in_memory(msgspec.structs.replace(load_preset("hifi").model, decoder=decoder))
    exported = vst.export(full, tmp_path)
    assert exported.checks["controls_difference"] < 1e-4
    played = checks.phrase(full)
    controls = checks.expected_controls(full, played)
    low = vst.low_band(NumpyOps(), full.card.model, controls, played.f0_hz[:, None])
    amplitudes, full_amplitudes = (found["amplitude"] * found["harmonic_distribution"] for found in (low, controls))
    inside = played.f0_hz[:, None] * np.arange(1, 61) < 8000
    np.testing.assert_allclose(amplitudes[inside], full_amplitudes[:, :60][inside], rtol=1e-3)
    assert not amplitudes[~inside].any()
    np.testing.assert_allclose(low["noise_magnitudes"] ** 2 * 3, controls["noise_magnitudes"][:, :65] ** 2, rtol=1e-4)
    (path,) = tmp_path.glob("*.tflite")
    back, _ = importers.read(path)  # as docs/formats.md says: it is played as it is
    assert back.network == path.read_bytes()
