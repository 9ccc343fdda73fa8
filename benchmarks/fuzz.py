"""Feeds the readers thousands of damaged sound files, shards and manifests.

    python benchmarks/fuzz.py [--audio 2000] [--datasets 500] [--seed 0]

Every file has to end in a clear error (`InputError`, `DatasetError`) or in a usable result: never in a traceback, a
crash or an endless loop. The work is done in a process of its own that says how far it is, so that even a crash of a
decoder names the file that caused it. Ends with 1 when anything went wrong; what did is kept in the folder it names.
"""

from __future__ import annotations

import argparse
import hashlib
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile

from ddsp_cli import dataset
from ddsp_cli.audio import read
from ddsp_cli.bundle import Statistics
from ddsp_cli.config import FeatureSpec, dump_yaml
from ddsp_cli.dataset import tfrecord
from ddsp_cli.dataset.manifest import FORMAT_VERSION, MANIFEST, Manifest, Recording, Split
from ddsp_cli.errors import DatasetError, DdspError, InputError
from small import damaged

#: No file takes longer than this, even on a busy machine.
STUCK_AFTER_S = 60.0

FORMATS = (
    ("wav", "PCM_16"), ("wav", "PCM_U8"), ("wav", "FLOAT"), ("wav", "IMA_ADPCM"), ("wav", "ULAW"), ("aiff", "PCM_24"),
    ("flac", "PCM_16"), ("ogg", "VORBIS"), ("mp3", "MPEG_LAYER_III"), ("caf", "PCM_16"), ("au", "PCM_16"),
    ("w64", "PCM_16"), ("rf64", "PCM_16"), ("opus", "OPUS"),
)  # fmt: skip


def sounds(folder: Path) -> list[Path]:
    """Returns a short whole file of every format."""
    t = np.arange(4000) / 16000
    tone = 0.3 * np.sin(2 * np.pi * 440 * t)
    made = []
    for suffix, subtype in FORMATS:
        path = folder / f"{subtype.lower()}.{suffix}"
        container = {"opus": "OGG"}.get(suffix, suffix.upper())
        soundfile.write(path, tone, 16000, subtype=subtype, format=container)
        made.append(path)
    return made


def read_sound(path: Path) -> str:
    """Reads a file as `ddsp prepare` does; returns the outcome."""
    try:
        audio = read.read_mono(path)
    except InputError:
        return "refused"
    if audio.dtype != np.float32 or audio.ndim != 1 or not np.isfinite(audio).all():
        raise AssertionError(f"{path} gave {audio.dtype} {audio.shape}, finite: {np.isfinite(audio).all()}")
    return "read"


def small_set(folder: Path) -> Path:
    """Returns a data set of windows of 0.1 s."""
    folder.mkdir()
    random_ = np.random.default_rng(0)
    spec = FeatureSpec()
    splits = {}
    for name in ("train", "validation"):
        shard = folder / f"{name}.tfrecord-00000-of-00001"
        with shard.open("wb") as stream:
            for _ in range(2):
                frames = {key: random_.uniform(0, 1, 25) for key in tfrecord.FRAME_FEATURES}
                example = frames | {"audio": random_.uniform(-1, 1, 1600), "audio_16k": random_.uniform(-1, 1, 1600)}
                stream.write(tfrecord.encode_record(tfrecord.encode_example(example)))
        digest = hashlib.sha256(shard.read_bytes()).hexdigest()
        splits[name] = Split(n_examples=2, used_s=0.2, shards={shard.name: digest})
    quantiles = [float(value) for value in range(101)]
    manifest = Manifest(
        format=FORMAT_VERSION, name="small", created_with="", sample_rate_hz=16000, features=spec, window_s=0.1,
        statistics=Statistics(pitch_midi=quantiles, loudness_db=quantiles, power_db=quantiles, note_s=0.2),
        recordings=[Recording(path="a.wav", sha256="0" * 64, seconds=1.0)], **splits,
    )  # fmt: skip
    (folder / MANIFEST).write_text(dump_yaml(manifest), encoding="utf-8")
    return folder


