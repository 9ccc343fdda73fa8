"""Long inputs: coarser curves, the same performance."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from ddsp_cli.adaptation import f0_cleanup
from ddsp_cli.audio.recording import ArrayRecording
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.workflows import performance, transfer
from fixtures import make_bundle, melody, small_model


@pytest.mark.parametrize(("own_hz", "seconds", "rate_hz"), [(50, 60.0, 250), (50, 7201.0, 50), (250, 1e5, 250)])
def test_the_grid_of_long_inputs_is_that_of_the_model(tmp_path, own_hz, seconds, rate_hz):
    instrument = Instrument(make_bundle(tmp_path / "a", small_model(frame_rate_hz=own_hz)))
    assert performance.frame_rate_hz(instrument, seconds) == rate_hz


def test_a_long_input_is_played_as_a_short_one(tmp_path, monkeypatch):
    """The level of the two outputs, in windows of a tenth of a second, differs by less than 2 dB where it is loud."""
    make_bundle(tmp_path / "a")
    soundfile.write(tmp_path / "voice.wav", np.tile(melody(), 2), 16000)
    levels = []
    for long_s in (7200.0, 0.0):
        monkeypatch.setattr(performance, "LONG_S", long_s)
        out = tmp_path / f"{long_s}.wav"
        transfer.transfer_files([tmp_path / "voice.wav"], tmp_path / "a", out)
        audio, rate_hz = soundfile.read(out)
        windows = audio[: len(audio) // (rate_hz // 10) * (rate_hz // 10)].reshape(-1, rate_hz // 10)
        levels.append(10.0 * np.log10(np.mean(np.square(windows), axis=1) + 1e-10))
    loud = levels[0] > levels[0].max() - 10.0
    assert np.median(np.abs(levels[0] - levels[1])[loud]) < 2.0


def test_spans_are_read_in_one_pass():
    audio = np.arange(100_000, dtype=np.float32)
    spans = [(0, 10), (5, 30_000), (29_000, 50_000), (29_500, 31_000), (99_990, 100_050), (100_010, 100_020)]
    found = list(f0_cleanup._read_spans(ArrayRecording(audio), spans))
    for (first, end), part in zip(spans, found, strict=True):
        np.testing.assert_array_equal(part, audio[first:end])
