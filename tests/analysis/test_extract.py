import subprocess
import sys

import numpy as np
import pytest

from ddsp_cli.adaptation.segmentation import find_segments
from ddsp_cli.analysis import extract
from ddsp_cli.audio import write
from ddsp_cli.audio.recording import FileRecording
from ddsp_cli.config import FeatureSpec
from ddsp_cli.errors import InputError, UsageError
from fixtures import melody

ARRAYS = ("f0_hz", "f0_confidence", "loudness_db", "power_db")


@pytest.mark.parametrize("block", [1000, 12_345, 160_000])
def test_features_are_the_same_to_the_bit_however_sound_is_pushed(block):
    audio = np.tile(melody(), 8)  # longer than what is measured at once
    assert len(audio) > extract.BLOCK_SAMPLES
    whole = extract.measure(audio)
    stream = extract.FeatureStream()
    for start in range(0, len(audio), block):
        stream.push(audio[start : start + block])
    parts = stream.finish()
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


@pytest.mark.parametrize("n_samples", [1, 64, 65, 255, 256, 257, 1000])
def test_frames_are_the_length_divided_by_the_hop_rounded_up(n_samples):
    features = extract.measure(np.full(n_samples, 0.1, np.float32))
    assert len(features) == -(-n_samples // 64)
    assert all(np.isfinite(getattr(features, name)).all() for name in ARRAYS)


def test_a_melody_is_read_as_it_was_played():
    features = extract.measure(melody((57, 60, 64), note_s=0.5, rest_s=0.3))
    for i, note in enumerate((57, 60, 64)):
        centre = round((0.3 + 0.25 + i * 0.8) * 250)
        assert features.f0_hz[centre] == pytest.approx(440 * 2 ** ((note - 69) / 12), rel=0.006)
        assert features.f0_hz[centre + 100] == 0
    assert features.power_db[138] < features.power_db[338] < features.power_db[538]


def test_files_of_any_rate_are_measured_at_16_khz(tmp_path):
    sound = melody(rate_hz=44100)
    write.write_audio(tmp_path / "a.wav", [sound], 44100)
    seen = []
    recording = FileRecording(tmp_path / "a.wav")
    features = extract.analyze(recording, FeatureSpec(), find_segments, progress=seen.append).features
    assert features.n_samples == round(len(sound) * 16000 / 44100)
    assert seen[-1] == pytest.approx(features.n_samples / 16000)
    assert features.f0_hz[138] == pytest.approx(220, rel=0.006)


def test_nothing_and_nan_are_refused():
    with pytest.raises(InputError, match="0 samples"):
        extract.measure(np.zeros(0, np.float32))
    with pytest.raises(InputError, match="NaN"):
        extract.measure(np.array([0.0, np.nan], np.float32))
    with pytest.raises(UsageError):
        extract.FeatureStream(FeatureSpec(pitch="ear"))


def test_silence_has_no_pitch():
    assert (extract.measure(np.zeros(20000, np.float32)).f0_hz == 0).all()


def test_measuring_loads_none_of_the_heavy_libraries():
    heavy = "{'tensorflow', 'keras', 'librosa', 'matplotlib', 'scipy.signal', 'numba'}"
    code = (
        "import sys, numpy as np; from ddsp_cli.analysis import extract;"
        f"extract.measure(np.zeros(1000, 'f4')); print(sorted({heavy} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
