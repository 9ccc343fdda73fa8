"""Hostile files, made small: for the tests of the importers and for `benchmarks/attack_imports.py`."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ddsp_cli.dataset.tfrecord import masked_crc32c

# --- TensorFlow checkpoints --------------------------------------------------------------------------


def varint(value: int) -> bytes:
    """A number as protocol buffers store it: seven bits to a byte, negative ones as 64 bits."""
    value %= 1 << 64
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def proto(*fields: tuple[int, int | bytes]) -> bytes:
    """A message of numbers and nested messages."""
    return b"".join(
        varint(number << 3) + varint(value)
        if isinstance(value, int)
        else varint(number << 3 | 2) + varint(len(value)) + value
        for number, value in fields
    )


@dataclass(frozen=True)
class BundleEntry:
    """An entry of a checkpoint's index; what is None is as it should be."""

    shape: tuple[int, ...]
    data: bytes = b""
    dtype: int = 1
    shard: int = 0
    offset: int = 0
    size: int | None = None
    checksum: int | None = None
    slices: bool = False

    def pack(self) -> bytes:
        shape = proto(*((2, proto((1, axis))) for axis in self.shape))
        size = len(self.data) if self.size is None else self.size
        checksum = masked_crc32c(self.data) if self.checksum is None else self.checksum
        fields = proto((1, self.dtype), (2, shape), (3, self.shard), (4, self.offset), (5, size))
        fields += varint(6 << 3 | 5) + struct.pack("<I", checksum)
        return fields + (proto((7, proto((1, 0)))) if self.slices else b"")


