"""Commands as they are typed into the shell of this system."""

from __future__ import annotations

import os
import re
import shlex


def quoted(argument: str | os.PathLike[str], system: str = os.name) -> str:
    """Returns an argument in quotation marks where a shell needs them.

    Args:
      argument: a word or a path.
      system: as `os.name`; "nt" for the double quotation marks of cmd and PowerShell, others for those of POSIX shells.
    """
    word = os.fspath(argument)
    if system == "nt":
        return word if re.fullmatch(r"[\w.\\/:+-]+", word) else f'"{word}"'
    return word if re.fullmatch(r"[\w./:+-]+", word) else shlex.quote(word)


def escaped(word: str) -> str:
    """Returns a word with a backslash before each character that means something to a POSIX shell."""
    return re.sub(r"[^\w./:+@%,=-]", r"\\\g<0>", word)
