"""Kills every command that writes, at random moments and at chosen system calls, and checks the remaining files.

    python benchmarks/kill_commands.py [--kills 200] [--calls 40] [--seed 0] [--commands import,export,...]

Each command replaces an earlier result of its own (`--force`) and is killed (SIGKILL). After the next command the
result has to be the old or the new one, whole, and nothing hidden may be left beside it. The next command is in turn
the same one and, where one reads such results, that one. With strace installed the command is also killed at
its n-th call of rename, fsync, unlink and rmdir, where random moments hardly ever fall.

Prints a line per command and the totals; ends with 1 when anything was lost, left, or went wrong inside.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import yaml

from small import PRESET

DDSP = (sys.executable, "-m", "ddsp_cli")

#: No command takes longer, even on a busy machine.
STUCK_AFTER_S = 300.0


@dataclass(frozen=True)
class Command:
    """A command that replaces a result.

    Attributes:
      name: of the command.
      old, new: arguments that write the earlier result, and those that replace it.
      target: the file or folder that they write.
      compared: names inside the target that are the same whenever the command is repeated; empty: all that its card
        names have to match their checksums.
      reader: another command that looks at such results; empty where there is none.
      may_keep: hidden folders that a killed run leaves for the next run of the same command.
    """

    name: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    target: str
    compared: tuple[str, ...] = ()
    reader: tuple[str, ...] = ()
    may_keep: tuple[str, ...] = ()


COMMANDS = (
    Command(
        "import",
        ("import", "flute.tflite", "--name", "one", "--force"),
        ("import", "violin.tflite", "--name", "one", "--force"),
        "models/one", (), ("models",),
    ),
    Command(
        "export",
        ("export", "--model", "flute", "--format", "litert", "--out", "exported", "--force"),
        ("export", "--model", "violin", "--format", "litert", "--out", "exported", "--force"),
        "exported", ("audio.tflite", "controls.tflite", "card.yaml"),
    ),
    Command(
        "transfer",
        ("transfer", "voice.wav", "--model", "flute", "--out", "played.wav", "--force"),
        ("transfer", "voice.wav", "--model", "violin", "--out", "played.wav", "--force"),
        "played.wav", (".",),
    ),
    Command(
        "reverb",
        ("reverb", "voice.wav", "--room", "flute", "--out", "wet.wav", "--force"),
        ("reverb", "voice.wav", "--room", "flute", "--wet", "0.5", "--out", "wet.wav", "--force"),
        "wet.wav", (".",),
    ),
    Command(
        "blend",
        ("models", "blend", "flute:0.8+cello:0.2", "--name", "hybrid", "--force"),
        ("models", "blend", "flute:0.2+cello:0.8", "--name", "hybrid", "--force"),
        "models/hybrid", (), ("models",),
    ),
    Command(
        "prepare",
        ("prepare", "takes_a", "--name", "set", "--force", "--workers", "1"),
        ("prepare", "takes_b", "--name", "set", "--force", "--workers", "1"),
        "datasets/set", ("dataset.yaml",), may_keep=(".set.preparing",),
    ),
    Command(
        "train",
        ("train", "--instrument", "two", "--dataset", "datasets/notes", "--preset", "small.yaml", "--steps", "20",
         "--fresh", "--force"),
        ("train", "--instrument", "two", "--dataset", "datasets/notes", "--preset", "small.yaml", "--steps", "30",
         "--fresh", "--force", "--seed", "1"),
        "models/two", (), ("models",),
    ),
)  # fmt: skip

#: How the kills are shared out.
SHARES = {"import": 0.3, "export": 0.2, "transfer": 0.15, "reverb": 0.08, "blend": 0.08, "prepare": 0.12, "train": 0.07}


def run(arguments: tuple[str, ...], place: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    words = [*DDSP, *arguments]
    return subprocess.run(words, cwd=place, check=False, capture_output=True, text=True, timeout=STUCK_AFTER_S)


def set_up(place: Path, commands: list[Command]) -> None:
    """Makes the inputs of all commands."""
    for name in ("flute", "violin"):
        run(("export", "--model", name, "--format", "vst", "--out", f"vst_{name}"), place)
        shutil.copyfile(place / f"vst_{name}" / f"{name}.tflite", place / f"{name}.tflite")
        shutil.rmtree(place / f"vst_{name}")
    t = np.arange(16000 * 6) / 16000
    for folder, notes in (("takes_a", (220.0, 262.0)), ("takes_b", (330.0, 392.0))):
        (place / folder).mkdir()
        for i, f0_hz in enumerate(notes):
            envelope = np.minimum(1.0, 4.0 * np.abs(np.sin(np.pi * t / 1.5)))
            tone = sum(np.sin(2.0 * np.pi * k * f0_hz * t) / k for k in range(1, 6))
            soundfile.write(place / folder / f"{i}.wav", 0.1 * envelope * tone, 16000)
    shutil.copyfile(place / "takes_a" / "0.wav", place / "voice.wav")
    (place / "small.yaml").write_text(PRESET, encoding="utf-8")
    if any(command.name == "train" for command in commands):
        done = run(("prepare", "takes_a", "takes_b", "--name", "notes", "--workers", "1"), place)
        if done.returncode:
            sys.exit(done.stderr)


def digest(command: Command, place: Path) -> str:
    """Returns the content of the result; empty where it is missing or inconsistent."""
    target = place / command.target
    try:
        if command.compared:
            parts = [(target / name).read_bytes() for name in command.compared]
            if command.name == "prepare":  # the shards that the manifest names
                manifest = yaml.safe_load(parts[0])
                for split in ("train", "validation"):
                    for name, expected in manifest[split]["shards"].items():
                        if hashlib.sha256((target / name).read_bytes()).hexdigest() != expected:
                            return ""
                parts = [str(manifest["recordings"]).encode()]
            return hashlib.sha256(b"".join(parts)).hexdigest()
        card = yaml.safe_load((target / "model.yaml").read_text(encoding="utf-8"))
        for name, expected in card["files"].items():
            if hashlib.sha256((target / name).read_bytes()).hexdigest() != expected:
                return ""
        return f"{card['training']['seed']} {card['statistics']['pitch_midi'][50]}"
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        return ""


def hidden(place: Path, allowed: tuple[str, ...] = ()) -> list[str]:
    """Returns the hidden files and folders, in the folders where results stand."""
    folders = (place, place / "models", place / "datasets")
    found = [entry for folder in folders if folder.is_dir() for entry in folder.iterdir()]
    return sorted(entry.name for entry in found if entry.name[0] == "." and entry.name not in allowed)


def kill_after(arguments: tuple[str, ...], place: Path, seconds: float) -> bool:
    """Starts a command and kills it with all its processes; whether it was still running."""
    process = subprocess.Popen([*DDSP, *arguments], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               start_new_session=True)  # fmt: skip
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def kill_at(arguments: tuple[str, ...], place: Path, calls: str, n: int) -> bool:
    """Kills a command when it makes its n-th call of one kind (strace's syntax); whether it came to that."""
    words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e",
             f"inject={calls}:signal=SIGKILL:when={n}", *DDSP, *arguments]  # fmt: skip
    process = subprocess.Popen(words, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               start_new_session=True)  # fmt: skip
    process.wait(STUCK_AFTER_S)
    killed = process.returncode != 0
    if killed:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return killed


