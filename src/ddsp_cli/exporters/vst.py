"""One `.tflite` for the DDSP-VST plug-in (magenta/ddsp-vst 1.1.0).

    call_f0_scaled:0 [1]   MIDI / 127                  StatefulPartitionedCall:0 [1]    amplitude
    call_pw_scaled:0 [1]   power in dB / 80 + 1        StatefulPartitionedCall:1 [60]   harmonic distribution
    call_state:0 [512]     recurrent state             StatefulPartitionedCall:2 [65]   noise magnitudes
                                                       StatefulPartitionedCall:3 [512]  new recurrent state

The plug-in finds tensors by these names (`synthesis.litert_decoder`), hosts the state, and synthesises the sound
itself. `check_file` checks its requirements on a file, row by row. An instrument of fewer units is written with as
many. Of a full-band instrument it plays the band below 8 kHz, see `low_band`.
"""

from __future__ import annotations

import dataclasses
import datetime
import io
import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ddsp_cli import __version__, scaling
from ddsp_cli.arrays import FloatArray
from ddsp_cli.bundle import Bundle, revise
from ddsp_cli.bundle.folder import MAX_METADATA_BYTES, METADATA
from ddsp_cli.config import FilteredNoiseConfig, HarmonicConfig, ModelConfig, to_plain
from ddsp_cli.errors import ModelError, OutputError
from ddsp_cli.exporters import audio_graph, checks, write_impulse_responses
from ddsp_cli.exporters.audio_graph import CONTROL_NAMES
from ddsp_cli.exporters.litert import Stream, TfliteOps
from ddsp_cli.synthesis.decoder import NOTE_BIAS, playable_columns
from ddsp_cli.synthesis.litert_decoder import (
    AMPLITUDE,
    DISTRIBUTION,
    F0,
    FRAME_RATE_HZ,
    INPUTS,
    LEVEL,
    NEW_STATE,
    NOISE,
    OUTPUTS,
    SAMPLE_RATE_HZ,
    STATE,
)
from ddsp_cli.synthesis.ops import NumpyOps, Ops, Tensor

N_UNITS, N_HARMONICS, N_BANDS = INPUTS[STATE], OUTPUTS[DISTRIBUTION], OUTPUTS[NOISE]

#: Percentiles of the notes that bound the range that the plug-in shows.
SHOWN_PERCENTILES = (5, 95)

#: Decoder inputs in words.
SPOKEN = {"pw_scaled": "power", "ld_scaled": "loudness", "f0_scaled": "pitch", "z": "timbre"}

#: Samples that the plug-in analyses at once, its frame (util/Constants.h).
PLUGIN_FRAME_SAMPLES = 1024

#: Highest version of each operator that the plug-in's TensorFlow Lite (2.9) registers. No others may be used.
OPERATOR_VERSIONS = {
    "ADD": 4, "BATCH_MATMUL": 4, "CAST": 4, "CONCATENATION": 3, "DIV": 2, "EQUAL": 3, "EXP": 1, "EXPAND_DIMS": 1,
    "FILL": 3, "FULLY_CONNECTED": 9, "GATHER": 5, "GREATER": 2, "GREATER_EQUAL": 2, "LEAKY_RELU": 2, "LESS": 2,
    "LESS_EQUAL": 2, "LOG": 1, "LOGICAL_AND": 1, "LOGISTIC": 3, "MAXIMUM": 4, "MEAN": 3, "MINIMUM": 4, "MUL": 5,
    "NEG": 1, "PACK": 3, "POW": 1, "RESHAPE": 1, "RSQRT": 2, "SELECT": 2, "SELECT_V2": 1, "SHAPE": 1, "SLICE": 5,
    "SPLIT": 4, "SPLIT_V": 2, "SQRT": 1, "SQUARED_DIFFERENCE": 2, "SQUEEZE": 2, "STRIDED_SLICE": 6, "SUB": 5,
    "SUM": 2, "TANH": 3, "TRANSPOSE": 5, "UNPACK": 4, "WHILE": 1,
}  # fmt: skip

#: Entries of the metadata that the plug-in reads (audio/tflite/ModelLibrary.cpp:92-321).
METADATA_NUMBERS = (
    "mean_min_pitch_note_hz",
    "mean_max_pitch_note_hz",
    "mean_min_power_note",
    "mean_max_power_note",
)
METADATA_TEXTS = ("version", "export_time")


