"""SHA-256 digests of files, and files that carry the digest of their own content.

A text file of ours ends in a comment line with its digest. Who edits such a file by hand removes that line; a file
without one is read unchecked. A binary cache file begins with its digest and is never read without.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

#: Begins the last line of a text file; YAML reads it as a comment.
TEXT_MARK = "# sha256: "

_HEX_DIGITS = 64


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal.

    Raises:
      OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal_text(text: str) -> str:
    """Adds a last line with the digest of a text. Line endings are not part of it, since Git may change them."""
    text = text if text.endswith("\n") else f"{text}\n"
    return f"{text}{TEXT_MARK}{_text_digest(text)}\n"


def is_altered(text: str) -> bool:
    """Whether a text carries a digest that is not its own; False for a text without one."""
    body, mark, digest = text.rpartition(TEXT_MARK)
    if mark:
        return digest.strip() != _text_digest(body)
    last = text.rstrip().rpartition("\n")[2]  # a comment as long as a digest's line: its mark is damaged
    return last.startswith("#") and len(last) == len(TEXT_MARK) + _HEX_DIGITS


def _text_digest(text: str) -> str:
    lines = text.replace("\r\n", "\n").encode("utf-8", "surrogatepass")
    return hashlib.sha256(lines).hexdigest()


def seal(content: bytes) -> bytes:
    """Returns the content behind a line with its digest."""
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def unseal(sealed: bytes) -> bytes:
    """Returns the content of bytes that `seal` made.

    Raises:
      ValueError: the text differs from the sealed one.
    """
    digest, content = sealed[:_HEX_DIGITS], sealed[_HEX_DIGITS + 1 :]
    if sealed[_HEX_DIGITS : _HEX_DIGITS + 1] != b"\n" or hashlib.sha256(content).hexdigest().encode() != digest:
        raise ValueError("the digest does not match the content")
    return content
