"""Play an instrument live: a block of sound in, a block of the same length out, with a fixed delay.

    performer = Performer(instrument, LiveSettings(transpose=12.0), sample_rate_hz=48000)
    while playing:
        write(performer.push(read()))
    write(performer.finish())

`Listener` measures F0 and level while the sound arrives, each frame with a short look-ahead; `LiveAdaptation` adapts
them to the instrument; `Performer` plays them. The rest of a performance is not known yet, so values that `adaptation`
measures in a whole performance are estimated frame by frame: the level of the loudest notes, the noise floor between
them, the usual level of the player.

Shapes: S samples (of a listener at 16 kHz), F frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from ddsp_cli.adaptation.dynamics import ARTICULATION_DB, MAX_GAIN_DB, fast_envelope_db, within_reach
from ddsp_cli.adaptation.segmentation import SegmentSettings
from ddsp_cli.analysis.loudness import (
    ENVELOPE_WINDOW_S,
    PERIODS_IN_WINDOW,
    FrameStream,
    beyond_ripple,
    envelope_stream,
    loudness_stream,
    power_stream,
    short_windows_s,
)
from ddsp_cli.analysis.mfcc import mfcc_stream
from ddsp_cli.analysis.pitch.swift_f0 import FRAME_INPUT, FRAME_TRACKED, SWIFT_HOP_SAMPLES, SwiftFrameTracker
from ddsp_cli.arrays import DoubleArray, FloatArray
from ddsp_cli.audio.read import MAX_AMPLITUDE
from ddsp_cli.audio.resample import LiveResampler
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.errors import ModelError, UsageError
from ddsp_cli.scaling import midi_to_hz
from ddsp_cli.synthesis.instrument import Instrument

Latency: TypeAlias = Literal["safe", "low"]

#: Look-ahead in samples after a frame's time. `safe`: half the window of the power, 32 ms.
#: `low`: 5.5 ms; windows of the level end there, and so are late by up to 26.5 ms.
LOOKAHEAD_SAMPLES: dict[Latency, int] = {"safe": 512, "low": 88}

#: Longest window of the fast envelope in `low` latency: a shorter one ripples with the periods of a low voice.
LOW_ENVELOPE_S = 0.02

#: Largest rate of power and envelope: that of a transfer.
FINE_RATE_HZ = FeatureSpec().frame_rate_hz

#: Samples before the frame that swift-f0 tracks, and length of its input, which has 176 ms on either side of the frame.
#: Samples that have not arrived are extrapolated: by the last samples in reverse, and in `low` latency, if the sound is
#: periodic, by repeating its last period.
BEFORE_SAMPLES, TRACKED_SAMPLES = FRAME_TRACKED * SWIFT_HOP_SAMPLES, FRAME_INPUT * SWIFT_HOP_SAMPLES

#: Length of the two stretches that are compared to find a period, and the range of the period: 48 Hz to 2 kHz.
PERIOD_WINDOW_SAMPLES, PERIODS_SAMPLES = 200, (8, 330)

#: The sound counts as periodic from this correlation of the two stretches on.
PERIODIC = 0.84

#: Penalty of longer periods, in correlation per sample, so that the shortest of several multiples of a period is taken.
#: Noise that is repeated with a longer period would be tracked an octave lower.
LONGER_PERIOD_COST = 0.002

#: The change of the period is measured over `GLIDE_SAMPLES`. It is extrapolated from the middle of the stretch to its
#: end, by at most `GLIDE_SHARE` of the period. Periods that differ by more than `SAME_PERIOD_SHARE` are not one glide.
GLIDE_SAMPLES, GLIDE_SHARE, SAME_PERIOD_SHARE = 160, 0.01, 0.05

#: With a shorter look-ahead the tracker more often finds a pitch in noise. In `low` latency the confidence of periodic
#: and of other sounds is scaled by these factors, so that noise stays below the same threshold as in `safe`.
LOW_CONFIDENCE = {True: 0.93, False: 0.85}

#: Largest rate of pitch measurements; F0 is interpolated between them.
PITCH_RATE_HZ = 62

#: Two measurements further apart than this, in octaves, belong to two notes and are not interpolated.
SAME_NOTE_OCTAVES = 1.0 / 6.0

#: The buffer is cut when its read position is beyond this.
BUFFER_SAMPLES = 1 << 14


@dataclass(frozen=True)
class LiveFrames:
    """Measured frames; units as in `analysis.features.Features`.

    Arrays [F]; power and envelopes [F·n], n values a frame, of which the last is at its time. `envelope_db` is measured
    in a window of one length, `sharp_db` in one as short as F0 allows.
    """

    f0_hz: FloatArray
    f0_confidence: FloatArray
    loudness_db: FloatArray
    power_db: FloatArray
    envelope_db: FloatArray
    sharp_db: FloatArray


class _Meter:
    """Measures a level n times a frame; of the n values the last is at the time of the frame.

    Args:
      stream: measures the level.
      n_fine: n.
      floor_db: level of the silence before the recording.
    """

    def __init__(self, stream: FrameStream, n_fine: int, floor_db: float) -> None:
        self._stream, self._n_fine = stream, n_fine
        self._waiting = np.full(n_fine - 1, floor_db, np.float32)

    @property
    def ahead_samples(self) -> int:
        """See `FrameStream`."""
        return self._stream.ahead_samples

    @property
    def n_ready(self) -> int:
        """Number of frames that can be taken."""
        return len(self._waiting) // self._n_fine

    def push(self, block: FloatArray) -> None:
        """Takes the next samples, [S] at 16 kHz."""
        self._waiting = np.concatenate([self._waiting, self._stream.push(block)])

    def take(self, n_frames: int) -> FloatArray:
        """Returns the levels of the next frames in dB, [F·n]."""
        n_taken = n_frames * self._n_fine
        taken, self._waiting = self._waiting[:n_taken], self._waiting[n_taken:]
        return taken


class Listener:
    """Takes blocks of any size and returns the frames that they complete.

    Args:
      spec: frame rate, windows, floor.
      latency: look-ahead after a frame, see `LOOKAHEAD_SAMPLES`.
    """

    def __init__(self, spec: FeatureSpec, latency: Latency = "safe") -> None:
        self.spec = spec
        self._track_pitch = SwiftFrameTracker()
        self._is_low, self._lookahead = latency == "low", LOOKAHEAD_SAMPLES[latency]
        #: Samples of the level windows after a frame; None for half of them.
        self.ahead_samples = self._lookahead if self._is_low else None
        most = max(1, FINE_RATE_HZ // spec.frame_rate_hz)
        self._n_fine = next(n for n in range(most, 0, -1) if spec.hop_samples % n == 0)
        fine = spec.at(spec.frame_rate_hz * self._n_fine)
        longest_s = LOW_ENVELOPE_S if self._is_low else ENVELOPE_WINDOW_S
        windows_s = [longest_s, *(window_s for window_s in short_windows_s(fine) if window_s < longest_s)]
        self._loudness = _Meter(loudness_stream(spec, self.ahead_samples), 1, spec.floor_db)
        self._power = _Meter(power_stream(fine, self.ahead_samples), self._n_fine, spec.floor_db)
        self._envelopes = {window_s: self._envelope_meter(fine, window_s) for window_s in windows_s}
        self._meters = [self._loudness, self._power, *self._envelopes.values()]
        self._longest_ahead = max(self._lookahead, *(meter.ahead_samples for meter in self._meters))
        self._voiced_hz = 0.0  # F0 of the last frame that had one
        self._stride_frames = max(1, -(-spec.frame_rate_hz // PITCH_RATE_HZ))  # from one measured pitch to the next
        self._buffer = np.zeros(BEFORE_SAMPLES, np.float32)  # silence before the start
        self._centre = 0  # of the next pitch, in samples after the buffer's first `BEFORE_SAMPLES`
        self._n_given = 0  # frames
        self._last: tuple[float, float] | None = None
        self._pitch: list[tuple[float, float]] = []

    @property
    def latency_samples(self) -> int:
        """Largest number of input samples after a frame's centre that are needed before it is returned."""
        stride = (self._stride_frames - 1) * self.spec.hop_samples if self._stride_frames > 1 else 0
        return self._longest_ahead + stride

    @property
    def n_needed(self) -> int:
        """Number of samples, from the start, without which the next frame cannot be complete."""
        return self._n_given * self.spec.hop_samples + self._longest_ahead

    def push(self, block: np.ndarray) -> LiveFrames:
        """Takes the next samples [S] float32 at 16 kHz; returns the frames that they complete."""
        self._buffer = np.concatenate([self._buffer, block])
        for meter in self._meters:
            meter.push(block)
        while BEFORE_SAMPLES + self._centre + self._lookahead <= len(self._buffer):
            self._measure_pitch()
        n_ready = min(len(self._pitch), *(meter.n_ready for meter in self._meters))
        pitch, self._pitch = self._pitch[:n_ready], self._pitch[n_ready:]
        self._n_given += n_ready
        f0_hz, confidence = np.array(pitch, np.float32).reshape(-1, 2).T
        envelope_db, *shorter_db = (meter.take(n_ready) for meter in self._envelopes.values())
        held_hz, sharp_db = np.repeat(self._held_hz(f0_hz, confidence), self._n_fine), envelope_db
        for window_s, short_db in zip(list(self._envelopes)[1:], shorter_db, strict=True):
            sharp_db = np.where(held_hz * window_s >= PERIODS_IN_WINDOW, short_db, sharp_db)
        loudness_db, power_db = self._loudness.take(n_ready), self._power.take(n_ready)
        return LiveFrames(f0_hz, confidence, loudness_db, power_db, envelope_db, sharp_db)

    def _envelope_meter(self, fine: FeatureSpec, window_s: float) -> _Meter:
        stream = envelope_stream(ANALYSIS_RATE_HZ, fine.hop_samples, fine.floor_db, window_s, self.ahead_samples)
        return _Meter(stream, self._n_fine, fine.floor_db)

    def _held_hz(self, f0_hz: FloatArray, confidence: FloatArray) -> FloatArray:
        """Returns F0 [F]; a frame without one has that of the frame before."""
        held_hz = np.empty_like(f0_hz)
        for i, is_voiced in enumerate((f0_hz > 0) & (confidence >= LIVE_SEGMENTS.possible_confidence)):
            self._voiced_hz = float(f0_hz[i]) if is_voiced else self._voiced_hz
            held_hz[i] = self._voiced_hz
        return held_hz

    def _measure_pitch(self) -> None:
        """Measures pitch once and interpolates the frames up to it."""
        known = self._buffer[self._centre : BEFORE_SAMPLES + self._centre + self._lookahead]
        n_missing = TRACKED_SAMPLES - len(known)
        extrapolated, factor = known[::-1][:n_missing], 1.0
        if self._is_low:
            extrapolated, is_periodic = continued(known, n_missing)
            factor = LOW_CONFIDENCE[is_periodic]
        f0_hz, confidence = self._track_pitch(np.concatenate([known, extrapolated]))
        now = f0_hz, factor * confidence
        last = self._last if self._last is not None else now
        first = self._last is None
        for step in range(self._stride_frames if first else 1, self._stride_frames + 1):
            share = step / self._stride_frames
            # Between two notes the nearer measurement counts.
            same = abs(np.log2(max(now[0], 1.0) / max(last[0], 1.0))) < SAME_NOTE_OCTAVES
            f0_hz = last[0] ** (1.0 - share) * now[0] ** share if same else (last if share <= 0.5 else now)[0]
            self._pitch.append((f0_hz, (1.0 - share) * last[1] + share * now[1]))
        self._last = now
        step = self._stride_frames * self.spec.hop_samples
        self._centre += step
        if self._centre > BUFFER_SAMPLES:
            self._buffer = self._buffer[self._centre :]
            self._centre = 0


