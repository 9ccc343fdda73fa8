"""The page in a real browser: drop, record, move a control, draw, download, play live; on a phone, by keyboard.

Drives the system's Chromium by playwright. What the page gives to the audio system is caught on its way there, and has
to be what `ddsp transfer` writes.
"""

from __future__ import annotations

import re
import shutil
import threading
import time

import numpy as np
import pytest
import soundfile

from ddsp_cli.studio import live
from ddsp_cli.studio.server import Server
from ddsp_cli.studio.session import EXCERPT_S, RENDERED_SHARE
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
    """Opens the page; no errors may appear in its console, such as violations of the policy."""
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
    first = np.asarray(page.evaluate(f"caught[{before}].samples"), np.float32)  # the audible sound comes first
    np.testing.assert_array_equal(first, transferred(folder, tmp_path, instrument="violin"))


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


def wait_until_played(page):
    """Waits until all requests are complete."""
    wait_for(page, "!document.documentElement.dataset.playing && document.querySelector('#work').hidden", 60)


def test_blend_over_time(open_page, folder, tmp_path):
    page = open_page()
    add_voice(page, folder)
    page.select_option("#blend-mode", "timed")
    page.uncheck("#instrument-flute")
    wait_until_played(page)
    assert page.inner_text("#sources [aria-checked=true]") == "Blend"
    words = re.fullmatch(r"ddsp transfer voice.wav --blend '(0s:flute 2\.1s:violin)'", page.inner_text("#command"))[1]
    np.testing.assert_array_equal(last_sound(page), transferred(folder, tmp_path, instrument=words))
    page.fill("[aria-label='Seconds of point 2']", "1.2")
    page.press("[aria-label='Seconds of point 2']", "Tab")
    page.select_option("[aria-label='Instrument of point 1']", "clarinet")
    wait_until_played(page)
    assert page.inner_text("#command").endswith("--blend '0s:clarinet 1.2s:violin'")
    page.click("#blend-add")
    wait_until_played(page)
    assert "--blend '0s:clarinet 1.2s:violin 3.2s:" in page.inner_text("#command")
    page.click("[aria-label='Remove point 3']")
    wait_until_played(page)
    assert page.inner_text("#command").endswith("--blend '0s:clarinet 1.2s:violin'")
    page.select_option("#blend-mode", "fixed")
    wait_until_played(page)
    assert "--model flute:0.50+violin:0.50" in page.inner_text("#command")


def test_parts_of_a_midi_file(open_page, folder, tmp_path):
    import mido

    file = mido.MidiFile()
    for name, channel, note in (("Flute", 0, 76), ("Bass", 1, 60)):
        track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
        track.append(mido.Message("note_on", note=note, velocity=90, channel=channel))
        track.append(mido.Message("note_off", note=note, time=960, channel=channel))
        file.tracks.append(track)
    file.save(folder / "two.mid")
    page = open_page()
    before = page.evaluate("caught.length")
    page.set_input_files("#files", folder / "two.mid")
    wait_for_sound(page, before)
    np.testing.assert_array_equal(last_sound(page), transferred(folder, tmp_path, "two.mid"))
    assert page.inner_text("#parts label[for=tracks-1]") == "1 Flute (1 note)"
    before = page.evaluate("caught.length")
    page.uncheck("#tracks-2")
    wait_for_sound(page, before)
    wait_until_played(page)
    np.testing.assert_array_equal(last_sound(page), transferred(folder, tmp_path, "two.mid", track=["1"]))
    assert page.inner_text("#command") == "ddsp transfer two.mid --model flute --track 1"
    assert page.locator("#parts fieldset").count() == 1  # each track has a channel of its own
    page.click("#tracks-1")
    assert page.is_checked("#tracks-1")  # one has to be played
    page.click("#takes button:has-text('voice')")
    page.wait_for_selector("#parts", state="hidden", timeout=30_000)


def test_long_sound_plays_at_once_from_the_playhead(open_page, folder, tmp_path):
    """A moved control changes the sound from the playhead on first; the whole sound then replaces this part."""
    soundfile.write(folder / "long.wav", melody((60, 64, 67, 65) * 4, note_s=0.6, rest_s=0.2), 16000, subtype="FLOAT")
    page = open_page()
    add_voice(page, folder, "long.wav")
    wait_until_played(page)
    page.eval_on_selector("#position", "(slider) => { slider.value = 5; slider.dispatchEvent(new Event('input')); }")
    before = page.evaluate("caught.length")
    move(page, "#control-formant", 3)
    wait_until_played(page)
    sounds = [np.asarray(one["samples"], np.float32) for one in page.evaluate(f"caught.slice({before})")]
    assert len(sounds) >= 2
    expected = transferred(folder, tmp_path, "long.wav", formant=3.0)
    np.testing.assert_array_equal(sounds[-1], expected)
    rate_hz = page.evaluate("caught.at(-1).rate")
    assert EXCERPT_S <= len(sounds[0]) / rate_hz < EXCERPT_S + 13.0 * RENDERED_SHARE + 0.1
    there = expected[5 * rate_hz : 5 * rate_hz + len(sounds[0])]
    assert 20 * np.log10(np.std(sounds[0]) / np.std(there)) == pytest.approx(0, abs=1.5)


