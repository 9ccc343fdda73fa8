"""Sound files: what they hold, and reading them block by block. (Writing them: `sink`.)

Everything libsndfile opens is read (wav, flac, ogg, opus, mp3, aiff, caf ...), in any bit depth, channel count and
rate. Shapes: S samples, C channels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.audio.resample import Resampler
from ddsp_cli.audio.write import check_writable, write_audio
from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.errors import InputError

__all__ = [
    "AUDIO_SUFFIXES", "AudioInfo", "Resampler", "check_writable", "decoded_blocks", "list_audio", "mono_blocks",
    "probe", "read_mono", "write_audio",
]  # fmt: skip

#: What a folder is searched for; a file named outright may have any suffix.
AUDIO_SUFFIXES = frozenset({
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".w64", ".wav",
})  # fmt: skip

#: A header outside this range is a damaged one: no recording has it, and resampling from it would not end.
PLAUSIBLE_RATES_HZ = (1000, 1_000_000)

#: Samples beyond this are damage: even floats scaled as 16-bit integers stay below, and their squares can be summed.
MAX_AMPLITUDE = 1e6

#: Numbers decoded at once at most (8 MiB of float32), whatever the rate and the number of channels.
MAX_BLOCK_VALUES = 1 << 21


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
      InputError: what `probe` raises, a damaged file, NaN or infinity, no samples at all.
    """
    resampler: Resampler | None = None
    for info, block in decoded_blocks(path, block_s):
        resampler = resampler or Resampler(info.sample_rate_hz, rate_hz)
        resampled = resampler.push(block)
        if len(resampled):
            yield resampled
    rest = resampler.finish() if resampler is not None else np.zeros(0, np.float32)
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


def decoded_blocks(
    path: Path, block_s: float = 10.0, watch: Callable[[np.ndarray], None] | None = None
) -> Iterator[tuple[AudioInfo, np.ndarray]]:
    """Reads a file at its own rate, a block at a time, its channels averaged.

    Args:
      path: the file.
      block_s: how much to decode at once.
      watch: shown each block [S, C] as it was decoded, before anything is done to it.

    Yields:
      What the header says, and the next samples [S] float32.

    Raises:
      InputError: what `probe` raises, a damaged file, NaN or infinity, no samples at all.
    """
    import soundfile

    info = probe(path)
    wanted = max(1, math.ceil(block_s * info.sample_rate_hz))
    n_block = max(1, min(wanted, MAX_BLOCK_VALUES // info.n_channels))
    n_read = 0
    with _open(info.path) as file:
        while True:
            try:
                block = file.read(n_block, dtype="float32", always_2d=True)
            except (soundfile.SoundFileError, OSError) as problem:
                raise InputError(f"{info.path} is damaged and cannot be decoded") from problem
            if not len(block):
                break
            if watch is not None:
                watch(block)
            mono = average_channels(block, str(info.path))
            n_read += len(mono)
            yield info, np.ascontiguousarray(mono)
    if n_read == 0:
        raise InputError(f"{info.path} holds no sound that can be decoded", "The file is probably damaged.")


def average_channels(audio: FloatArray, name: str = "the sound") -> FloatArray:
    """Mixes channels down to mono: their mean.

    Args:
      audio: [S, C].
      name: where it comes from, for messages.

    Returns:
      [S] float32.

    Raises:
      InputError: NaN, infinity, or samples beyond `MAX_AMPLITUDE`.
    """
    mono = audio[:, 0] if audio.shape[1] == 1 else audio.mean(axis=1, dtype=np.float64)
    mono = np.asarray(mono, np.float32)
    if not np.isfinite(mono).all():
        raise InputError(f"{name} contains NaN or infinity", "Export it again from the program it came from.")
    if len(mono) and max(float(mono.max()), -float(mono.min())) > MAX_AMPLITUDE:
        raise InputError(f"{name} has samples far beyond full scale", "Export it again from the program it came from.")
    return mono
