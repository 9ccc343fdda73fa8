"""List audio devices and MIDI ports; open a stream through a microphone and a loudspeaker, or from a keyboard.

Audio is built on miniaudio, whose wheels carry the back ends of every platform: WASAPI, Core Audio, ALSA, PulseAudio
(which PipeWire serves too) and JACK. The device called `null` is miniaudio's own: it captures silence and
discards the output, in real time. `SimulatedDevices` needs no time and no sound card. MIDI ports are reached through
mido and python-rtmidi.

Shapes: S samples, one channel.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeAlias

import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.errors import InputError, UsageError, did_you_mean

#: The null device: silence as input, no output.
NULL = "null"

#: ALSA's name for its own null device, its default where there is no sound card.
_ALSA_NULL = "Discard all samples"

#: Preferred rates, for devices that have several.
RATES_HZ = (48000, 44100, 96000, 88200, 32000, 24000, 22050, 16000)

Direction: TypeAlias = Literal["input", "output"]

#: Called by the audio thread with the input [S] float32; returns the next output, [S] float32.
Callback: TypeAlias = Callable[[FloatArray], FloatArray]


class Stream(Protocol):
    """A stream through devices; it runs from `start` until `close`."""

    rate_hz: int

    def start(self, callback: Callback) -> None:
        """Starts calling `callback` with every block."""

    def close(self) -> None:
        """Ends the stream and the calls of `callback`."""


@dataclass(frozen=True)
class Device:
    """A device that the system lists.

    Attributes:
      name: as the system calls it.
      direction: input or output.
      rates_hz: sample rates it runs at; empty if it takes any rate or does not report them.
    """

    name: str
    direction: Direction
    rates_hz: tuple[int, ...]


@dataclass(frozen=True)
class StreamSettings:
    """Devices to open, and their settings.

    Attributes:
      input: name or number of the microphone; None for the system's default, "" for none (a keyboard plays).
      output: name or number of the loudspeaker; None for the system's default.
      block_samples: samples of one block at the rate of the devices. miniaudio counts in whole milliseconds, and a
        driver may round it to a size that it supports.
    """

    input: str | None = None
    output: str | None = None
    block_samples: int = 256


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides messages of sound systems: ALSA prints dozens of lines while it searches for devices."""
    with Path(os.devnull).open("wb") as nowhere:
        kept = os.dup(2)
        try:
            os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


