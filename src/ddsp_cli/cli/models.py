"""`ddsp models`: a table of the instruments."""

from __future__ import annotations

from ddsp_cli import console


def models() -> None:
    """List the instruments that there are, with range, size and quality."""
    from ddsp_cli.workflows.catalogue import catalogue

    entries = catalogue()
    if not entries:
        console.say("There are no instruments here yet. Train one with: ddsp train --instrument NAME")
        return
    rows = []
    for entry in entries:
        place = "bundled" if entry.bundled else str(entry.path.parent)
        if entry.card is None:
            rows.append([entry.name, "unreadable", "", console.size(entry.size_bytes), entry.problem, "", place])
            continue
        pitch = entry.card.statistics.pitch_midi
        rows.append([
            entry.name,
            f"{console.note_name(pitch[1])} to {console.note_name(pitch[99])}",
            f"{entry.card.training.preset}, {entry.card.model.sample_rate_hz / 1000:g} kHz",
            console.size(entry.size_bytes),
            quality(entry.card.metrics),
            entry.card.licence,
            place,
        ])  # fmt: skip
    console.table(["name", "range", "model", "size", "quality", "licence", "where"], rows)


def quality(metrics: dict[str, float]) -> str:
    """The figures of an instrument that tell most, in words."""
    said = {
        "pitch_within_50_cents": "{:.0%} in tune",
        "loudness_error_db": "loudness ±{:.1f} dB",
        "spectral_loss": "spectral loss {:.1f}",
    }
    found = [text.format(metrics[key]) for key, text in said.items() if key in metrics]
    return ", ".join(found) or "not measured"
