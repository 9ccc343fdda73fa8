"""The page: whole, of one piece, escaped, and alive in a real browser."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess

import pytest
import soundfile

from ddsp_cli.workflows.transfer import transfer_files
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


def test_it_is_of_one_piece(page):
    text = page.read_text(encoding="utf-8")
    addresses = re.findall(r"""(?:src|href)=["']([^"']{0,40})""", text)
    assert len(addresses) == 5  # three players, two pictures
    assert all(address.startswith("data:") for address in addresses)
    assert not re.search(r"https?://", text)
    assert "<b>&voice" not in text
    assert "&amp;" in text
    assert str(page.parent) not in text


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
