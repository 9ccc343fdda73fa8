"""A DDSP-VST model (`.tflite`) as an instrument: the weights are taken out of its graph by following the data.

From each input the path leads through dense layers and normalisations to where the stacks join, on through the GRU (in
a WHILE loop in Magenta's files, unrolled in ours) and the last stack to the raw controls. Operators are found by what
they do, not by their place in the file. Then the file itself is run, and must agree with the tensors found. A file that
keeps the plug-in's contract but whose graph is unknown, or does something else than was read from it, is kept and
played as it is.

    NAME.tflite               the model, with `metadata.json` in a ZIP archive behind it
    metadata.json             the same, beside it, as Magenta's exporter leaves it
    reverb_ir_16000_hz.wav    the learned room
    card.yaml                 licence, sources and remarks, as `ddsp export` leaves them

Formats: magenta/ddsp-vst 1.1.0, util/Constants.h:30-49 (tensors), ModelLibrary and MetadataParser (metadata).
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddsp_cli import scaling
from ddsp_cli.bundle import Bundle
from ddsp_cli.bundle.folder import EXPORT_CARD, MAX_METADATA_BYTES, METADATA, room_file
from ddsp_cli.config import DecoderConfig, FeatureSpec, FilteredNoiseConfig, HarmonicConfig, ModelConfig, ReverbConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.importers import card, is_model_name
from ddsp_cli.importers.files import MAX_BYTES, Files
from ddsp_cli.importers.flatbuffer import Operator, Subgraph, read
from ddsp_cli.scaling import LEAKY_SLOPE
from ddsp_cli.synthesis.decoder import Decoder
from ddsp_cli.synthesis.litert_decoder import (
    AMPLITUDE,
    DISTRIBUTION,
    F0,
    FRAME_RATE_HZ,
    INPUTS,
    LEVEL,
    NEW_STATE,
    NOISE,
    OUTPUTS,
    SAMPLE_RATE_HZ,
    STATE,
    Session,
    check_litert,
)

ROOM = room_file(SAMPLE_RATE_HZ)
MAX_ROOM_BYTES = 16 << 20
MAX_ROOM_S = 10.0
NOISE_BIAS = -5.0

#: Largest difference of a control between the file and the network that was read from it.
TOLERANCE = 1e-4
N_FRAMES = 24


def load(files: Files, name: str, verify: bool = True) -> Bundle:
    """Reads a plug-in model.

    Args:
      files: among which the model is; its metadata, room and card are taken from beside it.
      name: of the file.
      verify: run the file and compare (0.2 s); a file whose graph is unknown is always run.

    Returns:
      The instrument, of weights where they were found, else of the file itself.

    Raises:
      ModelError: not such a model, or damaged.
    """
    data = files.read(name)
    graphs = read(data)
    known = _known(graphs)
    if known is None:
        check_contract(graphs)
    found = run(data) if verify or known is None else None
    if known is not None:
        weights, sizes = known
        bundle = _bundle(files, name, data, weights, sizes)
        if found is None or agrees(bundle, found):
            return bundle
        check_contract(graphs)
    assert found is not None
    check_controls(found)
    return _bundle(files, name, data, {}, None)


def try_out(data: bytes) -> None:
    """Tries the unchanged file in a bundle, as an import does: bundles may be untrusted too.

    Raises:
      ModelError: it does not keep the plug-in's contract, does not run, or gives what cannot be played.
    """
    check_contract(read(data))
    check_controls(run(data))


def is_part(name: str) -> bool:
    """Whether a file of this name belongs to an exported plug-in model."""
    return is_model_name(name) or name in {METADATA, ROOM, EXPORT_CARD}


def _known(graphs: list[Subgraph]) -> tuple[dict[str, np.ndarray], Sizes] | None:
    try:
        return find_weights(graphs)
    except ModelError:
        return None


def _bundle(files: Files, name: str, data: bytes, weights: dict[str, np.ndarray], sizes: Sizes | None) -> Bundle:
    """Returns the instrument: of weights where the sizes of its decoder are known, else of the file itself."""
    metadata = _metadata(data, files)
    origin = card.read_origin(files, name, metadata)
    statistics, where = card.read_statistics(metadata)
    response = _room(files)
    room = None if response is None else ReverbConfig(inputs=[card.DRY], length_samples=len(response))
    if sizes is not None and response is not None:
        weights = weights | {f"{card.ROOM}/ir": response}
    model = ModelConfig(
        sample_rate_hz=SAMPLE_RATE_HZ,
        frame_rate_hz=FRAME_RATE_HZ,
        inputs=list(sizes.inputs) if sizes else ["pw_scaled", "f0_scaled"],  # type: ignore[arg-type]
        decoder=DecoderConfig(sizes.channels, sizes.units, sizes.layers) if sizes else None,
        processors=card.processors(
            HarmonicConfig(
                inputs=["amplitude", "harmonic_distribution", "f0_hz"],
                n_harmonics=sizes.harmonics if sizes else OUTPUTS[DISTRIBUTION],
                amp_resample_method="linear",
            ),
            FilteredNoiseConfig(
                inputs=["noise_magnitudes"],
                n_bands=sizes.bands if sizes else OUTPUTS[NOISE],
                initial_bias=NOISE_BIAS,
            ),
            room,
        ),
    )
    how = "" if sizes else "Its network has an unknown graph, so the file itself is kept and run. "
    program = f"DDSP-VST model, version {str(metadata.get('version', 'unknown'))[:40]}"
    return card.make_bundle(
        model,
        FeatureSpec(frame_rate_hz=FRAME_RATE_HZ),
        statistics,
        weights,
        response,
        f"Imported from the DDSP-VST model {name}. {how}{where}",
        card.training_record("vst", 0, program),
        network=None if sizes else data,
        origin=origin,
    )


def _metadata(data: bytes, files: Files) -> Mapping[str, Any]:
    """Reads `metadata.json` from the archive appended to the model, else the file beside it; {} if both are missing.

    Raises:
      ModelError: it is damaged.
    """
    text = None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            member = next((m for m in archive.infolist() if m.filename.lower() == METADATA), None)
            if member is not None and member.file_size <= MAX_METADATA_BYTES:
                with archive.open(member) as stream:
                    text = stream.read(MAX_METADATA_BYTES)
    except Exception:  # a damaged archive can raise anything; as in the plug-in, metadata are optional
        text = None
    if text is None and METADATA in files.names():
        text = files.read(METADATA, MAX_METADATA_BYTES)
    if text is None:
        return {}
    try:
        found = json.loads(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as problem:
        raise ModelError(f"its metadata cannot be read: {problem}") from problem
    return found if isinstance(found, dict) else {}


def _room(files: Files) -> np.ndarray | None:
    """Returns the learned room, [S] float32 with sample 0 silent, or None.

    Raises:
      ModelError: it is not an impulse response of this rate.
    """
    if ROOM not in files.names():
        return None
    import soundfile

    content = files.read(ROOM, MAX_ROOM_BYTES)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as sound:
            if (sound.samplerate, sound.channels) != (SAMPLE_RATE_HZ, 1) or sound.frames > MAX_ROOM_S * SAMPLE_RATE_HZ:
                raise ModelError(
                    f"{ROOM} is not a mono impulse response at {SAMPLE_RATE_HZ} Hz of up to {MAX_ROOM_S:.0f} s"
                )
            response = sound.read(dtype="float32")
    except (soundfile.SoundFileError, OSError, ValueError) as problem:
        raise ModelError(f"{ROOM} is not a readable sound: {problem}") from problem
    if len(response) < 2:
        return None
    if not np.isfinite(response).all():
        raise ModelError(f"{ROOM} contains NaN or infinity")
    response[0] = 0.0
    return np.asarray(response, np.float32)


# --- running the file --------------------------------------------------------------------------------


def check_contract(graphs: list[Subgraph]) -> None:
    """Checks the inputs and outputs of a file: with those of the plug-in it can be run without being understood.

    Raises:
      ModelError: they are others.
    """
    main = graphs[0]
    for indices, wanted, verb in ((main.inputs, INPUTS, "takes"), (main.outputs, OUTPUTS, "gives")):
        tensors = [main.tensors[i] for i in indices if i >= 0]
        sizes = {tensor.name: math.prod(tensor.shape) for tensor in tensors if tensor.is_float32}
        if len(indices) != len(wanted) or sizes != wanted:
            found = ", ".join(f"{tensor.name[:40]} {list(tensor.shape)}" for tensor in tensors[:8]) or "nothing"
            raise ModelError(
                f"its network has an unknown graph and {verb} {found}, not {_listed(wanted)} in float32",
                "Only models of the DDSP-VST plug-in, 50 frames of power and pitch a second, can be imported.",
            )


def run(data: bytes) -> dict[str, np.ndarray]:
    """Streams `phrase` through a file. LiteRT is native code and trusts it: to be called in a process with limits.

    Returns:
      Controls and the state after each frame, by the names of a bundle, [F, n] each.

    Raises:
      ModelError: the file does not run.
    """
    check_litert()
    frames = {INPUT_TENSORS[name]: values for name, values in phrase().items()}
    session = Session()
    try:
        session.open(data)
        found = session.run(frames | {STATE: np.zeros(INPUTS[STATE], np.float32)})
    except ModelError as problem:
        hint = "The file is damaged, or made for another program."
        raise ModelError(f"it does not run: {problem.message}", hint) from problem
    return {name: found[tensor] for name, tensor in OUTPUT_TENSORS.items()}


def phrase() -> dict[str, np.ndarray]:
    """Returns a few frames of F0 and power by the names of network inputs, [F] each."""
    swing = np.sin(np.linspace(0.0, 6.0, N_FRAMES))
    frames = {"f0_scaled": 0.48 + 0.09 * swing, "pw_scaled": 0.6 + 0.3 * swing[::-1]}
    return {name: values.astype(np.float32) for name, values in frames.items()}


def agrees(bundle: Bundle, found: dict[str, np.ndarray]) -> bool:
    """Whether the network that was read from a file gives the controls that `run` got from the file."""
    return all(
        found[name].shape == value.shape and float(np.abs(found[name] - value).max()) <= TOLERANCE
        for name, value in controls(bundle, phrase()).items()
    )


def check_controls(found: dict[str, np.ndarray]) -> None:
    """Checks that the controls that `run` got can be played.

    Raises:
      ModelError: they are not finite, negative, or add up to more than 1.
    """
    for name, value in found.items():
        if not np.isfinite(value).all():
            raise ModelError(f"its {name.replace('_', ' ')} contains NaN or infinity")
        if name != "state" and value.min() < -TOLERANCE:
            raise ModelError(f"its {name.replace('_', ' ')} falls below 0")
    if found["harmonic_distribution"].sum(axis=-1).max() > 1.0 + 1e-2:
        raise ModelError("its harmonics add up to more than 1")


def controls(bundle: Bundle, frames: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the controls, and the state after each frame, that a bundle's network gives for scaled inputs [F]."""
    decoder, parts, states = Decoder(bundle), [], []
    f0_hz = np.asarray(scaling.midi_to_hz(frames["f0_scaled"] * np.float32(scaling.F0_RANGE_MIDI)))
    for i in range(len(f0_hz)):
        parts.append(decoder.step({name: values[i : i + 1, None] for name, values in frames.items()}, f0_hz[i : i + 1]))
        states.append(decoder.state)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} | {"state": np.stack(states)}


