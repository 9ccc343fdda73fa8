"""Helpers for tests of pages: code that a Markdown page shows, the options it mentions, the tags of an HTML page."""

from __future__ import annotations

import html.parser
import re
import shlex
from pathlib import Path

from command_fixtures import ddsp

ROOT = Path(__file__).parent.parent


def code_blocks(page: str, language: str) -> list[str]:
    """Returns the blocks of a language, each after as many empty lines as precede it: errors have its line numbers."""
    found = re.finditer(rf"^```{language}\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    return ["\n" * page.count("\n", 0, block.start(1)) + block[1] for block in found]


def commands(page: str) -> list[list[str]]:
    """The command lines of all ```sh blocks, split into words, in order."""
    lines = [line for block in code_blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def options(text: str) -> set[str]:
    """Every `--option` that a text mentions."""
    return set(re.findall(r"--[a-z][a-z-]+", text))


def known_options(*command: str) -> set[str]:
    """The options of `ddsp`, or of one of its commands."""
    done = ddsp(*command, "--help", cwd=ROOT, COLUMNS="200", NO_COLOR="1")
    assert done.returncode == 0
    return options(done.stdout.decode())


class Tags(html.parser.HTMLParser):
    """Follows the tags of a page; each end has to be that of the tag opened last."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
