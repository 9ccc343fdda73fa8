"""Bundles on disk: round trip, damage, files that are never overwritten."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import yaml

from ddsp_cli import bundle
from ddsp_cli.atomic import recover
from ddsp_cli.errors import ModelError, OutputError
from fixtures import make_bundle, make_card, random_weights, small_model


def test_round_trip_keeps_weights_to_half_precision(tmp_path):
    model = small_model()
    weights = random_weights(model)
    response = np.r_[0, np.random.default_rng(0).normal(size=99)].astype(np.float32)
    bundle.save(tmp_path / "a", make_card(model), weights, response, preview=np.zeros(1600, np.float32))
    loaded = bundle.load(tmp_path / "a")
    assert loaded.weights.keys() == weights.keys()
    for name, value in weights.items():
        np.testing.assert_allclose(loaded.weights[name], value, rtol=1e-3, atol=1e-6)
        assert loaded.weights[name].dtype == np.float32
    np.testing.assert_array_equal(loaded.impulse_response, response)
    assert set(loaded.card.files) == {"weights.safetensors", "impulse_response.wav", "preview.ogg"}
    assert loaded.card.model == model
    bundle.save(tmp_path / "b", make_card(model), weights, half_precision=False)
    exact = bundle.load(tmp_path / "b").weights
    assert all(np.array_equal(exact[name], value) for name, value in weights.items())


def test_a_single_number_stays_one(tmp_path):
    """Gain and decay of an ExpDecayReverb: with an axis they did not fit the model again."""
    weights = random_weights(small_model()) | {"reverb/gain": np.array(0.5, np.float32)}
    bundle.save(tmp_path / "a", make_card(small_model()), weights)
    assert bundle.load(tmp_path / "a").weights["reverb/gain"].shape == ()


def test_nothing_is_overwritten_without_force(tmp_path):
    make_bundle(tmp_path / "a")
    before = (tmp_path / "a" / "model.yaml").read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        bundle.save(tmp_path / "a", make_card(small_model()), random_weights(small_model(), 5))
    assert (tmp_path / "a" / "model.yaml").read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_failed_write_leaves_the_old_one(tmp_path, monkeypatch):
    make_bundle(tmp_path / "a")
    before = bundle.load(tmp_path / "a").weights

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        bundle.save(tmp_path / "a", make_card(small_model()), random_weights(small_model(), 5), force=True)
    after = bundle.load(tmp_path / "a").weights
    assert all(np.array_equal(after[name], value) for name, value in before.items())
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def _edit_card(folder, **changes):
    card = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
    (folder / "model.yaml").write_text(yaml.safe_dump(card | changes), encoding="utf-8")


def test_only_instruments_are_replaced(tmp_path):
    """With force an instrument is replaced, and other files in its folder are kept; any other folder is refused."""
    folder = tmp_path / "a"
    make_bundle(folder)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    (folder / "takes").mkdir()
    (folder / "takes" / "1.wav").touch()
    make_bundle(folder, seed=1)
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert (folder / "takes" / "1.wav").is_file()
    assert bundle.load(folder).card.name == "a"
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "letter.txt").touch()
    with pytest.raises(OutputError, match="documents exists and is not an instrument, so it is not replaced"):
        make_bundle(documents)
    assert [entry.name for entry in documents.iterdir()] == ["letter.txt"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "documents"]


def test_damage_is_noticed(tmp_path):
    folder = tmp_path / "a"
    make_bundle(folder)
    weights = folder / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelError, match="damaged"):
        bundle.load(folder)
    weights.unlink()
    with pytest.raises(ModelError, match="missing"):
        bundle.load(folder)


def test_a_card_cannot_point_outside_its_folder(tmp_path):
    folder = tmp_path / "a"
    made = make_bundle(folder)
    (tmp_path / "secret").write_bytes(b"x")
    _edit_card(folder, files=made.card.files | {"../secret": "0" * 64})
    with pytest.raises(ModelError, match="outside its folder"):
        bundle.load(folder)


def test_other_format_versions_are_refused(tmp_path):
    make_bundle(tmp_path / "a")
    _edit_card(tmp_path / "a", format=99)
    with pytest.raises(ModelError, match="bundle format 99") as caught:
        bundle.load(tmp_path / "a")
    assert caught.value.hint == "Update ddsp."


def test_an_instrument_survives_a_kill(tmp_path):
    """Killed between the two renames of a save: the instrument comes back."""
    made = make_bundle(tmp_path / "a")
    work = tmp_path / ".ddsp-0123456789ab"
    work.mkdir()
    (work / "lock").touch()
    (work / "plan.json").write_text('{"target": "a"}', encoding="utf-8")
    (tmp_path / "a").rename(work / "old")
    recover(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    assert bundle.load(tmp_path / "a").card == made.card


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e10])  # 1e10 is infinite in half precision
def test_weights_that_are_not_numbers_never_replace_an_instrument(tmp_path, monkeypatch, value):
    before = make_bundle(tmp_path / "a")
    weights = before.weights | {"decoder/dense_out/bias": np.full(38, value)}
    with pytest.raises(ModelError, match="cannot be used"):
        bundle.save(tmp_path / "a", before.card, weights, force=True)
    assert bundle.load(tmp_path / "a").card == before.card
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    with monkeypatch.context() as patch:  # as earlier versions wrote it
        patch.setattr("ddsp_cli.bundle.folder.load", lambda folder: None)
        bundle.save(tmp_path / "a", before.card, weights, force=True)
    with pytest.raises(ModelError, match="NaN"):
        bundle.load(tmp_path / "a")


@pytest.mark.parametrize("header", [b"\xff" * 8, struct.pack("<Q", 2**62), struct.pack("<Q", 4) + b"nope", b""])
def test_garbage_in_place_of_weights(tmp_path, header):
    folder = tmp_path / "a"
    make_bundle(folder)
    (folder / "weights.safetensors").write_bytes(header)
    import hashlib

    card = bundle.load_card(folder)
    _edit_card(folder, files=card.files | {"weights.safetensors": hashlib.sha256(header).hexdigest()})
    with pytest.raises(ModelError, match="not a readable weights file"):
        bundle.load(folder)


def test_no_pickle_anywhere(tmp_path):
    """A weights file is a JSON header and raw numbers, whoever reads it."""
    make_bundle(tmp_path / "a")
    data = (tmp_path / "a" / "weights.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert all(set(entry) == {"dtype", "shape", "data_offsets"} for key, entry in header.items() if key[0] != "_")


def test_a_folder_that_is_no_bundle(tmp_path):
    with pytest.raises(ModelError, match="not a ddsp instrument"):
        bundle.load(tmp_path)


def test_every_flipped_bit_of_the_card_and_the_preview_is_noticed(tmp_path):
    folder = tmp_path / "a"
    model = small_model()
    preview = np.sin(np.arange(8000) * 0.2).astype(np.float32) * 0.5
    bundle.save(folder, make_card(model), random_weights(model), preview=preview)
    random = np.random.default_rng(0)
    for name in ("model.yaml", "preview.ogg"):
        whole = (folder / name).read_bytes()
        for _ in range(100):
            at, bit = random.integers(len(whole)), random.integers(8)
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            (folder / name).write_bytes(flipped)
            with pytest.raises(ModelError):
                bundle.load(folder)
        (folder / name).write_bytes(whole)
    (folder / "preview.ogg").unlink()
    bundle.load(folder)


def test_a_card_without_a_digest_is_read(tmp_path):
    """Of an older version, or edited by hand."""
    made = make_bundle(tmp_path / "a")
    path = tmp_path / "a" / "model.yaml"
    text, _, _ = path.read_text(encoding="utf-8").partition("# sha256")
    path.write_text(text.replace("random weights", "edited"), encoding="utf-8")
    card = bundle.load(tmp_path / "a").card
    assert card == bundle.revise(made.card, description="edited")


HOSTILE = {
    "a window of 10^8 samples": ("features", "power_window_samples", 10**8),
    "10^9 layers": ("model", "decoder", {"layers_per_stack": 10**9}),
    "10^9 units": ("model", "decoder", {"rnn_units": 10**9}),
    "an hour of room": ("model", "processors", {"reverb": {"type": "Reverb", "inputs": [], "length_samples": 1 << 28}}),
    "NaN": ("features", "floor_db", float("nan")),
    "infinity": ("training", "wall_s", float("inf")),
    "NaN among the percentiles": ("statistics", "pitch_midi", [float("nan")] * 101),
    "too many percentiles": ("statistics", "power_db", [0.0] * 10_000),
    "a seed beyond all": ("training", "seed", 10**400),
    "a long name": ("training", "preset", "x" * 100_000),
}


@pytest.mark.parametrize(("section", "key", "value"), HOSTILE.values(), ids=HOSTILE)
def test_sizes_in_a_card_are_bounded(tmp_path, section, key, value):
    folder = tmp_path / "a"
    make_bundle(folder)
    card = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
    card[section][key] = card[section][key] | value if isinstance(value, dict) else value
    _edit_card(folder, **card)
    with pytest.raises(ModelError, match=f"{section}.{key}|valid YAML"):
        bundle.load(folder)


def test_a_card_is_not_larger_than_cards_are(tmp_path):
    make_bundle(tmp_path / "a")
    with (tmp_path / "a" / "model.yaml").open("ab") as stream:
        stream.write(b"#" * bundle.card.MAX_CARD_BYTES)
    with pytest.raises(ModelError, match="larger than 2 MB"):
        bundle.load(tmp_path / "a")


@pytest.mark.parametrize(("n_samples", "value", "words"), [(61 * 16000, 0.0, "limit for an impulse response"),
                                                           (100, np.nan, "NaN")])  # fmt: skip
def test_an_impulse_response_is_one(tmp_path, n_samples, value, words):
    model = small_model()
    with pytest.raises(ModelError, match=words):
        bundle.save(tmp_path / "a", make_card(model), random_weights(model), np.full(n_samples, value, np.float32))
    assert not list(tmp_path.iterdir())
