"""The card of an instrument: range and gaps of its recordings, and the family that follows from its name."""

from __future__ import annotations

import os

import numpy as np
import pytest

from ddsp_cli import bundle
from ddsp_cli.bundle import Statistics, TrainingRecord
from ddsp_cli.bundle.card import (
    describe_ranges,
    family_of,
    family_of_name,
    learned_ranges_midi,
    missing_recordings,
    renamed,
)
from fixtures import make_card, small_model


def statistics(pitch_midi: np.ndarray, power_db: np.ndarray) -> Statistics:
    levels = [float(value) for value in power_db]
    return Statistics([float(value) for value in pitch_midi], levels, levels, 30.0)


WIDE, NARROW = np.linspace(48.0, 84.0, 101), np.linspace(60.0, 67.0, 101)
LOUD_AND_SOFT, ONE_LEVEL = np.linspace(-45.0, -10.0, 101), np.linspace(-24.0, -20.0, 101)


def test_nothing_is_missing_in_a_wide_range_at_several_levels():
    assert missing_recordings(statistics(WIDE, LOUD_AND_SOFT), "power_db") == []


def test_a_narrow_range_and_one_loudness_are_named():
    found = missing_recordings(statistics(NARROW, ONE_LEVEL), "power_db")
    assert found[0] == "only C4 to G4 was recorded: outside this range its tone is extrapolated"
    assert found[1].startswith("one loudness only: half of the recordings lies within 2.0 dB")
    assert len(found) == 2


def test_several_ranges_are_parted_by_commas():
    pitch_midi = np.concatenate([np.linspace(59.0, 71.0, 40), np.full(30, 80.0), np.full(31, 92.0)])
    assert describe_ranges(statistics(pitch_midi, ONE_LEVEL)) == "B3 to B4, G#5 and G#6"


def test_a_gap_parts_what_was_heard():
    pitches = np.concatenate([np.linspace(48, 52, 50), np.linspace(72, 84, 51)])
    low, high = learned_ranges_midi(statistics(pitches, LOUD_AND_SOFT))
    assert (low[1], high[0]) == (52.0, 72.0)
    (said,) = missing_recordings(statistics(pitches, LOUD_AND_SOFT), "power_db")
    assert said == "only C3 to E3 and C5 to C6 were recorded: outside these ranges its tone is extrapolated"


def test_a_single_note_is_named_once():
    pitches = np.concatenate([np.linspace(47.8, 48.2, 50), np.linspace(72, 84, 51)])
    (said,) = missing_recordings(statistics(pitches, LOUD_AND_SOFT), "power_db")
    assert said == "only C3 and C5 to C6 were recorded: outside these ranges its tone is extrapolated"


def test_single_frames_of_a_tracker_do_not_widen_the_range():
    pitches = NARROW.copy()
    pitches[0], pitches[100] = 20.0, 110.0
    assert describe_ranges(statistics(pitches, LOUD_AND_SOFT)) == "C4 to G4"


@pytest.mark.parametrize(
    ("name", "family"),
    [("flute", "woodwind"), ("alto_sax", "woodwind"), ("bass-clarinet", "woodwind"), ("English horn", "woodwind"),
     ("french_horn", "brass"), ("my-violins", "strings"), ("double_bass", "strings"), ("bass guitar", "plucked"),
     ("alto", "voice"), ("testophone", "other")],
)  # fmt: skip
def test_names_tell_families(name, family):
    assert family_of_name(name) == family


def test_a_name_that_tells_nothing_leaves_it_to_what_an_instrument_began_as():
    training = TrainingRecord("hifi", 100, 0, started_from="base", nearest="cello")
    assert family_of(make_card(small_model(), name="grandpa", training=training)) == "strings"
    assert family_of(make_card(small_model(), name="my-flute", training=training)) == "woodwind"
    mixed = TrainingRecord("blend", 0, 0, started_from="base")
    assert family_of(make_card(small_model(), name="my-flute", training=mixed)) == "blends"
    assert family_of(make_card(small_model())) == "other"


def test_another_name_leaves_an_instrument_in_its_family():
    cello = make_card(small_model(), name="cello")
    axe = renamed(cello, "axe")
    assert (axe.name, family_of(axe)) == ("axe", "strings")
    assert family_of(renamed(axe, "my-flute")) == "strings"
    assert renamed(cello, "my-viola").family == "", "its name tells it"
    assert family_of(renamed(make_card(small_model()), "oboe")) == "woodwind", "what told nothing is what it is called"


def test_a_card_is_replaced_whole(tmp_path, monkeypatch):
    """An instrument whose card is half written would be lost."""
    before = make_card(small_model(), name="viola")
    bundle.write_card(tmp_path, before)
    replace = os.replace

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        bundle.write_card(tmp_path, renamed(before, "gamba"))
    monkeypatch.setattr(os, "replace", replace)
    assert bundle.load_card(tmp_path).name == "viola"
    assert [path.name for path in tmp_path.iterdir()] == ["model.yaml"]
    bundle.write_card(tmp_path, renamed(before, "gamba"))
    assert bundle.load_card(tmp_path).name == "gamba"
