"""A page to listen and look at: every performance beside what the instruments made of it. One file, nothing else.

Sounds are embedded as MP3, which every browser plays, pictures as PNG. Nothing is loaded from anywhere.
"""

from __future__ import annotations

import base64
import html
import io as bytes_io
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from ddsp_cli import __version__
from ddsp_cli.atomic import write_bytes, writing
from ddsp_cli.audio import read
from ddsp_cli.audio.write import WRITE_CHUNK_SAMPLES, check_writable

#: A page holds this much of each sound, 4 MB of MP3; more would make it slow to open.
LONGEST_S = 600.0

RATE_HZ = 32000

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h2 { margin-top: 3rem; border-bottom: 1px solid #8886; }
.players { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; }
figure { margin: 0; padding: 1rem; border: 1px solid #8886; border-radius: .5rem; }
figcaption { margin-bottom: .5rem; }
.about { opacity: .75; font-size: .9rem; }
audio { width: 100%; }
img { width: 100%; height: auto; background: white; border-radius: .5rem; margin-top: 1rem; }
table { border-collapse: collapse; }
th, td { text-align: left; padding: .1rem 1.5rem .1rem 0; font-weight: normal; }
th { opacity: .75; }
.remark { border-left: .3rem solid #d80; padding-left: .8rem; }
"""

#: One player at a time.
SCRIPT = """
const players = [...document.querySelectorAll('audio')];
for (const player of players)
  player.addEventListener('play', () => players.forEach(other => other === player || other.pause()));
"""


class Transferred(Protocol):
    """What the page says of one sound; `workflows.transfer.TransferResult` is one."""

    @property
    def input(self) -> Path: ...
    @property
    def output(self) -> Path: ...
    @property
    def instrument(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def transpose_semitones(self) -> float: ...
    @property
    def key(self) -> str: ...
    @property
    def n_segments(self) -> int: ...
    @property
    def tail_s(self) -> float: ...
    @property
    def remarks(self) -> tuple[str, ...]: ...


def write_report(path: Path, results: Sequence[Transferred], pictures: Sequence[bytes], force: bool = False) -> None:
    """Writes the page, whole or not at all.

    Args:
      path: the .html file.
      results: what was played, the instruments of one input beside each other.
      pictures: a PNG for each.
      force: replace an existing file.

    Raises:
      OutputError: the file exists or cannot be written.
    """
    check_writable(path, force)
    page = make_page(results, pictures)
    with writing(path):
        write_bytes(path, page.encode())


def make_page(results: Sequence[Transferred], pictures: Sequence[bytes]) -> str:
    """The page as text."""
    sections = []
    for source in dict.fromkeys(result.input for result in results):
        its = [(result, png) for result, png in zip(results, pictures, strict=True) if result.input == source]
        heard = source.suffix.lower() in read.AUDIO_SUFFIXES
        players = [player(as_mp3(source), "heard", source.name)] if heard else []
        players += [player(as_mp3(result.output), result.instrument, _about(result)) for result, _ in its]
        remarks = dict.fromkeys(remark for result, _ in its for remark in result.remarks)
        sections.append(
            f"<section><h2>{_text(source.name)}</h2>"
            + "".join(f'<p class="remark">{_text(remark[:1].upper() + remark[1:])}.</p>' for remark in remarks)
            + f'<div class="players">{"".join(players)}</div>'
            + "".join(
                picture(png, f"{source.name} on {result.instrument}: waveforms, spectrograms, pitch and level")
                for result, png in its
            )
            + "</section>"
        )
    names = ", ".join(dict.fromkeys(result.instrument for result in results))
    return document(f"{names}: ddsp transfer", f"Played on {names}", "".join(sections))


def document(title: str, heading: str, body: str) -> str:
    """A whole page; title and heading are text, the body is HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{STYLE}</style></head>\n<body><h1>{_text(heading)}</h1>\n{body}\n"
        f'<p class="about">Made with ddsp {__version__}.</p><script>{SCRIPT}</script></body></html>\n'
    )


def _about(result: Transferred) -> str:
    parts = [
        f"{result.seconds:.1f} s",
        f"{result.n_segments} phrase{'s' if result.n_segments != 1 else ''}",
        f"{result.transpose_semitones:+g} semitones" if result.transpose_semitones else "not transposed",
    ]
    if result.key:
        parts.append(f"tuned to {result.key}")
    if result.tail_s > 0:
        parts.append(f"room {result.tail_s:.1f} s")
    return ", ".join(parts)


def player(mp3: bytes, title: str, about: str) -> str:
    """A sound with its title and a line about it, as HTML."""
    source = "data:audio/mpeg;base64," + base64.b64encode(mp3).decode("ascii")
    return (
        f'<figure><figcaption><strong>{_text(title)}</strong><br><span class="about">{_text(about)}</span>'
        f'</figcaption><audio controls preload="metadata" src="{source}"></audio></figure>'
    )


def picture(png: bytes, words: str) -> str:
    """A PNG and words that say what it shows, as HTML."""
    data = base64.b64encode(png).decode("ascii")
    return f'<img src="data:image/png;base64,{data}" alt="{_text(words)}">'


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values, as HTML."""
    lines = "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in rows)
    return f"<table>{lines}</table>"


def _text(words: str) -> str:
    return html.escape(words, quote=True)


def as_mp3(path: Path) -> bytes:
    """The first minutes of a sound file as MP3, mono."""
    return mp3(islice(read.mono_blocks(path, RATE_HZ, block_s=10.0), int(LONGEST_S / 10.0)), RATE_HZ)


def mp3(blocks: Iterable[np.ndarray], rate_hz: int) -> bytes:
    """Sound in blocks [S] as MP3, mono; MP3 knows 16, 24, 32, 44.1 and 48 kHz."""
    import soundfile

    out = bytes_io.BytesIO()
    with soundfile.SoundFile(out, "w", rate_hz, 1, "MPEG_LAYER_III", format="MP3") as file:
        for block in blocks:
            for start in range(0, len(block), WRITE_CHUNK_SAMPLES):
                file.write(np.clip(block[start : start + WRITE_CHUNK_SAMPLES], -1.0, 1.0))
    return out.getvalue()
