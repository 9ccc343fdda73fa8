"""`ddsp models`: groups, the map, and instruments mixed in the space of the base."""

from __future__ import annotations

import os

import msgspec
import numpy as np
import pytest

from ddsp_cli import bundle
from ddsp_cli.cli.models import plot_characters
from ddsp_cli.errors import ModelError, OutputError, UsageError
from ddsp_cli.lock import exclusive, lock_file
from ddsp_cli.synthesis.decoder import instrument_vectors, model_at_vector
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.workflows import models, space
from ddsp_cli.workflows.transfer import transfer_files
from fixtures import make_bundle, melody
from test_cli import ddsp


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def base():
    return bundle.load(models.base_folder())


def test_a_blend_is_between_its_parts(base):
    folder = space.blend("flute:3+cello:1", "hybrid")
    made, known = bundle.load(folder), instrument_vectors(base.card.model, base.weights)
    expected = 0.75 * known["flute"] + 0.25 * known["cello"]
    np.testing.assert_allclose(made.card.training.vector, expected, atol=1e-4)
    flute, cello = (bundle.load(models.find(name)).card for name in ("flute", "cello"))
    for low, got, high in zip(cello.statistics.pitch_midi, made.card.statistics.pitch_midi,
                              flute.statistics.pitch_midi, strict=True):  # fmt: skip
        assert got == pytest.approx(0.75 * high + 0.25 * low, abs=1e-3)
    titles = {source.title for source in made.card.sources}
    assert titles >= {source.title for card in (flute, cello, base.card) for source in card.sources}
    assert base.card.licence in made.card.licence
    # what plays is the base at that vector
    _, weights = model_at_vector(base.card.model, base.weights, np.asarray(made.card.training.vector, np.float32))
    np.testing.assert_allclose(made.weights["decoder/rnn/bias"], weights["decoder/rnn/bias"], atol=2e-2)


def test_a_blend_is_an_instrument_like_any_other(desk):
    import soundfile

    space.blend("flute+cello", "hybrid")
    soundfile.write("voice.wav", melody(), 16000)
    (_,) = transfer_files("voice.wav", "hybrid", "out.wav")
    audio, rate_hz = soundfile.read("out.wav")
    assert rate_hz == 48000
    assert np.sqrt(np.mean(audio**2)) > 1e-3
    again = space.blend("hybrid:1+flute:1", "third")  # a blend has a place of its own
    assert bundle.load(again).card.training.vector != bundle.load(models.find("hybrid")).card.training.vector
    with pytest.raises(OutputError, match="exists"):
        space.blend("flute+cello", "hybrid")


def test_the_place_of_a_blend_is_checked_before_it_is_rendered_and_locked(desk, monkeypatch):
    (desk / "models").mkdir()
    held = exclusive(lock_file(models.OWN / "hybrid"), "hybrid", "training", "folder")
    with held, pytest.raises(OutputError, match=r"is writing .*hybrid just now"):
        space.blend("flute+cello", "hybrid")
    assert not (desk / "models" / "hybrid").exists()
    make_bundle(desk / "models" / "hybrid")
    monkeypatch.setattr(space, "_preview", lambda _: pytest.fail("it was rendered"))
    with pytest.raises(OutputError, match="exists already"):
        space.blend("flute+cello", "hybrid")


def test_the_learned_room_of_a_blend_is_its_weight():
    made = bundle.load(space.blend("flute+cello", "hybrid"))
    np.testing.assert_array_equal(made.impulse_response, made.weights["reverb/ir"])
    Instrument(made)


def test_what_has_no_place_in_the_space_is_refused(desk):
    make_bundle(desk / "models" / "testophone")
    with pytest.raises(ModelError, match="testophone has no vector in the space of the base"):
        space.blend("flute+testophone", "hybrid")
    for words in ("flute", "flute:0.5", "flute:0.5+flute"):
        with pytest.raises(UsageError, match="a blend needs at least two instruments, and flute"):
            space.blend(words, "hybrid")
    with pytest.raises(UsageError, match="is a blend over time"):
        space.blend("0:flute 8s:cello", "hybrid")
    with pytest.raises(UsageError, match="bundled"):
        space.blend("flute+cello", "violin")
    assert not (desk / "models" / "hybrid").exists()


