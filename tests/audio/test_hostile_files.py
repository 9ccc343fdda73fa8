"""Wrong headers, files cut short, containers: the decoded sound counts, not the header."""

from __future__ import annotations

import contextlib
import struct
import sys

import numpy as np
import psutil
import pytest
import soundfile

from ddsp_cli.analysis.recording_checks import ClippingWatch, file_warnings
from ddsp_cli.audio import containers, read, write
from ddsp_cli.audio.recording import FileRecording
from ddsp_cli.errors import InputError

RATE_HZ = 16000


def tone(seconds: float = 3.0) -> np.ndarray:
    return (0.3 * np.sin(0.1 * np.arange(round(seconds * RATE_HZ)))).astype(np.float32)


def flac_that_claims(path, n_samples: int) -> np.ndarray:
    """A FLAC file whose header claims a number of samples (36 bits, 18 bytes after the start of STREAMINFO)."""
    soundfile.write(path, tone(), RATE_HZ)
    data = bytearray(path.read_bytes())
    packed = (int.from_bytes(data[18:26], "big") >> 36 << 36) | n_samples
    data[18:26] = packed.to_bytes(8, "big")
    path.write_bytes(data)
    return tone()


@pytest.mark.parametrize("claimed", [0, (1 << 36) - 1, 100_000])
def test_a_length_that_a_flac_claims_is_not_believed(tmp_path, claimed):
    audio = flac_that_claims(tmp_path / "a.flac", claimed)
    decoded = read.Decoded()
    sound = np.concatenate([block for _, block in read.decoded_blocks(tmp_path / "a.flac", decoded=decoded)])
    np.testing.assert_allclose(sound, audio, atol=1e-4)
    assert decoded.n_samples == len(audio)
    assert decoded.is_cut_short == (claimed > 0)  # 0 means unknown
    assert len(read.read_mono(tmp_path / "a.flac")) == len(audio)


