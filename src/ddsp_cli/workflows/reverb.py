"""`ddsp transfer --model none`: a recording as it is, in a room that an instrument learned or somebody recorded."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ddsp_cli.audio import read
from ddsp_cli.audio.resample import at_rate
from ddsp_cli.audio.write import nearest_rate_hz, write_fitting
from ddsp_cli.errors import UsageError
from ddsp_cli.synthesis.reverb import Reverb, tail_s
from ddsp_cli.workflows.models import find_room
from ddsp_cli.workflows.transfer import Job, Progress, TransferResult, Wanted, folders_for, plan_jobs

#: What `--model` is then.
NO_INSTRUMENT = "none"

BLOCK_S = 2.0


def reverberate(
    inputs: Sequence[Path], wanted: Wanted, room: str, wet: float, seed: int, progress: Progress
) -> list[TransferResult]:
    """Puts recordings into a room, each channel by itself.

    Args:
      inputs: sound files and folders.
      wanted: what shall come out; by default `INPUT_ROOM-room.wav`.
      room: an instrument, or a sound file with an impulse response.
      wet: how much of it.
      seed: of the rounding to 16 bits.
      progress: told how far it is.

    Returns:
      One result per input, in order.

    Raises:
      UsageError: no room was named, or an input is no recording.
      InputError, ModelError, OutputError: as `transfer`.
    """
    if room in {"model", "none"} or wet == 0.0:
        raise UsageError(
            "--model none leaves a recording as it is and puts it into a room, but no room was named",
            "Name an instrument or an impulse response: --room flute.",
        )
    jobs = plan_jobs(list(inputs), [f"{Path(room).stem}-room"], wanted)
    responses: dict[int, np.ndarray] = {}
    for job in jobs:
        if job.info is None:
            raise UsageError(f"{job.source} holds notes, not a recording", "Let an instrument play it: --model NAME.")
        rate_hz = job.info.sample_rate_hz
        if rate_hz not in responses:
            responses[rate_hz] = np.asarray(find_room(room, wet, rate_hz, None))
    with folders_for(jobs):
        return [_place(job, responses, wanted.force, seed, progress) for job in jobs]


def _place(job: Job, responses: dict[int, np.ndarray], force: bool, seed: int, progress: Progress) -> TransferResult:
    """One recording, put into the room for its rate."""
    assert job.info is not None
    started = time.perf_counter()
    own_hz, n_channels = job.info.sample_rate_hz, job.info.n_channels
    rate_hz = nearest_rate_hz(job.output, job.rate_hz or own_hz)
    decoded = read.Decoded()
    peak, gain = write_fitting(
        job.output,
        at_rate(_in_room(job.info, responses[own_hz], progress, decoded), own_hz, rate_hz, n_channels),
        rate_hz,
        n_samples=None,
        subtype=job.subtype,
        seed=seed,
        force=force,
    )
    return TransferResult(
        input=job.source,
        output=job.output,
        plot=None,
        controls=None,
        instrument="",
        seconds=decoded.n_samples / own_hz,
        wall_s=time.perf_counter() - started,
        transpose_semitones=0.0,
        key="",
        n_segments=0,
        peak=peak,
        gain_db=20.0 * math.log10(gain),
        sample_rate_hz=rate_hz,
        tail_s=tail_s(responses[own_hz], own_hz),
    )


def _in_room(
    info: read.AudioInfo, response: np.ndarray, progress: Progress, into: read.Decoded
) -> Iterator[np.ndarray]:
    """The recording with the room added, [S] or [S, C] a block, at its own rate."""
    rooms = [Reverb(response) for _ in range(info.n_channels)]
    channels: list[np.ndarray] = []
    n_done = 0
    for _ in read.decoded_blocks(info.path, BLOCK_S, channels.append, into):
        block = channels.pop()
        n_done += len(block)
        progress(f"{info.path.name}: playing", n_done / info.sample_rate_hz, info.seconds)
        wet = np.stack([room.push(channel) for room, channel in zip(rooms, block.T, strict=True)], axis=1)
        yield np.ascontiguousarray(wet if info.n_channels > 1 else wet[:, 0])
