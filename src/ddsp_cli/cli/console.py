"""Print progress, tables and errors. The only module that prints.

On a terminal: colour, bars, tables. Anywhere else (a pipe, a file, a log): plain lines without escape codes.
Rich and tqdm are loaded when they are first needed, which for a short transfer is never.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TextIO

from ddsp_cli.errors import OutputError

#: A bar appears when work has lasted this long, and plain lines come this far apart.
BAR_AFTER_S = 0.5

LINE_EVERY_S = 10.0

#: Column at which the text of a named line begins.
FACT_INDENT = 16

_ASCII = str.maketrans({"–": "-", "—": "-", "×": "x", "…": "...", "±": "+-", "→": "->", "·": "*", "≤": "<=", "’": "'"})

#: Names and remarks also come from untrusted files; on a terminal these characters would be commands.
_CONTROLS = dict.fromkeys({*range(0x20), *range(0x7F, 0xA0)} - {ord("\n"), ord("\t")}, "?")


def is_terminal(stream: TextIO) -> bool:
    """Whether a person watches the stream."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def displayable(stream: TextIO, text: str) -> str:
    """Returns the text in characters that the stream can take, without those that control a terminal."""
    text = text.translate(_CONTROLS)
    encoding = getattr(stream, "encoding", None) or "ascii"
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    return text


#: Names of the standard streams that were closed when the program started; they lead to the null device.
closed: set[str] = set()


def open_closed_streams() -> None:
    """Opens the null device where a standard stream is closed (`2>&-`).

    Otherwise the next file that is opened, perhaps the sound, becomes that stream, and messages are written into it.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
        if getattr(sys, name) is None:
            closed.add(name)
            setattr(sys, name, os.fdopen(descriptor, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False))


@contextlib.contextmanager
def standard_output() -> Iterator[None]:
    """Turns an error of standard output, such as a full disk, into an `OutputError`; a closed pipe stays one.

    Raises:
      OutputError: it cannot be written.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as problem:
        drop_standard_output()
        raise OutputError(f"standard output cannot be written: {problem.strerror or problem}") from problem


