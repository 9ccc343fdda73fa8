"""Gradients of synths and effects: equal to finite differences, and finite where formulas like to break."""

import numpy as np
import pytest
from keras import ops

from ddsp_cli import engine
from ddsp_cli.engine import core
from engine.gradients import gradient, slope

RNG = np.random.default_rng(0)
B, F, HOP, K, M = 2, 6, 16, 5, 9
S = F * HOP
WEIGHT = RNG.standard_normal((B, S)).astype(np.float32)
F0_HZ = RNG.uniform(100, 400, (B, F, 1))
AMPLITUDE = RNG.standard_normal((B, F, 1))
DISTRIBUTION = RNG.standard_normal((B, F, K))
AUDIO = RNG.standard_normal((B, S))


def tensor(x):
    return ops.convert_to_tensor(np.asarray(x, np.float32))


HARMONIC = engine.Harmonic(16000, HOP, K)
SINUSOIDAL = engine.Sinusoidal(16000, HOP, K)
WAVETABLE = engine.Wavetable(16000, HOP, 8)
FIR = engine.FIRFilter(M)
DELAY = engine.ModDelay(16000, 1.0, 1.0)
MIX = engine.Mix()

#: name → (signal of one argument, where to take the gradient, step of the difference)
CASES = {
    "harmonic amplitude": (lambda x: HARMONIC(x, tensor(DISTRIBUTION), tensor(F0_HZ)), AMPLITUDE, 1e-2),
    "harmonic distribution": (lambda x: HARMONIC(tensor(AMPLITUDE), x, tensor(F0_HZ)), DISTRIBUTION, 1e-2),
    "harmonic f0": (
        lambda x: core.harmonic_synthesis(x, tensor(np.abs(DISTRIBUTION)), HOP, 16000), F0_HZ, 1e-1,
    ),
    "sinusoidal frequencies": (lambda x: SINUSOIDAL(tensor(DISTRIBUTION), x), DISTRIBUTION, 1e-3),
    "oscillator bank": (
        lambda x: core.oscillator_bank(x, tensor(np.ones((B, S, 2)))), RNG.uniform(100, 900, (B, S, 2)), 1e-1,
    ),
    "wavetable": (
        lambda x: WAVETABLE(tensor(AMPLITUDE), x, tensor(F0_HZ)), RNG.standard_normal((B, F, 8)), 1e-2,
    ),
    "noise magnitudes": (
        lambda x: core.frequency_filter(tensor(AUDIO), ops.sigmoid(x)), RNG.standard_normal((B, F, M)), 1e-2,
    ),
    "fir audio": (lambda x: FIR(x, tensor(np.ones((B, F, M)))), AUDIO, 1e-2),
    "delay gain": (lambda x: DELAY(tensor(AUDIO), x, tensor(AMPLITUDE)), AMPLITUDE, 1e-2),
    "mix level": (lambda x: MIX(tensor(AUDIO), tensor(AUDIO[::-1].copy()), x), AMPLITUDE, 1e-2),
    "sinc cutoff": (
        lambda x: core.sinc_filter(tensor(AUDIO), ops.sigmoid(x), 16), RNG.standard_normal((B, F, 1)), 1e-2,
    ),
    "loudness": (lambda x: core.a_weighted_loudness(x, 16000, 1000, 32, "same"), AUDIO, 1e-3),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_the_slope(name):
    signal, at, step = CASES[name]

    def loss(x):
        y = signal(x)
        return ops.sum(y * tensor(WEIGHT[:, : y.shape[1]]))

    along = np.random.default_rng(7).standard_normal(at.shape)
    found = float((gradient(loss, at) * along).sum())
    assert found == pytest.approx(slope(loss, at, along, step), rel=0.03, abs=2e-3)


@pytest.mark.parametrize("f0_hz", [0.0, 440.0, 9000.0, 1e6])
@pytest.mark.parametrize("raw", [-200.0, 0.0, 200.0])
def test_harmonic_gradients_are_finite_everywhere(f0_hz, raw):
    weight = tensor(WEIGHT)
    f0, filled = tensor(np.full((B, F, 1), f0_hz)), np.full((B, F, K), raw)
    for at, signal in (
        (np.full((B, F, 1), raw), lambda x: HARMONIC(x, tensor(filled), f0)),
        (filled, lambda x: HARMONIC(tensor(np.full((B, F, 1), raw)), x, f0)),
        (np.full((B, F, 1), f0_hz), lambda x: HARMONIC(tensor(AMPLITUDE), tensor(filled), x)),
    ):
        assert np.isfinite(gradient(lambda x, s=signal: ops.sum(s(x) * weight), at)).all()


@pytest.mark.parametrize("magnitude", [-300.0, 300.0])
def test_effects_have_finite_gradients_at_their_limits(magnitude):
    filled = np.full((B, F, M), magnitude)
    assert np.isfinite(gradient(lambda x: ops.sum(FIR(tensor(0 * AUDIO), x) ** 2), filled)).all()
    level = np.full((B, F, 1), magnitude)
    assert np.isfinite(gradient(lambda x: ops.sum(MIX(tensor(AUDIO), tensor(AUDIO), x) ** 2), level)).all()
    assert np.isfinite(gradient(lambda x: ops.sum(DELAY(tensor(AUDIO), x, x) ** 2), level)).all()


def test_measures_of_silence_have_finite_gradients():
    silence = np.zeros((1, 256))
    for measure in (
        lambda x: core.a_weighted_loudness(x, 16000, 500, 64),
        lambda x: core.rms(x, 16000, 500, 64),
        lambda x: core.rms_power(x, 16000, 500, 64),
        lambda x: core.mfcc(x, 4, 64, 8),
        lambda x: core.log_magnitude(x, 64),
    ):
        assert np.isfinite(gradient(lambda x, m=measure: ops.sum(m(x)), silence)).all()
