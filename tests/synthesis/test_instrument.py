"""An instrument renders the same sound in any blocks, keeps its state, and refuses models that it cannot play."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from ddsp_cli import bundle as bundles
from ddsp_cli import scaling
from ddsp_cli.config import AddConfig, CropConfig, DecoderConfig, ExpDecayReverbConfig, HarmonicConfig, load_preset
from ddsp_cli.errors import ModelError
from ddsp_cli.synthesis.decoder import Decoder, scale_inputs
from ddsp_cli.synthesis.instrument import Instrument
from fixtures import make_bundle, random_weights, small_model


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("models") / "testophone")


def performance(n_frames=150):
    random = np.random.default_rng(0)
    f0_hz = (440 * 2 ** (random.normal(size=n_frames).cumsum() / 60)).astype(np.float32)
    level_db = (-40 + 10 * np.sin(np.arange(n_frames) / 9)).astype(np.float32)
    gate = np.clip(2 * np.sin(np.arange(n_frames) / 20), 0, 1).astype(np.float32)
    return f0_hz, level_db, gate


def render(instrument, frames, **options):
    return np.concatenate(list(instrument.render(*frames, **options)))


def reference_decoder(weights, model, inputs):
    """The decoder frame by frame from its definition, in double precision."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def stack(name, x):
        for j in range(model.decoder.layers_per_stack):
            x = x @ w[f"{name}/{j}/dense/kernel"] + w[f"{name}/{j}/dense/bias"]
            x = (x - x.mean()) / np.sqrt(x.var() + 1e-3) * w[f"{name}/{j}/norm/gamma"] + w[f"{name}/{j}/norm/beta"]
            x = np.where(x > 0, x, 0.2 * x)
        return x

    units = model.decoder.rnn_units
    h, out = np.zeros(units), []
    for frame in inputs.astype(np.float64):
        x = np.concatenate([stack(f"decoder/input_stacks/{n}", frame[i : i + 1]) for i, n in enumerate(model.inputs)])
        a = x @ w["decoder/rnn/kernel"] + w["decoder/rnn/bias"][0]
        b = h @ w["decoder/rnn/recurrent_kernel"] + w["decoder/rnn/bias"][1]
        z, r = sigmoid(a[:units] + b[:units]), sigmoid(a[units : 2 * units] + b[units : 2 * units])
        h = z * h + (1 - z) * np.tanh(a[2 * units :] + r * b[2 * units :])
        y = stack("decoder/out_stack", np.concatenate([x, h]))
        out.append(y @ w["decoder/dense_out/kernel"] + w["decoder/dense_out/bias"])
    return np.array(out)


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("level", ["pw_scaled", "ld_scaled"])
def test_network_computes_its_definition(layers, level):
    model = small_model(
        decoder=DecoderConfig(channels=16, rnn_units=16, layers_per_stack=layers), inputs=[level, "f0_scaled"]
    )
    from fixtures import make_card

    weights = random_weights(model)
    f0_hz, level_db, _ = performance(40)
    inputs = scale_inputs(model, f0_hz, level_db)
    found = Decoder(bundles.Bundle(make_card(model), weights)).step(inputs, f0_hz)
    raw = reference_decoder(weights, model, np.concatenate([inputs[name] for name in model.inputs], axis=1))
    amplitude, distribution, noise = np.split(raw, [1, 21], axis=1)
    expected = {
        "amplitude": scaling.exp_sigmoid(amplitude),
        "harmonic_distribution": scaling.harmonic_distribution(distribution, f0_hz[:, None], 16000),
        "noise_magnitudes": scaling.exp_sigmoid(noise - 5.0),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=1e-6, err_msg=name)


def test_building_a_network_leaves_the_weights_alone(bundle):
    before = {name: value.copy() for name, value in bundle.weights.items()}
    Decoder(bundle)
    assert all((bundle.weights[name] == value).all() for name, value in before.items())


@pytest.mark.parametrize("block_frames", [1, 7, 64])
def test_blocks_do_not_matter(bundle, block_frames):
    instrument, frames = Instrument(bundle), performance()
    whole = render(instrument, frames, block_frames=10_000)
    assert whole.shape == (150 * 320,)
    assert np.abs(render(instrument, frames, block_frames=block_frames) - whole).max() <= 1e-6


