"""The page: whole, of one piece, escaped, and alive in a real browser."""

from __future__ import annotations

import base64
import html
import io
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from ddsp_cli.audio.integrated_loudness import LoudnessMeter, integrated_lufs
from ddsp_cli.reports.pages import _about, file_as_mp3, matching_gains_db
from ddsp_cli.workflows.performance import TransferOptions
from ddsp_cli.workflows.transfer import TransferResult, transfer_files
from fixtures import make_bundle, melody
from page_fixtures import Tags

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

#: Run in the page: what its players and pictures say of themselves.
LOOK = """
<script>
window.addEventListener('load', async () => {
  const players = [...document.querySelectorAll('audio')];
  await Promise.all(players.map(player => player.readyState ? 0 : new Promise(done => {
    player.addEventListener('loadedmetadata', done); player.addEventListener('error', done); player.load(); })));
  const said = document.createElement('pre');
  said.id = 'look';
  said.textContent = JSON.stringify({
    seconds: players.map(player => player.duration),
    errors: players.filter(player => player.error).length,
    pictures: [...document.images].map(image => image.naturalWidth),
  });
  document.body.append(said);
});
</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("desk")
    for seed, name in enumerate(("testophone", "otherophone")):
        make_bundle(folder / "models" / name, seed=seed)
    source = folder / "<b>&voice.wav"
    if os.name == "nt":
        source = folder / "voice&.wav"
    soundfile.write(source, melody(), 16000)
    models = [folder / "models" / name for name in ("testophone", "otherophone")]
    transfer_files([source], models, out=folder / "out", report=folder / "report.html")
    return folder / "report.html"


def test_it_says_what_the_command_prints(page):
    """Of several voices only the segments of the first would be counted."""
    assert " segments, " in page.read_text(encoding="utf-8")
    result = TransferResult(page, page, None, None, "flute", 4.0, 0.1, 12.0, "", 1, 0.5, 0.0, None, 0.0, 48000, 0.4,
                            n_voices=2)  # fmt: skip
    assert _about(result) == "4.0 s, 2 voices, +12 semitones, room 0.4 s"


def test_it_is_of_one_piece(page):
    text = page.read_text(encoding="utf-8")
    addresses = re.findall(r"""(?:src|href)=["']([^"']{0,40})""", text)
    assert len(addresses) == 5  # three players, two pictures
    assert all(address.startswith("data:") for address in addresses)
    assert not re.search(r"https?://", text)
    assert "<b>&voice" not in text
    assert "&amp;" in text
    assert str(page.parent) not in text


def test_players_are_equally_loud_without_clipping(tmp_path):
    """A loud tone, a soft one in stereo, noise with a peak of full scale, and silence."""
    t_s = np.arange(4 * 48000) / 48000
    tone = np.sin(2 * np.pi * 440.0 * t_s)
    peaked = 0.02 * np.random.default_rng(0).normal(size=len(tone))
    peaked[50000:50500] = tone[50000:50500]
    sounds = {"loud": 0.5 * tone, "soft": np.stack([0.01 * tone] * 2, axis=1), "peaked": peaked, "silent": 0.0 * tone}
    paths = [tmp_path / f"{name}.wav" for name in sounds]
    for path, sound in zip(paths, sounds.values(), strict=True):
        soundfile.write(path, sound, 48000, subtype="FLOAT")
    gains_db = matching_gains_db(paths)
    assert gains_db[-1] == 0.0
    assert gains_db[2] == pytest.approx(0.0, abs=0.5)  # at full scale already; resampling moves the peak a little
    found_lufs, peaks = [], []
    for path, gain_db in zip(paths[:3], gains_db, strict=False):
        played, rate_hz = soundfile.read(io.BytesIO(file_as_mp3(path, gain_db)), dtype="float32")
        meter = LoudnessMeter(rate_hz, 1 if played.ndim == 1 else 2)
        meter.push(played)
        found_lufs.append(meter.integrated_lufs())
        peaks.append(np.abs(played).max())
    assert np.ptp(found_lufs) < 0.5
    assert max(peaks) < 1.1  # of MP3
    assert matching_gains_db(paths[-1:]) == [0.0]


def test_the_players_of_a_page_are_equally_loud(tmp_path):
    """Also where the outputs were asked to keep their own levels."""
    make_bundle(tmp_path / "testophone", seed=0)
    soundfile.write(tmp_path / "voice.wav", melody(), 16000)
    transfer_files([tmp_path / "voice.wav"], [tmp_path / "testophone"], out=tmp_path / "out.wav",
                   report=tmp_path / "report.html", options=TransferOptions(loudness_match="off"))  # fmt: skip
    loudness = []
    for sound in re.findall(r"data:audio/mpeg;base64,([^\"]+)", (tmp_path / "report.html").read_text("utf-8")):
        played, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(sound)), dtype="float32")
        loudness.append(integrated_lufs([played], rate_hz))
    assert len(loudness) == 2
    assert np.ptp(loudness) < 0.3


def test_its_tags_are_closed(page):
    assert Tags(page.read_text(encoding="utf-8")).open == []


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here (Debian: apt-get install chromium)")
def test_a_browser_plays_it(page, tmp_path):
    looked_at = tmp_path / "report.html"
    looked_at.write_text(page.read_text(encoding="utf-8").replace("</body>", LOOK + "</body>"), encoding="utf-8")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=10000",
        f"--user-data-dir={tmp_path}/p",
    ]
    done = subprocess.run(
        [BROWSER, *flags, "--dump-dom", looked_at.as_uri()], capture_output=True, text=True, timeout=90, check=False
    )
    import json

    found = re.search(r'<pre id="look">(.*?)</pre>', done.stdout)
    assert found, done.stderr[-1000:]
    seen = json.loads(html.unescape(found[1]))
    assert seen["errors"] == 0
    assert len(seen["seconds"]) == 3
    for seconds in seen["seconds"]:
        assert seconds == pytest.approx(len(melody()) / 16000, abs=0.15)
    assert seen["pictures"] == [1400, 1400]
