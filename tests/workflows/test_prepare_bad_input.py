"""Everything that people drop into a folder, prepared by the real command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from command_fixtures import run_as_text
from ddsp_cli import dataset
from ddsp_cli.errors import InputError
from ddsp_cli.workflows.prepare import prepare
from fixtures import melody

GOOD = {"take 1 é🎻.wav", "take 2.flac"}
NOTES = (57, 60, 64, 62, 59, 67, 65, 69)


def ddsp(*arguments: str, cwd: Path, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_as_text(*arguments, cwd=cwd, timeout=timeout, **environment)


def sing(transposed: int, rate_hz: int = 16000) -> np.ndarray:
    return 0.2 * melody(tuple(note + transposed for note in NOTES), 0.6, 0.2, rate_hz)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with two good recordings and bad ones of every kind, and the result of `ddsp prepare`."""
    desk = tmp_path_factory.mktemp("desk")
    takes = desk / "takes with spaces"
    takes.mkdir()
    for i, name in enumerate(sorted(GOOD)):
        soundfile.write(takes / name, np.tile(sing(i), 2), 16000)
    _fill(takes)
    result = ddsp("prepare", str(takes), "--out", str(desk / "set"), "--workers", "2", cwd=desk, timeout=300)
    assert result.returncode == 0, result.stderr
    manifest = dataset.load_manifest(desk / "set")
    recordings = {recording.path.partition("/")[2]: recording for recording in manifest.recordings}
    return desk, takes, result, recordings


