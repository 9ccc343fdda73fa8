"""Golden numbers: marl/crepe 0.0.16 (size tiny) on a glide from 220 to 880 Hz in 2 s, steps of 10 ms, centred."""

import bz2
from pathlib import Path

import h5py
import numpy as np
import pytest

from ddsp_cli.analysis.pitch import crepe, trackers
from ddsp_cli.errors import UsageError

GOLDEN = Path(__file__).parents[2] / "golden" / "crepe_glide.npz"
SHARED = Path(__file__).parents[3].parent / "shared"
WEIGHTS = SHARED / "crepe" / "model-tiny.h5.bz2"
VOICE = SHARED / "golden" / "crepe_tiny.npz"

#: Another order of sums moves activations by 1e-6; a factor of 100 is left for other back ends and processors.
ACTIVATION_TOLERANCE = 1e-4
CENTS_TOLERANCE = 1.0

published = pytest.mark.skipif(not WEIGHTS.is_file(), reason="needs CREPE's weights in ../shared/crepe")


def cents(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return 1200 * np.log2(a / b)


@published
@pytest.mark.parametrize(("file", "part"), [(GOLDEN, "glide"), (VOICE, "voice")])
def test_pitch_is_that_of_crepe(file, part):
    golden = np.load(file)
    tracker = crepe.CrepeTracker(crepe.load_network(WEIGHTS))
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(golden[f"{part}_audio"], 512), 1024)[::160]
    activation = tracker.activation(frames)
    np.testing.assert_allclose(activation[:100], golden[f"{part}_activation"], atol=ACTIVATION_TOLERANCE)
    tracker.push(golden[f"{part}_audio"])
    track = tracker.finish()
    np.testing.assert_allclose(track.confidence, golden[f"{part}_confidence"], atol=ACTIVATION_TOLERANCE)
    assert np.abs(cents(track.f0_hz, golden[f"{part}_f0_hz_viterbi"])).max() < CENTS_TOLERANCE


@published
def test_blocks_change_nothing():
    audio = np.tile(np.load(GOLDEN)["glide_audio"], 3)
    whole = trackers.track("crepe", audio, weights=WEIGHTS)
    tracker = trackers.open_tracker("crepe-tiny", weights=WEIGHTS)
    for start in range(0, len(audio), 777):
        tracker.push(audio[start : start + 777])
    parts = tracker.finish()
    np.testing.assert_array_equal(parts.f0_hz, whole.f0_hz)
    np.testing.assert_array_equal(parts.confidence, whole.confidence)


def dense_viterbi(strongest: np.ndarray) -> np.ndarray:
    """The textbook algorithm with whole matrices; of equal paths the highest, as hmmlearn has it."""
    n = crepe.N_PITCHES
    move = np.maximum(12 - np.abs(np.arange(n)[:, None] - np.arange(n)), 0).astype(float)
    with np.errstate(divide="ignore"):
        move = np.log(move / move.sum(axis=1)[:, None])
    show = np.log(np.eye(n) * 0.1 + 0.9 / n)
    score = [np.log(1 / n) + show[:, strongest[0]]]
    for seen in strongest[1:]:
        score.append((score[-1][:, None] + move).max(axis=0) + show[:, seen])
    path = [int(score[-1].argmax())]
    for before in score[-2::-1]:
        path.append(n - 1 - int((before + move[:, path[-1]])[::-1].argmax()))
    return np.array(path[::-1])


@pytest.mark.parametrize("seed", range(3))
def test_deciding_early_gives_the_path_of_the_whole(seed, monkeypatch):
    monkeypatch.setattr(crepe, "DECIDE_FRAMES", 40)
    random = np.random.default_rng(seed)
    walk = np.clip(np.cumsum(random.integers(-9, 10, 300)) + 180, 0, 359)
    strongest = np.where(random.random(300) < 0.3, random.integers(0, 360, 300), walk)
    activation = np.eye(360, dtype=np.float32)[strongest] + 1e-3
    path = crepe.ViterbiPath()
    for part in np.array_split(activation, 11):
        path.push(part)
    assert path.n_undecided < 100  # most is decided long before the end
    expected = crepe._local_average_hz(activation, dense_viterbi(strongest))
    np.testing.assert_array_equal(path.finish(), expected)


