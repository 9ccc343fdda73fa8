"""Restore recordings from data sets made by `ddsp_prepare_tfrecord` (magenta/ddsp).

Their examples are windows of 4 s that begin every second, in no order: each second of sound is there four times.
Windows that overlap are found by their bytes and joined again, so that every second is learned from once and none is
both in training and in validation. Their F0 is CREPE's; in data sets made without `--center` it is 32 ms ahead of the
audio (prepare_tfrecord_lib.py:83-95), which is corrected. Power and loudness are measured again. Shapes: S samples,
T frames of theirs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ddsp_cli.analysis import loudness
from ddsp_cli.analysis.features import n_frames
from ddsp_cli.analysis.pitch import trackers
from ddsp_cli.analysis.pitch.trackers import PitchTrack
from ddsp_cli.audio import read, resample
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.dataset import tfrecord
from ddsp_cli.dataset.cache import CutRecording, Job, Spool, load_cut
from ddsp_cli.dataset.workers import assess, cut_out
from ddsp_cli.errors import DatasetError, InputError

#: Their pitch tracker, for the FeatureSpec.
TRACKER = "crepe"

#: CREPE uses windows of 1024 samples; not centred, its frame i begins at the centre of ours.
UNCENTRED_DELAY_SAMPLES = 512

#: Windows begin this far apart (`--hop_secs`).
HOP_S = 1.0


@dataclass(frozen=True)
class _Window:
    """Position of a window: shard, number in it, bytes before it; and digests of its seconds."""

    shard: Path
    index: int
    offset: int
    seconds: tuple[bytes, ...]


@dataclass(frozen=True)
class _Layout:
    """Settings that all windows of a data set share."""

    rate_hz: int
    n_audio: int
    n_audio_16k: int
    n_pitch: int

    @property
    def seconds(self) -> float:
        return self.n_audio / self.rate_hz

    def track(self, f0_hz: np.ndarray, confidence: np.ndarray) -> PitchTrack:
        """Returns their pitch on their grid, which is centred if it has one frame more than hops in the sound."""
        centred = self.n_pitch % 2 == 1
        hop_samples = self.n_audio_16k / (self.n_pitch - centred)
        if hop_samples != int(hop_samples):
            raise InputError(f"has {self.n_pitch} frames of pitch in {self.seconds:g} s, which is not a whole hop")
        delay_samples = 0 if centred else UNCENTRED_DELAY_SAMPLES
        return PitchTrack(f0_hz, confidence, int(hop_samples), delay_samples)


def examine_shards(shards: Mapping[Path, str], make_job: Callable[[Path, str], Job]) -> Iterator[CutRecording]:
    """Restores recordings from shards: one for each chain of windows that overlap.

    Args:
      shards: file → name.
      make_job: gives the job of a file and a name.

    Raises:
      InputError: the shards hold something else, or not all the same.
      OSError: a measurement cannot be written.
    """
    with _as_input():
        layout, windows = _index(shards)
        for chain in _chains(windows):
            yield _recording(make_job(chain[0].shard, _name(chain, shards)), layout, chain)


def identify(shards: Mapping[Path, str]) -> dict[str, str]:
    """Finds the recordings in shards without measuring them.

    Args:
      shards: file → name.

    Returns:
      Name of each recording → its SHA-256, as `examine_shards` gives them.

    Raises:
      InputError: the shards hold something else, or not all the same.
    """
    if not shards:
        return {}
    with _as_input():
        return {_name(chain, shards): _digest(chain) for chain in _chains(_index(shards)[1])}


@contextmanager
def _as_input() -> Iterator[None]:
    """Turns errors of shards into errors of the input."""
    try:
        yield
    except DatasetError as problem:
        raise InputError(
            problem.message, "It was expected to be a shard written by ddsp_prepare_tfrecord."
        ) from problem


def _name(chain: list[_Window], shards: Mapping[Path, str]) -> str:
    """Returns the name of a recording: that of the shard of its first window, and the number of the window in it."""
    return f"{shards[chain[0].shard]} #{chain[0].index}"


def _digest(chain: list[_Window]) -> str:
    """Returns the SHA-256 of a recording."""
    return hashlib.sha256(b"".join(part for window in chain for part in window.seconds)).hexdigest()


def _index(shards: Mapping[Path, str]) -> tuple[_Layout, list[_Window]]:
    layout: _Layout | None = None
    windows = []
    for shard in shards:
        for index, (offset, example) in enumerate(tfrecord.locate_examples(shard)):
            found = _layout(shard, example)
            layout = layout or found
            if found != layout:
                raise DatasetError(f"{shard} holds windows of another length or rate than the shards before it")
            per_second = layout.rate_hz if layout.seconds % HOP_S == 0 else layout.n_audio
            seconds = example[tfrecord.AUDIO].reshape(-1, per_second)
            digests = tuple(hashlib.sha256(part.tobytes()).digest() for part in seconds)
            windows.append(_Window(shard, index, offset, digests))
    if layout is None:
        raise DatasetError(f"{', '.join(map(str, shards))}: there are no examples in it")
    return layout, windows


def _layout(shard: Path, example: dict[str, np.ndarray]) -> _Layout:
    for name in (tfrecord.AUDIO, "f0_hz", "f0_confidence"):
        values = example.get(name)
        if values is None or not len(values) or not np.isfinite(values).all():
            raise DatasetError(f"{shard} does not hold usable values of {name} in each example")
    n_audio, n_pitch = len(example[tfrecord.AUDIO]), len(example["f0_hz"])
    n_16k = len(example.get(tfrecord.AUDIO_16K, example[tfrecord.AUDIO]))  # older data sets are at 16 kHz alone
    rate_hz = round(n_audio / max(n_16k, 1) * ANALYSIS_RATE_HZ)
    if (
        not read.PLAUSIBLE_RATES_HZ[0] <= rate_hz <= read.PLAUSIBLE_RATES_HZ[1]
        or len(example["f0_confidence"]) != n_pitch
    ):
        raise DatasetError(f"{shard} holds sound and pitch of lengths that do not belong together")
    return _Layout(rate_hz, n_audio, n_16k, n_pitch)


def _chains(windows: list[_Window]) -> Iterator[list[_Window]]:
    """Joins windows that continue one another; of equal windows one is kept."""
    unique = {window.seconds: window for window in windows}
    starts: dict[tuple[bytes, ...], list[_Window]] = {}
    for window in unique.values():
        starts.setdefault(window.seconds[:-1], []).append(window)

    def after(window: _Window) -> _Window | None:
        following = starts.get(window.seconds[1:], []) if len(window.seconds) > 1 else []
        # after silence several windows may follow: nothing is joined where the next one is not certain
        return following[0] if len(following) == 1 and following[0] is not window else None

    continued = {following.seconds for window in unique.values() if (following := after(window)) is not None}
    done: set[tuple[bytes, ...]] = set()
    firsts = [window for window in unique.values() if window.seconds not in continued]
    for first in [*firsts, *unique.values()]:  # a loop has no first window: it is cut anywhere
        chain: list[_Window] = []
        member: _Window | None = first
        while member is not None and member.seconds not in done:
            done.add(member.seconds)
            chain.append(member)
            member = after(member)
        if chain:
            yield chain


def _recording(job: Job, layout: _Layout, chain: list[_Window]) -> CutRecording:
    digest = _digest(chain)
    known = load_cut(job, digest)
    if known is not None:
        return known
    try:
        return _cut(job, layout, chain, digest).save()
    except InputError as problem:
        return replace(CutRecording(job, digest), reason=problem.message)


def _cut(job: Job, layout: _Layout, chain: list[_Window], digest: str) -> CutRecording:
    """Measures windows that continue one another, and cuts out their notes."""
    examples = [tfrecord.read_example(window.shard, window.offset) for window in chain]
    audio = _joined([example[tfrecord.AUDIO] for example in examples], round(HOP_S * layout.rate_hz))
    audio_16k = _joined([example.get(tfrecord.AUDIO_16K, example[tfrecord.AUDIO]) for example in examples],
                        round(HOP_S * ANALYSIS_RATE_HZ))  # fmt: skip
    f0_hz, confidence = _pitch(layout, examples, job.spec, len(audio_16k))
    power_db = loudness.power_db(audio_16k, job.spec)
    f0_hz = np.where(power_db > job.spec.floor_db, f0_hz, np.float32(0.0))
    hidden = job.stem.with_name(f".{job.stem.name}")
    with Spool(hidden.with_suffix(".spool")) as spool, Spool(hidden.with_suffix(".own.spool")) as own_spool:
        spool.push(audio_16k)
        resampler = resample.Resampler(layout.rate_hz, job.sample_rate_hz)
        for block in (resampler.push(audio), resampler.finish()):
            own_spool.push(block)
        measured = assess(f0_hz, confidence, power_db, spool, job.spec.frame_rate_hz)
        return cut_out(job, measured, digest, {job.sample_rate_hz: own_spool, ANALYSIS_RATE_HZ: spool})


def _pitch(
    layout: _Layout, examples: list[dict[str, np.ndarray]], spec: FeatureSpec, n_samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns pitch and confidence of the examples on our grid, [F] each."""
    first = layout.track(examples[0]["f0_hz"], examples[0]["f0_confidence"])
    n_hop = round(HOP_S * ANALYSIS_RATE_HZ) // first.hop_samples
    joined = [_joined([example[name] for example in examples], n_hop) for name in ("f0_hz", "f0_confidence")]
    track = replace(first, f0_hz=joined[0], confidence=joined[1])
    return trackers.on_grid(track, n_frames(n_samples, spec.hop_samples), spec.hop_samples)


def _joined(windows: list[np.ndarray], n_hop: int) -> np.ndarray:
    """Joins the first window and the new part of each further one."""
    return np.concatenate([windows[0], *(window[-n_hop:] for window in windows[1:])])
