"""The synthesisers, rendered block by block: a bank of harmonic oscillators, filtered noise, and ramps for controls.

Each takes frames as they come (`push`) and returns the samples that they complete; `finish` returns the rest. The
output does not depend on how the frames were cut into blocks. Formulas: magenta/ddsp 3.7.0, core.py and synths.py;
`engine.synths` holds their differentiable twins.

Shapes: F frames, S samples, K harmonics, M noise bands, H hop in samples, P values of the pitch in each frame, T taps.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from ddsp_cli.arrays import DoubleArray, FloatArray, IntArray, RealArray
from ddsp_cli.scaling import hz_to_midi, impulse_delay, impulse_window

ResampleMethod = Literal["linear", "window"]

#: Frames worked on at once: the table of sines [F, K, H] should stay in the processor's cache.
_TABLE_ELEMENTS = 160_000

#: The note changes where F0 moves by at least this many semitones from one value to the next (250 a second), and the
#: other values of the frame together move by less than this share of it. The fastest singers slide by half a semitone.
CHANGE_SEMITONES, SLIDE_SHARE = 1.0, 0.25

#: Share of a frame in which the new note replaces the old one.
CHANGE_SHARE = 0.6


def crossfade(hop_samples: int, method: ResampleMethod) -> FloatArray:
    """Makes the weight of the following frame at each sample between two frames, [H], 0 at the frame itself.

    `linear` is a straight line (core.py:613); `window` is what overlapping Hann windows add up to: half a
    period of a raised cosine (core.py:645-714).
    """
    position = np.arange(hop_samples) / hop_samples
    if method == "window":
        position = 0.5 - 0.5 * np.cos(np.pi * position)
    return position.astype(np.float32)


class Ramp:
    """Interpolates a control linearly from frame rate to sample rate; the last frame is held for one hop.

    Args:
      hop_samples: H.
    """

    def __init__(self, hop_samples: int) -> None:
        self._weight = crossfade(hop_samples, "linear")
        self._last: FloatArray | None = None

    def push(self, values: RealArray) -> FloatArray:
        """Takes frames [F]; gives samples [S], one hop behind."""
        values = np.asarray(values, np.float32)
        if self._last is not None:
            values = np.concatenate([self._last, values])
        if not len(values):
            return np.empty(0, np.float32)
        self._last = values[-1:]
        start, stop = values[:-1, None], values[1:, None]
        return np.asarray(start + (stop - start) * self._weight, np.float32).reshape(-1)

    def finish(self) -> FloatArray:
        """Gives the last hop [H]; empty where no frame ever came."""
        return self.push(self._last) if self._last is not None else np.empty(0, np.float32)


class Harmonic:
    """A bank of sines at multiples of the fundamental (core.py:912-962, 1048-1111).

    The phase of the fundamental is summed in closed form in double precision and kept within one turn, so it is as
    exact after hours as in the first second. Harmonics above half the sample rate are silent, at frame rate (in the
    controls) and at sample rate (here).

    Pitch may be finer than the other controls, by a factor P that divides H: at 50 frames a second a step from note to
    note would become a glide of 20 ms, up to 10 ms early or late. Where such a pitch steps to another note, the
    oscillators of the old note fade out and those of the new note fade in, within the frame: in a glide of 4 ms all
    partials sweep over the interval, which clicks. With P = 1 pitch glides from frame to frame, as upstream.

    Args:
      hop_samples: H.
      sample_rate_hz: rate of the sound.
      method: how amplitudes get from frames to samples.
    """

    def __init__(self, hop_samples: int, sample_rate_hz: int, method: ResampleMethod = "window") -> None:
        self._hop = hop_samples
        self._rate = sample_rate_hz
        self._weight = crossfade(hop_samples, method)
        # [2, H] in radians: one turn, and a straight line from 0 to one turn.
        self._line = np.float32(2.0 * np.pi) * np.stack(
            [np.ones(hop_samples, np.float32), crossfade(hop_samples, "linear")]
        )
        self._phase_turns = 0.0
        self._last: tuple[DoubleArray, FloatArray, FloatArray | None] | None = None

    def push(self, f0_hz: RealArray, amplitudes: FloatArray, phases: FloatArray | None = None) -> FloatArray:
        """Renders the next frames.

        Args:
          f0_hz: [F·P], P the same in every call.
          amplitudes: [F, K], the amplitude of each harmonic.
          phases: [F, K] in turns, added to the phase of each harmonic; in every call or in none.

        Returns:
          [S] float32, one hop behind.
        """
        fine_hz: DoubleArray = np.asarray(f0_hz, np.float64).reshape(len(amplitudes), -1)
        if self._last is not None and len(amplitudes):
            fine_hz = np.concatenate([self._last[0], fine_hz])
            amplitudes = np.concatenate([self._last[1], amplitudes])
            if phases is not None and self._last[2] is not None:
                phases = np.concatenate([self._last[2], phases])
        if not len(amplitudes):
            return np.empty(0, np.float32)
        self._last = fine_hz[-1:], amplitudes[-1:], None if phases is None else phases[-1:]
        n_intervals = len(fine_hz) - 1
        out = np.empty((n_intervals, self._hop), np.float32)
        sounding = np.flatnonzero(amplitudes.any(axis=0))
        amplitudes = amplitudes[:, : sounding[-1] + 1 if len(sounding) else 1]
        per_chunk = max(1, _TABLE_ELEMENTS // (self._hop * amplitudes.shape[1]))
        for begin in range(0, n_intervals, per_chunk):
            chunk = slice(begin, min(begin + per_chunk, n_intervals) + 1)
            added = None if phases is None else phases[chunk]
            out[begin : chunk.stop - 1] = self._render(fine_hz[chunk], amplitudes[chunk], added)
        return out.reshape(-1)

    def retune(self, f0_hz: float) -> None:
        """Changes F0 of the last frame. While it is silent, the next note can so begin without a glide."""
        if self._last is not None:
            self._last = np.full_like(self._last[0], f0_hz), *self._last[1:]

    def finish(self) -> FloatArray:
        """Renders the last hop [H] with the last frame held; empty where no frame ever came."""
        if self._last is None:
            return np.empty(0, np.float32)
        f0_hz, amplitudes, phases = self._last
        return self.push(np.full_like(f0_hz, f0_hz[0, -1]), amplitudes, phases)

    def _fundamental(self, f0_hz: DoubleArray) -> tuple[DoubleArray, DoubleArray, IntArray]:
        """Integrates the pitch [F+1, P] between frames i and i + 1.

        Returns:
          Phase in turns and frequency in Hz, [F, H] each, and `note_changes` [F]. Phases start within one turn, 0..1,
          P times a frame. At a change of note the frequency steps to that of the new note.
        """
        n_fine = f0_hz.shape[1]
        knots = np.append(f0_hz[:-1].reshape(-1), f0_hz[-1, 0])
        start_hz, slope_hz = knots[:-1, None], np.diff(knots)[:, None]
        h = self._hop // n_fine
        changes = note_changes(f0_hz)
        slope_hz.reshape(-1, n_fine)[np.flatnonzero(changes), changes[changes > 0] - 1] = 0.0
        # Inclusive sum of a frequency that goes from a to b in h samples:
        # Σ_{j≤m} a + (b − a)·j/h = (m + 1)·a + (b − a)·m(m + 1)/2h
        m = np.arange(h, dtype=np.float64)
        within = (start_hz * (m + 1.0) + slope_hz * (m * (m + 1.0) / (2.0 * h))) / self._rate
        starts = np.cumsum(np.concatenate([[self._phase_turns], within[:, -1]])) % 1.0
        self._phase_turns = float(starts[-1])
        turns, hz = within + starts[:-1, None], start_hz + slope_hz * (m / h)
        return turns.reshape(-1, self._hop), hz.reshape(-1, self._hop), changes

    def _render(self, f0_hz: DoubleArray, amplitudes: FloatArray, phases: FloatArray | None) -> FloatArray:
        """Renders the samples between frames i and i + 1: [F+1, P], [F+1, K] and again → [F, H]."""
        turns, sample_hz, changes = self._fundamental(f0_hz)
        sounding = amplitudes.any(axis=0)
        n_harmonics = int(np.flatnonzero(sounding)[-1]) + 1 if sounding.any() else 0
        if not n_harmonics:
            return np.zeros_like(turns, np.float32)
        pairs = np.stack([amplitudes[:-1, :n_harmonics], amplitudes[1:, :n_harmonics]], axis=1)
        added = None
        if phases is not None:
            start, stop = phases[:-1, :n_harmonics], phases[1:, :n_harmonics]
            added = np.stack([start, stop - start], axis=-1)
        out = self._add_up(turns, sample_hz, pairs, added)
        n_fine = f0_hz.shape[1]
        for i in np.flatnonzero(changes).tolist():
            number = int(changes[i])
            next_hz = f0_hz[i, number] if number < n_fine else f0_hz[i + 1, 0]
            both = self._both_notes(turns[i], sample_hz[i], number * self._hop // n_fine, next_hz)
            old, new = self._add_up(*both, pairs[[i, i]], None if added is None else added[[i, i]])
            out[i] = old + (new - old) * self._fade_in(number / n_fine)
        return out

    def _add_up(
        self, turns: DoubleArray, sample_hz: DoubleArray, pairs: FloatArray, phases: FloatArray | None
    ) -> FloatArray:
        """Adds up all harmonics.

        Args:
          turns: [F, H] phase of the fundamental.
          sample_hz: [F, H] its frequency.
          pairs: [F, 2, K] amplitudes at the start and the end of each frame.
          phases: [F, K, 2] added to the phase of each harmonic: at the start of each frame, and their change within it.

        Returns:
          [F, H].
        """
        n_harmonics = pairs.shape[2]
        k = np.arange(1, n_harmonics + 1, dtype=np.uint32)[:, None]
        # Integers of 32 bits for one turn: their products drop whole turns as they overflow, four times as fast as
        # products in double precision and exact to 2^-33 turns of the fundamental.
        fixed = (turns * 2.0**32).astype(np.int64).astype(np.uint32)
        sines = (k * fixed[:, None, :]).view(np.int32).astype(np.float32)
        sines *= np.float32(2.0 * np.pi / 2.0**32)
        if phases is not None:
            sines += phases @ self._line
        np.sin(sines, out=sines)
        nyquist_hz = self._rate / 2.0
        n_below = min(int(nyquist_hz / max(sample_hz.max(), 1.0)), n_harmonics)  # these stay below it
        sines[:, n_below:] *= k[n_below:] * sample_hz[:, None, :] < nyquist_hz
        # Interpolating amplitudes is linear, so two sums per sample replace an interpolation per harmonic.
        sums = pairs @ sines
        return np.asarray(sums[:, 0] + (sums[:, 1] - sums[:, 0]) * self._weight)

    def _both_notes(
        self, turns: DoubleArray, sample_hz: DoubleArray, first: int, next_hz: float
    ) -> tuple[DoubleArray, DoubleArray]:
        """Continues the old note to the end of a frame, and the new one back to its start, in phase where they meet.

        Args:
          turns, sample_hz: [H] of the frame.
          first: first sample of the new note, 1 to H.
          next_hz: F0 of the new note there.

        Returns:
          Phase and frequency of the old and the new note, [2, H] each.
        """
        samples = np.arange(self._hop) - (first - 1)
        last_hz = sample_hz[first - 1]
        old = np.where(samples <= 0, turns, turns[first - 1] + samples * (last_hz / self._rate))
        new = np.where(samples >= 0, turns, turns[first - 1] + samples * (next_hz / self._rate))
        old_hz, new_hz = np.where(samples <= 0, sample_hz, last_hz), np.where(samples > 0, sample_hz, next_hz)
        return np.stack([old, new]), np.stack([old_hz, new_hz])

    def _fade_in(self, place: float) -> FloatArray:
        """Returns the weight [H] of a note that begins at a place 0..1 in the frame, or as near as the fade allows."""
        centre = np.clip(place, CHANGE_SHARE / 2.0, 1.0 - CHANGE_SHARE / 2.0)
        risen = np.clip((np.arange(self._hop) / self._hop - centre) / CHANGE_SHARE + 0.5, 0.0, 1.0)
        return np.asarray(0.5 - 0.5 * np.cos(np.pi * risen), np.float32)


def note_changes(f0_hz: RealArray) -> IntArray:
    """Finds the frames in which the note changes at once; see `CHANGE_SEMITONES`.

    Args:
      f0_hz: [F+1, P], of which the last row closes the last frame.

    Returns:
      [F] the number, 1 to P, of the first value of the new note in each frame; 0 for none.
    """
    n_frames, n_fine = len(f0_hz) - 1, f0_hz.shape[1]
    if n_fine == 1 or not n_frames:
        return np.zeros(n_frames, np.intp)
    knots = np.concatenate([f0_hz[:-1], f0_hz[1:, :1]], axis=1)
    moved = np.abs(np.diff(hz_to_midi(np.maximum(knots, 1.0)), axis=1))
    largest = moved.max(axis=1)
    changed = (largest >= CHANGE_SEMITONES) & (moved.sum(axis=1) - largest < SLIDE_SHARE * largest)
    return np.where(changed, moved.argmax(axis=1) + 1, 0)


class FilteredNoise:
    """White noise through a filter that changes with every frame (magenta/ddsp 3.7.0, core.py:1317-1565).

    Each hop of noise is convolved with the impulse response of its own frame, and the results are added.
    `scaling.impulse_delay` says how many samples are cut off the front.

    Args:
      hop_samples: H.
      n_bands: M magnitudes, equally spaced from 0 Hz to half the sample rate.
      window_size_samples: width of the window on the impulse response; 0 for all of it.
      seed: of the noise; frames draw in order, so block sizes do not matter.
    """

    def __init__(self, hop_samples: int, n_bands: int, window_size_samples: int = 0, seed: int = 0) -> None:
        self._hop = hop_samples
        n_taps = 2 * (n_bands - 1)
        self._window, self._lags = impulse_window(n_taps, window_size_samples)
        n_kept = len(self._lags)
        # The shortest fast transform: a power of 2, or three quarters of it.
        power = 1 << (hop_samples + n_kept - 2).bit_length()
        self._n_fft = 3 * power // 4 if 3 * power // 4 >= hop_samples + n_kept - 1 else power
        self._carry = np.zeros(n_kept - 1, np.float32)
        self._skip = impulse_delay(self._lags)
        self._skipped = 0
        self._random = np.random.default_rng(seed)

    @property
    def delay_samples(self) -> int:
        """Samples of a hop that are returned with the next one only."""
        return self._skip

    def push(self, magnitudes: FloatArray, noise: FloatArray | None = None) -> FloatArray:
        """Renders the next frames.

        Args:
          magnitudes: [F, M].
          noise: [F, H] to filter in place of new noise, for comparisons.

        Returns:
          [S] float32; F·H samples, in the first call `delay_samples` less.
        """
        n_frames = len(magnitudes)
        if noise is None:
            noise = white_noise(self._random, n_frames, self._hop)
        if not n_frames:
            return np.empty(0, np.float32)
        taps = np.fft.irfft(magnitudes.astype(np.float32))[:, self._lags] * self._window
        spectrum = np.fft.rfft(noise, self._n_fft) * np.fft.rfft(taps, self._n_fft)
        filtered = np.fft.irfft(spectrum, self._n_fft)[:, : self._hop + len(self._lags) - 1]
        return self._trim(self._overlap_add(filtered.astype(np.float32)))

    def finish(self) -> FloatArray:
        """Renders the tail after the last frame, so that every frame has given one hop of samples."""
        return self._trim(self._carry[: self._skip])

    def _overlap_add(self, filtered: FloatArray) -> FloatArray:
        n_frames, hop = len(filtered), self._hop
        n_tail = len(self._carry)
        total = np.zeros(n_frames * hop + n_tail, np.float32)
        total[:n_tail] = self._carry
        # Piece p of every frame's output starts p hops after the frame: one addition per piece, not per frame.
        for p in range(0, filtered.shape[1], hop):
            piece = filtered[:, p : p + hop]
            place = total[p : p + n_frames * hop]
            if len(place) < n_frames * hop:
                place = np.zeros(n_frames * hop, np.float32)
            place.reshape(n_frames, hop)[:, : piece.shape[1]] += piece
            if place.base is not total:
                total[p:] += place[: len(total) - p]
        self._carry = total[n_frames * hop :].copy()
        return total[: n_frames * hop]

    def _trim(self, samples: FloatArray) -> FloatArray:
        drop = min(self._skip - self._skipped, len(samples))
        self._skipped += drop
        return samples[drop:]


def white_noise(random: np.random.Generator, n_frames: int, hop_samples: int) -> FloatArray:
    """Draws uniform noise in [-1, 1) frame by frame, [F, H] float32."""
    return random.random((n_frames, hop_samples), dtype=np.float32) * np.float32(2.0) - np.float32(1.0)