def _listed(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} [{size}]" for name, size in sizes.items())


#: Network input → tensor of the file.
INPUT_TENSORS = {"f0_scaled": F0, "pw_scaled": LEVEL}
OUTPUT_TENSORS = {
    "amplitude": AMPLITUDE,
    "harmonic_distribution": DISTRIBUTION,
    "noise_magnitudes": NOISE,
    "state": NEW_STATE,
}

#: Operations that change the shape of data only.
_PASSING = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "GATHER", "STRIDED_SLICE", "SLICE", "TRANSPOSE"}
#: Operations of a normalisation.
_NORMALISING = {*_PASSING, "MEAN", "SQUARED_DIFFERENCE", "ADD", "RSQRT", "MUL", "SUB", "SQRT", "DIV"}
MAX_LAYERS = 16
MAX_CHANNELS = 8192


@dataclass(frozen=True)
class Sizes:
    """Shape of a decoder; `inputs` in the order in which the stacks are joined."""

    inputs: tuple[str, ...]
    channels: int
    layers: int
    units: int
    harmonics: int
    bands: int


@dataclass(frozen=True)
class _Dense:
    """A fully connected operator with constant weights: `kernel` [in, out] and `bias` [out], views of the file."""

    operator: Operator
    kernel: np.ndarray
    bias: np.ndarray

    @property
    def n_in(self) -> int:
        return int(self.kernel.shape[0])

    @property
    def n_out(self) -> int:
        return int(self.kernel.shape[1])


