"""TODO."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddsp_cli.audio import read
from ddsp_cli.errors import InputError

#: Longer responses are not rooms, and cost as much as they are long.
LONGEST_S = 20.0


def from_file(path: Path, rate_hz: int) -> np.ndarray:
    """A recorded impulse response [L] without what stands before the direct sound, which becomes 1 and is left out.

    Raises:
      InputError: silent, too long, or not a sound file.
    """
    info = read.probe(path)
    if info.seconds > LONGEST_S:
        raise InputError(
            f"{path} lasts {info.seconds:.0f} s, which is no impulse response",
            "It should hold one clap, or what is left of a sweep, and the room after it.",
        )
    response = read.read_mono(path, rate_hz)
    direct = int(np.argmax(np.abs(response)))
    peak = float(np.abs(response[direct]))
    if peak < 1e-6:
        raise InputError(f"{path} is silent, which is no room")
    response = response[direct:] / np.float32(response[direct])
    response[0] = 0.0
    return response
