"""The streaming synthesisers: equal to the original's numbers, and the same however frames are cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddsp_cli import scaling
from ddsp_cli.synthesis.reverb import Reverb
from ddsp_cli.synthesis.synths import FilteredNoise, Harmonic, Ramp, note_changes

GOLDEN = Path(__file__).parents[1] / "golden"
BLOCKS = (1, 7, 64, 1000)


def in_blocks(source, block, *frames):
    parts = [source.push(*(f[i : i + block] for f in frames)) for i in range(0, len(frames[0]), block)]
    return np.concatenate([*parts, source.finish()])


def exact_harmonic(f0_hz, amplitudes, hop, method):
    """The definition in double precision, all at once."""
    f0_hz, amplitudes = np.append(f0_hz, f0_hz[-1:]), np.concatenate([amplitudes, amplitudes[-1:]])
    n = np.arange((len(f0_hz) - 1) * hop)
    i, t = n // hop, (n % hop) / hop
    f = f0_hz[i] + (f0_hz[i + 1] - f0_hz[i]) * t
    w = t if method == "linear" else 0.5 - 0.5 * np.cos(np.pi * t)
    a = amplitudes[i] * (1 - w[:, None]) + amplitudes[i + 1] * w[:, None]
    k = np.arange(1, amplitudes.shape[1] + 1)
    a = a * (f[:, None] * k < 8000)
    return (a * np.sin(2 * np.pi * np.cumsum(f / 16000)[:, None] * k)).sum(axis=1)


@pytest.mark.parametrize("method", ["linear", "window"])
@pytest.mark.parametrize("row", [0, 1])
def test_harmonic_is_the_originals(method, row):
    golden = np.load(GOLDEN / "harmonic.npz")
    f0_hz = golden["f0_hz"][row, :, 0]
    distribution = scaling.harmonic_distribution(golden["raw_hd"][row], f0_hz[:, None], 16000)
    amplitudes = scaling.exp_sigmoid(golden["raw_amps"][row]) * distribution
    np.testing.assert_allclose(distribution, golden["harmonic_distribution"][row], atol=1e-6)
    out = in_blocks(Harmonic(64, 16000, method), 1000, f0_hz, amplitudes)
    assert np.abs(out - exact_harmonic(f0_hz, amplitudes, 64, method)).max() < 2e-6
    # The original sums phase in float32: its two ways of doing so differ by as much as this.
    assert np.abs(out - golden[f"audio_{method}"][row]).max() < 5e-3


@pytest.mark.parametrize("block", [1, 3, 100])
def test_pitch_may_be_finer_than_amplitudes(block):
    """The phase is the exact sum of a frequency that is a straight line between five knots a frame."""
    random, n, fine, hop = np.random.default_rng(0), 40, 5, 320
    knots = 300.0 * 2 ** (random.normal(size=n * fine).cumsum() / 30)
    amplitudes = random.uniform(0, 1, (n, 30))
    player = Harmonic(hop, 16000, "linear")
    parts = [player.push(knots[i * fine : (i + block) * fine], amplitudes[i : i + block]) for i in range(0, n, block)]
    found = np.concatenate([*parts, player.finish()])
    at = np.arange(n * hop) / hop
    f0_hz = np.interp(at * fine, np.arange(n * fine), knots)  # holds the last
    k = np.arange(1, 31)
    curves = np.stack([np.interp(at, np.arange(n), curve) for curve in amplitudes.T], axis=1)
    sines = np.sin(2 * np.pi * np.cumsum(f0_hz / 16000)[:, None] * k)
    expected = (curves * (f0_hz[:, None] * k < 8000) * sines).sum(axis=1)
    assert np.abs(found - expected).max() < 1e-4


def test_harmonic_does_what_the_originals_streaming_does():
    """Upstream's real-time oscillator reaches the next frame half way and holds: frames doubled, hop halved."""
    golden = np.load(GOLDEN / "streaming_harmonic.npz")
    f0_hz = np.repeat(golden["f0_hz"][0, :, 0], 2)[1:-1]
    amplitudes = np.repeat(golden["amplitudes"][0] * golden["harmonic_distribution"][0], 2, axis=0)[1:-1]
    out = in_blocks(Harmonic(160, 16000, "linear"), 1000, f0_hz, amplitudes)
    assert out[: 2 * 10 * 160].shape == (3200,)
    # Upstream interpolates amplitude and distribution apart, so the two agree to a few percent, not exactly.
    np.testing.assert_allclose(out[:3200].reshape(10, 320), golden["audio"][:10], atol=0.05)