def export(bundle: Bundle, folder: Path) -> checks.Exported:
    """Writes NAME.tflite, checks every row of the contract on the file and streams a phrase through it.

    An instrument whose network already is such a file gets the file back unchanged, with metadata if they were missing.

    Raises:
      ModelError: an instrument of a shape that the plug-in does not play.
      OutputError: the written file breaks the contract or does not agree with the bundle.
    """
    path = folder / f"{file_stem(bundle.card.name)}.tflite"
    if bundle.network is None:
        check_shape(bundle)
        content, interface = build(bundle)
    else:
        content, interface = bundle.network, {"inputs": _shapes(INPUTS), "outputs": _shapes(OUTPUTS)}
    path.write_bytes(content)
    if bundle.network is None or not zipfile.is_zipfile(path):
        with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
            archive.writestr(METADATA, json.dumps(metadata(bundle)))
    write_impulse_responses(bundle, folder)
    n_rows = check_file(path.read_bytes())
    measured = {
        "controls_difference": checks.controls_difference(*_stream(bundle, path)),
        "checked_frames": float(checks.CHECKED_FRAMES),
        "contract_rows": float(n_rows),
    }
    return checks.Exported(measured, {path.name: interface})


def file_stem(name: str) -> str:
    """Makes a file name that every file system takes; the plug-in shows it in its list."""
    return "".join("-" if c in '<>:"/\\|?*' or ord(c) < 32 else c for c in name).strip(" .") or "instrument"


def is_written_by_ddsp(path: Path, content: bytes) -> bool:
    """Whether a file is an export of this program, by its metadata, or already holds this content."""
    try:
        if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
            return True
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(METADATA).file_size > MAX_METADATA_BYTES:
                return False
            return "percentiles" in json.loads(archive.read(METADATA))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, RecursionError, NotImplementedError):
        return False


def check_shape(bundle: Bundle) -> None:
    """Checks that the plug-in plays an instrument, and plays it right.

    Raises:
      ModelError: with the reason and what to do.
    """
    model = bundle.card.model
    harmonic, noise = audio_graph.synthesisers(model)
    wanted = {
        f"is driven by {' and '.join(SPOKEN[name] for name in model.inputs)}": set(model.inputs)
        == {"pw_scaled", "f0_scaled"},
        f"has {model.frame_rate_hz} frames a second": model.frame_rate_hz == FRAME_RATE_HZ,
        f"plays at {model.sample_rate_hz} Hz": model.sample_rate_hz % SAMPLE_RATE_HZ == 0,
        f"has {model.sizes.rnn_units} recurrent units": model.sizes.rnn_units <= N_UNITS,
        f"has {harmonic.n_harmonics} harmonics": harmonic.n_harmonics == N_HARMONICS
        or (model.sample_rate_hz > SAMPLE_RATE_HZ and harmonic.n_harmonics > N_HARMONICS),
        f"has {noise.n_bands} noise bands": (noise.n_bands - 1) * SAMPLE_RATE_HZ
        == (N_BANDS - 1) * model.sample_rate_hz,
        "counts harmonics above Nyquist": harmonic.normalize_below_nyquist,
    }
    wrong = [what for what, holds in wanted.items() if not holds]
    if wrong:
        raise ModelError(
            f"DDSP-VST cannot play this instrument: it {' and '.join(wrong)}; the plug-in plays power and pitch at "
            f"{FRAME_RATE_HZ} frames a second, {SAMPLE_RATE_HZ} Hz or a multiple, up to {N_UNITS} units, "
            f"{N_HARMONICS} harmonics, {N_BANDS} noise bands",
            "Train it again with the preset hifi, light or vst, or export it as litert or onnx.",
        )


def build(bundle: Bundle) -> tuple[bytes, dict[str, Any]]:
    """Writes the file without its metadata.

    Returns:
      The file, and its `inputs` and `outputs` with their shapes.
    """
    bundle = widened(harmonics_first(bundle), N_UNITS)
    ops = TfliteOps()
    # The order of Magenta's files, though the plug-in goes by names.
    f0, power, state = (ops.input(name, (size,)) for name, size in INPUTS.items())
    scaled = {"f0_scaled": ops.reshape(f0, (1, 1)), "pw_scaled": ops.reshape(power, (1, 1))}
    f0_hz = audio_graph.f0_from_scaled(ops, scaled["f0_scaled"])
    controls, new_state = audio_graph.decode_controls(ops, bundle, scaled, f0_hz, ops.reshape(state, (1, N_UNITS)))
    controls = low_band(ops, bundle.card.model, controls, f0_hz)
    tensors = dict(zip((AMPLITUDE, DISTRIBUTION, NOISE), CONTROL_NAMES, strict=True))
    for tensor, size in OUTPUTS.items():
        ops.output(tensor, new_state if tensor == NEW_STATE else controls[tensors[tensor]], (size,))
    return ops.finish(f"{bundle.card.name}, a DDSP-VST instrument"), ops.interface()


