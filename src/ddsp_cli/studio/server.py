"""The server of the studio: the page and its requests.

Responses are JSON or float32. Long work is a stream of JSON lines: `{"doing": ..., "share": ...}` while it runs,
then the result, or `{"error": ..., "hint": ...}`; a page that stops reading cancels it.
"""

from __future__ import annotations

import asyncio
import json
import math
import mimetypes
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import numpy as np
import uvicorn
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from ddsp_cli import __version__
from ddsp_cli.adaptation.midi import Selection
from ddsp_cli.arrays import FloatArray
from ddsp_cli.errors import DdspError, InputError, OutputError, UsageError
from ddsp_cli.studio.guard import REPORT_POLICY, Guard, new_token
from ddsp_cli.studio.live import LiveServer
from ddsp_cli.studio.session import CancelledError, Excerpt, Played, Progress, Session, values
from ddsp_cli.studio.takes import Take, receive
from ddsp_cli.studio.teach import Teacher
from ddsp_cli.user_folders import data_folder

#: The largest request besides sounds: curves of 20 minutes at 250 Hz are 3.6 MB.
MAX_BODY_BYTES = 8 << 20

#: Interval between two progress lines.
PROGRESS_INTERVAL_S = 0.1

#: Sounds played at once, over all pages; each uses one core.
WORKERS = 2

#: Long work: takes a callback for its progress and one that sends a line to the page; gives the result.
Work: TypeAlias = Callable[[Progress, Callable[[dict[str, object]], None]], dict[str, object]]

#: Rows of a spectrogram: from a low A of a double bass to where little is left of most instruments.
LOWEST_HZ, ROWS_PER_OCTAVE, N_ROWS = 55.0, 24, 174

WINDOW_S, HOP_S = 0.046, 0.01

#: Columns at most; a long sound gets a longer hop.
MAX_COLUMNS = 6000

#: Range of the levels: 255 is the loudest, 0 is this much softer. Softer than this, in dB of a sine of full scale, the
#: loudest is darker, so that silence is dark.
RANGE_DB, SOFTEST_PEAK_DB = 75.0, -60.0

_COLUMNS_AT_ONCE = 500


