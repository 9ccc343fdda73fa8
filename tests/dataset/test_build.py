import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ddsp_cli.config import FeatureSpec
from ddsp_cli.dataset import build
from ddsp_cli.dataset.cache import CutRecording, Job


def cut(name: str, used_s: float = 10.0, folder: str = "a", power_db: float = -30.0, peak: float = 0.1) -> CutRecording:
    class Fake(CutRecording):
        def frames(self) -> dict[str, np.ndarray]:
            power = np.full(1000, power_db)
            power[:500] = -80
            return {"f0_hz": np.where(power > -80, 440.0, 0.0), "power_db": power}

    job = Job(Path(folder) / name, f"{folder}/{name}", Path("stem"), 16000, FeatureSpec())
    return Fake(job, "00", used_s, round(used_s * 250), used_s, peak=1.0, loud_peak=peak)


def choose(takes: list[CutRecording], share: float) -> set[int]:
    """Indices of the recordings that are chosen."""

    def lengths() -> list[tuple[str, int, int]]:
        def key(i: int) -> tuple[str, str]:
            return takes[i].job.name.rpartition("/")[0], hashlib.sha256(takes[i].job.name.encode()).hexdigest()

        return [(key(i)[0], takes[i].n_frames, i) for i in sorted(range(len(takes)), key=key)]

    return set(build.choose_validation(lengths, len(takes), share))


def test_each_folder_gets_one_gain_to_the_target():
    takes = [cut("1", power_db=-40), cut("2", power_db=-20, peak=0.2), cut("3", folder="b", power_db=-10, peak=0.9)]
    gains = dict(build.folder_gains_db(takes))
    assert gains == {Path("a"): pytest.approx(6.0, abs=1e-3), Path("b"): pytest.approx(-4.0, abs=1e-3)}


def test_levels_are_raised_only_as_far_as_peaks_allow():
    ((_, gain_db),) = build.folder_gains_db([cut("1", power_db=-40, peak=0.5)])
    assert 0.5 * 10 ** (gain_db / 20) == pytest.approx(0.99, abs=1e-3)
    assert 0.5 * 10 ** (gain_db / 20) <= 0.99
    assert [gain for _, gain in build.folder_gains_db([cut("1", power_db=-75, peak=1e-3)])] == [
        pytest.approx(40, abs=1e-3)
    ]


@pytest.mark.parametrize("n", [2, 3, 10, 57])
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_about_the_share_is_kept_for_validation(n, share):
    random = np.random.default_rng(n)
    takes = [cut(f"{i}.wav", random.uniform(3, 12), "ab"[i % 2]) for i in range(n)]
    chosen = choose(takes, share)
    assert 1 <= len(chosen) < n
    assert chosen == choose(takes, share)
    if n > 20:
        seconds = sum(takes[i].used_s for i in chosen) / sum(t.used_s for t in takes)
        assert seconds == pytest.approx(share, abs=0.04)
        assert {takes[i].job.path.parent for i in chosen} == {Path("a"), Path("b")}


def test_the_choice_depends_on_names_not_on_order():
    takes = [cut(f"{i}.wav", 5 + i % 3) for i in range(30)]
    forward = {takes[i].job.name for i in choose(takes, 0.1)}
    takes.reverse()
    assert {takes[i].job.name for i in choose(takes, 0.1)} == forward


def test_without_a_share_or_a_second_recording_nothing_is_for_validation():
    assert choose([cut("1")], 0.5) == choose([cut("1"), cut("2")], 0.0) == set()


def test_a_single_recording_is_split_at_its_quietest_place():
    recording = cut("1", used_s=4.0)
    ((first,), (second,)) = build.split_one(recording, 0.3, -6.0)
    assert (first.start, first.end, second.end) == (0, second.start, recording.n_frames)
    assert first.gain == second.gain == pytest.approx(10 ** (-6 / 20))


def test_a_recording_is_cut_in_a_pause_of_50_ms_at_any_frame_rate():
    """At 50 frames a second a pause of 3 frames is quieter than a softer stretch of 14, a quarter of a second."""
    power_db = np.full(1000, -20.0, np.float32)
    power_db[799:802], power_db[824:838] = -90.0, -30.0
    recording = SimpleNamespace(
        frames=lambda: {"power_db": power_db}, job=SimpleNamespace(spec=FeatureSpec(frame_rate_hz=50)), n_frames=1000
    )
    (training,), _ = build.split_one(recording, 0.2, 0.0)
    assert training.end == 800