def metadata(bundle: Bundle) -> dict[str, Any]:
    """Makes the metadata appended to the model, for the plug-in and for `ddsp import`.

    By `export_time` a saved session of the plug-in finds its model again.
    """
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
        "num_harmonics": N_HARMONICS,
        "num_noise_amps": N_BANDS,
        "frame_rate": model.frame_rate_hz,
        "frame_size": PLUGIN_FRAME_SAMPLES,
        "sample_rate": SAMPLE_RATE_HZ,
        "licence": bundle.card.licence,
        "sources": to_plain(bundle.card.sources),
        "percentiles": to_plain(statistics),  # nothing to the plug-in, all to `ddsp import`
    }


def _shapes(sizes: dict[str, int]) -> dict[str, list[int]]:
    return {name: [size] for name, size in sizes.items()}


def _stream(bundle: Bundle, path: Path) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Computes controls and last state of the test phrase with the file and with the player."""
    played = checks.phrase(bundle)
    found = Stream(path, {STATE: NEW_STATE}).run(
        {F0: np.asarray(scaling.scale_f0(played.f0_hz)), LEVEL: np.asarray(scaling.scale_db(played.level_db))}
    )
    controls = dict(zip(CONTROL_NAMES, (found[tensor] for tensor in (AMPLITUDE, DISTRIBUTION, NOISE)), strict=True))
    expected = checks.expected_controls(bundle, played)
    expected |= low_band(NumpyOps(), bundle.card.model, expected, played.f0_hz[:, None])
    # The state of units that were added stays at 0.
    expected["state"] = np.pad(expected["state"], ((0, 0), (0, N_UNITS - expected["state"].shape[1])))
    return controls | {"state": found[NEW_STATE][-1]}, expected


# --- fitting an instrument into the plug-in's sizes -----------------------------------------------------------------


def harmonics_first(bundle: Bundle) -> Bundle:
    """Brings the processors, and the decoder's columns with them, into the order of Magenta's files.

    An importer that reads the weights out of a file then finds its columns in the order that all such files have.
    """
    model = bundle.card.model
    columns = playable_columns(model)
    order = np.concatenate([np.r_[columns[name]] for name in CONTROL_NAMES])
    nodes = dict(found for kind in (HarmonicConfig, FilteredNoiseConfig) if (found := model.only(kind)) is not None)
    weights = dict(bundle.weights)
    for name in ("decoder/dense_out/kernel", "decoder/dense_out/bias", NOTE_BIAS):
        if name in weights:
            weights[name] = weights[name][..., order]
    card = revise(bundle.card, model=msgspec.structs.replace(model, processors=nodes | model.processors))
    return dataclasses.replace(bundle, card=card, weights=weights)


def widened(small: Bundle, units: int) -> Bundle:
    """Adds units to the GRU of an instrument, up to `units`, without a change of its sound.

    The weights of the new units are 0: their candidate is tanh(0) = 0 for any input, so their state stays at 0,
    and no other weight reads them.

    Args:
      small: an instrument with that number of units or fewer.
      units: wanted.

    Raises:
      ValueError: it has more.
    """
    model = small.card.model
    decoder = model.sizes
    n_new = units - decoder.rnn_units
    if n_new < 0:
        raise ValueError(f"{decoder.rnn_units} units do not fit into {units}")
    if n_new == 0:
        return small
    weights = dict(small.weights)
    for part in ("kernel", "recurrent_kernel", "bias"):
        name = f"decoder/rnn/{part}"
        gates = np.split(weights[name], 3, axis=-1)
        weights[name] = np.concatenate([_with_zeros(gate, n_new, axis=-1) for gate in gates], axis=-1)
    # Units come last wherever they are read.
    reader = "decoder/out_stack/0/dense/kernel" if decoder.layers_per_stack else "decoder/dense_out/kernel"
    for name in ("decoder/rnn/recurrent_kernel", reader):
        weights[name] = _with_zeros(weights[name], n_new, axis=0)
    wide = msgspec.structs.replace(decoder, rnn_units=units)
    card = revise(small.card, model=msgspec.structs.replace(model, decoder=wide))
    return dataclasses.replace(small, card=card, weights=weights)


def low_band(ops: Ops, model: ModelConfig, controls: Mapping[str, Tensor], f0_hz: Tensor) -> dict[str, Tensor]:
    """Takes the controls of the band below 8 kHz out of those of a full-band instrument.

    Harmonics keep their amplitudes, noise its power per Hz: white noise of one variance has more of it at the plug-in's
    lower rate. Controls at the plug-in's rate stay as they are.

    Args:
      ops: the format.
      model: the instrument's.
      controls: by `CONTROL_NAMES`, scaled, [F, C] each.
      f0_hz: [F, 1].
    """
    ratio = model.sample_rate_hz // SAMPLE_RATE_HZ
    if ratio == 1:
        return dict(controls)
    k = ops.constant(np.arange(1, N_HARMONICS + 1, dtype=np.float32)[None])
    inside = ops.less(ops.binary("mul", f0_hz, k), ops.constant(SAMPLE_RATE_HZ / 2.0))
    shares = ops.binary("mul", ops.columns(controls["harmonic_distribution"], 0, N_HARMONICS), inside)
    total = ops.sum(shares)
    noise = ops.columns(controls["noise_magnitudes"], 0, N_BANDS)
    return {
        "amplitude": ops.binary("mul", controls["amplitude"], total),
        "harmonic_distribution": ops.binary(
            "div", shares, ops.binary("maximum", total, ops.constant(scaling.CONTROL_FLOOR))
        ),
        "noise_magnitudes": ops.binary("mul", noise, ops.constant(1.0 / math.sqrt(ratio))),
    }


def _with_zeros(values: FloatArray, n_new: int, axis: int) -> FloatArray:
    shape = list(values.shape)
    shape[axis] = n_new
    return np.concatenate([values, np.zeros(shape, values.dtype)], axis=axis)


# --- requirements of the plug-in -----------------------------------------------------------------------------------


def check_file(data: bytes) -> int:
    """Checks every demand of the plug-in on the bytes of a file.

    Read from magenta/ddsp-vst 1.1.0: util/Constants.h:30-63, audio/tflite/ModelLibrary.cpp:92-321,
    audio/tflite/PredictControlsModel.cpp:26-136.

    Returns:
      How many rows were checked.

    Raises:
      OutputError: the rows that do not hold, in words.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    rows = {
        "the file cannot be taken for text: byte 0 is 1 to 127 and byte 1 is 0": 1 <= data[0] <= 127 and not data[1]
    }
    rows["it is a TensorFlow Lite file of schema 3"] = data[4:8] == b"TFL3" and model.version == 3
    rows |= _operator_rows(schema, model)
    main = model.subgraphs[0]
    rows |= _tensor_rows(schema, main, main.inputs, INPUTS, "input")
    rows |= _tensor_rows(schema, main, main.outputs, OUTPUTS, "output")
    rows |= _metadata_rows(data)
    broken = [row for row, holds in rows.items() if not holds]
    if broken:
        raise OutputError(f"DDSP-VST would refuse the exported file; violated: {'; '.join(broken)}")
    return len(rows)


