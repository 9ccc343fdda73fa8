"""Timbre transfer with differentiable digital signal processing (DDSP, Engel et al., ICLR 2020).

    flute = ddsp_cli.load("flute")
    audio, sample_rate = ddsp_cli.transfer(audio, 44100, flute)

`docs/python.md` shows all of it. Importing this package loads nothing else; each name loads its own modules.
"""

from __future__ import annotations

__version__ = "0.1.0"

#: The module that each public name comes from, and its name there if that differs; `__init__.pyi` lists
#: the same to editors and type checkers.
_HOMES = {
    "Instrument": "api",
    "analyze": "api",
    "load": "api",
    "transfer": "api",
    "transfer_file": "api",
    "transfer_files": "workflows.transfer",
    "reverb_files": "workflows.reverb",
    "prepare": "workflows.prepare",
    "train": "workflows.train",
    "evaluate": "workflows.evaluate",
    "export": "workflows.export",
    "import_instrument": "workflows.import_",
    "models": "workflows.models:catalogue",
    "DdspError": "errors",
    "UsageError": "errors",
    "InputError": "errors",
    "ModelError": "errors",
    "DatasetError": "errors",
    "OutputError": "errors",
}

__all__ = [*_HOMES, "__version__"]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module, _, other_name = _HOMES[name].partition(":")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), other_name or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
