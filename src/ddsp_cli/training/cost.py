"""Estimate the memory of a training step, so that a preset of absurd size is refused before a framework loads."""

from __future__ import annotations

from ddsp_cli.config import FilteredNoiseConfig, HarmonicConfig, Preset
from ddsp_cli.errors import ModelError

#: A step that takes more is refused; no device that the program runs on has as much.
MAX_STEP_GB = 128.0

#: Windows of a data set are no longer, whatever `crop_s` says.
WINDOW_S = 4.0

#: Bytes of a float32, and how many arrays of a size the forward and the backward pass hold at the same time.
FLOAT_BYTES, N_COPIES = 4, 3

#: Floats of a weight: its value, its gradient, two moments of Adam.
PER_WEIGHT = 4

_WHAT = {
    "oscillators": ("n_harmonics", "batch_size", "crop_s"),
    "noise": ("n_bands", "batch_size", "crop_s"),
    "loss": ("fft_sizes", "batch_size", "crop_s"),
    "network": ("channels", "rnn_units", "layers_per_stack"),
}


def step_memory_gb(preset: Preset) -> dict[str, float]:
    """The memory of a training step by what takes it, in GB; an estimate, right to a factor of about two.

    Returns:
      `oscillators` (an amplitude and a phase per harmonic and sample), `noise` (magnitudes and filtered frames), `loss`
      (spectrograms with 75 % overlap: two complex values per sample and FFT size), `network` (weights, and the states
      of each frame).
    """
    model, training = preset.model, preset.training
    n_samples = training.batch_size * min(training.crop_s, WINDOW_S) * (training.render_rate_hz or model.sample_rate_hz)
    n_frames = training.batch_size * min(training.crop_s, WINDOW_S) * model.frame_rate_hz
    harmonic, noise = model.only(HarmonicConfig), model.only(FilteredNoiseConfig)
    n_harmonics = harmonic[1].n_harmonics if harmonic else 0
    n_bands = noise[1].n_bands if noise else 0
    sizes = model.sizes
    n_stacked = len(model.inputs) * sizes.channels
    n_hidden = max(0, sizes.layers_per_stack - 1) * sizes.channels**2
    n_weights = (
        (len(model.inputs) + 1) * n_hidden
        + 3 * sizes.rnn_units * (sizes.rnn_units + n_stacked)
        + (n_stacked + sizes.rnn_units) * sizes.channels
        + sizes.channels * (1 + n_harmonics + n_bands)
    )
    states = n_frames * (4 * sizes.rnn_units + (sizes.layers_per_stack + 1) * (n_stacked + sizes.channels))
    floats = {
        "oscillators": N_COPIES * n_samples * n_harmonics,
        "noise": N_COPIES * 4 * n_frames * n_bands,
        "loss": N_COPIES * n_samples * 4 * len(training.loss.fft_sizes),
        "network": PER_WEIGHT * n_weights + N_COPIES * states,
    }
    return {name: count * FLOAT_BYTES / 1e9 for name, count in floats.items()}


def check_cost(preset: Preset) -> None:
    """Refuses a preset whose training step would not fit into memory.

    Raises:
      ModelError: it would take more than `MAX_STEP_GB`.
    """
    parts = step_memory_gb(preset)
    total = sum(parts.values())
    if total > MAX_STEP_GB:
        most = max(parts, key=lambda name: parts[name])
        raise ModelError(
            f"a training step of this preset would take about {total:,.0f} GB of memory, {parts[most]:,.0f} GB of it "
            f"for the {most}; {MAX_STEP_GB:.0f} GB are the most",
            f"Lower {', '.join(_WHAT[most][:-1])} or {_WHAT[most][-1]}.",
        )
