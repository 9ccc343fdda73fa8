"""Connect the audio thread of a device with the worker that plays: ring buffers, and a count of drop-outs.

The audio thread has to return before the device calls it again. It copies a block of input into one ring buffer and
takes a block of output from another. A worker thread processes the input and writes the output `slack_samples` behind
it: that is the time it has. The audio thread waits for a late block for a part of the time between two requests of the
device.

Positions are counted from the start of the stream. Late samples are dropped, so the delay stays constant after a
drop-out. Shapes: S samples.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.live.performer import Latency
from ddsp_cli.live.priority import AUDIO_RR, WORKER_RR, raise_thread

#: Samples that the ring of each direction holds: 0.3 s at 192 kHz. A worker further behind than this loses input.
RING_SAMPLES = 1 << 16

#: The worker processes one block at a time, so that the next block is ready as early as possible. If it is more than
#: `BEHIND_BLOCKS` behind, it processes up to `MOST_AT_ONCE_SAMPLES` at once.
MOST_AT_ONCE_SAMPLES, BEHIND_BLOCKS = 2048, 8

#: The audio thread waits for a late block for at most this share of the time between two requests of the device.
#: Drivers expect the next block within that time, and keep at least one more in their buffers.
PATIENCE = 0.75

#: Calls that follow each other within this share of a block's duration are one request for several blocks.
SAME_REQUEST = 0.5

#: Drop-outs of the first `SETTLING_S` are not counted, and each makes the slack one block longer. After that time the
#: slack is fitted to the requests of the device. `safe` adds as many blocks as fit into the longest time between two
#: calls, if that is more than one. `low` makes the slack `MORE_BLOCKS` longer than a request for several blocks: one
#: block for devices that wake at fixed times and sometimes request a block more, two for delays by other programs. For
#: a device that requests single blocks the slack stays unchanged.
SETTLING_S, MORE_BLOCKS = 1.0, 3

#: A later drop-out makes the slack one block longer: in `safe` each, in `low` one that follows another within
#: `REPEATED_S`, since a single drop-out does not justify more latency for the rest of the performance. Drop-outs within
#: `TOGETHER_S` have one cause.
REPEATED_S, TOGETHER_S = 10.0, 0.1

#: The slack grows until it reaches this; the last block may exceed it.
MAX_SLACK_S = 0.1

#: A break in the sound begins and ends with a fade of this many samples, so that it does not click.
FADE_SAMPLES = 48


class Ring:
    """Ring buffer of the last samples of a stream, addressed by position. One thread or process writes, one reads.

    Neither waits for the other.

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
    """Passes the input of a device to a player, and the output of the player to the device.

    Args:
      play: takes the next input [S] and returns as many samples; called by the worker thread only.
      rate_hz: of the device.
      block_samples: usual size of the device's blocks, and initial slack.
      taken: called by the worker with input and output, after each call of `play`.
      latency: how readily drop-outs make the slack longer.
      in_real_time: the device calls from a separate thread in real time. Then the audio thread waits for late blocks,
        and the slack is fitted to the requests of the device.
    """

    def __init__(
        self,
        play: Callable[[FloatArray], FloatArray],
        rate_hz: int,
        block_samples: int,
        taken: Callable[[FloatArray, FloatArray], None] | None = None,
        latency: Latency = "safe",
        in_real_time: bool = False,
    ) -> None:
        self._play, self._taken, self._latency, self._in_real_time = play, taken, latency, in_real_time
        self._rate_hz, self._block = rate_hz, block_samples
        self._input, self._output = (Ring(np.zeros(RING_SAMPLES, np.float32)) for _ in range(2))
        # Each is written by one thread only.
        self._n_input = self._n_asked = self._n_requests = 0  # audio thread
        self._n_taken, self._n_written = 0, block_samples  # worker; silence at the start
        self._slack_samples = block_samples
        self._helps_from = 0  # position from which the last change of the slack has an effect
        self._missed = self._noticed = self._counted = 0
        self._last_dropout: int | None = None  # position
        self._longest_gap_s = 0.0  # between two calls of the first second
        self._request_s = block_samples / rate_hz  # time between two requests, measured in the first second
        self._request_begin_s = self._returned_s = 0.0
        self._is_settled = not in_real_time
        self._waits = False
        self._written: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._was_missing, self._last = True, 0.0  # so that the first block fades in
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.busy_s = 0.0
        #: Time of the last call by `time.perf_counter`.
        self.last_call_s = time.perf_counter()

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
        """Takes the next input block [S] from the audio thread; returns the next output block, [S]."""
        n = len(block)
        if not self._n_input:  # the first call, on the thread that makes all of them
            raise_thread(AUDIO_RR)
        now_s = time.perf_counter()
        is_settling = self._n_input <= SETTLING_S * self._rate_hz
        apart_s = SAME_REQUEST * n / self._rate_hz
        if is_settling and self._n_input:
            self._longest_gap_s = max(self._longest_gap_s, now_s - self.last_call_s)
        self._n_requests += is_settling and (not self._n_input or now_s - self.last_call_s > apart_s)
        if now_s - self._returned_s > apart_s:  # counted from the last return, since the last call may have waited
            self._request_begin_s = now_s
        self.last_call_s = now_s
        self._input.put(self._n_input, block[-RING_SAMPLES:])
        self._n_input += n
        position = self._n_asked
        self._wake.put(None)
        if self._n_written < position + n and self._in_real_time:
            ends_s = now_s + PATIENCE * n / self._rate_hz
            self._wait(position + n, max(ends_s, self._request_begin_s + PATIENCE * self._request_s))
        self._n_asked += n
        n_ready = min(max(self._n_written - position, 0), n)
        out = np.zeros(n, np.float32)
        out[:n_ready] = self._output.get(position, n_ready)
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
        self._returned_s = time.perf_counter()
        return out

    def _wait(self, position: int, ends_s: float) -> None:
        """Waits until the output before a position is written, at most until a time."""
        while self._n_written < position:
            left_s = ends_s - time.perf_counter()
            self._waits = True
            if left_s <= 0.0 or self._n_written >= position:
                break
            try:
                self._written.get(timeout=left_s)
            except queue.Empty:
                break
        self._waits = False

    def work(self, until: Callable[[], bool]) -> None:
        """Runs in the worker thread: plays until `until` returns true."""
        while not until():
            try:
                self._wake.get(timeout=0.05)
            except queue.Empty:
                continue
            self.work_once()

    def work_once(self) -> None:
        """Processes all pending input."""
        while self._n_taken < self._n_input:
            begin_s = time.perf_counter()
            lost = self._n_input - self._n_taken - RING_SAMPLES // 2
            if lost > 0:  # half of the ring, since the audio thread keeps writing
                self._n_taken += lost
            behind = self._n_input - self._n_taken
            n = min(behind, self._block if behind <= BEHIND_BLOCKS * self._block else MOST_AT_ONCE_SAMPLES)
            block = self._input.get(self._n_taken, n)
            self._settle()
            played = self._play(block)
            self._output.put(self._n_taken + self._slack_samples, played)  # earlier samples are not read
            self._n_taken += n
            self._n_written = self._n_taken + self._slack_samples
            if self._waits:
                self._waits = False
                self._written.put(None)
            if self._taken is not None:
                self._taken(block, played)
            self.busy_s += time.perf_counter() - begin_s

    def _settle(self) -> None:
        """Counts drop-outs, and makes the slack longer after them."""
        settling, missed = self._n_taken <= SETTLING_S * self._rate_hz, self._missed
        if missed > self._noticed:
            self._counted += 0 if settling else missed - self._noticed
            self._answer_dropout(settling)
        self._noticed = missed
        if not (settling or self._is_settled):
            self._is_settled = True
            self._fit_requests()

    def _answer_dropout(self, settling: bool) -> None:
        """Makes the slack a block longer after a drop-out, see `SETTLING_S` and `REPEATED_S`."""
        if self._n_asked < self._helps_from:  # caused before the last change of the slack
            return
        last, is_repeated = self._last_dropout, False
        if last is None or self._n_taken - last > TOGETHER_S * self._rate_hz:
            is_repeated = last is not None and self._n_taken - last <= REPEATED_S * self._rate_hz
            self._last_dropout = self._n_taken
        if settling or self._latency == "safe" or is_repeated:
            self._lengthen(1)

    def _fit_requests(self) -> None:
        """Fits slack and patience to the requests of the first second."""
        if self._latency == "safe":
            n_blocks = round(self._longest_gap_s * self._rate_hz / self._block)
            n_more = n_blocks if n_blocks > 1 else 0
        else:
            n_blocks = round(self._n_input / (self._n_requests * self._block))
            n_more = n_blocks + MORE_BLOCKS - self._slack_samples // self._block if n_blocks > 1 else 0
        self._request_s = max(self._request_s, self._n_input / (self._n_requests * self._rate_hz))
        if n_more > 0:
            self._lengthen(n_more)

    def _lengthen(self, n_blocks: int) -> None:
        """Makes the slack longer, within `MAX_SLACK_S`, by inserting silence."""
        n_left = -(-(int(MAX_SLACK_S * self._rate_hz) - self._slack_samples) // self._block)
        n_samples = self._block * min(n_blocks, max(n_left, 0))
        self._output.put(self._n_taken + self._slack_samples, np.zeros(n_samples, np.float32))
        self._slack_samples += n_samples
        self._helps_from = self._n_taken + self._slack_samples


class Worker:
    """The thread of an `AudioLoop`. An exception in it is kept in `problem`."""

    def __init__(self, loop: AudioLoop) -> None:
        self._loop, self._stop = loop, threading.Event()
        self.problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ddsp-live", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the current block."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        raise_thread(WORKER_RR)
        try:
            self._loop.work(self._stop.is_set)
        except BaseException as problem:
            self.problem = problem
