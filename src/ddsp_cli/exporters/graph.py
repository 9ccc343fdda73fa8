"""An instrument's network as a graph, written once for every graph format.

`Ops` is the small vocabulary of operations that a format has to offer; `decode` builds the network from them,
`sound.synthesise` the sound. Legend of shapes: F frames (always 1 in LiteRT), U recurrent units, K harmonics,
M noise bands. Formulas as in `runtime.network`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ddsp_cli.bundle import Bundle
from ddsp_cli.config import FilteredNoiseConfig, HarmonicConfig, ModelConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.scaling import CONTROL_FLOOR, DB_RANGE, F0_RANGE_MIDI, MAX_AMPLITUDE
from ddsp_cli.synthesis.decoder import LEAKY_SLOPE, NORM_EPSILON, playable_columns

Tensor = Any  # whatever a format calls one

CONTROL_NAMES = ("amplitude", "harmonic_distribution", "noise_magnitudes")

#: MIDI note 0. What is lower, silence included, counts as it.
LOWEST_HZ = 440.0 * 2.0 ** (-69.0 / 12.0)


class Ops(Protocol):
    """What a graph format must offer. Tensors are float32, F is always the first axis; broadcasting as in NumPy."""

    def constant(self, value: Any) -> Tensor: ...
    def unary(self, kind: str, x: Tensor) -> Tensor:
        """`kind`: sigmoid, tanh, sin, exp, log, sqrt, rsqrt, floor."""

    def binary(self, kind: str, a: Tensor, b: Tensor) -> Tensor:
        """`kind`: add, sub, mul, div, pow, maximum."""

    def leaky_relu(self, x: Tensor, slope: float) -> Tensor: ...
    def less(self, a: Tensor, b: Tensor) -> Tensor:
        """1.0 where a < b, else 0.0."""

    def mean(self, x: Tensor) -> Tensor:
        """Over the last axis, which stays."""

    def sum(self, x: Tensor) -> Tensor:
        """Over the last axis, which stays."""

    def dense(self, x: Tensor, kernel: np.ndarray, bias: np.ndarray | None = None) -> Tensor:
        """[F, I] times [I, O] plus [O]."""

    def gru(
        self, x: Tensor, state: Tensor, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray
    ) -> tuple[Tensor, Tensor]:
        """[F, I] and [1, U] to all states [F, U] and the last one [1, U]; Keras's layout, `reset_after`."""

    def concat(self, parts: list[Tensor], axis: int) -> Tensor: ...
    def columns(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Part of the last axis of [F, C]."""

    def rows(self, x: Tensor, start: int, stop: int | None) -> Tensor:
        """Part of the first axis; negative numbers count from the end."""

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """One axis may be -1."""

    def sum_before(self, x: Tensor) -> Tensor:
        """Along the first axis, the sum of everything before each row."""

    def precise(self, x: Tensor) -> Tensor:
        """To double precision, where the format has it."""

    def plain(self, x: Tensor) -> Tensor:
        """Back to single precision."""


@dataclass(frozen=True)
class Controls:
    """amplitude [F, 1], harmonic_distribution [F, K], noise_magnitudes [F, M], state [1, U]."""

    amplitude: Tensor
    harmonic_distribution: Tensor
    noise_magnitudes: Tensor
    state: Tensor


def synths(model: ModelConfig) -> tuple[HarmonicConfig, FilteredNoiseConfig]:
    """The two synthesisers of a model that has exactly both.

    Raises:
      ModelError: it has not.
    """
    kinds = [type(node) for node in model.processors.values()]
    if kinds.count(HarmonicConfig) != 1 or kinds.count(FilteredNoiseConfig) != 1:
        raise ModelError("this export takes instruments with one Harmonic and one FilteredNoise")
    harmonic, noise = model.only(HarmonicConfig), model.only(FilteredNoiseConfig)
    assert harmonic is not None
    assert noise is not None
    return harmonic[1], noise[1]


def f0_from_scaled(ops: Ops, f0_scaled: Tensor) -> Tensor:
    """MIDI / 127 to Hz."""
    octaves = ops.binary("mul", f0_scaled, ops.constant(F0_RANGE_MIDI * math.log(2.0) / 12.0))
    return ops.binary("mul", ops.unary("exp", octaves), ops.constant(LOWEST_HZ))


def scaled_from_f0(ops: Ops, f0_hz: Tensor) -> Tensor:
    """Hz to MIDI / 127; 0 and everything below MIDI note 0 to 0."""
    ratio = ops.binary("maximum", ops.binary("mul", f0_hz, ops.constant(1.0 / LOWEST_HZ)), ops.constant(1.0))
    return ops.binary("mul", ops.unary("log", ratio), ops.constant(12.0 / math.log(2.0) / F0_RANGE_MIDI))


def scaled_from_db(ops: Ops, level_db: Tensor) -> Tensor:
    """-80..0 dB to 0..1."""
    return ops.binary("add", ops.binary("mul", level_db, ops.constant(1.0 / DB_RANGE)), ops.constant(1.0))


# --- the network -------------------------------------------------------------------------------------------------


def decode(ops: Ops, bundle: Bundle, scaled: dict[str, Tensor], f0_hz: Tensor, state: Tensor) -> Controls:
    """The decoder and the scaling of its outputs.

    Args:
      ops: the format.
      bundle: weights and configuration.
      scaled: network inputs by name (`f0_scaled`, ...), [F, 1] each.
      f0_hz: [F, 1], decides which harmonics lie below half the sample rate.
      state: [1, U].

    Raises:
      ModelError: the instrument has an encoder, or not exactly one synthesiser of each kind.
    """
    if bundle.card.model.encoder:
        raise ModelError(
            "this format has no place for the encoder of timbre that the instrument has", "Export it as savedmodel."
        )
    model, weights = bundle.card.model, bundle.weights
    harmonic, noise = synths(model)
    stacks = [_stack(ops, weights, f"decoder/input_stacks/{name}", scaled[name]) for name in model.inputs]
    joined = ops.concat(stacks, 1)
    cell = [weights[f"decoder/rnn/{name}"] for name in ("kernel", "recurrent_kernel", "bias")]
    recurrent, new_state = ops.gru(joined, state, *cell)
    hidden = _stack(ops, weights, "decoder/out_stack", ops.concat([*stacks, recurrent], 1))
    # Every exported file has its columns in one order, whatever order the processors have.
    columns = playable_columns(model)
    order = np.concatenate([np.r_[columns[name]] for name in CONTROL_NAMES])
    raw = ops.dense(hidden, weights["decoder/dense_out/kernel"][:, order], weights["decoder/dense_out/bias"][order])
    n_harmonics, n_bands = harmonic.n_harmonics, noise.n_bands
    amplitude = exp_sigmoid(ops, ops.columns(raw, 0, 1))
    distribution = exp_sigmoid(ops, ops.columns(raw, 1, 1 + n_harmonics))
    if harmonic.normalize_below_nyquist:
        distribution = ops.binary("mul", distribution, _audible(ops, f0_hz, n_harmonics, model.sample_rate_hz))
    # Each audible harmonic is at least CONTROL_FLOOR, so a lower sum means that none is audible.
    total = ops.binary("maximum", ops.sum(distribution), ops.constant(CONTROL_FLOOR))
    biased = ops.binary(
        "add", ops.columns(raw, 1 + n_harmonics, 1 + n_harmonics + n_bands), ops.constant(noise.initial_bias)
    )
    return Controls(amplitude, ops.binary("div", distribution, total), exp_sigmoid(ops, biased), new_state)


def exp_sigmoid(ops: Ops, x: Tensor) -> Tensor:
    """As `formulas.exp_sigmoid`."""
    power = ops.binary("pow", ops.unary("sigmoid", x), ops.constant(math.log(10.0)))
    return ops.binary("add", ops.binary("mul", power, ops.constant(MAX_AMPLITUDE)), ops.constant(CONTROL_FLOOR))


def _audible(ops: Ops, f0_hz: Tensor, n_harmonics: int, sample_rate_hz: int) -> Tensor:
    k = np.arange(1, n_harmonics + 1, dtype=np.float32)[None]
    return ops.less(ops.binary("mul", f0_hz, ops.constant(k)), ops.constant(sample_rate_hz / 2.0))


def _stack(ops: Ops, weights: dict[str, np.ndarray], name: str, x: Tensor) -> Tensor:
    j = 0
    while f"{name}/{j}/dense/kernel" in weights:
        x = ops.dense(x, weights[f"{name}/{j}/dense/kernel"], weights[f"{name}/{j}/dense/bias"])
        centred = ops.binary("sub", x, ops.mean(x))
        variance = ops.mean(ops.binary("mul", centred, centred))
        scale = ops.unary("rsqrt", ops.binary("add", variance, ops.constant(float(NORM_EPSILON))))
        x = ops.binary("mul", ops.binary("mul", centred, scale), ops.constant(weights[f"{name}/{j}/norm/gamma"][None]))
        x = ops.leaky_relu(
            ops.binary("add", x, ops.constant(weights[f"{name}/{j}/norm/beta"][None])), float(LEAKY_SLOPE)
        )
        j += 1
    return x
