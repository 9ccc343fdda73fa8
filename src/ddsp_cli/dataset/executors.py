"""Measure recordings and write shards, many at a time, on executors as in `concurrent.futures`.

They are processes of this machine or the workers of a Dask cluster. A recording that crashes its worker is named and
left out. Which worker measured a recording or wrote a shard, and in which order they finished, does not change a data
set: each result names its job.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ddsp_cli import __version__
from ddsp_cli.atomic import write_bytes
from ddsp_cli.dataset.cache import CutRecording, Job, part_name
from ddsp_cli.dataset.manifest import MEASURED
from ddsp_cli.dataset.workers import examine
from ddsp_cli.dataset.writer import Shard, Written, write_shard
from ddsp_cli.errors import DdspError, OutputError, UsageError
from ddsp_cli.limits import settle_child, undisturbed_start
from ddsp_cli.packages import require_extra
from ddsp_cli.remote import is_address

#: Interval at which the progress of workers is read.
POLL_S = 0.2

#: Recordings queued for each worker; more would only take memory.
QUEUED_PER_WORKER = 16

#: Fewest shards that a process of this machine is started for: its start takes as long as a third of a shard.
SHARDS_PER_PROCESS = 2

#: Longest time without any worker of a cluster: batch systems queue jobs.
NO_WORKERS_S = 600.0

#: Longest wait for the scheduler of a cluster.
CONNECT_S = 30.0

#: Interval at which the workers of a cluster are counted.
COUNT_EVERY_S = 5.0

#: Interval of the report about each worker, and the largest number of workers in it.
TALLY_EVERY_S = 60.0
MAX_WORKERS_NAMED = 16

#: Processes of this machine, and jobs of a batch system, that are started at most.
MAX_CLUSTER_WORKERS = {"local": 1024, "slurm": 10_000}

#: Reason given for a recording that crashed its worker.
CRASHED = "crashed the program that reads it; it is probably damaged"

Tick = Callable[[float], None]


@dataclass
class Tally:
    """Progress of the recordings.

    Attributes:
      n_done: measured, those of an earlier run included.
      n_left_out: how many of them cannot be used.
      by_worker: name of a worker → how many it measured.
      names_workers: the workers are on other machines, and their names tell which.
    """

    n_done: int = 0
    n_left_out: int = 0
    by_worker: Counter[str] = field(default_factory=Counter)
    names_workers: bool = False

    def add(self, found: CutRecording, worker: str) -> None:
        """Counts one recording."""
        self.n_done += 1
        self.n_left_out += bool(found.reason)
        self.by_worker[worker] += 1

    def __str__(self) -> str:
        done = f"{self.n_done} recordings measured, {self.n_left_out} of them left out"
        if not self.names_workers:
            return done
        workers = ", ".join(f"{name} {count}" for name, count in sorted(self.by_worker.items())[:MAX_WORKERS_NAMED])
        if (n_more := len(self.by_worker) - MAX_WORKERS_NAMED) > 0:
            workers += f", and {n_more} more workers"
        return f"{done}; by worker: {workers}"


class Engine(Protocol):
    """Measures recordings on an executor.

    Attributes:
      n_workers: how many recordings at the same time.
      crashes: exceptions of a future whose worker died.
    """

    n_workers: int
    crashes: tuple[type[BaseException], ...]

    def executor(self, alone: bool = False) -> Any:
        """Returns a context manager that gives an executor; `alone` for a single job whose worker may die."""

    def submit(self, executor: Executor, job: Job) -> Future[Any]:
        """Submits a job to an executor."""

    def submit_shard(self, executor: Executor, shard: Shard) -> Future[Written | None]:
        """Submits a shard to an executor, whose result is None where the worker cannot see the folder."""

    def receive(self, result: Any) -> tuple[CutRecording, str]:
        """Returns the recording and the name of its worker, from the result of a future.

        Raises:
          UsageError: the worker cannot read the recording.
        """

    def poll(self, tick: Tick) -> None:
        """Reports the seconds measured, at intervals, and raises where no more results will come."""


def examine_all(
    jobs: Iterable[Job],
    engine: Engine,
    tick: Tick,
    done: Callable[[CutRecording], None] = lambda _: None,
    notice: Callable[[str], None] = lambda _: None,
) -> Tally:
    """Examines recordings, several at a time, in memory that does not grow with their number.

    Args:
      jobs: taken one by one as workers become free.
      engine: where.
      tick: called with how many seconds were measured since the last call.
      done: given each recording, in the order in which they are finished.
      notice: called once a minute with the work of each worker.

    Returns:
      The recordings measured, by worker.

    Raises:
      DdspError: the cluster is lost, has no workers, or cannot read the recordings.
      OSError: a measurement cannot be written.
    """
    tally, noticed_s = Tally(names_workers=not isinstance(engine, LocalProcesses)), time.monotonic()

    def deliver(found: CutRecording, worker: str) -> None:
        nonlocal noticed_s
        tally.add(found, worker)
        done(found)
        if time.monotonic() - noticed_s > TALLY_EVERY_S:
            noticed_s = time.monotonic()
            notice(str(tally))

    if isinstance(engine, LocalProcesses) and engine.n_workers == 1:
        for job in jobs:
            deliver(examine(job, tick), "this process")
        return tally
    waiting = iter(jobs)
    while True:
        with engine.executor() as executor:
            suspects = _feed(engine, executor, waiting, tick, deliver)
        if not suspects:
            return tally
        # a decoder that crashed ended other workers too: their jobs are done again, one at a time
        for job in suspects:
            with engine.executor(alone=True) as executor:
                if _feed(engine, executor, iter([job]), tick, deliver):
                    deliver(CutRecording(job, reason=CRASHED), "none")


def _feed(
    engine: Engine, executor: Executor, jobs: Iterator[Job], tick: Tick, deliver: Callable[[CutRecording, str], None]
) -> list[Job]:
    """Runs all jobs, or until the executor is broken; returns the jobs whose worker died."""
    pending: dict[Future[Any], Job] = {}
    # `concurrent.futures.wait` would check every waiting job for each that is done
    finished: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    suspects: list[Job] = []
    broken = False
    limit = QUEUED_PER_WORKER * engine.n_workers
    while True:
        while not broken and len(pending) < limit and (job := next(jobs, None)) is not None:
            try:
                future = engine.submit(executor, job)
            except BrokenProcessPool:
                suspects.append(job)
                broken = True
            else:
                pending[future] = job
                future.add_done_callback(finished.put)
        if not pending:
            engine.poll(tick)
            return suspects
        for future in _taken(finished, POLL_S):
            job = pending.pop(future)
            try:
                found, worker = engine.receive(future.result())
            except engine.crashes as problem:
                suspects.append(job)
                broken = broken or isinstance(problem, BrokenProcessPool)
            else:
                deliver(found, worker)
        engine.poll(tick)


def write_all(shards: Iterable[Shard], engine: Engine, done: Callable[[Written], None], n_expected: float) -> None:
    """Writes shards, several at a time; each is the same wherever it is written.

    Args:
      shards: to write, taken one by one as workers become free.
      engine: where.
      done: given each shard, in the order in which they are finished.
      n_expected: about how many there are. For a few, processes of this machine take longer to start than to write.

    Raises:
      OutputError: a worker died.
      OSError: the disk is full, or cannot be written to.
    """
    n_parallel = engine.n_workers
    if isinstance(engine, LocalProcesses):
        n_parallel = min(n_parallel, int(n_expected / SHARDS_PER_PROCESS))
        if n_parallel < 2:
            for one in shards:
                done(write_shard(one))
            return
    pending: dict[Future[Written | None], Shard] = {}
    finished: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    waiting = iter(shards)
    try:
        with engine.executor() as executor:
            while True:
                while len(pending) < n_parallel + 1 and (shard := next(waiting, None)) is not None:
                    future = engine.submit_shard(executor, shard)
                    pending[future] = shard
                    future.add_done_callback(finished.put)
                if not pending:
                    return
                for future in _taken(finished, POLL_S):
                    shard = pending.pop(future)
                    try:
                        written = future.result()
                    except engine.crashes as problem:
                        if isinstance(problem, BrokenProcessPool):  # no process of the pool is left
                            raise
                        written = None
                    done(written or write_shard(shard))
                engine.poll(lambda _: None)
    except BrokenProcessPool as problem:
        raise OutputError(
            "a process that wrote the data set ended before it was done",
            "Finished measurements are kept: run the same command again to resume.",
        ) from problem


def _taken(finished: queue.SimpleQueue[Future[Any]], timeout_s: float) -> Iterator[Future[Any]]:
    """Takes all items of a queue; waits for the first."""
    with suppress(queue.Empty):
        yield finished.get(timeout=timeout_s)
        while True:
            yield finished.get_nowait()


# --- processes of this machine -------------------------------------------------------------------------------


_shared: list[Any] = []  # in a worker: seconds measured by all workers, and whether to stop


class _StoppedError(Exception):
    """The run was interrupted; the worker abandons its recording."""


class LocalProcesses:
    """Processes of this machine; 1 works in the calling process.

    Args:
      n_workers: how many.
    """

    crashes: tuple[type[BaseException], ...] = (BrokenProcessPool,)

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers
        # A forked process would inherit the threads' locks of libraries already in use.
        self._context = multiprocessing.get_context("spawn")
        self._counter, self._reported = self._context.Value("d", 0.0), 0.0

    @contextmanager
    def executor(self, alone: bool = False) -> Iterator[Executor]:
        stop = self._context.Event()
        n = 1 if alone else self.n_workers
        executor = ProcessPoolExecutor(n, self._context, _start_worker, (self._counter, stop))
        try:
            yield executor
        finally:
            stop.set()
            executor.shutdown(wait=True, cancel_futures=True)

    def submit(self, executor: Executor, job: Job) -> Future[tuple[CutRecording, str]]:
        with undisturbed_start():  # of a process, for the first ones
            return executor.submit(_work, job)

    def submit_shard(self, executor: Executor, shard: Shard) -> Future[Written | None]:
        with undisturbed_start():
            return executor.submit(_write, shard)

    def receive(self, result: tuple[CutRecording, str]) -> tuple[CutRecording, str]:
        return result

    def poll(self, tick: Tick) -> None:
        now = float(self._counter.value)
        tick(now - self._reported)
        self._reported = now


def _start_worker(counter: Any, stop: Any) -> None:
    _shared[:] = counter, stop
    settle_child()  # decoders remark on every damaged frame on standard error; what matters comes back as a result


def _work(job: Job) -> tuple[CutRecording, str]:
    return examine(job, _tick), f"process {os.getpid()}"


def _write(shard: Shard) -> Written:
    return write_shard(shard, _check)


def _check() -> None:
    if _shared[1].is_set():
        raise _StoppedError


def _tick(seconds: float) -> None:
    _check()
    counter = _shared[0]
    with counter.get_lock():
        counter.value += seconds


# --- a Dask cluster ------------------------------------------------------------------------------------------


class DaskCluster:
    """The workers of a Dask cluster.

    They need not share a disk with this process: a worker that cannot see the staging folder sends its segments back
    over the network. Recordings have to lie where the workers can read them.

    Args:
      client: connected, a `distributed.Client`.
      token: a file in the staging folder by which a worker checks that it sees that folder.
    """

    def __init__(self, client: Any, token: Path) -> None:
        from distributed.scheduler import KilledWorker

        self.crashes: tuple[type[BaseException], ...] = (KilledWorker,)
        self._client, self._token = client, token
        self._seconds = 0.0
        self._counted = self._last_seen = time.monotonic()
        self.n_workers = max(1, self._count())

    @property
    def dashboard(self) -> str:
        """The address of the cluster's dashboard."""
        return str(self._client.dashboard_link)

    @contextmanager
    def executor(self, alone: bool = False) -> Iterator[Executor]:
        executor = self._client.get_executor(pure=False)
        try:
            yield executor
        finally:
            executor.shutdown(wait=False)  # cancels the waiting recordings

    def submit(self, executor: Executor, job: Job) -> Future[_Carried]:
        return executor.submit(_work_in_cluster, job, self._token, __version__)

    def submit_shard(self, executor: Executor, shard: Shard) -> Future[Written | None]:
        return executor.submit(_write_in_cluster, shard, self._token, __version__)

    def receive(self, result: _Carried) -> tuple[CutRecording, str]:
        if result.unreadable:
            raise UsageError(
                f"the worker {result.worker} cannot read {result.found.job.path}",
                "Put recordings on a file system that all workers share, or give an address such as s3://BUCKET/FOLDER.",
            )
        for path, content in result.files:
            write_bytes(path, content, part_name(path), durable=False)
        self._seconds += result.found.seconds
        return result.found, result.worker

    def poll(self, tick: Tick) -> None:
        tick(self._seconds)
        self._seconds = 0.0
        now = time.monotonic()
        if now - self._counted < COUNT_EVERY_S:
            return
        self._counted = now
        if n_workers := self._count():
            self.n_workers, self._last_seen = n_workers, now
        elif now - self._last_seen > NO_WORKERS_S:
            raise _lost(f"the cluster has had no workers for {NO_WORKERS_S / 60:.0f} minutes")

    def _count(self) -> int:
        """Counts the threads of all workers."""
        try:
            return sum(self._client.nthreads().values())
        except (OSError, TimeoutError) as problem:
            raise _lost("the scheduler of the cluster does not answer any more") from problem


