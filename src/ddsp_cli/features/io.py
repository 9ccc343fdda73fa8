"""Sound files: what they hold, reading them block by block, writing them so that nothing half-written remains.

Everything libsndfile opens is read (wav, flac, ogg, opus, mp3, aiff, caf ...), in any bit depth, channel count and
rate. Shapes: S samples, C channels.
"""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.errors import InputError, OutputError, UsageError

#: What a folder is searched for; a file named outright may have any suffix.
AUDIO_SUFFIXES = frozenset({
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".w64", ".wav",
})  # fmt: skip

#: A header outside this range is a damaged one: no recording has it, and resampling from it would not end.
PLAUSIBLE_RATES_HZ = (1000, 1_000_000)

#: Numbers decoded at once at most (8 MiB of float32), whatever the rate and the number of channels.
MAX_BLOCK_VALUES = 1 << 21

#: libsndfile's Vorbis encoder keeps a block on the stack and overflows it with long ones.
WRITE_CHUNK_SAMPLES = 1 << 15

_SUBTYPES = {
    ".wav": "PCM_24", ".flac": "PCM_24", ".aiff": "PCM_24", ".aif": "PCM_24", ".ogg": "VORBIS", ".oga": "VORBIS",
    ".opus": "OPUS", ".mp3": "MPEG_LAYER_III", ".caf": "PCM_24", ".w64": "PCM_24", ".rf64": "PCM_24", ".au": "PCM_24",
}  # fmt: skip
_FORMATS = {".aif": "AIFF", ".oga": "OGG", ".opus": "OGG"}


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a sound file says.

    Attributes:
      path: the file.
      sample_rate_hz: its own rate.
      n_channels: 1 for mono.
      n_samples: samples per channel; what is really there can be less in a damaged file.
      seconds: n_samples / sample_rate_hz.
    """

    path: Path
    sample_rate_hz: int
    n_channels: int
    n_samples: int
    seconds: float


def probe(path: Path) -> AudioInfo:
    """Reads a file's header.

    Raises:
      InputError: it is missing, a folder, unreadable, not audio, or holds no samples.
    """
    path = Path(path)
    with _open(path) as file:
        rate_hz, n_samples = int(file.samplerate), int(file.frames)
        info = AudioInfo(path, rate_hz, int(file.channels), n_samples, n_samples / max(rate_hz, 1))
    if not PLAUSIBLE_RATES_HZ[0] <= info.sample_rate_hz <= PLAUSIBLE_RATES_HZ[1]:
        raise InputError(f"{path} claims a sample rate of {info.sample_rate_hz} Hz", "The file is probably damaged.")
    if info.n_samples <= 0:
        raise InputError(f"{path} holds no sound: it has 0 samples")
    return info


def mono_blocks(path: Path, rate_hz: int = ANALYSIS_RATE_HZ, block_s: float = 10.0) -> Iterator[np.ndarray]:
    """Reads a file as mono at a given rate, a block at a time, in memory that does not depend on its length.

    Channels are averaged, then resampled by soxr at its high quality; the blocks together have
    round(n_samples · rate_hz / sample_rate_hz) samples and do not depend on `block_s`.

    Args:
      path: the file.
      rate_hz: the rate of the result.
      block_s: how much to decode at once, in seconds of the recording.

    Yields:
      [S] float32, S differing from block to block, never empty.

    Raises:
      InputError: what `probe` raises, a damaged file, NaN or infinite samples, no samples at all.
    """
    import soxr

    info = probe(path)
    same_rate = info.sample_rate_hz == rate_hz
    stream = None if same_rate else soxr.ResampleStream(info.sample_rate_hz, rate_hz, 1, dtype="float32")
    n_read = 0
    for block in _decoded_blocks(info, block_s):
        n_read += len(block)
        resampled = block if stream is None else np.asarray(stream.resample_chunk(block))
        if len(resampled):
            yield resampled
    if n_read == 0:
        raise InputError(f"{path} holds no sound that can be decoded", "The file is probably damaged.")
    if stream is not None:
        rest = np.asarray(stream.resample_chunk(np.zeros(0, np.float32), last=True))
        if len(rest):
            yield rest


def read_mono(path: Path, rate_hz: int = ANALYSIS_RATE_HZ) -> np.ndarray:
    """Reads a whole file as mono at a given rate.

    Returns:
      [S] float32.

    Raises:
      InputError: as `mono_blocks`.
    """
    blocks = list(mono_blocks(path, rate_hz))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


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
    # A short name of its own: the target's can already be as long as file names may be.
    part = path.parent / f".ddsp-{secrets.token_hex(6)}{suffix}"
    try:
        n_samples = _write_part(part, blocks, rate_hz, _FORMATS.get(suffix, suffix[1:].upper()),
                                subtype or _SUBTYPES[suffix])  # fmt: skip
        os.replace(part, path)
    except OSError as problem:
        raise OutputError(f"{path} cannot be written: {problem.strerror or problem}") from problem
    finally:
        part.unlink(missing_ok=True)
    return n_samples


def check_writable(path: Path, force: bool = False) -> None:
    """Says early what `write_audio` would only find out after the work is done.

    Raises:
      OutputError: the place is taken, or its folder is missing or read-only.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path} is a folder, not a place for a file")
    if path.exists() and not force:
        raise OutputError(f"{path} exists already", "Use --force to replace it, or give another name.")
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist", "Make it first, or write somewhere else.")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"the folder {path.parent} cannot be written to", "Write somewhere else with --out.")


