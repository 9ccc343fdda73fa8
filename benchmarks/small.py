"""Helpers of the attacks: a preset that trains in seconds, and bytes that are damaged at random."""

from __future__ import annotations

import random

#: A few hundred weights.
PRESET = """
description: a few hundred weights
model:
  sample_rate_hz: 16000
  frame_rate_hz: 50
  inputs: [pw_scaled, f0_scaled]
  decoder: {channels: 16, rnn_units: 16, layers_per_stack: 1}
  processors:
    harmonic: {type: Harmonic, inputs: [amplitude, harmonic_distribution, f0_hz], n_harmonics: 20,
               amp_resample_method: linear}
    noise: {type: FilteredNoise, inputs: [noise_magnitudes], n_bands: 17}
    dry: {type: Add, inputs: [harmonic, noise]}
    reverb: {type: FilteredNoiseReverb, inputs: [dry], length_samples: 4000}
training: {batch_size: 2, crop_s: 0.5, learning_rate: 1.0e-3, validation_steps: 25, loss: {fft_sizes: [256]}}
"""

#: Bytes that mean something in headers.
_TELLING = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)


def damaged(content: bytes, chance: random.Random, reach: int) -> bytes:
    """Returns the content with a few bytes changed, taken out or put in, mostly among the first `reach`."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        if not changed:
            break
        at = chance.randrange(min(reach, len(changed)) if chance.random() < 0.9 else len(changed))
        kind = chance.random()
        if kind < 0.75:
            changed[at] = chance.choice(_TELLING) if chance.random() < 0.5 else chance.randrange(256)
        elif kind < 0.85:
            del changed[at : at + chance.randrange(1, 9)]
        elif kind < 0.95:
            changed[at:at] = chance.randbytes(chance.randrange(1, 9))
        else:
            del changed[max(at, 12) :]
    return bytes(changed)
