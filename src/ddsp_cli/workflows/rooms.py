"""Which room an instrument sounds in: its own, none, another instrument's, or one from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddsp_cli.errors import InputError, ModelError, UsageError
from ddsp_cli.features import io
from ddsp_cli.workflows import catalogue

#: Longer responses are not rooms, and cost as much as they are long.
LONGEST_S = 20.0

MOST_WET = 4.0


def find_room(name: str, wet: float, rate_hz: int, own: np.ndarray | None) -> np.ndarray | bool:
    """The impulse response that `--room` and `--wet` mean.

    Args:
      name: `model`, `none`, a sound file with a recorded impulse response, or an instrument.
      wet: 0 is dry, 1 as recorded or learned.
      rate_hz: of the instrument that plays.
      own: its own impulse response [L], or None where it learned no room.

    Returns:
      What `Instrument.render` takes as its `room`.

    Raises:
      UsageError: `wet` out of range.
      InputError: the file is no impulse response.
      ModelError: no such instrument, or one without a room.
    """
    if not 0.0 <= wet <= MOST_WET:
        raise UsageError(f"--wet {wet:g} is out of range (0 to {MOST_WET:g})")
    if name == "none" or wet == 0.0:
        return False
    if name == "model":
        if own is None:
            return False
        return True if wet == 1.0 else own * np.float32(wet)
    path = Path(name)
    is_file = path.is_file() or (path.suffix.lower() in io.AUDIO_SUFFIXES and not path.is_dir())
    response = from_file(path, rate_hz) if is_file else from_instrument(name, rate_hz)
    return response * np.float32(wet)


def from_file(path: Path, rate_hz: int) -> np.ndarray:
    """A recorded impulse response [L] without what stands before the direct sound, which becomes 1 and is left out.

    Raises:
      InputError: silent, too long, or not a sound file.
    """
    info = io.probe(path)
    if info.seconds > LONGEST_S:
        raise InputError(
            f"{path} lasts {info.seconds:.0f} s, which is no impulse response",
            "It should hold one clap, or what is left of a sweep, and the room after it.",
        )
    response = io.read_mono(path, rate_hz)
    direct = int(np.argmax(np.abs(response)))
    peak = float(np.abs(response[direct]))
    if peak < 1e-6:
        raise InputError(f"{path} is silent, which is no room")
    response = response[direct:] / np.float32(response[direct])
    response[0] = 0.0
    return response


def from_instrument(name: str, rate_hz: int) -> np.ndarray:
    """The room [L] that another instrument learned, at the rate of the one that plays.

    Raises:
      ModelError: no such instrument, or it has no room.
    """
    from ddsp_cli import bundle

    other = bundle.load(catalogue.find(name))
    if other.impulse_response is None:
        raise ModelError(f"the instrument {name} learned no room")
    own_hz = other.card.model.sample_rate_hz
    if own_hz == rate_hz:
        return other.impulse_response
    import soxr

    # Resampling keeps the height of a wave; a response is a sum over samples, of which there are now more or fewer.
    response = np.asarray(soxr.resample(other.impulse_response, own_hz, rate_hz), np.float32)
    return response * np.float32(own_hz / rate_hz)
