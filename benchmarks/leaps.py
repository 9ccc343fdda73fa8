"""Leaps of the tracker that are played: where F0 leaps away for a moment while the gate is open, and who confirms it.

    python benchmarks/leaps.py [RECORDING...] [--plot DIR] [--raw]

Each recording is analysed and adapted as `ddsp transfer` does. A leap is a piece of the played F0 of at most 160 ms
that lies more than 10 semitones from the pitch before it and after it, in the same direction, within one stretch of
open gate. An edge is such a piece at the beginning or end of a stretch, beside which more than 160 ms of the other
pitch are played. pYIN, subharmonic summation (D. J. Hermes 1988) or, where praat-parselmouth is installed, Praat's
autocorrelation (P. Boersma 1993) confirms it if its own F0 is within a semitone in at least half of the piece's frames;
`--raw` counts the leaps of the tracker itself, before anything is mended.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ddsp_cli import bundle
from ddsp_cli.adaptation.f0_cleanup import JUMP_SEMITONES, JUMP_SEMITONES_PER_S, to_midi
from ddsp_cli.analysis.pitch import trackers
from ddsp_cli.arrays import runs
from ddsp_cli.audio import read
from ddsp_cli.audio.recording import ArrayRecording
from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.errors import DdspError
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.workflows import models
from ddsp_cli.workflows.performance import Performance, make_options, perform_recording, resting

LEAP_SEMITONES, LONGEST_S = 10.0, 0.16

#: pYIN hears the leap with this much sound on both sides.
AROUND_S = 1.0

#: Subharmonic summation: window, range, number of harmonics, and weight of each against the one below (Hermes 1988).
SUM_SAMPLES, SUM_HZ, N_SUMMED, SUM_DECAY = 1280, (55.0, 2200.0), 15, 0.84

#: Floor and ceiling of Praat's search.
PRAAT_HZ = (100.0, 1600.0)


@dataclass(frozen=True)
class Leap:
    """A piece of F0: frames [start, stop), semitones from the pitch beside it, whether that is on one side only."""

    start: int
    stop: int
    semitones: float
    is_edge: bool


def find_leaps(midi: np.ndarray, gate: np.ndarray, rate_hz: int) -> Iterator[Leap]:
    """Finds the leaps in a pitch [F] where the gate [F] is open."""
    limit = JUMP_SEMITONES + JUMP_SEMITONES_PER_S / rate_hz
    longest = LONGEST_S * rate_hz
    for start, stop in zip(*runs(gate > 0.0), strict=True):
        edges = [start, *(np.flatnonzero(np.abs(np.diff(midi[start:stop])) > limit) + start + 1), stop]
        for i, (first, end) in enumerate(itertools.pairwise(edges)):
            has_before, has_after = first > start, end < stop
            if end - first > longest or not (has_before or has_after):
                continue
            middle = np.median(midi[first:end])
            away = [middle - midi[first - 1]] if has_before else []
            away += [middle - midi[end]] if has_after else []
            if min(map(abs, away)) <= LEAP_SEMITONES or min(away) * max(away) < 0:
                continue
            if has_before and has_after:
                yield Leap(int(first), int(end), float(min(away, key=abs)), False)
            elif (edges[i] - edges[i - 1] if has_before else edges[i + 2] - edges[i + 1]) > longest:
                yield Leap(int(first), int(end), float(away[0]), True)


def heard(tracker: str, audio: np.ndarray, start: int, stop: int, rate_hz: int) -> tuple[np.ndarray, int]:
    """Returns the F0 [F] of another tracker around the frames of a leap, and the frame that is its first."""
    hop = ANALYSIS_RATE_HZ // rate_hz
    around = round(AROUND_S * rate_hz)
    first, end = max(start - around, 0), stop + around
    part = audio[first * hop : end * hop]
    return trackers.on_grid(trackers.track(tracker, part), -(-len(part) // hop), hop)[0], first


def heard_by_praat(audio: np.ndarray, start: int, stop: int, rate_hz: int) -> np.ndarray:
    """Returns the F0 [F] of Praat in the frames of a leap, 0 in unvoiced frames, or if Praat is not installed."""
    try:
        import parselmouth
    except ImportError:
        return np.zeros(stop - start)
    hop = ANALYSIS_RATE_HZ // rate_hz
    first = max(start - round(AROUND_S * rate_hz), 0)
    part = audio[first * hop : (stop + round(AROUND_S * rate_hz)) * hop].astype(np.float64)
    pitch = parselmouth.Sound(part, ANALYSIS_RATE_HZ).to_pitch_ac(1.0 / rate_hz, PRAAT_HZ[0], pitch_ceiling=PRAAT_HZ[1])
    nearest = np.abs(pitch.xs()[None] - (np.arange(start - first, stop - first) / rate_hz)[:, None]).argmin(axis=1)
    return np.asarray(pitch.selected_array["frequency"])[nearest]


def heard_by_summation(audio: np.ndarray, start: int, stop: int, rate_hz: int) -> np.ndarray:
    """Returns the F0 [F] that has the largest sum of compressed spectrum at its harmonics, in the frames of a leap."""
    hop, half, n_fft = ANALYSIS_RATE_HZ // rate_hz, SUM_SAMPLES // 2, 4 * SUM_SAMPLES
    candidates_hz = SUM_HZ[0] * 2.0 ** (np.arange(0.0, np.log2(SUM_HZ[1] / SUM_HZ[0]), 1 / 48))
    numbers = np.arange(1, N_SUMMED + 1)
    bins = np.minimum((candidates_hz[:, None] * numbers * n_fft / ANALYSIS_RATE_HZ).round().astype(int), n_fft // 2)
    found = []
    padded = np.pad(audio, half)
    for i in range(start, stop):
        spectrum = np.abs(np.fft.rfft(padded[i * hop : i * hop + SUM_SAMPLES] * np.hanning(SUM_SAMPLES), n_fft))
        near = np.sqrt(np.lib.stride_tricks.sliding_window_view(np.pad(spectrum, 2), 5).max(axis=1))
        near[-1] = 0.0  # above half the sample rate
        found.append(candidates_hz[np.argmax(near[bins] @ SUM_DECAY ** (numbers - 1))])
    return np.array(found)


def is_confirmed(f0_hz: np.ndarray, other_hz: np.ndarray) -> bool:
    """Whether another tracker is within a semitone in half of the frames [F]."""
    both = (f0_hz > 0) & (other_hz > 0)
    near = both & (np.abs(12 * np.log2(np.where(both, f0_hz, 1) / np.where(both, other_hz, 1))) <= 1.0)
    return bool(near.mean() >= 0.5)


def draw(
    path: Path, title: str, audio: np.ndarray, curves: dict[str, tuple[np.ndarray, int]], leap: Leap, rate_hz: int
) -> None:
    """Draws a spectrogram around a leap, and under it the F0 of each tracker (values, first frame)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    low_s, high_s = leap.start / rate_hz - 0.5, leap.stop / rate_hz + 0.5
    first = max(0, round(low_s * ANALYSIS_RATE_HZ))
    part = audio[first : round(high_s * ANALYSIS_RATE_HZ)] + 1e-9
    figure, (top, bottom) = pyplot.subplots(2, sharex=True, figsize=(9, 8))
    top.specgram(part, NFFT=1024, Fs=ANALYSIS_RATE_HZ, noverlap=960, xextent=(first / ANALYSIS_RATE_HZ, high_s))
    top.set(ylim=(0, 5000), title=title, ylabel="Hz")
    for i, (name, (f0_hz, first)) in enumerate(curves.items()):
        times_s = (np.arange(len(f0_hz)) + first) / rate_hz
        for axis in (top, bottom):
            axis.plot(times_s, np.where(f0_hz > 0, f0_hz, np.nan), lw=2.5 - 0.6 * i, label=name)
    for axis in (top, bottom):
        axis.axvspan(leap.start / rate_hz, leap.stop / rate_hz, alpha=0.15, color="white" if axis is top else "red")
    bottom.set(yscale="log", xlim=(low_s, high_s), xlabel="s", ylabel="Hz")
    bottom.legend()
    figure.savefig(path, dpi=80, bbox_inches="tight")
    pyplot.close(figure)


