"""Pipes as inputs and outputs: `-`, `/dev/stdin`, `<(command)` and named pipes.

Sound is analysed to its end before it is played, so a pipe is copied to a temporary file first. MIDI files are known by
their suffix; in a pipe by their first bytes.
"""

from __future__ import annotations

import contextlib
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from ddsp_cli.cli import console
from ddsp_cli.errors import DdspError, InputError, OutputError, UsageError

PIPE = "-"

#: The first bytes of a standard MIDI file.
MIDI_HEAD = b"MThd"

STDIN, STDOUT = "standard input", "standard output"


class Pipes:
    """Gives every pipe among the inputs as a temporary file, and a temporary file that becomes standard output.

    Args:
      inputs: paths as given; `-` is standard input.
      out: as given; `-` is standard output. Without it `-` as the only input also means `-` as the output, unless
        that is a terminal.

    Raises:
      UsageError: pipes that cannot work.
      InputError: a pipe is empty or cannot be read.
      OutputError: there is no space for the temporary file.
    """

    def __init__(self, inputs: list[str], out: str | None) -> None:
        if inputs.count(PIPE) > 1:
            raise UsageError("standard input can be read only once")
        if out is None and inputs == [PIPE]:
            if console.is_terminal(sys.stdout):
                raise UsageError("sound from standard input needs an output file", "Name it: --out FILE.wav")
            out = PIPE
        self.piped_out = out == PIPE
        if self.piped_out and len(inputs) > 1:
            raise UsageError(f"--out - is one stream, but there are {len(inputs)} inputs", "Give a folder instead.")
        if self.piped_out and "stdout" in console.closed:
            raise OutputError("standard output is closed")
        self._folder: Path | None = None
        self._names: dict[Path, str] = {}
        self._pipes: dict[Path, str] = {}
        self.inputs = [self._input(name) for name in inputs]
        self.out = Path(out) if out is not None else None
        if self.piped_out:
            self.out = self._place("stdout.wav", STDOUT)

    def _input(self, name: str) -> Path:
        if name != PIPE and not _is_pipe(Path(name)):
            return Path(name)
        number = f"-{len(self._pipes) + 1}" if self._pipes else ""
        stem, spoken = ("stdin", STDIN) if name == PIPE else ("pipe", name)
        path = self._place(f"{stem}{number}.wav", spoken)
        self._pipes[path] = name
        return path

    def _place(self, name: str, spoken: str) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="ddsp-"))
        self._names[self._folder / name] = spoken
        return self._folder / name

    def __enter__(self) -> Self:
        try:
            for path, name in list(self._pipes.items()):
                self._copy(path, name)
                self._name_midi(path)
        except BaseException:
            self._clear()
            raise
        return self

    def _copy(self, path: Path, name: str) -> None:
        spoken = self._names[path]
        with contextlib.ExitStack() as stack:
            try:
                source: BinaryIO = sys.stdin.buffer if name == PIPE else stack.enter_context(Path(name).open("rb"))
            except OSError as problem:
                raise InputError(f"{spoken} cannot be read: {problem.strerror or problem}") from problem
            try:
                with path.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
            except OSError as problem:
                raise OutputError(
                    f"{tempfile.gettempdir()} has no room for {spoken}: {problem.strerror or problem}",
                    "Free some space, or set TMPDIR to a folder that has some.",
                ) from problem
        if not path.stat().st_size:
            raise InputError(f"{spoken} gave no data", "Send a sound file into it, such as a WAV stream.")

    def _name_midi(self, path: Path) -> None:
        """Gives a temporary file that holds MIDI the suffix of that."""
        with path.open("rb") as file:
            if file.read(len(MIDI_HEAD)) != MIDI_HEAD:
                return
        score = path.rename(path.with_suffix(".mid"))
        self._names[score], self._pipes[score] = self._names[path], self._pipes[path]
        self.inputs = [score if one == path else one for one in self.inputs]

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()
        # the temporary file means nothing to the user
        if isinstance(problem, DdspError):
            for path, spoken in self._names.items():
                problem.message = problem.message.replace(str(path), spoken)
            named = problem.details.get("path")
            if isinstance(named, Path) and named in self._pipes:
                problem.details["path"] = self._pipes[named]

    def _clear(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def deliver(self) -> None:
        """Copies the output to standard output, if that was requested.

        Raises:
          OutputError: standard output cannot be written.
        """
        if not self.piped_out:
            return
        assert self.out is not None
        with self.out.open("rb") as file, console.standard_output():
            shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)
            sys.stdout.buffer.flush()

    def say(self, text: str, wrap: bool = False) -> None:
        """Prints a line of result, see `console.say`; on standard error if the sound is on standard output."""
        if self.piped_out:
            console.remark(text)
        else:
            console.say(text, wrap)

    def name(self, path: Path) -> str:
        """Returns a path as the user gave it."""
        return self._names.get(path, str(path))


def _is_pipe(path: Path) -> bool:
    """Whether a path names a pipe, a socket or a character device, such as `/dev/stdin` behind `|`."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)
