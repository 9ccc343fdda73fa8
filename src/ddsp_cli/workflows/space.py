"""`ddsp models --map` and `ddsp models blend`: map instruments by timbre, and make new ones between them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from ddsp_cli import __version__, bundle
from ddsp_cli.arrays import FloatArray
from ddsp_cli.atomic import check_replaceable, write_bytes, writing
from ddsp_cli.audio.write import check_writable
from ddsp_cli.bundle import Bundle, Card
from ddsp_cli.bundle.card import BLEND_PRESET, family_of
from ddsp_cli.config import ModelConfig, ReverbConfig
from ddsp_cli.config.model import ROOMS
from ddsp_cli.errors import ModelError, UsageError
from ddsp_cli.lock import exclusive, lock_file
from ddsp_cli.scaling import midi_to_hz
from ddsp_cli.synthesis import decoder
from ddsp_cli.synthesis.blend import BlendedInstrument
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.timbre_map import TimbreMap, describe, make_map
from ddsp_cli.workflows import models
from ddsp_cli.workflows.arguments import PathLike, as_path

#: Number of instruments in a random blend.
N_RANDOM = 3

#: Smallest number of instruments on a map: fewer do not span a plane.
LEAST_ON_MAP = 3


# --- the map ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Map:
    """Instruments in a plane, by their timbre.

    Attributes:
      timbres: places and distances.
      families: name → family.
      left_out: instruments that cannot be read or played.
    """

    timbres: TimbreMap
    families: dict[str, str]
    left_out: tuple[str, ...]


def map_instruments(out: PathLike | None = None, force: bool = False) -> Map:
    """Plays the same notes on every instrument and finds the plane in which they differ most.

    Args:
      out: a PNG with the picture; None draws none.
      force: replace an existing file.

    Raises:
      UsageError: the file has another suffix than `.png`.
      ModelError: there are fewer than three instruments.
      OutputError: the file exists, or cannot be written.
    """
    target = as_path(out)
    if target is not None:
        if target.suffix.lower() != ".png" and not target.is_dir():
            raise UsageError(f"{target} is not a .png file", f"Name it {target.with_suffix('.png')}.", parameter="out")
        check_writable(target, force)
    timbres, families, left_out = {}, {}, []
    for entry in models.catalogue():
        try:
            instrument = Instrument(models.open_at(entry.path))
        except ModelError:
            left_out.append(entry.name)
            continue
        timbres[entry.name], families[entry.name] = describe(instrument), family_of(instrument.bundle.card)
    if len(timbres) < LEAST_ON_MAP:
        raise ModelError(f"a map needs {LEAST_ON_MAP} instruments or more, and there are {len(timbres)}")
    found = Map(make_map(timbres), families, tuple(left_out))
    if target is not None:
        from ddsp_cli.reports.plots import draw_map

        with writing(target):
            write_bytes(target, draw_map(found.timbres, families))
    return found


# --- blends in the space of the base ----------------------------------------------------------------------------------


def blend(expression: str | None, name: str, seed: int = 0, force: bool = False) -> Path:
    """Makes an instrument whose vector is between the vectors of others, in the space of the base.

    The network of the base plays it. Range, levels, room and fluctuations are interpolated between the parts, as in a
    blend of controls (`synthesis.blend`). Its card names the sources and licences of all parts.

    Args:
      expression: `flute:0.5+cello:0.5`; None draws three instruments and their shares.
      name: of the new instrument; its folder is `models/NAME`.
      seed: of the draw.
      force: replace an existing instrument.

    Returns:
      The folder.

    Raises:
      UsageError: the shares or the name are not valid.
      ModelError: there is no base, an instrument is unknown, or it has no vector in the space of the base.
      OutputError: an instrument of that name exists, is being written by another program, or cannot be written.
    """
    models.check_new_name(name)
    folder = models.OWN / name
    with writing(folder):
        check_replaceable(folder, bundle.INSTRUMENT, force)
    place = models.base_folder()
    if place is None:
        raise ModelError(
            "the base is missing, which is needed to blend instruments",
            "Install ddsp-cli; ddsp-cli-player comes without it.",
        )
    base = bundle.load(place)
    chosen = check_mix(expression if expression is not None else _draw(base, seed))
    assert chosen.shares is not None
    parts = [models.open_at(one) for one in chosen.places]
    vectors = np.stack([vector_of(part, base) for part in parts])
    vector = np.asarray(chosen.shares.mean @ vectors, np.float32)
    between = BlendedInstrument([Instrument(part) for part in parts], chosen.shares, name).bundle
    model, weights = decoder.model_at_vector(base.card.model, base.weights, vector)
    weights = {n: value for n, value in weights.items() if n.startswith("decoder/")}
    model, weights, response = _with_room(model, weights, between.impulse_response)
    weights |= between.weights  # variation and articulation
    card = _card(chosen.name, name, between.card, base, model, vector)
    preview = _preview(Bundle(card, weights, response))
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(lock_file(folder), str(folder), "program", "place"):
        bundle.save(folder, card, weights, response, preview, force=force)
    return folder


def check_mix(expression: str) -> models.Choice:
    """Checks the expression of a blend that becomes an instrument; returns the chosen parts and shares.

    Raises:
      UsageError: a single instrument, a blend over time, or shares that are not valid.
      ModelError: an instrument is unknown.
    """
    chosen = models.choose(expression)
    if chosen.shares is None:
        raise UsageError(f"a blend needs at least two instruments, and {expression} names one", models.BLEND_HINT)
    if not chosen.shares.is_constant:
        raise UsageError(
            f"{expression} is a blend over time, which cannot be made one instrument",
            f"Play it unchanged, or name shares. {models.BLEND_HINT}",
        )
    return chosen


def vector_of(instrument: Bundle, base: Bundle) -> FloatArray:
    """Returns the vector [D] of an instrument in the space of the base.

    Raises:
      ModelError: the instrument has no vector in this space.
    """
    card = instrument.card
    known = decoder.instrument_vectors(base.card.model, base.weights)
    n_dims = len(next(iter(known.values())))
    if card.training.base == base.weights_digest and len(card.training.vector) == n_dims:
        return np.asarray(card.training.vector, np.float32)
    if card.name in known and card.training.started_from == models.BASE and not card.training.vector:
        return np.asarray(known[card.name], np.float32)
    raise ModelError(
        f"{card.name} has no vector in the space of the base",
        f"Train it again from the base, or blend controls when playing, as {card.name}:0.5+flute:0.5.",
    )


def _draw(base: Bundle, seed: int) -> str:
    """Returns the expression of a random blend of bundled instruments in the base."""
    known = decoder.instrument_vectors(base.card.model, base.weights)
    candidates = [entry.name for entry in models.catalogue() if entry.name in known and models.is_bundled(entry.name)]
    if len(candidates) < 2:
        raise ModelError("a random blend needs at least two bundled instruments")
    random = np.random.default_rng(seed)
    names = random.choice(candidates, min(N_RANDOM, len(candidates)), replace=False)
    shares = random.dirichlet(np.ones(len(names)))
    return "+".join(f"{name}:{max(share, 0.01):.2f}" for name, share in zip(names, shares, strict=True))


def _with_room(
    model: ModelConfig, weights: dict[str, FloatArray], response: FloatArray | None
) -> tuple[ModelConfig, dict[str, FloatArray], FloatArray | None]:
    """Returns the model with the mixed room of the parts: an impulse response, stored as a weight."""
    processors = dict(model.processors)
    rooms = [name for name, node in processors.items() if isinstance(node, ROOMS)]
    for name in rooms:
        if response is None:
            del processors[name]
            continue
        processors[name] = ReverbConfig(inputs=processors[name].inputs, length_samples=len(response))
        response = bundle.round_to_half({name: response})[name]  # equal to the stored weight
        response[0] = 0.0
        weights = weights | {f"{name}/ir": response}
    if not rooms:
        response = None
    return msgspec.structs.replace(model, processors=processors), weights, response


def _card(expression: str, name: str, between: Card, base: Bundle, model: ModelConfig, vector: FloatArray) -> Card:
    sources = {source.title: source for source in [*between.sources, *base.card.sources]}
    licences = dict.fromkeys([base.card.licence, *between.licence.split(" + ")])
    return bundle.revise(
        between,
        name=name,
        description=f"{expression}, mixed in the space of the base",
        licence=" + ".join(licences),
        model=model,
        features=base.card.features.at(model.frame_rate_hz),
        training=bundle.TrainingRecord(
            preset=BLEND_PRESET, steps=0, seed=0, program=f"ddsp {__version__}", started_from=base.card.name,
            vector=[round(float(value), 5) for value in vector], base=base.weights_digest,
        ),
        sources=list(sources.values()),
        remarks=[f"A mixture of {expression}: the base plays between them; no such instrument was recorded."],
        created=bundle.timestamp(),
    )  # fmt: skip


def _preview(instrument: Bundle) -> FloatArray:
    """Plays a rising and falling fifth with a swell in the middle of an instrument's range, [S]."""
    statistics, model = instrument.card.statistics, instrument.card.model
    n = round(bundle.PREVIEW_S * model.frame_rate_hz)
    middle = round(statistics.pitch_midi[50])
    steps = np.array([0, 2, 4, 7, 4, 0])
    notes = middle + np.repeat(steps, -(-n // len(steps)))[:n]
    where = np.linspace(0.0, 1.0, n)
    levels_db = statistics.level(model.level)
    level_db = np.interp(np.sin(np.pi * where) ** 2, [0.0, 1.0], [levels_db[30], levels_db[80]])
    f0_hz = midi_to_hz(notes).astype(np.float32)
    gate = np.minimum(1.0, 12.0 * np.minimum(where, 1.0 - where)).astype(np.float32)
    played = Instrument(instrument).render(f0_hz, level_db.astype(np.float32), gate)
    return np.clip(np.concatenate(list(played)), -1.0, 1.0)
