"""TensorFlow checkpoints without TensorFlow: the same numbers as its own reader, and no size that is believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddsp_cli.errors import ModelError
from ddsp_cli.importers import tensor_bundle
from ddsp_cli.importers.files import Folder
from format_fixtures import GOLDEN
from hostile import BundleEntry, tensor_index


def everything(name: str) -> bool:
    return True


def written(folder: Path, entries: dict[str, BundleEntry], data: bytes, **options: int) -> Folder:
    (folder / "ckpt-1.index").write_bytes(tensor_index(entries, **options))
    (folder / "ckpt-1.data-00000-of-00001").write_bytes(data)
    return Folder(folder, everything)


def test_tensorflow_reads_the_same(tmp_path: Path) -> None:
    import tensorflow as tf

    random = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"scalar": (), "empty": (0, 3), "big": (300, 200)}
    shapes |= {f"many{i}": (i % 5 + 1, 2) for i in range(200)}
    values = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    checkpoint = tf.train.Checkpoint(**{name: tf.Variable(value) for name, value in values.items()})
    prefix = checkpoint.write(str(tmp_path / "ckpt-1"))
    found = tensor_bundle.read(Folder(tmp_path, everything), "ckpt-1", lambda name: name.endswith("VARIABLE_VALUE"))
    reader = tf.train.load_checkpoint(prefix)
    assert len(found) == len(values)
    for name, value in found.items():
        np.testing.assert_array_equal(value, reader.get_tensor(name), err_msg=name, strict=True)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="needs the numbers made with magenta/ddsp, beside the checkout")
@pytest.mark.parametrize(("folder", "prefix"), [("solo", "ckpt-30"), ("vst", "ckpt-24")])
def test_golden_checkpoints(folder: str, prefix: str) -> None:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(GOLDEN / folder / prefix))
    names = {name for name, kind in reader.get_variable_to_dtype_map().items() if kind == tf.float32}
    found = tensor_bundle.read(Folder(GOLDEN / folder, everything), prefix, lambda name: name in names)
    assert found.keys() == names
    for name, value in found.items():
        np.testing.assert_array_equal(value, reader.get_tensor(name), err_msg=name, strict=True)


DATA = np.arange(6, dtype="<f4").tobytes()


def test_the_generator_writes_checkpoints(tmp_path: Path) -> None:
    """The files of the attacks below are valid checkpoints before they are changed."""
    files = written(tmp_path, {"x": BundleEntry((2, 3), data=DATA)}, DATA)
    np.testing.assert_array_equal(tensor_bundle.read(files, "ckpt-1", everything)["x"], np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (BundleEntry((-2, -3), data=DATA), "has the shape"),
        (BundleEntry((-1,), data=DATA), "has the shape"),
        (BundleEntry((1 << 62, 1 << 62), data=DATA), "beyond its file"),
        (BundleEntry((1 << 32, 1 << 32), data=DATA, size=0), "beyond its file"),
        (BundleEntry((2, 3), data=DATA, offset=1), "beyond its file"),
        (BundleEntry((2, 3), data=DATA, offset=-24), "beyond its file"),
        (BundleEntry((2, 3), data=DATA, size=-24), "beyond its file"),
        (BundleEntry((1,) * 500, data=DATA[:4]), "has the shape"),
        (BundleEntry((2, 3), data=DATA, dtype=3), "not float32"),
        (BundleEntry((2, 3), data=DATA, shard=7), "data file 7"),
        (BundleEntry((2, 3), data=DATA, shard=-1), "data file -1"),
        (BundleEntry((2, 3), data=DATA, checksum=1), "checksum"),
        (BundleEntry((2, 3), data=DATA, slices=True), "in slices"),
    ],
)
def test_entries_that_are_not_believed(entry: BundleEntry, why: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=why):
        tensor_bundle.read(written(tmp_path, {"x": entry}, DATA), "ckpt-1", everything)


@pytest.mark.parametrize("options", [{"n_shards": 0}, {"n_shards": 1 << 40}, {"endianness": 1}])
def test_headers_that_are_not_believed(options: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="damaged"):
        files = written(tmp_path, {"x": BundleEntry((2, 3), data=DATA)}, DATA, **options)
        tensor_bundle.read(files, "ckpt-1", everything)


def test_every_cut_and_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    """The index carries checksums; a damaged footer, which they do not cover, is refused as well."""
    entries = {name: BundleEntry((2, 3), data=DATA) for name in ("a", "ab", "b")}
    index = tensor_index(entries)
    (tmp_path / "ckpt-1.data-00000-of-00001").write_bytes(DATA)
    files = Folder(tmp_path, everything)
    unnoticed = 0
    for at in range(len(index)):
        for damaged in (index[:at], index[:at] + bytes([index[at] ^ 0xFF]) + index[at + 1 :]):
            (tmp_path / "ckpt-1.index").write_bytes(damaged)
            try:
                found = tensor_bundle.read(files, "ckpt-1", everything)
            except ModelError:
                continue
            unnoticed += 1
            assert found.keys() == entries.keys()
    assert unnoticed <= 40 + 13  # the footer, which is mostly padding, and the meta block, which is not read


def test_blocks_that_are_listed_without_end(tmp_path: Path) -> None:
    entries = {f"name{i}": BundleEntry((2, 3), data=DATA) for i in range(100)}
    with pytest.raises(ModelError, match="more entries"):
        tensor_bundle.read(written(tmp_path, entries, DATA, n_repeats=1000), "ckpt-1", everything)
