"""ONNX Runtime with its telemetry switched off.

ONNX Runtime sends usage data to its maker unless it is told not to: on Linux and macOS from version 1.29, on Windows
since 1.0. It also writes a device id below the user's cache folder. This is the only module that imports it, so
nothing else can forget the switch; libraries that import it themselves (swift-f0) are imported after `load`.
"""

from __future__ import annotations

import os
from typing import Any


def load() -> Any:
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
