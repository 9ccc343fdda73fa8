"""CREPE, the pitch tracker that magenta/ddsp uses: precise and slow, needs weights that we may not ship.

This file holds what is around the network: finding the weights, cutting and normalising frames, the Viterbi path. The
network itself needs Keras and stands in `engine.crepe`; it is loaded by name when the tracker is opened, so measuring
with another tracker knows nothing of it. Shapes: S samples, T frames (10 ms apart), N = 360 pitches.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli.analysis.pitch.tracker import PitchTrack
from ddsp_cli.errors import Kind, UsageError

SIZES = ("full", "large", "medium", "small", "tiny")  # the best first

#: Names a file of weights where none is given; the argument crepe_weights comes before it.
WEIGHTS_VARIABLE = "DDSP_CREPE_WEIGHTS"

WINDOW_SAMPLES = 1024

HOP_SAMPLES = 160

#: Frames that the network is given at once, always as many, so that a result never depends on the blocks.
BATCH_FRAMES = 128

#: Pitch n lies 20 cents above pitch n - 1; cents count from 10 Hz (crepe/core.py:93).
N_PITCHES = 360

CENTS = np.linspace(0.0, 7180.0, N_PITCHES) + 1997.3794084376191

#: f0 is the mean of so many pitches on either side of the path, weighed by their activation.
AVERAGED_PITCHES = 4

#: Transition weights fall linearly to 0 at this distance (crepe/core.py:119).
REACH_PITCHES = 12

#: How likely a pitch shows itself as the strongest activation, apart from an even share of the rest.
SELF_EMISSION = 0.1

#: Pending frames after which it is looked for a point that all paths share.
DECIDE_FRAMES = 500


def cache_folder() -> Path:
    """Where weights are looked for: the user's cache folder, as the system has it."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "ddsp" / "crepe"


def find_weights(size: str = "", given: Path | None = None) -> Path:
    """The file of weights to use: a given one, else of the installed package `crepe`, else of the cache folder.

    Args:
      size: one of `SIZES`; empty takes the largest there is.
      given: a file named by the user.

    Raises:
      UsageError: there is none.
    """
    named = given or (Path(os.environ[WEIGHTS_VARIABLE]) if os.environ.get(WEIGHTS_VARIABLE) else None)
    if named is not None:
        if not named.is_file():
            raise UsageError(f"there is no file of CREPE weights {named}")
        return named
    folders = [cache_folder()]
    package = importlib.util.find_spec("crepe")
    if package is not None and package.origin:
        folders.insert(0, Path(package.origin).parent)
    for candidate in (size,) if size else SIZES:
        for folder in folders:
            for name in (f"model-{candidate}.h5", f"model-{candidate}.h5.bz2"):
                if (folder / name).is_file():
                    return folder / name
    wanted = f"model-{size or 'full'}.h5.bz2"
    url = f"https://github.com/marl/crepe/raw/models/{wanted}"
    raise UsageError(
        f"pitch tracker crepe{'-' + size if size else ''} needs its weights, and none were found",
        f"Download {wanted} from {url} and put it into {cache_folder()}, or name the file as crepe_weights.",
        kind=Kind.CREPE_WEIGHTS,
        file=wanted,
        url=url,
        folder=cache_folder(),
    )


