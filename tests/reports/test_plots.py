"""What pictures show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes

from ddsp_cli.adaptation.adapt import Adapted
from ddsp_cli.reports import plots
from ddsp_cli.workflows.performance import resting

N_FRAMES = 50


def voice(start: int, end: int, level_db: float) -> Adapted:
    rest = resting(N_FRAMES, 50)
    level, gate = rest.level_db.copy(), rest.gate.copy()
    level[start:end], gate[start:end] = level_db, 1.0
    return replace(rest, level_db=level, gate=gate)


def test_level_is_that_of_all_voices(tmp_path, monkeypatch):
    import soundfile

    drawn = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda axis, x, y, **kw: drawn.append(y) or plot(axis, x, y, **kw))
    soundfile.write(tmp_path / "chord.wav", np.zeros(16000), 16000)
    first, second = voice(0, 20, -20.0), voice(10, 30, -20.0)
    plots.draw_transfer(None, tmp_path / "chord.wav", None, first, "power_db", "testophone", [second])
    level_db = drawn[-1]
    assert level_db[5] == pytest.approx(-20.0, abs=0.01)
    assert level_db[15] == pytest.approx(-20.0 + 10 * np.log10(2), abs=0.01)  # powers add
    assert level_db[25] == pytest.approx(-20.0, abs=0.01)  # the second voice alone
    assert level_db[40] == pytest.approx(-80.0, abs=0.01)
    _, gate = plots.together([first, second])
    np.testing.assert_array_equal(gate, np.arange(N_FRAMES) < 30)


def test_one_voice_keeps_its_level():
    level_db, gate = plots.together([voice(0, 20, -33.3)])
    np.testing.assert_allclose(level_db, voice(0, 20, -33.3).level_db, atol=1e-4)
    np.testing.assert_array_equal(gate, voice(0, 20, -33.3).gate)
