"""Which processor graphs can be played."""

from __future__ import annotations

from ddsp_cli.config import (
    AddConfig,
    CropConfig,
    ExpDecayReverbConfig,
    FilteredNoiseConfig,
    FilteredNoiseReverbConfig,
    HarmonicConfig,
    ModelConfig,
    ReverbConfig,
)
from ddsp_cli.errors import ModelError

#: Signals that the network gives; everything else in a graph is the output of a node before.
CONTROLS = frozenset({"amplitude", "harmonic_distribution", "noise_magnitudes", "f0_hz"})

#: Whatever makes it, a room is played as its impulse response.
ROOMS = (ReverbConfig, FilteredNoiseReverbConfig, ExpDecayReverbConfig)
KNOWN = (HarmonicConfig, FilteredNoiseConfig, AddConfig, CropConfig, *ROOMS)


def check_graph(model: ModelConfig) -> None:
    """Every processor can be run as a stream, in the order in which they stand.

    Raises:
      ModelError: with the reason and the processor's name.
    """
    signals: set[str] = set(CONTROLS)
    nodes = list(model.processors.items())
    consumed: set[str] = set()
    for name, node in nodes:
        kind = type(node).__name__.removesuffix("Config")
        if not isinstance(node, KNOWN):
            raise ModelError(f"the instrument has a processor of a kind that cannot be played: {kind}")
        missing = [signal for signal in node.inputs if signal not in signals]
        if missing:
            raise ModelError(f"processor {name} takes {missing[0]}, which nothing before it makes")
        if isinstance(node, CropConfig) and node.location == "front":
            raise ModelError(f"processor {name} cuts off the start of the sound, which a stream cannot do")
        signals.add(name)
        consumed.update(node.inputs)
    for kinds, what in (
        ((HarmonicConfig,), "harmonic synthesiser"),
        ((FilteredNoiseConfig,), "noise synthesiser"),
        (ROOMS, "room"),
    ):
        if sum(isinstance(node, kinds) for _, node in nodes) > 1:
            raise ModelError(f"the instrument has more than one {what}, which cannot be played")
    unused = [name for name, _ in nodes[:-1] if name not in consumed]
    if not nodes or unused:
        raise ModelError(f"the output of processor {unused[0]} goes nowhere" if unused else "no processors")
    if model.sample_rate_hz % model.frame_rate_hz:
        raise ModelError(f"{model.frame_rate_hz} frames a second do not divide {model.sample_rate_hz} samples a second")
