"""Prepared recordings on disk: windows of sound and features in TFRecord shards, described by `dataset.yaml`."""

from ddsp_cli.dataset.manifest import Manifest, dataset_names, load_manifest
from ddsp_cli.dataset.store import Dataset, Examples, check_features, load

__all__ = ["Dataset", "Examples", "Manifest", "check_features", "dataset_names", "load", "load_manifest"]