def main() -> None:
    """Prints a line for each leap, then how many there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, nargs="+")
    parser.add_argument("--raw", action="store_true", help="leaps of the tracker itself, before they are mended")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="a picture of each leap")
    given = parser.parse_args()
    instrument = Instrument(bundle.load(models.find("flute")))
    options = make_options(vibrato=1)  # smoothing jitter would make a dip of a leap, which is no jump
    if given.raw:
        options = replace(options, adapt=replace(options.adapt, repair_pitch=False))
    if given.plot:
        given.plot.mkdir(parents=True, exist_ok=True)
    n_recordings, seconds, counts = 0, 0.0, {(edge, sure): 0 for edge in (False, True) for sure in (False, True)}
    for path in read.list_audio(given.recordings):
        try:
            audio = read.read_mono(path)
            performance = perform_recording(
                ArrayRecording(audio), instrument, options, lambda done_s: None, Performance(resting(0, 1), 0.0)
            )
        except DdspError as problem:
            print(f"{path.name}: {problem.message}", file=sys.stderr)
            continue
        n_recordings, seconds = n_recordings + 1, seconds + len(audio) / ANALYSIS_RATE_HZ
        adapted, features = performance.adapted, performance.features
        assert features is not None
        rate_hz = adapted.frame_rate_hz
        played_hz = adapted.f0_hz / 2.0 ** (adapted.transpose_semitones / 12.0)
        for leap in find_leaps(to_midi(played_hz), adapted.gate, rate_hz):
            other_hz, first = heard("pyin", audio, leap.start, leap.stop, rate_hz)
            part = slice(leap.start, leap.stop)
            by = [
                name
                for name, f0_hz in (
                    ("pYIN", other_hz[leap.start - first : leap.stop - first]),
                    ("Praat", heard_by_praat(audio, leap.start, leap.stop, rate_hz)),
                    ("summation", heard_by_summation(audio, leap.start, leap.stop, rate_hz)),
                )
                if is_confirmed(played_hz[part], f0_hz)
            ]
            sure = bool(by)
            counts[leap.is_edge, sure] += 1
            level_db = features.loudness_db[part].mean() - features.loudness_db.max()
            kind = "edge" if leap.is_edge else "leap"
            words = (
                f"{path.stem} at {leap.start / rate_hz:.3f} s: {kind} of {leap.semitones:+.1f} semitones for "
                f"{1000 * (leap.stop - leap.start) / rate_hz:.0f} ms, confidence "
                f"{np.median(features.f0_confidence[part]):.2f}, {level_db:.0f} dB, "
                + ("confirmed by " + ", ".join(by) if by else "not confirmed")
            )
            print(words, flush=True)
            if given.plot:
                curves = {
                    "played": (np.where(adapted.gate > 0, played_hz, 0), 0),
                    "tracked, mended": (features.f0_hz, 0),
                    "pyin": (other_hz, first),
                }
                name = f"{path.stem}_{leap.start}.png"
                draw(given.plot / name, words, audio, curves, leap, rate_hz)
    print(
        f"{n_recordings} recordings, {seconds:.0f} s: {counts[False, True] + counts[False, False]} leaps, "
        f"{counts[False, False]} of them not confirmed; {counts[True, True] + counts[True, False]} at edges, "
        f"{counts[True, False]} of them not confirmed"
    )


if __name__ == "__main__":
    main()