def test_excerpt_takes_over_and_gives_back(open_page):
    """Rendered by the browser: the sound, then the excerpt in its place, then the sound again; without a gap."""
    page = open_page()
    heard = page.evaluate("""async () => {
        const { Player } = await import('./static/player.js');
        const offline = new OfflineAudioContext(1, 48000, 48000);
        window.AudioContext = function () { return offline; };
        offline.resume = async () => {};
        const player = new Player();
        player.set('a', [new Float32Array(96000).fill(0.5)], 48000, null);
        player.patch('a', [new Float32Array(24000).fill(0.25)], 48000, null, 0.25);
        player.hear('a');
        await player.play();
        const rendered = await offline.startRendering();
        return Array.from(rendered.getChannelData(0));
    }""")  # fmt: skip
    heard = np.asarray(heard)
    np.testing.assert_allclose(heard[4800:11900], 0.5, atol=1e-3)
    np.testing.assert_allclose(heard[12600:35400], 0.25, atol=1e-3)
    np.testing.assert_allclose(heard[36100:], 0.5, atol=1e-3)
    assert heard[4800:].min() > 0.24


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


#: Sound begins a second later than usual.
LATE = """
const resume = AudioContext.prototype.resume;
AudioContext.prototype.resume = async function () {
  await new Promise((done) => setTimeout(done, 1000));
  return resume.call(this);
};
"""


def test_a_refusal_is_shown_however_late_the_sound_begins(open_page, monkeypatch):
    """The server answers at once, and closes the line."""
    monkeypatch.setattr(live, "MAX_LINES", 0)
    page = open_page()
    page.evaluate(f"() => {{{LATE}}}")
    page.click("#tab-live")
    page.click("#live-start")
    wait_for(page, "document.querySelector('#status').textContent.includes('0 pages play live already')")
    wait_for(page, "document.querySelector('#live-start').textContent === 'Start'")


def test_what_changes_before_the_line_is_open_is_played(open_page):
    """The worker gets a second wish while the line is opened for the first."""
    answer = open_page().evaluate("""() => new Promise((done) => {
        const worker = new Worker("static/live-worker.js");
        const address = new URL("live?rate=48000", document.baseURI);
        address.protocol = "ws:";
        worker.onmessage = ({ data }) => { worker.postMessage({ close: true }); done(data); };
        worker.postMessage({ address: address.href, wanted: { instrument: "flute", settings: {} } });
        worker.postMessage({ wanted: { instrument: "clarinet", settings: {} } });
    })""")
    assert answer["instrument"] == "clarinet"


@pytest.mark.parametrize(("tab", "button"), [("#tab-play", "#record-open"), ("#tab-live", "#live-start")])
def test_a_microphone_that_cannot_be_used_is_closed(open_page, tab, button):
    """Firefox refuses one of another sample rate than that of the output."""
    page = open_page()
    page.evaluate("""() => {
        window.tracks = [];
        const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => {
            const stream = await open(wanted);
            window.tracks.push(...stream.getTracks());
            return stream;
        };
        window.MediaStreamAudioSourceNode = class { constructor() { throw new Error("of another rate"); } };
    }""")
    page.click(tab)
    page.click(button)
    wait_for(page, "document.querySelector('#status').textContent === 'Of another rate.'")
    assert page.evaluate("tracks.map((track) => track.readyState)") == ["ended"]


def test_live_is_recorded_and_played_again(open_page, tmp_path):
    page = open_page()
    page.click("#tab-live")
    assert page.is_disabled("#live-record")
    page.click("#live-start")
    wait_for(page, "document.querySelector('#live-out').value > -45")
    page.click("#live-record")
    wait_for(page, "parseFloat(document.querySelector('#live-recorded-s').textContent) > 1.5")
    page.click("#live-record")
    with page.expect_download() as waiting:
        page.click("#live-save")
    target = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(target)
    assert target.name.startswith("live flute")
    played, rate_hz = soundfile.read(target)
    assert len(played) > 1.4 * rate_hz
    assert np.sqrt(np.mean(played**2)) > 0.002
    before = page.evaluate("caught.length")
    page.click("#live-keep")  # the voice, on an instrument
    wait_for_sound(page, before, 2)
    assert page.inner_text("#takes [aria-pressed=true]").startswith("voice")
    assert not page.is_visible("#panel-live")
    voice = np.asarray(page.evaluate(f"caught[{before}].samples"))
    assert abs(len(voice) - len(played)) <= 2
    assert np.sqrt(np.mean(voice**2)) > 0.005


