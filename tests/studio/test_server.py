"""The studio's answers, in process: the page gets the same sound as `ddsp transfer` writes."""

from __future__ import annotations

import errno
import io
import itertools
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import mido
import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient

from ddsp_cli.errors import InputError
from ddsp_cli.studio import session as session_module
from ddsp_cli.studio import takes as takes_module
from ddsp_cli.studio.server import LOWEST_HZ, ROWS_PER_OCTAVE, spectrogram
from ddsp_cli.studio.session import EXCERPT_S, RENDERED_SHARE, CancelledError, Session
from ddsp_cli.workflows.performance import make_options
from ddsp_cli.workflows.transfer import transfer_files
from fixtures import melody
from studio_fixtures import add, play


def pcm(studio, done):
    return np.frombuffer(studio.client.get(f"api/played/{done['id']}/pcm").content, "<f4")


def transferred(studio, tmp_path, instrument="testophone", from_controls=None, **settings):
    """Returns the output of `ddsp transfer` in floats."""
    out = tmp_path / "cli.wav"
    transfer_files(
        studio.desk / "voice.wav", instrument, out, options=make_options(**settings), bits="float", force=True,
        from_controls=from_controls,
    )  # fmt: skip
    return soundfile.read(out, dtype="float32")[0]


# --- playing ---


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"transpose": -12, "dynamics": 0.5, "loudness": -6, "autotune": 1, "key": "A minor", "vibrato": 2},
        {"glide": 0.2, "formant": 4, "room": "otherophone", "wet": 0.5, "threshold": 20},
        {"room": "none", "seed": 3},
    ],
)
def test_page_hears_what_the_command_writes(studio, tmp_path, settings):
    take = add(studio, studio.desk / "voice.wav")
    play(studio, take)  # analysed with other settings before
    done = play(studio, take, settings=settings)["done"]
    assert done["rate_hz"] == 16000
    np.testing.assert_array_equal(pcm(studio, done), transferred(studio, tmp_path, **settings))


def test_blend_and_ensemble_are_those_of_the_command(studio, tmp_path):
    take, blend = add(studio, studio.desk / "voice.wav"), "testophone:0.7+otherophone:0.3"
    done = play(studio, take, blend)["done"]
    np.testing.assert_array_equal(pcm(studio, done), transferred(studio, tmp_path, blend))
    assert done["command"] == f"ddsp transfer voice.wav --model {blend}"
    downloaded = studio.client.get(f"api/played/{done['id']}/download/wav")
    assert "voice_testophone0.7+otherophone0.3.wav" in downloaded.headers["content-disposition"].replace("%2B", "+")
    section = play(studio, take, settings={"ensemble": 2})["done"]
    assert section["n_channels"] == 2
    np.testing.assert_array_equal(pcm(studio, section).reshape(-1, 2), transferred(studio, tmp_path, ensemble=2))
    assert abs(section["input_lufs"] - section["loudness_lufs"]) < 0.1


def test_blend_over_time_is_that_of_the_command(studio, tmp_path):
    take, blend = add(studio, studio.desk / "voice.wav"), "0s:testophone 1.5s:otherophone"
    done = play(studio, take, blend)["done"]
    np.testing.assert_array_equal(pcm(studio, done), transferred(studio, tmp_path, blend))
    assert done["command"] == f"ddsp transfer voice.wav --blend '{blend}'"
    downloaded = studio.client.get(f"api/played/{done['id']}/download/wav")
    assert "voice_testophone-to-otherophone.wav" in downloaded.headers["content-disposition"]


@pytest.mark.parametrize(
    "name",
    ["0s:testophone 1s:../../etc", "0s:testophone 0s:otherophone", "0s:/tmp/x", "testophone+/tmp/x:1", "+", "1s:2"],
)
def test_impossible_blends_are_answered(studio, name):
    take = add(studio, studio.desk / "voice.wav")
    assert play(studio, take, name)["error"]


def test_moved_control_measures_nothing_again(studio, monkeypatch):
    take = add(studio, studio.desk / "voice.wav")
    play(studio, take)
    monkeypatch.setattr("ddsp_cli.workflows.performance.analyze", None)
    first = play(studio, take, settings={"transpose": 5})["done"]
    other = play(studio, take, "otherophone", settings={"transpose": 5})["done"]
    assert first["id"] != other["id"]
    assert first["transpose"] == 5.0
    assert play(studio, take, settings={"transpose": 5})["done"]["id"] == first["id"]  # kept


