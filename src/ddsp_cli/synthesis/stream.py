"""One performance on an instrument, as a stream: frames in, the samples out that they complete.

Runs the processor graph of a bundle (`ModelConfig.processors`): synthesisers, their sum, the reverb.

Shapes: F frames, S samples; S = F·hop at the model's rate; F·n and F·p for controls that are finer than frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Protocol

import numpy as np

from ddsp_cli.arrays import FloatArray, RealArray
from ddsp_cli.bundle import Bundle
from ddsp_cli.bundle.layout import F0, decoder_outputs, processing_order
from ddsp_cli.config import AddConfig, CropConfig, FilteredNoiseConfig, HarmonicConfig
from ddsp_cli.config.model import ROOMS
from ddsp_cli.synthesis import litert_decoder
from ddsp_cli.synthesis.articulation import open_articulator
from ddsp_cli.synthesis.decoder import Decoder
from ddsp_cli.synthesis.formant_shift import shift_formants
from ddsp_cli.synthesis.level_correction import LevelCorrection, make_level_correction
from ddsp_cli.synthesis.litert_decoder import LiteRtDecoder
from ddsp_cli.synthesis.onsets import detector_of
from ddsp_cli.synthesis.reverb import Room
from ddsp_cli.synthesis.synths import FilteredNoise, Harmonic, Ramp
from ddsp_cli.synthesis.variation import Movements, variation_of

#: After each rest of this length the decoder returns to its first state. Training sees states of the first seconds
#: after that one only; in a longer silence the state drifts away from them.
REST_S = 0.3


class ControlSource(Protocol):
    """Source of a stream's controls: a decoder, or an interpolation between several."""

    def reset(self) -> None:
        """Returns to the state in which a performance begins."""

    def controls(
        self, f0_hz: FloatArray, level_db: FloatArray, mfcc: FloatArray | None = None
    ) -> dict[str, FloatArray]:
        """Predicts the controls of the next frames, see `decoder.Decoder.controls`."""


def check_decoder(bundle: Bundle) -> None:
    """Checks that the decoder of an instrument fits its configuration and can be run.

    Raises:
      ModelError: it does not, or cannot.
    """
    if bundle.network is None:
        Decoder(bundle)
    else:
        litert_decoder.check_model(bundle.card.model)
        litert_decoder.check_litert()


def open_decoder(bundle: Bundle) -> Decoder | LiteRtDecoder:
    """Opens the decoder of an instrument at the start of a performance.

    Raises:
      ModelError: it does not fit its configuration, or cannot be run.
    """
    if bundle.network is None:
        return Decoder(bundle)
    litert_decoder.check_model(bundle.card.model)
    return LiteRtDecoder(bundle.network)


