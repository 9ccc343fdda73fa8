"""Notes: transcribed from performances, written, edited, and played in their manner."""

from __future__ import annotations

import csv
from dataclasses import replace

import mido
import numpy as np
import pytest

from ddsp_cli.adaptation import f0_cleanup
from ddsp_cli.adaptation.adapt import AdaptSettings
from ddsp_cli.adaptation.midi import adapt_score, lead_line, read_midi
from ddsp_cli.adaptation.notes import (
    EditedNote,
    count_changes,
    measure_vibrato,
    read_edited,
    rearrange,
    transcribe,
    write_notes,
)
from ddsp_cli.adaptation.segmentation import find_segments
from ddsp_cli.errors import InputError, OutputError, UsageError
from performance_fixtures import STATISTICS, TUNE, performance, sung


def test_notes_are_found():
    features = sung()
    notes = transcribe(features, find_segments(features)).notes
    assert [note.midi for note in notes] == [57, 60, 59, 64]
    np.testing.assert_allclose([note.start_s for note in notes], [note[0] for note in TUNE], atol=0.03)
    np.testing.assert_allclose([note.stop_s for note in notes], [note[1] for note in TUNE], atol=0.03)
    np.testing.assert_allclose([note.cents for note in notes], 20.0, atol=8.0)
    assert notes[3].vibrato_hz == pytest.approx(5.5, abs=0.2)
    assert notes[3].vibrato_cents == pytest.approx(40.0, rel=0.15)
    assert notes[0].vibrato_hz == notes[0].vibrato_cents == 0.0
    assert notes[3].level_db == pytest.approx(notes[0].level_db - 12.0, abs=2.5)
    assert notes[3].velocity < notes[0].velocity


def test_vibrato_is_no_drift():
    t = np.arange(500) / 250
    assert measure_vibrato(60 + 0.3 * t, 250) == (0.0, 0.0)
    assert measure_vibrato(60 + 0.5 * np.sin(2 * np.pi * 2.0 * t), 250)[1] == pytest.approx(0.0, abs=9.0)
    hz, cents = measure_vibrato(60 + 0.2 * t + 0.5 * np.sin(2 * np.pi * 6.2 * t), 250)
    assert (hz, cents) == (pytest.approx(6.2, abs=0.05), pytest.approx(50.0, rel=0.05))
    assert measure_vibrato(60 + 0.5 * np.sin(2 * np.pi * 6.2 * t[:60]), 250) == (0.0, 0.0)


def test_midi_is_played_as_it_was_sung(tmp_path):
    """Pitch, with its tuning and its vibrato, and times come back; the soft note is the softest."""
    features = sung()
    write_notes(tmp_path / "tune.mid", transcribe(features, find_segments(features)))
    score = lead_line(read_midi(tmp_path / "tune.mid"))
    assert [note.midi for note in score.notes] == [57, 60, 59, 64]
    assert [note.tied for note in score.notes] == [False, True, True, False]
    again = adapt_score(score, STATISTICS, "power_db", 250, AdaptSettings(transpose=0.0))
    inside = np.flatnonzero(features.f0_hz > 0)
    off = f0_cleanup.to_midi(again.f0_hz)[inside] - f0_cleanup.to_midi(features.f0_hz)[inside]
    assert np.mean(np.abs(off) < 0.15) > 0.85
    levels = [again.level_db[round((a + 0.2) * 250)] for a, _, _ in TUNE]
    assert int(np.argmin(levels)) == 3


def test_the_table_has_a_row_per_note(tmp_path):
    features = sung()
    write_notes(tmp_path / "tune.csv", transcribe(features, find_segments(features)))
    with (tmp_path / "tune.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["note"] for row in rows] == ["A3", "C4", "B3", "E4"]
    assert float(rows[1]["length_s"]) == pytest.approx(0.4, abs=0.03)
    with pytest.raises(OutputError, match="exists"):
        write_notes(tmp_path / "tune.csv", transcribe(features, find_segments(features)))
    with pytest.raises(UsageError, match="neither"):
        write_notes(tmp_path / "tune.txt", transcribe(features, find_segments(features)))


def test_a_performance_without_notes(tmp_path):
    features = performance(250, notes=())
    write_notes(tmp_path / "none.mid", transcribe(features, find_segments(features)))
    write_notes(tmp_path / "none.csv", transcribe(features, find_segments(features)))
    assert (tmp_path / "none.csv").read_text(encoding="utf-8").count("\n") == 1


FEATURES = sung()
NOTES = transcribe(FEATURES, find_segments(FEATURES))


def table(path, change=lambda rows: rows):
    """The table of the notes, edited as rows of text."""
    write_notes(path, NOTES, force=True)
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = list(rows[0])
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, names, restval="")
        writer.writeheader()
        writer.writerows(change(rows))
    return read_edited(path, NOTES)


