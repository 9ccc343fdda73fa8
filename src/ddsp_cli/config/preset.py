"""Presets: a named model with the training that suits it, one YAML file each."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from ddsp_cli.config.base import Config, NonNegativeFloat, PositiveFloat, PositiveInt
from ddsp_cli.config.model import ModelConfig
from ddsp_cli.config.reading import parse_yaml
from ddsp_cli.errors import ModelError, did_you_mean


class LossConfig(Config):
    """Multi-scale spectral loss: L1 on magnitudes and on their logarithms, summed over FFT sizes."""

    fft_sizes: tuple[PositiveInt, ...] = (2048, 1024, 512, 256, 128, 64)
    mag_weight: NonNegativeFloat = 1.0
    logmag_weight: NonNegativeFloat = 1.0
    log_floor: NonNegativeFloat = 1e-5  # magnitudes below it count as it; 0 is the original's definition


class TrainingConfig(Config):
    """How a preset is trained. `decay_rate` per `decay_steps` as upstream's optimization/base.gin."""

    steps: PositiveInt = 30000
    batch_size: PositiveInt = 16
    crop_s: PositiveFloat = 4.0
    learning_rate: PositiveFloat = 3e-4
    decay_rate: Annotated[float, Meta(gt=0, le=1)] = 0.98
    decay_steps: PositiveInt = 10000
    clip_norm: PositiveFloat = 3.0
    loss: LossConfig = LossConfig()


class Preset(Config):
    """A named model with the training that suits it; one YAML file each."""

    description: str
    model: ModelConfig
    training: TrainingConfig = TrainingConfig()


def preset_names() -> list[str]:
    """Names of the presets that come with the program."""
    folder = resources.files("ddsp_cli") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_preset(name: str) -> Preset:
    """A preset by name, or from a YAML file of the user's own.

    Raises:
      ModelError: no such preset, or a file that is not a valid one.
    """
    if name in preset_names():
        text = (resources.files("ddsp_cli") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
        return parse_yaml(text, Preset, f"preset {name}")
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        try:
            return parse_yaml(path.read_text(encoding="utf-8"), Preset, str(path))
        except (OSError, UnicodeDecodeError) as problem:
            raise ModelError(f"preset file {path} cannot be read: {problem}") from problem
    raise ModelError(f"there is no preset called {name}", did_you_mean(name, preset_names()))
