"""Hostile files, made small: for the tests of the importers and for `benchmarks/attack_imports.py`."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

import numpy as np

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
    """A tuple of two of a tuple of two …: 2^levels values when it is printed or hashed. For an empty memo."""
    return b")" + b"".join(b"\x94h" + bytes([i]) + b"\x86" for i in range(levels))


def nested_lists(levels: int) -> bytes:
    """The same of lists."""
    return b"(" * levels + b"]" + b"".join(b"\x94h" + bytes([i]) + b"l" for i in range(levels))


def pickle_attacks() -> dict[str, bytes]:
    """Pickles that call nothing and yet take memory or time without end, by what they try."""
    head = b"\x80\x04"
    number = head + b"}X\x0f\0\0\0mean_pitch_note"
    quantiles = head + b"}X\x12\0\0\0quantile_transformcsklearn.preprocessing\nQuantileTransformer\n)\x81}"
    quantiles += b"X\x0b\0\0\0references_]sX\x0a\0\0\0quantiles_"
    return {
        "2^60 values in shared tuples": number + nested_tuples(60) + b"s.",
        "2^60 values in shared lists": number + nested_lists(60) + b"s.",
        "2^28 values in shared tuples": number + nested_tuples(28) + b"s.",
        "a key of 2^60 values": head + b"}" + nested_tuples(60) + b"K\x01s.",
        "90,000 levels of lists": number + b"]" * 90_000 + b"a" * 89_999 + b"s.",
        "150,000 levels of tuples": number + b"N" + b"\x85" * 150_000 + b"s.",
        "a key of 150,000 levels": head + b"}N" + b"\x85" * 150_000 + b"K\x01s.",
        "a list in itself": number + b"]\x94h\0as.",
        "2^60 values as an array": quantiles + nested_lists(60) + b"sbs.",
        "2^26 values as an array": quantiles + nested_lists(26) + b"sbs.",
        "20,000 levels as an array": quantiles + b"]" * 20_000 + b"a" * 19_999 + b"sbs.",
        "ragged lists as an array": quantiles + b"](](" + b"N" * 50_000 + b"eesbs.",
        "two billionth entry of the memo": b"\x80\x02}r\xff\xff\xff\x7f.",
        "a text of 2^63 bytes": head + b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "a byte array of 2^63 bytes": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "a frame of 2^63 bytes": head + b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "300,000 instructions": head + b"N" * 300_000 + b".",
        "an integer of 16 million digits": number + b"\x8b" + struct.pack("<i", 7 << 20)
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
    growing = "\n".join(f"m{i} = [{f'%m{i + 1}, ' * 50}]" for i in range(8))
    return {
        "50^8 values by macros": f"{growing}\nm8 = 1\nRnnFcDecoder.input_keys = %m0\n",
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


#: Values that no parameter, or only another one, can have.
ODD_VALUES = (
    "1e999", "-1e999", "0", "-1", "1", "1000000000000", "99999999999999999999999999999", "True", "None", "'x'", "''",
    "[]", "()", "{}", "{'a': 1}", "[1]", "(1,)", "[[1]]", "@x", "@x()", "%n_samples", "%nowhere", "1.5", "-0.0",
    "b'x'", "1j",
    "(('amps', 1),)", "(('amps', 1), ('harmonic_distribution', 1), ('noise_magnitudes', 1))",
    "(('amps', 1), ('harmonic_distribution', 20), ('noise_magnitudes', 1e999))", "[('a',), 'b']", "[(@a(),)]",
    "[@synths.Harmonic(), @x]", "[(@synths.Harmonic(), []), (@synths.FilteredNoise(), []), (@processors.Add(), [])]",
    "('f0_scaled',)", "('ld_scaled', 'ld_scaled')", "({}, [])",
)  # fmt: skip
ODD_NAMES = (
    "Autoencoder.decoder", "Autoencoder.encoder", "F0LoudnessPreprocessor.time_steps",
    "F0LoudnessPreprocessor.frame_rate",
    "FilteredNoise.initial_bias", "FilteredNoise.scale_fn", "FilteredNoise.window_size", "FilteredNoiseReverb.add_dry",
    "FilteredNoiseReverb.n_frames", "FilteredNoiseReverb.n_filter_banks", "FilteredNoiseReverb.reverb_length",
    "Harmonic.amp_resample_method", "Harmonic.n_samples", "Harmonic.normalize_below_nyquist", "Harmonic.sample_rate",
    "Harmonic.scale_fn", "OnlineF0PowerPreprocessor.frame_rate", "ProcessorGroup.dag", "Reverb.add_dry",
    "Reverb.reverb_length", "RnnFcDecoder.ch", "RnnFcDecoder.input_keys", "RnnFcDecoder.layers_per_stack",
    "RnnFcDecoder.output_splits", "RnnFcDecoder.rnn_channels", "RnnFcDecoder.rnn_type", "exp_sigmoid.exponent",
    "exp_sigmoid.threshold", "n_samples",
)  # fmt: skip


def odd_gin(text: str, dice: random.Random) -> str:
    """A gin file with one or two parameters of another type or size; of both generations, and with both rooms."""
    if dice.random() < 0.3:
        text = text.replace("F0LoudnessPreprocessor.compute_loudness = True", "")
    if dice.random() < 0.3:
        text = text.replace("effects.Reverb", "effects.FilteredNoiseReverb")
    n_lines = dice.choice((1, 1, 2))
    return text + "".join(f"{dice.choice(ODD_NAMES)} = {dice.choice(ODD_VALUES)}\n" for _ in range(n_lines))


# --- TensorFlow Lite ---------------------------------------------------------------------------------


class _Flat:
    """A FlatBuffers file, to find and to redirect what its tables point at."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def number(self, layout: str, at: int) -> int:
        return int(struct.unpack_from(layout, self.data, at)[0])

    def target(self, at: int) -> int:
        return at + self.number("<I", at)

    def field(self, table: int, number: int) -> int:
        fields = table - self.number("<i", table)
        offset = self.number("<H", fields + 4 + 2 * number)
        assert offset, "the field is left out"
        return table + offset

    def table(self, *path: tuple[int, int]) -> int:
        """The table behind (field, index), (field, index), …, from the root on."""
        table = self.target(0)
        for number, index in path:
            entry = self.target(self.field(table, number)) + 4 + 4 * index
            table = self.target(entry)
        return table

    def repeated(self, n: int, number: int, *path: tuple[int, int], padding: int = 0) -> bytes:
        """The file with a list of n times its first table in place of a list of tables."""
        place = self.field(self.table(*path), number)
        first = self.target(self.target(place) + 4)
        data = bytearray(self.data) + bytes(-len(self.data) % 16)
        vector = len(data)
        copy = vector + 4 + 4 * n + (-(vector + 4 + 4 * n) % 16)
        data += struct.pack("<I", n)
        data += b"".join(struct.pack("<I", copy + first - (vector + 4 + 4 * i)) for i in range(n))
        data += bytes(copy - len(data)) + self.data + bytes(padding)
        struct.pack_into("<I", data, place, vector - place)
        return bytes(data)

    def list_of(self, content: bytes, n: int, number: int, *path: tuple[int, int]) -> bytes:
        """The file with a list of n items, given as bytes, in place of another."""
        place = self.field(self.table(*path), number)
        data = bytearray(self.data) + bytes(-len(self.data) % 16)
        struct.pack_into("<I", data, place, len(data) - place)
        return bytes(data + struct.pack("<I", n) + content)


