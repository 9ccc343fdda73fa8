"""The cost of a training step: seconds, memory and size of each preset.

python benchmarks/train.py [--presets light vst solo tiny autoencoder hifi] [--steps 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

import usage


def measure(name: str, n_steps: int) -> dict[str, float]:
    """Trains on noise and held notes for a few steps; figures of this process."""
    import numpy as np

    from ddsp_cli import backend

    backend.load()
    from ddsp_cli.config import load_preset
    from ddsp_cli.training.loop import build

    preset = load_preset(name)
    model, training = preset.model, preset.training
    n_frames = round(training.crop_s * model.frame_rate_hz)
    random = np.random.default_rng(0)
    shape = (training.batch_size, n_frames, 1)
    inputs = {key: random.uniform(0.2, 0.9, shape).astype(np.float32) for key in model.scaled_inputs}
    if model.encoder:
        inputs["mfcc"] = random.normal(size=(*shape[:2], model.encoder.n_mfccs)).astype(np.float32)
    inputs["f0_hz"] = random.uniform(200.0, 800.0, shape).astype(np.float32)
    audio = random.uniform(-0.1, 0.1, (training.batch_size, n_frames * model.hop_samples)).astype(np.float32)
    autoencoder = build(preset, seed=0, n_shares=backend.share_batches(training.batch_size))
    started = time.perf_counter()
    autoencoder.train_on_batch(inputs, audio)
    first_s = time.perf_counter() - started
    seconds, of_processor = [], time.process_time()
    for _ in range(n_steps):
        started = time.perf_counter()
        autoencoder.train_on_batch(inputs, audio)
        seconds.append(time.perf_counter() - started)
    processor_s = (time.process_time() - of_processor) / n_steps
    _, peak_mb = usage.taken()
    return {
        "parameters": autoencoder.count_params(),
        "batch_s": training.batch_size * training.crop_s,
        "first_s": first_s,
        "step_s": statistics.median(seconds),
        "processor_s": processor_s,  # of all cores together; tells more than the clock on a busy machine
        "peak_gb": peak_mb * 2**20 / 1e9,
    }


def main() -> None:
    """Prints a table, one row per preset, each measured in a separate process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["light", "vst", "solo"])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.presets[0], options.steps)))
        return
    print(
        f"{'preset':<12} {'parameters':>11} {'sound in a batch':>17} {'first step':>11} {'step':>8} "
        f"{'all cores':>10} {'peak memory':>12}"
    )
    for name in options.presets:
        command = [sys.executable, __file__, "--child", "--presets", name, "--steps", str(options.steps)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{name:<12} {row['parameters']:>11,} {row['batch_s']:>15.0f} s {row['first_s']:>9.1f} s "
            f"{row['step_s']:>6.2f} s {row['processor_s']:>8.2f} s {row['peak_gb']:>9.2f} GB",
            flush=True,
        )


if __name__ == "__main__":
    main()
