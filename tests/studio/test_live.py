"""Live through the page: the WebSocket returns the output of `Performer`."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import soundfile

from ddsp_cli.live.mixer import CROSSFADE_S, WARM_UP_S
from ddsp_cli.studio import live as live_module
from ddsp_cli.studio.live import Line
from studio_fixtures import SOCKET_HEADERS

RATE_HZ, BLOCK = 48000, 256


@pytest.fixture
def line(studio):
    with studio.client.websocket_connect(f"/{studio.token}/live?rate={RATE_HZ}", headers=SOCKET_HEADERS) as it:
        yield it


def exchange(line, number, block):
    line.send_bytes(struct.pack("<I", number) + block.astype("<f4").tobytes())
    answer = line.receive_bytes()
    got, load, input_hz, played_hz = struct.unpack_from("<Ifff", answer)
    assert got == number
    assert load > 0
    assert played_hz >= input_hz >= 0
    return np.frombuffer(answer, "<f4", offset=16)


def ask(line, **wanted):
    line.send_text(json.dumps(wanted))
    return json.loads(line.receive_text())


def voice(desk):
    audio, _ = soundfile.read(desk / "voice.wav", dtype="float32")
    return np.repeat(audio, 3)[: round(0.9 * RATE_HZ)]  # at 48 kHz


def test_page_hears_the_performer(studio, line):
    answer = ask(line, instrument="testophone", settings={"transpose": 12})
    assert answer["instrument"] == "testophone"
    performer = studio.session.instrument("testophone").live(transpose=12, sample_rate=RATE_HZ)
    assert answer["latency_s"] == performer.latency_s
    audio = voice(studio.desk)
    blocks = [audio[start : start + BLOCK] for start in range(0, len(audio), BLOCK)]
    played = np.concatenate([exchange(line, number, block) for number, block in enumerate(blocks)])
    np.testing.assert_array_equal(played, np.concatenate([performer.push(block) for block in blocks]))


def test_low_latency_is_26_ms_less(line):
    safe_s = ask(line, instrument="testophone")["latency_s"]
    low_s = ask(line, instrument="testophone", settings={"latency": "low"})["latency_s"]
    assert safe_s - low_s == pytest.approx(0.0265, abs=5e-4)


def test_change_fades_without_a_step(studio):
    """Two performers of one instrument give the same sound, so a fade between them is inaudible."""
    make = studio.session.instrument("testophone").live
    audio = voice(studio.desk)
    reference, line = make(sample_rate=RATE_HZ), Line(make(sample_rate=RATE_HZ))
    steady = line._performer.latency_samples + round((WARM_UP_S + 2 * CROSSFADE_S) * RATE_HZ)
    for start in range(0, len(audio), BLOCK):
        if start == 40 * BLOCK:
            line.change(make(sample_rate=RATE_HZ))
        expected, got = reference.push(audio[start : start + BLOCK]), line.push(audio[start : start + BLOCK])
        assert len(got) == len(expected)
        if start < 40 * BLOCK:
            np.testing.assert_array_equal(got, expected)
    assert 40 * BLOCK + steady < len(audio)
    assert line._next is None  # the change is over


@pytest.mark.parametrize(
    "wanted",
    [
        {"instrument": "none"},
        {"instrument": "../../etc"},
        {"instrument": "testophone", "settings": {"room": "/etc/passwd"}},
        {"instrument": "testophone", "settings": {"transpose": 1e9}},
        {"instrument": "testophone", "settings": {"glide": 1}},
        {"instrument": "testophone", "settings": {"room": []}},
        {"instrument": "testophone", "settings": {"wet": None}},
        {"instrument": "testophone", "settings": {"transpose": 10**400}},
        {"instrument": "testophone", "settings": {"transpose": True}},
        {"instrument": "testophone", "settings": {"formant": "x" * 10_000}},
        {"instrument": "testophone", "settings": ["transpose"]},
        {"instrument": "testophone", "settings": None},
        {"instrument": "\ud800"},
        {"instrument": "testophone", "settings": {"latency": "none"}},
        {"instrument": "testophone", "settings": {"latency": []}},
        {"instrument": 5},
        {},
        [],
    ],
)
def test_impossible_wishes_are_answered(line, wanted):
    line.send_text(json.dumps(wanted))
    assert json.loads(line.receive_text())["error"]
    assert "latency_s" in ask(line, instrument="testophone")  # the line still works


def test_a_defect_is_reported_and_the_connection_stays(studio, line, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(type(studio.session), "_check_room", lambda *_: 1 / 0)
        assert "ZeroDivisionError" in ask(line, instrument="testophone")["error"]
    assert "latency_s" in ask(line, instrument="testophone")


@pytest.mark.parametrize(
    "message",
    [
        struct.pack("<I", 1) + np.array([np.nan], "<f4").tobytes(),
        struct.pack("<I", 1) + np.array([np.inf], "<f4").tobytes(),
        struct.pack("<I", 1) + b"\x00\x00",
        b"",
        bytes(4 * (live_module.MAX_BLOCK_SAMPLES + 2)),
    ],
)
def test_broken_blocks_are_answered(line, message):
    ask(line, instrument="testophone")
    line.send_bytes(message)
    assert json.loads(line.receive_text())["error"]


def test_rate_of_no_device_is_refused(studio):
    with studio.client.websocket_connect(f"/{studio.token}/live?rate=1e9", headers=SOCKET_HEADERS) as line:
        assert "audio device" in ask(line, instrument="testophone")["error"]


def test_lines_are_bounded(studio, line, monkeypatch):
    monkeypatch.setattr(live_module, "MAX_LINES", 1)
    ask(line, instrument="testophone")
    with studio.client.websocket_connect(f"/{studio.token}/live?rate=48000", headers=SOCKET_HEADERS) as other:
        assert "already" in json.loads(other.receive_text())["error"]