class _System:
    """miniaudio's view of the devices.

    Args:
      settings: decide between the null device and the real ones.

    Raises:
      InputError: there is no sound system, or miniaudio is not installed.
    """

    def __init__(self, settings: StreamSettings | None = None) -> None:
        try:
            import miniaudio
        except ImportError as problem:
            raise InputError(
                "audio devices need the package miniaudio, which has no wheel for this kind of computer",
                "Install a C compiler, and then: pip install miniaudio",
            ) from problem
        ends = {settings.input, settings.output} - {None, ""} if settings else set()
        self.is_null = NULL in ends
        if self.is_null and ends != {NULL}:
            raise UsageError(f"the device {NULL} cannot be combined with another", f"Give {NULL} for both.")
        real = [backend for backend in miniaudio.get_enabled_backends() if backend.name not in {"NULL", "CUSTOM"}]
        self.backends = [miniaudio.Backend.NULL] if self.is_null else sorted(real, key=lambda backend: backend.value)
        try:
            with quiet():
                self._devices = miniaudio.Devices(self.backends)
        except miniaudio.MiniaudioError as problem:
            raise InputError(
                "this computer has no sound system that can be used",
                "On Linux ddsp needs PipeWire, PulseAudio, JACK or ALSA.",
            ) from problem
        self.name = "null" if self.is_null else str(self._devices.backend)

    def found(self, direction: Direction) -> list[tuple[Device, Any]]:
        """Returns the devices of one direction with miniaudio's identifiers."""
        import miniaudio

        try:
            with quiet():
                listed = self._devices.get_captures() if direction == "input" else self._devices.get_playbacks()
        except miniaudio.MiniaudioError as problem:
            raise InputError(f"the {direction} devices cannot be listed: {problem}") from problem
        found = []
        for entry in listed:
            if str(entry["name"]).startswith(_ALSA_NULL):
                continue
            rates_hz = {int(native["samplerate"]) for native in entry["formats"]}
            known = () if 0 in rates_hz else tuple(sorted(rates_hz))
            name = f"{NULL} ({direction})" if self.is_null else str(entry["name"])
            found.append((Device(name, direction, known), entry["id"]))
        return found

    def choose(self, name: str | None, direction: Direction) -> tuple[Device, Any]:
        """Finds a device by its name, a part of it, or its number in the list; None for the system's default.

        Which of the listed devices the default is, miniaudio does not say; it gets a rate that all of them have.

        Raises:
          InputError: there is no device, or none matches.
          UsageError: several have this in their name.
        """
        found = self.found(direction)
        if not found:
            what = "microphone" if direction == "input" else "loudspeaker"
            raise InputError(f"no {what} was found", "Plug one in.")
        if self.is_null:
            return found[0]
        if name is None:
            rates_hz = [set(device.rates_hz) for device, _ in found if device.rates_hz]
            common = tuple(sorted(set.intersection(*rates_hz))) if rates_hz else ()
            return Device(f"the default {direction} device", direction, common), None
        if name.isdecimal() and 1 <= int(name) <= len(found):
            return found[int(name) - 1]
        wanted = name.casefold()
        matches = [pair for pair in found if pair[0].name.casefold() == wanted]
        matches = matches or [pair for pair in found if wanted in pair[0].name.casefold()]
        if len({device.name for device, _ in matches}) > 1:
            names = ", ".join(device.name for device, _ in matches)
            raise UsageError(f"{len(matches)} devices have {name} in their name: {names}", "Give more of it.",
                             parameter=direction)  # fmt: skip
        if not matches:
            hint = did_you_mean(name, [device.name for device, _ in found])
            raise InputError(f"no {direction} device is called {name}", hint, parameter=direction)
        return matches[0]


def list_devices() -> tuple[str, list[Device]]:
    """Returns the sound system in use, and its devices, inputs first.

    Raises:
      InputError: there is no sound system.
    """
    system = _System()
    directions: tuple[Direction, Direction] = ("input", "output")
    return system.name, [device for direction in directions for device, _ in system.found(direction)]


def check_devices(settings: StreamSettings) -> int:
    """Checks that devices exist, without opening them.

    Returns:
      The rate in Hz at which they will run.

    Raises:
      InputError, UsageError: see `_System.choose`.
    """
    system = _System(settings)
    ends = [system.choose(settings.output, "output")[0]]
    if settings.input != "":
        ends.append(system.choose(settings.input, "input")[0])
    return choose_rate_hz([device.rates_hz for device in ends])


def choose_rate_hz(rates_hz: list[tuple[int, ...]]) -> int:
    """Chooses a rate for devices with these rates: one that all have, else one of the first. () means any."""
    listed = [set(rates) for rates in rates_hz if rates]
    if not listed:
        return RATES_HZ[0]
    common = set.intersection(*listed) or listed[0]
    usable = [rate for rate in RATES_HZ if rate in common]
    return usable[0] if usable else max(common)