def test_result_comes_with_what_is_drawn(studio):
    take = add(studio, studio.desk / "voice.wav")
    done = play(studio, take)["done"]
    answer = studio.client.get(f"api/played/{done['id']}/curves")
    names = answer.headers["x-curves"].split(",")
    curves = dict(zip(names, np.frombuffer(answer.content, "<f4").reshape(len(names), -1), strict=True))
    assert names == ["f0_hz", "level_db", "gate", "input_f0_hz", "input_level_db"]
    assert len(curves["f0_hz"]) == done["n_frames"]
    assert len(done["notes"]) == 3
    note = done["notes"][0]
    within = slice(round(note["start_s"] * 250) + 20, round(note["stop_s"] * 250) - 20)
    assert abs(12 * np.log2(np.median(curves["f0_hz"][within]) / 440) + 69 - note["midi"]) < 0.5
    picture = studio.client.get(f"api/played/{done['id']}/spectrogram")
    assert len(picture.content) == int(picture.headers["x-columns"]) * int(picture.headers["x-rows"])


def test_command_says_what_differs(studio):
    take = add(studio, studio.desk / "voice.wav", "my voice.wav")
    done = play(studio, take, settings={"autotune": 1.0, "key": "A minor", "wet": 1.0})["done"]
    assert done["command"] == "ddsp transfer 'my voice.wav' --model testophone --autotune 1 --key 'A minor'"


def test_loudness_is_known_of_both(studio):
    take = add(studio, studio.desk / "voice.wav")
    done = play(studio, take)["done"]
    assert abs(done["input_lufs"] - done["loudness_lufs"]) < 0.1


def test_notes_of_a_midi_file(studio, tmp_path):
    file = mido.MidiFile()
    file.tracks.append(mido.MidiTrack([
        mido.Message("note_on", note=72, velocity=90), mido.Message("note_off", note=72, time=480),
    ]))  # fmt: skip
    file.save(tmp_path / "tune.mid")
    take = add(studio, tmp_path / "tune.mid")
    assert take["kind"] == "score"
    done = play(studio, take)["done"]
    assert np.abs(pcm(studio, done)).max() > 0.001


@pytest.fixture
def score(tmp_path):
    """Two tracks and three channels, one of them the drums."""
    file = mido.MidiFile()
    for name, notes in (("Flute", [(0, 72), (9, 40)]), ("Bass", [(1, 48)])):
        track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
        for channel, note in notes:
            track += [
                mido.Message("note_on", note=note, velocity=90, channel=channel),
                mido.Message("note_off", note=note, time=480, channel=channel),
            ]
        file.tracks.append(track)
    file.save(tmp_path / "band.mid")
    return tmp_path / "band.mid"


@pytest.mark.parametrize(
    ("chosen", "option"),
    [
        ({}, {}),
        ({"tracks": [1]}, {"track": ["1"]}),
        ({"tracks": [1, 2], "channels": [2]}, {"track": ["1", "2"], "channel": [2]}),
        ({"channels": [1, 2, 10]}, {"channel": [1, 2, 10]}),
    ],
)
def test_parts_of_a_midi_file_are_those_of_the_command(studio, tmp_path, score, chosen, option):
    take = add(studio, score)
    assert [(part["track"], part["name"], part["channel"]) for part in take["parts"]] == [
        (1, "Flute", 1), (1, "Flute", 10), (2, "Bass", 2),
    ]  # fmt: skip
    done = play(studio, take, selection=chosen, settings={"voices": "lead"})["done"]
    out = tmp_path / "cli.wav"
    transfer_files(score, "testophone", out, options=make_options(voices="lead", **option), bits="float")
    np.testing.assert_array_equal(pcm(studio, done), soundfile.read(out, dtype="float32")[0])
    words = "".join(f" --{name} {one}" for name, values in option.items() for one in values)
    assert done["command"] == f"ddsp transfer band.mid --model testophone{words} --voices lead"
    downloaded = studio.client.get(f"api/played/{done['id']}/download/wav")
    assert soundfile.info(io.BytesIO(downloaded.content)).frames == len(pcm(studio, done))


def test_lead_of_a_recording_is_that_of_the_command(studio, tmp_path):
    """The analysis that is kept of one way to take the notes is not that of another."""
    low, high = melody((48, 52, 55), note_s=0.6, rest_s=0.2), melody((72, 76, 79), note_s=0.6, rest_s=0.2)
    sound = np.concatenate([low, high]) + 0.7 * np.concatenate([high, low])
    soundfile.write(tmp_path / "duet.wav", sound.astype(np.float32), 16000, subtype="FLOAT")
    take = add(studio, tmp_path / "duet.wav")
    played = {}
    for voices in ("auto", "lead", "auto"):
        done = play(studio, take, settings={"voices": voices, "seed": len(played)})["done"]
        out = tmp_path / f"{voices}.wav"
        options = make_options(voices=voices, seed=len(played))
        transfer_files(tmp_path / "duet.wav", "testophone", out, options=options, bits="float", force=True)
        played[voices] = pcm(studio, done)
        np.testing.assert_array_equal(played[voices], soundfile.read(out, dtype="float32")[0])
    assert np.abs(played["lead"] - played["auto"]).max() > 1e-3