def two_notes(place, low_hz=500.0, high_hz=1000.0, n_frames=50, n_fine=5):
    """F0 that steps to another note, five values a frame, `place` values after the middle."""
    f0_hz = np.full(n_frames * n_fine, low_hz)
    f0_hz[n_frames // 2 * n_fine + place :] = high_hz
    return f0_hz.reshape(n_frames, n_fine)


def play_frames(f0_hz, amplitudes, block=1000):
    """Plays F0 [F, P] at 16 kHz with a hop of 320."""
    harmonic = Harmonic(320, 16000)
    parts = [
        harmonic.push(f0_hz[i : i + block].reshape(-1), amplitudes[i : i + block]) for i in range(0, len(f0_hz), block)
    ]
    return np.concatenate([*parts, harmonic.finish()])


@pytest.mark.parametrize("place", range(1, 6))
def test_a_step_of_pitch_fades_from_note_to_note(place):
    amplitudes = np.full((50, 3), 0.1, np.float32)
    sound = play_frames(two_notes(place), amplitudes)
    low = play_frames(np.full((50, 5), 500.0), amplitudes)
    high = play_frames(np.full((50, 5), 1000.0), amplitudes)
    change = 25 * 320
    assert np.array_equal(sound[:change], low[:change])
    # The new note has a phase of its own, so spectra are compared.
    after, expected = (np.abs(np.fft.rfft(x[change + 320 : change + 320 + 3200])) for x in (sound, high))
    assert np.allclose(after, expected, atol=1e-3 * expected.max())
    window = np.hanning(1280)
    around = sound[change + 160 - 640 : change + 160 + 640] * window
    spectrum = np.abs(np.fft.rfft(around))
    hz = np.fft.rfftfreq(len(around), 1 / 16000)
    peaks = spectrum[np.abs(hz - 500) < 20].max()
    assert spectrum[hz < 150].max() < 10 ** (-55 / 20) * peaks
    # Neither note is swept over the notes between the two.
    assert spectrum[np.abs(hz - 750) < 50].max() < 0.1 * peaks


@pytest.mark.parametrize("block", [1, 7, 24, 25, 26])
def test_blocks_do_not_matter_to_steps_of_pitch(block):
    amplitudes = np.random.default_rng(0).random((50, 20), np.float32)
    for place in (1, 3, 5):
        whole = play_frames(two_notes(place, 220.0, 311.0), amplitudes)
        assert np.allclose(play_frames(two_notes(place, 220.0, 311.0), amplitudes, block), whole, atol=2e-5)


def test_a_slide_is_no_change_of_note():
    f0_hz = two_notes(3, 440.0, 466.2)
    assert np.flatnonzero(note_changes(f0_hz)).tolist() == [25]
    assert note_changes(f0_hz)[25] == 3
    slide = 440.0 * 2.0 ** (np.clip(np.arange(250) - 120, 0, 8) / 12.0)  # eight semitones in 32 ms
    inside = note_changes(slide.reshape(50, 5))
    assert not inside[25:].any()
    vibrato = 440.0 * 2.0 ** (np.sin(np.arange(250) / 250 * 2 * np.pi * 6) / 12.0)
    assert not note_changes(vibrato.reshape(50, 5)).any()
    assert not note_changes(f0_hz[:, :1]).any()
    assert note_changes(f0_hz[:1]).shape == (0,)


@pytest.mark.parametrize("window", [0, 257, 64])
def test_noise_is_the_originals(window):
    golden = np.load(GOLDEN / "filtered_noise.npz")
    for row in (0, 1):
        magnitudes = scaling.exp_sigmoid(golden["raw_mags"][row] - 5.0)
        np.testing.assert_allclose(magnitudes, golden["magnitudes"][row], rtol=1e-4, atol=1e-7)
        noise = golden["noise"][row].reshape(50, 64)
        out = in_blocks(FilteredNoise(64, 65, window), 7, magnitudes, noise)
        np.testing.assert_allclose(out, golden[f"audio_w{window}"][row], atol=1e-6)


@pytest.mark.parametrize("block", [1, 64, 333, 8000])
def test_room_is_the_originals(block):
    golden = np.load(GOLDEN / "reverb.npz")
    starts = list(range(0, 8000, block))[:500]  # the rest of 8000 single samples is one block
    for row in (0, 1):
        room = Reverb(golden["ir"][row])
        out = np.concatenate([room.push(part) for part in np.split(golden["audio"][row], starts[1:])])
        np.testing.assert_allclose(out, golden["wet_dry"][row], atol=2e-5 * np.abs(golden["wet_dry"]).max())


@pytest.mark.parametrize("length", [1, 2, 63, 4096, 4097, 9000])
def test_room_of_any_length(length):
    random = np.random.default_rng(length)
    dry, response = random.normal(size=20000), random.normal(size=length) * 0.01
    response[0] = 0.0
    room = Reverb(response)
    out = np.concatenate([room.push(part) for part in np.split(dry.astype(np.float32), [10, 4096, 4097, 13000])])
    np.testing.assert_allclose(out, dry + np.convolve(dry, response)[:20000], atol=1e-5)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("method", ["linear", "window"])
def test_blocks_do_not_matter_to_harmonics(block, method):
    random = np.random.default_rng(0)
    f0_hz = random.uniform(50, 3000, 200).astype(np.float32)
    amplitudes = random.uniform(0, 0.02, (200, 60)).astype(np.float32)
    whole = in_blocks(Harmonic(80, 16000, method), 200, f0_hz, amplitudes)
    assert np.abs(in_blocks(Harmonic(80, 16000, method), block, f0_hz, amplitudes) - whole).max() < 1e-6


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(("hop", "bands"), [(320, 65), (64, 65), (64, 98), (37, 65), (320, 2)])
def test_blocks_do_not_matter_to_noise(block, hop, bands):
    magnitudes = np.random.default_rng(0).uniform(0, 1, (150, bands)).astype(np.float32)
    whole = in_blocks(FilteredNoise(hop, bands, seed=5), 150, magnitudes)
    assert whole.shape == (150 * hop,)
    assert np.abs(in_blocks(FilteredNoise(hop, bands, seed=5), block, magnitudes) - whole).max() < 1e-6
    assert np.abs(in_blocks(FilteredNoise(hop, bands, seed=6), block, magnitudes) - whole).max() > 1e-3


def test_phase_is_exact_after_an_hour():
    """440.1 Hz for an hour is 1 584 360 whole turns: the next hour starts as the first one did."""
    source = Harmonic(320, 16000, "linear")
    amplitudes = np.ones((1000, 1), np.float32)
    amplitudes[:, 0] = 0.5
    f0_hz = np.full(1000, 440.1)
    first = source.push(f0_hz, amplitudes)
    for _ in range(179):
        source.push(f0_hz, amplitudes)
    again = source.push(f0_hz, amplitudes)
    n = len(first) - 320
    np.testing.assert_allclose(again[320 : 320 + n], first[:n], atol=2e-6)


def test_harmonics_above_nyquist_are_silent_between_frames_too():
    source = Harmonic(320, 16000, "linear")
    f0_hz = np.array([7000.0, 9000.0, 9000.0])
    out = in_blocks(source, 3, f0_hz, np.ones((3, 1), np.float32))
    assert np.abs(out[:160]).max() > 0.9  # 8000 Hz is reached half way
    assert np.abs(out[161:]).max() == 0.0


def test_ramp_goes_straight_and_holds():
    ramp = Ramp(4)
    out = np.concatenate([ramp.push(np.array([0.0, 1.0])), ramp.push(np.array([0.0])), ramp.finish()])
    np.testing.assert_allclose(out, [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0, 0, 0, 0])
    assert Ramp(4).finish().shape == (0,)
