"""From device to device: the output of the performer after the stated delay; drop-outs; crossfades."""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time

import numpy as np
import pytest
import soundfile

from ddsp_cli.audio import write
from ddsp_cli.errors import InputError, UsageError
from ddsp_cli.live import devices, process
from ddsp_cli.live.audio_loop import FADE_SAMPLES, MAX_SLACK_S, MORE_BLOCKS, PATIENCE, RING_SAMPLES, AudioLoop, Ring
from ddsp_cli.live.devices import Device, SimulatedDevices, StreamSettings, choose_rate_hz
from ddsp_cli.live.mixer import CROSSFADE_S, WARM_UP_S, Controls, Mixer, soft_clipped
from ddsp_cli.live.performer import LiveSettings, LiveState, Performer
from ddsp_cli.live.process import Job, LiveStatus, SignalChain
from ddsp_cli.live.tape import OUTPUT, FeedbackDetector, Recorder, Tape
from ddsp_cli.synthesis.instrument import Instrument
from fixtures import make_bundle, melody

RATE_HZ, BLOCK = 24000, 240


@pytest.fixture(scope="module")
def instruments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return (
        Instrument(make_bundle(folder / "testophone")),
        Instrument(make_bundle(folder / "otherophone", seed=5)),
    )


def make_job(instruments, **controls):
    return Job(StreamSettings("null", "null", BLOCK), instruments, Controls(**controls), LiveSettings())


def make_tape(n_samples=4 * RATE_HZ):
    context = multiprocessing.get_context("spawn")
    return Tape(context.RawArray("f", 2 * n_samples), context.RawArray("d", 1))


def play_through(chain, audio, after=None):
    """Returns the output of a simulated pair of devices; `after` maps the number of a block to a call after it."""
    number = 0

    def between():
        nonlocal number
        chain.loop.work_once()
        if after and number in after:
            after[number]()
        number += 1

    pair = SimulatedDevices(audio, RATE_HZ, BLOCK, between)
    pair.start(chain.loop.callback)
    return pair.played


def test_the_output_is_that_of_the_performer_at_the_stated_delay(instruments):
    audio = melody((69, 72), rate_hz=RATE_HZ)
    performer = Performer(instruments[0], LiveSettings(), RATE_HZ)
    expected = performer.push(audio)
    tape = make_tape()
    chain = SignalChain(make_job(instruments), RATE_HZ, tape)
    played = play_through(chain, audio)
    assert np.abs(expected).max() > 0.01
    delay = 2 * BLOCK  # one block is collected, and the loop has one to play it
    n = len(audio) // BLOCK * BLOCK - BLOCK
    np.testing.assert_array_equal(played[delay : delay + n], expected[:n])
    status = chain.status()
    assert status.latency_s * RATE_HZ == performer.latency_samples + delay
    assert status.n_dropouts == 0
    assert status.seconds == pytest.approx(len(audio) / RATE_HZ)
    _, both = tape.read(0)
    np.testing.assert_array_equal(both, np.stack([audio, expected], axis=1))


def test_meters_tell_what_is_sung_and_played(instruments):
    audio = melody((69,), note_s=0.6, rest_s=0.3, rate_hz=RATE_HZ)[: -round(0.3 * RATE_HZ)]
    chain = SignalChain(make_job(instruments, transpose=12.0), RATE_HZ)
    play_through(chain, audio)
    status = chain.status()
    assert status.f0_hz == pytest.approx(440.0, rel=0.005)
    assert status.played_hz == pytest.approx(880.0, rel=0.005)
    assert status.plays == 1.0
    rms_db = 20 * np.log10(np.std(audio[-round(0.3 * RATE_HZ) : -round(0.03 * RATE_HZ)]))
    assert status.input_db == pytest.approx(rms_db, abs=2.0)


