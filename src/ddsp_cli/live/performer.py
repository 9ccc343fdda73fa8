"""An instrument played live: a block of sound in, a block of the same length out, a fixed time later.

Nothing is known of what will come, so what `adapt` finds out by looking at a whole performance is followed here: the
level of the loudest notes, the noise between them, how loud the player usually is. Shapes: S samples, F frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddsp_cli.adaptation.dynamics import ARTICULATION_DB, MAX_GAIN_DB, fast_envelope_db, within_reach
from ddsp_cli.adaptation.segmentation import SegmentSettings
from ddsp_cli.analysis.mfcc import mfcc_stream
from ddsp_cli.config import ANALYSIS_RATE_HZ, FilteredNoiseConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.live.listener import Heard, Listener
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.synthesis.stream import Stream

#: The level of the loudest notes is forgotten this fast, and the noise between notes rises this fast when notes last.
PEAK_FALL_DB_PER_S = 1.0

FLOOR_RISE_DB_PER_S = 2.0

#: Before anything is heard: a voice near a microphone.
FIRST_PEAK_DB, FIRST_FLOOR_DB, FIRST_USUAL_DB = -5.0, -60.0, -22.0

#: How long "usually" is, for the level that becomes the instrument's usual one.
USUAL_S = 8.0

#: How long the first guess of it counts against what is heard.
FIRST_USUAL_S = 0.1

#: What counts as a note when so little is known of what follows: first frames of singing are less sure of their pitch
#: then, and white and pink noise never come up to this in 20 s.
LIVE_SEGMENTS = SegmentSettings(sure_confidence=0.65)


@dataclass(frozen=True)
class LiveSettings:
    """How to follow.

    Attributes:
      transpose: semitones; what octave suits cannot be known in advance (`choose_octave` knows it afterwards).
      louder_db: added to the level that drives the instrument.
      formant: semitones by which the instrument's resonances move.
      segments: what counts as a segment; of its durations only `bridge_s` counts.
      room: see `Instrument.render`.
      seed: of the noise.
    """

    transpose: float = 0.0
    louder_db: float = 0.0
    formant: float = 0.0
    segments: SegmentSettings = LIVE_SEGMENTS
    room: bool | np.ndarray = True
    seed: int = 0


class Performer:
    """Plays while it listens.

    The output is the same whatever the sizes of the blocks, and `latency_samples` behind the input: half the window
    in which level and pitch are measured (32 ms), one frame, because sound is interpolated towards the next one, and
    the delay of the noise filter; 55.9 ms for `vst` models. An audio driver's buffers come on top.

    Args:
      instrument: what plays.
      settings: how to follow.

    Raises:
      ModelError: the instrument's rate is no multiple of 16 kHz.
    """

    def __init__(self, instrument: Instrument, settings: LiveSettings | None = None) -> None:
        self.settings = settings or LiveSettings()
        self.instrument = instrument
        model = instrument.model
        self._ratio, rest = divmod(model.sample_rate_hz, ANALYSIS_RATE_HZ)
        if rest:
            raise ModelError(f"an instrument at {model.sample_rate_hz} Hz cannot be played live, only offline")
        self._listener = Listener(instrument.bundle.card.features.at(model.frame_rate_hz))
        self._follower = Follower(instrument, self.settings)
        self._timbre = mfcc_stream(model.frame_rate_hz, model.encoder.n_mfccs) if model.encoder else None
        self._mfcc: list[np.ndarray] = []  # rows [C]; their windows end with those of the level
        self._stream = Stream(instrument.bundle, self.settings.seed, self.settings.room, formant=self.settings.formant)
        noise = model.only(FilteredNoiseConfig)
        filter_samples = noise[1].n_bands if noise else 0
        self.latency_samples = self._ratio * self._listener.latency_samples + model.hop_samples + filter_samples
        self._out = np.zeros(self.latency_samples, np.float32)

    @property
    def latency_s(self) -> float:
        """By how much the output is behind the input, without the blocks of an audio driver."""
        return self.latency_samples / self.instrument.model.sample_rate_hz

    def push(self, block: np.ndarray) -> np.ndarray:
        """Takes the next samples [S] float32 at 16 kHz; gives as many seconds of sound at the instrument's rate."""
        block = np.asarray(block, np.float32)
        heard = self._listener.push(block)
        if self._timbre is not None:
            self._mfcc.extend(self._timbre.push(block))
        # One by one, so that blocks cannot matter.
        played = []
        for i in range(len(heard.f0_hz)):
            mfcc = self._mfcc.pop(0)[None] if self._timbre is not None else None
            played.append(self._stream.push(*self._follower.step(heard, i), mfcc))
        ready = np.concatenate([self._out, *played])
        n_out = len(block) * self._ratio
        self._out = ready[n_out:]
        return ready[:n_out]

    def finish(self) -> np.ndarray:
        """What is still under way when the input has ended, `latency_samples` or a little more."""
        return self.push(np.zeros(-(-self.latency_samples // self._ratio), np.float32))


class Follower:
    """From frames as they are heard to what the instrument is to play now.

    Args:
      instrument: its statistics say what is soft, usual and loud.
      settings: how to follow.
    """

    def __init__(self, instrument: Instrument, settings: LiveSettings) -> None:
        self._settings, self._level = settings, instrument.model.level
        self._rate_hz = instrument.model.frame_rate_hz
        self._target = instrument.bundle.card.statistics.level(self._level)
        self._target_usual_db = float(self._target[50])
        self._peak_db, self._floor_db, self._usual_db = FIRST_PEAK_DB, FIRST_FLOOR_DB, FIRST_USUAL_DB
        self._f0_hz = float(440.0 * 2.0 ** ((instrument.bundle.card.statistics.pitch_midi[50] - 69.0) / 12.0))
        self._sung_db = FIRST_USUAL_DB
        self._n_sung = 0
        self._sounding = False
        self._loud_enough = False
        self._missing = 0

    def step(self, heard: Heard, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Frame `i` of what was heard → pitch in Hz, level in dB and gate, [1] each."""
        f0_hz, confidence = float(heard.f0_hz[i]), float(heard.f0_confidence[i])
        loudness_db, level_db = float(heard.loudness_db[i]), float(getattr(heard, self._level)[i])
        self._listen(f0_hz, confidence, loudness_db)
        if self._sounding and self._missing == 0:
            self._f0_hz = f0_hz
            # The mean of all there was, and later of the last seconds: the first note shall not wait for those.
            self._n_sung += 1
            weight = 1.0 / min(self._n_sung + FIRST_USUAL_S * self._rate_hz, USUAL_S * self._rate_hz)
            self._usual_db += weight * (level_db - self._usual_db)
            self._sung_db = level_db
        else:  # a consonant: tongued, as `levels.tame_consonants` does it
            level_db = min(level_db, self._sung_db - ARTICULATION_DB)
        wanted_db = level_db - self._usual_db + self._target_usual_db + self._settings.louder_db
        played_db, gain_db = within_reach(np.array([wanted_db]), self._target)
        if self._level == "power_db":
            gain_db = np.minimum(gain_db + fast_envelope_db(heard.envelope_db[i], heard.power_db[i]), MAX_GAIN_DB)
        # In rests the instrument plays on as softly as it can, unheard: from silence it would take two frames to begin.
        gate = 10.0 ** (gain_db / 20.0) if self._sounding and self._loud_enough else np.zeros(1)
        transposed_hz = self._f0_hz * 2.0 ** (self._settings.transpose / 12.0)
        return (
            np.array([transposed_hz], np.float32),
            played_db.astype(np.float32),
            gate.astype(np.float32),
        )

    def _listen(self, f0_hz: float, confidence: float, loudness_db: float) -> None:
        """Decides whether a note sounds, by hysteresis, and keeps the levels that this rests on."""
        rules = self._settings.segments
        voiced = f0_hz > 0 and confidence >= rules.possible_confidence
        if voiced:
            self._peak_db = max(loudness_db, self._peak_db - PEAK_FALL_DB_PER_S / self._rate_hz)
        else:
            self._floor_db = min(loudness_db, self._floor_db + FLOOR_RISE_DB_PER_S / self._rate_hz)
        on_db = max(self._peak_db - rules.below_peak_db, self._floor_db + rules.above_floor_db)
        on_db = min(on_db, self._peak_db - rules.headroom_db)
        off_db = min(self._peak_db - rules.hold_below_peak_db, on_db - 3.0)
        self._loud_enough = loudness_db > off_db
        # A note that was sure of its pitch goes on with less, and may take it up again soon after it has lost it.
        if not self._sounding:
            self._sounding = voiced and confidence >= rules.sure_confidence and loudness_db > on_db
            self._missing = 0
            return
        self._missing = 0 if voiced and self._loud_enough else self._missing + 1
        if self._missing > rules.bridge_s * self._rate_hz:
            self._sounding = False