@pytest.mark.parametrize("vector", [[1.0], [0.0] * 500, []])
def test_a_vector_of_another_length_is_no_place(desk, base, vector):
    """A card of a stranger may say whose base it belongs to, and anything as its vector."""
    card = make_bundle(desk / "models" / "testophone").card
    training = msgspec.structs.replace(card.training, base=base.weights_digest, vector=vector)
    found = bundle.Bundle(msgspec.structs.replace(card, training=training), {})
    with pytest.raises(ModelError, match="has no vector in the space of the base"):
        space.vector_of(found, base)


def test_a_random_blend_follows_the_seed():
    drawn = [bundle.load(space.blend(None, name, seed)).card for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    assert drawn[0].training.vector == drawn[1].training.vector != drawn[2].training.vector


def test_the_map_has_all_playable_instruments_and_a_blend_is_inside(desk):
    for name, share in (("flutelike", 0.95), ("hybrid", 0.5), ("violinlike", 0.05)):
        space.blend(f"flute:{share}+violin:{1.0 - share:.2f}", name)
    make_bundle(desk / "models" / "testophone")
    (desk / "models" / "broken").mkdir()
    (desk / "models" / "broken" / "model.yaml").write_text("format: 1\n")
    found = space.map_instruments("map.png")
    assert found.left_out == ("broken",)
    assert {"testophone", "hybrid", "flute"} <= set(found.timbres.names)
    assert (found.families["hybrid"], found.families["flute"]) == ("blends", "woodwind")
    place = dict(zip(found.timbres.names, found.timbres.places[:, 0], strict=True))
    ends = place["flutelike"], place["violinlike"]
    assert min(ends) < place["hybrid"] < max(ends), "the network of the base plays all three"
    assert (desk / "map.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OutputError):
        space.map_instruments("map.png")


def test_characters_keep_names_apart():
    names = ["left", "right", "top", "near left"]
    lines = plot_characters(names, [(0.0, 0.0), (10.0, 0.0), (5.0, 5.0), (0.1, 0.0)], 40, 9)
    assert all(len(line) == 42 for line in lines)
    text = "\n".join(lines)
    assert all(text.count(f"* {name}") == 1 for name in names)
    assert "* top" in lines[1]
    assert lines[-2].index("left") < lines[-2].index("right")


def test_the_command_lists_by_family_blends_and_draws(desk):
    make_bundle(desk / "models" / "my-viola")
    made = ddsp("models", "blend", "flute:0.5+cello:0.5", "--name", "hybrid", cwd=desk)
    assert b"mixed in the space of the base" in made.stdout, made.stderr
    lines = ddsp("models", cwd=desk).stdout.decode().splitlines()
    families = [line.split()[1] for line in lines[1:]]
    order = list(dict.fromkeys(families))
    assert order == ["woodwind", "brass", "strings", "blends"]
    assert families == sorted(families, key=order.index)
    assert any(line.split()[:2] == ["my-viola", "strings"] for line in lines)
    drawn = ddsp("models", "--map", cwd=desk).stdout.decode()
    assert "* hybrid" in drawn and "most alike" in drawn
    assert max(map(len, drawn.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "said"),
    [(("blend", "flute+cello"), "needs a name"), (("blend", "flute:0.5"), "needs at least two instruments"),
     (("blend",), "no instruments were named"), (("share",), "no instrument was named"),
     (("blend", "--name", "x"), "one word, or --random"),
     (("flute", "--map"), "leave the name out"), (("flute", "--name", "x"), "belongs to"),
     (("blend", "flute+cello", "--random", "--name", "x"), "one word, or --random")],
)  # fmt: skip
def test_wrong_words_get_a_sentence(words, said, desk):
    done = ddsp("models", *words, cwd=desk)
    assert done.returncode != os.EX_OK if hasattr(os, "EX_OK") else done.returncode
    assert said in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
