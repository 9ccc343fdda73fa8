"""Coverage-guided fuzzing of everything that reads files of strangers, with atheris (libFuzzer).

    pip install atheris                                       # Linux and macOS
    python benchmarks/fuzz_guided.py [--minutes 60] [--only NAME,NAME] [--corpus DIR]

Each reader gets its share of the time in a process of its own, which begins with whole files and keeps what reaches new
code. A reader has to return or raise a `DdspError` of one line: any other exception, a crash, 1.5 GB or two minutes on
one file are findings. `--corpus` keeps what was found to reach new code, so that another run goes on from there.
Prints tries, covered edges and findings of each reader; ends with 1 where there was a finding, whose file is kept.
"""

from __future__ import annotations

import argparse
import io
import pickle
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MEMORY_MB, STUCK_AFTER_S = 1500, 120
LONGEST_BYTES = 20_000

Read = Callable[[bytes], object]


@dataclass(frozen=True)
class Reader:
    """A reader of files of strangers: its function, whole files, and errors it may raise besides `DdspError`."""

    read: Read
    whole: list[bytes]
    allowed: tuple[type[Exception], ...] = ()


def readers(place: Path) -> dict[str, Reader]:
    """Returns all readers by name; those that take a path read it below `place`."""
    import numpy as np
    import soundfile

    from ddsp_cli.adaptation.curves import read_controls
    from ddsp_cli.adaptation.midi import lead_line, read_midi, split_voices
    from ddsp_cli.adaptation.notes import read_edited, rearrange, transcribe, write_notes
    from ddsp_cli.adaptation.segmentation import find_segments
    from ddsp_cli.audio import read
    from ddsp_cli.bundle import Card
    from ddsp_cli.bundle.folder import parse_weights
    from ddsp_cli.config import FeatureSpec, Preset, dump_yaml, load_preset, parse_yaml
    from ddsp_cli.config.reading import to_plain
    from ddsp_cli.dataset import nsynth, tfrecord
    from ddsp_cli.dataset.executors import check_cluster
    from ddsp_cli.dataset.manifest import Manifest
    from ddsp_cli.exporters import vst
    from ddsp_cli.importers import card, gin, magenta_checkpoint, pickles, tensor_bundle
    from ddsp_cli.importers.files import Archive, Folder
    from ddsp_cli.importers.flatbuffer import read as read_graph
    from ddsp_cli.importers.tflite import check_contract, find_weights
    from ddsp_cli.remote import check_address, is_address
    from fixtures import make_card, small_model
    from format_fixtures import GIN, plugin_bundle, unknown_graph
    from hostile import BundleEntry, tensor_index
    from performance_fixtures import sung

    def text_of(kind: type) -> Read:
        def parse(data: bytes) -> None:
            found = parse_yaml(data.decode("utf-8", "replace"), kind, "x.yaml")
            assert parse_yaml(dump_yaml(found), kind, "x.yaml") == found, "what was read can be written and read again"

        return parse

    def from_file(name: str, use: Callable[[Path], object]) -> Read:
        def write_and_read(data: bytes) -> object:
            (place / name).write_bytes(data)
            return use(place / name)

        return write_and_read

    def score(path: Path) -> None:
        found = read_midi(path)
        lead_line(found)
        split_voices(found)

    features = sung()
    tune = transcribe(features, find_segments(features))
    write_notes(place / "tune.csv", tune)
    write_notes(place / "tune.mid", tune)

    def pickled(data: bytes) -> None:
        found = pickles.load(data)
        if isinstance(found, dict):
            card.read_statistics(found)

    def address(data: bytes) -> None:
        if is_address(text := data.decode("utf-8", "replace")):
            check_address(text)

    def members(path: Path) -> None:
        archive = Archive(path, lambda name: True)
        for name in archive.names():
            archive.read(name)

    (place / "audio").mkdir(exist_ok=True)
    tone = 0.3 * np.sin(np.arange(1600) * 0.17)
    sounds = []
    for container, subtype in (("WAV", "PCM_16"), ("AIFF", "PCM_24"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")):
        sound = io.BytesIO()
        soundfile.write(sound, tone, 16000, subtype, format=container)
        sounds.append(sound.getvalue())
    curves = {name: np.linspace(1, 2, 5) for name in ("time_s", "f0_hz", "power_db")}
    packed, archive = io.BytesIO(), io.BytesIO()
    np.savez(packed, **curves)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("a/operative_config-0.gin", GIN)
    (place / "ckpt-1.data-00000-of-00001").write_bytes(bytes(24))
    index = tensor_index({f"layer{i}/kernel": BundleEntry((2, 3), data=bytes(24)) for i in range(4)})
    model = small_model()
    split = {"n_examples": 0, "used_s": 0.0, "shards": {}}
    levels = {name: np.linspace(40, 60, 101).tolist() for name in ("pitch_midi", "loudness_db", "power_db")}
    manifest = {
        "format": 1, "name": "x", "created_with": "", "sample_rate_hz": 16000, "recordings": [],
        "statistics": {**levels, "note_s": 1.0}, "features": to_plain(FeatureSpec()), "train": split,
        "validation": split,
    }  # fmt: skip
    note = {
        "note_str": "keyboard_acoustic_000-060-100", "pitch": 60, "velocity": 100, "sample_rate": 16000,
        "instrument_str": "keyboard_acoustic", "instrument_family_str": "keyboard", "instrument_source_str": "acoustic",
    }  # fmt: skip
    listed = str({"keyboard_acoustic_000-060-100": note}).replace("'", '"').encode()
    statistics = [
        pickle.dumps({"mean_min_pitch_note": np.float32(60), "x": np.arange(9.0)}, protocol=p) for p in (2, 4)
    ]

    return {
        "card": Reader(text_of(Card), [dump_yaml(make_card(model)).encode()]),
        "preset": Reader(text_of(Preset), [dump_yaml(load_preset("light")).encode()]),
        "manifest": Reader(text_of(Manifest), [dump_yaml(manifest).encode()]),
        "midi": Reader(from_file("x.mid", score), [(place / "tune.mid").read_bytes()]),
        "curves, CSV": Reader(
            from_file("x.csv", lambda path: read_controls(path, "power_db", 50)),
            [b"time_s,f0_hz,power_db,gate\n0,440,-20,1\n0.5,0,-30,0\n1,441.5,-20,1\n"],
        ),
        "curves, NPZ": Reader(
            from_file("x.npz", lambda path: read_controls(path, "power_db", 50)), [packed.getvalue()]
        ),
        "notes, CSV": Reader(
            from_file("n.csv", lambda path: rearrange(features, tune, read_edited(path, tune))),
            [(place / "tune.csv").read_bytes()],
        ),
        "notes, MIDI": Reader(
            from_file("n.mid", lambda path: rearrange(features, tune, read_edited(path, tune))),
            [(place / "tune.mid").read_bytes()],
        ),
        "shard": Reader(
            tfrecord.decode_features,
            [tfrecord.encode_example({"f0_hz": np.ones(4), "audio": np.zeros(9)})],
            (ValueError,),
        ),
        "NSynth": Reader(from_file("examples.json", lambda path: list(nsynth.labels(path.parent))), [listed]),
        "sound": Reader(from_file("x.wav", read.read_mono), sounds),
        "weights": Reader(lambda data: parse_weights(data, Path("x")), [_weights(np)]),
        "gin": Reader(
            lambda data: magenta_checkpoint.describe(gin.parse(data.decode("utf-8", "replace"))),
            [GIN.format(generation="F0LoudnessPreprocessor.compute_loudness = True", layers=1).encode()],
        ),
        "pickle": Reader(pickled, statistics),
        "checkpoint": Reader(
            from_file(
                "ckpt-1.index",
                lambda path: tensor_bundle.read(
                    Folder(path.parent, lambda name: "ckpt" in name), "ckpt-1", lambda _: True
                ),
            ),
            [index],
        ),
        "graph": Reader(lambda data: check_contract(read_graph(data)), [unknown_graph()]),
        "plug-in": Reader(lambda data: find_weights(read_graph(data)), [vst.build(plugin_bundle())[0]]),
        "archive": Reader(from_file("x.zip", members), [archive.getvalue()]),
        "address": Reader(address, [b"s3://bucket/wavs/**/*.flac", b"https://host/a.wav", b"a/b.wav"]),
        "cluster": Reader(
            lambda data: check_cluster(data.decode("utf-8", "replace")), [b"tcp://host:8786", b"local:4"]
        ),
    }


def _weights(np: Any) -> bytes:
    from safetensors.numpy import save

    return save({"a": np.ones((2, 3), np.float16), "b": np.zeros(4, np.float32)})


def fuzz(name: str, corpus: Path, seconds: int) -> None:
    """Feeds one reader until the time is over; libFuzzer ends the process, with a status above 0 at a finding."""
    import atheris  # type: ignore[import-not-found]

    sys.path.insert(0, str(ROOT / "tests"))
    with atheris.instrument_imports(include=["ddsp_cli", "mido"]), tempfile.TemporaryDirectory() as temporary:
        from ddsp_cli.errors import DdspError

        reader = readers(Path(temporary))[name]
        for i, content in enumerate(reader.whole):
            (corpus / f"whole-{i}").write_bytes(content)

        def one(data: bytes) -> None:
            try:
                reader.read(data)
            except reader.allowed:
                pass
            except DdspError as problem:
                assert problem.message, "an error is a sentence"
                assert "\n" not in problem.message, "an error is one line"

        options = [f"-max_total_time={seconds}", f"-rss_limit_mb={MEMORY_MB}", f"-timeout={STUCK_AFTER_S}",
                   f"-max_len={max(LONGEST_BYTES, *map(len, reader.whole))}", "-print_final_stats=1",
                   f"-artifact_prefix={corpus.parent / 'finding'}-{_slug(name)}-"]  # fmt: skip
        atheris.Setup([sys.argv[0], *options, str(corpus)], one)
        atheris.Fuzz()


def _slug(name: str) -> str:
    return re.sub(r"\W+", "-", name)


NAMES = ("card", "preset", "manifest", "midi", "curves, CSV", "curves, NPZ", "notes, CSV", "notes, MIDI", "shard",
         "NSynth", "sound", "weights", "gin", "pickle", "checkpoint", "graph", "plug-in", "archive",
         "address", "cluster")  # fmt: skip


def main() -> int:
    """Runs all readers one after another and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="of all readers together")
    parser.add_argument("--only", default="", help="readers, separated by semicolons")
    parser.add_argument("--corpus", type=Path, help="a folder that keeps inputs that reach new code")
    parser.add_argument("--reader", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reader:
        fuzz(options.reader, options.corpus, round(60 * options.minutes))
        return 0
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("Coverage-guided fuzzing is left out: atheris is not installed (pip install atheris).")
        return 0
    names = options.only.split(";") if options.only else NAMES
    home = options.corpus or Path(tempfile.mkdtemp(prefix="ddsp-fuzz-"))
    n_tries = n_findings = 0
    print("| reader | tries | covered edges | findings |\n|---|---|---|---|", flush=True)
    for name in names:
        corpus = home / _slug(name)
        corpus.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, "--reader", name, "--corpus", str(corpus),
                   "--minutes", str(options.minutes / len(names))]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        said = done.stdout + done.stderr
        tried = re.findall(r"stat::number_of_executed_units:\s*(\d+)", said) or re.findall(
            r"^#(\d+)\s", said, re.MULTILINE
        )
        edges = re.findall(r"cov: (\d+)", said)
        n_tries += int(tried[-1]) if tried else 0
        n_findings += done.returncode != 0
        print(
            f"| {name} | {tried[-1] if tried else 0} | {edges[-1] if edges else 0} | {int(done.returncode != 0)} |",
            flush=True,
        )
        if done.returncode:
            print(
                "\n".join(line for line in said.splitlines() if "INFO:" not in line and not line.startswith("#")),
                flush=True,
            )
    print(f"| all | {n_tries} | | {n_findings} |\n{home}")
    return 1 if n_findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
