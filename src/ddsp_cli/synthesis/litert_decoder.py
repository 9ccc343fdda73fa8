"""A network of unknown make: the file of a DDSP-VST model, run by LiteRT as the plug-in runs it, frame by frame.

What a file takes and gives is the plug-in's contract (magenta/ddsp-vst 1.1.0, util/Constants.h:30-49); what is inside
is its own affair. LiteRT is native code and trusts what it runs, so a stranger's file is first tried in a process of
its own (`importers.try_out`). It is imported when such a model is opened, and not before.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Literal

import numpy as np

from ddsp_cli import scaling
from ddsp_cli.config import FilteredNoiseConfig, HarmonicConfig, ModelConfig
from ddsp_cli.errors import ModelError

F0, LEVEL, STATE = "call_f0_scaled:0", "call_pw_scaled:0", "call_state:0"

AMPLITUDE, DISTRIBUTION, NOISE, NEW_STATE = (f"StatefulPartitionedCall:{i}" for i in range(4))

#: Tensor name → float32 elements.
INPUTS = {F0: 1, LEVEL: 1, STATE: 512}

OUTPUTS = {AMPLITUDE: 1, DISTRIBUTION: 60, NOISE: 65, NEW_STATE: 512}

#: The files are made for sound at this rate, in frames of 20 ms.
SAMPLE_RATE_HZ: Literal[16000] = 16000

FRAME_RATE_HZ = 50


class LiteRtDecoder:
    """A network that is run from its file, with the state of one performance; plays like `decoder.Decoder`.

    Args:
      content: of the file.

    Raises:
      ModelError: LiteRT is missing, or the file is none that it can run, or not one of the contract.
    """

    def __init__(self, content: bytes) -> None:
        self._run = _open(content)
        self._inputs = _places(self._run.get_input_details(), INPUTS, "takes")
        self._outputs = _places(self._run.get_output_details(), OUTPUTS, "gives")
        self.state = np.zeros(INPUTS[STATE], np.float32)

    def controls(
        self, f0_hz: np.ndarray, level_db: np.ndarray, mfcc: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """What the synthesisers play in the next frames; as `decoder.Decoder.controls`, but no timbre is followed.

        Where the network gives something that is no number for the harmonics, they are silent, as in the plug-in
        (PredictControlsModel.cpp:97-105); where for the noise, that is.
        """
        scaled = {F0: scaling.scale_f0(f0_hz), LEVEL: scaling.scale_db(level_db)}
        frames = {name: np.asarray(values, np.float32) for name, values in scaled.items()}
        found = {name: np.empty((len(f0_hz), OUTPUTS[name]), np.float32) for name in (AMPLITUDE, DISTRIBUTION, NOISE)}
        for i in range(len(f0_hz)):
            self._step({name: values[i : i + 1] for name, values in frames.items()})
            for name, rows in found.items():
                rows[i] = self._get(name)
            self.state = self._get(NEW_STATE)
        harmonics_are_numbers = np.isfinite(found[AMPLITUDE] + found[DISTRIBUTION]).all(axis=-1, keepdims=True)
        return {
            "amplitude": np.where(harmonics_are_numbers, found[AMPLITUDE], np.float32(0)),
            "harmonic_distribution": np.where(harmonics_are_numbers, found[DISTRIBUTION], np.float32(0)),
            "noise_magnitudes": np.where(np.isfinite(found[NOISE]), found[NOISE], np.float32(0)),
        }

    def _step(self, frame: dict[str, np.ndarray]) -> None:
        for name, value in (frame | {STATE: self.state}).items():
            entry = self._inputs[name]
            self._run.set_tensor(entry["index"], value.reshape(entry["shape"]))
        try:
            self._run.invoke()
        except (RuntimeError, ValueError) as problem:
            raise ModelError(f"the network file stopped while it was run: {_first_line(problem)}") from problem

    def _get(self, name: str) -> np.ndarray:
        return np.asarray(self._run.get_tensor(self._outputs[name]["index"])).reshape(-1)


def check_model(model: ModelConfig) -> None:
    """The synthesisers behind a network file have to suit what it gives.

    Raises:
      ModelError: they do not.
    """
    harmonic, noise = model.only(HarmonicConfig), model.only(FilteredNoiseConfig)
    if (
        (model.sample_rate_hz, model.frame_rate_hz) != (SAMPLE_RATE_HZ, FRAME_RATE_HZ)
        or (harmonic and harmonic[1].n_harmonics != OUTPUTS[DISTRIBUTION])
        or (noise and noise[1].n_bands != OUTPUTS[NOISE])
        or model.encoder
    ):
        raise ModelError(
            f"the network file gives {OUTPUTS[DISTRIBUTION]} harmonics and {OUTPUTS[NOISE]} noise bands, "
            f"{FRAME_RATE_HZ} times a second, for sound at {SAMPLE_RATE_HZ} Hz; its card says something else",
            "Import the file again.",
        )


def check_litert() -> None:
    """LiteRT must be installed, which runs the files.

    Raises:
      ModelError: it is not.
    """
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise ModelError(
            "DDSP-VST models are run by LiteRT, and that is not installed",
            "Install it with: pip install ai-edge-litert",
        )


def _open(content: bytes) -> Any:
    check_litert()
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # Without delegates, which announce themselves on the terminal and round in ways of their own.
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        run = Interpreter(model_content=content, experimental_op_resolver_type=resolver, num_threads=1)
        run.allocate_tensors()
    except (RuntimeError, ValueError) as problem:
        raise ModelError(f"the network file cannot be run: {_first_line(problem)}") from problem
    return run


def _places(details: list[dict[str, Any]], wanted: dict[str, int], verb: str) -> dict[str, dict[str, Any]]:
    """Tensors by their name, all of the contract and no others."""
    found = {entry["name"]: entry for entry in details}
    sizes = {name: int(np.prod(entry["shape"])) for name, entry in found.items() if entry["dtype"] == np.float32}
    if sizes != wanted or len(details) != len(wanted):
        raise ModelError(f"the network file {verb} something else than a DDSP-VST model does")
    return found


def _first_line(problem: Exception) -> str:
    return (str(problem).splitlines() or ["no reason given"])[0][:200]
