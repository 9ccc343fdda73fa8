"""The layout of a network's weights: which columns of the last dense layer drive which control of which processor.

The order of the columns is that of the `processors` in the configuration, and within a processor that of its inputs. A
signal that several processors take has one range of columns; a signal that a processor of the graph makes has none.
The engine, the player, the exporters and the importers all ask here.

A network that is conditioned on many instruments (`instrument` among its inputs) has rows for their vectors; folded
into biases, they leave a model of one instrument.

Shapes: C channels, I instruments, D entries of a vector, U recurrent units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Literal

import msgspec
import numpy as np
from msgspec import UNSET

from ddsp_cli.arrays import FloatArray
from ddsp_cli.config import (
    FilteredNoiseConfig,
    FIRFilterConfig,
    HarmonicConfig,
    InstrumentsConfig,
    MixConfig,
    ModDelayConfig,
    ModelConfig,
    OwnProcessorConfig,
    ProcessorConfig,
    SinusoidalConfig,
    WavetableConfig,
)
from ddsp_cli.errors import ModelError, did_you_mean

#: The one signal of a processor graph that is measured and not predicted by the decoder.
F0 = "f0_hz"

#: Weights of a bundle with these prefixes are statistics for the player, not of the network: `synthesis.variation`,
#: `synthesis.articulation`.
VARIATION, ARTICULATION = "variation/", "articulation/"


def learned(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the weights of network and room, without the statistics for the player."""
    return {name: value for name, value in weights.items() if not name.startswith((VARIATION, ARTICULATION))}


def decoder_outputs(model: ModelConfig) -> dict[str, int]:
    """Lists the raw controls that the decoder predicts.

    Args:
      model: its processors, in the order in which the configuration names them.

    Returns:
      Signal name → number of columns, in the order of the columns.

    Raises:
      ModelError: two processors take one signal with different numbers of channels.
    """
    sizes: dict[str, int] = {}
    for name, node in model.processors.items():
        for signal, size in zip(node.inputs, _controls(node).values(), strict=False):
            if size is None or signal in model.processors:
                continue
            if sizes.setdefault(signal, size) != size:
                raise ModelError(f"processor {name} takes {signal} with {size} channels, another takes {sizes[signal]}")
    return sizes


def decoder_columns(model: ModelConfig) -> dict[str, slice]:
    """Finds the columns of every raw control in the output of the decoder, [F, sum of `decoder_outputs`].

    Returns:
      Signal name → its columns.
    """
    columns, start = {}, 0
    for signal, size in decoder_outputs(model).items():
        columns[signal] = slice(start, start + size)
        start += size
    return columns


def control_columns(model: ModelConfig, processor: str) -> dict[str, slice]:
    """Finds the columns that drive one processor.

    Args:
      model: the configuration.
      processor: a name among `model.processors`.

    Returns:
      Control → columns, for each control that the decoder predicts. Controls have the processor's own names
      (`amplitude`, `harmonic_distribution`, `noise_magnitudes`, ...), not those of signals in the configuration.
    """
    columns, node = decoder_columns(model), model.processors[processor]
    pairs = zip(_controls(node).items(), node.inputs, strict=False)
    return {control: columns[signal] for (control, size), signal in pairs if size is not None and signal in columns}


def processing_order(nodes: Mapping[str, Sequence[str]], sources: Sequence[str]) -> list[str]:
    """Sorts processors so that each comes after those whose output it takes.

    Args:
      nodes: processor name → names of its inputs.
      sources: signals that come from outside the graph.

    Raises:
      ModelError: an input that nothing makes, a name used twice, or a cycle; each is named.
    """
    for name, inputs in nodes.items():
        if name in sources:
            raise ModelError(f"processor {name} has the name of an input signal")
        for signal in inputs:
            if signal not in nodes and signal not in sources:
                hint = did_you_mean(signal, [*nodes, *sources])
                raise ModelError(f"processor {name} takes {signal}, which nothing in the graph makes", hint)
    internal = {name: [signal for signal in inputs if signal in nodes] for name, inputs in nodes.items()}
    try:
        return list(TopologicalSorter(internal).static_order())
    except CycleError as problem:
        raise ModelError(f"the processors form a cycle: {' → '.join(problem.args[1])}") from problem


