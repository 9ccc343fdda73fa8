"""A directed acyclic graph of processors, from Python or from the `processors` of a preset."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import keras

from ddsp_cli import config
from ddsp_cli.bundle.layout import F0, decoder_outputs, processing_order
from ddsp_cli.engine import effects, processors, synths
from ddsp_cli.engine.core.tensors import ArgumentError, Tensor
from ddsp_cli.engine.processors import Processor
from ddsp_cli.errors import ModelError, did_you_mean

#: Entry points of installed packages that name processors; see `own_processor`.
ENTRY_POINT_GROUP = "ddsp_cli.processors"


@keras.saving.register_keras_serializable("ddsp")
class ProcessorGroup(keras.layers.Layer):
    """Processors wired by name into one graph (processors.py:82 of the original, without gin).

    The output of the group is the signal of the one node that no other node takes. Like a processor, the group computes
    in float32.

    Args:
      nodes: name → (processor, names of its inputs, in the order of the processor's `get_controls`).
      sources: names of the signals that come from outside.

    Raises:
      ValueError: `nodes` is no mapping of names to pairs of a processor and its inputs.
      ModelError: a node has the wrong number of inputs, or the graph is not valid, see
        `bundle.layout.processing_order`.
    """

    def __init__(
        self, nodes: Mapping[str, tuple[Processor, Sequence[str]]], sources: Sequence[str], **kwargs: Any
    ) -> None:
        processors.refuse_unknown(type(self), kwargs)
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        _check_nodes(nodes)
        if isinstance(sources, str):
            raise ArgumentError(f"sources must be a list of names, not {sources!r}")
        self.sources = list(sources)
        self.wiring = {name: list(inputs) for name, (_, inputs) in nodes.items()}
        self.nodes = {name: processor for name, (processor, _) in nodes.items()}
        self.order = processing_order(self.wiring, self.sources)
        for name, processor in self.nodes.items():
            _check_inputs(name, processor, self.wiring[name])
        taken = {wanted for inputs in self.wiring.values() for wanted in inputs}
        ends = [name for name in self.order if name not in taken]
        if not ends:
            raise ModelError("the processor graph has no node")
        if len(ends) != 1:
            raise ModelError(f"the processor graph must end in one signal, it ends in {', '.join(ends)}")
        self.output_name = ends[0]
        self.built = True  # every processor makes its weights when it is made

    def call(
        self, signals: Mapping[str, Tensor], given: Mapping[str, Mapping[str, Tensor]] | None = None
    ) -> dict[str, Tensor]:
        """Runs the graph.

        Args:
          signals: by name, all of `sources`.
          given: node → control → value, which replaces, or is added to, the node's own controls.

        Returns:
          every signal by name, controls as `node/control`, and the group's output as `audio` [B, S].

        Raises:
          ValueError: a signal is missing, a node of `given` is unknown, or a node does not take a signal's shape.
        """
        if not isinstance(signals, Mapping):
            raise ArgumentError(
                f"processor group {self.name} takes its signals by name, a mapping of {', '.join(self.sources)}, "
                f"not {type(signals).__name__}"
            )
        for wanted in self.sources:
            if wanted not in signals:
                raise ArgumentError(processors.missing_signal(f"processor group {self.name}", wanted, list(signals)))
        for name in given or {}:
            if name not in self.nodes:
                raise ArgumentError(f"given names no node of the graph: {name}. {did_you_mean(name, self.nodes)}")
        values = dict(signals)
        found: dict[str, Any] = {}
        for name in self.order:
            processor = self.nodes[name]
            try:
                controls = processor.get_controls(*(values[wanted] for wanted in self.wiring[name]))
                controls = controls | dict((given or {}).get(name, {}))
                values[name] = processor.get_signal(**controls)
            except (TypeError, ArgumentError) as problem:
                raise ArgumentError(f"processor {name}: {problem}") from problem
            found |= {f"{name}/{control}": value for control, value in controls.items()}
            found[name] = values[name]
        return {**found, "audio": values[self.output_name]}

    def draw(self, batch: Any, n_samples: int) -> dict[str, dict[str, Tensor]]:
        """Draws the noise of the next `call`, to be `given` to it instead: node → `noise` [batch, n_samples]."""
        noisy = {name: node for name, node in self.nodes.items() if isinstance(node, synths.FilteredNoise)}
        return {name: {"noise": node.draw(batch, n_samples)} for name, node in noisy.items()}

    def get_config(self) -> dict[str, Any]:
        """Returns nodes and sources, for `from_config`."""
        nodes = {
            name: (keras.saving.serialize_keras_object(processor), self.wiring[name])
            for name, processor in self.nodes.items()
        }
        return {**super().get_config(), "nodes": nodes, "sources": self.sources}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ProcessorGroup:
        """Makes a group from the result of `get_config`."""
        nodes = {
            name: (keras.saving.deserialize_keras_object(processor), inputs)
            for name, (processor, inputs) in config["nodes"].items()
        }
        return cls(**{**config, "nodes": nodes})


def _check_nodes(nodes: Any) -> None:
    """Checks that nodes are a mapping name → (processor, names of its inputs).

    Raises:
      ValueError: they are something else; the node is named.
      ModelError: a name has a slash.
    """
    form = "name → (processor, [names of its inputs])"
    if not isinstance(nodes, Mapping):
        raise ArgumentError(f"the nodes of a processor group must map {form}, not {type(nodes).__name__}")
    for name, node in nodes.items():
        if not isinstance(node, tuple | list) or len(node) != 2:
            raise ArgumentError(
                f"node {name} must be a pair of a processor and the names of its inputs; nodes map {form}"
            )
        if "/" in name:  # node/control names a control in the result
            raise ModelError(f"processor {name} must have a name without a slash")
        processor, inputs = node
        if isinstance(processor, type):
            raise ArgumentError(f"node {name} holds the class {processor.__name__}; make a processor of it first")
        if not isinstance(processor, Processor):
            raise ArgumentError(f"node {name} must hold a processor, not an object of type {type(processor).__name__}")
        if isinstance(inputs, str):
            raise ArgumentError(f"the inputs of node {name} must be a list of names such as [{inputs!r}], not a text")


def _check_inputs(name: str, processor: Processor, inputs: Sequence[str]) -> None:
    """Compares the number of a node's inputs with the number of signals that its processor takes.

    Raises:
      ModelError: they differ.
    """
    kind, names = type(processor).__name__, processor.signal_names()
    if names is None and len(inputs) < 2:
        raise ModelError(f"processor {name} ({kind}) takes two or more signals, its inputs name {len(inputs)}")
    if names is not None and len(inputs) != len(names):
        raise ModelError(
            f"processor {name} ({kind}) takes {len(names)} signals: {', '.join(names)}; "
            f"its inputs name {len(inputs)}: {', '.join(inputs)}"
        )


# --- from a configuration ----------------------------------------------------------------------------


def own_processor(reference: str) -> type[Processor]:
    """Finds a processor that is not part of this project. This imports, and so runs, the code that is named.

    Args:
      reference: `module:Class`, or the name of an entry point in the group `ddsp_cli.processors`.

    Returns:
      the class.

    Raises:
      ModelError: there is no such module, class or entry point, or it is no `Processor`.
    """
    points = {point.name: point for point in metadata.entry_points(group=ENTRY_POINT_GROUP)}
    if reference in points:
        reference = points[reference].value
    module, _, name = reference.partition(":")
    if not module or not name:
        hint = did_you_mean(reference, points) or "Name it as module:Class."
        raise ModelError(f"there is no processor {reference}: no installed package offers it", hint)
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as problem:
        raise ModelError(f"the processor {reference} cannot be imported: {problem}") from problem
    if not (isinstance(found, type) and issubclass(found, Processor)):
        raise ModelError(f"{reference} is not a subclass of ddsp_cli.engine.Processor")
    return found


def _build_own(node: config.OwnProcessorConfig, model: config.ModelConfig, name: str) -> Processor:
    """Builds a processor of the user. The model gives `sample_rate_hz` and `hop_samples` where it takes them."""
    kind = own_processor(node.processor)
    settings = dict(node.settings)
    for given, value in (("sample_rate_hz", model.sample_rate_hz), ("hop_samples", model.hop_samples)):
        if given in inspect.signature(kind).parameters:
            settings.setdefault(given, value)
    try:
        return kind(**settings, name=name)
    except (TypeError, ValueError) as problem:
        raise ModelError(f"processor {name} ({node.processor}): {problem}") from problem


def build_processor(node: config.ProcessorConfig, model: config.ModelConfig, seed: int, name: str) -> Processor:
    """Makes the processor that a node of a preset describes.

    Args:
      node: of the configuration.
      model: whose sample rate and hop the processor takes.
      seed: of the noise that is drawn at every call.
      name: of the node.

    Returns:
      the processor.

    Raises:
      ModelError: a setting is out of range.
    """
    try:
        return _build(node, model, seed, name)
    except ArgumentError as problem:
        raise ModelError(f"processor {name}: {problem}") from problem


def _build(node: config.ProcessorConfig, model: config.ModelConfig, seed: int, name: str) -> Processor:
    rate, hop = model.sample_rate_hz, model.hop_samples
    match node:
        case config.HarmonicConfig():
            return synths.Harmonic(
                rate, hop, node.n_harmonics, node.amp_resample_method, node.normalize_below_nyquist, name=name
            )
        case config.FilteredNoiseConfig():
            return synths.FilteredNoise(
                hop, node.n_bands, node.initial_bias, node.window_size_samples, seed=seed, name=name
            )
        case config.ReverbConfig():
            return effects.Reverb(node.length_samples, name=name)
        case config.FilteredNoiseReverbConfig():
            hop_of_room = -(-node.length_samples // node.n_frames)
            if -(-node.length_samples // hop_of_room) != node.n_frames:
                raise ModelError(
                    f"processor {name}: {node.length_samples} samples cannot be cut into {node.n_frames} equal frames",
                    "Make length_samples a multiple of n_frames.",
                )
            return effects.FilteredNoiseReverb(
                node.length_samples,
                node.n_frames,
                node.n_bands,
                node.initial_bias,
                node.window_size_samples,
                seed=0,  # part of the room's definition, not of a training run
                sample_rate_hz=rate,
                name=name,
            )
        case config.SinusoidalConfig() | config.WavetableConfig():
            kind = synths.Sinusoidal if isinstance(node, config.SinusoidalConfig) else synths.Wavetable
            return kind(rate, hop, **_settings(node), name=name)
        case config.ExpDecayReverbConfig():
            return effects.ExpDecayReverb(**_settings(node), seed=0, name=name)
        case config.FIRFilterConfig():
            return effects.FIRFilter(**_settings(node), name=name)
        case config.ModDelayConfig():
            return effects.ModDelay(rate, **_settings(node), name=name)
        case config.AddConfig():
            return processors.Add(name=name)
        case config.MixConfig():
            return processors.Mix(name=name)
        case config.CropConfig():
            return processors.Crop(node.length_samples, node.location, name=name)
        case config.OwnProcessorConfig():
            return _build_own(node, model, name)
    raise ModelError(f"processor {name} has a kind that is unknown to the engine")


def _settings(node: config.ProcessorConfig) -> dict[str, Any]:
    """Returns settings of a node besides its kind and inputs, by the names of the processor's arguments."""
    return {name: getattr(node, name) for name in node.__struct_fields__ if name != "inputs"}


def group_from_config(model: config.ModelConfig, seed: int = 0, sources: Sequence[str] = ()) -> ProcessorGroup:
    """Makes the processor group of a preset.

    Args:
      model: configuration of the processors.
      seed: of the noise that is drawn at every call.
      sources: signals that come from outside, besides those that the network predicts and `f0_hz`.

    Returns:
      the group.

    Raises:
      ModelError: the graph is invalid, see `ProcessorGroup`; or a frame is not a whole number of samples.
    """
    if model.sample_rate_hz % model.frame_rate_hz:
        raise ModelError(
            f"{model.sample_rate_hz} samples a second cannot be cut into {model.frame_rate_hz} frames of equal, whole "
            "length",
            "Choose a frame_rate_hz that divides sample_rate_hz.",
        )
    nodes = {name: (build_processor(node, model, seed, name), node.inputs) for name, node in model.processors.items()}
    outside = dict.fromkeys([*decoder_outputs(model), F0, *sources])
    return ProcessorGroup(nodes, sources=list(outside), name="processors")


def group_from_yaml(
    text: str, sample_rate_hz: int = 16000, frame_rate_hz: int = 250, seed: int = 0, sources: Sequence[str] = ()
) -> ProcessorGroup:
    """Makes a processor group from the text of a `processors` section, as in a preset.

    A node of `type: Own` imports code by its name; do not pass text that came with an instrument.

    Args:
      text: YAML: name → `{type: …, inputs: […], settings…}`.
      sample_rate_hz: of the audio.
      frame_rate_hz: of the controls; divides the sample rate.
      seed: of the noise that is drawn at every call.
      sources: signals that come from outside, besides those that the network predicts and `f0_hz`.

    Returns:
      the group.

    Raises:
      ModelError: the text is not valid YAML, names an unknown kind or setting, or its graph is not valid; the
        message says which.
    """
    nodes = config.parse_yaml(text, dict[str, config.AnyProcessorConfig | config.OwnProcessorConfig], "processors")
    model = config.ModelConfig(
        sample_rate_hz=sample_rate_hz,  # type: ignore[arg-type]
        frame_rate_hz=frame_rate_hz,
        inputs=[],
        processors=nodes,  # type: ignore[arg-type]
    )
    return group_from_config(model, seed, sources)