def continued(known: FloatArray, n_samples: int) -> tuple[FloatArray, bool]:
    """Extrapolates a sound: repeats its last period, or reverses the sound if it is not periodic.

    Telephones conceal lost packets in this way (ITU-T G.711, appendix I). The period is measured to a fraction of a
    sample, since a whole number would be up to 50 cents off at 1 kHz. It follows a glide up to the end of the sound,
    since the middle of the compared stretch is 6 ms old.

    Args:
      known: [S], at least `GLIDE_SAMPLES`, `PERIOD_WINDOW_SAMPLES` and the longest period.
      n_samples: number of samples to add.

    Returns:
      The samples that follow, [n_samples] float32, and whether the sound is periodic.
    """
    period, likeness = period_samples(known)
    if likeness < PERIODIC:
        return known[::-1][:n_samples], False
    before, likeness_before = period_samples(known[:-GLIDE_SAMPLES])
    if likeness_before > PERIODIC and abs(before - period) < SAME_PERIOD_SHARE * period:
        slope = (period - before) / GLIDE_SAMPLES
        limit = GLIDE_SHARE * period
        period += float(np.clip(slope * PERIOD_WINDOW_SAMPLES / 2.0, -limit, limit))
    n_last = math.ceil(period) + 1
    begin = n_last - period
    last = known[-n_last:]
    # The sample after the last one equals the one a period before it.
    last = np.append(last, np.interp(begin, np.arange(n_last), last))
    positions = begin + np.mod(np.arange(n_samples), period)
    return np.interp(positions, np.arange(n_last + 1), last).astype(np.float32), True


