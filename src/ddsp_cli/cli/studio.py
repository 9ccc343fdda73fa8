"""`ddsp studio`: starts the page and says where it is."""

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from ddsp_cli.cli import console

if TYPE_CHECKING:
    from ddsp_cli.studio.server import Server

EPILOG = """
Examples:

  ddsp studio

  ddsp studio --port 8765 --no-browser
"""


def studio(
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, metavar="0..65535", help="Port of the page on this computer; 0 takes a free one."
        ),
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser, or only print its address.")
    ] = True,
) -> None:
    """Open a page in your browser: record, play, compare, train."""
    from ddsp_cli.studio.server import run

    def opened(server: "Server") -> None:
        console.say(server.address)
        console.remark("The page is for this computer only. Ctrl-C, or Quit in the page, ends it.")
        if browser:
            import threading
            import webbrowser

            threading.Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()

    with contextlib.suppress(KeyboardInterrupt):  # the usual way to end it; everything is on disk already
        run(port, opened)
    console.remark("The studio is closed. Its recordings are kept for the next time.")
