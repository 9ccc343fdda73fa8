"""Attack the commands with hostile files, flipped bits, broken streams and wrong places; report how each try ended.

    python benchmarks/attack.py [--tries 1.0] [--seed 0] [--code DIR] [--only KIND,KIND] [--minutes 60] [--all]

Commands run in a separate process (`ddsp_cli.cli`), whose time and memory are watched and whose network is refused
and logged (`tests/watcher`). Outcomes:

    done        the command succeeded
    sentence    one error sentence and an exit code from 2 to 6
    unnoticed   a flipped bit in a file that carries a digest, and the command continued
    internal    exit code 1, a traceback, or the process ended
    hang        more than 60 s of processor time, or 10 min
    memory      more than 1.5 GB at once
    lost        a file that does not concern the command was changed or removed
    sockets     the network was used

`--tries` scales the random attacks, `--minutes` repeats them with other seeds. `--all` also runs `attack_studio.py`,
`attack_imports.py` and `kill_commands.py`. `--code` attacks another checkout: the folder that holds its `ddsp_cli`.
Ends with 1 where anything but done and sentence was counted.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import soundfile

from small import PRESET, damaged

ROOT = Path(__file__).resolve().parents[1]
HANG_S, MEMORY_BYTES = 60.0, 1_500_000_000
OUTCOMES = ("done", "sentence", "unnoticed", "internal", "hang", "memory", "lost", "sockets")


@dataclass
class Try:
    """One command on prepared files.

    Attributes:
      kind: of attack.
      arguments: of the command; None for a line of a shell.
      files: written into the folder before: path → content.
      line: a command line of a shell, in which `$DDSP` is the program.
      sealed: a file was changed that carries a digest, so the command has to notice.
    """

    kind: str
    arguments: list[str] | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    line: str = ""
    sealed: bool = False


# --- what is attacked --------------------------------------------------------------------------------


def desk(folder: Path, code: Path) -> None:
    """Makes whole inputs of every command, with the program that is attacked."""
    (folder / "Documents").mkdir(parents=True)
    for name in ("letter.txt", "model.yaml.txt", "photo.jpg"):
        (folder / "Documents" / name).write_bytes(name.encode() * 100)
    t = np.arange(16000) / 16000
    tone = (
        sum(np.sin(2 * np.pi * 330 * k * t) / k for k in range(1, 5)) * 0.1 * np.minimum(1, 10 * np.abs(np.sin(3 * t)))
    )
    soundfile.write(folder / "voice.wav", tone, 16000)
    (folder / "takes").mkdir()
    for i in range(2):
        long = np.tile(tone, 8) * (1 - 0.1 * i)
        soundfile.write(folder / "takes" / f"{i}.wav", long, 16000)
    shutil.copytree(ROOT / "models" / "flute", folder / "models" / "mine")
    environment = os.environ | {"PYTHONPATH": str(code)}
    for arguments in (
        ("transfer", "voice.wav", "--model", "mine", "--out", "played.wav", "--controls", "curves.csv"),
        ("transfer", "voice.wav", "--model", "mine", "--out", "again.wav", "--controls", "curves.npz"),
        ("transfer", "voice.wav", "--model", "mine", "--out", "notes.wav", "--notes", "tune.csv"),
        ("transfer", "voice.wav", "--model", "mine", "--out", "midi.wav", "--notes", "tune.mid"),
        ("prepare", "takes", "--name", "set", "--workers", "1"),
        ("export", "--model", "mine", "--format", "vst", "--out", "vst"),
    ):
        command = [sys.executable, "-m", "ddsp_cli", *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(arguments)}: {done.stderr}")
    for name in ("played.wav", "again.wav", "notes.wav", "midi.wav"):
        (folder / name).unlink()


def flipped(content: bytes, chance: random.Random) -> bytes:
    """Returns the content with one bit changed."""
    changed = bytearray(content)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


PLAY = ["transfer", "voice.wav", "--out", "out.wav", "--force", "--model"]


def bits(whole: Path, chance: random.Random, n: int) -> Iterator[Try]:
    """Yields flipped bits in files that carry a digest."""
    for name in ("model.yaml", "preview.ogg", "weights.safetensors", "impulse_response.wav"):
        content = (whole / "models" / "mine" / name).read_bytes()
        for _ in range(n if name in {"model.yaml", "preview.ogg"} else n // 4):
            yield Try(f"bits: {name}", [*PLAY, "mine"], {f"models/mine/{name}": flipped(content, chance)}, sealed=True)
    content = (whole / "datasets" / "set" / "dataset.yaml").read_bytes()
    for _ in range(n):
        arguments = ["prepare", "takes", "--name", "set", "--workers", "1"]
        yield Try("bits: dataset.yaml", arguments, {"datasets/set/dataset.yaml": flipped(content, chance)}, sealed=True)


#: Fields of newer cards, hostile: put into a whole card.
CARD_LINES = (
    "  instruments: {names: [a], vector_dims: 1}",
    "  instruments: {names: [a, a]}",
    "  instruments: {names: [a, b], vector_dims: 1000000000}",
    "  instruments: {names: []}",
    "  encoder: {z_dims: 1000000000}",
    "  encoder: {n_mfccs: 0}",
)
SOURCES = (
    "sources: 5",
    "sources: [5]",
    "sources: [{}]",
    "sources: [{title: 1}]",
    "sources: [{title: x, url: [1]}]",
    "sources:" + "\n- {title: x, licence: y}" * 30_000,
    "sources: [{title: '" + "x" * 1_000_000 + "'}]",
    'sources: [{title: "\\e[2J\\e]0;x\\a", attribution: "\\x1b[1m"}]',
    "sources: [{title: x, more: y}]",
    "sources: {a: b}",
)


def weights(whole: Path) -> Iterator[Try]:
    """Yields wrong statistics of variation in a bundle's weights: NaN, sizes, types; with matching digests."""
    from safetensors.numpy import load, save

    folder = whole / "models" / "mine"
    content = (folder / "weights.safetensors").read_bytes()
    card = (folder / "model.yaml").read_text(encoding="utf-8").partition("# sha256")[0]
    old, whole_arrays = hashlib.sha256(content).hexdigest(), load(content)
    names = [name for name in whole_arrays if name.startswith("variation/")] or ["variation/pole"]
    for name in names:
        shape = whole_arrays[name].shape if name in whole_arrays else (1,)
        for value in (
            np.full(shape, np.nan),
            np.full(shape, np.inf),
            np.full(shape, 1e38),
            np.full(shape, -1e38),
            np.zeros(0),
            np.zeros((3, 3)),
            np.zeros(1_000_000),
            np.full(shape, 2, np.int64),
            np.zeros(shape, bool),
        ):
            changed = save({**whole_arrays, name: value if value.dtype.kind in "bi" else value.astype(np.float32)})
            text = card.replace(old, hashlib.sha256(changed).hexdigest())
            for rate in ("frame_rate_hz: 50", "frame_rate_hz: 10", "frame_rate_hz: 20"):
                files = {
                    "models/mine/weights.safetensors": changed,
                    "models/mine/model.yaml": text.replace("frame_rate_hz: 50", rate).encode(),
                }
                yield Try("cards: variation", [*PLAY, "mine"], files)
    for line in CARD_LINES:
        yield Try(
            "cards: instruments",
            [*PLAY, "mine"],
            {"models/mine/model.yaml": card.replace("model:\n", f"model:\n{line}\n", 1).encode()},
        )
    without = "\n".join(line for line in card.splitlines() if not line.startswith(("sources:", "- title", "- {title")))
    for line in SOURCES:
        files = {"models/mine/model.yaml": f"{without}\n{line}\n".encode()}
        yield Try("cards: sources", ["models", "mine"], files)
        yield Try("cards: sources", [*PLAY, "mine"], files)


