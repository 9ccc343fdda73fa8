"""Processor time and memory of processes, where the system reports them."""

from __future__ import annotations

import math
import sys


def taken(children: bool = False) -> tuple[float, float]:
    """Returns processor seconds, and peak memory in MB; NaN on Windows, which does not record it.

    Args:
      children: of the processes that this one has started and that have ended, in place of its own; memory is that of
        the largest.
    """
    if sys.platform == "win32":
        return math.nan, math.nan
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
