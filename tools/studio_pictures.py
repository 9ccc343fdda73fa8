"""Takes the pictures of `ddsp studio` for the documentation: `python tools/studio_pictures.py [FOLDER]`.

Drives the Chromium of the system; by default the pictures go to docs/pictures. With another folder every part of the
page is taken, in light and in dark colours and on a phone's width, to be looked at.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

from PIL import Image

from ddsp_cli.studio.server import Server

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"

WIDE, PHONE = {"width": 1240, "height": 1560}, {"width": 390, "height": 1000}

#: Colours of the pictures in the documentation, which keeps them small.
N_COLOURS = 128


def save(page: Any, path: Path, whole: bool = False) -> None:
    """Saves the visible part of a page, or all of it."""
    page.evaluate("document.querySelector('#kept').textContent = "
                  "'Your sounds stay on this computer, in ~/.local/share/ddsp/studio.'")  # fmt: skip
    page.wait_for_timeout(400)
    page.screenshot(path=path, full_page=whole)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(N_COLOURS).save(path, optimize=True)
    print(path)


def open_page(browser: Any, server: Server, **options: Any) -> Any:
    """The page, with the example voice played on three instruments."""
    page = browser.new_context(**options).new_page()
    page.goto(server.address)
    page.wait_for_selector("html[data-ready]")
    for name in ("violin", "clarinet"):
        page.check(f"#instrument-{name}")
    page.click("#sources button:has-text('flute')")
    wait(page)
    page.eval_on_selector("#position", "(slider) => { slider.value = 4.8; slider.dispatchEvent(new Event('input')); }")
    page.wait_for_timeout(1500)  # the spectrogram
    return page


def wait(page: Any) -> None:
    """Waits until everything is played."""
    page.wait_for_timeout(200)
    while page.evaluate("document.documentElement.dataset.playing"):
        page.wait_for_timeout(50)


def main() -> None:
    """Takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=PICTURES)
    folder = parser.parse_args().folder
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise SystemExit("no Chromium is installed")
    voice = ROOT / "examples" / "voice.wav"
    fakes = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
             f"--use-file-for-fake-audio-capture={voice}"]  # fmt: skip
    with tempfile.TemporaryDirectory() as place, sync_playwright() as program:
        server = Server(0, Path(place) / "studio")
        thread = threading.Thread(target=server.run)
        thread.start()
        browser = program.chromium.launch(executable_path=chromium, args=fakes)
        try:
            if folder == PICTURES:
                save(open_page(browser, server, viewport=WIDE), folder / "studio.png")
                phone = open_page(browser, server, viewport=PHONE, color_scheme="dark", has_touch=True)
                phone.eval_on_selector("#listen-heading", "(heading) => heading.scrollIntoView()")
                save(phone, folder / "studio-phone.png")
                return
            for colours in ("light", "dark"):
                for kind, viewport in (("wide", WIDE), ("phone", PHONE)):
                    look(open_page(browser, server, viewport=viewport, color_scheme=colours), folder,
                         f"{kind}-{colours}")  # fmt: skip
        finally:
            browser.close()
            server.leave()
            thread.join()


def look(page: Any, folder: Path, name: str) -> None:
    """Takes every part of the page."""
    page.select_option("#blend-mode", "timed")
    wait(page)
    page.click("#blend-add")
    wait(page)
    page.wait_for_timeout(1500)
    save(page, folder / f"{name}-play.png", whole=True)
    page.click("#tab-live")
    page.click("#live-start")
    page.wait_for_timeout(2500)
    page.click("#live-record")
    page.wait_for_timeout(1500)
    page.click("#live-record")
    page.wait_for_timeout(700)
    save(page, folder / f"{name}-live.png", whole=True)
    page.click("#live-start")
    page.click("#tab-teach")
    page.wait_for_timeout(700)
    save(page, folder / f"{name}-teach.png", whole=True)


if __name__ == "__main__":
    main()
