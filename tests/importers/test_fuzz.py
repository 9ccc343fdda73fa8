"""500 damaged files: each is read, or refused in one sentence, without a crash, a hang or a written file."""

from __future__ import annotations

import io
import math
import pickle
import random
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ddsp_cli import importers
from ddsp_cli.errors import ModelError
from ddsp_cli.exporters import vst
from ddsp_cli.importers import card, gin, magenta_checkpoint, pickles, tensor_bundle
from ddsp_cli.importers.files import Archive, Folder
from ddsp_cli.importers.flatbuffer import read
from ddsp_cli.importers.tflite import check_contract, find_weights
from format_fixtures import GIN, checkpoint_files, loudness_model, plugin_bundle, unknown_graph, weight_places
from hostile import BundleEntry, odd_gin, tensor_index

#: No damaged file may keep us longer, even on a slow machine.
LIMIT_S = 10.0

INTERESTING = (
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x00\x00\x00\x80",
    b"\xff\xff\xff\x7f",
    b"\x01",
    b"../",
    b"\xff",
)


def mutate(data: bytes, dice: random.Random, where: Callable[[random.Random], int]) -> bytes:
    """Some bytes changed, inserted, cut out or repeated."""
    found = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        at = min(where(dice), max(len(found) - 1, 0))
        match dice.randrange(6):
            case 0:
                found[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                piece = dice.choice(INTERESTING)
                found[at : at + len(piece)] = piece
            case 2:
                found[at : at + 1] = bytes([found[at] ^ (1 << dice.randrange(8))])
            case 3:
                del found[at : at + dice.randrange(1, 9)]
            case 4:
                found[at:at] = found[at : at + dice.randrange(1, 65)]
            case 5:
                if dice.randrange(4) == 0:
                    del found[at:]
                else:
                    found[at:at] = bytes(dice.randrange(256) for _ in range(4))
    return bytes(found)


def survive(read_it: Callable[[bytes], object], data: bytes, n: int, seed: int, part: range | None = None) -> int:
    """Reads n versions, damaged within a part of the file; returns how many were refused."""
    dice = random.Random(seed)
    places = part or range(len(data))
    n_refused = 0
    for _ in range(n):
        damaged = mutate(data, dice, lambda d: d.choice(places))
        started = time.process_time()  # of this process: other work on the machine does not count
        try:
            read_it(damaged)
        except ModelError as problem:
            n_refused += 1
            assert problem.message
        assert time.process_time() - started < LIMIT_S
    return n_refused


@pytest.fixture(scope="module")
def tflite_file() -> bytes:
    return vst.build(plugin_bundle())[0]


def graph_part(data: bytes) -> range:
    """Where the graph stands: the writer puts it behind the weights."""
    return range(data.rindex(b"main"), len(data))


def test_tflite(tflite_file: bytes) -> None:
    refused = survive(lambda data: find_weights(read(data)), tflite_file, 100, 1, graph_part(tflite_file))
    refused += survive(lambda data: find_weights(read(data)), tflite_file, 50, 2, range(2000))
    assert refused > 50


def test_tflite_of_unknown_make(tmp_path: Path) -> None:
    """An unknown graph is checked against the contract, then run in a separate process, which may crash."""
    data, path = unknown_graph(), tmp_path / "x.tflite"
    assert survive(lambda damaged: check_contract(read(damaged)), data, 100, 6, graph_part(data)) > 30

    def load(damaged: bytes) -> object:
        path.write_bytes(damaged)
        return importers.load(path)

    survive(load, data, 10, 7, graph_part(data))
    assert {entry.name for entry in tmp_path.iterdir()} == {"x.tflite"}


def test_gin() -> None:
    def load(data: bytes) -> object:
        return magenta_checkpoint.describe(gin.parse(data.decode("utf-8", "replace")))

    text = GIN.format(generation="F0LoudnessPreprocessor.compute_loudness = True", layers=1)
    load(text.encode())
    assert survive(load, text.encode(), 125, 3) > 40


def test_gin_of_odd_values_and_weights_of_odd_shapes(tmp_path: Path) -> None:
    """Types and sizes that no parameter has, and a weight of another shape; with both generations and both rooms."""
    model = loudness_model()
    whole = checkpoint_files(model)
    index, numbers, config, _ = whole
    places = [*weight_places(model)]
    dice, n_refused, n_tries = random.Random(9), 0, 300
    for _ in range(n_tries):
        files = whole | {config: odd_gin(whole[config].decode(), dice).encode()}
        if dice.random() < 0.5:
            shape = tuple(dice.choice((0, 1, 2, 3, 16, 48)) for _ in range(dice.randrange(4)))
            content = bytes(4 * math.prod(shape))
            entry = BundleEntry(shape, content, offset=len(whole[numbers]))
            files[index] = checkpoint_files(model, {dice.choice(places): entry})[index]
            files[numbers] += content
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        try:
            importers.read(tmp_path)
        except ModelError:
            n_refused += 1
    assert n_tries // 2 < n_refused < n_tries


def test_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = {"mean_min_pitch_note": np.float32(60), "mean_max_pitch_note": 80.0, "x": np.arange(9.0), "y": ["text"]}

    def load(data: bytes) -> object:
        found = pickles.load(data)
        return card.read_statistics(found) if isinstance(found, dict) else None

    refused = sum(survive(load, pickle.dumps(table, protocol=p), 25, 10 + p) for p in range(1, 6))
    assert refused > 40
    assert not list(tmp_path.iterdir())


def test_tensor_bundle(tmp_path: Path) -> None:
    data = bytes(24)
    index = tensor_index({f"layer{i}/kernel": BundleEntry((2, 3), data=data) for i in range(20)})
    (tmp_path / "ckpt-1.data-00000-of-00001").write_bytes(data)

    def load(damaged: bytes) -> object:
        (tmp_path / "ckpt-1.index").write_bytes(damaged)
        return tensor_bundle.read(Folder(tmp_path, lambda name: True), "ckpt-1", lambda name: True)

    assert survive(load, index, 200, 8) > 150


def test_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "in" / "a.zip"
    source.parent.mkdir()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("solo/operative_config-0.gin", GIN)
        target.writestr("solo/ckpt-1.index", bytes(range(200)))
        target.writestr("solo/dataset_statistics.pkl", pickle.dumps({"mean_pitch": 1.0}))

    def load(data: bytes) -> object:
        source.write_bytes(data)
        found = Archive(source, lambda name: True)
        return [found.read(name) for name in found.names()]

    assert survive(load, buffer.getvalue(), 100, 5) > 40
    assert {path.name for path in tmp_path.rglob("*")} == {"in", "a.zip"}


@pytest.mark.parametrize("name", ["a.zip", "a.tflite", "ckpt-1.index", "a.gin"])
def test_nonsense_under_every_name(name: str, tmp_path: Path) -> None:
    for content in (b"", b"\0" * 100, b"PK\x05\x06" + bytes(18), bytes(random.Random(0).randbytes(5000))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError):
            importers.read(tmp_path / name)
