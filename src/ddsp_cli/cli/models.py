"""`ddsp models`: list instruments by family; describe, share, rename or remove one; draw a map, make a blend."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddsp_cli.cli import console
from ddsp_cli.cli.options import Force, Seed, instrument_names
from ddsp_cli.errors import Kind, UsageError
from ddsp_cli.pitch_names import note_name
from ddsp_cli.shell import quoted

if TYPE_CHECKING:
    from ddsp_cli.bundle import Card
    from ddsp_cli.workflows.models import Entry

#: Words of the command line that pack an instrument into a file, make a blend, and rename and remove an instrument.
SHARE, BLEND, RENAME, REMOVE = "share", "blend", "rename", "remove"

#: Error and hint for each of these words without the names that belong to it.
USES = {
    SHARE: ("no instrument was named", "Name one: ddsp models share NAME"),
    BLEND: ("no instruments were named", "Name them: ddsp models blend flute:0.5+cello:0.5 --name hybrid"),
    RENAME: ("an instrument and its new name are needed", "Name both: ddsp models rename OLD NEW"),
    REMOVE: ("one instrument is needed", "Name it: ddsp models remove NAME"),
}

#: The group of instruments whose card cannot be read.
UNREADABLE = "unreadable"

#: Figures of quality in words, the most telling first; how many of them a list shows.
FIGURES = {
    "pitch_within_50_cents": "{:.0%} in tune",
    "loudness_error_db": "loudness ±{:.1f} dB",
    "spectral_loss": "spectral distance {:.1f}",
}
FIRST_FIGURES = 2


def models(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME | share NAME | blend MIX | rename OLD NEW | remove NAME]",
            help="NAME describes an instrument; share packs it into one file; blend makes a new instrument between "
            "several, such as flute:0.5+cello:0.5; rename and remove change one of your own, with its training.",
            autocompletion=instrument_names,
        ),
    ] = None,
    draw_map: Annotated[bool, typer.Option("--map", help="Draw a map of the instruments by timbre.")] = False,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="With blend: name of the new instrument.")] = None,
    random: Annotated[
        bool, typer.Option("--random", help="With blend: choose instruments and shares at random.")
    ] = False,
    seed: Seed = 0,
    out: Annotated[
        str | None,  # a path would lose the / at its end
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Output file: with share by default NAME.ddsp (or a folder), with --map a PNG.",
        ),
    ] = None,
    force: Force = False,
) -> None:
    """List instruments; describe, map, blend, share, rename or remove them."""
    from ddsp_cli.workflows.models import catalogue, find_playable, names, open_at
    from ddsp_cli.workflows.models import share as run_share

    words = words or []
    task = "map" if draw_map else words[0] if words and words[0] in USES else ""
    for option, is_given, tasks, example in (
        ("--name", name is not None, {BLEND}, "ddsp models blend flute:0.5+cello:0.5 --name NAME"),
        ("--random", random, {BLEND}, "ddsp models blend --random --name NAME"),
        ("--seed", seed != 0 and not random, set(), "ddsp models blend --random --name NAME"),
        ("--out", out is not None, {SHARE, "map"}, "ddsp models share NAME, or --map"),
        ("--force", force, {*USES, "map"}, "ddsp models share NAME, blend MIX, rename OLD NEW, remove NAME, or --map"),
    ):
        if is_given and task not in tasks:
            raise UsageError(f"{option} has no effect here", f"It belongs to: {example}")
    if draw_map:
        if words:
            raise UsageError("--map draws all instruments; leave the name out")
        _show_map(None if out is None else Path(out), force)
        return
    if words[:1] == [BLEND] and (len(words) > 1 or name is not None or random):
        _blend(words[1:], name, random, seed, force)
        return
    if len(words) == 1 and task in USES and task not in names():
        raise UsageError(*USES[task])
    if words[:1] == [SHARE] and len(words) == 2:
        target = run_share(words[1], out, force)
        console.say(f"{target}: {console.size(target.stat().st_size)}")
        console.say(f"Import it elsewhere with: ddsp import {quoted(target.name)}")
        return
    if task in {RENAME, REMOVE} and len(words) > 1:
        if len(words) != (3 if task == RENAME else 2):
            raise UsageError(*USES[task])
        if task == RENAME:
            _rename(words[1], words[2], force)
        else:
            _remove(words[1], force)
        return
    if len(words) > 1:
        raise UsageError(f"one instrument is described at a time, but there are {len(words)} names", kind=Kind.SHARE)
    if words:
        place = find_playable(words[0])
        _tell(open_at(place).card, place)
        return
    entries = catalogue()
    if not entries:
        console.say("There are no instruments yet. Train one with: ddsp train --instrument NAME")
        return
    _list(entries)


def _list(entries: "list[Entry]") -> None:
    """Prints the instruments by family: on a terminal in two lines each below the family name, else as a table."""
    from ddsp_cli.bundle.card import FAMILY_ORDER, family_of

    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(UNREADABLE if entry.card is None else family_of(entry.card), []).append(entry)
    order = [family for family in (*FAMILY_ORDER, UNREADABLE) if family in groups]
    if console.is_terminal(sys.stdout):
        for i, family in enumerate(order):
            if i:
                console.say()
            console.say(family)
            for entry in groups[family]:
                _short(entry)
        return
    rows = []
    for family in order:
        for entry in groups[family]:
            if entry.card is None:
                rows.append([
                    entry.name, family, "", "", "", console.size(entry.size_bytes), entry.problem, "", _place(entry),
                ])  # fmt: skip
                continue
            rows.append([
                entry.name,
                family,
                played_range(entry.card),
                _model(entry.card),
                learned_from(entry.card),
                console.size(entry.size_bytes),
                quality(entry.card.metrics),
                entry.card.licence,
                _place(entry),
            ])  # fmt: skip
    console.table(["name", "family", "range", "model", "learned from", "size", "quality", "licence", "where"], rows)


def _blend(mix: list[str], name: str | None, random: bool, seed: int, force: bool) -> None:
    """Makes an instrument between others and prints its card."""
    from ddsp_cli.workflows.models import BLEND_HINT, open_at
    from ddsp_cli.workflows.space import blend, check_mix

    if len(mix) != (0 if random else 1):
        raise UsageError("a blend is one word, or --random", BLEND_HINT)
    if not random:
        check_mix(mix[0])
    if name is None:
        raise UsageError("the new instrument needs a name", "Give it one: --name hybrid.")
    folder = blend(None if random else mix[0], name, seed, force)
    card = open_at(folder).card
    console.say(f"{folder} is {card.description}: {played_range(card)}.")
    console.say(f"Play it with: ddsp transfer voice.wav --model {quoted(name)}")


def _rename(name: str, new_name: str, force: bool) -> None:
    from ddsp_cli.workflows.models import find_own, rename, training_of

    before = find_own(name)
    folder = rename(before, new_name, force)
    console.say(f"{before} is now {folder}.")
    run = training_of(folder)
    if run is not None:
        console.say(f"Its training is now {run}.")


def _remove(name: str, force: bool) -> None:
    """Removes an instrument, after a question on a terminal."""
    from ddsp_cli.workflows.models import find_own, remove, training_of

    folder = find_own(name)
    run = training_of(folder)
    what = str(folder) if run is None else f"{folder} and its training {run}"
    if not force:
        if not console.can_ask():
            raise UsageError(f"{what} would be removed", "Add --force to remove it without a question.")
        if not console.agrees(f"Remove {what}? This cannot be undone. [y/N] "):
            console.remark("Nothing was removed.")
            return
    remove(folder)
    console.say(f"{what} {'is' if run is None else 'are'} removed.")
    for left in (folder, run):
        if left is not None and left.exists():
            console.remark(f"{left} keeps files that are not of the program.")


#: Width and height of a map in characters, without its frame.
MAP_COLUMNS, MAP_ROWS = 78, 22


def _show_map(out: Path | None, force: bool) -> None:
    """Draws the map in characters, names the nearest of each, and writes the picture."""
    from ddsp_cli.workflows.space import map_instruments

    found = map_instruments(out, force)
    timbres = found.timbres
    for line in plot_characters(timbres.names, timbres.places.tolist(), MAP_COLUMNS, MAP_ROWS):
        console.say(line)
    console.say(f"to the right {timbres.axes[0]}, upwards {timbres.axes[1]}; "
                f"{timbres.shown:.0%} of the differences are in this plane")  # fmt: skip
    console.say()
    console.say("most alike (mean difference of harmonics and noise in dB, in all dimensions):")
    for name in timbres.names:
        nearest = ", ".join(f"{other} {distance_db:.1f}" for other, distance_db in timbres.nearest(name)[:2])
        console.say(f"  {name:<14} {nearest}")
    for name in found.left_out:
        console.remark(f"{name} cannot be played and is not on the map.")
    if out is not None:
        console.say(f"picture: {out}")


def plot_characters(names: Sequence[str], places: Sequence[Sequence[float]], n_columns: int, n_rows: int) -> list[str]:
    """Draws names at places in a plane, `*` at the place and the name beside it, in a frame.

    Where the row of a place is taken, the name moves up or down to the next row that is free.

    Args:
      names: of the points.
      places: x and y of each; y rises upwards.
      n_columns, n_rows: of the drawing, without its frame.
    """
    low = [min(place[axis] for place in places) for axis in range(2)]
    span = [(max(place[axis] for place in places) - low[axis]) or 1.0 for axis in range(2)]
    longest = min(max(map(len, names)), n_columns // 3)
    grid = [[" "] * n_columns for _ in range(n_rows)]
    for name, place in sorted(zip(names, places, strict=True), key=lambda pair: -pair[1][1]):
        label = f"* {name[:longest]}"
        column = round((place[0] - low[0]) / span[0] * (n_columns - longest - 2))
        wanted = round((1.0 - (place[1] - low[1]) / span[1]) * (n_rows - 1))
        free = [
            row for row in range(n_rows)
            if all(cell == " " for cell in grid[row][max(0, column - 1) : column + len(label) + 1])
        ]  # fmt: skip
        row = min(free, key=lambda row: abs(row - wanted)) if free else wanted
        grid[row][column : column + len(label)] = label
    edge = "+" + "-" * n_columns + "+"
    return [edge, *("|" + "".join(row) + "|" for row in grid), edge]


def _place(entry: "Entry") -> str:
    """Returns `bundled`, or the parent folder of an instrument."""
    return "bundled" if entry.bundled else str(entry.path.parent)


def _model(card: "Card") -> str:
    return f"{card.training.preset}, {card.model.sample_rate_hz / 1000:g} kHz"


def _short(entry: "Entry") -> None:
    """Prints an instrument in two lines of a terminal with 80 columns; `ddsp models NAME` prints the rest."""
    if entry.card is None:
        console.say(f"  {entry.name:<13} {entry.problem}")
        return
    card, where = entry.card, entry.where if entry.where in {"here", "library", "bundled"} else _place(entry)
    size = console.size(entry.size_bytes)
    console.say(f"  {entry.name:<13} {played_range(card):<11} {_model(card):<18} {size:>7}  {where}")
    console.say(f"  {'':<13} {quality(card.metrics, FIRST_FIGURES)}; {learned_from(card)}")


def _tell(card: "Card", place: Path) -> None:
    from ddsp_cli.bundle.card import family_of, missing_recordings

    facts = {
        "family": family_of(card),
        "range": played_range(card),
        "model": card.description,
        "learned from": learned_from(card),
        "timbre": card.training.timbre
        and f"that of the recordings in the folder {card.training.timbre}, and their room",
        "training": _trained(card),
        "quality": quality(card.metrics),
        "licence": card.licence,
        "created": card.created,
        "folder": str(place),
    }
    console.say(card.name)
    for name, text in facts.items():
        if text:
            console.fact(name, text)
    for text in missing_recordings(card.statistics, card.model.level):
        console.fact("missing", text)
    for remark in card.remarks:
        console.fact("remark", remark)
    # several instruments of one library are one source
    sources = (f"{one.attribution or one.title} ({one.licence}) {one.url}".rstrip() for one in card.sources)
    for source in dict.fromkeys(sources):
        console.fact("source", source)


def _trained(card: "Card") -> str:
    """Describes the training of the instrument."""
    training = card.training
    if training.preset == BLEND:
        return f"none: it was mixed, {training.program}"
    began = ""
    if training.nearest:
        what = "which knew it" if training.nearest == card.name else f"near {training.nearest}"
        began = f", began in the {training.started_from}, {what}"
    elif training.started_from:
        began = f", began as {training.started_from}"
    steps = f"{training.steps} steps of preset {training.preset}{began}"
    return f"{steps}, {console.duration(training.wall_s)}, {training.program}"


def played_range(card: "Card") -> str:
    """Returns the lowest and the highest note in words."""
    lowest_midi, highest_midi = card.statistics.range_midi
    return f"{note_name(lowest_midi)} to {note_name(highest_midi)}"


def learned_from(card: "Card") -> str:
    """Formats the length of the training audio."""
    if card.training.preset == BLEND:
        return "mixed"
    minutes = card.training.audio_s / 60
    return f"{minutes:.1f} min" if minutes else "unknown"


def quality(metrics: dict[str, float], n_figures: int = len(FIGURES)) -> str:
    """Returns the first figures of an instrument that are known, those that tell most, in words."""
    found = [text.format(metrics[key]) for key, text in FIGURES.items() if key in metrics][:n_figures]
    return ", ".join(found) or "not measured"
