"""Readers of the files of strangers: whole files are read, damaged ones are read or refused in one sentence."""

from __future__ import annotations

import itertools
import math
import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddsp_cli.adaptation.curves import read_controls
from ddsp_cli.adaptation.midi import LONGEST_S, lead_line, read_midi, split_voices
from ddsp_cli.adaptation.notes import EditedNote, read_edited, rearrange, transcribe
from ddsp_cli.adaptation.segmentation import find_segments
from ddsp_cli.bundle import Card, load_card
from ddsp_cli.config import Preset, dump_yaml, load_preset, parse_yaml
from ddsp_cli.dataset.executors import check_cluster
from ddsp_cli.dataset.manifest import Manifest
from ddsp_cli.errors import DdspError, InputError, ModelError
from ddsp_cli.remote import check_address, is_address
from ddsp_cli.workflows import models
from fixtures import make_card, small_model
from performance_fixtures import sung

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from fuzz_guided import NAMES, readers  # noqa: E402
from small import damaged  # noqa: E402


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory):
    return readers(tmp_path_factory.mktemp("readers"))


def test_all_readers_are_fed(found):
    assert set(found) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_whole_files_are_read_and_damaged_ones_answered(found, name):
    reader, dice = found[name], random.Random(0)
    for content in reader.whole:
        reader.read(content)
        for _ in range(20):
            try:
                reader.read(damaged(content, dice, len(content)))
            except reader.allowed:
                pass
            except DdspError as problem:
                assert problem.message
                assert "\n" not in problem.message


