"""`ddsp models`: a table of the instruments, or the card of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ddsp_cli.cli import console
from ddsp_cli.pitch_names import note_name

if TYPE_CHECKING:
    from ddsp_cli.bundle import Card


def models(
    instrument: Annotated[
        str | None, typer.Argument(metavar="NAME", help="An instrument, to read all that is known of it.")
    ] = None,
) -> None:
    """List the instruments that there are, with range, size and quality; or tell all of one."""
    from ddsp_cli.workflows.models import catalogue, find_playable, open_at

    if instrument is not None:
        _tell(open_at(find_playable(instrument)).card)
        return
    entries = catalogue()
    if not entries:
        console.say("There are no instruments here yet. Train one with: ddsp train --instrument NAME")
        return
    rows = []
    for entry in entries:
        place = "bundled" if entry.bundled else str(entry.path.parent)
        if entry.card is None:
            rows.append([entry.name, "unreadable", "", "", console.size(entry.size_bytes), entry.problem, "", place])
            continue
        rows.append([
            entry.name,
            played_range(entry.card),
            f"{entry.card.training.preset}, {entry.card.model.sample_rate_hz / 1000:g} kHz",
            learned_from(entry.card),
            console.size(entry.size_bytes),
            quality(entry.card.metrics),
            entry.card.licence,
            place,
        ])  # fmt: skip
    console.table(["name", "range", "model", "learned from", "size", "quality", "licence", "where"], rows)


def _tell(card: Card) -> None:
    facts = {
        "range": played_range(card),
        "model": card.description,
        "learned from": learned_from(card),
        "training": f"{card.training.steps} steps of preset {card.training.preset}, "
        f"{console.duration(card.training.wall_s)}, {card.training.program}",
        "quality": quality(card.metrics),
        "licence": card.licence,
        "created": card.created,
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
        "spectral_loss": "spectral loss {:.1f}",
    }
    found = [text.format(metrics[key]) for key, text in said.items() if key in metrics]
    return ", ".join(found) or "not measured"
