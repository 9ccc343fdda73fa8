"""Build an instrument's inputs, controls and sound in the vocabulary of `synthesis.ops`, for all graph formats.

The decoder is `synthesis.decoder.decode`. The synthesisers are here, since a graph computes them differently from the
player: all frames at once, states given and returned, phases exact in single precision.

Shapes: F frames (always 1 in LiteRT), H hop in samples, U recurrent units, K harmonics, M noise bands, P rows of noise
that overlap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.bundle import Bundle
from ddsp_cli.config import FilteredNoiseConfig, HarmonicConfig, ModelConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.scaling import DB_RANGE, F0_RANGE_MIDI, impulse_delay, impulse_window
from ddsp_cli.synthesis.decoder import checked_weights, decode
from ddsp_cli.synthesis.ops import Ops, Tensor
from ddsp_cli.synthesis.synths import crossfade

#: The controls of every exported file, in the order of its outputs.
CONTROL_NAMES = ("amplitude", "harmonic_distribution", "noise_magnitudes")

#: MIDI note 0. Lower frequencies, 0 included, are scaled as this one.
LOWEST_HZ = 440.0 * 2.0 ** (-69.0 / 12.0)


def synthesisers(model: ModelConfig) -> tuple[HarmonicConfig, FilteredNoiseConfig]:
    """Finds the two synthesisers of a model that has exactly one of each.

    Raises:
      ModelError: it has more, fewer, or others.
    """
    kinds = [type(node) for node in model.processors.values()]
    harmonic, noise = model.only(HarmonicConfig), model.only(FilteredNoiseConfig)
    if harmonic is None or noise is None or kinds.count(HarmonicConfig) != 1 or kinds.count(FilteredNoiseConfig) != 1:
        raise ModelError("this export takes instruments with one Harmonic and one FilteredNoise")
    return harmonic[1], noise[1]


# --- inputs and controls ------------------------------------------------------------------------------------------


def f0_from_scaled(ops: Ops, f0_scaled: Tensor) -> Tensor:
    """Converts a scaled pitch, MIDI / 127, to Hz."""
    octaves = ops.binary("mul", f0_scaled, ops.constant(F0_RANGE_MIDI * math.log(2.0) / 12.0))
    return ops.binary("mul", ops.unary("exp", octaves), ops.constant(LOWEST_HZ))


def scaled_from_f0(ops: Ops, f0_hz: Tensor) -> Tensor:
    """Converts Hz to MIDI / 127; everything below MIDI note 0 to 0."""
    ratio = ops.binary("maximum", ops.binary("mul", f0_hz, ops.constant(1.0 / LOWEST_HZ)), ops.constant(1.0))
    return ops.binary("mul", ops.unary("log", ratio), ops.constant(12.0 / math.log(2.0) / F0_RANGE_MIDI))


def scaled_from_db(ops: Ops, level_db: Tensor) -> Tensor:
    """Converts -80..0 dB to 0..1."""
    return ops.binary("add", ops.binary("mul", level_db, ops.constant(1.0 / DB_RANGE)), ops.constant(1.0))


def decode_controls(
    ops: Ops, bundle: Bundle, scaled: Mapping[str, Tensor], f0_hz: Tensor, state: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Writes the decoder of an instrument.

    Args:
      ops: the format.
      bundle: weights and configuration.
      scaled: decoder inputs by name (`f0_scaled`, ...), [F, 1] each.
      f0_hz: [F, 1], decides which harmonics lie below half the sample rate.
      state: [1, U].

    Returns:
      Controls by `CONTROL_NAMES`, and the next state [1, U]; see `synthesis.decoder.decode`.

    Raises:
      ModelError: the instrument has an encoder, or not exactly one synthesiser of each kind.
    """
    if bundle.card.model.encoder:
        raise ModelError(
            "this format has no place for the encoder of timbre that the instrument has", "Export it as savedmodel."
        )
    synthesisers(bundle.card.model)
    return decode(ops, bundle.card.model, checked_weights(bundle), scaled, f0_hz, state)


# --- sound --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SynthState:
    """State between calls: last_f0_hz [1, 1], last_amplitudes [1, K], phase_turns [1, 1], noise_tail [P-1, H]."""

    last_f0_hz: Tensor
    last_amplitudes: Tensor
    phase_turns: Tensor
    noise_tail: Tensor


def state_shapes(model: ModelConfig) -> dict[str, tuple[int, int]]:
    """Lists the shapes of the fields of `SynthState`; all of them are 0 at the start."""
    harmonic, noise = synthesisers(model)
    _, n_rows, _ = _noise_rows(noise, model.hop_samples)
    return {
        "last_f0_hz": (1, 1),
        "last_amplitudes": (1, harmonic.n_harmonics),
        "phase_turns": (1, 1),
        "noise_tail": (n_rows - 1, model.hop_samples),
    }


def synthesise(
    ops: Ops, model: ModelConfig, controls: Mapping[str, Tensor], f0_hz: Tensor, noise: Tensor, state: SynthState
) -> tuple[Tensor, SynthState]:
    """Writes the synthesisers: dry sound one hop behind the frames, from the frame before the first to the last.

    Args:
      ops: the format.
      model: of the bundle.
      controls: by `CONTROL_NAMES`, see `decode_controls`.
      f0_hz: [F, 1].
      noise: [F, H] in [-1, 1).
      state: of the call before. At the start the first hop is silence.

    Returns:
      Sound [F, H], and the next state.
    """
    _, noise_config = synthesisers(model)
    amplitudes = ops.binary("mul", controls["amplitude"], controls["harmonic_distribution"])
    tone, phase_turns = _harmonic(ops, model, amplitudes, f0_hz, state)
    breath, noise_tail = _noise(
        ops, noise_config, model.hop_samples, controls["noise_magnitudes"], noise, state.noise_tail
    )
    # the player leaves out the samples of the noise filter before the first frame
    before_hz = ops.rows(ops.concat([state.last_f0_hz, f0_hz], 0), 0, -1)
    breath = ops.binary("mul", breath, ops.less(ops.constant(0.0), before_hz))
    new = SynthState(ops.rows(f0_hz, -1, None), ops.rows(amplitudes, -1, None), phase_turns, noise_tail)
    return ops.binary("add", tone, breath), new


