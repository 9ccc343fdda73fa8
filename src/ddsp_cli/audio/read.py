"""Read sound files: their headers, their sound block by block, and impulse responses.

libsndfile reads wav, flac, ogg, opus, mp3, aiff, caf and more, in any bit depth, channel count and sample rate;
`containers` reads m4a and videos. Headers are shown and never relied on: lengths are counted while decoding.
Shapes: S samples, C channels.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.audio import containers
from ddsp_cli.audio.containers import DecodeError
from ddsp_cli.audio.resample import Resampler
from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.errors import InputError

#: Suffixes of sound files that libsndfile reads; most of them can be written as well.
AUDIO_SUFFIXES = frozenset({
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".w64", ".wav",
})  # fmt: skip

#: Suffixes that folders are searched for; a file that is named itself may have any.
READABLE_SUFFIXES = AUDIO_SUFFIXES | containers.SUFFIXES

#: Folders of the clips of a training, as `training/run_log.py` writes them.
CLIPS = "*.run/clips"

#: A header with a sample rate outside this range is damaged: no recording has it, and resampling would not end.
PLAUSIBLE_RATES_HZ = (1000, 1_000_000)

#: Samples beyond this are damage: even floats scaled as 16-bit integers stay below, and their squares can be summed.
MAX_AMPLITUDE = 1e6

#: Largest number of values decoded at once (8 MiB of float32), for any rate and number of channels.
MAX_BLOCK_VALUES = 1 << 21

#: A file is cut short if it is shorter than this share of the length in its header, and shorter by this much.
CUT_SHARE, CUT_S = 0.98, 0.25


#: 320 kbit/s at 32 kHz.
LONGEST_MP3_FRAME_BYTES = 1441

#: Samples in one request to libsndfile.
_PIECE_SAMPLES = 1 << 14

#: The length that libsndfile reports where the header leaves it open, as in FLAC written into a pipe.
_UNKNOWN_SAMPLES = 1 << 62


class AudioInfo(msgspec.Struct, frozen=True):
    """The header of a sound file.

    Attributes:
      path: the file.
      sample_rate_hz: its own rate.
      n_channels: 1 for mono.
      n_samples: samples per channel as the header claims, which may be wrong; 0 where it does not say.
      seconds: n_samples / sample_rate_hz.
      subtype: encoding as libsndfile names it (`PCM_16`, `FLOAT`, `VORBIS` ...); empty for other decoders.
      is_cut_short: the header claims more bytes than the file has.
      is_estimate: n_samples was estimated from the size of the file, as of an MP3 whose header counts no frames.
    """

    path: Path
    sample_rate_hz: int
    n_channels: int
    n_samples: int
    seconds: float
    subtype: str = ""
    is_cut_short: bool = False
    is_estimate: bool = False


class Decoded(msgspec.Struct):
    """Findings while a file is decoded; complete when its last block was read.

    Attributes:
      n_samples: per channel, at the file's own rate.
      is_cut_short: the file ends, or cannot be decoded further, before its claimed end.
      is_opposite: in a part of it the second of two channels is the first inverted, see `average_channels`.
    """

    n_samples: int = 0
    is_cut_short: bool = False
    is_opposite: bool = False


def probe(path: Path) -> AudioInfo:
    """Reads a file's header.

    Raises:
      InputError: it is missing, a folder, unreadable, not audio, or holds no samples.
    """
    info, decoder = _open(path)
    decoder.close()
    return info


def mono_blocks(
    path: Path,
    rate_hz: int = ANALYSIS_RATE_HZ,
    block_s: float = 10.0,
    *,
    watch: Callable[[FloatArray], None] | None = None,
    decoded: Decoded | None = None,
) -> Iterator[FloatArray]:
    """Reads a file as mono at a given rate, a block at a time, in memory that does not depend on its length.

    Channels are averaged, then resampled by soxr at its high quality; the blocks together have
    round(n_samples · rate_hz / sample_rate_hz) samples and do not depend on `block_s`.

    Args:
      path: the file.
      rate_hz: the rate of the result.
      block_s: how much to decode at once, in seconds of the recording.
      watch, decoded: see `decoded_blocks`.

    Yields:
      [S] float32, S differing from block to block, never empty.

    Raises:
      InputError: what `probe` raises, a damaged file, NaN or infinity, no samples, less than half a sample of the
        new rate.
    """
    resampler: Resampler | None = None
    is_empty = True
    for info, block in decoded_blocks(path, block_s, watch, decoded):
        resampler = resampler or Resampler(info.sample_rate_hz, rate_hz)
        resampled = resampler.push(block)
        if len(resampled):
            is_empty = False
            yield resampled
    rest = resampler.finish() if resampler is not None else np.zeros(0, np.float32)
    if len(rest):
        yield rest
    elif is_empty:
        raise too_short(path, rate_hz)


def too_short(path: Path, rate_hz: int) -> InputError:
    """Makes the error for a file whose sound is shorter than half a sample at a rate."""
    return InputError(f"{path} is too short: it has no sample at {rate_hz} Hz", "Use a longer recording.")


def read_mono(path: Path, rate_hz: int = ANALYSIS_RATE_HZ) -> FloatArray:
    """Reads a whole file as mono at a given rate.

    Returns:
      [S] float32.

    Raises:
      InputError: as `mono_blocks`.
    """
    return np.concatenate(list(mono_blocks(path, rate_hz)))


def list_audio(paths: Sequence[Path]) -> list[Path]:
    """Returns the sound files among files and folders, each once, in a fixed order.

    Folders are searched to any depth; hidden files, other kinds of files and links to folders are left out.
    Files named as arguments are kept with any suffix, so that a wrong one is reported rather than missed.

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
            raise no_sound_in(path)
        found.update(dict.fromkeys(inside))
    return list(found)


