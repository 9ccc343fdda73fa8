"""How long a user of `ddsp studio` waits for sound, after a recording is dropped and after a control is moved.

python benchmarks/studio.py [AUDIO] [--seconds 10] [--instrument flute] [--repeats 5] [--live 10]

Measured inside a real Chromium, from the event (a file is chosen, a slider moves) to the moment at which the page hands
the instrument's samples to the audio system. After a moved control that is an excerpt from the playhead on, unless the
sound is short; the whole has a row of its own. The second figure is the processor time of the server until then, which
other programs change less. AUDIO is `examples/voice.wav` by default, repeated and cut to `--seconds`. The
microphone of the live part plays the same file; its row is the round trip that the page shows.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import soundfile

from ddsp_cli.studio.server import Server

ROOT = Path(__file__).parent.parent

#: Controls that are moved, between two values.
CONTROLS = {"formant": (1.0, 2.0), "dynamics": (0.5, 0.7), "autotune": (0.6, 0.9), "wet": (0.5, 0.7)}

LIVE_PARTS = ("trip", "own", "way", "audio", "load", "dropouts")

#: Notes when a file is chosen or a slider moves, and when samples go to the audio system.
CLOCK = """
window.asked = 0;
window.heard = [];
addEventListener('input', () => { window.asked = performance.now(); }, true);
addEventListener('change', (event) => { if (event.target.type === 'file') window.asked = performance.now(); }, true);
const copy = AudioBuffer.prototype.copyToChannel;
AudioBuffer.prototype.copyToChannel = function (samples, channel) {
  window.heard.push(performance.now());
  return copy.call(this, samples, channel);
};
"""


def wait_for(page, expression: str, seconds: float = 60.0) -> None:
    """Waits until an expression is true in the page."""
    ends = time.monotonic() + seconds
    while not page.evaluate(expression):
        if time.monotonic() > ends:
            raise SystemExit(f"the page took more than {seconds:g} s: {page.inner_text('#status')}")
        page.wait_for_timeout(10)


def server_s() -> float:
    """Returns the processor seconds of all threads of this process but the main one, which drives the browser."""
    return sum(one.user_time + one.system_time for one in psutil.Process().threads() if one.id != os.getpid())


def waited_ms(page, n_sounds: int, act) -> tuple[float, float]:
    """Measures ms from an action to one of its sounds, and of the server's processor time until then."""
    wait_for(page, "!document.documentElement.dataset.playing")
    before, before_s = page.evaluate("heard.length"), server_s()
    act()
    wait_for(page, f"heard.length >= {before + n_sounds}")
    spent_s = server_s() - before_s
    return float(page.evaluate(f"heard[{before + n_sounds - 1}] - asked")), 1000.0 * spent_s


def line(what: str, times_ms: list[float], cpu_ms: list[float] | None = None) -> None:
    """Formats one line of the table."""
    cpu = f"   processor {statistics.median(cpu_ms):4.0f} ms" if cpu_ms else ""
    print(
        f"{what:<34}{statistics.median(times_ms):8.0f} ms   {min(times_ms):6.0f} .. {max(times_ms):4.0f}{cpu}",
        flush=True,
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", nargs="?", type=Path, default=ROOT / "examples" / "voice.wav")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--instrument", default="flute")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--live", type=float, default=10.0)
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise SystemExit("no Chromium is installed")
    audio, rate_hz = soundfile.read(given.audio, dtype="float32", always_2d=True)
    n_samples = round(given.seconds * rate_hz)
    mono = np.tile(audio.mean(axis=1), -(-n_samples // len(audio)))[:n_samples]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as program:
        source = Path(folder) / "source.wav"
        soundfile.write(source, mono, rate_hz)
        server = Server(0, Path(folder) / "studio")
        thread = threading.Thread(target=server.run)
        thread.start()
        browser = program.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
                  f"--use-file-for-fake-audio-capture={source}"],
        )  # fmt: skip
        page = browser.new_page()
        page.add_init_script(CLOCK)
        page.goto(server.address)
        page.wait_for_selector("html[data-ready]")
        if given.instrument != "flute":
            page.uncheck("#instrument-flute")
            page.check(f"#instrument-{given.instrument}")
        print(f"{given.seconds:g} s of {given.audio.name} at {rate_hz} Hz on {given.instrument}; median, least .. most")
        dropped = [waited_ms(page, 2, lambda: page.set_input_files("#files", source)) for _ in range(given.repeats)]
        line("drop to sound", *map(list, zip(*dropped, strict=True)))
        wait_for(page, "!document.documentElement.dataset.playing")
        page.eval_on_selector("#position", "(slider, share) => { slider.value = share * slider.max; "
                              "slider.dispatchEvent(new Event('input', { bubbles: true })); }", 0.3)  # fmt: skip
        for control, values in CONTROLS.items():
            times, wholes = [], []
            for i in range(given.repeats):
                value = values[i % 2] + 0.01 * i  # never one that was heard before

                def move(value: float = value, control: str = control) -> None:
                    slide = "(slider, value) => { slider.step = 'any'; slider.value = value; " \
                            "slider.dispatchEvent(new Event('input', { bubbles: true })); }"  # fmt: skip
                    page.eval_on_selector(f"#control-{control}", slide, value)

                times.append(waited_ms(page, 1, move))
                wait_for(page, "!document.documentElement.dataset.playing")
                wholes.append(float(page.evaluate("heard.at(-1) - asked")))
            line(f"{control} moved to sound", *map(list, zip(*times, strict=True)))
            if wholes != [time for time, _ in times]:
                line(f"{control} moved to the whole", wholes)
        if given.live > 0:
            page.click("#tab-live")
            page.click("#live-start")
            page.wait_for_timeout(1000 * given.live)
            trip, own, way, out, load, dropouts = (page.inner_text(f"#live-{part}") for part in LIVE_PARTS)
            print(f"live, {given.live:g} s in blocks of 256 samples: round trip {trip} = instrument {own} + way {way}")
            print(f"     + output {out}; load {load}, {dropouts} drop-outs")
        browser.close()
        server.leave()
        thread.join()


if __name__ == "__main__":
    main()