def list_audio(paths: Sequence[Path]) -> list[Path]:
    """The sound files among files and folders, each once, in a fixed order.

    Folders are searched to any depth; hidden files, other kinds of files and links to folders are passed over.
    Files named outright are kept whatever their suffix, so that a wrong one is reported rather than missed.

    Raises:
      InputError: a path is missing, or a folder holds no sound file.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            if not path.exists():
                raise InputError(f"{path} does not exist")
            found[path] = None
            continue
        inside = _search(path)
        if not inside:
            known = ", ".join(sorted(suffix[1:] for suffix in AUDIO_SUFFIXES))
            raise InputError(f"the folder {path} holds no sound files", f"Looked for {known}.")
        found.update(dict.fromkeys(inside))
    return list(found)


def _search(folder: Path) -> list[Path]:
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):  # does not follow links, so loops cannot catch it
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(parent) / name
            for name in names
            if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith(".")
        ]
    return sorted((path for path in found if path.is_file()), key=lambda path: path.relative_to(folder).as_posix())


def _open(path: Path) -> Any:
    """A `soundfile.SoundFile` for reading, or an InputError that says why not."""
    import soundfile

    if path.is_dir():
        raise InputError(f"{path} is a folder, not a sound file")
    try:
        with path.open("rb") as stream:
            empty = not stream.read(1)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError) as problem:
        raise InputError(f"{path} cannot be read: {getattr(problem, 'strerror', None) or problem}") from problem
    if empty:
        raise InputError(f"{path} is an empty file")
    try:
        return soundfile.SoundFile(path)
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as problem:
        # TypeError: soundfile asks for the rate of files that it takes for headerless because of their suffix.
        raise InputError(
            f"{path} is not a sound file that can be read", "Readable are wav, flac, ogg, opus, mp3, aiff and more."
        ) from problem


def _decoded_blocks(info: AudioInfo, block_s: float) -> Iterator[np.ndarray]:
    """Mono blocks [S] float32 at the file's own rate, checked to be finite."""
    import soundfile

    wanted = max(1, math.ceil(block_s * info.sample_rate_hz))
    n_block = max(1, min(wanted, MAX_BLOCK_VALUES // info.n_channels))
    with _open(info.path) as file:
        while True:
            try:
                block = file.read(n_block, dtype="float32", always_2d=True)
            except (soundfile.SoundFileError, OSError) as problem:
                raise InputError(f"{info.path} is damaged and cannot be decoded") from problem
            if not len(block):
                return
            mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float64).astype(np.float32)
            if not np.isfinite(mono).all():
                raise InputError(
                    f"{info.path} holds NaN or infinite samples", "Export it again from the program it came from."
                )
            yield np.ascontiguousarray(mono)


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
        raise OSError(str(problem)) from problem
    except ValueError as problem:
        raise UsageError(f"{kind.lower()} cannot hold this sound: {problem}") from problem
    finally:
        if file is not None and not file.closed:
            file.close()
    return n_samples