@dataclass(frozen=True)
class _Carried:
    """Result that a worker of a cluster returns.

    Attributes:
      found: the recording.
      worker: its address.
      files: those that it could not write itself, in the order of writing: the record is last.
      unreadable: the recording is not where the job says.
    """

    found: CutRecording
    worker: str
    files: tuple[tuple[Path, bytes], ...] = ()
    unreadable: bool = False


def _work_in_cluster(job: Job, token: Path, version: str) -> _Carried:
    """Runs in a worker of the cluster."""
    worker = _this_worker(version)
    if not is_address(job.path) and not job.path.exists():
        return _Carried(CutRecording(job), worker, unreadable=True)
    if token.is_file():
        return _Carried(examine(job), worker)
    with tempfile.TemporaryDirectory(prefix="ddsp-") as folder:
        measured = Path(folder) / MEASURED
        measured.mkdir()
        found = examine(replace(job, stem=Path(folder) / job.stem.name, measured=job.measured and measured))
        own = {path: job.measured / path.name for path in measured.iterdir()} if job.measured else {}
        own |= {Path(folder) / name: job.stem.parent / name for name in found.parts}
        if found.job.record_file.exists():
            own[found.job.record_file] = job.record_file
        files = tuple((target, path.read_bytes()) for path, target in own.items())
        return _Carried(replace(found, job=job), worker, files)


