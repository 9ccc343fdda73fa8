"""Time and memory of synthesis and loss, beside the straightforward implementation in the same run.

    python benchmarks/engine.py [--batch 16] [--seconds 4] [--cases harmonic,step]

Each figure comes from a process of its own: the best of three runs, and by how much the process grew beyond what it
held before the first. CPU seconds are of all cores together, so they hold on a busy machine as well.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

import usage

CASES = {
    "harmonic": "harmonic 60, 16 kHz",
    "harmonic100": "harmonic 100, 16 kHz",
    "harmonic48": "harmonic 100, 48 kHz",
    "noise": "filtered noise",
    "reverb": "reverb 3 s",
    "loss": "spectral loss",
    "step": "synths + reverb + loss",
}
FFT_SIZES = (2048, 1024, 512, 256, 128, 64)


def functions(case: str, ours: bool, batch: int, seconds: float) -> tuple[Any, Any, bool]:
    """Yields the function, where its gradient is taken, and whether it is a loss already."""
    import numpy as np
    import tensorflow as tf

    from ddsp_cli.engine import SpectralLoss, core

    sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120
    import plain

    rate, hop = (48000, 192) if case == "harmonic48" else (16000, 64)
    n_frames, n_harmonics = int(seconds * 250), 60 if case in ("harmonic", "step") else 100
    rng = np.random.default_rng(0)

    def random(*shape: int) -> Any:
        return tf.constant(rng.random(shape), tf.float32)

    f0_hz = tf.constant((220 + 20 * np.sin(np.arange(n_frames) / 30))[None, :, None].repeat(batch, 0), tf.float32)
    noise, target = (random(batch, n_frames * hop) - 0.5 for _ in range(2))
    magnitudes, room = random(batch, n_frames, 65), random(1, 48000) * 1e-3
    amplitudes = random(batch, n_frames, n_harmonics) / n_harmonics

    def harmonic(a: Any) -> Any:
        if ours:
            return core.harmonic_synthesis(f0_hz, a, hop, rate, "window")
        return plain.harmonic(f0_hz, a, hop, rate)

    def noisy(m: Any) -> Any:
        return core.frequency_filter(noise, m) if ours else plain.filtered_noise(noise, m)

    def reverb(audio: Any) -> Any:
        return core.fft_convolve(audio, room, delay_compensation=0) if ours else plain.convolve(audio, room)

    def loss(audio: Any) -> Any:
        if ours:
            return SpectralLoss(FFT_SIZES, logmag_weight=1.0).call(target, audio)
        return plain.spectral_loss(target, audio, FFT_SIZES)

    if case == "noise":
        return noisy, magnitudes, False
    if case == "reverb":
        return reverb, noise, False
    if case == "loss":
        return loss, noise, True
    if case == "step":
        return lambda a: loss(reverb(harmonic(a) + noisy(a[..., :1] + magnitudes))), amplitudes, True
    return harmonic, amplitudes, False


def measure(case: str, ours: bool, batch: int, seconds: float) -> list[dict[str, float]]:
    """Measures seconds, CPU seconds and MB of one case in this process: forward, then forward and backward."""
    import tensorflow as tf

    function, at, is_loss = functions(case, ours, batch, seconds)

    # Training compiles our steps with XLA; the original runs as a TensorFlow graph.
    forward = tf.function(function, jit_compile=ours)

    @tf.function(jit_compile=ours)
    def both(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
            total = y if is_loss else tf.reduce_sum(y * y)
        return total, tape.gradient(total, x)

    _, before_mb = usage.taken()
    found = []
    for run in (forward, both):
        run(at)
        walls, cpus = [], []
        for _ in range(3):
            wall, cpu = time.perf_counter(), time.process_time()
            _ = [x.numpy() for x in tf.nest.flatten(run(at))]
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
        found.append({"s": min(walls), "cpu_s": min(cpus), "mb": usage.taken()[1] - before_mb})
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        case, ours = given.one.split(",")
        print(json.dumps(measure(case, ours == "1", given.batch, given.seconds)))
        return
    print(
        f"{given.batch} × {given.seconds:g} s{'':27s}   ours: s, CPU s, MB     plain: s, CPU s, MB     ×s  ×CPU    ×MB"
    )
    if unknown := set(given.cases.split(",")) - CASES.keys():
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    for case in given.cases.split(","):
        found = []
        for ours in (True, False):
            command = [sys.executable, __file__, "--one", f"{case},{int(ours)}"]
            command += ["--batch", str(given.batch), "--seconds", str(given.seconds)]
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
            found.append(json.loads(done.stdout.strip().splitlines()[-1]))
        for name, mine, other in zip(("forward", "+ backward"), *found, strict=True):
            ratios = " ".join(f"{other[key] / mine[key]:6.1f}" for key in ("s", "cpu_s", "mb"))
            numbers = " | ".join(f"{f['s']:7.2f} {f['cpu_s']:7.2f} {f['mb']:6.0f}" for f in (mine, other))
            print(f"{CASES[case]:24s} {name:10s} {numbers}  {ratios}", flush=True)


if __name__ == "__main__":
    main()