def damage_set(folder: Path, chance: random.Random) -> None:
    """Changes the manifest, a shard, or the contents of a shard with all checksums put right again."""
    manifest_path = folder / MANIFEST
    shard = folder / f"{chance.choice(('train', 'validation'))}.tfrecord-00000-of-00001"
    kind = chance.randrange(3)
    if kind == 0:
        content = manifest_path.read_bytes()
        manifest_path.write_bytes(damaged(content, chance, len(content)))
        return
    content = shard.read_bytes()
    if kind == 1:
        shard.write_bytes(damaged(content, chance, 200))
        return
    examples = [tfrecord.encode_example(example) for example in tfrecord.read_examples(shard)]
    with shard.open("wb") as stream:
        for data in examples:
            stream.write(tfrecord.encode_record(damaged(data, chance, 200)))
    text = manifest_path.read_text(encoding="utf-8")
    old, new = (hashlib.sha256(part).hexdigest() for part in (content, shard.read_bytes()))
    manifest_path.write_text(text.replace(old, new), encoding="utf-8")


def read_set(folder: Path) -> str:
    """Loads a data set as training does; returns the outcome."""
    try:
        data = dataset.load(folder)
    except DatasetError:
        return "refused"
    for examples in (data.train, data.validation):
        arrays = [values for values in vars(examples).values() if isinstance(values, np.ndarray)]
        if not all(np.isfinite(values).all() for values in arrays):
            raise AssertionError(f"{folder} gave values that are not finite")
    return "read"


def work(kind: str, first: int, last: int, seed: int, place: Path) -> None:
    """Runs in the child: writes two lines per case, `BEGIN i` and `END i outcome`."""
    whole = sounds(place) if kind == "audio" else [small_set(place / "whole")]
    for index in range(first, last):
        print(f"BEGIN {index}", flush=True)
        chance = random.Random(f"{seed}-{kind}-{index}")
        original = whole[index % len(whole)]
        case = place / (f"case{original.suffix}" if kind == "audio" else "case")
        try:
            if kind == "audio":
                case.write_bytes(damaged(original.read_bytes(), chance, 256))
                outcome = read_sound(case)
            else:
                shutil.rmtree(case, ignore_errors=True)
                shutil.copytree(original, case)
                damage_set(case, chance)
                outcome = read_set(case)
        except DdspError as problem:
            outcome = f"FAILED with the wrong kind of error: {problem}"
        except Exception:
            outcome = "FAILED " + traceback.format_exc().replace("\n", " | ")
        print(f"END {index} {outcome}", flush=True)


def supervise(kind: str, n_cases: int, seed: int, place: Path) -> tuple[Counter[str], list[str]]:
    """Runs the child, again after every crash; returns the outcomes and the failures."""
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    index = 0
    while index < n_cases:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        command = [sys.executable, __file__, "--child", kind, str(index), str(n_cases), str(seed), str(place)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda c=child, q=lines: [q.put(line) for line in c.stdout], daemon=True).start()
        begun = time.monotonic()
        while True:
            try:
                words = lines.get(timeout=0.2).split(maxsplit=2)
            except queue.Empty:
                if child.poll() is not None and lines.empty():
                    break
                if time.monotonic() - begun > STUCK_AFTER_S:
                    child.kill()
                    break
                continue
            begun = time.monotonic()
            current = int(words[1])
            if words[0] == "END":
                outcomes[words[2].split()[0].strip()] += 1
                if words[2].startswith("FAILED"):
                    wrong.append(f"{kind} {current}: {words[2]}")
                index = current + 1
        child.wait()
        if index < n_cases:  # it ended inside a case
            outcome = "stuck" if child.returncode == -9 else f"crashed ({child.returncode})"
            outcomes[outcome] += 1
            wrong.append(f"{kind} {index}: {outcome}; the file is in {place}")
            shutil.copytree(place, f"{place}-{index}", dirs_exist_ok=True)
            index += 1
    return outcomes, wrong


def main() -> None:
    """Prints how the cases ended."""
    if sys.argv[1:2] == ["--child"]:
        kind, first, last, seed, place = sys.argv[2:]
        work(kind, int(first), int(last), int(seed), Path(place))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=int, default=2000)
    parser.add_argument("--datasets", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="ddsp-fuzz-"))
    wrong = []
    for kind, n_cases in (("audio", given.audio), ("datasets", given.datasets)):
        start = time.monotonic()
        outcomes, found = supervise(kind, n_cases, given.seed, place / kind)
        wrong += found
        summary = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        print(f"{n_cases} damaged {kind}: {summary}; {time.monotonic() - start:.0f} s", flush=True)
    if wrong:
        sys.exit("\n".join(wrong))
    shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
