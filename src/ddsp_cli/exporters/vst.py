"""One `.tflite` for the DDSP-VST plug-in (magenta/ddsp-vst 1.1.0).

    call_f0_scaled:0 [1]   MIDI / 127                  StatefulPartitionedCall:0 [1]    amplitude
    call_pw_scaled:0 [1]   power in dB / 80 + 1        StatefulPartitionedCall:1 [60]   harmonic distribution
    call_state:0 [512]     recurrent state             StatefulPartitionedCall:2 [65]   noise magnitudes
                                                       StatefulPartitionedCall:3 [512]  new recurrent state

The plug-in finds tensors by these names, hosts the state, and draws the sound itself; `vst_contract` holds what it
demands of a file. An instrument of fewer units is written with as many.
"""

from __future__ import annotations

import datetime
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli import __version__, scaling
from ddsp_cli.bundle import Bundle
from ddsp_cli.config import to_plain
from ddsp_cli.errors import ModelError
from ddsp_cli.exporters import checks, graph, impulse
from ddsp_cli.exporters.flatbuffer import TfliteOps
from ddsp_cli.exporters.litert import Stream
from ddsp_cli.exporters.vst_contract import check_file
from ddsp_cli.exporters.widen import widened
from ddsp_cli.synthesis.litert_decoder import INPUTS, OUTPUTS

METADATA = "metadata.json"
#: Between these percentiles of its notes lies the range that the plug-in shows.
SHOWN_PERCENTILES = (5, 95)
SPOKEN = {"pw_scaled": "power", "ld_scaled": "loudness", "f0_scaled": "pitch", "z": "timbre"}


def export(bundle: Bundle, folder: Path) -> checks.Exported:
    """Writes NAME.tflite, checks every row of the contract on the file and streams a phrase through it.

    An instrument whose network is such a file already gets it back as it came, with metadata where it had none.

    Raises:
      ModelError: an instrument of a shape that the plug-in does not play.
      OutputError: what was written breaks the contract or does not agree with the bundle.
    """
    path = folder / f"{file_stem(bundle.card.name)}.tflite"
    if bundle.network is None:
        check_shape(bundle)
        bundle = widened(bundle, INPUTS["call_state:0"])
        content, interface = build(bundle)
    else:
        content, interface = bundle.network, {"inputs": _shapes(INPUTS), "outputs": _shapes(OUTPUTS)}
    path.write_bytes(content)
    if bundle.network is None or not zipfile.is_zipfile(path):
        with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
            archive.writestr(METADATA, json.dumps(metadata(bundle)))
    impulse.write(bundle, folder)
    n_rows = check_file(path.read_bytes())
    measured = {
        "controls_difference": checks.controls_difference(*_stream(bundle, path)),
        "checked_frames": float(checks.CHECKED_FRAMES),
        "contract_rows": float(n_rows),
    }
    return checks.Exported(measured, {path.name: interface})


def file_stem(name: str) -> str:
    """A name that every file system takes; the plug-in shows it in its list."""
    return "".join("-" if c in '<>:"/\\|?*' or ord(c) < 32 else c for c in name).strip(" .") or "instrument"


def check_shape(bundle: Bundle) -> None:
    """Refuses what the plug-in would refuse, or play wrongly.

    Raises:
      ModelError: with the reason and what to do.
    """
    model = bundle.card.model
    harmonic, noise = graph.synths(model)
    wanted = {
        f"is driven by {' and '.join(SPOKEN[name] for name in model.inputs)}": set(model.inputs)
        == {"pw_scaled", "f0_scaled"},
        f"has {model.frame_rate_hz} frames a second": model.frame_rate_hz == 50,
        f"sings at {model.sample_rate_hz} Hz": model.sample_rate_hz == 16000,
        f"has {model.sizes.rnn_units} recurrent units": model.sizes.rnn_units <= INPUTS["call_state:0"],
        f"has {harmonic.n_harmonics} harmonics": harmonic.n_harmonics == 60,
        f"has {noise.n_bands} noise bands": noise.n_bands == 65,
        "counts harmonics above Nyquist": harmonic.normalize_below_nyquist,
    }
    wrong = [what for what, holds in wanted.items() if not holds]
    if wrong:
        raise ModelError(
            f"DDSP-VST cannot play this instrument: it {' and '.join(wrong)}; the plug-in plays power and pitch at "
            "50 frames a second, 16000 Hz, up to 512 units, 60 harmonics, 65 noise bands",
            "Train it again with the preset light or vst, or export it as litert or onnx.",
        )


def build(bundle: Bundle) -> tuple[bytes, dict[str, Any]]:
    """The file without its metadata, and what it takes and gives."""
    ops = TfliteOps()
    units = INPUTS["call_state:0"]
    # The order of Magenta's files, though the plug-in goes by names.
    f0, power, state = (ops.input(name, (size,)) for name, size in INPUTS.items())
    scaled = {"f0_scaled": ops.reshape(f0, (1, 1)), "pw_scaled": ops.reshape(power, (1, 1))}
    f0_hz = graph.f0_from_scaled(ops, scaled["f0_scaled"])
    found = graph.decode(ops, bundle, scaled, f0_hz, ops.reshape(state, (1, units)))
    values = (found.amplitude, found.harmonic_distribution, found.noise_magnitudes, found.state)
    for (name, size), value in zip(OUTPUTS.items(), values, strict=True):
        ops.output(name, value, (size,))
    return ops.finish(f"{bundle.card.name}, a DDSP-VST instrument"), ops.interface()


def metadata(bundle: Bundle) -> dict[str, Any]:
    """What the plug-in shows; `export_time` is how a saved session finds its model again."""
    model, statistics = bundle.card.model, bundle.card.statistics
    low, high = (statistics.pitch_midi[i] for i in SHOWN_PERCENTILES)
    return {
        "name": bundle.card.name,
        "mean_min_pitch_note": low,
        "mean_max_pitch_note": high,
        "mean_min_pitch_note_hz": float(scaling.midi_to_hz(np.float64(low))),
        "mean_max_pitch_note_hz": float(scaling.midi_to_hz(np.float64(high))),
        "mean_min_power_note": statistics.power_db[SHOWN_PERCENTILES[0]],
        "mean_max_power_note": statistics.power_db[SHOWN_PERCENTILES[1]],
        "version": __version__,
        "export_time": datetime.datetime.now().isoformat(timespec="microseconds"),
        "num_harmonics": OUTPUTS["StatefulPartitionedCall:1"],
        "num_noise_amps": OUTPUTS["StatefulPartitionedCall:2"],
        "frame_rate": model.frame_rate_hz,
        "frame_size": 1024,
        "sample_rate": model.sample_rate_hz,
        "licence": bundle.card.licence,
        "percentiles": to_plain(statistics),  # nothing to the plug-in, all to `ddsp import`
    }


def _shapes(sizes: dict[str, int]) -> dict[str, list[int]]:
    return {name: [size] for name, size in sizes.items()}


def _stream(bundle: Bundle, path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    played = checks.phrase(bundle)
    stream = Stream(path, {"call_state:0": "StatefulPartitionedCall:3"})
    frames = {
        "call_f0_scaled:0": np.asarray(scaling.scale_f0(played.f0_hz)),
        "call_pw_scaled:0": np.asarray(scaling.scale_db(played.level_db)),
    }
    found = stream.run(frames)
    names = ("amplitude", "harmonic_distribution", "noise_magnitudes")
    controls = {name: found[tensor] for name, tensor in zip(names, OUTPUTS, strict=False)}
    return controls | {"state": found["StatefulPartitionedCall:3"][-1]}, checks.expected_controls(bundle, played)