class Studio:
    """Routes of the studio, and its requests.

    Args:
      session: that they act on.
      leave: called when the page asks the server to end.
    """

    def __init__(self, session: Session, leave: Callable[[], None] = lambda: None) -> None:
        self._session, self._leave = session, leave
        self._teacher = Teacher(session.folder / "teach")
        self._workers = ThreadPoolExecutor(WORKERS, "studio")
        self._leaving = threading.Event()

    def app(self) -> Starlette:
        """Makes the application; it must be wrapped in `guard.Guard`."""
        session = self._session
        get, post, delete = ["GET"], ["POST"], ["DELETE"]
        return Starlette(
            routes=[
                Route("/", self.page, methods=get),
                Route("/static/{name}", self.static, methods=get),
                Route("/api/state", self.state, methods=get),
                Route("/api/takes", self.add_take, methods=post),
                Route("/api/takes/{take}", self.take, methods=get),
                Route("/api/takes/{take}", self.remove_take, methods=delete),
                Route("/api/takes/{take}/file", self.take_file, methods=get),
                Route("/api/takes/{take}/pcm", self.take_pcm, methods=get),
                Route("/api/takes/{take}/spectrogram", self.take_spectrogram, methods=get),
                Route("/api/instruments/{name}/preview", self.preview, methods=get),
                Route("/api/play", self.play, methods=post),
                Route("/api/curves", self.load_curves, methods=post),
                Route("/api/draw", self.draw, methods=post),
                Route("/api/excerpts/{excerpt}", self.excerpt, methods=get),
                Route("/api/played/{played}/pcm", self.played_pcm, methods=get),
                Route("/api/played/{played}/spectrogram", self.played_spectrogram, methods=get),
                Route("/api/played/{played}/curves", self.played_curves, methods=get),
                Route("/api/played/{played}/download/{kind}", self.download, methods=get),
                Route("/api/presets/{name:path}", self.save_preset, methods=post),
                Route("/api/presets/{name:path}", self.remove_preset, methods=delete),
                Route("/api/teach", self.teach, methods=get),
                Route("/api/teach", self.teach_new, methods=post),
                Route("/api/teach/{name}", self.teach_remove, methods=delete),
                Route("/api/teach/{name}/recordings", self.teach_add, methods=post),
                Route("/api/teach/{name}/recordings/{recording}", self.teach_remove_recording, methods=delete),
                Route("/api/teach/{name}/start/{action}", self.teach_start, methods=post),
                Route("/api/teach/{name}/stop", self.teach_stop, methods=post),
                Route("/api/teach/{name}/page/{which}", self.teach_page, methods=get),
                Route("/api/teach/{name}/clips/{clip}", self.teach_clip, methods=get),
                WebSocketRoute("/live", LiveServer(session.performer).serve),
                Route("/api/quit", self.quit, methods=post),
            ],
            exception_handlers={DdspError: _problem, RecursionError: _problem, OSError: _problem, Exception: _problem},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self._workers.submit(self._session.warm_up)
        try:
            yield
        finally:
            self._leaving.set()
            await run_in_threadpool(self._teacher.close)
            self._workers.shutdown(wait=True, cancel_futures=True)
            self._session.close()

    # --- the page ---

    async def page(self, _request: Request) -> Response:
        """Returns the page."""
        return _file("index.html")

    async def static(self, request: Request) -> Response:
        """Returns a file of the page."""
        return _file(request.path_params["name"])

    async def state(self, _request: Request) -> Response:
        """Returns the state that a page shows when it is opened."""
        session = self._session
        instruments = await run_in_threadpool(session.cards)
        return JSONResponse({
            "version": __version__,
            "takes": session.takes.cards(),
            "instruments": instruments,
            "presets": session.presets(),
            "folder": str(session.folder),
            **values(),
        })  # fmt: skip

    # --- sounds ---

    async def add_take(self, request: Request) -> Response:
        """Takes a sound: the body is the file, `name` in the query its name."""
        takes = self._session.takes
        part = await _received(request, await run_in_threadpool(takes.receiving))
        if part is None:
            return Response(status_code=400)
        take = await run_in_threadpool(takes.add, part, request.query_params.get("name", "sound"))
        return JSONResponse(_take(take))

    async def take(self, request: Request) -> Response:
        """Describes a sound for the page."""
        return JSONResponse(_take(await self._take(request)))

    async def remove_take(self, request: Request) -> Response:
        """Removes a sound of the user."""
        self._session.takes.remove(request.path_params["take"])
        return JSONResponse({})

    async def take_file(self, request: Request) -> Response:
        """Returns the file itself, under the user's name for it."""
        take = await self._take(request)
        return FileResponse(take.path, media_type="application/octet-stream", headers=_attachment(take.name))

    async def take_pcm(self, request: Request) -> Response:
        """Returns the samples of a sound."""
        return _floats((await self._take(request)).pcm)

    async def take_spectrogram(self, request: Request) -> Response:
        """Returns the spectrogram of a sound, see `spectrogram`."""
        take = await self._take(request)
        if take.info is None:
            raise InputError("a MIDI file contains no sound")
        return await _spectrogram(take.pcm, take.info.sample_rate_hz)

    async def _take(self, request: Request) -> Take:
        return await run_in_threadpool(self._session.takes.find, request.path_params["take"])

    # --- instruments and results ---

    async def preview(self, request: Request) -> Response:
        """Returns the preview of an instrument."""
        sound = await run_in_threadpool(self._session.preview, request.path_params["name"])
        return Response(sound, media_type="audio/ogg")

    async def play(self, request: Request) -> Response:
        """Plays a sound on an instrument.

        The request has `take`, `instrument`, `settings`; `curves` where some were drawn; `selection` of a MIDI file;
        and `at_s`, from where on a long sound is rendered first: lines with an `excerpt` describe these first parts.
        """
        asked = await _json(request)
        take, instrument, curves = (_text(asked, name) for name in ("take", "instrument", "curves"))
        selection, at_s = _selection(asked.get("selection")), _seconds(asked.get("at_s"))

        def work(progress: Progress, send_line: Callable[[dict[str, object]], None]) -> dict[str, object]:
            def on_excerpt(excerpt: Excerpt) -> None:
                send_line({"excerpt": _about_excerpt(excerpt)})

            played = self._session.play(
                take, instrument, asked.get("settings", {}), curves, progress, selection=selection, at_s=at_s,
                on_excerpt=on_excerpt,
            )  # fmt: skip
            return self._about(played)

        return self._lines(work)

    def _about(self, played: Played) -> dict[str, object]:
        """Describes a result for the page."""
        adapted = played.performance.adapted
        return {
            "id": played.id,
            "take": played.take.id,
            "instrument": played.instrument,
            "settings": played.settings,
            "curves": played.curves,
            "rate_hz": played.rate_hz,
            "n_samples": len(played.pcm),
            "n_channels": 1 if played.pcm.ndim == 1 else played.pcm.shape[1],
            "loudness_lufs": played.loudness_lufs,
            "input_lufs": _finite(played.performance.loudness_lufs),
            "transpose": adapted.transpose_semitones,
            "key": str(adapted.key) if adapted.key is not None else "",
            "frame_rate_hz": adapted.frame_rate_hz,
            "n_frames": len(adapted),
            "n_voices": 1 + len(played.performance.others),
            "level": played.level,
            "remarks": played.remarks,
            "notes": self._session.notes(played),
            "command": self._session.command(played),
        }

    async def draw(self, request: Request) -> Response:
        """Takes curves that were drawn: `take` and `instrument` in the query, F0, level and gate as float32, [3, F]."""
        content = await _body(request)
        if not content or len(content) % 12:
            raise InputError("the curves are not three of one length")
        f0_hz, level_db, gate = np.frombuffer(content, "<f4").reshape(3, -1)
        take, instrument = (request.query_params.get(name, "") for name in ("take", "instrument"))
        curves = await run_in_threadpool(self._session.draw, take, instrument, f0_hz, level_db, gate)
        return JSONResponse({"curves": curves})

    async def load_curves(self, request: Request) -> Response:
        """Takes a table of curves: the body is the file, `name` its name; `take` and `instrument` as in `draw`."""
        content, asked = await _body(request), request.query_params
        words = (asked.get("take", ""), asked.get("instrument", ""), content, asked.get("name", ""))
        return JSONResponse({"curves": await run_in_threadpool(self._session.load_curves, *words)})

    async def excerpt(self, request: Request) -> Response:
        """Returns the samples of an excerpt."""
        return _floats(self._session.excerpt(request.path_params["excerpt"]).pcm)

    async def played_pcm(self, request: Request) -> Response:
        """Returns the samples of a result."""
        return _floats(self._played(request).pcm)

    async def played_spectrogram(self, request: Request) -> Response:
        """Returns the spectrogram of a result."""
        played = self._played(request)
        mono = played.pcm if played.pcm.ndim == 1 else played.pcm.mean(axis=1)
        return await _spectrogram(mono, played.rate_hz)

    async def played_curves(self, request: Request) -> Response:
        """Sends the curves of a result, one after the other, and their names in a header."""
        names, curves = self._session.curves(self._played(request))
        return _floats(np.concatenate(curves), {"X-Curves": ",".join(names)})

    async def download(self, request: Request) -> Response:
        """Returns a file of a result; long work is not streamed here, because the browser shows a download itself."""
        played, kind = self._played(request), request.path_params["kind"]

        def work() -> tuple[str, bytes]:
            return self._session.download(played, kind, self._until_leaving)

        name, content = await asyncio.get_running_loop().run_in_executor(self._workers, work)
        media = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(content, media_type=media, headers=_attachment(name))

    def _until_leaving(self, what: str, share: float) -> None:
        if self._leaving.is_set():
            raise CancelledError

    def _played(self, request: Request) -> Played:
        return self._session.found(request.path_params["played"])

    # --- training projects ---

    async def teach(self, _request: Request) -> Response:
        """Returns all projects, and the choices of a new one."""
        projects = await run_in_threadpool(self._teacher.projects)
        return JSONResponse({"projects": projects, **await run_in_threadpool(self._teacher.choices)})

    async def teach_new(self, request: Request) -> Response:
        """Begins a project: `name`, `preset`, `start_from`."""
        asked = await _json(request)
        words = [_text(asked, word) for word in ("name", "preset", "start_from")]
        return JSONResponse(await run_in_threadpool(self._teacher.create, *words))

    async def teach_remove(self, request: Request) -> Response:
        """Removes a project."""
        await run_in_threadpool(self._teacher.remove, request.path_params["name"])
        return JSONResponse({})

    async def teach_add(self, request: Request) -> Response:
        """Takes a recording, as `add_take` takes a sound."""
        name = request.path_params["name"]
        part = await _received(request, await run_in_threadpool(self._teacher.receiving, name))
        if part is None:
            return Response(status_code=400)
        given = request.query_params.get("name", "recording")
        return JSONResponse(await run_in_threadpool(self._teacher.add, name, part, given))

    async def teach_remove_recording(self, request: Request) -> Response:
        """Removes a recording of a project."""
        words = (request.path_params["name"], request.path_params["recording"])
        return JSONResponse(await run_in_threadpool(self._teacher.remove_recording, *words))

    async def teach_start(self, request: Request) -> Response:
        """Prepares or trains; in the body `steps` in all, 0 for as many as suit, and `again` to begin at the start."""
        asked, action = await _json(request), request.path_params["action"]
        steps = asked.get("steps")
        if action not in {"prepare", "train"}:
            raise UsageError(f"{action[:40]!r} cannot be started")
        if steps is not None and (type(steps) is not int or not 0 <= steps <= 10_000_000):
            raise UsageError("the number of steps is a whole number up to 10000000", parameter="steps")
        name, again = request.path_params["name"], asked.get("again") is True
        return JSONResponse(await run_in_threadpool(self._teacher.start, name, action, steps, again))

    async def teach_stop(self, request: Request) -> Response:
        """Stops the work on a project; its last checkpoint is kept."""
        await run_in_threadpool(self._teacher.stop, request.path_params["name"])
        return JSONResponse({})

    async def teach_page(self, request: Request) -> Response:
        """Returns a page that `ddsp prepare` or `ddsp train` wrote, in a sandbox."""
        words = (request.path_params["name"], request.path_params["which"])
        if words[1] not in {"dataset", "training"}:
            return Response(status_code=404)
        page = await run_in_threadpool(self._teacher.page, *words)
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})

    async def teach_clip(self, request: Request) -> Response:
        """Returns a clip of a training."""
        words = (request.path_params["name"], request.path_params["clip"])
        return Response(await run_in_threadpool(self._teacher.clip, *words), media_type="audio/wav")

    # --- presets, the end ---

    async def save_preset(self, request: Request) -> Response:
        """Saves settings under a name."""
        await run_in_threadpool(self._session.save_preset, request.path_params["name"], await _json(request))
        return JSONResponse(self._session.presets())

    async def remove_preset(self, request: Request) -> Response:
        """Removes saved settings."""
        await run_in_threadpool(self._session.remove_preset, request.path_params["name"])
        return JSONResponse(self._session.presets())

    async def quit(self, _request: Request) -> Response:
        """Ends the server."""
        self._leave()
        return JSONResponse({})

    # --- long work ---

    def _lines(self, work: Work) -> Response:
        """Runs work in a thread; streams lines with its progress and messages, then the result."""
        cancelled = threading.Event()
        state: dict[str, object] = {}

        def progress(what: str, share: float) -> None:
            if cancelled.is_set() or self._leaving.is_set():
                raise CancelledError
            state.update(doing=what, share=round(min(share, 1.0), 3))

        async def lines() -> AsyncIterator[str]:
            loop, lines_sent = asyncio.get_running_loop(), asyncio.Queue[dict[str, object]]()

            def send_line(line: dict[str, object]) -> None:
                with suppress(RuntimeError):  # the server has left
                    loop.call_soon_threadsafe(lines_sent.put_nowait, line)

            future = loop.run_in_executor(self._workers, work, progress, send_line)
            coming = asyncio.ensure_future(lines_sent.get())
            reported: dict[str, object] = {}
            try:
                while not future.done():
                    await asyncio.wait(
                        [future, coming], timeout=PROGRESS_INTERVAL_S, return_when=asyncio.FIRST_COMPLETED
                    )
                    if coming.done():
                        yield json.dumps(coming.result()) + "\n"
                        coming = asyncio.ensure_future(lines_sent.get())
                    elif state != reported:
                        reported = dict(state)
                        yield json.dumps(reported) + "\n"
                yield json.dumps({"done": future.result()}) + "\n"
            except CancelledError:
                yield json.dumps({"cancelled": True}) + "\n"
            except DdspError as problem:
                yield json.dumps(_words(problem)) + "\n"
            except Exception as problem:  # a defect of ours: the page has to say something
                yield json.dumps({"error": f"something went wrong inside ddsp ({type(problem).__name__})"}) + "\n"
                raise
            finally:
                cancelled.set()
                future.cancel()
                coming.cancel()

        return StreamingResponse(lines(), media_type="application/x-ndjson")


