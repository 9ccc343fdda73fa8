"""How well the notes of polyphonic sound are found: precision, recall and F of notes, on known chords and real ones.

    python benchmarks/voices.py                            chords that the bundled instruments play
    python benchmarks/voices.py --recorded FOLDER...       chords of recorded notes, named as in cello_Gs3_forte.mp3
    python benchmarks/voices.py --real RECORDING ALIGNMENT NOTES [--seconds 60]

The alignment is a table of `start,end` in seconds, the notes one of `onset,offset,pitch,velocity`, row for row (as in
the Bach violin dataset). A note is found if its key is right and its onset within `--tolerance` seconds; each counts
once. With `--play INSTRUMENT` the sound is also played on that instrument by `--voices chords`, and the notes of what
it plays are compared with the same truth.
"""

from __future__ import annotations

import argparse
import csv
import random
import re
import tempfile
from pathlib import Path

import mido
import numpy as np

from ddsp_cli.analysis.polyphony import find_poly_notes, track_activations
from ddsp_cli.audio import read
from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.pitch_names import SHARP_NAMES
from ddsp_cli.workflows import models
from ddsp_cli.workflows.performance import make_options
from ddsp_cli.workflows.transfer import transfer_files

#: A note: onset in seconds, end, MIDI number.
Note = tuple[float, float, int]

#: Chords of a made piece: so many, each so long, of 2 to 4 notes.
N_CHORDS, CHORD_S, PAUSE_S = 16, 0.7, 0.15


#: Chords of recorded notes: semitones above the root, and the distance of their onsets.
CHORDS = ((0, 4, 7), (0, 3, 7), (0, 7), (0, 4), (0, 9), (0, 7, 16), (0, 12), (0, 4, 7, 12), (0, 3, 10))

RECORDED_S = 1.1


def made_chords(low: int, high: int, seed: int) -> list[Note]:
    """Makes chords of notes at least three semitones apart, octaves and fifths among them."""
    chosen = random.Random(seed)
    notes: list[Note] = []
    for i in range(N_CHORDS):
        keys: list[int] = []
        while len(keys) < 2 + i % 3:
            key = chosen.randint(low, high)
            if all(abs(key - other) >= 3 for other in keys):
                keys.append(key)
        start_s = i * (CHORD_S + PAUSE_S)
        notes += [(start_s, start_s + CHORD_S, key) for key in keys]
    return notes


def recorded_chords(folder: Path, out: Path, seed: int) -> list[Note]:
    """Writes intervals and chords of recorded single notes, 1 s each and equally loud, and returns their notes."""
    import soundfile

    found = ((re.search(r"_([A-G]s?)(\d)_.*normal", path.name), path) for path in read.list_audio([folder]))
    by_key = {
        SHARP_NAMES.index(name[1].replace("s", "#")) + 12 * int(name[2]) + 12: path for name, path in found if name
    }
    chosen = random.Random(seed)
    sound = np.zeros(round((N_CHORDS + 1) * RECORDED_S * ANALYSIS_RATE_HZ))
    notes: list[Note] = []
    for i in range(N_CHORDS):
        roots = sorted(by_key)
        keys = [-1]
        while not by_key.keys() >= set(keys):
            root = chosen.choice(roots)
            keys = [root + step for step in chosen.choice(CHORDS)]
        start_s = 0.2 + i * RECORDED_S
        for key in keys:
            note = read.read_mono(by_key[key])
            level = np.convolve(note**2, np.ones(160) / 160, "same")[: 2 * ANALYSIS_RATE_HZ]
            peak = int(level.argmax())  # some recordings begin with a noise of the hand
            silent = np.flatnonzero(level[:peak] < 0.01 * level[peak])
            note = note[max(silent[-1] - 80, 0) if len(silent) else 0 :][:ANALYSIS_RATE_HZ]
            note *= np.minimum(1.0, (len(note) - np.arange(len(note))) / 800) / np.sqrt(np.mean(note[:8000] ** 2))
            first = round(start_s * ANALYSIS_RATE_HZ)
            sound[first : first + len(note)] += note
            notes.append((start_s, start_s + 1.0, key))
    soundfile.write(out, 0.8 * sound / np.abs(sound).max(), ANALYSIS_RATE_HZ)
    return notes


