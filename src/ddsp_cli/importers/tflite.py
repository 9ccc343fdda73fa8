"""A DDSP-VST model (`.tflite`) as an instrument: the weights are taken out of its graph by following the data.

`tflite_graph` finds the layers. Then the file itself is run, and must agree with what was found. A file that keeps the
plug-in's contract but whose graph is unknown, or does something else than was read from it, is kept and
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
from typing import Any

import numpy as np

from ddsp_cli import scaling
from ddsp_cli.bundle import Bundle
from ddsp_cli.bundle.exported import EXPORT_CARD, MAX_METADATA_BYTES, METADATA, room_file
from ddsp_cli.config import DecoderConfig, FeatureSpec, FilteredNoiseConfig, HarmonicConfig, ModelConfig, ReverbConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.importers import card, is_model_name
from ddsp_cli.importers.files import Files
from ddsp_cli.importers.flatbuffer import Subgraph, read
from ddsp_cli.importers.tflite_graph import INPUTS as INPUT_TENSORS
from ddsp_cli.importers.tflite_graph import OUTPUTS as OUTPUT_TENSORS
from ddsp_cli.importers.tflite_graph import Sizes, find_weights
from ddsp_cli.synthesis.decoder import Decoder
from ddsp_cli.synthesis.litert_decoder import (
    DISTRIBUTION,
    FRAME_RATE_HZ,
    INPUTS,
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
    """Tries a file that a bundle keeps as it is, as when it was imported: bundles come from strangers too.

    Raises:
      ModelError: it does not keep the plug-in's contract, does not run, or gives what cannot be played.
    """
    check_contract(read(data))
    check_controls(run(data))


def is_part(name: str) -> bool:
    """Whether a file of this name belongs to an exported plug-in model."""
    return (is_model_name(name)) or name in {METADATA, ROOM, EXPORT_CARD}


def _known(graphs: list[Subgraph]) -> tuple[dict[str, np.ndarray], Sizes] | None:
    try:
        return find_weights(graphs)
    except ModelError:
        return None


def _bundle(files: Files, name: str, data: bytes, weights: dict[str, np.ndarray], sizes: Sizes | None) -> Bundle:
    """The instrument: of weights where the sizes of its decoder are known, else of the file itself."""
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
    """`metadata.json` from the archive behind the model, else from beside it; empty where there is none.

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
    except Exception:  # whatever a damaged archive raises: the plug-in does without it, and so can we
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
    """The learned room, [S] float32 with sample 0 silent, or None.

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
    """A few frames of F0 and power by the names of network inputs, [F] each."""
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
    """Controls and the state after each frame that a bundle's network gives for scaled inputs [F], as the file does."""
    decoder, parts, states = Decoder(bundle), [], []
    f0_hz = np.asarray(scaling.midi_to_hz(frames["f0_scaled"] * np.float32(scaling.F0_RANGE_MIDI)))
    for i in range(len(f0_hz)):
        parts.append(decoder.step({name: values[i : i + 1, None] for name, values in frames.items()}, f0_hz[i : i + 1]))
        states.append(decoder.state)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} | {"state": np.stack(states)}


def _listed(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} [{size}]" for name, size in sizes.items())
