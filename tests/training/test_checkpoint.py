"""Damaged checkpoints: every flipped bit is noticed, and the checkpoint before is used where there is one."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from ddsp_cli.errors import ModelError
from ddsp_cli.training import checkpoint
from ddsp_cli.training.checkpoint import CHECKPOINT, PREVIOUS, Point, RunState

ARRAYS = {"weight/000": np.linspace(-1, 1, 300, dtype=np.float32).reshape(10, 30), "state/000": np.arange(2)}


def state(step: int) -> RunState:
    points = [Point(done, 2.0, 1.0 / done) for done in range(1, step + 1)]
    return RunState(preset="a: 1\n", dataset="d" * 64, seed=3, step=step, best_loss=0.5, history=points)


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_what_is_written_is_read(tmp_path):
    assert checkpoint.read(tmp_path) is None
    checkpoint.write(tmp_path, ARRAYS, state(2))
    found = checkpoint.read(tmp_path)
    assert (found.state, found.damaged, found.path) == (state(2), None, tmp_path / CHECKPOINT)
    assert found.arrays.keys() == ARRAYS.keys()
    assert all(np.array_equal(found.arrays[name], value) for name, value in ARRAYS.items())
    assert [entry.name for entry in tmp_path.iterdir()] == [CHECKPOINT]


def test_the_kept_weights_of_an_earlier_version_are_the_best():
    found = state(3)
    assert found.kept_step == 0
    assert found.kept == Point(3, 2.0, 1.0 / 3.0)
    assert structs.replace(found, kept_step=2).kept == Point(2, 2.0, 0.5)
    assert state(0).kept is None


def test_every_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / CHECKPOINT
    checkpoint.write(tmp_path, ARRAYS, state(3))
    whole = path.read_bytes()
    name = whole.index(b'"sha256"')
    digest = range(name * 8, (name + 75) * 8)
    for bit in [*random.Random(0).sample(range(len(whole) * 8), 400), *digest]:
        flip(path, bit)
        with pytest.raises(ModelError, match=r"damaged|not a readable checkpoint|NaN"):
            checkpoint.read(tmp_path)
        path.write_bytes(whole)
    assert checkpoint.read(tmp_path).state == state(3)
    for length in (0, 7, 8, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError):
            checkpoint.read(tmp_path)


def test_the_checkpoint_before_a_damaged_one_is_used(tmp_path):
    for step in (1, 2, 3):
        checkpoint.write(tmp_path, ARRAYS, state(step))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([PREVIOUS, CHECKPOINT])
    flip(tmp_path / CHECKPOINT, 8 * 1000)
    found = checkpoint.read(tmp_path)
    assert (found.state.step, found.damaged) == (2, tmp_path / CHECKPOINT)
    (tmp_path / CHECKPOINT).unlink()  # killed between the two moves
    found = checkpoint.read(tmp_path)
    assert (found.state.step, found.damaged) == (2, None)
    flip(tmp_path / PREVIOUS, 8 * 1000)
    with pytest.raises(ModelError, match="damaged"):
        checkpoint.read(tmp_path)
    checkpoint.write(tmp_path, ARRAYS, state(1))
    flip(tmp_path / CHECKPOINT, 8 * 1000)
    with pytest.raises(ModelError, match="the checkpoint before it are damaged"):
        checkpoint.read(tmp_path)


def test_a_new_run_forgets_the_checkpoints_of_the_run_before(tmp_path):
    for step in (1, 2):
        checkpoint.write(tmp_path, ARRAYS, state(step))
    checkpoint.write(tmp_path, ARRAYS, state(0))
    assert [entry.name for entry in tmp_path.iterdir()] == [CHECKPOINT]


def test_checkpoints_of_earlier_versions_are_read_if_they_are_finite(tmp_path):
    import msgspec
    from safetensors.numpy import save_file

    metadata = {"state": msgspec.json.encode(state(1)).decode()}
    save_file(ARRAYS, tmp_path / CHECKPOINT, metadata=metadata)
    assert checkpoint.read_state(tmp_path) == state(1)
    save_file(ARRAYS | {"weight/000": np.array([np.inf])}, tmp_path / CHECKPOINT, metadata=metadata)
    with pytest.raises(ModelError, match="NaN or infinity"):
        checkpoint.read_state(tmp_path)