def drop_standard_output() -> None:
    """Redirects standard output to the null device: flushing its buffer would fail again when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str = "", wrap: bool = False) -> None:
    """Prints one line of result on standard output; with `wrap` a long one is continued with an indent on a terminal.

    Raises:
      OutputError: standard output cannot be written.
    """
    with standard_output():
        if wrap and is_terminal(sys.stdout):
            width = max(shutil.get_terminal_size().columns - 1, 20)
            text = textwrap.fill(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        print(displayable(sys.stdout, text), flush=True)


def remark(text: str) -> None:
    """Prints a line beside the result on standard error; nothing where that cannot be written.

    On a terminal it is wrapped between words.
    """
    if is_terminal(sys.stderr):
        width = max(shutil.get_terminal_size().columns - 1, 20)
        text = "\n".join(
            line if len(line) <= width else textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
            for line in text.split("\n")
        )
    with contextlib.suppress(OSError):
        print(displayable(sys.stderr, text), file=sys.stderr, flush=True)


def can_ask() -> bool:
    """Whether a person can read a question and answer it."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def agrees(question: str) -> bool:
    """Asks a question; anything but `y` or `yes` means no."""
    print(displayable(sys.stderr, question), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Shows a warning of a library as one line, in place of `warnings.showwarning`: it may quote an untrusted file."""
    remark(f"Warning: {' '.join(str(message).split())}")


def fact(name: str, text: str) -> None:
    """Prints a named line of result; on a terminal, a long one is continued with an indent."""
    lines = [text]
    if is_terminal(sys.stdout):
        width = shutil.get_terminal_size().columns - FACT_INDENT - 1
        lines = textwrap.wrap(text, max(width, 20), break_long_words=False, break_on_hyphens=False) or [""]
    for i, line in enumerate(lines):
        say(f"  {'' if i else name:<{FACT_INDENT - 3}} {line}")


def error(message: str, hint: str = "") -> None:
    """Prints `Error: message.` and a hint on a separate line, on standard error."""
    sentence = " ".join(message.split())
    if not sentence.endswith((".", "?", "!")):
        sentence += "."
    if is_terminal(sys.stderr):
        from rich.console import Console
        from rich.text import Text

        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(Text.assemble(("Error: ", "bold red"), displayable(sys.stderr, sentence)))
        if hint:
            console.print(Text(displayable(sys.stderr, hint), style="dim"))
        return
    remark(f"Error: {sentence}")
    if hint:
        remark(hint)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table: ruled on a terminal, aligned columns two spaces apart elsewhere.

    On a terminal that is too narrow for it each row becomes a block, the first cell above the others with their names.
    """
    rows = [[cell.replace("\n", " ").replace("\t", " ") for cell in row] for row in rows]
    lines = [list(columns), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    if is_terminal(sys.stdout) and sum(widths) + 2 * len(widths) > shutil.get_terminal_size().columns - 2:
        longest = max(map(len, columns[1:]), default=0)
        for first, *others in rows:
            say(first)
            for name, cell in zip(columns[1:], others, strict=True):
                say(f"  {name:<{longest}}  {cell}")
        return
    if is_terminal(sys.stdout):
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        fits = displayable(sys.stdout, "─") == "─"
        drawn = Table(box=box.SIMPLE_HEAD if fits else box.ASCII, header_style="bold")
        for i, column in enumerate(columns):
            drawn.add_column(column, no_wrap=i == 0, style="cyan" if i == 0 else "")
        for row in rows:
            drawn.add_row(*(Text(displayable(sys.stdout, cell)) for cell in row))
        with standard_output():
            Console(highlight=False).print(drawn)
        return
    for line in lines:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


class Progress:
    """Shows the progress of long work, by `progress(what, done, total)`; may be called at any rate.

    Args:
      unit: what `done` and `total` count.
      speed: also say how many of them go by in a second.
      units: unit of pieces of work that have another one.
    """

    def __init__(self, unit: str = "s", speed: bool = False, units: Mapping[str, str] | None = None) -> None:
        self._unit = self._usual_unit = unit
        self._speed, self._units = speed, units or {}
        self._what: str | None = None
        self._bar: Any = None
        self._started = self._spoken = time.monotonic()
        self._first = 0.0  # how much was done when this piece of work was taken up

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, what: str, done: float, total: float, extra: str = "") -> None:
        """Takes note of progress; shows it now and then.

        Args:
          what: is being done; another text is another piece of work.
          done, total: how far it is; total is 0 where that is not known.
          extra: something worth seeing beside it, such as a loss.
        """
        now = time.monotonic()
        if what != self._what:
            self.close()
            self._what, self._started, self._first = what, now, done
            self._unit = self._units.get(what, self._usual_unit)
        if is_terminal(sys.stderr):
            self._draw(what, done, total, extra, now)
        elif now - self._spoken >= LINE_EVERY_S and done < total:
            self._spoken = now
            note = f", {extra}" if extra else ""
            remark(f"{what}: {done:.0f} of {total:.0f} {self._unit}{self._pace(done, total, now)}{note}")

    def _pace(self, done: float, total: float, now: float) -> str:
        """Formats time left and speed; empty before they are known."""
        lasted_s, gone = now - self._started, done - self._first
        if gone <= 0 or lasted_s <= 0:
            return ""
        rate = gone / lasted_s
        speed = f", {rate:.3g} {self._unit}/s" if self._speed else ""
        return f", about {duration((total - done) / rate)} left{speed}"

    def line(self, text: str) -> None:
        """Prints a line that stays, above the bar."""
        if self._bar is not None:
            self._bar.write(displayable(sys.stderr, text), file=sys.stderr)
        else:
            remark(text)

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._what = None

    def _draw(self, what: str, done: float, total: float, extra: str, now: float) -> None:
        if self._bar is None:
            if now - self._started < BAR_AFTER_S or total <= 0:
                return
            from tqdm import tqdm

            self._bar = tqdm(
                total=round(total),
                initial=round(self._first),
                desc=displayable(sys.stderr, what),
                unit=f" {self._unit}",
                file=sys.stderr,
                leave=False,
                dynamic_ncols=True,
                ascii=displayable(sys.stderr, "█") != "█",
            )
        self._bar.n = min(round(done), round(total))
        if extra:
            self._bar.set_postfix_str(extra, refresh=False)
        self._bar.refresh() if self._bar.n >= self._bar.total else self._bar.update(0)


def duration(seconds: float) -> str:
    """Formats a duration: `3.2 s`, `4:05` or `1:02:03`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(n_bytes: int) -> str:
    """Formats a size: `3.7 MB`."""
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 100_000 else f"{n_bytes / 1e3:.1f} kB"
