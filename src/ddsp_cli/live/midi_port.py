"""MIDI ports, through mido and python-rtmidi."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from ddsp_cli.errors import InputError, UsageError, did_you_mean
from ddsp_cli.live.devices import quiet

#: mido's back end for ports.
BACKEND = "mido.backends.rtmidi"


def _mido() -> Any:
    """Loads the library mido with its back end.

    Raises:
      InputError: python-rtmidi is not installed.
    """
    import mido

    try:
        importlib.import_module(BACKEND)
    except ImportError as problem:
        raise InputError(
            "a MIDI keyboard needs the package python-rtmidi", 'Install it with: pip install "ddsp-cli[midi]"'
        ) from problem
    mido.set_backend(BACKEND)
    return mido


def list_ports() -> list[str]:
    """Lists the names of the MIDI input ports.

    Raises:
      InputError: python-rtmidi is not installed, or the system has no MIDI.
    """
    mido = _mido()
    try:
        with quiet():
            return list(dict.fromkeys(mido.get_input_names()))
    except Exception as problem:  # python-rtmidi raises errors of its own
        raise InputError(f"this computer has no MIDI system that can be used: {problem}") from problem


def choose_port(name: str) -> str:
    """Finds a port by its name, a part of it, or its number in the list; the first one for "".

    Raises:
      InputError: there is none, or no such one.
      UsageError: several have this in their name.
    """
    ports = list_ports()
    if not ports:
        raise InputError("no MIDI keyboard was found", "Plug one in.")
    if not name:
        # Linux lists a port of its own that has no source.
        return next((port for port in ports if not port.startswith("Midi Through")), ports[0])
    if name.isdecimal() and 1 <= int(name) <= len(ports):
        return ports[int(name) - 1]
    matches = [port for port in ports if port.casefold() == name.casefold()]
    matches = matches or [port for port in ports if name.casefold() in port.casefold()]
    if len(matches) > 1:
        raise UsageError(f"{len(matches)} MIDI ports have {name} in their name: {', '.join(matches)}",
                         "Give more of it.", parameter="midi")  # fmt: skip
    if not matches:
        raise InputError(f"no MIDI port is called {name}", did_you_mean(name, ports), parameter="midi")
    return matches[0]


def open_port(name: str, take: Callable[[Any], None]) -> Any:
    """Opens a port; `take` is called with each message, in a thread of its own.

    Returns:
      The port; `close` ends it.

    Raises:
      InputError: it cannot be opened.
    """
    mido = _mido()
    try:
        return mido.open_input(name, callback=take)
    except Exception as problem:
        raise InputError(f"the MIDI port {name} cannot be opened: {problem}") from problem
