"""Compiled programs are kept for the next training: whole ones only, of this processor, in a folder of the user."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddsp_cli.training import compile_cache
from ddsp_cli.training.compile_cache import OPTION, VARIABLE


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A new cache, and a process that has not loaded TensorFlow."""
    monkeypatch.setenv("DDSP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setattr(compile_cache, "has_gpu", lambda: False)
    monkeypatch.setattr(compile_cache, "LEAST_FREE_BYTES", 1000)
    monkeypatch.setattr(compile_cache, "_used", None)
    yield tmp_path / "cache" / "xla"
    _end(monkeypatch)


def _end(monkeypatch) -> None:
    """Releases the lock, as the end of the process does."""
    if compile_cache._used is not None:
        compile_cache._used[1].close()
    monkeypatch.setattr(compile_cache, "_used", None)


def _store(cache: Path, monkeypatch, *names: str) -> Path:
    """Stores programs as a training does, and returns their folder."""
    with compile_cache.opened():
        (folder,) = cache.iterdir()
        for name in names:
            (folder / name).write_bytes(name.encode())
    compile_cache.keep()
    _end(monkeypatch)
    return folder


def _programs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.pb"))


def test_tensorflow_is_given_the_folder_and_nothing_else_is(cache, monkeypatch):
    monkeypatch.setenv(VARIABLE, "--tf_xla_clustering_debug")
    with compile_cache.opened() as has_programs:
        assert not has_programs
        (folder,) = cache.iterdir()
        assert os.environ[VARIABLE] == f'--tf_xla_clustering_debug --{OPTION}="{folder}"'
    assert os.environ[VARIABLE] == "--tf_xla_clustering_debug"
    if sys.platform != "win32":
        assert folder.stat().st_mode & 0o777 == 0o700


def test_only_whole_programs_stay(cache, monkeypatch):
    folder = _store(cache, monkeypatch, "whole.pb", "cut.pb", "changed.pb")
    (folder / "cut.pb").write_bytes(b"cut")
    (folder / "changed.pb").write_bytes(b"changed.pB")
    (folder / "killed.pb").write_bytes(b"without a digest")
    (folder / "whole.pbvm-1.tmp").write_bytes(b"")
    with compile_cache.opened() as has_programs:
        assert has_programs
        assert sorted(path.name for path in folder.iterdir()) == ["lock", "whole.pb", "whole.sha256"]
        assert (folder / "whole.pb").read_bytes() == b"whole.pb"


def test_one_process_at_a_time_uses_it(cache, monkeypatch):
    folder = _store(cache, monkeypatch, "a.pb")
    with compile_cache.opened() as has_programs:
        assert has_programs
        with monkeypatch.context() as other:
            other.setattr(compile_cache, "_used", None)
            other.delenv(VARIABLE)
            with compile_cache.opened() as has_programs:
                assert not has_programs
                assert VARIABLE not in os.environ
    assert _programs(folder) == ["a.pb"]


def test_the_oldest_programs_are_removed(cache, monkeypatch):
    folder = _store(cache, monkeypatch, "new.pb", "old.pb", "older.pb")
    for age_s, name in enumerate(("new.pb", "old.pb", "older.pb")):
        os.utime(folder / name, (1e9 - age_s, 1e9 - age_s))
    monkeypatch.setattr(compile_cache, "MOST_BYTES", len("new.pb") + len("old.pb"))
    with compile_cache.opened():
        assert _programs(folder) == ["new.pb", "old.pb"]


@pytest.mark.parametrize("given", [f"--{OPTION}=/mine", "options.txt"])
def test_options_of_the_user_stay(cache, monkeypatch, given):
    monkeypatch.setenv(VARIABLE, given)
    with compile_cache.opened() as has_programs:
        assert not has_programs
        assert os.environ[VARIABLE] == given


def test_another_backend_a_gpu_or_a_loaded_framework_need_none(cache, monkeypatch):
    for change in (
        lambda patch: patch.setenv("KERAS_BACKEND", "jax"),
        lambda patch: patch.setattr(compile_cache, "has_gpu", lambda: True),
        lambda patch: patch.setitem(sys.modules, "tensorflow", sys),
    ):
        with monkeypatch.context() as patch:
            change(patch)
            with compile_cache.opened():
                assert VARIABLE not in os.environ
    assert not cache.exists()


def test_each_processor_and_version_has_its_own(cache, monkeypatch):
    folder = _store(cache, monkeypatch, "a.pb")
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    with compile_cache.opened() as has_programs:
        assert not has_programs
    assert len(list(cache.iterdir())) == 2
    assert _programs(folder) == ["a.pb"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permissions of this kind")
def test_a_folder_that_others_can_write_to_is_not_used(cache, monkeypatch):
    folder = _store(cache, monkeypatch, "a.pb")
    folder.chmod(0o777)
    with compile_cache.opened() as has_programs:
        assert not has_programs
        assert VARIABLE not in os.environ


def test_a_place_that_cannot_be_written_is_not_used(cache, monkeypatch):
    cache.parent.write_bytes(b"a file")
    with compile_cache.opened() as has_programs:
        assert not has_programs
        assert VARIABLE not in os.environ
    compile_cache.keep()


SCRIPT = """
import sys
from ddsp_cli import backend
from ddsp_cli.training import compile_cache

with compile_cache.opened() as has_programs:
    backend.load()
import tensorflow as tf

@tf.function(jit_compile=True, autograph=False)
def compiled(x):
    return tf.reduce_sum(tf.sin(x @ x) * tf.math.real(tf.signal.fft(tf.cast(x, tf.complex64))))

print(has_programs, compiled(tf.random.stateless_normal((64, 64), seed=(1, 2))).numpy().tobytes().hex())
compile_cache.keep()
"""


def test_tensorflow_loads_programs_that_it_compiled_before(tmp_path):
    from ddsp_cli.training.resources import has_gpu

    if has_gpu():
        pytest.skip("programs of GPUs are not kept")
    cache = tmp_path / "a b's \u00e4"
    environment = os.environ | {"DDSP_CACHE": str(cache), "KERAS_BACKEND": "tensorflow"}

    def run() -> list[str]:
        command = [sys.executable, "-c", SCRIPT]
        done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True)
        return done.stdout.split()

    before, first = run()
    (program,) = cache.rglob("*.pb")
    stored = program.stat()
    after, second = run()
    assert [before, after] == ["False", "True"]
    assert first == second
    assert program.stat().st_mtime_ns == stored.st_mtime_ns  # loaded, not written again
    program.write_bytes(program.read_bytes()[:1000])
    after, third = run()
    assert [after, third] == ["False", first]
    assert program.stat().st_size == stored.st_size