def tensor_index(entries: dict[str, BundleEntry], n_shards: int = 1, endianness: int = 0, n_repeats: int = 1) -> bytes:
    """The index file of a checkpoint; `n_repeats` lists its one block as often."""
    rows = {b"": proto((1, n_shards), (2, endianness), (3, proto((1, 1))))}
    rows |= {name.encode(): entry.pack() for name, entry in sorted(entries.items())}
    data, handle = _with_block(b"", list(rows.items()))
    data, meta = _with_block(data, [])
    data, index = _with_block(data, [(b"\xff", handle)] * n_repeats)
    return data + (meta + index).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def _with_block(data: bytes, rows: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """The file with one block more, and the block's handle."""
    block = b"".join(varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in rows)
    block += struct.pack("<II", 0, 1)
    checksum = struct.pack("<I", masked_crc32c(block + b"\0"))
    return data + block + b"\0" + checksum, varint(len(data)) + varint(len(block))


# --- pickles -----------------------------------------------------------------------------------------


def nested_tuples(levels: int) -> bytes:
    """A tuple of two of a tuple of two …: 2^levels values when it is printed or hashed."""
    return b"\x80\x04)\x94" + b"h\x00h\x00\x86" + b"".join(
        b"\x94h" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(1, min(levels, 250))
    ) + b"."  # fmt: skip


def pickle_attacks() -> dict[str, bytes]:
    """Pickles that call nothing and yet take memory or time without end, by what they try."""
    head = b"\x80\x04"
    quantiles = b"csklearn.preprocessing\nQuantileTransformer\n)\x81}X\x0a\0\0\0quantiles_"
    return {
        "2^60 values in shared tuples": head + b"}\x8c\x01a" + nested_tuples(60)[2:-1] + b"s.",
        "a key of 2^60 values": head + b"}" + nested_tuples(60)[2:-1] + b"K\x01s.",
        "2^60 values in shared lists": head + b"]\x94" + b"".join(
            b"]\x94(h" + bytes([i]) + b"h" + bytes([i]) + b"e" for i in range(60)
        ) + b".",
        "150,000 levels of lists": head + b"]" * 150_000 + b"a" * 149_999 + b".",
        "150,000 levels of tuples": head + b"N" + b"\x85" * 150_000 + b".",
        "a key of 150,000 levels": head + b"}N" + b"\x85" * 150_000 + b"K\x01s.",
        "a list in itself": head + b"]\x94h\0a.",
        "nested lists as an array": head + quantiles + b"]" * 20_000 + b"a" * 19_999 + b"sb.",
        "ragged lists as an array": head + quantiles + b"](]" + b"N" * 50_000 + b"es" + b"b.",
        "two billionth entry of the memo": b"\x80\x02}r\xff\xff\xff\x7f.",
        "a text of 2^63 bytes": head + b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "a byte array of 2^63 bytes": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "a frame of 2^63 bytes": head + b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "300,000 instructions": head + b"N" * 300_000 + b".",
        "an integer of 16 million digits": head + b"}X\x0f\0\0\0mean_pitch_note\x8b" + struct.pack("<i", 7 << 20)
        + b"\x7f" * (7 << 20) + b"s.",
        "a persistent id": b"\x80\x02K\x01Q.",
        "an extension code": b"\x80\x02\x82\x01.",
        "a buffer from elsewhere": b"\x80\x05\x97.",
        "an array of 2^62 numbers": head + b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R"
        + b"(K\x01\x8a\x08\0\0\0\0\0\0\0\x40\x85cnumpy\ndtype\n\x8c\x02f8\x89\x88\x87R\x89C\x00tb.",
        "an array of objects": head + b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R"
        + b"(K\x01K\x01\x85cnumpy\ndtype\n\x8c\x02O8\x89\x88\x87R\x89]N" + b"atb.",
        "state for a class": head + b"cnumpy\ndtype\n}b.",
        "items for a class": head + b"cnumpy\ndtype\nK\x01K\x01s.",
        "an attribute instead of a class": head + b"cnumpy\nndarray.__subclasses__\n)R.",
    }  # fmt: skip


# --- gin ---------------------------------------------------------------------------------------------


def gin_attacks() -> dict[str, str]:
    """Statements that grow, nest or circle, by what they try; to be put before or behind a whole file."""
    doubling = "\n".join(f"m{i} = [%m{i + 1}, %m{i + 1}]" for i in range(40))
    return {
        "2^40 values by macros": f"{doubling}\nm40 = 1\nRnnFcDecoder.input_keys = %m0\n",
        "macros in circles": "a = %b\nb = (%a, %a)\nRnnFcDecoder.input_keys = %a\n",
        "5,000 brackets": "x = " + "[" * 5000 + "]" * 5000 + "\n",
        "open brackets": "x = " + "(" * 5000,
        "5,000 signs": "x = " + "-" * 5000 + "1\n",
        "a number of 50,000 digits": "RnnFcDecoder.ch = " + "9" * 50_000 + "\n",
        "a number of 10^999999": "RnnFcDecoder.ch = 1e999999\n",
        "30,000 lines of a string": "x = '''" + "\n" * 30_000,
        "30,000 lines in brackets": "x = [" + "1,\n" * 10_000 + "]\n",
        "a million layers": "RnnFcDecoder.layers_per_stack = 1000000\n",
        "a billion units": "RnnFcDecoder.rnn_channels = 1000000000\n",
        "a room of 10^12 samples": "Reverb.reverb_length = 1000000000000\n",
        "a negative room": "Reverb.reverb_length = -1\n",
        "no frames": "F0LoudnessPreprocessor.time_steps = 0\n",
        "rates that are text": "Harmonic.sample_rate = 'fast'\n",
        "rates that are lists": "Harmonic.sample_rate = [16000]\nF0LoudnessPreprocessor.frame_rate = [1]\n",
        "infinite window": "FilteredNoise.window_size = 1e400\n",
        "keys that are lists": "x = {[1]: 2}\n",
        "a call": "x = __import__('os').system('true')\n",
        "formatted text": "x = f'{1+1}'\n",
        "control characters": "RnnFcDecoder.input_keys = ('\\x1b[2J', '\\x1b]0;x')\n",
        "zero bytes": "x = 1\0\n",
        "half an indentation": "x = 1\n    y = 2\n  z = 3\n",
    }
