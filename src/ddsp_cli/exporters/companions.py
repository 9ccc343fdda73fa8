"""Files that accompany every export: the learned impulse response, at the sample rates of hosts. S samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.bundle import Bundle
from ddsp_cli.bundle.exported import room_file

#: Sample rates of the plug-in and of hosts; that of the model is always added.
HOST_RATES_HZ = (16000, 44100, 48000)


def write_impulse_responses(bundle: Bundle, folder: Path) -> list[Path]:
    """Writes `reverb_ir_RATE_hz.wav` for each rate; nothing where the instrument has no room.

    The response is wet only: its sample 0, the direct sound, is 0. The sound is dry + dry ∗ response.

    Returns:
      The files.
    """
    if bundle.impulse_response is None:
        return []
    import soundfile

    own_hz = bundle.card.model.sample_rate_hz
    paths = []
    for rate_hz in sorted({own_hz, *HOST_RATES_HZ}):
        path = folder / room_file(rate_hz)
        soundfile.write(path, at_rate(bundle.impulse_response, own_hz, rate_hz), rate_hz, subtype="FLOAT")
        paths.append(path)
    return paths


def at_rate(response: FloatArray, own_hz: int, rate_hz: int) -> FloatArray:
    """Resamples an impulse response [S] so that a convolution at another rate sounds the same.

    It is scaled by the ratio of the rates, since a convolution sums over samples, of which there are more in a second.
    (magenta/ddsp 3.7.0 does neither: ddsp_export.py:296-299.)
    """
    if rate_hz == own_hz:
        return np.asarray(response, np.float32)
    import soxr

    resampled = soxr.resample(np.asarray(response, np.float64), own_hz, rate_hz, quality="VHQ")
    return np.asarray(resampled * (own_hz / rate_hz), np.float32)
