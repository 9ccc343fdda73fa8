"""Measures of how much a rendering differs from the recording it should equal. NumPy only.

Most compare features or spectra. The ratio of noise to harmonics of a note comes from the energy between and at the
multiples of F0: the spectrum of a frame is divided into cells, one around each multiple. Energy in a cell outside the
multiple's main lobe is noise, and the same density of noise is assumed under the lobe. Where vibrato widens the
harmonics of low notes until they meet, cells are left out.

Shapes: S samples, F frames of the features, L frames of the ratio of noise to harmonics.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite

import numpy as np

from ddsp_cli.analysis.extract import measure
from ddsp_cli.analysis.pitch import octave_correction, trackers
from ddsp_cli.arrays import BoolArray, DoubleArray, FloatArray, RealArray, hann_window
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.scaling import hz_to_midi

#: FFT sizes of the spectral distance, and the floor of magnitudes before their logarithm.
FFT_SIZES, LOG_FLOOR = (2048, 1024, 512, 256, 128, 64), 1e-5

#: F0 that differ by less count as the same.
SAME_CENTS = 50.0

#: Frames within this range below the loudest one are loud.
LOUD_RANGE_DB = 40.0

#: Frames tracked with less confidence are outliers in the paper's table.
CONFIDENT = 0.85

#: Metric → its name and format, in the order in which it is shown. The spectral distance is measured on all that is
#: compared, at 16 kHz; the validation loss of a training is another figure, with the weights of its preset.
METRICS = {
    "spectral_loss": ("spectral distance", "{:.2f}"),
    "pitch_within_50_cents": ("within 50 cents", "{:.1%}"),
    "pitch_error_cents": ("cents off", "{:.1f}"),
    "voiced_recall": ("voiced recall", "{:.1%}"),
    "reliable_within_50_cents": ("of reliable", "{:.1%}"),
    "reliable_share": ("reliable", "{:.1%}"),
    "f0_l1_semitones": ("F0 L1", "{:.3f} st"),
    "f0_outliers": ("F0 outliers", "{:.1%}"),
    "loudness_l1_db": ("loudness L1", "{:.1f} dB"),
    "loudness_error_db": ("level error", "{:.1f} dB"),
    "noise_balance_db": ("noise", "{:+.1f} dB"),
    "room_share": ("room", "{:.1%}"),
}


@dataclass(frozen=True)
class Quality:
    """Differences between a rendering and its recording.

    Attributes:
      spectral_loss: multi-scale spectral loss as in training, see `spectral_distance`.
      pitch_within_50_cents: share of frames voiced in both whose pitch agrees within 50 cents.
      pitch_error_cents: median absolute pitch error over frames voiced in both.
      voiced_recall: share of the recording's voiced frames that are voiced in the rendering.
      loudness_error_db: mean absolute difference of RMS level, 20 ms frames, over the recording's loud frames
        (`LOUD_RANGE_DB`).
      noise_balance_db: how much more noise there is between the harmonics of the rendering than between those of the
        recording, each against its harmonics; median over frames of the same pitch in both, negative for less noise.

    A figure that cannot be measured, because nothing is voiced in both, is NaN.
    """

    spectral_loss: float
    pitch_within_50_cents: float
    pitch_error_cents: float
    voiced_recall: float
    loudness_error_db: float
    noise_balance_db: float

    def as_dict(self) -> dict[str, float]:
        """Returns plain numbers by name, rounded to four digits; without those that cannot be measured."""
        return {name: round(float(value), 4) for name, value in asdict(self).items() if isfinite(value)}


def compare(recording: FloatArray, rendering: FloatArray, reference_hz: FloatArray | None = None) -> Quality:
    """Compares two mono signals of one length.

    Args:
      recording, rendering: [S] each, at 16 kHz.
      reference_hz: [F] the recording's pitch 250 times a second, 0 where it is unvoiced, as it drove the
        rendering; None measures it again. A second measurement of the same recording, on frames that lie a few samples
        beside those of the first, finds note changes up to 16 ms elsewhere: on a fast violin 1.5 % of the frames then
        differ for any rendering.

    Raises:
      ValueError: the lengths differ.
    """
    if recording.shape != rendering.shape:
        raise ValueError("compare takes two signals of one length")
    reference_hz, other_hz = _both_hz(recording, rendering, reference_hz)
    cents, recall = pitch_difference_cents(reference_hz, other_hz)
    return Quality(
        spectral_loss=spectral_distance(recording, rendering),
        pitch_within_50_cents=float(np.mean(cents < SAME_CENTS)) if len(cents) else 0.0,
        pitch_error_cents=float(np.median(cents)) if len(cents) else float("nan"),
        voiced_recall=recall,
        loudness_error_db=_level_error_db(recording, rendering),
        noise_balance_db=_noise_balance_db(recording, reference_hz, rendering, other_hz),
    )


def reliable_pitch(
    recording: FloatArray, rendering: FloatArray, reference_hz: FloatArray | None = None
) -> dict[str, float]:
    """Measures how well F0 is kept where two trackers agree about the recording's. pYIN takes as long as the sound.

    Args:
      recording, rendering: [S] at 16 kHz.
      reference_hz: as in `compare`; tracked by swift-f0.

    Returns:
      `reliable_share`: share of the recording's voiced frames about whose pitch swift-f0 and pYIN, a network and
      an autocorrelation, agree within 50 cents.
      `reliable_within_50_cents`: share of those at which the rendering has that pitch; silence there counts as wrong.
      Left out where no frame is reliable.
    """
    reference_hz, other_hz = _both_hz(recording, rendering, reference_hz)
    second_hz, _ = trackers.on_grid(trackers.track("pyin", recording), len(reference_hz), FeatureSpec().hop_samples)
    reliable = same_pitch(reference_hz, second_hz)
    n_voiced, n_reliable = int((reference_hz > 0).sum()), int(reliable.sum())
    if not n_reliable:
        return {"reliable_share": 0.0}
    n_right = int((reliable & same_pitch(reference_hz, other_hz)).sum())
    return {
        "reliable_share": round(n_reliable / n_voiced, 4),
        "reliable_within_50_cents": round(n_right / n_reliable, 4),
    }


def resynthesis_figures(recording: FloatArray, rendering: FloatArray, pitch: str | None = None) -> dict[str, float]:
    """Measures a resynthesis as Table 1 of the paper of DDSP does (Engel et al., ICLR 2020, and its appendix).

    The paper tracks F0 with CREPE; figures of two trackers cannot be compared, as their confidences differ.

    Args:
      recording: [S] at 16 kHz.
      rendering: [S] at 16 kHz.
      pitch: the tracker of both; None takes the default one.

    Returns:
      `loudness_l1_db`: mean absolute difference of A-weighted loudness over all frames, dB.
      `f0_l1_semitones`: mean absolute difference of F0, over the frames in which both are tracked with a confidence of
      0.85 or more. Left out where there are none.
      `f0_outliers`: share of the frames that are tracked with such a confidence in the recording, and not in the
      rendering. Left out where none is.
    """
    spec = FeatureSpec() if pitch is None else FeatureSpec(pitch=pitch)
    recorded, rendered = measure(recording, spec), measure(rendering, spec)
    n_frames = min(len(recorded), len(rendered))
    difference_db = recorded.loudness_db[:n_frames] - rendered.loudness_db[:n_frames]
    found = {"loudness_l1_db": float(np.mean(np.abs(difference_db)))}
    in_recording, in_rendering = (x.f0_confidence[:n_frames] >= CONFIDENT for x in (recorded, rendered))
    in_both = in_recording & in_rendering
    if in_recording.any():
        found["f0_outliers"] = float(1.0 - in_both.sum() / in_recording.sum())
    if in_both.any():
        recorded_midi, rendered_midi = (
            hz_to_midi(x.f0_hz[:n_frames][in_both].astype(np.float64)) for x in (recorded, rendered)
        )
        found["f0_l1_semitones"] = float(np.mean(np.abs(recorded_midi - rendered_midi)))
    return {name: round(value, 4) for name, value in found.items()}


def same_pitch(a_hz: FloatArray, b_hz: FloatArray) -> BoolArray:
    """Marks the frames [F] that are voiced in both, at the same pitch."""
    both = (a_hz > 0) & (b_hz > 0)
    cents = 1200 * np.log2(np.where(both, a_hz, 1.0) / np.where(both, b_hz, 1.0))
    return both & (np.abs(cents) < SAME_CENTS)


def _noise_balance_db(recording: FloatArray, f0_hz: FloatArray, rendering: FloatArray, other_hz: FloatArray) -> float:
    same, rate_hz = same_pitch(f0_hz, other_hz), FeatureSpec().frame_rate_hz
    rendering_db = noise_to_harmonics_db(rendering, np.where(same, other_hz, 0.0), rate_hz)
    recording_db = noise_to_harmonics_db(recording, np.where(same, f0_hz, 0.0), rate_hz)
    both = np.isfinite(rendering_db) & np.isfinite(recording_db)
    return float(np.median(rendering_db[both]) - np.median(recording_db[both])) if both.any() else float("nan")


def _both_hz(
    recording: FloatArray, rendering: FloatArray, reference_hz: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """Returns F0 of both, [F] each, cut to the shorter one if the recording's is given."""
    other_hz = pitch_hz(rendering)
    if reference_hz is None:
        return pitch_hz(recording), other_hz
    n_frames = min(len(reference_hz), len(other_hz))
    return reference_hz[:n_frames], other_hz[:n_frames]


