"""`ddsp studio` as a process: its output, its end, and no lost sound."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import pytest

from ddsp_cli.studio.server import Server
from ddsp_cli.studio.session import CancelledError


def ask(address, path="", method="GET", body=None):
    """Sends a request as the page does; returns status and body."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    connection.request(method, parts.path + path, body, {"Origin": f"http://{parts.netloc}"})
    answer = connection.getresponse()
    return answer.status, answer.read()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_it_leaves_when_asked_and_keeps_recordings(studio, tmp_path, number):
    environment = os.environ | {"XDG_DATA_HOME": str(tmp_path), "HOME": str(tmp_path)}
    sound = (studio.desk / "voice.wav").read_bytes()

    def start():
        command = [sys.executable, "-m", "ddsp_cli", "studio", "--no-browser"]
        found = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return found, found.stdout.readline().strip()

    process, address = start()
    assert b"<!doctype html>" in ask(address)[1]
    assert ask(address, "api/takes?name=mine.wav", "POST", sound)[0] == 200
    process.send_signal(number)
    assert process.wait(20) in {0, 128 + number}
    said = process.stderr.read()
    assert "Traceback" not in said
    assert "kept for the next time" in said
    process, address = start()
    takes = json.loads(ask(address, "api/state")[1])["takes"]
    assert takes[0]["name"] == "mine.wav"
    assert ask(address, "api/quit", "POST")[0] == 200
    assert process.wait(20) == 0


def test_page_that_goes_away_cancels_its_work(tmp_path, monkeypatch):
    server, cancelled = Server(0, tmp_path / "studio"), threading.Event()

    def endless(take, instrument, settings, curves, progress, **asked):
        try:
            while True:
                progress("listening", 0.5)
                time.sleep(0.01)
        except CancelledError:
            cancelled.set()
            raise

    monkeypatch.setattr(server.session, "play", endless)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        parts = urlsplit(server.address)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        body = json.dumps({"take": "example", "instrument": "flute"})
        connection.request("POST", f"{parts.path}api/play", body, {"Origin": f"http://{parts.netloc}"})
        answer = connection.getresponse()
        assert json.loads(answer.readline()) == {"doing": "listening", "share": 0.5}
        answer.close()
        connection.close()
        assert cancelled.wait(5)
    finally:
        server.leave()
        thread.join(20)
    assert not thread.is_alive()


def test_server_that_leaves_cancels_work(tmp_path, monkeypatch):
    server, begun, cancelled = Server(0, tmp_path / "studio"), threading.Event(), threading.Event()

    def endless(take, instrument, settings, curves, progress, **asked):
        begun.set()
        try:
            while True:
                progress("listening", 0.5)
                time.sleep(0.01)
        except CancelledError:
            cancelled.set()
            raise

    monkeypatch.setattr(server.session, "play", endless)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    body = json.dumps({"take": "example", "instrument": "flute"})

    def page():
        with contextlib.suppress(http.client.HTTPException, OSError):  # the answer ends in the middle
            ask(server.address, "api/play", "POST", body)

    threading.Thread(target=page, daemon=True).start()
    assert begun.wait(10)
    server.leave()
    thread.join(20)
    assert not thread.is_alive()
    assert cancelled.is_set()