def find_weights(graphs: list[Subgraph]) -> tuple[dict[str, np.ndarray], Sizes]:
    """Returns weights by the names of a bundle, and the decoder's shape.

    Raises:
      ModelError: the graph is not that of a DDSP decoder of power and pitch.
    """
    try:
        return _Finder(graphs).run()
    except (IndexError, KeyError) as problem:  # operators without inputs or outputs, stacks that end in one place
        raise ModelError("its graph is not that of a decoder") from problem


class _Finder:
    def __init__(self, graphs: list[Subgraph]) -> None:
        self._graphs = graphs
        self._main = graphs[0]
        self._producers = [{out: op for op in graph.operators for out in op.outputs} for graph in graphs]
        self._used: dict[tuple[int, int], list[Operator]] = {}
        for number, graph in enumerate(graphs):
            for op in graph.operators:
                for index in set(op.inputs):
                    self._used.setdefault((number, index), []).append(op)
        self.weights: dict[str, np.ndarray] = {}

    def run(self) -> tuple[dict[str, np.ndarray], Sizes]:
        inputs = {self._main.tensors[i].name: i for i in self._main.inputs if i >= 0}
        outputs = {self._main.tensors[i].name: i for i in self._main.outputs if i >= 0}
        if inputs.keys() != {*INPUT_TENSORS.values(), STATE} or outputs.keys() != {*OUTPUT_TENSORS.values()}:
            raise ModelError(
                f"its inputs are {_names(inputs)}, not {_names([*INPUT_TENSORS.values(), STATE])}",
                "Only models of the DDSP-VST plug-in, 50 frames of power and pitch a second, can be imported.",
            )
        ends = {}
        layers = set()
        for name, tensor in INPUT_TENSORS.items():
            ends[name], n_layers, channels = self._stack(f"decoder/input_stacks/{name}", inputs[tensor])
            layers.add((n_layers, channels))
        if len(layers) != 1:
            raise ModelError("its input stacks differ in shape")
        (n_layers, channels), units = layers.pop(), self._size(outputs[OUTPUT_TENSORS["state"]])
        joins = [op for op in self._main.operators if op.kind == "CONCATENATION" and {*ends.values()} <= {*op.inputs}]
        if len(joins) != 2 or len(joins[0].inputs) != len(ends) or len(joins[1].inputs) != len(ends) + 1:
            raise ModelError("its stacks are joined in an unknown way")
        by_end = {end: name for name, end in ends.items()}
        order = tuple(by_end[i] for i in joins[0].inputs)
        if tuple(by_end.get(i) for i in joins[1].inputs[:-1]) != order:
            raise ModelError("its stacks are joined in an unknown order")
        self._gru(len(order) * channels, units, joins[0].outputs[0], inputs[STATE])
        end, n_out_layers, _ = self._stack("decoder/out_stack", joins[1].outputs[0])
        if n_out_layers != n_layers:
            raise ModelError("its last stack has another depth than the first ones")
        last = self._next_dense(0, end)
        if last is None:
            raise ModelError("it has no output layer")
        harmonics, bands = (
            self._size(outputs[OUTPUT_TENSORS[name]]) for name in ("harmonic_distribution", "noise_magnitudes")
        )
        if last.n_out != 1 + harmonics + bands or bands < 2:
            raise ModelError("its outputs do not fit its output layer")
        self.weights |= {"decoder/dense_out/kernel": last.kernel, "decoder/dense_out/bias": last.bias}
        # A graph may use one large tensor in many places: together its layers are no larger than a file may be.
        if sum(value.nbytes for value in self.weights.values()) > MAX_BYTES:
            raise ModelError("its layers are larger than those of any instrument")
        weights = {name: np.ascontiguousarray(value, np.float32) for name, value in self.weights.items()}
        return weights, Sizes(order, channels, n_layers, units, harmonics, bands)

    def _stack(self, name: str, start: int) -> tuple[int, int, int]:
        """Follows dense layers with normalisations; returns where they end, how many, how wide."""
        at, n_layers, channels = start, 0, 0
        while n_layers < MAX_LAYERS and (dense := self._next_dense(0, at)) is not None:
            normal = self._normalised(dense.operator.outputs[0], dense.n_out)
            if normal is None:
                break
            gamma, beta, at = normal
            prefix, channels = f"{name}/{n_layers}", dense.n_out
            self.weights |= {f"{prefix}/dense/kernel": dense.kernel, f"{prefix}/dense/bias": dense.bias}
            self.weights |= {f"{prefix}/norm/gamma": gamma, f"{prefix}/norm/beta": beta}
            n_layers += 1
        if not 1 <= n_layers < MAX_LAYERS or channels > MAX_CHANNELS:
            raise ModelError(f"no dense layers with normalisation follow {self._main.tensors[start].name!r}")
        return at, n_layers, channels

    def _normalised(self, start: int, width: int) -> tuple[np.ndarray, np.ndarray, int] | None:
        """Returns scale, offset and end of the normalisation and rectifier that follow a tensor."""
        gamma = beta = None
        reached, pending = {start}, [start]
        while pending:
            for op in self._used.get((0, pending.pop(0)), []):
                if op.kind == "LEAKY_RELU":
                    if gamma is None or beta is None or abs(op.options.get("alpha", 0.0) - LEAKY_SLOPE) > 1e-6:
                        return None
                    return gamma, beta, op.outputs[0]
                if op.kind not in _NORMALISING or op.outputs[0] in reached:
                    continue
                vector = self._vector(op, width)
                if vector is not None and op.kind == "MUL":
                    gamma = vector
                elif vector is not None and op.kind == "ADD":
                    beta = vector
                reached.add(op.outputs[0])
                pending.append(op.outputs[0])
        return None

    def _vector(self, op: Operator, width: int) -> np.ndarray | None:
        values = [self._constant(0, i) for i in op.inputs]
        found = [value.reshape(-1) for value in values if value is not None and value.size == width]
        return found[0] if found else None

    def _gru(self, n_in: int, units: int, joined: int, state: int) -> None:
        """Finds the two dense layers of the GRU, that of its input and that of its state, and keeps their weights."""
        cells: dict[int, _Dense] = {}
        for number, graph in enumerate(self._graphs):
            for op in graph.operators:
                dense = self._dense(number, op)
                if dense is not None and dense.n_out == 3 * units:
                    cells[self._origin(number, op.inputs[0])] = dense
        fresh, held = cells.get(joined), cells.get(state)
        if fresh is None or held is None or len(cells) != 2:
            raise ModelError("no GRU was found in it")
        if fresh.n_in != n_in or held.n_in != units:
            raise ModelError("its GRU has an unknown shape")
        self.weights |= {
            "decoder/rnn/kernel": fresh.kernel,
            "decoder/rnn/recurrent_kernel": held.kernel,
            "decoder/rnn/bias": np.stack([fresh.bias, held.bias]),
        }

    def _origin(self, graph: int, tensor: int) -> int:
        """Traces data back to its source in the main graph, through reshapes and into loops; -1 where it is unknown."""
        for _ in range(64):
            op = self._producers[graph].get(tensor)
            if op is not None and op.kind in _PASSING and op.inputs:
                tensor = op.inputs[0]
            elif op is None and graph != 0:
                loop = self._loop(graph)
                places = self._graphs[graph].inputs
                if loop is None or tensor not in places or places.index(tensor) >= len(loop.inputs):
                    return -1
                graph, tensor = 0, loop.inputs[places.index(tensor)]
            else:
                return tensor if graph == 0 else -1
        return -1

    def _loop(self, graph: int) -> Operator | None:
        loops = [op for op in self._main.operators if op.kind == "WHILE" and op.options.get("body") == graph]
        return loops[0] if len(loops) == 1 else None

    def _next_dense(self, graph: int, tensor: int) -> _Dense | None:
        """Returns the dense layer that takes a tensor, reshaped or not."""
        pending, seen = [tensor], {tensor}
        while pending:
            for op in self._used.get((graph, pending.pop(0)), []):
                dense = self._dense(graph, op)
                if dense is not None and op.inputs[0] in seen:
                    return dense
                if op.kind in _PASSING and op.outputs and op.outputs[0] not in seen:
                    seen.add(op.outputs[0])
                    pending.append(op.outputs[0])
        return None

    def _dense(self, graph: int, op: Operator) -> _Dense | None:
        if op.kind != "FULLY_CONNECTED" or len(op.inputs) < 2 or not op.outputs:
            return None
        kernel = self._constant(graph, op.inputs[1])
        if kernel is None or kernel.ndim != 2 or kernel.dtype != np.float32:
            return None
        n_out = kernel.shape[0]
        bias = self._constant(graph, op.inputs[2]) if len(op.inputs) > 2 else None
        if bias is None:
            bias = np.zeros(n_out, np.float32)
        if bias.size != n_out:
            raise ModelError("a layer's bias does not fit its weights")
        return _Dense(op, kernel.T, bias.reshape(-1))

    def _constant(self, graph: int, tensor: int) -> np.ndarray | None:
        return self._graphs[graph].tensors[tensor].value if tensor >= 0 else None

    def _size(self, tensor: int) -> int:
        shape = self._main.tensors[tensor].shape
        if any(axis < 1 or axis > MAX_CHANNELS for axis in shape) or len(shape) > 4:
            raise ModelError("an output has an unknown shape")
        return int(np.prod(shape))


def _names(names: object) -> str:
    return ", ".join(sorted(str(name)[:40] for name in names)) or "none"  # type: ignore[attr-defined]