def no_sound_in(folder: Path) -> InputError:
    """Makes the error for a folder without sound files."""
    known = ", ".join(sorted(suffix[1:] for suffix in READABLE_SUFFIXES))
    return InputError(f"the folder {folder} holds no sound files", f"Searched for {known}.")


def _search(folder: Path) -> list[Path]:
    return sorted(walk_audio(folder), key=lambda path: path.relative_to(folder).as_posix())


def walk_audio(folder: Path) -> Iterator[Path]:
    """Yields the sound files in a folder, as `list_audio` finds them, in no order and without a list of them.

    Clips of trainings inside it are left out: they are no recordings.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = Path(folder) / entry.name
            if entry.is_dir(follow_symlinks=False):  # does not follow links, so loops cannot catch it
                if not path.match(CLIPS):
                    yield from walk_audio(path)
            elif path.suffix.lower() in READABLE_SUFFIXES and entry.is_file():
                yield path


def count_samples(path: Path) -> int:
    """Returns samples per channel that a file really has, at its own rate: decoded and counted.

    Raises:
      InputError: as `decoded_blocks`; a file that is damaged after its beginning ends there.
    """
    decoded = Decoded()
    for _ in decoded_blocks(path, decoded=decoded):
        pass
    return decoded.n_samples


class _Decoder(Protocol):
    """A sound file, opened."""

    sample_rate_hz: int
    n_channels: int
    n_samples: int  # as the header claims; 0 where it does not say

    def read(self, n_samples: int) -> FloatArray:
        """Returns the next samples [S, C], S = 0 at the end; raises `DecodeError` where the file is damaged."""

    def close(self) -> None:
        """Closes the file."""


class _LibsndfileDecoder:
    """Reads from beginning to end without seeking: soundfile seeks after each read, and fails if a header is wrong."""

    def __init__(self, path: Path) -> None:
        import soundfile

        self._failures = (soundfile.SoundFileError, OSError)
        self._failed: Exception | None = None
        try:
            self._file = _sequential_file()(path)
        except (soundfile.SoundFileError, OSError, TypeError, ValueError) as problem:
            # TypeError: soundfile asks for the rate of files that it takes for headerless because of their suffix.
            raise DecodeError(str(problem)) from problem
        self.sample_rate_hz, self.n_channels = int(self._file.samplerate), int(self._file.channels)
        self.subtype = str(self._file.subtype)
        self.n_samples = int(self._file.frames)
        self.is_empty = self.n_samples == 0
        if self.n_samples >= _UNKNOWN_SAMPLES:
            self.n_samples = 0

    def read(self, n_samples: int) -> FloatArray:
        # in pieces: a damaged piece is lost, those before it are read
        if self._failed is not None:
            raise DecodeError(str(self._failed)) from self._failed
        audio = np.empty((n_samples, self.n_channels), np.float32)
        n_read = 0
        while n_read < n_samples:
            end = min(n_read + _PIECE_SAMPLES, n_samples)
            try:
                n_piece = len(self._file.read(out=audio[n_read:end]))
            except self._failures as problem:
                if not n_read:
                    raise DecodeError(str(problem)) from problem
                self._failed = problem  # libsndfile would call the next read the end
                break
            n_read += n_piece
            if n_piece == 0:
                break
        return audio[:n_read]

    def close(self) -> None:
        self._file.close()


@functools.cache
def _sequential_file() -> Any:
    """Returns the class of libsndfile's files that never seek."""
    import soundfile

    class Sequential(soundfile.SoundFile):
        def seekable(self) -> bool:
            return False

    return Sequential


