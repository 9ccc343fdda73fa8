"""Oscillators: the float64 definition, and how far the original's float32 sums drift from it."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from ddsp_cli.engine import core
from ddsp_cli.engine.core import tensors
from ddsp_cli.engine.core.oscillators import cosine, sine
from engine.golden import RELATIVE, Golden, error
from engine.gradients import gradient

#: How far the golden audio is from the float64 definition: its phase is a float32 sum over samples.
DRIFT = 6e-3


def tensor(x):
    return ops.convert_to_tensor(np.asarray(x, np.float32))


def upsampled(frames, hop, method):
    """Envelopes [B, S, C] in double precision, by the definition of each method."""
    return ops.convert_to_numpy(core.upsample(tensor(frames), hop, method)).astype(np.float64)


def exact_bank(hz, amplitudes, rate):
    turns = np.cumsum(hz.astype(np.float64) / rate, axis=1)
    return (np.where(hz < rate / 2, amplitudes, 0.0) * np.sin(2 * np.pi * turns)).sum(axis=-1)


def linear64(frames, hop):
    frames = np.concatenate([frames, frames[:, -1:]], axis=1).astype(np.float64)
    ramp = (np.arange(hop) / hop)[:, None]
    return (frames[:, :-1, None] * (1 - ramp) + frames[:, 1:, None] * ramp).reshape(len(frames), -1, frames.shape[-1])


@pytest.mark.parametrize("method", ["window", "linear", "cubic", "nearest"])
def test_harmonic_synthesis_is_exact_and_the_original_drifts(method):
    golden = Golden("harmonic")
    f0_hz, k = golden.array("f0_hz"), np.arange(1, 61)
    amplitudes = golden.array("amplitudes") * golden.array("harmonic_distribution")
    exact = exact_bank(linear64(f0_hz, 64) * k, upsampled(amplitudes, 64, method), 16000)
    ours = core.harmonic_synthesis(golden["f0_hz"], tensor(amplitudes), 64, 16000, method)
    assert error(ours, exact) < RELATIVE
    assert error(ours, golden.array(f"audio_{method}")) < DRIFT
    assert error(golden.array(f"audio_{method}"), exact) > 10 * error(ours, exact)


def test_harmonic_variants_agree():
    golden = Golden("harmonic")
    amplitudes = golden["amplitudes"] * golden["harmonic_distribution"]
    f0_hz, k = golden.array("f0_hz"), np.arange(1, 61)
    shifted_hz = linear64(f0_hz * k * (1.0 + golden.array("shifts")), 64)
    exact = exact_bank(shifted_hz, upsampled(ops.convert_to_numpy(amplitudes), 64, "window"), 16000)
    shifted = core.harmonic_synthesis(golden["f0_hz"], amplitudes, 64, 16000, harmonic_shifts=golden["shifts"])
    assert error(shifted, exact) < RELATIVE
    assert error(shifted, golden.array("audio_shift")) < DRIFT
    alone = core.harmonic_synthesis(golden["f0_hz"], golden["amplitudes"], 64, 16000)
    assert error(alone, golden.array("audio_nodist")) < DRIFT


def test_oscillator_bank_is_exact_and_the_original_drifts():
    golden = Golden("oscillator_bank")
    hz, amplitudes = golden.array("freqs"), golden.array("amps")
    ours = core.oscillator_bank(golden["freqs"], golden["amps"])
    assert error(ours, exact_bank(hz, amplitudes, 16000)) < RELATIVE
    assert error(ours, golden.array("audio")) < DRIFT
    assert error(ours, golden.array("audio_ang")) < DRIFT
    partials = core.oscillator_bank(golden["freqs"], golden["amps"], sum_sinusoids=False)
    assert error(partials[:, :500], golden.array("partials_first500")) < RELATIVE


def test_angular_cumsum_is_exact_and_the_original_drifts():
    golden = Golden("angular_cumsum")
    exact = np.sin(np.cumsum(golden.array("omega").astype(np.float64), axis=1))
    ours = np.sin(ops.convert_to_numpy(core.angular_cumsum(golden["omega"])))
    assert error(ours, exact) < RELATIVE
    assert error(np.sin(golden.array("phase")), exact) > 1e-3


def test_streaming_agrees():
    golden = Golden("streaming_harmonic")
    turns, pieces, phases = tensor(np.zeros((1, 1, 1))), [], []
    for t in range(1, 12):
        frames = (golden[key][:, t - 1 : t + 1] for key in ("f0_hz", "amplitudes", "harmonic_distribution"))
        audio, turns = core.streaming_harmonic_synthesis(*frames, 320, 16000, turns)
        pieces.append(ops.convert_to_numpy(audio)[0])
        phases.append(float(ops.convert_to_numpy(turns)[0, 0, 0]))
    assert error(pieces[0], golden.array("audio")[0]) < 2e-3  # later ones carry the phase on that has drifted
    assert error(np.array(pieces), golden.array("audio")) < 1e-2
    assert error(np.sin(2 * np.pi * np.array(phases)), np.sin(golden.array("final_phase"))) < 1e-3


def test_wavetable_is_exact_and_the_original_drifts():
    golden = Golden("wavetable")
    f0_hz, tables = linear64(golden.array("f0"), 64)[0, :, 0], linear64(golden.array("wt"), 64)[0]
    position = np.concatenate([[0], np.cumsum(f0_hz / 16000)[:-1]]) % 1 * tables.shape[1]
    before, n = np.floor(position).astype(int), np.arange(len(position))
    here, there = (tables[n, (before + i) % tables.shape[1]] for i in (0, 1))
    level = upsampled(golden.array("amps"), 64, "window")[0, :, 0]
    exact = (here + (there - here) * (position - before)) * level
    ours = core.wavetable_synthesis(golden["f0"], golden["amps"], golden["wt"], 64, 16000)
    assert error(ours[0], exact) < 2e-4  # tables of white noise: 256 steps a turn, each as large as the signal
    assert error(golden.array("audio")[0], exact) > 1e-2


def test_phase_after_ten_minutes_at_48_khz():
    """The fundamental and the 60th harmonic, at 250 frames a second; a float32 sum would be lost by now."""
    hop, rate = 192, 48000
    n = np.arange(600 * rate // hop)
    f0_hz = (100.0 + 30.0 * np.sin(n / 40.0) + 0.001 * (n % 7)).astype(np.float32)
    start, _ = core.frame_phase(tensor(f0_hz[None, :, None]), hop, rate)
    exact = f0_hz.astype(np.float64)
    turns = (exact[:-1] * hop + np.diff(exact) * (hop - 1) / 2) / rate
    exact_start = np.concatenate([[0.0], np.cumsum(turns)])
    ours = ops.convert_to_numpy(start)[0, :, 0].astype(np.float64)
    for k in (1, 60):
        assert np.abs(np.sin(2 * np.pi * k * ours) - np.sin(2 * np.pi * k * exact_start)).max() < 1e-3
    plain = np.cumsum(turns.astype(np.float32), dtype=np.float32)
    assert np.abs(np.sin(2 * np.pi * plain) - np.sin(2 * np.pi * exact_start[1:])).max() > 0.01


@pytest.mark.parametrize("rate", [16000, 48000, Fraction(44100, 64)])
def test_cumulative_phase_over_chunks(rate):
    hz = np.random.default_rng(0).uniform(20, 7000, (1, 5000)).astype(np.float32)
    exact = np.cumsum(hz.astype(np.float64)) / float(rate)
    ours = ops.convert_to_numpy(core.cumulative_phase(tensor(hz), rate))[0].astype(np.float64)
    distance = (ours - exact + 0.5) % 1.0 - 0.5
    assert np.abs(distance).max() < 1e-6
    before = ops.convert_to_numpy(core.cumulative_phase(tensor(hz), rate, exclusive=True))[0].astype(np.float64)
    distance = (before[1:] - exact[:-1] + 0.5) % 1.0 - 0.5
    assert np.abs(distance).max() < 1e-6 and before[0] == 0.0
    with pytest.raises(ValueError, match="steps a second"):
        core.cumulative_phase(tensor(hz), 2**22)


def test_cumulative_phase_has_the_gradient_of_a_sum():
    weights = tensor(np.arange(5)[None])
    found = gradient(lambda hz: ops.sum(core.cumulative_phase(hz, 100) * weights), np.full((1, 5), 30.0))
    np.testing.assert_allclose(found[0], [0.10, 0.10, 0.09, 0.07, 0.04], rtol=1e-5)


@settings(max_examples=10)
@given(st.floats(50, 3000), st.floats(0.05, 1.0))
def test_a_sine_has_half_its_squared_amplitude_as_power(hz, amplitude):
    frames = np.ones((1, 40, 1), np.float32)
    audio = ops.convert_to_numpy(core.sinusoidal_synthesis(tensor(frames * hz), tensor(frames * amplitude), 64, 16000))
    n = int(int(2560 * hz / 16000) * 16000 / hz)  # whole cycles
    assert np.mean(audio[0, :n].astype(np.float64) ** 2) == pytest.approx(amplitude**2 / 2, rel=0.03)


@settings(max_examples=8)
@given(st.floats(8000, 20000))
def test_nothing_sounds_at_or_above_nyquist(hz):
    frames = np.ones((1, 4, 1), np.float32)
    audio = core.harmonic_synthesis(tensor(frames * hz), tensor(np.ones((1, 4, 5))), 64, 16000)
    assert np.abs(ops.convert_to_numpy(audio)).max() == 0.0


def test_examples_do_not_touch_each_other_nor_later_frames_earlier_ones():
    rng = np.random.default_rng(1)
    f0_hz, amplitudes = rng.uniform(100, 900, (3, 12, 1)), rng.random((3, 12, 7))
    together = ops.convert_to_numpy(core.harmonic_synthesis(tensor(f0_hz), tensor(amplitudes), 32, 16000))
    alone = ops.convert_to_numpy(core.harmonic_synthesis(tensor(f0_hz[1:2]), tensor(amplitudes[1:2]), 32, 16000))
    np.testing.assert_allclose(together[1:2], alone, atol=1e-5)
    f0_hz[:, 8:], amplitudes[:, 8:] = 333.0, 0.5
    changed = ops.convert_to_numpy(core.harmonic_synthesis(tensor(f0_hz), tensor(amplitudes), 32, 16000))
    np.testing.assert_allclose(changed[:, : 7 * 32], together[:, : 7 * 32], atol=1e-5)


def test_pieces_of_bounded_memory_make_the_same_sound_and_gradient(monkeypatch):
    rng = np.random.default_rng(2)
    f0_hz, weight = tensor(rng.uniform(100, 900, (2, 13, 1))), tensor(rng.standard_normal((2, 13 * 16)))
    amplitudes = rng.random((2, 13, 5)).astype(np.float32)

    def loss(a):
        return ops.sum(core.harmonic_synthesis(f0_hz, a, 16, 16000) * weight)

    whole, of_whole = loss(tensor(amplitudes)), gradient(loss, amplitudes)
    monkeypatch.setattr(tensors, "BLOCK_ELEMENTS", 16 * 5 * 4)  # four frames at a time; 26 are not a multiple
    assert error(loss(tensor(amplitudes)), whole) < 1e-5
    assert error(gradient(loss, amplitudes), of_whole) < 1e-5


def test_delay_reaches_its_greatest_length():
    audio = tensor(np.arange(1, 65)[None])
    for phase, delay in ((0.0, 0.0), (0.25, 4.0), (0.9, 14.4), (1.0, 16.0)):
        out = core.variable_length_delay(tensor(np.full((1, 64, 1), phase)), audio, 16)
        np.testing.assert_allclose(ops.convert_to_numpy(out)[0, 20:], np.arange(21, 65) - delay, rtol=1e-5)


def test_sine_and_cosine_of_turns_are_those_of_numpy():
    turns = np.linspace(-0.5, 0.5, 100_001)
    for ours, exact in ((sine, np.sin), (cosine, np.cos)):
        found = ops.convert_to_numpy(ours(ops.convert_to_tensor(turns.astype(np.float32))))
        assert np.max(np.abs(found - exact(2 * np.pi * turns.astype(np.float32).astype(np.float64)))) < 3e-7
