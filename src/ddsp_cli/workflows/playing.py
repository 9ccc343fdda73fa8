"""Curves to a sound file: rendered in blocks, brought to the file's rate, its peak made to fit, rounded fairly.

Memory does not depend on the length: sound waits in a temporary file until its peak is known. Shapes: S samples, C
channels; mono is [S].
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from ddsp_cli.errors import OutputError
from ddsp_cli.features.sink import write_audio
from ddsp_cli.runtime.adapt import Adapted
from ddsp_cli.runtime.instrument import Instrument

#: Sound up to this size waits in memory for its peak to be known, longer sound in a temporary file.
SPOOL_BYTES = 16 * 1024 * 1024

PEAK_LIMIT = 10.0 ** (-0.1 / 20.0)
FADE_S = 0.008

#: One step of 16 bits, on a scale where full scale is 1.
STEP_16 = 2.0**-15


def play_to_file(
    adapted: Adapted,
    instrument: Instrument,
    path: Path,
    *,
    rate_hz: int,
    n_samples: int,
    subtype: str | None,
    seed: int = 0,
    room: bool | np.ndarray = True,
    force: bool = False,
    progress: Callable[[float], None] | None = None,
    timbre: Iterable[np.ndarray] = (),
    formant: float = 0.0,
) -> tuple[float, float]:
    """Plays curves into a file.

    Args:
      adapted: what to play.
      instrument: what plays it.
      path: where to; the suffix decides the format.
      rate_hz: of the file.
      n_samples: of the file; the end is faded out.
      subtype: encoding, None for what the format has.
      seed: of the noise.
      room: see `Instrument.render`.
      force: replace an existing file.
      progress: told the seconds that are rendered.
      timbre, formant: see `Instrument.render`.

    Returns:
      The peak of the file, and by how much the sound was turned down to fit (a factor up to 1).

    Raises:
      OutputError: no space, or the file cannot be written.
    """
    curves = adapted.at(instrument.model.frame_rate_hz)
    blocks = instrument.render(*curves, seed=seed, room=room, levels=True, timbre=timbre, formant=formant)
    own_hz = instrument.model.sample_rate_hz
    blocks = at_rate(_told(blocks, own_hz, progress), own_hz, rate_hz)
    return write_fitting(path, blocks, rate_hz, n_samples=n_samples, subtype=subtype, seed=seed, force=force)


def write_fitting(
    path: Path,
    blocks: Iterable[np.ndarray],
    rate_hz: int,
    *,
    n_samples: int,
    subtype: str | None,
    seed: int = 0,
    force: bool = False,
) -> tuple[float, float]:
    """Writes sound ([S] or [S, C] a block) that is turned down, where it has to be, as a whole.

    Arguments and result are those of `play_to_file`.
    """
    shape: tuple[int, ...] = ()
    with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
        peak = 0.0
        for block in blocks:
            peak, shape = max(peak, float(np.abs(block).max(initial=0.0))), block.shape[1:]
            try:
                spool.write(block.tobytes())
            except OSError as problem:
                raise OutputError(
                    f"{tempfile.gettempdir()} has no room for the sound until its peak is known: "
                    f"{problem.strerror or problem}",
                    "Free some space, or set TMPDIR to a folder that has some.",
                ) from problem
        gain = min(1.0, PEAK_LIMIT / peak) if peak > 0.0 else 1.0
        finished = _spooled(spool, n_samples, shape, gain, rate_hz)
        if subtype == "PCM_16":
            finished = dithered(finished, seed)
        write_audio(path, finished, rate_hz, subtype, force)
    return peak * gain, gain


def _told(blocks: Iterator[np.ndarray], rate_hz: int, progress: Callable[[float], None] | None) -> Iterator[np.ndarray]:
    n_done = 0
    for block in blocks:
        n_done += len(block)
        if progress is not None:
            progress(n_done / rate_hz)
        yield block


def at_rate(blocks: Iterable[np.ndarray], from_hz: int, to_hz: int, n_channels: int = 1) -> Iterator[np.ndarray]:
    """The same sound, [S] or [S, C] a block, at another rate, in time with it."""
    if from_hz == to_hz:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(from_hz, to_hz, n_channels, dtype="float32")
    end = np.zeros((0, n_channels) if n_channels > 1 else 0, np.float32)
    for block in blocks:
        yield np.asarray(stream.resample_chunk(block))
    yield np.asarray(stream.resample_chunk(end, last=True))


def _spooled(spool: IO[Any], n_samples: int, shape: tuple[int, ...], gain: float, rate_hz: int) -> Iterator[np.ndarray]:
    """Reads the sound back: exactly `n_samples` of a shape, turned down by `gain`, its end faded out."""
    spool.seek(0)
    n_fade = min(n_samples, max(1, round(FADE_S * rate_hz)))
    position, n_values = 0, int(np.prod(shape))
    while position < n_samples:
        n = min(1 << 16, n_samples - position)
        values = np.frombuffer(spool.read(4 * n * n_values), np.float32)
        block = np.pad(values, (0, n * n_values - len(values))).reshape(n, *shape) * np.float32(gain)
        # The room's tail goes on beyond the end; cut off there, it would click.
        fade = np.minimum(1.0, (n_samples - position - np.arange(n, dtype=np.float32)) / n_fade).astype(np.float32)
        yield block * fade.reshape(n, *(1 for _ in shape))
        position += n


def dithered(blocks: Iterator[np.ndarray], seed: int) -> Iterator[np.ndarray]:
    """Sound with triangular noise of two steps of 16 bits, so that soft tones fade into noise and not into buzz.

    Silence stays silence.
    """
    random = np.random.default_rng((seed, 16))
    for block in blocks:
        noise = random.random((2, *block.shape), dtype=np.float32)
        # Just short of full scale the noise would be clipped on one side only, which is worse than none.
        quiet = np.abs(block) < 1.0 - 2.0 * STEP_16
        sounding = np.abs(block) > 0.1 * STEP_16
        yield block + (noise[0] - noise[1]) * np.float32(STEP_16) * (quiet & sounding)
