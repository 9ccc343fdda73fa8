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

from ddsp_cli.analysis.partials import measure_partials
from ddsp_cli.arrays import FloatArray
from ddsp_cli.config import FilteredNoiseConfig, HarmonicConfig, ModelConfig
from ddsp_cli.engine import Autoencoder
from ddsp_cli.engine.losses import ControlLoss
from ddsp_cli.training.batches import RandomCrops, Windows

#: Crops of a pretraining step: longer than those of training, as the recurrent state settles within them.
CROP_S = 2.0

LEARNING_RATE = 3e-3

#: Learning rate of a model that begins with a base, which is adjusted and not learned from the start.
BASE_LEARNING_RATE = 1e-3

WARMUP_STEPS = 50
CLIP_NORM = 3.0

#: The median of one bin of noise is this much below its mean (chi-squared, two degrees of freedom: ln 2).
NOISE_MEDIAN_DB = 10.0 * math.log10(math.log(2.0))

#: Variance of the noise that `FilteredNoise` filters, uniform within ±1.
NOISE_VARIANCE = 1.0 / 3.0

#: Harmonics are fitted below this share of half the sample rate, where recordings are not filtered yet.
BAND_SHARE = 0.97

#: More harmonics than these are not measured.
MAX_MEASURED = 400

#: Weight of levels above the band of a recording against measured ones, and the range of their slopes, dB an octave.
BEYOND_WEIGHT = 0.2
BEYOND_SLOPE_DB = (-60.0, -12.0)

#: Softer levels count as this one: the recordings do not hold them, and from here a control can still be learned.
FLOOR_DB = -90.0


#: Arrays of a batch by name.
Inputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class Targets:
    """Levels that the synthesisers should have, measured in windows of recordings.

    Attributes:
      harmonic_db: [N, F, K] amplitude of each harmonic.
      harmonic_weight: [N, F, K] by frequency, see `_hearing_weight`, where it is voiced and within the band of the
        recording; `BEYOND_WEIGHT` of that above the band, where the level continues the slope of the highest octave; 0
        above half the sample rate.
      noise_db: [N, F, M] magnitude of each noise band.
      noise_weight: [N, F, M] likewise.
    """

    harmonic_db: FloatArray
    harmonic_weight: FloatArray
    noise_db: FloatArray
    noise_weight: FloatArray


def can_pretrain(model: ModelConfig) -> bool:
    """Whether a model has the two synthesisers whose controls can be measured."""
    return model.only(HarmonicConfig) is not None and model.only(FilteredNoiseConfig) is not None


def measure_targets(windows: Windows) -> Targets:
    """Measures the controls of all windows; 2 ms for a second of sound at 16 kHz, 20 ms at 48 kHz."""
    model = windows.model
    harmonic, noise = model.only(HarmonicConfig), model.only(FilteredNoiseConfig)
    assert harmonic is not None
    assert noise is not None
    n_harmonics, n_bands = harmonic[1].n_harmonics, noise[1].n_bands
    shape = (len(windows), windows.n_frames)
    found = Targets(*(np.zeros((*shape, n), np.float32) for n in (n_harmonics, n_harmonics, n_bands, n_bands)))
    for i, (audio, f0_hz, bandwidth_hz) in enumerate(
        zip(windows.audio, windows.fine_f0_hz, windows.bandwidth_hz, strict=True)
    ):
        found.harmonic_db[i], found.noise_db[i] = window_levels(
            audio, model, f0_hz, bandwidth_hz, n_harmonics, n_bands, windows.f0_step
        )
    top_hz = np.minimum(windows.bandwidth_hz, BAND_SHARE * model.sample_rate_hz / 2.0)[:, None, None]
    for weight, hz in (
        (found.harmonic_weight, np.arange(1, n_harmonics + 1) * windows.inputs["f0_hz"]),
        (found.noise_weight, np.linspace(0.0, model.sample_rate_hz / 2.0, n_bands)),
    ):
        weight[:] = np.where(hz <= top_hz, 1.0, BEYOND_WEIGHT) * _hearing_weight(hz)
        weight *= windows.voiced[..., None]
    found.harmonic_weight[np.arange(1, n_harmonics + 1) * windows.inputs["f0_hz"] >= model.sample_rate_hz / 2.0] = 0.0
    return found


