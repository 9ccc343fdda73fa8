"""Makes `fixtures` importable from every test."""

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# pytest-xdist's workers ignore Ctrl-C, and so would every command that a test starts in them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
