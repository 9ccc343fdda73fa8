"""Packages that are not simply imported: those that only some commands need, and ONNX Runtime without its telemetry.

`ddsp-cli` installs all packages but those of its extras; `ddsp-cli-player` leaves out what training and export need.

ONNX Runtime sends usage data to its maker unless that is switched off: on Linux and macOS from version 1.29, on Windows
since 1.0. It also writes a device id below the user's cache folder. This is the only module that imports it, so
nothing else can forget the switch; libraries that import it themselves (swift-f0) are imported after
`load_onnx_runtime`.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from ddsp_cli.errors import UsageError

#: Module → the name of its package in registries.
_NAMES = {
    "ai_edge_litert": "LiteRT",
    "dask_jobqueue": "dask-jobqueue",
    "distributed": "Dask distributed",
    "flatbuffers": "FlatBuffers",
    "jax": "JAX",
    "keras": "Keras",
    "onnx": "ONNX",
    "tensorflow": "TensorFlow",
    "torch": "PyTorch",
    "upath": "universal-pathlib",
}


def require(what: str, *modules: str) -> None:
    """Checks that modules can be imported, without importing them.

    Args:
      what: needs them, as the subject of the error message: "training", "pitch tracker pyin".
      *modules: top-level modules.

    Raises:
      UsageError: one is missing; the hint says what to install.
    """
    _require(what, modules, "Install the complete program: pip install ddsp-cli")


def require_extra(extra: str, what: str, *modules: str) -> None:
    """Checks that modules of one of our extras can be imported, without importing them.

    Args:
      extra: name of the extra.
      what: needs them, as the subject of the error message.
      *modules: top-level modules.

    Raises:
      UsageError: one is missing; the hint says what to install.
    """
    _require(what, modules, f"Install it with: pip install 'ddsp-cli[{extra}]'")


def _require(what: str, modules: tuple[str, ...], hint: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise UsageError(f"{what} needs {_NAMES.get(module, module)}, which is not installed", hint)


def load_onnx_runtime() -> Any:
    """Imports ONNX Runtime with telemetry off, for this process and for those that it starts.

    Returns:
      The module `onnxruntime`.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when the library is loaded; worker processes inherit it
    import onnxruntime

    # A program that uses us as a library may have imported ONNX Runtime before us.
    switch = getattr(onnxruntime, "disable_telemetry_events", None)
    if switch is not None:
        switch()
    return onnxruntime
