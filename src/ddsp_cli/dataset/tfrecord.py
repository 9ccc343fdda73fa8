"""TFRecord shards with the feature names and types of magenta/ddsp, written and read without TensorFlow.

A shard is a row of records: length, its checksum, data, its checksum. The data is a protocol buffer `tf.train.Example`,
here one whose features are all float lists. Equal numbers give equal bytes: features are in alphabetical order, floats
are packed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

from ddsp_cli.errors import DatasetError, Kind
from ddsp_cli.remote import is_address, read_range

#: Features of an example, as magenta/ddsp names them (data.py:256-270); `power_db` is our own.
AUDIO, AUDIO_16K = "audio", "audio_16k"

FRAME_FEATURES = ("f0_hz", "f0_confidence", "loudness_db", "power_db")

#: Which of the manifest's instruments a frame belongs to; only in data sets of several.
INSTRUMENT = "instrument"

_LENGTH = struct.Struct("<Q")

_CHECKSUM = struct.Struct("<I")

#: Before the data of a record: its length, and the checksum of the length.
_HEADER_BYTES = _LENGTH.size + _CHECKSUM.size

#: No example is larger (60 s at 48 kHz would be 12 MB); a length beyond it is damage.
MAX_RECORD_BYTES = 256 * 1024 * 1024

#: Added to the rotated checksum, so that the checksum of a file of checksums stays strong (tensorflow/tsl,
#: lib/hash/crc32c.h).
_MASK_DELTA = 0xA282EAD8

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protocol buffer wire types


def masked_crc32c(data: bytes) -> int:
    """Returns the CRC-32C (Castagnoli, RFC 3720) as TFRecord files store it: rotated by 15 bits and offset."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def encode_record(data: bytes) -> bytes:
    """Encodes one record of a shard."""
    length = _LENGTH.pack(len(data))
    return b"".join((length, _CHECKSUM.pack(masked_crc32c(length)), data, _CHECKSUM.pack(masked_crc32c(data))))


def encode_example(features: Mapping[str, np.ndarray]) -> bytes:
    """Returns a `tf.train.Example` of float lists.

    Args:
      features: name → array of one dimension, stored as float32.
    """
    entries = []
    for name in sorted(features):
        values = np.ascontiguousarray(features[name], "<f4").tobytes()
        float_list = field(1, values)  # FloatList.value, packed
        feature = field(2, float_list)  # Feature.float_list
        entries.append(field(1, field(1, name.encode()) + field(2, feature)))  # Features.feature, a map
    return field(1, b"".join(entries))  # Example.features


def decode_features(data: bytes) -> dict[str, np.ndarray | list[bytes]]:
    """Returns all features of a `tf.train.Example`: [n] float32 or int64, or a list of bytes.

    Raises:
      ValueError: not such a message.
    """
    features: dict[str, np.ndarray | list[bytes]] = {}
    for number, message in _fields(memoryview(data)):
        if number != 1:
            continue
        for entry_number, entry in _fields(message):
            if entry_number != 1:
                continue
            name, value = "", memoryview(b"")
            for part_number, part in _fields(entry):
                if part_number == 1:
                    name = bytes(part).decode("utf-8")
                elif part_number == 2:
                    value = part
            for kind, values in _fields(value):
                if kind in _LISTS:
                    features[name] = _LISTS[kind](values)
    return features


def read_examples(path: Path) -> Iterator[dict[str, np.ndarray]]:
    """Yields the float lists of the examples of a shard, ours or one that `ddsp_prepare_tfrecord` wrote.

    Features of other types are left out. An example has arrays [n] float32 by name.

    Raises:
      DatasetError: the shard is missing, damaged, or holds something else.
    """
    for _, example in locate_examples(path):
        yield example


