"""Load a prepared data set for training, or read it from its shards where it is too large for memory.

Shapes: N examples, S samples, F frames of one window.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import msgspec
import numpy as np

from ddsp_cli.arrays import evenly_spread
from ddsp_cli.checksum import sha256
from ddsp_cli.config import FeatureSpec
from ddsp_cli.dataset import tfrecord
from ddsp_cli.dataset.manifest import Manifest, Split, load_manifest
from ddsp_cli.errors import DatasetError, Kind
from ddsp_cli.remote import as_place, local_copy


@dataclass(frozen=True)
class Examples:
    """Windows of one split, stacked. All float32.

    Attributes:
      audio: [N, S] at the model's rate.
      f0_hz: [N, F] Hz, 0 where there is no pitch.
      f0_confidence: [N, F] 0..1.
      loudness_db: [N, F] A-weighted loudness.
      power_db: [N, F] RMS power in dBFS.
      instrument: [N, F] index in `instruments`; None in a data set of one instrument.
      instruments: names of the instruments, of which a data set of one has none.
    """

    audio: np.ndarray
    f0_hz: np.ndarray
    f0_confidence: np.ndarray
    loudness_db: np.ndarray
    power_db: np.ndarray
    instrument: np.ndarray | None = None
    instruments: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.audio)


class StreamedExamples:
    """Windows of one split that stay in their shards and are read on demand.

    All records of a data set have the same length, so the place of a window in its shard is known without an index.
    Each record that is read is checked against its own checksum; the digests of whole shards are not.

    Args:
      folder: of the data set.
      manifest: its manifest.
      split: which part.

    Raises:
      DatasetError: a shard is missing, or the shards disagree with the manifest.
    """

    def __init__(self, folder: Path, manifest: Manifest, split: Split) -> None:
        self.manifest = manifest
        self.sample_rate_hz: int = manifest.sample_rate_hz  # of what `take` returns
        self._n_examples = split.n_examples
        self._shards = [_shard(folder, name) for name in split.shards]
        try:
            self._n_bytes = tfrecord.n_record_bytes(self._shards[0])
            sizes = np.array([shard.stat().st_size for shard in self._shards])
        except OSError as problem:
            raise DatasetError(
                f"a shard of {folder} cannot be read: {problem.strerror or problem}", kind=Kind.DATASET_DAMAGED
            ) from problem
        self._ends = np.cumsum(sizes // self._n_bytes)
        if (sizes % self._n_bytes).any() or self._ends[-1] != self._n_examples:
            raise _too_few(folder, split)

    def __len__(self) -> int:
        return self._n_examples

    def take(self, rows: np.ndarray) -> Examples:
        """Reads windows, in any order.

        Args:
          rows: [B] which.

        Raises:
          DatasetError: a record is damaged.
        """
        stacked = _empty(self.manifest, len(rows))
        for index, row in enumerate(rows):
            number = int(np.searchsorted(self._ends, row, side="right"))
            shard = self._shards[number]
            first = int(self._ends[number - 1]) if number else 0
            _fill(
                stacked, index, shard, tfrecord.read_example(shard, (int(row) - first) * self._n_bytes, self._n_bytes)
            )
        found = _examples_of(stacked, self.manifest)
        if self.sample_rate_hz == self.manifest.sample_rate_hz:
            return found
        return _resampled(found, self.manifest.sample_rate_hz, self.sample_rate_hz)


@dataclass(frozen=True)
class Dataset:
    """A prepared data set.

    Attributes:
      manifest: of the data set.
      train: in memory (about 0.3 MB per window of 4 s at 16 kHz), or in its shards where that is too much.
      validation: in memory; of a large split `MAX_VALIDATION` windows, evenly spread.
    """

    manifest: Manifest
    train: Examples | StreamedExamples
    validation: Examples


#: Splits that take more memory than this stay in their shards.
MAX_LOADED_BYTES = 4_000_000_000

#: Windows that are kept of a validation split which is larger than that.
MAX_VALIDATION = 512


def load(folder: Path, spec: FeatureSpec | None = None, sample_rate_hz: int | None = None) -> Dataset:
    """Loads a data set, each shard checked against its checksum; of a large one each record as it is read.

    Args:
      folder: with `dataset.yaml`.
      spec: how the model to be trained wants its features measured; None takes any. The frame rate may be a divisor
        of the data set's, and the pitch tracker may differ.
      sample_rate_hz: of the model that will use it: the sound is resampled to it; None keeps the rate.

    Raises:
      DatasetError: it is missing or damaged, not ours, measured with other settings, or of a lower rate.
    """
    folder = as_place(folder)
    manifest = load_manifest(folder)
    if spec is not None:
        check_features(manifest, spec, folder)
    train, validation = (_examples(folder, manifest, split) for split in (manifest.train, manifest.validation))
    if isinstance(validation, StreamedExamples):
        validation = validation.take(evenly_spread(len(validation), MAX_VALIDATION))
    if sample_rate_hz is not None and sample_rate_hz != manifest.sample_rate_hz:
        check_rate(manifest, sample_rate_hz, folder)
        if isinstance(train, StreamedExamples):
            train.sample_rate_hz = sample_rate_hz
        else:
            train = _resampled(train, manifest.sample_rate_hz, sample_rate_hz)
        validation = _resampled(validation, manifest.sample_rate_hz, sample_rate_hz)
        manifest = msgspec.structs.replace(manifest, sample_rate_hz=cast(Literal[16000], sample_rate_hz))
    return Dataset(manifest, train, validation)


def check_rate(manifest: Manifest, sample_rate_hz: int, folder: Path) -> None:
    """Checks that a data set holds the band of a model: a model of a lower rate takes its sound resampled.

    Raises:
      DatasetError: its rate is lower than the model's.
    """
    if manifest.sample_rate_hz < sample_rate_hz:
        raise DatasetError(
            f"{folder} holds sound at {manifest.sample_rate_hz} Hz, the preset needs {sample_rate_hz}",
            f"Prepare it again with sample_rate_hz={sample_rate_hz} and force=True.",
            kind=Kind.OTHER_RATE,
            rate_hz=sample_rate_hz,
        )


def _resampled(examples: Examples, from_hz: int, to_hz: int) -> Examples:
    import soxr

    audio = [soxr.resample(window, from_hz, to_hz) for window in examples.audio]
    n_samples = examples.audio.shape[1] * to_hz // from_hz
    return replace(examples, audio=np.array(audio, np.float32).reshape(len(examples), -1)[:, :n_samples])


def check_features(manifest: Manifest, spec: FeatureSpec, folder: Path) -> None:
    """Compares the FeatureSpec of a data set with that of a model.

    Raises:
      DatasetError: they differ in more than the tracker or a frame rate that divides the data set's.
    """
    rate_hz = manifest.features.frame_rate_hz
    comparable = manifest.features.at(spec.frame_rate_hz) if rate_hz % spec.frame_rate_hz == 0 else manifest.features
    differences = comparable.differences(spec)
    if differences:
        raise DatasetError(
            f"{folder} was measured with other settings than the model needs: {', '.join(differences)}",
            "Prepare the recordings again with force=True, and with like=NAME to train the instrument NAME further.",
            kind=Kind.OTHER_FEATURES,
        )


def _examples(folder: Path, manifest: Manifest, split: Split) -> Examples | StreamedExamples:
    n_bytes = 4 * sum(_lengths(manifest).values())
    if split.n_examples * n_bytes > MAX_LOADED_BYTES:
        return StreamedExamples(folder, manifest, split)
    n_stored = sum((folder / name).stat().st_size for name in split.shards if (folder / name).is_file())
    if split.n_examples * manifest.window_samples * 4 > n_stored:
        raise _too_few(folder, split)
    stacked = _empty(manifest, split.n_examples)
    index = -1
    for index, (shard, example) in enumerate(_checked(folder, split)):
        if index >= split.n_examples:
            break
        _fill(stacked, index, shard, example)
    if index + 1 != split.n_examples:
        raise _too_few(folder, split)
    return _examples_of(stacked, manifest)


def _too_few(folder: Path, split: Split) -> DatasetError:
    return DatasetError(f"{folder} does not hold the {split.n_examples} examples that its manifest names")


def _lengths(manifest: Manifest) -> dict[str, int]:
    """Returns the number of values of each feature in an example."""
    names = [*tfrecord.FRAME_FEATURES, *([tfrecord.INSTRUMENT] if manifest.instruments else [])]
    return dict.fromkeys(names, manifest.window_frames) | {tfrecord.AUDIO: manifest.window_samples}


def _empty(manifest: Manifest, n_examples: int) -> dict[str, np.ndarray]:
    return {name: np.zeros((n_examples, length), np.float32) for name, length in _lengths(manifest).items()}


def _fill(stacked: dict[str, np.ndarray], index: int, shard: Path, example: dict[str, np.ndarray]) -> None:
    for name, rows in stacked.items():
        values, length = example.get(name), rows.shape[1]
        if values is None or values.shape != (length,) or not np.isfinite(values).all():
            raise DatasetError(f"{shard} does not hold {length} usable values of {name} in each example")
        rows[index] = values


def _examples_of(stacked: dict[str, np.ndarray], manifest: Manifest) -> Examples:
    labels = stacked.get(tfrecord.INSTRUMENT)
    if labels is not None and not np.isin(labels, np.arange(len(manifest.instruments))).all():
        raise DatasetError(
            f"the data set {manifest.name} labels frames with instruments that its manifest does not name"
        )
    return Examples(**stacked, instruments=tuple(manifest.instruments))


def _shard(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise DatasetError(f"{folder} names a shard outside its folder: {name}")
    return folder / name


def _checked(folder: Path, split: Split) -> Iterator[tuple[Path, dict[str, np.ndarray]]]:
    for name, digest in split.shards.items():
        shard = _shard(folder, name)
        with contextlib.ExitStack() as stack:
            try:
                copy = stack.enter_context(local_copy(shard))
                whole = copy.is_file() and sha256(copy) == digest
            except OSError as problem:
                raise DatasetError(f"{shard} cannot be read: {problem.strerror or problem}") from problem
            if not whole:
                raise DatasetError(
                    f"{shard} is missing or damaged",
                    "Prepare the data set again with force=True.",
                    kind=Kind.DATASET_DAMAGED,
                )
            for example in tfrecord.read_examples(copy):
                yield shard, example
