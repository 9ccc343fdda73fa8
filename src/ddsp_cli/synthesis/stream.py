"""One performance on an instrument, as a stream: frames in, the samples out that they settle.

Runs the processor graph of a bundle (`ModelConfig.processors`): synthesisers, their sum, the room. Legend of shapes:
F frames, S samples; S = F·hop at the model's rate; F·n and F·p for what is finer than frames.
"""

from __future__ import annotations

import numpy as np

from ddsp_cli.bundle import Bundle
from ddsp_cli.bundle.layout import F0, decoder_outputs, processing_order
from ddsp_cli.config import AddConfig, CropConfig, FilteredNoiseConfig, HarmonicConfig
from ddsp_cli.config.processors import ROOMS
from ddsp_cli.synthesis.decoder import Decoder
from ddsp_cli.synthesis.formant_shift import shift_formants
from ddsp_cli.synthesis.level_correction import Leveller, make_leveller
from ddsp_cli.synthesis.litert_decoder import LiteRtDecoder, check_model
from ddsp_cli.synthesis.noise import FilteredNoise
from ddsp_cli.synthesis.oscillators import Harmonic, Ramp
from ddsp_cli.synthesis.reverb import Room


def open_decoder(bundle: Bundle) -> Decoder | LiteRtDecoder:
    """The network of an instrument at the start of a performance.

    Raises:
      ModelError: it does not fit its configuration, or cannot be run.
    """
    if bundle.network is None:
        return Decoder(bundle)
    check_model(bundle.card.model)
    return LiteRtDecoder(bundle.network)