def test_changes_while_playing_act_without_a_break(instruments):
    audio = melody((69,), note_s=2.0, rest_s=0.2, rate_hz=RATE_HZ)
    plain = play_through(SignalChain(make_job(instruments), RATE_HZ), audio)
    other = play_through(SignalChain(make_job(instruments, instrument=1), RATE_HZ), audio)
    chain = SignalChain(make_job(instruments), RATE_HZ)
    at = round(0.6 * RATE_HZ / BLOCK)

    def change():
        chain.mixer.controls = Controls(instrument=1)

    changed = play_through(chain, audio, {at: change})
    latency = chain.mixer.latency_samples
    begin = (at + 1) * BLOCK + latency + round(WARM_UP_S * RATE_HZ) + 2 * BLOCK
    end = begin + round(CROSSFADE_S * RATE_HZ)
    np.testing.assert_array_equal(changed[:begin], plain[:begin])

    def level_db(sound, start):
        return 10 * np.log10(np.mean(sound[start : start + 2400] ** 2))

    for start in range(end, round(1.9 * RATE_HZ), 2400):
        assert level_db(changed, start) == pytest.approx(level_db(other, start), abs=1.5)
    softest = min(level_db(plain, begin - 2400), level_db(other, end))
    assert min(level_db(changed, start) for start in range(begin - 2400, end, 240)) > softest - 3.0
    assert chain.status().instrument == 1


def test_octave_mute_and_room_change_from_the_next_frame_on(instruments):
    audio = melody((69,), note_s=1.5, rest_s=0.2, rate_hz=RATE_HZ)
    chain = SignalChain(make_job(instruments), RATE_HZ)
    steps = {
        round(0.6 * RATE_HZ / BLOCK): Controls(transpose=12.0),
        round(1.0 * RATE_HZ / BLOCK): Controls(transpose=12.0, muted=True),
    }
    after = {at: lambda wanted=wanted: setattr(chain.mixer, "controls", wanted) for at, wanted in steps.items()}
    played = play_through(chain, audio, after)
    assert chain.status().played_hz == pytest.approx(880.0, rel=0.005)
    assert np.abs(played[round(0.9 * RATE_HZ) : round(1.0 * RATE_HZ)]).max() > 0.01
    assert not played[round(1.1 * RATE_HZ) :].any()


class Echo:
    """A source without latency that plays its input times a gain."""

    latency_samples, state = 0, LiveState(440.0, 440.0, True)

    def __init__(self, gain=1.0):
        self.gain = gain

    def push(self, block):
        return self.gain * block

    def adjust(self, **_):
        pass


def test_a_crossfade_keeps_the_power_and_a_mute_is_a_ramp():
    mixer = Mixer(lambda controls, _: Echo(1.0 if controls.instrument == 0 else 0.0), Controls(), 1000)
    ones = np.full(10, 0.5, np.float32)
    assert (mixer.play(ones) == 0.5).all()
    mixer.controls = Controls(instrument=1)
    fade = np.concatenate([mixer.play(ones) for _ in range(30)])
    np.testing.assert_allclose(fade[: round(1000 * WARM_UP_S)], 0.5)
    middle = round(1000 * (WARM_UP_S + CROSSFADE_S / 2))
    assert fade[middle] == pytest.approx(0.5 * np.sqrt(0.5), rel=1e-3)
    assert (np.diff(fade) <= 0).all()
    assert fade[-1] == pytest.approx(0.0, abs=1e-6)
    mixer.controls = Controls(instrument=0)
    for _ in range(40):
        mixer.play(ones)
    mixer.controls = Controls(muted=True)
    muted = np.concatenate([mixer.play(ones) for _ in range(4)])
    np.testing.assert_allclose(muted[:20], 0.5 * (1 - np.arange(1, 21) / 20), atol=1e-6)
    assert not muted[20:].any()


def test_peaks_are_bent_and_the_rest_is_left():
    ramp = np.linspace(-3, 3, 601, dtype=np.float32)
    bent = soft_clipped(ramp)
    assert np.abs(bent).max() <= 1.0
    assert (np.diff(bent) >= 0).all()
    quiet = np.abs(ramp) <= 0.9
    np.testing.assert_array_equal(bent[quiet], ramp[quiet])


def test_a_ring_gives_back_what_was_put_at_a_position():
    ring, random = Ring(np.zeros(RING_SAMPLES, np.float32)), np.random.default_rng(0)
    sound = random.normal(size=3 * RING_SAMPLES).astype(np.float32)
    for begin in range(0, len(sound), 1000):
        ring.put(begin, sound[begin : begin + 1000])
        start = max(0, begin - 5000)
        np.testing.assert_array_equal(ring.get(start, begin - start), sound[start:begin])


