"""What the DDSP-VST plug-in demands of a model file, as checks on the bytes.

Read from magenta/ddsp-vst 1.1.0: util/Constants.h:30-63, audio/tflite/ModelLibrary.cpp:92-321,
audio/tflite/PredictControlsModel.cpp:26-136.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

from ddsp_cli.errors import OutputError
from ddsp_cli.synthesis.litert_decoder import INPUTS, OUTPUTS

#: Highest version of each operator that the plug-in's TensorFlow Lite (2.9) registers. No others may be used.
OPERATOR_VERSIONS = {
    "ADD": 4, "BATCH_MATMUL": 4, "CAST": 4, "CONCATENATION": 3, "DIV": 2, "EQUAL": 3, "EXP": 1, "EXPAND_DIMS": 1,
    "FILL": 3, "FULLY_CONNECTED": 9, "GATHER": 5, "GREATER": 2, "GREATER_EQUAL": 2, "LEAKY_RELU": 2, "LESS": 2,
    "LESS_EQUAL": 2, "LOG": 1, "LOGICAL_AND": 1, "LOGISTIC": 3, "MAXIMUM": 4, "MEAN": 3, "MINIMUM": 4, "MUL": 5,
    "NEG": 1, "PACK": 3, "POW": 1, "RESHAPE": 1, "RSQRT": 2, "SELECT": 2, "SELECT_V2": 1, "SHAPE": 1, "SLICE": 5,
    "SPLIT": 4, "SPLIT_V": 2, "SQRT": 1, "SQUARED_DIFFERENCE": 2, "SQUEEZE": 2, "STRIDED_SLICE": 6, "SUB": 5,
    "SUM": 2, "TANH": 3, "TRANSPOSE": 5, "UNPACK": 4, "WHILE": 1,
}  # fmt: skip

METADATA_NUMBERS = (
    "mean_min_pitch_note_hz",
    "mean_max_pitch_note_hz",
    "mean_min_power_note",
    "mean_max_power_note",
)
METADATA_TEXTS = ("version", "export_time")


def check_file(data: bytes) -> int:
    """Checks every row of the contract.

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
    rows |= _operators(schema, model)
    main = model.subgraphs[0]
    rows |= _tensors(schema, main, main.inputs, INPUTS, "input")
    rows |= _tensors(schema, main, main.outputs, OUTPUTS, "output")
    rows |= _metadata(data)
    broken = [row for row, holds in rows.items() if not holds]
    if broken:
        raise OutputError(f"DDSP-VST would not take the exported file, these do not hold: {'; '.join(broken)}")
    return len(rows)


def _operators(schema: Any, model: Any) -> dict[str, bool]:
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    rows = {}
    for code in model.operatorCodes:
        name = names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "an unknown operator")
        known = not code.customCode and code.version <= OPERATOR_VERSIONS.get(name, 0)
        rows[f"{name} version {code.version} is a builtin of TensorFlow Lite 2.9"] = known
    return rows


def _tensors(schema: Any, graph: Any, indices: Any, wanted: dict[str, int], kind: str) -> dict[str, bool]:
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


def _metadata(data: bytes) -> dict[str, bool]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found = json.loads(archive.read("metadata.json"))
    except (zipfile.BadZipFile, KeyError, ValueError):
        return {"a ZIP archive with metadata.json follows the model": False}
    rows = {"a ZIP archive with metadata.json follows the model": True}
    rows |= {f"its {key} is a number": isinstance(found.get(key), float | int) for key in METADATA_NUMBERS}
    return rows | {f"its {key} is a text": isinstance(found.get(key), str) for key in METADATA_TEXTS}
