"""`ddsp live`: a session with instruments, devices and recordings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from ddsp_cli.audio.write import check_format, check_writable, nearest_rate_hz
from ddsp_cli.errors import Kind, UsageError
from ddsp_cli.live.devices import NULL, StreamSettings, check_devices, choose_midi_port
from ddsp_cli.live.keyboard import MAX_VOICES
from ddsp_cli.live.mixer import Controls
from ddsp_cli.live.performer import LIVE_SEGMENTS, LiveSettings, check_latency
from ddsp_cli.live.process import Job, LiveProcess, LiveStatus
from ddsp_cli.live.tape import FeedbackDetector, Recorder
from ddsp_cli.workflows import models as library
from ddsp_cli.workflows.arguments import PathLike, number, whole_number
from ddsp_cli.workflows.performance import RANGES

#: Samples of a block of the device.
BLOCK_RANGE = (32, 8192)

#: Default file of a recording.
DEFAULT_RECORDING = Path("live.wav")

#: This number of drop-outs within `STRUGGLE_S` means that the computer cannot keep up.
STRUGGLE_DROPOUTS, STRUGGLE_S = 3, 5.0

#: Load from which a warning is shown.
FULL_LOAD = 0.85


@dataclass(frozen=True)
class LiveView:
    """State of a session, for the display.

    Attributes:
      status: see `LiveStatus`.
      controls: see `Controls`.
      instrument: name of the one that plays.
      recording: file of the running recording, or None.
      recorded_s: its length.
      remarks: warnings, as sentences.
    """

    status: LiveStatus
    controls: Controls
    instrument: str
    recording: Path | None
    recorded_s: float
    remarks: tuple[str, ...]


class LiveSession:
    """A performance with open devices, until it is closed.

    Args:
      models: names or paths of the instruments.
      input, output: name or number of the devices; None for the system's.
      transpose: semitones.
      threshold: see `ddsp_cli.transfer`.
      block: samples of a block of the device.
      record: file to record into from the beginning; None for recordings on request only.
      force: replace a recording that exists.
      seed: of the noise.
      latency: `safe` or `low`, see `LiveSettings`.
      midi: name or number of the port of a MIDI keyboard that plays in place of a microphone; "" for the first one.
      voices: how many notes of the keyboard sound at once; 1 plays one line, legato where keys overlap.

    Raises:
      UsageError: an argument is invalid.
      ModelError: there is no such instrument.
      InputError: there is no such device, or it cannot be opened.
      OutputError: the recording exists, or cannot be written.
    """

    def __init__(
        self,
        models: Sequence[PathLike],
        *,
        input: str | None = None,
        output: str | None = None,
        transpose: float | str = 0.0,
        threshold: float | str = LIVE_SEGMENTS.below_peak_db,
        block: int = 256,
        record: PathLike | None = None,
        force: bool = False,
        seed: int = 0,
        latency: str = "safe",
        midi: str | None = None,
        voices: int = 1,
    ) -> None:
        if not models:
            raise UsageError("no instrument was named", kind=Kind.NO_NAME)
        self._record = None if record is None else Path(record)
        if self._record is not None:
            check_format(self._record)
            check_writable(self._record, force)
        choices = library.choose_all([os.fspath(model) for model in models])
        instruments = tuple(choice.load() for choice in choices)
        self.names = tuple(choice.name for choice in choices)
        block_samples = whole_number(block, "block", *BLOCK_RANGE)
        n_voices = whole_number(voices, "voices", 1, MAX_VOICES)
        if midi is None and n_voices > 1:
            raise UsageError("several voices are played from a MIDI keyboard", "Name its port.", parameter="voices")
        if midi is not None and input not in {None, NULL}:
            raise UsageError("a MIDI keyboard plays in place of a microphone", "Leave one out.", parameter="input")
        port = None if midi is None else choose_midi_port(midi)
        stream = StreamSettings(input if midi is None else "", output, block_samples)
        check_devices(stream)
        self.controls = Controls(
            transpose=number(transpose, "transpose", *RANGES["transpose"]),
            below_peak_db=number(threshold, "threshold", *RANGES["threshold"]),
        )
        settings = LiveSettings(seed=whole_number(seed, "seed", *RANGES["seed"]), latency=check_latency(latency))
        self._process = LiveProcess(Job(stream, instruments, self.controls, settings, port, n_voices))
        #: Rate of the devices in Hz.
        self.rate_hz = self._process.rate_hz
        self._recorder = Recorder(self._process.tape, self.rate_hz)
        self._feedback, self._listened = FeedbackDetector(self.rate_hz), 0
        self._dropouts: list[tuple[float, float]] = []
        if self._record is not None:
            if nearest_rate_hz(self._record, self.rate_hz) != self.rate_hz:
                self._process.close()
                raise UsageError(f"{self._record} cannot hold sound at {self.rate_hz} Hz", "Record a .wav file.",
                                 parameter="record")  # fmt: skip
            self._recorder.start(self._record, force)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the performance and completes the recording."""
        try:
            self._process.close()
        finally:
            self._recorder.stop()
        if self._recorder.problem is not None:
            raise self._recorder.problem

    @property
    def recordings(self) -> list[Path]:
        """Recordings that are complete."""
        return list(self._recorder.finished)

    def change(self, **changes: object) -> None:
        """Changes some of the `Controls`."""
        self.controls = replace(self.controls, **changes)  # type: ignore[arg-type]
        self._process.change(self.controls)

    def toggle_recording(self) -> None:
        """Starts a recording under a free name, or ends the running one."""
        if self._recorder.is_recording:
            self._recorder.stop()
        else:
            self._recorder.start(free_name(self._record or DEFAULT_RECORDING))

    def view(self) -> LiveView | None:
        """Returns the state of the performance; None when it has ended. Call it a few times a second.

        Raises:
          InputError: a device has gone.
          OutputError: the recording cannot be written.
        """
        if self._recorder.problem is not None:
            problem, self._recorder.problem = self._recorder.problem, None
            raise problem
        if not self._process.is_alive:
            return None
        status = self._process.status()
        lost, both = self._process.tape.read(self._listened)
        self._listened += lost + len(both)
        self._feedback.push(both)
        recorder = self._recorder
        return LiveView(
            status=status,
            controls=self.controls,
            instrument=self.names[self.controls.instrument],
            recording=recorder.path if recorder.is_recording else None,
            recorded_s=recorder.seconds,
            remarks=tuple(self._remarks(status)),
        )

    def _remarks(self, status: LiveStatus) -> list[str]:
        remarks = []
        self._dropouts.append((status.seconds, status.n_dropouts))
        self._dropouts = [pair for pair in self._dropouts if pair[0] > status.seconds - STRUGGLE_S]
        if status.n_dropouts - self._dropouts[0][1] >= STRUGGLE_DROPOUTS or status.load > FULL_LOAD:
            remarks.append(
                "The computer cannot keep up: close other programs, choose larger blocks or a lighter instrument."
            )
        if self._recorder.n_lost:
            lost_s = self._recorder.n_lost / self.rate_hz
            remarks.append(f"The disk is too slow: {lost_s:.1f} s of the recording are silent.")
        if self._feedback.is_feedback:
            remarks.append("The microphone hears the instrument: use headphones, or turn the loudspeaker down.")
        return remarks


def free_name(path: Path) -> Path:
    """Returns the path, or the first of `NAME-2`, `NAME-3` ... beside it that does not exist."""
    number_, free = 1, path
    while free.exists():
        number_ += 1
        free = path.with_name(f"{path.stem}-{number_}{path.suffix}")
    return free
