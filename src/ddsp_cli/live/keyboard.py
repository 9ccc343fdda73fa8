"""Play an instrument from a MIDI keyboard: messages in, sound out, one line or several voices.

Keys and sound are separate: `PressedKeys` holds the keys, a `Keyboard` plays them. So another instrument can take over
while keys are held. Shapes: S samples, F frames.
"""

from __future__ import annotations

import math
import queue
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddsp_cli.adaptation.dynamics import within_reach
from ddsp_cli.adaptation.midi import (
    ALL_OFF_CONTROLS,
    BEND_SEMITONES,
    DRUM_CHANNEL,
    RELEASE_DB,
    RELEASE_S,
    RESET_CONTROL,
    SUSTAIN_CONTROL,
    SUSTAIN_DOWN,
    attack_db,
    velocity_db,
)
from ddsp_cli.arrays import FloatArray
from ddsp_cli.audio.resample import LiveResampler
from ddsp_cli.live.performer import LiveSettings, LiveState
from ddsp_cli.scaling import midi_to_hz
from ddsp_cli.synthesis.instrument import Instrument

MODULATION_CONTROL = 1

#: Vibrato at the upper end of the modulation wheel.
VIBRATO_HZ, VIBRATO_SEMITONES = 5.5, 0.5

#: Largest increase of the level by aftertouch.
AFTERTOUCH_DB = 8.0

#: Values of F0 in a frame.
FINE_F0 = 4

#: Largest number of voices.
MAX_VOICES = 16


@dataclass
class Voice:
    """A sounding note; times in seconds since the start.

    Attributes:
      channel, key: of the message that started it.
      velocity: 1 to 127.
      start_s: when it began.
      is_bound: it follows another note without a rest, legato.
      key_up: the key is released; the pedal may still hold the note.
      release_s: when it began to end; infinity while it is held.
      pressure: aftertouch of this key, 0..1.
      number: counts notes, so that a renderer sees that this is another one.
    """

    channel: int = 0
    key: int = 60
    velocity: int = 64
    start_s: float = -math.inf
    is_bound: bool = False
    key_up: bool = True
    release_s: float = -math.inf
    pressure: float = 0.0
    number: int = 0

    @property
    def is_held(self) -> bool:
        """Whether it sounds and is not in its release."""
        return self.release_s == math.inf

    def shape_db(self, now_s: float) -> float:
        """Returns the envelope in dB: attack and settling of `midi.attack_db`, then a linear release.

        The release begins when the key is up and no pedal holds the note.
        """
        shape_db = float(attack_db(np.asarray(now_s - self.start_s), self.is_bound))
        return shape_db - RELEASE_DB * min(max((now_s - self.release_s) / RELEASE_S, 0.0), 1.0)

    def gate(self, now_s: float) -> float:
        """Returns 1 while the key is held, then a value that falls to 0."""
        if self.is_held:
            return 1.0
        return min(max(1.0 - (now_s - self.release_s) / RELEASE_S, 0.0), 1.0)


