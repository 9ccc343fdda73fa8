"""The `ddsp` command as a process: `ddsp` and `python -m ddsp_cli`."""

import contextlib
import gc
import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Runs the command line and ends the process."""
    # Loading modules makes many objects and no garbage. Set before the first of them: 3 % of a short transfer.
    gc.set_threshold(200_000)
    try:
        from ddsp_cli.cli import run_as_program

        run_as_program()
    except BaseException as problem:
        if isinstance(problem, SystemExit) or not _is_interrupt(problem):
            raise
        with contextlib.suppress(OSError):
            os.write(2, b"Interrupted.\n")
        sys.exit(130)  # `ExitCode.INTERRUPTED`, which may not have been loaded


def _is_interrupt(problem: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: a compiled module that is interrupted while it loads raises an ImportError."""
    while problem is not None and not isinstance(problem, KeyboardInterrupt):
        problem = problem.__cause__ or problem.__context__
    return problem is not None


if __name__ == "__main__":
    main()
