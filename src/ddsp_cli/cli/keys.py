"""Single keys from a terminal, without waiting: termios on POSIX systems, msvcrt on Windows."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any, Self

from ddsp_cli.cli import console

#: The arrow keys: last letters of the escape sequences of terminals, and what msvcrt gives after a prefix.
_ESCAPES = {"A": "up", "B": "down", "C": "right", "D": "left"}
_MSVCRT = {"H": "up", "P": "down", "M": "right", "K": "left"}


class Keys:
    """Reads keys as they are pressed while it is open; gives none where standard input is no terminal."""

    def __init__(self) -> None:
        self._before: Any = None
        self.is_open = False

    def __enter__(self) -> Self:
        if not console.is_terminal(sys.stdin):
            return self
        if sys.platform != "win32":
            import termios
            import tty

            try:
                self._before = termios.tcgetattr(sys.stdin.fileno())
                tty.setcbreak(sys.stdin.fileno())  # keys come one by one and are not shown; Ctrl-C still interrupts
            except termios.error:
                return self
        self.is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_open = False
        if sys.platform != "win32" and self._before is not None:
            import termios

            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)

    def pressed(self) -> list[str]:
        """Keys since the last call: characters, or `up`, `down`, `left`, `right`."""
        if not self.is_open:
            return []
        if sys.platform == "win32":
            import msvcrt

            keys = []
            while msvcrt.kbhit():
                character = msvcrt.getwch()
                keys.append(_MSVCRT.get(msvcrt.getwch(), "") if character in "\x00\xe0" else character)
            return keys
        import select

        descriptor, found = sys.stdin.fileno(), b""
        while select.select([descriptor], [], [], 0.0)[0]:
            part = os.read(descriptor, 64)
            if not part:  # the terminal has closed
                break
            found += part
        return names(found.decode(errors="replace"))


def names(text: str) -> list[str]:
    """Characters and arrow keys in what a terminal sends."""
    keys, at = [], 0
    while at < len(text):
        if text[at] == "\x1b" and text[at + 1 : at + 2] in {"[", "O"} and text[at + 2 : at + 3] in _ESCAPES:
            keys.append(_ESCAPES[text[at + 2]])
            at += 3
        else:
            keys.append(text[at])
            at += 1
    return keys
