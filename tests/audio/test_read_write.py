import errno
import os
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile

from ddsp_cli.audio import read, write
from ddsp_cli.errors import InputError, OutputError, UsageError


def noise(n: int = 20000, channels: int = 1) -> np.ndarray:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (n, channels)).astype(np.float32)
    return sound[:, 0] if channels == 1 else sound


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [("wav", "PCM_U8", 0.01), ("wav", "PCM_16", 1e-4), ("wav", "PCM_24", 1e-6), ("wav", "DOUBLE", 1e-7),
     ("flac", "PCM_16", 1e-4), ("aiff", "PCM_24", 1e-6)],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_channels_are_averaged_whatever_the_format(tmp_path, suffix, subtype, tolerance, channels):
    sound = noise(channels=channels)
    path = tmp_path / f"a b é🎻.{suffix}"
    soundfile.write(path, sound, 16000, subtype=subtype)
    info = read.probe(path)
    assert (info.n_channels, info.n_samples, info.sample_rate_hz) == (channels, 20000, 16000)
    expected = sound if channels == 1 else sound.mean(axis=1)
    np.testing.assert_allclose(read.read_mono(path, 16000), expected, atol=tolerance)


@pytest.mark.parametrize("rate_hz", [8000, 11025, 22050, 44100, 48000, 96000, 192000])
def test_resampling_keeps_time_and_level_for_any_block_size(tmp_path, rate_hz):
    n = rate_hz + 13
    sine = np.sin(2 * np.pi * 440 * np.arange(n) / rate_hz).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sine, rate_hz, subtype="FLOAT")
    whole = read.read_mono(tmp_path / "a.wav", 16000)
    assert abs(len(whole) - n * 16000 / rate_hz) <= 1
    inner = slice(1000, -1000)
    expected = np.sin(2 * np.pi * 440 * np.arange(len(whole)) / 16000)
    np.testing.assert_allclose(whole[inner], expected[inner], atol=2e-3)
    for block_s in (0.01, 0.3):
        parts = np.concatenate(list(read.mono_blocks(tmp_path / "a.wav", 16000, block_s)))
        np.testing.assert_allclose(parts, whole, atol=1e-6)


