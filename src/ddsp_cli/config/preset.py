"""Presets: a named model with the training that suits it, one YAML file each."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from ddsp_cli.config.model import (
    AnyProcessorConfig,
    Config,
    ModelConfig,
    Name,
    NonNegativeFloat,
    OwnProcessorConfig,
    PositiveFloat,
    PositiveInt,
    Text,
)
from ddsp_cli.config.reading import parse_yaml
from ddsp_cli.errors import ModelError, did_you_mean
from ddsp_cli.limits import read_regular

#: Largest size of a preset, which is a page of text.
MAX_PRESET_BYTES = 1 << 20


class LossConfig(Config):
    """Multi-scale spectral loss (`engine.SpectralLoss`): differences of spectrograms, summed over FFT sizes.

    The first two terms are those of the paper and cost little memory; a weight of 0 leaves a term out, at no cost.
    """

    fft_sizes: Annotated[tuple[Annotated[int, Meta(ge=16, le=65536)], ...], Meta(min_length=1, max_length=32)] = (
        2048, 1024, 512, 256, 128, 64,
    )  # fmt: skip
    loss_type: Literal["L1", "L2", "COSINE"] = "L1"
    mag_weight: NonNegativeFloat = 1.0
    logmag_weight: NonNegativeFloat = 1.0
    log_floor: NonNegativeFloat = 1e-5  # magnitudes below it count as it; 0 is the original's definition
    delta_time_weight: NonNegativeFloat = 0.0
    delta_freq_weight: NonNegativeFloat = 0.0
    cumsum_freq_weight: NonNegativeFloat = 0.0
    loudness_weight: NonNegativeFloat = 0.0  # of the A-weighted loudness in dB, once and not per size
    room_penalty: NonNegativeFloat = 0.0  # while training, of `LearnedRoom.reverberance`
    control_weight: NonNegativeFloat = 0.0  # while training, of `engine.losses.ControlLoss`: of each dB of error

    def __post_init__(self) -> None:
        weights = {name for name in self.__struct_fields__ if name.endswith("_weight")} - {"control_weight"}
        if not any(getattr(self, name) for name in weights):
            raise ValueError("at least one weight of the loss must be above 0, `control_weight` apart")


class TrainingConfig(Config):
    """Settings of the training of a preset.

    Attributes:
      schedule: `exponential` multiplies the learning rate by `decay_rate` every `decay_steps`, as upstream's
        optimization/base.gin; `cosine` brings it down to nothing at the last step, after `warmup_steps` of growing.
      room_pace: how many times faster the room learns than the rest, beside its kind's own pace
        (`LearnedRoom.pace`).
      copies: of each window, at other pitches and levels, see `training.windows.with_copies`.
      pretrain_steps: steps that fit the decoder to harmonics and noise measured in the recordings before training, see
        `training.pretrain`; 0 for none.
      harmonic_rolloff: harmonic k starts at 1/k**harmonic_rolloff, see `training.output_layer`; 0: all equal.
      render_rate_hz: sample rate at which sound is rendered and compared in training, a divisor of the model's rate,
        see `engine.autoencoder.LowBand`; null for the model's rate. The band above half of it is learned from measured
        controls only, so `control_weight` must be set.
      validation_steps: between two validations, each of which leaves a checkpoint.
      keep: which weights the instrument gets: those with the lowest validation loss, or those of the last validation,
        where the validation split is too small to choose by.
      patience: validations without a better one after which a training ends; 0 for never. It does not count where the
        last weights are kept.
    """

    steps: PositiveInt = 30000
    batch_size: Annotated[int, Meta(ge=1, le=65536)] = 16
    crop_s: Annotated[float, Meta(gt=0, le=600)] = 4.0
    learning_rate: PositiveFloat = 3e-4
    beta_2: Annotated[float, Meta(gt=0, lt=1)] = 0.999
    schedule: Literal["exponential", "cosine"] = "exponential"
    warmup_steps: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    decay_rate: Annotated[float, Meta(gt=0, le=1)] = 0.98
    decay_steps: PositiveInt = 10000
    clip_norm: PositiveFloat = 3.0
    room_pace: PositiveFloat = 1.0
    copies: Annotated[int, Meta(ge=0, le=16)] = 0
    pretrain_steps: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    harmonic_rolloff: Annotated[float, Meta(ge=0, le=4)] = 0.0
    render_rate_hz: Literal[16000, 24000, 32000] | None = None
    validation_steps: PositiveInt = 100
    keep: Literal["best", "last"] = "best"
    patience: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    loss: LossConfig = LossConfig()

    def __post_init__(self) -> None:
        if self.render_rate_hz is not None and not self.loss.control_weight:
            raise ValueError("`render_rate_hz` needs `control_weight`, which trains the band above")


class Preset(Config):
    """A named model with the training that suits it; one YAML file each."""

    description: Text
    model: ModelConfig
    training: TrainingConfig = TrainingConfig()


class _OwnModelConfig(ModelConfig, kw_only=True):
    """A model in a user's preset, which may name processors of the user's own."""

    processors: Annotated[  # type: ignore[assignment]
        dict[Name, AnyProcessorConfig | OwnProcessorConfig], Meta(max_length=64)
    ]


class _OwnPreset(Preset):
    model: _OwnModelConfig


def preset_names() -> list[str]:
    """Returns the names of the presets that come with the program."""
    from importlib import resources

    folder = resources.files("ddsp_cli") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_preset(name: str) -> Preset:
    """Returns a preset by name, or from a YAML file of the user's own.

    Raises:
      ModelError: no such preset, or a file that is not a valid one.
    """
    if name in preset_names():
        from importlib import resources

        text = (resources.files("ddsp_cli") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
        return parse_yaml(text, Preset, f"preset {name}")
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        text = read_regular(path, MAX_PRESET_BYTES).decode("utf-8", "replace")
        found = parse_yaml(text, _OwnPreset, str(path))
        fields = {name: getattr(found.model, name) for name in ModelConfig.__struct_fields__}
        return Preset(found.description, ModelConfig(**fields), found.training)
    raise ModelError(f"there is no preset called {name}", did_you_mean(name, preset_names()))
