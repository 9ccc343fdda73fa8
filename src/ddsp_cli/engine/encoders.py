"""Networks and tables that condition a decoder: timbre as a latent over time, the instrument as a vector.

Shapes: B batch, S samples, F frames, C coefficients, Z latent channels, D entries of an instrument's vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ddsp_cli.engine.core.resample import resample
from ddsp_cli.engine.core.spectra import hop_of, mfcc
from ddsp_cli.engine.core.tensors import Tensor, as_float32, check_shapes, positive, static_shape, whole
from ddsp_cli.engine.processors import refuse_unknown
from ddsp_cli.engine.recurrent import FastGru


class _Encoder(keras.layers.Layer):
    """The base of encoders: a GRU over C values a frame, and a projection to Z channels.

    Under a mixed-precision policy these two compute in half precision, all before them in float32.
    """

    def __init__(self, z_dims: int, rnn_units: int, n_mfccs: int, **kwargs: Any) -> None:
        refuse_unknown(type(self), kwargs)
        kwargs.setdefault("autocast", False)  # spectra and their normalisation need float32
        super().__init__(**kwargs)
        self.z_dims = whole(z_dims, "z_dims")
        self.rnn_units = whole(rnn_units, "rnn_units")
        self.n_mfccs = whole(n_mfccs, "n_mfccs")
        self.rnn = FastGru(rnn_units, name="rnn")
        self.dense_out = keras.layers.Dense(z_dims, name="dense_out")

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        """Makes all weights."""
        self.rnn.build((None, None, self.n_mfccs))
        self.dense_out.build((None, None, self.rnn_units))
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, for `from_config`."""
        names = ("z_dims", "rnn_units", "n_mfccs")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("ddsp")
class MfccEncoder(_Encoder):
    """A latent that changes with time, from audio (paper section 3.2 and appendix B.1; encoders.py:60).

    MFCCs are normalised over time, run through a GRU and projected to Z channels. The whole sound must be known before
    the first latent; `TimbreEncoder` does not need it.

    Args:
      z_dims: Z.
      rnn_units: number of units of the GRU.
      n_mfccs: C.
      fft_size: samples of a spectrum's window; 1024 with an overlap of 0.5 makes 125 latents in 4 s at 16 kHz.
      overlap: of neighbouring windows.
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
        hop_of(fft_size, overlap)
        self.fft_size = whole(fft_size, "fft_size")
        self.overlap = overlap
        self.sample_rate_hz = positive(sample_rate_hz, "sample_rate_hz")
        self.gain = self.add_weight(shape=(n_mfccs,), initializer="ones", autocast=False, name="gain")
        self.shift = self.add_weight(shape=(n_mfccs,), initializer="zeros", autocast=False, name="shift")

    def call(self, audio: Tensor, n_frames: int | None = None) -> Tensor:
        """Encodes audio.

        Args:
          audio: [B, S].
          n_frames: F, to which the latent is interpolated; None keeps a latent for each spectrum.

        Returns:
          z [B, F, Z].

        Raises:
          ValueError: the shape is another one.
        """
        check_shapes("MfccEncoder", {"audio": static_shape(audio)}, {"audio": "B S"})
        coefficients = mfcc(
            audio, self.n_mfccs, self.fft_size, sample_rate_hz=self.sample_rate_hz, overlap=self.overlap
        )
        mean = ops.mean(coefficients, axis=1, keepdims=True)
        spread = ops.mean(ops.square(coefficients - mean), axis=1, keepdims=True)
        normal = (coefficients - mean) / ops.sqrt(spread + 1e-5)
        z = self.dense_out(self.rnn(normal * self.gain + self.shift))
        return z if n_frames is None else resample(z, n_frames)

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, for `from_config`."""
        names = ("fft_size", "overlap", "sample_rate_hz")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("ddsp")
