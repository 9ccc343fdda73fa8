"""Read recorded impulse responses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.audio import read
from ddsp_cli.errors import InputError

#: Longer files are not impulse responses of rooms, and convolution costs as much as they are long.
LONGEST_S = 20.0

#: A quieter peak than this (-120 dBFS) is silence.
_LEAST_PEAK = 1e-6


def from_file(path: Path, rate_hz: int) -> FloatArray:
    """Reads an impulse response without what precedes the direct sound.

    Args:
      path: a sound file; its channels are averaged.
      rate_hz: sample rate of the result.

    Returns:
      [L] float32, scaled so that the direct sound is 1, and with the direct sound itself (sample 0) set to 0.

    Raises:
      InputError: it is silent, longer than `LONGEST_S`, contains NaN or infinity, or is not a sound file.
    """
    blocks: list[FloatArray] = []
    n_samples = 0
    for block in read.mono_blocks(path, rate_hz):
        blocks.append(block)
        n_samples += len(block)
        if n_samples > LONGEST_S * rate_hz:
            raise InputError(
                f"{path} is longer than {LONGEST_S:.0f} s, the limit for an impulse response",
                "It should hold one clap, or what is left of a sweep, and the room after it.",
            )
    response = np.concatenate(blocks)
    direct = int(np.argmax(np.abs(response)))
    if float(np.abs(response[direct])) < _LEAST_PEAK:
        raise InputError(f"{path} is silent, so it has no impulse response")
    response = response[direct:] / np.float32(response[direct])
    response[0] = 0.0
    return response
