"""Compute the golden numbers with magenta/ddsp 3.7.0, from the inputs that the files hold.

Each `.npz` beside this script holds inputs and the outputs that the original computes from them. This script computes
all outputs once more and prints the largest difference from the stored ones, relative to the largest value; `--write`
stores what it computed. The tests need only the files.

The original pins old versions of TensorFlow. It runs on a current one when it is installed without its dependencies,
into an environment of its own that has TensorFlow, librosa and NumPy:

    pip install --no-deps ddsp==3.7.0 gin-config tensorflow-probability==0.25.0 tf-keras dm-tree cloudpickle decorator
    python tests/golden/make.py

`crepe_glide.npz` is the output of marl/crepe 0.0.16 (size tiny, 10 ms steps, centred, with and without Viterbi) on
`glide_audio`; it needs `pip install crepe` with the weights that its build downloads, and `--crepe`.
"""

from __future__ import annotations

import argparse
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent
RATE_HZ = 16000

Arrays = dict[str, np.ndarray]


def load_original(with_crepe: bool) -> Any:
    """Imports the original; without CREPE, which no file but one needs, in its place an empty module."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # tensorflow-probability 0.25 needs Keras 2
    if not with_crepe:
        sys.modules["crepe"] = types.ModuleType("crepe")
    import ddsp
    import ddsp.losses
    import ddsp.spectral_ops
    import ddsp.synths

    return ddsp


def exp_sigmoid(ddsp: Any, g: Arrays) -> Arrays:
    core = ddsp.core
    return {
        "y": core.exp_sigmoid(g["x"]),
        "y2": core.exp_sigmoid(g["x"], exponent=5.0, max_value=1.0, threshold=1e-5),
        "y_sym": core.sym_exp_sigmoid(g["x"], width=8.0),
        "y_soft": core.soft_limit(g["x"], 0.0, 1.0),
    }


def unit_conversions(ddsp: Any, g: Arrays) -> Arrays:
    core = ddsp.core
    return {
        "midi_of_hz": core.hz_to_midi(g["hz"]),
        "hz_of_midi": core.midi_to_hz(g["midi"]),
        "hz_of_midi_silence": core.midi_to_hz(g["midi"], midi_zero_silence=True),
        "u_hz": core.unit_to_hz(g["u"], 20.0, 8000.0, clip=True),
        "hz_u": core.hz_to_unit(g["hz"], 20.0, 8000.0),
        "amp_db": core.amplitude_to_db(g["amp"]),
        "pow_db": core.power_to_db(g["amp"]),
        "pow_db2": core.power_to_db(g["amp"], ref_db=20.7, range_db=120.0),
        "db_amp": core.db_to_amplitude(g["db"]),
        "slog": core.safe_log(g["amp"]),
        "logb": core.logb(g["amp"]),
    }


def resample(ddsp: Any, g: Arrays) -> Arrays:
    outputs = {}
    for key in g:
        if "end_" not in key:
            continue
        *_, method, end, n_timesteps = key.split("_")
        source = key[:2] if key[:2] in g else "frames"
        outputs[key] = ddsp.core.resample(g[source], int(n_timesteps), method=method, add_endpoint=end == "end")
    return outputs


def angular_cumsum(ddsp: Any, g: Arrays) -> Arrays:
    return {"phase": ddsp.core.angular_cumsum(g["omega"], chunk_size=1000)}


def oscillator_bank(ddsp: Any, g: Arrays) -> Arrays:
    bank = ddsp.core.oscillator_bank
    return {
        "audio": bank(g["freqs"], g["amps"], sample_rate=RATE_HZ),
        "audio_ang": bank(g["freqs"], g["amps"], sample_rate=RATE_HZ, use_angular_cumsum=True),
        "partials_first500": bank(g["freqs"], g["amps"], sample_rate=RATE_HZ, sum_sinusoids=False)[:, :500],
    }


def harmonic(ddsp: Any, g: Arrays) -> Arrays:
    synth = ddsp.synths.Harmonic(n_samples=3200, sample_rate=RATE_HZ)
    raw = synth.get_controls(g["raw_amps"], g["raw_hd"], g["f0_hz"])
    unmasked = ddsp.synths.Harmonic(n_samples=3200, sample_rate=RATE_HZ, normalize_below_nyquist=False)
    amplitudes, distribution = g["amplitudes"], g["harmonic_distribution"]

    def render(**options: Any) -> Any:
        options = {"harmonic_distribution": distribution, "amp_resample_method": "window"} | options
        return ddsp.core.harmonic_synthesis(g["f0_hz"], amplitudes, n_samples=3200, sample_rate=RATE_HZ, **options)

    return {
        "amplitudes": raw["amplitudes"],
        "harmonic_distribution": raw["harmonic_distribution"],
        "hd_nonyq": unmasked.get_controls(g["raw_amps"], g["raw_hd"], g["f0_hz"])["harmonic_distribution"],
        **{
            f"audio_{method}": render(amp_resample_method=method) for method in ("window", "linear", "cubic", "nearest")
        },
        "audio_window_ang": render(use_angular_cumsum=True),
        "audio_shift": render(harmonic_shifts=g["shifts"]),
        "audio_nodist": render(harmonic_distribution=None),
        "get_signal": synth.get_signal(amplitudes, distribution, g["f0_hz"]),
    }


def streaming_harmonic(ddsp: Any, g: Arrays) -> Arrays:
    audio, phases, phase = [], [], 0.0
    for t in range(1, g["f0_hz"].shape[1]):
        block, phase = ddsp.core.streaming_harmonic_synthesis(
            frequencies=g["f0_hz"][:, t - 1 : t + 1],
            amplitudes=g["amplitudes"][:, t - 1 : t + 1],
            harmonic_distribution=g["harmonic_distribution"][:, t - 1 : t + 1],
            initial_phase=phase,
            n_samples=320,
            sample_rate=RATE_HZ,
            amp_resample_method="linear",
        )
        audio.append(np.asarray(block).ravel())
        phases.append(float(np.asarray(phase).ravel()[0]))
    return {"audio": np.stack(audio), "final_phase": np.array(phases, np.float32)}


def filtered_noise(ddsp: Any, g: Arrays) -> Arrays:
    core = ddsp.core
    synth = ddsp.synths.FilteredNoise(n_samples=3200, window_size=0, initial_bias=-5.0)
    outputs = {"magnitudes": synth.get_controls(g["raw_mags"])["magnitudes"]}
    for window in (0, 257, 64):
        outputs[f"ir_w{window}"] = core.frequency_impulse_response(g["magnitudes"], window)[:, :10]
        for padding, name in (("same", "audio"), ("valid", "audio_valid")):
            filtered = core.frequency_filter(g["noise"], g["magnitudes"], window_size=window, padding=padding)
            outputs[f"{name}_w{window}"] = filtered
    return outputs


def lti_filter(ddsp: Any, g: Arrays) -> Arrays:
    return {"audio": ddsp.core.frequency_filter(g["noise"], g["mags"], window_size=0)}


def fft_convolve(ddsp: Any, g: Arrays) -> Arrays:
    outputs = {}
    for key in g:
        if "_dc" not in key:
            continue
        ir, padding, delay = key.split("_")
        audio = g["audio7" if ir == "i7" else "audio"]
        delay_compensation = int(delay.removeprefix("dc"))
        outputs[key] = ddsp.core.fft_convolve(audio, g[ir], padding=padding, delay_compensation=delay_compensation)
    return outputs


def reverb(ddsp: Any, g: Arrays) -> Arrays:
    import ddsp.effects

    return {
        "wet_dry": ddsp.effects.Reverb(trainable=False)(g["audio"], g["ir"]),
        "wet": ddsp.effects.Reverb(trainable=False, add_dry=False)(g["audio"], g["ir"]),
    }


def loudness_power(ddsp: Any, g: Arrays) -> Arrays:
    import librosa

    spectral_ops, audio = ddsp.spectral_ops, g["audio"]
    outputs = {
        "a_weighting_512": librosa.A_weighting(librosa.fft_frequencies(sr=RATE_HZ, n_fft=512)),
        "loud_default": spectral_ops.compute_loudness(audio),
        "loud_same": spectral_ops.compute_loudness(audio, padding="same"),
        "loud_valid": spectral_ops.compute_loudness(audio, padding="valid"),
        "loud_n2048": spectral_ops.compute_loudness(audio, n_fft=2048),
        "loud_fr50": spectral_ops.compute_loudness(audio, frame_rate=50, n_fft=1024),
        "loud_old": spectral_ops.compute_loudness(audio, range_db=120.0, ref_db=20.7, n_fft=2048),
        "loud_np_": spectral_ops.compute_loudness(audio, use_tf=False),
    }
    for name, compute in (("power", spectral_ops.compute_power), ("rms", spectral_ops.compute_rms_energy)):
        outputs[f"{name}_default"] = compute(audio)
        outputs[f"{name}_fr50_1024"] = compute(audio, frame_rate=50, frame_size=1024)
        outputs[f"{name}_same"] = compute(audio, padding="same")
        outputs[f"{name}_valid"] = compute(audio, frame_rate=50, frame_size=1024, padding="valid")
    return outputs


def spectra(ddsp: Any, g: Arrays) -> Arrays:
    spectral_ops, audio = ddsp.spectral_ops, g["audio"]
    return {
        **{f"mag_{size}": spectral_ops.compute_mag(audio, size=size)[:, :20] for size in (2048, 512, 64)},
        "logmag_512": spectral_ops.compute_logmag(audio, size=512)[:, :20],
        "mag_512_nopad": spectral_ops.compute_mag(audio, size=512, pad_end=False),
        "logmel": spectral_ops.compute_logmel(audio),
        "mfcc": spectral_ops.compute_mfcc(audio, lo_hz=20.0, hi_hz=8000.0, fft_size=1024, mel_bins=128, mfcc_bins=30),
    }


#: Options of the loss behind each pair `loss_NAME`, `grad_NAME`.
LOSSES: dict[str, dict[str, Any]] = {
    "mag": {},
    "mag_logmag": {"mag_weight": 1.0, "logmag_weight": 1.0},
    "L2": {"mag_weight": 1.0, "logmag_weight": 1.0, "loss_type": "L2"},
    "delta": {"mag_weight": 0.0, "delta_time_weight": 1.0, "delta_freq_weight": 1.0},
    "cumsum": {"mag_weight": 0.0, "cumsum_freq_weight": 1.0},
    "loud": {"mag_weight": 0.0, "loudness_weight": 1.0},
    "one512": {"fft_sizes": (512,), "mag_weight": 1.0, "logmag_weight": 1.0},
}


def spectral_loss(ddsp: Any, g: Arrays) -> Arrays:
    import tensorflow as tf

    outputs = {}
    for name, options in LOSSES.items():
        loss = ddsp.losses.SpectralLoss(**options)
        value = tf.constant(g["b"])
        with tf.GradientTape() as tape:
            tape.watch(value)
            distance = loss(tf.constant(g["a"]), value)
        outputs[f"loss_{name}"] = distance
        outputs[f"grad_{name}"] = tape.gradient(distance, value)[:, :500]
    return outputs


def sinc_filter(ddsp: Any, g: Arrays) -> Arrays:
    core, cutoff = ddsp.core, g["cutoff"]
    hz = core.sinc_impulse_response(cutoff * 8000.0, window_size=128, sample_rate=RATE_HZ)
    return {
        "ir": core.sinc_impulse_response(cutoff, window_size=256),
        "ir_hp": core.sinc_impulse_response(cutoff, window_size=256, high_pass=True),
        "ir_hz": hz,
        "lp": core.sinc_filter(g["audio"], cutoff, window_size=256),
        "hp": core.sinc_filter(g["audio"], cutoff, window_size=256, high_pass=True),
        "lp_valid": core.sinc_filter(g["audio"], cutoff, window_size=256, padding="valid"),
    }


def frequency_scale_fns(ddsp: Any, g: Arrays) -> Arrays:
    core = ddsp.core
    return {
        "sigmoid": core.frequencies_sigmoid(g["x"]),
        "softmax2": core.frequencies_softmax(g["x"], depth=2),
        "crit": core.frequencies_critical_bands(g["x"]),
        "harm": core.get_harmonic_frequencies(g["f0"], 20),
        "norm": core.normalize_harmonics(g["pos"], g["f0"], RATE_HZ),
    }


def wavetable(ddsp: Any, g: Arrays) -> Arrays:
    audio = ddsp.core.wavetable_synthesis(g["f0"], g["amps"], g["wt"], n_samples=3200, sample_rate=RATE_HZ)
    return {"audio": audio, "look": ddsp.core.linear_lookup(g["phase"], g["wt2"])}


#: File → function that computes its outputs.
FILES = {
    function.__name__: function
    for function in (
        exp_sigmoid, unit_conversions, resample, angular_cumsum, oscillator_bank, harmonic, streaming_harmonic,
        filtered_noise, lti_filter, fft_convolve, reverb, loudness_power, spectra, spectral_loss, sinc_filter,
        frequency_scale_fns, wavetable,
    )
}  # fmt: skip


def crepe_glide(g: Arrays) -> Arrays:
    """Returns the output of marl/crepe (tiny) for the stored glide."""
    import crepe

    audio, rate_hz = g["glide_audio"], int(g["glide_rate"])
    options = {"model_capacity": "tiny", "step_size": int(g["glide_step_ms"]), "center": True, "verbose": 0}
    _, f0_hz, confidence, activation = crepe.predict(audio, rate_hz, viterbi=False, **options)
    _, smooth_hz, _, _ = crepe.predict(audio, rate_hz, viterbi=True, **options)
    found = {"f0_hz": f0_hz, "confidence": confidence, "f0_hz_viterbi": smooth_hz, "activation": activation[:100]}
    return {f"glide_{name}": array for name, array in found.items()}


def difference(ours: np.ndarray, stored: np.ndarray) -> float:
    """Largest difference of two arrays, relative to the largest stored value."""
    if ours.shape != stored.shape:
        raise SystemExit(f"error: shape {ours.shape} against {stored.shape} in the file")
    return float(np.abs(ours - stored).max(initial=0.0) / max(float(np.abs(stored).max(initial=0.0)), 1e-12))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="files to compute, without .npz (default: all)")
    parser.add_argument("--write", action="store_true", help="store the computed outputs")
    parser.add_argument("--crepe", action="store_true", help="compute crepe_glide.npz too (needs marl/crepe)")
    options = parser.parse_args()
    ddsp = load_original(options.crepe)
    for name in options.names or [*FILES, *(["crepe_glide"] if options.crepe else [])]:
        path = FOLDER / f"{name}.npz"
        with np.load(path) as file:
            stored = dict(file)
        computed = crepe_glide(stored) if name == "crepe_glide" else FILES[name](ddsp, stored)
        outputs = {key: np.asarray(array).astype(stored[key].dtype) for key, array in computed.items()}
        worst = {key: difference(array, stored[key]) for key, array in outputs.items()}
        key = max(worst, key=lambda found: worst[found])
        print(f"{name}: {len(outputs)} outputs, largest difference {worst[key]:.1e} ({key})")
        if options.write:
            np.savez_compressed(path, **(stored | outputs))


if __name__ == "__main__":
    main()
