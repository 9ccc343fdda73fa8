"""CREPE, the pitch tracker that magenta/ddsp uses: precise, slow, and its weights may not be shipped with this program.

Kim, Salamon, Li and Bello, "CREPE: a convolutional representation for pitch estimation" (2018, arXiv 1802.06182), as
marl/crepe 0.0.16 implements it. This module finds the weights, cuts and normalises frames, and decodes the activations
(Viterbi); it needs NumPy only. The network is a callable that `CrepeTracker` is given. The program's own needs Keras,
so it is found by an entry point, independent of other trackers. Shapes: S samples, T frames (10 ms apart),
N = 360 pitches.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ddsp_cli.analysis.pitch.trackers import CREPE_SIZES, PitchTrack, UndecidedPath
from ddsp_cli.arrays import DoubleArray, FloatArray, IntArray
from ddsp_cli.errors import Kind, UsageError
from ddsp_cli.user_folders import cache_folder

#: Takes frames [B, 1024], each of mean 0 and deviation 1; gives activations [B, N].
Network: TypeAlias = Callable[[FloatArray], FloatArray]

#: Where the entry point `crepe` names the function that loads a network: a file of weights → `Network`.
ENTRY_POINTS = "ddsp_cli.pitch_networks"

#: Names a file of weights where none is given; the argument crepe_weights comes before it.
WEIGHTS_VARIABLE = "DDSP_CREPE_WEIGHTS"

WINDOW_SAMPLES = 1024

HOP_SAMPLES = 160

#: Frames in a batch of the network, always the same number, so that results do not depend on the blocks.
BATCH_FRAMES = 128

#: Pitch n is 20 cents above pitch n - 1; cents count from 10 Hz (crepe/core.py:93).
N_PITCHES = 360

CENTS = np.linspace(0.0, 7180.0, N_PITCHES) + 1997.3794084376191

#: Folder of the weights in the cache of the user.
CACHE = "crepe"

#: F0 is the mean of the pitches up to this distance from the path, weighted by their activations.
AVERAGED_PITCHES = 4

#: Transition weights fall linearly to 0 at this distance (crepe/core.py:119).
REACH_PITCHES = 12

#: Probability that a pitch has the strongest activation, besides an even share of the rest.
SELF_EMISSION = 0.1

#: Undecided frames after which `ViterbiPath` searches for a frame in which all paths meet.
DECIDE_FRAMES = 500


def find_weights(size: str = "", given: Path | None = None) -> Path:
    """Finds the file of weights: the given one, else that of the installed package `crepe`, else one in the cache.

    Args:
      size: one of `CREPE_SIZES`; empty takes the largest there is.
      given: a file named by the user.

    Raises:
      UsageError: the weights are missing.
    """
    named = given or (Path(os.environ[WEIGHTS_VARIABLE]) if os.environ.get(WEIGHTS_VARIABLE) else None)
    if named is not None:
        if not named.is_file():
            raise UsageError(f"there is no file of CREPE weights {named}")
        return named
    folders = [cache_folder(CACHE)]
    package = importlib.util.find_spec("crepe")
    if package is not None and package.origin:
        folders.insert(0, Path(package.origin).parent)
    for candidate in (size,) if size else CREPE_SIZES:
        for folder in folders:
            for name in (f"model-{candidate}.h5", f"model-{candidate}.h5.bz2"):
                if (folder / name).is_file():
                    return folder / name
    wanted = f"model-{size or 'full'}.h5.bz2"
    url = f"https://github.com/marl/crepe/raw/models/{wanted}"
    raise UsageError(
        f"pitch tracker crepe{'-' + size if size else ''} needs its weights, and none were found",
        f"Download {wanted} from {url} and put it into {cache_folder(CACHE)}, or name the file as crepe_weights.",
        kind=Kind.CREPE_WEIGHTS,
        file=wanted,
        url=url,
        folder=cache_folder(CACHE),
    )


def load_network(weights: Path) -> Network:
    """Loads the network of the package that has one.

    Raises:
      UsageError: the weights cannot be read, or Keras cannot be loaded.
    """
    return _load_network(weights.resolve())


@functools.lru_cache(maxsize=1)
def _load_network(weights: Path) -> Network:
    from importlib.metadata import entry_points

    from ddsp_cli import backend

    for found in entry_points(group=ENTRY_POINTS, name="crepe"):
        try:
            backend.load()  # quietly, before the network's module imports Keras
            return found.load()(weights)
        except ImportError as problem:
            raise UsageError(f"pitch tracker crepe needs Keras, which cannot be loaded: {problem}") from problem
    raise UsageError("no installed package has a network for the pitch tracker crepe", "Install ddsp-cli again.")


class CrepeTracker:
    """CREPE with its Viterbi decoding, for sound of any length in bounded memory.

    Args:
      network: see `Network`; `load_network` gives one.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._buffer = np.zeros(WINDOW_SAMPLES // 2, np.float32)  # frame 0 is centred on sample 0
        self._path = ViterbiPath()
        self._confidence: list[FloatArray] = []
        self._n_samples = 0

    def push(self, block: FloatArray) -> None:
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

    def activation(self, frames: FloatArray) -> FloatArray:
        """Computes activations [n, N] of frames [n, 1024]."""
        centred = frames - frames.mean(axis=1, keepdims=True)
        normal = centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-8)
        padded = np.pad(normal, ((0, -len(normal) % BATCH_FRAMES), (0, 0))).astype(np.float32)
        parts = [self._network(padded[start : start + BATCH_FRAMES]) for start in range(0, len(padded), BATCH_FRAMES)]
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
    """The most likely path through activations, decided as soon as it is certain."""

    def __init__(self) -> None:
        self._score: DoubleArray | None = None
        self._undecided = UndecidedPath()  # its rows are activations
        self._f0: list[FloatArray] = []

    @property
    def n_undecided(self) -> int:
        """Number of frames that are kept."""
        return len(self._undecided)

    def push(self, activation: FloatArray) -> None:
        """Takes the next frames [T, N]."""
        for row in activation:
            self._step(row)
        if len(self._undecided) >= DECIDE_FRAMES:
            self._keep(self._undecided.take_decided())

    def finish(self) -> FloatArray:
        """Returns F0 of all frames in Hz, [T] float32."""
        if self._score is not None and len(self._undecided):
            self._keep(self._undecided.take(len(self._undecided) - 1, int(np.argmax(self._score))))
        return np.concatenate([np.zeros(0, np.float32), *self._f0])

    def _step(self, row: FloatArray) -> None:
        emission = np.full(N_PITCHES, np.log((1.0 - SELF_EMISSION) / N_PITCHES))  # of the strongest pitch seen
        emission[int(np.argmax(row))] = np.log(SELF_EMISSION + (1.0 - SELF_EMISSION) / N_PITCHES)
        before: IntArray | None = None
        if self._score is None:
            self._score = np.log(1.0 / N_PITCHES) + emission
        else:
            sources, weights = _transitions()
            candidates = np.append(self._score, -np.inf)[sources] + weights
            # Equally good paths are common where nothing is sung: the original takes the highest pitch (hmmlearn's
            # Viterbi), and only the same order of sums gives the same ties, so nothing is normalised here.
            best = candidates.shape[1] - 1 - np.argmax(candidates[:, ::-1], axis=1)
            pitches = np.arange(N_PITCHES)
            before = sources[pitches, best]
            self._score = candidates[pitches, best] + emission
        self._undecided.append(np.asarray(row, np.float32), before)

    def _keep(self, decided: tuple[IntArray, FloatArray] | None) -> None:
        if decided is not None:
            path, activations = decided
            self._f0.append(_local_average_hz(activations, path))


