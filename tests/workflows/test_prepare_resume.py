"""`ddsp prepare` killed, out of space, started twice. Many more kills: benchmarks/kill_resume.py."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile

from ddsp_cli.config import FeatureSpec
from ddsp_cli.dataset import build, cache
from ddsp_cli.dataset import workers as dataset_workers
from ddsp_cli.errors import InputError, OutputError
from ddsp_cli.workflows.prepare import prepare
from fixtures import melody

#: A third of the default, and of the time.
RATE_HZ = 16000

NOTES = (57, 60, 64, 62, 59, 67, 65, 69)


def record(folder: Path) -> Path:
    folder.mkdir()
    for i in range(6):
        soundfile.write(folder / f"{i}.wav", 0.2 * melody(tuple(note + i for note in NOTES), 0.6, 0.2), 16000)
    (folder / "text.wav").write_text("not audio")
    return folder


@pytest.fixture
def wavs(tmp_path: Path) -> Path:
    return record(tmp_path / "wavs")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The data set of a run without interruption."""
    wavs = record(tmp_path_factory.mktemp("whole") / "wavs")
    return content(
        prepare([wavs], name="x", out=wavs.parent / "set", workers=1, report=False, sample_rate_hz=RATE_HZ).folder
    )


def content(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def start(wavs: Path, workers: int = 2) -> subprocess.Popen[str]:
    arguments = f"--name x --workers {workers} --no-report --sample-rate {RATE_HZ}".split()
    command = [sys.executable, "-m", "ddsp_cli", "prepare", str(wavs), "--out", str(wavs.parent / "set"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")


def wait_for(condition: object, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("n_done", [0, 3])
def test_killed_and_started_again_it_ends_with_the_same_bytes(wavs, whole, n_done, monkeypatch):
    parts = wavs.parent / ".set.preparing" / "parts"
    run = start(wavs)
    wait_for(lambda: parts.is_dir() and len(list(parts.glob("*.json"))) >= n_done)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert not (wavs.parent / "set").exists()
    # The workers end with their parent; recordings that they still finished count.
    time.sleep(0.5)
    done = len(list(parts.glob("*.json")))
    again = []
    measure = dataset_workers.measure
    monkeypatch.setattr(dataset_workers, "measure", lambda job, *rest: again.append(job.name) or measure(job, *rest))
    folder = prepare([wavs], name="x", out=wavs.parent / "set", workers=1, report=False, sample_rate_hz=RATE_HZ).folder
    assert len(again) <= 6 - min(n_done, done)
    monkeypatch.undo()
    assert content(folder) == whole
    assert sorted(entry.name for entry in wavs.parent.iterdir()) == ["set", "wavs"]


@pytest.mark.parametrize("stage", ["shards", "manifest", "publish"])
def test_interrupted_while_it_writes_it_resumes(wavs, whole, stage, monkeypatch):
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    if stage == "shards":
        monkeypatch.setattr(build, "name_shards", fail)
    elif stage == "manifest":
        monkeypatch.setattr(build, "dump_yaml", fail)
    else:
        monkeypatch.setattr("ddsp_cli.dataset.cache.replace_folder", fail)
    with pytest.raises(KeyboardInterrupt):
        prepare([wavs], name="x", out=wavs.parent / "set", workers=1, report=False, sample_rate_hz=RATE_HZ)
    monkeypatch.undo()
    assert sorted(entry.name for entry in wavs.parent.iterdir()) == [".set.preparing", "wavs"]
    monkeypatch.setattr(dataset_workers, "measure", lambda *_: pytest.fail("measured again"))
    folder = prepare([wavs], name="x", out=wavs.parent / "set", workers=1, report=False, sample_rate_hz=RATE_HZ).folder
    monkeypatch.undo()
    assert content(folder) == whole


def test_other_settings_and_changed_recordings_are_measured_again(wavs, monkeypatch):
    monkeypatch.setattr(build, "dump_yaml", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepare([wavs], name="x", out=wavs.parent / "set", workers=1, report=False, sample_rate_hz=RATE_HZ)
    monkeypatch.undo()
    soundfile.write(wavs / "2.wav", 0.1 * melody(NOTES, 0.7, 0.2), 16000)
    seen: list[str] = []
    measure = dataset_workers.measure
    monkeypatch.setattr(dataset_workers, "measure", lambda job, *rest: seen.append(job.name) or measure(job, *rest))
    prepare([wavs], name="x", out=wavs.parent / "set", workers=1, report=False, sample_rate_hz=RATE_HZ)
    assert seen == ["wavs/2.wav"]
    seen.clear()
    prepare(
        [wavs],
        name="x",
        out=wavs.parent / "set",
        workers=1,
        report=False,
        sample_rate_hz=RATE_HZ,
        keep_polyphonic=True,
        force=True,
    )
    assert len(seen) == 6


def test_half_written_and_damaged_parts_are_not_trusted(wavs, tmp_path):
    job = cache.Job(wavs / "0.wav", "0", tmp_path / "part", 16000, FeatureSpec())
    take = dataset_workers.examine(job)
    assert cache.load_cut(job, take.sha256) == take
    assert cache.load_cut(job, "other") is None
    for path in (job.frames_file, job.audio_file(16000), job.record_file):
        good = path.read_bytes()
        for bad in (good[:-1], good[:-1] + bytes([good[-1] ^ 1]), b""):
            path.write_bytes(bad)
            assert cache.load_cut(job, take.sha256) is None
        path.write_bytes(good)
    assert cache.load_cut(job, take.sha256) == take
    job.frames_file.unlink()
    assert cache.load_cut(job, take.sha256) is None


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of Unix")
def test_a_full_disk_is_survived(wavs, whole):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # Takes of 0.4 MB fit, shards of 2 MB do not.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(OutputError, match="cannot be written: File too large") as refused:
            prepare([wavs], name="x", out=wavs.parent / "set", workers=1, report=False, sample_rate_hz=RATE_HZ)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert "run the same command again" in refused.value.hint
    assert (
        content(
            prepare([wavs], name="x", out=wavs.parent / "set", workers=1, report=False, sample_rate_hz=RATE_HZ).folder
        )
        == whole
    )


def test_too_little_leaves_nothing(wavs):
    with pytest.raises(InputError):
        prepare([wavs / "text.wav"], out=wavs.parent / "set", workers=1)
    assert [entry.name for entry in wavs.parent.iterdir()] == ["wavs"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_the_second_of_two_runs_is_refused_and_ctrl_c_keeps_what_is_done(wavs):
    parts = wavs.parent / ".set.preparing" / "parts"
    first = start(wavs, workers=1)
    wait_for(lambda: parts.is_dir() and list(parts.glob("*.json")))
    os.kill(first.pid, signal.SIGSTOP)
    try:
        second = start(wavs)
        _, said = second.communicate(timeout=60)
        assert second.returncode == 6
        assert "another preparation is writing" in said and str(first.pid) in said
    finally:
        os.kill(first.pid, signal.SIGCONT)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    if first.returncode:  # it was not done yet
        assert first.returncode == 130 and "resume" in said
    prepare([wavs], name="x", out=wavs.parent / "set", workers=1, report=False, sample_rate_hz=RATE_HZ)
    assert sorted(entry.name for entry in wavs.parent.iterdir()) == ["set", "wavs"]
