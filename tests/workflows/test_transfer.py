"""Transfer from file to file: length, alignment, rests, formats and names; no file is overwritten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ddsp_cli.adaptation import f0_cleanup
from ddsp_cli.audio import write
from ddsp_cli.audio.recording import ArrayRecording
from ddsp_cli.errors import InputError, ModelError, OutputError, UsageError
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.workflows import models, performance
from ddsp_cli.workflows.performance import make_options
from ddsp_cli.workflows.reverb import reverb_files
from ddsp_cli.workflows.transfer import transfer_files
from fixtures import make_bundle, melody, small_model
from transfer_fixtures import transfer


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with two instruments and a voice."""
    folder = tmp_path_factory.mktemp("desk")
    make_bundle(folder / "models" / "testophone")
    make_bundle(folder / "models" / "otherophone", seed=5)
    soundfile.write(folder / "voice.wav", melody(rate_hz=22050), 22050)
    return folder


@pytest.fixture(autouse=True)
def at_desk(desk, monkeypatch, tmp_path):
    monkeypatch.chdir(desk)


def test_writes_beside_with_the_inputs_length_rate_and_depth(desk, tmp_path):
    source = soundfile.info("voice.wav")
    (result,) = transfer(["voice.wav"], "testophone")
    assert result.output == Path("voice_testophone.wav")
    made = soundfile.info(result.output)
    assert (made.frames, made.samplerate, made.subtype, made.channels) == (source.frames, 22050, "PCM_16", 1)
    assert result.n_segments == 3
    assert result.transpose_semitones == 12.0
    result.output.unlink()


@pytest.mark.parametrize("n_samples", [22050 * 2 + 1, 44100 * 2 - 317])
@pytest.mark.parametrize("rate_hz", [8000, 44100, 48000])
def test_length_is_exact_at_any_rate(tmp_path, n_samples, rate_hz):
    audio = melody(notes_midi=(60, 64), rate_hz=rate_hz)[:n_samples]
    soundfile.write(tmp_path / "in.wav", audio, rate_hz)
    (result,) = transfer([tmp_path / "in.wav"], "testophone", out=tmp_path / "out.wav")
    made = soundfile.info(tmp_path / "out.wav")
    doubled = 2 if rate_hz == 8000 else 1  # never below the instrument's own rate
    assert (made.frames, made.samplerate) == (doubled * len(audio), doubled * rate_hz)
    assert result.seconds == len(audio) / rate_hz
    if doubled > 1:
        (result,) = transfer([tmp_path / "in.wav"], "testophone", tmp_path / "low.wav", sample_rate_hz=rate_hz)
        assert (soundfile.info(result.output).samplerate, result.sample_rate_hz) == (rate_hz, rate_hz)