class PressedKeys:
    """State of a keyboard: notes, pedal, wheels. Messages come from another thread and count from the next frame on.

    Args:
      n_voices: 1 for one line, legato where keys overlap; more for chords.
    """

    def __init__(self, n_voices: int = 1) -> None:
        self.now_s = 0.0  # up to where sound was rendered
        self.messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.voices = [Voice() for _ in range(n_voices)]
        self.bend_semitones = self.modulation = self.pressure = 0.0
        self._pedals: set[int] = set()
        self._pressed: list[tuple[int, int, int]] = []  # channel, key, velocity, in order; for one line only
        self._n_notes = 0

    def read(self, now_s: float) -> None:
        """Takes the messages that have arrived."""
        while True:
            try:
                message = self.messages.get_nowait()
            except queue.Empty:
                return
            self.take(message, now_s)

    def take(self, message: Any, now_s: float) -> None:
        """Takes one message of mido; messages of the drum channel and of other kinds are ignored."""
        kind, channel = message.type, getattr(message, "channel", DRUM_CHANNEL)
        if channel == DRUM_CHANNEL:
            return
        if kind == "note_on" and message.velocity > 0:
            self.press(channel, message.note, message.velocity, now_s)
        elif kind in {"note_on", "note_off"}:
            self._release(channel, message.note, now_s)
        elif kind == "pitchwheel":
            self.bend_semitones = message.pitch / 8192.0 * BEND_SEMITONES
        elif kind == "aftertouch":
            self.pressure = message.value / 127.0
        elif kind == "polytouch":
            for voice in self.voices:
                if voice.is_held and (voice.channel, voice.key) == (channel, message.note):
                    voice.pressure = message.value / 127.0
        elif kind == "control_change":
            self._control(channel, message.control, message.value, now_s)

    def _control(self, channel: int, control: int, value: int, now_s: float) -> None:
        if control == MODULATION_CONTROL:
            self.modulation = value / 127.0
        elif control == SUSTAIN_CONTROL and value >= SUSTAIN_DOWN:
            self._pedals.add(channel)
        elif control == SUSTAIN_CONTROL:
            self._lift_pedal(channel, now_s)
        elif control == RESET_CONTROL:
            self.bend_semitones = self.modulation = self.pressure = 0.0
            for voice in self.voices:
                if voice.channel == channel:
                    voice.pressure = 0.0
            self._lift_pedal(channel, now_s)
        elif control in ALL_OFF_CONTROLS:
            self._pressed = [held for held in self._pressed if held[0] != channel]
            self._pedals.discard(channel)
            for voice in self.voices:
                if voice.is_held and voice.channel == channel:
                    voice.key_up, voice.release_s = True, now_s

    def _lift_pedal(self, channel: int, now_s: float) -> None:
        """Ends the notes that only the pedal of a channel holds."""
        self._pedals.discard(channel)
        for voice in self.voices:
            if voice.is_held and voice.key_up and voice.channel == channel:
                voice.release_s = now_s

    def press(self, channel: int, key: int, velocity: int, now_s: float = 0.0) -> None:
        """Handles a key press."""
        if len(self.voices) == 1:
            self._pressed = [held for held in self._pressed if held[:2] != (channel, key)]
            self._pressed.append((channel, key, velocity))
            # Overlapping keys are legato; a note that only the pedal holds is not continued.
            voice = self.voices[0]
            self._begin(voice, channel, key, velocity, now_s, is_bound=voice.is_held and not voice.key_up)
            return
        same = [voice for voice in self.voices if voice.is_held and (voice.channel, voice.key) == (channel, key)]
        free = sorted((voice for voice in self.voices if not voice.is_held), key=lambda voice: voice.release_s)
        oldest = min(self.voices, key=lambda voice: (not voice.key_up, voice.start_s))
        self._begin((same or free or [oldest])[0], channel, key, velocity, now_s, is_bound=False)

    def _begin(self, voice: Voice, channel: int, key: int, velocity: int, now_s: float, is_bound: bool) -> None:
        self._n_notes += 1
        voice.channel, voice.key, voice.velocity, voice.is_bound = channel, key, velocity, is_bound
        voice.start_s, voice.release_s, voice.key_up, voice.pressure = now_s, math.inf, False, 0.0
        voice.number = self._n_notes

    def _release(self, channel: int, key: int, now_s: float) -> None:
        self._pressed = [held for held in self._pressed if held[:2] != (channel, key)]
        for voice in self.voices:
            if not voice.is_held or (voice.channel, voice.key) != (channel, key):
                continue
            if self._pressed:  # one line: back to the key that is still down
                self._begin(voice, *self._pressed[-1], now_s, is_bound=True)
                continue
            voice.key_up = True
            if channel not in self._pedals:
                voice.release_s = now_s


