"""Measure the handling of polyphonic sound by `ddsp prepare`, `--voices lead` and `--voices chords`.

    python benchmarks/polyphony.py prepare DATASET ALIGNMENTS
    python benchmarks/polyphony.py lead RECORDING... [--backing NAME|FILE ...] [--levels 0 -6 -10]
    python benchmarks/polyphony.py shares [--instruments NAME ...]

`prepare`: passages left out as more than one voice, compared with the alignments of recordings. DATASET is a prepared
data set whose recordings have the names of the alignments (X.mp3, X.csv: start and end in seconds, one row per note).
Alignments are good to some tens of ms, and a released string rings on, so neither number can be 100 %.

`lead`: recordings of one voice are mixed with a backing track, chords in their key that a bundled instrument plays or
another file, at so many dB against the lead's RMS where it has a pitch. The F0 that `--voices lead` plays is compared
with that of the recording alone where swift-f0 and pYIN agree there (`right`, within 50 cents; `octave`, an octave or
two off; `silent`, not played). `false` is the share of the lead's rests in which something is played.

`shares`: two to four notes that a bundled instrument plays, each rendered alone at another level and then added. The
share of the power that `note_energies` gives to each is compared with the true one: median and 90th percentile of the
error in dB, for notes with an octave or a twelfth in the chord and for the others.
"""

from __future__ import annotations

import argparse
import csv
import random
from pathlib import Path

import numpy as np

from ddsp_cli import bundle
from ddsp_cli.adaptation.segmentation import find_segments
from ddsp_cli.analysis.extract import measure
from ddsp_cli.analysis.pitch import trackers
from ddsp_cli.analysis.polyphony import SHARE_WINDOW_SAMPLES, note_energies
from ddsp_cli.arrays import hann_window
from ddsp_cli.audio import read
from ddsp_cli.audio.recording import ArrayRecording
from ddsp_cli.audio.resample import at_rate
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.dataset import load_manifest
from ddsp_cli.dataset.cache import load_measured
from ddsp_cli.errors import InputError
from ddsp_cli.scaling import hz_to_midi
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.workflows import models
from ddsp_cli.workflows.performance import Performance, make_options, perform_recording, resting

FRAME_RATE_HZ = 250

HOP_SAMPLES = ANALYSIS_RATE_HZ // FRAME_RATE_HZ

#: A rest of the lead is this far from its notes.
APART_S = 0.15

#: Chords of a backing track, semitones above the lead's most frequent pitch class: I, vi, IV, V.
TRIADS = ((0, 4, 7), (-3, 0, 4), (-7, -3, 0), (-5, -1, 2))

CHORD_S, PAUSE_S = 1.0, 0.05

#: Levels of notes of a chord, relative to the instrument's range of levels.
PERCENTILES = (25, 50, 75, 90)


# --- prepare ----------------------------------------------------------------------------------------------------------


def voices(path: Path, n_frames: int, frame_rate_hz: int) -> np.ndarray:
    """Counts the notes that sound at once in each frame, [F]."""
    count = np.zeros(n_frames, np.int64)
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            count[int(float(row["start"]) * frame_rate_hz) : int(float(row["end"]) * frame_rate_hz)] += 1
    return count


def compare_prepared(folder: Path, alignments: Path) -> None:
    """Prints one row per recording."""
    manifest = load_manifest(folder)
    rate_hz = manifest.features.frame_rate_hz
    print("| recording | chords | left out | of the chords | wrongly, of the single notes | precision |")
    print("|---|---|---|---|---|---|")
    for recording in manifest.recordings:
        name = Path(recording.path).stem
        measured = load_measured(folder / "measured", recording.sha256, manifest.features.hop_samples)
        if measured is None or not (alignments / f"{name}.csv").is_file():
            continue
        left = measured.polyphonic
        count = voices(alignments / f"{name}.csv", len(left), rate_hz)
        chords, single = count >= 2, count == 1
        print(
            f"| {name} | {chords.sum() / max(1, (count > 0).sum()):.1%} | {left[count > 0].mean():.1%} "
            f"| {left[chords].mean() if chords.any() else float('nan'):.1%} | {left[single].mean():.1%} "
            f"| {chords[left].mean() if left.any() else float('nan'):.1%} |"
        )


# --- the lead over a backing track ------------------------------------------------------------------------------------


def play_note(instrument: Instrument, midi: float, seconds: float, percentile: int = 50, seed: int = 0) -> np.ndarray:
    """Plays a note of an instrument without its room, [S] at 16 kHz, with 30 ms of rest at both ends."""
    n_frames = round((seconds + 0.06) * FRAME_RATE_HZ)
    gate = np.ones(n_frames, np.float32)
    rest = round(0.03 * FRAME_RATE_HZ)
    gate[:rest] = gate[-rest:] = 0.0
    levels_db = instrument.bundle.card.statistics.level(instrument.model.level)
    level_db = np.where(gate > 0, levels_db[percentile], np.float32(-80.0))
    f0_hz = np.full(n_frames, 440.0 * 2.0 ** ((midi - 69.0) / 12.0), np.float32)
    step = FRAME_RATE_HZ // instrument.model.frame_rate_hz
    sound = instrument.render(f0_hz, level_db[::step], gate, seed=seed, room=False)
    return np.concatenate(list(at_rate(sound, instrument.model.sample_rate_hz, ANALYSIS_RATE_HZ, 1)))


