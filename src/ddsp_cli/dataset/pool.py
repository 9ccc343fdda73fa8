"""Many recordings examined at once by worker processes that a bad file cannot take down."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from ddsp_cli.dataset.examine import examine
from ddsp_cli.dataset.takes import Job, Take

#: How often progress is looked at.
_POLL_S = 0.2

_shared: list[Any] = []  # in a worker: seconds done by all, and whether to stop


class _StoppedError(Exception):
    """The run was interrupted; the worker gives up its recording."""


def default_workers() -> int:
    """The cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def examine_all(jobs: Sequence[Job], workers: int, tick: Callable[[float], None]) -> list[Take]:
    """Examines recordings, several at a time.

    Args:
      jobs: what to do.
      workers: how many processes; 1 does it in this one.
      tick: told how many seconds of sound were measured since it was last called.

    Returns:
      One take per job, in the order of the jobs.
    """
    if workers <= 1 or len(jobs) <= 1:
        return [examine(job, tick) for job in jobs]
    takes: dict[int, Take] = {}
    _run(dict(enumerate(jobs)), workers, tick, takes)
    # A decoder that crashed took the pool with it: what was under way is done again, each in a process of its own.
    for index, job in enumerate(jobs):
        if index not in takes:
            _run({index: job}, 1, tick, takes)
            takes.setdefault(index, Take(job, reason="crashed the program that reads it; it is probably damaged"))
    return [takes[index] for index in range(len(jobs))]


def _run(jobs: dict[int, Job], workers: int, tick: Callable[[float], None], takes: dict[int, Take]) -> None:
    """Fills `takes` as far as the worker processes live."""
    # A forked process would inherit the threads' locks of libraries already in use.
    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("d", 0.0), context.Event()
    reported = 0.0
    executor = ProcessPoolExecutor(min(workers, len(jobs)), context, _start_worker, (counter, stop))
    try:
        pending: dict[Future[Take], int] = {executor.submit(_work, job): index for index, job in jobs.items()}
        while pending:
            done, _ = wait(pending, _POLL_S, FIRST_COMPLETED)
            for future in done:
                takes[pending.pop(future)] = future.result()
            now = float(counter.value)
            tick(now - reported)
            reported = now
    except BrokenProcessPool:
        return
    finally:
        stop.set()
        executor.shutdown(wait=True, cancel_futures=True)


def _start_worker(counter: Any, stop: Any) -> None:
    _shared[:] = counter, stop
    # Ctrl-C reaches the whole group; the parent alone answers it and tells the workers to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Decoders remark on every damaged frame there, behind Python's back; what matters comes back as a result.
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(job: Job) -> Take:
    return examine(job, _tick)


def _tick(seconds: float) -> None:
    counter, stop = _shared
    if stop.is_set():
        raise _StoppedError
    with counter.get_lock():
        counter.value += seconds
