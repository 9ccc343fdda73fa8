"""Where recordings are measured must not change a data set; a recording that kills its worker costs itself alone."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import soundfile

from ddsp_cli.config import FeatureSpec
from ddsp_cli.dataset import executors, writer
from ddsp_cli.dataset.cache import CutRecording, Job
from ddsp_cli.dataset.tfrecord import read_examples
from ddsp_cli.dataset.writer import Layout, Portion, Shard, SplitPlan, Written
from ddsp_cli.errors import OutputError, UsageError
from ddsp_cli.workflows.prepare import prepare
from fixtures import melody


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster without workers is given up after a minute, not ten: a worker here starts in seconds."""
    monkeypatch.setattr(executors, "NO_WORKERS_S", 60.0)


class CrashingJob(Job):
    """Takes the process that works on it down, as a fault in a decoder would."""

    @property
    def record_file(self) -> Path:
        os._exit(1)


@pytest.fixture
def wavs(tmp_path: Path) -> Path:
    folder = tmp_path / "wavs"
    folder.mkdir()
    for i in range(5):
        soundfile.write(folder / f"{i}.wav", 0.2 * melody((57 + i, 64 + i, 60 + i), 1.0, 0.2), 16000)
    (folder / "text.wav").write_text("not audio")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def jobs_of(wavs: Path) -> list[Job]:
    """The recordings, with one among them that kills its worker."""
    (wavs.parent / "parts").mkdir()
    (wavs.parent / "measured").mkdir()
    jobs = [
        Job(path, path.name, wavs.parent / "parts" / path.stem, 16000, FeatureSpec(), measured=wavs.parent / "measured")
        for path in sorted(wavs.glob("?.wav"))
    ]
    return [jobs[0], CrashingJob(wavs / "0.wav", "bad", wavs.parent / "parts" / "bad", 16000, FeatureSpec()), *jobs[1:]]


@pytest.mark.parametrize("cluster", [None, "local:2"])
def test_a_recording_that_kills_its_worker_is_named_and_left_out(wavs, cluster):
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    found: dict[str, CutRecording] = {}
    with executors.open_engine(cluster, 2, wavs.parent, lambda _: None) as engine:
        tally = executors.examine_all(
            iter(jobs_of(wavs)), engine, lambda _: None, lambda one: found.update({one.job.name: one})
        )
    assert {name: bool(one.reason) for name, one in found.items()} == {
        "0.wav": False, "bad": True, "1.wav": False, "2.wav": False, "3.wav": False, "4.wav": False
    }  # fmt: skip
    assert "crashed" in found["bad"].reason
    assert (tally.n_done, tally.n_left_out, sum(tally.by_worker.values())) == (6, 1, 6)


@pytest.mark.slow
def test_a_cluster_makes_the_same_data_set_as_local_processes(wavs, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "SHARD_BYTES", 1_100_000)  # one window at 48 kHz
    monkeypatch.setattr(executors, "SHARDS_PER_PROCESS", 1)  # so that processes write shards
    told: list[str] = []
    for name, options in (("one", {"workers": 1}), ("two", {"workers": 2}), ("cluster", {"cluster": "local:2"})):
        prepare([wavs], name="x", out=tmp_path / name, report=False, notice=told.append, **options)
    assert content(tmp_path / "one") == content(tmp_path / "two") == content(tmp_path / "cluster")
    assert len(list((tmp_path / "one").glob("train.tfrecord-*"))) > 3
    assert sum("by worker" in line for line in told) == 1, "of no interest on one machine"
    assert any("dashboard at http" in line for line in told)
    assert any("6 recordings measured, 1 of them left out; by worker: tcp://" in line for line in told)


def test_a_worker_without_the_staging_folder_sends_what_it_cut_out(wavs, tmp_path):
    (tmp_path / ".0.token").touch()  # of a run that was killed, whose workers may still write
    with executors.open_engine("local:1", 1, tmp_path, lambda _: None) as engine:
        engine._token = tmp_path / "another machine" / "token"  # no worker sees it
        (_, _, *jobs) = jobs_of(wavs)
        found: list[CutRecording] = []
        executors.examine_all(jobs, engine, lambda _: None, found.append)
        layout = Layout(16000, FeatureSpec(), 4.0, 100.0)
        plan = SplitPlan(tmp_path, "train", layout, [Portion(one, 0, one.n_frames) for one in found])
        shards: list[Written] = []
        executors.write_all(plan, engine, shards.append, 1)  # this process writes them
    assert [len(list(read_examples(one.path))) for one in shards] == [one.n_examples for one in shards] == [4]
    assert not list(tmp_path.glob(".*.token"))
    for one in found:
        beside = one.job.stem.with_name("local") / one.job.stem.name
        beside.parent.mkdir(exist_ok=True)
        here = executors.examine(Job(one.job.path, one.job.name, beside, 16000, FeatureSpec()))
        assert (one.sha256, one.parts, one.n_frames) == (here.sha256, here.parts, here.n_frames)
        assert np.array_equal(one.frames()["f0_hz"], here.frames()["f0_hz"])
        assert one.job.frames_file.read_bytes() == here.job.frames_file.read_bytes()
        assert one.job.record_file.read_bytes() == here.job.record_file.read_bytes()
        assert (one.job.measured / f"{one.sha256}.measured").is_file()