def _controls(node: ProcessorConfig) -> dict[str, int | None]:
    """Returns controls of a processor in the order of its inputs → channels; None for audio and for measured pitch."""
    match node:
        case HarmonicConfig():
            return {"amplitude": 1, "harmonic_distribution": node.n_harmonics, F0: None}
        case FilteredNoiseConfig():
            return {"noise_magnitudes": node.n_bands}
        case SinusoidalConfig():
            return {"amplitudes": node.n_sinusoids, "frequencies": node.n_sinusoids}
        case WavetableConfig():
            return {"amplitude": 1, "wavetables": node.n_points, F0: None}
        case FIRFilterConfig():
            return {"audio": None, "magnitudes": node.n_bands}
        case ModDelayConfig():
            return {"audio": None, "gain": 1, "phase": 1}
        case MixConfig():
            return {"first": None, "second": None, "mix_level": 1}
        case OwnProcessorConfig():
            return {f"input_{i}": size for i, size in enumerate(node.input_channels)}
    return {}


#: The input that identifies the instrument, and the prefixes of the weights that serve it alone.
CONDITION: Literal["instrument"] = "instrument"
CONDITION_WEIGHTS = (f"decoder/input_stacks/{CONDITION}/", "instruments/")

#: Weights of the vectors of all instruments, [I, D].
VECTORS = "instruments/vectors"


def conditioned(model: ModelConfig, names: Sequence[str], vector_dims: int) -> ModelConfig:
    """Returns the configuration of a network of many instruments, each with a vector, given that of one of them."""
    instruments = InstrumentsConfig(names=list(names), vector_dims=vector_dims)
    return msgspec.structs.replace(model, inputs=[*model.inputs, CONDITION], instruments=instruments)


def base_config(model: ModelConfig, names: Sequence[str], vector_dims: int) -> ModelConfig:
    """Returns the configuration of a base of several instruments, given the model of one of them.

    It has no note bias: the timbre of a single note is that of one instrument.
    """
    decoder = msgspec.structs.replace(model.sizes, note_bias=False)
    return conditioned(msgspec.structs.replace(model, decoder=decoder), names, vector_dims)


def unconditioned(model: ModelConfig) -> ModelConfig:
    """Returns the configuration of one instrument of a network of many."""
    inputs = [name for name in model.inputs if name != CONDITION]
    return msgspec.structs.replace(model, inputs=inputs, instruments=UNSET)


def fold_condition(
    model: ModelConfig, weights: Mapping[str, FloatArray], constant: FloatArray
) -> tuple[ModelConfig, dict[str, FloatArray]]:
    """Makes a model of one instrument, which sounds the same and has one input less.

    The vector of an instrument is constant, and so is the output of its input stack; its part of the GRU and of the
    layer behind it is a constant too, and is added to their biases.

    Args:
      model: of the network of many instruments.
      weights: of it, by name.
      constant: [C] the output of the input stack of the instrument.

    Returns:
      The configuration without `instruments`, and the weights by name.
    """
    place = model.inputs.index(CONDITION)
    layered = model.sizes.layers_per_stack > 0
    widths = [model.sizes.channels if layered else model.input_sizes.get(name, 1) for name in model.inputs]
    rows = slice(sum(widths[:place]), sum(widths[: place + 1]))
    kept = {name: value for name, value in weights.items() if not name.startswith(CONDITION_WEIGHTS)}
    behind = "decoder/out_stack/0/dense" if layered else "decoder/dense_out"
    kernel = kept["decoder/rnn/kernel"]
    bias = kept["decoder/rnn/bias"].copy()  # [2, 3U]: of the inputs, of the state
    bias[0] += constant @ kernel[rows]
    kept |= {"decoder/rnn/kernel": np.delete(kernel, rows, axis=0), "decoder/rnn/bias": bias}
    kernel = kept[f"{behind}/kernel"]
    kept[f"{behind}/bias"] = kept[f"{behind}/bias"] + constant @ kernel[rows]
    kept[f"{behind}/kernel"] = np.delete(kernel, rows, axis=0)
    return unconditioned(model), kept
