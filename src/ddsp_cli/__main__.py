"""`python -m ddsp_cli` is the `ddsp` command."""

from ddsp_cli.cli import main

if __name__ == "__main__":
    main()