def _about_excerpt(excerpt: Excerpt) -> dict[str, object]:
    return {
        "id": excerpt.id,
        "start_s": excerpt.start_s,
        "rate_hz": excerpt.rate_hz,
        "n_channels": 1 if excerpt.pcm.ndim == 1 else excerpt.pcm.shape[1],
        "loudness_lufs": _finite(excerpt.loudness_lufs),
    }


def _selection(given: object) -> Selection | None:
    """Reads tracks and channels of a MIDI file: `{"tracks": [1, 2], "channels": [1]}`; missing ones are not chosen."""
    if given is None:
        return None
    numbers: dict[str, tuple[int, ...]] = {}
    for name, most in (("tracks", 65535), ("channels", 16)):
        values = given.get(name, []) if isinstance(given, dict) else None
        if not isinstance(values, list) or len(values) > 1000:
            raise UsageError(f"the {name} are not a list of numbers")
        if not all(isinstance(one, int) and not isinstance(one, bool) and 1 <= one <= most for one in values):
            raise UsageError(f"the {name} are numbers from 1 to {most}")
        numbers[name] = tuple(values)
    return Selection(tuple(map(str, numbers["tracks"])), numbers["channels"])


def _seconds(given: object) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not abs(given) < 1e9:
        raise UsageError("at_s is not a number of seconds")
    return float(given)