#: Cards: what is replaced in a whole one → by what.
CARDS = {
    "power_window_samples: 1024": ("100000000", "1000000000000", "0", "-1", ".nan", '!!int ""', "[1]", "1e400", "0x7f"),
    "loudness_window_samples: 512": ("100000000", "'512'", "true"),
    "floor_db: -80.0": (".nan", ".inf", "-.inf", "1.0e+300", "!!timestamp x", "2024-99-99", "!!float ''", "~"),
    "frame_rate_hz: 50": ("0", "3", "1000000000", "!!binary x"),
    "rnn_units: 256": ("1000000000", "100000", "1", "!!python/object/apply:os.system [true]"),
    "layers_per_stack: 1": ("1000000000", "100000", "-1"),
    "channels: 128": ("1000000000", "1"),
    "n_harmonics: 60": ("1000000000", "4000", "1"),
    "n_bands: 65": ("1000000000", "8000", "2", "1"),
    "length_samples: 24000": ("172800000", "10000000000", "1"),
    "n_frames: 500": ("1000000000", "1"),
    "window_size_samples: 257": ("1000000000",),
    "initial_bias: -5.0": (".nan", "1.0e+308"),
    "name: flute": ("'\\x1b[2J'", '"\\e[2J\\e]0;x\\a"', "'" + "x" * 100_000 + "'", "'../../x'", "[a, b]", "1"),
    "licence: CC-BY-SA-3.0": ('"' + "y" * 1_000_000 + '"',),
    "format: 1": ("99", "-1", "x", ".inf", '!!int ""', "&a 1", "*a", "1_0"),
    "seed: 0": ("1" + "0" * 5000, "-1", ".inf"),
}  # fmt: skip


def cards(whole: Path) -> Iterator[Try]:
    """Yields sizes, types and structures in the card of an instrument; the card alone, and beside good ones."""
    text = (whole / "models" / "mine" / "model.yaml").read_text(encoding="utf-8").partition("# sha256")[0]
    made = [
        text.replace(old, f"{old.partition(':')[0]}: {new}", 1)
        for old, news in CARDS.items()
        for new in news
        if old in text
    ]
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{c}: &{c} [{','.join(f'*{b}' for _ in range(9))}]\n"
                                                   for b, c in zip("abcdefgh", "bcdefghi", strict=True))  # fmt: skip
    made += [bomb, "[" * 100_000, "", "\0", "- a", "a: 1", text * 2,
             text + "remarks:\n" + "- xxxxxxxxxxxxxxxxxxxxxxxxxx\n" * 700_000,
             text + "files: {../../voice.wav: x}\n", "\ud800".encode("utf-16", "surrogatepass").decode("latin-1"),
             "? [a]\n: 1\n", "<<: {format: 1}\n" + text, "=: 1\n" + text]  # fmt: skip
    for card in made:
        content = {"models/mine/model.yaml": card.encode("utf-8", "surrogatepass")}
        yield Try("cards: played", [*PLAY, "mine"], content)
        yield Try("cards: listed", ["models"], content)
        yield Try("cards: did you mean", [*PLAY, "mime"], content)


