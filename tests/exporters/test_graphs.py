"""LiteRT and ONNX: both files of each agree with the instrument, however they are called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ddsp_cli.audio.resample import resample_response
from ddsp_cli.bundle import Bundle
from ddsp_cli.bundle.layout import control_columns
from ddsp_cli.config import EncoderConfig, FilteredNoiseConfig
from ddsp_cli.errors import ModelError, OutputError
from ddsp_cli.exporters import audio_graph, checks, litert, onnx, vst, write_impulse_responses
from ddsp_cli.exporters.litert import TfliteOps
from ddsp_cli.exporters.onnx import OnnxOps
from ddsp_cli.scaling import impulse_window
from ddsp_cli.synthesis.ops import NumpyOps
from ddsp_cli.training.output_layer import BIAS
from fixtures import small_model
from format_fixtures import in_memory, loudness_model

MODELS = {
    "power": small_model(),
    "loudness": loudness_model(),
    "48 kHz": small_model(sample_rate_hz=48000),
    "no stacks": small_model(decoder=msgspec.structs.replace(small_model().decoder, layers_per_stack=0)),
}


@pytest.fixture(scope="module", params=list(MODELS))
def bundle(request: pytest.FixtureRequest) -> Bundle:
    return in_memory(MODELS[request.param])


@pytest.mark.parametrize("exporter", [litert, onnx], ids=["litert", "onnx"])
def test_agrees(exporter: Any, bundle: Bundle, tmp_path: Path) -> None:
    found = exporter.export(bundle, tmp_path)
    assert found.checks["controls_difference"] <= 1e-5
    assert found.checks["audio_difference_db"] <= -65
    files = {exporter.CONTROLS, exporter.AUDIO} | ({onnx.DRY} if exporter is onnx else set())
    assert {*found.contract} == files
    rates = {16000, 44100, 48000}
    assert {path.name for path in tmp_path.iterdir()} == files | {f"reverb_ir_{rate}_hz.wav" for rate in rates}


@pytest.mark.parametrize("window_size", [0, 33, 64])
@pytest.mark.parametrize(("hop", "n_bands"), [(960, 193), (320, 65), (64, 33), (80, 65)])
def test_noise_is_filtered_by_transforms_of_its_own_length(hop: int, n_bands: int, window_size: int) -> None:
    """Their matrices are most of a file: longer transforms made files of a full-band instrument twice as large."""
    config = FilteredNoiseConfig(["noise_magnitudes"], n_bands=n_bands, window_size_samples=window_size)
    n_out, n_rows, n_before = audio_graph._noise_rows(config, hop)
    assert sum(matrix.size for matrix in audio_graph._noise_matrices(config, hop)) <= 2 * (n_out + 3) ** 2 + (
        n_bands * (n_out + 3)
    )
    rng = np.random.default_rng(0)
    magnitudes, noise = rng.uniform(size=(3, n_bands)), rng.uniform(-1, 1, (3, hop))
    tail = np.zeros((n_rows - 1, hop))
    found, _ = audio_graph._noise(NumpyOps(), config, hop, magnitudes, noise, tail)
    window, lags = impulse_window(2 * (n_bands - 1), window_size)
    expected = np.zeros(6 * hop + len(lags))
    for i in range(3):
        filtered = np.convolve(noise[i], np.fft.irfft(magnitudes[i])[lags] * window)
        expected[i * hop + n_before :][: len(filtered)] += filtered
    np.testing.assert_allclose(found.ravel(), expected[: found.size], atol=1e-5)


def test_onnx_call_lengths_do_not_matter(tmp_path: Path) -> None:
    """Frame by frame, in uneven calls or all at once: the same sound, room and all."""
    bundle = in_memory(loudness_model())
    path = tmp_path / "audio.onnx"
    path.write_bytes(onnx.build(bundle, audio=True, room=onnx.has_room(bundle))[0])
    played = checks.phrase(bundle, 60)
    frames = {"f0_hz": played.f0_hz, "loudness_db": played.level_db, "noise": played.noise}
    whole = onnx.run(path, frames, [60])
    for calls in ([1] * 60, [7, 1, 52]):
        found = onnx.run(path, frames, calls)
        for name, value in whole.items():
            np.testing.assert_allclose(found[name], value, atol=2e-5, err_msg=name)


def test_the_room_does_not_hear_the_noise_before_the_first_frame(tmp_path: Path) -> None:
    """A noise filter reaches back; the player leaves out what it would play before its first sample."""
    bundle = in_memory(small_model())
    weights = {name: value.copy() for name, value in bundle.weights.items()}
    weights[BIAS][control_columns(bundle.card.model, "noise")["noise_magnitudes"]] = 4.0  # as loud as the tone
    assert bundle.impulse_response is not None
    found = onnx.export(replace(bundle, weights=weights, impulse_response=20.0 * bundle.impulse_response), tmp_path)
    assert found.checks["audio_difference_db"] <= -65


def test_onnx_starts_silent_and_lags_one_hop(tmp_path: Path) -> None:
    bundle = in_memory(small_model(), room=False)
    path = tmp_path / "audio.onnx"
    path.write_bytes(onnx.build(bundle, audio=True, room=onnx.has_room(bundle))[0])
    played = checks.phrase(bundle, 20)
    silent = np.zeros_like(played.noise)
    found = onnx.run(path, {"f0_hz": played.f0_hz, "power_db": played.level_db, "noise": silent}, [20])["audio"]
    hop = bundle.card.model.hop_samples
    assert np.abs(found[:hop]).max() == 0
    assert np.abs(found[hop : 2 * hop]).max() > 0


@pytest.mark.parametrize("f0_hz", [0.0, 1.0, 7999.0, 20000.0])
def test_odd_pitches_give_finite_controls(tmp_path: Path, f0_hz: float) -> None:
    bundle = in_memory(small_model())
    (tmp_path / "c.onnx").write_bytes(onnx.build(bundle, audio=False, room=False)[0])
    (tmp_path / "c.tflite").write_bytes(litert.build(bundle, audio=False)[0])
    frames = {"f0_hz": np.full(3, f0_hz, np.float32), "power_db": np.array([-200.0, -80.0, 20.0], np.float32)}
    by_onnx = onnx.run(tmp_path / "c.onnx", frames, [3])
    by_litert = litert.Stream(tmp_path / "c.tflite", {"state": "next_state"}).run(frames)
    for name in ("amplitude", "harmonic_distribution", "noise_magnitudes"):
        assert np.isfinite(by_onnx[name]).all()
        np.testing.assert_allclose(by_litert[name].reshape(by_onnx[name].shape), by_onnx[name], atol=1e-5)
    if f0_hz >= 8000:
        assert by_onnx["harmonic_distribution"].max() == 0, "all harmonics lie above half the sample rate"


def test_litert_signature(tmp_path: Path) -> None:
    """Names that a phone's API takes."""
    from ai_edge_litert.interpreter import Interpreter

    content, contract = litert.build(in_memory(small_model()), audio=True)
    signatures = Interpreter(model_content=content).get_signature_list()
    assert sorted(signatures["serving_default"]["inputs"]) == sorted(contract["inputs"])
    assert sorted(signatures["serving_default"]["outputs"]) == sorted(contract["outputs"])


