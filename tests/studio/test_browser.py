"""The page in a real browser: drop, record, move a control, draw, download, play live; on a phone, by keyboard.

Drives the system's Chromium by playwright. What the page gives to the audio system is caught on its way there, and has
to be what `ddsp transfer` writes.
"""

from __future__ import annotations

import shutil
import threading
import time

import numpy as np
import pytest
import soundfile

from ddsp_cli.studio.run import Server
from ddsp_cli.workflows.performance import make_options
from ddsp_cli.workflows.transfer import transfer_files
from fixtures import melody

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed", exc_type=ImportError)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
]

#: Catches every sound that the page plays, in order.
CATCH = """
window.caught = [];
const copy = AudioBuffer.prototype.copyToChannel;
AudioBuffer.prototype.copyToChannel = function (samples, channel) {
  window.caught.push({ rate: this.sampleRate, samples: Array.from(samples) });
  return copy.call(this, samples, channel);
};
"""

PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A voice of 2.4 s, and a place for everything."""
    found = tmp_path_factory.mktemp("browser")
    soundfile.write(found / "voice.wav", melody((60, 64, 67), note_s=0.6, rest_s=0.2), 16000, subtype="FLOAT")
    sung = melody((60, 64, 67), note_s=0.8, rest_s=0.2)
    soundfile.write(found / "microphone.wav", np.tile(np.repeat(sung, 3), 4), 48000, subtype="PCM_16")
    return found


def start(folder):
    """A server in a thread of this process."""
    server = Server(0, folder / "studio")
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    ends = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < ends
        time.sleep(0.02)
    return server, thread


@pytest.fixture(scope="module")
def server(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDSP_MODELS", str(folder / "library"))
        yield from running(folder)


def running(folder):
    """A server that is ended afterwards."""
    found, thread = start(folder)
    yield found
    found.leave()
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def browser(folder):
    arguments = [
        "--no-sandbox",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={folder / 'microphone.wav'}",
    ]
    with playwright.sync_playwright() as program:
        found = program.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield found
        found.close()


@pytest.fixture
def open_page(browser, server):
    """Opens the page; nothing may appear among the errors of its console, such as what the policy forbids."""
    contexts, problems = [], []

    def note(line):
        if line.type == "error" and "status of 400" not in line.text:  # an answer that the page shows in its own words
            problems.append(line.text)

    def opened(**options):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        context.add_init_script(CATCH)
        page = context.new_page()
        page.set_default_timeout(20000)
        page.on("console", note)
        page.on("pageerror", lambda problem: problems.append(str(problem)))
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(server.address)
        page.wait_for_selector("html[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def wait_for(page, expression, seconds=20):
    """Waits until an expression is true. Playwright's own function for it needs `eval`, which the policy forbids."""
    ends = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < ends, expression
        page.wait_for_timeout(30)


def add_voice(page, folder, name="voice.wav"):
    before = page.evaluate("caught.length")
    page.set_input_files("#files", folder / name)
    wait_for_sound(page, before, 2)


def wait_for_sound(page, before, n=1):
    wait_for(page, f"caught.length >= {before + n} && document.querySelector('#work').hidden")


def last_sound(page):
    sound = page.evaluate("caught.at(-1)")
    return np.asarray(sound["samples"], np.float32)


def transferred(folder, tmp_path, name="voice.wav", instrument="flute", from_controls=None, **settings):
    out = tmp_path / "expected.wav"
    transfer_files(folder / name, instrument, out, options=make_options(**settings), bits="float", force=True,
                   from_controls=from_controls)  # fmt: skip
    return soundfile.read(out, dtype="float32")[0]


def download(page, kind, tmp_path):
    with page.expect_download() as waiting:
        page.click(f"#download-{kind}")
    target = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(target)
    return target


def move(page, selector, value):
    """Moves a slider as a hand does."""
    before = page.evaluate("caught.length")
    drag = """(slider, value) => {
        slider.value = value;
        for (const kind of ['input', 'change']) slider.dispatchEvent(new Event(kind));
    }"""
    page.eval_on_selector(selector, drag, value)
    wait_for_sound(page, before)


