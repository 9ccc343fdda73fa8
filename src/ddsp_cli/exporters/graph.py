"""An instrument's network and synthesis as one graph, written once for every graph format.

`Ops` is the small vocabulary of operations that a format has to offer; `decode` and `synthesise` build the graph
from them. Legend of shapes: F frames (always 1 in LiteRT), S = F·hop samples, H hop in samples, U recurrent units,
K harmonics, M noise bands, P rows of noise that overlap. Formulas as in `runtime.network` and `runtime.synthesis`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ddsp_cli.bundle import Bundle
from ddsp_cli.config import FilteredNoiseConfig, HarmonicConfig, ModelConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.formulas import CONTROL_FLOOR, DB_RANGE, F0_RANGE_MIDI, MAX_AMPLITUDE
from ddsp_cli.runtime.network import LEAKY_SLOPE, NORM_EPSILON
from ddsp_cli.runtime.synthesis import crossfade, impulse_window

Tensor = Any  # whatever a format calls one

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
    """
    model, weights = bundle.card.model, bundle.weights
    harmonic, noise = synths(model)
    stacks = [_stack(ops, weights, f"decoder/input_stacks/{name}", scaled[name]) for name in model.inputs]
    joined = ops.concat(stacks, 1)
    cell = [weights[f"decoder/rnn/{name}"] for name in ("kernel", "recurrent_kernel", "bias")]
    recurrent, new_state = ops.gru(joined, state, *cell)
    hidden = _stack(ops, weights, "decoder/out_stack", ops.concat([*stacks, recurrent], 1))
    raw = ops.dense(hidden, weights["decoder/dense_out/kernel"], weights["decoder/dense_out/bias"])
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


# --- the synthesisers --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SynthState:
    """From call to call: last_f0_hz [1, 1], last_amplitudes [1, K], phase_turns [1, 1], noise_tail [P-1, H]."""

    last_f0_hz: Tensor
    last_amplitudes: Tensor
    phase_turns: Tensor
    noise_tail: Tensor


def state_shapes(model: ModelConfig) -> dict[str, tuple[int, int]]:
    """Shapes of the fields of `SynthState`; all of them are 0 at the start."""
    harmonic, noise = synths(model)
    n_rows = len(_noise_matrices(noise, model.hop_samples)[2][0]) // model.hop_samples
    return {
        "last_f0_hz": (1, 1),
        "last_amplitudes": (1, harmonic.n_harmonics),
        "phase_turns": (1, 1),
        "noise_tail": (n_rows - 1, model.hop_samples),
    }


def synthesise(
    ops: Ops, model: ModelConfig, controls: Controls, f0_hz: Tensor, noise: Tensor, state: SynthState
) -> tuple[Tensor, SynthState]:
    """Dry sound [F, H], one hop behind the frames: it goes from the frame before the first to the last.

    Args:
      ops: the format.
      model: of the bundle.
      controls: from `decode`.
      f0_hz: [F, 1].
      noise: [F, H] in [-1, 1).
      state: where the last call ended. At the start the first hop is silence.
    """
    _, noise_config = synths(model)
    amplitudes = ops.binary("mul", controls.amplitude, controls.harmonic_distribution)
    tone, phase_turns = _harmonic(ops, model, amplitudes, f0_hz, state)
    breath, noise_tail = _noise(
        ops, noise_config, model.hop_samples, controls.noise_magnitudes, noise, state.noise_tail
    )
    new = SynthState(ops.rows(f0_hz, -1, None), ops.rows(amplitudes, -1, None), phase_turns, noise_tail)
    return ops.binary("add", tone, breath), new


def _harmonic(
    ops: Ops, model: ModelConfig, amplitudes: Tensor, f0_hz: Tensor, state: SynthState
) -> tuple[Tensor, Tensor]:
    harmonic, _ = synths(model)
    hop, n_harmonics = model.hop_samples, harmonic.n_harmonics
    before_hz = ops.rows(ops.concat([state.last_f0_hz, f0_hz], 0), 0, -1)
    slope_hz = ops.binary("sub", f0_hz, before_hz)
    # The phase stands still until there is a frame to start from.
    started = ops.less(ops.constant(0.0), before_hz)
    within = _turns_within(ops, model, ops.binary("mul", before_hz, started), ops.binary("mul", slope_hz, started))
    total = ops.precise(_fraction(ops, ops.columns(within, hop - 1, hop)))
    start = ops.binary("add", ops.precise(state.phase_turns), ops.sum_before(total))
    turns = _fraction(ops, ops.binary("add", within, ops.plain(_fraction(ops, start))))
    phase_turns = ops.plain(_fraction(ops, ops.rows(ops.binary("add", start, total), -1, None)))

    k = ops.constant(np.arange(1, n_harmonics + 1, dtype=np.float32)[None, None])
    each = _fraction(ops, ops.binary("mul", ops.reshape(turns, (-1, hop, 1)), k))
    sines = ops.unary("sin", ops.binary("mul", each, ops.constant(2.0 * math.pi)))
    position = ops.constant((np.arange(hop) / hop)[None])
    sample_hz = ops.binary("add", before_hz, ops.binary("mul", slope_hz, position))
    partial_hz = ops.binary("mul", ops.reshape(sample_hz, (-1, hop, 1)), k)
    sines = ops.binary("mul", sines, ops.less(partial_hz, ops.constant(model.sample_rate_hz / 2.0)))
    earlier = ops.rows(ops.concat([state.last_amplitudes, amplitudes], 0), 0, -1)
    change = ops.reshape(ops.binary("sub", amplitudes, earlier), (-1, 1, n_harmonics))
    weight = ops.constant(crossfade(hop, harmonic.amp_resample_method)[None, :, None])
    level = ops.binary("add", ops.reshape(earlier, (-1, 1, n_harmonics)), ops.binary("mul", change, weight))
    return ops.reshape(ops.sum(ops.binary("mul", sines, level)), (-1, hop)), phase_turns


