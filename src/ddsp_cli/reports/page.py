"""HTML pages to listen to and look at: jinja2 templates, sounds embedded as MP3, pictures as PNG.

A page is one file and loads nothing from anywhere. Everything a template prints is escaped.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli import __version__
from ddsp_cli.audio import read
from ddsp_cli.audio.resample import at_rate
from ddsp_cli.audio.write import WRITE_CHUNK_SAMPLES

#: A page holds this much of each sound, 4 MB of MP3; more would make it slow to open.
LONGEST_S = 600.0

#: Sample rate of embedded files; MP3 knows 16, 24, 32, 44.1 and 48 kHz.
MP3_RATE_HZ = 32000


def render(template: str, title: str, heading: str, **content: Any) -> str:
    """Returns a page as HTML text.

    Args:
      template: name of a file in `templates/`.
      title: of the browser's window.
      heading: of the page.
      **content: what the template names; text is escaped, bytes are embedded by the filter `data_uri`.
    """
    page = _environment().get_template(template)
    return str(page.render(title=title, heading=heading, version=__version__, **content))


@functools.cache
def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ddsp_cli.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["data_uri"] = data_uri
    return environment


def data_uri(content: bytes, media_type: str) -> str:
    """Returns a file as an address that holds its content."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def file_as_mp3(path: Path) -> bytes:
    """Returns the first minutes of a sound file as MP3: stereo where it has two channels, mono otherwise."""
    info = read.probe(path)
    if info.n_channels == 2:
        blocks = at_rate(_stereo_blocks(path), info.sample_rate_hz, MP3_RATE_HZ, 2)
        return as_mp3(islice(blocks, int(LONGEST_S / 10.0)), MP3_RATE_HZ, 2)
    blocks = read.mono_blocks(path, MP3_RATE_HZ, block_s=10.0)
    return as_mp3(islice(blocks, int(LONGEST_S / 10.0)), MP3_RATE_HZ)


def _stereo_blocks(path: Path) -> Iterator[np.ndarray]:
    """Yields blocks [S, 2] of a stereo file."""
    waiting: list[np.ndarray] = []
    for _ in read.decoded_blocks(path, 10.0, waiting.append, read.Decoded()):
        yield waiting.pop()


def as_mp3(blocks: Iterable[np.ndarray], rate_hz: int, n_channels: int = 1) -> bytes:
    """Returns sound in blocks [S] or [S, C] as MP3."""
    import soundfile

    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", rate_hz, n_channels, "MPEG_LAYER_III", format="MP3") as file:
        for block in blocks:
            for start in range(0, len(block), WRITE_CHUNK_SAMPLES):
                file.write(np.clip(block[start : start + WRITE_CHUNK_SAMPLES], -1.0, 1.0))
    return out.getvalue()


def clock(seconds: float, exact: bool = False) -> str:
    """`1:02:03` or `4:05`; with hundredths where `exact`."""
    whole = int(seconds) if exact else round(seconds)
    rest = f"{seconds - whole:.2f}"[1:] if exact else ""
    minutes, left = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}") + rest
