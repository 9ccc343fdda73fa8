"""An instrument that plays: pitch and level at frame rate in, sound in blocks out.

Shapes: F frames, S samples; S = F·hop at the model's rate; F·n and F·p for controls that are finer than frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np

from ddsp_cli.analysis.mfcc import mfcc_blocks
from ddsp_cli.arrays import FloatArray
from ddsp_cli.bundle import Bundle
from ddsp_cli.bundle.layout import F0, decoder_outputs, processing_order
from ddsp_cli.config import AddConfig, CropConfig, FilteredNoiseConfig, HarmonicConfig, ModelConfig
from ddsp_cli.config.model import ROOMS
from ddsp_cli.errors import Kind, ModelError
from ddsp_cli.synthesis.decoder import FrameQueue, playable_columns
from ddsp_cli.synthesis.reverb import Reverb, Room
from ddsp_cli.synthesis.stream import ControlSource, Stream, check_decoder, open_decoder

#: Frames computed at once; more take more memory, fewer more time.
BLOCK_FRAMES = 256


class Instrument:
    """A bundle, checked and ready to play.

    Args:
      bundle: weights, configuration, impulse response.

    Raises:
      ModelError: the graph has a processor that cannot be played, or does not fit the weights.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.model = bundle.card.model
        check_graph(self.model)
        if bundle.impulse_response is None and any(isinstance(node, ROOMS) for node in self.model.processors.values()):
            raise ModelError("the instrument has a room, but its impulse response is missing")
        check_decoder(bundle)  # said now, and not in the middle of a file

    def timbre(self, blocks: Iterable[FloatArray]) -> Iterator[FloatArray]:
        """Measures the timbre that an encoder follows.

        Args:
          blocks: of sound at 16 kHz, [S] each.

        Yields:
          MFCCs [n, C]; nothing where the instrument has no encoder.
        """
        if self.model.encoder:
            yield from mfcc_blocks(blocks, self.model.frame_rate_hz, self.model.encoder.n_mfccs)

    def open_decoder(self) -> ControlSource:
        """Opens the decoder at the start of a performance."""
        return open_decoder(self.bundle)

    def room_factory(self, room: bool | FloatArray = True) -> Callable[[], Room] | None:
        """Chooses the room of a performance.

        Args:
          room: see `render`.

        Returns:
          A function that starts the reverb from silence; None for an instrument without room.
        """
        response = room if isinstance(room, np.ndarray) else self.bundle.impulse_response if room else None
        return None if response is None else partial(Reverb, response)

    def stream(
        self,
        seed: int = 0,
        room: bool | FloatArray = True,
        level_correction: bool = False,
        formant: float = 0.0,
        variation: bool = True,
        articulation: bool = True,
        gate_ends: bool = False,
    ) -> Stream:
        """Opens a performance, whose frames are pushed as they come; arguments as for `render` and `Stream`."""
        decoder, reverb = self.open_decoder(), self.room_factory(room)
        return Stream(self.bundle, decoder, reverb, seed, level_correction, formant, variation, articulation, gate_ends)

    def render(
        self,
        f0_hz: FloatArray,
        level_db: FloatArray,
        gate: FloatArray | None = None,
        *,
        seed: int = 0,
        block_frames: int = BLOCK_FRAMES,
        room: bool | FloatArray = True,
        level_correction: bool = False,
        timbre: Iterable[FloatArray] = (),
        formant: float = 0.0,
        variation: bool = True,
        articulation: bool = True,
    ) -> Iterator[FloatArray]:
        """Plays frames in blocks, in memory that does not depend on their number.

        Args:
          f0_hz: [F·p] in Hz with p values a frame, nowhere 0 (see `analysis.features.fill_f0`). The oscillators follow
            all of them, the decoder gets the first of each frame.
          level_db: [F], the measure that `model.level` names.
          gate: [F·n] 0..1 with n values a frame, multiplies the sound before the room; all 1 if None.
          seed: of the noise; the same seed gives the same sound.
          block_frames: frames computed at once.
          room: True for its own, False for none, or the impulse response [S] of another, at the model's rate.
          level_correction: make the sound track `level_db`, see `level_correction`; needs a gate.
          timbre: for an instrument with an encoder, the MFCCs that it follows, in blocks [n, C] of any size
            (see `timbre`); without any it plays the average timbre of its recordings.
          formant: semitones by which its resonances move; pitch stays.
          variation: add the small movements that held notes of the recordings have, see `synthesis.variation`.
          articulation: add what notes of the recordings have where they begin and end, see `synthesis.articulation`.

        Yields:
          [S] float32 at the model's rate, F·hop samples altogether.

        Raises:
          ValueError: pitch or gate does not have a whole number of values a frame.
        """
        n_frames = len(level_db)
        if n_frames and (len(f0_hz) % n_frames or (gate is not None and len(gate) % n_frames)):
            raise ValueError(f"pitch and gate need a whole number of values for each of {n_frames} frames")
        stream = self.stream(seed, room, level_correction and gate is not None, formant, variation, articulation)
        mfcc = FrameQueue(timbre)
        for start in range(0, n_frames, block_frames):
            part = slice(start, min(start + block_frames, n_frames))
            yield stream.push(
                _of_frames(f0_hz, part, n_frames),
                level_db[part],
                None if gate is None else _of_frames(gate, part, n_frames),
                mfcc.take(part.stop - part.start),
            )
        yield stream.finish()