def _harmonic(
    ops: Ops, model: ModelConfig, amplitudes: Tensor, f0_hz: Tensor, state: SynthState
) -> tuple[Tensor, Tensor]:
    harmonic, _ = synthesisers(model)
    hop, n_harmonics = model.hop_samples, harmonic.n_harmonics
    before_hz = ops.rows(ops.concat([state.last_f0_hz, f0_hz], 0), 0, -1)
    slope_hz = ops.binary("sub", f0_hz, before_hz)
    # the phase is constant until the first frame
    started = ops.less(ops.constant(0.0), before_hz)
    within = _turns_within(ops, model, ops.binary("mul", before_hz, started), ops.binary("mul", slope_hz, started))
    total = ops.to_double(_fraction(ops, ops.columns(within, hop - 1, hop)))
    start = ops.binary("add", ops.to_double(state.phase_turns), ops.sum_before(total))
    turns = _fraction(ops, ops.binary("add", within, ops.to_single(_fraction(ops, start))))
    phase_turns = ops.to_single(_fraction(ops, ops.rows(ops.binary("add", start, total), -1, None)))

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
    """Writes the phase of the fundamental since the start of the frame, [F, H] in turns, up to whole turns.

    Σ_{j≤m} start + slope·j/H = (m + 1)·start + slope·m(m + 1)/2H, over the sample rate. In single
    precision the pitch would be lost within seconds, so the part of the frequency that makes whole turns per frame is
    counted in integers.
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
    """Writes filtered noise: Fourier transforms as products with constant matrices."""
    forward, response, backward = _noise_matrices(config, hop)
    half = forward.shape[1] // 2
    spectrum, filters = ops.dense(noise, forward), ops.dense(magnitudes, response)
    a, b = ops.columns(spectrum, 0, half), ops.columns(spectrum, half, 2 * half)
    c, d = ops.columns(filters, 0, half), ops.columns(filters, half, 2 * half)
    real = ops.binary("sub", ops.binary("mul", a, c), ops.binary("mul", b, d))
    imaginary = ops.binary("add", ops.binary("mul", a, d), ops.binary("mul", b, c))
    filtered = ops.dense(ops.concat([real, imaginary], 1), backward)
    n_out, n_rows, n_before = _noise_rows(config, hop)
    margins = [
        [ops.binary("mul", ops.columns(filtered, 0, n), ops.constant(0.0))] if n else []
        for n in (n_before, n_rows * hop - n_before - n_out)
    ]
    filtered = ops.concat([*margins[0], filtered, *margins[1]], 1)
    pieces = [ops.columns(filtered, p * hop, (p + 1) * hop) for p in range(n_rows)]
    out = ops.concat([tail, ops.binary("mul", pieces[0], ops.constant(0.0))], 0)
    for p, piece in enumerate(pieces):
        around = [np.zeros((n_zeros, hop)) for n_zeros in (p, n_rows - 1 - p)]
        above, below = ([ops.constant(zeros)] if len(zeros) else [] for zeros in around)
        out = ops.binary("add", out, ops.concat([*above, piece, *below], 0))
    return ops.rows(out, 0, 1 - n_rows), ops.rows(out, 1 - n_rows, None)


def _noise_rows(config: FilteredNoiseConfig, hop: int) -> tuple[int, int, int]:
    """Returns how many samples the noise of a frame has, how many rows [H] they touch, and zeros before the first.

    Row 0 is the hop before the frame, so that noise lags as the harmonics do.

    Raises:
      ModelError: the filters reach back further than one hop.
    """
    _, lags = impulse_window(2 * (config.n_bands - 1), config.window_size_samples)
    n_out, n_before = hop + len(lags) - 1, hop - impulse_delay(lags)
    if n_before < 0:
        raise ModelError("the noise filters of this instrument are too long for its frames to be exported")
    return n_out, -(-(n_before + n_out) // hop), n_before


def _noise_matrices(config: FilteredNoiseConfig, hop: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns matrices of noise [H] → spectrum, magnitudes [M] → spectrum, spectrum → noise; real parts first.

    The transforms are as short as the filtered noise: most of a file are these matrices.
    """
    window, lags = impulse_window(2 * (config.n_bands - 1), config.window_size_samples)
    n_out = hop + len(lags) - 1
    n_fft = n_out + n_out % 2
    forward = np.fft.rfft(np.eye(hop), n_fft)
    taps = np.fft.irfft(np.eye(config.n_bands))[:, lags] * window
    response = np.fft.rfft(taps, n_fft)
    unit = np.eye(n_fft // 2 + 1)
    backward = np.concatenate([np.fft.irfft(unit, n_fft), np.fft.irfft(1j * unit, n_fft)])[:, :n_out]
    split = [np.concatenate([m.real, m.imag], axis=1).astype(np.float32) for m in (forward, response)]
    return split[0], split[1], backward.astype(np.float32)
