"""The `ddsp` command as a process: `ddsp` and `python -m ddsp_cli`."""

import gc
from typing import NoReturn


def main() -> NoReturn:
    """Runs the command line and ends the process."""
    # Loading modules makes many objects and no garbage. Set before the first of them: 3 % of a short transfer.
    gc.set_threshold(200_000)
    from ddsp_cli.cli import run_as_program

    run_as_program()


if __name__ == "__main__":
    main()
