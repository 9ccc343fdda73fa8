"""A step on two halves of a batch equals a step on the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import keras
import msgspec
import numpy as np
import pytest

from ddsp_cli import backend
from ddsp_cli.bundle.layout import conditioned
from ddsp_cli.engine import Autoencoder
from ddsp_cli.training import loop
from ddsp_cli.training.batches import RandomCrops, as_arrays
from ddsp_cli.training.resources import has_gpu
from ddsp_cli.training.windows import Windows
from fixtures import small_model
from training_fixtures import small_preset, tones

pytestmark = pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="only TensorFlow works in halves")


def trained(n_shares: int, batch_size: int = 4, separate: bool = False) -> tuple[Autoencoder, list[dict[str, float]]]:
    """Returns a model after three steps, with the metrics of each step and of a validation.

    Args:
      n_shares: into how many parts a batch is split.
      batch_size: of the steps.
      separate: two instruments, with a room for each, in place of one.
    """
    preset, examples = small_preset(learning_rate=3e-3), tones(8, seconds=0.24)
    if separate:
        preset = msgspec.structs.replace(preset, model=conditioned(preset.model, ["a", "b"], 4))
        loss = msgspec.structs.replace(preset.training.loss, room_penalty=0.2)
        preset = msgspec.structs.replace(preset, training=msgspec.structs.replace(preset.training, loss=loss))
        index = np.repeat(np.float32([[0], [1]] * 4), examples.f0_hz.shape[1], axis=1)
        examples = replace(examples, instrument=index, instruments=("a", "b"))
    model = loop.build(preset, seed=3, n_shares=n_shares, separate_rooms=separate)
    windows = Windows(examples, preset.model, 250)
    crops = RandomCrops(windows, batch_size, 0.2, seed=0, n_steps=4)
    found = []
    for step in range(3):
        found.append(model.train_on_batch(*crops.batch(step), return_dict=True))
        model.reset_metrics()
    found.append(model.test_on_batch(*crops.batch(3), return_dict=True))
    return model, found


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("separate", [False, True])
def test_two_halves_are_the_whole(separate):
    (one, expected), (two, found) = trained(1, separate=separate), trained(2, separate=separate)
    assert type(one) is Autoencoder
    assert type(two) is not Autoencoder
    for wanted, got in zip(expected, found, strict=True):
        assert wanted.keys() == got.keys() == {"loss", "level"}
        assert got["loss"] == pytest.approx(wanted["loss"], rel=1e-5), "the same noise, the same room"
        assert got["level"] == pytest.approx(wanted["level"], rel=1e-4)
    assert two.optimizer.iterations == 3
    for name, weights in one.get_weights_by_name().items():
        np.testing.assert_allclose(two.get_weights_by_name()[name], weights, atol=2e-4, err_msg=name)
    if separate:
        np.testing.assert_allclose(two.rooms, one.rooms, atol=2e-3)
        assert np.any(np.asarray(one.rooms)[0] != np.asarray(one.rooms)[1]), "each learned from its own windows"


@pytest.mark.slow
def test_compiled_they_learn_as_well():
    model, found = trained(2)
    assert found[2]["loss"] < found[0]["loss"]
    assert model.jit_compile is False, "the parts are compiled, and not the whole around them"


@pytest.mark.slow
def test_what_was_compiled_ahead_is_used_and_changes_nothing():
    preset = small_preset(learning_rate=3e-3)
    windows = Windows(tones(8, seconds=0.24), small_model(), 250)
    crops = RandomCrops(windows, 4, 0.2, seed=0, n_steps=2)

    def losses(ahead: bool) -> tuple[list[float], int]:
        model = loop.build(preset, seed=3, n_shares=2)
        if ahead:
            model.compile_ahead(*as_arrays(crops.batch(0)))()
        watch = loop.LossWatch(lambda found: None)
        model.fit(crops, callbacks=[watch], verbose=0, shuffle=False)
        return watch.losses, model._part_gradients.experimental_get_tracing_count()

    (plain, n_plain), (ahead, n_ahead) = losses(False), losses(True)
    assert plain == ahead
    assert n_plain == n_ahead == 1, "the step itself compiles nothing more"


#: Compiles the gradients of a step ahead, takes two steps, and prints how many programs with gradients XLA compiled.
COUNTED = """
import sys
from pathlib import Path
from ddsp_cli import backend
from ddsp_cli.training import compile_cache

with compile_cache.opened():
    backend.load()
from ddsp_cli.training import loop
from ddsp_cli.training.batches import RandomCrops, as_arrays
from ddsp_cli.training.windows import Windows
from fixtures import small_model
from training_fixtures import small_preset, tones

windows = Windows(tones(8, seconds=0.24), small_model(), 250)
crops = RandomCrops(windows, 4, 0.2, seed=0, n_steps=2)
model = loop.build(small_preset(), seed=3, n_shares=2)
model.compile_ahead(*as_arrays(crops.batch(0)))()
model.fit(crops, verbose=0, shuffle=False)
programs = [path.read_bytes() for path in Path(sys.argv[1]).rglob("*.pb")]
print(sum(b"_loss_and_gradients" in program for program in programs), len(programs))
"""


@pytest.mark.slow
@pytest.mark.skipif(has_gpu(), reason="programs of GPUs are not kept, and so not counted")
def test_xla_compiles_the_gradients_once(tmp_path):
    paths = [path for path in sys.path if path]
    environment = os.environ | {"DDSP_CACHE": str(tmp_path), "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", COUNTED, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.stdout.split() == ["1", "2"], done.stderr  # the other one changes the weights


@pytest.mark.usefixtures("uncompiled")
def test_an_uneven_batch_is_not_parted(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert [backend.share_batches(n) for n in (1, 2, 5, 16)] == [1, 2, 1, 2]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    assert backend.share_batches(16) == 1
