"""Writing sound files so that nothing half-written ever remains. Shapes: S samples, C channels."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from ddsp_cli.atomic import beside, writing
from ddsp_cli.errors import Kind, OutputError, UsageError

#: libsndfile's Vorbis encoder keeps a block on the stack and overflows it with long ones.
WRITE_CHUNK_SAMPLES = 1 << 15

_SUBTYPES = {
    ".wav": "PCM_24", ".flac": "PCM_24", ".aiff": "PCM_24", ".aif": "PCM_24", ".ogg": "VORBIS", ".oga": "VORBIS",
    ".opus": "OPUS", ".mp3": "MPEG_LAYER_III", ".caf": "PCM_24", ".w64": "PCM_24", ".rf64": "PCM_24", ".au": "PCM_24",
}  # fmt: skip

#: Sample rates of formats that have only some, and the highest of formats that have a limit.
_RATES_HZ = {
    ".mp3": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    ".opus": (8000, 12000, 16000, 24000, 48000),
}
_HIGHEST_RATE_HZ = {".ogg": 192_000, ".oga": 192_000, ".flac": 655_350}

_FORMATS = {".aif": "AIFF", ".oga": "OGG", ".opus": "OGG"}


def write_audio(
    path: Path, blocks: Iterable[np.ndarray], rate_hz: int, subtype: str | None = None, force: bool = False
) -> int:
    """Writes sound block by block beside its place, and moves it there when it is whole.

    Whatever goes wrong, also an interruption or an error inside `blocks`, nothing half-written is left and what
    stood at `path` before stays. Samples beyond ±1 are clipped by formats of integers.

    Args:
      path: where to; the suffix decides the format.
      blocks: arrays [S] or [S, C].
      rate_hz: sample rate.
      subtype: encoding as libsndfile names it; None takes 24 bits or what the format has.
      force: replace an existing file.

    Returns:
      How many samples (per channel) were written.

    Raises:
      UsageError: the suffix names no format that can be written.
      OutputError: the place is taken, its folder is missing or read-only, the disk is full.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _SUBTYPES:
        known = ", ".join(sorted(_SUBTYPES))
        raise UsageError(f"{path} has no suffix of a sound format that can be written", f"Use one of {known}.")
    check_writable(path, force)
    kind = _FORMATS.get(suffix, suffix[1:].upper())
    with writing(path), beside(path) as part:
        return _write_part(part, blocks, rate_hz, kind, subtype or _SUBTYPES[suffix])


def check_writable(path: Path, force: bool = False) -> None:
    """Says early what `write_audio` would only find out after the work is done.

    Raises:
      OutputError: the place is taken, or its folder is missing or read-only.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path} is a folder, not a place for a file")
    if path.exists() and not force:
        raise OutputError(
            f"{path} exists already", "Replace it with force=True, or choose another name.", kind=Kind.EXISTS
        )
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist", "Make it first, or write somewhere else.")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"the folder {path.parent} cannot be written to", "Choose another folder.")


def nearest_rate_hz(path: Path, rate_hz: int) -> int:
    """The sample rate that the format of a file has for sound of a rate: the same, the next higher, or the highest."""
    suffix = Path(path).suffix.lower()
    if suffix in _RATES_HZ:
        return min((rate for rate in _RATES_HZ[suffix] if rate >= rate_hz), default=_RATES_HZ[suffix][-1])
    return min(rate_hz, _HIGHEST_RATE_HZ.get(suffix, rate_hz))


def _write_part(part: Path, blocks: Iterable[np.ndarray], rate_hz: int, kind: str, subtype: str) -> int:
    import soundfile

    n_samples = 0
    file: Any = None
    try:
        for block in blocks:
            n_channels = 1 if block.ndim == 1 else block.shape[1]
            file = file or soundfile.SoundFile(part, "w", rate_hz, n_channels, subtype, format=kind)
            for start in range(0, len(block), WRITE_CHUNK_SAMPLES):
                file.write(block[start : start + WRITE_CHUNK_SAMPLES])
            n_samples += len(block)
        file = file or soundfile.SoundFile(part, "w", rate_hz, 1, subtype, format=kind)
        file.close()
    except soundfile.SoundFileError as problem:
        raise _reason(part, problem) from problem
    except ValueError as problem:
        raise UsageError(f"{kind.lower()} cannot hold this sound: {problem}") from problem
    finally:
        if file is not None and not file.closed:
            file.close()
    return n_samples


def _reason(part: Path, problem: Exception) -> OSError:
    """Why a file could not be written on: libsndfile says "System error.", the system itself that a disk is full."""
    try:
        with part.open("ab") as stream:
            stream.write(bytes(WRITE_CHUNK_SAMPLES))
    except OSError as reason:
        return reason
    return OSError(str(problem))


#: Sound up to this size waits in memory for its peak to be known, longer sound in a temporary file.
SPOOL_BYTES = 16 * 1024 * 1024

PEAK_LIMIT = 10.0 ** (-0.1 / 20.0)

FADE_S = 0.008

#: One step of 16 bits, on a scale where full scale is 1.
STEP_16 = 2.0**-15


def write_fitting(
    path: Path,
    blocks: Iterable[np.ndarray],
    rate_hz: int,
    *,
    n_samples: int | None,
    subtype: str | None,
    seed: int = 0,
    force: bool = False,
) -> tuple[float, float]:
    """Writes sound, scaled as a whole where its peak would be above `PEAK_LIMIT`, its end faded out.

    Args:
      path: where to; the suffix decides the format.
      blocks: [S] or [S, C] float32 each, full scale 1.
      rate_hz: of the blocks and the file.
      n_samples: length of the file per channel; None for that of the blocks.
      subtype: encoding as libsndfile names it, None for what the format has; `PCM_16` is dithered.
      seed: of the dither.
      force: replace an existing file.

    Returns:
      The peak of the file, and the gain that was applied (1 or less).

    Raises:
      OutputError: no space, or the file cannot be written.
    """
    n_written = 0
    shape: tuple[int, ...] = ()
    with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
        peak = 0.0
        for block in blocks:
            peak, shape = max(peak, float(np.abs(block).max(initial=0.0))), block.shape[1:]
            n_written += len(block)
            try:
                spool.write(block.tobytes())
            except OSError as problem:
                raise OutputError(
                    f"{tempfile.gettempdir()} has no room for the sound until its peak is known: "
                    f"{problem.strerror or problem}",
                    "Free some space, or set TMPDIR to a folder that has some.",
                ) from problem
        gain = min(1.0, PEAK_LIMIT / peak) if peak > 0.0 else 1.0
        finished = _spooled(spool, n_written if n_samples is None else n_samples, shape, gain, rate_hz)
        if subtype == "PCM_16":
            finished = dithered(finished, seed)
        write_audio(path, finished, rate_hz, subtype, force)
    return peak * gain, gain


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