def locate_examples(path: Path) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yields the examples of a shard, each with the number of bytes before it.

    Raises:
      DatasetError: as `read_examples`.
    """
    for offset, data in _locate_records(path):
        yield offset, _decoded(data, path)


def n_record_bytes(path: Path) -> int:
    """Returns the size of the first record of a shard, with its length and checksums.

    Raises:
      DatasetError: the file is missing, or begins with something else.
    """
    for _, data in _locate_records(path):
        return _HEADER_BYTES + len(data) + _CHECKSUM.size
    raise DatasetError(f"{path} is empty")


def locate_features(path: Path) -> Iterator[tuple[int, dict[str, np.ndarray | list[bytes]]]]:
    """Like `locate_examples`, with features of all types.

    Raises:
      DatasetError: as `read_examples`.
    """
    for offset, data in _locate_records(path):
        yield offset, _decoded_features(data, path)


def read_example(path: Path, offset: int, n_bytes: int | None = None) -> dict[str, np.ndarray]:
    """Returns the example at a place that `locate_examples` named.

    Args:
      path: of the shard.
      offset: bytes before it.
      n_bytes: size of its record, where it is known: one request less at an address.

    Raises:
      DatasetError: as `read_examples`.
    """
    return _decoded(_record_at(path, offset, n_bytes), path)


def read_features(path: Path, offset: int) -> dict[str, np.ndarray | list[bytes]]:
    """Like `read_example`, with features of all types.

    Raises:
      DatasetError: as `read_examples`.
    """
    return _decoded_features(_record_at(path, offset), path)


def _record_at(path: Path, offset: int, n_bytes: int | None = None) -> bytes:
    try:
        if is_address(path):
            content = BytesIO(read_range(path, offset, _HEADER_BYTES if n_bytes is None else n_bytes))
            header = content.read(_HEADER_BYTES)
            if n_bytes is None:
                content = BytesIO(read_range(path, offset + _HEADER_BYTES, _length(header, path) + _CHECKSUM.size))
            return _read_record(content, header, path)
        with path.open("rb") as stream:
            stream.seek(offset)
            return _read_record(stream, stream.read(_HEADER_BYTES), path)
    except OSError as problem:
        raise DatasetError(f"{path} cannot be read: {problem.strerror or problem}") from problem


def _locate_records(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as stream:
            while header := stream.read(_HEADER_BYTES):
                offset = stream.tell() - len(header)
                yield offset, _read_record(stream, header, path)
    except OSError as problem:
        raise DatasetError(f"{path} cannot be read: {problem.strerror or problem}") from problem


def _decoded(data: bytes, path: Path) -> dict[str, np.ndarray]:
    found = _decoded_features(data, path).items()
    return {name: values for name, values in found if isinstance(values, np.ndarray) and values.dtype == np.float32}


def _decoded_features(data: bytes, path: Path) -> dict[str, np.ndarray | list[bytes]]:
    try:
        return decode_features(data)
    except ValueError as problem:
        raise DatasetError(f"{path} holds records that are not examples: {problem}") from problem


def _length(header: bytes, path: Path) -> int:
    """Returns the number of bytes of data that a header of `_HEADER_BYTES` announces."""
    length_bytes, checksum = header[: _LENGTH.size], header[_LENGTH.size :]
    if len(header) != _HEADER_BYTES or _CHECKSUM.pack(masked_crc32c(length_bytes)) != checksum:
        raise _damaged(path)
    length: int = _LENGTH.unpack(length_bytes)[0]
    if length > MAX_RECORD_BYTES:
        raise _damaged(path)
    return length


def _read_record(stream: BinaryIO, header: bytes, path: Path) -> bytes:
    """Returns the data of the record whose header was read from the stream."""
    length = _length(header, path)
    data = stream.read(length)
    if len(data) != length or stream.read(_CHECKSUM.size) != _CHECKSUM.pack(masked_crc32c(data)):
        raise _damaged(path)
    return data


def _damaged(path: Path) -> DatasetError:
    return DatasetError(
        f"{path} is damaged or cut short", "Prepare the data set again with force=True.", kind=Kind.DATASET_DAMAGED
    )


def varint(value: int) -> bytes:
    """Encodes a whole number of 0 or more as a varint of protocol buffers."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, payload: bytes) -> bytes:
    """Encodes a field of protocol buffers with a payload of variable length."""
    return varint(number << 3 | _BYTES) + varint(len(payload)) + payload


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("a number is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is too long")


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yields the number and payload of each field; numbers of fixed or variable length come as their bytes."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == _BYTES:
            length, at = _read_varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        elif kind == _VARINT:
            _, end = _read_varint(data, at)
            length = end - at
        else:
            raise ValueError(f"unknown wire type {kind}")
        if length > len(data) - at:
            raise ValueError("a field is cut short")
        yield key >> 3, data[at : at + length]
        at += length


def _floats(float_list: memoryview) -> np.ndarray:
    """Decodes FloatList.value, packed or one by one."""
    parts = [bytes(part) for number, part in _fields(float_list) if number == 1]
    if any(len(part) % 4 for part in parts):
        raise ValueError("a list of floats has a length that is not a multiple of 4")
    return np.frombuffer(b"".join(parts), "<f4").astype(np.float32)


def _integers(int64_list: memoryview) -> np.ndarray:
    """Decodes Int64List.value, packed or one by one."""
    found = []
    for number, part in _fields(int64_list):
        at = 0
        while number == 1 and at < len(part):
            value, at = _read_varint(part, at)
            found.append(value - (1 << 64) if value >= 1 << 63 else value)
    try:
        return np.array(found, np.int64)
    except OverflowError:
        raise ValueError("an integer is too large") from None


def _bytes(bytes_list: memoryview) -> list[bytes]:
    return [bytes(part) for number, part in _fields(bytes_list) if number == 1]


#: BytesList, FloatList and Int64List by their numbers in a Feature.
_LISTS: dict[int, Callable[[memoryview], np.ndarray | list[bytes]]] = {1: _bytes, 2: _floats, 3: _integers}
