"""The learned room as wav files, at the rate that each name says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddsp_cli.bundle import Bundle

#: The rate of the plug-in and those of hosts; the model's own is always added.
HOST_RATES_HZ = (16000, 44100, 48000)


def write_impulse_responses(bundle: Bundle, folder: Path) -> list[Path]:
    """Writes `reverb_ir_RATE_hz.wav` for the model's rate and those of hosts; nothing where there is no room.

    The response is wet only: the direct sound, its sample 0 at the model's rate, is 0. Sound goes dry + dry ∗ response.
    """
    if bundle.impulse_response is None:
        return []
    import soundfile

    own_hz = bundle.card.model.sample_rate_hz
    paths = []
    for rate_hz in sorted({own_hz, *HOST_RATES_HZ}):
        path = folder / f"reverb_ir_{rate_hz}_hz.wav"
        soundfile.write(path, at_rate(bundle.impulse_response, own_hz, rate_hz), rate_hz, subtype="FLOAT")
        paths.append(path)
    return paths


def at_rate(response: np.ndarray, own_hz: int, rate_hz: int) -> np.ndarray:
    """A response [L] for convolution at another rate.

    Resampled and scaled by the ratio of rates: a convolution sums over samples, and there are more of them in a
    second. (magenta/ddsp 3.7.0 does neither: ddsp_export.py:296-299.)
    """
    if rate_hz == own_hz:
        return np.asarray(response, np.float32)
    import soxr

    resampled = soxr.resample(np.asarray(response, np.float64), own_hz, rate_hz, quality="VHQ")
    return np.asarray(resampled * (own_hz / rate_hz), np.float32)
