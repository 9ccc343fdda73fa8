"""A DDSP-VST model (`.tflite`) as an instrument: the weights are taken out of its graph by following the data.

From each input through dense layers and normalisations to where the stacks join, on through the GRU (in a WHILE loop
in Magenta's files, unrolled in ours) and the last stack to the raw controls. What stands between is found by what it
does, not by its place in the file. Then the file itself is run, and must agree with what was found. A file of the
plug-in's contract that is not understood, or does something else than was read from it, is kept and played as it is.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli.bundle import Bundle, read_file
from ddsp_cli.config import DecoderConfig, FeatureSpec, FilteredNoiseConfig, HarmonicConfig, ModelConfig, ReverbConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.importers import assemble, statistics, tflite_run
from ddsp_cli.importers.flatbuffer import Subgraph, read
from ddsp_cli.importers.tflite_graph import Sizes, find_weights
from ddsp_cli.synthesis.litert_decoder import DISTRIBUTION, FRAME_RATE_HZ, NOISE, OUTPUTS, SAMPLE_RATE_HZ

SUFFIX = ".tflite"
METADATA = "metadata.json"
ROOM = "reverb_ir_16000_hz.wav"
MAX_METADATA_BYTES = 1 << 20
NOISE_BIAS = -5.0
MAX_ROOM_S = 10.0


def load(path: Path, verify: bool = True) -> Bundle:
    """Reads a plug-in model.

    Beside it, `metadata.json` and `reverb_ir_16000_hz.wav` are used where they exist, as Magenta's exporter leaves
    them.

    Args:
      path: of the file.
      verify: run the file as well and compare (half a second); what is not understood is always run.

    Raises:
      ModelError: not such a model, or damaged.
    """
    data = read_file(path)
    try:
        graphs = read(data)
        known = _known(graphs)
        if known is None:
            tflite_run.check_contract(graphs)
        found = tflite_run.run(path) if verify or known is None else None
        if known is not None:
            weights, sizes = known
            bundle = _bundle(path, data, weights, sizes)
            if found is None or tflite_run.agrees(bundle, found):
                return bundle
            tflite_run.check_contract(graphs)
        assert found is not None
        tflite_run.check_controls(found)
        return _bundle(path, data, {}, None)
    except ModelError as problem:
        raise problem.reworded(f"{path} cannot be imported: {problem.message}") from problem


def try_out(path: Path) -> None:
    """Tries a file that a bundle keeps as it is, as it was tried when it was imported: bundles come from strangers too.

    Raises:
      ModelError: it does not keep to the plug-in's contract, does not run, or gives what cannot be played.
    """
    try:
        tflite_run.check_contract(read(read_file(path)))
        tflite_run.check_controls(tflite_run.run(path))
    except ModelError as problem:
        raise problem.reworded(f"{path} cannot be played: {problem.message}") from problem


def _known(graphs: list[Subgraph]) -> tuple[dict[str, np.ndarray], Sizes] | None:
    try:
        return find_weights(graphs)
    except ModelError:
        return None


def _bundle(path: Path, data: bytes, weights: dict[str, np.ndarray], sizes: Sizes | None) -> Bundle:
    """The instrument: of weights where the sizes of its decoder are known, else of the file itself."""
    found = _metadata(data, path.parent / METADATA)
    figures, where = statistics.from_mapping(found)
    response = _room(path.parent / ROOM)
    room = None if response is None else ReverbConfig(inputs=[assemble.DRY], length_samples=len(response))
    if sizes is not None and response is not None:
        weights = weights | {f"{assemble.ROOM}/ir": response}
    model = ModelConfig(
        sample_rate_hz=SAMPLE_RATE_HZ,
        frame_rate_hz=FRAME_RATE_HZ,
        inputs=list(sizes.inputs) if sizes else ["pw_scaled", "f0_scaled"],  # type: ignore[arg-type]
        decoder=DecoderConfig(sizes.channels, sizes.units, sizes.layers) if sizes else None,
        processors=assemble.processors(
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
    how = "" if sizes else "Its network is of an unknown make, so the file itself is kept and run. "
    origin = f"DDSP-VST model, version {str(found.get('version', 'unknown'))[:40]}"
    return assemble.make_bundle(
        model,
        FeatureSpec(frame_rate_hz=FRAME_RATE_HZ),
        figures,
        weights,
        response,
        f"Imported from the DDSP-VST model {path.name}. {how}{where}",
        assemble.training_record("vst", 0, origin),
        network=None if sizes else data,
    )


def _metadata(data: bytes, beside: Path) -> Mapping[str, Any]:
    """`metadata.json` from the archive behind the model, else from beside it; empty where there is none."""
    text = None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            member = next((m for m in archive.infolist() if m.filename.lower() == METADATA), None)
            if member is not None and member.file_size <= MAX_METADATA_BYTES:
                with archive.open(member) as stream:
                    text = stream.read(MAX_METADATA_BYTES)
    except Exception:  # whatever a damaged archive raises: the plug-in does without it, and so can we
        text = None
    if text is None and beside.is_file() and beside.stat().st_size <= MAX_METADATA_BYTES:
        text = beside.read_bytes()
    if text is None:
        return {}
    try:
        found = json.loads(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as problem:
        raise ModelError(f"its metadata cannot be read: {problem}") from problem
    return found if isinstance(found, dict) else {}


def _room(path: Path) -> np.ndarray | None:
    """The learned room, [L] float32 with nothing at sample 0, or None."""
    if not path.is_file():
        return None
    import soundfile

    try:
        info = soundfile.info(path)
        if info.samplerate != SAMPLE_RATE_HZ or info.channels != 1 or info.duration > MAX_ROOM_S:
            raise ModelError(f"{path} is not a mono impulse response at {SAMPLE_RATE_HZ} Hz")
        response, _ = soundfile.read(path, dtype="float32")
    except (soundfile.SoundFileError, OSError) as problem:
        raise ModelError(f"{path} is not a readable sound: {problem}") from problem
    if len(response) < 2 or not np.isfinite(response).all():
        return None
    response[0] = 0.0
    return np.asarray(response, np.float32)


def is_model(path: Path) -> bool:
    """Whether a file looks like a plug-in model."""
    return path.suffix.lower() == SUFFIX and not path.name.startswith(".") and path.is_file()


def is_part(name: str) -> bool:
    """Whether a file of this name belongs to an exported plug-in model."""
    return (name.lower().endswith(SUFFIX) and not name.startswith(".")) or name.lower() in {METADATA, ROOM}
