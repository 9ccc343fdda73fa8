"""NSynth in both layouts, made by our own player in small: labels are kept, and both give the same notes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ddsp_cli.dataset import load_manifest, nsynth, sources, tfrecord
from ddsp_cli.errors import DatasetError, InputError
from ddsp_cli.workflows.prepare import prepare
from scale_fixtures import NOTES, record, write_nsynth


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`nsynth-test.tfrecord` and `nsynth-test/`."""
    place = tmp_path_factory.mktemp("nsynth")
    write_nsynth(place)
    return place


@pytest.mark.parametrize("layout", ["nsynth-test", "nsynth-test.tfrecord"])
def test_a_data_set_keeps_what_the_metadata_says(folder, layout):
    out = folder / f"set of {layout}"
    result = prepare([folder / layout], name="nsynth", out=out, workers=1, report=False)
    manifest = load_manifest(out)
    assert (result.n_used, result.skipped, result.notes) == (5, (), ())
    assert {
        (Path(r.path).stem, r.label.pitch_midi, r.label.velocity, r.label.family, r.label.source, r.label.instrument)
        for r in manifest.recordings
        if r.label
    } == {
        (n["note_str"], n["pitch"], n["velocity"], n["instrument_family_str"], "acoustic", n["instrument_str"])
        for n in NOTES
    }
    assert manifest.instruments == ["flute", "keyboard"]
    assert manifest.statistics.pitch_midi[99] == pytest.approx(72, abs=0.1)
    assert manifest.statistics.pitch_midi[1] == pytest.approx(57, abs=0.1)
    assert prepare([folder / layout], name="nsynth", out=out, workers=1, report=False).unchanged


def test_both_layouts_hold_the_same_notes(folder):
    from_files = {path.stem: label for path, label in nsynth.labels(folder / "nsynth-test")}
    shard = folder / "nsynth-test.tfrecord"
    for offset, name, label in nsynth.notes(shard):
        assert from_files.pop(name) == label
        audio, rate_hz = nsynth.read_note(shard, offset)
        wav, _ = soundfile.read(folder / "nsynth-test" / "audio" / f"{name}.wav", dtype="float32")
        assert rate_hz == 16000
        assert np.abs(audio - wav).max() < 2**-14
    assert not from_files


def test_metadata_is_read_in_pieces(folder, monkeypatch):
    whole = dict(nsynth.labels(folder / "nsynth-test"))
    monkeypatch.setattr(nsynth, "CHUNK", 7)
    assert dict(nsynth.labels(folder / "nsynth-test")) == whole
    assert len(whole) == len(NOTES)


def test_metadata_that_ends_early_is_named(folder, tmp_path):
    text = (folder / "nsynth-test" / "examples.json").read_text()
    (tmp_path / "audio").mkdir()
    (tmp_path / "examples.json").write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match=r"examples\.json is damaged"):
        list(nsynth.labels(tmp_path))
    (tmp_path / "examples.json").write_text('{"a": {"something": "else"}}')
    assert not list(nsynth.labels(tmp_path))


def test_a_note_that_is_not_what_its_label_says_is_remarked_upon(folder, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "audio").mkdir(parents=True)
    metadata = {}
    for note in NOTES:
        (tmp_path / "a" / "audio" / f"{note['note_str']}.wav").write_bytes(
            (folder / "nsynth-test" / "audio" / f"{note['note_str']}.wav").read_bytes()
        )
        metadata[note["note_str"]] = {**note, "pitch": note["pitch"] + 12 * (note is NOTES[2])}
    (tmp_path / "a" / "examples.json").write_text(json.dumps(metadata))
    result = prepare([tmp_path / "a"], out=tmp_path / "set", workers=1, report=False)
    assert result.notes == (("a/audio/flute_acoustic_002-067-100.wav", "is labelled G5 and was measured as G4"),)


@pytest.mark.parametrize("rate_hz", [0, 10**12])
def test_a_note_with_a_sample_rate_of_no_recording_is_left_out(tmp_path, rate_hz):
    shard = tmp_path / "notes.tfrecord"
    bad = {**NOTES[0], "sample_rate": rate_hz}
    shard.write_bytes(b"".join(tfrecord.encode_record(record(note)) for note in (bad, *NOTES[1:])))
    result = prepare(shard, out=tmp_path / "set", workers=1, report=False)
    assert result.n_used == len(NOTES) - 1
    [(name, reason)] = result.skipped
    assert NOTES[0]["note_str"] in name
    assert f"sample rate of {rate_hz} Hz" in reason


def test_records_that_are_no_examples_are_named(tmp_path):
    shard = tmp_path / "other.tfrecord"
    shard.write_bytes(tfrecord.encode_record(b"\xff\xff\xff"))
    with pytest.raises(DatasetError, match=r"other\.tfrecord holds records that are not examples"):
        sources.find([shard])