def period_samples(known: FloatArray) -> tuple[float, float]:
    """Measures the period at the end of a sound [S] by the normalised autocorrelation of its last stretch.

    Returns:
      The period in samples, refined by a parabola through the peak, and the correlation there; -1 if there is no
      peak.
    """
    shortest, longest = PERIODS_SAMPLES
    last = known[-PERIOD_WINDOW_SAMPLES:]
    before = known[-PERIOD_WINDOW_SAMPLES - longest : -shortest]
    sums = np.concatenate([[0.0], np.cumsum(np.square(before, dtype=np.float64))])
    energies = sums[PERIOD_WINDOW_SAMPLES:] - sums[:-PERIOD_WINDOW_SAMPLES]
    alike = np.correlate(before, last, "valid") / np.sqrt(energies * (last @ last) + 1e-9)
    alike = alike[::-1]  # nearest first
    middle = alike[1:-1]
    peaks = np.flatnonzero((middle >= alike[:-2]) & (middle >= alike[2:]))
    if not len(peaks):
        return float(shortest), -1.0
    left, middle, right = alike[peaks], alike[peaks + 1], alike[peaks + 2]
    offset = 0.5 * (left - right) / np.minimum(left - 2.0 * middle + right, -1e-9)
    height = middle - 0.25 * (left - right) * offset
    best = int(np.argmax(height - LONGER_PERIOD_COST * peaks))
    return shortest + 1 + float(peaks[best] + offset[best]), float(height[best])


