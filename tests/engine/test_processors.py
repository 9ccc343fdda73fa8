"""Processors: golden controls, laws of the effects, configurations that come back, and graphs."""

import warnings

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from ddsp_cli import engine
from ddsp_cli.config import load_preset
from ddsp_cli.errors import ModelError
from engine.golden import RELATIVE, Golden, error


def tensor(x):
    return ops.convert_to_tensor(np.asarray(x, np.float32))


def numpy(x):
    return ops.convert_to_numpy(x)


RNG = np.random.default_rng(0)
AUDIO, OTHER = RNG.standard_normal((2, 2, 320)).astype(np.float32)
F, HOP = 5, 64


def raw(channels):
    return tensor(np.random.default_rng(channels).standard_normal((2, F, channels)))


F0_HZ = tensor(np.full((2, F, 1), 220.0))
PROCESSORS = {
    "Harmonic": (engine.Harmonic(16000, HOP, 8, "linear"), lambda: (raw(1), raw(8), F0_HZ)),
    "Sinusoidal": (engine.Sinusoidal(16000, HOP, 4, 50.0, 900.0), lambda: (raw(4), raw(4))),
    "FilteredNoise": (engine.FilteredNoise(HOP, 9, -1.0, 0, seed=3), lambda: (raw(9),)),
    "Wavetable": (engine.Wavetable(16000, HOP, 16), lambda: (raw(1), raw(16), F0_HZ)),
    "Reverb": (engine.Reverb(100), lambda: (tensor(AUDIO),)),
    "ExpDecayReverb": (engine.ExpDecayReverb(100, 1.0, 2.0), lambda: (tensor(AUDIO),)),
    "FilteredNoiseReverb": (engine.FilteredNoiseReverb(100, 10, 8), lambda: (tensor(AUDIO),)),
    "FIRFilter": (engine.FIRFilter(9), lambda: (tensor(AUDIO), raw(9))),
    "ModDelay": (engine.ModDelay(16000, 2.0, 1.0), lambda: (tensor(AUDIO), raw(1), raw(1))),
    "Add": (engine.Add(), lambda: (tensor(AUDIO), tensor(OTHER))),
    "Mix": (engine.Mix(), lambda: (tensor(AUDIO), tensor(OTHER), raw(1))),
    "Crop": (engine.Crop(20, "front"), lambda: (tensor(AUDIO),)),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_processor_comes_back_from_its_config_and_sounds_the_same(name):
    processor, inputs = PROCESSORS[name]
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(processor))
    assert again.get_config() == processor.get_config()
    assert [v.path.split("/")[-1] for v in again.variables] == [v.path.split("/")[-1] for v in processor.variables]
    again.set_weights(processor.get_weights())
    first, second = numpy(processor(*inputs())), numpy(again(*inputs()))
    assert first.shape == (2, 300 if name == "Crop" else 320)
    assert np.isfinite(first).all()
    np.testing.assert_allclose(first, second, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in PROCESSORS if name != "FilteredNoise"])
def test_processor_is_both_steps_and_keeps_examples_apart(name):
    processor, inputs = PROCESSORS[name]
    controls = processor.get_controls(*inputs())
    both = numpy(processor(*inputs()))
    np.testing.assert_allclose(numpy(processor.get_signal(**controls)), both, atol=1e-6)
    alone = numpy(processor(*(x[1:] for x in inputs())))
    np.testing.assert_allclose(alone, both[1:], atol=1e-5)


def test_harmonic_controls_agree():
    golden = Golden("harmonic")
    given_raw = golden["raw_amps"], golden["raw_hd"], golden["f0_hz"]
    controls = engine.Harmonic(16000, 64).get_controls(*given_raw)
    assert error(controls["amplitude"], golden.array("amplitudes")) < RELATIVE
    assert error(controls["harmonic_distribution"], golden.array("harmonic_distribution")) < RELATIVE
    loose = engine.Harmonic(16000, 64, normalize_below_nyquist=False).get_controls(*given_raw)
    assert error(loose["harmonic_distribution"], golden.array("hd_nonyq")) < RELATIVE
    signal = engine.Harmonic(16000, 64)(*given_raw)
    assert error(signal, golden.array("get_signal")) < 6e-3  # the original's float32 phase, see test_oscillators


