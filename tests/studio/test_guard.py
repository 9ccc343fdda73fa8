"""Nobody but the page of this user may talk to the server: each attack is tried."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from ddsp_cli.studio.guard import new_token
from ddsp_cli.studio.server import Server
from studio_fixtures import ORIGIN, PORT, SOCKET_HEADERS


def ask(studio, path="api/state", method="GET", **headers):
    """The status of a request with headers of the attacker's own."""
    url = path if path.startswith("/") else f"/{studio.token}/{path}"
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    client = TestClient(studio.app, base_url=ORIGIN)
    return client.request(method, url, headers=sent).status_code


def test_page_is_answered(studio):
    assert ask(studio) == 200
    assert ask(studio, host=f"localhost:{PORT}") == 200


def test_no_token_no_answer(studio):
    for path in ("/", "/api/state", f"/{new_token()}/api/state", f"/{studio.token}", f"/{studio.token[:-1]}/api/state"):
        assert ask(studio, path) == 404, path


def test_tokens_cannot_be_guessed():
    assert len({new_token() for _ in range(100)}) == 100
    assert min(len(new_token()) for _ in range(100)) == 32


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:80", "0.0.0.0:8765", ""]
)
def test_rebound_name_is_refused(studio, host):
    """DNS rebinding: the attacker's name resolves to the loopback, and the browser sends it as the Host."""
    assert ask(studio, host=host) == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:80", f"https://127.0.0.1:{PORT}",
                                    f"http://localhost:{PORT}"])  # fmt: skip
def test_other_origin_is_refused(studio, origin):
    assert ask(studio, origin=origin) == 403
    assert ask(studio, "api/quit", "POST", origin=origin) == 403
    assert studio.left == []


def test_request_that_changes_something_needs_an_origin(studio):
    assert ask(studio, "api/quit", "POST") == 403
    assert ask(studio, "api/takes/0123456789abcdef", "DELETE") == 403
    assert studio.left == []


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_page_of_another_site_cannot_embed_or_link(studio, site):
    assert ask(studio, "", sec_fetch_site=site) == 403


def test_no_permission_for_other_origins(studio):
    headers = studio.client.get("api/state").headers
    assert "access-control-allow-origin" not in headers
    preflight = studio.client.options("api/play", headers={"Access-Control-Request-Method": "POST"})
    assert "access-control-allow-origin" not in preflight.headers


def test_policy_is_strict(studio):
    for path in ("", "static/main.js", "api/state", "static/none"):
        headers = studio.client.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert "http:" not in policy and "https:" not in policy and "*" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_page_needs_no_inline_code_and_nothing_from_elsewhere(studio):
    """The page uses nothing that the policy forbids, so nothing fails silently."""
    from importlib import resources

    for file in (resources.files("ddsp_cli.studio") / "static").iterdir():
        text = file.read_text(encoding="utf-8")
        assert "https://" not in text, file.name
        assert text.replace("http://www.w3.org/2000/svg", "").count("http://") == 0, file.name
        if file.name.endswith(".html"):
            assert " style=" not in text and " on" not in text.replace(" on ", ""), file.name
            assert "<script>" not in text and "<style" not in text


@pytest.mark.parametrize(
    "changed", [{"Origin": "http://evil.example"}, {"Origin": None}, {"Host": f"evil.example:{PORT}"}, {}]
)
def test_web_socket_of_another_page_is_refused(studio, changed):
    headers = {name: value for name, value in (SOCKET_HEADERS | changed).items() if value}
    token = studio.token if changed else new_token()
    client = TestClient(studio.app, base_url=ORIGIN)
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(f"/{token}/live", headers=headers):
        pass


@pytest.mark.parametrize(
    "path",
    [
        "static/../server.py",
        "static/%2e%2e/server.py",
        "static/..%2fserver.py",
        "api/takes/..%2f..%2fetc%2fpasswd/pcm",
        "api/instruments/..%2f..%2fmodels/preview",
    ],
)
def test_no_path_leaves_the_folder(studio, path):
    assert studio.client.get(path).status_code in {400, 404}


def test_server_listens_on_the_loopback_only(tmp_path):
    server = Server(0, tmp_path)
    try:
        assert server._socket.getsockname()[0] == "127.0.0.1"
        assert server.address.startswith(f"http://127.0.0.1:{server.port}/")
    finally:
        server.close()


def test_port_that_is_taken_is_said(tmp_path):
    from ddsp_cli.errors import OutputError

    first = Server(0, tmp_path)
    try:
        with pytest.raises(OutputError, match=f"port {first.port} cannot be used"):
            Server(first.port, tmp_path)
    finally:
        first.close()