def test_notes_sound_when_they_did_and_rests_are_silent(tmp_path):
    # The room of this instrument lasts a quarter of a second.
    soundfile.write(tmp_path / "in.wav", melody(rest_s=1.0), 16000)
    transfer([tmp_path / "in.wav"], "testophone", out=tmp_path / "out.wav")
    audio, _ = soundfile.read(tmp_path / "out.wav")
    level_db = 20 * np.log10(np.sqrt(np.mean(audio[: len(audio) // 160 * 160].reshape(-1, 160) ** 2, axis=1)) + 1e-9)
    t = np.arange(len(level_db)) / 100
    for begin in (1.0, 2.5, 4.0):
        assert level_db[(t > begin + 0.1) & (t < begin + 0.4)].min() > -50
        assert level_db[(t > begin - 0.5) & (t < begin - 0.06)].max() < -60
    loud = np.flatnonzero(level_db > level_db.max() - 20)
    assert abs(t[loud[0]] - 1.0) < 0.05
    assert level_db[-20:].max() < -60


def test_channels_of_opposite_polarity_are_played_by_the_left_one(tmp_path):
    audio = melody()
    soundfile.write(tmp_path / "left.wav", audio, 16000)
    soundfile.write(tmp_path / "both.wav", np.stack([audio, -audio], axis=1), 16000)
    alone, both = transfer([tmp_path / "left.wav", tmp_path / "both.wav"], "testophone", out=tmp_path)
    assert both.output.read_bytes() == alone.output.read_bytes()
    assert [remark for remark in both.remarks if remark not in alone.remarks] == [
        "its right channel is the left one inverted, so only the left one is used"
    ]


def test_same_seed_same_file(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        transfer(["voice.wav"], "testophone", out=tmp_path / f"{name}.wav", seed=seed)
    a, b, c = ((tmp_path / f"{name}.wav").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_transpose_is_the_requested_one(tmp_path):
    (result,) = transfer(["voice.wav"], "testophone", out=tmp_path / "a.wav", transpose=-5.0)
    assert result.transpose_semitones == -5.0
    with pytest.raises(UsageError, match="out of range"):
        make_options(transpose=1000.0)


def test_peak_fits(tmp_path, monkeypatch):

    monkeypatch.setattr(write, "PEAK_LIMIT", 0.01)
    (result,) = transfer(["voice.wav"], "testophone", out=tmp_path / "a.wav")
    audio, _ = soundfile.read(tmp_path / "a.wav")
    assert np.abs(audio).max() <= 0.0101
    assert result.gain_db < 0
    assert result.peak == pytest.approx(0.01, rel=1e-3)


def test_long_sound_waits_on_disk_and_is_the_same(tmp_path, monkeypatch):

    transfer(["voice.wav"], "testophone", out=tmp_path / "a.wav")
    monkeypatch.setattr(write, "SPOOL_BYTES", 1000)
    transfer(["voice.wav"], "testophone", out=tmp_path / "b.wav")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


@pytest.mark.parametrize(
    ("subtype", "suffix", "expected"),
    [("PCM_16", ".wav", "PCM_16"), ("PCM_24", ".wav", "PCM_24"), ("PCM_32", ".wav", "PCM_32"),
     ("FLOAT", ".wav", "FLOAT"), ("PCM_U8", ".wav", "PCM_16"), ("PCM_16", ".au", "PCM_16"),
     ("PCM_32", ".aiff", "PCM_32"), ("PCM_32", ".flac", "PCM_24")],
)  # fmt: skip
def test_output_has_the_inputs_depth(tmp_path, subtype, suffix, expected):
    soundfile.write(tmp_path / "in.wav", melody(notes_midi=(60,)), 16000, subtype=subtype)
    transfer([tmp_path / "in.wav"], "testophone", out=tmp_path / f"out{suffix}")
    assert soundfile.info(tmp_path / f"out{suffix}").subtype == expected


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".mp3", ".aiff"])
def test_suffix_decides_the_format(tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    transfer(["voice.wav"], "testophone", out=out)
    info = soundfile.info(out)
    assert info.format == {".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3", ".aiff": "AIFF"}[suffix]
    assert info.duration == pytest.approx(soundfile.info("voice.wav").duration, abs=0.1)


def test_sample_rate_can_be_chosen_and_stereo_is_read(tmp_path):
    audio = melody(notes_midi=(60,))
    soundfile.write(tmp_path / "in.flac", np.stack([audio, 0.5 * audio], axis=1), 16000)
    transfer([tmp_path / "in.flac"], "testophone", out=tmp_path / "out.wav", sample_rate_hz=48000)
    info = soundfile.info(tmp_path / "out.wav")
    assert (info.samplerate, info.frames) == (48000, 3 * len(audio))


def test_folders_go_into_a_new_folder(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        soundfile.write(tmp_path / "in" / folder / "take.wav", melody(notes_midi=(60,)), 16000)
    results = transfer([tmp_path / "in"], "testophone", out=tmp_path / "out")
    assert [result.output.name for result in results] == ["take_testophone.wav", "take_testophone-2.wav"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(r.output.name for r in results)
    with pytest.raises(UsageError, match="one file"):
        transfer([tmp_path / "in"], "testophone", out=tmp_path / "out.wav")


def test_nothing_is_overwritten_without_force(tmp_path):
    out = tmp_path / "out.wav"
    out.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        transfer(["voice.wav"], "testophone", out=out)
    assert out.read_bytes() == b"precious"
    transfer(["voice.wav"], "testophone", out=out, force=True)
    assert out.read_bytes()[:4] == b"RIFF"


def test_input_is_never_the_output(tmp_path):
    with pytest.raises(OutputError, match="input itself"):
        transfer(["voice.wav"], "testophone", out=Path("voice.wav"), force=True)


def test_no_input_is_overwritten_by_the_output_of_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "a_testophone.wav"):
        soundfile.write(name, melody(notes_midi=(60,)), 16000)
    Path("edit.csv").write_text("time_s,f0_hz,power_db\n0,440,-20\n1,440,-20\n", encoding="utf-8")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    make_bundle(tmp_path / "models" / "testophone")
    for inputs, options, parameter in (
        (["a.wav", "a_testophone.wav"], {}, "out"),
        ([], {"out": "o.wav", "from_controls": "edit.csv", "controls": "edit.csv"}, "controls"),
        (["a.wav"], {"out": "o.wav", "from_notes": "edit.csv", "notes": "edit.csv"}, "notes"),
        (["a.wav"], {"out": "a_testophone.wav", "room": "a_testophone.wav"}, "out"),
    ):
        with pytest.raises(OutputError, match=r"input") as refused:
            transfer(inputs, "testophone", force=True, **options)
        assert refused.value.parameter == parameter
    with pytest.raises(OutputError, match=r"a_testophone\.wav is also an input"):
        reverb_files("a.wav", "a_testophone.wav", "a_testophone.wav", force=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_one_file_does_not_hold_two_outputs(tmp_path):
    """All paths are compared before any work: a new file and one that may be replaced."""
    for name in ("new.csv", "old.csv"):
        if name == "old.csv":
            (tmp_path / name).write_bytes(b"precious")
        outputs = {"controls": tmp_path / name, "notes": tmp_path / "." / name}
        with pytest.raises(OutputError, match=f"{name} cannot hold both the curves and the notes") as refused:
            transfer(["voice.wav"], "testophone", out=tmp_path / "out.wav", force=True, **outputs)
        assert refused.value.parameter == "notes"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"old.csv": b"precious"}


def test_paths_are_checked_before_the_instrument_is_loaded(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        transfer(["nowhere.wav"], "testophone")
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, melody(notes_midi=(60,)), 16000)
    with pytest.raises(InputError, match="nowhere"):
        transfer([tmp_path / "nowhere.wav", tmp_path / "neither.wav"], "testophone", out=tmp_path / "new")
    with pytest.raises(UsageError, match="2 sounds to write"):  # where it was mistyped it counts
        transfer([tmp_path / "a.wav", tmp_path / "nowhere.wav"], "testophone", out=tmp_path / "one.wav")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.wav", "b.wav"]


def test_what_has_no_notes_is_refused_and_leaves_nothing(tmp_path):
    random = np.random.default_rng(0)
    sounds = {
        "silence": np.zeros(32000),
        "noise": 0.1 * random.standard_normal(32000),
        "clicks": 0.5 * (np.arange(32000) % 8000 == 4000),
    }
    for name, sound in sounds.items():
        soundfile.write(tmp_path / f"{name}.wav", sound, 16000)
        with pytest.raises(InputError, match="no notes were found in it"):
            transfer([tmp_path / f"{name}.wav"], "testophone", out=tmp_path / "new")
        assert not (tmp_path / "new").exists()
    soundfile.write(tmp_path / "sung.wav", melody(), 16000)  # the others of a batch are played
    batch = transfer([tmp_path / f"{name}.wav" for name in (*sounds, "sung")], "testophone", out=tmp_path / "new")
    assert [result.input.name for result in batch] == ["sung.wav"]
    assert [failure.input.name for failure in batch.failures] == [f"{name}.wav" for name in sounds]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sung_testophone.wav"]


def test_progress_goes_up_to_the_end(tmp_path):
    heard: dict[str, list[float]] = {}
    transfer(
        ["voice.wav"],
        "testophone",
        out=tmp_path / "out.wav",
        progress=lambda what, done, total: heard.setdefault(what, []).append(done / total),
    )
    assert list(heard) == ["voice.wav: listening", "voice.wav: playing"]
    for shares in heard.values():
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1.0, abs=0.01)


def test_plot_is_a_picture(tmp_path):
    (result,) = transfer(["voice.wav"], "testophone", out=tmp_path / "out.wav", plot=True)
    assert result.plot == tmp_path / "out.png"
    assert result.plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert result.plot.stat().st_size > 20_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.png", "out.wav"]


def test_names_are_found_here_then_by_path(desk, tmp_path):
    assert models.find("testophone") == Path("models/testophone")
    assert models.find(desk / "models" / "testophone") == desk / "models" / "testophone"
    assert {"testophone", "otherophone"} <= {entry.name for entry in models.catalogue()}
    with pytest.raises(ModelError, match="no instrument called testofone") as caught:
        models.find("testofone")
    assert "testophone" in caught.value.hint
    with pytest.raises(ModelError, match="is a file"):
        models.find("voice.wav")


def test_a_damaged_instrument_is_listed_as_such(desk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "broken").mkdir(parents=True)
    (tmp_path / "models" / "broken" / "model.yaml").write_text("format: [")
    (entry,) = [entry for entry in models.catalogue() if entry.name == "broken"]
    assert entry.card is None
    assert "YAML" in entry.problem


def test_finding_by_any_name_of_the_folder(desk, tmp_path):
    for name in ("models/testophone", "models/testophone/", "./models/testophone"):
        (result,) = transfer(["voice.wav"], name, out=tmp_path / "out.wav", force=True)
        assert result.instrument == "testophone"


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
        transfer_files([tmp_path / "voice.wav"], tmp_path / "a", out)
        audio, rate_hz = soundfile.read(out)
        windows = audio[: len(audio) // (rate_hz // 10) * (rate_hz // 10)].reshape(-1, rate_hz // 10)
        levels.append(10.0 * np.log10(np.mean(np.square(windows), axis=1) + 1e-10))
    loud = levels[0] > levels[0].max() - 10.0
    assert np.median(np.abs(levels[0] - levels[1])[loud]) < 2.0


def test_spans_are_read_in_one_pass():
    audio = np.arange(100_000, dtype=np.float32)
    spans = [(0, 10), (5, 30_000), (29_000, 50_000), (29_500, 31_000), (99_990, 100_050), (100_010, 100_020)]
    found = list(f0_cleanup.read_spans(ArrayRecording(audio), spans))
    for (first, end), part in zip(spans, found, strict=True):
        np.testing.assert_array_equal(part, audio[first:end])