#: Rate at which the estimate of the loudest notes falls.
PEAK_FALL_DB_PER_S = 1.0

#: Rate at which the estimate of the noise floor rises during notes.
FLOOR_RISE_DB_PER_S = 2.0

#: Initial estimates, for a voice near a microphone: loudness of the loudest notes and of the noise floor, and usual
#: level of the notes.
FIRST_PEAK_DB, FIRST_FLOOR_DB, FIRST_USUAL_DB = -5.0, -60.0, -22.0

#: Time constant of the usual level.
USUAL_S = 8.0

#: Weight of the first estimate of the usual level, as a duration.
FIRST_USUAL_S = 0.1

#: Thresholds of a note without look-ahead, where the tracker is less certain in the first frames of a note.
#: White and pink noise never reach this confidence in 20 s.
LIVE_SEGMENTS = SegmentSettings(sure_confidence=0.65)

#: Rates of audio devices.
DEVICE_RATES_HZ = (8000, 192000)


@dataclass(frozen=True)
class LiveSettings:
    """Settings of a live performance.

    Attributes:
      transpose: semitones; `adaptation.adapt.choose_octave` cannot choose the octave in advance.
      louder_db: added to the level that drives the instrument.
      formant: semitones by which the instrument's resonances move.
      segments: settings of a note; of its durations only `bridge_s` is used.
      room: see `Instrument.render`.
      seed: of the noise.
      latency: `safe` measures most exactly, `low` has 26.5 ms less look-ahead.
    """

    transpose: float = 0.0
    louder_db: float = 0.0
    formant: float = 0.0
    segments: SegmentSettings = LIVE_SEGMENTS
    room: bool | FloatArray = True
    seed: int = 0
    latency: Latency = "safe"


def check_latency(latency: str) -> Latency:
    """Checks the name of a latency.

    Raises:
      UsageError: the name is not known.
    """
    latency = latency.lower()
    if latency not in LOOKAHEAD_SAMPLES:
        raise UsageError(f"latency {latency} is not known", "Give safe or low.", parameter="latency")
    return "low" if latency == "low" else "safe"


@dataclass(frozen=True)
class LiveState:
    """Input and output of the last frame, for meters.

    Attributes:
      f0_hz: of the input, the last that was voiced.
      played_hz: of the output.
      plays: whether a note sounds.
    """

    f0_hz: float
    played_hz: float
    plays: bool