def write_midi(path: Path, notes: list[Note]) -> None:
    events = sorted([(on, 1, key) for on, _, key in notes] + [(off, 0, key) for _, off, key in notes])
    track, now_ms = mido.MidiTrack(), 0
    for time_s, is_on, key in events:
        at_ms = round(1000 * time_s)
        kind = "note_on" if is_on else "note_off"
        track.append(mido.Message(kind, note=key, velocity=80, time=at_ms - now_ms))
        now_ms = at_ms
    mido.MidiFile(tracks=[track], ticks_per_beat=500).save(path)


def heard(path: Path, seconds: float | None = None) -> list[Note]:
    """Returns the notes that are found in a file."""
    sound = np.concatenate(list(read.mono_blocks(path, ANALYSIS_RATE_HZ)))
    if seconds is not None:
        sound = sound[: round(seconds * ANALYSIS_RATE_HZ)]
    return [(note.start_s, note.stop_s, note.key) for note in find_poly_notes(track_activations([sound]))]


def score(truth: list[Note], found: list[Note], tolerance_s: float, shift: int = 0) -> tuple[float, float, float]:
    """Returns precision, recall and F measure of notes."""
    left = [(on, key + shift) for on, _, key in truth]
    hits = 0
    for on, _, key in sorted(found):
        near = [
            (abs(on - other), i) for i, (other, k) in enumerate(left) if k == key and abs(on - other) <= tolerance_s
        ]
        if near:
            left.pop(min(near)[1])
            hits += 1
    precision, recall = hits / max(len(found), 1), hits / max(len(truth), 1)
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)


def read_truth(alignment: Path, table: Path, start_s: float, seconds: float) -> list[Note]:
    with alignment.open(encoding="utf-8") as times, table.open(encoding="utf-8") as rows:
        pairs = zip(csv.DictReader(times), csv.DictReader(rows), strict=True)
        notes = [(float(a["start"]), float(a["end"]), int(b["pitch"])) for a, b in pairs]
    return [(on - start_s, off - start_s, key) for on, off, key in notes if 0.1 < on - start_s < seconds - 0.1]


def told(name: str, truth: list[Note], found: list[Note], tolerance_s: float, shift: int = 0) -> float:
    precision, recall, f = score(truth, found, tolerance_s, shift)
    print(
        f"{name:32} {len(truth):5} notes, found {len(found):5}: precision {precision:.2f} recall {recall:.2f} F {f:.2f}"
    )
    return f


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", nargs=3, type=Path, metavar=("RECORDING", "ALIGNMENT", "NOTES"))
    parser.add_argument("--recorded", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--start", type=float, default=30.0, help="the thresholds were chosen on the first 30 s")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--tolerance", type=float, default=0.1)
    parser.add_argument("--play", metavar="INSTRUMENT")
    parser.add_argument("--instruments", nargs="*", help="by default all that are bundled")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        sounds: list[tuple[str, Path, list[Note]]] = []
        for i, recorded in enumerate(given.recorded or ()):
            path = folder / f"recorded_{i}.wav"
            sounds.append((recorded.as_posix()[-32:], path, recorded_chords(recorded, path, seed=i)))
        if given.real:
            import soundfile

            blocks = read.mono_blocks(given.real[0], 44100)
            sound = np.concatenate(list(blocks))[round(given.start * 44100) :][: round(given.seconds * 44100)]
            soundfile.write(folder / "real.wav", sound, 44100)
            sounds.append(
                (given.real[0].stem, folder / "real.wav", read_truth(*given.real[1:], given.start, given.seconds))
            )
        elif not given.recorded:
            for i, entry in enumerate(entry for entry in models.catalogue() if entry.card):
                if given.instruments and entry.name not in given.instruments:
                    continue
                low, high = (round(midi) for midi in entry.card.statistics.range_midi)
                truth = made_chords(low, high, seed=i)
                write_midi(folder / f"{entry.name}.mid", truth)
                out = folder / f"{entry.name}.wav"
                transfer_files(folder / f"{entry.name}.mid", entry.path, out, options=make_options(transpose=0))
                sounds.append((entry.name, out, truth))
        results = []
        for name, path, truth in sounds:
            results.append(told(name, truth, heard(path), given.tolerance))
            if given.play:
                out = folder / f"{name}_again.wav"
                options = make_options(voices="chords")
                (result,) = transfer_files(path, given.play, out, options=options)
                told(f"  on {given.play}", truth, heard(out), given.tolerance, round(result.transpose_semitones))
        print(f"mean F {np.mean(results):.3f}")


if __name__ == "__main__":
    main()