def test_recordings_that_workers_cannot_read_end_the_run_with_a_sentence(wavs, tmp_path):
    with executors.open_engine("local:1", 1, tmp_path, lambda _: None) as engine:
        job = Job(tmp_path / "elsewhere.wav", "elsewhere.wav", tmp_path / "stem", 16000, FeatureSpec())
        with pytest.raises(UsageError, match=r"cannot read .*elsewhere.wav"):
            executors.examine_all([job], engine, lambda _: None)


class CrashingShard(Shard):
    """Takes the process that writes it down, as a lack of memory would."""

    def __reduce__(self):
        return os._exit, (1,)


@pytest.mark.skipif(sys.platform == "win32", reason="pickles differ")
def test_a_worker_that_dies_writing_ends_the_run_with_a_sentence(tmp_path):
    shard = CrashingShard(tmp_path / "train-00000.part", Layout(16000, FeatureSpec(), 4.0, 100.0), (), 0, 1)
    with pytest.raises(OutputError, match="a process that wrote the data set ended"):
        executors.write_all([shard] * 4, executors.LocalProcesses(2), lambda _: None, 4)


def test_a_cluster_that_loses_its_workers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "NO_WORKERS_S", 0.5)
    monkeypatch.setattr(executors, "COUNT_EVERY_S", 0.1)

    class Client:
        dashboard_link = ""

        def nthreads(self):
            return {}

    pytest.importorskip("distributed")
    engine = executors.DaskCluster(Client(), tmp_path / "token")
    engine.poll(lambda _: None)
    time.sleep(0.6)
    with pytest.raises(OutputError, match="has had no workers for") as caught:
        engine.poll(lambda _: None)
    assert "run the same command again" in caught.value.hint


@pytest.mark.parametrize("address", ["local", "local:0", "local:two", "slurm:", "localhost", "ray:4"])
def test_an_invalid_address_is_refused(wavs, address):
    with pytest.raises(UsageError):
        prepare([wavs], out=wavs.parent / "set", cluster=address)
    assert sorted(entry.name for entry in wavs.parent.iterdir()) == ["wavs"]


def test_a_scheduler_that_does_not_answer_is_named(wavs, monkeypatch):
    monkeypatch.setattr(executors, "CONNECT_S", 1.0)
    with pytest.raises(OutputError, match=r"tcp://127\.0\.0\.1:9 does not answer"):
        prepare([wavs], out=wavs.parent / "set", cluster="tcp://127.0.0.1:9")


#: Stands for the batch system: a submitted job starts at once, on this machine. Like Slurm it
#: keeps a copy of the script, because the caller deletes its own as soon as the job is accepted.
SBATCH = """#!/bin/sh
cp "$1" "$SLURM_TEST_JOBS.sh" || exit 1
sh "$SLURM_TEST_JOBS.sh" >"$SLURM_TEST_JOBS.log" 2>&1 &
echo $! >>"$SLURM_TEST_JOBS"
echo "Submitted batch job $!"
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Slurm runs on Linux")
def test_jobs_are_submitted_to_slurm(wavs, tmp_path, monkeypatch):
    import dask

    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", '#!/bin/sh\nkill "$1"\n')):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_TEST_JOBS", str(tmp_path / "jobs"))
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    with dask.config.set({"jobqueue.slurm.cores": 1, "jobqueue.slurm.memory": "2GB", "jobqueue.slurm.name": "ddsp"}):
        result = prepare([wavs], name="x", out=tmp_path / "slurm", report=False, cluster="slurm:1", notice=told.append)
    assert len((tmp_path / "jobs").read_text().split()) == 1
    prepare([wavs], name="x", out=tmp_path / "local", report=False, workers=1)
    assert content(result.folder) == content(tmp_path / "local")


def test_without_the_packages_a_sentence_says_what_to_install(wavs, monkeypatch):
    find_spec = executors.require_extra.__globals__["importlib"].util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "dask_jobqueue" else find_spec(name))
    with pytest.raises(UsageError, match="dask-jobqueue, which is not installed") as caught:
        executors.check_cluster("slurm:2")
    assert "ddsp-cli[cluster]" in caught.value.hint