def _open(path: Path) -> tuple[AudioInfo, _Decoder]:
    """Opens a file for decoding; returns its header and its decoder.

    Raises:
      InputError: as `probe`.
    """
    path = Path(path)
    head, decoder = _open_any(path)
    try:
        info = _info(path, head, decoder)
        if not PLAUSIBLE_RATES_HZ[0] <= info.sample_rate_hz <= PLAUSIBLE_RATES_HZ[1]:
            raise InputError(
                f"{path} claims a sample rate of {info.sample_rate_hz} Hz", "The file is probably damaged."
            )
        if isinstance(decoder, _LibsndfileDecoder) and decoder.is_empty:
            raise InputError(f"{path} holds no sound: it has 0 samples")
    except BaseException:
        decoder.close()
        raise
    return info, decoder


def _open_any(path: Path) -> tuple[bytes, _Decoder]:
    """Returns the first bytes of a file, and its decoder."""
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a sound file")
    try:
        with path.open("rb") as stream:
            head = stream.read(12)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError) as problem:
        raise InputError(f"{path} cannot be read: {getattr(problem, 'strerror', None) or problem}") from problem
    if not head:
        raise InputError(f"{path} is an empty file")
    try:
        return head, _LibsndfileDecoder(path)
    except DecodeError as problem:
        if containers.is_container(path, head):
            try:
                return head, containers.open_container(path)
            except DecodeError:
                pass
        raise InputError(
            f"{path} is not a sound file that can be read",
            "Readable are wav, flac, ogg, opus, mp3, aiff and more, and m4a and videos with PyAV or ffmpeg.",
        ) from problem


def _info(path: Path, head: bytes, decoder: _Decoder) -> AudioInfo:
    seconds = decoder.n_samples / max(decoder.sample_rate_hz, 1)
    subtype, is_cut_short, is_estimate = "", False, False
    if isinstance(decoder, _LibsndfileDecoder):
        subtype, is_cut_short = decoder.subtype, _claims_more(path, head)
        is_estimate = subtype.startswith("MPEG") and not _counts_frames(path)
    elif path.suffix.lower() in AUDIO_SUFFIXES:
        is_cut_short = True  # libsndfile refuses ogg files without their end
    return AudioInfo(
        path, decoder.sample_rate_hz, decoder.n_channels, decoder.n_samples, seconds, subtype, is_cut_short, is_estimate
    )


def _claims_more(path: Path, head: bytes) -> bool:
    """Whether a RIFF (wav) or FORM (aiff) header claims more bytes than there are: libsndfile corrects it silently.

    Programs that write into a pipe cannot know the length and claim about 2^31 or 2^32 bytes; that is no damage.
    """
    order = {b"RIFF": "little", b"RIFX": "big", b"FORM": "big"}.get(head[:4])
    if order is None:
        return False
    claimed = int.from_bytes(head[4:8], "little" if order == "little" else "big")
    return claimed < 0x7FFF0000 and claimed + 8 > path.stat().st_size + 1  # a chunk's padding byte is often left out


def _counts_frames(path: Path) -> bool:
    """Whether the first frame of an MP3 file gives the number of frames, in a Xing, Info or VBRI header.

    Otherwise libsndfile divides the size of the file, tags and pictures included, by the bit rate.
    """
    with path.open("rb") as stream:
        head = stream.read(10)
        tag_bytes = 0
        if head[:3] == b"ID3":  # its size is written in bytes of 7 bits
            tag_bytes = 10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=False))
        stream.seek(tag_bytes)
        frame = stream.read(LONGEST_MP3_FRAME_BYTES)
    return any(name in frame for name in (b"Xing", b"Info", b"VBRI"))