def make_backing(instrument: Instrument, tonic_midi: int, n_samples: int) -> np.ndarray:
    """Makes chords on a tonic in the middle of an instrument's range, [S]."""
    low, high = instrument.bundle.card.statistics.range_midi
    root = tonic_midi + 12 * round(((low + high) / 2 - tonic_midi) / 12)
    chords = [
        np.sum([play_note(instrument, root + step, CHORD_S, seed=i) for i, step in enumerate(triad)], axis=0)
        for triad in TRIADS
    ]
    pause = np.zeros(round(PAUSE_S * ANALYSIS_RATE_HZ), np.float32)
    bar = np.concatenate([part for chord in chords for part in (chord, pause)])
    return np.resize(bar, n_samples)


def lead_truth(audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the F0 of one voice [F], 0 where two trackers disagree, and where it rests [F]."""
    features = measure(audio, FeatureSpec(frame_rate_hz=FRAME_RATE_HZ))
    other_hz, _ = trackers.on_grid(trackers.track("pyin", audio), len(features), HOP_SAMPLES)
    segments = find_segments(features)
    both = segments.voiced & (other_hz > 0)
    agree = both & (np.abs(12 * np.log2(np.where(both, other_hz / np.maximum(features.f0_hz, 1), 1))) < 0.5)
    reach = round(APART_S * FRAME_RATE_HZ)
    near = np.convolve(segments.mask | (features.f0_confidence > 0.5), np.ones(2 * reach + 1), "same") > 0.5
    return np.where(agree, features.f0_hz, 0.0), ~near


def judge_lead(mixture: np.ndarray, instrument: Instrument, true_hz: np.ndarray, rests: np.ndarray) -> list[float]:
    """Returns the shares of frames that are right, an octave off, silent, and played in rests."""
    try:
        performance = perform_recording(
            ArrayRecording(mixture), instrument, make_options(voices="lead"), lambda done_s: None,
            Performance(resting(0, 1), 0.0),
        )  # fmt: skip
        adapted = performance.adapted
    except InputError:
        adapted = resting(len(true_hz), FRAME_RATE_HZ)
    n = min(len(adapted), len(true_hz))
    played = adapted.gate[:n] > 0
    sung = true_hz[:n] > 0
    semitones = hz_to_midi(adapted.f0_hz[:n]) - adapted.transpose_semitones - hz_to_midi(np.maximum(true_hz[:n], 1.0))
    off = np.abs(semitones)
    octave = (np.abs(off - 12) < 0.5) | (np.abs(off - 24) < 0.5)
    of_sung = [
        float((condition & sung).sum() / sung.sum()) for condition in (played & (off < 0.5), played & octave, ~played)
    ]
    return [*of_sung, float(played[rests[:n]].mean()) if rests[:n].any() else float("nan")]


def compare_leads(leads: list[Path], backings: list[str], levels_db: list[float], seconds: float) -> None:
    """Prints a row per mixture, and the mean of each level."""
    flute = Instrument(bundle.load(models.find("flute")))
    rows: dict[str, list[list[float]]] = {}
    print(f"{'lead':18}{'backing':14}{'dB':>6}{'right':>8}{'octave':>8}{'silent':>8}{'false':>8}")

    def tell(lead: str, backing: str, level: str, figures: list[float]) -> None:
        rows.setdefault(level, []).append(figures)
        print(f"{lead[:17]:18}{backing[:13]:14}{level:>6}" + "".join(f"{value:8.1%}" for value in figures), flush=True)

    for path in leads:
        audio = read.read_mono(path)[: round(seconds * ANALYSIS_RATE_HZ)]
        true_hz, rests = lead_truth(audio)
        sung = np.repeat(true_hz > 0, HOP_SAMPLES)[: len(audio)]
        lead_rms = np.sqrt(np.mean(audio[sung] ** 2))
        classes = np.bincount(np.rint(hz_to_midi(true_hz[true_hz > 0])).astype(int) % 12, minlength=12)
        tell(path.stem, "alone", "", judge_lead(audio, flute, true_hz, rests))
        for name in backings:
            if Path(name).is_file():
                backing = np.resize(read.read_mono(Path(name)), len(audio))
            else:
                backing = make_backing(Instrument(bundle.load(models.find(name))), int(np.argmax(classes)), len(audio))
            backing_rms = np.sqrt(np.mean(backing**2))
            for level_db in levels_db:
                mixture = audio + backing * np.float32(lead_rms / backing_rms * 10.0 ** (level_db / 20.0))
                mixture *= np.float32(min(1.0, 0.9 / np.abs(mixture).max()))
                figures = judge_lead(mixture.astype(np.float32), flute, true_hz, rests)
                tell(path.stem, Path(name).stem, f"{level_db:+.0f}", figures)
    for level, figures in rows.items():
        means = np.nanmean(figures, axis=0)
        print(f"{'mean':32}{level or 'alone':>6}" + "".join(f"{value:8.1%}" for value in means))


# --- how the power of a chord is shared out ---------------------------------------------------------------------------


def make_chords(instrument: Instrument, n_chords: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Makes MIDI numbers [n] of chords and the sound of each note, [n, S]; half of them have an octave or a twelfth."""
    chosen = random.Random(seed)
    low, high = (round(midi) for midi in instrument.bundle.card.statistics.range_midi)
    chords = []
    for i in range(n_chords):
        keys = [chosen.randint(low, max(low, high - 19))]
        if i % 2:
            keys.append(keys[0] + chosen.choice([12, 19]))
        while len(keys) < 2 + i % 3:
            key = chosen.randint(low, high)
            if all(abs(key - other) >= 3 for other in keys):
                keys.append(key)
        cents = [chosen.gauss(0.0, 4.0) for _ in keys]
        midi = np.array(keys) + np.array(cents) / 100.0
        notes = [play_note(instrument, one, 0.4, chosen.choice(PERCENTILES), seed=j) for j, one in enumerate(midi)]
        chords.append((midi, np.stack(notes)))
    return chords


def share_errors_db(midi: np.ndarray, notes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns errors in dB of the shares of notes in four windows, [n, 4], and which overlap another wholly, [n]."""
    f0_hz = 440.0 * 2.0 ** ((midi - 69.0) / 12.0)
    window = hann_window(SHARE_WINDOW_SAMPLES)
    errors = []
    for start in np.linspace(1600, notes.shape[1] - SHARE_WINDOW_SAMPLES - 800, 4).astype(int):
        parts = notes[:, start : start + SHARE_WINDOW_SAMPLES]
        true = (parts**2 * window).sum(axis=1)
        power = note_energies(np.abs(np.fft.rfft(parts.sum(axis=0) * window)) ** 2, f0_hz)[1].sum(axis=1)
        errors.append(10.0 * np.log10(np.maximum(power / power.sum(), 1e-9)) - 10.0 * np.log10(true / true.sum()))
    apart = np.abs(np.rint(midi)[:, None] - np.rint(midi))
    return np.stack(errors, axis=1), np.isin(apart, (12, 19, 24)).any(axis=1)


def compare_shares(names: list[str], n_chords: int) -> None:
    """Prints a row per instrument."""
    print(f"{'instrument':14}{'octaves: median':>18}{'90 %':>8}{'others: median':>18}{'90 %':>8}   dB")
    together: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for i, name in enumerate(names):
        errors: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for midi, notes in make_chords(Instrument(bundle.load(models.find(name))), n_chords, seed=i):
            found, overlaps = share_errors_db(midi, notes)
            for own, mask in zip(errors, (overlaps, ~overlaps), strict=True):
                own.append(np.abs(found[mask]).ravel())
        figures = [np.percentile(np.concatenate(own), (50, 90)) for own in errors]
        for all_, own in zip(together, errors, strict=True):
            all_ += own
        print(f"{name:14}" + "".join(f"{a:18.1f}{b:8.1f}" for a, b in figures), flush=True)
    figures = [np.percentile(np.concatenate(own), (50, 90)) for own in together]
    print(f"{'all':14}" + "".join(f"{a:18.1f}{b:8.1f}" for a, b in figures))


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare")
    prepare.add_argument("dataset", type=Path)
    prepare.add_argument("alignments", type=Path)
    lead = commands.add_parser("lead")
    lead.add_argument("recordings", type=Path, nargs="+")
    lead.add_argument("--backing", nargs="*", default=["cello", "clarinet"], metavar="NAME|FILE")
    lead.add_argument("--levels", nargs="*", type=float, default=[0.0, -6.0, -10.0])
    lead.add_argument("--seconds", type=float, default=20.0)
    shares = commands.add_parser("shares")
    shares.add_argument("--instruments", nargs="*")
    shares.add_argument("--chords", type=int, default=24)
    given = parser.parse_args()
    if given.command == "prepare":
        compare_prepared(given.dataset, given.alignments)
    elif given.command == "lead":
        compare_leads(given.recordings, given.backing, given.levels, given.seconds)
    else:
        names = given.instruments or [entry.name for entry in models.catalogue() if entry.card]
        compare_shares(names, given.chords)


if __name__ == "__main__":
    main()
