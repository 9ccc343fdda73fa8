"""Sings `voice.wav`: a phrase made wholly from formulas, no recording.

    python examples/make_voice.py [--out voice.wav]

The voice is the classical source-filter model. A glottal source, given as a sum of harmonics with a spectral tilt that
follows the effort, with jitter and shimmer, runs through a cascade of formant resonators that move from vowel to vowel.
Noise shaped frame by frame makes breath, aspiration and the consonants s, S (sh) and t. Over it all lie the habits of a
singer: portamento between notes, a vibrato that waits, phrases that swell and fade, pauses to breathe.

The result is the same on every run. NumPy only.
"""

from __future__ import annotations

import argparse
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SEED = 20
CONTROL_RATE_HZ = 1000  # of all curves below
FRAME_RATE_HZ = 250  # of the pitch curve that `sing` returns

PEAK_DBFS = -3.0
ROOM_DBFS = -70.0

#: Formant frequencies in Hz of a mezzo-soprano; m is the hum of closed lips.
FORMANTS_HZ = {
    "a": (820, 1250, 2800, 3750, 4800),
    "e": (500, 2150, 2850, 3800, 4900),
    "i": (330, 2600, 3250, 4000, 5000),
    "o": (480, 880, 2750, 3700, 4800),
    "u": (360, 780, 2650, 3650, 4700),
    "m": (270, 1050, 2250, 3500, 4700),
}
#: The resonances above, which do not move.
UPPER_FORMANTS_HZ = (6000, 7200, 8500)
BANDWIDTHS_HZ = (80, 95, 130, 180, 250, 350, 450, 550)

#: Consonants without voice: duration in seconds, centre in Hz, width in octaves, level in dBFS.
CONSONANTS = {"s": (0.13, 7400.0, 0.45, -37.0), "S": (0.14, 3600.0, 0.55, -35.0), "t": (0.07, 4500.0, 1.2, -29.0)}


@dataclass(frozen=True)
class Note:
    """A sung note.

    Attributes:
      midi: pitch as a MIDI number.
      duration_s: from its beginning, consonant included, to the next.
      text: a consonant or none (s, S, t), then the vowels it moves through; m counts as a vowel.
      level_db: how loud, against the loudest note.
    """

    midi: float
    duration_s: float
    text: str
    level_db: float

    @property
    def consonant(self) -> str:
        """The voiceless consonant it starts with, or nothing."""
        return self.text[0] if self.text[0] in CONSONANTS else ""

    @property
    def vowels(self) -> str:
        """The text without that consonant."""
        return self.text.removeprefix(self.consonant)


@dataclass(frozen=True)
class Rest:
    """A pause; a breath is drawn in its second half, at `breath_dbfs`."""

    duration_s: float
    breath_dbfs: float | None = None


MELODY: tuple[Note | Rest, ...] = (
    Rest(0.25),
    Note(62, 0.42, "ma", -19),  # D4
    Note(66, 0.30, "e", -17),  # F#4
    Note(69, 0.85, "o", -13),  # A4
    Rest(0.40, -52),
    Note(71, 0.32, "ti", -11),  # B4
    Note(69, 0.26, "e", -11),  # A4
    Note(66, 0.28, "a", -12),  # F#4
    Note(67, 0.34, "so", -10),  # G4
    Note(64, 0.90, "ua", -12),  # E4
    Rest(0.62, -46),
    Note(69, 0.38, "Sa", -6),  # A4
    Note(74, 0.30, "i", -3),  # D5
    Note(73, 0.24, "e", -3),  # C#5
    Note(74, 1.15, "a", 0),  # D5
    Note(71, 0.28, "o", -6),  # B4
    Note(69, 0.55, "u", -10),  # A4
    Rest(0.34, -50),
    Note(67, 0.30, "mo", -15),  # G4
    Note(66, 0.28, "e", -17),  # F#4
    Note(64, 0.34, "ti", -20),  # E4
    Note(62, 1.20, "ou", -22),  # D4
    Rest(0.45),
)


@dataclass(frozen=True)
class Curves:
    """The score as curves at `CONTROL_RATE_HZ`; [N] unless said otherwise.

    Attributes:
      midi: pitch with portamento, vibrato and drift.
      level_db: loudness of the voice against its loudest.
      gate: 1 while the vocal folds swing, 0 while not.
      formants_hz: [N, 5].
      noise_dbfs: name (s, S, t, breath) → level of that noise; -inf where there is none.
    """

    midi: np.ndarray
    level_db: np.ndarray
    gate: np.ndarray
    formants_hz: np.ndarray
    noise_dbfs: dict[str, np.ndarray]