def test_drop_choose_and_move_a_control(open_page, folder, tmp_path):
    page = open_page()
    add_voice(page, folder)
    np.testing.assert_array_equal(last_sound(page), transferred(folder, tmp_path))
    assert page.inner_text("#command") == "ddsp transfer voice.wav --model flute"
    move(page, "#control-formant", 3)
    np.testing.assert_array_equal(last_sound(page), transferred(folder, tmp_path, formant=3.0))
    assert page.inner_text("#command").endswith("--formant 3")
    before = page.evaluate("caught.length")
    page.click("#undo")
    wait_for_sound(page, before)
    np.testing.assert_array_equal(last_sound(page), transferred(folder, tmp_path))
    before = page.evaluate("caught.length")
    page.check("#instrument-violin")
    wait_for_sound(page, before)
    assert page.inner_text("#sources [aria-checked=true]") == "violin"
    np.testing.assert_array_equal(last_sound(page), transferred(folder, tmp_path, instrument="violin"))


def test_dropped_by_hand(open_page, folder):
    """With the events of a real drop; the input for files is another way."""
    page = open_page()
    before = page.evaluate("caught.length")
    page.evaluate("""(bytes) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], 'dropped.wav'));
        document.querySelector('#drop').dispatchEvent(new DragEvent('drop', { bubbles: true, dataTransfer: transfer }));
    }""", list((folder / "voice.wav").read_bytes()))  # fmt: skip
    wait_for_sound(page, before, 2)
    assert page.inner_text("#takes [aria-pressed=true]") == "dropped.wav"


def test_draw_and_download(open_page, folder, tmp_path):
    page = open_page()
    add_voice(page, folder)
    undrawn = last_sound(page)
    page.check("[name=tool][value=draw]", force=True)
    box = page.locator("#view-pitch").bounding_box()
    before = page.evaluate("caught.length")
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.55 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.45 * box["height"], steps=8)
    page.mouse.up()
    wait_for_sound(page, before)
    drawn = last_sound(page)
    assert np.abs(drawn[: len(undrawn)] - undrawn).max() > 0.01
    curves = download(page, "curves", tmp_path)
    np.testing.assert_array_equal(drawn, transferred(folder, tmp_path, from_controls=curves))
    written, _ = soundfile.read(download(page, "wav", tmp_path), dtype="float32")
    np.testing.assert_array_equal(written, drawn)
    assert download(page, "flac", tmp_path).read_bytes().startswith(b"fLaC")
    midi = download(page, "midi", tmp_path)
    assert (midi.name, midi.read_bytes()[:4]) == ("voice_flute.mid", b"MThd")
    before = page.evaluate("caught.length")
    page.click("#draw-undo")
    wait_for_sound(page, before)
    np.testing.assert_array_equal(last_sound(page), undrawn)


def test_record_and_play(open_page):
    page = open_page()
    page.click("#record-open")
    wait_for(page, "document.querySelector('#recorder meter')?.value > -40")
    page.click("#record-start")
    page.wait_for_timeout(2500)
    page.click("#record-start")
    before = page.evaluate("caught.length")
    page.click("#record-keep")
    wait_for_sound(page, before, 2)
    assert page.inner_text("#takes [aria-pressed=true]").startswith("recording")
    assert int(page.inner_text("#notes summary").strip("Notes ()")) >= 2
    assert np.sqrt(np.mean(last_sound(page) ** 2)) > 0.005


def test_live(open_page):
    page = open_page()
    page.click("#tab-live")
    page.click("#live-start")
    wait_for(page, "document.querySelector('#live-out').value > -45")
    page.select_option("#live-instrument", "clarinet")
    page.wait_for_timeout(600)
    wait_for(page, "document.querySelector('#live-out').value > -45")
    trip_ms, own_ms = (int(page.inner_text(f"#live-{part}").split()[0]) for part in ("trip", "own"))
    assert 50 < own_ms < trip_ms < 1000
    page.click("#live-start")
    assert page.inner_text("#live-start") == "Start"


