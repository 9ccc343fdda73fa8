"""Connect the audio thread of a device with the worker that plays: ring buffers, and a count of drop-outs.

The audio thread must be done before the device calls again. It copies a block into one ring and takes one out of
another. A worker thread processes the first ring and writes into the second, `slack_samples` behind the input: this is
its time limit. The audio thread waits for a late block for a part of the block's duration.

Positions are counted from the start of the stream, so the delay is constant even after a drop-out: late samples are
dropped. Shapes: S samples.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.live.priority import AUDIO_RR, WORKER_RR, raise_thread

#: Samples that the ring of each direction holds: 0.3 s at 192 kHz. A worker further behind than this loses input.
RING_SAMPLES = 1 << 16

#: A worker takes one block at a time, so that the next to be played is ready first; where it is further behind than
#: `BEHIND_BLOCKS`, at most this many samples at once.
MOST_AT_ONCE_SAMPLES, BEHIND_BLOCKS = 2048, 8

#: The audio thread waits for a block that is late for at most this part of the block's duration. Drivers expect the
#: next block within one duration, and keep at least one more in their buffers.
PATIENCE = 0.75

#: A drop-out makes the slack one block longer, up to `MAX_SLACK_S`: drivers ask for blocks more or less regularly, and
#: other programs get in between. Those of the beginning are not counted. A device that has by then requested several
#: blocks at once gets as many more in advance; one that asks for one at a time has the shortest slack.
SETTLING_S = 1.0

MAX_SLACK_S = 0.1

#: A break in the sound begins and ends with a fade of this many samples, so that it does not click.
FADE_SAMPLES = 48


class Ring:
    """The last samples of a stream, addressed by position. One thread or process writes, one reads; neither waits.

    Args:
      samples: the memory, [N] or [N, C].
    """

    def __init__(self, samples: FloatArray) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def put(self, position: int, block: FloatArray) -> None:
        """Writes a block [S] or [S, C] at a position."""
        begin, n = position % len(self), len(block)
        first = min(n, len(self) - begin)
        self._samples[begin : begin + first] = block[:first]
        self._samples[: n - first] = block[first:]

    def get(self, position: int, n_samples: int) -> FloatArray:
        """Copies samples from a position."""
        begin = position % len(self)
        first = min(n_samples, len(self) - begin)
        return np.concatenate([self._samples[begin : begin + first], self._samples[: n_samples - first]])


class AudioLoop:
    """Passes input of a device to a player and its output back.

    Args:
      play: takes the next input [S], returns as many samples; called by the worker thread only.
      rate_hz: of the device.
      block_samples: usual size of the device's blocks; the slack at the beginning.
      taken: called by the worker with input and output, after each call of `play`.
      adapts: drop-outs make the slack longer at any time, not only in the first second.
      in_real_time: the device calls from a separate thread as time goes by, so it is waited for late blocks, and a
        device that asks for several blocks at once is given more of them in advance.
    """

    def __init__(
        self,
        play: Callable[[FloatArray], FloatArray],
        rate_hz: int,
        block_samples: int,
        taken: Callable[[FloatArray, FloatArray], None] | None = None,
        adapts: bool = True,
        in_real_time: bool = False,
    ) -> None:
        self._play, self._taken, self._adapts, self._in_real_time = play, taken, adapts, in_real_time
        self._rate_hz, self._block = rate_hz, block_samples
        self._heard, self._played = (Ring(np.zeros(RING_SAMPLES, np.float32)) for _ in range(2))
        # Each is written by one thread only.
        self._n_heard = self._n_asked = 0  # audio thread
        self._n_taken, self._n_written = 0, block_samples  # worker; silence at the start
        self._slack_samples = block_samples
        self._helps_from = 0  # position from which on the last change of the slack acts
        self._missed = self._noticed = self._counted = 0
        self._longest_gap_s = 0.0  # between two calls of the first second
        self._is_settled = not (in_real_time and adapts)
        self._waits = False
        self._written: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._was_missing, self._last = True, 0.0  # so that the first block fades in
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.busy_s = 0.0
        self.last_call_s = time.monotonic()

    @property
    def n_dropouts(self) -> int:
        """Blocks that were not ready in time, after the first second."""
        return self._counted

    @property
    def slack_samples(self) -> int:
        """Delay between the input of a sample and its output to the device, in samples."""
        return self._slack_samples

    @property
    def n_processed(self) -> int:
        """Samples processed so far."""
        return self._n_taken

    def callback(self, block: FloatArray) -> FloatArray:
        """Called by the audio thread with the next block [S]; returns the next to play, [S]."""
        n = len(block)
        if not self._n_heard:  # the first call, on the thread that makes all of them
            raise_thread(AUDIO_RR)
        now_s = time.monotonic()
        if self._n_heard <= SETTLING_S * self._rate_hz and self._n_heard:
            self._longest_gap_s = max(self._longest_gap_s, now_s - self.last_call_s)
        self.last_call_s = now_s
        self._heard.put(self._n_heard, block[-RING_SAMPLES:])
        self._n_heard += n
        position = self._n_asked
        self._wake.put(None)
        if self._n_written < position + n and self._in_real_time:
            self._wait(position + n, n / self._rate_hz)
        self._n_asked += n
        n_ready = min(max(self._n_written - position, 0), n)
        out = np.zeros(n, np.float32)
        out[:n_ready] = self._played.get(position, n_ready)
        if n_ready < n:
            self._missed += 1
            last = out[n_ready - 1] if n_ready else self._last
            fade = min(n - n_ready, FADE_SAMPLES)
            out[n_ready : n_ready + fade] = last * np.linspace(1.0, 0.0, fade, dtype=np.float32)
        elif self._was_missing:
            fade = min(n, FADE_SAMPLES)
            out[:fade] *= np.linspace(0.0, 1.0, fade, dtype=np.float32)
        self._was_missing = n_ready < n
        self._last = float(out[-1]) if n else 0.0
        return out

    def _wait(self, position: int, block_s: float) -> None:
        """Waits until all before a position is written, for `PATIENCE` at most."""
        begin_s = time.perf_counter()
        while self._n_written < position:
            left_s = begin_s + PATIENCE * block_s - time.perf_counter()
            self._waits = True
            if left_s <= 0.0 or self._n_written >= position:
                break
            try:
                self._written.get(timeout=left_s)
            except queue.Empty:
                break
        self._waits = False

    def work(self, until: Callable[[], bool]) -> None:
        """Body of the worker thread: plays until it is told to stop."""
        while not until():
            try:
                self._wake.get(timeout=0.05)
            except queue.Empty:
                continue
            self.work_once()

    def work_once(self) -> None:
        """Processes all pending input."""
        while self._n_taken < self._n_heard:
            begin_s = time.perf_counter()
            lost = self._n_heard - self._n_taken - RING_SAMPLES // 2
            if lost > 0:  # half of the ring: the audio thread writes on meanwhile
                self._n_taken += lost
            behind = self._n_heard - self._n_taken
            n = min(behind, self._block if behind <= BEHIND_BLOCKS * self._block else MOST_AT_ONCE_SAMPLES)
            heard = self._heard.get(self._n_taken, n)
            self._settle()
            played = self._play(heard)
            self._played.put(self._n_taken + self._slack_samples, played)  # earlier samples are not read
            self._n_taken += n
            self._n_written = self._n_taken + self._slack_samples
            if self._waits:
                self._waits = False
                self._written.put(None)
            if self._taken is not None:
                self._taken(heard, played)
            self.busy_s += time.perf_counter() - begin_s

    def _settle(self) -> None:
        """Counts drop-outs, and makes the slack longer after them."""
        settling, missed = self._n_taken <= SETTLING_S * self._rate_hz, self._missed
        if missed > self._noticed:
            self._counted += 0 if settling else missed - self._noticed
            helped = self._n_asked >= self._helps_from  # drop-outs that were under way before count only once
            if (settling or self._adapts) and helped:
                self._lengthen(1)
        self._noticed = missed
        if not (settling or self._is_settled):
            self._is_settled = True
            n_at_once = round(self._longest_gap_s * self._rate_hz / self._block)
            if n_at_once > 1:
                self._lengthen(n_at_once)

    def _lengthen(self, n_blocks: int) -> None:
        """Makes the slack longer, as far as `MAX_SLACK_S` allows: silence is played meanwhile."""
        n_left = -(-(int(MAX_SLACK_S * self._rate_hz) - self._slack_samples) // self._block)
        n_samples = self._block * min(n_blocks, max(n_left, 0))
        self._played.put(self._n_taken + self._slack_samples, np.zeros(n_samples, np.float32))
        self._slack_samples += n_samples
        self._helps_from = self._n_taken + self._slack_samples


class Worker:
    """The thread of an `AudioLoop`. What it raises is kept in `problem`."""

    def __init__(self, loop: AudioLoop) -> None:
        self._loop, self._stop = loop, threading.Event()
        self.problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ddsp-live", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the block that is being played."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        raise_thread(WORKER_RR)
        try:
            self._loop.work(self._stop.is_set)
        except BaseException as problem:
            self.problem = problem
