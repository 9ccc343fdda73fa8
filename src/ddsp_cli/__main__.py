"""`python -m ddsp_cli` is the `ddsp` command."""

from ddsp_cli.cli import run_as_program

if __name__ == "__main__":
    run_as_program()
