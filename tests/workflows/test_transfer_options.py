"""Every option of a transfer changes the sound as documented."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from ddsp_cli.adaptation.adapt import AdaptSettings
from ddsp_cli.adaptation.autotune import Key
from ddsp_cli.adaptation.segmentation import SegmentSettings
from ddsp_cli.errors import InputError, ModelError, OutputError, UsageError
from ddsp_cli.workflows.performance import make_options
from fixtures import impulse_response, melody
from transfer_fixtures import at_desk, desk, level_db, pitch_hz, play, transfer

__all__ = ["at_desk", "desk"]  # fixtures are found by their names


def table(path):
    names = path.read_text(encoding="utf-8").splitlines()[0].split(",")
    return dict(zip(names, np.loadtxt(path, delimiter=",", skiprows=1).T, strict=True))


def test_loudness_and_dynamics_drive_the_instrument(tmp_path):
    """Upstream computes both and then does not use them (reference/ddsp: F0LoudnessPreprocessor)."""
    for name, settings in (
        ("plain", AdaptSettings()),
        ("louder", AdaptSettings(louder_db=6.0)),
        ("own", AdaptSettings(dynamics=0.0)),
    ):
        play(tmp_path, name, settings=settings, controls=tmp_path / f"{name}.csv")
    plain, louder, own = (table(tmp_path / f"{name}.csv") for name in ("plain", "louder", "own"))
    notes = [slice(round((t + 0.2) * 250), round((t + 0.4) * 250)) for t in (0.4, 1.4, 2.4)]
    for note in notes[:2]:
        assert np.mean(louder["power_db"][note] - plain["power_db"][note]) == pytest.approx(6.0, abs=0.1)

    def spread(curves):
        return np.mean(curves["power_db"][notes[2]]) - np.mean(curves["power_db"][notes[0]])

    assert spread(plain) > spread(own) + 1.0
    sounds = {name: soundfile.read(tmp_path / f"{name}.wav")[0] for name in ("plain", "louder", "own")}
    for name in ("louder", "own"):
        assert np.abs(sounds[name] - sounds["plain"]).max() > 0.01 * np.abs(sounds["plain"]).max()


def test_autotune_is_heard(tmp_path):
    soundfile.write(tmp_path / "flat.wav", melody((68.7, 71.7, 75.7), note_s=0.6), 16000)
    options = {"source": tmp_path / "flat.wav", "transpose": 0.0, "room": "none"}
    plain, result = play(tmp_path, "plain", **options)
    assert result.key == ""
    settings = AdaptSettings(autotune=1.0, key=Key(9, "major"), tuning_semitones=0.0)
    tuned, result = play(tmp_path, "tuned", settings=settings, **options)
    assert result.key == "A major"
    assert 1200 * np.log2(pitch_hz(plain, 0.4, 0.8) / 440) == pytest.approx(-30, abs=8)
    assert 1200 * np.log2(pitch_hz(tuned, 0.4, 0.8) / 440) == pytest.approx(0, abs=8)


def test_threshold_decides_what_is_a_note(tmp_path):
    audio = melody((69, 69), note_s=0.6, rest_s=0.4)
    audio[: len(audio) // 2] *= 0.05
    soundfile.write(tmp_path / "in.wav", audio, 16000, subtype="FLOAT")

    def phrases(below_db):
        segments = SegmentSettings(below_peak_db=below_db, hold_below_peak_db=below_db + 10.0)
        return play(tmp_path, f"o{below_db}", source=tmp_path / "in.wav", settings=AdaptSettings(segments=segments))[
            1
        ].n_segments

    assert phrases(60.0) == 2
    assert phrases(20.0) == 1


def test_the_requested_tracker_is_used(tmp_path, monkeypatch):
    from ddsp_cli.analysis.pitch import trackers

    opened, real = [], trackers.open_tracker

    def spy(name="swift-f0", *rest):
        opened.append(name)
        return real("swift-f0", *rest)

    monkeypatch.setattr(trackers, "open_tracker", spy)
    play(tmp_path, tracker="pyin")
    assert opened == ["pyin"]
    with pytest.raises(UsageError, match="tracker"):
        make_options(pitch="ear")


def test_a_quiet_recording_is_tracked_as_well(tmp_path):
    results = []
    for name, gain in (("usual", 1.0), ("quiet", 0.005)):
        soundfile.write(tmp_path / "in.wav", gain * melody(), 16000, subtype="FLOAT")
        results.append(play(tmp_path, name, source=tmp_path / "in.wav"))
    (usual, a), (quiet, b) = results
    assert (a.n_segments, a.transpose_semitones) == (b.n_segments, b.transpose_semitones)
    assert level_db(quiet, 0, 3) == pytest.approx(level_db(usual, 0, 3), abs=1.5)


def test_formants_move_and_pitch_and_level_stay(tmp_path):
    plain, up, down = (play(tmp_path, f"f{semitones}", formant=semitones)[0] for semitones in (0.0, 7.0, -7.0))
    note = (0.5, 0.9)
    for moved in (up, down):
        assert pitch_hz(moved, *note) == pytest.approx(pitch_hz(plain, *note), rel=2e-3)
        assert level_db(moved, *note) == pytest.approx(level_db(plain, *note), abs=1.0)
        assert np.abs(moved - plain).max() > 0.1 * np.abs(plain).max()
    with pytest.raises(UsageError, match="out of range") as caught:
        make_options(formant=25.0)
    assert caught.value.parameter == "formant"


def test_rooms(tmp_path, desk):
    own, result = play(tmp_path, "own")
    assert result.tail_s == pytest.approx(0.25, abs=0.02)
    dry, result = play(tmp_path, "dry", room="none")
    assert result.tail_s == 0.0
    half, _ = play(tmp_path, "half", wet=0.5)
    # The room adds to the same dry sound, in proportion.
    np.testing.assert_allclose(half - dry, 0.5 * (own - dry), atol=2e-6)
    assert np.abs(own - dry).max() > 1e-3
    assert level_db(dry, 1.08, 1.35) < -90
    assert level_db(own, 1.03, 1.1) > -70

    clap = np.zeros(9000, np.float32)
    clap[700] = 0.5
    clap[1100] = 0.25  # an echo 25 ms after the direct sound, half as loud
    soundfile.write(tmp_path / "clap.wav", clap, 16000, subtype="FLOAT")
    echo, result = play(tmp_path, "echo", room=str(tmp_path / "clap.wav"))
    echo *= 10 ** (-result.gain_db / 20)
    np.testing.assert_allclose(echo[400:-200], dry[400:-200] + 0.5 * dry[:-600], atol=1e-5)

    other, _ = play(tmp_path, "other", room="otherophone")
    np.testing.assert_allclose(other, own, atol=1e-6)  # both were given the same room
    assert len(impulse_response()) == 4000


@pytest.mark.parametrize(
    ("room", "error", "words"),
    [("nowhere.wav", InputError, "nowhere"), ("testofone", ModelError, "testofone"),
     ("long.wav", InputError, "impulse"), ("mute.wav", InputError, "silent")],
)  # fmt: skip
def test_what_is_no_room(tmp_path, desk, room, error, words):
    soundfile.write("long.wav", np.ones(16000 * 21), 16000)
    soundfile.write("mute.wav", np.zeros(1600), 16000)
    with pytest.raises(error, match=words):
        play(tmp_path, room=room)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wet", [-0.1, 4.1, float("nan")])
def test_the_gain_of_a_room_has_a_range(wet):
    with pytest.raises(UsageError, match=r"out of range|not a number") as caught:
        make_options(wet=wet)
    assert caught.value.parameter == "wet"


def test_midi_is_played(tmp_path):
    import mido

    track = mido.MidiTrack()
    for note in (69, 76):
        track += [mido.Message("note_on", note=note, velocity=90), mido.Message("note_off", note=note, time=960)]
    file = mido.MidiFile()
    file.tracks.append(track)
    file.save(tmp_path / "tune.mid")
    audio, result = play(tmp_path, source=tmp_path / "tune.mid", room="none", plot=True)
    assert (result.sample_rate_hz, result.seconds) == (16000, pytest.approx(3.5))
    assert result.plot is not None
    assert pitch_hz(audio, 0.3, 0.8) == pytest.approx(440, rel=0.01)
    assert pitch_hz(audio, 1.3, 1.8) == pytest.approx(659.3, rel=0.01)
    assert level_db(audio, 2.3, 3.0) < -90
    assert result.remarks == ()
    settings = AdaptSettings(autotune=1.0, vibrato=0.0, glide_s=0.1)
    _, result = play(tmp_path, "tuned", source=tmp_path / "tune.mid", settings=settings)
    assert result.remarks == ("autotune and vibrato have no effect on a MIDI file",) == result.notices


def test_several_instruments_play_each_input(tmp_path):
    soundfile.write(tmp_path / "b.wav", melody((60,)), 16000)
    results = transfer(["voice.wav", tmp_path / "b.wav"], ["testophone", "otherophone"], out=tmp_path / "out")
    assert [result.output.name for result in results] == [
        "voice_testophone.wav", "voice_otherophone.wav", "b_testophone.wav", "b_otherophone.wav",
    ]  # fmt: skip
    alone, _ = play(tmp_path, "alone", model="otherophone")
    both, _ = soundfile.read(tmp_path / "out" / "voice_otherophone.wav")
    np.testing.assert_allclose(both, alone, atol=3 / 2**15)
    with pytest.raises(UsageError, match="one file"):
        transfer(["voice.wav"], ["testophone", "otherophone"], out=tmp_path / "out.wav")


def test_all_is_every_instrument(tmp_path):
    results = transfer(["voice.wav"], "all", out=tmp_path / "out")
    assert {"testophone", "otherophone"} <= {result.instrument for result in results}
    assert len({result.output for result in results}) == len(results)


@pytest.mark.parametrize(("bits", "subtype"), [("16", "PCM_16"), (24, "PCM_24"), ("32", "PCM_32"), ("float", "FLOAT")])
def test_bits_can_be_chosen(tmp_path, bits, subtype):
    transfer(["voice.wav"], "testophone", out=tmp_path / "out.wav", bits=bits)
    assert soundfile.info(tmp_path / "out.wav").subtype == subtype


@pytest.mark.parametrize(
    ("name", "bits"), [("out.wav", "17"), ("out.wav", 8), ("out.mp3", "24"), ("out.flac", "float")]
)
def test_bits_that_cannot_be(tmp_path, name, bits):
    with pytest.raises(UsageError) as caught:
        transfer(["voice.wav"], "testophone", out=tmp_path / name, bits=bits)
    assert caught.value.parameter == "bits"


def test_sixteen_bits_are_dithered_and_silence_is_silent(tmp_path):
    fine, _ = play(tmp_path, "fine")
    transfer(["voice.wav"], "testophone", out=tmp_path / "coarse.wav", bits="16")
    coarse, _ = soundfile.read(tmp_path / "coarse.wav", dtype="float32")
    error = (coarse - fine) * 2**15
    sounding = np.abs(fine) > 1e-3
    assert 0.35 < np.std(error[sounding]) < 0.65  # triangular dither and rounding: sqrt(1/6 + 1/12) = 0.5
    assert abs(np.corrcoef(error[sounding], fine[sounding])[0, 1]) < 0.02
    assert (coarse[:4000] == 0).all()


def test_what_is_hard_to_follow_is_played_with_a_remark(tmp_path):
    t = np.arange(32000) / 16000
    audio = sum(0.02 * np.sin(2 * np.pi * 261.6 * 2 ** (s / 12) * k * t) for s in (0, 4, 7) for k in range(1, 6))
    soundfile.write(tmp_path / "in.wav", audio, 16000)
    sound, result = play(tmp_path, source=tmp_path / "in.wav")
    assert len(result.remarks) == 1
    assert "chords" in result.remarks[0]
    assert np.abs(sound).max() > 0.001


def test_several_tables_need_a_folder(tmp_path):
    with pytest.raises(UsageError, match="one file") as caught:
        transfer(["voice.wav"], ["testophone", "otherophone"], out=tmp_path, controls=tmp_path / "c.csv")
    assert caught.value.parameter == "controls"
    transfer(["voice.wav"], ["testophone", "otherophone"], out=tmp_path, controls=tmp_path / "curves")
    assert len(list((tmp_path / "curves").glob("*.csv"))) == 2


def test_folders_are_made_beside_an_output_that_is_a_file(tmp_path):
    play(tmp_path, controls=tmp_path / "curves", notes=tmp_path / "notes")
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["out.wav", "voice.mid", "voice_testophone.csv"]


def test_nothing_of_all_this_is_overwritten(tmp_path):
    for name in ("c.csv", "r.html"):
        (tmp_path / name).write_bytes(b"precious")
    for options in ({"controls": tmp_path / "c.csv"}, {"report": tmp_path / "r.html"}):
        with pytest.raises(OutputError, match="exists already"):
            play(tmp_path, **options)
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"precious"}


def whistle(notes_midi, note_s=0.5, rest_s=0.3):
    """Notes as good as without overtones, [S] at 16 kHz."""
    t = np.arange(round(note_s * 16000)) / 16000
    fade = np.minimum(1.0, np.minimum(t, t[::-1]) / 0.03)
    rest = np.zeros(round(rest_s * 16000))
    tones = [0.2 * fade * np.sin(2 * np.pi * 440.0 * 2.0 ** ((midi - 69.0) / 12.0) * t) for midi in notes_midi]
    noise = np.random.default_rng(0).normal(size=len(tones) * (len(t) + len(rest))) * 1e-3
    return np.concatenate([part for tone in tones for part in (rest, tone)]) + noise


@pytest.mark.parametrize(("lowest", "gain"), [(84, 1.0), (95, 1.0), (95, 0.02)])
def test_a_whistled_melody_is_played(tmp_path, lowest, gain):
    """Up to C8, an octave above the range of the pitch trackers."""
    notes = [lowest, lowest + 4, lowest + 7, lowest + 12]
    soundfile.write(tmp_path / "whistle.wav", gain * whistle(notes), 16000, subtype="FLOAT")
    curves = tmp_path / "curves.csv"
    _, result = play(tmp_path, source=tmp_path / "whistle.wav", controls=curves)
    played = table(curves)
    for i, note in enumerate(notes):
        middle = slice(round((0.8 * i + 0.4) * 250), round((0.8 * i + 0.7) * 250))
        midi = 69.0 + 12.0 * np.log2(played["f0_hz"][middle] / 440.0) - result.transpose_semitones
        np.testing.assert_allclose(midi, note, atol=0.2)
        assert played["gate"][middle].min() > 0.0
