"""Prepared recordings on disk: windows of sound and features in TFRecord shards, described by `dataset.yaml`."""

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