def _local_average_hz(activation: FloatArray, path: IntArray) -> FloatArray:
    """Returns F0 [T] from activations [T, N] around a path [T]."""
    near = path[:, None] + np.arange(-AVERAGED_PITCHES, AVERAGED_PITCHES + 1)
    inside = (near >= 0) & (near < N_PITCHES)
    near = np.clip(near, 0, N_PITCHES - 1)
    weights = np.where(inside, np.take_along_axis(activation, near, axis=1), 0.0).astype(np.float64)
    total = weights.sum(axis=1)
    cents = (weights * CENTS[near]).sum(axis=1) / np.maximum(total, 1e-30)
    return np.where(total > 0, 10.0 * 2.0 ** (cents / 1200.0), 0.0).astype(np.float32)


@functools.cache
def _transitions() -> tuple[IntArray, DoubleArray]:
    """Returns for each pitch the 23 pitches before it [N, 23] (N beyond the ends), and their log-probabilities."""
    reach = np.arange(1 - REACH_PITCHES, REACH_PITCHES)
    source = np.arange(N_PITCHES)[:, None] + reach
    inside = (source >= 0) & (source < N_PITCHES)
    pitches = np.arange(N_PITCHES)
    weight = np.maximum(REACH_PITCHES - np.abs(pitches[:, None] - pitches), 0)
    share = weight / weight.sum(axis=1)[:, None]  # of what leaves each pitch
    log_weight = np.log(np.maximum(share[np.clip(source, 0, N_PITCHES - 1), pitches[:, None]], 1e-300))
    return np.where(inside, source, N_PITCHES), np.where(inside, log_weight, -np.inf)
