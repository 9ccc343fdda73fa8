"""Long arrays in temporary files: the same values as in memory, and the same performance from them."""

from __future__ import annotations

import mmap
import tempfile
from dataclasses import fields

import numpy as np
import pytest

from ddsp_cli import spool
from ddsp_cli.adaptation import adapt as adapting
from ddsp_cli.adaptation import f0_cleanup
from ddsp_cli.adaptation.adapt import AdaptSettings, adapt
from ddsp_cli.adaptation.segmentation import find_segments
from ddsp_cli.analysis.extract import measure
from ddsp_cli.errors import OutputError
from performance_fixtures import STATISTICS, performance

NOTES = ((0.3, 0.9, 57.1), (1.3, 1.8, 59.0), (1.9, 2.3, 60.2), (2.9, 3.4, 64.0), (3.5, 3.9, 62.05))


@pytest.fixture
def all_spooled(monkeypatch):
    monkeypatch.setattr(spool, "KEPT_BYTES", 0)


def test_values_survive_the_release_of_their_pages(all_spooled):
    values = spool.empty(100_000)
    values[:] = np.arange(100_000)
    spool.release()
    np.testing.assert_array_equal(values, np.arange(100_000))
    assert isinstance(values.base, mmap.mmap | memoryview)
    np.testing.assert_array_equal(spool.copy(values), values)


@pytest.mark.parametrize("kept_bytes", [0, 40, 1 << 20])
def test_an_array_grows_equally_in_memory_and_in_a_file(monkeypatch, kept_bytes):
    monkeypatch.setattr(spool, "KEPT_BYTES", kept_bytes)
    growing = spool.GrowingArray()
    for start, stop in ((0, 3), (3, 3), (3, 11), (11, 20)):
        growing.push(np.arange(start, stop, dtype=np.float32))
    np.testing.assert_array_equal(growing.finish(), np.arange(20))


def test_an_empty_array_is_possible(all_spooled):
    assert len(spool.empty(0)) == len(spool.GrowingArray().finish()) == 0


def test_a_full_disk_is_one_sentence(all_spooled, monkeypatch):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def write(self, data):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with pytest.raises(OutputError, match="has no space for the curves of a long recording"):
        spool.empty(10)


def test_features_of_spooled_sound_are_the_same(monkeypatch):
    times_s = np.arange(3 * 16000) / 16000
    audio = (0.3 * np.sin(2 * np.pi * (220.0 + 40.0 * times_s) * times_s)).astype(np.float32)
    kept = measure(audio)
    monkeypatch.setattr(spool, "KEPT_BYTES", 0)
    spooled = measure(audio)
    for name in ("f0_hz", "f0_confidence", "loudness_db", "power_db", "envelope_db"):
        np.testing.assert_array_equal(getattr(spooled, name), getattr(kept, name))


@pytest.mark.parametrize(
    "settings",
    [
        AdaptSettings(),
        AdaptSettings(autotune=1.0, vibrato=0.5, glide_s=0.1),
        AdaptSettings(repair_pitch=False, transpose=3.0),
    ],
)
def test_chapters_in_files_play_what_one_piece_in_memory_plays(monkeypatch, settings):
    features = performance(250, notes=NOTES)
    whole = adapt(features, STATISTICS, "power_db", settings)
    monkeypatch.setattr(spool, "KEPT_BYTES", 0)
    monkeypatch.setattr(adapting, "CHAPTER_FRAMES", 1)
    chapters = adapt(features, STATISTICS, "power_db", settings)
    for field in fields(whole):
        if field.name != "segments":
            np.testing.assert_array_equal(getattr(chapters, field.name), getattr(whole, field.name), field.name)


@pytest.mark.parametrize("longest_frames", [1, 300, 600, 10_000])
def test_chapters_cover_every_frame_and_segment_once(longest_frames):
    features = performance(250, notes=NOTES)
    segments = find_segments(features)
    chapters = list(f0_cleanup.chapters(segments, 250, longest_frames))
    assert [part.start for part, _ in chapters] == [0, *(part.stop for part, _ in chapters[:-1])]
    assert chapters[-1][0].stop == len(features)
    starts = np.concatenate([own.starts + part.start for part, own in chapters])
    np.testing.assert_array_equal(starts, segments.starts)
    assert all(len(own) == 1 or part.stop - part.start <= longest_frames for part, own in chapters)
    assert len(chapters) == {1: len(segments), 10_000: 1}.get(longest_frames, len(chapters))
