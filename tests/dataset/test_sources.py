from pathlib import Path

import pytest

from ddsp_cli.dataset.sources import Inputs, find, pick
from ddsp_cli.errors import OutputError, UsageError


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    for name in ("notes/A3_loud.wav", "notes/A3_soft.wav", "phrases/A3.wav", "phrases/slow/B3.wav"):
        (tmp_path / "flute" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "flute" / name).touch()
    return find([tmp_path / "flute"])


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("A3.wav", {"flute/phrases/A3.wav"}),
        ("*_loud*", {"flute/notes/A3_loud.wav"}),
        ("notes/*", {"flute/notes/A3_loud.wav", "flute/notes/A3_soft.wav"}),
        ("slow/B3.wav", {"flute/phrases/slow/B3.wav"}),
        ("./phrases/A3.wav", {"flute/phrases/A3.wav"}),
        ("[AB]3.wav", {"flute/phrases/A3.wav", "flute/phrases/slow/B3.wav"}),
    ],
)
def test_patterns_are_file_names_or_ends_of_paths(inputs, pattern, names):
    assert pick(inputs, [pattern]).recordings.held_out == names
    assert pick(inputs, leave_out=[pattern]).recordings.left_out == dict.fromkeys(names, pattern)


def test_a_path_as_it_was_given_is_a_pattern(inputs):
    path, name = next(inputs.recordings.names())
    assert pick(inputs, [str(path)]).recordings.held_out == {name}


def test_what_is_left_out_is_not_held_out(inputs):
    picked = pick(inputs, ["A3*"], ["*_soft*"]).recordings
    assert picked.held_out == {"flute/notes/A3_loud.wav", "flute/phrases/A3.wav"}
    assert picked.left_out == {"flute/notes/A3_soft.wav": "*_soft*"}
    assert len(picked) == 4


def test_recordings_come_in_the_order_of_their_paths_each_once(inputs, tmp_path):
    names = ["flute/notes/A3_loud.wav", "flute/notes/A3_soft.wav", "flute/phrases/A3.wav", "flute/phrases/slow/B3.wav"]
    assert [name for _, name in inputs.recordings.names()] == names
    (tmp_path / "other" / "flute").mkdir(parents=True)
    (tmp_path / "other" / "flute" / "new.wav").touch()
    (tmp_path / "other" / "flute" / "phrases").mkdir()
    (tmp_path / "other" / "flute" / "phrases" / "A3.wav").touch()
    both = find([tmp_path / "flute", tmp_path / "other" / "flute", tmp_path / "flute" / "notes" / "A3_soft.wav"])
    assert [name for _, name in both.recordings.names()] == [*names, "flute/new.wav", "flute/phrases/A3.wav (2)"]


@pytest.mark.parametrize("pattern", ["A3", "flute", "", ".", "./", "/", "*.mp3", "A3_LOUD.wav"])
@pytest.mark.parametrize("option", ["hold_out", "leave_out"])
def test_a_pattern_that_fits_nothing_is_an_error(inputs, pattern, option):
    with pytest.raises(UsageError, match="matches none of the recordings") as caught:
        pick(inputs, **{option: [pattern]})
    assert caught.value.hint
    assert caught.value.parameter == option


@pytest.mark.parametrize(
    ("patterns", "parameter", "words"),
    [({"hold_out": ["*"]}, "hold_out", r"'\*' matches every"), ({"leave_out": ["*"]}, "leave_out", "matches every"),
     ({"hold_out": ["A3*", "B3*"]}, "hold_out", "these patterns match every"),
     ({"hold_out": ["A3*"], "leave_out": ["B3*"]}, "hold_out", "'A3.*' matches every recording that is not left out")],
)  # fmt: skip
def test_patterns_that_leave_nothing_to_learn_from_are_refused_at_once(inputs, patterns, parameter, words):
    with pytest.raises(UsageError, match=words) as caught:
        pick(inputs, **patterns)
    assert caught.value.parameter == parameter


def test_a_mistyped_name_gets_a_suggestion(inputs):
    with pytest.raises(UsageError) as caught:
        pick(inputs, ["A3_lowd.wav"])
    assert "A3_loud.wav" in caught.value.hint


def test_a_full_disk_is_named(inputs):
    inputs.recordings._database.execute("PRAGMA max_page_count = 1")
    with pytest.raises(OutputError, match="list of recordings cannot be kept"):
        inputs.recordings.add(((Path(f"{i}.wav"), f"{i}" * 50) for i in range(10_000)), "more")
