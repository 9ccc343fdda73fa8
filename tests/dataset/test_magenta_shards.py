"""Data sets of `ddsp_prepare_tfrecord`: windows of 4 s that begin every second, in no order."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ddsp_cli import dataset
from ddsp_cli.analysis.extract import measure
from ddsp_cli.dataset import tfrecord
from ddsp_cli.errors import DatasetError, InputError, OutputError, UsageError
from ddsp_cli.workflows.prepare import prepare
from fixtures import melody

SHARED = Path(__file__).parents[2].parent / "shared" / "golden" / "tfrecord"
NOTES = (57, 60, 64, 62, 59, 67, 65, 69)


def song(transposed: int) -> np.ndarray:
    """20 s, as long as upstream's chunks."""
    sound = 0.3 * melody(tuple(note + transposed for note in NOTES), 0.6, 0.2)
    return np.tile(sound, 4)[: 20 * 16000].astype(np.float32)


def windows(audio: np.ndarray, centred: bool, rate_hz: int = 250) -> list[dict[str, np.ndarray]]:
    """Makes a shard of 20 s as `ddsp_prepare_tfrecord` does, F0 32 ms early unless centred (then one frame more)."""
    features = measure(audio)
    step = 250 // rate_hz
    early = 0 if centred else 512 // 64
    f0_hz = np.pad(np.where(features.f0_hz > 0, features.f0_hz, 100.0)[early:], (0, early + 1), mode="edge")
    confidence = np.pad(features.f0_confidence[early:], (0, early + 1))
    found = []
    for second in range(17):
        first = second * 250
        frames = slice(first, first + 1000 + (1 if centred else 0), step)
        sound = audio[second * 16000 : (second + 4) * 16000]
        found.append({
            "audio": sound, "audio_16k": sound, "f0_hz": f0_hz[frames], "f0_confidence": confidence[frames],
            "loudness_db": np.full(len(f0_hz[frames]), -30.0),
        })  # fmt: skip
    return found


def write(folder: Path, examples: list[dict[str, np.ndarray]], n_shards: int = 2) -> Path:
    folder.mkdir()
    order = np.random.default_rng(0).permutation(len(examples))
    for shard, part in enumerate(np.array_split(order, n_shards)):
        with (folder / f"train.tfrecord-{shard:05d}-of-{n_shards:05d}").open("wb") as stream:
            for index in part:
                stream.write(tfrecord.encode_record(tfrecord.encode_example(examples[index])))
    return folder


@pytest.mark.parametrize(("centred", "rate_hz"), [(True, 250), (False, 250), (True, 50)])
def test_windows_are_put_together_again(tmp_path, centred, rate_hz):
    songs = [song(0), song(5)]
    folder = write(tmp_path / "theirs", [w for audio in songs for w in windows(audio, centred, rate_hz)])
    result = prepare(
        [folder], name="ours", out=tmp_path / "ours", level="keep", workers=1, report=False, sample_rate_hz=16000
    )
    assert result.n_recordings == 2  # 34 windows
    assert 36 < result.minutes * 60 <= 40
    data = dataset.load(result.folder)
    assert data.manifest.features.pitch == "crepe"
    assert {recording.split for recording in data.manifest.recordings} == {"train", "validation"}
    wrong = total = 0
    for examples in (data.train, data.validation):
        for audio, f0_hz, power_db in zip(examples.audio, examples.f0_hz, examples.power_db, strict=True):
            again = measure(audio)
            inner = slice(20, -20)
            np.testing.assert_allclose(again.power_db[inner], power_db[inner], atol=0.01)
            both = (f0_hz > 0) & (again.f0_hz > 0)
            wrong += (np.abs(1200 * np.log2(again.f0_hz[both] / f0_hz[both])) > 50).sum()
            total += both.sum()
    # Pitch 8 frames early would be wrong in 8 of about 150 frames of each note.
    assert wrong / total < 0.02


