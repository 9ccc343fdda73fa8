"""Write sound files: scaled to fit, dithered, and moved into place only when they are complete.

Shapes: S samples, C channels.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ddsp_cli import __version__
from ddsp_cli.arrays import FloatArray
from ddsp_cli.atomic import beside, writing
from ddsp_cli.audio.integrated_loudness import LoudnessMeter
from ddsp_cli.errors import Kind, OutputError, UsageError
from ddsp_cli.spool import no_space

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

#: Formats whose headers count bytes in 32 bits: libsndfile writes longer files without an error, but no reader finds
#: their end. The rest of 2^32 is for the header. A longer WAV file is written as RF64 (EBU Tech 3306): WAV with counts
#: of 64 bits under the same suffix.
LARGEST_BYTES = {"WAV": (1 << 32) - (1 << 20), "AIFF": (1 << 32) - (1 << 20)}

_SAMPLE_BYTES = {"PCM_U8": 1, "PCM_S8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3, "DOUBLE": 8}

#: Content of the temporary files, for error messages.
_SPOOLED = "the sound until its peak is known"

#: The program, written into the header of every sound file where its format has a place for it.
SOFTWARE = f"ddsp {__version__}"

_FORMATS = {".aif": "AIFF", ".aiff": "AIFF", ".oga": "OGG", ".opus": "OGG"}


def write_audio(
    path: Path,
    blocks: Iterable[FloatArray],
    rate_hz: int,
    subtype: str | None = None,
    force: bool = False,
    n_samples: int = 0,
) -> int:
    """Writes sound block by block into a temporary file beside its place, and moves it there when it is complete.

    After an error or an interruption, also inside `blocks`, nothing half-written is left and an existing file stays.
    Samples beyond ±1 are clipped by formats of integers.

    Args:
      path: where to; the suffix decides the format.
      blocks: arrays [S] or [S, C].
      rate_hz: sample rate.
      subtype: encoding as libsndfile names it; None takes 24 bits, or the default of the format.
      force: replace an existing file.
      n_samples: length per channel, checked against the limit of the format; 0 where it is not known.

    Returns:
      How many samples (per channel) were written.

    Raises:
      UsageError: the suffix names no format that can be written.
      OutputError: the place is taken, its folder is missing or read-only, the disk is full, or the sound is longer
        than the format can hold.
    """
    path = Path(path)
    suffix = check_format(path)
    check_writable(path, force)
    with writing(path), beside(path) as part:
        return _write_part(part, path, blocks, rate_hz, subtype or _SUBTYPES[suffix], n_samples)


def container(path: Path, n_samples: int, n_channels: int = 1, subtype: str | None = None) -> str:
    """Returns the format that holds a sound, as libsndfile names it.

    Args:
      path: its suffix names the format.
      n_samples: length per channel.
      n_channels: 1 for mono.
      subtype: encoding; None for the default of the format.

    Raises:
      OutputError: the sound is longer than the format can hold.
    """
    kind = _kind(path)
    if fits(path, n_samples, n_channels, subtype):
        return kind
    if kind == "WAV":
        return "RF64"
    n_bytes = n_samples * n_channels * _sample_bytes(path, subtype)
    raise OutputError(
        f"{path} would have {n_bytes / 1e9:.1f} GB, and the format holds {LARGEST_BYTES[kind] / 1e9:.1f}",
        "Write a .wav, .flac, .caf or .w64.",
    )


def fits(path: Path, n_samples: int, n_channels: int = 1, subtype: str | None = None) -> bool:
    """Whether the format that a suffix names can count the bytes of a sound; arguments as for `container`."""
    return n_samples * n_channels * _sample_bytes(path, subtype) <= LARGEST_BYTES.get(_kind(path), math.inf)


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    return _FORMATS.get(suffix, suffix[1:].upper())


def _sample_bytes(path: Path, subtype: str | None) -> int:
    return _SAMPLE_BYTES.get(subtype or _SUBTYPES[path.suffix.lower()], 4)


def check_format(path: Path) -> str:
    """Returns the suffix of a sound file that can be written, in lower case.

    Raises:
      UsageError: its suffix names no such format.
    """
    suffix = path.suffix.lower()
    if suffix not in _SUBTYPES:
        known = ", ".join(sorted(_SUBTYPES))
        raise UsageError(f"{path} has no suffix of a sound format that can be written", f"Use one of {known}.")
    return suffix


def check_writable(path: Path, force: bool = False) -> None:
    """Makes the checks of `write_audio` before any work.

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
    """Returns the sample rate that a file format has for sound of a rate: the same, the next higher, or the highest."""
    suffix = Path(path).suffix.lower()
    if suffix in _RATES_HZ:
        return min((rate for rate in _RATES_HZ[suffix] if rate >= rate_hz), default=_RATES_HZ[suffix][-1])
    return min(rate_hz, _HIGHEST_RATE_HZ.get(suffix, rate_hz))