def _take(take: Take) -> dict[str, object]:
    return {
        "id": take.id,
        "name": take.name,
        "kind": take.kind,
        "seconds": take.seconds,
        "rate_hz": take.info.sample_rate_hz if take.info is not None else 0,
        "n_samples": len(take.pcm),
        "parts": [
            {"track": part.track, "name": part.name, "channel": part.channel, "n_notes": part.n_notes}
            for part in take.parts
        ],
    }


def _file(name: str) -> Response:
    """Returns a file of the page; only names of files in its folder are served, no paths."""
    folder = resources.files(__package__) / "static"
    for file in folder.iterdir():
        if file.name == name and file.is_file():
            kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
            return Response(file.read_bytes(), media_type=kinds.get(Path(name).suffix, "application/octet-stream"))
    return Response(status_code=404)


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}


def _floats(values: FloatArray, headers: dict[str, str] | None = None) -> Response:
    return Response(
        np.ascontiguousarray(values, "<f4").tobytes(), media_type="application/octet-stream", headers=headers
    )


async def _received(request: Request, part: Path) -> Path | None:
    """Writes the body of a request to a file; None where the page disconnected.

    Raises:
      InputError: it is too large.
    """
    try:
        with part.open("wb") as stream:
            n_bytes = 0
            async for chunk in request.stream():
                n_bytes = receive(stream, chunk, n_bytes)
    except BaseException as problem:
        part.unlink(missing_ok=True)
        if isinstance(problem, ClientDisconnect):
            return None
        raise
    return part