def midi(features):
    return f0_cleanup.to_midi(features.f0_hz)


def unchanged():
    return [
        EditedNote(note.start_s, note.stop_s, note.midi + note.cents / 100.0, i) for i, note in enumerate(NOTES.notes)
    ]


@pytest.mark.parametrize("suffix", [".csv", ".mid"])
def test_unedited_notes_are_the_performance(tmp_path, suffix):
    write_notes(tmp_path / f"tune{suffix}", NOTES)
    edited = read_edited(tmp_path / f"tune{suffix}", NOTES)
    assert count_changes(edited, NOTES) == (0, 0, 0)
    found = rearrange(FEATURES, NOTES, edited)
    inside = np.isfinite(NOTES.repaired_midi)
    np.testing.assert_allclose(midi(found)[inside], NOTES.repaired_midi[inside], atol=0.011)
    for name in ("loudness_db", "power_db", "f0_confidence"):
        np.testing.assert_allclose(getattr(found, name)[inside], getattr(FEATURES, name)[inside], atol=0.06)
    assert len(found) == len(FEATURES)


def test_a_moved_note_takes_its_vibrato_and_its_level_with_it():
    edited = unchanged()
    last = edited[3]
    edited[3] = replace(last, start_s=last.start_s + 0.4, stop_s=last.stop_s + 0.4, midi=last.midi - 7.0)
    found = rearrange(FEATURES, NOTES, edited)
    start, stop = round(last.start_s * 250), round(last.stop_s * 250)
    np.testing.assert_allclose(midi(found)[start + 100 : stop + 100], NOTES.repaired_midi[start:stop] - 7.0, atol=0.01)
    np.testing.assert_allclose(found.power_db[start + 100 : stop + 100], FEATURES.power_db[start:stop], atol=1e-4)
    assert measure_vibrato(midi(found)[start + 140 : stop + 100], 250)[0] == pytest.approx(5.5, abs=0.2)
    assert not found.f0_hz[start : start + 60].any()  # where it was
    np.testing.assert_allclose(found.power_db[: start - 40], FEATURES.power_db[: start - 40], atol=1e-4)


def test_a_deleted_note_is_silent():
    found = rearrange(FEATURES, NOTES, unchanged()[:3])
    last = NOTES.notes[3]
    inside = slice(round(last.start_s * 250), round(last.stop_s * 250))
    assert not found.f0_hz[inside].any()
    assert found.power_db[inside].max() < FEATURES.power_db.max() - 30.0
    assert count_changes(unchanged()[:3], NOTES) == (0, 0, 1)


def test_a_longer_note_keeps_its_ends():
    edited = unchanged()
    last = edited[3]
    edited[3] = replace(last, stop_s=last.stop_s + 0.5)
    found = rearrange(FEATURES, NOTES, edited)
    start, stop = round(last.start_s * 250), round(last.stop_s * 250)
    np.testing.assert_allclose(found.power_db[start : start + 14], FEATURES.power_db[start : start + 14], atol=1e-4)
    np.testing.assert_allclose(found.power_db[stop + 111 : stop + 125], FEATURES.power_db[stop - 14 : stop], atol=1e-4)
    assert np.isfinite(midi(found)[start : stop + 125]).all()


def test_a_note_may_end_after_the_performance():
    edited = [*unchanged(), EditedNote(4.5, 5.0, 70.0, None)]
    found = rearrange(FEATURES, NOTES, edited)
    assert len(found) == pytest.approx(5.12 * 250, abs=1)
    inside = slice(round(4.55 * 250), round(4.95 * 250))
    np.testing.assert_allclose(midi(found)[inside], 70.0, atol=1e-3)
    assert np.ptp(found.power_db[inside]) < 6.0
    assert count_changes(edited, NOTES) == (0, 1, 0)


def test_a_table_is_edited_by_pitch_name_number_level_and_vibrato(tmp_path):
    def change(rows):
        rows[0]["note"] = "Bb3"
        rows[1]["midi"] = "62"
        rows[2]["level_db"] = f"{float(rows[2]['level_db']) + 6.0:.1f}"
        rows[3]["vibrato_cents"] = "0"
        return [*rows, {"start_s": "3.6", "length_s": "0.3", "note": "C4", "velocity": "100"}]

    edited = table(tmp_path / "tune.csv", change)
    cents = [note.cents / 100.0 for note in NOTES.notes]
    assert [note.midi for note in edited] == pytest.approx(
        [58 + cents[0], 62 + cents[1], 59 + cents[2], 64 + cents[3], 60], abs=0.01
    )
    assert edited[2].louder_db == pytest.approx(6.0)
    assert edited[3].vibrato == 0.0
    assert edited[4].source is None
    found = rearrange(FEATURES, NOTES, edited)
    steady = midi(found)[round(2.7 * 250) : round(3.2 * 250)]
    assert np.ptp(steady) < 0.25 * np.ptp(NOTES.repaired_midi[round(2.7 * 250) : round(3.2 * 250)])
    assert count_changes(edited, NOTES) == (4, 1, 0)