class Stream:
    """One performance on an instrument; `push` frames as they come, `finish` once.

    What comes out lags one frame behind what went in, because sound is interpolated towards the next frame.

    Args:
      bundle: the instrument, checked (see `Instrument`).
      seed, room, levels, formant: see `Instrument.render`.
    """

    def __init__(
        self,
        bundle: Bundle,
        seed: int = 0,
        room: bool | np.ndarray = True,
        levels: bool = False,
        formant: float = 0.0,
    ) -> None:
        self._model = model = bundle.card.model
        response = room if isinstance(room, np.ndarray) else bundle.impulse_response if room else None
        self._decoder, self._formant = open_decoder(bundle), formant
        hop = model.hop_samples
        self._gate: Ramp | None = None
        self._harmonic: dict[str, Harmonic] = {}
        self._noise: dict[str, FilteredNoise] = {}
        self._rooms: dict[str, Room] = {}
        for name, node in model.processors.items():
            if isinstance(node, HarmonicConfig):
                self._harmonic[name] = Harmonic(hop, model.sample_rate_hz, node.amp_resample_method)
            elif isinstance(node, FilteredNoiseConfig):
                self._noise[name] = FilteredNoise(hop, node.n_bands, node.window_size_samples, seed)
            elif isinstance(node, ROOMS) and response is not None:
                self._rooms[name] = Room(response)
        self._order = processing_order(
            {name: node.inputs for name, node in model.processors.items()}, [*decoder_outputs(model), F0]
        )
        # A room from elsewhere also suits an instrument that learned none.
        foreign = isinstance(room, np.ndarray) and not self._rooms
        self._last_room = Room(room) if foreign and isinstance(room, np.ndarray) else None
        self._pending: dict[str, np.ndarray] = {}
        self._spec, self._levels = bundle.card.features, levels
        self._response = response if self._rooms or self._last_room else None
        self._leveller: Leveller | None = None
        self._last_level: np.ndarray | None = None
        self._last_gate = np.zeros(0, np.float32)

    def push(
        self,
        f0_hz: np.ndarray,
        level_db: np.ndarray,
        gate: np.ndarray | None = None,
        mfcc: np.ndarray | None = None,
    ) -> np.ndarray:
        """Takes the next frames (pitch [F·p], gate [F·n], see `Instrument.render`); gives the samples they settle, [S].

        `mfcc` [F, C] is the timbre that an encoder follows, None for the average.
        """
        n_frames = len(level_db)
        if not n_frames:
            return np.zeros(0, np.float32)
        model = self._model
        f0_hz = _playable(f0_hz, n_frames, model.hop_samples)
        gate = None if gate is None else _playable(gate, n_frames, model.hop_samples)
        frame_hz = f0_hz[:: len(f0_hz) // n_frames]
        controls = shift_formants(self._decoder.controls(frame_hz, level_db, mfcc), self._formant)
        signals: dict[str, np.ndarray] = {
            "gate": self._open(np.ones(n_frames, np.float32) if gate is None else gate, n_frames)
        }
        for name, node in model.processors.items():
            if isinstance(node, HarmonicConfig):
                amplitudes = controls["amplitude"] * controls["harmonic_distribution"]
                signals[name] = self._harmonic[name].push(f0_hz, amplitudes)
            elif isinstance(node, FilteredNoiseConfig):
                signals[name] = self._noise[name].push(controls["noise_magnitudes"])
        return self._mix(signals, self._wanted(level_db, gate))

    def finish(self) -> np.ndarray:
        """The samples of the last frame, [S]; the room's tail beyond them is left to the listener's silence."""
        signals = {"gate": self._gate.finish() if self._gate is not None else np.zeros(0, np.float32)}
        for sources in (self._harmonic, self._noise):
            signals |= {name: source.finish() for name, source in sources.items()}
        return self._mix(signals, self._wanted(None, None), last=True)

    def _open(self, gate: np.ndarray, n_frames: int) -> np.ndarray:
        """The gate [F·n] at sample rate."""
        if self._gate is None:
            hop, fine = self._model.hop_samples, len(gate) // n_frames
            self._gate = Ramp(hop // fine)
            if self._levels:
                self._leveller = make_leveller(self._spec, self._model, hop // fine, self._response)
        return self._gate.push(gate)

    def _wanted(self, level_db: np.ndarray | None, gate: np.ndarray | None) -> np.ndarray:
        """The levels [F·n] that the sound should have, -inf in rests; None for both gives those of the last frame."""
        if self._leveller is None:
            return np.zeros(0)
        if level_db is not None and gate is not None:
            fine = len(gate) // len(level_db)
            frames = level_db if self._last_level is None else np.concatenate([self._last_level, level_db])
            first = 0 if self._last_level is None else 1
            # Between frames levels go in straight lines, so those of a frame are known when the next one is.
            at = np.arange((len(frames) - 1) * fine) / fine
            between = np.interp(at, np.arange(len(frames)), frames)
            gates = np.concatenate([self._last_gate, gate]) if first else gate
            self._last_level, self._last_gate = level_db[-1:], gate[-fine:]
            gates = gates[: len(between)]
        else:
            between = np.repeat(self._last_level, len(self._last_gate)) if self._last_level is not None else np.zeros(0)
            gates = self._last_gate
        with np.errstate(divide="ignore"):
            return np.asarray(between + 20.0 * np.log10(gates))

    def _mix(self, signals: dict[str, np.ndarray], wanted_db: np.ndarray, last: bool = False) -> np.ndarray:
        """Runs the rest of the graph on as many samples as every source has ready."""
        for name, samples in signals.items():
            waiting = self._pending.get(name)
            signals[name] = samples if waiting is None else np.concatenate([waiting, samples])
        n_ready = min(len(samples) for samples in signals.values())
        self._pending = {name: samples[n_ready:] for name, samples in signals.items()}
        ready = {name: samples[:n_ready] for name, samples in signals.items()}
        gate: np.ndarray | None = ready.pop("gate")
        out = np.zeros(n_ready, np.float32)

        def played(dry: np.ndarray) -> np.ndarray:
            dry = dry * gate
            if self._leveller is None:
                return dry
            out = self._leveller.push(dry, wanted_db)
            return np.concatenate([out, self._leveller.finish(np.zeros(0))]) if last else out

        for name in self._order:
            node = self._model.processors[name]
            if isinstance(node, AddConfig):
                ready[name] = np.sum([ready[signal] for signal in node.inputs], axis=0)
            elif isinstance(node, ROOMS):
                dry = ready[node.inputs[0]] if gate is None else played(ready[node.inputs[0]])
                gate = None
                ready[name] = self._rooms[name].push(dry) if name in self._rooms else dry
            elif isinstance(node, CropConfig):
                ready[name] = ready[node.inputs[0]]  # cuts the end of training examples only
            out = ready[name]
        out = out if gate is None else played(out)
        return out if self._last_room is None else self._last_room.push(out)


def _playable(fine: np.ndarray, n_frames: int, hop_samples: int) -> np.ndarray:
    """Values [F·p]; the first of each frame [F] where a value would not last a whole number of samples."""
    n_fine = len(fine) // n_frames
    return fine[::n_fine] if hop_samples % n_fine else fine