def test_any_network_can_be_handed_in():
    def highest_for_all(frames):
        return np.eye(crepe.N_PITCHES, dtype=np.float32)[np.full(len(frames), 300)]

    tracker = crepe.CrepeTracker(highest_for_all)
    tracker.push(np.zeros(3200, np.float32))
    track = tracker.finish()
    np.testing.assert_allclose(track.f0_hz, 10.0 * 2.0 ** (crepe.CENTS[300] / 1200.0), rtol=1e-6)
    assert len(track.f0_hz) == 21 and (track.confidence == 1.0).all()


def test_nothing_has_no_pitch():
    assert len(crepe.ViterbiPath().finish()) == 0


def random_weights(path: Path, multiplier: int = 4) -> Path:
    """A file laid out as the published ones, filled with noise."""
    random = np.random.default_rng(0)
    filters = [n * multiplier for n in (32, 4, 4, 4, 8, 16)]
    inputs = [1, *filters[:-1]]
    with h5py.File(path, "w") as file:
        for i, (n_in, n_out) in enumerate(zip(inputs, filters, strict=True), 1):
            kernel = random.normal(size=(512 if i == 1 else 64, 1, n_in, n_out)) * 0.05
            file[f"conv{i}/conv{i}_3/kernel:0"] = kernel
            file[f"conv{i}/conv{i}_3/bias:0"] = np.zeros(n_out)
            for name, value in (("gamma", 1), ("beta", 0), ("moving_mean", 0), ("moving_variance", 1)):
                file[f"conv{i}-BN/conv{i}-BN_3/{name}:0"] = np.full(n_out, float(value))
        file["classifier/classifier_3/kernel:0"] = random.normal(size=(4 * filters[-1], 360)) * 0.05
        file["classifier/classifier_3/bias:0"] = np.zeros(360)
    return path


def test_the_file_decides_the_size(tmp_path):
    from ddsp_cli.engine import crepe as network

    assert network.load(random_weights(tmp_path / "a.h5", 8)).name == "crepe-small"
    packed = tmp_path / "b.h5.bz2"
    packed.write_bytes(bz2.compress(random_weights(tmp_path / "b.h5").read_bytes()))
    assert network.load(packed).name == "crepe-tiny"
    assert network.build("full").count_params() == 22_244_328  # the paper: 22.2 M
    for content in (b"", b"not hdf5" * 100, packed.read_bytes()[:1000]):
        for name in ("c.h5", "c.h5.bz2"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(UsageError, match="not a file of CREPE weights"):
                network.load(tmp_path / name)


def test_weights_are_found_where_they_lie(tmp_path, monkeypatch):
    monkeypatch.setenv("DDSP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(crepe.importlib.util, "find_spec", lambda _: None)
    monkeypatch.delenv(crepe.WEIGHTS_VARIABLE, raising=False)
    with pytest.raises(UsageError, match="needs its weights") as refused:
        trackers.check_tracker("crepe")
    assert str(tmp_path / "cache" / "crepe") in refused.value.hint
    folder = tmp_path / "cache" / "crepe"
    folder.mkdir(parents=True)
    (folder / "model-tiny.h5").touch()
    assert crepe.find_weights().name == "model-tiny.h5"
    (folder / "model-large.h5.bz2").touch()
    assert crepe.find_weights().name == "model-large.h5.bz2"  # the best there is
    assert crepe.find_weights("tiny").name == "model-tiny.h5"
    with pytest.raises(UsageError, match="crepe-full needs"):
        crepe.find_weights("full")
    mine = tmp_path / "mine.h5"
    with pytest.raises(UsageError, match="no file of CREPE weights"):
        crepe.find_weights("", mine)
    mine.touch()
    assert crepe.find_weights("", mine) == mine
    monkeypatch.setenv(crepe.WEIGHTS_VARIABLE, str(mine))
    assert crepe.find_weights() == mine
