"""The microphone of the page through an instrument, over a WebSocket on the loopback.

    page → server   text    {"instrument": ..., "settings": {...}}: at the beginning, and when one of them changes
                    binary  number of the block as uint32, then its samples as float32, little-endian
    server → page   text    {"latency_s": ..., "instrument": ...} after each change, or {"error": ..., "hint": ...}
                    binary  the same number; as float32 the share of real time that the block took, and the F0 in Hz
                    of the input and of the output, 0 where no note sounds; then as many samples

Shapes: S samples.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from ddsp_cli.arrays import FloatArray
from ddsp_cli.audio.read import MAX_AMPLITUDE
from ddsp_cli.errors import DdspError, InputError, UsageError
from ddsp_cli.live.mixer import Fade
from ddsp_cli.live.performer import DEVICE_RATES_HZ, Performer
from ddsp_cli.studio.session import plain_settings

#: The longest block that is taken.
MAX_BLOCK_SAMPLES = 16384

#: Largest number of pages that play live at once.
MAX_LINES = 4

#: Settings of a live performance, with their defaults.
DEFAULTS: dict[str, float | str] = {
    "transpose": 0.0, "loudness": 0.0, "formant": 0.0, "room": "model", "wet": 1.0, "latency": "safe",
}  # fmt: skip

#: Opens an instrument with settings at a sample rate.
Open = Callable[[str, dict[str, float | str], int], Performer]


class Line:
    """Plays one performer, or two while one fades into the other.

    Args:
      performer: the first.
    """

    def __init__(self, performer: Performer) -> None:
        self._performer = performer
        self._next: Performer | None = None
        self._wanted: Performer | None = None
        self._fade = Fade(performer.output_rate_hz)

    def change(self, performer: Performer) -> None:
        """Fades to another performer, once a running fade is over and the new one has had enough input.

        It may be called from another thread than `push`.
        """
        self._wanted = performer

    @property
    def rate_hz(self) -> int:
        """Sample rate of the device."""
        return self._performer.output_rate_hz

    @property
    def f0_hz(self) -> tuple[float, float]:
        """F0 of input and output in Hz; 0 where no note sounds."""
        state = self._performer.state
        return (state.f0_hz, state.played_hz) if state.plays else (0.0, 0.0)

    def push(self, block: FloatArray) -> FloatArray:
        """Takes the next samples [S]; returns as many."""
        if self._next is None and self._wanted is not None:
            self._next, self._wanted = self._wanted, None
            self._fade = Fade(self._next.output_rate_hz)
            self._next.take_over(self._performer)
        out = self._performer.push(block)
        if self._next is None:
            return out
        other = self._next.push(block)
        # not at equal power as in the mixer: the next performer may play the same sound, in phase
        share = self._fade.share(len(out), self._next.latency_samples).astype(np.float32)
        if self._fade.is_over:
            self._performer, self._next = self._next, None
        return np.asarray(out * (1.0 - share) + other * share, np.float32)


class LiveServer:
    """Serves live performances.

    Args:
      open_performer: makes a performer.
    """

    def __init__(self, open_performer: Open) -> None:
        self._open = open_performer
        self._n_lines = 0

    async def serve(self, socket: WebSocket) -> None:
        """Serves one page until it disconnects."""
        await socket.accept()
        if self._n_lines >= MAX_LINES:
            await socket.send_text(json.dumps({"error": f"{MAX_LINES} pages play live already", "hint": ""}))
            await socket.close(1013)
            return
        self._n_lines += 1
        worker = ThreadPoolExecutor(1, "live")
        try:
            await self._serve(socket, worker)
        except (WebSocketDisconnect, asyncio.CancelledError):
            pass
        finally:
            self._n_lines -= 1
            worker.shutdown(wait=False)

    async def _serve(self, socket: WebSocket, worker: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        stage = _Stage()
        sending = asyncio.Lock()
        opening: set[asyncio.Task[None]] = set()

        async def change(text: str, number: int) -> None:
            """Opens the requested instrument while the previous one plays on; a later request replaces it."""
            if number != stage.n_wishes:
                return
            try:
                rate_hz = _rate_hz(socket.query_params.get("rate", ""))
                instrument, settings = _wanted(text)
                if stage.line is None:  # the first blocks of a process take several times as long as later ones
                    warm = await loop.run_in_executor(None, self._open, instrument, settings, rate_hz)
                    await loop.run_in_executor(None, warm.push, np.zeros(rate_hz // 5, np.float32))
                performer = await loop.run_in_executor(None, self._open, instrument, settings, rate_hz)
                if number != stage.n_wishes:
                    return
                stage.take(performer)
                answer = {"latency_s": performer.latency_s, "instrument": instrument}
            except DdspError as problem:
                answer = {"error": problem.message, "hint": problem.hint}
            except Exception as problem:  # a defect, which the page has to show
                answer = {"error": f"something went wrong inside ddsp ({type(problem).__name__})", "hint": ""}
            async with sending:
                await socket.send_text(json.dumps(answer))

        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                if message.get("text") is not None:
                    stage.n_wishes += 1
                    task = loop.create_task(change(message["text"], stage.n_wishes))
                    opening.add(task)
                    task.add_done_callback(opening.discard)
                    continue
                try:
                    number, block = _block(message.get("bytes") or b"")
                except InputError as problem:
                    async with sending:
                        await socket.send_text(json.dumps({"error": problem.message, "hint": problem.hint}))
                    continue
                if (line := stage.line) is not None:
                    began = time.perf_counter()
                    out = await loop.run_in_executor(worker, line.push, block)
                    load = (time.perf_counter() - began) * line.rate_hz / max(len(block), 1)
                    head = struct.pack("<Ifff", number, load, *line.f0_hz)
                    async with sending:
                        await socket.send_bytes(head + out.astype("<f4").tobytes())
        finally:
            for task in opening:
                task.cancel()


class _Stage:
    """The performance of a page, and the number of changes it has requested."""

    def __init__(self) -> None:
        self.line: Line | None = None
        self.n_wishes = 0

    def take(self, performer: Performer) -> None:
        """Plays a performer from now on."""
        if self.line is None:
            self.line = Line(performer)
        else:
            self.line.change(performer)


def _rate_hz(text: str) -> int:
    lowest, highest = DEVICE_RATES_HZ
    if not text.isdecimal() or len(text) > 6 or not lowest <= int(text) <= highest:
        raise UsageError(f"an audio device runs at {lowest} to {highest} Hz")
    return int(text)


def _wanted(text: str) -> tuple[str, dict[str, float | str]]:
    """Returns the name of an instrument, and settings."""
    try:
        asked = json.loads(text)
        instrument, given = asked["instrument"], asked.get("settings", {})
        unknown = set(given) - set(DEFAULTS)
        settings = DEFAULTS | plain_settings(given)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise UsageError("the request names no instrument and settings") from problem
    if unknown or not isinstance(instrument, str) or not isinstance(settings["latency"], str):
        raise UsageError("the request has settings that a live performance does not have")
    return instrument, settings


def _block(message: bytes) -> tuple[int, FloatArray]:
    if len(message) < 4 or len(message) % 4 or len(message) > 4 * (MAX_BLOCK_SAMPLES + 1):
        raise InputError("the block is not whole")
    (number,) = struct.unpack_from("<I", message)
    block = np.frombuffer(message, "<f4", offset=4).astype(np.float32)
    if not np.isfinite(block).all() or float(np.abs(block).max(initial=0.0)) > MAX_AMPLITUDE:
        raise InputError("the sound contains NaN, infinity, or samples far beyond full scale")
    return number, block