def tflite_attacks(model: bytes) -> dict[str, bytes]:
    """Files of a plug-in model with lists that have no end, by what they try.

    Args:
      model: a plug-in model whose buffer 1 and tensor 0 exist.
    """
    flat = _Flat(model)
    graph, tensor = (2, 0), (0, 0)
    megabyte = 1 << 20
    # One buffer of a megabyte, 8,000 times.
    whole = _Flat(model + bytes(-len(model) % 16))
    single = _Flat(whole.list_of(bytes(megabyte), megabyte, 0, (4, 1)))
    big = single.data
    at_big = _Flat(big)
    place = at_big.field(at_big.table(), 4)
    vector = at_big.target(place)
    entries = bytearray(big)
    target = at_big.target(vector + 8)  # buffer 1, which is the big one
    for i in range(at_big.number("<I", vector)):
        if target > vector + 4 + 4 * i:
            struct.pack_into("<I", entries, vector + 4 + 4 * i, target - (vector + 4 + 4 * i))
    return {
        "8,000 buffers": flat.repeated(8000, 4),
        "all buffers at one place": bytes(entries),
        "8,000 buffers of a megabyte at one place": _Flat(bytes(entries)).repeated(8000, 4),
        "10^6 buffers": flat.repeated(1_000_000, 4),
        "8,000 graphs at one place": flat.repeated(8000, 2),
        "100,000 tensors at one place": flat.repeated(100_000, 0, graph),
        "8,000 operators at one place": flat.repeated(8000, 3, graph),
        "100,000 operator codes": flat.repeated(100_000, 1),
        "500,000 dimensions of 1": flat.list_of(struct.pack("<i", 1) * 500_000, 500_000, 0, graph, tensor),
        "8,000 dimensions of 2^31": flat.list_of(b"\xff\xff\xff\x7f" * 8000, 8000, 0, graph, tensor),
        "dimensions of -1": flat.list_of(b"\xff\xff\xff\xff" * 3, 3, 0, graph, tensor),
        "2^31 in two dimensions": flat.list_of(b"\xff\xff\xff\x7f" * 2, 2, 0, graph, tensor),
        "a name of a megabyte": flat.list_of(b"x" * megabyte, megabyte, 3, graph, tensor),
        "10^6 inputs": flat.list_of(bytes(4_000_000), 1_000_000, 1, graph),
        "a list longer than the file": flat.list_of(bytes(8), 0x7FFFFFFF, 1, graph),
        "cut in the middle": model[: len(model) // 2],
        "a header alone": model[:8],
    }


def heavy_graphs() -> dict[str, bytes]:
    """Files that keep the plug-in's contract, and take memory or time without end when they run."""
    from ddsp_cli.exporters.litert import TfliteOps
    from ddsp_cli.synthesis.litert_decoder import INPUTS, OUTPUTS

    def built(n_tables: int, n_rounds: int, side: int) -> bytes:
        ops = TfliteOps()
        given = {name: ops.input(name, (size,)) for name, size in INPUTS.items()}
        pitch = given["call_f0_scaled:0"]
        column = ops.binary("add", ops.constant(np.zeros((1, side, 1))), ops.reshape(pitch, (1, 1, 1)))
        row = ops.binary("add", ops.constant(np.zeros((1, 1, side))), ops.reshape(pitch, (1, 1, 1)))
        tables = [ops.binary("add", column, ops.binary("mul", row, ops.constant([i + 1.0]))) for i in range(n_tables)]
        for _ in range(n_rounds):
            tables = [ops.unary("sin", table) for table in tables]
        total = tables[0]
        for table in tables[1:]:
            total = ops.binary("add", total, table)
        mean = ops.mean(ops.reshape(ops.mean(total), (1, side)))
        nothing = ops.binary("mul", ops.reshape(mean, (1,)), ops.constant([0.0]))
        for name, size in OUTPUTS.items():
            ops.output(name, ops.binary("add", ops.constant(np.full(size, 1 / size)), nothing), (size,))
        return ops.finish("heavy")

    return {
        "tables of 16 GB together": built(64, 0, 8000),
        "a table of 1 TB": built(1, 0, 500_000),
        "an hour for a frame": built(1, 400, 4000),
        "a table of 2^32 bytes": built(1, 0, 1 << 15),
    }


# --- metadata and cards ------------------------------------------------------------------------------


def metadata_attacks() -> dict[str, bytes]:
    """Contents of `metadata.json`, by what they try."""
    return {
        "100,000 levels": b"[" * 100_000 + b"]" * 100_000,
        "objects of 100,000 levels": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "a number of 900,000 digits": b'{"mean_min_pitch_note": ' + b"9" * 900_000 + b"}",
        "a number of 4,000 digits": b'{"mean_min_pitch_note": ' + b"9" * 4000 + b', "mean_max_pitch_note": 3}',
        "infinity": b'{"mean_min_pitch_note": 1e999, "mean_max_pitch_note": 1e999}',
        "NaN": b'{"mean_min_power_note": NaN, "mean_max_power_note": NaN}',
        "text for numbers": b'{"mean_min_pitch_note": "\\u001b[2J", "mean_max_pitch_note": []}',
        "percentiles that are text": b'{"percentiles": "all"}',
        "percentiles of NaN": b'{"percentiles": {"pitch_midi": [' + b"NaN," * 100 + b"NaN]}}",
        "not UTF-8": bytes(range(128, 256)),
        "a list": b"[1, 2, 3]",
        "a version of a megabyte": b'{"version": "' + b"x" * 900_000 + b'"}',
        "quantiles that are text": b'{"quantile_transform": {"quantiles_": "x"}}',
    }


def card_attacks(card: str) -> dict[str, bytes]:
    """Contents of `card.yaml`, by what they try.

    Args:
      card: one as `ddsp export` writes it.
    """
    head = "exported_with: ddsp 0.1.0\n"
    return {
        "an empty integer": (card + "more: !!int ''\n").encode(),
        "a timestamp": card.replace("licence:", "licence: !!timestamp 2001-99-99 #", 1).encode(),
        "infinite figures": card.replace("note_s:", "note_s: .inf #", 1).encode(),
        "NaN figures": card.replace("note_s:", "note_s: .nan #", 1).encode(),
        "aliases that double": (head + "a: &a [x, x]\n" + "".join(
            f"a{i}: &a{i} [*a{i - 1 or ''}, *a{i - 1 or ''}]\n" for i in range(1, 40)
        )).encode(),
        "100,000 levels": (head + "a: " + "[" * 100_000).encode(),
        "a Python object": (head + "a: !!python/object/apply:os.system ['true']\n").encode(),
        "a binary": (head + "a: !!binary ////\n").encode(),
        "a card of 900 kB": (card + "#" * 900_000).encode(),
        "a card of 4 MB": (card + "#" * 4_000_000).encode(),
        "10^9 harmonics": card.replace("n_harmonics: 60", "n_harmonics: 1000000000").encode(),
        "keys twice": (card + "format: vst\n").encode(),
        "nothing but a head": head.encode(),
        "not UTF-8": head.encode() + bytes(range(128, 256)),
        "zero bytes": head.encode() + b"a: \0\n",
        "sets and dates": (head + "? [1, 2]\n: 2001-12-14\n").encode(),
        "a number in base 60": (head + "checks: 99:99:99:99:99:99:99\n").encode(),
    }  # fmt: skip