def test_players_run_in_step_at_one_loudness(open_page):
    """All start at one time and place; the louder one is turned down by the difference, the one not heard is silent."""
    page = open_page()
    told = page.evaluate("""async () => {
        const { Player } = await import('./static/player.js');
        const starts = [], gains = [];
        const start = AudioBufferSourceNode.prototype.start, target = AudioParam.prototype.setTargetAtTime;
        AudioBufferSourceNode.prototype.start = function (...when) { starts.push(when); start.apply(this, when); };
        AudioParam.prototype.setTargetAtTime = function (value, ...rest) {
            gains.push(value);
            target.call(this, value, ...rest);
        };
        const player = new Player();
        player.set('loud', [new Float32Array(96000)], 48000, -20);
        player.set('soft', [new Float32Array(44100)], 22050, -26);
        player.hear('loud');
        player.seek(0.5);
        gains.length = 0;
        await player.play();
        const playing = gains.splice(0);
        player.hear('soft');
        const switched = gains.splice(0);
        player.setMatch(false);
        player.hear('loud');
        const unmatched = gains.slice(-2);
        player.stop();
        return { starts, playing, switched, unmatched };
    }""")  # fmt: skip
    assert told["starts"] == [[0, 0.5], [0, 0.5]]
    np.testing.assert_allclose(told["playing"], [10 ** (-6 / 20), 0])
    assert told["switched"] == [0, 1]
    assert told["unmatched"] == [1, 0]


def test_keyboard(open_page, folder):
    """Play, pause and switch without a pointer."""
    page = open_page()
    add_voice(page, folder)
    page.focus("#listen-heading")
    page.keyboard.press("Space")
    page.wait_for_selector("#play[aria-label=Pause]")
    wait_for(page, "document.querySelector('#position').value > 0.1")
    page.focus("#sources [aria-checked=true]")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#sources [aria-checked=true]") == "Input"
    assert page.evaluate("document.activeElement.textContent") == "Input"
    page.focus("#listen-heading")
    page.keyboard.press("Space")
    page.wait_for_selector("#play[aria-label=Play]")
    page.focus("#tab-play")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#panel-live")
    assert page.evaluate("document.activeElement.id") == "tab-live"


def test_preset_and_second_page(open_page, folder):
    page = open_page()
    add_voice(page, folder)
    move(page, "#control-dynamics", 0.5)
    page.fill("#preset-name", "half")
    page.click("#preset-save")
    wait_for(page, "document.querySelector('#preset').value === 'half'")
    other = open_page()
    before = other.evaluate("caught.length")
    other.select_option("#preset", "half")
    wait_for_sound(other, before)
    assert "--dynamics 0.5" in other.inner_text("#command")
    assert page.inner_text("#command") == other.inner_text("#command")  # both chose the newest sound


def test_what_is_no_sound_is_said(open_page, folder):
    page = open_page()
    (folder / "text.wav").write_text("no sound")
    page.set_input_files("#files", folder / "text.wav")
    wait_for(page, "document.querySelector('#status').textContent.includes('text.wav is not a sound file')")


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_phone(open_page, colours):
    """Nothing is wider than a phone, in any part."""
    page = open_page(viewport=PHONE, color_scheme=colours, has_touch=True)
    for part in ("play", "live", "teach"):
        page.click(f"#tab-{part}")
        page.wait_for_timeout(200)
        wide = page.evaluate("document.scrollingElement.scrollWidth")
        assert wide <= PHONE["width"], part


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_accessibility(browser, server, colours):
    """axe-core finds no serious violation in any part."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    context = browser.new_context(bypass_csp=True, color_scheme=colours, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(server.address)
    page.wait_for_selector("html[data-ready]")
    for part in ("play", "live", "teach"):
        page.click(f"#tab-{part}")
        page.wait_for_timeout(300)
        if part == "teach":
            page.wait_for_selector("#teach-create")
            page.fill("#teach-name", f"mine-{colours}")
            page.click("#teach-create")
            page.wait_for_selector("#teach-prepare")
        found = axe.Axe().run(page).response["violations"]
        serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in {"serious", "critical"}]
        assert serious == [], part
    context.close()


def test_quit(browser, folder):
    server, thread = start(folder)
    page = browser.new_page()
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(server.address)
    page.wait_for_selector("html[data-ready]")
    page.click("#quit")
    thread.join(15)
    assert not thread.is_alive()
    page.close()


def test_every_file_is_one_of_ours(open_page):
    page = open_page()
    hosts = page.evaluate("performance.getEntriesByType('resource').map((entry) => new URL(entry.name).host)")
    assert len(hosts) > 8
    assert set(hosts) == {page.url.split("/")[2]}