class DeviceStream:
    """A stream through real devices, or through the null device.

    The audio thread runs the callback: it must neither wait nor raise.

    Args:
      settings: which devices.

    Raises:
      InputError: they cannot be opened.
      UsageError: see `_System.choose`.
    """

    def __init__(self, settings: StreamSettings) -> None:
        import miniaudio

        system = _System(settings)
        output, output_id = system.choose(settings.output, "output")
        ends, input_id = [output], None
        sample_format = miniaudio.SampleFormat.FLOAT32
        self._has_input = settings.input != ""
        if self._has_input:
            microphone, input_id = system.choose(settings.input, "input")
            ends.append(microphone)
        self.rate_hz = choose_rate_hz([device.rates_hz for device in ends])
        # miniaudio names lengths of blocks in milliseconds.
        block_ms = max(1, round(1000 * settings.block_samples / self.rate_hz))
        common = {
            "sample_rate": self.rate_hz, "buffersize_msec": block_ms, "backends": system.backends, "app_name": "ddsp",
        }  # fmt: skip
        playback = {"playback_format": sample_format, "playback_channels": 1, "playback_device_id": output_id}
        capture = {"capture_format": sample_format, "capture_channels": 1, "capture_device_id": input_id}
        try:
            with quiet():
                if self._has_input:
                    self._device: Any = miniaudio.DuplexStream(**playback, **capture, **common)
                else:
                    self._device = miniaudio.PlaybackDevice(
                        output_format=sample_format, nchannels=1, device_id=output_id, **common
                    )
        except miniaudio.MiniaudioError as problem:
            names = " and ".join(device.name for device in ends)
            raise InputError(f"{names} cannot be opened: {problem}", "Is another program using it?") from problem

    def start(self, callback: Callback) -> None:
        """See `Stream`.

        Raises:
          InputError: the device does not start.
        """
        import miniaudio

        pump = self._pump_both(callback) if self._has_input else self._pump_output(callback)
        next(pump)
        try:
            self._device.start(pump)
        except miniaudio.MiniaudioError as problem:
            raise InputError(f"the audio device does not start: {problem}") from problem

    @staticmethod
    def _pump_both(callback: Callback) -> Generator[bytes, bytearray, None]:
        out = b""
        while True:
            captured = yield out
            out = callback(np.frombuffer(captured, np.float32)).tobytes()

    @staticmethod
    def _pump_output(callback: Callback) -> Generator[bytes, int, None]:
        out = b""
        while True:
            n_samples = yield out
            out = callback(np.zeros(n_samples, np.float32)).tobytes()

    def close(self) -> None:
        """See `Stream`."""
        self._device.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SimulatedDevices:
    """Simulates a pair of devices for tests and measurements: the input is given, the output is kept.

    Both ends belong to one converter without own buffers: the block that the callback returns is played while
    the next one is captured. So a callback that returns its input is one block late.

    Args:
      sound: [S] float32, the sound of the microphone.
      rate_hz: of the devices.
      block_samples: of each call.
      between: called after every block, such as to let a worker finish it.
    """

    def __init__(
        self, sound: FloatArray, rate_hz: int, block_samples: int, between: Callable[[], None] | None = None
    ) -> None:
        self.rate_hz = rate_hz
        self._sound, self._block, self._between = sound, block_samples, between
        self.played = np.zeros(0, np.float32)

    def start(self, callback: Callback) -> None:
        """Processes the whole input before it returns."""
        parts = [np.zeros(self._block, np.float32)]  # nothing is played while the first block is captured
        for begin in range(0, len(self._sound), self._block):
            parts.append(callback(self._sound[begin : begin + self._block]).copy())
            if self._between is not None:
                self._between()
        self.played = np.concatenate(parts)

    def close(self) -> None:
        """See `Stream`."""


#: mido's back end for ports.
MIDI_BACKEND = "mido.backends.rtmidi"


def _mido() -> Any:
    """Loads the library mido with its back end.

    Raises:
      InputError: python-rtmidi is not installed.
    """
    import mido

    try:
        importlib.import_module(MIDI_BACKEND)
    except ImportError as problem:
        raise InputError(
            "a MIDI keyboard needs the package python-rtmidi", 'Install it with: pip install "ddsp-cli[midi]"'
        ) from problem
    mido.set_backend(MIDI_BACKEND)
    return mido


def list_midi_ports() -> list[str]:
    """Lists the names of the MIDI input ports.

    Raises:
      InputError: python-rtmidi is not installed, or the system has no MIDI.
    """
    mido = _mido()
    try:
        with quiet():
            return list(dict.fromkeys(mido.get_input_names()))
    except Exception as problem:  # python-rtmidi raises its own errors
        raise InputError(f"this computer has no MIDI system that can be used: {problem}") from problem


def choose_midi_port(name: str) -> str:
    """Finds a port by its name, a part of it, or its number in the list; the first one for "".

    Raises:
      InputError: there is no port, or none matches.
      UsageError: several have this in their name.
    """
    ports = list_midi_ports()
    if not ports:
        raise InputError("no MIDI keyboard was found", "Plug one in.")
    if not name:
        # Linux lists one more port, which has no source
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


def open_midi_port(name: str, take: Callable[[Any], None]) -> Any:
    """Opens a port; `take` is called with each message, in a separate thread.

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