def test_pitch_is_followed_between_frames(bundle):
    """A step of F0 in the middle of a frame is played there, though the decoder gets whole frames."""
    instrument, (f0_hz, level_db, gate) = Instrument(bundle), performance()
    held = np.repeat(f0_hz, 4)
    stepped, middle = held.copy(), 4 * 60 + 2
    stepped[middle : middle + 2] *= 1.5
    a, b = (render(instrument, (fine, level_db, gate), room=False) for fine in (held, stepped))
    changed = np.flatnonzero(a != b)
    hop = bundle.card.model.hop_samples
    assert abs(changed[0] - (middle - 1) * hop // 4) <= 1
    in_blocks = render(instrument, (stepped, level_db, gate), room=False, block_frames=7)
    np.testing.assert_allclose(in_blocks, b, atol=1e-5)
    # as many values a frame as make no whole number of samples: the first has to do
    odd = render(instrument, (np.repeat(f0_hz, 7), level_db, gate))
    assert np.array_equal(odd, render(instrument, (f0_hz, level_db, gate)))


def test_a_gate_that_makes_no_whole_samples_holds_the_levels_all_the_same(bundle):
    instrument, (f0_hz, level_db, gate) = Instrument(bundle), performance()
    assert bundle.card.model.hop_samples % 7
    odd = render(instrument, (f0_hz, level_db, np.repeat(gate, 7)), level_correction=True)
    assert np.array_equal(odd, render(instrument, (f0_hz, level_db, gate), level_correction=True))


def test_seed_decides_the_noise(bundle):
    instrument, frames = Instrument(bundle), performance()
    assert (render(instrument, frames, seed=1) == render(instrument, frames, seed=1)).all()
    assert np.abs(render(instrument, frames, seed=1) - render(instrument, frames, seed=2)).max() > 1e-4


@pytest.mark.parametrize("block_frames", [1, 7])
def test_a_gate_that_ends_with_its_frames_acts_at_its_times(bundle, block_frames):
    """Live playing gives the values since the frame before; the last is at the time of the frame."""
    instrument, (f0_hz, level_db, _) = Instrument(bundle), performance()
    n_frames, n_fine, hop = len(level_db), 5, bundle.card.model.hop_samples
    gate = np.random.default_rng(0).uniform(0.1, 1.0, n_frames * n_fine).astype(np.float32)
    streams = [instrument.stream(room=False), instrument.stream(room=False, gate_ends=True)]
    parts: list[list[np.ndarray]] = [[], []]
    for start in range(0, n_frames, block_frames):
        part = slice(start, start + block_frames)
        fine = gate[start * n_fine : (start + block_frames) * n_fine]
        parts[0].append(streams[0].push(f0_hz[part], level_db[part]))
        parts[1].append(streams[1].push(f0_hz[part], level_db[part], fine))
    plain, gated = (np.concatenate(of_stream) for of_stream in parts)
    assert len(plain) == len(gated) > (n_frames - 2) * hop
    times = (np.arange(n_frames * n_fine) - (n_fine - 1)) * hop / n_fine
    np.testing.assert_allclose(gated, plain * np.interp(np.arange(len(plain)), times, gate), atol=1e-5)


def test_gate_silences_before_the_room(bundle):
    instrument, frames = Instrument(bundle), performance()
    shut = np.ones(150, np.float32)
    shut[50:] = 0.0
    dry = render(instrument, (*frames[:2], shut), room=False)
    assert np.abs(dry[: 49 * 320]).max() > 0.01
    assert np.abs(dry[50 * 320 :]).max() == 0.0
    wet = render(instrument, (*frames[:2], shut))
    assert np.abs(wet[50 * 320 : 51 * 320]).max() > 1e-4  # the room goes on
    assert np.abs(wet[50 * 320 + 4100 :]).max() < 1e-6  # for as long as its response


def with_rest(n_before, n_closed, n_after):
    """A performance with a rest: F0, levels and gate."""
    f0_hz, level_db, _ = performance(n_before + n_closed + n_after)
    gate = np.ones(len(level_db), np.float32)
    gate[n_before : n_before + n_closed] = 0.0
    return f0_hz, level_db, gate


@pytest.mark.parametrize("block_frames", [1, 7, 256])
def test_after_a_rest_the_performance_begins_again(bundle, block_frames):
    """The note after a rest of 1 s does not depend on the note before it; after a rest of 0.2 s it does."""
    instrument, n_before, n_after = Instrument(bundle), 40, 30
    hop = instrument.model.hop_samples
    for n_closed, is_same in ((50, True), (10, False)):
        f0_hz, level_db, gate = with_rest(n_before, n_closed, n_after)
        sounds = []
        for earlier_db in (-10.0, -45.0):
            level_db[:n_before] = earlier_db
            blocks = instrument.render(f0_hz, level_db, gate, room=False, block_frames=block_frames)
            sounds.append(np.concatenate(list(blocks))[(n_before + n_closed + 1) * hop :])
        difference = np.abs(sounds[0] - sounds[1]).max()
        assert np.abs(sounds[0]).max() > 1e-3
        assert (difference < 1e-6) == is_same


@pytest.mark.parametrize("block_frames", [1, 7, 256])
def test_a_long_rest_is_no_longer_for_the_decoder_than_a_short_one(bundle, block_frames):
    """It begins again with each 0.3 s (15 frames) of the rest, at the same frames for every block size."""
    stream = Instrument(bundle).stream(room=False)
    decoder, n_seen, resets = stream._decoder, 0, []

    class Watched:
        def reset(self):
            resets.append(n_seen)
            decoder.reset()

        def controls(self, f0_hz, *others):
            nonlocal n_seen
            n_seen += len(f0_hz)
            return decoder.controls(f0_hz, *others)

    stream._decoder = Watched()
    frames = with_rest(20, 100, 30)
    for begin in range(0, len(frames[0]), block_frames):
        stream.push(*(values[begin : begin + block_frames] for values in frames))
    assert resets == [20 + 15 * n - 1 for n in range(1, 7)]


def test_no_frames_no_sound(bundle):
    empty = np.zeros(0, np.float32)
    assert render(Instrument(bundle), (empty, empty, empty)).shape == (0,)


def with_processors(bundle, processors, **changes):
    model = msgspec.structs.replace(bundle.card.model, processors=processors)
    card = msgspec.structs.replace(bundle.card, model=model)
    return bundles.Bundle(card, **({"weights": bundle.weights, "impulse_response": bundle.impulse_response} | changes))


def test_refuses_what_it_cannot_play(bundle):
    good = dict(bundle.card.model.processors)
    harmonic = HarmonicConfig(inputs=["amplitude", "harmonic_distribution", "f0_hz"], n_harmonics=20)
    for processors, words in (
        (good | {"second": harmonic}, "more than one harmonic"),
        (good | {"crop": CropConfig(inputs=["reverb"], location="front")}, "start of the sound"),
        (good | {"sum": AddConfig(inputs=["reverb", "elsewhere"])}, "elsewhere"),
        (good | {"crop": CropConfig(inputs=["dry"])}, "is not used"),
    ):
        with pytest.raises(ModelError, match=words):
            Instrument(with_processors(bundle, processors))
    with pytest.raises(ModelError, match="impulse response"):
        Instrument(with_processors(bundle, good, impulse_response=None))
    Instrument(with_processors(bundle, good | {"crop": CropConfig(inputs=["reverb"])}))


def test_any_room_is_played_as_its_impulse_response(bundle):
    frames = performance()
    nodes = bundle.card.model.processors | {"reverb": ExpDecayReverbConfig(inputs=["dry"], length_samples=4000)}
    other = Instrument(with_processors(bundle, nodes))
    np.testing.assert_array_equal(render(other, frames), render(Instrument(bundle), frames))


def test_refuses_weights_that_do_not_fit(bundle):
    weights = dict(bundle.weights)
    del weights["decoder/rnn/bias"]
    with pytest.raises(ModelError, match="decoder/rnn/bias"):
        Instrument(with_processors(bundle, bundle.card.model.processors, weights=weights))
    weights = bundle.weights | {"decoder/rnn/bias": np.zeros((2, 3), np.float32)}
    with pytest.raises(ModelError, match="shape"):
        Instrument(with_processors(bundle, bundle.card.model.processors, weights=weights))
    weights = bundle.weights | {"decoder/rnn/extra": np.zeros((2, 3), np.float32)}
    with pytest.raises(ModelError, match="extra"):
        Instrument(with_processors(bundle, bundle.card.model.processors, weights=weights))


def test_solo_preset_plays(tmp_path):
    preset = load_preset("solo").model
    model = small_model(inputs=preset.inputs, frame_rate_hz=250)
    instrument = Instrument(make_bundle(tmp_path / "solo", model))
    frames = performance(100)
    whole = render(instrument, frames, block_frames=100)
    assert whole.shape == (100 * 64,)
    assert np.abs(render(instrument, frames, block_frames=7) - whole).max() <= 1e-6


def test_pitch_and_gate_need_as_many_values_in_every_frame(bundle):
    instrument = Instrument(bundle)
    f0_hz, level_db, gate = performance(10)
    for frames in ((np.repeat(f0_hz, 5)[:-1], level_db, gate), (f0_hz, level_db, np.repeat(gate, 2)[1:])):
        with pytest.raises(ValueError, match="each of 10 frames"):
            next(instrument.render(*frames))
