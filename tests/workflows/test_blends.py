"""Blends as they are written on the command line, in Python, and in the names of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

import ddsp_cli
from ddsp_cli.errors import ModelError, UsageError
from ddsp_cli.workflows import models
from ddsp_cli.workflows.performance import TransferOptions
from ddsp_cli.workflows.transfer import transfer_files
from fixtures import make_bundle
from test_cli import ddsp
from transfer_fixtures import at_desk, desk

__all__ = ["at_desk", "desk"]  # fixtures are found by their names


@pytest.mark.parametrize(
    ("words", "shares", "title"),
    [
        ("testophone:0.6+otherophone:0.4", (0.6, 0.4), "testophone60+otherophone40"),
        ("testophone + otherophone", (0.5, 0.5), "testophone50+otherophone50"),
        ("models/testophone:3+otherophone", (0.75, 0.25), "testophone75+otherophone25"),
        ("testophone+otherophone:1+testophone", (2 / 3, 1 / 3), "testophone67+otherophone33"),
    ],
)
def test_shares_are_read_as_written(words, shares, title):
    choice = models.choose(words)
    np.testing.assert_allclose(choice.shares.mean, shares)
    assert choice.title == title
    assert choice.name == words


@pytest.mark.parametrize(
    ("words", "times_s"),
    [
        ("0:testophone 8s:otherophone", (0.0, 8.0)),
        ("0s:testophone, 1:30:otherophone", (0.0, 90.0)),
        ("0.5:testophone 2.25s:models/otherophone 4:testophone", (0.5, 2.25, 4.0)),
    ],
)
def test_times_are_read_as_written(words, times_s):
    choice = models.choose(words)
    assert choice.shares.times_s == times_s
    assert choice.title == "testophone-to-otherophone"
    first = choice.shares.at(np.array([0.0]))[:, 0]
    np.testing.assert_array_equal(first, [1.0, 0.0])


def test_an_instrument_alone_is_no_blend():
    assert models.choose("testophone").shares is None
    assert models.choose("testophone:0.2+testophone").shares is None
    assert models.choose("0:testophone").shares is None


def test_an_instrument_whose_name_has_a_plus_is_found(tmp_path):
    make_bundle(tmp_path / "a+b")
    assert models.choose(tmp_path / "a+b").shares is None


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("testophone+", "names no instrument"),
        ("testophone:0+otherophone:0", "are all 0"),
        ("testophone:0..6+otherophone", "0..6 is not a number"),
        ("testophone:-1+otherophone", "-1 is out of range"),
        ("testophone:0,6+otherophone:0,4", "0,6 is not a number"),
        ("testophone:0,5", "at least two instruments"),
        ("0:testophone+otherophone 3:otherophone", "a stage of a blend over time is one instrument"),
        ("0:testophone 2,5s:otherophone", "has a comma"),
        ("8:testophone 2:otherophone", "do not rise"),
        ("testophone:0.5", "at least two instruments, and testophone:0.5 names one"),
        ("testophon: 1", "at least two instruments"),
    ],
)
def test_impossible_blends_are_refused(words, problem):
    with pytest.raises(UsageError, match=problem):
        models.choose(words)


def test_an_unknown_part_is_named():
    with pytest.raises(ModelError, match="no instrument called testophon"):
        models.choose("otherophone+testophon")


def test_files_and_arrays_sound_the_same(tmp_path):
    words = "testophone:0.6+otherophone:0.4"
    options = TransferOptions(loudness_match="off")
    (result,) = transfer_files("voice.wav", words, tmp_path / "out.wav", options=options, bits="float")
    assert result.instrument == words
    voice = soundfile.read("voice.wav", dtype="float32")[0]
    sound, rate_hz = ddsp_cli.transfer(voice, 16000, words, loudness_match="off")
    assert rate_hz == 16000
    np.testing.assert_allclose(soundfile.read(result.output)[0][:-200], sound[:-200], atol=1e-3)
    loaded = ddsp_cli.load(words)
    assert loaded.name == words
    again, _ = ddsp_cli.transfer(voice, 16000, loaded, loudness_match="off")
    np.testing.assert_array_equal(again, sound)
    made = ddsp_cli.transfer_file("voice.wav", loaded, tmp_path / "again.wav")
    assert made.instrument == words


def test_the_command_line_takes_both_ways(tmp_path):
    page = tmp_path / "page.html"
    ways = ("--model", "testophone+otherophone"), ("--blend", "0:testophone 2s:otherophone", "--report", page)
    for way in ways:
        done = ddsp("transfer", "voice.wav", *way, "--out", tmp_path, cwd=Path())
        assert done.returncode == 0, done.stderr
    found = {path.name for path in tmp_path.glob("*.wav")}
    assert found == {"voice_testophone50+otherophone50.wav", "voice_testophone-to-otherophone.wav"}
    assert "0:testophone 2s:otherophone" in page.read_text(encoding="utf-8")
    wrong = ddsp("transfer", "voice.wav", "--blend", "testophone otherophone", cwd=Path())
    assert wrong.returncode == 2
    assert "--blend: testophone otherophone is not a blend over time" in wrong.stderr.decode()