class _Part:
    """One voice of a `Keyboard`: a stream of an instrument without its room.

    Args:
      instrument: to play.
      settings: formant and loudness count.
      seed: of the noise, another for each voice.
    """

    def __init__(self, instrument: Instrument, settings: LiveSettings, seed: int) -> None:
        model = instrument.model
        self._hop_s = model.hop_samples / model.sample_rate_hz
        self._n_fine = FINE_F0 if model.hop_samples % FINE_F0 == 0 else 1
        self._hop_samples = model.hop_samples
        self._target_db = instrument.bundle.card.statistics.level(model.level)
        self._louder_db = settings.louder_db
        self._stream = instrument.stream(seed, room=False, formant=settings.formant)
        self._number = 0
        self.f0_hz = float(midi_to_hz(np.float64(instrument.bundle.card.statistics.pitch_midi[50])))
        self._stream.push(np.full(self._n_fine, self.f0_hz, np.float32), self._softest_db(), np.zeros(1, np.float32))
        self._n_closed = self._stream.rest_frames  # frames of the rest since the last note

    @property
    def latency_samples(self) -> int:
        """See `Stream.latency_samples`."""
        return self._stream.latency_samples

    def _softest_db(self) -> FloatArray:
        """Returns the level of a frame [1] in a rest."""
        return within_reach(self._target_db[:1], self._target_db)[0].astype(np.float32)

    def frame(self, voice: Voice, hands: PressedKeys, now_s: float, transpose: float) -> FloatArray:
        """Renders the hop [S] up to the next frame, which has the present state of the keys."""
        at_s = now_s + self._hop_s
        gate = voice.gate(at_s)
        # Nothing is rendered once the decoder is back in its first state and has seen a frame of silence. Without that
        # frame the attack of the next note would be missing.
        if gate == 0.0 and self._n_closed >= self._stream.rest_frames:
            return np.zeros(self._hop_samples, np.float32)
        times_s = at_s + self._hop_s * np.arange(self._n_fine) / self._n_fine
        vibrato = hands.modulation * VIBRATO_SEMITONES * np.sin(2.0 * math.pi * VIBRATO_HZ * times_s)
        f0_hz = midi_to_hz(voice.key + vibrato + hands.bend_semitones + transpose)
        if voice.number != self._number and self._n_closed:
            self._stream.retune(float(f0_hz[0]))  # silent so far: the note before has ended
        self._number, self.f0_hz = voice.number, float(f0_hz[0])
        if gate == 0.0 and self._n_closed:
            self._n_closed += 1
            return self._stream.push(f0_hz.astype(np.float32), self._softest_db(), np.zeros(1, np.float32))
        pressure_db = AFTERTOUCH_DB * max(hands.pressure, voice.pressure)
        level_db = velocity_db(voice.velocity, self._target_db) + voice.shape_db(at_s)
        wanted_db = np.array([level_db + pressure_db + self._louder_db])
        played_db, gain_db = within_reach(wanted_db, self._target_db)
        gates = (gate * 10.0 ** (gain_db / 20.0)).astype(np.float32)
        self._n_closed = 0 if gate > 0.0 else self._n_closed + 1
        return self._stream.push(f0_hz.astype(np.float32), played_db.astype(np.float32), gates)


class Keyboard:
    """Plays the pressed keys.

    A frame is rendered when the device needs its first sample, with the keys as they are then.

    Args:
      instrument: to play.
      settings: `transpose`, `louder_db`, `formant`, `room` and `seed` count.
      hands: the pressed keys.
      sample_rate_hz: of the device.
    """

    def __init__(self, instrument: Instrument, settings: LiveSettings, hands: PressedKeys, sample_rate_hz: int) -> None:
        model = instrument.model
        self._hands = hands
        self._parts = [_Part(instrument, settings, settings.seed + i) for i in range(len(hands.voices))]
        self._hop_samples, self._model_rate_hz = model.hop_samples, model.sample_rate_hz
        make_reverb = instrument.room_factory(settings.room)
        self._reverb = None if make_reverb is None else make_reverb()
        self._resample = LiveResampler(model.sample_rate_hz, sample_rate_hz)
        own_samples = self._parts[0].latency_samples + self._resample.delay_samples
        self._latency_samples = math.ceil(own_samples / model.sample_rate_hz * sample_rate_hz)
        self._transpose = settings.transpose
        self._ready = np.zeros(0, np.float32)
        self._now_s = hands.now_s

    @property
    def latency_samples(self) -> int:
        """Largest delay of a key: one frame, the delay of the noise filter, and that of the resampler."""
        return self._latency_samples

    @property
    def state(self) -> LiveState:
        """The newest note."""
        newest = max(range(len(self._parts)), key=lambda i: self._hands.voices[i].start_s)
        voice, f0_hz = self._hands.voices[newest], self._parts[newest].f0_hz
        pressed_hz = float(midi_to_hz(np.float64(voice.key + self._hands.bend_semitones)))
        return LiveState(pressed_hz, f0_hz, voice.is_held)

    def adjust(self, *, transpose: float | None = None, below_peak_db: float | None = None) -> None:
        """Changes the transposition from the next frame on; there is no gate."""
        if transpose is not None:
            self._transpose = transpose

    def push(self, block: FloatArray) -> FloatArray:
        """Returns as many samples as the block has, [S]; its values are ignored."""
        while len(self._ready) < len(block):
            self._hands.read(self._now_s)
            hop = np.zeros(self._hop_samples, np.float32)
            for part, voice in zip(self._parts, self._hands.voices, strict=True):
                hop += part.frame(voice, self._hands, self._now_s, self._transpose)
            if self._reverb is not None:
                hop = self._reverb.push(hop)
            self._ready = np.concatenate([self._ready, self._resample.push(hop)])
            self._now_s += self._hop_samples / self._model_rate_hz
            self._hands.now_s = self._now_s
        out, self._ready = self._ready[: len(block)], self._ready[len(block) :]
        return out
