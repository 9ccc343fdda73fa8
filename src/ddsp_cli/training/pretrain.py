"""Pretraining: fit the decoder to harmonics and noise measured in the recordings, before any sound is rendered.

A spectral loss on sound has two weaknesses at the start. Where the noise is loud, harmonics below it get no gradient;
they fall to the floor of the bounded scaling, where they never get one again. And every step renders and analyses
sound. Measured amplitudes have neither: the error is a difference of levels in dB, which has the same gradient however
soft the harmonic, and a step is the decoder alone.

Shapes: N windows, B batch, F frames, K harmonics, M noise bands.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from ddsp_cli.analysis.partials import measure_partials
from ddsp_cli.arrays import FloatArray
from ddsp_cli.config import FilteredNoiseConfig, HarmonicConfig, ModelConfig
from ddsp_cli.engine import Autoencoder
from ddsp_cli.scaling import MAX_AMPLITUDE
from ddsp_cli.training.batches import RandomCrops, Windows

#: Crops of a pretraining step: longer than those of training, as the recurrent state settles within them.
CROP_S = 2.0

LEARNING_RATE = 3e-3
WARMUP_STEPS = 50
CLIP_NORM = 3.0

#: The median of one bin of noise is this much below its mean (chi-squared, two degrees of freedom: ln 2).
NOISE_MEDIAN_DB = 10.0 * math.log10(math.log(2.0))

#: Variance of the noise that `FilteredNoise` filters, uniform within ±1.
NOISE_VARIANCE = 1.0 / 3.0

#: Weight of the error of a noise band against that of a harmonic.
NOISE_WEIGHT = 0.5

#: Harmonics are fitted below this share of half the sample rate, where recordings are not filtered yet.
BAND_SHARE = 0.97

#: Softer levels count as this one: the recordings do not hold them, and from here a control can still be learned.
FLOOR_DB = -90.0


@dataclass(frozen=True)
class Targets:
    """Levels that the synthesisers should have, measured in windows of recordings.

    Attributes:
      harmonic_db: [N, F, K] amplitude of each harmonic.
      harmonic_weight: [N, F, K] 1 where it is voiced and below half the sample rate.
      noise_db: [N, F, M] magnitude of each noise band.
      noise_weight: [N, F, 1] 1 where it was measured: in voiced frames.
    """

    harmonic_db: FloatArray
    harmonic_weight: FloatArray
    noise_db: FloatArray
    noise_weight: FloatArray


def can_pretrain(model: ModelConfig) -> bool:
    """Whether a model has the two synthesisers whose controls can be measured."""
    return model.only(HarmonicConfig) is not None and model.only(FilteredNoiseConfig) is not None


def measure_targets(windows: Windows) -> Targets:
    """Measures the controls of all windows; about 2 ms for a second of sound."""
    model = windows.model
    harmonic, noise = model.only(HarmonicConfig), model.only(FilteredNoiseConfig)
    assert harmonic is not None
    assert noise is not None
    n_harmonics, n_bands = harmonic[1].n_harmonics, noise[1].n_bands
    rate_hz = model.sample_rate_hz
    f0_hz = windows.inputs["f0_hz"][..., 0]
    harmonic_db = np.empty((*f0_hz.shape, n_harmonics), np.float32)
    noise_db = np.empty((*f0_hz.shape, n_bands), np.float32)
    bands_hz = np.linspace(0.0, rate_hz / 2.0, n_bands)
    for i, (audio, f0) in enumerate(zip(windows.audio, f0_hz, strict=True)):
        partials = measure_partials(audio, rate_hz, f0, model.frame_rate_hz, n_harmonics)
        # a harmonic that the noise covers is known to be no louder than a tenth of what its bin holds
        power = partials.harmonic_power - partials.noise_in_harmonics(f0)
        harmonic_db[i] = _power_db(np.maximum(power, 0.1 * partials.harmonic_power))
        # density of noise of variance v and magnitude m: m² v / (rate / 2)
        magnitude_db = _power_db(partials.noise_density * (rate_hz / 2.0) / NOISE_VARIANCE) - NOISE_MEDIAN_DB
        for frame in range(len(f0)):
            places_hz = (np.arange(n_harmonics) + 0.5) * f0[frame]
            n_inside = max(1, int(np.searchsorted(places_hz, BAND_SHARE * rate_hz / 2.0)))
            noise_db[i, frame] = np.interp(bands_hz, places_hz[:n_inside], magnitude_db[frame, :n_inside])
    voiced = windows.voiced[..., None]
    inside = np.arange(1, n_harmonics + 1) * f0_hz[..., None] < BAND_SHARE * rate_hz / 2.0
    return Targets(harmonic_db, (voiced & inside).astype(np.float32), noise_db, voiced.astype(np.float32))


class ControlFit(keras.Model):
    """The decoder of a model, compared with measured levels in place of sound.

    Args:
      model: whose decoder (and encoder) learn; the rest of it takes no part.
    """

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        harmonic, noise = model.config.only(HarmonicConfig), model.config.only(FilteredNoiseConfig)
        assert harmonic is not None
        assert noise is not None
        self._raw_controls = model.raw_controls  # not the model, whose room would count as untrained weights
        self.parts = [part for part in (model.decoder, model.encoder, model.instruments) if part is not None]
        self._amplitude, self._distribution = harmonic[1].inputs[:2]
        self._noise, self._noise_bias = noise[1].inputs[0], noise[1].initial_bias
        self.built = True

    def call(self, features: dict[str, Any]) -> dict[str, Any]:
        """Predicts levels in dB: `amplitude` [B, F, 1], unnormalised `harmonic` [B, F, K], and `noise` [B, F, M]."""
        raw = self._raw_controls(features)
        return {
            "amplitude": _scaled_db(raw[self._amplitude]),
            "harmonic": _scaled_db(raw[self._distribution]),
            "noise": _scaled_db(raw[self._noise] + self._noise_bias),
        }

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Mean absolute error in dB of the harmonics, and of the noise bands with the weight `NOISE_WEIGHT`.

        Args:
          x, sample_weight, training: not used.
          y: the arrays of `Targets` by name, cut to the batch.
          y_pred: what `call` returned.
        """
        weight = y["harmonic_weight"]
        # the distribution is normalised over the harmonics that are audible
        shares = ops.power(10.0, y_pred["harmonic"] / 20.0) * weight
        total_db = 20.0 / math.log(10.0) * ops.log(ops.sum(shares, axis=-1, keepdims=True) + 1e-12)
        predicted_db = y_pred["amplitude"] + y_pred["harmonic"] - total_db
        harmonics = _mean(ops.abs(predicted_db - y["harmonic_db"]), weight)
        bands = ops.mean(ops.abs(y_pred["noise"] - y["noise_db"]), axis=-1, keepdims=True)
        return harmonics + NOISE_WEIGHT * _mean(bands, y["noise_weight"])