def _write_in_cluster(shard: Shard, token: Path, version: str) -> Written | None:
    """Runs in a worker of the cluster."""
    _this_worker(version)

    def check() -> None:
        if not token.is_file():  # the run ended, or another one began
            raise _StoppedError

    return write_shard(shard, check) if token.is_file() else None


def _this_worker(version: str) -> str:
    """Returns the address of this worker of the cluster.

    Raises:
      UsageError: it has another version than the process that asks.
    """
    from distributed import get_worker

    worker = str(get_worker().address)
    if version != __version__:
        raise UsageError(f"the worker {worker} has ddsp {__version__}, this is {version}", "Install the same version.")
    return worker


def _lost(message: str) -> OutputError:
    return OutputError(message, "The finished part is kept: run the same command again to resume.")


@contextmanager
def open_engine(
    cluster: str | None, n_workers: int, staging_folder: Path, notice: Callable[[str], None]
) -> Iterator[Engine]:
    """Opens the engine that measures recordings.

    Args:
      cluster: None for processes of this machine; `tcp://HOST:PORT` of a Dask scheduler, `local:N` for a Dask cluster
        of N processes on this machine, `slurm:N` for N jobs of a Slurm cluster (configured as dask-jobqueue says).
      n_workers: processes of this machine.
      staging_folder: where results go; it exists.
      notice: called with a sentence that says where the dashboard is.

    Raises:
      UsageError: no such kind of cluster, or a package is missing.
      OutputError: the cluster does not answer.
    """
    if cluster is None:
        yield LocalProcesses(n_workers)
        return
    with ExitStack() as stack:
        client = _connect(cluster, stack)
        for earlier in staging_folder.glob(".*.token"):  # of a run that was killed; its workers stop
            earlier.unlink(missing_ok=True)
        token = staging_folder / f".{secrets.token_hex(8)}.token"
        stack.callback(token.unlink, missing_ok=True)
        token.touch()
        engine = DaskCluster(client, token)
        notice(f"Cluster {client.scheduler.address}; dashboard at {engine.dashboard}")
        try:
            yield engine
        except CancelledError as problem:
            raise _lost(f"the cluster {cluster} stopped answering") from problem