CALLS = ("rename,renameat,renameat2", "fsync", "unlink,unlinkat,rmdir")


def attack(command: Command, place: Path, n_kills: int, n_calls: int, chance: random.Random) -> Counter[str]:
    """Kills one command again and again."""
    found: Counter[str] = Counter()
    begun = time.monotonic()
    for arguments in (command.new, command.old):
        begun = time.monotonic()
        done = run(arguments, place)
        if done.returncode:
            sys.exit(f"{' '.join(arguments)}: {done.stderr}")
    usual_s = time.monotonic() - begun
    old = digest(command, place)
    run(command.new, place)
    new = digest(command, place)
    if not old or not new or old == new:
        sys.exit(f"{command.name}: the two results cannot be told apart")
    plans: list[tuple[str, int]] = [("time", 0)] * n_kills
    if shutil.which("strace"):
        each = max(1, n_calls // len(CALLS))
        plans += [(calls, n) for calls in CALLS for n in range(1, each + 1)]
    current = new
    for index, (kind, n) in enumerate(plans):
        arguments, wanted = (command.old, old) if current == new else (command.new, new)
        killed = (
            kill_after(arguments, place, chance.uniform(0.1, 1.05) * usual_s)
            if kind == "time"
            else kill_at(arguments, place, kind, n)
        )
        if not killed:
            current = wanted
            found["came to its end"] += 1
            continue
        found["kills" if kind == "time" else "kills at system calls"] += 1
        reads = bool(command.reader) and index % 2 == 0
        following = command.reader if reads else arguments
        try:
            done = run(following, place)
        except subprocess.TimeoutExpired:
            found["hangs"] += 1
            continue
        if done.returncode:
            found["internal errors" if done.returncode == 1 else "next command failed"] += 1
            print(f"{command.name}, kill {index} ({kind} {n}): {done.stderr.strip()[:300]}", flush=True)
        left = hidden(place, command.may_keep if reads else ())
        if left:
            found["hidden left"] += 1
            print(f"{command.name}, kill {index} ({kind} {n}): left {left}", flush=True)
            for name in left:
                for folder in (place, place / "models", place / "datasets"):
                    if (folder / name).is_dir():
                        shutil.rmtree(folder / name)
                    else:
                        (folder / name).unlink(missing_ok=True)
        current = digest(command, place)
        if current not in ({old, new} if reads else {wanted}):
            found["lost"] += 1
            print(f"{command.name}, kill {index} ({kind} {n}): lost the earlier result", flush=True)
            run(command.old, place)
            current = digest(command, place)
        else:
            found["old" if current != wanted else "new"] += 1
    return found


def main() -> None:
    """Prints what happened; ends with 1 when anything was lost, left or went wrong inside."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--calls", type=int, default=40, help="kills at system calls, per command, with strace")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", default=",".join(command.name for command in COMMANDS))
    given = parser.parse_args()
    chosen = [command for command in COMMANDS if command.name in given.commands.split(",")]
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="ddsp-kill-") as temporary:
        place = Path(temporary)
        set_up(place, chosen)
        for command in chosen:
            n_kills = round(given.kills * SHARES[command.name])
            n_calls = given.calls if command.name != "train" else given.calls // 4
            found = attack(command, place, n_kills, n_calls, random.Random(f"{given.seed} {command.name}"))
            print(f"{command.name}: " + ", ".join(f"{n} {what}" for what, n in sorted(found.items())), flush=True)
            total += found
    print("all: " + ", ".join(f"{n} {what}" for what, n in sorted(total.items())))
    if any(total[what] for what in ("lost", "hidden left", "internal errors", "hangs", "next command failed")):
        sys.exit(1)


if __name__ == "__main__":
    main()