class Stream:
    """One performance on an instrument: `push` frames as they come, `finish` once.

    The output is one frame behind the input, because sound is interpolated towards the next frame.

    Args:
      bundle: the instrument, checked (see `Instrument`).
      decoder: predicts its controls, from the first frame on.
      make_reverb: makes its room, each time from silence; None for none.
      seed, level_correction, formant, variation, articulation: see `Instrument.render`.
      gate_ends: of the n values of the gate for each frame the last is at the time of the frame, not the first; live,
        later ones are not known. Not for a level correction.
    """

    def __init__(
        self,
        bundle: Bundle,
        decoder: ControlSource,
        make_reverb: Callable[[], Room] | None,
        seed: int = 0,
        level_correction: bool = False,
        formant: float = 0.0,
        variation: bool = True,
        articulation: bool = True,
        gate_ends: bool = False,
    ) -> None:
        self._model = model = bundle.card.model
        self._spec, self._formant, self._wants_correction = bundle.card.features, formant, level_correction
        self._decoder, self._make_reverb = decoder, make_reverb
        self._order = processing_order(
            {name: node.inputs for name, node in model.processors.items()}, [*decoder_outputs(model), F0]
        )
        hop = model.hop_samples
        self._harmonic: dict[str, Harmonic] = {}
        self._noise: dict[str, FilteredNoise] = {}
        self._reverbs: dict[str, Room] = {}
        for name, node in model.processors.items():
            if isinstance(node, HarmonicConfig):
                self._harmonic[name] = Harmonic(hop, model.sample_rate_hz, node.amp_resample_method)
            elif isinstance(node, FilteredNoiseConfig):
                self._noise[name] = FilteredNoise(hop, node.n_bands, node.window_size_samples, seed)
            elif isinstance(node, ROOMS) and make_reverb is not None:
                self._reverbs[name] = make_reverb()
        self._movements = _movements(bundle, seed) if variation else None
        self._articulator = open_articulator(bundle) if articulation else None
        self._onsets = detector_of(bundle)
        # The room of another also suits an instrument that learned none: it comes last then.
        self._last_reverb = make_reverb() if make_reverb is not None and not self._reverbs else None
        self._pending: dict[str, RealArray] = {}  # samples that wait for those of other sources
        # Made with the first frames, which say how fine the gate is.
        self._gate_ends = gate_ends
        self._gate: Ramp | None = None
        self._correction: LevelCorrection | None = None
        self._last_level_db: FloatArray | None = None
        self._last_gate = np.zeros(0, np.float32)
        self._n_closed = 0  # frames of the rest that has begun

    def push(
        self,
        f0_hz: FloatArray,
        level_db: FloatArray,
        gate: FloatArray | None = None,
        mfcc: FloatArray | None = None,
    ) -> FloatArray:
        """Takes the next frames.

        Args:
          f0_hz: [F·p], see `Instrument.render`.
          level_db: [F].
          gate: [F·n], see `Instrument.render`.
          mfcc: [F, C], the timbre that an encoder follows; None for the average.

        Returns:
          The samples that are complete, [S].
        """
        n_frames = len(level_db)
        if not n_frames:
            return np.zeros(0, np.float32)
        hop = self._model.hop_samples
        f0_hz = _whole_samples(f0_hz, n_frames, hop)
        gate = None if gate is None else _whole_samples(gate, n_frames, hop)
        frame_hz = f0_hz[:: len(f0_hz) // n_frames]
        n_gates = 1 if gate is None else len(gate) // n_frames
        of_frames = gate if gate is None or not self._gate_ends else gate[n_gates - 1 :: n_gates]
        controls = shift_formants(self._decode(frame_hz, level_db, of_frames, mfcc), self._formant)
        onsets = self._onsets.push(f0_hz, level_db, of_frames) if self._articulator or self._movements else None
        if self._articulator is not None and onsets is not None:
            controls = self._articulator.push(onsets, controls)
        signals = {"gate": self._open_gate(np.ones(n_frames, np.float32) if gate is None else gate, n_frames)}
        phases = None
        if self._movements is not None and onsets is not None:
            f0_hz, controls, phases = self._movements.push(f0_hz, controls, onsets.begins)
        for name, harmonic in self._harmonic.items():
            amplitudes = controls["amplitude"] * controls["harmonic_distribution"]
            signals[name] = harmonic.push(f0_hz, amplitudes, phases)
        for name, noise in self._noise.items():
            signals[name] = noise.push(controls["noise_magnitudes"])
        return self._mix(signals, self._requested_db(level_db, gate))

    def _decode(
        self, f0_hz: FloatArray, level_db: FloatArray, gate: FloatArray | None, mfcc: FloatArray | None
    ) -> dict[str, FloatArray]:
        """Predicts the controls of the next frames, from the first state again after each `REST_S` of a rest."""
        if gate is None:
            return self._decoder.controls(f0_hz, level_db, mfcc)
        n_frames = len(level_db)
        resets = []
        for frame, is_open in enumerate(np.any(gate.reshape(n_frames, -1) > 0.0, axis=1).tolist()):
            self._n_closed = 0 if is_open else self._n_closed + 1
            if self._n_closed and self._n_closed % self.rest_frames == 0:
                resets.append(frame)
        found = []
        for start, stop in itertools.pairwise(sorted({0, *resets, n_frames})):
            if start in resets:
                self._decoder.reset()
            part = slice(start, stop)
            found.append(self._decoder.controls(f0_hz[part], level_db[part], None if mfcc is None else mfcc[part]))
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    @property
    def rest_frames(self) -> int:
        """Frames of a rest after which the decoder returns to its first state, `REST_S`."""
        return round(REST_S * self._model.frame_rate_hz)

    @property
    def latency_samples(self) -> int:
        """Samples after the time of a frame that are needed before the sound at it is known.

        One frame, towards which controls are interpolated; the noise filter is done by then if it is no longer.
        """
        hop = self._model.hop_samples
        return max([hop, *(noise.delay_samples for noise in self._noise.values())])

    def retune(self, f0_hz: float) -> None:
        """Changes F0 of the last frame, see `Harmonic.retune`."""
        for harmonic in self._harmonic.values():
            harmonic.retune(f0_hz)

    def finish(self) -> FloatArray:
        """Returns the samples of the last frame, [S]; the tail of the reverb is not among them."""
        signals = {"gate": self._gate.finish() if self._gate is not None else np.zeros(0, np.float32)}
        for sources in (self._harmonic, self._noise):
            signals |= {name: source.finish() for name, source in sources.items()}
        return self._mix(signals, self._requested_db(None, None), last=True)

    def _open_gate(self, gate: FloatArray, n_frames: int) -> FloatArray:
        """Returns the gate [F·n] at sample rate, [S]."""
        if self._gate is None:
            n_fine = len(gate) // n_frames
            hop_samples = self._model.hop_samples // n_fine
            self._gate = Ramp(hop_samples)
            if self._gate_ends:  # the others are before the first sample
                gate = gate[n_fine - 1 :]
            if self._wants_correction:
                self._correction = make_level_correction(self._spec, self._model, hop_samples, self._make_reverb)
        return self._gate.push(gate)

    def _requested_db(self, level_db: FloatArray | None, gate: FloatArray | None) -> RealArray:
        """Returns the requested levels [F·n], -inf in rests; None for both gives those of the last frame."""
        if self._correction is None:
            return np.zeros(0)
        if level_db is not None and gate is not None:
            n_fine = len(gate) // len(level_db)
            first = self._last_level_db is None
            frames = level_db if self._last_level_db is None else np.concatenate([self._last_level_db, level_db])
            # Levels are interpolated between frames, so those of a frame are known when the next one is.
            places = np.arange((len(frames) - 1) * n_fine) / n_fine
            between_db = np.interp(places, np.arange(len(frames)), frames)
            gates = (gate if first else np.concatenate([self._last_gate, gate]))[: len(between_db)]
            self._last_level_db, self._last_gate = level_db[-1:], gate[-n_fine:]
        elif self._last_level_db is not None:
            between_db, gates = np.repeat(self._last_level_db, len(self._last_gate)), self._last_gate
        else:
            return np.zeros(0)
        with np.errstate(divide="ignore"):
            return np.asarray(between_db + 20.0 * np.log10(gates))

    def _mix(self, signals: dict[str, FloatArray], requested_db: RealArray, last: bool = False) -> FloatArray:
        """Runs the rest of the graph on as many samples as every source has ready."""
        waiting = {name: np.concatenate([self._pending[name], samples]) if name in self._pending else samples
                   for name, samples in signals.items()}  # fmt: skip
        n_ready = min(len(samples) for samples in waiting.values())
        self._pending = {name: samples[n_ready:] for name, samples in waiting.items()}
        ready = {name: samples[:n_ready] for name, samples in waiting.items()}
        gate, performed = ready.pop("gate"), False
        out: RealArray = np.zeros(n_ready, np.float32)

        def perform(dry: RealArray) -> RealArray:
            """Renders dry sound with gate and level correction, which apply once, before the reverb."""
            dry = dry * gate
            if self._correction is None:
                return dry
            corrected = self._correction.push(dry, requested_db)
            return np.concatenate([corrected, self._correction.finish(np.zeros(0))]) if last else corrected

        for name in self._order:
            node = self._model.processors[name]
            if isinstance(node, AddConfig):
                ready[name] = np.sum([ready[signal] for signal in node.inputs], axis=0)
            elif isinstance(node, ROOMS):
                dry = ready[node.inputs[0]] if performed else perform(ready[node.inputs[0]])
                performed = True
                ready[name] = self._reverbs[name].push(dry) if name in self._reverbs else dry
            elif isinstance(node, CropConfig):
                ready[name] = ready[node.inputs[0]]  # cuts the end of training examples only
            out = ready[name]
        out = out if performed else perform(out)
        return np.asarray(out if self._last_reverb is None else self._last_reverb.push(out), np.float32)


def _movements(bundle: Bundle, seed: int) -> Movements | None:
    """Returns the movements of an instrument that has a variation."""
    variation = variation_of(bundle)
    if variation is None:
        return None
    model = bundle.card.model
    noise = model.only(FilteredNoiseConfig)
    n_bands = noise[1].n_bands if noise else 0
    return Movements(variation, model.frame_rate_hz, n_bands, model.sample_rate_hz, seed)


def _whole_samples(fine: FloatArray, n_frames: int, hop_samples: int) -> FloatArray:
    """Returns values [F·p]; the first of each frame [F] where a value would not last a whole number of samples."""
    n_fine = len(fine) // n_frames
    return fine[::n_fine] if hop_samples % n_fine else fine