def check_cluster(cluster: str) -> None:
    """Checks the address of a cluster before anything is done.

    Raises:
      UsageError: no such kind of cluster, or a package is missing.
    """
    kind, _, rest = cluster.partition(":")
    if kind in ("local", "slurm"):
        if not rest.isdecimal() or len(rest) > 5 or not 1 <= int(rest) <= MAX_CLUSTER_WORKERS[kind]:
            raise UsageError(
                f"{cluster[:60]!r} does not say how many workers, 1 to {MAX_CLUSTER_WORKERS[kind]}",
                f"Give {kind}:4.",
                parameter="cluster",
            )
    elif "://" not in cluster:
        raise UsageError(
            f"{cluster[:60]!r} is not the address of a cluster",
            "Give tcp://HOST:8786, local:N or slurm:N.",
            parameter="cluster",
        )
    require_extra("cluster", f"cluster={cluster}", "distributed")
    if kind == "slurm":
        require_extra("cluster", f"cluster={cluster}", "dask_jobqueue")


def _connect(cluster: str, stack: ExitStack) -> Any:
    """Opens a client of the cluster, closed with the stack."""
    import logging

    import dask
    import distributed

    check_cluster(cluster)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is raised
    kind, _, rest = cluster.partition(":")
    # One death is enough to suspect a recording; it is tried once more, alone.
    stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 0}))
    address: Any = cluster
    try:
        if kind == "local":
            address = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=int(rest), threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
                )
            )
        elif kind == "slurm":
            import dask_jobqueue

            address = stack.enter_context(dask_jobqueue.SLURMCluster())
            address.scale(jobs=int(rest))
        client = stack.enter_context(distributed.Client(address, set_as_default=False, timeout=CONNECT_S))
        client.wait_for_workers(1, timeout=NO_WORKERS_S)
    except DdspError:
        raise
    except (OSError, TimeoutError, ValueError, RuntimeError) as problem:
        raise OutputError(
            f"the cluster {cluster} does not answer: {' '.join(str(problem).split())[:200] or type(problem).__name__}",
            "Check the address, and that it has workers.",
        ) from problem
    return client
