"""Runs the test cases of magenta/ddsp 3.7.0 against `ddsp_cli.engine`, through modules that only map names and shapes.

    pip download --no-deps ddsp==3.7.0 && unzip ddsp-3.7.0-*.whl -d original
    python benchmarks/original_tests.py original [--verbose]

A name that has no counterpart here (see docs/engine.md) raises `NotHere`; the cases that use it are counted apart.
Prints a line for each file: cases, passed, not here, failed.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import sys
import types
import unittest
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf

from ddsp_cli import engine
from ddsp_cli.engine import core
from ddsp_cli.engine.core import spectra

FILES = (
    "core_test.py", "spectral_ops_test.py", "synths_test.py", "effects_test.py", "losses_test.py",
    "processors_test.py", "dags_test.py", "training/nn_test.py", "training/decoders_test.py",
    "training/preprocessing_test.py", "training/heuristics_test.py",
)  # fmt: skip


class NotHere(unittest.SkipTest):
    """The original has something that this engine leaves out."""


class Absent(types.ModuleType):
    """A module in which every name that was not mapped raises `NotHere` when it is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def absent(*args: Any, **kwargs: Any) -> Any:
            raise NotHere(f"{self.__name__}.{name}")

        return absent


class AbsentClass:
    """A class of the original that is not here; it can be subclassed, not made."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotHere(type(self).__mro__[1].__name__)


# --- ddsp.core -------------------------------------------------------------------------------------------------------


def harmonic_to_sinusoidal(harm_amp: Any, harm_dist: Any, f0_hz: Any, sample_rate: int = 16000) -> Any:
    """Takes an amplitude that may be a number."""
    return core.harmonic_to_sinusoidal(harm_amp * np.ones_like(f0_hz), harm_dist, f0_hz, sample_rate)


def harmonic_synthesis(
    frequencies: Any,
    amplitudes: Any,
    harmonic_shifts: Any = None,
    harmonic_distribution: Any = None,
    n_samples: int = 64000,
    sample_rate: int = 16000,
    amp_resample_method: str = "window",
) -> Any:
    """Takes amplitudes of harmonics as one argument, and shifts relative to them."""
    distribution = 1.0 if harmonic_distribution is None else harmonic_distribution
    shifts = None if harmonic_shifts is None else harmonic_shifts * np.ones_like(frequencies)
    return core.harmonic_synthesis(
        frequencies,
        amplitudes * distribution,
        n_samples // frequencies.shape[1],
        sample_rate,
        amp_resample_method,
        shifts,
    )


def fft_convolve(audio: Any, impulse_response: Any, padding: str = "same", delay_compensation: int = -1) -> Any:
    """Takes arguments in another order and with other names."""
    return core.fft_convolve(audio, impulse_response, delay_compensation, padding=padding)


def of_frames(wavetables: Any, n_frames: int) -> Any:
    """Stretches wavetables to any number of frames, as the original does by itself."""
    if wavetables.ndim == 2 or wavetables.shape[1] == n_frames:
        return wavetables
    return wavetables[:, 0] if wavetables.shape[1] == 1 else core.resample(wavetables, n_frames)


def core_module() -> types.ModuleType:
    """Makes `ddsp.core`."""
    module = Absent("ddsp.core")
    for name in (
        "midi_to_hz", "hz_to_midi", "midi_to_unit", "unit_to_midi", "unit_to_hz", "hz_to_unit", "resample",
        "variable_length_delay", "frequencies_sigmoid", "frequencies_softmax", "amplitude_to_db",
        "db_to_amplitude", "power_to_db", "db_to_power", "exp_sigmoid", "angular_cumsum",
    ):  # fmt: skip
        setattr(module, name, getattr(core, name))
    module.harmonic_to_sinusoidal = harmonic_to_sinusoidal
    module.linear_lookup = lambda phase, wavetables: core.linear_lookup(phase, of_frames(wavetables, phase.shape[1]))
    module.harmonic_synthesis = harmonic_synthesis
    module.fft_convolve = fft_convolve
    module.upsample_with_windows = lambda inputs, n_timesteps, add_endpoint=True: core.resample(
        inputs, n_timesteps, "window", add_endpoint
    )
    module.oscillator_bank = lambda frequencies, amplitudes, sample_rate=16000, sum_sinusoids=True: (
        core.oscillator_bank(frequencies, amplitudes, sample_rate, sum_sinusoids)
    )
    module.wavetable_synthesis = lambda frequencies, amplitudes, wavetables, n_samples=64000, sample_rate=16000: (
        core.wavetable_synthesis(
            frequencies,
            amplitudes,
            of_frames(wavetables, frequencies.shape[1]),
            n_samples // frequencies.shape[1],
            sample_rate,
        )
    )
    module.frequency_impulse_response = core.impulse_response
    module.frequency_filter = lambda audio, magnitudes, window_size=0, padding="same": core.frequency_filter(
        audio, magnitudes, window_size, padding=padding
    )
    module.sinc_filter = (
        lambda audio, cutoff_frequency, window_size=512, sample_rate=None, padding="same", high_pass=False: (
            core.sinc_filter(
                audio, np.reshape(cutoff_frequency, (1, 1, 1)), window_size, sample_rate, padding, high_pass
            )
        )
    )
    module.nested_lookup = lambda key, tree: functools.reduce(lambda node, name: node[name], key.split("/"), tree)
    return module


# --- ddsp.spectral_ops -----------------------------------------------------------------------------------------------


def of_batch(function: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a function of sound [B, S] that also takes one sound [S], as the original's do."""

    def wrapped(audio: Any, *args: Any, **kwargs: Any) -> Any:
        audio = tf.cast(audio, tf.float32)
        if len(audio.shape) == 1:
            return function(audio[None], *args, **kwargs)[0]
        return function(audio, *args, **kwargs)

    return wrapped