def _hearing_weight(hz: np.ndarray) -> np.ndarray:
    """Weight of a level at a frequency: the square root of the density of equivalent rectangular bandwidths.

    Glasberg and Moore (1990): 24.7·(4.37 f + 1) Hz with f in kHz. Weighted by the density itself, the band above 8 kHz
    would hardly count.
    """
    return 1.0 / np.sqrt(1.0 + 4.37 * hz / 1000.0)


def window_levels(
    audio: FloatArray, model: ModelConfig, f0_hz: FloatArray, bandwidth_hz: float, n_harmonics: int, n_bands: int,
    step: int,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Measures the levels of harmonics and noise in one window, extrapolated above its band.

    Args:
      audio: [S] at the model's rate.
      model: sample rate and frame rate.
      f0_hz: [F·step], nowhere 0.
      bandwidth_hz: above it the window holds nothing.
      n_harmonics, n_bands: K and M.
      step: values of F0 in a frame.

    Returns:
      Amplitudes of harmonics [F, K] and magnitudes of noise bands [F, M], in dB.
    """
    rate_hz = model.sample_rate_hz
    top_hz = min(bandwidth_hz, BAND_SHARE * rate_hz / 2.0)
    # harmonics that are not synthesised are measured as well: their energy is left to the noise
    n_measured = max(n_harmonics, min(MAX_MEASURED, int(rate_hz / 2.0 / float(f0_hz.min()))))
    partials = measure_partials(audio, rate_hz, f0_hz, model.frame_rate_hz * step, n_measured, step)
    f0_hz = np.asarray(f0_hz[::step], np.float32)
    # a harmonic that the noise covers is known to be no louder than a tenth of what its bin holds
    covered = partials.harmonic_power - partials.noise_in_harmonics(f0_hz)
    harmonic_db = _power_db(np.maximum(covered, 0.1 * partials.harmonic_power)[:, :n_harmonics])
    density = partials.noise_density.copy()
    density[:, n_harmonics:] += partials.harmonic_power[:, n_harmonics:] / f0_hz[:, None]
    # density of noise of variance v and magnitude m: m² v / (rate / 2)
    magnitude_db = _power_db(density * (rate_hz / 2.0) / NOISE_VARIANCE) - NOISE_MEDIAN_DB
    bands_hz = np.linspace(0.0, rate_hz / 2.0, n_bands)
    noise_db = np.empty((len(f0_hz), n_bands), np.float32)
    for frame, (hz, levels_db) in enumerate(zip(f0_hz, magnitude_db, strict=True)):
        places_hz = (np.arange(n_measured) + 0.5) * hz
        n_inside = max(1, int(np.searchsorted(places_hz, top_hz)))
        noise_db[frame] = np.interp(bands_hz, places_hz[:n_inside], levels_db[:n_inside])
    harmonics_hz = np.arange(1, n_harmonics + 1) * f0_hz[:, None]
    return _extrapolated(harmonics_hz, harmonic_db, top_hz), _extrapolated(bands_hz[None], noise_db, top_hz)


def _extrapolated(hz: np.ndarray, levels_db: FloatArray, top_hz: float) -> FloatArray:
    """Continues levels [F, C] at frequencies [F or 1, C] above `top_hz` by the slope of the octave below it."""
    inside = (hz > top_hz / 2.0) & (hz <= top_hz) & np.ones_like(levels_db, bool)
    above = (hz > top_hz) & np.ones_like(levels_db, bool)
    if not above.any() or inside.sum() < 2:
        return levels_db
    octaves = np.broadcast_to(np.log2(np.maximum(hz, 1.0) / top_hz), levels_db.shape)
    slope = np.polyfit(octaves[inside], levels_db[inside], 1)[0]
    # each frame keeps its own level: that of its octave below the top
    n_inside = np.maximum(inside.sum(axis=1, keepdims=True), 1)
    at_top_db = np.sum((levels_db - slope * octaves) * inside, axis=1, keepdims=True) / n_inside
    at_top_db = np.where(inside.any(axis=1, keepdims=True), at_top_db, FLOOR_DB)
    slope = float(np.clip(slope, *BEYOND_SLOPE_DB))
    return np.where(above, np.maximum(at_top_db + slope * octaves, FLOOR_DB), levels_db).astype(np.float32)


class ControlFit(keras.Model):
    """The decoder of a model, compared with measured levels in place of sound.

    Args:
      model: whose decoder (and encoder) learn; the rest of it takes no part.
    """

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self._raw_controls = model.raw_controls  # not the model, whose room would count as untrained weights
        self.parts = [part for part in (model.decoder, model.encoder, model.instruments) if part is not None]
        self._loss = ControlLoss(model.config, balance_weight=0.0)  # a mean error in dB; the balance counts with sound
        self.built = True

    def call(self, features: dict[str, Any]) -> dict[str, Any]:
        """Predicts raw controls, see `Autoencoder.raw_controls`."""
        return self._raw_controls(features)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Error of the predicted controls `y_pred` in dB against the targets `y`, see `ControlLoss`."""
        return self._loss.call(y_pred, y)


class TargetCrops(keras.utils.PyDataset):
    """The crops of `RandomCrops` without sound: inputs and targets.

    Args:
      crops: of windows whose targets were measured.
    """

    def __init__(self, crops: RandomCrops) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self._crops = crops

    def __len__(self) -> int:
        return len(self._crops)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        windows = self._crops.windows.in_memory()
        found = windows.cut_inputs(*self._crops.places(index), self._crops.crop_frames)
        return {name: found[name] for name in windows.inputs}, {name: found[name] for name in windows.targets}


def pretrain(
    model: Autoencoder,
    windows: Windows,
    n_steps: int,
    batch_size: int,
    seed: int,
    compiled: bool,
    report: Callable[[int], None],
    learning_rate: float = LEARNING_RATE,
) -> float:
    """Fits the decoder of a model to the controls measured in the training set.

    Args:
      model: with random weights; its decoder (and encoder) are changed.
      windows: the training set; its targets are measured unless they were.
      n_steps: how many steps.
      batch_size: crops in a batch.
      seed: of the crops.
      compiled: compile the steps.
      report: called with the number of steps done.
      learning_rate: the highest.

    Returns:
      The mean error of the last tenth of the steps, in dB.

    Raises:
      ValueError: the model has no harmonic or no noise synthesiser.
    """
    if not can_pretrain(windows.model):
        raise ValueError("pretraining needs a harmonic and a noise synthesiser")
    windows.measure_targets(measure_targets)
    crops = TargetCrops(RandomCrops(windows, batch_size, CROP_S, seed, n_steps))
    return fit_controls(model, crops, n_steps, compiled, report, learning_rate)


def fit_controls(
    model: Autoencoder,
    crops: keras.utils.PyDataset,
    n_steps: int,
    compiled: bool,
    report: Callable[[int], None],
    learning_rate: float = LEARNING_RATE,
) -> float:
    """Fits the decoder of a model to batches of inputs and targets; arguments and result as `pretrain`."""
    fit = ControlFit(model)
    rate = keras.optimizers.schedules.CosineDecay(
        learning_rate / 100.0, max(1, n_steps - WARMUP_STEPS), alpha=0.03, warmup_target=learning_rate,
        warmup_steps=min(WARMUP_STEPS, n_steps // 2),
    )  # fmt: skip
    fit.compile(optimizer=keras.optimizers.Adam(rate, global_clipnorm=CLIP_NORM), jit_compile=compiled)
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


def _power_db(power: np.ndarray) -> np.ndarray:
    return np.maximum(10.0 * np.log10(np.maximum(power, 1e-20)), FLOOR_DB)