async def _spectrogram(pcm: FloatArray, rate_hz: int) -> Response:
    levels, hop_s = await run_in_threadpool(spectrogram, pcm, rate_hz)
    headers = {"X-Columns": str(levels.shape[0]), "X-Rows": str(levels.shape[1]), "X-Hop-S": f"{hop_s:.9g}"}
    return Response(levels.tobytes(), media_type="application/octet-stream", headers=headers)


async def _body(request: Request) -> bytes:
    """Returns the body of a request, bounded.

    Raises:
      InputError: it is larger than `MAX_BODY_BYTES`.
    """
    parts, n_bytes = [], 0
    async for chunk in request.stream():
        n_bytes += len(chunk)
        if n_bytes > MAX_BODY_BYTES:
            raise InputError("the request is too large")
        parts.append(chunk)
    return b"".join(parts)


async def _json(request: Request) -> dict[str, Any]:
    try:
        found = json.loads(await _body(request))
    except (ValueError, RecursionError) as problem:
        raise UsageError("the request is not JSON") from problem
    if not isinstance(found, dict):
        raise UsageError("the request must be names with values")
    return found


def _text(asked: dict[str, Any], name: str) -> str:
    value = asked.get(name, "")
    if not isinstance(value, str) or len(value) > 200:
        raise UsageError(f"{name} is not text")
    return value


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _words(problem: DdspError) -> dict[str, str]:
    return {"error": problem.message, "hint": problem.hint, "parameter": problem.parameter}


async def _problem(_request: Request, problem: Exception) -> Response:
    status = 400
    if isinstance(problem, DdspError):
        words = _words(problem)
    elif isinstance(problem, RecursionError):
        words = {"error": "the request is too deep", "hint": ""}
    elif isinstance(problem, OSError):
        words = {
            "error": f"the studio's folder cannot be used: {problem.strerror or type(problem).__name__}",
            "hint": "",
        }
    else:  # a defect of ours: the page has to say something
        status, words = 500, {"error": f"something went wrong inside ddsp ({type(problem).__name__})", "hint": ""}
    # not JSONResponse: text of a page may hold halves of characters, which have no UTF-8
    return Response(json.dumps(words), status, media_type="application/json")