def _of_frames(fine: FloatArray, frames: slice, n_frames: int) -> FloatArray:
    """Returns the values [n·p] that belong to some of the frames, of an array [F·p]."""
    n_fine = len(fine) // n_frames
    return fine[frames.start * n_fine : frames.stop * n_fine]


#: Processors that the player has.
PLAYABLE = (HarmonicConfig, FilteredNoiseConfig, AddConfig, CropConfig, *ROOMS)


def check_graph(model: ModelConfig) -> None:
    """Checks that every processor can be run as a stream.

    Raises:
      ModelError: with the reason and the processor's name.
    """
    if model.instruments:
        raise ModelError(
            "a network of several instruments, such as the base, cannot be played itself",
            "Train an instrument that starts from it, or take one out of it with Autoencoder.for_instrument.",
            kind=Kind.NOT_PLAYED,
        )
    nodes = model.processors
    if not nodes:
        raise ModelError("the instrument has no processors")
    order = processing_order({name: node.inputs for name, node in nodes.items()}, [*decoder_outputs(model), F0])
    for name, node in nodes.items():
        if not isinstance(node, PLAYABLE):
            kind = node.__struct_config__.tag
            raise ModelError(f"processor {name} is of a kind that cannot be played: {kind}")
        n_inputs = 3 if isinstance(node, HarmonicConfig) else None if isinstance(node, AddConfig) else 1
        if n_inputs is not None and len(node.inputs) != n_inputs:
            raise ModelError(f"processor {name} takes {n_inputs} inputs, its configuration names {len(node.inputs)}")
        if isinstance(node, HarmonicConfig) and node.inputs[2] != F0:
            raise ModelError(f"processor {name} must take {F0} as its third input")
        if not isinstance(node, HarmonicConfig | FilteredNoiseConfig):
            wrong = [signal for signal in node.inputs if signal not in nodes] or ["nothing"] * (not node.inputs)
            if wrong:
                raise ModelError(f"processor {name} takes {wrong[0]}, which is not audio")
        if isinstance(node, CropConfig) and node.location == "front":
            raise ModelError(f"processor {name} cuts off the start of the sound, which a stream cannot do")
    for kinds, what in (
        ((HarmonicConfig,), "harmonic synthesiser"),
        ((FilteredNoiseConfig,), "noise synthesiser"),
        (ROOMS, "room"),
    ):
        if sum(isinstance(node, kinds) for node in nodes.values()) > 1:
            raise ModelError(f"the instrument has more than one {what}, which cannot be played")
    consumed = {signal for node in nodes.values() for signal in node.inputs}
    unused = [name for name in order if name not in consumed]
    if len(unused) != 1:
        raise ModelError(f"the output of processor {unused[0]} is not used")
    playable_columns(model)
    if model.sample_rate_hz % model.frame_rate_hz:
        raise ModelError(f"{model.frame_rate_hz} frames a second do not divide {model.sample_rate_hz} samples a second")
