"""Inputs of processors and core functions: types, precision, names of signals, Keras' functional API, help."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

from ddsp_cli import engine
from ddsp_cli.engine import core
from ddsp_cli.errors import ModelError
from ddsp_cli.synthesis import synths
from engine.golden import error
from engine.gradients import gradient

RNG = np.random.default_rng(0)
AUDIO = RNG.standard_normal((2, 320)).astype(np.float32)
F0_HZ = np.full((2, 5, 1), 220.0, np.float32)


def raw(*channels):
    return np.random.default_rng(channels).standard_normal((2, 5, *channels)).astype(np.float32)


def numpy(x):
    return np.asarray(ops.convert_to_numpy(x))


MAKERS = {
    "Harmonic": (lambda: engine.Harmonic(16000, 64, 8), lambda: (raw(1), raw(8), F0_HZ)),
    "Sinusoidal": (lambda: engine.Sinusoidal(16000, 64, 4), lambda: (raw(4), raw(4))),
    "FilteredNoise": (lambda: engine.FilteredNoise(64, 9, seed=3), lambda: (raw(9),)),
    "Wavetable": (lambda: engine.Wavetable(16000, 64, 16), lambda: (raw(1), raw(16), F0_HZ)),
    "Reverb": (lambda: engine.Reverb(100), lambda: (AUDIO,)),
    "ExpDecayReverb": (lambda: engine.ExpDecayReverb(100, 1.0, 2.0), lambda: (AUDIO,)),
    "FilteredNoiseReverb": (lambda: engine.FilteredNoiseReverb(100, 10, 8), lambda: (AUDIO,)),
    "FIRFilter": (lambda: engine.FIRFilter(9), lambda: (AUDIO, raw(9))),
    "ModDelay": (lambda: engine.ModDelay(16000, 2.0, 1.0), lambda: (AUDIO, raw(1), raw(1))),
    "Add": (engine.Add, lambda: (AUDIO, AUDIO[::-1])),
    "Mix": (engine.Mix, lambda: (AUDIO, AUDIO[::-1], raw(1))),
    "Crop": (lambda: engine.Crop(20), lambda: (AUDIO,)),
}


@pytest.fixture
def half_precision():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("name", MAKERS)
def test_half_precision_and_float64_give_the_sound_of_float32(name, half_precision):
    make, signals = MAKERS[name]
    expected = numpy(make()(*signals()))
    assert expected.dtype == np.float32
    assert error(make()(*(x.astype(np.float64) for x in signals())), expected) < 1e-6
    halves = [ops.convert_to_tensor(x.astype(np.float16)) for x in signals()]
    assert error(make()(*halves), expected) < 0.05


def test_a_model_trains_in_half_precision(half_precision):
    from fixtures import small_model

    config = small_model()
    model = engine.Autoencoder(config, seed=0)
    assert model.decoder.compute_dtype == "float16" and model.group.compute_dtype == "float32"
    features = {name: np.full((1, 4, 1), 0.5) for name in config.inputs} | {"f0_hz": np.full((1, 4, 1), 440.3)}
    found = model(features)
    assert float(numpy(found["harmonic/f0_hz"]).max()) == pytest.approx(440.3, rel=1e-6)  # 440.25 in half precision
    loss = model.spectral_loss(np.zeros((1, 4 * config.hop_samples)), found["audio"])
    assert np.isfinite(numpy(loss))


NETWORKS = {
    "MfccEncoder": (lambda: engine.MfccEncoder(4, 8), lambda: 1e-3 * RNG.standard_normal((2, 4000))),
    "TimbreEncoder": (lambda: engine.TimbreEncoder(4, 8), lambda: raw(29)),
    "RnnFcDecoder": (lambda: engine.RnnFcDecoder(["f0"], {"a": 4}, 8, 8, 1), lambda: {"f0": raw(1)}),
    "DilatedConvDecoder": (
        lambda: engine.DilatedConvDecoder({"f0": 1}, {"a": 4}, 8, 3, 2, 1),
        lambda: {"f0": raw(1)},
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_in_half_precision_are_near_those_in_float32(name):
    make, inputs = NETWORKS[name]
    given = inputs()
    outputs = []
    try:
        for policy in ("float32", "mixed_float16"):
            keras.config.set_dtype_policy(policy)
            keras.utils.set_random_seed(0)
            out = make()(given)
            outputs.append(numpy(out["a"] if isinstance(out, dict) else out).astype(np.float32))
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(outputs[1], outputs[0], atol=0.01)
    assert np.abs(outputs[0]).max() > 0.05


def test_core_functions_take_float64_and_lists():
    assert float(numpy(core.exp_sigmoid(0.0))) == pytest.approx(0.405399, abs=1e-5)
    assert numpy(core.hz_to_midi([440.0, 880.0])).tolist() == [69.0, 81.0]
    wide = AUDIO.astype(np.float64)
    assert error(core.fft_convolve(wide, np.ones((1, 3))), numpy(core.fft_convolve(AUDIO, np.ones((1, 3))))) < 1e-6
    assert np.isfinite(numpy(core.a_weighted_loudness(wide, size=64))).all()
    assert numpy(core.rms(AUDIO > 0, size=64)).dtype == np.float32


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in ("Add", "FilteredNoise")])
def test_signals_go_by_name_in_any_order(name):
    make, signals = MAKERS[name]
    processor = make()
    by_name = dict(zip(processor.signal_names(), signals(), strict=True))
    by_name = dict(reversed(by_name.items()))
    assert error(processor(**by_name), numpy(processor(*signals()))) < 1e-6


@pytest.mark.parametrize("name", MAKERS)
def test_keras_functional_models_are_built_and_play(name):
    make, signals = MAKERS[name]
    inputs = [keras.Input(x.shape[1:]) for x in signals()]
    out = make()(*inputs)
    assert tuple(out.shape) == (None, 300 if name == "Crop" else 320)
    out = keras.Model(inputs, out)([ops.convert_to_tensor(x.copy()) for x in signals()])
    assert tuple(out.shape) == (2, 300 if name == "Crop" else 320)


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "Add"])
def test_signatures_and_help_name_the_controls(name):
    kind = type(MAKERS[name][0]())
    for method in (kind.get_controls, kind.get_signal):
        parameters = [p for p in inspect.signature(method).parameters.values() if p.name != "self"]
        assert parameters and all(p.kind is p.POSITIONAL_OR_KEYWORD and p.annotation for p in parameters)
        assert "[B, " in method.__doc__


@pytest.mark.parametrize("name", core.__all__)
def test_public_functions_are_functions_with_a_docstring(name):
    function = getattr(core, name)
    assert inspect.isfunction(function)
    assert len(function.__doc__.split()) >= 4


def test_scale_functions_by_name_and_by_function():
    bare = engine.FilteredNoise(64, 9, 0.0, scale_fn="none")
    assert error(bare.get_controls(raw(9))["noise_magnitudes"], raw(9)) < 1e-6
    own = engine.Harmonic(16000, 64, 8, scale_fn=ops.square)
    controls = own.get_controls(raw(1), raw(8), F0_HZ)
    assert error(controls["amplitude"], raw(1) ** 2) < 1e-6
    assert numpy(controls["harmonic_distribution"]).sum(axis=-1) == pytest.approx(1.0, abs=1e-5)
    again = engine.FIRFilter.from_config(engine.FIRFilter(9, scale_fn="softplus").get_config())
    assert again.scale_fn == "softplus"


# --- filters, cuts, mixes -----------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 3, 63, 101, 127])
def test_odd_windows_are_symmetric_with_their_peak_in_the_middle(window):
    design = core.fir_design(65, window)
    assert design.shape == (65, window)
    np.testing.assert_allclose(design, design[:, ::-1], atol=1e-7)
    flat = np.ones(65) @ design
    assert int(np.argmax(np.abs(flat))) == window // 2
    assert flat[window // 2] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("window", [1, 3, 63, 127])
def test_odd_windows_do_not_move_the_sound_on_either_player(window):
    flat = np.ones((2, 5, 65), np.float32)
    np.testing.assert_allclose(numpy(core.frequency_filter(AUDIO, flat, window)), AUDIO, atol=1e-4)
    player = synths.FilteredNoise(64, 65, window)
    magnitudes = np.random.default_rng(0).uniform(0.0, 1.0, (5, 65)).astype(np.float32)
    played = np.concatenate([player.push(magnitudes, AUDIO[0].reshape(5, 64)), player.finish()])
    np.testing.assert_allclose(played, numpy(core.frequency_filter(AUDIO[:1], magnitudes[None], window))[0], atol=1e-4)


@pytest.mark.parametrize(("bands", "window"), [(2, 0), (2, 1), (9, 1), (9, 2)])
def test_filters_of_one_and_two_taps_are_gains(bands, window):
    out = numpy(core.frequency_filter(AUDIO, np.full((2, 5, bands), 0.5), window))
    lag = 1 if (bands, window) == (2, 0) else 0
    np.testing.assert_allclose(out[:, lag:], 0.5 * AUDIO[:, : 320 - lag], atol=1e-5)
    np.testing.assert_allclose(numpy(core.fft_convolve(AUDIO, np.full((1, 1), 2.0))), 2 * AUDIO, rtol=1e-5, atol=1e-5)


def test_crop_of_nothing_and_mix_of_controls():
    assert error(engine.Crop(0)(AUDIO), AUDIO) == 0.0
    first, second = raw(7), raw(7)[::-1].copy()
    out = numpy(engine.Mix()(first, second, np.full((2, 5, 1), 100.0)))
    np.testing.assert_allclose(out, first, atol=1e-5)


def test_nan_in_one_frame_stays_there():
    f0_hz = np.full((1, 40, 1), 311.0, np.float32)
    broken = f0_hz.copy()
    broken[0, 10] = np.nan
    amplitudes = np.ones((1, 40, 3), np.float32)
    whole = numpy(core.harmonic_synthesis(f0_hz, amplitudes, 64, 16000))
    out = numpy(core.harmonic_synthesis(broken, amplitudes, 64, 16000))
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[:, : 9 * 64], whole[:, : 9 * 64], atol=1e-6)
    assert np.abs(out[:, 9 * 64 : 11 * 64]).max() == 0.0
    assert np.abs(out[:, 11 * 64 :]).max() > 0.5
    found = gradient(lambda a: ops.sum(core.harmonic_synthesis(broken, a, 64, 16000) ** 2), amplitudes)
    assert np.isfinite(found).all()
    each = core.oscillator_bank(np.where(np.arange(99)[None, :, None] == 50, np.nan, 300.0), np.ones((1, 99, 1)))
    assert np.isfinite(numpy(each)).all()


# --- rooms given by a network -------------------------------------------------------------------------


def test_a_room_may_be_given_for_each_example():
    ir = np.random.default_rng(1).standard_normal((2, 100)).astype(np.float32)
    given = engine.Reverb(100, from_network=True)
    assert not given.weights and given.signal_names() == ["audio", "ir"]
    alone = [engine.Reverb(100).get_signal(audio=AUDIO[i : i + 1], ir=ir[i : i + 1]) for i in range(2)]
    assert error(given(AUDIO, ir), np.concatenate([numpy(x) for x in alone])) < 1e-5
    wet = engine.Reverb(100, from_network=True, add_dry=False)
    impulse = np.eye(1, 320, dtype=np.float32).repeat(2, axis=0)
    np.testing.assert_allclose(numpy(wet(impulse, ir))[:, :100], ir, atol=1e-5)  # its first tap as well
    noise = engine.FilteredNoiseReverb(100, 10, 8, from_network=True)
    learned = engine.FilteredNoiseReverb(100, 10, 8)
    magnitudes = numpy(learned.magnitudes)[None].repeat(2, axis=0)
    assert error(noise(AUDIO, magnitudes), numpy(learned(AUDIO))) < 1e-5
    decay = engine.ExpDecayReverb(100, from_network=True)
    same = engine.ExpDecayReverb(100, 1.0, 2.0)
    assert error(decay(AUDIO, np.full((2, 1), 1.0), np.full((2, 1), 2.0)), numpy(same(AUDIO))) < 1e-5
    for room, message in ((engine.Reverb(100), "its response is learned"), (given, "it takes audio, ir")):
        with pytest.raises(ValueError, match=message):
            room.get_controls(AUDIO, ir) if room is not given else room.get_controls(AUDIO)
    with pytest.raises(ValueError, match="no learned one"):
        given.impulse_response()


# --- own processors -----------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("tests")
class Drive(engine.Processor):
    settings = ("gain",)

    def __init__(self, gain: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.gain = gain

    @core.takes(audio="B S", amount="B F 1")
    def get_controls(self, audio, amount):
        return {"audio": audio, "amount": ops.sigmoid(amount)}

    @core.takes(audio="B S", amount="B F 1")
    def get_signal(self, audio, amount):
        return ops.tanh(self.gain * audio * core.resample(amount, audio.shape[1])[..., 0])


@pytest.fixture
def own_module(monkeypatch):
    import sys
    import types

    module = types.ModuleType("own_effects")
    module.Drive = Drive
    monkeypatch.setitem(sys.modules, "own_effects", module)


YAML = """
noise: {type: FilteredNoise, inputs: [noise_magnitudes], n_bands: 9}
drive: {type: Own, processor: "own_effects:Drive", inputs: [noise, amount], settings: {gain: 3},
  input_channels: [null, 1]}
