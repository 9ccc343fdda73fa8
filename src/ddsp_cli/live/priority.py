"""Raise the priority of audio threads above other programs, and lock their memory, where the system allows it.

Linux: SCHED_RR, which the audio groups of distributions may use, as for JACK; else a lower niceness. Windows: the
multimedia class scheduler (MMCSS) for threads, HIGH_PRIORITY_CLASS for the process. macOS: the quality of service
"user interactive". A refusal changes nothing; the status of `ddsp live` shows the priority that was granted.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import os
import sys
from typing import Any

#: Niceness that is requested where SCHED_RR is refused; distributions allow it to audio groups.
NICENESS = -10

#: Real-time priorities: of the process, of the thread that plays, of the audio thread, which may interrupt the others.
PROCESS_RR, WORKER_RR, AUDIO_RR = 1, 2, 3

#: QOS_CLASS_USER_INTERACTIVE of macOS (sys/qos.h).
_USER_INTERACTIVE = 0x21

#: MCL_CURRENT and MCL_ONFAULT of mlockall(2): pages in memory stay there, and no other pages are loaded.
_LOCKED_PAGES = 1 | 4


class Priority(enum.IntEnum):
    """The priority that the system granted."""

    NORMAL = 0
    RAISED = 1
    REAL_TIME = 2

    @property
    def words(self) -> str:
        """Name of the priority, for the terminal."""
        return {0: "normal", 1: "raised", 2: "real time"}[self.value]


def raise_process() -> Priority:
    """Raises the priority of this process; threads that it starts later inherit it.

    Returns:
      The priority that the system granted.
    """
    if _schedule(PROCESS_RR):
        return Priority.REAL_TIME
    import psutil

    own = psutil.Process()
    try:
        own.nice(psutil.HIGH_PRIORITY_CLASS if sys.platform == "win32" else NICENESS)
    except (psutil.Error, OSError):
        return Priority.NORMAL
    return Priority.RAISED


def raise_thread(real_time: int) -> None:
    """Raises the priority of the calling thread to `real_time`: `WORKER_RR` or `AUDIO_RR`.

    On Linux this works only in a process that `raise_process` has made real-time.
    """
    with contextlib.suppress(AttributeError, OSError):
        if sys.platform == "win32":
            library: Any = ctypes.WinDLL("avrt")
            library.AvSetMmThreadCharacteristicsW("Pro Audio", ctypes.byref(ctypes.c_ulong(0)))
        elif sys.platform == "darwin":
            ctypes.CDLL(None).pthread_set_qos_class_self_np(_USER_INTERACTIVE, 0)
        elif os.sched_getscheduler(0) == os.SCHED_RR:
            _schedule(real_time)


def lock_memory() -> None:
    """Keeps the memory that is in use now from being swapped out, where the system allows it."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).mlockall(_LOCKED_PAGES)


def keep_freed_memory() -> None:
    """Keeps up to 64 MB of freed memory in the process, so that the next arrays need no page faults.

    glibc gives each block of 128 kB or more back to the system when it is freed, and raises this limit up to 32 MB
    while the program runs (mallopt(3), M_MMAP_THRESHOLD). Here the limit starts at 32 MB. Other C libraries are left
    unchanged.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            mallopt = ctypes.CDLL(None).mallopt
            for parameter, n_bytes in ((-3, 32 << 20), (-1, 64 << 20)):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
                mallopt(parameter, n_bytes)


def _schedule(priority: int) -> bool:
    """Requests a real-time priority for the calling thread; returns whether the system granted it."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(priority))
    except (AttributeError, OSError):
        return False
    return True