def test_a_wav_that_is_cut_short_is_noticed_and_one_from_a_pipe_is_not(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(), RATE_HZ)
    whole = path.read_bytes()
    assert not read.probe(path).is_cut_short
    path.write_bytes(whole[: len(whole) // 2])
    assert read.probe(path).is_cut_short
    unknown = bytearray(whole)
    unknown[4:8] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(unknown)
    assert not read.probe(path).is_cut_short


def test_of_a_damaged_file_the_beginning_is_read_where_that_is_wanted(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(10 * RATE_HZ), RATE_HZ)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged"):
        read.read_mono(path)
    recording = FileRecording(path)
    n_samples = sum(len(block) for block in recording.blocks())
    assert 4 * RATE_HZ < n_samples < 5.1 * RATE_HZ
    assert recording.decoded.is_cut_short
    (warning,) = file_warnings(recording.decoded, ClippingWatch(), RATE_HZ)
    assert "cut short" in warning and f"{n_samples / RATE_HZ:.1f} s" in warning


def test_an_mp3_is_cut_short_only_where_it_counts_its_frames(tmp_path):
    """Without a count libsndfile takes the tags and pictures of the file for sound."""
    path = tmp_path / "a.mp3"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(4 * RATE_HZ), RATE_HZ)
    whole = path.read_bytes()
    n_whole = read.probe(path).n_samples
    path.write_bytes(whole[: len(whole) // 2])
    decoded = read.Decoded()
    assert sum(len(block) for _, block in read.decoded_blocks(path, decoded=decoded)) < 0.6 * n_whole
    assert decoded.is_cut_short
    tag = b"ID3\x03\x00\x00" + bytes((0, 1, 0x38, 0)) + bytes((1 << 14) + (0x38 << 7))
    path.write_bytes(tag + whole.replace(b"Info", bytes(4)).replace(b"Xing", bytes(4)))
    assert read.probe(path).n_samples > 1.1 * n_whole
    assert sum(len(block) for _, block in read.decoded_blocks(path, decoded=decoded)) > 0.99 * n_whole
    assert not decoded.is_cut_short
    path.write_bytes(tag + whole[: len(whole) // 2])
    list(read.decoded_blocks(path, decoded=decoded))
    assert decoded.is_cut_short


def test_heavy_clipping_is_told_from_single_peaks(tmp_path):
    for gain, heavy in ((1.0, False), (20.0, True)):
        soundfile.write(tmp_path / "a.wav", np.clip(gain * tone(), -1, 1), RATE_HZ)
        clipping = ClippingWatch()
        recording = FileRecording(tmp_path / "a.wav", watch=clipping)
        list(recording.blocks())
        list(recording.blocks())
        assert clipping.n_samples == len(tone())  # the first pass only
        assert any("clipped" in text for text in file_warnings(recording.decoded, clipping, RATE_HZ)) == heavy
    peaks = tone(1.0)[:, None]
    peaks[[100, 101, 102, 9000]] = 1.0
    single = ClippingWatch()
    single(peaks)
    assert (single.n_clipped, single.is_heavy) == (3, False)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_impulse_responses_with_nan_or_infinity_are_refused(tmp_path, value):
    response = np.zeros(100, np.float32)
    response[[0, 5]] = 1.0, value
    soundfile.write(tmp_path / "a.wav", response, RATE_HZ, subtype="FLOAT")
    with pytest.raises(InputError, match="NaN or infinity"):
        read.read_impulse_response(tmp_path / "a.wav", RATE_HZ)


def test_an_impulse_response_is_read_no_further_than_a_room_lasts(tmp_path):
    soundfile.write(tmp_path / "a.flac", np.zeros(RATE_HZ * 25), RATE_HZ)
    with pytest.raises(InputError, match="longer than 20 s"):
        read.read_impulse_response(tmp_path / "a.flac", RATE_HZ)


def test_formats_with_few_sample_rates_take_the_next_higher(tmp_path):
    for name, wanted_hz, expected_hz in (
        ("a.mp3", 96000, 48000), ("a.mp3", 44100, 44100), ("a.mp3", 7000, 8000), ("a.opus", 44100, 48000),
        ("a.opus", 22050, 24000), ("a.ogg", 384_000, 192_000), ("a.flac", 1_000_000, 655_350),
        ("a.wav", 1_000_000, 1_000_000),
    ):  # fmt: skip
        assert write.nearest_rate_hz(tmp_path / name, wanted_hz) == expected_hz
        if expected_hz < 100_000:
            write.write_audio(tmp_path / name, [np.zeros(1000, np.float32)], expected_hz, force=True)
            assert soundfile.info(tmp_path / name).samplerate == expected_hz


def make_container(path, codec: str, rate_hz: int, with_video: bool = False) -> None:
    """Three seconds of 440 Hz in stereo."""
    av = pytest.importorskip("av", reason="needs PyAV (pip install ddsp-cli[video])")
    wave = (0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * rate_hz) / rate_hz)).astype(np.float32)
    with av.open(str(path), "w") as container:
        if with_video:
            video = container.add_stream("mpeg4", rate=10)
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
        stream = container.add_stream(codec, rate=rate_hz)
        stream.layout = "stereo"
        if with_video:
            for _ in range(30):
                container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
            container.mux(video.encode())
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), "fltp", "stereo")
        frame.sample_rate = rate_hz
        resampler = av.AudioResampler(stream.format, "stereo", rate_hz, stream.frame_size or 1024)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz", "with_video"),
    [("a.m4a", "aac", 44100, False), ("a.mp4", "aac", 44100, True), ("a.webm", "libopus", 48000, False)],
)
def test_m4a_webm_and_videos_are_read(tmp_path, name, codec, rate_hz, with_video):
    make_container(tmp_path / name, codec, rate_hz, with_video)
    info = read.probe(tmp_path / name)
    assert (info.sample_rate_hz, info.n_channels) == (rate_hz, 2)
    audio = read.read_mono(tmp_path / name, rate_hz)
    assert len(audio) == pytest.approx(3 * rate_hz, abs=0.05 * rate_hz)
    middle = audio[rate_hz : 2 * rate_hz]
    spectrum = np.abs(np.fft.rfft(middle))
    assert int(np.argmax(spectrum)) == 440
    assert np.abs(middle).max() == pytest.approx(0.3, abs=0.02)
    blocks = [block for _, block in read.decoded_blocks(tmp_path / name, 0.05)]
    assert max(map(len, blocks)) <= 0.05 * rate_hz + 1
    np.testing.assert_array_equal(np.concatenate(blocks), audio)
    assert read.list_audio([tmp_path]) == [tmp_path / name]


