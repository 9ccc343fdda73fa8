"""swift-f0, the default pitch tracker: a small convolutional network on ONNX Runtime, shipped in its package (MIT).

The network is called directly: importing the package reads the metadata of installed packages (20 ms of each start),
and its `detect` also measures the level of every frame. A test compares the two.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import threading
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli import packages, spool
from ddsp_cli.analysis.pitch.trackers import PITCH_RANGE_HZ, PitchTrack
from ddsp_cli.arrays import FloatArray

SWIFT_HOP_SAMPLES = 256

#: Frames (of 16 ms) in a call of the network: 5 s keep its memory small and cost no more time than 10 s.
SWIFT_BLOCK_FRAMES = 312

#: The receptive field reaches 2815 samples to either side (swift_f0/core.py), so with this many frames around it the
#: result of a block is that of the whole recording.
SWIFT_CONTEXT_FRAMES = 11

#: Where swift-f0's frame 0 is centred. Measured with version 0.3 on glides of 1 and 3 octaves in 6 s and on vibrato
#: of 3 and 5.5 Hz: the best offset is 0.0 ± 0.5 ms, the bias at 0 below 0.7 cents.
SWIFT_DELAY_SAMPLES = 0

#: The network answers digital silence at random, so frames below this peak have no pitch (swift_f0/core.py).
SWIFT_SILENCE_PEAK = 1e-3


#: Held while a network is loaded: a second thread waits for the same one.
_LOADING = threading.Lock()


def preload(threads: int | None = None) -> None:
    """Starts to load the network in another thread; a `SwiftTracker` that is opened meanwhile waits for it.

    Most of this time passes outside Python, while the program imports its other modules. Errors are left to
    `SwiftTracker`.

    Args:
      threads: as for `SwiftTracker`.
    """

    def load() -> None:
        with contextlib.suppress(Exception):
            _Network(threads)

    threading.Thread(target=load, name="load swift-f0").start()


class SwiftTracker:
    """Tracks F0 of sound of any length in bounded memory.

    Args:
      threads: size of the thread pool; None lets ONNX Runtime choose.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._network = _Network(threads)
        self._buffer = np.zeros(0, np.float32)
        self._n_context = 0  # frames at the start of the buffer that were tracked already
        self._f0_hz, self._confidence = spool.GrowingArray(), spool.GrowingArray()

    def push(self, block: FloatArray) -> None:
        self._buffer = np.concatenate([self._buffer, block])
        while len(self._buffer) >= (self._n_context + SWIFT_BLOCK_FRAMES + SWIFT_CONTEXT_FRAMES) * SWIFT_HOP_SAMPLES:
            end = self._n_context + SWIFT_BLOCK_FRAMES
            self._track(self._buffer[: (end + SWIFT_CONTEXT_FRAMES) * SWIFT_HOP_SAMPLES], end)
            self._buffer = self._buffer[(end - SWIFT_CONTEXT_FRAMES) * SWIFT_HOP_SAMPLES :]
            self._n_context = SWIFT_CONTEXT_FRAMES

    def finish(self) -> PitchTrack:
        # Whole hops only reach the network; silence fills up the last one so that the end is tracked as well.
        audio = np.pad(self._buffer, (0, -len(self._buffer) % SWIFT_HOP_SAMPLES))
        end = len(audio) // SWIFT_HOP_SAMPLES
        if end > self._n_context:
            self._track(audio, end)
        return PitchTrack(self._f0_hz.finish(), self._confidence.finish(), SWIFT_HOP_SAMPLES, SWIFT_DELAY_SAMPLES)

    def _track(self, audio: FloatArray, end: int) -> None:
        """Tracks `audio` and keeps its frames from the context up to `end`."""
        f0_hz, confidence = self._network(audio)
        keep = slice(self._n_context, end)
        self._f0_hz.push(f0_hz[keep])
        self._confidence.push(confidence[keep])


#: Input of the network for one frame, in frames, and the frame that it tracks.
FRAME_INPUT, FRAME_TRACKED = 14, 8

#: The network for one frame, made by tools/swift_frame.py: it computes only the values that the frame depends on.
FRAME_NETWORK = Path(__file__).parent / "data" / "swift_f0_frame.onnx"


class SwiftFrameTracker:
    """Tracks single frames, for live playing."""

    def __init__(self) -> None:
        self._session = _open_session(1, FRAME_NETWORK)

    def __call__(self, audio: FloatArray) -> tuple[float, float]:
        """Tracks frame `FRAME_TRACKED` of a sound.

        Args:
          audio: `FRAME_INPUT` frames at 16 kHz, [S].

        Returns:
          F0 in Hz and confidence; within 1e-6 of the output of the whole network for this frame.
        """
        (f0_hz,), (confidence,) = self._session.run(["pitch", "confidence"], {"audio": audio[None], **_limits()})
        start = FRAME_TRACKED * SWIFT_HOP_SAMPLES
        is_silent = np.abs(audio[start : start + SWIFT_HOP_SAMPLES]).max() < SWIFT_SILENCE_PEAK
        return float(f0_hz[0]), 0.0 if is_silent else float(confidence[0])


class _Network:
    """Sound [S] at 16 kHz, S a multiple of 256, to F0 in Hz and confidence, [S / 256] each.

    Args:
      threads: size of the thread pool; None lets ONNX Runtime choose.
    """

    def __init__(self, threads: int | None) -> None:
        packages.require("pitch tracker swift-f0", "swift_f0")
        found = importlib.util.find_spec("swift_f0")
        assert found is not None and found.origin is not None
        self._session = _open_session(threads, Path(found.origin).with_name("model.onnx"))

    def __call__(self, audio: FloatArray) -> tuple[FloatArray, FloatArray]:
        (f0_hz,), (confidence,) = self._session.run(["pitch", "confidence"], {"audio": audio[None], **_limits()})
        peaks = np.abs(audio.reshape(-1, SWIFT_HOP_SAMPLES)).max(axis=1)
        sure = np.where(peaks < SWIFT_SILENCE_PEAK, 0.0, confidence)
        return f0_hz.astype(np.float32), sure.astype(np.float32)


@functools.cache
def _limits() -> dict[str, FloatArray]:
    """Returns the lowest and highest F0, as inputs of the network."""
    lowest, highest = PITCH_RANGE_HZ
    return {"fmin": np.asarray(lowest, np.float32), "fmax": np.asarray(highest, np.float32)}


def _open_session(threads: int | None, model: Path) -> Any:
    """Loads a network, once for all recordings (20 ms)."""
    with _LOADING:
        return _load_session(threads, model)


@functools.lru_cache(maxsize=3)
def _load_session(threads: int | None, model: Path) -> Any:
    onnxruntime = packages.load_onnx_runtime()
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leaves the cores to the other workers
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