PRESETS = {
    "n_harmonics: 20": ("1000000000", ".nan", "0"), "n_bands: 17": ("1000000000", "!!int ''"),
    "rnn_units: 16": ("1000000000",), "channels: 16": ("1000000000",), "layers_per_stack: 1": ("1000000000",),
    "batch_size: 2": ("1000000000000", "-1"), "crop_s: 0.5": ("1.0e+18", ".inf", ".nan"),
    "learning_rate: 1.0e-3": (".inf", ".nan"), "fft_sizes: [256]": ("[1000000000]", "[" + "256, " * 100_000 + "256]"),
    "frame_rate_hz: 50": ("0", "7"), "sample_rate_hz: 16000": ("16001", "1.0e+9"),
}  # fmt: skip


def presets() -> Iterator[Try]:
    """Yields absurd sizes in a preset, which must be refused before a training framework is loaded."""
    for old, news in PRESETS.items():
        for new in news:
            content = PRESET.replace(old, f"{old.partition(':')[0]}: {new}").encode()
            arguments = [
                "train",
                "--instrument",
                "x",
                "--dataset",
                "datasets/set",
                "--preset",
                "x.yaml",
                "--steps",
                "1",
            ]
            yield Try("presets", arguments, {"x.yaml": content})


FORMATS = (
    ("wav", "PCM_16", "WAV"), ("flac", "PCM_16", "FLAC"), ("ogg", "VORBIS", "OGG"), ("mp3", "MPEG_LAYER_III", "MP3"),
    ("aiff", "PCM_24", "AIFF"), ("caf", "PCM_16", "CAF"), ("w64", "PCM_16", "W64"), ("au", "PCM_16", "AU"),
    ("wav", "FLOAT", "WAV"),
)  # fmt: skip


def sounds(whole: Path, chance: random.Random, n: int) -> Iterator[Try]:
    """Yields sound files with damaged headers, wrong lengths and impossible samples; also as rooms."""
    tone, rate_hz = soundfile.read(whole / "voice.wav")
    made = []
    for suffix, subtype, container in FORMATS:
        out = io.BytesIO()
        soundfile.write(out, tone, rate_hz, subtype=subtype, format=container)
        made.append((suffix, out.getvalue()))
    for i in range(n):
        suffix, content = made[i % len(made)]
        files = {f"x.{suffix}": damaged(content, chance, 256)}
        yield Try("sounds: damaged", ["transfer", f"x.{suffix}", *PLAY[2:], "mine"], files)
        if i % 8 == 0:  # by the network that finds the notes of chords
            yield Try("sounds: chords", ["transfer", f"x.{suffix}", *PLAY[2:], "mine", "--voices", "chords"], files)
    flac = bytearray(made[1][1])
    flac[21] |= 0x0F  # total samples, 36 bits of STREAMINFO
    flac[22:26] = b"\xff" * 4
    liar = {"x.flac": bytes(flac)}
    yield Try("sounds: lengths", ["transfer", "x.flac", *PLAY[2:], "mine"], liar)
    yield Try("sounds: lengths", ["transfer", "x.flac", "--from-controls", "curves.csv", *PLAY[2:], "mine"], liar)
    yield Try("sounds: lengths", [*PLAY, "mine", "--room", "x.flac"], liar)
    for value in (np.nan, np.inf, 1e30, -1e38):
        for place in ("all", "one"):
            sound = np.full(4000, value) if place == "all" else np.r_[0.5, np.zeros(3998), value]
            out = io.BytesIO()
            soundfile.write(out, sound.astype(np.float32), rate_hz, subtype="FLOAT", format="WAV")
            files = {"x.wav": out.getvalue()}
            yield Try("sounds: NaN", ["transfer", "x.wav", *PLAY[2:], "mine"], files)
            yield Try("sounds: NaN as a room", [*PLAY, "mine", "--room", "x.wav"], files)


def midi(chance: random.Random, n: int) -> Iterator[Try]:
    """Yields MIDI files that are damaged, endless, or without a tempo."""
    track = b"".join(bytes([0x60, 0x90, 60 + i, 100, 0x60, 0x80, 60 + i, 0]) for i in range(8)) + b"\x00\xff\x2f\x00"
    whole = b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk" + len(track).to_bytes(4, "big") + track
    far = b"\xff\xff\xff\x7f\x90\x3c\x64" * 8 + b"\x60\x80\x3c\x00\x00\xff\x2f\x00"
    made = [whole[:14] + b"MTrk" + len(far).to_bytes(4, "big") + far, whole[:12] + b"\0\0" + whole[14:],
            whole[:20], b"", whole[:10] + b"\xff\xff" + whole[12:], b"MThd" + b"\xff" * 100]  # fmt: skip
    made += [damaged(whole, chance, len(whole)) for _ in range(n)]
    for content in made:
        yield Try("MIDI", ["transfer", "x.mid", *PLAY[2:], "mine"], {"x.mid": content})


