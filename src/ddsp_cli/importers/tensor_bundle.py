"""Reads weights out of TensorFlow checkpoints (format V2) without TensorFlow, every size checked before it is used.

    PREFIX.index                   a table in LevelDB's format: name → BundleEntryProto; "" → BundleHeaderProto
    PREFIX.data-NNNNN-of-NNNNN     the numbers, each tensor at an offset of one file

TensorFlow's reader trusts the index: a negative or giant shape aborts the process. Formats:
tensorflow/core/protobuf/tensor_bundle.proto and tensor_shape.proto (field numbers), tensorflow/core/lib/io/
table_format.txt and format.h (blocks, footer, checksums), protobuf.dev "Encoding".
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator

import numpy as np

from ddsp_cli.dataset.tfrecord import masked_crc32c
from ddsp_cli.errors import ModelError
from ddsp_cli.importers.files import Files

MAX_INDEX_BYTES = 4 << 20
MAX_ENTRIES = 20_000
MAX_NAME_BYTES = 4096
MAX_SHARDS = 64
MAX_DIMENSIONS = 8

_FOOTER_BYTES, _TRAILER_BYTES = 48, 5  # of a table; of a block: its compression and its checksum
_MAGIC = 0xDB4775248B80FB57
_FLOAT32 = 1  # DataType.DT_FLOAT
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types

Fields = dict[int, list[int | bytes]]


def read(files: Files, prefix: str, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """Reads the tensors of a checkpoint.

    Args:
      files: among which its own are.
      prefix: of their names, such as `ckpt-300`.
      wanted: whether a tensor of this name is read.

    Returns:
      Name → float32 array.

    Raises:
      ModelError: a file is missing or damaged, or a wanted tensor is not float32, not whole, or beyond its file.
    """
    try:
        entries = dict(_table(files.read(f"{prefix}.index", MAX_INDEX_BYTES)))
        header = _message(entries.pop(b"", b""))
        n_shards = _integer(header, 1)
        if _integer(header, 2) != 0:
            raise ModelError("the checkpoint is damaged: its numbers are not little-endian")
        if not 1 <= n_shards <= MAX_SHARDS:
            raise ModelError(f"the checkpoint is damaged: it has {n_shards} data files")
        shards: dict[int, bytes] = {}
        found: dict[str, np.ndarray] = {}
        for key, value in sorted(entries.items()):
            name = key.decode("utf-8")
            if wanted(name):
                entry = _message(value)
                shard = _integer(entry, 3)
                if shard not in shards:
                    if not 0 <= shard < n_shards:
                        raise ModelError(f"the checkpoint is damaged: {name[:80]} is in data file {shard}")
                    file = f"{prefix}.data-{shard:05d}-of-{n_shards:05d}"
                    if file not in files.names():
                        raise ModelError(f"the checkpoint is damaged: {file} is missing")
                    shards[shard] = files.read(file)
                found[name] = _tensor(name[:80], entry, shards[shard])
    except (struct.error, IndexError, ValueError) as problem:
        raise ModelError(f"the checkpoint is damaged: {problem}") from problem
    return found


def _tensor(name: str, entry: Fields, data: bytes) -> np.ndarray:
    """Returns the numbers of an entry, a read-only view of its file where that is aligned."""
    if _integer(entry, 1) != _FLOAT32:
        raise ModelError(f"the checkpoint holds {name}, which is not float32")
    if 7 in entry:
        raise ModelError(f"the checkpoint holds {name} in slices, which this program does not read")
    shape = _message(_bytes(entry, 2))
    dimensions = [_integer(_message(_as_bytes(dimension)), 1) for dimension in shape.get(2, [])]
    if _integer(shape, 3) or len(dimensions) > MAX_DIMENSIONS or min(dimensions, default=0) < 0:
        raise ModelError(f"the checkpoint is damaged: {name} has the shape {dimensions[: MAX_DIMENSIONS + 1]}")
    offset, n_bytes = _integer(entry, 4), _integer(entry, 5)
    if math.prod(dimensions) * 4 != n_bytes or offset < 0 or offset + n_bytes > len(data):
        raise ModelError(f"the checkpoint is damaged: {name} reaches beyond its file, or its size is not its shape's")
    content = bytes(memoryview(data)[offset : offset + n_bytes])
    if masked_crc32c(content) != _integer(entry, 6):
        raise ModelError(f"the checkpoint is damaged: the checksum of {name} does not match")
    return np.frombuffer(content, "<f4").reshape(dimensions)


# --- the table ---------------------------------------------------------------------------------------


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Reads the keys and values of a table, in order."""
    if len(data) < _FOOTER_BYTES or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise ModelError("the checkpoint is damaged: its index is not a TensorFlow checkpoint's")
    footer = data[-_FOOTER_BYTES:]
    at = _varint(footer, _varint(footer, 0)[1])[1]  # past the handle of the meta block
    n_entries = 0
    for _, handle in _block(data, footer[at:]):
        for key, value in _block(data, handle):
            n_entries += 1
            if n_entries > MAX_ENTRIES:
                raise ModelError("the checkpoint has more entries than any instrument's")
            yield key, value


def _block(data: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Reads keys and values of the block at a handle (offset, size); each key shares a prefix with the one before."""
    start, at = _varint(handle, 0)
    size, _ = _varint(handle, at)
    trailer = start + size
    if trailer + _TRAILER_BYTES > len(data):
        raise ValueError("its index reaches beyond its file")
    if data[trailer] != 0:
        raise ValueError("its index is compressed")
    if masked_crc32c(data[start : trailer + 1]) != struct.unpack_from("<I", data, trailer + 1)[0]:
        raise ValueError("the checksum of its index does not match")
    block = data[start:trailer]
    end = len(block) - 4 * (1 + struct.unpack("<I", block[-4:])[0])
    at, key = 0, b""
    while at < end:
        n_shared, at = _varint(block, at)
        n_new, at = _varint(block, at)
        n_value, at = _varint(block, at)
        if n_shared > len(key) or n_shared + n_new > MAX_NAME_BYTES or at + n_new + n_value > end:
            raise ValueError("its index has an entry beyond its block")
        key = key[:n_shared] + block[at : at + n_new]
        at += n_new + n_value
        yield key, block[at - n_value : at]


# --- protocol buffers --------------------------------------------------------------------------------


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Returns an unsigned number of up to 64 bits, seven to a byte, and the place after it."""
    value = 0
    for i in range(10):
        byte = data[at + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value & (2**64 - 1), at + i + 1
    raise ValueError("a number is longer than 64 bits")


def _message(data: bytes) -> Fields:
    """Decodes a message: field number → its values, in order."""
    found: Fields = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        value: int | bytes
        if wire == _VARINT:
            value, at = _varint(data, at)
        elif wire == _BYTES:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("a field reaches beyond its message")
            value, at = data[at : at + size], at + size
        elif wire in (_FIXED32, _FIXED64):
            layout = "<I" if wire == _FIXED32 else "<Q"
            value = struct.unpack_from(layout, data, at)[0]
            at += struct.calcsize(layout)
        else:
            raise ValueError("a field has an unknown type")
        found.setdefault(number, []).append(value)
    return found


def _integer(fields: Fields, number: int) -> int:
    """Returns the last value of a field as a signed 64-bit number, 0 where it is left out."""
    value = fields.get(number, [0])[-1]
    if not isinstance(value, int):
        raise ValueError("a field is not a number")
    return value - 2**64 if value >= 2**63 else value


def _bytes(fields: Fields, number: int) -> bytes:
    return _as_bytes(fields.get(number, [b""])[-1])


def _as_bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a field is not a message")
    return value
