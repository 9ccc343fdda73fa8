"""A MIDI keyboard: notes with onset and release, and the effect of wheels, pedal and pressure."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import mido
import numpy as np
import pytest

from ddsp_cli.adaptation.midi import ATTACK_DB, ATTACK_S, LEGATO_DB, RELEASE_S, SETTLE_DB, SETTLE_S
from ddsp_cli.analysis.extract import measure
from ddsp_cli.bundle import load
from ddsp_cli.cli.options import Command
from ddsp_cli.errors import InputError, UsageError
from ddsp_cli.live import devices
from ddsp_cli.live.devices import SimulatedDevices, StreamSettings
from ddsp_cli.live.keyboard import VIBRATO_SEMITONES, Keyboard, PressedKeys
from ddsp_cli.live.mixer import Controls
from ddsp_cli.live.performer import LiveSettings
from ddsp_cli.live.process import Job, SignalChain
from ddsp_cli.synthesis.instrument import Instrument
from fixtures import make_bundle

RATE_HZ, BLOCK = 16000, 160

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="module")
def instruments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return (
        Instrument(make_bundle(folder / "testophone")),
        Instrument(make_bundle(folder / "otherophone", seed=5)),
    )


def on(note, velocity=80, channel=0):
    return mido.Message("note_on", note=note, velocity=velocity, channel=channel)


def off(note, channel=0):
    return mido.Message("note_off", note=note, channel=channel)


def control(number, value):
    return mido.Message("control_change", control=number, value=value)


def hands_after(*messages, n_voices=1):
    """Returns the pressed keys after messages 0.1 s apart."""
    hands = PressedKeys(n_voices)
    for i, message in enumerate(messages):
        hands.take(message, 0.1 * i)
    return hands


def sounding(hands):
    return sorted(voice.key for voice in hands.voices if voice.is_held)


def play(instruments, timed, seconds, n_voices=1, settings=None):
    """The sound [S] of messages at their times, from a keyboard whose blocks are 10 ms."""
    hands = PressedKeys(n_voices)
    keyboard = Keyboard(instruments[0], settings or LiveSettings(room=False), hands, RATE_HZ)
    parts = []
    for begin in range(0, round(seconds * RATE_HZ), BLOCK):
        for message in (message for at_s, message in timed if begin <= at_s * RATE_HZ < begin + BLOCK):
            hands.messages.put(message)
        parts.append(keyboard.push(np.zeros(BLOCK, np.float32)))
    return np.concatenate(parts), keyboard


def part(sound, begin_s, end_s):
    return sound[round(begin_s * RATE_HZ) : round(end_s * RATE_HZ)]


def level_db(sound, begin_s, end_s):
    return 10 * np.log10(np.mean(part(sound, begin_s, end_s).astype(float) ** 2) + 1e-12)


def pitch_hz(sound, begin_s, end_s):
    found = measure(part(sound, begin_s, end_s))
    return float(np.median(found.f0_hz[found.f0_hz > 0]))


def test_one_line_is_the_newest_key_and_goes_back_to_the_one_that_is_held():
    assert sounding(hands_after(on(60), on(64))) == [64]
    hands = hands_after(on(60), on(64), off(64))
    assert sounding(hands) == [60]
    assert hands.voices[0].is_bound
    assert sounding(hands_after(on(60), on(64), off(60))) == [64]
    assert sounding(hands_after(on(60), on(64), off(64), off(60))) == []
    assert sounding(hands_after(on(60), on(60, velocity=0))) == []


def test_keys_that_overlap_are_bound_and_others_begin_again():
    bound = hands_after(on(60), on(64)).voices[0]
    assert bound.key == 64
    assert bound.shape_db(0.1) == -LEGATO_DB
    apart = hands_after(on(60), off(60), on(64)).voices[0]
    assert apart.key == 64
    assert apart.shape_db(0.2) == -ATTACK_DB
    assert apart.shape_db(0.2 + ATTACK_S) == pytest.approx(0.0)
    assert apart.shape_db(0.2 + ATTACK_S + SETTLE_S) == pytest.approx(-SETTLE_DB)


def test_the_pedal_holds_notes_and_a_key_after_it_is_not_bound():
    assert sounding(hands_after(control(64, 127), on(60), off(60))) == [60]
    assert sounding(hands_after(control(64, 127), on(60), off(60), control(64, 0))) == []
    assert sounding(hands_after(control(64, 127), on(60), control(64, 0))) == [60]
    assert hands_after(control(64, 127), on(60), off(60), on(64)).voices[0].is_bound is False


def test_reset_centres_the_wheels_and_lifts_the_pedal():
    moved = (control(64, 127), control(1, 99), mido.Message("pitchwheel", pitch=4096), on(60), off(60),
             mido.Message("aftertouch", value=90))  # fmt: skip
    assert sounding(hands_after(*moved)) == [60]
    hands = hands_after(*moved, control(121, 0))
    assert sounding(hands) == []
    assert (hands.bend_semitones, hands.modulation, hands.pressure) == (0.0, 0.0, 0.0)


def test_voices_play_chords_and_the_oldest_gives_way():
    assert sounding(hands_after(on(60), on(64), on(67), n_voices=3)) == [60, 64, 67]
    assert sounding(hands_after(on(60), on(64), on(67), on(72), n_voices=3)) == [64, 67, 72]
    assert sounding(hands_after(on(60), on(64), off(60), on(72), n_voices=2)) == [64, 72]
    assert sounding(hands_after(on(60), on(60), n_voices=2)) == [60]  # the same key takes its own voice
    assert sounding(hands_after(control(64, 127), on(60), on(64), off(64), on(67), n_voices=2)) == [60, 67]


def test_all_notes_off_and_the_drum_channel():
    assert sounding(hands_after(on(60), on(64), control(123, 0), n_voices=4)) == []
    assert sounding(hands_after(on(60), on(64, channel=1), control(123, 0), n_voices=4)) == [64]
    assert sounding(hands_after(on(60, channel=9))) == []


def test_a_key_sounds_at_its_pitch_within_the_stated_latency_and_ends(instruments):
    sound, keyboard = play(instruments, [(0.305, on(69)), (0.805, off(69))], 1.2)
    latency_s = keyboard.latency_samples / RATE_HZ
    assert latency_s <= 0.025
    assert not part(sound, 0.0, 0.3).any()
    assert part(sound, 0.305, 0.305 + latency_s + BLOCK / RATE_HZ).any()
    assert pitch_hz(sound, 0.45, 0.8) == pytest.approx(440.0, rel=0.005)
    settled = level_db(sound, 0.5, 0.8)
    # No glide from where the instrument rested: half of the level is reached within two frames.
    assert level_db(sound, 0.335, 0.345) > settled - 9.0
    assert not part(sound, 0.805 + RELEASE_S + 2 * latency_s, 1.2).any()


def test_a_new_note_does_not_glide_from_the_one_before(instruments):
    sound, _ = play(instruments, [(0.1, on(57)), (0.4, off(57)), (0.7, on(81))], 1.2)
    begun = part(sound, 0.71, 0.76)
    spectrum = np.abs(np.fft.rfft(begun * np.hanning(len(begun)), 16000))
    assert spectrum[860:900].max() > 20 * spectrum[200:300].max()


def test_louder_keys_wheels_and_pressure_act(instruments):
    flute = (Instrument(load(MODELS / "flute")),)

    def level(*messages, velocity=60):
        timed = [(0.1, on(69, velocity)), *((0.1, message) for message in messages)]
        return level_db(play(flute, timed, 0.9)[0], 0.5, 0.9)

    assert level(velocity=120) > level(velocity=20) + 6.0
    pressed = level(mido.Message("aftertouch", value=127))
    assert pressed > level() + 2.0
    assert level(mido.Message("polytouch", note=69, value=127)) == pytest.approx(pressed, abs=0.1)
    assert level(mido.Message("polytouch", note=70, value=127)) == pytest.approx(level(), abs=0.1)
    bent, _ = play(instruments, [(0.1, on(69)), (0.1, mido.Message("pitchwheel", pitch=8191))], 0.9)
    assert pitch_hz(bent, 0.4, 0.9) == pytest.approx(440 * 2 ** (2 / 12), rel=0.005)
    vibrato, _ = play(instruments, [(0.1, on(69)), (0.1, control(1, 127))], 1.5)
    found = measure(part(vibrato, 0.4, 1.5))
    cents = 1200 * np.log2(found.f0_hz[found.f0_hz > 0] / 440)
    assert 0.5 * (cents.max() - cents.min()) == pytest.approx(100 * VIBRATO_SEMITONES, rel=0.25)


def test_blocks_and_idle_voices_do_not_matter(instruments):
    timed = [(0.0, on(60)), (0.0, on(64))]
    two, _ = play(instruments, timed, 0.5, n_voices=2)
    four, _ = play(instruments, timed, 0.5, n_voices=4)
    np.testing.assert_array_equal(two, four)
    hands = PressedKeys(2)
    keyboard = Keyboard(instruments[0], LiveSettings(room=False), hands, RATE_HZ)
    for _, message in timed:
        hands.messages.put(message)
    whole = keyboard.push(np.zeros(len(two), np.float32))
    np.testing.assert_array_equal(whole, two)


def test_after_a_rest_a_note_does_not_depend_on_the_one_before_it(instruments):
    """As in `Stream`: after 1 s of rest it does not, after 0.1 s it does."""
    for pause_s, is_same in ((1.0, True), (0.1, False)):
        again_s = 0.5 + RELEASE_S + pause_s
        sounds = [play(instruments, [(0.0, on(60, velocity)), (0.5, off(60)), (again_s, on(60))], again_s + 0.5)[0]
                  for velocity in (127, 10)]  # fmt: skip
        notes = [part(sound, again_s, again_s + 0.5) for sound in sounds]
        assert np.abs(notes[0]).max() > 1e-3
        assert (np.abs(notes[0] - notes[1]).max() < 1e-6) == is_same


def test_another_instrument_takes_over_a_held_note(instruments):
    job = Job(StreamSettings("", "null", BLOCK), instruments, Controls(), LiveSettings(room=False), "pretended", 2)
    chain = SignalChain(job, RATE_HZ)
    events = {10: lambda: chain.hands.messages.put(on(69)),
              60: lambda: setattr(chain.mixer, "controls", Controls(instrument=1)),
              120: lambda: chain.hands.messages.put(off(69))}  # fmt: skip
    number = 0

    def between():
        nonlocal number
        chain.loop.work_once()
        events.get(number, lambda: None)()
        number += 1

    pair = SimulatedDevices(np.zeros(2 * RATE_HZ, np.float32), RATE_HZ, BLOCK, between)
    pair.start(chain.loop.callback)
    assert pitch_hz(pair.played, 0.3, 0.55) == pytest.approx(440.0, rel=0.005)
    assert pitch_hz(pair.played, 0.95, 1.15) == pytest.approx(440.0, rel=0.005)
    assert chain.status().instrument == 1
    assert chain.status().f0_hz == pytest.approx(440.0)
    assert chain.status().plays == 0.0
    assert np.abs(part(pair.played, 1.9, 2.0)).max() < 1e-3  # the room dies away


def test_ports_are_found_by_name_part_and_number(monkeypatch):
    names = ["Midi Through Port-0", "Keystation 49", "Keystation 88"]
    monkeypatch.setattr(devices, "list_midi_ports", lambda: names)
    assert devices.choose_midi_port("") == "Keystation 49"
    assert devices.choose_midi_port("3") == "Keystation 88"
    assert devices.choose_midi_port("49") == "Keystation 49"
    with pytest.raises(UsageError, match="2 MIDI ports"):
        devices.choose_midi_port("keystation")
    with pytest.raises(InputError, match="called Piano"):
        devices.choose_midi_port("Piano")
    monkeypatch.setattr(devices, "list_midi_ports", list)
    with pytest.raises(InputError, match="no MIDI keyboard"):
        devices.choose_midi_port("")


def test_without_rtmidi_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, devices.MIDI_BACKEND, None)
    with pytest.raises(InputError, match="python-rtmidi") as caught:
        devices.list_midi_ports()
    assert "ddsp-cli[midi]" in caught.value.hint


def test_messages_of_a_port_reach_the_hands(monkeypatch):
    """Through a simulated port: a container has no real one."""
    given = {}
    backend = types.SimpleNamespace(open_input=lambda name, callback: given.update({name: callback}))
    monkeypatch.setattr(devices, "_mido", lambda: backend)
    hands = PressedKeys()
    devices.open_midi_port("pretended", hands.messages.put)
    given["pretended"](on(69))
    hands.read(0.0)
    assert sounding(hands) == [69]


def test_an_option_may_stand_without_its_value(monkeypatch):
    seen = []
    monkeypatch.setattr("typer.core.TyperCommand.parse_args", lambda self, ctx, args: seen.append(args) or [])
    command = type("Live", (Command,), {"value_optional": ("--midi",)})("live")
    for words in (["--midi"], ["--midi", "--voices", "4"], ["--midi", "Keystation"]):
        command.parse_args(None, words)
    assert seen == [["--midi", ""], ["--midi", "", "--voices", "4"], ["--midi", "Keystation"]]