#: Makes the worklet of the live part outside of an audio thread, as `live`.
LIVE_WORKLET = """
    let made;
    globalThis.AudioWorkletProcessor = class { constructor() { this.port = { postMessage() {} }; } };
    globalThis.registerProcessor = (_, kind) => { made = kind; };
    globalThis.sampleRate = 48000;
    globalThis.currentFrame = 0;
    await import('./static/live-worklet.js');
    const live = new made({ processorOptions: { block: 256 } });
"""


def test_delay_that_is_not_needed_is_left_out(open_page):
    """The worklet alone: a burst of answers shortens its queue, without a step in the sound."""
    page = open_page()
    told = page.evaluate("async () => {" + LIVE_WORKLET + """
        const pipe = { postMessage(data) { waiting.push(data); } };
        const waiting = [], delays = [];
        let step = 0, last = 0;
        live.port.onmessage({ data: pipe });
        const tone = (frame) => 0.5 * Math.sin(2 * Math.PI * 220 * frame / 48000);
        for (let turn = 0; turn < 4000; turn++) {
            const heard = Float32Array.from({ length: 128 }, (_, i) => tone(currentFrame + i));
            const played = new Float32Array(128);
            for (const one of waiting.splice(0)) pipe.onmessage({ data: { ...one, load: 0.1, f0: [0, 0] } });
            live.process([[heard]], [[played]]);
            live.port.postMessage = (report) => delays.push([report.delay_s, report.dropouts]);
            for (const sample of played) {
                if (turn > 400) step = Math.max(step, Math.abs(sample - last));
                last = sample;
            }
            globalThis.currentFrame += 128;
        }
        return { delays, step };
    }""")  # fmt: skip
    first_s, last_s = told["delays"][2][0], told["delays"][-1][0]
    assert first_s > 0.015
    assert last_s < first_s - 0.004
    assert told["delays"][-1][1] == 0
    assert told["step"] < 0.5 * 2 * np.pi * 220 / 48000 + 1.0 / 128 * 1.01


def test_the_end_of_a_live_recording_is_handed_over(open_page):
    """The worklet alone: 100 steps of 128 samples are three whole pieces and a part of one, which is the last."""
    page = open_page()
    pieces = page.evaluate("async () => {" + LIVE_WORKLET + """
        const pieces = [];
        live.port.postMessage = ({ input, played, isLast }) => {
            if (played) pieces.push([input.length, played.length, isLast]);
        };
        live.port.onmessage({ data: { record: true } });
        for (let turn = 0; turn < 100; turn++) live.process([[new Float32Array(128)]], [[new Float32Array(128)]]);
        live.port.onmessage({ data: { record: false } });
        live.process([[new Float32Array(128)]], [[new Float32Array(128)]]);
        return pieces;
    }""")  # fmt: skip
    assert pieces == [[4096, 4096, False]] * 3 + [[512, 512, True]]


def test_stop_ends_a_live_recording_and_keeps_it(open_page, tmp_path):
    """Stop closes the audio only after the last piece came: what the worklet handed over is in the file."""
    page = open_page()
    page.evaluate("""() => {
        window.handed = { samples: 0, isLast: false };
        window.AudioWorkletNode = class extends AudioWorkletNode {
            constructor(...given) {
                super(...given);
                this.port.addEventListener("message", ({ data }) => {
                    if (data.played) handed = { samples: handed.samples + data.played.length, isLast: data.isLast };
                });
            }
        };
    }""")
    page.click("#tab-live")
    page.click("#live-start")
    wait_for(page, "document.querySelector('#live-out').value > -45")
    page.click("#live-record")
    wait_for(page, "parseFloat(document.querySelector('#live-recorded-s').textContent) > 1.0")
    page.click("#live-start")
    with page.expect_download() as waiting:
        page.click("#live-save")
    waiting.value.save_as(tmp_path / "live.wav")
    played, rate_hz = soundfile.read(tmp_path / "live.wav")
    assert len(played) > 1.0 * rate_hz
    assert page.evaluate("handed") == {"samples": len(played), "isLast": True}


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