"""


def test_own_processors_in_yaml_and_in_presets(own_module, tmp_path):
    from ddsp_cli.config import load_preset

    group = engine.group_from_yaml(YAML)
    assert group.sources == ["noise_magnitudes", "amount", "f0_hz"]
    assert group.nodes["drive"].gain == 3.0
    out = group({"noise_magnitudes": raw(9), "amount": raw(1), "f0_hz": F0_HZ})
    assert np.abs(numpy(out["audio"])).max() <= 1.0
    nodes = "".join(f"    {line}\n" for line in YAML.strip().splitlines())
    path = tmp_path / "own.yaml"
    path.write_text(
        f"description: x\nmodel:\n  inputs: [ld_scaled, f0_scaled]\n  processors:\n{nodes}", encoding="utf-8"
    )
    preset = load_preset(str(path))
    assert preset.model.processors["drive"].processor == "own_effects:Drive"
    assert engine.group_from_config(preset.model).order[-1] == "drive"


def test_a_bundle_cannot_name_code():
    from ddsp_cli.config import ModelConfig, parse_yaml

    nodes = "".join(f"  {line}\n" for line in YAML.strip().splitlines())
    with pytest.raises(ModelError, match="Own"):
        parse_yaml(f"inputs: [f0_scaled]\nprocessors:\n{nodes}", ModelConfig, "a bundle")


@pytest.mark.parametrize(
    ("processor", "message"),
    [("nowhere:Thing", "cannot be imported"), ("json:dumps", "not a subclass"), ("flanger", "no installed package")],
)
def test_classes_that_are_not_processors(processor, message):
    with pytest.raises(ModelError, match=message):
        engine.group_from_yaml(f"x: {{type: Own, processor: '{processor}', inputs: [f0_hz]}}")
