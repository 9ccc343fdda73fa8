"""Check for packages that only some commands need, and say what to install.

`ddsp-cli` installs all of them but those of its extras. `ddsp-cli-player` leaves out what training and export need.
"""

from __future__ import annotations

import importlib.util

from ddsp_cli.errors import UsageError

#: Module → the package that users know it by.
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