pytestmark = pytest.mark.filterwarnings("error")
fuzzed = settings(
    max_examples=int(os.environ.get("DDSP_FUZZ_EXAMPLES", "60")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip

#: Scalars that PyYAML resolves to something, or fails to.
SCALARS = st.one_of(
    st.sampled_from([
        "", "~", ".nan", ".inf", "-.INF", "!!int x", "!!float ''", "!!timestamp x", "!!binary =",
        "2024-13-99", "0x", "0b_", "1:2:3", "=", "<<",
        "1e400", "1.0e+400", "1" + "0" * 400, "yes", "*a", "&a b",
        "? b", "|", ">", "%", "@", "`", "'", '"', "\t", "[", "{", "- ", "# ", "\x85",
    ]),
    st.integers().map(str), st.floats().map(repr), st.text(max_size=20),
)  # fmt: skip

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def read(text: str, kind: type) -> None:
    """Text is read or refused; values that were read are finite, and can be written again."""
    try:
        found = parse_yaml(text, kind, "x.yaml")
    except ModelError as problem:
        assert "\n" not in problem.message
        assert len(problem.message) < 1000
        return
    assert parse_yaml(dump_yaml(found), kind, "x.yaml") == found


@fuzzed
@given(st.text(max_size=300), st.sampled_from([Card, Preset, Manifest]))
def test_any_text(text, kind):
    read(text, kind)


@fuzzed
@given(st.data())
def test_a_card_with_lines_replaced(data):
    lines = dump_yaml(make_card(small_model())).splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        key, colon, _ = lines[at].partition(":")
        lines[at] = f"{key}{colon} {data.draw(SCALARS)}"
    read("\n".join(lines), Card)


@fuzzed
@given(st.data())
def test_a_preset_with_values_replaced(data):
    plain = yaml.safe_load(dump_yaml(load_preset("vst")))
    place = plain
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[key], dict) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(PLAIN)
    read(yaml.safe_dump(plain), Preset)


@fuzzed
@given(st.binary(max_size=300))
def test_a_card_of_any_bytes(tmp_path, content):
    (tmp_path / "model.yaml").write_bytes(content)
    with pytest.raises(ModelError):
        load_card(tmp_path)


@fuzzed
@given(st.lists(st.lists(SCALARS | st.floats(-100, 100).map(str), min_size=1, max_size=5), max_size=6))
def test_a_table_of_any_cells(tmp_path, rows):
    path: Path = tmp_path / "x.csv"
    text = "\n".join(["time_s,f0_hz,power_db,gate", *(",".join(row) for row in rows)])
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        found = read_controls(path, "power_db", 50)
    except (InputError, DdspError):
        return
    assert all(math.isfinite(value) for value in found.f0_hz)


FEATURES = sung()
NOTES = transcribe(FEATURES, find_segments(FEATURES))
COLUMNS = ("number", "start_s", "length_s", "note", "midi", "cents", "level_db", "velocity", "vibrato_cents")
CELLS = st.one_of(
    st.sampled_from(["", "1", "4", "0.5", "60", "C4", "nan", "inf", "1e308", "-1e308", "1e-320", "C" + "9" * 400]),
    st.integers(-5, 200).map(str), st.floats().map(repr), st.floats(-200, 200).map(str), st.text(max_size=8),
)  # fmt: skip


@fuzzed
@given(st.lists(st.dictionaries(st.sampled_from(COLUMNS), CELLS), max_size=4), st.sampled_from(",;\t"))
def test_notes_of_any_cells(tmp_path, rows, delimiter):
    """Curves made of them are finite, and as long as the notes say."""
    path: Path = tmp_path / "x.csv"
    lines = [
        COLUMNS,
        *([{"start_s": "1", "length_s": "0.2", "midi": "60", **row}.get(name, "") for name in COLUMNS] for row in rows),
    ]
    text = "\n".join(delimiter.join(line) for line in lines)
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        edited = read_edited(path, NOTES)
        # Long ones are bounded by the reader; here they would only take time.
        found = rearrange(FEATURES, NOTES, [note for note in edited if note.stop_s < 60.0] or [STILL])
    except InputError as problem:
        assert "\n" not in problem.message.replace(text, "")
        assert len(problem.message) < 1000
        return
    for curve in (found.f0_hz, found.power_db, found.loudness_db, found.f0_confidence):
        assert np.isfinite(curve).all()
    assert all(0.0 <= note.midi <= 127.0 and 0.0 <= note.start_s < note.stop_s <= 21600.0 for note in edited)


STILL = EditedNote(0.5, 0.6, 60.0, None)

DATA = st.integers(0, 127)

#: Events of MIDI: delta time, then status and data, or a piece of anything.
EVENTS = st.one_of(
    st.tuples(DATA, st.sampled_from([0x80, 0x90, 0x91, 0xB0, 0xE0, 0xC0]), DATA, DATA)
    .map(lambda e: bytes(e) if e[1] != 0xC0 else bytes(e[:3])),
    st.sampled_from([b"\0\xff\x51\3\0\0\0", b"\0\xff\x51\3\7\xa1\x20", b"\xff\xff\xff\x7f\x90\x3c\x40",
                     b"\0\xff\x2f\0",
                     b"\0\xf0\5abc\xf7", b"\0\xb0\x40\x7f", b"\0\xff\3\2\xff\xfe"]),
    st.binary(max_size=6),
)  # fmt: skip


@fuzzed
@given(st.lists(EVENTS, max_size=40), st.integers(0, 65535), st.integers(0, 3))
def test_a_score_of_any_events(tmp_path, events, division, kind):
    path: Path = tmp_path / "x.mid"
    body = b"".join(events) + b"\0\xff\x2f\0"
    head = b"MThd\0\0\0\6" + kind.to_bytes(2, "big") + b"\0\1" + division.to_bytes(2, "big")
    path.write_bytes(head + b"MTrk" + len(body).to_bytes(4, "big") + body)
    try:
        file = read_midi(path)
    except InputError as problem:
        assert len(problem.message) < 1000
        return
    voices, _ = split_voices(file)
    for score in (lead_line(file), *voices):
        assert all(0.0 <= note.start_s < note.stop_s <= LONGEST_S for note in score.notes)
        assert all(one.stop_s <= other.start_s + 0.02 for one, other in itertools.pairwise(score.notes))
        assert all(math.isfinite(bend) for _, bend in score.bends)


WORDS = st.text(st.sampled_from("flute:+0123456789.es, \n/~-ü"), max_size=40) | st.text(max_size=40)


@fuzzed
@given(WORDS, st.sampled_from(["", "s3://", "https://", "simplecache::", "zip://x::", "local:", "0:", "flute:0.5+"]))
def test_words_for_instruments_addresses_and_clusters(words, before):
    """They are parsed, or refused in a short sentence; no connection is opened."""
    for read_words in (models.choose, check_cluster, lambda text: check_address(text) if is_address(text) else None):
        try:
            read_words(before + words)
        except DdspError as problem:
            assert len(problem.message) < 1000
