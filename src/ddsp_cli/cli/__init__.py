"""The `ddsp` command: options to one call of a workflow, and the one place where failures are caught.

One module per command, imported when that command is called; its libraries are imported inside it. So
`ddsp --help` and `ddsp transfer` load no training framework.
"""

import atexit
import contextlib
import errno
import importlib
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Annotated, Any, NoReturn

import typer

from ddsp_cli import __version__
from ddsp_cli.backend import COMPILING
from ddsp_cli.cli import console, options
from ddsp_cli.cli.options import Command
from ddsp_cli.errors import DdspError, ExitCode
from ddsp_cli.live.priority import keep_freed_memory

#: Commands in the order of `ddsp --help`; each is a function in the module of its name (`import_` for `import`).
COMMANDS = ("transfer", "live", "studio", "models", "reverb", "prepare", "train", "evaluate", "export", "import")

#: Messages after Ctrl-C.
KEPT = {
    "prepare": "Finished measurements are kept; run the same command to resume.",
    "train": "The same command resumes from the last checkpoint, or begins again if there is none yet.",
    "transfer": "Sound files that were finished are kept.",
    "reverb": "Sound files that were finished are kept.",
    "live": "Recordings are kept.",
    "export": "No unfinished files are left.",
    "import": "No unfinished files are left.",
}

#: Errors of the system that are no defect: the disk is full, broken, read-only, or a limit is reached.
_NO_SPACE = {errno.ENOSPC, errno.EIO, errno.EROFS, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}

#: Errors of paths that are no defect, and the exit codes they end with.
_BAD_PATHS = {
    errno.ENAMETOOLONG: ExitCode.USAGE, errno.ELOOP: ExitCode.USAGE, errno.EINVAL: ExitCode.USAGE,
    errno.EACCES: ExitCode.INPUT, errno.EPERM: ExitCode.INPUT, errno.EMFILE: ExitCode.OUTPUT,
}  # fmt: skip

#: Address space that the shortest transfer needs.
MIN_MEMORY_BYTES = 320 << 20

#: Message of click about a value that it cannot convert.
_WRONG_VALUE = re.compile(
    r"Invalid value for (?P<option>.+?): '(?P<value>.*)' is not a valid (?P<kind>\w+)(?: range)?\.?", re.DOTALL
)

#: Message of click about a number that is out of range.
_OUT_OF_RANGE = re.compile(
    r"Invalid value for (?P<option>.+?): (?P<value>\S+) is not in the range (?:(?P<low>\S+)<=x<=(?P<high>\S+?)"
    r"|x>=(?P<least>\S+?))\.?"
)

#: click's own class; typer vendors click in some versions.
_ClickUsageError: Any = typer.BadParameter.__mro__[1]


def _version(wanted: bool) -> None:
    if wanted:
        console.say(f"ddsp {__version__}")
        raise typer.Exit


