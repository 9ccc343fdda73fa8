"""The engine that learns and the runtime that plays are two programs of one model: they must sound the same."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli import bundle
from ddsp_cli.config import HarmonicConfig, ReverbConfig
from ddsp_cli.scaling import scale_db, scale_f0
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.noise import white_noise
from fixtures import impulse_response, make_card, small_model

N_FRAMES = 60


def solo_like():
    """250 frames a second, amplitudes crossfaded by windows, a room learned tap by tap."""
    processors = dict(small_model().processors)
    processors["harmonic"] = HarmonicConfig(inputs=["amplitude", "harmonic_distribution", "f0_hz"], n_harmonics=30)
    processors["reverb"] = ReverbConfig(inputs=["dry"], length_samples=3000)
    return small_model(frame_rate_hz=250, inputs=["ld_scaled", "f0_scaled"], processors=processors)


@pytest.mark.parametrize("model", [small_model(), solo_like()], ids=["vst", "solo"])
def test_engine_and_runtime_agree_to_minus_sixty_decibels(model, tmp_path):
    from ddsp_cli.engine import Autoencoder

    autoencoder = Autoencoder(model, seed=1)
    weights = autoencoder.get_weights_by_name()
    room = next(name for name in weights if name.startswith("reverb/"))
    if room == "reverb/ir":
        weights[room] = impulse_response(3000)
        autoencoder.set_weights_by_name(weights)
    bundle.save(tmp_path / "a", make_card(model), weights, autoencoder.impulse_response(), half_precision=False)
    loaded = bundle.load(tmp_path / "a")

    f0_hz = np.linspace(200, 3000, N_FRAMES, dtype=np.float32)  # upper harmonics pass Nyquist on the way
    level_db = np.linspace(-60, -5, N_FRAMES, dtype=np.float32)
    played = np.concatenate(list(Instrument(loaded).render(f0_hz, level_db, seed=3, block_frames=7)))

    noise = white_noise(np.random.default_rng(3), N_FRAMES, model.hop_samples).reshape(1, -1)
    scaled = scale_db(level_db)
    curves = {"f0_hz": f0_hz, "f0_scaled": scale_f0(f0_hz), "pw_scaled": scaled, "ld_scaled": scaled}
    features = {name: curves[name][None, :, None].astype(np.float32) for name in ("f0_hz", *model.inputs)}
    learned = np.asarray(autoencoder(features, given={"noise": {"noise": noise}})["audio"])[0]

    assert played.shape == learned.shape
    difference = np.abs(played - learned).max() / np.abs(learned).max()
    assert 20 * np.log10(difference) < -60