def decoded_blocks(
    path: Path,
    block_s: float = 10.0,
    watch: Callable[[FloatArray], None] | None = None,
    decoded: Decoded | None = None,
) -> Iterator[tuple[AudioInfo, FloatArray]]:
    """Reads a file at its own rate, a block at a time, its channels averaged.

    Args:
      path: the file.
      block_s: how much to decode at once.
      watch: called with each block [S, C] as it was decoded, once its values are checked.
      decoded: filled in while decoding. With it, a file that is damaged after its first block ends there instead of
        being refused.

    Yields:
      The header's fields, and the next samples [S] float32.

    Raises:
      InputError: what `probe` raises, a damaged file, NaN or infinity, no samples at all.
    """
    info, opened = _open(path)
    found = decoded if decoded is not None else Decoded()
    found.n_samples, found.is_cut_short, found.is_opposite = 0, info.is_cut_short, False
    wanted = max(1, math.ceil(block_s * info.sample_rate_hz))
    n_block = max(1, min(wanted, MAX_BLOCK_VALUES // info.n_channels))
    with closing(opened) as decoder:
        while True:
            try:
                block = decoder.read(n_block)
            except DecodeError as problem:
                if decoded is None or not found.n_samples:
                    raise InputError(f"{info.path} is damaged and cannot be decoded") from problem
                found.is_cut_short = True
                break
            if not len(block):
                break
            mono = average_channels(block, str(info.path))  # refuses what `watch` could not compute with
            if watch is not None:
                watch(block)
            found.is_opposite |= are_opposite(block)
            found.n_samples += len(mono)
            yield info, np.ascontiguousarray(mono)
    if found.n_samples == 0:
        raise InputError(f"{info.path} holds no sound that can be decoded", "The file is probably damaged.")
    missing = info.n_samples - found.n_samples
    if not info.is_estimate and missing > max(CUT_S * info.sample_rate_hz, (1.0 - CUT_SHARE) * info.n_samples):
        found.is_cut_short = True


#: The polarity of channels with a lower peak (-60 dBFS) is not examined. Channels are opposite if their mean has less
#: than this share of their power (-30 dB).
AUDIBLE_PEAK, OPPOSITE_SHARE = 1e-3, 1e-3

#: Remark about a file of such channels.
OPPOSITE = "its right channel is the left one inverted, so only the left one is used"


def are_opposite(audio: FloatArray) -> bool:
    """Whether the second of two channels [S, 2] is the first inverted."""
    if audio.shape[1] != 2 or not np.abs(audio).max(initial=0.0) > AUDIBLE_PEAK:
        return False
    power = np.mean(np.square(audio, dtype=np.float64))
    return bool(np.mean(np.square(audio.mean(axis=1, dtype=np.float64))) < OPPOSITE_SHARE * power)


def average_channels(audio: FloatArray, name: str = "the sound") -> FloatArray:
    """Mixes channels down to mono: their mean.

    If the second of two channels is the first inverted, as a balanced cable in an unbalanced stereo input records it,
    they would cancel, and the first is taken.

    Args:
      audio: [S, C].
      name: where it comes from, for messages.

    Returns:
      [S] float32.

    Raises:
      InputError: NaN, infinity, or samples beyond `MAX_AMPLITUDE`.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # the result is checked
        is_one = audio.shape[1] == 1 or are_opposite(audio)
        mono = audio[:, 0] if is_one else audio.mean(axis=1, dtype=np.float64)
        mono = np.asarray(mono, np.float32)
    if not np.isfinite(mono).all():
        raise InputError(f"{name} contains NaN or infinity", "Export it again from the program it came from.")
    if len(mono) and max(float(mono.max()), -float(mono.min())) > MAX_AMPLITUDE:
        raise InputError(f"{name} has samples far beyond full scale", "Export it again from the program it came from.")
    return mono


#: Longer files are not impulse responses of rooms, and convolution costs as much as they are long.
LONGEST_RESPONSE_S = 20.0

#: A quieter peak than this (-120 dBFS) is silence.
_LEAST_PEAK = 1e-6


def read_impulse_response(path: Path, rate_hz: int) -> FloatArray:
    """Reads an impulse response from the direct sound on.

    Args:
      path: a sound file; its channels are averaged.
      rate_hz: sample rate of the result.

    Returns:
      [L] float32, scaled so that the direct sound is 1, and with the direct sound itself (sample 0) set to 0.

    Raises:
      InputError: it is silent, longer than `LONGEST_RESPONSE_S`, contains NaN or infinity, or is not a sound file.
    """
    blocks: list[FloatArray] = []
    n_samples = 0
    for block in mono_blocks(path, rate_hz):
        blocks.append(block)
        n_samples += len(block)
        if n_samples > LONGEST_RESPONSE_S * rate_hz:
            raise InputError(
                f"{path} is longer than {LONGEST_RESPONSE_S:.0f} s, the limit for an impulse response",
                "It should hold one clap, or a deconvolved sweep, and the room after it.",
            )
    response = np.concatenate(blocks)
    direct = int(np.argmax(np.abs(response)))
    if float(np.abs(response[direct])) < _LEAST_PEAK:
        raise InputError(f"{path} is silent, so it has no impulse response")
    response = response[direct:] / np.float32(response[direct])
    response[0] = 0.0
    return response