def _ddsp(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Play a recording on an instrument learned from recordings (DDSP timbre transfer)."""


def make_app(*commands: str) -> typer.Typer:
    """Returns the command line with some of the commands."""
    app = typer.Typer(
        name="ddsp",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(_ddsp)
    for name in commands:
        function = name if name != "import" else "import_"  # a word of Python's own
        module = importlib.import_module(f"{__name__}.{function}")
        epilog = getattr(module, "EPILOG", None)
        optional = {"value_optional": getattr(module, "VALUE_OPTIONAL", ())}
        app.command(name, cls=type("Command", (Command,), optional), epilog=epilog)(getattr(module, function))
    return app


def main() -> None:
    """Runs the command line and ends the process with an exit code of `ExitCode`."""
    # Short products in a loop lose more by waking threads than they gain. Read when NumPy loads, so set before.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    console.open_closed_streams()
    warnings.showwarning = console.show_warning
    arguments = sys.argv[1:]
    end_of_options = arguments.index("--") if "--" in arguments else len(arguments)
    debug = "--debug" in arguments[:end_of_options]
    arguments = [word for i, word in enumerate(arguments) if word != "--debug" or i >= end_of_options]
    with _clean_end() as received:
        code = run_command(arguments, debug) if _has_memory() else _out_of_memory()
    if received and code == ExitCode.INTERRUPTED:
        code = 128 + received[0]
    if code == ExitCode.INTERNAL or not _is_compiling():
        sys.exit(code)
    # Python would wait for it, for up to half a minute. Files were removed and locks released before.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def run_as_program() -> NoReturn:
    """Runs `main` as the program of this process, without the shutdown of Python where nothing depends on it.

    Freeing all modules and objects takes 7 % of the time of a short transfer. Frameworks write files when they are
    unloaded, so their commands end as usual; so does a process that waits for a thread, and one that is traced.
    """
    keep_freed_memory()  # a short transfer then has a fifth fewer page faults: 4 %
    try:
        main()
    except SystemExit as end:
        waits = any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate())
        traced = sys.gettrace() is not None or sys.getprofile() is not None
        if waits or traced or not isinstance(end.code, int) or sys.modules.keys() & {"tensorflow", "keras"}:
            raise
        try:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        except (OSError, ValueError):
            raise end from None  # Python reports the error of the stream
        atexit._run_exitfuncs()
        os._exit(end.code)
    raise AssertionError("main always exits")


def _is_compiling() -> bool:
    """Whether a step of a training that was interrupted is still being compiled."""
    return any(thread.name == COMPILING for thread in threading.enumerate())


@contextlib.contextmanager
def _clean_end() -> Iterator[list[int]]:
    """Ends on SIGTERM and SIGHUP as on Ctrl-C: unfinished files are removed. Gives the signals received.

    A signal that is ignored at the start, such as SIGHUP under nohup, stays ignored.
    """
    received: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    # SIGBREAK: the console window on Windows is closed.
    names = ("SIGTERM", "SIGHUP", "SIGBREAK")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    taken = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    try:
        for number in taken:
            signal.signal(number, interrupt)
        yield received
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def run_command(arguments: list[str], debug: bool) -> int:
    """Runs a command, and prints its error if it fails.

    Args:
      arguments: words after `ddsp`.
      debug: print tracebacks.

    Returns:
      The exit code.
    """
    command = next((word for word in arguments if not word.startswith("-")), "")
    try:
        app = make_app(*([command] if command in COMMANDS else COMMANDS))
        code = app(arguments, prog_name="ddsp", standalone_mode=False)
        if code == ExitCode.INTERRUPTED:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
        return int(code) if isinstance(code, int) else ExitCode.OK
    except DdspError as problem:
        _trace(debug)
        console.error(options.error_message(problem), options.error_hint(problem))
        return problem.exit_code
    except _ClickUsageError as problem:
        return _usage(problem, command)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(command)
    except (BrokenPipeError, SystemExit) as ended:  # the reader of a pipe, such as head, has ended
        if isinstance(ended, SystemExit) and not isinstance(ended.__context__, BrokenPipeError):
            raise
        console.drop_standard_output()  # typer turns the first into the second
        return ExitCode.OK
    except Exception as problem:
        if _was_interrupted(problem):
            return _interrupted(command)
        _trace(debug)
        if isinstance(problem, OSError) and problem.errno in _NO_SPACE:  # as in the help that typer prints
            console.drop_standard_output()
            what = problem.filename or "standard output or a temporary file"
            console.error(f"{what} cannot be written: {problem.strerror}")
            return ExitCode.OUTPUT
        if isinstance(problem, OSError) and problem.errno in _BAD_PATHS:
            console.error(f"{problem.filename or 'a path'} cannot be used: {problem.strerror}")
            return _BAD_PATHS[problem.errno]
        if _is_out_of_memory(problem):
            return _out_of_memory()
        detail = str(problem).splitlines()[0] if str(problem) else ""
        name = type(problem).__name__
        console.error(
            f"something went wrong inside ddsp ({name}{': ' if detail else ''}{detail})",
            "" if debug else "Run again with --debug for details.",
        )
        return ExitCode.INTERNAL


def _interrupted(command: str) -> int:
    console.remark(f"Interrupted. {KEPT.get(command, '')}".strip())
    return ExitCode.INTERRUPTED


def _was_interrupted(problem: BaseException | None) -> bool:
    """Whether Ctrl-C is behind it: a compiled module that is interrupted while it loads raises an ImportError."""
    while problem is not None:
        if isinstance(problem, KeyboardInterrupt):
            return True
        problem = problem.__cause__ or problem.__context__
    return False


def _has_memory() -> bool:
    """Whether a limit on memory (`ulimit -v`) leaves enough: OpenBLAS ends the process where it gets none."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return True
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return soft == resource.RLIM_INFINITY or soft >= MIN_MEMORY_BYTES


def _out_of_memory() -> int:
    console.error("there is not enough memory for this", "Close other programs, or use shorter recordings.")
    return ExitCode.OUTPUT


def _is_out_of_memory(problem: BaseException | None) -> bool:
    """Whether memory or threads were refused: by Python, by a native library, or while a library was loaded."""
    words = ("cannot allocate memory", "bad_alloc", "bad allocation", "failed to allocate memory",
             "can't start new thread", "failed to map segment")  # fmt: skip
    while problem is not None:
        if isinstance(problem, MemoryError) or any(word in str(problem).lower() for word in words):
            return True
        problem = problem.__cause__ or problem.__context__
    return False


def _option(message: re.Match[str]) -> str:
    """Returns the long name of the option that a message of click is about."""
    return message["option"].split(" / ")[-1].strip("'")


def _usage(problem: Any, command: str) -> int:
    """Prints the error in the options; `ddsp` alone shows its help."""
    message = problem.format_message()
    if type(problem).__name__ == "NoArgsIsHelpError":
        console.remark(message)
        return ExitCode.USAGE
    wrong = _WRONG_VALUE.fullmatch(message)
    if wrong is not None:
        kind = {"int": "whole number", "float": "number"}.get(wrong["kind"], wrong["kind"])
        message = f"{_option(wrong)}: {wrong['value']} is not a {kind}"
    hint = f"See: ddsp {command} --help" if command in COMMANDS else "See: ddsp --help"
    outside = _OUT_OF_RANGE.fullmatch(message)
    if outside is not None:
        message = f"{_option(outside)}: {outside['value']} is out of range"
        hint = f"Give a number, {outside['low']}..{outside['high']}."
        if outside["least"]:
            hint = f"Give a number from {outside['least']} on."
    console.error(message, hint)
    return ExitCode.USAGE


def _trace(debug: bool) -> None:
    if debug:
        import traceback

        console.remark(traceback.format_exc())
