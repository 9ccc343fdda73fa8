"""The base of processors, and those that combine or cut signals. Shapes: B batch, F frames, S samples, C channels."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
from keras import ops

from ddsp_cli.engine.core.resample import resample
from ddsp_cli.engine.core.tensors import (
    ArgumentError,
    Arguments,
    Tensor,
    as_float32,
    check_shapes,
    one_of,
    static_shape,
    takes,
    whole,
)
from ddsp_cli.errors import closest, did_you_mean

Controls = dict[str, Tensor]
Shape = tuple[int | None, ...]


#: Settings that every Keras layer has.
LAYER_SETTINGS = frozenset(inspect.signature(keras.layers.Layer.__init__).parameters) - {"self", "kwargs"}

#: Settings of the original that have another meaning here: name → replacement.
ORIGINAL_SETTINGS = {
    "n_samples": "The length of a sound is F · hop_samples: set hop_samples",
    "reverb_length": "Use length_samples",
    "n_filter_banks": "Use n_bands",
    "crop_location": "Use location",
    "frame_size": "Use length_samples",
    "use_angular_cumsum": "Phases do not drift here; leave it out",
}


def refuse_unknown(kind: type, settings: Mapping[str, Any]) -> None:
    """Refuses settings of a layer that it does not have.

    Args:
      kind: class of the layer; its constructor and those of its bases list the settings it has.
      settings: arguments that no constructor up to that of the Keras layer has taken.

    Raises:
      ValueError: one of them is no setting of a Keras layer either.
    """
    unknown = [name for name in settings if name not in LAYER_SETTINGS]
    if not unknown:
        return
    known: dict[str, None] = {}
    for base in kind.__mro__:
        if base is keras.layers.Layer:
            break
        if "__init__" in vars(base):
            parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
            known |= {p.name: None for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    listed = f"it takes {', '.join(known)}" if known else "it takes none"
    close = closest(unknown[0], known)
    hint = ORIGINAL_SETTINGS.get(unknown[0], f"Did you mean {' or '.join(close)}?" if close else "")
    raise ArgumentError(f"{kind.__name__} has no setting {unknown[0]}; {listed}. {hint}".rstrip())


class Processor(keras.layers.Layer):
    """A differentiable piece of signal processing, in two steps that can be used alone.

    `get_controls` scales its signals, usually raw outputs of a network, to physical, bounded controls; `get_signal`
    makes audio from controls; calling the processor does both. Signals are given by position or by name. A processor
    computes in float32 under every dtype policy, and casts its signals.

    A subclass defines both methods with named arguments, decorates them with `core.takes`, and lists its settings:

        class Gain(Processor):
            settings = ("gain_db",)

            def __init__(self, gain_db: float = 0.0, **kwargs): ...

            @takes(audio="B S")
            def get_controls(self, audio): return {"audio": audio}

            @takes(audio="B S")
            def get_signal(self, audio): return audio * 10 ** (self.gain_db / 20)

    Attributes:
      settings: arguments of the constructor that `get_config` keeps, under the same names as attributes.
      sizes_by: letter of a shape → setting that fixes it; None as its value allows any number.
    """

    settings: ClassVar[tuple[str, ...]] = ()
    sizes_by: ClassVar[dict[str, str]] = {}

    def __init__(self, **kwargs: Any) -> None:
        refuse_unknown(type(self), kwargs)
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if self.compute_dtype != "float32":
            raise ArgumentError(
                f"{type(self).__name__} computes in float32, as phases and spectra need it, not in "
                f"{self.compute_dtype}. Leave dtype out: signals of other types are cast"
            )
        if type(self).build is keras.layers.Layer.build:  # its weights are made with it; Keras warns of unbuilt layers
            self.built = True

    def get_controls(self, *args: Any, **kwargs: Any) -> Controls:
        """Scales signals to controls, by name."""
        raise NotImplementedError

    def get_signal(self, *args: Any, **kwargs: Any) -> Tensor:
        """Makes audio [B, S] from controls."""
        raise NotImplementedError

    def call(self, *signals: Tensor) -> Tensor:
        """Makes audio [B, S] from the signals that `get_controls` takes."""
        return self.get_signal(**self.get_controls(*signals))

    def __call__(self, *signals: Tensor, **named: Tensor) -> Tensor:
        """Makes audio from signals, by position or by name; see `get_controls` for their shapes."""
        named.pop("training", None)  # Keras hands it to every layer
        return super().__call__(*self.in_order(*signals, **named))

    def in_order(self, *signals: Tensor, **named: Tensor) -> list[Tensor]:
        """Returns the signals that `get_controls` takes in their order, converted and checked.

        Raises:
          TypeError: a signal is missing or unknown.
          ValueError: a signal has another shape than `get_controls` takes.
        """
        arguments: Arguments | None = getattr(type(self).get_controls, "arguments", None)
        if arguments is not None:
            return list(arguments.bind(self, *signals, **named).args[1:])
        return list(inspect.signature(self.get_controls).bind(*signals, **named).args)

    def sizes(self) -> dict[str, tuple[str, int]]:
        """Returns the letters of shapes that settings fix: letter → (setting, value)."""
        fixed = {letter: (name, getattr(self, name)) for letter, name in self.sizes_by.items()}
        return {letter: (name, value) for letter, (name, value) in fixed.items() if value is not None}

    def signal_names(self) -> list[str] | None:
        """Returns the names of the signals that `get_controls` must have, in order; None where it takes any number."""
        parameters = list(inspect.signature(self.get_controls).parameters.values())
        if any(p.kind is p.VAR_POSITIONAL for p in parameters):
            return None
        return [p.name for p in parameters if p.default is p.empty]

    def signal_shape(self, *shapes: Shape) -> Shape | None:
        """Returns the shape of the audio made of signals of such shapes; None to find it by tracing."""
        return None

    def compute_output_spec(self, *signals: Any) -> Any:
        """Returns the shape and type of the output, for Keras' functional API on every backend."""
        shape = self.signal_shape(*(tuple(signal.shape) for signal in signals))
        return super().compute_output_spec(*signals) if shape is None else keras.KerasTensor(shape, "float32")

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, for `from_config`."""
        return {**super().get_config(), **{name: getattr(self, name) for name in self.settings}}


def times(n: int | None, factor: int) -> int | None:
    """Multiplies a dimension that may be unknown."""
    return None if n is None else n * factor


@keras.saving.register_keras_serializable("ddsp")
class Add(Processor):
    """The sum of two or more signals of one shape (`Add`, processors.py of the original)."""

    def in_order(self, *signals: Tensor, **named: Tensor) -> list[Tensor]:
        """Returns the signals, converted and checked."""
        return list(self.get_controls(*signals, **named).values())

    def get_controls(self, *signals: Tensor, **named: Tensor) -> Controls:
        """Names and checks the signals.

        Args:
          *signals: [B, S] each, or [B, S, C] each.
          **named: further ones, by any name.

        Returns:
          the signals by name; those given by position are `signal_0`, `signal_1`, …

        Raises:
          ValueError: there are fewer than two, or their shapes differ.
        """
        given = {f"signal_{i}": signal for i, signal in enumerate(signals)} | named
        if len(given) < 2:
            raise ArgumentError(f"Add takes two or more signals, {len(given)} came")
        given = {name: as_float32(signal, f"Add: {name}") for name, signal in given.items()}
        shapes = {name: static_shape(signal) for name, signal in given.items()}
        check_shapes("Add", shapes, dict.fromkeys(given, "B S | B S C"))
        return given

    def get_signal(self, *signals: Tensor, **named: Tensor) -> Tensor:
        """Adds signals.

        Args:
          *signals: [B, S] each, or [B, S, C] each.
          **named: further ones, by any name.

        Returns:
          the sum, of their shape.

        Raises:
          ValueError: see `get_controls`.
        """
        first, *others = self.get_controls(*signals, **named).values()
        for other in others:
            first = first + other
        return first

    def signal_shape(self, *shapes: Shape) -> Shape:
        """Returns the shape of the signals."""
        return shapes[0]


@keras.saving.register_keras_serializable("ddsp")
class Crop(Processor):
    """Cuts samples off one end of audio (`Crop`, processors.py of the original).

    Args:
      length_samples: number of samples to cut off; 0 leaves the signal unchanged.
      location: `front` or `back`.
    """

    settings = ("length_samples", "location")

    def __init__(self, length_samples: int, location: str = "back", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.length_samples = whole(length_samples, "length_samples", smallest=0)
        self.location = one_of(location, "location", ("front", "back"))

    @takes(audio="B S")
    def get_controls(self, audio: Tensor) -> Controls:
        """Returns the audio as the only control.

        Args:
          audio: [B, S].

        Returns:
          `audio` [B, S].
        """
        return {"audio": audio}

    @takes(audio="B S")
    def get_signal(self, audio: Tensor) -> Tensor:
        """Cuts `length_samples` samples off.

        Args:
          audio: [B, S].

        Returns:
          audio [B, S - length_samples].

        Raises:
          ValueError: S is not above `length_samples`.
        """
        n_samples = audio.shape[1]
        if n_samples is not None and n_samples <= self.length_samples:
            raise ArgumentError(f"Crop: audio has {n_samples} samples, {self.length_samples} cannot be cut off")
        if self.location == "front":
            return audio[:, self.length_samples :]
        return audio[:, : -self.length_samples] if self.length_samples else audio

    def signal_shape(self, *shapes: Shape) -> Shape:
        """Returns [B, S - length_samples]."""
        batch, n_samples = shapes[0]
        return batch, None if n_samples is None else n_samples - self.length_samples


@keras.saving.register_keras_serializable("ddsp")
class Mix(Processor):
    """Crossfade of two signals by a learned level, at constant power (`Mix`, processors.py of the original).

    The original's two gains are √m and 1 - √(1 - m), whose power dips in between; these are a sine and a cosine.
    """

    @takes(first="B S | B S C", second="B S | B S C", level="B F 1")
    def get_controls(self, first: Tensor, second: Tensor, level: Tensor) -> Controls:
        """Scales the level.

        Args:
          first: [B, S], or any control [B, S, C].
          second: of the shape of `first`.
          level: [B, F, 1], any real number; low is all of the second signal, high all of the first.

        Returns:
          `first`, `second`, and `mix_level` [B, F, 1] in 0..1.
        """
        return {"first": first, "second": second, "mix_level": ops.sigmoid(level)}

    @takes(first="B S | B S C", second="B S | B S C", mix_level="B F 1")
    def get_signal(self, first: Tensor, second: Tensor, mix_level: Tensor) -> Tensor:
        """Mixes two signals.

        Args:
          first: [B, S] or [B, S, C].
          second: of the shape of `first`.
          mix_level: [B, F, 1], 0 for the second signal to 1 for the first.

        Returns:
          the mix, of the shape of `first`.
        """
        check_shapes("Mix", {"second": static_shape(second)}, {"second": _as_spec(first)})
        angle = resample(mix_level, ops.shape(first)[1]) * (0.5 * math.pi)
        if len(first.shape) == 2:
            angle = angle[..., 0]
        return first * ops.sin(angle) + second * ops.cos(angle)

    def signal_shape(self, *shapes: Shape) -> Shape:
        """Returns the shape of the first signal."""
        return shapes[0]


def _as_spec(signal: Tensor) -> str:
    """Returns the shape of a signal as a declaration; a letter for each unknown dimension."""
    return " ".join(
        letter if n is None else str(n) for letter, n in zip("BSC", static_shape(signal) or (), strict=False)
    )


def missing_signal(owner: str, name: str, known: list[str]) -> str:
    """Returns an error sentence for a signal that a graph needs and did not get."""
    hint = did_you_mean(name, known)
    return f"{owner}: the signal {name} is missing. {hint}" if hint else f"{owner}: the signal {name} is missing"
