"""The page of `ddsp transfer --report`: every input beside its renderings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ddsp_cli.atomic import write_bytes, writing
from ddsp_cli.audio import read
from ddsp_cli.audio.write import check_writable
from ddsp_cli.reports.page import file_as_mp3, render


class Transferred(Protocol):
    """One output on the page; `workflows.transfer.TransferResult` is one."""

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
    def n_players(self) -> int: ...
    @property
    def n_voices(self) -> int: ...
    @property
    def remarks(self) -> tuple[str, ...]: ...


def write_report(path: Path, results: Sequence[Transferred], pictures: Sequence[bytes], force: bool = False) -> None:
    """Writes the page, whole or not at all.

    Args:
      path: the .html file.
      results: the outputs, those of one input beside each other.
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
    """Returns the page as HTML text; arguments as `write_report`."""
    sections = []
    for source in dict.fromkeys(result.input for result in results):
        its = [(result, png) for result, png in zip(results, pictures, strict=True) if result.input == source]
        players = [
            {"mp3": file_as_mp3(result.output), "title": result.instrument, "about": _about(result)}
            for result, _ in its
        ]
        if source.suffix.lower() in read.AUDIO_SUFFIXES:
            players.insert(0, {"mp3": file_as_mp3(source), "title": "input", "about": source.name})
        remarks = dict.fromkeys(remark for result, _ in its for remark in result.remarks)
        words = f"{source.name} on {{}}: waveforms, spectrograms, pitch and level"
        sections.append({
            "name": source.name,
            "remarks": [remark[:1].upper() + remark[1:] for remark in remarks],
            "players": players,
            "pictures": [{"png": png, "words": words.format(result.instrument)} for result, png in its],
        })  # fmt: skip
    names = ", ".join(dict.fromkeys(result.instrument for result in results))
    return render("transfer.html", f"{names}: ddsp transfer", f"Played on {names}", sections=sections)


def _about(result: Transferred) -> str:
    parts = [
        f"{result.seconds:.1f} s",
        *([f"{result.n_voices} voices"] if result.n_voices > 1 else []),
        *([f"{result.n_players} players"] if result.n_players > 1 else []),
        f"{result.n_segments} segment{'s' if result.n_segments != 1 else ''}",
        f"{result.transpose_semitones:+g} semitones" if result.transpose_semitones else "not transposed",
    ]
    if result.key:
        parts.append(f"tuned to {result.key}")
    if result.tail_s > 0:
        parts.append(f"room {result.tail_s:.1f} s")
    return ", ".join(parts)
