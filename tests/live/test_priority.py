"""The priority of the audio thread: calls to the system, and the reported result."""

from __future__ import annotations

import platform
import subprocess
import sys
import types

import psutil
import pytest

from ddsp_cli.cli import live as command
from ddsp_cli.live import priority
from ddsp_cli.live.mixer import Controls
from ddsp_cli.live.priority import AUDIO_RR, PROCESS_RR, WORKER_RR, Priority
from ddsp_cli.live.process import LiveStatus
from ddsp_cli.workflows.live import LiveView


class System:
    """Schedules as Linux does, or refuses."""

    SCHED_RR = 2

    def __init__(self, grants):
        self.grants, self.policy, self.priority = grants, 0, 0

    def sched_param(self, value):
        return value

    def sched_getscheduler(self, _):
        return self.policy

    def sched_setscheduler(self, _, policy, value):
        if not self.grants:
            raise PermissionError
        self.policy, self.priority = policy, value


@pytest.fixture
def on_linux(monkeypatch):
    def with_system(grants, nice=None):
        system = System(grants)
        monkeypatch.setattr(priority, "os", system)
        monkeypatch.setattr(priority, "sys", types.SimpleNamespace(platform="linux"))

        def set_nice(_, value):
            if nice is None:
                raise psutil.AccessDenied
            nice.append(value)

        monkeypatch.setattr(psutil.Process, "nice", set_nice)
        return system

    return with_system


def test_the_audio_thread_has_priority_over_the_worker(on_linux):
    system = on_linux(grants=True)
    assert priority.raise_process() is Priority.REAL_TIME
    assert system.priority == PROCESS_RR
    priority.raise_thread(WORKER_RR)
    assert system.priority == WORKER_RR
    priority.raise_thread(AUDIO_RR)
    assert system.priority == AUDIO_RR > WORKER_RR > PROCESS_RR


def test_a_refusal_is_reported_and_changes_nothing(on_linux):
    nice = []
    system = on_linux(grants=False, nice=nice)
    assert priority.raise_process() is Priority.RAISED
    assert nice == [priority.NICENESS]
    priority.raise_thread(AUDIO_RR)
    assert (system.policy, system.priority) == (0, 0)
    on_linux(grants=False)
    assert priority.raise_process() is Priority.NORMAL


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_freed_memory_is_used_again():
    code = """
import resource, sys
from ddsp_cli.live.priority import keep_freed_memory
import numpy as np
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for size in (1 << 20, 2 << 20):  # the second is larger than any block before it
    begun = faults()
    for _ in range(20):
        np.zeros(size, np.uint8)[::4096] = 1
print(faults() - begun)
"""
    left, kept = (
        int(subprocess.run([sys.executable, "-c", code, how], capture_output=True, check=True).stdout)
        for how in ("leave", "keep")
    )
    assert kept < left


@pytest.mark.parametrize("granted", list(Priority))
def test_the_terminal_shows_what_was_granted(granted):
    status = LiveStatus(priority=float(granted))
    view = LiveView(status, Controls(), "flute", None, 0.0, ())
    assert f"priority {granted.words}" in "\n".join(command.describe(view, ("flute",)))
