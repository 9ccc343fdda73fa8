"""The presets that come with the program: their sizes, that they learn, and that 48 kHz is learned up to the top."""

from __future__ import annotations

import re

import keras
import msgspec
import numpy as np
import pytest

from ddsp_cli import scaling
from ddsp_cli.config import FilteredNoiseReverbConfig, Preset, load_preset, parse_yaml, preset_names
from ddsp_cli.dataset.loader import Examples
from ddsp_cli.engine import Autoencoder
from ddsp_cli.scaling import scale_db, scale_f0
from ddsp_cli.training import loop
from ddsp_cli.training.pretrain import pretrain
from ddsp_cli.training.windows import Windows
from page_fixtures import ROOT, code_blocks

#: Weights of network and room; docs/presets.md tells them.
PARAMETERS = {
    "light": 477_950 + 16_000,
    "vst": 1_873_278 + 16_000,
    "solo": 4_801_150 + 48_000,
    "tiny": 232_314 + 16_000,  # the paper's 0.24 M, and a room
    "autoencoder": 7_249_648,
    "hifi": 547_194 + 48_500,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_sizes(name):
    assert sum(v.size for v in Autoencoder(load_preset(name).model).get_weights_by_name().values()) == PARAMETERS[name]


def test_the_page_tells_the_sizes_and_shows_a_preset():
    page = (ROOT / "docs" / "presets.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(\w+)` \|.*\| ([\d,+ ]+) \|$", page, flags=re.MULTILINE)
    assert {name: sum(int(n.replace(",", "")) for n in sizes.split("+")) for name, sizes in told} == PARAMETERS
    (example,) = code_blocks(page, "yaml")
    assert parse_yaml(example, Preset, "docs/presets.md").training.schedule == "cosine"


def shrunk(preset: Preset) -> Preset:
    """The same graph, rates and loss with a network of a few hundred weights and a short room."""
    model = preset.model
    decoder = msgspec.structs.replace(model.decoder, channels=16, rnn_units=16)
    processors = dict(model.processors)
    if room := model.only(FilteredNoiseReverbConfig):
        processors[room[0]] = msgspec.structs.replace(room[1], length_samples=600, n_frames=20)
    changes = {"decoder": decoder, "processors": processors}
    if model.encoder:
        changes["encoder"] = msgspec.structs.replace(model.encoder, rnn_units=16)
    return msgspec.structs.replace(preset, model=msgspec.structs.replace(model, **changes))


def tone(preset: Preset, partials: dict[int, float], f0_hz: float, seconds: float = 0.32):
    """A batch of one held tone at the preset's rate, with the given amplitudes by harmonic."""
    model = preset.model
    n_frames = round(seconds * model.frame_rate_hz)
    t = np.arange(n_frames * model.hop_samples) / model.sample_rate_hz
    audio = sum(amplitude * np.sin(2 * np.pi * k * f0_hz * t) for k, amplitude in partials.items())
    f0 = np.full((1, n_frames, 1), f0_hz, np.float32)
    level = np.full_like(f0, scale_db(-20.0))
    inputs = {"f0_hz": f0, "f0_scaled": scale_f0(f0), "pw_scaled": level, "ld_scaled": level}
    inputs = {name: inputs[name].astype(np.float32) for name in ("f0_hz", *model.scaled_inputs)}
    if model.encoder:
        inputs["mfcc"] = np.zeros((1, n_frames, model.encoder.n_mfccs), np.float32)
    return inputs, audio[None].astype(np.float32)


def learn(preset: Preset, batch, n_steps: int, learning_rate: float) -> tuple[Autoencoder, list[float]]:
    keras.utils.set_random_seed(0)
    model = Autoencoder(preset.model, preset.training.loss, seed=0)
    model.compile(optimizer=keras.optimizers.Adam(learning_rate), run_eagerly=keras.config.backend() == "torch")
    return model, [float(model.train_on_batch(*batch, return_dict=True)["loss"]) for _ in range(n_steps)]


@pytest.mark.slow
@pytest.mark.parametrize("name", preset_names())
def test_the_loss_falls(name):
    preset = shrunk(load_preset(name))
    batch = tone(preset, {k: 0.1 / k for k in range(1, 8)}, 440.0)
    _, running = learn(preset, batch, 30, 0.01)  # the mean of all losses so far
    assert np.isfinite(running).all()
    assert running[-1] < 0.9 * running[0]


@pytest.mark.slow
def test_hifi_learns_harmonics_above_8_khz_one_by_one():
    """From measured controls: no sound above 8 kHz is rendered in training."""
    preset = shrunk(load_preset("hifi"))
    f0_hz, formant = 500.0, (24, 25)  # two of the harmonics above 8 kHz sound, at 12 and 12.5 kHz
    n_samples, n_frames = 48000, 250
    t = np.arange(n_samples) / 48000
    audio = sum(a * np.sin(2 * np.pi * k * f0_hz * t) for k, a in {1: 0.1, 2: 0.05, 24: 0.05, 25: 0.05}.items())
    noise = np.random.default_rng(0).normal(size=n_samples)
    flat = np.ones((2, n_frames), np.float32)
    sound = np.tile(audio + 1e-4 * noise, (2, 1)).astype(np.float32)
    windows = Windows(Examples(sound, f0_hz * flat, flat, -20 * flat, -20 * flat), preset.model, 250)
    model = loop.build(preset, seed=0)
    pretrain(model, windows, 300, 2, seed=0, compiled=False, report=lambda step: None, learning_rate=0.02)
    raw = model.raw_controls(windows.inputs)
    shape_db = 20 * np.log10(scaling.exp_sigmoid(np.asarray(raw["harmonic_distribution"])[0, -1], threshold=0.0))
    k = np.arange(1, len(shape_db) + 1)
    others = (k * f0_hz > 8000) & (k * f0_hz < 20000) & ~np.isin(k, formant)
    assert shape_db[np.isin(k, formant)].min() > np.median(shape_db[others]) + 15
    beside = np.isin(k, (22, 23, 26, 27))
    assert shape_db[np.isin(k, formant)].min() > shape_db[beside].max() + 10
