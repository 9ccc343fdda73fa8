"""How often clipped recordings are noticed, and others taken for clipped.

    python benchmarks/clipping.py RECORDING... [--every 1]

Each recording is checked as it is, and as copies that were driven beyond full scale, clipped, turned down and written
again: as 16 bits with dither, as 24 bits, through another sample rate, and through lossy formats. A copy counts if
more than `HEAVY_CLIPPING` of its samples were clipped, a recording as a false alarm if it is not at full scale.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import soundfile
import soxr

from ddsp_cli.analysis.recording_checks import FULL_SCALE, HEAVY_CLIPPING, ClippingWatch
from ddsp_cli.audio import read

#: The peak of a copy before it is clipped at 1, and after it was turned down.
DRIVES_DB, LEVELS = (3.0, 6.0, 12.0), (0.9, 0.5, 0.1)


def watched(sound: np.ndarray) -> ClippingWatch:
    """Returns a watch that has seen a sound [S, C] in blocks of a few seconds."""
    watch = ClippingWatch()
    for start in range(0, len(sound), 400_000):
        watch(sound[start : start + 400_000])
    return watch


def through(sound: np.ndarray, rate_hz: int, kind: str) -> np.ndarray:
    """Returns a sound [S, C] as it is read from a file of another kind."""
    if kind == "16 bits, dither":
        dither = np.random.default_rng(0).triangular(-1.0, 0.0, 1.0, sound.shape)
        return (np.round(sound * 32768.0 + dither) / 32768.0).astype(np.float32)
    if kind == "resampled":
        return soxr.resample(sound, rate_hz, 48000 if rate_hz != 48000 else 44100).astype(np.float32)
    file, subtypes = io.BytesIO(), {"24 bits": ("WAV", "PCM_24"), "mp3": ("MP3", None), "ogg": ("OGG", "VORBIS")}
    form, subtype = subtypes[kind]
    with soundfile.SoundFile(file, "w", rate_hz, sound.shape[1], subtype, format=form) as written:
        for start in range(0, len(sound), 1 << 15):
            written.write(sound[start : start + (1 << 15)])
    file.seek(0)
    return soundfile.read(file, dtype="float32", always_2d=True)[0]


def main() -> None:
    """Prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, nargs="+")
    parser.add_argument("--every", type=int, default=1, help="copies are made of every n-th recording")
    parser.add_argument("--kinds", nargs="+", default=["24 bits", "16 bits, dither", "resampled", "mp3", "ogg"])
    given = parser.parse_args()
    n_files = n_full_scale = 0
    alarms: list[str] = []
    hits: dict[str, list[int]] = {}
    for i, path in enumerate(read.list_audio(given.recordings)):
        sound, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        peak = float(np.abs(sound).max(initial=0.0))
        if peak <= 0.0:
            continue
        n_files += 1
        found = watched(sound)
        if found.n_clipped and peak >= FULL_SCALE:
            n_full_scale += 1
        elif found.n_clipped:
            alarms.append(f"{path.name} ({100.0 * found.n_clipped / found.n_samples:.2f} %)")
        if i % given.every or found.n_clipped:
            continue
        for drive_db in DRIVES_DB:
            driven = sound * (10.0 ** (drive_db / 20.0) / peak)
            share = (np.abs(driven) > 1.0).any(axis=1).mean()
            if share <= 2.0 * HEAVY_CLIPPING:
                continue
            for level in LEVELS:
                for kind in given.kinds:
                    copy = through((level * np.clip(driven, -1.0, 1.0)).astype(np.float32), rate_hz, kind)
                    watch = watched(copy)
                    row = hits.setdefault(f"{drive_db:4.0f} dB over, peak {level:.1f}, {kind}", [0, 0, 0])
                    for at, value in enumerate((1, watch.n_clipped > 0, watch.is_heavy)):
                        row[at] += int(value)
    print(f"{n_files} recordings: {n_full_scale} clipped at full scale, {len(alarms)} below it: {', '.join(alarms)}")
    print(f"copies with more than {2 * HEAVY_CLIPPING:.1%} beyond full scale: number, noticed, warned")
    for words, (n, n_noticed, n_warned) in sorted(hits.items()):
        print(f"  {words:<40}{n:6d}{n_noticed:6d}{n_warned:6d}")


if __name__ == "__main__":
    main()
