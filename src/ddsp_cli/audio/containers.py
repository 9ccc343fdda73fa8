"""Sound in files that libsndfile does not read: m4a and the videos of phones, screen recorders and browsers.

PyAV decodes them where it is installed (an extra: it brings 100 MB of FFmpeg libraries), else the program `ffmpeg`
where it is on the PATH. Both may open nothing but this file and expect known containers only: a playlist
that calls itself a video could otherwise make them open other files or addresses. Shapes: S samples, C channels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.errors import InputError

#: Suffixes that folders are searched for, besides the formats of libsndfile.
SUFFIXES = frozenset({".3gp", ".aac", ".avi", ".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp4", ".webm", ".wma"})

#: Demultiplexers of FFmpeg that may be used: one file in, no references to others.
FORMATS = "aac,asf,avi,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpegts,mpeg,ogg,mp3,flac,wav,aiff,caf,amr"

#: Size of the head of a Sun AU file, and its encoding of 32-bit floats.
_AU_HEAD_BYTES, _AU_FLOAT = 24, 6


class DecodeError(Exception):
    """The sound cannot be decoded, or not further."""


def is_container(path: Path, head: bytes) -> bool:
    """Whether a file that libsndfile refuses is likely one of these, by its suffix or its first 12 bytes."""
    return path.suffix.lower() in SUFFIXES or head[4:8] == b"ftyp" or head[:4] in {b"\x1aE\xdf\xa3", b"OggS"}


def open_container(path: Path) -> PyAvDecoder | FfmpegDecoder:
    """Opens the first audio stream of a container.

    Raises:
      InputError: there is nothing to decode it with, or it has no sound.
      DecodeError: it cannot be opened.
    """
    try:
        import av  # noqa: F401
    except ImportError:
        import shutil

        program = shutil.which("ffmpeg")
        if program is None:
            raise InputError(
                f"{path} needs another decoder",
                "Install PyAV (pip install ddsp-cli[video]) or ffmpeg, or convert the file to wav or flac.",
            ) from None
        return FfmpegDecoder(path, program)
    return PyAvDecoder(path)


class PyAvDecoder:
    """Decodes with PyAV, a packet at a time.

    Attributes:
      sample_rate_hz, n_channels: of the sound.
      n_samples: as the container claims, or 0.

    Raises:
      DecodeError: PyAV cannot open the file.
      InputError: it has no sound.
    """

    def __init__(self, path: Path) -> None:
        import av

        self._failures: tuple[type[Exception], ...] = (av.error.FFmpegError, ArithmeticError, ValueError, EOFError)
        options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
        try:
            self._container = av.open(f"file:{path.resolve()}", options=options)
        except self._failures as problem:
            raise DecodeError(str(problem)) from problem
        try:
            streams = self._container.streams.audio
            if not streams:
                raise InputError(f"{path} has no sound in it", "It is a video without an audio track.")
            stream = streams[0]
            if stream.codec_context is None or stream.codec_context.layout.nb_channels < 1:
                raise DecodeError("its sound has an unknown encoding")
            self.sample_rate_hz = int(stream.codec_context.sample_rate)
            self.n_channels = int(stream.codec_context.layout.nb_channels)
            duration_s = float(stream.duration * stream.time_base) if stream.duration else 0.0
            self._resampler = av.AudioResampler("flt", stream.codec_context.layout, self.sample_rate_hz)
        except BaseException as problem:  # Windows removes no file that is open
            self.close()
            if isinstance(problem, self._failures):
                raise DecodeError(str(problem)) from problem
            raise
        self.n_samples = max(0, round(duration_s * self.sample_rate_hz))
        self._decoded = self._decode(stream)
        self._rest = np.zeros((0, self.n_channels), np.float32)

    def read(self, n_samples: int) -> FloatArray:
        """Returns the next samples [S, C], fewer than `n_samples` only at the end.

        Raises:
          DecodeError: the file is damaged here.
        """
        parts, n_read = [self._rest], len(self._rest)
        while n_read < n_samples:
            try:
                block = next(self._decoded, None)
            except self._failures as problem:
                raise DecodeError(str(problem)) from problem
            if block is None:
                break
            parts.append(block)
            n_read += len(block)
        audio = np.concatenate(parts)
        self._rest = audio[n_samples:]
        return audio[:n_samples]

    def _decode(self, stream: Any) -> Iterator[FloatArray]:
        for frame in self._container.decode(stream):
            for packed in self._resampler.resample(frame):
                yield packed.to_ndarray().reshape(-1, self.n_channels)
        for packed in self._resampler.resample(None):
            yield packed.to_ndarray().reshape(-1, self.n_channels)

    def close(self) -> None:
        self._container.close()


class FfmpegDecoder:
    """Decodes with the program `ffmpeg`, whose output is read as it comes.

    Attributes:
      sample_rate_hz, n_channels: of the sound.
      n_samples: 0, unknown.

    Raises:
      DecodeError: ffmpeg finds no sound in the file.
    """

    n_samples = 0

    def __init__(self, path: Path, program: str) -> None:
        import subprocess

        command = [program, "-v", "error", "-nostdin", "-protocol_whitelist", "file,pipe",
                   "-format_whitelist", FORMATS, "-i", f"file:{path.resolve()}", "-map", "0:a:0",
                   "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]  # fmt: skip
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        head = self._read_bytes(_AU_HEAD_BYTES)
        if len(head) < _AU_HEAD_BYTES or head[:4] != b".snd":
            self.close()
            raise DecodeError("ffmpeg finds no sound in it")
        offset, _, encoding, self.sample_rate_hz, self.n_channels = struct.unpack(">5I", head[4:])
        if encoding != _AU_FLOAT or not 0 < self.n_channels <= 256 or not _AU_HEAD_BYTES <= offset < 1 << 16:
            self.close()
            raise DecodeError("ffmpeg returned data that is not sound")
        self._read_bytes(offset - _AU_HEAD_BYTES)

    def read(self, n_samples: int) -> FloatArray:
        """Returns the next samples [S, C], fewer than `n_samples` only at the end.

        Raises:
          DecodeError: the file is damaged here.
        """
        frame_bytes = 4 * self.n_channels
        data = self._read_bytes(n_samples * frame_bytes)
        if len(data) < n_samples * frame_bytes and self._process.wait() != 0 and not data:
            raise DecodeError("ffmpeg cannot decode it further")
        whole = data[: len(data) // frame_bytes * frame_bytes]
        return np.frombuffer(whole, ">f4").astype(np.float32).reshape(-1, self.n_channels)

    def _read_bytes(self, n_bytes: int) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.read(n_bytes)

    def close(self) -> None:
        self._process.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.wait()
