from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
import typer

from ddsp_cli import dataset
from ddsp_cli.analysis import extract
from ddsp_cli.arrays import runs
from ddsp_cli.audio.read import OPPOSITE
from ddsp_cli.config import FeatureSpec
from ddsp_cli.dataset import tfrecord, workers
from ddsp_cli.errors import DatasetError, ExitCode, InputError, OutputError, UsageError
from ddsp_cli.workflows.prepare import SPEECH, PrepareResult, prepare
from fixtures import melody
from performance_fixtures import babble

NOTES = (57, 60, 64, 62, 59, 67, 65, 69)


def record(path: Path, *transpositions: int, rate_hz: int = 16000, gain: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = [melody(tuple(n + t for n in NOTES), 0.6, 0.2, rate_hz) for t in transpositions]
    soundfile.write(path, 0.2 * gain * np.concatenate(sound), rate_hz, subtype="FLOAT")


@pytest.fixture
def wavs(tmp_path: Path) -> Path:
    """Three recordings of one player, 6.6 s each, and other files as in any such folder."""
    for i, rate_hz in enumerate((16000, 44100, 48000)):
        record(tmp_path / "wavs" / f"take {i}.wav", i, rate_hz=rate_hz)
    (tmp_path / "wavs" / "lyrics.txt").write_text("la la la", encoding="utf-8")
    return tmp_path / "wavs"


def content(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def make(wavs: Path, folder: str = "set", **options: object) -> PrepareResult:
    options = {"sample_rate_hz": 16000, "report": False, **options}  # a report takes as long as all else
    return prepare([wavs], out=wavs.parent / folder, workers=1, **options)  # type: ignore[arg-type]


def test_recordings_become_windows_to_train_on(wavs, tmp_path):
    told = []
    result = make(wavs, progress=lambda *what: told.append(what), report=True)
    assert (result.n_recordings, result.n_used, result.skipped) == (3, 3, ())
    assert result.note_s == pytest.approx(2 * 8 * 0.6, rel=0.1)
    assert 56 < result.lowest_midi < 60 and 68 < result.highest_midi < 72
    assert result.quietest_db < result.loudest_db
    assert told[0][0] == "measuring" and told[-1][0] == "drawing the report"
    assert all(done <= total for _, done, total in told)

    data = dataset.load(result.folder)
    assert (len(data.train), len(data.validation)) == (result.n_train, result.n_validation)
    assert result.n_train == -(-round(result.train_s * 250) // 1000)
    for examples in (data.train, data.validation):
        assert examples.audio.shape == (len(examples), 64000)
        assert examples.f0_hz.shape == examples.power_db.shape == (len(examples), 1000)
    assert sorted(r.split for r in data.manifest.recordings) == ["train", "train", "validation"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["set", "wavs"]
    assert {entry.name for entry in result.folder.iterdir()} == {
        "dataset.yaml", "measured", "report.html",
        "train.tfrecord-00000-of-00001", "validation.tfrecord-00000-of-00001",
    }  # fmt: skip


def test_a_remark_tells_of_channels_of_opposite_polarity(wavs):
    """In the words of a transfer, also where another run measured the recording."""
    audio, rate_hz = soundfile.read(wavs / "take 1.wav", dtype="float32")
    soundfile.write(wavs / "take 1.wav", np.stack([audio, -audio], axis=1), rate_hz, subtype="FLOAT")
    audio, rate_hz = soundfile.read(wavs / "take 2.wav", dtype="float32")
    soundfile.write(wavs / "take 2.wav", np.stack([audio, audio], axis=1), rate_hz, subtype="FLOAT")
    result = make(wavs)
    assert result.n_used == 3
    for notes in (result.notes, make(wavs, level="keep", force=True).notes):
        assert [(Path(name).name, text) for name, text in notes if "channel" in text] == [("take 1.wav", OPPOSITE)]


def test_features_agree_with_the_sound_beside_them(wavs):
    data = dataset.load(make(wavs).folder)
    for audio, f0_hz, power_db in zip(data.train.audio, data.train.f0_hz, data.train.power_db, strict=True):
        again = extract.measure(audio)
        inner = slice(20, -20)  # windows were cut from a longer sound
        both = (f0_hz > 0) & (again.f0_hz > 0)
        np.testing.assert_allclose(again.power_db[inner], power_db[inner], atol=0.01)
        assert np.abs(1200 * np.log2(again.f0_hz[both] / f0_hz[both])).mean() < 10
        assert both.sum() > 0.9 * max((f0_hz > 0).sum(), (again.f0_hz > 0).sum())


@pytest.mark.parametrize("rate_hz", [44100, 48000])
def test_models_of_other_rates_get_their_own_sound(wavs, rate_hz):
    result = make(wavs, sample_rate_hz=rate_hz)
    data = dataset.load(result.folder)
    assert data.train.audio.shape[1] == 4 * rate_hz
    example = next(tfrecord.read_examples(result.folder / next(iter(data.manifest.train.shards))))
    assert example["audio_16k"].shape == (64000,)
    seconds = np.arange(40) * 0.1
    loud = {name: [np.abs(example[name][round(s * rate) : round((s + 0.1) * rate)]).max() for s in seconds]
            for name, rate in (("audio", rate_hz), ("audio_16k", 16000))}  # fmt: skip
    np.testing.assert_allclose(loud["audio"], loud["audio_16k"], atol=0.03)


def test_the_same_recordings_give_the_same_bytes(wavs):
    folders = [make(wavs, name, name="x", report=True).folder for name in ("one", "two")]
    contents = [content(folder) for folder in folders]
    assert contents[0] == contents[1]


def test_worker_processes_change_nothing(wavs):
    alone = make(wavs, "alone", name="x").folder
    together = prepare(
        [wavs], name="x", out=wavs.parent / "together", workers=2, sample_rate_hz=16000, report=False
    ).folder
    assert content(alone) == content(together)


def test_a_data_set_is_named_after_its_folder(wavs, monkeypatch):
    monkeypatch.chdir(wavs.parent)
    assert prepare([Path("wavs")], workers=1, report=False).folder == Path("datasets") / "wavs"
    monkeypatch.chdir(wavs)
    assert prepare([Path()], workers=1, progress=None, report=False).name == "wavs"


def test_one_bad_file_never_stops_the_rest(wavs):
    (wavs / "text 🎻.wav").write_text("not audio")
    (wavs / "empty.wav").touch()
    soundfile.write(wavs / "silence.wav", np.zeros(32000), 16000)
    soundfile.write(wavs / "nan.wav", np.full(32000, np.nan), 16000, subtype="FLOAT")
    soundfile.write(wavs / "noise.wav", np.random.default_rng(0).normal(size=32000) * 0.05, 16000)
    (wavs / "copy.wav").write_bytes((wavs / "take 0.wav").read_bytes())
    result = make(wavs)
    reasons = {Path(name).name: reason for name, reason in result.skipped}
    assert set(reasons) == {"text 🎻.wav", "empty.wav", "silence.wav", "nan.wav", "noise.wav", "take 0.wav"}
    for name, part in (("text 🎻.wav", "not a"), ("empty.wav", "empty"), ("silence.wav", "silent"),
                       ("nan.wav", "NaN"), ("noise.wav", "no pitch"), ("take 0.wav", "copy of")):  # fmt: skip
        assert part in reasons[name]
    assert str(wavs.parent) not in (result.folder / "dataset.yaml").read_text(encoding="utf-8")


def test_a_single_recording_is_parted_for_validation(tmp_path):
    record(tmp_path / "solo.wav", 0, 2, 4)
    result = make(tmp_path / "solo.wav")
    (recording,) = dataset.load_manifest(result.folder).recordings
    assert recording.split == "both"
    assert result.name == "set"
    assert 0.04 < result.validation_s / (result.train_s + result.validation_s) < 0.16


def test_levels_are_matched_by_folder_or_kept(tmp_path):
    for folder, gain in (("soft", 0.02), ("loud", 0.5)):
        for i in range(2):
            record(tmp_path / "wavs" / folder / f"{i}.wav", i + 5 * (folder == "soft"), gain=gain)
    spread = {}
    for level in ("match", "keep"):
        folder = make(tmp_path / "wavs", level, level=level).folder
        data = dataset.load(folder)
        assert np.abs(data.train.audio).max() <= 1.0
        gains = {r.path.split("/")[1]: r.gain_db for r in data.manifest.recordings}
        assert all(gain == 0 for gain in gains.values()) == (level == "keep")
        power = np.array(data.manifest.statistics.power_db)
        spread[level] = power[95] - power[5]
    assert gains["soft"] == 0
    assert spread["keep"] - spread["match"] > 10  # the two folders lie 28 dB apart


def test_sources_and_their_licence_stand_in_the_manifest(wavs, tmp_path):
    sources = tmp_path / "sources.yaml"
    sources.write_text(
        "licence: CC BY 4.0\nsources:\n- {title: Etudes, licence: CC BY 4.0, attribution: 'Zoë', url: ''}\n",
        encoding="utf-8",
    )
    manifest = dataset.load_manifest(make(wavs, sources=sources).folder)
    assert manifest.licence == "CC BY 4.0"
    assert [source.attribution for source in manifest.sources] == ["Zoë"]
    assert dataset.load_manifest(make(wavs, "other", sources=sources, licence="CC0").folder).licence == "CC0"
    for text, reason in (("sources: [{titel: x}]", "titel"), ("licence: x", "sources"), ("[", "not valid YAML")):
        sources.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=reason):
            make(wavs, "third", sources=sources)
    with pytest.raises(InputError, match="cannot be read"):
        make(wavs, "third", sources=tmp_path / "nowhere.yaml")


def test_too_little_or_nothing_is_an_error_that_says_why(tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(32000), 16000)
    with pytest.raises(InputError, match=r"silence\.wav is silent"):
        prepare([tmp_path / "silence.wav"], out=tmp_path / "set", workers=1)
    record(tmp_path / "short.wav", 0)
    with pytest.raises(InputError, match=r"only 4.* s of notes"):
        prepare([tmp_path / "short.wav", tmp_path / "silence.wav"], out=tmp_path / "set", workers=1)
    with pytest.raises(InputError, match="does not exist"):
        prepare([tmp_path / "nowhere"], out=tmp_path / "set")
    assert {entry.name for entry in tmp_path.iterdir()} == {"silence.wav", "short.wav"}


def test_mistyped_paths_do_not_stop_the_others(wavs, tmp_path, monkeypatch, capsys):
    from ddsp_cli.cli.prepare import prepare as command

    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(typer.Exit) as ended:
        command(["typo", str(wavs), "empty"], workers=1, report=False)
    assert ended.value.exit_code == ExitCode.PARTIAL
    said = capsys.readouterr()
    assert f"ddsp train --instrument {wavs.name}" in said.out  # not named after the missing one
    assert said.err.splitlines()[-3:-1] == ["2 of 3 inputs could not be used:", "  typo does not exist."]
    assert prepare(["empty", wavs], name=wavs.name, workers=1).unchanged
    with pytest.raises(InputError, match="typo does not exist"):
        prepare(["typo", "empty"], workers=1)


def test_what_stands_there_is_kept_unless_forced(wavs):
    folder = make(wavs).folder
    before = (folder / "dataset.yaml").stat().st_mtime_ns
    again = make(wavs)
    assert again.unchanged and (folder / "dataset.yaml").stat().st_mtime_ns == before
    with pytest.raises(OutputError, match="another level"):
        make(wavs, level="keep")
    (wavs / "take 2.wav").rename(wavs.parent / "away.wav")
    with pytest.raises(OutputError, match="not given now: wavs/take 2"):
        make(wavs)
    record(wavs / "take 3.wav", 7)
    assert make(wavs, force=True).n_recordings == 3
    (wavs.parent / "mine").mkdir()
    (wavs.parent / "mine" / "diary.txt").touch()
    with pytest.raises(OutputError, match="not a data set"):
        make(wavs, "mine", force=True)


def test_a_data_set_grows_and_measures_only_what_is_new(wavs, monkeypatch):
    make(wavs, "grown", name="x")
    record(wavs / "take 3.wav", 7)
    seen = []
    measure = workers.measure
    monkeypatch.setattr(workers, "measure", lambda job, *rest: seen.append(job.name) or measure(job, *rest))
    grown = make(wavs, "grown", name="x")
    assert grown.n_recordings == 4 and not grown.unchanged
    assert seen == ["wavs/take 3.wav"]
    monkeypatch.undo()
    assert content(grown.folder) == content(make(wavs, "anew", name="x").folder)
    assert make(wavs, "grown", name="x").unchanged
    assert dataset.load_manifest(make(wavs, "grown", name="x", licence="CC0").folder).licence == "CC0"


def test_an_interruption_leaves_nothing(wavs):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(wavs, progress=interrupt)
    assert [entry.name for entry in wavs.parent.iterdir()] == ["wavs"]


@pytest.mark.parametrize(
    "options",
    [{"sample_rate_hz": 22050}, {"pitch": "crepe"}, {"pitch": "ear"}, {"workers": 0}, {"validation_share": 0.9},
     {"level": "loud"}, {"name": "a/b"}],
)  # fmt: skip
def test_senseless_options_are_refused(wavs, options):
    with pytest.raises(UsageError):
        prepare([wavs], **options)


def test_damaged_and_foreign_data_sets_are_refused(wavs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = make(wavs, "violin").folder
    usual = make(wavs, str(tmp_path / "datasets" / "wavs")).folder
    for recordings in (Path("wavs"), tmp_path / "elsewhere" / "wavs"):  # those it was made of; its name
        with pytest.raises(DatasetError) as confused:
            dataset.load(recordings)
        assert confused.value.hint == f"Did you mean {usual.relative_to(tmp_path)}?"
    usual.rename(tmp_path / "moved")
    with pytest.raises(DatasetError, match="no data set") as missing:
        dataset.load(tmp_path / "violon")
    assert "violin" in missing.value.hint
    with pytest.raises(DatasetError, match=r"no dataset\.yaml"):
        dataset.load(wavs)
    manifest = dataset.load_manifest(folder)
    other = msgspec.structs.replace(manifest.features, loudness_window_samples=2048)
    with pytest.raises(DatasetError, match="loudness_window_samples 512 against 2048"):
        dataset.load(folder, other)
    dataset.load(folder, FeatureSpec(frame_rate_hz=50, pitch="pyin"))
    yaml = folder / "dataset.yaml"
    text = yaml.read_text(encoding="utf-8")
    for old, new, reason in (("format: 1", "format: 2", "format 2"), ("window_s", "windows", "windows"),
                             ("n_examples: ", "n_examples: 99999", "99999")):  # fmt: skip
        yaml.write_text(text.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(DatasetError, match="damaged or was edited"):
            dataset.load(folder)
        by_hand = text.replace(old, new, 1).rpartition("# sha256")[0]
        yaml.write_text(by_hand, encoding="utf-8")
        with pytest.raises(DatasetError, match=reason):
            dataset.load(folder)
    yaml.write_text(text, encoding="utf-8")
    shard = folder / next(iter(manifest.train.shards))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(DatasetError, match="damaged"):
        dataset.load(folder)


def test_chords_are_left_out_unless_wanted(tmp_path):
    single = 0.2 * melody(NOTES, 0.6, 0.2)
    chords = 0.2 * (melody(NOTES, 0.6, 0.2) + melody(tuple(note + 4 for note in NOTES), 0.6, 0.2))
    (tmp_path / "wavs").mkdir()
    soundfile.write(tmp_path / "wavs" / "mixed.wav", np.concatenate([single, single, chords, single]), 16000)
    soundfile.write(tmp_path / "wavs" / "chords.wav", chords[::-1], 16000)
    result = make(tmp_path / "wavs")
    assert result.n_used == 1 and "polyphonic throughout" in result.skipped[0][1]
    assert result.n_doubts["polyphony"] >= 2
    (mixed,) = (r for r in dataset.load_manifest(result.folder).recordings if r.split != "none")
    start = len(single) * 2 / 16000
    within = [doubt for doubt in mixed.doubts if doubt.kind == "polyphony"]
    assert all(start - 0.5 < doubt.start_s and doubt.end_s < start * 1.5 + 0.5 for doubt in within)
    assert sum(doubt.end_s - doubt.start_s for doubt in within) > 0.7 * 8 * 0.6
    kept = make(tmp_path / "wavs", "kept", keep_polyphonic=True)
    assert kept.n_used == 2 and kept.minutes > result.minutes + 10 / 60
    assert kept.keep_polyphonic and kept.polyphonic_s == result.polyphonic_s


def test_a_click_is_rounded_off_and_music_is_not():
    from ddsp_cli.dataset.writer import soft_limit

    audio = np.linspace(-5, 5, 1001)
    limited = soft_limit(audio)
    assert np.abs(limited).max() <= 0.99 and (np.diff(limited) >= 0).all()
    inside = np.abs(audio) <= 0.9
    np.testing.assert_array_equal(limited[inside], audio[inside])


def splits(result: PrepareResult) -> dict[str, str]:
    return {Path(r.path).name: r.split for r in dataset.load_manifest(result.folder).recordings}


def test_recordings_are_held_out_and_left_out_by_name(wavs):
    record(wavs / "take 3.wav", 4, 5, 6)
    result = make(wavs, hold_out=["*1.wav", "take 2.wav"], leave_out=["take 0.wav"])
    assert splits(result) == {"take 0.wav": "none", "take 1.wav": "validation", "take 2.wav": "validation",
                              "take 3.wav": "train"}  # fmt: skip
    assert result.skipped == (("wavs/take 0.wav", "matches the leave-out pattern take 0.wav"),)
    assert make(wavs, hold_out=["take 2.wav", "*1.wav"], leave_out=["take 0.wav"]).unchanged
    with pytest.raises(OutputError, match="made with another choice of recordings to hold out"):
        make(wavs, hold_out=["*1.wav"], leave_out=["take 0.wav"])
    with pytest.raises(OutputError, match="made with another choice of recordings to leave out"):
        make(wavs, hold_out=["*1.wav", "take 2.wav"])


def test_something_must_be_left_to_learn_from_and_to_judge_by(wavs, tmp_path):
    soundfile.write(wavs / "silence.wav", np.zeros(16000), 16000)
    with pytest.raises(InputError, match=r"none of the recordings can be used: .*0.wav is held out; .*is held out"):
        make(wavs, hold_out=["take*"])
    with pytest.raises(InputError, match="none of the held-out recordings can be used"):
        make(wavs, hold_out=["silence.wav"])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["wavs"]


def test_rumble_below_the_notes_is_taken_out(wavs):
    record(wavs / "take 3.wav", 4, 5, 6)
    sound, _ = soundfile.read(wavs / "take 0.wav")
    rumble = 0.02 * np.sin(2 * np.pi * 40 * np.arange(len(sound)) / 16000)
    soundfile.write(wavs / "take 0.wav", sound + rumble, 16000, subtype="FLOAT")
    data = dataset.load(make(wavs, level="keep", hold_out=["take 0.wav"]).folder)
    assert data.manifest.lowest_hz == pytest.approx(220, rel=0.01)
    spectrum = np.abs(np.fft.rfft(data.validation.audio[0] * np.hanning(64000))) / 16000  # of a sine: its peak
    assert spectrum[4 * 40] < 0.02 * 2e-3
    assert spectrum[4 * 200 :].max() > 0.01


def test_music_without_a_pause_still_shows_how_to_rest(tmp_path):
    record(tmp_path / "wavs" / "long.wav", *range(12), *range(12))
    result = make(tmp_path / "wavs", validation_share=0.0)
    data = dataset.load(result.folder)
    assert result.n_train == -(-(1.03 * result.train_s) // 4) > -(-result.train_s // 4)
    audio, power_db = data.train.audio.reshape(-1), data.train.power_db.reshape(-1)
    starts, stops = runs(power_db == -80)
    longest = int(np.argmax(stops - starts))
    assert stops[longest] - starts[longest] > 1.9 * 250
    assert np.abs(audio[64 * starts[longest] + 1024 : 64 * stops[longest] - 1024]).max() < 1e-9


def test_the_last_window_is_filled_with_the_beginning(wavs):
    """Silence there would be a third of the validation split of half a minute. Repeated notes count once."""
    result = make(wavs)
    data = dataset.load(result.folder)
    for examples, used_s in ((data.train, result.train_s), (data.validation, data.manifest.validation.used_s)):
        audio, f0_hz = examples.audio.reshape(-1), examples.f0_hz.reshape(-1)
        end = round(250 * used_s)
        assert end < len(f0_hz) < 2 * end
        assert audio[64 * end :] == pytest.approx(audio[: len(audio) - 64 * end], abs=1e-6)
        assert np.mean(f0_hz[end:] == f0_hz[: len(f0_hz) - end]) > 0.9
    counted = data.train.f0_hz.reshape(-1)[: round(250 * result.train_s)]
    assert result.note_s == pytest.approx(np.count_nonzero(counted) / 250, abs=0.01)


def test_folders_of_several_instruments_label_the_frames(tmp_path):
    for i, name in enumerate(("flute", "violin")):
        for take in range(2):
            record(tmp_path / "wavs" / name / f"take {take}.wav", 3 * i + take)
    data = dataset.load(make(tmp_path / "wavs").folder)
    assert data.manifest.instruments == ["flute", "violin"] == list(data.train.instruments)
    labels = data.train.instrument
    assert labels.shape == data.train.f0_hz.shape and set(np.unique(labels)) == {0.0, 1.0}
    voiced = data.train.f0_hz > 0  # the two takes that are trained on differ by three or more semitones
    lowest = [data.train.f0_hz[voiced & (labels == i)].min() for i in (0, 1)]
    assert lowest[1] > 1.1 * lowest[0]


def test_one_folder_has_no_labels(wavs):
    data = dataset.load(make(wavs).folder)
    assert data.manifest.instruments == [] and data.train.instrument is None


def test_speech_is_named_and_what_is_sung_is_not(wavs, tmp_path):
    soundfile.write(wavs / "talk.wav", 3.0 * babble(14.0), 16000)
    result = make(wavs)
    assert [(name, SPEECH in remark) for name, remark in result.notes] == [("wavs/talk.wav", True)]