def large_midi() -> Iterator[Try]:
    """Scores that are small, and take long where time grows with the square of bends, pedals or notes."""

    def score(events: bytes, n_tracks: int = 1) -> bytes:
        body = events + b"\0\xff\x2f\0"
        return (b"MThd\0\0\0\6\0\1" + n_tracks.to_bytes(2, "big") + b"\0\x60"
                + (b"MTrk" + len(body).to_bytes(4, "big") + body) * n_tracks)  # fmt: skip

    bends = b"\1\xe0\0\x40" + b"\1\0\x41" * 10_000
    notes = b"\0\x90\x3c\x64\1\x3c\0" + b"\1\x3c\x64\1\x3c\0" * 10_000
    held = b"\0\xb0\x40\x7f" + b"".join(bytes([0, 0x90, key, 100, 0, 0x80, key, 0]) for key in range(128))
    cluster = b"".join(bytes([0, 0x90, key, 100]) for key in range(128)) + b"\x81\x00\x80\x3c\0"
    hour = b"\0\xff\x51\3\x0f\xff\xff\0\x90\x3c\x64\xc0\0\x80\x3c\0"
    for content in (score(bends + notes), score(held + b"\1\xb1\x40\0" + b"\1\x40\0" * 400, 400), score(cluster * 8),
                    score(b"\0\x90\x3c\x64\0\x80\x3c\0"), score(b"\0\x90\x3c\x64"), score(hour), score(hour * 3),
                    score(notes, 1)[:12] + b"\xe7\x28" + score(notes)[14:], score(notes) + bytes(8 << 20),
                    score(b"\0\xff\1\0" * 900_000)):  # fmt: skip
        for words in ([], ["--voices", "lead"]):
            yield Try("large MIDI", ["transfer", "x.mid", *PLAY[2:], "mine", *words], {"x.mid": content})
        yield Try("notes: MIDI", [*PLAY, "mine", "--from-notes", "x.mid"], {"x.mid": content})


#: Cells of a table of notes.
CELLS = (
    "",
    "-1",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e-320",
    "9" * 400,
    "9" * 5000,
    "0x10",
    "C",
    "H4",
    "C-99999999",
    "C" + "9" * 400,
    "1,5",
    "\x1b[2J",
    "'",
    "=1+1",
    "None",
    "86400",
    "21599",
    "127.5",
    "\ud7ff",
    "é",
    "1e3",
    "0",
)


def notes(whole: Path, chance: random.Random, n: int) -> Iterator[Try]:
    """Yields edited notes: damaged files, and tables with impossible cells."""
    table, midi_file = ((whole / f"tune.{suffix}").read_bytes() for suffix in ("csv", "mid"))
    for i in range(n):
        name, content = (("x.csv", table), ("x.mid", midi_file))[i % 2]
        changed = damaged(content, chance, len(content))
        yield Try("notes: damaged", [*PLAY, "mine", "--from-notes", name], {name: changed})
    lines = table.decode().splitlines()
    for _ in range(n):
        rows = [line.split(",") for line in lines]
        for _ in range(chance.choice((1, 1, 2))):
            row = chance.choice(rows[1:])
            row[chance.randrange(len(row))] = chance.choice(CELLS)
        content = "\n".join(",".join(row) for row in rows).encode("utf-8", "replace")
        yield Try("notes: cells", [*PLAY, "mine", "--from-notes", "x.csv"], {"x.csv": content})
    head = lines[0].encode()
    for content in (
        b"",
        head,
        head + b"\n" + b"9" * 200_000,
        head + b'\n"' + b"x" * 200_000,
        b"\xff\xfe" * 50,
        bytes(100),
        head + b"\n" + lines[1].encode() + b"\n" * 500_000,
        b"," * (17 << 20),
        b"a;b\n1;2\n",
        head + (b"\n" + lines[1].encode()) * 20_000,
    ):
        yield Try("notes: tables", [*PLAY, "mine", "--from-notes", "x.csv"], {"x.csv": content})


#: Values that hardly any option can have.
VALUES = (
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "-1",
    "0",
    "1e308",
    "9" * 400,
    "9" * 5000,
    "0x10",
    "None",
    "true",
    "é",
    "\x1b[2J",
    "a" * 100_000,
    "..",
    "/",
    "*",
    "%s",
    "{0}",
    "-",
    "--",
    "1,2",
    "1 2",
    "0:0",
    "\u202e",
    "1e-320",
)