def _fill(takes: Path) -> None:
    voice = sing(5)
    soundfile.write(takes / "long.wav", voice, 16000, subtype="PCM_16")
    whole = (takes / "long.wav").read_bytes()
    (takes / "long.wav").unlink()
    (takes / "truncated.wav").write_bytes(whole[: len(whole) * 2 // 3])
    for name, size in (("claims too much.wav", 0x7FFFFFFF), ("claims all.wav", 0xFFFFFFFF), ("claims nothing.wav", 0)):
        content = bytearray(whole)
        content[40:44] = size.to_bytes(4, "little")
        (takes / name).write_bytes(content)
    soundfile.write(takes / "0 frames.wav", np.zeros(0), 16000)
    soundfile.write(takes / "1 frame.wav", np.full(1, 0.5), 16000)
    soundfile.write(takes / "1 frame at 48 kHz.wav", np.full(1, 0.5), 48000)
    soundfile.write(takes / "zeros.wav", np.zeros(32000), 16000)
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        broken = sing(6)
        broken[len(broken) // 2] = value
        soundfile.write(takes / f"{name}.wav", broken, 16000, subtype="FLOAT")
    soundfile.write(takes / "dc.wav", np.full(32000, 0.5), 16000)
    for i, (name, rate_hz, subtype) in enumerate((
        ("8 bit.wav", 16000, "PCM_U8"), ("24 bit.wav", 44100, "PCM_24"), ("float64.wav", 48000, "DOUBLE"),
        ("8 kHz.wav", 8000, "PCM_16"), ("192 kHz.wav", 192000, "PCM_24"),
    )):  # fmt: skip
        soundfile.write(takes / name, sing(i + 7, rate_hz), rate_hz, subtype=subtype)
    eight = np.zeros((len(sing(1)), 8))
    eight[:, 3] = 4 * sing(1)
    soundfile.write(takes / "8 channels.wav", eight, 16000)
    soundfile.write(takes / "broken frame.mp3", sing(2, 44100), 44100)
    content = bytearray((takes / "broken frame.mp3").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 300] = b"\x55" * 300
    (takes / "broken frame.mp3").write_bytes(content)
    (takes / "text.wav").write_text("dear diary, today I sang\n" * 99, encoding="utf-8")
    (takes / "empty.ogg").touch()
    (takes / "folder.wav").mkdir()
    clipped = np.clip(30 * sing(3), -1, 1)
    soundfile.write(takes / "clipped.wav", clipped, 16000)
    click = 0.05 * sing(4)
    click[30_000] = 1.0
    (takes / "soft").mkdir()
    soundfile.write(takes / "soft" / "click.wav", click, 16000, subtype="FLOAT")
    if sys.platform != "win32":
        soundfile.write(takes / "two\nlines.wav", sing(11), 16000)
        (takes / "loop").symlink_to(takes)
        (takes / "nowhere.wav").symlink_to(takes / "gone.wav")
        os.mkfifo(takes / "pipe.wav")
        soundfile.write(takes / "locked.wav", sing(12), 16000)
        (takes / "locked.wav").chmod(0)


def test_what_is_good_is_used(prepared):
    desk, _, result, recordings = prepared
    used = {name for name, recording in recordings.items() if recording.split != "none"}
    rest = {"truncated.wav", "claims too much.wav", "claims all.wav", "8 bit.wav", "24 bit.wav", "float64.wav",
            "8 kHz.wav", "192 kHz.wav", "8 channels.wav", "broken frame.mp3", "clipped.wav",
            "soft/click.wav"}  # fmt: skip
    assert used >= GOOD | rest
    assert "Traceback" not in result.stderr + result.stdout
    assert sorted(entry.name for entry in desk.iterdir()) == ["set", "takes with spaces"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("0 frames.wav", "0 samples"),
        ("1 frame.wav", "no note"),
        ("1 frame at 48 kHz.wav", "is too short: it has no sample at 16000 Hz"),
        ("zeros.wav", "silent"),
        ("nan.wav", "NaN or infinity"),
        ("inf.wav", "NaN or infinity"),
        ("dc.wav", "no note"),
        ("text.wav", "not a sound file"),
        ("empty.ogg", "empty file"),
    ],
)
def test_what_is_bad_is_left_out_with_a_reason(prepared, name, reason):
    _, _, result, recordings = prepared
    assert recordings[name].split == "none"
    (note,) = recordings[name].notes
    assert reason in note
    assert name in result.stderr


def test_what_is_remarkable_is_said(prepared):
    _, _, _, recordings = prepared
    assert any("clipped" in note for note in recordings["clipped.wav"].notes)
    assert any(doubt.kind == "clipping" for doubt in recordings["clipped.wav"].doubts)
    assert 6.4 * 0.6 < recordings["truncated.wav"].seconds < 6.6 * 0.7
    assert recordings["claims too much.wav"].seconds == pytest.approx(6.6, abs=0.1)


def test_one_click_does_not_hold_back_its_folder(prepared):
    desk, _, _, recordings = prepared
    # 26 dB below the others; the click alone would allow 0 dB
    assert recordings["soft/click.wav"].gain_db > 15
    data = dataset.load(desk / "set")
    assert max(np.abs(data.train.audio).max(), np.abs(data.validation.audio).max()) <= 0.99


@pytest.mark.skipif(sys.platform == "win32", reason="names and links of Unix")
def test_names_links_and_locks(prepared):
    _, _, _, recordings = prepared
    assert recordings["two\nlines.wav"].split != "none"
    assert not any(name.startswith(("loop", "nowhere", "pipe", "folder.wav")) for name in recordings)
    if os.geteuid() != 0:  # nothing is locked for root
        assert "cannot be read" in recordings["locked.wav"].notes[0]


def test_the_report_tells_of_everything(prepared):
    desk, _, result, recordings = prepared
    page = (desk / "set" / "report.html").read_text(encoding="utf-8")
    assert "take 1 é🎻.wav" in page and "not a sound file" in page and page.count("<script") == 1
    assert page.count("data:audio/mpeg") >= 2, "doubtful places can be played"
    assert not re.search(r"https?://", page) and str(desk) not in page
    assert f"of {len(recordings)} used" in result.stdout
    for word in ("sound", "notes", "dynamics", "left out", "amount"):
        assert word in result.stdout


def test_names_cannot_smuggle_markup_into_the_report(tmp_path):
    name = "<b>&amp;$x_{$.wav" if sys.platform != "win32" else "&amp;$x_{$.wav"
    soundfile.write(tmp_path / name, np.tile(sing(0), 3), 16000)
    folder = prepare([tmp_path / name], name="x", out=tmp_path / "set", workers=1).folder
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<b>" not in page and "&amp;amp;" in page


@pytest.mark.parametrize("kind", ["too small", "nothing", "no audio"])
def test_a_set_that_is_too_small_is_an_error_that_says_why(tmp_path, kind):
    takes = tmp_path / "takes"
    takes.mkdir()
    (takes / "text.wav").write_text("not audio")
    if kind == "too small":
        soundfile.write(takes / "short.wav", sing(0), 16000)
    if kind == "no audio":
        (takes / "text.wav").rename(takes / "text.txt")
    expected = {"too small": "only 4.", "nothing": "text.wav is not a sound file", "no audio": "holds no sound files"}
    with pytest.raises(InputError) as problem:
        prepare([takes], out=tmp_path / "set", workers=1)
    assert expected[kind] in problem.value.message
    assert [entry.name for entry in tmp_path.iterdir()] == ["takes"]


def test_crepe_without_weights_says_how_to_get_them(tmp_path):
    soundfile.write(tmp_path / "a.wav", sing(0), 16000)
    result = ddsp(
        "prepare", "a.wav", "--pitch", "crepe", cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path), HOME=str(tmp_path)
    )
    assert result.returncode == 2
    assert "needs its weights" in result.stderr and "--crepe-weights" in result.stderr


@pytest.mark.slow
def test_ten_thousand_tiny_files(tmp_path):
    takes = tmp_path / "takes"
    takes.mkdir()
    note = sing(0)[3200:12800]
    soundfile.write(takes / "0.wav", note, 16000, subtype="PCM_16")
    content = (takes / "0.wav").read_bytes()
    head, body = content[:44], content[44:]
    for i in range(1, 10_000):
        # 30 ms each, and 20 whole notes among them; no two files alike
        n_bytes = len(body) if i % 500 == 0 else 960
        piece = bytearray(body[:n_bytes])
        piece[:2] = (i % 30_000).to_bytes(2, "little")
        (takes / f"{i}.wav").write_bytes(head[:40] + n_bytes.to_bytes(4, "little") + piece)
    result = ddsp("prepare", "takes", "--out", "set", cwd=tmp_path, timeout=900)
    assert result.returncode == 0, result.stderr
    assert "of 10000 used" in result.stdout
    assert len(result.stderr.splitlines()) < 100
    assert dataset.load(tmp_path / "set").train.audio.shape[1] == 192000


FUZZ = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


@pytest.mark.parametrize(("kind", "n_cases"), [("audio", 1000), ("datasets", 200)])
def test_damaged_files_end_in_a_clear_error_or_a_right_result(kind, n_cases):
    counts = {"audio": "0", "datasets": "0"} | {kind: str(n_cases)}
    ran = subprocess.run(
        [sys.executable, str(FUZZ), "--audio", counts["audio"], "--datasets", counts["datasets"], "--seed", "1"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    line = next(line for line in ran.stdout.splitlines() if line.startswith(f"{n_cases} damaged {kind}"))
    ended = {word: int(count) for count, word in re.findall(r"(\d+) (read|refused)", line)}
    assert sum(ended.values()) == n_cases and min(ended.values()) > n_cases / 50
