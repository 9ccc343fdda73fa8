"""Wrong use of the engine: each call is refused with a sentence that names the part, the given and the expected value.

The last column is what the call did before there were checks: `silent` means that it returned a result; an error stands
for the framework's own message.
"""

import numpy as np
import pytest

from ddsp_cli import engine
from ddsp_cli.engine import core
from ddsp_cli.errors import ModelError


def numbers(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


AUDIO = numbers(2, 640)
F0 = np.full((2, 10, 1), 220.0, np.float32)
NODES = {"harmonic": (engine.Harmonic(16000, 64, 8), ["amplitude", "harmonic_distribution", "f0_hz"])}
SOURCES = ["amplitude", "harmonic_distribution", "f0_hz"]


def harmonic():
    return engine.Harmonic(16000, 64, 20)


def yaml(text):
    return lambda: engine.group_from_yaml(text)


#: name → (call, error, what the message must hold, before)
CASES = {
    # signals in the wrong place
    "harmonic swapped": (
        lambda: harmonic()(numbers(2, 10, 20), numbers(2, 10, 1), F0),
        ValueError,
        r"Harmonic: amplitude has shape \[2, 10, 20\], expected \[B, F, 1\].*takes amplitude",
        "silent",
    ),
    "harmonic f0 first": (
        lambda: harmonic()(F0, numbers(2, 10, 1), numbers(2, 10, 20)),
        ValueError,
        "harmonic_distribution has shape .*n_harmonics is 20",
        "silent",
    ),
    "harmonic of 30 harmonics": (
        lambda: harmonic()(numbers(2, 10, 1), numbers(2, 10, 30), F0),
        ValueError,
        "n_harmonics is 20",
        "silent",
    ),
    "harmonic signal of 30": (
        lambda: harmonic().get_signal(amplitude=F0, harmonic_distribution=numbers(2, 10, 30), f0_hz=F0),
        ValueError,
        "n_harmonics is 20",
        "silent",
    ),
    "noise of 33 bands": (
        lambda: engine.FilteredNoise(64, 65)(numbers(2, 10, 33)),
        ValueError,
        "n_bands is 65",
        "silent",
    ),
    "wavetable of 100 points": (
        lambda: engine.Wavetable(16000, 64, 512)(F0, numbers(2, 10, 100), F0),
        ValueError,
        "n_points is 512",
        "silent",
    ),
    "sinusoidal 4 against 5": (
        lambda: engine.Sinusoidal(16000, 64, 4)(numbers(2, 10, 4), numbers(2, 10, 5)),
        ValueError,
        "frequencies has shape .*n_raw_frequencies is 4",
        "InvalidArgumentError",
    ),
    "fir of 5 bands": (lambda: engine.FIRFilter(9)(AUDIO, numbers(2, 10, 5)), ValueError, "n_bands is 9", "silent"),
    # ranks, frames, batches
    "harmonic rank 2": (
        lambda: harmonic()(numbers(2, 10), numbers(2, 10, 20), F0),
        ValueError,
        r"amplitude has shape \[2, 10\]",
        "InvalidArgumentError",
    ),
    "frames 10 against 12": (
        lambda: harmonic()(numbers(2, 10, 1), numbers(2, 12, 20), F0),
        ValueError,
        "F is 10 in amplitude",
        "InvalidArgumentError",
    ),
    "batch 1 against 2": (
        lambda: harmonic()(numbers(1, 10, 1), numbers(2, 10, 20), F0),
        ValueError,
        "B is 1 in amplitude",
        "silent",
    ),
    "reverb of [B, S, 1]": (
        lambda: engine.Reverb(100)(AUDIO[..., None]),
        ValueError,
        r"Reverb: audio has shape \[2, 640, 1\], expected \[B, S\]",
        "InvalidArgumentError",
    ),
    "mix of two lengths": (
        lambda: engine.Mix()(AUDIO, AUDIO[:, :320], numbers(2, 10, 1)),
        ValueError,
        "second has shape",
        "InvalidArgumentError",
    ),
    "add of two lengths": (lambda: engine.Add()(AUDIO, AUDIO[:, :1]), ValueError, "S is 640 in signal_0", "silent"),
    "crop of everything": (lambda: engine.Crop(640)(AUDIO), ValueError, "640 samples, 640 cannot be cut off", "silent"),
    "no frames": (
        lambda: harmonic()(numbers(2, 0, 1), numbers(2, 0, 20), F0[:, :0]),
        ValueError,
        "F must be 1 or more",
        "ZeroDivisionError",
    ),
    "no samples": (lambda: core.stft_magnitude(AUDIO[:, :0], 64), ValueError, "S must be 1 or more", "silent"),
    "convolve 1 with 2": (
        lambda: core.fft_convolve(AUDIO[:1], numbers(2, 10)),
        ValueError,
        "ir has shape .*B is 1 in audio",
        "silent",
    ),
    "frames that do not fit": (
        lambda: core.fft_convolve(AUDIO, numbers(2, 300, 10)),
        ValueError,
        "640 samples cannot be cut into 300 equal frames",
        "ValueError",
    ),
    "upsample of [B, F]": (
        lambda: core.upsample(numbers(2, 10), 64),
        ValueError,
        r"frames has shape \[2, 10\]",
        "IndexError",
    ),
    # names and kinds
    "unknown signal": (
        lambda: harmonic()(amplitude=F0, harmonic_distributions=numbers(2, 10, 20), f0_hz=F0),
        TypeError,
        "Did you mean harmonic_distribution",
        "not offered",
    ),
    "missing signal": (
        lambda: harmonic()(numbers(2, 10, 1), f0_hz=F0),
        TypeError,
        "missing a required argument: 'harmonic_distribution'",
        "TypeError",
    ),
    "None": (lambda: harmonic()(None, numbers(2, 10, 20), F0), ValueError, "amplitude is None", "ValueError"),
    "list of text": (
        lambda: harmonic()(["a"], numbers(2, 10, 20), F0),
        ValueError,
        "amplitude (is a list that does not convert|holds string values)",
        "UnimplementedError",
    ),
    "text": (lambda: core.exp_sigmoid("loud"), ValueError, "exp_sigmoid: x is a str", "InvalidArgumentError"),
    "complex numbers": (
        lambda: core.fft_convolve(AUDIO + 1j, numbers(2, 10)),
        ValueError,
        "must hold real numbers",
        "ValueError",
    ),
    # settings
    "method spline": (
        lambda: engine.Harmonic(amp_resample_method="spline"),
        ValueError,
        "'spline' is unknown; it must be one of nearest, linear, cubic, window",
        "silent",
    ),
    "hop 64.5": (
        lambda: engine.Harmonic(hop_samples=64.5),
        ValueError,
        "hop_samples must be a whole number, not 64.5",
        "silent",
    ),
    "hop 0": (lambda: engine.FilteredNoise(hop_samples=0), ValueError, "hop_samples must be 1 or more", "silent"),
    "frame rate 441": (lambda: core.rms(AUDIO, 16000, 441), ValueError, "441 frames of equal, whole length", "silent"),
    "half precision": (lambda: engine.Reverb(100, dtype="float16"), ValueError, "computes in float32", "silent"),
    "scale_fn exp": (
        lambda: engine.FilteredNoise(scale_fn="exp_sigmiod"),
        ValueError,
        "Did you mean exp_sigmoid",
        "not offered",
    ),
    "crop in the middle": (lambda: engine.Crop(3, "middle"), ValueError, "one of front, back", "ValueError"),
    "overlap 1": (
        lambda: core.stft_magnitude(AUDIO, 64, overlap=1.0),
        ValueError,
        "overlap of 1.0",
        "ZeroDivisionError",
    ),
    "one band": (lambda: core.impulse_response(numbers(2, 1)), ValueError, "bands must be 2 or more", "silent"),
    "misspelt keyword": (
        lambda: engine.Harmonic(n_harmonic=20),
        ValueError,
        "Harmonic has no setting n_harmonic; it takes sample_rate_hz, .*Did you mean n_harmonics",
        "ValueError",
    ),
    "the original's constructor": (
        lambda: engine.FilteredNoise(n_samples=64000, window_size=257),
        ValueError,
        "FilteredNoise has no setting n_samples; .*set hop_samples",
        "ValueError",
    ),
    "bias NaN": (
        lambda: engine.FilteredNoise(initial_bias=float("nan")),
        ValueError,
        "initial_bias must be a finite number, not nan",
        "silent",
    ),
    "delay before 0": (
        lambda: engine.ModDelay(center_ms=-2.0, depth_ms=5.0),
        ValueError,
        "center_ms must be 0 or more",
        "silent",
    ),
    "rate as text": (
        lambda: core.oscillator_bank(numbers(2, 64, 3), numbers(2, 64, 3), "16k"),
        ValueError,
        "sample_rate_hz must be a number above 0, not '16k'",
        "ValueError",
    ),
    "the original's order": (
        lambda: core.fft_convolve(AUDIO, numbers(2, 10), "same"),
        ValueError,
        "delay_compensation must be a whole number, not 'same'",
        "TypeError",
    ),
    "mel edges swapped": (
        lambda: core.mel(AUDIO, 64, 8, low_hz=4000.0, high_hz=100.0),
        ValueError,
        "low_hz 4000.0 must be .* below high_hz 100.0",
        "silent",
    ),
    "more MFCCs than bands": (
        lambda: core.mfcc(AUDIO, 40, 64, n_mels=20),
        ValueError,
        "n_mfccs 40 must not be above n_mels 20",
        "silent",
    ),
    # losses
    "all weights 0": (lambda: engine.SpectralLoss(mag_weight=0.0), ValueError, "must be above 0", "silent"),
    "weight NaN": (
        lambda: engine.SpectralLoss(mag_weight=float("nan")),
        ValueError,
        "mag_weight must be a finite number",
        "silent",
    ),
    "one FFT size": (
        lambda: engine.SpectralLoss(2048),
        ValueError,
        r"fft_sizes must be a sequence of window lengths such as \(2048, 512\), not 2048",
        "TypeError",
    ),
    "embedding by name": (
        lambda: engine.EmbeddingLoss("crepe"),
        ValueError,
        "EmbeddingLoss: model must be a Keras model",
        "AttributeError",
    ),
    "loss group as a list": (
        lambda: engine.LossGroup([(engine.mean_difference, ["audio", "dry"])]),
        ValueError,
        r"LossGroup: losses must map name → \(loss, \[target, value\]\), not list",
        "AttributeError",
    ),
    "loss without outputs": (
        lambda: engine.LossGroup({"spectral": engine.mean_difference}),
        ValueError,
        "loss spectral must be a pair of a loss and the outputs it compares; losses map name →",
        "TypeError",
    ),
    "loss of 1 against 2": (
        lambda: engine.SpectralLoss((64,)).call(AUDIO[:1], AUDIO),
        ValueError,
        r"y_pred has shape \[2, 640\].*B is 1 in y_true",
        "silent",
    ),
    "loss of [B, S, 1]": (
        lambda: engine.SpectralLoss((64,))(AUDIO[..., None], AUDIO[..., None]),
        ValueError,
        "y_true has shape",
        "ValueError",
    ),
    "difference of 1 and 2": (
        lambda: engine.mean_difference(AUDIO[:1], AUDIO),
        ValueError,
        r"value has shape \[2, 640\]",
        "silent",
    ),
    "loss of what is not there": (
        lambda: engine.LossGroup({"a": (engine.mean_difference, ["audio", "dri"])})({"audio": AUDIO, "dry": AUDIO}),
        ValueError,
        "Did you mean dry",
        "not offered",
    ),
    # graphs
    "two of three inputs": (
        lambda: engine.ProcessorGroup({"harmonic": (harmonic(), ["a", "b"])}, ["a", "b"]),
        ModelError,
        r"harmonic \(Harmonic\) takes 3 signals: .*; its inputs name 2: a, b",
        "silent",
    ),
    "group as a list": (
        lambda: engine.ProcessorGroup([(harmonic(), SOURCES)], SOURCES),
        ValueError,
        "nodes of a processor group must map name → .*, not list",
        "AttributeError",
    ),
    "class for processor": (
        lambda: engine.ProcessorGroup({"crop": (engine.Crop, ["audio"])}, ["audio"]),
        ValueError,
        "node crop holds the class Crop; make a processor of it first",
        "TypeError",
    ),
    "inputs as text": (
        lambda: engine.ProcessorGroup({"crop": (engine.Crop(1), "audio")}, ["audio"]),
        ValueError,
        r"inputs of node crop must be a list of names such as \['audio'\]",
        "ModelError",
    ),
    "node without inputs": (
        lambda: engine.ProcessorGroup({"crop": engine.Crop(1)}, ["audio"]),
        ValueError,
        "node crop must be a pair of a processor and the names of its inputs; nodes map name →",
        "TypeError",
    ),
    "slash in a name": (
        lambda: engine.ProcessorGroup({"a/b": (engine.Crop(1), ["audio"])}, ["audio"]),
        ModelError,
        "processor a/b must have a name without a slash",
        "silent",
    ),
    "no node": (
        lambda: engine.ProcessorGroup({}, ["audio"]),
        ModelError,
        "the processor graph has no node",
        "ModelError",
    ),
    "signals without names": (
        lambda: engine.ProcessorGroup({"crop": (engine.Crop(1), ["audio"])}, ["audio"])(AUDIO),
        ValueError,
        "takes its signals by name, a mapping of audio",
        "TypeError",
    ),
    "missing source": (
        lambda: engine.ProcessorGroup(NODES, SOURCES)({"amplitude": F0, "f0_hz": F0}),
        ValueError,
        "harmonic_distribution is missing",
        "KeyError",
    ),
    "wrong shape in a group": (
        lambda: engine.ProcessorGroup(NODES, SOURCES)(dict.fromkeys(SOURCES, F0)),
        ValueError,
        "processor harmonic: Harmonic: harmonic_distribution",
        "silent",
    ),
    "given to no node": (
        lambda: engine.ProcessorGroup(NODES, SOURCES)(dict.fromkeys(SOURCES, F0), given={"harmonics": {}}),
        ValueError,
        "Did you mean harmonic",
        "silent",
    ),
    "misspelt type": (yaml("room: {type: Revreb, inputs: [x]}"), ModelError, "Revreb", "ModelError"),
    "misspelt setting": (
        yaml("h: {type: Harmonic, inputs: [a, b, f0_hz], n_harmonic: 5}"),
        ModelError,
        "n_harmonic",
        "ModelError",
    ),
    "range upside down in yaml": (
        yaml("s: {type: Sinusoidal, inputs: [a, b], hz_min: 900.0, hz_max: 50.0}"),
        ModelError,
        "processor s: hz_min 900.0 must be 0 or more, and below hz_max 50.0",
        "ValueError",
    ),
    "yaml with two of three": (yaml("h: {type: Harmonic, inputs: [a, b]}"), ModelError, "takes 3 signals", "silent"),
    "own class that is none": (
        yaml("h: {type: Own, processor: 'os:getcwd', inputs: [a]}"),
        ModelError,
        "not a subclass of ddsp_cli.engine.Processor",
        "not offered",
    ),
    "frame rate of a model": (
        lambda: engine.group_from_yaml("n: {type: FilteredNoise, inputs: [m]}", 44100, 250),
        ModelError,
        "44100 samples a second cannot be cut into 250 frames",
        "silent",
    ),
    "text for a number in yaml": (
        yaml("a: {type: Add, inputs: [x, y]}\nh: {type: Harmonic, inputs: [a, b, f0_hz], n_harmonics: many}"),
        ModelError,
        "h.n_harmonics must be a whole number, not text",
        "ModelError",
    ),
    "type missing in yaml": (
        yaml("a: {type: Add, inputs: [x, y]}\nh: {inputs: [a, b, f0_hz]}"),
        ModelError,
        "the key type is missing in h",
        "ModelError",
    ),
    # networks
    "no units": (
        lambda: engine.RnnFcDecoder(["f0"], {"a": 1}, 4, 0, 1),
        ValueError,
        "rnn_units must be 1 or more, not 0",
        "ValueError",
    ),
    "no outputs": (
        lambda: engine.RnnFcDecoder(["f0"], {}, 4, 4, 1),
        ValueError,
        "RnnFcDecoder: outputs must map one or more names",
        "ValueError",
    ),
    "features without names": (
        lambda: engine.RnnFcDecoder(["f0"], {"a": 1}, 4, 4, 1)(F0),
        ValueError,
        "RnnFcDecoder takes features by name, a mapping of f0",
        "ValueError",
    ),
    "audio for MFCCs": (
        lambda: engine.TimbreEncoder(4, 4)(AUDIO),
        ValueError,
        r"TimbreEncoder: mfcc has shape \[2, 640\], expected \[B, F, C\]",
        "InvalidArgumentError",
    ),
    "13 for 29 MFCCs": (
        lambda: engine.TimbreEncoder(4, 4)(numbers(2, 10, 13)),
        ValueError,
        "n_mfccs is 29",
        "InvalidArgumentError",
    ),
    "sound in two channels": (
        lambda: engine.MfccEncoder(4, 4)(numbers(2, 640, 2)),
        ValueError,
        r"MfccEncoder: audio has shape \[2, 640, 2\], expected \[B, S\]",
        "ValueError",
    ),
    "preset by name": (
        lambda: engine.Autoencoder("solo"),
        ValueError,
        "config must be a ModelConfig, such as load_preset",
        "AttributeError",
    ),
    "missing feature": (
        lambda: engine.RnnFcDecoder(["f0", "ld"], {"a": 1}, 4, 4, 1)({"f0": F0}),
        ValueError,
        "RnnFcDecoder: the signal ld is missing",
        "KeyError",
    ),
    "feature of two channels": (
        lambda: engine.RnnFcDecoder(["f0"], {"a": 1}, 4, 4, 1)({"f0": numbers(2, 10, 2)}),
        ValueError,
        r"f0 has shape \[2, 10, 2\], expected \[B, F, 1\]",
        "ValueError",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_wrong_use_is_refused_with_a_sentence(name):
    call, error, message, _ = CASES[name]
    with pytest.raises(error, match=message) as caught:
        call()
    assert "Exception encountered" not in str(caught.value)  # Keras' own wrapping, which hides the sentence


def test_misspelt_types_have_a_hint():
    with pytest.raises(ModelError) as caught:
        engine.group_from_yaml("room: {type: Revreb, inputs: [x]}")
    assert "Did you mean Reverb" in caught.value.hint