TRANSFER_OPTIONS = (
    "transpose",
    "dynamics",
    "loudness",
    "autotune",
    "key",
    "tuning",
    "retune",
    "vibrato",
    "glide",
    "threshold",
    "pitch",
    "room",
    "wet",
    "formant",
    "loudness-match",
    "voices",
    "track",
    "channel",
    "ensemble",
    "seed",
    "sample-rate",
    "bits",
    "workers",
    "blend",
    "from-notes",
    "from-controls",
)
LIVE_OPTIONS = (
    "input",
    "output",
    "transpose",
    "threshold",
    "block",
    "latency",
    "record",
    "seconds",
    "midi",
    "voices",
    "seed",
    "model",
)
BLENDS = (
    "mine:nan+flute",
    "mine:inf+flute",
    "mine:-1+flute",
    "mine:0+flute:0",
    "mine:1e999+flute",
    "mine:1001+flute",
    "+",
    "mine+",
    "+mine",
    "mine:0.5:0.5+flute",
    "mine+" * 2000 + "flute",
    "mine:" + "9" * 5000 + "+flute",
    "nowhere:1+mine:1",
    "mine:1e-300+flute:1e-300",
    "0:mine 0:flute",
    "8s:mine 0:flute",
    "0:mine 1e9:flute",
    "0:mine 99999999999999999999s:flute",
    "0:mine",
    "0:",
    "0:mine 8s:",
    "1:2:3:mine",
    "0:mine 5" + "9" * 400 + ":flute",
    ",".join(f"{i}:mine" for i in range(3000)),
    "0:../../x 1:mine",
    "0:mine\n1:flute",
)
ADDRESSES = (
    "s3://AKIA:secret@bucket/x",
    "https://token@host/x.wav",
    "https://host/x.wav?X-Amz-Signature=secret",
    "zip://a::https://u:p@h/a.zip",
    "simplecache::https://u:p@h/x.wav",
    "reference://x.json",
    "dask://x/y",
    "jupyter://x",
    "github://a:b@c/x",
    "data://x",
    "generic://x",
    "blockcache::file://x",
    "libarchive://x::file://y",
    "nosuch://host/x",
    "x" * 5000 + "://y",
    "http://[::1",
    "://",
    "file://",
    "memory://",
    "memory://x/*.wav",
    "file:///dev/zero",
    "file:///dev/stdin",
    "file:///proc/self/mem",
    "s3:///",
    "local://..",
    "gs://x",
    "sftp://a/b",
)
CLUSTERS = (
    "local:0",
    "local:-1",
    "local:x",
    "local:",
    "local:99999999999",
    "local:" + "9" * 5000,
    "slurm:0",
    "slurm:1e9",
    "x",
    "",
    "tcp",
    "tcp:/host",
    "local:٣",
    "slurm:99999999",
)


def options() -> Iterator[Try]:
    """Yields impossible values of the options of the newer commands; none of them may open a socket."""
    for option in TRANSFER_OPTIONS:
        for value in VALUES:
            model = [] if option == "blend" else ["--model", "mine"]
            source = [] if option == "from-controls" else ["voice.wav"]
            yield Try(
                "options: transfer", ["transfer", *source, "--out", "out.wav", "--force", *model, f"--{option}={value}"]
            )
    for option in LIVE_OPTIONS:
        for value in (*VALUES, "/dev/full", "Documents"):
            wanted = [] if option == "model" else ["--model", "mine"]
            devices = [word for name in ("input", "output") if name != option for word in (f"--{name}", "null")]
            length = [] if option == "seconds" and value not in {"", "1e308"} else ["--seconds", "0.05"]
            yield Try("options: live", ["live", *wanted, *devices, *length, f"--{option}={value}"])
    for port in ("-1", "65536", "nan", "1e9", "", "x", "9" * 5000):
        yield Try("options: studio", ["studio", "--no-browser", f"--port={port}"])
    for words in BLENDS:
        yield Try("blends", ["transfer", "voice.wav", "--out", "out.wav", "--force", "--model", words])
        yield Try("blends", ["transfer", "voice.wav", "--out", "out.wav", "--force", "--blend", words])
    for address in ADDRESSES:
        yield Try("addresses", ["prepare", address, "--name", "other", "--workers", "1"])
        yield Try("addresses", ["prepare", "takes", "--out", address, "--workers", "1"])
        if not address.startswith("memory"):  # where the line above has left a whole data set in this process
            yield Try("addresses", ["train", "--instrument", "x", "--dataset", address, "--steps", "1"])
    for cluster in CLUSTERS:
        yield Try("clusters", ["prepare", "takes", "--name", "other", "--cluster", cluster])


