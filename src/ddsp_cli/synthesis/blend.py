"""Blend instruments: interpolate between their controls and rooms, so that they play as one instrument.

A blend is not a mixture of sounds. In every frame each part predicts its own controls from the same performance;
amplitude, harmonics and noise are interpolated in dB, and one bank of oscillators plays the result. Every part plays at
the same percentile of its levels, so a soft note is soft in all of them. Shares may change over time.

Shapes: I parts, F frames, S samples, K harmonics, M noise bands, T points of time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import msgspec
import numpy as np
from msgspec import UNSET

from ddsp_cli.arrays import BoolArray, DoubleArray, FloatArray, RealArray
from ddsp_cli.audio.resample import resample_response
from ddsp_cli.bundle import Bundle, Statistics, TrainingRecord
from ddsp_cli.bundle.card import BLEND_PRESET
from ddsp_cli.bundle.layout import F0
from ddsp_cli.config import (
    AddConfig,
    EncoderConfig,
    FilteredNoiseConfig,
    HarmonicConfig,
    ModelConfig,
    ReverbConfig,
)
from ddsp_cli.config.model import AnyProcessorConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.synthesis.articulation import articulation_of
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.reverb import Reverb, Room
from ddsp_cli.synthesis.stream import ControlSource
from ddsp_cli.synthesis.variation import variation_of

#: Floor of amplitudes and magnitudes where they are interpolated in dB: -140 dB.
FLOOR = 1e-7


@dataclass(frozen=True)
class Shares:
    """Shares of the parts of a blend over time.

    Attributes:
      times_s: [T], rising. Between two times shares change linearly; before the first and after the last they are
        constant.
      values: shares of the parts at each time, [I], not negative, with any positive sum.
    """

    times_s: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if not self.times_s or len(self.times_s) != len(self.values) or len({len(row) for row in self.values}) != 1:
            raise ValueError("shares need one row of equal length for each time")
        if any(b <= a for a, b in zip(self.times_s, self.times_s[1:], strict=False)):
            raise ValueError("the times of shares must rise")
        if any(min(row) < 0.0 or sum(row) <= 0.0 for row in self.values):
            raise ValueError("shares must not be negative, and their sum must be positive")

    @classmethod
    def constant(cls, values: Sequence[float]) -> Shares:
        """Makes shares that do not change."""
        return cls((0.0,), (tuple(values),))

    @property
    def is_constant(self) -> bool:
        return len(self.times_s) == 1

    def at(self, times_s: RealArray) -> DoubleArray:
        """Returns the shares [I, n] at times [n]; they sum to 1."""
        table = np.asarray(self.values, np.float64)
        table /= table.sum(axis=1, keepdims=True)
        return np.stack([np.interp(times_s, self.times_s, column) for column in table.T])

    @property
    def mean(self) -> DoubleArray:
        """Mean shares [I] over the points of time."""
        return np.asarray(self.at(np.asarray(self.times_s)).mean(axis=1))


class BlendedInstrument(Instrument):
    """Several instruments that play as one; it has the methods of `Instrument`.

    It plays at the highest sample rate of its parts, and at their lowest frame rate. Harmonics and noise above half the
    sample rate of some parts come from the other parts, weighted by their share.

    Args:
      parts: the instruments, at least two.
      shares: of each.
      name: of the blend.

    Raises:
      ModelError: frame rates that do not divide one another.
      ValueError: the numbers of parts and of shares differ.
    """

    def __init__(self, parts: Sequence[Instrument], shares: Shares, name: str) -> None:
        if len(parts) != len(shares.values[0]):
            raise ValueError(f"{len(parts)} instruments have {len(shares.values[0])} shares")
        self.parts, self.shares = tuple(parts), shares
        self.model = _blended_model(self.parts)
        first = self.parts[0].bundle
        self._responses = _responses(self.parts, self.model.sample_rate_hz)
        card = msgspec.structs.replace(
            first.card,
            name=name,
            description="A blend of " + ", ".join(part.bundle.card.name for part in self.parts),
            licence=" + ".join(dict.fromkeys(part.bundle.card.licence for part in self.parts)),
            model=self.model,
            features=first.card.features.at(self.model.frame_rate_hz),
            statistics=blend_statistics([part.bundle.card.statistics for part in self.parts], shares.mean),
            training=TrainingRecord(preset=BLEND_PRESET, steps=0, seed=0),
            metrics={},
            sources=[source for part in self.parts for source in part.bundle.card.sources],
            remarks=[],
            files={},
        )
        response = None if self._responses is None else _mixed(self._responses, shares.mean)
        self.bundle = Bundle(card, _blended_statistics(self.parts, shares.mean), response)

    def open_decoder(self) -> ControlSource:
        """See `Instrument.open_decoder`."""
        return BlendedDecoder(self.parts, self.shares, self.model, self.bundle.card.statistics)

    def room_factory(self, room: bool | FloatArray = True) -> Callable[[], Room] | None:
        """See `Instrument.room_factory`; the room of the blend changes with the shares."""
        if room is True and self._responses is not None and not self.shares.is_constant:
            return partial(BlendedReverb, self._responses, self.shares, self.model.sample_rate_hz)
        return super().room_factory(room)


def _blended_statistics(parts: Sequence[Instrument], shares: RealArray) -> dict[str, FloatArray]:
    """Blends variations and articulations of the parts, as weights, unless a part lacks them or differs in size."""
    blended: dict[str, FloatArray] = {}
    for read in (variation_of, articulation_of):
        statistics = [read(part.bundle) for part in parts]
        found = [{} if one is None else one.as_weights() for one in statistics]
        shapes = [{name: value.shape for name, value in one.items()} for one in found]
        if all(shape == shapes[0] for shape in shapes):
            blended |= {
                name: np.asarray(np.tensordot(shares, [one[name] for one in found], 1), np.float32) for name in found[0]
            }
    return blended


# --- configuration ----------------------------------------------------------------------------------------------------


def blend_statistics(statistics: Sequence[Statistics], shares: RealArray) -> Statistics:
    """Interpolates the percentiles of several instruments with shares [I]."""

    def between(name: str) -> list[float]:
        table = np.array([getattr(one, name) for one in statistics], np.float64)
        return [float(value) for value in shares @ table]

    return Statistics(
        pitch_midi=between("pitch_midi"),
        loudness_db=between("loudness_db"),
        power_db=between("power_db"),
        note_s=min(one.note_s for one in statistics),
    )


def _blended_model(parts: Sequence[Instrument]) -> ModelConfig:
    """Makes the configuration of a blend.

    Raises:
      ModelError: frame rates that do not divide one another, or the sample rate.
    """
    models = [part.model for part in parts]
    sample_rate_hz = max(model.sample_rate_hz for model in models)
    frame_rate_hz = min(model.frame_rate_hz for model in models)
    for model in models:
        if model.frame_rate_hz % frame_rate_hz or sample_rate_hz % frame_rate_hz:
            raise ModelError(
                f"instruments with {frame_rate_hz} and {model.frame_rate_hz} frames a second cannot be blended",
                "Their frame rates must divide one another, as 50 and 250 do.",
            )
    levels = {model.level for model in models}
    level = levels.pop() if len(levels) == 1 else "power_db"
    processors: dict[str, AnyProcessorConfig] = {}
    harmonic = [found[1] for model in models if (found := model.only(HarmonicConfig))]
    noise = [(model, found[1]) for model in models if (found := model.only(FilteredNoiseConfig))]
    if harmonic:
        processors["harmonic"] = HarmonicConfig(
            inputs=["amplitude", "harmonic_distribution", F0],
            n_harmonics=max(node.n_harmonics for node in harmonic),
            amp_resample_method=harmonic[0].amp_resample_method,
        )
    if noise:
        # As fine as the finest part, up to half the highest sample rate.
        band_hz = min(model.sample_rate_hz / 2.0 / (node.n_bands - 1) for model, node in noise)
        windows = [node.window_size_samples * sample_rate_hz // model.sample_rate_hz for model, node in noise]
        processors["noise"] = FilteredNoiseConfig(
            inputs=["noise_magnitudes"],
            n_bands=1 + int(np.ceil(sample_rate_hz / 2.0 / band_hz - 1e-9)),
            window_size_samples=max(windows) if min(windows) else 0,
        )
    processors["dry"] = AddConfig(inputs=list(processors))
    if any(part.bundle.impulse_response is not None for part in parts):
        processors["reverb"] = ReverbConfig(inputs=["dry"])
    encoders = [model.encoder for model in models if model.encoder]
    inputs: list[Literal["ld_scaled", "pw_scaled", "f0_scaled", "z", "instrument"]]
    inputs = ["pw_scaled" if level == "power_db" else "ld_scaled", "f0_scaled"]
    if encoders:
        inputs.append("z")
    return ModelConfig(
        sample_rate_hz=sample_rate_hz,
        frame_rate_hz=frame_rate_hz,
        inputs=inputs,
        decoder=None,
        processors=processors,
        encoder=EncoderConfig(n_mfccs=max(one.n_mfccs for one in encoders)) if encoders else UNSET,
    )


# --- controls ---------------------------------------------------------------------------------------------------------


class BlendedDecoder:
    """Predicts the controls of a blend, with the state of one performance, like `decoder.Decoder`.

    Args:
      parts: the instruments.
      shares: of each.
      model: of the blend.
      statistics: of the blend.
    """

    def __init__(self, parts: Sequence[Instrument], shares: Shares, model: ModelConfig, statistics: Statistics) -> None:
        self._shares, self._rate_hz = shares, model.frame_rate_hz
        self._parts = [_Part(part, model, statistics) for part in parts]
        self._n_frames = 0
        self._last: tuple[float, float] | None = None  # pitch in Hz and level in dB of the last frame

    def reset(self) -> None:
        """Returns all parts to the state in which a performance begins; the shares keep changing."""
        for part in self._parts:
            part.reset()

    def controls(
        self, f0_hz: FloatArray, level_db: FloatArray, mfcc: FloatArray | None = None
    ) -> dict[str, FloatArray]:
        """Predicts the controls of the next frames, see `decoder.Decoder.controls`."""
        times_s = (self._n_frames + np.arange(len(f0_hz))) / self._rate_hz
        shares = self._shares.at(times_s)
        found = [part.controls(f0_hz, level_db, mfcc, self._last) for part in self._parts]
        self._n_frames += len(f0_hz)
        self._last = float(f0_hz[-1]), float(level_db[-1])
        # While shares change, the difference between the levels of parts and blend changes from frame to frame.
        off_db = level_db - np.einsum("if,if->f", shares, np.stack([part.level_db for part in found]))
        gain = (10.0 ** (off_db / 20.0))[:, None]
        controls: dict[str, FloatArray] = {}
        if any(part.harmonics is not None for part in found):
            amplitudes = gain * _interpolate([(part.harmonics, part.known_harmonics) for part in found], shares)
            total = np.maximum(amplitudes.sum(axis=1, keepdims=True), FLOOR)
            controls["amplitude"] = total.astype(np.float32)
            controls["harmonic_distribution"] = (amplitudes / total).astype(np.float32)
        if any(part.noise is not None for part in found):
            magnitudes = gain * _interpolate([(part.noise, part.known_noise) for part in found], shares)
            controls["noise_magnitudes"] = magnitudes.astype(np.float32)
        return controls


@dataclass(frozen=True)
class _Predicted:
    """Controls that one part predicts: amplitudes [F, K], magnitudes [F, M], and where the part knows them.

    `level_db` [F] is the level of the part in the measure of the blend.
    """

    level_db: DoubleArray
    harmonics: RealArray | None
    known_harmonics: BoolArray | None
    noise: RealArray | None
    known_noise: BoolArray | None


class _Part:
    """One part of a blend, with the state of its decoder."""

    def __init__(self, instrument: Instrument, blend: ModelConfig, statistics: Statistics) -> None:
        self._model, own = instrument.model, instrument.bundle.card.statistics
        self._decoder = instrument.open_decoder()
        self._step = self._model.frame_rate_hz // blend.frame_rate_hz
        self._n_mfccs = self._model.encoder.n_mfccs if self._model.encoder else 0
        self._blend_db = np.maximum.accumulate(statistics.level(blend.level).astype(np.float64))
        self._own_db, self._same_db = own.level(self._model.level), own.level(blend.level)
        self._nyquist_hz = self._model.sample_rate_hz / 2.0
        harmonic, self._noise = blend.only(HarmonicConfig), blend.only(FilteredNoiseConfig)
        self._n_harmonics = harmonic[1].n_harmonics if harmonic else 0
        own_noise = self._model.only(FilteredNoiseConfig)
        if self._noise and own_noise:
            self._bands_hz = np.linspace(0.0, blend.sample_rate_hz / 2.0, self._noise[1].n_bands)
            own_hz = np.linspace(0.0, self._nyquist_hz, own_noise[1].n_bands)
            self._to_bands = np.stack([np.interp(self._bands_hz, own_hz, row) for row in np.eye(len(own_hz))])
            # White noise of one variance has a density that falls with the sample rate.
            self._to_bands *= np.sqrt(blend.sample_rate_hz / self._model.sample_rate_hz)

    def reset(self) -> None:
        """See `BlendedDecoder.reset`."""
        self._decoder.reset()

    def controls(
        self, f0_hz: FloatArray, level_db: FloatArray, mfcc: FloatArray | None, last: tuple[float, float] | None
    ) -> _Predicted:
        """Predicts the next frames of the blend; `last` are pitch and level of the frame before them."""
        own_db = _at_percentile(level_db, self._blend_db, self._own_db)
        # A part with finer frames gets those that lead to each frame of the blend.
        fine_hz = np.exp(_finer(np.log(f0_hz), None if last is None else np.log(last[0]), self._step))
        last_db = None if last is None else _at_percentile(np.array([last[1]]), self._blend_db, self._own_db)[0]
        fine_db = _finer(own_db, last_db, self._step)
        if mfcc is not None and self._n_mfccs:
            mfcc = np.repeat(mfcc[:, : self._n_mfccs], self._step, axis=0)[-len(fine_hz) :]
        found = self._decoder.controls(
            fine_hz.astype(np.float32), fine_db.astype(np.float32), mfcc if self._n_mfccs else None
        )
        found = {name: values[:: -self._step][::-1] for name, values in found.items()}
        harmonics = noise = known_harmonics = known_noise = None
        if "amplitude" in found:
            amplitudes = found["amplitude"] * found["harmonic_distribution"]
            n_own = amplitudes.shape[1]
            harmonics = np.pad(amplitudes, ((0, 0), (0, self._n_harmonics - n_own)))
            number = np.arange(1, self._n_harmonics + 1)
            known_harmonics = (number <= n_own) & (f0_hz[:, None] * number < self._nyquist_hz)
        if "noise_magnitudes" in found:
            noise = found["noise_magnitudes"] @ self._to_bands
            known_noise = np.broadcast_to(self._bands_hz <= self._nyquist_hz + 1e-6, noise.shape)
        same_db = _at_percentile(level_db, self._blend_db, self._same_db)
        return _Predicted(same_db, harmonics, known_harmonics, noise, known_noise)


def _at_percentile(level_db: RealArray, from_db: RealArray, to_db: RealArray) -> DoubleArray:
    """Maps levels [F] from percentiles to other percentiles, [101] each; beyond the ends the distance is kept."""
    inside = np.interp(level_db, from_db, to_db)
    return np.asarray(inside + level_db - np.clip(level_db, from_db[0], from_db[-1]), np.float64)


def _finer(values: RealArray, last: float | None, step: int) -> DoubleArray:
    """Interpolates `step - 1` values before each of the values [F]; before the first only if there is a last one."""
    known: DoubleArray = np.asarray(values, np.float64)
    if step == 1:
        return known
    if last is not None:
        known = np.concatenate([[last], known])
    places = np.arange((len(known) - 1) * step + 1) / step
    fine = np.asarray(np.interp(places, np.arange(len(known)), known), np.float64)
    return fine if last is None else fine[1:]


def _interpolate(parts: Sequence[tuple[RealArray | None, BoolArray | None]], shares: DoubleArray) -> DoubleArray:
    """Interpolates the spectra of the parts in dB, and their power too.

    Args:
      parts: spectrum [F, N] of each part and where it is known; None for a part without one.
      shares: [I, F].

    Returns:
      [F, N]. Where only some spectra are known, their mean times their share.
    """
    n_frames, n_values = next(values.shape for values, _ in parts if values is not None)
    logs, weights = np.zeros((n_frames, n_values)), np.zeros((n_frames, n_values))
    log_power, power_share = np.zeros((n_frames, 1)), np.zeros((n_frames, 1))
    for (values, known), share in zip(parts, shares[:, :, None], strict=True):
        if values is None or known is None:
            continue
        floored = np.maximum(values, FLOOR)
        logs += share * known * np.log(floored)
        weights += share * known
        log_power += share * np.log(np.sum(np.square(floored) * known, axis=1, keepdims=True) + FLOOR**2)
        power_share += share
    shape = np.where(weights > 0.0, weights * np.exp(logs / np.maximum(weights, FLOOR)), 0.0)
    power = np.exp(log_power / np.maximum(power_share, FLOOR)) * power_share**2
    own = np.sum(np.square(shape), axis=1, keepdims=True)
    return np.asarray(shape * np.sqrt(power / np.maximum(own, FLOOR**2)), np.float64)


# --- rooms ------------------------------------------------------------------------------------------------------------


def _responses(parts: Sequence[Instrument], sample_rate_hz: int) -> DoubleArray | None:
    """Returns the impulse responses [I, S] of the parts at one rate, 0 for a part without; None if all are without."""
    found = [
        np.zeros(0)
        if part.bundle.impulse_response is None
        else resample_response(part.bundle.impulse_response, part.model.sample_rate_hz, sample_rate_hz)
        for part in parts
    ]
    longest = max(map(len, found))
    padded = [np.pad(np.asarray(one, np.float64), (0, longest - len(one))) for one in found]
    return np.stack(padded) if longest else None


def _room_gains(responses: DoubleArray, shares: DoubleArray) -> DoubleArray:
    """Returns gains [I, n] of the rooms for shares [I, n]: the energy of their sum lies between their energies."""
    products = responses @ responses.T
    wanted = np.diag(products) @ shares
    own = np.einsum("in,ij,jn->n", shares, products, shares)
    return np.asarray(shares * np.sqrt(wanted / np.maximum(own, 1e-20)))


def _mixed(responses: DoubleArray, shares: DoubleArray) -> FloatArray:
    """Mixes the impulse responses by shares [I] into one, [S]."""
    return np.asarray(_room_gains(responses, shares[:, None])[:, 0] @ responses, np.float32)


class BlendedReverb:
    """Mixes rooms by shares that change over time; adds reverb as `reverb.Reverb` does.

    Args:
      responses: impulse responses, [I, S].
      shares: of each.
      sample_rate_hz: of the sound.
    """

    def __init__(self, responses: DoubleArray, shares: Shares, sample_rate_hz: int) -> None:
        self._responses, self._shares, self._rate_hz = responses, shares, sample_rate_hz
        self._rooms = [Reverb(response.astype(np.float32)) for response in responses]
        self._n_samples = 0

    def push(self, dry: FloatArray) -> FloatArray:
        """Takes the next samples [S]; returns as many, dry and wet together."""
        times_s = (self._n_samples + np.arange(len(dry))) / self._rate_hz
        self._n_samples += len(dry)
        out = np.array(dry, np.float32)
        for room, gain in zip(self._rooms, _room_gains(self._responses, self._shares.at(times_s)), strict=True):
            fed = np.asarray(dry * gain, np.float32)
            out += room.push(fed) - fed
        return out