def _write_part(
    part: Path, path: Path, blocks: Iterable[FloatArray], rate_hz: int, subtype: str, n_expected: int
) -> int:
    import soundfile

    n_samples = 0
    file: Any = None
    kind = container(path, n_expected, 1, subtype)
    try:
        for block in blocks:
            n_channels = 1 if block.ndim == 1 else block.shape[1]
            if file is None:
                kind = container(path, n_expected, n_channels, subtype)
                file = _open(part, rate_hz, n_channels, subtype, kind)
            for start in range(0, len(block), WRITE_CHUNK_SAMPLES):
                file.write(block[start : start + WRITE_CHUNK_SAMPLES])
            n_samples += len(block)
            if kind != "RF64" and not fits(path, n_samples, n_channels, subtype):
                raise OutputError(f"{path} is longer than its format can hold", "Write a .flac, .caf or .w64.")
        file = file or _open(part, rate_hz, 1, subtype, kind)
        file.close()
    except soundfile.SoundFileError as problem:
        raise _reason(part, problem) from problem
    except ValueError as problem:
        raise UsageError(f"{kind.lower()} cannot hold this sound: {problem}") from problem
    finally:
        if file is not None and not file.closed:
            file.close()
    return n_samples


def _open(part: Path, rate_hz: int, n_channels: int, subtype: str, kind: str) -> Any:
    """Opens a new file, with the name of the program where its format keeps one."""
    import soundfile

    file = soundfile.SoundFile(part, "w", rate_hz, n_channels, subtype, format=kind)
    with contextlib.suppress(soundfile.SoundFileError):
        file.software = SOFTWARE
    return file


def written_by_ddsp(path: Path) -> bool:
    """Whether a sound file says that this program, in any version, wrote it."""
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            return str(file.software).startswith("ddsp ")
    except (soundfile.SoundFileError, OSError, TypeError, ValueError):  # the later reader reports the fault
        return False


def _reason(part: Path, problem: Exception) -> OSError:
    """Says why a file could not be written: libsndfile says "System error.", the system says that the disk is full."""
    try:
        with part.open("ab") as stream:
            stream.write(bytes(WRITE_CHUNK_SAMPLES))
    except OSError as reason:
        return reason
    return OSError(str(problem))


#: Sound up to this size is kept in memory until its peak is known, longer sound in a temporary file.
SPOOL_BYTES = 16 * 1024 * 1024

PEAK_LIMIT = 10.0 ** (-0.1 / 20.0)

FADE_S = 0.008

#: One step of 16 bits, on a scale where full scale is 1.
STEP_16 = 2.0**-15


class Fit(NamedTuple):
    """Peak, gain and loudness of a sound that was fitted to its file.

    Attributes:
      peak: of the result; 1 is full scale.
      gain: factor that was applied to the sound.
      loudness_lufs: integrated loudness of the result; None where no loudness was requested.
    """

    peak: float
    gain: float
    loudness_lufs: float | None

    @property
    def gain_db(self) -> float:
        return 20.0 * math.log10(self.gain)


class Fitted:
    """A sound of known length whose level is known; see `fit_level`.

    Attributes:
      fit: its level.
      n_samples: its length per channel.
    """

    def __init__(self, fit: Fit, spool: IO[Any], n_samples: int, shape: tuple[int, ...], rate_hz: int) -> None:
        self.fit, self.n_samples = fit, n_samples
        self._spool, self._shape, self._rate_hz = spool, shape, rate_hz

    def blocks(self) -> Iterator[FloatArray]:
        """Yields exactly `n_samples`, [S] or [S, C] a block, with the end faded out."""
        self._spool.seek(0)
        n_fade = min(self.n_samples, max(1, round(FADE_S * self._rate_hz)))
        position, n_values = 0, int(np.prod(self._shape))
        while position < self.n_samples:
            n = min(1 << 16, self.n_samples - position)
            values = np.frombuffer(self._spool.read(4 * n * n_values), np.float32)
            block = np.pad(values, (0, n * n_values - len(values))).reshape(n, *self._shape) * np.float32(self.fit.gain)
            # The room's tail may go on beyond the end; cut off there, it would click.
            left = self.n_samples - position - np.arange(n, dtype=np.float32)
            fade = np.minimum(1.0, left / n_fade).astype(np.float32)
            yield block * fade.reshape(n, *(1 for _ in self._shape))
            position += n


