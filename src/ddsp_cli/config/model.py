"""A model: what its network takes, how large it is, and the graph of processors behind it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from ddsp_cli.config.base import Config, PositiveInt
from ddsp_cli.config.processors import AnyProcessorConfig, ProcessorConfig
from ddsp_cli.errors import ModelError


class DecoderConfig(Config):
    """The recurrent decoder of the paper (section 3.2 and appendix B.2)."""

    channels: PositiveInt = 512
    rnn_units: PositiveInt = 512
    layers_per_stack: Annotated[int, Meta(ge=0)] = 3


class ModelConfig(Config, kw_only=True):
    """What the network takes, how large it is, and the graph of processors that turns its output into sound."""

    sample_rate_hz: Literal[16000, 24000, 32000, 44100, 48000] = 16000
    frame_rate_hz: Annotated[int, Meta(ge=10, le=1000)] = 250
    inputs: list[Literal["ld_scaled", "pw_scaled", "f0_scaled"]]
    decoder: DecoderConfig | None = DecoderConfig()  # None: its make is unknown, see `runtime.interpreted`
    processors: dict[str, AnyProcessorConfig]

    @property
    def hop_samples(self) -> int:
        """Audio samples between two frames, at the model's own rate."""
        return self.sample_rate_hz // self.frame_rate_hz

    @property
    def level(self) -> Literal["loudness_db", "power_db"]:
        """Which measure of level drives the model."""
        return "power_db" if "pw_scaled" in self.inputs else "loudness_db"

    @property
    def sizes(self) -> DecoderConfig:
        """Of the decoder.

        Raises:
          ModelError: they are unknown; there is only a file to run.
        """
        if self.decoder is None:
            raise ModelError(
                "the network of this instrument is a file of unknown make, which can be played, and written as it is "
                "with --format vst, but neither be trained on nor written in another format",
                "Begin with another instrument.",
            )
        return self.decoder

    def only(self, kind: type[ProcessorConfig]) -> tuple[str, Any] | None:
        """Name and configuration of the one processor of a kind, or None where there is none."""
        found = [(name, node) for name, node in self.processors.items() if isinstance(node, kind)]
        return found[0] if found else None