def curves(whole: Path, chance: random.Random, n: int) -> Iterator[Try]:
    """Yields tables of curves: damaged, bombs, scalars, structured types, objects."""

    def npz(**arrays: np.ndarray) -> bytes:
        out = io.BytesIO()
        np.savez_compressed(out, **arrays)
        return out.getvalue()

    csv, archive = ((whole / name).read_bytes() for name in ("curves.csv", "curves.npz"))
    for i in range(n):
        name, content = (("x.csv", csv), ("x.npz", archive))[i % 2]
        yield Try(
            "curves: damaged",
            ["transfer", "--from-controls", name, *PLAY[2:], "mine"],
            {name: damaged(content, chance, 2000)},
        )
    good = {"time_s": np.arange(50) / 50, "f0_hz": np.full(50, 440.0), "power_db": np.full(50, -20.0)}
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (250_000_000,)})
        for name in good:
            with packed.open(f"{name}.npy", "w", force_zip64=True) as stream:
                stream.write(header.getvalue())
                for _ in range(100):
                    stream.write(bytes(1 << 20))
    records = np.zeros(50, [("a", "f8"), ("b", "i4")])
    made = [
        npz(**good | {"time_s": np.float64(3.0)}), npz(**good | {"f0_hz": records}),
        npz(**good | {"gate": np.array("x")}),
        npz(**good | {"time_s": np.full(50, np.nan)}), npz(**good | {"f0_hz": np.full(50, 1j)}), bomb.getvalue(),
        npz(**good | {"time_s": np.arange(50) * 1e300}), npz(**good | {"time_s": -np.arange(50.0)}),
        npz(**good | {"power_db": np.full(50, np.inf)}), npz(**good | {"f0_hz": np.zeros((50, 50, 50))}), npz(),
    ]  # fmt: skip
    pickled = io.BytesIO()
    np.savez(pickled, **{key: value.astype(object) for key, value in good.items()})
    made.append(pickled.getvalue())
    for content in made:
        yield Try("curves: npz", ["transfer", "--from-controls", "x.npz", *PLAY[2:], "mine"], {"x.npz": content})
    lines = [b"time_s,f0_hz,power_db\n0," + b"4" * 200_000 + b",1\n", b"time_s,f0_hz,power_db\n" + b'"' * 300_000,
             b"\xff\xfe" * 100, b"time_s,f0_hz,power_db\n0,nan,-20\n1,440,-20\n", b"time_s,f0_hz,power_db\n",
             b"time_s,f0_hz,power_db\n0,440,-20\n1e18,440,-20\n", b"," * 1_000_000, b"\n" * 1_000_000]  # fmt: skip
    for content in lines:
        yield Try("curves: csv", ["transfer", "--from-controls", "x.csv", *PLAY[2:], "mine"], {"x.csv": content})


def places() -> Iterator[Try]:
    """Yields outputs at places that hold something else."""
    export = ["export", "--model", "mine", "--out", "Documents", "--force", "--format"]
    for form in ("vst", "litert", "onnx"):
        yield Try("places: --force", [*export, form])
    yield Try("places: --force", ["import", "vst/mine.tflite", "--name", "x", "--out", "Documents", "--force"])
    yield Try("places: --force", ["import", "vst/flute.tflite", "--name", "x", "--out", "Documents", "--force"])
    yield Try("places: --force", ["prepare", "takes", "--out", "Documents", "--force", "--workers", "1"])
    train = ["train", "--instrument", "x", "--dataset", "datasets/set", "--preset", "x.yaml", "--steps", "1"]
    yield Try("places: --force", [*train, "--out", "Documents", "--force"], {"x.yaml": PRESET.encode()})
    for name in (
        "Documents",
        "Documents/letter.txt/x.wav",
        "nowhere/x.wav",
        "x" * 300 + ".wav",
        "\udcff.wav",
        "a\nb.wav",
    ):
        yield Try("places: names", ["transfer", "voice.wav", "--model", "mine", "--out", name])
        yield Try("places: names", ["transfer", name, "--model", "mine", "--out", "out.wav"])
        yield Try("places: names", ["transfer", "voice.wav", "--model", name, "--out", "out.wav"])


STREAMS = (
    "$PLAY 2>&-",
    "$PLAY >&-",
    "$PLAY <&- >&- 2>&-",
    "$PLAY >/dev/full",
    "$PLAY 2>/dev/full",
    "$DDSP models >/dev/full",
    "$DDSP --help >/dev/full",
    "$DDSP models >&-",
    "$DDSP transfer no.wav --model mine 2>&-",
    "$PLAY --out - >/dev/full",
    "$DDSP transfer voice.wav --model mine --out - >&-",
    "$DDSP transfer - --model mine --out out.wav <&-",
    "$DDSP models | head -c 1",
    "cat voice.wav | $DDSP transfer /dev/stdin --model mine --out out.wav --force",
    "$DDSP transfer <(cat voice.wav) --model mine --out out.wav --force",
    "ulimit -v 300000; $PLAY",
    "ulimit -v 150000; $PLAY",
    "ulimit -n 8; $PLAY",
    "ulimit -f 10; $PLAY",
    "TMPDIR=/nowhere $PLAY",
    "HOME=/nowhere $PLAY",
    "chmod 0 models; $DDSP models",
)

#: The same for newer commands.
NEWER = (
    "$DDSP live -m mine --input null --output null --seconds 0.1 >&- 2>&-",
    "$DDSP live -m mine --input null --output null --seconds 0.1 </dev/null 2>/dev/full",
    "ulimit -f 10; $DDSP live -m mine --input null --output null --seconds 1 --record out.wav --force",
    "$DDSP live -m mine --input null --output null --seconds 0.1 --record /dev/full --force",
    "ulimit -f 10; $DDSP transfer voice.wav --model mine --out out.mp3 --report page.html --plot --force",
    "ulimit -f 1; $DDSP transfer voice.wav --model mine --out out.wav --notes out.csv --force",
    "ulimit -f 10; $DDSP prepare takes --name full --workers 1",
    "TMPDIR=/nowhere $DDSP prepare takes --name tmp --workers 1",
    "ulimit -n 12; $DDSP prepare takes --name few --workers 2",
    "cat tune.mid | $DDSP transfer /dev/stdin --model mine --out out.wav --force",
    "$DDSP transfer voice.wav --model mine --from-notes <(cat tune.csv) --out out.wav --force",
    "$DDSP transfer voice.wav --model mine --from-notes /dev/zero --out out.wav --force",
)


