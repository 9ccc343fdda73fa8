"""`ddsp live`: options, single keys from the terminal, and its display."""

import itertools
import os
import sys
import textwrap
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from ddsp_cli.cli import console
from ddsp_cli.cli.options import Force, Instruments, Seed, one_of
from ddsp_cli.errors import InputError
from ddsp_cli.pitch_names import note_name

if TYPE_CHECKING:
    from ddsp_cli.workflows.live import LiveSession, LiveView


#: How often keys are read, and in how many of these times the view is drawn.
TICK_S, DRAWN_EVERY = 0.04, 3

#: Change by one press of the gate keys.
GATE_STEP_DB = 3.0

#: The longest performance whose end is set before: a week.
LONGEST_S = 7 * 86400.0

#: Widths of the input meter, and the level at its left end.
METER_CELLS, METER_FLOOR_DB = 30, -60.0

KEYS = "1-9 instrument, up/down octave, o room, [ ] gate, m mute, r record, q quit"

EPILOG = """
Examples:

  ddsp live --model flute

  ddsp live -m flute -m violin --transpose 12 --record take.wav

  ddsp live -m cello --midi --voices 4

  ddsp live --list
"""

#: Options whose value may be left out.
VALUE_OPTIONAL = ("--midi",)


def live(
    model: Instruments = None,
    input: Annotated[
        str | None, typer.Option("--input", metavar="DEVICE", help="Microphone: its name, part of it, or its number.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="DEVICE", help="Headphones or loudspeaker: name, part of it, or number."),
    ] = None,
    transpose: Annotated[
        str, typer.Option(metavar="SEMITONES", help="Transposition; 12 is an octave up, -60..60.")
    ] = "0",
    threshold: Annotated[
        str, typer.Option(metavar="DB", help="Notes more than this many dB below the loudest ones are silent, 3..80.")
    ] = "35",
    block: Annotated[
        int,
        typer.Option(
            metavar="SAMPLES",
            help="Block size of the audio device: smaller blocks have less latency, larger ones fewer drop-outs.",
        ),
    ] = 256,
    latency: Annotated[
        str, typer.Option(help="low plays 26 ms earlier but follows your pitch less exactly.", **one_of("safe", "low"))
    ] = "safe",
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Record the output to this file from the start.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(metavar="S", help="End after this many seconds.")] = None,
    midi: Annotated[
        str | None,
        typer.Option(
            metavar="[PORT]", help="Play from a MIDI keyboard: its name, part of it, or number; by default the first."
        ),
    ] = None,
    voices: Annotated[
        int, typer.Option(metavar="N", help="Number of keys that sound at once, 1..16; 1 plays one line, legato.")
    ] = 1,
    list_: Annotated[bool, typer.Option("--list", help="List audio devices and MIDI ports.")] = False,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Play an instrument with your voice or a MIDI keyboard."""
    if list_:
        _list()
        return
    from ddsp_cli.workflows.arguments import number
    from ddsp_cli.workflows.live import LiveSession

    if seconds is not None:  # NaN would never be reached
        seconds = number(seconds, "seconds", 0.0, LONGEST_S)
    session = LiveSession(
        model or [], input=input, output=output, transpose=transpose, threshold=threshold, block=block, record=record,
        force=force, seed=seed, latency=latency, midi=midi, voices=voices,
    )  # fmt: skip
    try:
        with session:
            _run(session, seconds)
    finally:
        for path in session.recordings:
            console.say(str(path))


def _list() -> None:
    """Prints the devices, with the numbers that name them."""
    from ddsp_cli.live.devices import list_devices, list_midi_ports

    system, devices = list_devices()
    rows, counts = [], {"input": 0, "output": 0}
    for device in devices:
        counts[device.direction] += 1
        rates = ", ".join(f"{rate / 1000:g}" for rate in device.rates_hz[:8]) or "any"
        rows.append([device.direction, str(counts[device.direction]), device.name, rates])
    remarks = [f"Sound system: {system}."]
    try:
        rows += [["midi", str(i + 1), name, ""] for i, name in enumerate(list_midi_ports())]
    except InputError as problem:
        remarks.append(f"MIDI: {problem}")
    for remark in remarks:
        console.remark(remark)
    if rows:
        console.table(["direction", "number", "name", "kHz"], rows)
    else:
        console.say("There are no audio devices and no MIDI ports.")


def _run(session: "LiveSession", seconds: float | None) -> None:
    """Updates the display and handles keys until the performance ends."""
    with Keys() as keys, _View(session.names, keys.is_open) as view:
        for tick in itertools.count():
            now = session.view()
            if now is None:
                return
            if tick % DRAWN_EVERY == 0:
                view.show(now)
            if seconds is not None and now.status.seconds >= seconds:
                return
            for key in keys.pressed():
                if key in {"q", "\x03", "\x04"}:
                    return
                handle_key(session, key)
            time.sleep(TICK_S)


def handle_key(session: "LiveSession", key: str) -> None:
    """Handles a key; unknown keys do nothing."""
    from ddsp_cli.workflows.performance import RANGES

    controls = session.controls
    if key.isdecimal() and 1 <= int(key) <= len(session.names):
        session.change(instrument=int(key) - 1)
    elif key in {"n", "right"}:
        session.change(instrument=(controls.instrument + 1) % len(session.names))
    elif key in {"p", "left"}:
        session.change(instrument=(controls.instrument - 1) % len(session.names))
    elif key in {"up", "down", "+", "-"}:
        transpose = controls.transpose + (12.0 if key in {"up", "+"} else -12.0)
        low, high = RANGES["transpose"]
        if low <= transpose <= high:
            session.change(transpose=transpose)
    elif key == "o":
        session.change(room=not controls.room)
    elif key in {"[", "]"}:
        # A higher gate lets less through: its threshold is nearer to the loudest notes.
        below_db = controls.below_peak_db + (GATE_STEP_DB if key == "[" else -GATE_STEP_DB)
        low_db, high_db = RANGES["threshold"]
        session.change(below_peak_db=min(max(below_db, low_db), high_db))
    elif key == "m":
        session.change(muted=not controls.muted)
    elif key == "r":
        session.toggle_recording()


class _View:
    """Draws on a terminal; elsewhere it prints a line every ten seconds, and each warning once."""

    def __init__(self, names: tuple[str, ...], has_keys: bool) -> None:
        self._names, self._has_keys = names, has_keys
        self._live: Any = None
        self._stream = sys.stderr  # rich puts a proxy without an encoding into its place
        self._spoken_s = time.monotonic()
        self._said: set[str] = set()

    def __enter__(self) -> Self:
        if console.is_terminal(sys.stderr):
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True, highlight=False), auto_refresh=False, transient=True)
            self._live.start()
        else:
            console.remark(f"Playing {self._names[0]}; end with Ctrl-C.")
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, view: "LiveView") -> None:
        """Displays the state of the performance."""
        if self._live is not None:
            from rich.text import Text

            draws = console.displayable(self._stream, "█·") == "█·"
            width = self._live.console.width
            cells = ("█", "·") if draws else ("#", ".")
            styled = [(line, "") for line in describe(view, self._names, cells, width)]
            styled += [(line, "bold yellow") for remark in view.remarks for line in textwrap.wrap(remark, width)]
            if self._has_keys:
                styled.append((KEYS, "dim"))
            text = Text(no_wrap=True, overflow="crop")
            for i, (line, style) in enumerate(styled):
                text.append(("\n" if i else "") + console.displayable(self._stream, line), style)
            self._live.update(text, refresh=True)
            return
        for remark in view.remarks:
            if remark not in self._said:
                console.remark(remark)
        self._said |= set(view.remarks)
        now_s = time.monotonic()
        if now_s - self._spoken_s >= console.LINE_EVERY_S:
            self._spoken_s = now_s
            console.remark(one_line(view))


def describe(
    view: "LiveView", names: tuple[str, ...], cells: tuple[str, str] = ("█", "·"), width: int = 80
) -> list[str]:
    """Formats the lines for a terminal of a width; `cells` are a full and an empty one of the meter."""
    from ddsp_cli.live.priority import Priority

    status, controls = view.status, view.controls
    # Spaces that do not break keep a number with its name.
    listed = [f"{'>' if i == controls.instrument else chr(160)}{i + 1}{chr(160)}{name}" for i, name in enumerate(names)]
    lines = [line.replace(chr(160), " ") for line in textwrap.wrap("  ".join(listed), width, break_on_hyphens=False)]
    filled = round((status.input_db - METER_FLOOR_DB) / -METER_FLOOR_DB * METER_CELLS)
    filled = min(max(filled, 0), METER_CELLS)
    meter = cells[0] * filled + cells[1] * (METER_CELLS - filled)
    recording = "not recording"
    if view.recording:
        recording = f"recording {console.duration(view.recorded_s)} {view.recording.name}"
    return [
        *lines,
        f"input     {meter} {max(status.input_db, METER_FLOOR_DB):4.0f} dBFS",
        f"pitch     {_pitches(view)}",
        f"octave    {controls.transpose / 12:+g}   room {'on' if controls.room else 'off'}   "
        f"gate -{controls.below_peak_db:g} dB   {'MUTED   ' if controls.muted else ''}{recording}",
        f"latency   {1000 * status.latency_s:.0f} ms   load {status.load:.0%}   drop-outs {status.n_dropouts:.0f}   "
        f"priority {Priority(round(status.priority)).words}",
    ]


def one_line(view: "LiveView") -> str:
    """Formats the state in one line, for a log."""
    status = view.status
    return (
        f"{view.instrument}: input {status.input_db:.0f} dBFS, {_pitches(view)}, latency "
        f"{1000 * status.latency_s:.0f} ms, load {status.load:.0%}, drop-outs {status.n_dropouts:.0f}"
    )


def _pitches(view: "LiveView") -> str:
    """Formats F0 of the input and of the output: `A4 +12 cents → A5`."""
    status = view.status
    if not status.plays or status.f0_hz <= 0.0:
        return "no note"
    return f"{pitch(status.f0_hz)} → {pitch(status.played_hz)}"


def pitch(f0_hz: float) -> str:
    """Returns the nearest note of a frequency and how far off it is: `A4 +12 cents`."""
    from ddsp_cli.scaling import hz_to_midi

    midi = float(hz_to_midi(f0_hz))
    return f"{note_name(midi)} {100.0 * (midi - round(midi)):+.0f} cents"


#: The arrow keys: last letters of the escape sequences of terminals, and what msvcrt gives after a prefix.
_ESCAPES = {"A": "up", "B": "down", "C": "right", "D": "left"}
_MSVCRT = {"H": "up", "P": "down", "M": "right", "K": "left"}


class Keys:
    """Reads keys as they are pressed while it is open; gives none where standard input is no terminal."""

    def __init__(self) -> None:
        self._before: Any = None
        self.is_open = False

    def __enter__(self) -> Self:
        if not console.is_terminal(sys.stdin):
            return self
        if sys.platform != "win32":
            import termios
            import tty

            try:
                self._before = termios.tcgetattr(sys.stdin.fileno())
                tty.setcbreak(sys.stdin.fileno())  # keys come one by one and are not shown; Ctrl-C still interrupts
            except termios.error:
                return self
        self.is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_open = False
        if sys.platform != "win32" and self._before is not None:
            import termios

            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)

    def pressed(self) -> list[str]:
        """Returns the keys since the last call: characters, or `up`, `down`, `left`, `right`."""
        if not self.is_open:
            return []
        if sys.platform == "win32":
            import msvcrt

            keys = []
            while msvcrt.kbhit():
                character = msvcrt.getwch()
                keys.append(_MSVCRT.get(msvcrt.getwch(), "") if character in "\x00\xe0" else character)
            return keys
        import select

        descriptor, found = sys.stdin.fileno(), b""
        while select.select([descriptor], [], [], 0.0)[0]:
            part = os.read(descriptor, 64)
            if not part:  # the terminal has closed
                break
            found += part
        return key_names(found.decode(errors="replace"))


def key_names(text: str) -> list[str]:
    """Splits the bytes that a terminal sends into characters and arrow keys."""
    keys, at = [], 0
    while at < len(text):
        if text[at] == "\x1b" and text[at + 1 : at + 2] in {"[", "O"} and text[at + 2 : at + 3] in _ESCAPES:
            keys.append(_ESCAPES[text[at + 2]])
            at += 3
        else:
            keys.append(text[at])
            at += 1
    return keys
