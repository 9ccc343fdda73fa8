from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddsp_cli.dataset import tfrecord
from ddsp_cli.errors import DatasetError

SHARED = Path(__file__).parents[2].parent / "shared" / "golden" / "tfrecord"


def test_checksums_are_those_of_rfc_3720_rotated_and_offset():
    for data, crc in ((b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (bytes(range(32)), 0x46DD794E), (b"", 0)):
        masked = tfrecord.masked_crc32c(data)
        rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
        assert (rotated >> 17 | rotated << 15) & 0xFFFFFFFF == crc


def example(n: int = 10) -> dict[str, np.ndarray]:
    random = np.random.default_rng(n)
    return {name: random.normal(size=n).astype(np.float32) for name in ("audio", *tfrecord.FRAME_FEATURES)}


def write(path: Path, *examples: dict[str, np.ndarray]) -> Path:
    with path.open("wb") as stream:
        for features in examples:
            stream.write(tfrecord.encode_record(tfrecord.encode_example(features)))
    return path


@pytest.mark.parametrize("n", [0, 1, 31, 32, 40000])
def test_what_is_written_is_read(tmp_path, n):
    shard = write(tmp_path / "a", example(n), example(n + 1))
    first, second = tfrecord.read_examples(shard)
    for read, written in ((first, example(n)), (second, example(n + 1))):
        assert set(read) == set(written)
        for name, values in written.items():
            np.testing.assert_array_equal(read[name], values)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/golden/tfrecord")
def test_a_shard_of_ddsp_prepare_tfrecord_is_read():
    (shard,) = SHARED.iterdir()
    examples = list(tfrecord.read_examples(shard))
    assert examples
    for found in examples:
        lengths = {name: len(values) for name, values in found.items()}
        assert lengths == {
            "audio": 64000,
            "audio_16k": 64000,
            "f0_hz": 1000,
            "f0_confidence": 1000,
            "loudness_db": 1000,
        }
        assert 0 <= found["f0_confidence"].min() <= found["f0_confidence"].max() <= 1


def test_tensorflow_reads_what_we_write_and_we_what_it_writes(tmp_path):
    tf = pytest.importorskip("tensorflow")
    ours = write(tmp_path / "ours", example(5000), example(7))
    for raw, written in zip(tf.data.TFRecordDataset(str(ours)), (example(5000), example(7)), strict=True):
        parsed = tf.train.Example.FromString(raw.numpy())
        for name, values in written.items():
            np.testing.assert_array_equal(parsed.features.feature[name].float_list.value, values)
    feature = {
        "f0_hz": tf.train.Feature(float_list=tf.train.FloatList(value=[1.5, 2.5])),
        "label": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"flute"])),
        "count": tf.train.Feature(int64_list=tf.train.Int64List(value=[3, -4])),
    }
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    (read,) = tfrecord.read_examples(tmp_path / "theirs")
    assert {name: list(values) for name, values in read.items()} == {"f0_hz": [1.5, 2.5]}


def test_the_same_numbers_give_the_same_bytes():
    features = example()
    shuffled = dict(reversed(features.items()))
    assert tfrecord.encode_example(features) == tfrecord.encode_example(shuffled)


def test_missing_shards_are_reported(tmp_path):
    with pytest.raises(DatasetError, match="cannot be read"):
        list(tfrecord.read_examples(tmp_path / "nowhere"))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255), st.booleans())
def test_any_damage_to_a_shard_is_noticed(tmp_path_factory, place, change, cut):
    shard = write(tmp_path_factory.mktemp("shard") / "a", example())
    content = bytearray(shard.read_bytes())
    place %= len(content)
    if cut and place:
        del content[place:]
    else:
        content[place] ^= change
    shard.write_bytes(content)
    with pytest.raises(DatasetError, match="damaged"):
        list(tfrecord.read_examples(shard))


def test_a_shard_at_an_address_is_read_from_an_offset_and_damage_is_noticed():
    pytest.importorskip("upath")
    from ddsp_cli.remote import as_place

    shard = as_place("memory://shards/a")
    first, second = (tfrecord.encode_record(tfrecord.encode_example(example(n))) for n in (10, 11))
    shard.write_bytes(first + second)
    for n_bytes in (None, len(second)):
        np.testing.assert_array_equal(tfrecord.read_example(shard, len(first), n_bytes)["audio"], example(11)["audio"])
    for n_kept in (0, 5, 12, len(second) - 1):
        shard.write_bytes(first + second[:n_kept])
        for n_bytes in (None, len(second)):
            with pytest.raises(DatasetError, match="damaged"):
                tfrecord.read_example(shard, len(first), n_bytes)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_messages_that_are_no_examples_never_crash(changes):
    content = bytearray(tfrecord.encode_example(example()))
    for place, value in changes:
        content[place % len(content)] = value
    try:
        read = tfrecord.decode_features(bytes(content))
    except ValueError:
        return
    lists = [values for values in read.values() if isinstance(values, np.ndarray)]
    assert all(values.dtype in (np.float32, np.int64) for values in lists)
    assert all(isinstance(values, list) for values in read.values() if not isinstance(values, np.ndarray))
