"""A model: what its network takes, how large it is, and the graph of processors behind it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from ddsp_cli.config.base import Config, Name, NetworkSize
from ddsp_cli.config.processors import AnyProcessorConfig, ProcessorConfig
from ddsp_cli.errors import ModelError


class DecoderConfig(Config):
    """The recurrent decoder of the paper (section 3.2 and appendix B.2)."""

    channels: NetworkSize = 512
    rnn_units: NetworkSize = 512
    layers_per_stack: Annotated[int, Meta(ge=0, le=64)] = 3


class EncoderConfig(Config):
    """Configures the encoder of the latent z: MFCCs through a GRU (paper section 3.2 and appendix B.1)."""

    z_dims: NetworkSize = 16
    rnn_units: NetworkSize = 512
    n_mfccs: Annotated[int, Meta(ge=1, le=127)] = 29  # of 128 mel bands, without the coefficient that is level


class InstrumentsConfig(Config):
    """Conditioning of one network on many instruments: a vector for each, constant over time.

    Attributes:
      names: of the instruments, as the data set names them; the index in this list is what batches carry.
      vector_dims: length of a learned vector; 0 for one-hot vectors, which have as many entries as there are names.
    """

    names: Annotated[list[Name], Meta(min_length=2, max_length=8192)]
    vector_dims: Annotated[int, Meta(ge=0, le=8192)] = 0

    def __post_init__(self) -> None:
        if len(set(self.names)) < len(self.names):
            raise ValueError("`instruments` name each instrument once")
        if self.vector_dims == 1:
            raise ValueError("`vector_dims` of 1 cannot tell instruments apart; give 0 (one-hot) or 2 and more")

    @property
    def n_channels(self) -> int:
        """Entries of a vector."""
        return self.vector_dims or len(self.names)


class ModelConfig(Config, kw_only=True):
    """Configures a model: inputs and size of the network, and the graph of processors that renders its output."""

    sample_rate_hz: Literal[16000, 24000, 32000, 44100, 48000] = 16000
    frame_rate_hz: Annotated[int, Meta(ge=10, le=1000)] = 250
    inputs: list[Literal["ld_scaled", "pw_scaled", "f0_scaled", "z", "instrument"]]
    encoder: EncoderConfig | UnsetType = UNSET  # of z, where that is among the inputs
    instruments: InstrumentsConfig | UnsetType = UNSET  # where `instrument` is among the inputs
    decoder: DecoderConfig | None = DecoderConfig()  # None: its make is unknown, see `runtime.interpreted`
    processors: Annotated[dict[Name, AnyProcessorConfig], Meta(max_length=64)]

    def __post_init__(self) -> None:
        if ("z" in self.inputs) != bool(self.encoder):
            raise ValueError("`inputs` name z if, and only if, there is an `encoder`")
        if ("instrument" in self.inputs) != bool(self.instruments):
            raise ValueError("`inputs` name instrument if, and only if, there are `instruments`")
        if len(set(self.inputs)) < len(self.inputs) or {"ld_scaled", "pw_scaled"} <= set(self.inputs):
            raise ValueError("`inputs` name each input once, and one level: ld_scaled or pw_scaled")

    @property
    def hop_samples(self) -> int:
        """Audio samples between two frames, at the model's own rate."""
        return self.sample_rate_hz // self.frame_rate_hz

    @property
    def scaled_inputs(self) -> list[str]:
        """The inputs that are curves of pitch and level; neither z nor instrument is one of them."""
        return [name for name in self.inputs if name not in ("z", "instrument")]

    @property
    def input_sizes(self) -> dict[str, int]:
        """Channels of the inputs that have more than one."""
        sizes = {"z": self.encoder.z_dims} if self.encoder else {}
        return sizes | ({"instrument": self.instruments.n_channels} if self.instruments else {})

    @property
    def level(self) -> Literal["loudness_db", "power_db"]:
        """The measure of level that drives the model."""
        return "power_db" if "pw_scaled" in self.inputs else "loudness_db"

    @property
    def sizes(self) -> DecoderConfig:
        """Sizes of the decoder.

        Raises:
          ModelError: they are unknown; there is only a file to run.
        """
        if self.decoder is None:
            raise ModelError(
                "the network of this instrument has an unknown graph; it can be played, and exported as vst, "
                "but not trained on or exported in another format",
                "Begin with another instrument.",
            )
        return self.decoder

    def only(self, kind: type[ProcessorConfig]) -> tuple[str, Any] | None:
        """Name and configuration of the one processor of a kind, or None where there is none."""
        found = [(name, node) for name, node in self.processors.items() if isinstance(node, kind)]
        return found[0] if found else None