@contextlib.contextmanager
def fit_level(
    blocks: Iterable[FloatArray], rate_hz: int, *, n_samples: int | None, target_lufs: float | None = None
) -> Iterator[Fitted]:
    """Brings a sound, multiplied as a whole, to a loudness, and its peak below full scale (-0.1 dB).

    Memory does not depend on the length: the sound waits in a temporary file until its level is known.

    Args:
      blocks: [S] or [S, C] each.
      rate_hz: their rate.
      n_samples: length of the result per channel; a shorter sound is filled with silence, a longer one is cut. None for
        that of the blocks.
      target_lufs: integrated loudness of the result, as far as the peak allows; None turns the sound down
        where its peak demands it and leaves it unchanged otherwise.

    Yields:
      The sound. It can be read until the context ends.

    Raises:
      OutputError: the disk has no space for the temporary file.
    """
    _check_space(4 * (n_samples or 0))
    n_written = 0
    shape: tuple[int, ...] = ()
    meter: LoudnessMeter | None = None
    with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
        peak = 0.0
        for block in blocks:
            peak, shape = max(peak, float(np.abs(block).max(initial=0.0))), block.shape[1:]
            n_written += len(block)
            if target_lufs is not None:
                meter = meter or LoudnessMeter(rate_hz, block.shape[1] if block.ndim > 1 else 1)
                meter.push(block)
            try:
                spool.write(block.tobytes())
            except OSError as problem:
                raise no_space(_SPOOLED, problem.strerror or str(problem)) from problem
        gain, loudness_lufs = 1.0, None
        if meter is not None and target_lufs is not None:
            loudness_lufs = meter.integrated_lufs()
            if math.isfinite(loudness_lufs) and math.isfinite(target_lufs):
                gain = 10.0 ** ((target_lufs - loudness_lufs) / 20.0)
        if peak > 0.0:
            gain = min(gain, PEAK_LIMIT / peak)
        if loudness_lufs is not None:
            loudness_lufs += 20.0 * math.log10(gain)
        fit = Fit(peak * gain, gain, loudness_lufs)
        yield Fitted(fit, spool, n_written if n_samples is None else n_samples, shape, rate_hz)


def _check_space(n_bytes: int) -> None:
    """Checks before an hour of work that the sound can wait where it will.

    Raises:
      OutputError: it cannot.
    """
    if n_bytes <= SPOOL_BYTES:
        return
    try:
        free_bytes = shutil.disk_usage(tempfile.gettempdir()).free
    except OSError:
        return
    if free_bytes < n_bytes:
        raise no_space(_SPOOLED, f"it takes {n_bytes / 1e9:.1f} GB, and {free_bytes / 1e9:.1f} GB are free")


def write_fitting(
    path: Path,
    blocks: Iterable[FloatArray],
    rate_hz: int,
    *,
    n_samples: int | None,
    subtype: str | None,
    seed: int = 0,
    force: bool = False,
    target_lufs: float | None = None,
) -> Fit:
    """Writes a sound whose level is fitted, see `fit_level`; 16 bits are dithered.

    Args:
      path: where to; the suffix decides the format.
      blocks, rate_hz, n_samples, target_lufs: see `fit_level`.
      subtype: encoding as libsndfile names it; None for the default of the format.
      seed: of the dither.
      force: replace an existing file.

    Raises:
      UsageError, OutputError: as `write_audio` and `fit_level`.
    """
    container(path, n_samples or 0, 1, subtype)  # before the blocks are made
    with fit_level(blocks, rate_hz, n_samples=n_samples, target_lufs=target_lufs) as fitted:
        finished = fitted.blocks()
        if subtype == "PCM_16":
            finished = dithered(finished, seed)
        write_audio(path, finished, rate_hz, subtype, force, fitted.n_samples)
    return fitted.fit


def dithered(blocks: Iterator[FloatArray], seed: int) -> Iterator[FloatArray]:
    """Adds triangular dither of two steps of 16 bits, so that soft tones fade into noise instead of distortion.

    Digital silence stays silent.
    """
    random = np.random.default_rng((seed, 16))
    for block in blocks:
        noise = random.random((2, *block.shape), dtype=np.float32)
        # Near full scale the dither would be clipped on one side, which is worse than none.
        quiet = np.abs(block) < 1.0 - 2.0 * STEP_16
        sounding = np.abs(block) > 0.1 * STEP_16
        yield block + (noise[0] - noise[1]) * np.float32(STEP_16) * (quiet & sounding)
