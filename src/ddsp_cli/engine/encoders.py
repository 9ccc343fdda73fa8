"""From sound to a latent. Shapes: B batch, S samples, F frames, C coefficients, Z latent channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ddsp_cli.engine.core.resample import resample
from ddsp_cli.engine.core.spectra import mfcc
from ddsp_cli.engine.recurrent import FastGru


class _Encoder(keras.layers.Layer):
    """What every encoder ends with: a GRU over C values a frame, brought down to Z channels."""

    def __init__(self, z_dims: int, rnn_units: int, n_mfccs: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.z_dims = z_dims
        self.rnn_units = rnn_units
        self.n_mfccs = n_mfccs
        self.rnn = FastGru(rnn_units, name="rnn")
        self.dense_out = keras.layers.Dense(z_dims, name="dense_out")

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        self.rnn.build((None, None, self.n_mfccs))
        self.dense_out.build((None, None, self.rnn_units))
        self.built = True

    def get_config(self) -> dict[str, Any]:
        names = ("z_dims", "rnn_units", "n_mfccs")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("ddsp")
class MfccEncoder(_Encoder):
    """A latent that changes with time, from audio (paper section 3.2 and appendix B.1; encoders.py:60).

    MFCCs are normalised over time, run through a GRU and brought down to Z channels: what pitch and loudness do not
    say about the sound. The whole sound must be known before the first latent is; `TimbreEncoder` does without.

    Args:
      z_dims: Z.
      rnn_units: of the GRU.
      n_mfccs: coefficients.
      fft_size, overlap: of the spectra; 1024 and 0.5 make 125 latents in 4 s at 16 kHz.
      sample_rate_hz: of the audio.
    """

    def __init__(
        self,
        z_dims: int = 16,
        rnn_units: int = 512,
        n_mfccs: int = 30,
        fft_size: int = 1024,
        overlap: float = 0.5,
        sample_rate_hz: int = 16000,
        **kwargs: Any,
    ) -> None:
        super().__init__(z_dims, rnn_units, n_mfccs, **kwargs)
        self.fft_size = fft_size
        self.overlap = overlap
        self.sample_rate_hz = sample_rate_hz
        self.gain = self.add_weight(shape=(n_mfccs,), initializer="ones", name="gain")
        self.shift = self.add_weight(shape=(n_mfccs,), initializer="zeros", name="shift")

    def call(self, audio: Any, n_frames: int | None = None) -> Any:
        """Audio [B, S] to a latent [B, F, Z], interpolated to `n_frames` frames where they are given."""
        coefficients = mfcc(
            audio, self.n_mfccs, self.fft_size, sample_rate_hz=self.sample_rate_hz, overlap=self.overlap
        )
        mean = ops.mean(coefficients, axis=1, keepdims=True)
        spread = ops.mean(ops.square(coefficients - mean), axis=1, keepdims=True)
        normal = (coefficients - mean) / ops.sqrt(spread + 1e-5)
        z = self.dense_out(self.rnn(normal * self.gain + self.shift))
        return z if n_frames is None else resample(z, n_frames)

    def get_config(self) -> dict[str, Any]:
        names = ("fft_size", "overlap", "sample_rate_hz")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("ddsp")
class TimbreEncoder(_Encoder):
    """A latent that changes with time, from MFCCs frame by frame: it looks back only, so it can follow a stream.

    The paper's encoder but for two differences. MFCCs are normalised by their mean and spread over the training set
    and not over each sound, which would need the sound's end and would take away what tells instruments apart; and
    they come measured (`features.timbre`), on the frame grid of the model.

    Args:
      z_dims: Z.
      rnn_units: of the GRU.
      n_mfccs: C.
    """

    def __init__(self, z_dims: int = 16, rnn_units: int = 512, n_mfccs: int = 29, **kwargs: Any) -> None:
        super().__init__(z_dims, rnn_units, n_mfccs, **kwargs)
        self.mean = self.add_weight(shape=(n_mfccs,), initializer="zeros", trainable=False, name="mean")
        self.spread = self.add_weight(shape=(n_mfccs,), initializer="ones", trainable=False, name="spread")

    def adapt(self, mfcc: np.ndarray) -> None:
        """Takes mean and spread from the training set [..., C]."""
        flat = mfcc.reshape(-1, self.n_mfccs)
        self.mean.assign(flat.mean(axis=0))
        self.spread.assign(np.maximum(flat.std(axis=0), 1e-3))

    def call(self, mfcc: Any) -> Any:
        """MFCCs [B, F, C] to a latent [B, F, Z]."""
        return self.dense_out(self.rnn((mfcc - self.mean) / self.spread))

    def named_weights(self) -> dict[str, Any]:
        """Variables by the names under which a bundle keeps them."""
        cell = self.rnn.cell
        return {
            "mean": self.mean,
            "spread": self.spread,
            "rnn/kernel": cell.kernel,
            "rnn/recurrent_kernel": cell.recurrent_kernel,
            "rnn/bias": cell.bias,
            "dense_out/kernel": self.dense_out.kernel,
            "dense_out/bias": self.dense_out.bias,
        }