class Performer:
    """Turns input into output of an instrument, block by block.

    The output does not depend on the sizes of the blocks, and is `latency_samples` behind the input: half the window
    in which level and pitch are measured (32 ms; 5.5 ms in `low` latency), and one frame, because sound is interpolated
    towards the next one; 52 or 25.5 ms for `vst` models. At the rate of a device resampling adds 2 to 5 ms. The
    driver's buffers come on top.

    Args:
      instrument: to play.
      settings: see `LiveSettings`.
      sample_rate_hz: of the device: of the blocks pushed and of those returned. None for blocks at 16 kHz in and at the
        instrument's rate out, without resampling.

    Raises:
      ModelError: the instrument's rate is not a multiple of 16 kHz.
      UsageError: the rate of the device is not one between 8 and 192 kHz.
    """

    def __init__(
        self, instrument: Instrument, settings: LiveSettings | None = None, sample_rate_hz: int | None = None
    ) -> None:
        self.settings = settings or LiveSettings()
        self.instrument = instrument
        model = instrument.model
        ratio, rest = divmod(model.sample_rate_hz, ANALYSIS_RATE_HZ)
        if rest:
            raise ModelError(f"an instrument at {model.sample_rate_hz} Hz cannot be played live, only offline")
        lowest_hz, highest_hz = DEVICE_RATES_HZ
        if sample_rate_hz is not None and not lowest_hz <= sample_rate_hz <= highest_hz:
            raise UsageError(f"an audio device runs at {lowest_hz} to {highest_hz} Hz, not at {sample_rate_hz}")
        #: Rates of the blocks that are pushed and of those that are returned.
        self.input_rate_hz = sample_rate_hz or ANALYSIS_RATE_HZ
        self.output_rate_hz = sample_rate_hz or model.sample_rate_hz
        self._listener = Listener(instrument.bundle.card.features.at(model.frame_rate_hz), self.settings.latency)
        self._adaptation = LiveAdaptation(instrument, self.settings)
        self._timbre = (
            mfcc_stream(model.frame_rate_hz, model.encoder.n_mfccs, self._listener.ahead_samples)
            if model.encoder
            else None
        )
        self._mfcc: list[FloatArray] = []  # rows [C]; their windows end with those of the level
        self._stream = instrument.stream(
            self.settings.seed, self.settings.room, gate_ends=True, formant=self.settings.formant
        )
        own_samples = ratio * self._listener.latency_samples + self._stream.latency_samples
        self._resample_in = LiveResampler(self.input_rate_hz, ANALYSIS_RATE_HZ)
        self._resample_out = LiveResampler(model.sample_rate_hz, self.output_rate_hz)
        self._latency_samples = own_samples
        if sample_rate_hz is not None:
            # Each resampler waits for its window, plus at most one sample of its output.
            delay_s = self._resample_in.delay_samples / self.input_rate_hz + 1.0 / ANALYSIS_RATE_HZ
            delay_s += (own_samples + self._resample_out.delay_samples) / model.sample_rate_hz
            self._latency_samples = math.ceil(delay_s * sample_rate_hz) + 1
        self._ready = np.zeros(self._latency_samples, np.float32)
        #: Input that waits until it can complete a frame: measuring each block by itself takes longer.
        self._waiting: list[FloatArray] = []
        self._n_pushed = 0

    @property
    def latency_samples(self) -> int:
        """Delay of the output in samples, without the buffers of an audio driver."""
        return self._latency_samples

    @property
    def latency_s(self) -> float:
        """Delay of the output in seconds."""
        return self._latency_samples / self.output_rate_hz

    @property
    def state(self) -> LiveState:
        """Meter of the last frame, `latency_samples` before it is audible."""
        return self._adaptation.state

    def adjust(self, *, transpose: float | None = None, below_peak_db: float | None = None) -> None:
        """Changes settings from the next frame on, without a break in the sound.

        Args:
          transpose: semitones; None leaves it unchanged.
          below_peak_db: notes more than this below the loudest ones are silent; None leaves it unchanged.
        """
        if transpose is not None and transpose != self.settings.transpose:
            self.settings = replace(self.settings, transpose=transpose)
        if below_peak_db is not None and below_peak_db != self.settings.segments.below_peak_db:
            segments = self.settings.segments.with_threshold(below_peak_db)
            self.settings = replace(self.settings, segments=segments)
        self._adaptation.settings = self.settings

    def take_over(self, other: Performer) -> None:
        """Takes over another performer's estimates of the loudest notes, the noise floor and the usual level."""
        self._adaptation.take_over(other._adaptation)

    def push(self, block: FloatArray) -> FloatArray:
        """Takes the next samples of the input; returns as many of the output.

        Args:
          block: [S] floats at `input_rate_hz`, of any length. NaN, infinity and samples beyond `MAX_AMPLITUDE` count
            as silence: one of them would stay in filters and network, and nothing be heard any more.

        Returns:
          [S·`output_rate_hz`/`input_rate_hz`] float32.

        Raises:
          UsageError: the block has channels, or integers.
        """
        block = np.asarray(block)
        if block.ndim != 1:
            hint = "Give one channel, [samples], such as block[:, 0] of [samples, channels]."
            raise UsageError(f"the block has the shape {block.shape}", hint, parameter="block")
        if block.dtype.kind != "f":
            hint = "Give floats within ±1; divide int16 by 32768."
            raise UsageError(f"the samples of the block are {block.dtype}", hint, parameter="block")
        # a copy: the block may wait, and callers reuse their memory
        block = np.where(np.abs(block) <= MAX_AMPLITUDE, block, 0.0).astype(np.float32)
        n_out = len(block) * self.output_rate_hz // self.input_rate_hz
        self._waiting.append(block)
        self._n_pushed += len(block)
        if self._n_pushed < self._resample_in.n_needed(self._listener.n_needed):
            out, self._ready = self._ready[:n_out], self._ready[n_out:]
            return out
        resampled = self._resample_in.push(np.concatenate(self._waiting))
        self._waiting = []
        frames = self._listener.push(resampled)
        if self._timbre is not None:
            self._mfcc.extend(self._timbre.push(resampled))
        parts = [self._ready]
        for i in range(len(frames.f0_hz)):  # one by one, so that the sizes of blocks cannot matter
            mfcc = self._mfcc.pop(0)[None] if self._timbre is not None else None
            adapted = self._adaptation.step(frames, i)
            if self._adaptation.begins:
                self._stream.retune(float(adapted[0][0]))  # no glide from the pitch before the silence
            parts.append(self._resample_out.push(self._stream.push(*adapted, mfcc)))
        ready = np.concatenate(parts)
        self._ready = ready[n_out:]
        return ready[:n_out]

    def finish(self) -> FloatArray:
        """Returns the output after the end of the input: the last `latency_samples`, or a few more."""
        n_in = -(-self._latency_samples * self.input_rate_hz // self.output_rate_hz)
        return self.push(np.zeros(n_in, np.float32))


class LiveAdaptation:
    """Adapts features to the instrument, frame by frame.

    Args:
      instrument: its statistics give soft, usual and loud levels.
      settings: see `LiveSettings`.
    """

    def __init__(self, instrument: Instrument, settings: LiveSettings) -> None:
        self.settings, self._level = settings, instrument.model.level
        self._rate_hz = instrument.model.frame_rate_hz
        statistics = instrument.bundle.card.statistics
        self._target_db = statistics.level(self._level)
        self._target_usual_db = float(self._target_db[50])
        self._peak_db, self._floor_db, self._usual_db = FIRST_PEAK_DB, FIRST_FLOOR_DB, FIRST_USUAL_DB
        self._f0_hz = float(midi_to_hz(np.float64(statistics.pitch_midi[50])))
        self._note_db = FIRST_USUAL_DB
        self._n_voiced = 0
        self._in_note = False
        self._loud_enough = False
        self._n_unvoiced = 0
        self._gain = 1.0  # of the gate at the last frame, if it was open
        self._was_open = self._is_open = False

    @property
    def begins(self) -> bool:
        """Whether the last frame is the first that sounds after silence."""
        return self._is_open and not self._was_open

    @property
    def state(self) -> LiveState:
        """Meter of the last frame."""
        plays = self._in_note and self._loud_enough
        return LiveState(self._f0_hz, self._f0_hz * 2.0 ** (self.settings.transpose / 12.0), plays)

    def take_over(self, other: LiveAdaptation) -> None:
        """Takes over the estimates of another adaptation, as far as both use the same measure."""
        self._peak_db, self._floor_db = other._peak_db, other._floor_db
        if self._level == other._level:
            self._usual_db, self._note_db, self._n_voiced = other._usual_db, other._note_db, other._n_voiced
            self._n_voiced = round(self._n_voiced * self._rate_hz / other._rate_hz)

    def step(self, frames: LiveFrames, i: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Adapts frame `i` of the features.

        Returns:
          Pitch in Hz [1], level in dB [1] and gate [n] of the instrument; the gate is that since the frame before.
        """
        f0_hz, confidence = float(frames.f0_hz[i]), float(frames.f0_confidence[i])
        n_fine = len(frames.power_db) // len(frames.f0_hz)
        fine = slice(i * n_fine, (i + 1) * n_fine)
        levels_db = frames.power_db[fine] if self._level == "power_db" else frames.loudness_db[i : i + 1]
        loudness_db, level_db = float(frames.loudness_db[i]), float(levels_db[-1])
        self._find_note(f0_hz, confidence, loudness_db)
        if self._in_note and self._n_unvoiced == 0:
            self._f0_hz = f0_hz
            # The mean of all notes so far, later of the last seconds, so that it is known from the first note on.
            self._n_voiced += 1
            weight = 1.0 / min(self._n_voiced + FIRST_USUAL_S * self._rate_hz, USUAL_S * self._rate_hz)
            self._usual_db += weight * (level_db - self._usual_db)
            self._note_db = level_db
        else:  # a consonant: played as if tongued, see `dynamics.tame_consonants`
            levels_db = np.minimum(levels_db, self._note_db - ARTICULATION_DB)
        wanted_db = levels_db - self._usual_db + self._target_usual_db + self.settings.louder_db
        played_db, gain_db = within_reach(wanted_db, self._target_db)
        place = np.arange(1, n_fine + 1) / n_fine
        if self._level == "power_db":
            smooth_db, sharp_db = (
                np.minimum(gain_db + fast_envelope_db(envelope_db[fine], frames.power_db[fine]), MAX_GAIN_DB)
                for envelope_db in (frames.envelope_db, frames.sharp_db)
            )
            # Held notes go from frame to frame in a straight line, as the level does; attacks leave it.
            gain = self._gain_to(float(smooth_db[-1]), place)
            gain *= 10.0 ** (beyond_ripple(sharp_db - 20.0 * np.log10(gain)) / 20.0)
        else:
            gain = self._gain_to(float(gain_db[-1]), place)
        gate = gain * self._opening(place)
        transposed_hz = self._f0_hz * 2.0 ** (self.settings.transpose / 12.0)
        return np.array([transposed_hz], np.float32), played_db[-1:].astype(np.float32), gate.astype(np.float32)

    def _gain_to(self, gain_db: float, place: DoubleArray) -> DoubleArray:
        """Returns the straight line [n] from the gain at the frame before to that of this frame."""
        before, self._gain = self._gain, 10.0 ** (gain_db / 20.0)
        return np.asarray(before + (self._gain - before) * place)

    def _opening(self, place: DoubleArray) -> DoubleArray:
        """Opens the gate at once, since the gain has the shape of the attack, and closes it within a frame, [n].

        In rests the softest level drives the instrument behind a closed gate: from silence a note needs two frames.
        """
        self._was_open, self._is_open = self._is_open, self._in_note and self._loud_enough
        if self._is_open:
            return np.ones(len(place))
        return 1.0 - place if self._was_open else np.zeros(len(place))

    def _find_note(self, f0_hz: float, confidence: float, loudness_db: float) -> None:
        """Decides by hysteresis whether a note continues, and updates the estimates for this decision."""
        rules = self.settings.segments
        voiced = f0_hz > 0 and confidence >= rules.possible_confidence
        if voiced:
            self._peak_db = max(loudness_db, self._peak_db - PEAK_FALL_DB_PER_S / self._rate_hz)
        else:
            self._floor_db = min(loudness_db, self._floor_db + FLOOR_RISE_DB_PER_S / self._rate_hz)
        on_db = max(self._peak_db - rules.below_peak_db, self._floor_db + rules.above_floor_db)
        on_db = min(on_db, self._peak_db - rules.headroom_db)
        off_db = min(self._peak_db - rules.hold_below_peak_db, on_db - 3.0)
        self._loud_enough = loudness_db > off_db
        # A note with a certain pitch continues with less confidence, and may resume soon after its pitch was lost.
        if not self._in_note:
            self._in_note = voiced and confidence >= rules.sure_confidence and loudness_db > on_db
            self._n_unvoiced = 0
            return
        self._n_unvoiced = 0 if voiced and self._loud_enough else self._n_unvoiced + 1
        if self._n_unvoiced > rules.bridge_s * self._rate_hz:
            self._in_note = False
