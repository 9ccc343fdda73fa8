"""A directed acyclic graph of processors, from the `processors` of a preset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from ddsp_cli import config
from ddsp_cli.bundle.layout import F0, decoder_outputs, processing_order
from ddsp_cli.engine import effects, processors, synths
from ddsp_cli.engine.processors import Processor
from ddsp_cli.errors import ModelError


@keras.saving.register_keras_serializable("ddsp")
class ProcessorGroup(keras.layers.Layer):
    """Processors wired by name (processors.py:82 of the original, without gin).

    Args:
      nodes: name → (processor, names of its inputs).
      sources: names of the signals that come from outside.

    The output of the group is the signal of the last node in dependency order that no other node takes.
    """

    def __init__(
        self, nodes: Mapping[str, tuple[Processor, Sequence[str]]], sources: Sequence[str], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.sources = list(sources)
        self.wiring = {name: list(inputs) for name, (_, inputs) in nodes.items()}
        self.nodes = {name: processor for name, (processor, _) in nodes.items()}
        self.order = processing_order(self.wiring, self.sources)
        taken = {wanted for inputs in self.wiring.values() for wanted in inputs}
        ends = [name for name in self.order if name not in taken]
        if len(ends) != 1:
            raise ModelError(f"the processor graph must end in one signal, it ends in {', '.join(ends)}")
        self.output_name = ends[0]
        self.built = True  # every processor makes its weights when it is made

    def call(self, signals: Mapping[str, Any], given: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
        """Every signal by name, controls as `node/control`, and the group's output as `audio`.

        Args:
          signals: by name, all of `sources`.
          given: node → control → value; takes the place of, or is added to, what the node makes itself.
        """
        values = dict(signals)
        found: dict[str, Any] = {}
        for name in self.order:
            processor = self.nodes[name]
            controls = processor.get_controls(*(values[wanted] for wanted in self.wiring[name]))
            controls |= (given or {}).get(name, {})
            values[name] = processor.get_signal(**controls)
            found |= {f"{name}/{control}": value for control, value in controls.items()}
            found[name] = values[name]
        return {**found, "audio": values[self.output_name]}

    def draw(self, batch: Any, n_samples: int) -> dict[str, dict[str, Any]]:
        """The noise that the next `call` would draw, to be `given` to it instead: node → `noise` [batch, n_samples]."""
        noisy = {name: node for name, node in self.nodes.items() if isinstance(node, synths.FilteredNoise)}
        return {name: {"noise": node.draw(batch, n_samples)} for name, node in noisy.items()}

    def get_config(self) -> dict[str, Any]:
        nodes = {
            name: (keras.saving.serialize_keras_object(processor), self.wiring[name])
            for name, processor in self.nodes.items()
        }
        return {**super().get_config(), "nodes": nodes, "sources": self.sources}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ProcessorGroup:
        nodes = {
            name: (keras.saving.deserialize_keras_object(processor), inputs)
            for name, (processor, inputs) in config.pop("nodes").items()
        }
        return cls(nodes=nodes, **config)


def build_processor(node: config.ProcessorConfig, model: config.ModelConfig, seed: int, name: str) -> Processor:
    """The processor that a node of a preset describes."""
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
    raise ModelError(f"processor {name} is of a kind that the engine does not know")


def _settings(node: config.ProcessorConfig) -> dict[str, Any]:
    """What a node says beyond its kind and its inputs; the names are those of the processor's arguments."""
    return {name: getattr(node, name) for name in node.__struct_fields__ if name != "inputs"}


def group_from_config(model: config.ModelConfig, seed: int = 0, sources: Sequence[str] = ()) -> ProcessorGroup:
    """The processors of a preset, wired.

    Args:
      model: their configuration.
      seed: of the noise that is drawn anew at every call.
      sources: signals that come from outside besides what the network predicts and `f0_hz`.
    """
    nodes = {name: (build_processor(node, model, seed, name), node.inputs) for name, node in model.processors.items()}
    outside = dict.fromkeys([*decoder_outputs(model), F0, *sources])
    return ProcessorGroup(nodes, sources=list(outside), name="processors")


def group_from_yaml(text: str, sample_rate_hz: int = 16000, frame_rate_hz: int = 250, seed: int = 0) -> ProcessorGroup:
    """A group from the text of a `processors` section, as it stands in a preset.

    Raises:
      ModelError: not valid YAML, an unknown kind or setting, a cycle, an input that nothing makes; each by its name.
    """
    nodes = config.parse_yaml(text, dict[str, config.AnyProcessorConfig], "processors")
    model = config.ModelConfig(
        sample_rate_hz=sample_rate_hz,  # type: ignore[arg-type]
        frame_rate_hz=frame_rate_hz,
        inputs=[],
        processors=nodes,
    )
    return group_from_config(model, seed)
