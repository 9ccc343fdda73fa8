"""The recurrent decoder in NumPy: frames in, synthesiser controls out, state carried from block to block.

Architecture: one stack of dense layers per input, their outputs through a GRU, stacks and GRU through a last
stack, one dense layer into the controls (magenta/ddsp 3.7.0, decoders.py:27-109, nn.py:844-862). An input may be the
latent of an encoder. Legend of shapes: F frames, I inputs, C cepstral coefficients, U recurrent units, K harmonics,
M noise bands.
"""

from __future__ import annotations

import numpy as np

from ddsp_cli import formulas
from ddsp_cli.bundle import Bundle
from ddsp_cli.config import FilteredNoiseConfig, HarmonicConfig, ModelConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.runtime.encoder import Encoder
from ddsp_cli.runtime.layers import Gru, Stack, Weights


def output_splits(model: ModelConfig) -> dict[str, int]:
    """Names and widths of the controls in the order in which the last dense layer puts them out.

    Raises:
      ModelError: the model has no synthesiser to control.
    """
    harmonic, noise = model.only(HarmonicConfig), model.only(FilteredNoiseConfig)
    splits: dict[str, int] = {}
    if harmonic:
        splits |= {"amplitude": 1, "harmonic_distribution": harmonic[1].n_harmonics}
    if noise:
        splits["noise_magnitudes"] = noise[1].n_bands
    if not splits:
        raise ModelError("the model has neither a harmonic nor a noise synthesiser")
    return splits


def network_inputs(model: ModelConfig, f0_hz: np.ndarray, level_db: np.ndarray) -> np.ndarray:
    """What the network takes, scaled as in training.

    Args:
      model: names the inputs and their order.
      f0_hz: [F] in Hz, nowhere 0.
      level_db: [F] in dB, of the kind that `model.level` names.

    Returns:
      [F, I] float32, without z.
    """
    columns = {
        "f0_scaled": lambda: formulas.scale_f0(f0_hz),
        "ld_scaled": lambda: formulas.scale_db(level_db),
        "pw_scaled": lambda: formulas.scale_db(level_db),
    }
    return np.stack([np.asarray(columns[name](), np.float32) for name in model.scaled_inputs], axis=-1)


class Network:
    """The decoder of one instrument, with the recurrent state of one performance.

    Args:
      bundle: weights and configuration.

    Raises:
      ModelError: a weight is missing or has another shape than the configuration says.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._model = model = bundle.card.model
        weights = Weights(bundle.weights)
        decoder = model.sizes
        self.splits = output_splits(model)
        self.encoder = Encoder(weights, model.encoder) if model.encoder else None
        widths = {name: model.encoder.z_dims if name == "z" and model.encoder else 1 for name in model.inputs}
        self.stacks = {
            name: Stack(weights, f"decoder/input_stacks/{name}", width, decoder.channels, decoder.layers_per_stack)
            for name, width in widths.items()
        }
        n_stacked = sum(stack.n_out for stack in self.stacks.values())
        self.gru = Gru(weights, "decoder/rnn", n_stacked, decoder.rnn_units)
        self.out_stack = Stack(
            weights,
            "decoder/out_stack",
            n_stacked + decoder.rnn_units,
            decoder.channels,
            decoder.layers_per_stack,
        )
        n_out = sum(self.splits.values())
        self.kernel = weights.take("decoder/dense_out/kernel", self.out_stack.n_out, n_out)
        self.bias = weights.take("decoder/dense_out/bias", n_out)
        ours = (name for name in bundle.weights if name.startswith(("decoder/", "encoder/")))
        unknown = sorted(name for name in ours if name not in weights.taken)
        if unknown:
            raise ModelError(f"the instrument has a weight that its configuration does not name: {unknown[0]}")

    @property
    def state(self) -> np.ndarray:
        """Of the recurrence after the last frame, [U]."""
        return self.gru.state

    def controls(
        self, f0_hz: np.ndarray, level_db: np.ndarray, mfcc: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """What the synthesisers play in the next frames.

        Args:
          f0_hz: [F], nowhere 0.
          level_db: [F] in dB, of the kind that `model.level` names.
          mfcc: see `step`.

        Returns:
          See `physical`.
        """
        return physical(self._model, self.step(network_inputs(self._model, f0_hz, level_db), mfcc), f0_hz)

    def step(self, inputs: np.ndarray, mfcc: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The next frames.

        Args:
          inputs: [F, I] float32, columns in the order of `model.scaled_inputs`.
          mfcc: [F, C], the timbre that an encoder follows; the average of the training set if None.

        Returns:
          Raw controls by name: `amplitude` [F, 1], `harmonic_distribution` [F, K], `noise_magnitudes` [F, M].
        """
        signals = {name: inputs[:, i : i + 1] for i, name in enumerate(self._model.scaled_inputs)}
        if self.encoder is not None:
            signals["z"] = self.encoder(mfcc, len(inputs))
        joined = np.concatenate([stack(signals[name]) for name, stack in self.stacks.items()], axis=-1)
        recurrent = self.gru(joined)
        raw = self.out_stack(np.concatenate([joined, recurrent], axis=-1)) @ self.kernel
        raw += self.bias
        borders = np.cumsum(list(self.splits.values()))[:-1]
        return dict(zip(self.splits, np.split(raw, borders, axis=-1), strict=True))


def physical(model: ModelConfig, raw: dict[str, np.ndarray], f0_hz: np.ndarray) -> dict[str, np.ndarray]:
    """Raw network output to controls (synths.py:94-121, 176-192).

    Args:
      model: its synthesisers say how.
      raw: as `Network.step` gives it.
      f0_hz: [F] in Hz.

    Returns:
      By name: `amplitude` [F, 1], `harmonic_distribution` [F, K] of sum 1, `noise_magnitudes` [F, M]; float32.
    """
    harmonic, noise = model.only(HarmonicConfig), model.only(FilteredNoiseConfig)
    found = {}
    if harmonic:
        found["amplitude"] = formulas.exp_sigmoid(raw["amplitude"])
        found["harmonic_distribution"] = formulas.harmonic_distribution(
            raw["harmonic_distribution"],
            np.asarray(f0_hz, np.float32)[:, None],
            model.sample_rate_hz,
            harmonic[1].normalize_below_nyquist,
        )
    if noise:
        found["noise_magnitudes"] = formulas.exp_sigmoid(raw["noise_magnitudes"] + np.float32(noise[1].initial_bias))
    return {name: np.asarray(value, np.float32) for name, value in found.items()}
