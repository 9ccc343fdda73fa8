"""CRC-32C (Castagnoli, RFC 3720) in NumPy: the checksum of TFRecord files, without TensorFlow.

A CRC register is linear over GF(2), so the lanes of a long message can be run side by side and joined afterwards:
register(A + B) = shift(register(A), len(B)) xor register(B), where `shift` feeds zero bytes and is a 32×32 matrix.
"""

from __future__ import annotations

import functools

import numpy as np

_POLYNOMIAL = 0x82F63B78  # bits reversed
_MASK_DELTA = 0xA282EAD8  # TensorFlow's, core/lib/hash/crc32c.h

#: Lanes at most, a power of two; and bytes in a lane at least, or joining the lanes takes longer than it saves.
_MAX_LANES = 2048
_LANE_BYTES = 16


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """CRC-32C of a message; 0xE3069283 for b"123456789"."""
    message = np.frombuffer(data, np.uint8)
    n_lanes = min(_MAX_LANES, 1 << max(0, (len(message) // _LANE_BYTES).bit_length() - 1))
    length = -(-len(message) // n_lanes)
    # Leading zeros do not move a register that starts at 0; the start at all ones is added by linearity.
    padded = np.zeros(n_lanes * length, np.uint8)
    padded[len(padded) - len(message) :] = message
    registers = np.zeros(n_lanes, np.uint32)
    table = _table()
    for column in np.ascontiguousarray(padded.reshape(n_lanes, length).T):
        registers = table[(registers ^ column) & 0xFF] ^ (registers >> 8)
    while len(registers) > 1:
        registers = _apply(_shift(length), registers[0::2]) ^ registers[1::2]
        length *= 2
    start = _apply(_shift(len(message)), np.array([0xFFFFFFFF], np.uint32))
    return int(registers[0] ^ start[0]) ^ 0xFFFFFFFF


def masked(data: bytes | bytearray | memoryview) -> int:
    """The checksum as TFRecord stores it: rotated and offset, so that files of checksums stay safe."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


@functools.cache
def _table() -> np.ndarray:
    """What one byte does to the register, [256]."""
    entries = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        entries = np.where(entries & 1, entries >> 1 ^ np.uint32(_POLYNOMIAL), entries >> 1).astype(np.uint32)
    return entries


def _apply(columns: np.ndarray, registers: np.ndarray) -> np.ndarray:
    """Matrix [32] of columns times registers [n], over GF(2)."""
    result = np.zeros_like(registers)
    for bit in range(32):
        result ^= np.where(registers >> np.uint32(bit) & np.uint32(1), columns[bit], np.uint32(0))
    return result


@functools.lru_cache(maxsize=256)
def _shift(n_bytes: int) -> np.ndarray:
    """The matrix that feeds `n_bytes` zero bytes, as 32 columns."""
    if n_bytes == 0:
        return np.uint32(1) << np.arange(32, dtype=np.uint32)
    if n_bytes == 1:
        unit = _shift(0)
        return _table()[unit & 0xFF] ^ (unit >> np.uint32(8))
    half = _shift(n_bytes // 2)
    doubled = _apply(half, half)
    return _apply(_shift(1), doubled) if n_bytes % 2 else doubled