def test_a_midi_file_is_matched_to_the_performance(tmp_path):
    """The first note is deleted, the second transposed, the last one moved by a second and made loud; one is new."""
    path = tmp_path / "tune.mid"
    keys = [(1.3, 1.7, 67, NOTES.notes[1].velocity), (1.7, 2.0, 59, NOTES.notes[2].velocity), (2.05, 2.2, 80, 60),
            (3.4, 4.4, 64, 127)]  # fmt: skip
    events = sorted([(on, mido.Message("note_on", note=key, velocity=v)) for on, _, key, v in keys]
                    + [(off, mido.Message("note_off", note=key)) for _, off, key, _ in keys],
                    key=lambda event: event[0])  # fmt: skip
    track, now = mido.MidiTrack(), 0.0
    for time_s, message in events:
        track.append(message.copy(time=round(1000 * (time_s - now))))
        now = time_s
    mido.MidiFile(tracks=[track], ticks_per_beat=500).save(path)
    edited = read_edited(path, NOTES)
    assert [note.source for note in edited] == [1, 2, None, 3]
    assert edited[3].louder_db > 5.0
    assert edited[0].midi == pytest.approx(67 + NOTES.notes[1].cents / 100.0)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "has no notes"),
        ("a,b\n1,2\n", "has no columns"),
        ("number,start_s,length_s,midi\n9,0,1,60\n", "has no note 9"),
        ("number,start_s,length_s,midi\n1,x,1,60\n", "is not a number in line 2"),
        ("number,start_s,length_s,midi\n1,0,0,60\n", "length_s of at least 0.001"),
        ("number,start_s,length_s,midi\n1,0,1,200\n", "needs a note"),
        ("number,start_s,length_s,note\n1,0,1,H4\n", "H4 in line 2 is not the name"),
    ],
)
def test_what_is_no_table_of_notes(tmp_path, content, problem):
    (tmp_path / "a.csv").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=problem):
        read_edited(tmp_path / "a.csv", NOTES)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UsageError, match="neither"):
        read_edited(tmp_path / "a.txt", NOTES)
    with pytest.raises(InputError, match="cannot be read"):
        read_edited(tmp_path / "missing.csv", NOTES)
    (tmp_path / "excel.csv").write_text("number,start_s,length_s,midi\n1,0,1,60\n", encoding="utf-16")
    with pytest.raises(InputError, match="not text in UTF-8"):
        read_edited(tmp_path / "excel.csv", NOTES)


def test_a_midi_file_whose_notes_have_no_length_is_refused(tmp_path):
    message = mido.Message
    for messages in (
        [message("note_on", note=69), message("note_off", note=69)],
        [message("note_on", note=69)],
    ):
        mido.MidiFile(tracks=[mido.MidiTrack(messages)]).save(tmp_path / "a.mid")
        with pytest.raises(InputError, match="has no notes"):
            read_edited(tmp_path / "a.mid", NOTES)


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("length_s", "86400", "ends after 6 hours"),
        ("start_s", "1e300", "ends after 6 hours"),
        ("cents", "1e308", "needs a note"),
        ("cents", "-1e5", "needs a note"),
        ("level_db", "1e308", "-120 to 20"),
        ("velocity", "1e300", "0 to 127"),
        ("vibrato_cents", "-1", "0 to 12700"),
        ("vibrato_cents", "inf", "not a number"),
        ("number", "1e308", "has no note"),
        ("note", "C" + "9" * 400, "not the name of a note"),
        ("note", "C" + "9" * 5000, "not the name of a note"),
        ("midi", "9" * 4000, "not a number"),
        ("note", "x" * 200_000, "not a table of notes"),
    ],
)
def test_impossible_cells_are_a_sentence(tmp_path, name, value, words):
    def change(rows):
        rows[0][name] = value
        return rows

    with pytest.raises(InputError, match=words) as caught:
        table(tmp_path / "tune.csv", change)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_table_of_many_megabytes_is_not_read(tmp_path):
    path = tmp_path / "tune.csv"
    with path.open("wb") as stream:
        stream.truncate((16 << 20) + 1)
    with pytest.raises(InputError, match="larger than 16 MB"):
        read_edited(path, NOTES)
