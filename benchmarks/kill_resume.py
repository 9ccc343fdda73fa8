"""Kills `ddsp prepare` at random moments and starts it again, until it has been killed so many times.

    python benchmarks/kill_resume.py [--kills 50] [--seed 0] [--seconds 8] [--workers 2]

Every round makes the same data set: killed (SIGKILL to the command alone, its workers must end by themselves) after a
random time, again and again, until a run comes through. What stands there then has to be the same, byte for byte, as
what an undisturbed run made, with nothing left beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soundfile

sys.path.insert(0, str(Path(__file__).parent))
from prepare import melody

#: Workers of a killed command see its end at once; under load that may take a moment.
ORPHANS_END_WITHIN_S = 10.0


def content(folder: Path) -> dict[str, str]:
    """Returns the digest of every file below a folder, by name."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def start(takes: Path, out: Path, workers: int) -> subprocess.Popen[str]:
    """Starts the real command."""
    command = [sys.executable, "-m", "ddsp_cli", "prepare", str(takes), "--out", str(out), "--name", "x",
               "--workers", str(workers), "--no-report"]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def orphans(place: Path) -> list[int]:
    """Processes that still have files open below a folder, or were started for it (Linux)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            links = [str(link.readlink()) for link in (entry / "fd").iterdir()]
        except OSError:
            continue
        if int(entry.name) != os.getpid() and any(link.startswith(str(place)) for link in links):
            found.append(int(entry.name))
    return found


def main() -> None:
    """Prints what happened; ends with 1 when anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each of the 8 recordings")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    n_kills = n_rounds = n_resumed = 0
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        takes = place / "takes"
        takes.mkdir()
        for i in range(8):
            soundfile.write(takes / f"{i}.wav", melody(16000, given.seconds, i), 16000, subtype="PCM_16")
        (takes / "text.wav").write_text("not audio")
        whole = start(takes, place / "whole", given.workers)
        begun = time.monotonic()
        if whole.wait():
            sys.exit(whole.communicate()[1])
        usual_s = time.monotonic() - begun
        expected = content(place / "whole")
        print(f"an undisturbed run takes {usual_s:.1f} s and writes {len(expected)} files", flush=True)
        while n_kills < given.kills:
            n_rounds += 1
            out = place / "killed"
            while True:
                run = start(takes, out, given.workers)
                try:
                    run.wait(chance.uniform(0.3, 1.05) * usual_s)
                except subprocess.TimeoutExpired:
                    run.send_signal(signal.SIGKILL)
                    run.communicate()
                    n_kills += 1
                    waited = time.monotonic()
                    while orphans(place) and time.monotonic() - waited < ORPHANS_END_WITHIN_S:
                        time.sleep(0.02)
                    if left := orphans(place):
                        sys.exit(f"processes {left} go on after their parent was killed")
                    n_resumed += any((place / ".killed.preparing" / "parts").glob("*.json"))
                    continue
                if run.returncode:
                    sys.exit(f"a run after {n_kills} kills failed: {run.communicate()[1]}")
                break
            if content(out) != expected:
                sys.exit(f"after {n_kills} kills the data set differs from that of an undisturbed run")
            beside = sorted(entry.name for entry in place.iterdir())
            if beside != ["killed", "takes", "whole"]:
                sys.exit(f"something is left beside the data set: {beside}")
            shutil.rmtree(out)
    print(f"{n_kills} kills in {n_rounds} data sets: all the same byte for byte, nothing left beside them; "
          f"{n_resumed} of the kills left finished recordings to go on from")  # fmt: skip


if __name__ == "__main__":
    main()
