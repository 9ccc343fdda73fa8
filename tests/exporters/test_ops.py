"""One vocabulary of operations: NumPy, ONNX and LiteRT compute the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddsp_cli.exporters import audio_graph, checks, litert, onnx
from ddsp_cli.exporters.litert import TfliteOps
from ddsp_cli.exporters.onnx import OnnxOps
from ddsp_cli.synthesis.ops import NumpyOps, Ops
from fixtures import small_model
from format_fixtures import in_memory, loudness_model

RANDOM = np.random.default_rng(0)
N_UNITS, N_IN = 5, 4
KERNEL, BIAS = RANDOM.normal(size=(N_IN, 3)).astype(np.float32), RANDOM.normal(size=3).astype(np.float32)
GAMMA, BETA = RANDOM.normal(size=(2, N_IN)).astype(np.float32)
GRU = [
    RANDOM.normal(size=shape).astype(np.float32)
    for shape in ((N_IN, 3 * N_UNITS), (N_UNITS, 3 * N_UNITS), (2, 3 * N_UNITS))
]

OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    **{kind: lambda ops, x, kind=kind: ops.unary(kind, x) for kind in ("sigmoid", "tanh", "sin", "exp", "floor")},
    **{
        kind: lambda ops, x, kind=kind: ops.unary(kind, ops.binary("add", ops.unary("exp", x), ops.constant(0.5)))
        for kind in ("log", "sqrt", "rsqrt")
    },
    **{
        kind: lambda ops, x, kind=kind: ops.binary(kind, x, ops.constant([[0.3, -2.0, 1.5, 0.7]]))
        for kind in ("add", "sub", "mul", "div", "maximum")
    },
    "pow": lambda ops, x: ops.binary("pow", ops.unary("exp", x), ops.constant(2.3)),
    "leaky_relu": lambda ops, x: ops.leaky_relu(x, 0.2),
    "less": lambda ops, x: ops.less(x, ops.constant([[0.0, 0.5, -0.5, 0.1]])),
    "mean": lambda ops, x: ops.mean(x),
    "sum": lambda ops, x: ops.sum(x),
    "dense": lambda ops, x: ops.dense(x, KERNEL, BIAS),
    "dense without bias": lambda ops, x: ops.dense(x, KERNEL),
    "layer_norm": lambda ops, x: ops.layer_norm(x, GAMMA, BETA, 1e-3),
    "gru": lambda ops, x: ops.gru(x, ops.constant(np.full((1, N_UNITS), 0.3)), *GRU)[0],
    "gru state": lambda ops, x: ops.gru(x, ops.constant(np.full((1, N_UNITS), 0.3)), *GRU)[1],
    "concat": lambda ops, x: ops.concat([x, ops.unary("sin", x)], 1),
    "columns": lambda ops, x: ops.columns(x, 1, 3),
    "rows": lambda ops, x: ops.rows(ops.concat([x, ops.unary("sin", x)], 0), -1, None),
    "reshape": lambda ops, x: ops.reshape(x, (-1, 2)),
    "sum_before": lambda ops, x: ops.to_single(ops.sum_before(ops.to_double(x))),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_format_computes_what_numpy_does(name: str, tmp_path: Path) -> None:
    operation = OPERATIONS[name]
    x = np.random.default_rng(1).normal(size=(3, N_IN)).astype(np.float32)
    expected = np.asarray(operation(NumpyOps(), x))
    by_onnx = OnnxOps()
    made = operation(by_onnx, by_onnx.reshape(by_onnx.input("x", ("frames", N_IN)), (-1, N_IN)))
    by_onnx.output("y", made, ("rows", *expected.shape[1:]))
    (tmp_path / "x.onnx").write_bytes(by_onnx.finish("x", "", {}))
    found = onnx.run(tmp_path / "x.onnx", {"x": x}, [3])["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    # LiteRT takes one frame.
    one = np.asarray(operation(NumpyOps(), x[:1]))
    by_litert = TfliteOps()
    tensor = by_litert.input("x", (1, N_IN))
    if name == "sum_before":  # of one frame it is a constant, and a graph must depend on its input
        assert not one.any()
        return
    by_litert.output("y", operation(by_litert, tensor), one.shape)
    (tmp_path / "x.tflite").write_bytes(by_litert.finish("x"))
    found = litert.Stream(tmp_path / "x.tflite", {}).run({"x": x[:1]})["y"][0]
    np.testing.assert_allclose(found, one, rtol=1e-5, atol=1e-6)


def test_the_gru_follows_its_definition_and_continues_from_its_state() -> None:
    kernel, recurrent, bias = (weights.astype(np.float64) for weights in GRU)
    x = np.random.default_rng(2).normal(size=(9, N_IN)).astype(np.float32)

    def sigmoid(value: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-value))

    state, states = np.zeros(N_UNITS), []
    for row in x.astype(np.float64):
        (z, r, h), (zs, rs, hs) = (np.split(y, 3) for y in (row @ kernel + bias[0], state @ recurrent + bias[1]))
        z, r = sigmoid(z + zs), sigmoid(r + rs)
        state = z * state + (1 - z) * np.tanh(h + r * hs)
        states.append(state)
    ops, start = NumpyOps(), np.zeros((1, N_UNITS), np.float32)
    before = [weights.copy() for weights in GRU]
    whole, last = ops.gru(x, start, *GRU)
    np.testing.assert_allclose(whole, states, atol=1e-5)
    first, middle = ops.gru(x[:4], start, *GRU)
    rest, end = ops.gru(x[4:], middle, *GRU)
    np.testing.assert_array_equal(np.concatenate([first, rest]), whole)
    np.testing.assert_array_equal(end, last)
    none, same = ops.gru(x[:0], last, *GRU)
    assert none.shape == (0, N_UNITS)
    np.testing.assert_array_equal(same, last)
    assert all((a == b).all() for a, b in zip(before, GRU, strict=True)), "weights are left alone"


@pytest.mark.parametrize("model", [small_model(), loudness_model()], ids=["power", "loudness"])
def test_the_graph_of_the_synthesisers_is_the_player(model: Any) -> None:
    """The graph that is exported, computed in NumPy, against the player: dry sound in two calls, one hop late."""
    bundle, ops = in_memory(model), NumpyOps()
    played, hop, cut = checks.phrase(bundle, 60), model.hop_samples, 23
    shapes = audio_graph.state_shapes(model)
    state = audio_graph.SynthState(**{name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    recurrent, parts = np.zeros((1, model.sizes.rnn_units), np.float32), []
    for part in (slice(0, cut), slice(cut, 60)):
        f0_hz, level_db = (values[part, None] for values in (played.f0_hz, played.level_db))
        level = audio_graph.scaled_from_db(ops, level_db)
        scaled = {"f0_scaled": audio_graph.scaled_from_f0(ops, f0_hz), "pw_scaled": level, "ld_scaled": level}
        controls, recurrent = audio_graph.decode_controls(ops, bundle, scaled, f0_hz, recurrent)
        sound, state = audio_graph.synthesise(ops, model, controls, f0_hz, played.noise[part], state)
        parts.append(sound.reshape(-1))
    found, expected = np.concatenate(parts), checks.expected_audio(bundle, played, room=False)
    assert np.abs(found[:hop]).max() < 1e-4  # what the filters of the noise send ahead
    assert checks.audio_difference_db(found[hop:], expected[:-hop]) < -65


def test_numpy_has_the_whole_vocabulary() -> None:
    assert {name for name in vars(Ops) if not name.startswith("_")} <= {*dir(NumpyOps)}
