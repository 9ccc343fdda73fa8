"""Recordings as analysis reads them: mono sound at 16 kHz in blocks, as many times as there are passes.

A file and an array are read in the same way. Up to `KEPT_SAMPLES` (4 minutes) of a file stay in memory after the first
pass, so an ordinary file is decoded once. A longer file is decoded again by each further pass: that takes 5 % of the
time of the analysis and no space on the disk.

Shapes: S samples, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from ddsp_cli.arrays import FloatArray
from ddsp_cli.audio import read
from ddsp_cli.audio.resample import Resampler
from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.errors import InputError

#: Samples of a recording that stay in memory (16 MiB): 4 min 22 s.
KEPT_SAMPLES = 1 << 22

#: Samples in a block that comes from memory: 10 s.
BLOCK_SAMPLES = 10 * ANALYSIS_RATE_HZ


class Recording(Protocol):
    """Mono sound at 16 kHz that can be read more than once."""

    def blocks(self) -> Iterator[FloatArray]:
        """Yields the sound from its beginning, [S] float32 at 16 kHz a block, no block empty.

        Raises:
          InputError: the sound cannot be read, is empty, or contains NaN or infinity.
        """


class FileRecording:
    """A sound file.

    Args:
      path: a file that `read.mono_blocks` reads.
      kept_samples: longer sound is decoded again in each pass.
      watch: called with each block [S, C] of the first pass, as it was decoded.

    Attributes:
      decoded: result of the last pass; a damaged file ends at the damage.
      n_decodes: how many times the file was decoded so far.
    """

    def __init__(
        self, path: Path, kept_samples: int = KEPT_SAMPLES, watch: Callable[[FloatArray], None] | None = None
    ) -> None:
        self.path = path
        self.decoded = read.Decoded()
        self.n_decodes = 0
        self._watch = watch
        self._kept_samples = kept_samples
        self._kept: FloatArray | None = None

    def blocks(self) -> Iterator[FloatArray]:
        """See `Recording.blocks`."""
        if self._kept is not None:
            yield from _split(self._kept)
            return
        self.decoded = decoded = read.Decoded()
        watch = None if self.n_decodes else self._watch
        self.n_decodes += 1
        parts: list[FloatArray] = []
        n_samples = 0
        for block in read.mono_blocks(self.path, ANALYSIS_RATE_HZ, watch=watch, decoded=decoded):
            n_samples += len(block)
            if n_samples <= self._kept_samples:
                parts.append(block)
            else:
                parts.clear()
            yield block
        if n_samples <= self._kept_samples:
            self._kept = np.concatenate(parts)


class ArrayRecording:
    """Sound in memory.

    Args:
      audio: [S], or [C, S] whose channels are averaged.
      sample_rate_hz: its rate.

    Raises:
      InputError: it is empty or shorter than half a sample at 16 kHz, or contains NaN or infinity.
    """

    def __init__(self, audio: FloatArray, sample_rate_hz: int = ANALYSIS_RATE_HZ) -> None:
        audio = np.asarray(audio)
        if audio.ndim not in {1, 2}:
            raise InputError(f"sound has the shape [samples] or [channels, samples], not {audio.shape}")
        if audio.size == 0:
            raise InputError("the sound is empty: it has 0 samples")
        mono = read.average_channels(np.atleast_2d(audio).T)
        resampler = Resampler(sample_rate_hz, ANALYSIS_RATE_HZ)
        self._audio = np.concatenate([resampler.push(mono), resampler.finish()])
        if not len(self._audio):
            raise InputError(
                f"the sound is too short: it has no sample at {ANALYSIS_RATE_HZ} Hz", "Use a longer recording."
            )

    def blocks(self) -> Iterator[FloatArray]:
        """See `Recording.blocks`."""
        yield from _split(self._audio)


def _split(audio: FloatArray) -> Iterator[FloatArray]:
    for start in range(0, len(audio), BLOCK_SAMPLES):
        yield audio[start : start + BLOCK_SAMPLES]
