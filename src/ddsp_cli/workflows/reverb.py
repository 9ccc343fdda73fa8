"""`ddsp reverb`: recordings in a room that an instrument learned or that was recorded. S samples, C channels."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddsp_cli.analysis.recording_checks import ClippingWatch, file_warnings
from ddsp_cli.arrays import FloatArray
from ddsp_cli.audio import read
from ddsp_cli.audio.resample import at_rate
from ddsp_cli.audio.write import write_fitting
from ddsp_cli.errors import InputError, Kind, UsageError
from ddsp_cli.synthesis.reverb import Reverb, tail_s
from ddsp_cli.workflows import models
from ddsp_cli.workflows.arguments import PathLike, as_path, as_paths, number
from ddsp_cli.workflows.transfer import Batch, Progress
from ddsp_cli.workflows.transfer_plan import Failure, Job, Outputs, folders_for, plan_jobs, written_rate

#: Length of the blocks in which a recording is convolved.
BLOCK_S = 2.0


@dataclass(frozen=True)
class ReverbResult:
    """One recording in a room.

    Attributes:
      input, output: files.
      seconds: length of the output.
      wall_s: how long it took.
      peak: of the output, 1 is full scale.
      gain_db: 0, or by how much the sound was turned down to fit.
      sample_rate_hz: of the output.
      tail_s: how long the room rings.
      remarks: faults of the file, as sentences.
    """

    input: Path
    output: Path
    seconds: float
    wall_s: float
    peak: float
    gain_db: float
    sample_rate_hz: int
    tail_s: float
    remarks: tuple[str, ...] = ()


def reverb_files(
    inputs: PathLike | Sequence[PathLike],
    room: PathLike,
    out: PathLike | None = None,
    *,
    wet: float | str = 1.0,
    tail: bool = False,
    sample_rate_hz: int | None = None,
    bits: str | int | None = None,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> Batch[ReverbResult]:
    """Puts recordings into a room, each channel by itself, and leaves them alone otherwise.

    Args:
      inputs: sound files and folders.
      room: an instrument, or a sound file with an impulse response.
      out: a file (for one input), or a folder; by default `INPUT_ROOM-room.wav` in the current folder.
      wet: gain of the room; 1 is as learned or recorded.
      tail: continue the output until the room is 60 dB down; by default it is as long as the input.
      sample_rate_hz: of the output; by default the input's own.
      bits: `16`, `24`, `32` or `float`; by default as the input.
      seed: of the dither.
      force: replace files that exist.
      progress: called while the work is done.

    Raises:
      UsageError: no room was named, its gain is 0, or an input is no recording.
      InputError: the only input cannot be read, or none of several.
      ModelError, OutputError: as `transfer_files`.
    """
    name = models.room_word(os.fspath(room))
    gain = number(wet, "wet", 0.0, models.MOST_WET)
    if name in {"model", "none", ""}:
        raise UsageError("no room was named", "Name an instrument or an impulse response.", kind=Kind.NO_ROOM)
    if gain == 0.0:
        raise UsageError(f"{wet} adds no room to the recording", "Give a number above 0, such as 0.5.", parameter="wet")
    outputs = Outputs(as_path(out), force, sample_rate_hz=sample_rate_hz, bits=bits)
    also_read = [Path(name)] if Path(name).is_file() else []
    plan = plan_jobs(as_paths(inputs), [f"{Path(name).stem}-room"], outputs, also_read=also_read)
    responses: dict[int, FloatArray] = {}
    failures, jobs = plan.failures, [job for job in plan.jobs if job.info is not None]
    for job in plan.jobs:
        if job.info is None:
            message = f"{job.source} holds notes, not a recording"
            problem = UsageError(message, "Play it on an instrument.", kind=Kind.SCORE, path=job.source)
            if not jobs:
                raise problem
            failures.append(Failure(job.source, problem))
    for job in jobs:
        assert job.info is not None
        rate_hz = job.info.sample_rate_hz
        if rate_hz not in responses:
            responses[rate_hz] = np.asarray(models.find_room(name, gain, rate_hz, None))
    results = []
    with folders_for(jobs):
        for job in jobs:
            try:
                results.append(_place(job, responses, tail, force, seed, progress))
            except InputError as error:
                failures.append(Failure(job.source, error))
    if failures and not results:
        raise failures[0].error
    return Batch(tuple(results), tuple(failures), tuple(plan.own))


def _place(
    job: Job, responses: dict[int, FloatArray], tail: bool, force: bool, seed: int, progress: Progress | None
) -> ReverbResult:
    """Puts one recording into the room for its rate."""
    assert job.info is not None
    started = time.perf_counter()
    own_hz, n_channels = job.info.sample_rate_hz, job.info.n_channels
    response, (rate_hz, of_rate) = responses[own_hz], written_rate(job.output, job.rate_hz or own_hz)
    ringing_s = tail_s(response, own_hz)
    rest_s = ringing_s if tail else 0.0
    decoded, clipping = read.Decoded(), ClippingWatch()
    fit = write_fitting(
        job.output,
        at_rate(_in_room(job.info, response, rest_s, progress, decoded, clipping), own_hz, rate_hz, n_channels),
        rate_hz,
        n_samples=None,
        subtype=job.subtype,
        seed=seed,
        force=force,
    )
    return ReverbResult(
        input=job.source,
        output=job.output,
        seconds=decoded.n_samples / own_hz + rest_s,
        wall_s=time.perf_counter() - started,
        peak=fit.peak,
        gain_db=fit.gain_db,
        sample_rate_hz=rate_hz,
        tail_s=ringing_s,
        remarks=(*file_warnings(decoded, clipping, own_hz), *of_rate),
    )


def _in_room(
    info: read.AudioInfo,
    response: FloatArray,
    rest_s: float,
    progress: Progress | None,
    decoded: read.Decoded,
    clipping: ClippingWatch,
) -> Iterator[FloatArray]:
    """Yields the recording with the room added, [S] or [S, C] a block, at its own rate; then the end of the room."""
    rooms = [Reverb(response) for _ in range(info.n_channels)]
    waiting: list[FloatArray] = []
    n_done = 0
    for _ in read.decoded_blocks(info.path, BLOCK_S, waiting.append, decoded):
        block = waiting.pop()
        clipping(block)
        n_done += len(block)
        if progress is not None:
            progress(f"{info.path.name}: playing", n_done / info.sample_rate_hz, info.seconds)
        yield _pushed(rooms, block)
    rest = np.zeros((math.ceil(rest_s * info.sample_rate_hz), info.n_channels), np.float32)
    if len(rest):
        yield _pushed(rooms, rest)


def _pushed(rooms: list[Reverb], block: FloatArray) -> FloatArray:
    wet = np.stack([room.push(channel) for room, channel in zip(rooms, block.T, strict=True)], axis=1)
    return np.ascontiguousarray(wet if len(rooms) > 1 else wet[:, 0])