def _turns_within(ops: Ops, model: ModelConfig, start_hz: Tensor, slope_hz: Tensor) -> Tensor:
    """Phase of the fundamental since the frame's start, [F, H] in turns, right but for whole turns.

    Σ_{j≤m} start + slope·j/H = (m + 1)·start + slope·m(m + 1)/2H, over the sample rate. Single precision would lose
    the tune within seconds, so the part of the frequency that makes whole turns per frame is counted in integers.
    """
    hop, rate_hz, m = model.hop_samples, model.sample_rate_hz, np.arange(model.hop_samples)[None]
    frame_rate_hz, steps = ops.constant(rate_hz / hop), ops.constant(m + 1.0)
    whole = ops.unary("floor", ops.binary("div", start_hz, frame_rate_hz))
    rest_hz = ops.binary("sub", start_hz, ops.binary("mul", whole, frame_rate_hz))
    count = ops.binary("mul", whole, steps)
    laps = ops.unary("floor", ops.binary("mul", count, ops.constant(1.0 / hop)))
    count = ops.binary("sub", count, ops.binary("mul", laps, ops.constant(float(hop))))
    steady = ops.binary("add", ops.binary("mul", count, ops.constant(1.0 / hop)),
                        ops.binary("mul", rest_hz, ops.constant((m + 1.0) / rate_hz)))  # fmt: skip
    bend = ops.binary("mul", slope_hz, ops.constant(m * (m + 1.0) / (2.0 * hop * rate_hz)))
    return ops.binary("add", steady, bend)


def _fraction(ops: Ops, turns: Tensor) -> Tensor:
    return ops.binary("sub", turns, ops.unary("floor", turns))


def _noise(
    ops: Ops, config: FilteredNoiseConfig, hop: int, magnitudes: Tensor, noise: Tensor, tail: Tensor
) -> tuple[Tensor, Tensor]:
    """Noise through filters, by Fourier transforms written as products with constant matrices."""
    forward, response, backward = _noise_matrices(config, hop)
    half = forward.shape[1] // 2
    spectrum, filters = ops.dense(noise, forward), ops.dense(magnitudes, response)
    a, b = ops.columns(spectrum, 0, half), ops.columns(spectrum, half, 2 * half)
    c, d = ops.columns(filters, 0, half), ops.columns(filters, half, 2 * half)
    real = ops.binary("sub", ops.binary("mul", a, c), ops.binary("mul", b, d))
    imaginary = ops.binary("add", ops.binary("mul", a, d), ops.binary("mul", b, c))
    filtered = ops.dense(ops.concat([real, imaginary], 1), backward)
    n_rows = backward.shape[1] // hop
    pieces = [ops.columns(filtered, p * hop, (p + 1) * hop) for p in range(n_rows)]
    out = ops.concat([tail, ops.binary("mul", pieces[0], ops.constant(0.0))], 0)
    for p, piece in enumerate(pieces):
        around = [np.zeros((n_zeros, hop)) for n_zeros in (p, n_rows - 1 - p)]
        above, below = ([ops.constant(zeros)] if len(zeros) else [] for zeros in around)
        out = ops.binary("add", out, ops.concat([*above, piece, *below], 0))
    return ops.rows(out, 0, 1 - n_rows), ops.rows(out, 1 - n_rows, None)


def _noise_matrices(config: FilteredNoiseConfig, hop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise [H] → spectrum, magnitudes [M] → spectrum, spectrum → filtered noise [P·H]; real parts first.

    The last one also shifts: its row 0 is the hop before the frame, so that noise lags as the harmonics do.

    Raises:
      ModelError: the filters reach back further than one hop.
    """
    n_taps = 2 * (config.n_bands - 1)
    window, lags = impulse_window(n_taps, config.window_size_samples)
    n_out = hop + len(lags) - 1
    n_fft = 1 << (n_out - 1).bit_length()
    skip = max((len(lags) - 1) // 2 - 1, 0)
    if skip > hop:
        raise ModelError("the noise filters of this instrument are too long for its frames to be exported")
    forward = np.fft.rfft(np.eye(hop), n_fft)
    taps = np.fft.irfft(np.eye(config.n_bands))[:, lags] * window
    response = np.fft.rfft(taps, n_fft)
    half = n_fft // 2 + 1
    unit = np.eye(half)
    back = np.concatenate([np.fft.irfft(unit, n_fft), np.fft.irfft(1j * unit, n_fft)])[:, :n_out]
    n_rows = -(-(hop - skip + n_out) // hop)
    backward = np.zeros((2 * half, n_rows * hop), np.float32)
    backward[:, hop - skip : hop - skip + n_out] = back
    split = [np.concatenate([m.real, m.imag], axis=1).astype(np.float32) for m in (forward, response)]
    return split[0], split[1], backward
