"""The audio process: it runs the audio thread and the worker, without anything that could block them.

It is a separate process because Python runs one thread at a time: drawing on the terminal, writing files and collecting
garbage happen elsewhere. It loads its instruments, renders a little so that everything is in memory, turns the
garbage collector off, and opens the devices. Its status goes through shared memory, commands to it through a pipe.
"""

from __future__ import annotations

import contextlib
import gc
import math
import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.errors import DdspError, InputError
from ddsp_cli.limits import settle_child, undisturbed_start
from ddsp_cli.live.audio_loop import AudioLoop, Worker
from ddsp_cli.live.devices import DeviceStream, Stream, StreamSettings, open_midi_port
from ddsp_cli.live.keyboard import Keyboard, PressedKeys
from ddsp_cli.live.mixer import Controls, Mixer, Source
from ddsp_cli.live.performer import LiveSettings, Performer
from ddsp_cli.live.priority import Priority, keep_freed_memory, lock_memory, raise_process
from ddsp_cli.live.tape import TAPE_SAMPLES, Tape
from ddsp_cli.synthesis.instrument import Instrument

#: A device that has not called for this long is unplugged, or taken by another program.
GONE_S = 2.0

#: Longest wait for the first call of a device.
STARTING_S = 10.0

#: Interval between two updates of the status.
STATUS_S = 0.1

#: Interval at which Python switches threads: the longest wait of the audio thread for the worker.
SWITCH_S = 0.0005

#: Pitch of the tone that instruments are warmed up with, so that all code of a note has run.
WARM_UP_HZ = 220.0

#: Time constant of the meters.
METER_S = 0.1


@dataclass(frozen=True)
class Job:
    """Settings with which the process is started.

    Attributes:
      stream: which devices.
      instruments: what can be played.
      controls: at the beginning.
      settings: of the performers; `transpose`, `segments` and `room` are overruled by the controls.
      midi: name of the port of a MIDI keyboard that plays in place of a microphone, or None.
      n_voices: how many notes of the keyboard sound at once.
    """

    stream: StreamSettings
    instruments: tuple[Instrument, ...]
    controls: Controls
    settings: LiveSettings
    midi: str | None = None
    n_voices: int = 1


@dataclass(frozen=True)
class LiveStatus:
    """State of a performance, for the display.

    Attributes:
      seconds: played so far.
      input_db, output_db: RMS of the last moments in dBFS.
      f0_hz: of the input.
      played_hz: of the output.
      plays: 1 while a note sounds.
      latency_s: from the microphone's block to the loudspeaker's, without the buffers of the devices themselves.
      load: share of its time that the worker is busy; at 1 it cannot keep up.
      n_dropouts: blocks that were not ready in time.
      instrument: index of the instrument that plays.
      priority: of the process, a `Priority`.
    """

    seconds: float = 0.0
    input_db: float = -120.0
    output_db: float = -120.0
    f0_hz: float = 0.0
    played_hz: float = 0.0
    plays: float = 0.0
    latency_s: float = 0.0
    load: float = 0.0
    n_dropouts: float = 0.0
    instrument: float = 0.0
    priority: float = 0.0


_FIELDS = tuple(field.name for field in fields(LiveStatus))


