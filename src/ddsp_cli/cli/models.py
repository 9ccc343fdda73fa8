"""`ddsp models`: a table of the instruments, the card of one, or one as a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddsp_cli.cli import console
from ddsp_cli.cli.options import Force, instrument_names, typed
from ddsp_cli.errors import Kind, UsageError
from ddsp_cli.pitch_names import note_name

if TYPE_CHECKING:
    from ddsp_cli.bundle import Card
    from ddsp_cli.workflows.models import Entry

#: The word that packs an instrument.
SHARE = "share"


def models(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME | share NAME]",
            help="An instrument to describe; share packs one into a file to pass on.",
            autocompletion=instrument_names,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Of share; by default NAME.ddsp.")
    ] = None,
    force: Force = False,
) -> None:
    """List the instruments with range, size, quality and place; describe one; share one."""
    from ddsp_cli.workflows.models import catalogue, find_playable, open_at
    from ddsp_cli.workflows.models import share as run_share

    if words and words[0] == SHARE and len(words) == 2:
        target = run_share(words[1], out, force)
        console.say(f"{target}: {console.size(target.stat().st_size)}")
        console.say(f"Import it elsewhere with: ddsp import {typed(target.name)}")
        return
    if words and len(words) > 1:
        raise UsageError(f"one instrument is described at a time, but there are {len(words)} names", kind=Kind.SHARE)
    if words:
        place = find_playable(words[0])
        _tell(open_at(place).card, place)
        return
    entries = catalogue()
    if not entries:
        console.say("There are no instruments yet. Train one with: ddsp train --instrument NAME")
        return
    if console.is_terminal(sys.stdout):
        for entry in entries:
            _short(entry)
        return
    rows = []
    for entry in entries:
        if entry.card is None:
            rows.append([
                entry.name, "unreadable", "", "", console.size(entry.size_bytes), entry.problem, "", _place(entry),
            ])  # fmt: skip
            continue
        rows.append([
            entry.name,
            played_range(entry.card),
            _model(entry.card),
            learned_from(entry.card),
            console.size(entry.size_bytes),
            quality(entry.card.metrics),
            entry.card.licence,
            _place(entry),
        ])  # fmt: skip
    console.table(["name", "range", "model", "learned from", "size", "quality", "licence", "where"], rows)


def _place(entry: Entry) -> str:
    """Where an instrument is: `bundled`, or its parent folder."""
    return "bundled" if entry.bundled else str(entry.path.parent)


def _model(card: Card) -> str:
    return f"{card.training.preset}, {card.model.sample_rate_hz / 1000:g} kHz"


def _short(entry: Entry) -> None:
    """An instrument in two lines of a terminal."""
    if entry.card is None:
        console.say(f"{entry.name:<14} unreadable: {entry.problem}")
        return
    card, where = entry.card, entry.where if entry.where in {"here", "library", "bundled"} else _place(entry)
    size = console.size(entry.size_bytes)
    console.say(f"{entry.name:<14} {played_range(card):<11} {_model(card):<18} {size:>7}  {where}")
    console.say(f"{'':<14} {quality(card.metrics)}; {learned_from(card)}, {card.licence}")


def _tell(card: Card, place: Path) -> None:
    facts = {
        "range": played_range(card),
        "model": card.description,
        "learned from": learned_from(card),
        "training": f"{card.training.steps} steps of preset {card.training.preset}, "
        f"{console.duration(card.training.wall_s)}, {card.training.program}",
        "quality": quality(card.metrics),
        "licence": card.licence,
        "created": card.created,
        "folder": str(place),
    }
    console.say(card.name)
    for name, text in facts.items():
        console.say(f"  {name:<13} {text}")
    for remark in card.remarks:
        console.say(f"  {'remark':<13} {remark}")
    for source in card.sources:
        console.say(f"  {'source':<13} {source.attribution or source.title} ({source.licence}) {source.url}".rstrip())


def played_range(card: Card) -> str:
    """From the lowest to the highest note."""
    lowest_midi, highest_midi = card.statistics.range_midi
    return f"{note_name(lowest_midi)} to {note_name(highest_midi)}"


def learned_from(card: Card) -> str:
    """How much sound there was to learn from."""
    minutes = card.training.audio_s / 60
    return f"{minutes:.1f} min" if minutes else "unknown"


def quality(metrics: dict[str, float]) -> str:
    """The figures of an instrument that tell most, in words."""
    said = {
        "pitch_within_50_cents": "{:.0%} in tune",
        "loudness_error_db": "loudness ±{:.1f} dB",
        "spectral_loss": "spectral distance {:.1f}",
    }
    found = [text.format(metrics[key]) for key, text in said.items() if key in metrics]
    return ", ".join(found) or "not measured"
