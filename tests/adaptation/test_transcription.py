"""Notes of a performance whose notes are known, as MIDI and as a table, and played again."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from ddsp_cli.adaptation import f0_cleanup
from ddsp_cli.adaptation.adapt import AdaptSettings
from ddsp_cli.adaptation.midi import adapt_score, read_score
from ddsp_cli.adaptation.notes import measure_vibrato, transcribe, write_notes
from ddsp_cli.adaptation.segmentation import find_segments
from ddsp_cli.errors import OutputError, UsageError
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
    score = read_score(tmp_path / "tune.mid")
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