class SignalChain:
    """Instruments, mixer and loop, which the process runs once its devices are open.

    Args:
      job: see `Job`.
      rate_hz: of the devices.
      tape: gets input and output.
      in_real_time: see `AudioLoop`.
    """

    def __init__(self, job: Job, rate_hz: int, tape: Tape | None = None, in_real_time: bool = False) -> None:
        #: Keys that are pressed, where a MIDI keyboard plays.
        self.hands = PressedKeys(job.n_voices) if job.midi is not None else None
        self._job, self._rate_hz, self._tape = job, rate_hz, tape
        self._instruments = job.instruments
        for index in range(len(self._instruments)):
            self._warm_up(index)
        self.mixer = Mixer(self._make, job.controls, rate_hz)
        self.loop = AudioLoop(
            self.mixer.play, rate_hz, job.stream.block_samples, self._take, job.settings.latency, in_real_time
        )
        self._square = np.zeros(2)  # mean squares of input and output
        self._last_update = (0.0, time.perf_counter())
        self._load = 0.0

    def _make(self, controls: Controls, before: Source | None) -> Source:
        settings = replace(self._job.settings, transpose=controls.transpose, room=controls.room)
        if self.hands is not None:
            return Keyboard(self._instruments[controls.instrument], settings, self.hands, self._rate_hz)
        performer = Performer(self._instruments[controls.instrument], settings, self._rate_hz)
        performer.adjust(below_peak_db=controls.below_peak_db)
        if isinstance(before, Performer):
            performer.take_over(before)
        return performer

    def _warm_up(self, index: int) -> None:
        """Renders a little and drops it: networks are loaded and memory is taken when they are first used."""
        source: Source
        if self.hands is not None:
            hands = PressedKeys(self._job.n_voices)
            for number in range(self._job.n_voices):
                hands.press(0, 60 + number, 64)
            source = Keyboard(self._instruments[index], self._job.settings, hands, self._rate_hz)
        else:
            source = self._make(replace(self._job.controls, instrument=index), None)
        block = self._job.stream.block_samples
        n_blocks = max(1, self._rate_hz // (5 * block))
        tone = 0.1 * np.sin(2.0 * np.pi * WARM_UP_HZ / self._rate_hz * np.arange(n_blocks * block))
        for part in tone.astype(np.float32).reshape(n_blocks, block):
            source.push(part)

    def _take(self, block: FloatArray, played: FloatArray) -> None:
        """Updates meters and tape, on the worker's thread."""
        if len(block):
            keep = math.exp(-len(block) / (METER_S * self._rate_hz))
            squares = np.array([block @ block, played @ played]) / len(block)
            self._square = keep * self._square + (1.0 - keep) * squares
        if self._tape is not None:
            self._tape.write(block, played)

    def status(self) -> LiveStatus:
        """Returns the state of the performance, with the load since the last call."""
        busy_s, now_s = self.loop.busy_s, time.perf_counter()
        lasted_s = now_s - self._last_update[1]
        if lasted_s > 0.0:
            self._load += 0.3 * ((busy_s - self._last_update[0]) / lasted_s - self._load)
        self._last_update = (busy_s, now_s)
        state = self.mixer.source.state
        input_db, output_db = 10.0 * np.log10(self._square + 1e-12)
        # A block is complete before it is processed, and is played while the next one arrives.
        wait_samples = self._job.stream.block_samples + self.loop.slack_samples
        return LiveStatus(
            seconds=self.loop.n_processed / self._rate_hz,
            input_db=float(input_db),
            output_db=float(output_db),
            f0_hz=state.f0_hz,
            played_hz=state.played_hz,
            plays=float(state.plays),
            latency_s=(self.mixer.latency_samples + wait_samples) / self._rate_hz,
            load=self._load,
            n_dropouts=self.loop.n_dropouts,
            instrument=self.mixer.controls.instrument,
        )


def run(job: Job, shared_status: Any, samples: Any, counter: Any, connection: Connection) -> None:
    """Runs in the process: plays until a command ends it, the device is gone, or its parent has ended."""
    settle_child()  # sound systems report drop-outs on standard error
    try:
        keep_freed_memory()
        priority = raise_process()
        stream = DeviceStream(job.stream)
        try:
            play(job, stream, np.frombuffer(shared_status, np.float64), Tape(samples, counter), connection, priority)
        finally:
            stream.close()
        connection.send(None)
    except DdspError as problem:
        connection.send(problem)
    except (EOFError, BrokenPipeError):
        return  # the parent has ended
    except Exception as problem:  # a defect, reported by the parent
        connection.send(RuntimeError(f"the audio process: {type(problem).__name__}: {problem}"))


def play(
    job: Job,
    stream: Stream,
    shared_status: FloatArray,
    tape: Tape,
    connection: Connection,
    priority: Priority = Priority.NORMAL,
) -> None:
    """Plays through an open stream.

    Args:
      job: see `Job`.
      stream: runs until this ends.
      shared_status: shared memory of the status, see `LiveStatus`.
      tape: of input and output.
      connection: to the process that shows.
      priority: for the status.

    Raises:
      InputError: the device is gone.
    """
    chain = SignalChain(job, stream.rate_hz, tape, in_real_time=True)
    worker = Worker(chain.loop)
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.disable()
    lock_memory()
    worker.start()
    port = None
    try:
        if chain.hands is not None and job.midi is not None:
            port = open_midi_port(job.midi, chain.hands.messages.put)
        connection.send(stream.rate_hz)
        stream.start(chain.loop.callback)
        begun_s = time.perf_counter()
        while worker.problem is None:
            if connection.poll(STATUS_S):
                controls = connection.recv()
                if controls is None:
                    return
                chain.mixer.controls = controls
            status = replace(chain.status(), priority=float(priority))
            shared_status[:] = [getattr(status, name) for name in _FIELDS]
            silent_s = time.perf_counter() - max(chain.loop.last_call_s, begun_s)
            if silent_s > (GONE_S if status.seconds > 0.0 else STARTING_S):
                raise InputError(
                    "the audio device has stopped: it was unplugged, or another program has taken it",
                    "Plug it in and start again.",
                )
        raise worker.problem
    finally:
        worker.stop()
        if port is not None:
            port.close()


class LiveProcess:
    """Handle of the audio process, for the process that displays and records.

    Args:
      job: see `Job`.
      target: body of the process.

    Raises:
      DdspError: the devices cannot be opened.
    """

    def __init__(self, job: Job, target: Callable[..., None] = run) -> None:
        context = multiprocessing.get_context("spawn")
        self._shared_status = context.RawArray("d", [getattr(LiveStatus(), name) for name in _FIELDS])
        samples, counter = context.RawArray("f", 2 * TAPE_SAMPLES), context.RawArray("d", 1)
        self.tape = Tape(samples, counter)
        self._connection, other = context.Pipe()
        self._process = context.Process(
            target=target, args=(job, self._shared_status, samples, counter, other), daemon=True
        )
        self._ended = False
        try:
            with undisturbed_start():
                self._process.start()
            other.close()
            #: Rate of the devices in Hz.
            self.rate_hz = int(self._receive())
        except BaseException:  # also Ctrl-C while it starts
            if self._process.pid is not None:
                self._process.kill()
                self._process.join()
            raise

    def _receive(self) -> Any:
        """Returns the next message of the process.

        Raises:
          DdspError: that it has failed.
          RuntimeError: that it has failed through a defect.
        """
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionError):
            self._ended = True
            raise RuntimeError("the audio process has ended") from None
        if isinstance(answer, Exception):
            self._ended = True
            raise answer
        self._ended = answer is None
        return answer

    @property
    def pid(self) -> int | None:
        """Number of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it still plays.

        Raises:
          DdspError: it has failed, such as when a device was unplugged.
        """
        if not self._ended and self._connection.poll():
            self._receive()
        return not self._ended

    def status(self) -> LiveStatus:
        """Returns the state of the performance, for the display."""
        return LiveStatus(*self._shared_status)

    def change(self, controls: Controls) -> None:
        """Sends new controls."""
        with contextlib.suppress(OSError):
            self._connection.send(controls)

    def close(self) -> None:
        """Ends the performance."""
        with contextlib.suppress(OSError):
            self._connection.send(None)
        self._process.join(5.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._connection.close()