def test_noise_controls_and_reverb_agree():
    golden = Golden("filtered_noise")
    controls = engine.FilteredNoise(64, 65).get_controls(golden["raw_mags"])
    assert error(controls["noise_magnitudes"], golden.array("magnitudes")) < RELATIVE
    noise = engine.FilteredNoise(64, 65).get_signal(**controls, noise=golden["noise"])
    assert error(noise, golden.array("audio_w0")) < RELATIVE
    golden = Golden("reverb")
    wet_dry = engine.Reverb(4800).get_signal(audio=golden["audio"], ir=golden["ir"])
    assert error(wet_dry, golden.array("wet_dry")) < RELATIVE
    assert error(wet_dry - golden["audio"], golden.array("wet")) < RELATIVE


@settings(max_examples=15)
@given(st.lists(st.floats(-30, 30), min_size=3, max_size=12), st.floats(0, 7000))
def test_distribution_sums_to_one_or_is_silent(weights, f0_hz):
    out = engine.Harmonic(n_harmonics=None).get_controls(tensor([[[0.0]]]), tensor([[weights]]), tensor([[[f0_hz]]]))[
        "harmonic_distribution"
    ]
    assert float(numpy(out).sum()) == pytest.approx(1.0, abs=1e-4)
    assert (numpy(out) >= 0).all()


def test_a_dead_room_is_the_dry_sound_and_an_echo_has_its_energy():
    impulse = np.zeros((1, 200), np.float32)
    impulse[0, 10] = 1.0
    ir = np.zeros((1, 50), np.float32)
    assert error(engine.Reverb(50).get_signal(audio=tensor(impulse), ir=tensor(ir)), impulse) < 1e-6
    ir[0, [0, 7, 30]] = 9.0, 0.5, -0.25  # tap 0 is the dry sound's place
    out = numpy(engine.Reverb(50).get_signal(audio=tensor(impulse), ir=tensor(ir)))
    assert float((out**2).sum()) == pytest.approx(1.0 + 0.5**2 + 0.25**2, rel=1e-5)
    assert np.abs(out[0, :10]).max() < 1e-6  # nothing before its cause


def test_flat_filters_reconstruct_and_delay_by_two():
    ones = tensor(np.ones((2, F, 65)))
    out = numpy(engine.core.frequency_filter(tensor(AUDIO), ones))
    np.testing.assert_allclose(out[:, 2:], AUDIO[:, :-2], atol=1e-5)


@settings(max_examples=6)
@given(st.integers(1, 4))
def test_filtering_follows_a_shift_in_time(shift):
    magnitudes = np.random.default_rng(1).random((1, 8, 9)).astype(np.float32)
    audio = np.random.default_rng(2).standard_normal((1, 8 * 32)).astype(np.float32)
    audio[:, -5 * 32 :] = 0.0
    moved = numpy(
        engine.core.frequency_filter(tensor(np.roll(audio, 32 * shift)), tensor(np.roll(magnitudes, shift, 1)))
    )
    here = numpy(engine.core.frequency_filter(tensor(audio), tensor(magnitudes)))
    np.testing.assert_allclose(moved[:, 32 * shift :], here[:, : -32 * shift], atol=1e-5)


def test_mix_keeps_power_and_reaches_both_ends():
    for level, wanted in ((100.0, AUDIO), (-100.0, OTHER)):
        out = engine.Mix()(tensor(AUDIO), tensor(OTHER), tensor(np.full((2, F, 1), level)))
        np.testing.assert_allclose(numpy(out), wanted, atol=1e-5)
    long = np.random.default_rng(5).standard_normal((2, 1, 32000))
    out = numpy(engine.Mix()(tensor(long[0]), tensor(long[1]), tensor(np.zeros((1, 5, 1)))))
    assert float(out.var()) == pytest.approx(1.0, rel=0.03)


# --- graphs ------------------------------------------------------------------------------------------

YAML = """
harmonic: {type: Harmonic, inputs: [amplitude, harmonic_distribution, f0_hz], n_harmonics: 8}
noise: {type: FilteredNoise, inputs: [noise_magnitudes], n_bands: 9}
dry: {type: Add, inputs: [harmonic, noise]}
moving: {type: ModDelay, inputs: [dry, delay_gain, delay_phase], center_ms: 3.0}
bright: {type: FIRFilter, inputs: [moving, tone], n_bands: 9}
room: {type: ExpDecayReverb, inputs: [bright], length_samples: 400}
"""


