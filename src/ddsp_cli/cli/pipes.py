"""`-` as a file name: sound from standard input, sound to standard output, words out of its way."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from ddsp_cli.cli import console
from ddsp_cli.errors import InputError, UsageError

PIPE = "-"


class Pipes:
    """Standard input as a file while it is needed, a file that becomes standard output.

    Sound has to be heard to its end before it can be played, so a pipe is read whole, to disk.

    Args:
      inputs: paths as given, `-` at most once.
      out: as given; without it `-` as the only input also means `-` as the output, unless that is a terminal.

    Raises:
      UsageError: pipes that cannot work.
      InputError: nothing came in.
    """

    def __init__(self, inputs: list[str], out: str | None) -> None:
        if inputs.count(PIPE) > 1:
            raise UsageError("standard input can be read only once")
        if out is None and inputs == [PIPE]:
            if console.is_terminal(sys.stdout):
                raise UsageError("sound from standard input needs a place to go", "Name it: --out FILE.wav")
            out = PIPE
        self.piped_out = out == PIPE
        if self.piped_out and len(inputs) > 1:
            raise UsageError(f"--out - is one stream, but there are {len(inputs)} inputs", "Give a folder instead.")
        self._arguments, self._out_argument = inputs, out
        self._folder: Path | None = None
        if self.piped_out or PIPE in inputs:
            self._folder = Path(tempfile.mkdtemp(prefix="ddsp-"))
        self.inputs = [self._place("stdin.wav") if name == PIPE else Path(name) for name in inputs]
        self.out = self._place("stdout.wav") if self.piped_out else Path(out) if out is not None else None

    def _place(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / name

    def __enter__(self) -> Self:
        if PIPE in self._arguments:
            try:
                with self._place("stdin.wav").open("wb") as file:
                    shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
            except BaseException:
                self._clear()
                raise
            if not self._place("stdin.wav").stat().st_size:
                self._clear()
                raise InputError("nothing came from standard input", "Send a sound file into it, such as a WAV stream.")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()
        # A sentence about a temporary file would help nobody.
        if self._folder is not None and isinstance(problem, Exception) and hasattr(problem, "message"):
            for name, words in (("stdin.wav", "standard input"), ("stdout.wav", "standard output")):
                problem.message = problem.message.replace(str(self._folder / name), words)

    def _clear(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def deliver(self) -> None:
        """Sends what was written to standard output, if that was wanted."""
        if not self.piped_out:
            return
        with self._place("stdout.wav").open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)
        sys.stdout.buffer.flush()

    def say(self, text: str) -> None:
        """A line of result: beside the sound where that is on standard output."""
        (console.remark if self.piped_out else console.say)(text)

    def name(self, path: Path) -> str:
        """A path as the user knows it."""
        if self._folder is not None and path.parent == self._folder:
            return "standard input" if path.name == "stdin.wav" else "standard output"
        return str(path)