def test_without_a_decoder_it_is_said_what_to_install(tmp_path, monkeypatch):
    make_container(tmp_path / "a.m4a", "aac", 44100)
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="another decoder") as refused:
        read.probe(tmp_path / "a.m4a")
    assert "ddsp-cli[video]" in refused.value.hint


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script takes the place of ffmpeg")
def test_ffmpeg_is_used_where_it_is_on_the_path(tmp_path, monkeypatch):
    make_container(tmp_path / "a.m4a", "aac", 44100)
    head = struct.pack(">4s5I", b".snd", 32, 0xFFFFFFFF, 6, 8000, 2) + bytes(8)
    sound = np.repeat(tone()[:8000, None], 2, axis=1)
    (tmp_path / "sound").write_bytes(head + sound.astype(">f4").tobytes())
    program = tmp_path / "ffmpeg"
    program.write_text(f'#!/bin/sh\necho "$@" > "{tmp_path}/arguments"\nexec /bin/cat "{tmp_path}/sound"\n')
    program.chmod(0o755)
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    blocks = [block for _, block in read.decoded_blocks(tmp_path / "a.m4a", 0.1)]
    assert max(map(len, blocks)) == 800
    np.testing.assert_allclose(np.concatenate(blocks), sound[:, 0], atol=1e-7)
    arguments = (tmp_path / "arguments").read_text()
    assert "-protocol_whitelist file,pipe" in arguments and f"file:{(tmp_path / 'a.m4a').resolve()}" in arguments


def test_a_video_that_is_refused_is_closed(tmp_path):
    make_container(tmp_path / "a.m4a", "aac", 44100)
    content = (tmp_path / "a.m4a").read_bytes()
    (tmp_path / "b.m4a").write_bytes(content.replace(b"mp4a", b"zzzz").replace(b"esds", b"zsds"))
    with pytest.raises(InputError, match="not a sound file"):
        read.probe(tmp_path / "b.m4a")
    assert str(tmp_path / "b.m4a") not in {file.path for file in psutil.Process().open_files()}


def test_a_playlist_that_calls_itself_a_video_opens_nothing_else(tmp_path):
    pytest.importorskip("av", reason="needs PyAV")
    soundfile.write(tmp_path / "secret.wav", tone(), RATE_HZ)
    (tmp_path / "a.m4a").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nsecret.wav\n#EXTINF:3,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(InputError, match="not a sound file"):
        read.probe(tmp_path / "a.m4a")
    (tmp_path / "b.mp4").write_text("ffconcat version 1.0\nfile secret.wav\n")
    with pytest.raises(InputError, match="not a sound file"):
        read.probe(tmp_path / "b.mp4")
    assert "hls" not in containers.FORMATS and "concat" not in containers.FORMATS


@pytest.mark.parametrize("name", ["a.m4a", "a.webm", "a.flac", "a.mp3", "a.wav"])
def test_damaged_bytes_are_read_or_refused(tmp_path, name):
    if name == "a.m4a":
        make_container(tmp_path / name, "aac", 44100)
    elif name == "a.webm":
        make_container(tmp_path / name, "libopus", 48000)
    else:
        soundfile.write(tmp_path / name, tone(), RATE_HZ)
    whole = (tmp_path / name).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(random.integers(1, 8)):
            data[random.integers(0, min(len(data), 600))] = random.choice([0, 127, 128, 255, random.integers(0, 256)])
        (tmp_path / name).write_bytes(data)
        with contextlib.suppress(InputError):
            for _ in read.decoded_blocks(tmp_path / name, decoded=read.Decoded()):
                pass
