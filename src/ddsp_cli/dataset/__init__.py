"""Prepared recordings on disk: windows of sound and features in TFRecord shards, described by `dataset.yaml`.

In the order of `ddsp prepare`:

    sources         find recordings, list them on disk; `nsynth` and `magenta_shards` read data sets of others
    build           the whole of it: measure, choose gains and splits, write
    executors       many recordings at a time, on processes or a Dask cluster
    workers         measure one recording; `segments` chooses the parts to learn from and removes rumble
    cache           measurements on disk, for this run and the next
    writer          windows of equal length, shards, statistics; `tfrecord` encodes them
    manifest        `dataset.yaml`
    loader          read it all for a training
"""

from ddsp_cli.dataset.loader import Dataset, Examples, check_features, load
from ddsp_cli.dataset.manifest import Manifest, dataset_names, iter_recordings, load_manifest

__all__ = [
    "Dataset",
    "Examples",
    "Manifest",
    "check_features",
    "dataset_names",
    "iter_recordings",
    "load",
    "load_manifest",
]
