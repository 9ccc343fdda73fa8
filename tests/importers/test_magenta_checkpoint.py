"""Magenta checkpoints of both generations, small ones made here and the real one beside the checkout."""

from __future__ import annotations

import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ddsp_cli import importers
from ddsp_cli.bundle import Bundle
from ddsp_cli.config import ModelConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.exporters import litert
from ddsp_cli.synthesis.decoder import Decoder, scale_inputs
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.reverb import Reverb
from ddsp_cli.synthesis.synths import FilteredNoise
from ddsp_cli.workflows.import_ import import_instrument
from ddsp_cli.workflows.transfer import transfer_files
from fixtures import melody, small_model
from format_fixtures import GOLDEN, checkpoint_files, loudness_model, write_checkpoint
from hostile import BundleEntry

NO_STACKS = loudness_model(decoder=msgspec.structs.replace(small_model().decoder, layers_per_stack=0))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("checkpoint") / "solo"
    return folder, write_checkpoint(folder, loudness_model())


def test_weights_and_shape(plain: tuple[Path, dict[str, np.ndarray]]) -> None:
    folder, weights = plain
    found = importers.read(folder)[0]
    assert found.weights.keys() == weights.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(found.weights[name], value, err_msg=name)
    model = loudness_model()
    assert found.card.model.decoder == model.decoder
    assert found.card.model.inputs == model.inputs
    assert (found.card.model.frame_rate_hz, found.card.model.sample_rate_hz) == (250, 16000)
    assert found.card.features.loudness == "a-weighted-2022"
    statistics = found.card.statistics
    assert (statistics.pitch_midi[5], statistics.pitch_midi[50], statistics.pitch_midi[95]) == (60.5, 70.0, 80.5)
    assert "loudness assumed" in found.card.description
    assert (found.card.training.preset, found.card.training.steps) == ("solo", 300)


def test_zip(plain: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "modèle.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in plain[0].iterdir():
            archive.write(path, f"solo/{path.name}")
        archive.writestr("solo/notes.txt", "left out")
        archive.writestr("__MACOSX/solo/._ckpt-300.index", "what a Mac adds")
    found, kind = importers.read(tmp_path / "modèle.zip")
    assert kind == "magenta/ddsp checkpoint"
    np.testing.assert_array_equal(found.weights["reverb/ir"], plain[1]["reverb/ir"])
    one_file, _ = importers.read(plain[0] / "ckpt-300.index")
    assert one_file.weights.keys() == found.weights.keys()


def test_imported_instruments_play_export_and_train(
    plain: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import soundfile

    monkeypatch.chdir(tmp_path)
    result = import_instrument(plain[0], "geige")
    assert result.folder == Path("models/geige")
    soundfile.write("voice.wav", melody(), 16000)
    (played,) = transfer_files(["voice.wav"], "geige")
    assert played.n_segments == 3
    assert np.abs(soundfile.read(played.output)[0]).max() > 1e-3
    from ddsp_cli import bundle

    found = bundle.load(result.folder)
    (tmp_path / "export").mkdir()
    assert litert.export(found, tmp_path / "export").checks["audio_difference_db"] <= -60
    from ddsp_cli.engine import Autoencoder

    autoencoder = Autoencoder(found.card.model)
    autoencoder.set_weights_by_name(found.weights)
    np.testing.assert_allclose(autoencoder.impulse_response(), found.impulse_response, atol=1e-7)


@pytest.mark.parametrize("model", [loudness_model(), NO_STACKS], ids=["stacks", "no stacks"])
def test_first_generation(model: ModelConfig, tmp_path: Path) -> None:
    """Fed with ld / 120 + 1 as it was trained, and through our ld / 80 + 1: the same controls."""
    weights = write_checkpoint(tmp_path / "v1", model, first_generation=True)
    found = importers.read(tmp_path / "v1")[0]
    spec = found.card.features
    assert (spec.loudness, spec.loudness_window_samples, spec.floor_db) == ("a-weighted-2020", 2048, -120)
    assert "1.x" in found.card.description
    random = np.random.default_rng(3)
    f0_hz, level_db = random.uniform(100, 900, 40), random.uniform(-120, 0, 40)
    original = Decoder(Bundle(found.card, weights))
    inputs = scale_inputs(found.card.model, f0_hz, level_db)
    old_inputs = inputs | {"ld_scaled": (level_db / 120 + 1).astype(np.float32)[:, None]}
    ours = Decoder(found).step(inputs, f0_hz)
    for name, value in original.step(old_inputs, f0_hz).items():
        np.testing.assert_allclose(ours[name], value, atol=2e-5, err_msg=name)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("model/decoder/attention/kernel", np.zeros((3, 3), np.float32)),
        ("model/encoder/rnn/kernel", np.zeros((3, 3), np.float32)),
        (
            "model/decoder/input_stacks/2/layer_with_weights-0/layer_with_weights-0/kernel",
            np.zeros((1, 16), np.float32),
        ),
        ("model/decoder/out_stack/layer_with_weights-1/layer_with_weights-0/bias", np.zeros(16, np.float32)),
        ("model/processor_group/reverb/magnitudes", np.zeros((5, 4), np.float32)),
    ],
)
def test_what_is_not_understood_is_an_error(variable: str, value: np.ndarray, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "x", loudness_model(), extra={variable: value})
    with pytest.raises(ModelError) as problem:
        importers.read(tmp_path / "x")[0]
    assert "weight" in problem.value.message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("encoder = None", "encoder = @encoders.MfccRnnEncoder()", "encoder"),
        ("RnnFcDecoder.ch = 16", "RnnFcDecoder.ch = 32", "shape"),
        ("('ld_scaled', 'f0_scaled')", "('ld_scaled', 'f0_scaled', 'z')", "z"),
        ("exponent = 10.0", "exponent = 2.0", "exponent"),
        ("@effects.Reverb()", "@effects.ModDelay()", "ModDelay"),
        ("'gru'", "'lstm'", "GRU"),
        ("reverb_length = 4000", "reverb_length = 100", "room"),
        ("sample_rate = 16000", "sample_rate = 11025", "number of frames"),
        ("('amps', 1)", "('amps', 2)", "gives"),
        ("rnn_channels = 16", "rnn_channels = 'many'", "cannot be played"),
        ("RnnFcDecoder()", "ZDecoder()", "ZDecoder"),
    ],
)
def test_models_that_cannot_be_played(
    plain: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, old: str, new: str, words: str
) -> None:
    for path in plain[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = tmp_path / "operative_config-0.gin"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))
    with pytest.raises(ModelError, match=words):
        importers.read(tmp_path)[0]


