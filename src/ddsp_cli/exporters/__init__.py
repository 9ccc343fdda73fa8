"""Exporters: one file per format.

`export(bundle, folder)` of each writes into an empty folder, opens the files that it wrote, compares them with the
instrument on a test phrase (`checks`), and returns the figures with the inputs and outputs of each file. An export that
does not agree raises an error and is not kept (`workflows.export`).

| module | holds |
|---|---|
| `onnx`, `litert`, `vst`, `savedmodel` | the formats; the first two with how each operation is written in them |
| `audio_graph` | inputs, controls and sound as a graph, for all formats but SavedModel |
| `checks` | the test phrase, the instrument's own controls and sound, tolerances |
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ddsp_cli.audio.resample import resample_response
from ddsp_cli.bundle.folder import room_file

if TYPE_CHECKING:
    from ddsp_cli.bundle import Bundle

#: Sample rates of the plug-in and of hosts; that of the model is always added.
HOST_RATES_HZ = (16000, 44100, 48000)


def write_impulse_responses(bundle: Bundle, folder: Path) -> list[Path]:
    """Writes `reverb_ir_RATE_hz.wav` for each rate, if the instrument has a room.

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
        soundfile.write(path, resample_response(bundle.impulse_response, own_hz, rate_hz), rate_hz, subtype="FLOAT")
        paths.append(path)
    return paths
