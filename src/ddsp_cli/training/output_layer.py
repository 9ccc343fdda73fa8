"""Set the output layer of the decoder by rule: before training, and after it where training gave no gradient.

- Before: the amplitude of harmonics falls with their number. Random weights give all harmonics the same amplitude. At
  16 kHz training soon shapes them. At 48 kHz most of them lie where instruments have no energy, so training first turns
  all harmonics off, and noise replaces them for good (magenta/ddsp#478). Harmonics that start with the roll-off of most
  instruments are kept and shaped.
- After: harmonics that lie above half the sample rate on every note of the data set are masked. Noise bands that
  training turned off are filled. Single noise bands and single high harmonics that stand out are lowered. At the end
  the harmonics above the rendered band, the level of a typical frame, and the noise between the harmonics are matched
  to the recordings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ddsp_cli.analysis.metrics import level_db, noise_levels_db
from ddsp_cli.arrays import DoubleArray, FloatArray, hann_window, runs
from ddsp_cli.bundle import Bundle, Card
from ddsp_cli.bundle.layout import control_columns
from ddsp_cli.config import ANALYSIS_RATE_HZ, FilteredNoiseConfig, HarmonicConfig, ModelConfig
from ddsp_cli.errors import ModelError
from ddsp_cli.scaling import MAX_AMPLITUDE, midi_to_hz
from ddsp_cli.synthesis.decoder import NOTE_BIAS, Decoder, hidden_layer
from ddsp_cli.synthesis.instrument import Instrument, check_graph
from ddsp_cli.training.targets import BAND_SHARE, BEYOND_WEIGHT, window_levels

if TYPE_CHECKING:
    from ddsp_cli.engine import Autoencoder
    from ddsp_cli.training.windows import Windows

#: Names of the weights of the output layer.
KERNEL, BIAS = "decoder/dense_out/kernel", "decoder/dense_out/bias"

#: The amplitude of a harmonic before normalisation where the network's output is 0, as random weights have it.
FIRST_AMPLITUDE = MAX_AMPLITUDE * 0.5 ** math.log(10.0)


def init_harmonic_rolloff(model: Autoencoder, rolloff: float) -> None:
    """Initialises the output bias so that harmonic k starts at 1/k**rolloff of the first.

    Args:
      model: with random weights, whose output bias is 0.
      rolloff: exponent; 0 changes nothing.
    """
    from keras import ops

    distributions = {node.inputs[1] for node in model.config.processors.values() if isinstance(node, HarmonicConfig)}
    bias = model.decoder.dense_out.bias
    values, start = np.array(ops.convert_to_numpy(bias)), 0
    for name, size in model.decoder.outputs.items():
        if name in distributions:
            values[start : start + size] = rolloff_bias(size, rolloff)
        start += size
    bias.assign(values)


def rolloff_bias(n_harmonics: int, rolloff: float) -> np.ndarray:
    """Returns raw network output for amplitudes 1/k**rolloff: the inverse of `scaling.exp_sigmoid` without threshold.

    Returns:
      [K] float32.
    """
    amplitudes = FIRST_AMPLITUDE / np.arange(1, n_harmonics + 1) ** rolloff
    sigmoid = (amplitudes / MAX_AMPLITUDE) ** (1.0 / math.log(10.0))
    return np.log(sigmoid / (1.0 - sigmoid)).astype(np.float32)


#: Raw output of a masked harmonic. `exp_sigmoid` maps it to 2e-5, 90 dB below the others. Its gradient there is large
#: enough to learn the harmonic when training continues with lower notes; at the floor the gradient is 0.
MASKED_OUTPUT = -5.0


def mask_untrained_harmonics(
    weights: Mapping[str, np.ndarray], model: ModelConfig, lowest_hz: float
) -> dict[str, np.ndarray]:
    """Returns weights whose network masks the harmonics above half the sample rate at every note of the data set.

    These had no gradient, so their levels are random: below its range the instrument would whistle.

    Args:
      weights: by name; kernel [C, outputs] and bias [outputs] of the last layer are replaced in a copy.
      model: configuration of the model with these weights.
      lowest_hz: F0 of the lowest note in the data set.
    """
    changed = dict(weights)
    harmonic = model.only(HarmonicConfig)
    if harmonic is None or lowest_hz <= 0:
        return changed
    columns = control_columns(model, harmonic[0]).get("harmonic_distribution")
    if columns is None:
        return changed
    first = columns.start + int(model.sample_rate_hz / 2 / lowest_hz)  # harmonic k is in column start + k - 1
    kernel, bias = weights[KERNEL].copy(), weights[BIAS].copy()
    kernel[:, first : columns.stop] = 0.0
    bias[first : columns.stop] = MASKED_OUTPUT
    changed |= {KERNEL: kernel, BIAS: bias}
    if NOTE_BIAS in weights:
        changed[NOTE_BIAS] = weights[NOTE_BIAS].copy()
        changed[NOTE_BIAS][:, first : columns.stop] = 0.0
    return changed


#: A hole is a noise band this far below its neighbours, see `find_holes`. The noise of instruments is smooth over
#: frequency, so training has turned such a band off by chance. Bands below the lowest note are left as they are: there
#: recordings hold rumble below 100 Hz and little above it.
HOLE_DB = 5.0

#: Noise is examined at these percentiles of the levels of the recordings, in notes of this length.
LEVEL_PERCENTILES, NOTE_FRAMES = (25, 50, 75), 10

#: Above this frequency a band that is `HOLE_DB` louder than its neighbours is lowered: it is a whistle in the
#: recordings, or an error at the edge of the rendered band. Below it every band was trained on sound.
SPIKES_FROM_HZ = 7500.0

#: Such a band is also lowered at the levels of rests and ends of notes, where its magnitude is above this: the
#: recordings of one oboe have the line frequency of a television, 15.7 kHz.
REST_LEVELS_DB, AUDIBLE_REST_DB = (-80.0, -65.0, -50.0), -70.0

#: Change in dB of a soft band per unit of the raw output: the level is 20·ln(σ(x)) (`engine.losses.ControlLoss`).
DB_PER_UNIT = 20.0

#: Number of passes: filling a hole may reveal a shallower one beside it.
MAX_PASSES = 4


def smooth_noise(weights: Mapping[str, FloatArray], card: Card) -> dict[str, FloatArray]:
    """Replaces holes and spikes in the mean noise of a chromatic scale by interpolation between their neighbours.

    The neighbours of a hole have learned to be louder in its place, so the power of both together is kept.

    Args:
      weights: by name; kernel [C, outputs] and bias [outputs] of the last layer are replaced in a copy.
      card: of the instrument; the scale has its range and levels. An instrument that the player cannot play stays
        unchanged.
    """
    changed = dict(weights)
    noise = card.model.only(FilteredNoiseConfig)
    columns = control_columns(card.model, noise[0]).get("noise_magnitudes") if noise else None
    if columns is None or not is_playable(card.model):
        return changed
    bands_per_hz = (columns.stop - columns.start - 1) / (card.model.sample_rate_hz / 2.0)
    first = int(SPIKES_FROM_HZ * bands_per_hz) + 1
    lowest = math.ceil(float(midi_to_hz(np.float64(card.statistics.range_midi[0]))) * bands_per_hz)
    for _ in range(MAX_PASSES):
        before_db = mean_noise_db(changed, card)
        holes, spikes = find_holes(before_db), find_spikes(before_db, first) | _find_rest_spikes(changed, card, first)
        holes[:lowest] = False
        replaced = holes | spikes
        if not replaced.any():
            break
        kernel, bias = changed[KERNEL].copy(), changed[BIAS].copy()
        places = np.arange(len(replaced))
        for row in (*kernel, bias):
            own = row[columns]
            own[replaced] = np.interp(places[replaced], places[~replaced], own[~replaced])
        changed |= {KERNEL: kernel, BIAS: bias}
        # power of each hole with the bands beside it, before and after
        around = np.convolve(np.pad(holes, 1), np.ones(3), "valid") > 0.0
        powers = [10.0 ** (db / 10.0) for db in (before_db, mean_noise_db(changed, card))]
        for start, stop in zip(*runs(around), strict=True):
            louder_db = 10.0 * np.log10(powers[1][start:stop].sum() / powers[0][start:stop].sum())
            bias[columns][start:stop] -= np.float32(louder_db / DB_PER_UNIT)
    return changed


def is_playable(model: ModelConfig) -> bool:
    """Whether the player has all processors of a model."""
    try:
        check_graph(model)
    except ModelError:
        return False
    return True


def find_holes(noise_db: FloatArray) -> np.ndarray:
    """Returns a mask [M] of the bands that are holes.

    A hole is `HOLE_DB` below the bands one, or two, on both sides of it, or below their mean where these differ by less
    than three times that: a band beside a step or a peak is no hole.
    """
    holes = np.zeros(len(noise_db), bool)
    for reach in (1, 2):
        if len(noise_db) > 2 * reach:
            sides_db = np.stack([noise_db[: -2 * reach], noise_db[2 * reach :]])
            even = np.ptp(sides_db, axis=0) < 3.0 * HOLE_DB
            around_db = np.where(even, sides_db.mean(axis=0), sides_db.min(axis=0))
            holes[reach:-reach] |= noise_db[reach:-reach] < around_db - HOLE_DB
    return holes


def find_spikes(noise_db: FloatArray, first: int) -> np.ndarray:
    """Returns a mask [M] of bands from `first` on, `HOLE_DB` above the bands two, or four, on both sides of them."""
    spikes = np.zeros(len(noise_db), bool)
    for reach in (2, 4):
        if len(noise_db) > 2 * reach:
            sides_db = np.maximum(noise_db[: -2 * reach], noise_db[2 * reach :])
            spikes[reach:-reach] |= noise_db[reach:-reach] > sides_db + HOLE_DB
    spikes[:first] = False
    return spikes


def _find_rest_spikes(weights: Mapping[str, FloatArray], card: Card, first: int) -> np.ndarray:
    """Returns a mask [M] of the bands from `first` on that stand out between notes, see `find_spikes`."""
    found = [mean_noise_db(weights, card, [level_db]) for level_db in REST_LEVELS_DB]
    return np.any([find_spikes(noise_db, first) & (noise_db > AUDIBLE_REST_DB) for noise_db in found], axis=0)


#: A harmonic this far above the harmonics around it is a line in the spectrum that no recording has. Over the notes of
#: the training sets, the mean excess of a harmonic from the twelfth on is at most 1.4 dB (eight instruments).
HARMONIC_SPIKE_DB = 10.0

#: Such harmonics are lowered from this number on. Below it body and bow raise single partials in recordings too (double
#: bass: by 16 dB). Above `SPIKES_FROM_HZ` they are lowered from the second number on.
SPIKES_FROM_HARMONIC, UPPER_SPIKES_FROM_HARMONIC = 40, 12

#: A harmonic is compared with this number of harmonics on each side of it.
NEIGHBOURS = 4

#: Softer harmonics than this, relative to the loudest of their frame, are not examined.
SPIKE_RANGE_DB = 75.0

#: Harmonics are examined at these percentiles of the levels, in every tenth frame of longer notes, since a held note
#: changes with the state of the network.
HARMONIC_PERCENTILES, HELD_FRAMES, HELD_STEP = (10, 25, 50, 75, 90, 99), 50, 10

#: Number of passes over the harmonics; each moves them half of the way to their neighbours.
HARMONIC_PASSES = 12


def smooth_harmonics(loaded: Bundle) -> dict[str, FloatArray]:
    """Lowers single high harmonics that stand out in a chromatic scale, towards the mean of their neighbours.

    Training on few loud and low notes leaves single harmonics up to 30 dB above those around them on other notes.

    Args:
      loaded: the instrument; one that the player cannot play stays unchanged.

    Returns:
      Its weights, with a new output layer and note bias where a harmonic stands out.
    """
    model, weights = loaded.card.model, dict(loaded.weights)
    harmonic = model.only(HarmonicConfig)
    columns = control_columns(model, harmonic[0]).get("harmonic_distribution") if harmonic else None
    if columns is None or model.encoder or not is_playable(model):
        return weights
    lowest, highest = loaded.card.statistics.range_midi
    midi = np.arange(round(lowest), round(highest) + 1, dtype=np.float64)
    levels_db = loaded.card.statistics.level(model.level)[list(HARMONIC_PERCENTILES)]
    notes = _Controls(*_scale(midi, levels_db, HELD_FRAMES), slice(HELD_STEP - 1, None, HELD_STEP))
    for _ in range(HARMONIC_PASSES):
        _, played_db = _played_harmonics(replace(loaded, weights=weights), notes)
        spikes = find_harmonic_spikes(played_db, notes.f0_hz[notes.counted], model.sample_rate_hz)
        if not spikes.any():
            break
        for name in (name for name in (KERNEL, BIAS, NOTE_BIAS) if name in weights):
            changed = weights[name].copy()
            changed[..., columns] = _moved_to_neighbours(weights[name][..., columns], spikes)
            weights[name] = changed
    return weights


def find_harmonic_spikes(levels_db: FloatArray, f0_hz: FloatArray, sample_rate_hz: int) -> np.ndarray:
    """Returns a mask [K] of the high harmonics that stand out of their neighbours in at least one frame.

    Args:
      levels_db: [N, K] in frames of notes.
      f0_hz: [N].
      sample_rate_hz: of the instrument. The four harmonics below half of it have too few neighbours.
    """
    numbers = np.arange(1, levels_db.shape[1] + 1)
    hz = numbers * f0_hz[:, None]
    is_high = (numbers >= SPIKES_FROM_HARMONIC) | ((hz > SPIKES_FROM_HZ) & (numbers >= UPPER_SPIKES_FROM_HARMONIC))
    has_neighbours = hz + NEIGHBOURS * f0_hz[:, None] < sample_rate_hz / 2.0
    is_heard = levels_db > levels_db.max(axis=1, keepdims=True) - SPIKE_RANGE_DB
    stands_out = harmonic_excess_db(levels_db) > HARMONIC_SPIKE_DB
    return np.asarray(np.any(stands_out & is_high & has_neighbours & is_heard, axis=0))


def harmonic_excess_db(levels_db: FloatArray) -> FloatArray:
    """Returns how far each harmonic stands out of its neighbours, [N, K] → [N, K] in dB.

    That is its level less the median of the three harmonics on each side of it, or of the two on each side that are
    even or odd as it is, whichever is louder: those of a clarinet alternate. It is 0 for the first and last four.
    """
    excess_db = np.zeros_like(levels_db)
    n_inner = levels_db.shape[1] - 2 * NEIGHBOURS
    if n_inner > 0:

        def median_db(*offsets: int) -> np.ndarray:
            near = [levels_db[:, NEIGHBOURS + offset : NEIGHBOURS + offset + n_inner] for offset in offsets]
            return np.asarray(np.median(near, axis=0))

        around_db = np.maximum(median_db(-3, -2, -1, 1, 2, 3), median_db(-4, -2, 2, 4))
        excess_db[:, NEIGHBOURS:-NEIGHBOURS] = levels_db[:, NEIGHBOURS:-NEIGHBOURS] - around_db
    return excess_db


def _moved_to_neighbours(values: FloatArray, spikes: np.ndarray) -> FloatArray:
    """Returns columns [..., K]; those of spikes half of the way to the mean of up to four columns around them."""
    changed = values.copy()
    for k in np.flatnonzero(spikes):
        around = [j for j in (k - 2, k - 1, k + 1, k + 2) if not spikes[j]]
        if around:
            changed[..., k] = 0.5 * (values[..., k] + values[..., around].mean(axis=-1))
    return changed


def mean_noise_db(
    weights: Mapping[str, FloatArray], card: Card, levels_db: Sequence[float] | FloatArray | None = None
) -> FloatArray:
    """Returns the mean magnitude of each noise band over a chromatic scale, [M] in dB.

    Args:
      weights: of the decoder.
      card: of the instrument, whose range the scale has.
      levels_db: of the notes; by default at `LEVEL_PERCENTILES` of those of the recordings.
    """
    decoder = Decoder(Bundle(card, dict(weights), None))
    controls = decoder.controls(*chromatic_scale(card, levels_db))
    return np.asarray(np.mean(20.0 * np.log10(controls["noise_magnitudes"] + 1e-12), axis=0), np.float32)


def chromatic_scale(card: Card, levels_db: Sequence[float] | FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
    """Returns F0 and level, [F] each, of a chromatic scale over the range of an instrument; see `mean_noise_db`."""
    lowest, highest = card.statistics.range_midi
    if levels_db is None:
        levels_db = card.statistics.level(card.model.level)[list(LEVEL_PERCENTILES)]
    midi = np.arange(round(lowest), round(highest) + 1, dtype=np.float64)
    return _scale(midi, levels_db)


class _Controls(NamedTuple):
    """Notes that the decoder plays.

    Attributes:
      f0_hz, level_db: [F] of all frames.
      counted: the frames [N] in which harmonics are measured and fitted.
    """

    f0_hz: FloatArray
    level_db: FloatArray
    counted: slice

    def harmonics_hz(self, n_harmonics: int) -> DoubleArray:
        """Returns the frequencies [N, K] of harmonics in the counted frames."""
        return np.asarray(self.f0_hz[self.counted, None] * np.arange(1, n_harmonics + 1), np.float64)


def _reference_notes(card: Card) -> _Controls:
    """Returns notes on which harmonics should stay, see `ANY_LEVELS_DB`; their last frames count."""
    lowest, highest = card.statistics.range_midi
    midi = np.arange(round(lowest) - 12, round(highest) + 13, ANY_STEP, dtype=np.float64)
    return _Controls(*_scale(midi, ANY_LEVELS_DB), slice(NOTE_FRAMES - 1, None, NOTE_FRAMES))


def _scale(
    midi: DoubleArray, levels_db: Sequence[float] | FloatArray, n_frames: int = NOTE_FRAMES
) -> tuple[FloatArray, FloatArray]:
    """Returns F0 and level, [F] each, of `n_frames` of each note at each level."""
    f0_hz = np.repeat(np.tile(midi_to_hz(midi), len(levels_db)), n_frames)
    level_db = np.repeat(np.repeat(levels_db, len(midi)), n_frames)
    return np.asarray(f0_hz, np.float32), np.asarray(level_db, np.float32)


#: Harmonics above the rendered band are measured in this number of windows, every third frame, down to this level.
UPPER_WINDOWS, UPPER_STEP, UPPER_FLOOR_DB = 40, 3, -125.0

#: They start at this share of the rendered band, since a rendering falls off below the edge.
UPPER_SHARE = 0.95

#: Smallest number of frames for the fit: more than the units of the last hidden layer.
LEAST_UPPER_FRAMES = 400

#: Limits of the change of the level of a harmonic.
UPPER_MOVE_DB = (-45.0, 12.0)

#: The fit keeps three groups of harmonics unchanged: those in the rendered band within `KEPT_DB` of the loudest, with
#: the weight `KEPT_WEIGHT`; those of rests, with weight 1; and, with the weight `ANY_WEIGHT`, those of notes that the
#: recordings may lack: a whole-tone scale over the range and an octave around it, at these levels.
KEPT_WEIGHT, KEPT_DB = 30.0, 70.0
ANY_WEIGHT, ANY_STEP, ANY_LEVELS_DB = 0.3, 2, (-80.0, -65.0, -50.0, -35.0, -20.0, -5.0)

#: Ridge of the least squares, as a share of the mean square of the inputs.
RIDGE = 1e-3

#: Largest σ(x) of a control after the fit.
MOST_SHARE = 0.98


def fit_upper_harmonics(loaded: Bundle, windows: Windows) -> dict[str, FloatArray]:
    """Fits the harmonics above the rendered band to their measured levels.

    In the rendered band every harmonic was trained on sound. Above it, harmonics were trained on measured levels alone,
    with a floor of `targets.FLOOR_DB`, so that they can be learned; a hundred harmonics at this floor are louder than
    the noise of a soft note. Here the levels are measured without the floor. The last layer is linear, so it is fitted
    to them by least squares. In frames in which a harmonic lies in the rendered band, its level is kept.

    Args:
      loaded: the instrument; one that the player cannot play stays unchanged.
      windows: of the training split, with the rate at which its sound was rendered.

    Returns:
      Its weights, with a new output layer if training rendered less than the whole band.
    """
    model = loaded.card.model
    harmonic, noise = model.only(HarmonicConfig), model.only(FilteredNoiseConfig)
    lowest_hz = UPPER_SHARE * windows.hop_samples * model.frame_rate_hz / 2.0
    rows = windows.voiced_rows(UPPER_WINDOWS)
    unchanged = dict(loaded.weights)
    if windows.hop_samples >= model.hop_samples or not len(rows) or not is_playable(model) or model.encoder:
        return unchanged
    if harmonic is None or noise is None:
        return unchanged
    columns = control_columns(model, harmonic[0]).get("harmonic_distribution")
    if columns is None:
        return unchanged
    n_harmonics = columns.stop - columns.start
    every = slice(None, None, UPPER_STEP)
    controls, moves_db, weights = [], [], []
    for row in rows:
        notes = _Controls(windows.inputs["f0_hz"][row, :, 0], windows.level_db(int(row)), every)
        controls.append(notes)
        measured_db, _ = window_levels(
            windows.audio[row], model, windows.fine_f0_hz[row], float(windows.bandwidth_hz[row]), n_harmonics,
            noise[1].n_bands, windows.f0_step, UPPER_FLOOR_DB,
        )  # fmt: skip
        _, played_db = _played_harmonics(loaded, notes)
        hz = notes.harmonics_hz(n_harmonics)
        upper = (hz > lowest_hz) & windows.voiced[row][every, None]
        kept = ~upper & (played_db > played_db.max(axis=1, keepdims=True) - KEPT_DB)
        weight = np.where(hz <= windows.bandwidth_hz[row], 1.0, BEYOND_WEIGHT) * (hz < model.sample_rate_hz / 2.0)
        move_db = measured_db[every] - played_db
        moves_db.append(np.where(upper, np.clip(move_db, *UPPER_MOVE_DB), 0.0))
        weights.append(np.where(kept, KEPT_WEIGHT, weight))
    if windows.voiced[rows].sum() // UPPER_STEP < LEAST_UPPER_FRAMES:
        return unchanged
    notes = _reference_notes(loaded.card)
    controls.append(notes)
    moves_db.append(np.zeros(notes.harmonics_hz(n_harmonics).shape))
    weights.append(np.full(notes.harmonics_hz(n_harmonics).shape, ANY_WEIGHT))
    return _with_changed_harmonics(loaded, controls, np.concatenate(moves_db), np.concatenate(weights))


#: Total power is compared in this number of windows, in the bands between these edges, if they hold this share of it.
BALANCED_WINDOWS, BALANCE_EDGES_HZ, LEAST_SHARE_DB = 40, (8000.0, 11314.0, 16000.0, 20000.0), -55.0

#: Length of the frames in which this power is measured.
BALANCE_SAMPLES = 4096

#: The power is changed by at most `MAX_BALANCE_DB`, and a typical frame stays within `TYPICAL_DB` of the recordings,
#: since most of the total power may lie in a few clicks.
MAX_BALANCE_DB, TYPICAL_DB = 4.0, 1.5


def balance_upper_band(loaded: Bundle, windows: Windows) -> dict[str, FloatArray]:
    """Matches the power above the rendered band to the recordings.

    Levels in dB were fitted to their means and medians. Where they vary at the same F0 and level, the mean power is
    higher than the power at the mean level. In the rendered band, training on sound has corrected that.

    Args:
      loaded: the instrument, with its noise matched; one that the player cannot play stays unchanged.
      windows: of the training split, with the rate at which its sound was rendered.

    Returns:
      Its weights, with a new output layer if training rendered less than the whole band. Harmonics and noise are
      changed by the same gain, which depends on frequency alone.
    """
    model = loaded.card.model
    harmonic, noise = model.only(HarmonicConfig), model.only(FilteredNoiseConfig)
    lowest_hz = UPPER_SHARE * windows.hop_samples * model.frame_rate_hz / 2.0
    rows = windows.voiced_rows(BALANCED_WINDOWS)
    unchanged = dict(loaded.weights)
    if windows.hop_samples >= model.hop_samples or not len(rows) or not is_playable(model) or model.encoder:
        return unchanged
    if harmonic is None or noise is None:
        return unchanged
    edges_hz = np.array(BALANCE_EDGES_HZ)
    missing_db = _missing_power_db(Instrument(loaded), windows, rows, edges_hz)
    if not missing_db.any():
        return unchanged
    every = slice(None, None, UPPER_STEP)
    controls = [_reference_notes(loaded.card)]
    controls += [_Controls(windows.inputs["f0_hz"][row, :, 0], windows.level_db(int(row)), every) for row in rows]
    centres = np.log2([lowest_hz, edges_hz[0], *np.sqrt(edges_hz[1:] * edges_hz[:-1])])

    def gain_db(hz: np.ndarray) -> np.ndarray:
        return np.interp(np.log2(np.maximum(hz, 1.0)), centres, [0.0, missing_db[0], *missing_db])

    columns = control_columns(model, noise[0])["noise_magnitudes"]
    bias = loaded.weights[BIAS].copy()
    bands_hz = np.linspace(0.0, model.sample_rate_hz / 2.0, columns.stop - columns.start)
    bias[columns] += (gain_db(bands_hz) / DB_PER_UNIT).astype(np.float32)
    hz = np.concatenate([notes.harmonics_hz(harmonic[1].n_harmonics) for notes in controls])
    changed = replace(loaded, weights=unchanged | {BIAS: bias})
    return _with_changed_harmonics(changed, controls, gain_db(hz), np.where(hz < lowest_hz, KEPT_WEIGHT, 1.0))


def _missing_power_db(player: Instrument, windows: Windows, rows: np.ndarray, edges_hz: np.ndarray) -> np.ndarray:
    """Measures how much softer the instrument is than the recordings in the bands [len(edges_hz) - 1] between edges.

    Args:
      player: the instrument.
      windows: of the training split.
      rows: the windows to compare.
      edges_hz: of the bands.

    Returns:
      dB, within the limits of `MAX_BALANCE_DB` and `TYPICAL_DB`; 0 in bands without `LEAST_SHARE_DB` of the power.
    """
    model, powers = player.model, []
    for row in rows:
        recorded, played = (
            _band_powers(sound, model.sample_rate_hz, edges_hz)
            for sound in (windows.audio[row], play_window(player, windows, int(row)))
        )
        frames = ((np.arange(len(recorded)) + 0.5) * BALANCE_SAMPLES / model.hop_samples).astype(int)
        voiced = windows.voiced[row][np.minimum(frames, windows.n_frames - 1)]
        reached = np.append(True, windows.bandwidth_hz[row] >= UPPER_SHARE * edges_hz[1:])
        powers.append(np.stack([recorded, recorded * reached, played * reached])[:, voiced])
    whole, recorded, played = np.concatenate(powers, axis=1)
    is_present = recorded[:, 1:].sum(axis=0) > 10.0 ** (LEAST_SHARE_DB / 10.0) * whole.sum()
    missing_db = np.zeros(len(is_present))
    for band in np.flatnonzero(is_present):
        recorded_power, played_power = recorded[:, band + 1], played[:, band + 1]
        total_db = 10.0 * np.log10(recorded_power.sum() / played_power.sum())
        heard = recorded_power > 0.0
        typical_db = float(np.median(10.0 * np.log10(recorded_power[heard] / played_power[heard])))
        missing_db[band] = np.clip(total_db, typical_db - TYPICAL_DB, typical_db + TYPICAL_DB)
    return np.clip(missing_db, -MAX_BALANCE_DB, MAX_BALANCE_DB)


def _band_powers(audio: FloatArray, sample_rate_hz: int, edges_hz: np.ndarray) -> np.ndarray:
    """Returns the power below the first edge and between the edges in frames of a sound, [T, len(edges_hz)]."""
    n_frames = len(audio) // BALANCE_SAMPLES
    frames = np.reshape(audio[: n_frames * BALANCE_SAMPLES], (n_frames, BALANCE_SAMPLES))
    power = np.abs(np.fft.rfft(frames * hann_window(BALANCE_SAMPLES), axis=1)) ** 2 + 1e-12
    starts = np.round(edges_hz / (sample_rate_hz / 2.0) * (BALANCE_SAMPLES // 2)).astype(int)
    return np.asarray(np.add.reduceat(power[:, : starts[-1]], [0, *starts[:-1]], axis=1))


def _played_harmonics(loaded: Bundle, notes: _Controls) -> tuple[FloatArray, FloatArray]:
    """Returns the last hidden layer [N, C] and the levels of the harmonics in dB [N, K] in the counted frames."""
    controls = Decoder(loaded).controls(notes.f0_hz, notes.level_db)
    amplitudes = (controls["amplitude"] * controls["harmonic_distribution"])[notes.counted]
    hidden = hidden_layer(loaded, notes.f0_hz, notes.level_db)[notes.counted]
    return hidden, np.asarray(20.0 * np.log10(amplitudes + 1e-9), np.float32)


def _with_changed_harmonics(
    loaded: Bundle, controls: Sequence[_Controls], moves_db: np.ndarray, counts: np.ndarray
) -> dict[str, FloatArray]:
    """Changes the levels of harmonics; the loudest of each frame keeps its level.

    Args:
      loaded: the instrument.
      controls: notes with N counted frames in all.
      moves_db: [N, K] gain of each harmonic in these frames.
      counts: [N, K] weights.

    Returns:
      Its weights, with a new output layer.
    """
    model = loaded.card.model
    harmonic = model.only(HarmonicConfig)
    assert harmonic is not None
    columns, weights = control_columns(model, harmonic[0]), dict(loaded.weights)
    before = [_played_harmonics(loaded, notes) for notes in controls]
    hidden = np.concatenate([outputs for outputs, _ in before])
    weights |= _fit_outputs(weights, columns["harmonic_distribution"], hidden, moves_db, counts)
    # the distribution sums to 1: where some harmonics become softer, the others become louder
    louder_db = []
    for notes, (_, before_db) in zip(controls, before, strict=True):
        _, after_db = _played_harmonics(replace(loaded, weights=weights), notes)
        louder_db.append(np.take_along_axis(after_db - before_db, before_db.argmax(axis=1)[:, None], axis=1))
    total_counts = counts.max(axis=1, keepdims=True)
    return weights | _fit_outputs(weights, columns["amplitude"], hidden, -np.concatenate(louder_db), total_counts)


def _fit_outputs(
    weights: Mapping[str, FloatArray], columns: slice, hidden: np.ndarray, moves_db: np.ndarray, counts: np.ndarray
) -> dict[str, FloatArray]:
    """Changes the levels of some outputs by weighted least squares.

    Args:
      weights: of the decoder.
      columns: the outputs [K].
      hidden: [N, C] last hidden layer.
      moves_db: [N, K] gain of each output.
      counts: [N, K] weights.

    Returns:
      A new kernel and bias of the output layer, by name.
    """
    kernel, bias = weights[KERNEL].astype(np.float64), weights[BIAS].astype(np.float64)
    inputs = np.concatenate([hidden, np.ones((len(hidden), 1))], axis=1).astype(np.float64)
    raw = inputs[:, :-1] @ kernel[:, columns] + bias[columns]
    # the level is 20·ln(σ(x)) dB
    share = np.minimum(np.exp(moves_db / DB_PER_UNIT) / (1.0 + np.exp(-raw)), MOST_SHARE)
    moves = np.where(moves_db != 0.0, np.log(share / (1.0 - share)) - raw, 0.0)
    for k in np.flatnonzero(np.any(moves != 0.0, axis=0)):
        squares = (inputs * counts[:, k, None]).T @ inputs
        squares += RIDGE * np.trace(squares) / len(squares) * np.eye(len(squares))
        found = np.linalg.solve(squares, inputs.T @ (counts[:, k] * moves[:, k]))
        kernel[:, columns.start + k] += found[:-1]
        bias[columns.start + k] += found[-1]
    return {KERNEL: kernel.astype(np.float32), BIAS: bias.astype(np.float32)}


#: The level is matched in this number of windows, in two passes: the effect of a change depends on the raw output.
LEVELLED_WINDOWS, LEVEL_PASSES = 12, 2

#: Frames within `LEVEL_RANGE_DB` of the loudest of their window count; a typical one may differ by the tolerance.
LEVEL_RANGE_DB, LEVEL_TOLERANCE_DB = 40.0, 0.5


def match_level(loaded: Bundle, windows: Windows) -> dict[str, FloatArray]:
    """Matches the level of a typical frame to the recordings, within `LEVEL_TOLERANCE_DB`, by a gain of the harmonics.

    Where the phases of a rendering and a recording differ, the distance of their magnitudes is smallest for a rendering
    that is too soft: by 0.5 to 1.2 dB for the bundled instruments.

    Args:
      loaded: the instrument; one that the player cannot play stays unchanged.
      windows: of the training split.

    Returns:
      Its weights, with a new bias of the output layer.
    """
    model = loaded.card.model
    harmonic = model.only(HarmonicConfig)
    columns = control_columns(model, harmonic[0]).get("amplitude") if harmonic else None
    rows = windows.voiced_rows(LEVELLED_WINDOWS)
    weights = dict(loaded.weights)
    if columns is None or not len(rows) or not is_playable(model):
        return weights
    for _ in range(LEVEL_PASSES):
        player = Instrument(replace(loaded, weights=weights))
        louder_db = float(np.median(np.concatenate([_louder_db(player, windows, int(row)) for row in rows])))
        excess_db = louder_db - np.clip(louder_db, -LEVEL_TOLERANCE_DB, LEVEL_TOLERANCE_DB)
        bias = np.array(weights[BIAS], np.float32)
        bias[columns] -= np.float32(np.clip(excess_db, -MAX_MATCH_DB, MAX_MATCH_DB) / DB_PER_UNIT)
        weights |= {BIAS: bias}
    return weights


def _louder_db(player: Instrument, windows: Windows, row: int) -> np.ndarray:
    """Returns the level of the rendering of a window less that of its recording, in dB, in its loud frames [n]."""
    rate_hz = windows.model.sample_rate_hz
    recorded_db, played_db = (level_db(x, rate_hz) for x in (windows.audio[row], play_window(player, windows, row)))
    loud = recorded_db > recorded_db.max() - LEVEL_RANGE_DB
    return np.asarray((played_db - recorded_db)[loud])


#: The noise is matched in this number of windows, in two passes: not all power between the harmonics is noise.
MATCHED_WINDOWS, MATCH_PASSES = 24, 2

#: Bands that are measured less often are left out.
LEAST_MEASURED = 10

#: The level of a band is changed by at most `MAX_MATCH_DB`; for this duration of notes, by half of the difference.
#: Differences up to the tolerance stay: that of held-out recordings to the training split is 0.4 to 4 dB.
MAX_MATCH_DB, MATCH_PRIOR_S, MATCH_TOLERANCE_DB = 5.0, 30.0, 1.0

#: Edges of the bands that are compared; the difference is interpolated between their centres. Below the first edge
#: most power is rumble below 100 Hz, which noise bands of 125 Hz cannot follow: with that power they are too loud at
#: all other frequencies (loss 5.51 for 5.50 on the flute, 5.96 for 5.95 on the oboe).
MATCH_EDGES_HZ = (250.0, 500.0, 750.0, 1000.0, 1400.0, 2000.0, 2800.0, 4000.0, 5600.0, 8000.0, 11300.0, 16000.0,
                  20000.0, 24000.0)  # fmt: skip


def match_noise(loaded: Bundle, windows: Windows) -> dict[str, FloatArray]:
    """Matches the noise between the harmonics to its level in the recordings.

    A spectral loss compares one draw of noise with another, and these differ by 4 dB even where their levels agree. The
    player also adds fluctuations of each partial (`synthesis.variation`), whose sidebands lie between the harmonics. So
    recordings and renderings are measured in the same way, and the bias of each noise band is changed by the median
    difference, beyond `MATCH_TOLERANCE_DB`. It is multiplied by T / (T + `MATCH_PRIOR_S`) for T seconds of notes: half
    a minute says little about the noise in other recordings.

    Args:
      loaded: the instrument; one that the player cannot play stays unchanged.
      windows: of the training split.

    Returns:
      Its weights, with a new bias of the output layer.
    """
    model = loaded.card.model
    noise = model.only(FilteredNoiseConfig)
    columns = control_columns(model, noise[0]).get("noise_magnitudes") if noise else None
    rows = windows.voiced_rows(MATCHED_WINDOWS)
    if columns is None or not len(rows) or not is_playable(model):
        return dict(loaded.weights)
    recorded_db = [_noise_of(windows, int(row), windows.audio[row]) for row in rows]
    edges_hz = np.array(MATCH_EDGES_HZ)
    centres = np.log2(np.sqrt(edges_hz[1:] * edges_hz[:-1]))
    bands_hz = np.linspace(0.0, model.sample_rate_hz / 2.0, columns.stop - columns.start)
    bands = np.log2(np.maximum(bands_hz, edges_hz[0]))
    weights, moved_db = dict(loaded.weights), np.zeros(len(bands))
    for _ in range(MATCH_PASSES):
        player = Instrument(Bundle(loaded.card, weights, loaded.impulse_response))
        difference_db = np.concatenate([
            _noise_of(windows, int(row), play_window(player, windows, int(row))) - own_db
            for row, own_db in zip(rows, recorded_db, strict=True)
        ])  # fmt: skip
        known = np.flatnonzero(np.isfinite(difference_db).sum(axis=0) >= LEAST_MEASURED)
        if not len(known):
            break
        louder_db = np.interp(bands, centres[known], np.nanmedian(difference_db[:, known], axis=0))
        wanted_db = np.clip(moved_db - louder_db, -MAX_MATCH_DB, MAX_MATCH_DB)
        bias = np.array(weights[BIAS], np.float32)
        bias[columns] += np.float32((wanted_db - moved_db) / DB_PER_UNIT)
        weights, moved_db = weights | {BIAS: bias}, wanted_db
    moved_db = np.sign(moved_db) * np.maximum(np.abs(moved_db) - MATCH_TOLERANCE_DB, 0.0)
    moved_db[bands_hz < edges_hz[0]] = 0.0
    note_s = float(windows.voiced.sum()) / model.frame_rate_hz
    bias = np.array(loaded.weights[BIAS], np.float32)
    bias[columns] += np.float32(moved_db * (note_s / (note_s + MATCH_PRIOR_S)) / DB_PER_UNIT)
    return weights | {BIAS: bias}


def play_window(player: Instrument, windows: Windows, row: int, variation: bool = True) -> FloatArray:
    """Renders a window with the instrument, [S], with or without the movements of held notes."""
    import soxr

    model = player.model
    low = soxr.resample(windows.audio[row], model.sample_rate_hz, ANALYSIS_RATE_HZ)
    parts = player.render(
        windows.fine_f0_hz[row], windows.level_db(row), seed=row, timbre=player.timbre([low]), variation=variation
    )
    return np.concatenate(list(parts))[: len(windows.audio[row])]


def _noise_of(windows: Windows, row: int, audio: FloatArray) -> np.ndarray:
    """Measures the noise of a window, see `metrics.noise_levels_db`; NaN above the band of its recording."""
    model = windows.model
    f0_hz, voiced = windows.fine_f0_hz[row], np.repeat(windows.voiced[row], windows.f0_step)
    rate_hz = model.frame_rate_hz * windows.f0_step
    found_db = noise_levels_db(audio, model.sample_rate_hz, f0_hz, voiced, rate_hz, np.array(MATCH_EDGES_HZ))
    top_hz = min(float(windows.bandwidth_hz[row]), BAND_SHARE * model.sample_rate_hz / 2.0)
    found_db[:, np.array(MATCH_EDGES_HZ[1:]) > max(top_hz, MATCH_EDGES_HZ[1])] = np.nan
    return found_db
