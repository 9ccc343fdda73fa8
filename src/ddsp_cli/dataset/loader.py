"""Load a prepared data set for training. Shapes: N examples, S samples, F frames of one window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddsp_cli.checksum import sha256
from ddsp_cli.config import FeatureSpec
from ddsp_cli.dataset import tfrecord
from ddsp_cli.dataset.manifest import Manifest, Split, load_manifest
from ddsp_cli.errors import DatasetError, Kind


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


@dataclass(frozen=True)
class Dataset:
    """A prepared data set in memory (about 0.3 MB per window of 4 s at 16 kHz)."""

    manifest: Manifest
    train: Examples
    validation: Examples


def load(folder: Path, spec: FeatureSpec | None = None) -> Dataset:
    """Loads a data set, each shard checked against its checksum.

    Args:
      folder: where `dataset.yaml` stands.
      spec: how the model to be trained wants its features measured; None takes any. The frame rate may be a divisor
        of the data set's, and the pitch tracker may differ.

    Raises:
      DatasetError: it is missing or damaged, not ours, or measured with other settings.
    """
    folder = Path(folder)
    manifest = load_manifest(folder)
    if spec is not None:
        check_features(manifest, spec, folder)
    return Dataset(manifest, _examples(folder, manifest, manifest.train),
                   _examples(folder, manifest, manifest.validation))  # fmt: skip


def check_features(manifest: Manifest, spec: FeatureSpec, folder: Path) -> None:
    """Compares how a data set was measured with how a model wants it.

    Raises:
      DatasetError: they differ in more than the tracker or a frame rate that divides the data set's.
    """
    rate_hz = manifest.features.frame_rate_hz
    comparable = manifest.features.at(spec.frame_rate_hz) if rate_hz % spec.frame_rate_hz == 0 else manifest.features
    differences = comparable.differences(spec)
    if differences:
        raise DatasetError(
            f"{folder} was measured with other settings than the model wants: {', '.join(differences)}",
            "Prepare the recordings again with force=True, and with like=NAME to train the instrument NAME further.",
            kind=Kind.OTHER_FEATURES,
        )


def _examples(folder: Path, manifest: Manifest, split: Split) -> Examples:
    names = [tfrecord.AUDIO, *tfrecord.FRAME_FEATURES]
    if manifest.instruments:
        names.append(tfrecord.INSTRUMENT)
    lengths = dict.fromkeys(names, manifest.window_frames) | {tfrecord.AUDIO: manifest.window_samples}
    n_bytes = sum((folder / name).stat().st_size for name in split.shards if (folder / name).is_file())
    if split.n_examples * manifest.window_samples * 4 > n_bytes:
        raise DatasetError(f"{folder} does not hold the {split.n_examples} examples that its manifest names")
    stacked = {name: np.zeros((split.n_examples, length), np.float32) for name, length in lengths.items()}
    index = -1
    for index, (shard, example) in enumerate(_checked(folder, split)):
        if index >= split.n_examples:
            break
        for name, length in lengths.items():
            values = example.get(name)
            if values is None or values.shape != (length,) or not np.isfinite(values).all():
                raise DatasetError(f"{shard} does not hold {length} usable values of {name} in each example")
            stacked[name][index] = values
    if index + 1 != split.n_examples:
        raise DatasetError(f"{folder} does not hold the {split.n_examples} examples that its manifest names")
    labels = stacked.get(tfrecord.INSTRUMENT)
    if labels is not None and not np.isin(labels, np.arange(len(manifest.instruments))).all():
        raise DatasetError(f"{folder} labels frames with instruments that its manifest does not name")
    return Examples(**stacked, instruments=tuple(manifest.instruments))


def _checked(folder: Path, split: Split) -> Iterator[tuple[Path, dict[str, np.ndarray]]]:
    for name, digest in split.shards.items():
        shard = folder / name
        if Path(name).name != name:
            raise DatasetError(f"{folder} names a shard outside its folder: {name}")
        try:
            whole = shard.is_file() and sha256(shard) == digest
        except OSError as problem:
            raise DatasetError(f"{shard} cannot be read: {problem.strerror or problem}") from problem
        if not whole:
            raise DatasetError(
                f"{shard} is missing or damaged",
                "Prepare the data set again with force=True.",
                kind=Kind.DATASET_DAMAGED,
            )
        for example in tfrecord.read_examples(shard):
            yield shard, example