def test_a_worker_that_is_late_leaves_a_gap_is_counted_and_stays_in_time():
    loop = AudioLoop(lambda block: block, 1000, 10, latency="low")
    sound = np.arange(1, 3001, dtype=np.float32)
    late = {150, 151}  # blocks after which the worker does not come
    number = 0

    def between():
        nonlocal number
        if number not in late:
            loop.work_once()
        number += 1

    pair = SimulatedDevices(sound, 1000, 10, between)
    pair.start(loop.callback)
    assert loop.n_dropouts == 2
    expected = np.concatenate([np.zeros(20, np.float32), sound])[: len(pair.played)]
    wrong = np.flatnonzero(pair.played != expected)
    blocks = set(wrong[wrong >= 100] // 10)
    assert blocks == {152, 153, 154}  # those that were missed, and the fades after them
    assert pair.played[1539] == 0.0
    assert np.abs(np.diff(pair.played[1000:])).max() < 300  # a step would be 1500


def test_dropouts_of_the_first_second_give_the_worker_more_time():
    loop = AudioLoop(lambda block: block, 1000, 10)
    number = 0

    def between():
        nonlocal number
        if number % 2:  # a driver that asks for two blocks at once
            loop.work_once()
        number += 1

    sound = np.arange(1, 3001, dtype=np.float32)
    pair = SimulatedDevices(sound, 1000, 10, between)
    pair.start(loop.callback)
    assert loop.n_dropouts == 0
    assert loop.slack_samples == 20
    np.testing.assert_array_equal(pair.played[1000:], sound[970:2980])


def test_a_dropout_later_on_gives_the_worker_more_time():
    loop = AudioLoop(lambda block: block, 1000, 10)
    number = 0

    def between():
        nonlocal number
        if number < 150 or number % 2:  # another program has begun to get in between
            loop.work_once()
        number += 1

    sound = np.arange(1, 3001, dtype=np.float32)
    pair = SimulatedDevices(sound, 1000, 10, between)
    pair.start(loop.callback)
    assert loop.n_dropouts == 1
    assert loop.slack_samples == 20
    np.testing.assert_array_equal(pair.played[2000:], sound[1970:2980])


def test_a_device_waits_for_a_block_that_is_a_little_late():
    """Blocks of 10 s, so that no computer is too slow: the second one comes 50 ms late."""
    block = 10_000
    loop = AudioLoop(lambda block: block, 1000, block, in_real_time=True)
    sound = np.arange(1, 2 * block + 1, dtype=np.float32)
    assert not loop.callback(sound[:block]).any()  # the slack
    worker = threading.Timer(0.05, loop.work_once)
    worker.start()
    played = loop.callback(sound[block:])
    worker.join()
    np.testing.assert_array_equal(played, sound[:block])
    loop.work_once()
    assert loop.n_dropouts == 0
    assert loop.slack_samples == block


def test_a_device_does_not_wait_for_ever():
    loop = AudioLoop(lambda block: block, 1000, 100, in_real_time=True)
    for _ in range(11):
        loop.callback(np.ones(100, np.float32))
        loop.work_once()
    loop.callback(np.ones(100, np.float32))
    begin_s = time.perf_counter()
    played = loop.callback(np.ones(100, np.float32))  # the worker does not come
    assert time.perf_counter() - begin_s >= PATIENCE * 0.1
    assert not played[FADE_SAMPLES:].any()
    loop.work_once()
    assert loop.n_dropouts == 1


class Clock:
    """Stands still until it is set, in place of the module `time`."""

    now_s = 1.0

    def perf_counter(self):
        return self.now_s


class TimedDevice:
    """Calls a loop of blocks of 5 ms by a pretended clock. The worker is never in time for what is waited for.

    Args:
      loop: gets the next samples of `sound`.
      clock: that the loop reads.
    """

    def __init__(self, loop, clock):
        self.loop, self.clock, self.played, self.waited_s = loop, clock, [], []
        self.sound = np.arange(1, 100_001, dtype=np.float32)
        loop._wait = lambda _, ends_s: self.waited_s.append(ends_s - clock.now_s)

    def request(self, n_blocks=1):
        """Requests blocks at once, before the worker has any of them, then lets as much time go by."""
        for _ in range(n_blocks):
            begin = 5 * len(self.played)
            self.played.append(self.loop.callback(self.sound[begin : begin + 5]))
        self.loop.work_once()
        self.clock.now_s += 0.005 * n_blocks


@pytest.fixture
def make_device(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("ddsp_cli.live.audio_loop.time", clock)
    return lambda latency: TimedDevice(AudioLoop(lambda block: block, 1000, 5, None, latency, in_real_time=True), clock)


@pytest.mark.parametrize(
    ("latency", "at_once", "n_slack"), [("safe", 1, 1), ("safe", 2, 4), ("low", 1, 1), ("low", 2, 5)]
)
def test_a_device_that_asks_for_several_blocks_at_once_gets_as_many_in_advance(make_device, latency, at_once, n_slack):
    device = make_device(latency)
    for _ in range(400 // at_once):
        device.request(at_once)
    slack = 5 * n_slack
    assert device.loop.slack_samples == slack
    assert device.loop.n_dropouts == 0
    np.testing.assert_array_equal(np.concatenate(device.played)[1500:], device.sound[1500 - slack : 2000 - slack])


def test_low_latency_is_ready_for_one_block_more_than_a_device_usually_requests(make_device):
    """A device that wakes a little later than its blocks last requests one more of them now and then."""
    device = make_device("low")
    for i in range(400):
        device.request(3 if i % 150 == 149 else 2)
    assert device.loop.slack_samples == 5 * (2 + MORE_BLOCKS)
    assert device.loop.n_dropouts == 0


@pytest.mark.parametrize(("apart", "n_slack"), [(10, 1), (1600, 2), (2400, 1)])
def test_low_latency_gives_the_worker_more_time_only_after_repeated_dropouts(make_device, apart, n_slack):
    """Blocks of 5 ms: two drop-outs with one cause, two within 10 s, and two further apart."""
    device = make_device("low")
    for i in range(401 + apart):
        device.request(2 if i in {400, 400 + apart} else 1)
    assert device.loop.n_dropouts == 2
    assert device.loop.slack_samples == 5 * n_slack


@pytest.mark.parametrize("latency", ["safe", "low"])
def test_the_slack_has_a_limit(make_device, latency):
    device = make_device(latency)
    for i in range(3000):
        device.request(60 if i % 50 == 49 else 1)
    assert device.loop.n_dropouts > 100
    assert device.loop.slack_samples == 1000 * MAX_SLACK_S


@pytest.mark.parametrize(("latency", "at_once"), [("safe", 1), ("low", 1), ("safe", 4), ("low", 4)])
def test_the_audio_thread_waits_for_a_part_of_the_time_between_two_requests(make_device, latency, at_once):
    device = make_device(latency)
    for _ in range(400 // at_once):
        device.request(at_once)
    device.request(40)
    assert device.waited_s[-1] == pytest.approx(PATIENCE * 0.005 * at_once, rel=0.05)


def test_a_worker_far_behind_continues_with_the_newest_input():
    loop = AudioLoop(lambda block: block, 1000, 1000)
    block = np.ones(1000, np.float32)
    for _ in range(2 * RING_SAMPLES // 1000):
        loop.callback(block)
    loop.work_once()
    assert loop.n_processed == 2 * RING_SAMPLES // 1000 * 1000
    assert (loop.callback(block)[48:] == 1).all()


def test_the_tape_keeps_time_and_the_recorder_writes_all_of_it(tmp_path):
    tape, random = make_tape(800), np.random.default_rng(1)
    sound = random.uniform(-0.5, 0.5, size=(2, 2000)).astype(np.float32)
    tape.write(*sound[:, :300])
    recorder = Recorder(tape, 1000)
    recorder.start(tmp_path / "take.wav")
    tape.write(*sound[:, 300:700])
    recorder.stop()
    for begin in (700, 1350):
        tape.write(*sound[:, begin : begin + 650])
    written, rate_hz = soundfile.read(tmp_path / "take.wav", dtype="float32")
    assert rate_hz == 1000
    np.testing.assert_allclose(written, sound[OUTPUT, 300:700], atol=2**-23)
    lost, both = tape.read(1000)
    assert lost == 300  # an eighth is left to the writer
    np.testing.assert_array_equal(both.T, sound[:, 1300:2000])


def test_what_one_recording_lost_is_not_lost_in_the_next(tmp_path):
    tape = make_tape(800)
    recorder = Recorder(tape, 1000)
    recorder.n_lost = 300
    recorder.start(tmp_path / "take.wav")
    tape.write(*np.zeros((2, 100), np.float32))
    recorder.stop()
    assert recorder.n_lost == 0


def test_a_recording_that_cannot_be_written_is_reported(tmp_path):
    recorder = Recorder(make_tape(), 1000)
    recorder.start(tmp_path / "nowhere" / "take.wav")
    recorder.stop()
    assert "does not exist" in str(recorder.problem)
    assert recorder.finished == []


def test_a_recording_that_is_full_ends_and_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "LARGEST_BYTES", {"WAV": 4500})
    tape = make_tape(1000)
    recorder = Recorder(tape, 1000)
    recorder.start(tmp_path / "take.wav")
    for _ in range(20):
        tape.write(*np.full((2, 100), 0.25, np.float32))
        time.sleep(0.06)
    recorder.stop()
    assert "its format holds no more" in str(recorder.problem)
    assert recorder.finished == [tmp_path / "take.wav"]
    assert soundfile.info(tmp_path / "take.wav").frames in range(400, 1500)


def test_rates_that_devices_have_in_common():
    assert choose_rate_hz([(), ()]) == 48000
    assert choose_rate_hz([(44100, 96000), ()]) == 44100
    assert choose_rate_hz([(44100, 48000), (16000, 44100)]) == 44100
    assert choose_rate_hz([(11025,), (8000,)]) == 11025


def test_devices_are_found_by_name_part_and_number(monkeypatch):
    listed = [Device("Built-in Microphone", "input", ()), Device("USB Microphone", "input", (48000,))]
    system = devices._System(StreamSettings("null", "null"))
    system.is_null = False
    monkeypatch.setattr(system, "found", lambda _: [(device, device.name) for device in listed])
    assert system.choose(None, "input") == (Device("the default input device", "input", (48000,)), None)
    assert system.choose("usb", "input")[1] == "USB Microphone"
    assert system.choose("2", "input")[1] == "USB Microphone"
    with pytest.raises(UsageError, match="2 devices"):
        system.choose("microphone", "input")
    with pytest.raises(InputError, match="no input device is called Built-in Mikrophone") as caught:
        system.choose("Built-in Mikrophone", "input")
    assert "Built-in Microphone" in caught.value.hint


def test_without_miniaudio_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "miniaudio", None)
    with pytest.raises(InputError, match="miniaudio") as caught:
        devices.list_devices()
    assert "pip install miniaudio" in caught.value.hint


def test_the_null_device_goes_with_itself():
    with pytest.raises(UsageError, match="null"):
        devices.check_devices(StreamSettings("null", "speaker"))
    assert devices.check_devices(StreamSettings("null", "null")) == 48000


class Pipe:
    """The other end of the pipe to the process."""

    def __init__(self):
        self.sent = []

    def send(self, what):
        self.sent.append(what)

    def poll(self, _):
        return False


def test_a_device_that_goes_away_ends_the_performance_with_a_sentence(instruments, monkeypatch):
    for name in ("gc.disable", "gc.freeze", "sys.setswitchinterval"):
        monkeypatch.setattr(f"ddsp_cli.live.process.{name}", lambda *_: None)
    monkeypatch.setattr(process, "GONE_S", 0.0)
    pipe, tape, shared_status = Pipe(), make_tape(), np.zeros(len(process._FIELDS))
    with pytest.raises(InputError, match="has stopped"):
        process.play(
            make_job(instruments), SimulatedDevices(melody(rate_hz=RATE_HZ), RATE_HZ, BLOCK), shared_status, tape, pipe
        )
    assert pipe.sent == [RATE_HZ]
    assert LiveStatus(*shared_status).seconds > 0
    assert tape.n_written > 0


@pytest.mark.parametrize("leak", [0.0, 0.2])
def test_feedback_is_distinguished_from_playing(instruments, leak):
    """Two sounds of one pitch are similar, but only the same sound keeps its delay."""
    rate_hz, n = 16000, 7 * 16000
    t, random = np.arange(n) / rate_hz, np.random.default_rng(0)
    wander = np.cumsum(random.normal(size=(2, n)), axis=1) * 0.003
    hiss = random.normal(size=(2, n)) * 0.003
    voice, played = (
        sum(np.sin(2 * np.pi * k * (330 * t + 0.02 * np.sin(30 * t)) + k * wander[i]) / k for k in range(1, 8)) * 0.1
        + hiss[i]
        for i in range(2)
    )
    voice[400:] += leak * played[:-400]
    detector = FeedbackDetector(rate_hz)
    for begin in range(0, n, 1600):
        detector.push(np.stack([voice, played], 1)[begin : begin + 1600].astype(np.float32))
    assert detector.is_feedback == (leak > 0)
