"""Keep input and output: a ring of shared memory filled by the audio process, and its readers.

The recorder writes files; the detector of feedback decides whether the microphone picks up the loudspeaker, so that its
sound is played again.

Shapes: S samples, N samples of a window; two channels, input and output.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli.arrays import FloatArray, hann_window
from ddsp_cli.audio.write import fits, write_audio
from ddsp_cli.errors import OutputError
from ddsp_cli.live.audio_loop import Ring

#: Samples on the tape, 30 s at 48 kHz: the longest pause of a disk without a loss.
TAPE_SAMPLES = 30 * 48000

#: Interval at which the recorder reads the tape.
POLL_S = 0.05

INPUT, OUTPUT = 0, 1


class Tape:
    """A ring of shared memory. One process writes, others read; neither waits.

    Args:
      samples: shared memory of floats, two for each sample of the tape.
      counter: shared memory of one double: how many samples were written so far.
    """

    def __init__(self, samples: Any, counter: Any) -> None:
        self._ring = Ring(np.frombuffer(samples, np.float32).reshape(-1, 2))
        self._counter: np.ndarray = np.frombuffer(counter, np.float64)

    def __len__(self) -> int:
        return len(self._ring)

    @property
    def n_written(self) -> int:
        """Samples written so far."""
        return int(self._counter[0])

    def write(self, block: FloatArray, played: FloatArray) -> None:
        """Adds samples [S] of input and output."""
        self._ring.put(self.n_written, np.stack([block, played], axis=1))
        self._counter[0] += len(block)

    def read(self, position: int) -> tuple[int, FloatArray]:
        """Returns all samples from a position on.

        Returns:
          How many of them are lost because they were overwritten, and the others [S, 2].
        """
        end, length = self.n_written, len(self)
        oldest = end - length + length // 8  # the writer continues meanwhile
        lost = max(oldest - position, 0)
        return lost, self._ring.get(position + lost, max(end - position - lost, 0))


class Recorder:
    """Writes the output into files, in a separate thread. A file appears in its place when it is complete.

    Args:
      tape: to record.
      rate_hz: of the tape.
    """

    def __init__(self, tape: Tape, rate_hz: int) -> None:
        self._tape, self._rate_hz = tape, rate_hz
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.path = Path()
        self._end: int | None = None
        self.n_recorded = self.n_lost = 0
        self.finished: list[Path] = []
        self.problem: Exception | None = None

    @property
    def is_recording(self) -> bool:
        """Whether a recording is running."""
        return self._thread is not None

    @property
    def seconds(self) -> float:
        """Length of the running recording, or of the last one."""
        return self.n_recorded / self._rate_hz

    def start(self, path: Path, force: bool = False) -> None:
        """Starts a recording; an error is kept in `problem`."""
        self.path, self.n_recorded, self.n_lost = path, 0, 0
        self._stop.clear()
        self._end = None
        begin = self._tape.n_written
        self._thread = threading.Thread(target=self._write, args=(begin, force), name="ddsp-recorder")
        self._thread.start()

    def stop(self) -> None:
        """Ends the recording with the last output, and waits until the file is complete."""
        if self._thread is None:
            return
        self._end = self._tape.n_written
        self._stop.set()
        self._thread.join()
        self._thread = None

    def _write(self, begin: int, force: bool) -> None:
        try:
            write_audio(self.path, self._blocks(begin), self._rate_hz, force=force)
            self.finished.append(self.path)
        except Exception as problem:
            self.problem = problem

    def _blocks(self, position: int) -> Iterator[FloatArray]:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(POLL_S)
            lost, block = self._tape.read(position)
            position += lost + len(block)
            if stopping and self._end is not None and position > self._end:
                block = block[: max(len(block) - (position - self._end), 0)]
            self.n_lost += lost
            self.n_recorded += lost + len(block)
            if lost:
                yield np.zeros(lost, np.float32)  # keeps the following sound in time
            yield block[:, OUTPUT]
            if not fits(self.path, self.n_recorded + len(self._tape)):  # the recording so far is kept
                self.problem = OutputError(
                    f"{self.path} ends after {self.seconds / 3600.0:.1f} hours: its format holds no more",
                    "Record a .flac, .caf or .w64.",
                )
                return


#: Length of a window; half of it is the longest delay from output to input that is detected.
FEEDBACK_WINDOW_S = 0.35

#: Time constant of the average over windows.
FEEDBACK_AVERAGE_S = 3.0

#: Shortest delay from output to input: half a block of a device.
SHORTEST_DELAY_S = 0.001

#: Ratio of the correlation's peak to its usual size from which feedback is reported.
FEEDBACK_THRESHOLD = 12.0

#: Softer windows are ignored.
SOUNDING_RMS = 1e-3


class FeedbackDetector:
    """Detects the output in the input by generalised cross-correlation with phase transform.

    An instrument follows the pitch of a voice, so the two are similar at all times; but the phases of their harmonics
    drift apart, and the noise of one is not that of the other. Only the same sound has the same delay at all
    frequencies for seconds (C. Knapp and G. Carter, 1976).

    Args:
      rate_hz: of the sound.
    """

    def __init__(self, rate_hz: int) -> None:
        self._n = 1 << round(np.log2(FEEDBACK_WINDOW_S * rate_hz))
        self._window = hann_window(self._n)
        self._lags = slice(round(SHORTEST_DELAY_S * rate_hz), self._n // 2)
        self._keep = 1.0 - min(1.0, self._n / 2 / rate_hz / FEEDBACK_AVERAGE_S)
        self._average = np.zeros(self._n // 2 + 1, np.complex128)
        self._pending = np.zeros((0, 2), np.float32)
        self._n_windows = 0
        self.strength = 0.0

    @property
    def is_feedback(self) -> bool:
        """Whether the input contains the output."""
        return self.strength > FEEDBACK_THRESHOLD

    def push(self, both: FloatArray) -> None:
        """Takes the next samples [S, 2]: input, output."""
        self._pending = np.concatenate([self._pending, both])
        while len(self._pending) >= self._n:
            self._correlate(self._pending[: self._n])
            self._pending = self._pending[self._n // 2 :]

    def _correlate(self, window: FloatArray) -> None:
        if np.sqrt(np.mean(window**2, axis=0)).min() < SOUNDING_RMS:
            return
        input_spectrum, output_spectrum = np.fft.rfft(window * self._window[:, None], axis=0).T
        cross = input_spectrum * np.conj(output_spectrum)
        self._average = self._keep * self._average + (1.0 - self._keep) * cross / np.maximum(np.abs(cross), 1e-12)
        self._n_windows += 1
        if self._n_windows * (1.0 - self._keep) < 0.5:
            return
        correlation = np.abs(np.fft.irfft(self._average, self._n))
        self.strength = float(correlation[self._lags].max() / np.median(correlation))
