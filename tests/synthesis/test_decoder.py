"""An encoder of timbre: the engine's numbers, as a stream, and a default timbre for sound without any."""

from __future__ import annotations

import numpy as np
import pytest

from ddsp_cli import bundle
from ddsp_cli.analysis.mfcc import mfcc
from ddsp_cli.bundle import Bundle
from ddsp_cli.config import EncoderConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.live.performer import Performer
from ddsp_cli.scaling import scale_db, scale_f0
from ddsp_cli.synthesis.decoder import Decoder, Encoder, FrameQueue
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.synths import white_noise
from fixtures import make_card, melody, small_model

MODEL = small_model(inputs=["pw_scaled", "z", "f0_scaled"], encoder=EncoderConfig(z_dims=4, rnn_units=12, n_mfccs=10))


@pytest.fixture(scope="module")
def made():
    """An autoencoder of random weights, adapted to a melody, and the MFCCs [F, C] of that."""
    from ddsp_cli.engine import Autoencoder

    autoencoder = Autoencoder(MODEL, seed=1)
    found = mfcc(melody(), 50, 10)
    autoencoder.adapt({"mfcc": found[None]})
    return autoencoder, found


@pytest.fixture(scope="module")
def instrument(made, tmp_path_factory):
    autoencoder, _ = made
    folder = tmp_path_factory.mktemp("made") / "a"
    weights = autoencoder.get_weights_by_name()
    bundle.save(folder, make_card(MODEL), weights, autoencoder.impulse_response(), half_precision=False)
    return Instrument(bundle.load(folder))


def phrase(n_frames):
    return np.linspace(200, 900, n_frames, dtype=np.float32), np.linspace(-50, -10, n_frames, dtype=np.float32)


def play(instrument, frames, **options):
    return np.concatenate(list(instrument.render(*frames, **options)))


def test_the_latent_is_the_engines(made, instrument):
    autoencoder, found = made
    z = np.asarray(autoencoder.encoder(found[None]))[0]
    network = Decoder(instrument.bundle)
    ours = np.concatenate([network.encoder(found[:7], 7), network.encoder(found[7:], len(found) - 7)])
    np.testing.assert_allclose(ours, z, atol=1e-4)


def test_engine_and_player_agree_to_minus_sixty_decibels(made, instrument):
    autoencoder, found = made
    f0_hz, level_db = phrase(len(found))
    played = play(instrument, (f0_hz, level_db), seed=3, timbre=[found])
    noise = white_noise(np.random.default_rng(3), len(found), MODEL.hop_samples).reshape(1, -1)
    curves = {"f0_hz": f0_hz, "f0_scaled": scale_f0(f0_hz), "pw_scaled": scale_db(level_db)}
    features = {name: curve[None, :, None].astype(np.float32) for name, curve in curves.items()}
    learned = np.asarray(autoencoder({**features, "mfcc": found[None]}, given={"noise": {"noise": noise}})["audio"])[0]
    assert 20 * np.log10(np.abs(played - learned).max() / np.abs(learned).max()) < -60


@pytest.mark.parametrize("block", [1, 13, 4000])
def test_blocks_do_not_matter(made, instrument, block):
    _, found = made
    audio = melody()
    parts = instrument.timbre(audio[i : i + 97] for i in range(0, len(audio), 97))
    streamed = play(instrument, phrase(len(found)), block_frames=block, timbre=parts)
    np.testing.assert_allclose(streamed, play(instrument, phrase(len(found)), timbre=[found]), atol=1e-4)


def test_timbre_follows_the_input_and_is_the_average_without_one(made, instrument):
    _, found = made
    frames = phrase(len(found))
    alone, followed = play(instrument, frames), play(instrument, frames, timbre=[found])
    assert np.abs(alone - followed).max() > 0.01 * np.abs(alone).max()
    average = np.tile(found.mean(axis=0), (len(found), 1))
    np.testing.assert_allclose(play(instrument, frames, timbre=[average]), alone, atol=1e-4)


@pytest.mark.parametrize("block", [100, 5000])
def test_played_live_it_follows_what_it_hears(made, instrument, block, monkeypatch):
    _, found = made
    heard = []
    monkeypatch.setattr(Encoder, "__call__", lambda self, mfcc, n: heard.append(mfcc) or np.zeros((n, 4), np.float32))
    audio = melody()
    performer = Performer(instrument)
    for i in range(0, len(audio), block):
        performer.push(audio[i : i + block])
    followed = np.concatenate(heard)
    assert len(followed) >= len(found) - 2
    np.testing.assert_allclose(followed, found[: len(followed)], atol=1e-4)


def test_frames_come_as_they_are_wanted_and_the_last_one_lasts():
    rows = np.arange(10.0)[:, None]
    frames = FrameQueue([rows[:3], rows[3:4], rows[4:]])
    taken = [frames.take(n)[:, 0].tolist() for n in (2, 1, 5, 2, 2)]
    assert taken == [[0, 1], [2], [3, 4, 5, 6, 7], [8, 9], [9, 9]]
    assert FrameQueue([]).take(3) is None
    assert FrameQueue([rows[:2]]).take(4)[:, 0].tolist() == [0, 1, 1, 1]


def test_a_bundle_without_its_encoder_is_refused(instrument):
    weights = {name: value for name, value in instrument.bundle.weights.items() if name != "encoder/mean"}
    with pytest.raises(ModelError, match="lacks the weight encoder/mean"):
        Decoder(Bundle(instrument.bundle.card, weights))