def streams() -> Iterator[Try]:
    """Yields closed and full standard streams, pipes, limits."""
    play = "$DDSP transfer voice.wav --model mine --out out.wav --force"
    for line in STREAMS:
        yield Try("streams and limits", line=line.replace("$PLAY", play))
    for line in NEWER:
        yield Try("newer commands: streams and limits", line=line)


# --- how it ends -------------------------------------------------------------------------------------


def serve() -> None:
    """Runs in the attacked process: a command per line of its input, answered with exit code and messages."""
    from ddsp_cli import cli

    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    for line in sys.stdin:
        place, arguments = json.loads(line)
        os.chdir(place)
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            try:
                code = int(cli.run_command(arguments, False))
            except BaseException as problem:
                code = 1
                said.write(f"Traceback {problem!r}")
        answers.write(json.dumps([code, said.getvalue()[-2000:]]) + "\n")
        answers.flush()


class Victim:
    """The process, started again whenever it ended.

    Args:
      code: the folder that holds `ddsp_cli`.
      log: where its uses of the network are noted.
      hang_s: how long a command may take.
    """

    def __init__(self, code: Path, log: Path, hang_s: float) -> None:
        paths = os.pathsep.join([str(ROOT / "tests" / "watcher"), str(code)])
        self.environment = os.environ | {
            "PYTHONPATH": paths,
            "DDSP_WATCH_LOG": str(log),
            "PYTHONHASHSEED": "0",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self.process: subprocess.Popen[str] | None = None
        self.hang_s = hang_s

    def start(self) -> None:
        command = [sys.executable, __file__, "--serve"]
        self.process = subprocess.Popen(command, env=self.environment, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
        self.answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, args=(self.process, self.answers), daemon=True).start()

    @staticmethod
    def _listen(process: subprocess.Popen[str], answers: queue.Queue[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answers.put(line)
        answers.put("")

    def run(self, place: Path, arguments: list[str]) -> tuple[int, str, str]:
        """Returns the exit code, messages, and `hang` or `memory` where it had to be ended."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write(json.dumps([str(place), arguments]) + "\n")
        self.process.stdin.flush()
        return self._wait(self.process)

    def _wait(self, process: subprocess.Popen[str]) -> tuple[int, str, str]:
        begun, watched = time.monotonic(), psutil.Process(process.pid)
        before_s = cpu_s([watched])
        while True:
            try:
                answer = self.answers.get(timeout=0.05)
            except queue.Empty:
                with contextlib.suppress(psutil.Error):
                    family = [watched, *watched.children(recursive=True)]
                    why = "memory" if sum(entry.memory_info().rss for entry in family) > MEMORY_BYTES else ""
                    waited_s, used_s = time.monotonic() - begun, cpu_s(family) - before_s
                    why = "hang" if used_s > self.hang_s or waited_s > 10.0 * self.hang_s else why
                    if why:
                        for entry in reversed(family):
                            entry.kill()
                        process.wait()
                        return -9, "", why
                continue
            if not answer:
                return process.wait(), "the process ended", ""
            code, said = json.loads(answer)
            return code, said, ""


def cpu_s(family: list[psutil.Process]) -> float:
    """Returns the processor time of processes."""
    total = 0.0
    for entry in family:
        with contextlib.suppress(psutil.Error):
            times = entry.cpu_times()
            total += times.user + times.system
    return total


def state(folder: Path) -> str:
    """Returns a digest of the files that no attack may change."""
    watched = [*sorted((folder / "Documents").glob("*.txt")), folder / "Documents" / "photo.jpg", folder / "voice.wav"]
    return hashlib.sha256(b"".join(path.read_bytes() if path.exists() else b"gone" for path in watched)).hexdigest()


def judge(attempt: Try, code: int, said: str, why: str) -> str:
    """Returns the outcome of a try."""
    if why:
        return why
    if code not in {0, 2, 3, 4, 5, 6} or "Traceback" in said:
        return "internal"
    if code == 0:
        return "unnoticed" if attempt.sealed else "done"
    return "sentence"


def shell(attempt: Try, place: Path, code: Path, log: Path) -> tuple[int, str, str]:
    """Runs a command line."""
    paths = os.pathsep.join([str(ROOT / "tests" / "watcher"), str(code)])
    environment = os.environ | {
        "PYTHONPATH": paths,
        "DDSP_WATCH_LOG": str(log),
        "DDSP": f"{sys.executable} -m ddsp_cli",
    }
    words = ["bash", "-c", f"set -o pipefail; {attempt.line}"]
    try:
        done = subprocess.run(words, cwd=place, env=environment, capture_output=True, timeout=10 * HANG_S, check=False)
    except subprocess.TimeoutExpired:
        return -9, "", "hang"
    finally:
        (place / "models").chmod(0o755)
    return done.returncode, done.stderr.decode("utf-8", "replace")[-2000:], ""


def run(
    attempts: list[Try], whole: Path, place: Path, code: Path, hang_s: float, verbose: bool
) -> dict[str, Counter[str]]:
    """Runs all tries, one after another, and restores the folder after each."""
    found: dict[str, Counter[str]] = {}
    log = place.with_name("network.log")
    victim = Victim(code, log, hang_s)
    shutil.copytree(whole, place)
    untouched = state(place)
    for attempt in attempts:
        counter = found.setdefault(attempt.kind, Counter())
        log.write_text("", encoding="utf-8")
        for name, content in attempt.files.items():
            (place / name).write_bytes(content)
        words = attempt.arguments or []
        ended = shell(attempt, place, code, log) if attempt.line else victim.run(place, words)
        outcome = judge(attempt, *ended)
        lost = state(place) != untouched
        sockets = any(
            # urllib3 binds a socket to ::1 and closes it, to learn whether there is IPv6
            line.startswith("socket") and not line.startswith("socket.bind")
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
        )
        for what in (outcome, *(["lost"] if lost else []), *(["sockets"] if sockets else [])):
            counter[what] += 1
            if verbose and what not in {"done", "sentence"}:
                words = attempt.line or " ".join(attempt.arguments or [])[:150]
                print(f"  {what}: {attempt.kind}: {words!r}: {ended[0]} {ended[1].strip()[-300:]!r}", flush=True)
        changed = {*attempt.files} - {"x.csv", "x.npz"}
        if (
            lost
            or attempt.kind.startswith("places")
            or any(name.startswith(("models", "datasets")) for name in changed)
        ):
            shutil.rmtree(place)
            shutil.copytree(whole, place)
        else:
            for name in (*attempt.files, "out.wav"):
                (place / name).unlink(missing_ok=True)
    if victim.process is not None:
        victim.process.kill()
    return found


def main() -> int:
    """Prints a table of attacks and their outcomes, and the totals."""
    if sys.argv[1:] == ["--serve"]:
        serve()
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=float, default=1.0, help="scales the number of random attacks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--code", type=Path, default=ROOT / "src", help="folder with the ddsp_cli that is attacked")
    parser.add_argument("--only", default="", help="kinds, by their beginnings")
    parser.add_argument("--all", action="store_true", help="also hostile imports and kills")
    parser.add_argument("--minutes", type=float, default=0.0, help="go on with other seeds for so long")
    parser.add_argument("--quiet", action="store_true", help="no line for each finding")
    parser.add_argument("--hang", type=float, default=HANG_S, help="seconds of processor time")
    given = parser.parse_args()
    given.code = given.code.resolve()
    begun, chance = time.monotonic(), random.Random(given.seed)
    n = round(200 * given.tries)
    with tempfile.TemporaryDirectory(prefix="ddsp-attack-") as temporary:
        whole = Path(temporary) / "whole"
        desk(whole, given.code)
        attempts = [
            *bits(whole, chance, n),
            *cards(whole),
            *weights(whole),
            *presets(),
            *sounds(whole, chance, n),
            *midi(chance, n),
            *large_midi(),
            *notes(whole, chance, n),
            *options(),
            *curves(whole, chance, n),
            *places(),
            *streams(),
        ]
        chosen = tuple(given.only.split(",")) if given.only else ("",)
        attempts = [attempt for attempt in attempts if attempt.kind.startswith(chosen)]
        found = run(attempts, whole, Path(temporary) / "desk", given.code, given.hang, not given.quiet)
        seed = given.seed
        while time.monotonic() - begun < 60.0 * given.minutes:
            seed += 1
            chance = random.Random(seed)
            attempts = [
                *bits(whole, chance, 20),
                *sounds(whole, chance, 100),
                *midi(chance, 50),
                *notes(whole, chance, 25),
                *curves(whole, chance, 50),
            ]
            chosen_now = [attempt for attempt in attempts if attempt.kind.startswith(chosen)]
            more = run(chosen_now, whole, Path(temporary) / f"desk{seed}", given.code, given.hang, not given.quiet)
            shutil.rmtree(Path(temporary) / f"desk{seed}")
            for kind, counter in more.items():
                found.setdefault(kind, Counter()).update(counter)
    total: Counter[str] = Counter()
    print(f"| attack | tries | {' | '.join(OUTCOMES)} |\n|---|---|{'---|' * len(OUTCOMES)}")
    for kind, counter in found.items():
        tries = sum(counter[name] for name in OUTCOMES if name not in {"lost", "sockets"})
        print(f"| {kind} | {tries} | {' | '.join(str(counter[name] or '') for name in OUTCOMES)} |")
        total += counter
    tries = sum(total[name] for name in OUTCOMES if name not in {"lost", "sockets"})
    print(f"| all | {tries} | {' | '.join(str(total[name]) for name in OUTCOMES)} |", flush=True)
    failed = any(total[name] for name in OUTCOMES[2:])
    if given.all:
        for name in ("attack_studio.py", "attack_imports.py", "kill_commands.py"):
            environment = os.environ | {"PYTHONPATH": str(given.code)}
            failed |= (
                subprocess.run([sys.executable, ROOT / "benchmarks" / name], env=environment, check=False).returncode
                != 0
            )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
