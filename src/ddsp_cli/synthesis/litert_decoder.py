"""A decoder with an unknown graph: the file of a DDSP-VST model, run by LiteRT as the plug-in runs it, frame by frame.

The plug-in's contract says which tensors a file takes and gives (magenta/ddsp-vst 1.1.0, util/Constants.h:30-49); the
graph between them can be any. LiteRT is native code and trusts its files, so it runs in a child process with limits on
time and memory (`limits`). F frames.
"""

from __future__ import annotations

import importlib.util
import weakref
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ddsp_cli import limits, scaling
from ddsp_cli.arrays import FloatArray
from ddsp_cli.config import FilteredNoiseConfig, HarmonicConfig, ModelConfig
from ddsp_cli.errors import ModelError

#: Names of the tensors.
F0, LEVEL, STATE = "call_f0_scaled:0", "call_pw_scaled:0", "call_state:0"

AMPLITUDE, DISTRIBUTION, NOISE, NEW_STATE = (f"StatefulPartitionedCall:{i}" for i in range(4))

#: Tensor name → float32 elements, in the order of Magenta's files.
INPUTS = {F0: 1, LEVEL: 1, STATE: 512}

OUTPUTS = {AMPLITUDE: 1, DISTRIBUTION: 60, NOISE: 65, NEW_STATE: 512}

#: The files are made for sound at this rate, in frames of 20 ms.
SAMPLE_RATE_HZ: Literal[16000] = 16000

FRAME_RATE_HZ = 50

#: Limits of the child process for one block of frames. A frame takes 0.4 ms, and a file of the plug-in 10 MB.
LIMITS = limits.Limits(time_s=20.0, memory_bytes=1 << 30, reply_bytes=1 << 26)


class LiteRtDecoder:
    """A decoder that is run from its file, with the state of one performance; plays like `decoder.Decoder`.

    Args:
      content: of the file.

    Raises:
      ModelError: LiteRT is missing, or the file does not run, or does not keep the contract.
    """

    def __init__(self, content: bytes) -> None:
        check_litert()
        self._worker = limits.Worker("ddsp_cli.synthesis.litert_decoder:Session", LIMITS)
        weakref.finalize(self, self._worker.close)
        self.state = np.zeros(INPUTS[STATE], np.float32)
        self._call({"network": np.frombuffer(content, np.uint8)})

    def reset(self) -> None:
        """Returns the network to the state in which a performance begins."""
        self.state = np.zeros_like(self.state)

    def controls(
        self, f0_hz: FloatArray, level_db: FloatArray, mfcc: FloatArray | None = None
    ) -> dict[str, FloatArray]:
        """Predicts the controls of the next frames, see `decoder.Decoder.controls`; `mfcc` has no effect.

        Where the network gives NaN or infinity for the harmonics, they are silent, as in the plug-in
        (PredictControlsModel.cpp:97-105). Single noise bands with such values are silent.
        """
        scaled = {F0: scaling.scale_f0(f0_hz), LEVEL: scaling.scale_db(level_db), STATE: self.state}
        found = self._call({name: np.asarray(values, np.float32) for name, values in scaled.items()})
        if len(f0_hz):
            self.state = found[NEW_STATE][-1]
        harmonics_are_finite = np.isfinite(found[AMPLITUDE] + found[DISTRIBUTION]).all(axis=-1, keepdims=True)
        return {
            "amplitude": np.where(harmonics_are_finite, found[AMPLITUDE], np.float32(0)),
            "harmonic_distribution": np.where(harmonics_are_finite, found[DISTRIBUTION], np.float32(0)),
            "noise_magnitudes": np.where(np.isfinite(found[NOISE]), found[NOISE], np.float32(0)),
        }

    def _call(self, arrays: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._worker.call(None, arrays)[1]
        except limits.LimitReached as problem:
            raise ModelError(
                f"the network file cannot be played: it {problem}", "It is damaged, or made for another program."
            ) from problem


class Session:
    """Runs one file in this process, which is to be one with limits."""

    def __init__(self) -> None:
        self._interpreter: Any = None

    def __call__(self, values: None, arrays: Mapping[str, np.ndarray]) -> limits.Reply:
        """Opens the file whose bytes are `network`, or runs frames; the target of `limits.Worker`."""
        if "network" in arrays:
            self.open(arrays["network"].tobytes())
            return None, {}
        return None, self.run(arrays)

    def open(self, content: bytes) -> None:
        """Loads a file.

        Raises:
          ModelError: it cannot be run, or does not keep the contract.
        """
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        # Without delegates, which write to the terminal and round in ways of their own.
        resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver, num_threads=1)
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as problem:
            raise ModelError(f"the network file cannot be run: {_first_line(problem)}") from problem
        self._inputs = _by_name(interpreter.get_input_details(), INPUTS, "takes")
        self._outputs = _by_name(interpreter.get_output_details(), OUTPUTS, "gives")
        self._interpreter = interpreter

    def run(self, frames: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs frames in turn, each from the state that the one before left.

        Args:
          frames: by tensor: pitch and level [F], and the state before the first frame.

        Returns:
          Every output by tensor, [F, n].

        Raises:
          ModelError: the file failed while it ran.
        """
        n_frames, state = len(frames[F0]), frames[STATE]
        found = {name: np.empty((n_frames, size), np.float32) for name, size in OUTPUTS.items()}
        try:
            for i in range(n_frames):
                for name, value in {F0: frames[F0][i], LEVEL: frames[LEVEL][i], STATE: state}.items():
                    entry = self._inputs[name]
                    self._interpreter.set_tensor(entry["index"], np.asarray(value).reshape(entry["shape"]))
                self._interpreter.invoke()
                for name, rows in found.items():
                    rows[i] = self._interpreter.get_tensor(self._outputs[name]["index"]).reshape(-1)
                state = found[NEW_STATE][i]
        except (RuntimeError, ValueError) as problem:
            raise ModelError(f"the network file failed while it ran: {_first_line(problem)}") from problem
        return found


def check_model(model: ModelConfig) -> None:
    """Checks that the synthesisers of a card are those of a network file.

    Raises:
      ModelError: they are not.
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
    """Checks that LiteRT is installed.

    Raises:
      ModelError: it is not.
    """
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise ModelError(
            "DDSP-VST models are run by LiteRT, and that is not installed",
            "Install it with: pip install ai-edge-litert",
        )


def _by_name(details: list[dict[str, Any]], wanted: dict[str, int], verb: str) -> dict[str, dict[str, Any]]:
    """Returns tensors by name: all of the contract and no others, float32 of its sizes."""
    found = {entry["name"]: entry for entry in details}
    sizes = {name: int(np.prod(entry["shape"])) for name, entry in found.items() if entry["dtype"] == np.float32}
    if sizes != wanted or len(details) != len(wanted):
        raise ModelError(f"the network file {verb} other tensors than a DDSP-VST model does")
    return found


def _first_line(problem: Exception) -> str:
    return (str(problem).splitlines() or ["no reason given"])[0][:200]