def spectrogram(pcm: FloatArray, rate_hz: int) -> tuple[NDArray[np.uint8], float]:
    """Returns levels of a sound over time and frequency.

    Args:
      pcm: [S].
      rate_hz: its rate.

    Returns:
      Levels [T, N_ROWS], 0..255; row r is at `LOWEST_HZ` · 2^(r / `ROWS_PER_OCTAVE`). And the hop in seconds.
    """
    n_fft = 1 << round(np.log2(WINDOW_S * rate_hz))
    n_columns = max(1, min(MAX_COLUMNS, round(len(pcm) / (HOP_S * rate_hz))))
    centres = np.arange(n_columns) * (len(pcm) / n_columns)
    padded = np.pad(pcm, (n_fft // 2, n_fft))
    window = np.hanning(n_fft).astype(np.float32)
    edges_hz = LOWEST_HZ * 2.0 ** ((np.arange(N_ROWS + 1) - 0.5) / ROWS_PER_OCTAVE)
    bins = edges_hz * n_fft / rate_hz
    first = np.clip(np.round(bins[:-1]).astype(int), 0, n_fft // 2)
    last = np.clip(np.maximum(np.round(bins[1:]).astype(int), first + 1), 1, n_fft // 2 + 1)
    within = bins[:-1] <= n_fft // 2
    power = np.zeros((n_columns, N_ROWS), np.float32)
    for start in range(0, n_columns, _COLUMNS_AT_ONCE):
        places = centres[start : start + _COLUMNS_AT_ONCE].astype(int)
        frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[places] * window
        bin_power = np.abs(np.fft.rfft(frames, axis=1)).astype(np.float32) ** 2
        for row in np.flatnonzero(within):
            power[start : start + len(places), row] = bin_power[:, first[row] : last[row]].max(axis=1)
    full_scale = (0.5 * float(window.sum())) ** 2  # of a sine of amplitude 1
    db = 10.0 * np.log10(np.maximum(power / full_scale, 1e-20))
    levels = (db - max(float(db.max()), SOFTEST_PEAK_DB) + RANGE_DB) * (255.0 / RANGE_DB)
    return np.clip(levels, 0.0, 255.0).astype(np.uint8), len(pcm) / n_columns / rate_hz


# --- start and end ---

#: Time for responses that are being sent when the server ends.
LEAVE_S = 3


def default_folder() -> Path:
    """Returns the folder of recordings and presets: the user's folder for data of programs."""
    return data_folder("studio")


class Server:
    """A studio that is not running yet, at an address that is known.

    Args:
      port: of the loopback; 0 takes a free one.
      folder: of sounds and presets; None for `default_folder`.

    Raises:
      OutputError: the port is taken.
    """

    def __init__(self, port: int = 0, folder: Path | None = None) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if os.name == "posix":  # a port that was just left can be taken again; not so on Windows
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(("127.0.0.1", port))
            self._socket.listen()  # a browser that is quicker than the server waits
        except OSError as problem:
            self._socket.close()
            raise OutputError(
                f"port {port} cannot be used: {problem.strerror or problem}", "Choose another; 0 takes a free one."
            ) from problem
        self.port = int(self._socket.getsockname()[1])
        self._token = new_token()
        self.session = Session(folder or default_folder())
        studio = Studio(self.session, self.leave)
        self._server = uvicorn.Server(
            uvicorn.Config(
                Guard(studio.app(), self._token, self.port),
                log_level="critical",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="wsproto",
                ws_per_message_deflate=False,
                ws_max_size=1 << 20,
                timeout_graceful_shutdown=LEAVE_S,
            )
        )

    @property
    def address(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.port}/{self._token}/"

    @property
    def started(self) -> bool:
        """Whether it answers."""
        return bool(self._server.started)

    def run(self) -> None:
        """Serves until the page or a signal ends it."""
        self._server.run(sockets=[self._socket])

    def close(self) -> None:
        """Closes a server that never ran."""
        self._socket.close()
        self.session.close()

    def leave(self) -> None:
        """Ends `run` after the responses that are being sent."""
        self._server.should_exit = True


def run(port: int, opened: Callable[[Server], None]) -> None:
    """Runs a studio.

    Args:
      port: see `Server`.
      opened: called with it before it answers.

    Raises:
      OutputError: the port is taken.
    """
    server = Server(port)
    opened(server)
    server.run()
