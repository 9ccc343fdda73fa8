"""Start and end the server of the studio."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from ddsp_cli.errors import OutputError
from ddsp_cli.studio.guard import Guard, new_token
from ddsp_cli.studio.server import Studio
from ddsp_cli.studio.session import Session

#: Time for responses that are being sent when the server ends.
LEAVE_S = 3


def default_folder() -> Path:
    """Returns the folder of recordings and presets: the user's folder for data of programs."""
    import platformdirs

    return platformdirs.user_data_path("ddsp", appauthor=False) / "studio"


class Server:
    """A studio that is not running yet, at an address that is known.

    Args:
      port: of the loopback; 0 takes a free one.
      folder: of sounds and presets; None for `default_folder`.

    Raises:
      OutputError: the port is taken.
    """

    def __init__(self, port: int = 0, folder: Path | None = None) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if os.name == "posix":  # a port that was just left can be taken again; not so on Windows
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(("127.0.0.1", port))
            self._socket.listen()  # a browser that is quicker than the server waits
        except OSError as problem:
            self._socket.close()
            raise OutputError(
                f"port {port} cannot be used: {problem.strerror or problem}", "Choose another; 0 takes a free one."
            ) from problem
        self.port = int(self._socket.getsockname()[1])
        self._token = new_token()
        self.session = Session(folder or default_folder())
        studio = Studio(self.session, self.leave)
        self._server = uvicorn.Server(
            uvicorn.Config(
                Guard(studio.app(), self._token, self.port),
                log_level="critical",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="wsproto",
                ws_per_message_deflate=False,
                ws_max_size=1 << 20,
                timeout_graceful_shutdown=LEAVE_S,
            )
        )

    @property
    def address(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.port}/{self._token}/"

    @property
    def started(self) -> bool:
        """Whether it answers."""
        return bool(self._server.started)

    def run(self) -> None:
        """Serves until the page or a signal ends it."""
        self._server.run(sockets=[self._socket])

    def close(self) -> None:
        """Closes a server that never ran."""
        self._socket.close()
        self.session.close()

    def leave(self) -> None:
        """Ends `run` after the responses that are being sent."""
        self._server.should_exit = True


def run(port: int, opened: Callable[[Server], None]) -> None:
    """Runs a studio.

    Args:
      port: see `Server`.
      opened: called with it before it answers.

    Raises:
      OutputError: the port is taken.
    """
    server = Server(port)
    opened(server)
    server.run()