def test_data_sets_without_sound_at_16_khz_are_older_ones(tmp_path):
    examples = windows(song(0), True)
    for example in examples:
        del example["audio_16k"]
    folder = write(tmp_path / "theirs", examples)
    assert prepare([folder], out=tmp_path / "ours", workers=1, report=False, sample_rate_hz=16000).minutes * 60 > 18


def test_other_rates_come_out_at_the_wanted_one(tmp_path):
    examples = windows(song(0), True)
    for example in examples:
        example["audio"] = np.repeat(example["audio"], 3)  # 48 kHz
    folder = write(tmp_path / "theirs", examples)
    for rate_hz in (16000, 48000):
        result = prepare([folder], out=tmp_path / f"{rate_hz}", sample_rate_hz=rate_hz, workers=1, report=False)
        assert dataset.load(result.folder).train.audio.shape[1] == 4 * rate_hz


def test_the_same_shards_are_not_prepared_twice(tmp_path):
    first, second, third = windows(song(0), True), windows(song(5), True), windows(song(-4), True)
    folder = write(tmp_path / "theirs", first + second)

    def run(**options):
        return prepare([folder], out=tmp_path / "ours", workers=1, report=False, sample_rate_hz=16000, **options)

    run()
    assert run().unchanged
    (tmp_path / "more").mkdir()
    with (tmp_path / "more" / "train.tfrecord-00000-of-00001").open("wb") as stream:
        for example in third:
            stream.write(tfrecord.encode_record(tfrecord.encode_example(example)))
    grown = prepare([folder, tmp_path / "more"], out=tmp_path / "ours", workers=1, report=False, sample_rate_hz=16000)
    assert not grown.unchanged and grown.n_recordings == 3
    with pytest.raises(OutputError, match=r"not given now: .*tfrecord-00000-of-00001 #"):
        run()
    run(force=True)
    for shard in folder.iterdir():
        shard.unlink()
    folder.rmdir()
    write(folder, first + third)  # other sound under the same names
    with pytest.raises(OutputError, match="not given now"):
        run()


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/golden/tfrecord")
def test_a_data_set_of_magenta_can_be_trained_on(tmp_path):
    from ddsp_cli.dataset import load_manifest

    with pytest.raises(DatasetError) as refused:
        load_manifest(SHARED)
    assert "prepare a data set" in refused.value.hint
    result = prepare([SHARED], name="theirs", out=tmp_path / "ours", workers=1, report=False, sample_rate_hz=16000)
    data = dataset.load(result.folder)
    assert len(data.train) >= 1 and result.note_s > 5
    assert np.isfinite(data.train.audio).all() and (data.train.f0_hz > 0).mean() > 0.3


def test_what_is_no_such_data_set_is_refused(tmp_path):
    good = windows(song(0), True)
    write(tmp_path / "a", good)
    soundfile.write(tmp_path / "a.wav", song(0), 16000)
    with pytest.raises(UsageError, match="cannot be mixed"):
        prepare([tmp_path / "a", tmp_path / "a.wav"], out=tmp_path / "set")
    cases = {
        "no audio": ([{"f0_hz": np.ones(10)}], "usable values of audio"),
        "no f0": ([{name: values for name, values in good[0].items() if name != "f0_hz"}], "usable values of f0_hz"),
        "nan": ([good[0] | {"audio": np.full(64000, np.nan)}], "usable values of audio"),
        "mixed": ([good[0], {name: values[: len(values) // 2] for name, values in good[1].items()}], "another length"),
        "odd": ([good[0] | {"f0_hz": np.ones(7), "f0_confidence": np.ones(7)}], "not a whole hop"),
        "uneven": ([good[0] | {"f0_confidence": np.ones(7)}], "do not belong together"),
    }
    for name, (examples, reason) in cases.items():
        with pytest.raises(InputError, match=reason):
            prepare([write(tmp_path / name, examples, 1)], out=tmp_path / "set", workers=1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x.tfrecord").touch()
    with pytest.raises(InputError, match="no examples"):
        prepare([tmp_path / "empty"], out=tmp_path / "set", workers=1)
    assert not (tmp_path / "set").exists()