def test_group_from_yaml_plays_and_comes_back():
    group = engine.group_from_yaml(YAML)
    assert group.sources == [
        "amplitude", "harmonic_distribution", "noise_magnitudes", "delay_gain", "delay_phase", "tone", "f0_hz",
    ]  # fmt: skip
    sizes = dict(zip(group.sources, (1, 8, 9, 1, 1, 9), strict=False))
    signals = {name: raw(size) for name, size in sizes.items()} | {"f0_hz": F0_HZ}
    out = group(signals)
    assert out["audio"].shape == (2, 320) and "harmonic/amplitude" in out
    again = engine.ProcessorGroup.from_config(group.get_config())
    assert again.order == group.order and again.sources == group.sources


def test_group_from_python():
    group = engine.ProcessorGroup(
        {"echo": (engine.Reverb(10), ["in"]), "sum": (engine.Add(), ["in", "echo"])}, sources=["in"]
    )
    assert group.order == ["echo", "sum"]
    assert group({"in": tensor(AUDIO)})["audio"].shape == (2, 320)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ({"a": ["b"], "b": ["a"]}, "cycle: .*a.*b"),
        ({"dry": ["in", "wett"], "wet": ["in"]}, "dry takes wett.*nothing"),
        ({"in": ["in"]}, "in has the name of an input"),
        ({"a": ["in"], "b": ["in"]}, "must end in one signal, it ends in a, b"),
    ],
)
def test_broken_graphs_are_named(nodes, message):
    with pytest.raises(ModelError, match=message):
        made = {name: (engine.Add() if len(inputs) > 1 else engine.Crop(1), inputs) for name, inputs in nodes.items()}
        engine.ProcessorGroup(made, sources=["in"])


def test_a_noise_room_is_cut_into_equal_frames():
    nodes = YAML.replace("ExpDecayReverb", "FilteredNoiseReverb").replace("length_samples: 400", "length_samples: 700")
    with pytest.raises(ModelError, match="room: 700 samples cannot be cut into 500 equal frames"):
        engine.group_from_yaml(nodes)


def test_yaml_mistakes_are_named():
    with pytest.raises(ModelError, match="Revreb"):
        engine.group_from_yaml("room: {type: Revreb, inputs: [x]}")
    with pytest.raises(ModelError, match="n_harmonic"):
        engine.group_from_yaml("h: {type: Harmonic, inputs: [a, b, f0_hz], n_harmonic: 5}")
    with pytest.raises(ModelError, match="8 channels, another takes 9"):
        engine.group_from_yaml(YAML.replace("tone], n_bands: 9", "noise_magnitudes], n_bands: 8"))


@pytest.mark.parametrize("name", ["vst", "solo"])
def test_presets_make_groups(name):
    model = load_preset(name).model
    group = engine.group_from_config(model)
    assert group.sources == ["amplitude", "harmonic_distribution", "noise_magnitudes", "f0_hz"]


def test_a_model_that_holds_a_processor_is_not_called_unbuilt():
    """Keras warns where the layer of a model may make weights later; processors make theirs with themselves."""

    class Held(keras.Model):
        def __init__(self):
            super().__init__()
            self.synth = engine.Harmonic(16000, 64, 1)

        def call(self, f0_hz):
            level = ops.ones_like(f0_hz)
            return self.synth.get_signal(f0_hz=f0_hz, amplitude=level, harmonic_distribution=level)

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert Held()(np.ones((1, 3, 1), np.float32)).shape == (1, 192)


def test_an_own_processor_may_make_its_weights_later():
    class Gain(engine.Processor):
        def build(self, _shape):
            self.gain = self.add_weight(shape=(), initializer="ones", name="gain")
            self.built = True

        def get_controls(self, audio):
            return {"audio": audio}

        def get_signal(self, audio):
            return self.gain * audio

    gain = Gain()
    assert gain(np.ones((1, 4), np.float32)).shape == (1, 4)
    assert len(gain.weights) == 1