def pitch_hz(audio: FloatArray) -> FloatArray:
    """Tracks F0 of a sound at 16 kHz as `prepare` does, octave errors corrected: [S] → [F], 0 where unvoiced."""
    spec = FeatureSpec()
    return correct_f0_hz(audio, measure(audio, spec).f0_hz, spec.frame_rate_hz)


def correct_f0_hz(audio: FloatArray, f0_hz: FloatArray, frame_rate_hz: int) -> FloatArray:
    """Corrects octave errors of a tracked F0 [F] by the sound [S] at 16 kHz."""
    found = octave_correction.correct_octaves(lambda start, end: audio[start:end], len(audio), f0_hz, frame_rate_hz)
    return found.f0_hz


def pitch_difference_cents(reference_hz: FloatArray, other_hz: FloatArray) -> tuple[FloatArray, float]:
    """Returns F0 differences in cents in frames voiced in both, and the share of the reference's frames that are."""
    voiced = reference_hz > 0
    both = voiced & (other_hz > 0)
    cents = np.abs(1200 * np.log2(other_hz[both] / reference_hz[both]))
    return cents, float(both.sum() / max(1, voiced.sum()))


def level_db(audio: FloatArray, rate_hz: int, frame_s: float = 0.02) -> DoubleArray:
    """Measures the RMS level in dBFS of consecutive frames, floor -120 dB, shape [S // frame]."""
    size = round(rate_hz * frame_s)
    blocks = audio[: len(audio) // size * size].reshape(-1, size).astype(np.float64)
    return 10 * np.log10(np.maximum(np.mean(blocks**2, axis=1), 1e-12))


def _level_error_db(recording: FloatArray, rendering: FloatArray) -> float:
    """Returns the mean absolute difference of the levels of two sounds at 16 kHz, over the recording's loud frames."""
    recording_db, rendering_db = level_db(recording, ANALYSIS_RATE_HZ), level_db(rendering, ANALYSIS_RATE_HZ)
    loud = recording_db > recording_db.max() - LOUD_RANGE_DB
    return float(np.mean(np.abs(recording_db[loud] - rendering_db[loud])))


def spectral_distance(recording: FloatArray, rendering: FloatArray) -> float:
    """Returns the training loss in NumPy: L1 of magnitudes and of their natural logarithms, summed over FFT sizes."""
    total = 0.0
    for size in FFT_SIZES:
        a, b = _magnitudes(recording, size), _magnitudes(rendering, size)
        total += float(np.mean(np.abs(a - b)))
        total += float(np.mean(np.abs(np.log(np.maximum(a, LOG_FLOOR)) - np.log(np.maximum(b, LOG_FLOOR)))))
    return total


def _magnitudes(audio: FloatArray, size: int) -> FloatArray:
    hop = size // 4
    n_frames = -(-len(audio) // hop)
    padded = np.pad(audio, (0, (n_frames + 3) * hop - len(audio)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][:n_frames]
    return np.abs(np.fft.rfft(frames * hann_window(size)))


def describe(metrics: Mapping[str, float]) -> str:
    """Formats the metrics with their names, as one line."""
    shown = [(name, METRICS[name]) for name in METRICS if name in metrics]
    return ", ".join(f"{title} {form.format(metrics[name])}" for name, (title, form) in shown)


NOISE_HOP_SAMPLES = 320

#: The window length is chosen so that two harmonics are this number of bins apart, half of them outside the main lobes.
BINS_APART = 16

WINDOW_SAMPLES = (1024, 2048, 4096)

#: Half the width of the main lobe of the Blackman-Harris window, in bins.
LOBE_BINS = 4.0

#: Coefficients of the window with four terms and side lobes 92 dB down (Harris 1978, table 1).
BLACKMAN_HARRIS = (0.35875, -0.48829, 0.14128, -0.01168)

#: Vibrato and glides widen harmonics by this share of their frequency.
VIBRATO_SHARE = 0.012

NOISE_BAND_HZ = (50.0, 7500.0)

#: Cells with fewer bins outside the lobe are left out.
LEAST_BINS = 2

#: Frames computed at once; bounds memory to some 30 MiB.
_FRAMES_AT_ONCE = 256


def noise_to_harmonics_db(audio: FloatArray, f0_hz: FloatArray, frame_rate_hz: int) -> DoubleArray:
    """Measures the energy of the noise relative to that of the harmonics.

    Args:
      audio: [S] at 16 kHz.
      f0_hz: [F], 0 in unvoiced frames.
      frame_rate_hz: of f0_hz.

    Returns:
      [L] in dB, a frame every 20 ms; NaN where it is unvoiced or cannot be measured.
    """
    n_frames = -(-len(audio) // NOISE_HOP_SAMPLES)
    found = np.full(n_frames, np.nan)
    if not len(f0_hz):
        return found
    frames = np.round(np.arange(n_frames) * NOISE_HOP_SAMPLES * frame_rate_hz / ANALYSIS_RATE_HZ).astype(int)
    pitch_hz = f0_hz[np.minimum(frames, len(f0_hz) - 1)]
    wanted = BINS_APART * ANALYSIS_RATE_HZ / np.maximum(pitch_hz, 1e-9)
    longest = WINDOW_SAMPLES[-1]
    padded = np.pad(np.asarray(audio, np.float32), longest // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, longest)[::NOISE_HOP_SAMPLES]
    for i, size in enumerate(WINDOW_SAMPLES):
        shorter = WINDOW_SAMPLES[i - 1] if i else 0
        fits = (pitch_hz > 0) & (wanted > shorter) & ((wanted <= size) | (size == longest))
        edge = (longest - size) // 2
        chosen = np.flatnonzero(fits)
        for part in np.split(chosen, range(_FRAMES_AT_ONCE, len(chosen), _FRAMES_AT_ONCE)):
            found[part] = _noise_db(windows[part, edge : edge + size], pitch_hz[part])
    return found


def _noise_db(windows: FloatArray, pitch_hz: FloatArray) -> DoubleArray:
    """Measures the noise relative to the harmonics in dB, [n], of windows [n, size] with F0 [n]."""
    size = windows.shape[1]
    window, band, bins_hz = _spectrum_layout(size)
    power = np.abs(np.fft.rfft(windows * window, axis=1)[:, band]) ** 2
    pitch = pitch_hz[:, None]
    multiple = np.maximum(np.round(bins_hz / pitch), 1).astype(int)
    beside = np.abs(bins_hz - multiple * pitch) > LOBE_BINS * ANALYSIS_RATE_HZ / size + VIBRATO_SHARE * bins_hz
    # cell k of window i has the number i·n + k
    n = int(multiple.max(initial=0)) + 1
    cell = (np.arange(len(windows))[:, None] * n + multiple).ravel()

    def cells(values: RealArray | BoolArray) -> DoubleArray:
        return np.bincount(cell, values.ravel(), minlength=len(windows) * n).reshape(-1, n).astype(np.float64)

    n_beside, n_bins = cells(beside.astype(float)), cells(np.ones_like(power))
    usable = n_beside >= LEAST_BINS
    noise = np.where(usable, cells(power * beside) / np.maximum(n_beside, 1) * n_bins, 0.0).sum(axis=1)
    harmonic = np.where(usable, cells(power), 0.0).sum(axis=1) - noise
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 10.0 * np.log10(noise / np.maximum(harmonic, 0.0))
    return np.where(np.isfinite(found), found, np.nan)


@functools.cache
def _spectrum_layout(size: int) -> tuple[FloatArray, slice, FloatArray]:
    """Returns the window, the bins of the band, and their frequencies."""
    frequencies_hz = np.fft.rfftfreq(size, 1.0 / ANALYSIS_RATE_HZ)
    first, last = np.searchsorted(frequencies_hz, NOISE_BAND_HZ)
    return _blackman_harris(size).astype(np.float32), slice(int(first), int(last)), frequencies_hz[first:last]


def _blackman_harris(size: int) -> DoubleArray:
    """Returns the periodic window [size] of `BLACKMAN_HARRIS`."""
    turns = 2.0 * np.pi * np.arange(size) / size
    return np.asarray(np.sum([a * np.cos(i * turns) for i, a in enumerate(BLACKMAN_HARRIS)], axis=0))


#: Length of the windows of `noise_levels_db`; twice that where F0 falls below `LOW_HZ`.
LEVEL_WINDOW_S, LOW_HZ = 0.085, 180.0

#: Windows in which F0 moves further from its median than this are left out.
STEADY_SEMITONES = 0.35


def noise_levels_db(
    audio: FloatArray,
    sample_rate_hz: int,
    f0_hz: FloatArray,
    voiced: BoolArray,
    frame_rate_hz: int,
    edges_hz: RealArray,
) -> DoubleArray:
    """Measures the density of the noise between the harmonics of steady notes, in bands.

    Args:
      audio: [S].
      sample_rate_hz: of the audio.
      f0_hz: [F], nowhere 0.
      voiced: [F].
      frame_rate_hz: of both.
      edges_hz: [n + 1] of the bands.

    Returns:
      [windows, n] in dB, to compare with those of another sound of the same pitch; NaN where a band holds no bin
      outside the main lobes.
    """
    lowest_hz = float(f0_hz[voiced].min()) if voiced.any() else LOW_HZ
    size = 2 * round(LEVEL_WINDOW_S * sample_rate_hz / 2) * (1 if lowest_hz >= LOW_HZ else 2)
    window = _blackman_harris(size)
    bins_hz = np.fft.rfftfreq(size, 1.0 / sample_rate_hz)
    band = np.digitize(bins_hz, edges_hz) - 1
    n_bands = len(edges_hz) - 1
    inside = (band >= 0) & (band < n_bands)
    found = [np.zeros((0, n_bands))]
    for start in range(0, len(audio) - size + 1, size // 2):
        frames = slice(start * frame_rate_hz // sample_rate_hz, (start + size) * frame_rate_hz // sample_rate_hz)
        pitch_hz = f0_hz[frames].astype(np.float64)
        median_hz = float(np.median(pitch_hz))
        widest = float(np.abs(pitch_hz / median_hz - 1.0).max())
        if not voiced[frames].all() or widest > 2.0 ** (STEADY_SEMITONES / 12.0) - 1.0:
            continue
        multiple = np.maximum(np.round(bins_hz / median_hz), 1.0)
        width_hz = LOBE_BINS * sample_rate_hz / size + widest * bins_hz
        beside = inside & (np.abs(bins_hz - multiple * median_hz) > width_hz)
        power = np.abs(np.fft.rfft(audio[start : start + size] * window)) ** 2
        count = np.bincount(band[beside], minlength=n_bands)
        total = np.bincount(band[beside], power[beside], minlength=n_bands)
        density = total / np.maximum(count, 1) + 1e-12
        found.append(np.where(count >= LEAST_BINS, 10.0 * np.log10(density), np.nan)[None])
    return np.concatenate(found)