class TargetCrops(keras.utils.PyDataset):
    """The batches of `RandomCrops`, with targets in place of sound."""

    def __init__(self, crops: RandomCrops, targets: Targets) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self._crops, self._targets = crops, targets

    def __len__(self) -> int:
        return len(self._crops)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        rows, starts = self._crops.places(index)
        inputs = self._crops.windows.cut_inputs(rows, starts, self._crops.crop_frames)
        frames = starts[:, None] + np.arange(self._crops.crop_frames)
        return inputs, {name: values[rows[:, None], frames] for name, values in vars(self._targets).items()}


def pretrain(
    model: Autoencoder,
    windows: Windows,
    n_steps: int,
    batch_size: int,
    seed: int,
    compiled: bool,
    report: Callable[[int], None],
) -> float:
    """Fits the decoder of a model to the controls measured in the training set.

    Args:
      model: with random weights; its decoder (and encoder) are changed.
      windows: the training set.
      n_steps: how many steps.
      batch_size: crops in a batch.
      seed: of the crops.
      compiled: compile the steps.
      report: called with the number of steps done.

    Returns:
      The mean error of the last tenth of the steps, in dB.

    Raises:
      ValueError: the model has no harmonic or no noise synthesiser.
    """
    if not can_pretrain(windows.model):
        raise ValueError("pretraining needs a harmonic and a noise synthesiser")
    fit = ControlFit(model)
    rate = keras.optimizers.schedules.CosineDecay(
        LEARNING_RATE / 100.0, max(1, n_steps - WARMUP_STEPS), alpha=0.03, warmup_target=LEARNING_RATE,
        warmup_steps=min(WARMUP_STEPS, n_steps // 2),
    )  # fmt: skip
    fit.compile(optimizer=keras.optimizers.Adam(rate, global_clipnorm=CLIP_NORM), jit_compile=compiled)
    crops = TargetCrops(RandomCrops(windows, batch_size, CROP_S, seed, n_steps), measure_targets(windows))
    watch = _Watch(report)
    fit.fit(crops, callbacks=[watch], verbose=0, shuffle=False)
    return float(np.mean(watch.errors_db[-max(1, n_steps // 10) :]))


class _Watch(keras.callbacks.Callback):
    """Collects the error of every step."""

    def __init__(self, report: Callable[[int], None]) -> None:
        super().__init__()
        self.errors_db: list[float] = []
        self._report, self._mean = report, 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        mean = float((logs or {})["loss"])  # a running mean
        self.errors_db.append(mean * (batch + 1) - self._mean * batch)
        self._mean = mean
        self._report(batch + 1)


def _scaled_db(raw: Any) -> Any:
    """`scaling.exp_sigmoid` in dB, without its floor: of a gradient that does not vanish, however soft."""
    return 20.0 * math.log10(MAX_AMPLITUDE) + 20.0 * ops.log_sigmoid(raw)


def _mean(values: Any, weights: Any) -> Any:
    return ops.sum(values * weights) / ops.maximum(ops.sum(weights), 1.0)


def _power_db(power: np.ndarray) -> np.ndarray:
    return np.maximum(10.0 * np.log10(np.maximum(power, 1e-20)), FLOOR_DB)