class TimbreEncoder(_Encoder):
    """A latent that changes with time, from MFCCs frame by frame; it is causal, so it can follow a stream.

    The paper's encoder with two differences. MFCCs are normalised by their mean and standard deviation over the
    training set; a normalisation over each sound would need the sound's end, and would remove differences between
    instruments. And they are measured before (`analysis.mfcc`), on the frame grid of the model.

    Args:
      z_dims: Z.
      rnn_units: of the GRU.
      n_mfccs: C.
    """

    def __init__(self, z_dims: int = 16, rnn_units: int = 512, n_mfccs: int = 29, **kwargs: Any) -> None:
        super().__init__(z_dims, rnn_units, n_mfccs, **kwargs)
        fixed = {"shape": (n_mfccs,), "trainable": False, "autocast": False}
        self.mean = self.add_weight(**fixed, initializer="zeros", name="mean")
        self.spread = self.add_weight(**fixed, initializer="ones", name="spread")

    def adapt(self, mfcc: np.ndarray) -> None:
        """Sets mean and standard deviation to those of the training set.

        Args:
          mfcc: [..., C].
        """
        flat = mfcc.reshape(-1, self.n_mfccs)
        self.mean.assign(flat.mean(axis=0))
        self.spread.assign(np.maximum(flat.std(axis=0), 1e-3))

    def call(self, mfcc: Tensor) -> Tensor:
        """Encodes MFCCs.

        Args:
          mfcc: [B, F, C].

        Returns:
          z [B, F, Z].

        Raises:
          ValueError: the shape is another one.
        """
        check_shapes("TimbreEncoder", {"mfcc": static_shape(mfcc)}, {"mfcc": "B F C"}, {"C": ("n_mfccs", self.n_mfccs)})
        return self.dense_out(self.rnn((mfcc - self.mean) / self.spread))

    def named_weights(self) -> dict[str, Any]:
        """Returns the variables by the names under which a bundle keeps them."""
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


@keras.saving.register_keras_serializable("ddsp")
class InstrumentVectors(keras.layers.Layer):
    """The instrument as a condition of the decoder: a vector for each, constant over time.

    Learned vectors make a base model: one network that plays many instruments, each by D numbers, and new ones by D
    numbers more (`InstrumentVectors` is then the only layer to train). One-hot vectors have no weights.

    Args:
      n_instruments: rows of the table.
      vector_dims: D; 0 for one-hot vectors, D = n_instruments.
    """

    def __init__(self, n_instruments: int, vector_dims: int = 0, **kwargs: Any) -> None:
        refuse_unknown(type(self), kwargs)
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.n_instruments = whole(n_instruments, "n_instruments")
        self.vector_dims = whole(vector_dims, "vector_dims", smallest=0)
        if vector_dims:
            self.vectors = self.add_weight(
                shape=(n_instruments, vector_dims),
                initializer=keras.initializers.RandomNormal(0.0, 1.0),
                name="vectors",
            )

    @property
    def n_channels(self) -> int:
        """D."""
        return self.vector_dims or self.n_instruments

    def call(self, instrument: Tensor) -> Tensor:
        """Looks vectors up.

        Args:
          instrument: [B, F, 1], index in 0..n_instruments - 1, a whole number; or [B, F, D], the vector itself, such
            as a mix of two. An index outside of the table has a vector of zeros.

        Returns:
          [B, F, D].

        Raises:
          ValueError: the shape is another one.
        """
        instrument = as_float32(instrument, "instrument")
        check_shapes("InstrumentVectors", {"x": static_shape(instrument)}, {"x": f"B F 1 | B F {self.n_channels}"})
        if instrument.shape[-1] == self.n_channels:
            return instrument
        one_hot = ops.one_hot(ops.cast(instrument[..., 0], "int32"), self.n_instruments, dtype="float32")
        return ops.matmul(one_hot, ops.convert_to_tensor(self.vectors)) if self.vector_dims else one_hot

    def vector(self, index: int) -> np.ndarray:
        """Returns the vector of an instrument, [D] float32."""
        if not self.vector_dims:
            return np.eye(self.n_instruments, dtype=np.float32)[index]
        return np.asarray(ops.convert_to_numpy(self.vectors), np.float32)[index]

    def named_weights(self) -> dict[str, Any]:
        """Returns the variables by the names under which a bundle keeps them."""
        return {"vectors": self.vectors} if self.vector_dims else {}

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, for `from_config`."""
        return {**super().get_config(), "n_instruments": self.n_instruments, "vector_dims": self.vector_dims}
