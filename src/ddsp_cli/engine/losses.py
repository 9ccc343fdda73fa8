"""Training losses. Shapes: B batch, S samples, T spectral frames, N bins."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from ddsp_cli.config import FilteredNoiseConfig, HarmonicConfig, ModelConfig
from ddsp_cli.engine.core.filters import overlap_add
from ddsp_cli.engine.core.scaling import safe_log
from ddsp_cli.engine.core.spectra import a_weighted_loudness, frame, hann, hop_of, safe_sqrt, stft_magnitude
from ddsp_cli.engine.core.tensors import (
    ArgumentError,
    Tensor,
    as_float32,
    check_shapes,
    constant,
    finite,
    in_blocks,
    one_of,
    static_shape,
    takes,
    whole,
)
from ddsp_cli.errors import did_you_mean
from ddsp_cli.scaling import MAX_AMPLITUDE

LOSS_TYPES = ("L1", "L2", "COSINE")
OVERLAP = 0.75

#: Frames of loudness a second, as in the original; at 44.1 kHz 50, since a hop is a whole number of samples.
LOUDNESS_RATE_HZ = 250


@takes(target="...", value="...", weights="...")
def mean_difference(target: Tensor, value: Tensor, loss_type: str = "L1", weights: Tensor | None = None) -> Tensor:
    """Returns the mean difference of two arrays (losses.py:30).

    Args:
      target: [..., N].
      value: of the shape of `target`.
      loss_type: `L1` mean absolute, `L2` mean squared, `COSINE` one minus the mean cosine along the last axis.
      weights: multiply the differences, before they are squared; broadcast to [..., N], for `COSINE` to [...].

    Returns:
      a scalar, 0 or more.

    Raises:
      ValueError: the shapes differ, or no such type.
    """
    one_of(loss_type, "loss_type", LOSS_TYPES)
    _check_equal_shapes("mean_difference", target, value)
    scale: Any = 1.0 if weights is None else weights
    if loss_type == "L1":
        return ops.mean(ops.abs((target - value) * scale))
    if loss_type == "L2":
        return ops.mean(ops.square((target - value) * scale))
    cosine = ops.sum(ops.normalize(target, axis=-1) * ops.normalize(value, axis=-1), axis=-1)
    return ops.mean((1.0 - cosine) * scale)


def _check_equal_shapes(owner: str, target: Tensor, value: Tensor) -> None:
    """Raises a ValueError where known dimensions differ: a loss must not broadcast."""
    shape = static_shape(target)
    if shape is not None:
        letters = " ".join(f"D{i}" if n is None else str(n) for i, n in enumerate(shape))
        check_shapes(owner, {"value": static_shape(value)}, {"value": letters})


@dataclass(frozen=True)
class SpectralDistance:
    """Mean distance of magnitudes and of their logarithms, summed over FFT sizes, with its gradient.

    Differentiating step by step keeps the spectra of all sizes until the end, several hundred bytes for each sample of
    sound. Here the gradient is computed along with the distance, some examples and one size at a time, and one number
    for each sample is kept.

    Where a bin of `value` is exactly 0, its phase is undefined and the gradient of its magnitude would be 0. The
    gradient then takes the phase of the target, so that training can leave silence.

    Attributes:
      fft_sizes: window lengths in samples, 75 % overlap.
      mag_weight: of the magnitudes.
      logmag_weight: of their natural logarithms.
      log_floor: magnitudes below it count as it in the logarithmic term.
      squared: square the differences (L2) instead of taking their absolute value (L1).
    """

    fft_sizes: tuple[int, ...]
    mag_weight: float
    logmag_weight: float
    log_floor: float = 0.0
    squared: bool = False

    def __call__(self, target: Tensor, value: Tensor, weights: Tensor | None = None) -> Tensor:
        """Computes the distance of `value` from `target`, which is taken as constant.

        Args:
          target: audio [B, S].
          value: audio [B, S].
          weights: [B, S]; the mean over a window multiplies the differences of its spectrum.

        Returns:
          a scalar.
        """
        weights = ops.ones_like(target[:, :1]) if weights is None else weights
        return ops.custom_gradient(self._with_gradient)(target, value, weights)

    def _with_gradient(self, target: Any, value: Any, weights: Any) -> tuple[Any, Any]:
        distances, slopes = in_blocks(self._examples, (target, value, weights), 16 * target.shape[-1])
        batch = ops.cast(ops.shape(target)[0], "float32")

        def gradient(*gradients: Any, upstream: Any = None) -> tuple[Any, Any, Any]:
            upstream = gradients[0] if upstream is None else upstream
            return ops.zeros_like(target), slopes * (upstream / batch), ops.zeros_like(weights)

        return ops.sum(distances) / batch, gradient

    def _examples(self, target: Any, value: Any, weights: Any) -> tuple[Any, Any]:
        """Returns distances [n] of some examples, and their slopes [n, S] along `value`."""
        distance, slope = 0.0, 0.0
        for size in self.fft_sizes:
            one, its_slope = self._size(target, value, size, frame_weights(weights, size))
            distance, slope = distance + one, slope + its_slope
        return distance, slope

    def _size(self, target: Any, value: Any, size: int, weights: Any) -> tuple[Any, Any]:
        hop, fft_length = hop_of(size, OVERLAP), 1 << (size - 1).bit_length()
        window = hann(size)
        real, imaginary = ops.rfft(frame(value, size, hop) * window, fft_length=fft_length)
        real_target, imaginary_target = ops.rfft(frame(target, size, hop) * window, fft_length=fft_length)
        ours = safe_sqrt(real * real + imaginary * imaginary)
        theirs = safe_sqrt(real_target * real_target + imaginary_target * imaginary_target)
        audible, zero = ours > 0.0, ops.zeros_like(ours)
        inverse = ops.where(audible, 1.0 / ops.where(audible, ours, ops.ones_like(ours)), zero)
        distance, slope = 0.0, 0.0
        if self.mag_weight > 0:
            term, of_term = self._term(ours - theirs, weights)
            distance, slope = distance + self.mag_weight * term, slope + self.mag_weight * of_term
        if self.logmag_weight > 0:
            term, of_term = self._term(safe_log(self._floored(ours)) - safe_log(self._floored(theirs)), weights)
            of_term = ops.where(ours >= self.log_floor, of_term * inverse, zero)
            distance, slope = distance + self.logmag_weight * term, slope + self.logmag_weight * of_term
        n_values = ours.shape[-1] * ours.shape[-2]
        # Back through |z|, the real FFT (whose inner bins stand for two), the window and the frames.
        sounding = theirs > 0.0
        of_target = ops.where(sounding, 1.0 / ops.where(sounding, theirs, ops.ones_like(theirs)), zero)
        cosine = ops.where(audible, real * inverse, real_target * of_target)
        sine = ops.where(audible, imaginary * inverse, imaginary_target * of_target)
        share = np.full(ours.shape[-1], 0.5, np.float32)
        share[[0, -1]] = 1.0
        along = slope * constant(share * (fft_length / n_values))
        frames = ops.irfft((cosine * along, sine * along), fft_length=fft_length)[..., :size] * window
        mean = ops.sum(distance, axis=(-2, -1)) / n_values
        return mean, overlap_add(frames, hop)[:, : value.shape[-1]]

    def _floored(self, magnitude: Any) -> Any:
        return ops.maximum(magnitude, self.log_floor) if self.log_floor > 0 else magnitude

    def _term(self, difference: Any, weights: Any) -> tuple[Any, Any]:
        """Returns distance and slope of each bin."""
        if self.squared:
            return ops.square(difference * weights), 2.0 * difference * ops.square(weights)
        return ops.abs(difference) * weights, ops.sign(difference) * weights


def frame_weights(weights: Tensor, size: int) -> Tensor:
    """Averages weights over the samples in the windows of a spectrum: [B, S] → [B, T, 1]; [B, 1] → [B, 1, 1]."""
    n_samples = weights.shape[-1]
    if n_samples == 1:
        return weights[:, :, None]
    hop = hop_of(size, OVERLAP)
    n_inside = np.minimum(size, n_samples - hop * np.arange(-(-n_samples // hop)))  # the last windows are padded
    return ops.sum(frame(weights, size, hop), axis=-1, keepdims=True) / constant(n_inside[:, None])


@keras.saving.register_keras_serializable("ddsp")
class SpectralLoss(keras.losses.Loss):
    """Multi-scale spectral loss (paper section 4.2.1; losses.py:132): spectrograms compared at several FFT sizes.

    A term whose weight is 0 is not computed.

    Args:
      fft_sizes: window lengths in samples, 75 % overlap.
      mag_weight: weight of the magnitudes.
      logmag_weight: weight of their natural logarithms; the original's class default is 0, its models use 1.
      log_floor: magnitudes below it count as it in the logarithmic term. At 0, the original's definition, the
        difference between silence and a sound at -120 dB outweighs every audible one.
      loss_type: `L1`, `L2` or `COSINE`, see `mean_difference`.
      delta_time_weight: of the differences between neighbours in time.
      delta_freq_weight: of the differences between neighbours in frequency.
      cumsum_freq_weight: of the magnitudes summed up along frequency.
      loudness_weight: of the A-weighted loudness in dB, once and not per size.
      sample_rate_hz: of the audio, for the loudness.

    Raises:
      ValueError: all weights are 0, one is negative, or a setting is out of range.
    """

    _weights = (
        "mag_weight", "logmag_weight", "delta_time_weight", "delta_freq_weight", "cumsum_freq_weight",
        "loudness_weight",
    )  # fmt: skip

    def __init__(
        self,
        fft_sizes: Sequence[int] = (2048, 1024, 512, 256, 128, 64),
        mag_weight: float = 1.0,
        logmag_weight: float = 0.0,
        log_floor: float = 0.0,
        name: str = "spectral_loss",
        *,
        loss_type: str = "L1",
        delta_time_weight: float = 0.0,
        delta_freq_weight: float = 0.0,
        cumsum_freq_weight: float = 0.0,
        loudness_weight: float = 0.0,
        sample_rate_hz: int = 16000,
    ) -> None:
        super().__init__(name=name, reduction=None)
        if not isinstance(fft_sizes, Iterable):
            raise ArgumentError(
                f"fft_sizes must be a sequence of window lengths such as (2048, 512), not {fft_sizes!r}"
            )
        self.fft_sizes = tuple(whole(size, "an FFT size", smallest=4) for size in fft_sizes)
        self.mag_weight = mag_weight
        self.logmag_weight = logmag_weight
        self.log_floor = finite(log_floor, "log_floor", smallest=0)
        self.loss_type = one_of(loss_type, "loss_type", LOSS_TYPES)
        self.delta_time_weight = delta_time_weight
        self.delta_freq_weight = delta_freq_weight
        self.cumsum_freq_weight = cumsum_freq_weight
        self.loudness_weight = loudness_weight
        self.sample_rate_hz = whole(sample_rate_hz, "sample_rate_hz")
        weights = {name: finite(getattr(self, name), name) for name in self._weights}
        if any(weight < 0 for weight in weights.values()) or not any(weights.values()):
            raise ArgumentError(f"SpectralLoss: one of {', '.join(weights)} must be above 0, and none below 0")
        if not self.fft_sizes and not loudness_weight:
            raise ArgumentError("SpectralLoss: fft_sizes is empty")

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Computes the loss of a batch as Keras does, `sample_weight` in place of `weights`; see `call`."""
        return self.call(y_true, y_pred, sample_weight)

    def call(self, y_true: Tensor, y_pred: Tensor, weights: Tensor | None = None) -> Tensor:
        """Computes the loss of a batch.

        Args:
          y_true: target audio [B, S]; no gradient flows to it.
          y_pred: audio [B, S].
          weights: multiply the differences of spectra: [B] of each example, or [B, S] of each sample, such as a mask.
            A window has the mean weight of its samples.

        Returns:
          a scalar, 0 or more.

        Raises:
          ValueError: the shapes differ.
        """
        y_true = ops.stop_gradient(as_float32(y_true, "SpectralLoss: y_true"))
        y_pred = as_float32(y_pred, "SpectralLoss: y_pred")
        shapes = {"y_true": static_shape(y_true), "y_pred": static_shape(y_pred)}
        specs = {"y_true": "B S", "y_pred": "B S"}
        if weights is not None:
            weights = as_float32(weights, "SpectralLoss: weights")
            shapes["weights"], specs["weights"] = static_shape(weights), "B | B 1 | B S"
        check_shapes("SpectralLoss", shapes, specs)
        if weights is not None and len(weights.shape) == 1:
            weights = weights[:, None]
        return self._total(y_true, y_pred, weights)

    def _total(self, target: Tensor, value: Tensor, weights: Tensor | None) -> Tensor:
        total = ops.zeros(())
        fused = self.loss_type != "COSINE"
        if fused and (self.mag_weight > 0 or self.logmag_weight > 0):
            distance = SpectralDistance(
                self.fft_sizes, self.mag_weight, self.logmag_weight, self.log_floor, self.loss_type == "L2"
            )
            total = total + distance(target, value, weights)
        terms = self._terms(fused)
        for size in self.fft_sizes if terms else ():
            one, other = stft_magnitude(target, size, OVERLAP), stft_magnitude(value, size, OVERLAP)
            of_frames = None if weights is None else frame_weights(weights, size)
            for weight, view, of_view in terms:
                if view(one).shape[1]:  # a single window has no neighbour in time
                    total = total + weight * self._difference(view(one), view(other), of_frames, of_view)
        if self.loudness_weight > 0:
            frame_rate_hz = math.gcd(self.sample_rate_hz, LOUDNESS_RATE_HZ)
            one, other = (a_weighted_loudness(y, self.sample_rate_hz, frame_rate_hz, 2048) for y in (target, value))
            of_examples = None if weights is None else ops.mean(weights, axis=-1, keepdims=True)[:, :, None]
            term = self._difference(one[..., None], other[..., None], of_examples, lambda x: x)
            total = total + self.loudness_weight * term
        return total

    def _difference(self, one: Any, other: Any, weights: Any, of_view: Callable[[Any], Any]) -> Any:
        if weights is not None:
            weights = of_view(weights)
            weights = weights[..., 0] if self.loss_type == "COSINE" else weights
        return mean_difference(one, other, self.loss_type, weights)

    def _terms(self, fused: bool) -> list[tuple[float, Callable[[Any], Any], Callable[[Any], Any]]]:
        """Lists the terms: weight, view of magnitudes [B, T, N], and the matching view of weights [B, T, 1].

        `fused` leaves out the terms that `SpectralDistance` computes.
        """

        def same(x: Any) -> Any:
            return x

        def between(x: Any) -> Any:  # two neighbours in time count by the mean of their weights
            return x if x.shape[1] == 1 else 0.5 * (x[:, 1:] + x[:, :-1])

        terms: list[tuple[float, Callable[[Any], Any], Callable[[Any], Any]]] = [
            (self.delta_time_weight, lambda x: x[:, 1:] - x[:, :-1], between),
            (self.delta_freq_weight, lambda x: x[:, :, 1:] - x[:, :, :-1], same),
            (self.cumsum_freq_weight, lambda x: ops.cumsum(x, axis=2), same),
        ]
        if not fused:
            terms += [
                (self.mag_weight, same, same),
                (self.logmag_weight, lambda x: safe_log(self._floored(x)), same),
            ]
        return [term for term in terms if term[0] > 0]

    def _floored(self, magnitude: Any) -> Any:
        return ops.maximum(magnitude, self.log_floor) if self.log_floor > 0 else magnitude

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, for `from_config`."""
        names = (*self._weights, "log_floor", "name", "loss_type", "sample_rate_hz")
        return {"fft_sizes": list(self.fft_sizes), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("ddsp")
class EmbeddingLoss(keras.losses.Loss):
    """Distance in the embedding of a frozen model: the paper's perceptual loss, over any Keras model (losses.py:318).

    Args:
      model: takes audio [B, S], gives one embedding or a list of them. Its weights are not trained.
      weight: of the loss.
      loss_type: see `mean_difference`.
    """

    def __init__(
        self, model: keras.Model, weight: float = 1.0, loss_type: str = "L1", name: str = "embedding_loss"
    ) -> None:
        super().__init__(name=name, reduction=None)
        if not isinstance(model, keras.layers.Layer):
            raise ArgumentError(f"EmbeddingLoss: model must be a Keras model that takes audio [B, S], not {model!r}")
        model.trainable = False
        self.model = model
        self.weight = finite(weight, "weight")
        self.loss_type = one_of(loss_type, "loss_type", LOSS_TYPES)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Computes the loss of a batch.

        Args:
          y_true: target audio [B, S]; no gradient flows to it.
          y_pred: audio [B, S].

        Returns:
          a scalar, summed over the embeddings.

        Raises:
          ValueError: the shapes differ.
        """
        y_true, y_pred = as_float32(y_true, "y_true"), as_float32(y_pred, "y_pred")
        _check_equal_shapes("EmbeddingLoss", y_true, y_pred)
        targets = keras.tree.flatten(self.model(ops.stop_gradient(y_true), training=False))
        values = keras.tree.flatten(self.model(y_pred, training=False))
        total = ops.zeros(())
        for target, value in zip(targets, values, strict=True):
            total = total + mean_difference(target, value, self.loss_type)
        return self.weight * total

    def get_config(self) -> dict[str, Any]:
        """Returns the settings and the model, for `from_config`."""
        model = keras.saving.serialize_keras_object(self.model)
        return {"model": model, "weight": self.weight, "loss_type": self.loss_type, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> EmbeddingLoss:
        """Makes a loss from the result of `get_config`."""
        return cls(**{**config, "model": keras.saving.deserialize_keras_object(config["model"])})


@keras.saving.register_keras_serializable("ddsp")
class LossGroup:
    """Several losses of one set of outputs, summed (`LossGroup` of the original, losses.py:92).

    Args:
      losses: name → (loss, names of the outputs it compares: target and value). A loss is a Keras loss or any function
        of two tensors.

    Raises:
      ValueError: there is no loss, or one does not name two outputs.
    """

    def __init__(self, losses: Mapping[str, tuple[Callable[..., Tensor], Sequence[str]]]) -> None:
        form = "name → (loss, [target, value])"
        if not isinstance(losses, Mapping):
            raise ArgumentError(f"LossGroup: losses must map {form}, not {type(losses).__name__}")
        if not losses:
            raise ArgumentError("LossGroup: at least one loss is needed")
        entries: Mapping[str, Any] = losses
        for name, entry in entries.items():
            if not isinstance(entry, tuple | list) or len(entry) != 2 or not callable(entry[0]):
                raise ArgumentError(
                    f"LossGroup: loss {name} must be a pair of a loss and the outputs it compares; losses map {form}"
                )
            if isinstance(entry[1], str) or len(entry[1]) != 2:
                raise ArgumentError(f"LossGroup: loss {name} must name two outputs, target and value, not {entry[1]!r}")
        self.losses = {name: (loss, list(wanted)) for name, (loss, wanted) in losses.items()}

    def __call__(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Computes all losses.

        Args:
          outputs: by name, such as those of a `ProcessorGroup` with the targets added.

        Returns:
          each loss by its name, a scalar, and their sum as `total`.

        Raises:
          ValueError: an output is missing.
        """
        found: dict[str, Tensor] = {}
        for name, (loss, wanted) in self.losses.items():
            for output in wanted:
                if output not in outputs:
                    hint = did_you_mean(output, outputs)
                    raise ArgumentError(f"LossGroup: {name} compares {output}, which is not among the outputs. {hint}")
            found[name] = loss(*(outputs[output] for output in wanted))
        return {**found, "total": sum(found.values())}

    def get_config(self) -> dict[str, Any]:
        """Returns the losses, for `from_config`."""
        serialize = keras.saving.serialize_keras_object
        return {"losses": {name: (serialize(loss), wanted) for name, (loss, wanted) in self.losses.items()}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LossGroup:
        """Makes a group from the result of `get_config`."""
        deserialize = keras.saving.deserialize_keras_object
        return cls({name: (deserialize(loss), wanted) for name, (loss, wanted) in config["losses"].items()})


#: Inputs of a batch that `ControlLoss` compares with; see `training.targets.Targets`.
CONTROL_TARGETS = ("harmonic_db", "harmonic_weight", "noise_db", "noise_weight")


class ControlLoss:
    """Mean absolute error in dB of predicted harmonics and noise bands against levels measured in the recording.

    A level in dB has a gradient even if it is soft; the bounded scaling of a control has almost no gradient near its
    floor. Together with a spectral loss, it prevents harmonics that noise covers from being turned off.

    Args:
      config: of a model with one harmonic and one noise synthesiser.
      noise_weight: of the error of the noise bands against that of the harmonics.
      level_weight: of the error of the level of all harmonics together.
      balance_weight: of the error of the mean power of each octave. A mean absolute error in dB teaches the median of a
        level; where levels vary by more than the inputs explain, the mean power of medians is too low.

    Raises:
      ValueError: a synthesiser is missing.
    """

    def __init__(
        self, config: ModelConfig, noise_weight: float = 0.5, level_weight: float = 1.0, balance_weight: float = 2.0
    ) -> None:
        harmonic, noise = config.only(HarmonicConfig), config.only(FilteredNoiseConfig)
        if harmonic is None or noise is None:
            raise ArgumentError("ControlLoss: the model needs a harmonic and a noise synthesiser")
        self._amplitude, self._distribution = harmonic[1].inputs[:2]
        self._noise, self._noise_bias = noise[1].inputs[0], noise[1].initial_bias
        self._noise_weight, self._level_weight, self._balance_weight = noise_weight, level_weight, balance_weight
        self._harmonic_octaves = _octaves(np.arange(1, harmonic[1].n_harmonics + 1))
        self._noise_octaves = _octaves(np.maximum(np.arange(noise[1].n_bands), 1))

    def call(self, raw: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Compares the raw controls of a decoder with measured levels.

        Args:
          raw: as `Autoencoder.raw_controls` returns them.
          targets: `harmonic_db` and `harmonic_weight` [B, F, K], `noise_db` and `noise_weight` [B, F, M]; levels in
            dB, weights 0 or more. Values of weight 0 do not count.

        Returns:
          a scalar, in dB.
        """
        weight = targets["harmonic_weight"]
        shape_db = _scaled_db(raw[self._distribution])
        # the distribution is normalised over the harmonics that are audible
        total = ops.sum(ops.power(10.0, shape_db / 20.0) * ops.cast(weight > 0.0, "float32"), axis=-1, keepdims=True)
        predicted_db = _scaled_db(raw[self._amplitude]) + shape_db - 20.0 / math.log(10.0) * ops.log(total + 1e-12)
        harmonics = _weighted_mean(ops.abs(predicted_db - targets["harmonic_db"]), weight)
        noise_db = _scaled_db(raw[self._noise] + self._noise_bias)
        bands = _weighted_mean(ops.abs(noise_db - targets["noise_db"]), targets["noise_weight"])
        # the level of all harmonics together: errors that all of them share are the most audible
        audible = ops.cast(weight > 0.0, "float32")
        predicted, measured = (_sum_db(levels_db, audible) for levels_db in (predicted_db, targets["harmonic_db"]))
        level = _weighted_mean(ops.abs(predicted - measured), ops.max(audible, axis=-1, keepdims=True))
        balance = _balance_error(predicted_db, targets["harmonic_db"], weight, self._harmonic_octaves)
        balance += self._noise_weight * _balance_error(
            noise_db, targets["noise_db"], targets["noise_weight"], self._noise_octaves
        )
        return harmonics + self._noise_weight * bands + self._level_weight * level + self._balance_weight * balance


def _scaled_db(raw: Tensor) -> Tensor:
    """Returns `scaling.exp_sigmoid` in dB without its floor: max·σ(x)^ln(10), so 20·log10(max) + 20·ln(σ(x))."""
    return 20.0 * math.log10(MAX_AMPLITUDE) + 20.0 * ops.log_sigmoid(raw)


def _sum_db(levels_db: Tensor, weights: Tensor) -> Tensor:
    """Returns level of harmonics together, [B, F, K] → [B, F, 1] in dB."""
    power = ops.sum(ops.power(10.0, levels_db / 10.0) * weights, axis=-1, keepdims=True)
    return _power_db(power)


def _power_db(power: Tensor) -> Tensor:
    """Returns a power in dB, at least -120 dB."""
    return 10.0 / math.log(10.0) * ops.log(power + 1e-12)


def _octaves(numbers: np.ndarray) -> np.ndarray:
    """Returns a matrix [C, O] that is 1 where a band is in an octave above the first band, else 0."""
    octave = np.floor(np.log2(numbers)).astype(int)
    return np.eye(octave.max() + 1, dtype=np.float32)[octave]


def _balance_error(predicted_db: Tensor, measured_db: Tensor, weight: Tensor, octaves: np.ndarray) -> Tensor:
    """Returns the mean absolute error in dB of the power of octaves, summed over frames; [B, F, C] → a scalar."""
    counted = ops.cast(weight > 0.0, "float32")
    powers = [
        ops.matmul(ops.sum(ops.power(10.0, db / 10.0) * counted, axis=1), octaves) for db in (predicted_db, measured_db)
    ]
    predicted, measured = map(_power_db, powers)
    mean_weight = ops.matmul(ops.mean(weight, axis=1), octaves) / np.sum(octaves, axis=0)
    return _weighted_mean(ops.abs(predicted - measured), mean_weight)


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    return ops.sum(values * weights) / ops.maximum(ops.sum(weights), 1.0)