def test_constants_are_aligned() -> None:
    """On the 16 bytes that the schema asks for."""
    from ai_edge_litert import schema_py_generated as schema

    content, _ = litert.build(in_memory(small_model()), audio=True)
    model = schema.Model.GetRootAs(content, 0)
    table = [model.Buffers(i) for i in range(model.BuffersLength())]
    starts = [b._tab.Vector(b._tab.Offset(4)) for b in table if b.DataLength()]
    assert len(starts) > 20
    assert all(start % 16 == 0 for start in starts)


@pytest.mark.parametrize(("exporter", "ops"), [(litert, TfliteOps), (onnx, OnnxOps)], ids=["litert", "onnx"])
def test_wrong_numbers_are_caught(exporter: Any, ops: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export that does not agree with the bundle is an error, not a file."""
    monkeypatch.setattr(ops, "leaky_relu", lambda self, x, slope: x)
    with pytest.raises(OutputError, match="nothing was kept"):
        exporter.export(in_memory(small_model()), tmp_path)


def test_two_synthesisers_are_refused(tmp_path: Path) -> None:
    model = small_model()
    nodes = {name: node for name, node in model.processors.items() if name != "noise"}
    nodes["dry"] = msgspec.structs.replace(nodes["dry"], inputs=["harmonic"])
    with pytest.raises(ModelError, match="one Harmonic and one FilteredNoise"):
        litert.export(in_memory(msgspec.structs.replace(model, processors=nodes)), tmp_path)


@pytest.mark.parametrize("exporter", [litert, onnx, vst], ids=["litert", "onnx", "vst"])
def test_an_encoder_of_timbre_is_refused(exporter: Any, tmp_path: Path) -> None:
    model = small_model(inputs=["pw_scaled", "f0_scaled", "z"], encoder=EncoderConfig())
    with pytest.raises(ModelError, match="timbre"):
        exporter.export(in_memory(model), tmp_path)
    assert not [*tmp_path.iterdir()]


# --- the room ------------------------------------------------------------------------------------------------------


def response_db(response: np.ndarray, rate_hz: int, frequencies_hz: np.ndarray) -> np.ndarray:
    """Gain of a convolution at some frequencies."""
    t = np.arange(len(response)) / rate_hz
    return 20 * np.log10(np.abs(np.exp(-2j * np.pi * frequencies_hz[:, None] * t) @ response))


@pytest.mark.parametrize("rate_hz", [44100, 48000])
def test_room_sounds_the_same_at_every_rate(rate_hz: int) -> None:
    """A resonance at 1 kHz that rings for 0.1 s: same gain at every frequency, same decay in seconds."""
    t = np.arange(16000) / 16000
    response = (np.sin(2 * np.pi * 1000 * t) * np.exp(-t / 0.1) * np.minimum(t / 0.01, 1)).astype(np.float32)
    found = resample_response(response, 16000, rate_hz)
    assert len(found) == pytest.approx(len(response) * rate_hz / 16000, abs=2)
    frequencies = np.array([900.0, 990.0, 1000.0, 1010.0, 1100.0])
    np.testing.assert_allclose(
        response_db(found, rate_hz, frequencies), response_db(response, 16000, frequencies), atol=0.05
    )


def test_rooms_have_the_rate_that_their_names_say(tmp_path: Path) -> None:
    import soundfile

    paths = write_impulse_responses(in_memory(small_model()), tmp_path)
    for path in paths:
        info = soundfile.info(path)
        assert path.name == f"reverb_ir_{info.samplerate}_hz.wav"
        assert info.frames == pytest.approx(4000 * info.samplerate / 16000, abs=1)
    assert write_impulse_responses(in_memory(small_model(), room=False), tmp_path) == []
