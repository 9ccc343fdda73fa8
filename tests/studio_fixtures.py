"""A studio of two small instruments, behind its guard, and a client that is the page."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import soundfile
from starlette.testclient import TestClient

from ddsp_cli.studio.guard import Guard, new_token
from ddsp_cli.studio.server import Studio
from ddsp_cli.studio.session import Session
from fixtures import make_bundle, melody

PORT = 8765
ORIGIN = f"http://127.0.0.1:{PORT}"

#: Of a WebSocket that the page opens; the client sends a host of its own otherwise.
SOCKET_HEADERS = {"Origin": ORIGIN, "Host": f"127.0.0.1:{PORT}"}


@pytest.fixture(scope="session")
def desk(tmp_path_factory):
    """A folder with two instruments and a voice."""
    folder = tmp_path_factory.mktemp("studio-desk")
    make_bundle(folder / "models" / "testophone")
    make_bundle(folder / "models" / "otherophone", seed=5)
    soundfile.write(folder / "voice.wav", melody(note_s=0.6, rest_s=0.4), 16000, subtype="FLOAT")
    return folder


@pytest.fixture
def studio(desk, tmp_path, monkeypatch):
    """The page's client, the session, the token, and how often the server was asked to leave."""
    monkeypatch.chdir(desk)
    session, token, left = Session(tmp_path / "studio"), new_token(), []
    app = Guard(Studio(session, lambda: left.append(1)).app(), token, PORT)
    with TestClient(app, base_url=f"{ORIGIN}/{token}/", headers={"Origin": ORIGIN}) as client:
        yield SimpleNamespace(client=client, session=session, token=token, left=left, app=app, desk=desk)


def add(studio, path, name=None):
    """Uploads a file; returns its description."""
    answer = studio.client.post("api/takes", params={"name": name or path.name}, content=path.read_bytes())
    assert answer.status_code == 200, answer.text
    return answer.json()


def play(studio, take, instrument="testophone", **asked):
    """The last line of a play: `done`, or an error."""
    answer = studio.client.post("api/play", json={"take": take["id"], "instrument": instrument, **asked})
    return json.loads(answer.text.splitlines()[-1])