@pytest.mark.parametrize("chosen", [[], {"tracks": "1"}, {"tracks": [0]}, {"tracks": [True]}, {"channels": [17]}, 5])
def test_impossible_parts_are_answered(studio, score, chosen):
    answer = studio.client.post(
        "api/play", json={"take": add(studio, score)["id"], "instrument": "testophone", "selection": chosen}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_curves_of_several_voices_are_not_written(studio, score):
    take = add(studio, score)
    both, line = play(studio, take)["done"], play(studio, take, settings={"voices": "lead"})["done"]
    assert (both["n_voices"], line["n_voices"]) == (2, 1)
    assert studio.client.get(f"api/played/{line['id']}/download/curves").status_code == 200
    answer = studio.client.get(f"api/played/{both['id']}/download/curves")
    assert answer.status_code == 400
    assert "one line" in answer.json()["error"]


# --- long sounds: the first excerpt ---


@pytest.fixture
def long_take(studio, tmp_path):
    """A voice of 6.6 s, of which an excerpt is played first."""
    soundfile.write(tmp_path / "long.wav", melody((60, 64, 67, 65), note_s=0.9, rest_s=0.6), 16000, subtype="FLOAT")
    return add(studio, tmp_path / "long.wav")


def test_long_sound_is_rendered_first_from_the_playhead(studio, long_take):
    play(studio, long_take)
    first = []
    played = studio.session.play(
        long_take["id"], "testophone", {"formant": 3}, at_s=2.0, on_excerpt=first.append
    )  # fmt: skip
    assert [part.start_s for part in first] == pytest.approx([2.0])
    (part,) = first
    assert part.rate_hz == played.rate_hz
    assert len(part.pcm) / part.rate_hz == pytest.approx(EXCERPT_S + 6.6 * RENDERED_SHARE, abs=0.01)
    begin = round(2.0 * played.rate_hz)
    whole = played.pcm[begin : begin + len(part.pcm)]

    # Phases and noise are others: levels over time agree.
    def level_db(sound):
        return 10 * np.log10(np.mean(sound[: len(sound) // 800 * 800].reshape(-1, 800) ** 2, axis=1) + 1e-8)

    loud = level_db(whole) > -45
    assert loud.sum() > 8
    assert np.abs(np.median((level_db(part.pcm) - level_db(whole))[loud])) < 1.0
    assert np.abs((level_db(part.pcm) - level_db(whole))[loud]).mean() < 2.0


def test_the_excerpt_comes_before_the_result(studio, long_take):
    answer = studio.client.post("api/play", json={
        "take": long_take["id"], "instrument": "testophone", "settings": {"dynamics": 0.5}, "at_s": 0.5,
    })  # fmt: skip
    lines = [json.loads(line) for line in answer.text.splitlines()]
    (excerpt,) = [line["excerpt"] for line in lines if "excerpt" in line]
    assert "done" in lines[-1]
    sound = studio.client.get(f"api/excerpts/{excerpt['id']}")
    assert len(sound.content) / 4 / excerpt["rate_hz"] == pytest.approx(EXCERPT_S + 6.6 * RENDERED_SHARE, abs=0.01)
    assert excerpt["start_s"] == 0.5
    assert studio.client.get("api/excerpts/0").status_code == 400


def test_parts_follow_where_the_one_before_ends(studio, long_take, monkeypatch):
    monkeypatch.setattr(session_module, "RENDERED_SHARE", 1.0)
    parts = []
    studio.session.play(long_take["id"], "testophone", {"formant": 2}, at_s=0.0, on_excerpt=parts.append)
    first, second, *_ = parts
    assert EXCERPT_S <= len(first.pcm) / first.rate_hz < EXCERPT_S + 1.0
    for before, after in itertools.pairwise(parts):
        assert after.start_s == pytest.approx(before.start_s + len(before.pcm) / before.rate_hz)
    assert len(second.pcm) > 1.5 * len(first.pcm)
    assert parts[-1].start_s + len(parts[-1].pcm) / parts[-1].rate_hz == pytest.approx(6.6, abs=0.01)


def test_rest_is_no_reason_for_another_gain(studio, tmp_path, monkeypatch):
    """Where the excerpt begins in silence its level is unknown: that of the sound before it is kept."""
    sound = np.concatenate([melody((60, 64), note_s=0.9), np.zeros(4 * 16000), melody((67, 65), note_s=0.9)])
    soundfile.write(tmp_path / "rest.wav", sound.astype(np.float32), 16000, subtype="FLOAT")
    take = add(studio, tmp_path / "rest.wav")
    play(studio, take)
    monkeypatch.setattr(session_module, "RENDERED_SHARE", 1.0)  # the excerpt goes on to the end
    parts = []
    played = studio.session.play(take["id"], "testophone", {"seed": 5}, at_s=3.0, on_excerpt=parts.append)
    assert abs(played.gain_db) > 2.5
    assert np.abs(parts[0].pcm).max() < 1e-3
    part = parts[-1]
    begin = round(part.start_s * part.rate_hz)
    rms = [np.sqrt(np.mean(x**2)) for x in (part.pcm, played.pcm[begin : begin + len(part.pcm)])]
    assert 20 * np.log10(rms[0] / rms[1]) == pytest.approx(0.0, abs=1.0)


@pytest.mark.parametrize("at_s", [0.5, 5.0])
def test_peak_elsewhere_limits_the_excerpt_too(studio, tmp_path, at_s):
    """The notes grow louder, and the last one keeps the whole from the loudness of the input."""
    sound = melody((60, 64, 67, 65) * 3, note_s=0.6, rest_s=0.2) * np.geomspace(0.05, 1.0, 156_800)
    soundfile.write(tmp_path / "louder.wav", sound.astype(np.float32), 16000, subtype="FLOAT")
    take = add(studio, tmp_path / "louder.wav")
    play(studio, take)
    parts = []
    played = studio.session.play(take["id"], "testophone", {"formant": 1}, at_s=at_s, on_excerpt=parts.append)
    part = parts[0]
    begin = round(at_s * part.rate_hz)
    difference_db = 20 * np.log10(np.std(part.pcm) / np.std(played.pcm[begin : begin + len(part.pcm)]))
    assert difference_db == pytest.approx(0.0, abs=1.5)
    assert part.loudness_lufs == pytest.approx(played.loudness_lufs, abs=1.5)


@pytest.mark.parametrize("at_s", [1e6, -5.0, 5.9])
def test_places_beyond_the_sound_are_harmless(studio, long_take, at_s):
    done = play(studio, long_take, settings={"glide": 0.1}, at_s=at_s)["done"]
    np.testing.assert_array_equal(
        pcm(studio, done), pcm(studio, play(studio, long_take, settings={"glide": 0.1})["done"])
    )


@pytest.mark.parametrize("at_s", ["1", True, [], {}, 10**400])
def test_invalid_positions_are_refused(studio, long_take, at_s):
    answer = studio.client.post("api/play", json={"take": long_take["id"], "instrument": "testophone", "at_s": at_s})
    assert answer.status_code == 400


def test_blend_over_time_has_no_excerpt_from_the_middle(studio, long_take):
    first = []
    studio.session.play(long_take["id"], "0:testophone 3:otherophone", {}, at_s=2.0, on_excerpt=first.append)
    assert first == []


def test_progress_comes_before_the_result(studio, monkeypatch):
    monkeypatch.setattr("ddsp_cli.studio.server.PROGRESS_INTERVAL_S", 0.001)
    take = add(studio, studio.desk / "voice.wav")
    answer = studio.client.post("api/play", json={"take": take["id"], "instrument": "testophone"})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[0]["doing"] in {"listening", "playing"}
    assert 0 <= lines[0]["share"] <= 1
    assert "done" in lines[-1]


def test_play_is_given_up_when_it_is_not_wanted(studio):
    take = add(studio, studio.desk / "voice.wav")

    def give_up(what, share):
        raise CancelledError

    with pytest.raises(CancelledError):
        studio.session.play(take["id"], "testophone", {}, progress=give_up)
    assert "done" in play(studio, take)  # nothing is broken by it
    kept = studio.session.takes.find(take["id"]).performances
    with pytest.raises(CancelledError):
        studio.session.play(take["id"], "testophone", {"formant": 1}, progress=give_up)
    assert len(kept) == 1  # the analysis is not lost


def test_two_pages_at_once(studio, tmp_path):
    take = add(studio, studio.desk / "voice.wav")
    found = {}

    def page(instrument):
        found[instrument] = play(studio, take, instrument)["done"]

    threads = [threading.Thread(target=page, args=(name,)) for name in ("testophone", "otherophone")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, done in found.items():
        np.testing.assert_array_equal(pcm(studio, done), transferred(studio, tmp_path, name))


# --- curves that were drawn ---


def drawn(studio, take, done, change):
    names, content = ("f0_hz", "level_db", "gate"), studio.client.get(f"api/played/{done['id']}/curves")
    curves = dict(zip(names, np.frombuffer(content.content, "<f4").reshape(-1, done["n_frames"]).copy(), strict=False))
    change(curves)
    body = np.concatenate([curves[name] for name in names]).astype("<f4").tobytes()
    return studio.client.post("api/draw", params={"take": take["id"], "instrument": "testophone"}, content=body)


def test_drawn_curves_play_as_from_controls(studio, tmp_path):
    take = add(studio, studio.desk / "voice.wav")
    done = play(studio, take)["done"]

    def an_octave_lower(curves):
        curves["f0_hz"] /= 2

    curves = drawn(studio, take, done, an_octave_lower).json()["curves"]
    again = play(studio, take, curves=curves)["done"]
    table = tmp_path / "curves.csv"
    table.write_bytes(studio.client.get(f"api/played/{again['id']}/download/curves").content)
    np.testing.assert_array_equal(pcm(studio, again), transferred(studio, tmp_path, from_controls=table))
    assert not np.array_equal(pcm(studio, again), pcm(studio, done))
    assert again["command"].endswith("--from-controls voice_testophone.csv")


def test_curves_that_were_edited_elsewhere(studio, tmp_path):
    take = add(studio, studio.desk / "voice.wav")
    table = tmp_path / "edited.csv"
    table.write_text("time_s;f0_hz;power_db\n0;262;-20\n1,5;523;-20\n2;;\n", encoding="utf-8")
    asked = {"take": take["id"], "instrument": "testophone", "name": "../edited.csv"}
    curves = studio.client.post("api/curves", params=asked, content=table.read_bytes()).json()["curves"]
    done = play(studio, take, curves=curves)["done"]
    np.testing.assert_array_equal(pcm(studio, done), transferred(studio, tmp_path, from_controls=table))
    for name, content in (("x.csv", b"a,b\n1,2\n"), ("x.npz", b"PK"), ("x.exe", b"MZ"), ("", b"")):
        answer = studio.client.post("api/curves", params=asked | {"name": name}, content=content)
        assert answer.status_code == 400
        assert "/" not in answer.json()["error"]


def test_file_of_a_sound_is_given_back(studio):
    take = add(studio, studio.desk / "voice.wav", "my voice.wav")
    answer = studio.client.get(f"api/takes/{take['id']}/file")
    assert answer.content == (studio.desk / "voice.wav").read_bytes()
    assert "my%20voice.wav" in answer.headers["content-disposition"]


@pytest.mark.parametrize("value", [np.inf, -5.0, 1e9])
def test_impossible_curves_are_refused(studio, value):
    take = add(studio, studio.desk / "voice.wav")
    done = play(studio, take)["done"]

    def spoil(curves):
        curves["f0_hz"][10] = value

    answer = drawn(studio, take, done, spoil)
    assert (answer.status_code, "curves" in answer.json()["error"]) == (400, True)


def test_curves_of_another_sound_are_refused(studio):
    take = add(studio, studio.desk / "voice.wav")
    done = play(studio, take)["done"]
    curves = drawn(studio, take, done, lambda curves: None).json()["curves"]
    assert "error" in play(studio, take, "otherophone", curves=curves)
    assert "error" in play(studio, take, curves="../../etc/passwd")


# --- files to take away ---


def test_downloads(studio, tmp_path):
    take = add(studio, studio.desk / "voice.wav", "a/b voice.wav")
    done = play(studio, take)["done"]
    files = {}
    for kind in ("wav", "flac", "midi", "curves", "picture"):
        answer = studio.client.get(f"api/played/{done['id']}/download/{kind}")
        assert answer.status_code == 200
        assert "attachment; filename*=UTF-8''b_voice_testophone." in answer.headers["content-disposition"]
        files[kind] = answer.content
    (tmp_path / "page.wav").write_bytes(files["wav"])
    np.testing.assert_array_equal(soundfile.read(tmp_path / "page.wav", dtype="float32")[0], pcm(studio, done))
    assert files["flac"].startswith(b"fLaC")
    assert files["midi"].startswith(b"MThd")
    assert files["curves"].startswith(b"time_s,f0_hz,power_db,gate")
    assert files["picture"].startswith(b"\x89PNG")
    assert studio.client.get(f"api/played/{done['id']}/download/exe").status_code == 400


# --- sounds ---


def test_sounds_outlive_the_studio(studio):
    take = add(studio, studio.desk / "voice.wav", "C:\\tmp\\my voice.wav")
    assert take["name"] == "my voice.wav"
    again = Session(studio.session.folder)
    assert next(entry["name"] for entry in again.takes.cards()) == "my voice.wav"
    assert again.takes.find(take["id"]).seconds == take["seconds"]
    assert studio.client.delete(f"api/takes/{take['id']}").status_code == 200
    assert [entry["id"] for entry in studio.client.get("api/state").json()["takes"]] == ["example"]
    assert [path.name for path in (studio.session.folder / "takes").iterdir()] == []


def test_a_sound_that_cannot_be_removed_keeps_its_card(studio, monkeypatch):
    """As on Windows while it is read."""
    take = add(studio, studio.desk / "voice.wav")
    unlink = Path.unlink

    def held(path, missing_ok=False):
        if path.suffix == ".wav":
            raise PermissionError(errno.EACCES, "in use")
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", held)
        assert studio.client.delete(f"api/takes/{take['id']}").status_code == 400
    assert take["id"] in [entry["id"] for entry in studio.client.get("api/state").json()["takes"]]
    assert studio.client.delete(f"api/takes/{take['id']}").status_code == 200
    assert list((studio.session.folder / "takes").iterdir()) == []


def test_example_is_there_and_stays(studio):
    assert studio.client.get("api/takes/example").json()["seconds"] > 5
    studio.client.delete("api/takes/example")
    assert studio.client.get("api/takes/example").status_code == 200


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.wav", b"no sound at all"),
        ("empty.wav", b""),
        ("page.html", b"<script>alert(1)</script>"),
        ("bad.mid", b"MThd\x00\x00\x00\x06\xff\xff\xff\xff\xff\xff"),
        ("cut.flac", b"fLaC\x00\x00"),
    ],
)
def test_what_is_no_sound_is_refused_and_not_kept(studio, name, content):
    answer = studio.client.post("api/takes", params={"name": name}, content=content)
    assert answer.status_code == 400
    words = answer.json()["error"]
    assert name in words
    assert str(studio.session.folder) not in words
    assert list((studio.session.folder / "takes").iterdir()) == []


def test_upload_is_bounded(studio, monkeypatch):
    monkeypatch.setattr(takes_module, "MAX_FILE_BYTES", 1000)
    answer = studio.client.post("api/takes", params={"name": "x.wav"}, content=bytes(2000))
    assert (answer.status_code, "larger" in answer.json()["error"]) == (400, True)
    assert list((studio.session.folder / "takes").iterdir()) == []


def test_long_sound_is_refused(studio, monkeypatch):
    monkeypatch.setattr(takes_module, "MAX_SOUND_S", 1.0)
    answer = studio.client.post("api/takes", params={"name": "x.wav"}, content=(studio.desk / "voice.wav").read_bytes())
    assert "longer than" in answer.json()["error"]
    assert list((studio.session.folder / "takes").iterdir()) == []


def test_many_samples_a_second_are_refused(studio, monkeypatch, tmp_path):
    monkeypatch.setattr(takes_module, "MAX_SOUND_SAMPLES", 600_000)
    soundfile.write(tmp_path / "x.flac", np.zeros(655_350), 655_350)
    answer = studio.client.post("api/takes", params={"name": "x.flac"}, content=(tmp_path / "x.flac").read_bytes())
    assert "longer than 0.0153 minutes" in answer.json()["error"]
    assert list((studio.session.folder / "takes").iterdir()) == []


def test_long_scores_and_curves_are_refused(studio):
    """They are small files, and hours of sound in memory."""
    track = mido.MidiTrack([mido.Message("note_on", note=60), mido.Message("note_off", note=60, time=480 * 2 * 3600)])
    score = studio.desk / "long.mid"
    mido.MidiFile(tracks=[track], ticks_per_beat=480).save(score)
    answer = studio.client.post("api/takes", params={"name": "long.mid"}, content=score.read_bytes())
    assert "longer than 20 minutes" in answer.json()["error"]
    take = add(studio, studio.desk / "voice.wav")
    asked = {"take": take["id"], "instrument": "testophone", "name": "x.csv"}
    table = b"time_s,f0_hz,power_db\n0,440,-20\n86000,440,-20\n"
    assert "longer than 20 minutes" in studio.client.post("api/curves", params=asked, content=table).json()["error"]


def test_folder_is_bounded(studio, monkeypatch):
    add(studio, studio.desk / "voice.wav")
    monkeypatch.setattr(takes_module, "MAX_FOLDER_BYTES", 1000)
    answer = studio.client.post("api/takes", params={"name": "x.wav"}, content=b"x")
    assert answer.status_code == 400


def test_sounds_that_are_kept_open_are_bounded(studio, monkeypatch):
    first, second = (add(studio, studio.desk / "voice.wav", name) for name in ("a.wav", "b.wav"))
    monkeypatch.setattr(takes_module, "KEPT_BYTES", 1000)
    one = studio.session.takes.find(first["id"])
    assert studio.session.takes.find(first["id"]) is one
    assert studio.session.takes.find(second["id"]).name == "b.wav"
    again = studio.session.takes.find(first["id"])
    np.testing.assert_array_equal(again.pcm, one.pcm)  # read once more from its file


def test_a_sound_that_is_being_read_delays_no_other(studio, monkeypatch):
    """Two requests for it read it once."""
    slow, other = (add(studio, studio.desk / "voice.wav", name)["id"] for name in ("a.wav", "b.wav"))
    takes = Session(studio.session.folder).takes  # none is open
    begun, go_on, read, n_read = threading.Event(), threading.Event(), takes_module._read, []

    def slowly(take_id, *rest):
        n_read.append(take_id)
        if take_id == slow:
            begun.set()
            assert go_on.wait(20)
        return read(take_id, *rest)

    monkeypatch.setattr(takes_module, "_read", slowly)
    with ThreadPoolExecutor(3) as pool:
        try:
            first, second = (pool.submit(takes.find, slow) for _ in range(2))
            assert begun.wait(20)
            assert pool.submit(takes.find, other).result(10).name == "b.wav"
        finally:
            go_on.set()
        assert first.result(20) is second.result(20) is takes.find(slow)
    assert sorted(n_read) == sorted([slow, other])


def test_a_sound_that_is_removed_while_it_is_read_is_not_kept(studio, monkeypatch):
    take_id = add(studio, studio.desk / "voice.wav")["id"]
    takes, read = Session(studio.session.folder).takes, takes_module._read

    def remove_then(*given):
        found = read(*given)
        takes.remove(take_id)
        return found

    monkeypatch.setattr(takes_module, "_read", remove_then)
    assert takes.find(take_id).name == "voice.wav"
    assert not takes._open
    with pytest.raises(InputError, match="not there any more"):
        takes.find(take_id)


def test_files_that_vanish_while_they_are_counted_do_not_count(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(bytes(10))
    (tmp_path / "folder").mkdir()
    is_file = Path.is_file

    def vanish(path):
        found = is_file(path)
        if path.name == "b":
            path.unlink()
        return found

    monkeypatch.setattr(Path, "is_file", vanish)
    assert takes_module.size_of_files(tmp_path) == 20


def test_request_is_bounded(studio, monkeypatch):
    monkeypatch.setattr("ddsp_cli.studio.server.MAX_BODY_BYTES", 1000)
    assert studio.client.post("api/play", content=bytes(2000)).status_code == 400
    assert studio.client.post("api/draw", content=bytes(2400)).status_code == 400


# --- requests that make no sense ---


@pytest.mark.parametrize(
    "settings",
    [
        {"transpose": 1e9}, {"wet": "nan"}, {"room": "/etc/passwd"}, {"room": "../models/flute"}, {"pitch": "pyin"},
        {"key": "H minor", "autotune": 1}, {"seed": 0.5}, [1, 2], "loud", {"dynamics": None}, {"dynamics": [1]},
        {"transpose": 10**400}, {"autotune": "loud"}, {"autotune": float("nan")}, {"transpose": "9" * 5000},
        {"x" * 9999: 1},
        {"key": "\ud800", "autotune": 1}, {"room": "\ud800"}, {"ensemble": 25}, {"seed": -1}, {"wet": True},
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(studio, settings):
    take = add(studio, studio.desk / "voice.wav")
    body = json.dumps({"take": take["id"], "instrument": "testophone", "settings": settings})  # with NaN
    answer = studio.client.post("api/play", content=body.encode())
    words = json.loads(answer.text.splitlines()[-1])
    assert "inside ddsp" not in words["error"]
    assert len(words["error"]) < 300
    answer = studio.client.post("api/presets/mine", content=json.dumps(settings).encode())
    assert answer.status_code == 400
    assert "inside ddsp" not in answer.json()["error"]


def test_folder_that_cannot_be_written_is_said(studio, monkeypatch):
    """A full disk, whichever call meets it first."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    sound = (studio.desk / "voice.wav").read_bytes()
    for target in ("ddsp_cli.studio.takes.write_bytes", "pathlib.Path.rename", "pathlib.Path.open"):
        with monkeypatch.context() as disk:
            disk.setattr(target, full)
            answer = studio.client.post("api/takes", params={"name": "x.wav"}, content=sound)
            assert answer.status_code == 400, target
            assert "No space left on device" in answer.json()["error"]
        left = studio.session.folder / "takes"
        assert not left.exists() or list(left.iterdir()) == []


def test_defect_is_said(studio, monkeypatch):
    monkeypatch.setattr(type(studio.session), "presets", lambda _: 1 / 0)
    client = TestClient(studio.app, base_url=str(studio.client.base_url), raise_server_exceptions=False)
    answer = client.get("api/state")
    assert (answer.status_code, "ZeroDivisionError" in answer.json()["error"]) == (500, True)


@pytest.mark.parametrize(
    "instrument",
    ["none", "..", "/tmp", "models/testophone", "", "x" * 150, "testophone:0.5+/tmp:0.5", "0:testophone 2:/tmp"],
)
def test_instrument_is_named_not_found_by_path(studio, instrument):
    take = add(studio, studio.desk / "voice.wav")
    assert "no instrument called" in play(studio, take, instrument)["error"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"take": 5}', b"[" * 100000, b"\xff\xfe"])
def test_broken_requests_are_refused(studio, body):
    answer = studio.client.post("api/play", content=body)
    assert answer.status_code == 400
    assert "error" in answer.json()


def test_what_is_gone_is_said(studio):
    assert "error" in studio.client.get("api/played/0123/pcm").json()
    assert "error" in studio.client.get("api/takes/0123456789abcdef").json()


def test_silence_is_said(studio, tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(16000), 16000)
    take = add(studio, tmp_path / "silence.wav")
    assert play(studio, take)["error"] == "silence.wav: no notes were found in it"


# --- presets, the end ---


def test_presets_are_kept(studio):
    saved = studio.client.post("api/presets/Soft flute", json={"dynamics": 0.3}).json()
    assert saved["Soft flute"]["dynamics"] == 0.3
    assert saved["Soft flute"]["wet"] == 1.0
    assert Session(studio.session.folder).presets() == saved
    assert studio.client.delete("api/presets/Soft flute").json() == {}
    assert studio.client.post("api/presets/x", json={"wet": 99}).status_code == 400


def test_a_gain_without_a_room_is_passed_over(studio):
    """The slider of the page stays where it was; the command line refuses `wet` where there is no room."""
    assert studio.session.settings({"room": "none", "wet": 0.5})["wet"] == 1.0


def test_damaged_presets_are_passed_over(studio):
    studio.session.folder.mkdir(parents=True, exist_ok=True)
    (studio.session.folder / "presets.json").write_text("{")
    assert studio.client.get("api/state").json()["presets"] == {}


@pytest.mark.parametrize(
    ("name", "kept"), [("AC/DC", "AC/DC"), ("a\\b?", "a\\b?"), ("\tx\n", "x"), ("x" * 80, "x" * 60)]
)
def test_names_of_presets_are_free(studio, name, kept):
    address = f"api/presets/{quote(name, safe='')}"
    assert list(studio.client.post(address, json={}).json()) == [kept]
    assert studio.client.delete(f"api/presets/{quote(kept, safe='')}").json() == {}
    assert studio.client.post("api/presets/%20", json={}).json()["error"] == "the preset has no name"


def test_presets_that_cannot_be_used_now_stay_in_the_file(studio):
    """The room of an instrument that is on another disk, say."""
    studio.session.folder.mkdir(parents=True, exist_ok=True)
    path = studio.session.folder / "presets.json"
    path.write_text(json.dumps({"Hall": {"room": "elsewhere"}, "Later": {"dynamics": True}, "Old": {}}))
    assert list(studio.client.post("api/presets/New", json={"dynamics": 0.3}).json()) == ["Old", "New"]
    assert list(studio.client.delete("api/presets/Old").json()) == ["New"]
    assert list(json.loads(path.read_text())) == ["Hall", "Later", "New"]


def test_page_asks_the_server_to_leave(studio):
    assert studio.client.post("api/quit").status_code == 200
    assert studio.left == [1]


def test_state_lists_instruments(studio):
    cards = {card["name"]: card for card in studio.client.get("api/state").json()["instruments"]}
    assert cards["testophone"]["licence"] == "CC0-1.0"
    assert (cards["testophone"]["lowest"], cards["testophone"]["highest"]) == ("C4", "C6")


def test_spectrogram_has_a_tone_in_its_row():
    tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
    levels, hop_s = spectrogram(tone, 16000)
    assert hop_s == pytest.approx(0.01)
    assert levels[50].argmax() == round(ROWS_PER_OCTAVE * np.log2(440 / LOWEST_HZ))


def test_silence_has_a_spectrogram():
    levels, _ = spectrogram(np.zeros(100, np.float32), 8000)
    assert levels.shape[0] == 1
    assert not levels.any()


@pytest.mark.parametrize(("peak_db", "brightest"), [(0.0, 255), (-50.0, 255), (-80.0, 187), (-150.0, 0)])
def test_soft_sound_has_a_darker_spectrogram(peak_db, brightest):
    """A tone of -80 dB is 20 dB below the softest that is fully bright: 55/75 of 255."""
    tone = 10 ** (peak_db / 20) * np.sin(2 * np.pi * 500 * np.arange(16000) / 16000)
    assert spectrogram(tone.astype(np.float32), 16000)[0].max() == pytest.approx(brightest, abs=1)


def test_speed_of_a_moved_control(studio):
    """Not a benchmark, only a bound against large regressions: 3 s of sound in less than 2 s."""
    take = add(studio, studio.desk / "voice.wav")
    play(studio, take)
    began = time.perf_counter()
    play(studio, take, settings={"transpose": 3})
    assert time.perf_counter() - began < 2.0