def test_a_room_of_filtered_noise_is_rendered_as_the_engine_does(tmp_path: Path) -> None:
    """4,000 samples in 89 frames of 45: the last frame is cut short."""
    model = loudness_model()
    magnitudes = np.random.default_rng(5).normal(0.0, 2.0, (89, 16)).astype("<f4")
    files = checkpoint_files(model)
    place = "model/processor_group/reverb/{}/.ATTRIBUTES/VARIABLE_VALUE"
    data = files["ckpt-300.data-00000-of-00001"]
    content = magnitudes.tobytes()
    entry = BundleEntry(magnitudes.shape, content, offset=len(data))
    files = checkpoint_files(model, {place.format("_ir"): None, place.format("_magnitudes"): entry})
    files["ckpt-300.data-00000-of-00001"] = data + content
    text = files["operative_config-0.gin"].decode().replace("effects.Reverb", "effects.FilteredNoiseReverb")
    text += "FilteredNoiseReverb.add_dry = True\nFilteredNoiseReverb.reverb_length = 4000\n"
    text += "FilteredNoiseReverb.n_frames = 89\nFilteredNoiseReverb.n_filter_banks = 16\n"
    files["operative_config-0.gin"] = text.encode()
    for name, file in files.items():
        (tmp_path / name).write_bytes(file)
    found = importers.read(tmp_path)[0]
    from ddsp_cli.engine import Autoencoder

    autoencoder = Autoencoder(found.card.model)
    autoencoder.set_weights_by_name(found.weights)
    expected = np.asarray(autoencoder.impulse_response())
    assert found.impulse_response is not None
    assert found.impulse_response.shape == expected.shape == (4000,)
    assert peak_db(found.impulse_response, expected) < -100