class CrepeTracker:
    """CREPE with its Viterbi path, on sound of any length in bounded memory.

    Args:
      size: as `find_weights`.
      weights: as `find_weights`.

    Raises:
      UsageError: no weights, unreadable ones, or no Keras.
    """

    def __init__(self, size: str = "", weights: Path | None = None) -> None:
        self._network = _network(find_weights(size, weights))
        self._buffer = np.zeros(WINDOW_SAMPLES // 2, np.float32)  # frame 0 is centred on sample 0
        self._path = ViterbiPath()
        self._confidence: list[np.ndarray] = []
        self._n_samples = 0

    def push(self, block: np.ndarray) -> None:
        self._n_samples += len(block)
        self._buffer = np.concatenate([self._buffer, np.asarray(block, np.float32)])
        n_ready = (len(self._buffer) - WINDOW_SAMPLES) // HOP_SAMPLES + 1
        self._track(n_ready // BATCH_FRAMES * BATCH_FRAMES)

    def finish(self) -> PitchTrack:
        n_frames = 1 + self._n_samples // HOP_SAMPLES
        n_left = n_frames - sum(map(len, self._confidence))
        missing = (n_left - 1) * HOP_SAMPLES + WINDOW_SAMPLES - len(self._buffer)
        self._buffer = np.pad(self._buffer, (0, max(0, missing)))
        self._track(n_left)
        confidence = np.concatenate([np.zeros(0, np.float32), *self._confidence])
        return PitchTrack(self._path.finish(), confidence, HOP_SAMPLES)

    def activation(self, frames: np.ndarray) -> np.ndarray:
        """What the network makes of frames [n, 1024], [n, N]."""
        centred = frames - frames.mean(axis=1, keepdims=True)
        normal = centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-8)
        padded = np.pad(normal, ((0, -len(normal) % BATCH_FRAMES), (0, 0))).astype(np.float32)
        parts = [
            self._network.predict_on_batch(padded[start : start + BATCH_FRAMES])
            for start in range(0, len(padded), BATCH_FRAMES)
        ]
        return np.concatenate([np.zeros((0, N_PITCHES), np.float32), *parts])[: len(frames)]

    def _track(self, n_frames: int) -> None:
        if n_frames <= 0:
            return
        windows = np.lib.stride_tricks.sliding_window_view(self._buffer, WINDOW_SAMPLES)[::HOP_SAMPLES]
        for start in range(0, n_frames, BATCH_FRAMES):
            activation = self.activation(windows[start : min(start + BATCH_FRAMES, n_frames)])
            self._confidence.append(activation.max(axis=1))
            self._path.push(activation)
        self._buffer = self._buffer[n_frames * HOP_SAMPLES :].copy()


class ViterbiPath:
    """The most likely path through activations, decided as soon as it is certain.

    A frame is decided when the best paths to all pitches of a later one run through the same pitch there, so the result
    is that of the whole recording, yet only the undecided frames are kept (usually a few).
    """

    def __init__(self) -> None:
        self._score: np.ndarray | None = None
        self._back: list[np.ndarray] = []  # of each undecided frame but the first: the pitch before, [N]
        self._activations: list[np.ndarray] = []
        self._f0: list[np.ndarray] = []

    def push(self, activation: np.ndarray) -> None:
        """The next frames [T, N]."""
        for row in activation:
            self._step(row)
        if len(self._activations) >= DECIDE_FRAMES:
            self._decide_what_is_certain()

    def finish(self) -> np.ndarray:
        """f0 of all frames in Hz, [T] float32."""
        if self._score is not None and self._activations:
            self._decide(len(self._activations) - 1, int(np.argmax(self._score)))
        return np.concatenate([np.zeros(0, np.float32), *self._f0])

    def _step(self, row: np.ndarray) -> None:
        emission = np.full(N_PITCHES, np.log((1.0 - SELF_EMISSION) / N_PITCHES))  # of the strongest pitch seen
        emission[int(np.argmax(row))] = np.log(SELF_EMISSION + (1.0 - SELF_EMISSION) / N_PITCHES)
        if self._score is None:
            self._score = np.log(1.0 / N_PITCHES) + emission
        else:
            sources, weights = _transitions()
            candidates = np.append(self._score, -np.inf)[sources] + weights
            # Equally good paths are common where nothing is sung: the original takes the highest pitch (hmmlearn's
            # Viterbi), and only the same order of sums gives the same ties, so nothing is normalised here.
            best = candidates.shape[1] - 1 - np.argmax(candidates[:, ::-1], axis=1)
            pitches = np.arange(N_PITCHES)
            self._back.append(sources[pitches, best].astype(np.int16))
            self._score = candidates[pitches, best] + emission
        self._activations.append(np.asarray(row, np.float32))

    def _decide_what_is_certain(self) -> None:
        pitches = np.arange(N_PITCHES)
        for frame in range(len(self._activations) - 2, -1, -1):
            pitches = self._back[frame][pitches]
            if (pitches == pitches[0]).all():
                self._decide(frame, int(pitches[0]))
                return

    def _decide(self, last: int, pitch: int) -> None:
        """Fixes the path up to frame `last`, which is at `pitch`, and forgets those frames."""
        path = np.empty(last + 1, np.int64)
        for frame in range(last, -1, -1):
            path[frame] = pitch
            if frame:
                pitch = int(self._back[frame - 1][pitch])
        self._f0.append(_local_average_hz(np.stack(self._activations[: last + 1]), path))
        del self._activations[: last + 1]
        del self._back[: last + 1]


def _local_average_hz(activation: np.ndarray, path: np.ndarray) -> np.ndarray:
    """f0 [T] from activations [T, N] around a path [T]."""
    near = path[:, None] + np.arange(-AVERAGED_PITCHES, AVERAGED_PITCHES + 1)
    inside = (near >= 0) & (near < N_PITCHES)
    near = np.clip(near, 0, N_PITCHES - 1)
    weights = np.where(inside, np.take_along_axis(activation, near, axis=1), 0.0).astype(np.float64)
    total = weights.sum(axis=1)
    cents = (weights * CENTS[near]).sum(axis=1) / np.maximum(total, 1e-30)
    return np.where(total > 0, 10.0 * 2.0 ** (cents / 1200.0), 0.0).astype(np.float32)


@functools.cache
def _transitions() -> tuple[np.ndarray, np.ndarray]:
    """For each pitch those it can be reached from [N, 23] (N where there is none), and the log-probability of it."""
    reach = np.arange(1 - REACH_PITCHES, REACH_PITCHES)
    source = np.arange(N_PITCHES)[:, None] + reach
    inside = (source >= 0) & (source < N_PITCHES)
    pitches = np.arange(N_PITCHES)
    weight = np.maximum(REACH_PITCHES - np.abs(pitches[:, None] - pitches), 0)
    share = weight / weight.sum(axis=1)[:, None]  # of what leaves each pitch
    log_weight = np.log(np.maximum(share[np.clip(source, 0, N_PITCHES - 1), pitches[:, None]], 1e-300))
    return np.where(inside, source, N_PITCHES), np.where(inside, log_weight, -np.inf)


@functools.lru_cache(maxsize=1)
def _network(weights: Path) -> Any:
    # By name: this package may not know of the layers above it, and only this tracker needs a framework.
    try:
        importlib.import_module("ddsp_cli.backend").load()
        return importlib.import_module("ddsp_cli.engine.crepe").load(weights)
    except ImportError as problem:
        raise UsageError(f"pitch tracker crepe needs Keras, which cannot be loaded: {problem}") from problem
