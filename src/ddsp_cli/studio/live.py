"""The microphone of the page through an instrument, over a WebSocket on the loopback.

    page → server   text    {"instrument": ..., "settings": {...}}: at the beginning, and when one of them changes
                    binary  number of the block as uint32, then its samples as float32, little-endian
    server → page   text    {"latency_s": ..., "instrument": ...} after each change, or {"error": ..., "hint": ...}
                    binary  the same number; as float32 the share of real time that the block took, and the F0 in Hz
                    that is heard and that is played, 0 where no note sounds; then as many samples

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
from ddsp_cli.live.mixer import CROSSFADE_S, WARM_UP_S
from ddsp_cli.live.performer import DEVICE_RATES_HZ, Performer

#: The longest block that is taken.
MAX_BLOCK_SAMPLES = 16384

#: Pages that play live at once.
MAX_LINES = 4

#: Settings that a live performance has, with their values at rest.
DEFAULTS: dict[str, float | str] = {"transpose": 0.0, "loudness": 0.0, "formant": 0.0, "room": "model", "wet": 1.0}

#: Opens an instrument with settings at a sample rate.
Open = Callable[[str, dict[str, float | str], int], Performer]


class Line:
    """What is heard: one performer, or two while one fades into the other.

    Args:
      performer: the first.
    """

    def __init__(self, performer: Performer) -> None:
        self._performer = performer
        self._next: Performer | None = None
        self._n_since_change = 0

    def change(self, performer: Performer) -> None:
        """Fades to another performer as soon as that one has heard enough."""
        if self._next is not None:
            self._performer = self._next
        performer.take_over(self._performer)
        self._next, self._n_since_change = performer, 0

    @property
    def f0_hz(self) -> tuple[float, float]:
        """What is heard and what is played, in Hz; 0 where no note sounds."""
        state = self._performer.state
        return (state.f0_hz, state.played_hz) if state.plays else (0.0, 0.0)

    def push(self, block: FloatArray) -> FloatArray:
        """Plays for as long as a block [S]."""
        out = self._performer.push(block)
        if self._next is None:
            return out
        other, rate_hz = self._next.push(block), self._next.output_rate_hz
        waits = self._next.latency_samples + WARM_UP_S * rate_hz
        done = self._n_since_change + np.arange(len(out)) - waits
        share = np.clip(done / (CROSSFADE_S * rate_hz), 0.0, 1.0).astype(np.float32)
        self._n_since_change += len(out)
        if len(share) and share[-1] >= 1.0:
            self._performer, self._next = self._next, None
        return np.asarray(out * (1.0 - share) + other * share, np.float32)


class LiveDoor:
    """Serves live performances.

    Args:
      open_performer: makes a performer.
    """

    def __init__(self, open_performer: Open) -> None:
        self._open = open_performer
        self._n_lines = 0

    async def serve(self, socket: WebSocket) -> None:
        """Serves one page until it leaves."""
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
        line: Line | None = None
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                if message.get("text") is not None:
                    rate_hz = _rate_hz(socket.query_params.get("rate", ""))
                    instrument, settings = _wanted(message["text"])
                    if line is None:  # the first blocks of a process take several times as long as later ones
                        warm = await loop.run_in_executor(worker, self._open, instrument, settings, rate_hz)
                        await loop.run_in_executor(worker, warm.push, np.zeros(rate_hz // 5, np.float32))
                    performer = await loop.run_in_executor(worker, self._open, instrument, settings, rate_hz)
                    if line is None:
                        line = Line(performer)
                    else:
                        line.change(performer)
                    told = {"latency_s": performer.latency_s, "instrument": instrument}
                    await socket.send_text(json.dumps(told))
                elif line is not None:
                    number, block = _block(message.get("bytes") or b"")
                    began = time.perf_counter()
                    out = await loop.run_in_executor(worker, line.push, block)
                    load = (time.perf_counter() - began) * rate_hz / max(len(block), 1)
                    await socket.send_bytes(
                        struct.pack("<Ifff", number, load, *line.f0_hz) + out.astype("<f4").tobytes()
                    )
            except DdspError as problem:
                await socket.send_text(json.dumps({"error": problem.message, "hint": problem.hint}))


def _rate_hz(text: str) -> int:
    lowest, highest = DEVICE_RATES_HZ
    if not text.isdecimal() or len(text) > 6 or not lowest <= int(text) <= highest:
        raise UsageError(f"an audio device runs at {lowest} to {highest} Hz")
    return int(text)


def _wanted(text: str) -> tuple[str, dict[str, float | str]]:
    """Name of an instrument, and settings."""
    try:
        asked = json.loads(text)
        instrument, given = asked["instrument"], asked.get("settings", {})
        unknown = set(given) - set(DEFAULTS)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise UsageError("the request names no instrument and settings") from problem
    if unknown or not isinstance(instrument, str):
        raise UsageError("the request has settings that a live performance does not have")
    return instrument, DEFAULTS | given


def _block(message: bytes) -> tuple[int, FloatArray]:
    if len(message) < 4 or len(message) % 4 or len(message) > 4 * (MAX_BLOCK_SAMPLES + 1):
        raise InputError("the block is not whole")
    (number,) = struct.unpack_from("<I", message)
    block = np.frombuffer(message, "<f4", offset=4).astype(np.float32)
    if not np.isfinite(block).all() or float(np.abs(block).max(initial=0.0)) > MAX_AMPLITUDE:
        raise InputError("the sound contains NaN, infinity, or samples far beyond full scale")
    return number, block