def _operator_rows(schema: Any, model: Any) -> dict[str, bool]:
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    rows = {}
    for code in model.operatorCodes:
        name = names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "an unknown operator")
        known = not code.customCode and code.version <= OPERATOR_VERSIONS.get(name, 0)
        rows[f"{name} version {code.version} is a builtin of TensorFlow Lite 2.9"] = known
    return rows


def _tensor_rows(schema: Any, graph: Any, indices: Any, wanted: dict[str, int], kind: str) -> dict[str, bool]:
    tensors = [graph.tensors[i] for i in indices]
    found = {tensor.name.decode(): tensor for tensor in tensors}
    rows = {f"there are exactly {len(wanted)} {kind}s": len(tensors) == len(found) == len(wanted)}
    for name, size in wanted.items():
        tensor = found.get(name)
        rows[f"there is an {kind} {name}"] = tensor is not None
        fits = tensor is not None and list(tensor.shape) == [size] and tensor.type == schema.TensorType.FLOAT32
        static = tensor is not None and tensor.shapeSignature is None
        rows[f"{kind} {name} is {size} float32 of static shape"] = fits and static
    return rows


def _metadata_rows(data: bytes) -> dict[str, bool]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found = json.loads(archive.read(METADATA))
    except (zipfile.BadZipFile, KeyError, ValueError):
        return {"a ZIP archive with metadata.json follows the model": False}
    rows = {"a ZIP archive with metadata.json follows the model": True}
    rows |= {f"its {key} is a number": isinstance(found.get(key), float | int) for key in METADATA_NUMBERS}
    return rows | {f"its {key} is a text": isinstance(found.get(key), str) for key in METADATA_TEXTS}
