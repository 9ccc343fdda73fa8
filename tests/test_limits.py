"""Child processes with limits."""

from __future__ import annotations

import psutil
import pytest

from ddsp_cli.limits import Worker


def test_a_worker_whose_target_does_not_load_leaves_no_process():
    before = set(psutil.Process().children())
    with pytest.raises(RuntimeError, match="ModuleNotFoundError") as problem:
        Worker("ddsp_cli.missing:function")
    assert set(psutil.Process().children()) <= before
    del problem  # its traceback held the worker until here
