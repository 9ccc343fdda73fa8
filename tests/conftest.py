"""Makes `fixtures` importable from every test."""

import os
import signal
import sys
from pathlib import Path

# As the command line does: threads of small matrix products only get into each other's way. Read when NumPy loads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

sys.path.insert(0, str(Path(__file__).parent))

# pytest-xdist's workers ignore Ctrl-C, and so would every command that a test starts in them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
