"""Admit only the browser of this user, on the page that the server sent.

| attack | what stops it |
|---|---|
| another computer | the socket is bound to the loopback |
| another user, or a page that tries ports | a random token is the first part of every path |
| DNS rebinding: a name of the attacker that resolves to the loopback | the Host header must be the loopback's |
| a page of another site that sends requests or opens a WebSocket | Origin and Sec-Fetch-Site must be this page's |
| text of a file that is shown as HTML | a Content-Security-Policy without inline code; `nosniff` |
| the page inside a frame of another site | `frame-ancestors` |
"""

from __future__ import annotations

import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Names of the loopback that browsers are given.
HOSTS = ("127.0.0.1", "localhost")

#: Requests that change something carry an Origin in every browser.
SAFE_METHODS = frozenset({"GET", "HEAD"})


def new_token() -> str:
    """Returns a token that cannot be guessed, in the letters of an address: 192 bits."""
    return secrets.token_urlsafe(24)


def policy(port: int) -> str:
    """Returns the Content-Security-Policy of the page."""
    sockets = " ".join(f"ws://{host}:{port}" for host in HOSTS)
    return "; ".join((
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "media-src 'self' blob:",
        f"connect-src 'self' {sockets}",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ))  # fmt: skip


#: Policy of the pages that `ddsp prepare` and `ddsp train` write: pictures and players inside the page, no request.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; sandbox"


class Guard:
    """Refuses requests that do not come from the page, and adds the security headers.

    Args:
      app: the application; it sees paths without the token.
      token: first part of every path.
      port: of the server.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token = app, token
        self._hosts = {f"{host}:{port}" for host in HOSTS}
        self._origins = {f"http://{host}" for host in self._hosts}
        self._policy = policy(port)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        status, why = self._refusal(scope)
        if status:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await PlainTextResponse(f"{why}\n", status)(scope, receive, self._closed(send))
            return
        inner = dict(scope)
        inner["path"] = scope["path"][1 + len(self._token) :]
        inner["raw_path"] = inner["path"].encode()
        await self._app(inner, receive, self._closed(send))

    def _refusal(self, scope: Scope) -> tuple[int, str]:
        """Returns status and reason of a refusal; 0 where the request may pass."""
        headers = Headers(scope=scope)
        if headers.getlist("host") != [headers.get("host", "")] or headers.get("host") not in self._hosts:
            return 421, "This address does not belong to ddsp studio."
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        needed = scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS
        if (origin is None and needed) or (origin is not None and origin not in self._origins):
            return 403, "Only the page of ddsp studio may ask for this."
        if origin is not None and origin != f"http://{headers['host']}":
            return 403, "Only the page of ddsp studio may ask for this."
        if site is not None and site not in {"same-origin", "none"}:
            return 403, "Only the page of ddsp studio may ask for this."
        given, slash, _ = scope["path"][1:].partition("/")
        if not slash or not secrets.compare_digest(given.encode(), self._token.encode()):
            return 404, "Open the address that ddsp studio printed."
        return 0, ""

    def _closed(self, send: Send) -> Send:
        """Adds the headers to a response."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", self._policy)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                headers["Cross-Origin-Opener-Policy"] = "same-origin"
                headers["Permissions-Policy"] = "microphone=(self), camera=(), geolocation=()"
                headers["Cache-Control"] = "no-store"
            await send(message)

        return with_headers