def framed_lengths(n_t: int, frame_size: int, hop_size: int, padding: str = "center") -> tuple[int, int]:
    """Returns numbers of frames and of padded samples that the original's tests expect."""
    padded = {
        "valid": n_t,
        "center": n_t + frame_size // 2 * 2,
        "same": (-(-n_t // hop_size) - 1) * hop_size + frame_size,
    }
    return (padded[padding] - frame_size) // hop_size + 1, padded[padding]


@of_batch
def compute_loudness(
    audio: Any,
    sample_rate: int = 16000,
    frame_rate: int = 250,
    n_fft: int = 512,
    range_db: float = 80.0,
    ref_db: float = 0.0,
    use_tf: bool = True,
    padding: str = "center",
) -> Any:
    """There is one implementation for tensors; the player's is another module and is compared in tests/engine."""
    if not use_tf:
        raise NotHere("compute_loudness(use_tf=False)")
    return core.a_weighted_loudness(audio, sample_rate, frame_rate, n_fft, padding, ref_db, range_db)


def spectral_module() -> types.ModuleType:
    """Makes `ddsp.spectral_ops`."""
    module = Absent("ddsp.spectral_ops")
    module.CREPE_FRAME_SIZE = 1024
    module.get_framed_lengths = framed_lengths
    module.pad = lambda x, frame_size, hop_size, padding="center": spectra.pad_for(x, frame_size, hop_size, padding)
    module.compute_loudness = compute_loudness
    module.compute_power = of_batch(
        lambda audio, sample_rate=16000, frame_rate=250, frame_size=512, padding="center": core.rms_power(
            audio, sample_rate, frame_rate, frame_size, padding
        )
    )
    module.compute_rms_energy = of_batch(
        lambda audio, sample_rate=16000, frame_rate=250, frame_size=512, padding="center": core.rms(
            audio, sample_rate, frame_rate, frame_size, padding
        )
    )
    return module


# --- processors ------------------------------------------------------------------------------------------------------


class Mapped:
    """A processor of the original: made here when its first signals tell how many samples a frame has.

    Attributes:
      control_names: ours → the original's, where they differ.
    """

    control_names: dict[str, str] = {}

    def __init__(self, name: str | None = None, **settings: Any) -> None:
        self.name = name or type(self).__name__.lower()
        self.settings = settings
        self.own: Any = None

    def make(self, *signals: Any) -> Any:
        """Makes our processor for such signals."""
        raise NotImplementedError

    def ready(self, signals: tuple[Any, ...]) -> Any:
        self.own = self.own or self.make(*signals)
        return self.own

    def __call__(self, *signals: Any, **named: Any) -> Any:
        return self.ready(signals)(*signals, **named)

    def get_controls(self, *signals: Any, **named: Any) -> dict[str, Any]:
        found = self.ready(signals).get_controls(*signals, **named)
        return {self.control_names.get(name, name): value for name, value in found.items()}

    def hop(self, signal: Any) -> int:
        """Returns the samples of a frame, of a sound that the original makes n_samples long."""
        return int(self.settings.get("n_samples", 64000)) // int(signal.shape[1])

    @property
    def scale(self) -> dict[str, str]:
        return {"scale_fn": "none"} if "scale_fn" in self.settings and self.settings["scale_fn"] is None else {}


class Harmonic(Mapped):
    control_names = {"amplitude": "amplitudes"}

    def make(self, amplitudes: Any, *_: Any) -> Any:
        return engine.Harmonic(self.settings.get("sample_rate", 16000), self.hop(amplitudes), None, **self.scale)


class FilteredNoise(Mapped):
    control_names = {"noise_magnitudes": "magnitudes"}

    def make(self, magnitudes: Any) -> Any:
        return engine.FilteredNoise(self.hop(magnitudes), None, window_size_samples=257, **self.scale)


class Wavetable(Mapped):
    control_names = {"amplitude": "amplitudes"}

    def make(self, amplitudes: Any, *_: Any) -> Any:
        return engine.Wavetable(self.settings.get("sample_rate", 16000), self.hop(amplitudes), None, **self.scale)


class Sinusoidal(Mapped):
    control_names = {"frequencies_hz": "frequencies"}

    def make(self, amplitudes: Any, frequencies: Any) -> Any:
        depth = frequencies.shape[-1] if len(frequencies.shape) == 4 else 1
        return engine.Sinusoidal(self.settings.get("sample_rate", 16000), self.hop(amplitudes), None, depth=depth)

    def get_controls(self, amplitudes: Any, frequencies: Any) -> dict[str, Any]:  # type: ignore[override]
        self.ready((amplitudes, frequencies))
        return super().get_controls(amplitudes, tf.reshape(frequencies, (*frequencies.shape[:2], -1)))


class Room(Mapped):
    """A learned room: `trainable=False` is `from_network=True`."""

    kind: Any = engine.Reverb
    extra: dict[str, str] = {}
    reverb_argument = "reverb_length"

    def make(self, *_: Any) -> Any:
        settings = {ours: self.settings[theirs] for theirs, ours in self.extra.items() if theirs in self.settings}
        return self.kind(self.settings.get(self.reverb_argument, 48000), from_network=not self.trainable, **settings)

    @property
    def trainable(self) -> bool:
        return bool(self.settings.get("trainable", False))

    @property
    def trainable_variables(self) -> list[Any]:
        return list(self.ready(()).trainable_variables)

    @property
    def non_trainable_variables(self) -> list[Any]:
        return list(self.ready(()).non_trainable_variables)

    def build(self, shape: Any) -> None:
        self.ready(()).build(shape)

    def __call__(self, *signals: Any, **named: Any) -> Any:
        return super().__call__(*signals, **flat_response(named))

    def get_controls(self, *signals: Any, **named: Any) -> dict[str, Any]:
        return super().get_controls(*signals, **flat_response(named))


def flat_response(named: dict[str, Any]) -> dict[str, Any]:
    """Reshapes impulse responses, which are [B, S, 1] in the original."""
    return named | {"ir": named["ir"][..., 0]} if "ir" in named and len(named["ir"].shape) == 3 else named


class ExpDecayReverb(Room):
    kind = engine.ExpDecayReverb


class FilteredNoiseReverb(Room):
    kind = engine.FilteredNoiseReverb
    extra = {"n_frames": "n_frames", "n_filter_banks": "n_bands"}


class FIRFilter(Mapped):
    def make(self, *_: Any) -> Any:
        return engine.FIRFilter(None, 257)


class ModDelay(Mapped):
    def make(self, *_: Any) -> Any:
        return engine.ModDelay()


class Add(Mapped):
    def make(self, *_: Any) -> Any:
        return engine.Add()


class Mix(Mapped):
    def make(self, *_: Any) -> Any:
        return engine.Mix()


class ProcessorGroup:
    """`dag` is a list of processors with the keys of their inputs; results are nested."""

    def __init__(self, dag: list[tuple[Mapped, list[str]]], name: str = "group") -> None:
        self.dag = dag

    def get_controls(self, outputs: dict[str, Any]) -> dict[str, Any]:
        used = [key for _, keys in self.dag for key in keys if "/" not in key]
        nodes = {}
        for processor, keys in self.dag:
            known = tuple(outputs[key] for key in keys if key in outputs)
            nodes[processor.name] = (processor.ready(known), [key.removesuffix("/signal") for key in keys])
        found = engine.ProcessorGroup(nodes, sources=used)({key: outputs[key] for key in used})
        nested: dict[str, Any] = dict(outputs)
        for processor, _ in self.dag:
            prefix = f"{processor.name}/"
            controls = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
            names = processor.control_names
            nested[processor.name] = {
                "signal": found[processor.name],
                "controls": {names.get(name, name): value for name, value in controls.items()},
            }
        return nested | {"out": nested[self.dag[-1][0].name]}


# --- losses, networks, preprocessing ---------------------------------------------------------------------------------


def embedding_loss(name: str = "embedding_loss", **_: Any) -> Any:
    """Takes CREPE's layers as the original does; ours takes any model."""
    inputs = keras.Input((None, 1))
    model = keras.Model(inputs, keras.layers.Conv1D(4, 64, strides=64)(inputs))
    return engine.EmbeddingLoss(model, name=name)


class LossGroup:
    def __init__(self, dag: list[tuple[Any, list[str]]]) -> None:
        self.dag = dag
        self.loss_names = [loss.name for loss, _ in dag]
        self.own = engine.LossGroup({loss.name: (loss, keys) for loss, keys in dag})

    def __call__(self, outputs: dict[str, Any]) -> dict[str, Any]:
        return self.own(outputs)


class RnnFcDecoder:
    def __init__(
        self, rnn_channels: int, ch: int, layers_per_stack: int, input_keys: Any, output_splits: Any, rnn_type: str,
        stateless: bool = False,
    ) -> None:  # fmt: skip
        if stateless:
            raise NotHere("RnnFcDecoder(stateless=True)")
        self.own = engine.RnnFcDecoder(
            dict.fromkeys(input_keys, 1), dict(output_splits), channels=ch, rnn_units=rnn_channels,
            layers_per_stack=layers_per_stack,
        )  # fmt: skip

    def __call__(self, inputs: dict[str, Any]) -> Any:
        return self.own(inputs)


class DilatedConvDecoder:
    def __init__(self, ch: int, layers_per_stack: int, stacks: int, conditioning_keys: Any, output_splits: Any) -> None:
        self.settings = {"channels": ch, "layers_per_stack": layers_per_stack, "n_stacks": stacks}
        self.outputs = dict(output_splits)

    def __call__(self, inputs: dict[str, Any]) -> Any:
        return engine.DilatedConvDecoder(dict.fromkeys(inputs, 1), self.outputs, **self.settings)(inputs)


class F0PowerPreprocessor:
    """Here features are measured once; the power of sound is `core.rms_power`."""

    def __init__(self, time_steps: int, frame_rate: int, sample_rate: int, frame_size: int = 256) -> None:
        self.settings = (sample_rate, frame_rate, frame_size)
        self.time_steps = time_steps

    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        power_db = (
            inputs["power_db"] if "power_db" in inputs else core.rms_power(inputs["audio"], *self.settings)[..., None]
        )
        return {"pw_db": core.resample(power_db, self.time_steps)}


def sinusoid(frequency: float, amp: float, sample_rate: int, audio_len_sec: float) -> Any:
    """Makes the sound of `ddsp.test_util.gen_np_sinusoid`."""
    x = np.linspace(0, audio_len_sec, int(audio_len_sec * sample_rate))
    return amp * np.sin(2 * np.pi * frequency * x)


def modules() -> dict[str, types.ModuleType]:
    """Makes the original's modules, by name."""
    ddsp = Absent("ddsp")
    ddsp.__path__ = []
    parts: dict[str, types.ModuleType] = {"core": core_module(), "spectral_ops": spectral_module()}

    def add(name: str, **content: Any) -> types.ModuleType:
        parts[name] = Absent(f"ddsp.{name}")
        vars(parts[name]).update(content)
        return parts[name]

    add("synths", Harmonic=Harmonic, FilteredNoise=FilteredNoise, Wavetable=Wavetable, Sinusoidal=Sinusoidal)
    add("effects", Reverb=Room, ExpDecayReverb=ExpDecayReverb, FilteredNoiseReverb=FilteredNoiseReverb,
        FIRFilter=FIRFilter, ModDelay=ModDelay)  # fmt: skip
    add("processors", Add=Add, Mix=Mix, ProcessorGroup=ProcessorGroup)
    add("losses", SpectralLoss=engine.SpectralLoss, PretrainedCREPEEmbeddingLoss=embedding_loss, LossGroup=LossGroup)
    add("dags", DAGLayer=AbsentClass)
    add("test_util", gen_np_sinusoid=sinusoid)
    training = add("training")
    training.__path__ = []
    add("training.nn", DictLayer=AbsentClass)
    add("training.decoders", RnnFcDecoder=RnnFcDecoder, DilatedConvDecoder=DilatedConvDecoder)
    add("training.preprocessing", F0PowerPreprocessor=F0PowerPreprocessor,
        at_least_3d=lambda x: x[..., None] if len(x.shape) == 2 else x)  # fmt: skip
    add("training.heuristics")
    found: dict[str, types.ModuleType] = {"ddsp": ddsp}
    for name, module in parts.items():
        found[f"ddsp.{name}"] = module
        parent, _, own = name.rpartition(".")
        setattr(found[f"ddsp.{parent}"] if parent else ddsp, own, module)
    gin = types.ModuleType("gin")
    gin.configurable = lambda kind: kind
    gin.external_configurable = lambda kind, name: kind
    gin.unlock_config = lambda: (_ for _ in ()).throw(NotHere("gin"))
    return found | {"gin": gin}


class Counted(unittest.TestResult):
    """Outcomes of the cases of one file."""

    def __init__(self, verbose: bool) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.verbose = verbose

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        self.counts["passed"] += 1

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        if not test.id().endswith("test_session"):  # of tf.test.TestCase itself
            self.counts["not here"] += 1

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        self.counts["failed"] += 1
        line = " ".join(str(err[1]).split())[:300]
        print(f"    {test.id()}: {err[0].__name__}: {line}" if self.verbose else f"    {test.id()}")

    addFailure = addError  # noqa: N815


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds the original's package `ddsp`")
    parser.add_argument("--verbose", action="store_true", help="say why cases fail")
    args = parser.parse_args()
    sys.modules.update(modules())
    total: Counter[str] = Counter()
    print(f"{'':<34}{'cases':>7}{'passed':>8}{'not here':>10}{'failed':>8}")
    for name in FILES:
        spec = importlib.util.spec_from_file_location(name.replace("/", "_")[:-3], args.folder / "ddsp" / name)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        result = Counted(args.verbose)
        np.random.seed(0)  # noqa: NPY002
        unittest.defaultTestLoader.loadTestsFromModule(module).run(result)
        total += result.counts
        show(name, result.counts)
    show("all", total)


def show(name: str, counts: Counter[str]) -> None:
    """Prints a line of the table."""
    print(
        f"{name:<34}{sum(counts.values()):>7}{counts['passed']:>8}{counts['not here']:>10}{counts['failed']:>8}",
        flush=True,
    )


if __name__ == "__main__":
    main()