def smooth(curve: np.ndarray, width_s: float) -> np.ndarray:
    """Averages along the first axis under a Hann window `width_s` wide: a step becomes a glide of that length."""
    n = max(3, round(width_s * CONTROL_RATE_HZ)) | 1
    kernel = np.hanning(n + 2)[1:-1]
    kernel /= kernel.sum()
    columns = curve.reshape(len(curve), -1).T
    padded = (np.pad(column, n // 2, mode="edge") for column in columns)
    return np.stack([np.convolve(column, kernel, mode="valid") for column in padded], axis=-1).reshape(curve.shape)


def wander(n: int, width_s: float, rng: np.random.Generator) -> np.ndarray:
    """Makes slow noise of unit variance, shape [n]."""
    noise = smooth(rng.standard_normal(n), width_s)
    return noise / noise.std()


def read_score(melody: tuple[Note | Rest, ...], rng: np.random.Generator) -> Curves:
    """Turns notes into curves."""
    n = round(sum(event.duration_s for event in melody) * CONTROL_RATE_HZ)
    midi, vibrato, gate = np.zeros(n), np.zeros(n), np.zeros(n)
    formants = np.zeros((n, 5))
    noise = {name: np.full(n, -np.inf) for name in (*CONSONANTS, "breath")}
    level_times, levels = [0], [-30.0]
    start = 0
    for index, event in enumerate(melody):
        stop = min(n, start + round(event.duration_s * CONTROL_RATE_HZ))
        if isinstance(event, Rest):
            middle = (start + stop) // 2
            _hold(midi, formants, start, middle, _neighbour(melody, index, -1))
            _hold(midi, formants, middle, stop, _neighbour(melody, index, 1))
            midi[middle:stop] -= 0.8  # a phrase begins with a little scoop
            if event.breath_dbfs is not None:
                length = stop - middle - 60
                noise["breath"][middle : middle + length] = event.breath_dbfs - 20 * np.linspace(1, 0, length) ** 2
        else:
            sung = start
            if event.consonant:
                sung += _speak(event.consonant, start, noise[event.consonant])
            midi[start:stop] = event.midi
            gate[sung:stop] = 1.0
            _sing_vowels(event, formants, start, sung, stop)
            if event.duration_s > 0.5:
                vibrato[sung:stop] = np.clip((np.arange(stop - sung) / CONTROL_RATE_HZ - 0.28) / 0.35, 0, 1)
            level_times += [sung + (stop - sung) // 3, stop - (stop - sung) // 5]
            levels += [event.level_db, event.level_db - (3.0 if event.duration_s > 0.5 else 1.0)]
        start = stop
    time_s = np.arange(n) / CONTROL_RATE_HZ
    vibrato_phase = 2 * np.pi * (5.5 * time_s + 0.12 * np.cumsum(wander(n, 0.4, rng)) / CONTROL_RATE_HZ)
    vibrato_midi = 0.42 * smooth(vibrato, 0.06) * np.sin(vibrato_phase)
    level_db = smooth(np.interp(np.arange(n), level_times, levels), 0.15)
    level_db += 1.2 * smooth(vibrato, 0.06) * np.sin(vibrato_phase + 0.6)  # a voice swells with its vibrato
    return Curves(
        midi=smooth(midi, 0.10) + vibrato_midi + 0.05 * wander(n, 0.25, rng),
        level_db=level_db,
        gate=smooth(gate, 0.08),
        formants_hz=np.exp(smooth(np.log(formants), 0.11)),
        noise_dbfs=noise,
    )


def _neighbour(melody: tuple[Note | Rest, ...], index: int, step: int) -> Note:
    while 0 <= index + step < len(melody):
        index += step
        event = melody[index]
        if isinstance(event, Note):
            return event
    return _neighbour(melody, index, -step)


def _hold(midi: np.ndarray, formants: np.ndarray, start: int, stop: int, note: Note) -> None:
    midi[start:stop] = note.midi
    formants[start:stop] = FORMANTS_HZ[note.vowels[0]]


def _speak(consonant: str, start: int, noise_dbfs: np.ndarray) -> int:
    """Writes the noise of a consonant; returns its length."""
    duration_s, _, _, level_dbfs = CONSONANTS[consonant]
    length = round(duration_s * CONTROL_RATE_HZ)
    time_s = np.arange(length) / CONTROL_RATE_HZ
    if consonant == "t":  # closed lips of time, a burst, its breath
        closed = 28
        noise_dbfs[start + closed : start + length] = level_dbfs - 600 * time_s[: length - closed]
    else:
        noise_dbfs[start : start + length] = level_dbfs - 26 * np.abs(2 * time_s / duration_s - 1) ** 3
    return length


def _sing_vowels(note: Note, formants: np.ndarray, start: int, sung: int, stop: int) -> None:
    formants[start:sung] = FORMANTS_HZ[note.vowels[0]]
    hum = 90 if note.vowels[0] == "m" else 0
    if hum:
        formants[sung : sung + hum] = FORMANTS_HZ["m"]
    vowels = note.vowels.lstrip("m")
    edges = np.linspace(sung + hum, stop, len(vowels) + 1).astype(int)
    for vowel, begin, end in zip(vowels, edges[:-1], edges[1:], strict=True):
        formants[begin:end] = FORMANTS_HZ[vowel]


def vocal_tract(frequency_hz: np.ndarray, formants_hz: np.ndarray) -> np.ndarray:
    """Returns the complex gain of a cascade of two-pole resonators, each 1 at 0 Hz.

    Args:
      frequency_hz: [N, ...].
      formants_hz: [N, 5], against time.

    Returns:
      [N, ...].
    """
    shape = (-1,) + (1,) * (frequency_hz.ndim - 1)
    gain = np.ones(frequency_hz.shape, complex)
    for index, bandwidth_hz in enumerate(BANDWIDTHS_HZ):
        centre = formants_hz[:, index].reshape(shape) if index < 5 else float(UPPER_FORMANTS_HZ[index - 5])
        gain *= centre**2 / (centre**2 - frequency_hz**2 + 1j * bandwidth_hz * frequency_hz)
    return gain


def glottal_source(k: int, f0_hz: np.ndarray, level_db: np.ndarray) -> np.ndarray:
    """Returns the amplitude of harmonic `k` of the glottal flow after radiation: k^-0.85, and a tilt by level."""
    corner_hz = 5200.0 * 10 ** (level_db / 36.0)
    tilt = 1.0 / np.sqrt(1.0 + (k * f0_hz / corner_hz) ** 2)
    return (1.1 if k == 1 else 1.0) * tilt / k**0.85


def sing(sample_rate_hz: int = 44100) -> tuple[np.ndarray, np.ndarray, int]:
    """Makes the phrase and its true pitch.

    Args:
      sample_rate_hz: of the audio, 16000 or more.

    Returns:
      Audio, float [S] within ±1; f0 in Hz, [F], 0 where nothing is voiced, frame i centred on second i / frame rate;
      the frame rate in Hz.
    """
    rng = np.random.default_rng(SEED)
    curves = read_score(MELODY, rng)
    n_control = len(curves.midi)
    n_samples = round(n_control * sample_rate_hz / CONTROL_RATE_HZ)
    control_s = np.arange(n_control) / CONTROL_RATE_HZ
    time_s = np.arange(n_samples) / sample_rate_hz

    jitter = 0.03 * wander(n_control, 0.008, rng)  # semitones; about 0.2 % from one swing of the folds to the next
    shimmer_db = 0.35 * wander(n_control, 0.008, rng)
    f0_control_hz = 440.0 * 2 ** ((curves.midi + jitter - 69) / 12)
    f0_hz = np.interp(time_s, control_s, f0_control_hz)
    formants_hz = curves.formants_hz.copy()
    formants_hz[:, 0] = np.maximum(formants_hz[:, 0], 1.04 * f0_control_hz)  # singers open wider on high notes
    # what a vowel does to the level is evened out, so that the level curve is the level
    first = glottal_source(1, f0_control_hz, curves.level_db)
    body = sum(
        np.abs(vocal_tract(k * f0_control_hz, formants_hz) * glottal_source(k, f0_control_hz, curves.level_db)) ** 2
        for k in range(1, 13)
    )
    amplitude = 10 ** ((curves.level_db + shimmer_db) / 20) * curves.gate**1.5 / np.sqrt(np.maximum(body, first**2))

    turn = np.exp(2j * np.pi * np.cumsum(f0_hz) / sample_rate_hz)
    harmonic, voice = np.ones_like(turn), np.zeros(n_samples)
    for k in range(1, int(0.45 * sample_rate_hz / f0_control_hz.min())):
        harmonic *= turn
        frequency_hz = k * f0_control_hz
        fade = np.clip((0.46 * sample_rate_hz - frequency_hz) / 1000.0, 0.0, 1.0)
        gain = amplitude * fade * glottal_source(k, f0_control_hz, curves.level_db)
        gain = gain * vocal_tract(frequency_hz, formants_hz)
        voice += np.interp(time_s, control_s, gain.real) * harmonic.real
        voice -= np.interp(time_s, control_s, gain.imag) * harmonic.imag
    scale = 10 ** (PEAK_DBFS / 20) / np.abs(voice).max()

    # air through open folds: 34 dB below the voice, more of it when soft, in pulses with the folds
    air_db = curves.level_db * 0.75 - 34.0 + 20 * np.log10(np.maximum(curves.gate, 1e-4))
    hiss = shaped_noise(curves, air_db + 20 * np.log10(0.35), formants_hz, n_samples, sample_rate_hz, rng)
    pulse = 1.0 + 0.5 * np.where(curves.gate[_nearest(time_s, n_control)] > 0.5, turn.real, 0.0)
    audio = voice * scale + hiss["air"] * pulse + hiss["rest"]
    audio *= min(1.0, 10 ** (PEAK_DBFS / 20) / np.abs(audio).max())

    voiced = curves.gate * 10 ** (curves.level_db / 20) > 10 ** (-36 / 20)
    voiced &= curves.gate > 0.25
    n_frames = -(-n_samples * FRAME_RATE_HZ // sample_rate_hz)
    frame_s = np.arange(n_frames) / FRAME_RATE_HZ
    f0_frames = np.where(voiced[_nearest(frame_s, n_control)], np.interp(frame_s, control_s, f0_control_hz), 0.0)
    return audio, f0_frames, FRAME_RATE_HZ


def _nearest(time_s: np.ndarray, n_control: int) -> np.ndarray:
    return np.minimum(np.rint(time_s * CONTROL_RATE_HZ).astype(int), n_control - 1)


def shaped_noise(
    curves: Curves,
    air_db: np.ndarray,
    formants_hz: np.ndarray,
    n_samples: int,
    sample_rate_hz: int,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Filters noise frame by frame: white noise is cut into windows, coloured, overlapped and added.

    Returns:
      `air` (aspiration of the voice) and `rest` (consonants, breaths, the room), each [S].
    """
    size, hop = 512, 128
    window = np.sqrt(np.hanning(size + 1)[:-1] / 2)  # applied twice, four fold overlap: sums to 1
    bins_hz = np.fft.rfftfreq(size, 1 / sample_rate_hz)
    bins_hz[0] = bins_hz[1] / 2
    octaves = np.log2(bins_hz)
    starts = np.arange(-size // 2, n_samples, hop)
    at = _nearest(np.maximum(starts + size // 2, 0) / sample_rate_hz, len(curves.midi))

    tract = np.abs(vocal_tract(np.tile(bins_hz, (len(at), 1)), formants_hz[at]))
    air = _unit(tract * bins_hz**0.5) * 10 ** (air_db[at, None] / 20)
    throat = np.abs(vocal_tract(bins_hz[None], np.array([[650, 1500, 2600, 3700, 4800]])))[0]
    rest = _unit(bins_hz**-0.5) * 10 ** (ROOM_DBFS / 20) + np.zeros_like(air)
    rest = np.hypot(rest, _unit(throat * bins_hz**0.7) * 10 ** (curves.noise_dbfs["breath"][at, None] / 20))
    for name, (_, centre_hz, width_octaves, _) in CONSONANTS.items():
        colour = np.exp(-0.5 * ((octaves - np.log2(centre_hz)) / width_octaves) ** 2)
        rest = np.hypot(rest, _unit(colour) * 10 ** (curves.noise_dbfs[name][at, None] / 20))

    result = {}
    for name, spectrum in (("air", air), ("rest", rest)):
        white = rng.standard_normal(n_samples + 2 * size)
        out = np.zeros(n_samples + 2 * size)
        for start, gain in zip(starts + size // 2, spectrum, strict=True):
            block = slice(start, start + size)
            out[block] += window * np.fft.irfft(np.fft.rfft(window * white[block]) * gain)
        result[name] = out[size // 2 : size // 2 + n_samples]
    return result


def _unit(spectrum: np.ndarray) -> np.ndarray:
    """Scales a filter so that white noise of unit variance keeps its level."""
    return spectrum / np.sqrt(np.mean(spectrum**2, axis=-1, keepdims=True))


def write_wav(path: Path, audio: np.ndarray, sample_rate_hz: int) -> None:
    """Writes 16-bit mono."""
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(sample_rate_hz)
        stream.writeframes(np.rint(audio * 32767).astype("<i2").tobytes())


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Sing a phrase made wholly from formulas.")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("voice.wav"), help="the file to write")
    parser.add_argument("--sample-rate", type=int, default=44100, metavar="HZ")
    options = parser.parse_args()
    audio, _, _ = sing(options.sample_rate)
    write_wav(options.out, audio, options.sample_rate)
    print(f"{options.out}: {len(audio) / options.sample_rate:.1f} s")


if __name__ == "__main__":
    main()