def test_incomplete_folders(plain: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model"):
        importers.read(tmp_path)
    (tmp_path / "ckpt-300.index").write_bytes((plain[0] / "ckpt-300.index").read_bytes())
    with pytest.raises(ModelError, match="no gin file"):
        importers.read(tmp_path)
    (tmp_path / "x.gin").write_bytes((plain[0] / "operative_config-0.gin").read_bytes())
    with pytest.raises(ModelError, match="damaged"):
        importers.read(tmp_path)


# --- the original's own numbers ---------------------------------------------------------------------------------------

golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="needs the numbers made with magenta/ddsp, beside the checkout")


def peak_db(found: np.ndarray, expected: np.ndarray) -> float:
    return float(20 * np.log10(np.abs(found - expected).max() / np.abs(expected).max()))


def upstream_harmonics(f0_hz: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    """Harmonics with upstream's single-precision sum of phases, whose rounding its own numbers carry.

    Facts 3.5: frequencies to samples by straight lines, 2πf/sr summed, in float32 and in that order. After 4 s the
    sum is off by radians for high harmonics; the runtime sums exactly and differs from these numbers for that reason.
    """
    hop, n_frames = 64, len(f0_hz)
    frequencies = f0_hz[:, None] * np.arange(1, 61, dtype=np.float32)
    following = np.concatenate([frequencies[1:], frequencies[-1:]])
    weight = (np.arange(hop, dtype=np.float32) / hop)[None, :, None]
    sample_hz = (frequencies[:, None] + (following - frequencies)[:, None] * weight).reshape(-1, 60)
    omega = sample_hz * np.float32(2 * np.pi) / np.float32(16000)
    phase = np.cumsum(omega, axis=0, dtype=np.float32)
    level = np.concatenate([amplitudes, amplitudes[-1:]])
    fade = (0.5 - 0.5 * np.cos(np.pi * np.arange(hop) / hop))[None, :, None]
    sample_level = (level[:-1, None] * (1 - fade) + level[1:, None] * fade).reshape(-1, 60)
    sample_level[sample_hz >= 8000] = 0
    assert len(phase) == n_frames * hop
    return np.sum(sample_level * np.sin(phase), axis=1)


@golden
def test_magenta_solo() -> None:
    found = importers.read(GOLDEN / "solo")[0]
    n_frames, n_samples = 400, 399 * 64  # 1.6 s; the last hop leads to a frame beyond them
    reference = {name: value[0] for name, value in np.load(GOLDEN / "solo_reference.npz").items() if value.ndim > 1}
    reference = {name: value[: n_samples if value.ndim == 1 else n_frames] for name, value in reference.items()}
    f0_hz, level_db = reference["f0_hz"][:, 0], reference["loudness_db"][:, 0]
    white = np.concatenate([reference["white_noise"], np.zeros(64, np.float32)]).reshape(-1, 64)
    controls = Decoder(found).controls(f0_hz, level_db)
    for name, golden_name in (("amplitude", "amplitudes"), ("harmonic_distribution", "harmonic_distribution"),
                              ("noise_magnitudes", "noise_magnitudes")):  # fmt: skip
        np.testing.assert_allclose(controls[name], reference[golden_name], atol=2e-6, err_msg=name)

    amplitudes = controls["amplitude"] * controls["harmonic_distribution"]
    assert peak_db(upstream_harmonics(f0_hz, amplitudes)[:n_samples], reference["harmonic_audio"]) <= -60
    noise = FilteredNoise(64, 65, 0)
    breath = np.concatenate([noise.push(controls["noise_magnitudes"], white), noise.finish()])[: n_samples - 128]
    assert peak_db(breath, reference["noise_audio"][: n_samples - 128]) <= -100
    assert found.impulse_response is not None
    wet = Reverb(found.impulse_response).push(reference["harmonic_audio"] + reference["noise_audio"])
    assert peak_db(wet, reference["harmonic_noise_reverb_audio"]) <= -80
    Instrument(found)


@golden
def test_magenta_vst_is_the_same_twice() -> None:
    """Checkpoint and plug-in file of one training hold the same weights."""
    found = importers.read(GOLDEN / "vst")[0]
    other = importers.read(GOLDEN / "vst_predict_controls.tflite", verify=False)[0]
    names = {name for name in found.weights if name.startswith("decoder/")}
    assert names == {name for name in other.weights if name.startswith("decoder/")}
    for name in names:
        np.testing.assert_array_equal(found.weights[name], other.weights[name], err_msg=name)
    assert found.card.model.level == "power_db"
    assert found.impulse_response is not None