@pytest.mark.parametrize("suffix", ["ogg", "opus", "mp3", "flac", "aiff", "wav"])
def test_every_format_is_written_and_read_again(tmp_path, suffix):
    sine = (0.5 * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)).astype(np.float32)
    path = tmp_path / f"a.{suffix}"
    assert write.write_audio(path, np.array_split(sine, 7), 48000) == 48000
    back = read.read_mono(path, 48000)
    assert abs(len(back) - 48000) < 3000
    assert np.sqrt(np.mean(back[5000:40000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_bad_files_are_refused_with_a_reason(tmp_path):
    cases = {
        "missing.wav": (None, "does not exist"),
        "empty.wav": (b"", "empty file"),
        "text.wav": (b"dear diary, today I sang\n" * 50, "not a sound file"),
        "raw.raw": (b"\1\2\3" * 100, "not a sound file"),
    }
    for name, (content, reason) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=reason):
            read.probe(tmp_path / name)
    with pytest.raises(InputError, match="is a folder"):
        read.probe(tmp_path)
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    with pytest.raises(InputError, match="0 samples"):
        read.probe(tmp_path / "none.wav")
    for value in (np.nan, np.inf):
        soundfile.write(tmp_path / "nan.wav", np.array([0.0, value, 0.0]), 16000, subtype="FLOAT")
        with pytest.raises(InputError, match="NaN or infinity"):
            read.read_mono(tmp_path / "nan.wav")


def test_values_that_only_damage_can_make_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([0.0, 1e30, 0.0]), 44100, subtype="FLOAT")
    with pytest.raises(InputError, match="far beyond full scale"):
        read.read_mono(tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", np.full(441, 32767.0), 44100, subtype="FLOAT")
    assert read.read_mono(tmp_path / "b.wav").max() > 30000


def test_a_truncated_file_gives_what_is_there(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(), 16000, subtype="PCM_16")
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(whole[: len(whole) // 2])
    assert 9000 < len(read.read_mono(tmp_path / "a.wav")) <= 10000


def test_a_header_with_a_mad_rate_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(), 16000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[24:28] = (7).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(InputError, match="sample rate of 7 Hz"):
        read.read_mono(tmp_path / "a.wav")


def test_nothing_is_overwritten_without_force(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        write.write_audio(path, [noise()], 16000)
    assert path.read_bytes() == b"precious"
    write.write_audio(path, [noise()], 16000, force=True)
    assert read.probe(path).n_samples == 20000


def test_nothing_half_written_is_left(tmp_path):
    def interrupted() -> Iterator[np.ndarray]:
        yield noise()
        raise KeyboardInterrupt

    (tmp_path / "a.wav").write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt):
        write.write_audio(tmp_path / "a.wav", interrupted(), 16000, force=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == b"before"


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of Unix")
def test_a_full_disk_is_an_output_error(tmp_path):
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OutputError, match=f"cannot be written: {os.strerror(errno.EFBIG)}"):
            write.write_audio(tmp_path / "a.wav", [noise()] * 20, 16000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no suffix"):
        write.write_audio(tmp_path / "a.xyz", [noise()], 16000)
    with pytest.raises(OutputError, match="does not exist"):
        write.write_audio(tmp_path / "no" / "a.wav", [noise()], 16000)
    with pytest.raises(OutputError, match="is a folder"):
        write.check_writable(tmp_path)
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        tmp_path.chmod(0o500)
        try:
            with pytest.raises(OutputError, match="cannot be written"):
                write.write_audio(tmp_path / "a.wav", [noise()], 16000)
        finally:
            tmp_path.chmod(0o700)


def test_folders_are_searched_in_a_fixed_order(tmp_path):
    for name in ("b/2.wav", "b/10.FLAC", "a.mp3", "b/notes.txt", ".hidden.wav", "b/.git/x.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    if sys.platform != "win32":
        (tmp_path / "b" / "loop").symlink_to(tmp_path)
    found = read.list_audio([tmp_path, tmp_path / "a.mp3", tmp_path / "b" / "notes.txt"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.mp3", "b/10.FLAC", "b/2.wav", "b/notes.txt"]
    clips = tmp_path / "models" / "viola.run" / "clips"
    clips.mkdir(parents=True)
    (clips / "step_000100.wav").touch()
    assert read.list_audio([tmp_path]) == found[:3]
    assert len(read.list_audio([clips])) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no sound files"):
        read.list_audio([tmp_path / "empty"])
    with pytest.raises(InputError, match="does not exist"):
        read.list_audio([tmp_path / "nowhere"])


@pytest.fixture
def small_formats(monkeypatch):
    """As if headers counted 100 kB."""
    monkeypatch.setattr(write, "LARGEST_BYTES", dict.fromkeys(write.LARGEST_BYTES, 100_000))


@pytest.mark.parametrize(
    ("channels", "subtype", "kind"),
    [(1, "PCM_16", "WAV"), (1, "PCM_24", "WAV"), (2, "PCM_24", "RF64"), (1, "DOUBLE", "RF64")],
)
def test_wav_too_long_for_its_header_is_rf64(tmp_path, small_formats, channels, subtype, kind):
    """libsndfile writes a WAV of 5 GB without an error, but no reader finds its last GB."""
    sound, path = noise(channels=channels), tmp_path / "a.wav"
    fit = write.write_fitting(path, iter([sound]), 16000, n_samples=len(sound), subtype=subtype)
    info = soundfile.info(path)
    assert (info.format, info.frames, info.subtype) == (kind, 20000, subtype)
    assert fit.gain == 1.0
    expected = sound if channels == 1 else sound.mean(axis=1)
    np.testing.assert_allclose(read.read_mono(path, 16000)[:-200], expected[:-200], atol=1e-4)


def test_sound_too_long_for_its_format_is_refused_before_it_is_made(tmp_path, small_formats):
    def blocks() -> Iterator[np.ndarray]:
        pytest.fail("made")
        yield noise()

    for suffix in ("aiff", "aif"):
        with pytest.raises(OutputError, match="and the format holds"):
            write.write_fitting(tmp_path / f"a.{suffix}", blocks(), 16000, n_samples=40000, subtype="PCM_24")
    # Of two channels, which are known with the first block.
    with pytest.raises(OutputError, match="and the format holds"):
        write.write_fitting(tmp_path / "a.aiff", iter([noise(channels=2)]), 16000, n_samples=20000, subtype="PCM_24")
    # A length that is not known before.
    with pytest.raises(OutputError, match="longer than its format can hold"):
        write.write_audio(tmp_path / "a.wav", iter([noise(), noise()]), 16000)
    assert list(tmp_path.iterdir()) == []
    write.write_fitting(tmp_path / "a.flac", iter([noise(), noise()]), 16000, n_samples=40000, subtype="PCM_24")


def test_no_space_for_a_long_sound_is_said_before_it_is_made(tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12, 10**9))
    with pytest.raises(OutputError, match=r"it takes 16\.6 GB, and 1\.0 GB are free"):
        write.write_fitting(tmp_path / "a.wav", iter([noise()]), 48000, n_samples=24 * 3600 * 48000, subtype="PCM_16")
