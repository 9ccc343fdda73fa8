"""How late, how exact and how costly live playing is.

python benchmarks/live.py [--model models/flute] [--audio FOLDER] [--minutes 10]

Three tables:

    latency   of a loop-back through a pretended pair of devices at 48 kHz: `stated` by `ddsp live`; `delay` from the
              input to the sound that the performer plays for it, found sample by sample; `onset` from half the level of
              a sung note to half the level of the played one, mean and worst of 8 notes; `cpu`, the share of one core.
    accuracy  of F0 as it is measured live, against F0 of the whole recording, for every recording of --audio: voiced
              frames that are found, those of them within 50 and 20 cents, the median of the error, unvoiced frames that
              would sound, and by how much notes after rests begin late.
    drop-outs on the null device in real time, with the voice as input, for --minutes. Beside them what makes them: how
              late the device called, how long the worker took, how near it came to its deadline, and from
              a second process that only sleeps, how long the machine stood still for everybody.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import multiprocessing
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import soundfile
import soxr

from ddsp_cli import bundle
from ddsp_cli.analysis.extract import measure
from ddsp_cli.arrays import FloatArray, runs
from ddsp_cli.audio import read
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.live import process
from ddsp_cli.live.audio_loop import AudioLoop
from ddsp_cli.live.devices import Callback, DeviceStream, SimulatedDevices, StreamSettings
from ddsp_cli.live.mixer import Controls
from ddsp_cli.live.performer import LIVE_SEGMENTS, LOOKAHEAD_SAMPLES, Latency, Listener, LiveSettings, Performer
from ddsp_cli.live.priority import AUDIO_RR, Priority, raise_process, raise_thread
from ddsp_cli.live.process import Job, LiveProcess, SignalChain
from ddsp_cli.live.tape import Tape
from ddsp_cli.synthesis.instrument import Instrument

ROOT = Path(__file__).parent.parent
VOICE = ROOT / "examples" / "voice.wav"

RATE_HZ = 48000
BLOCKS = (64, 128, 256, 512)

#: Length of a sung note and of the rest before it, and how many there are.
NOTE_S, REST_S, N_NOTES = 0.5, 0.4, 8

#: Of the times that are shown.
PERCENTILES = (1, 50, 99, 99.9, 99.99, 100)

#: How long a machine may stand still before it counts.
STOPS_S = (0.002, 0.005, 0.01)

LATENCIES: tuple[Latency, Latency] = ("safe", "low")


def notes() -> FloatArray:
    """Makes eight notes with rests before them, of ten harmonics, [S] at `RATE_HZ`."""
    t = np.arange(round(NOTE_S * RATE_HZ)) / RATE_HZ
    fade = np.minimum(1.0, np.minimum(t, t[::-1]) / 0.01)
    parts = []
    for midi in np.linspace(62, 76, N_NOTES).round():
        f0_hz = 440.0 * 2.0 ** ((midi - 69.0) / 12.0)
        tone = sum(np.sin(2.0 * np.pi * k * f0_hz * t) / k for k in range(1, 11))
        parts += [np.zeros(round(REST_S * RATE_HZ)), 0.15 * tone * fade]
    return np.concatenate([*parts, np.zeros(round(REST_S * RATE_HZ))]).astype(np.float32)


def begun_s(sound: FloatArray) -> FloatArray:
    """Finds when each of the notes is at half of its level, seconds, [N]."""
    width = round(0.005 * RATE_HZ)
    level = np.sqrt(np.convolve(sound**2, np.full(width, 1.0 / width), "same"))
    found = []
    for i in range(N_NOTES):
        start = REST_S + i * (NOTE_S + REST_S)
        settled = np.median(level[round((start + 0.25) * RATE_HZ) : round((start + 0.45) * RATE_HZ)])
        begin = round((start - 0.1) * RATE_HZ)
        found.append((begin + np.flatnonzero(level[begin:] > 0.5 * settled)[0]) / RATE_HZ)
    return np.array(found)


def latency(instrument: Instrument) -> None:
    """Prints the first table."""
    sung = notes()
    print(f"{'mode':<6}{'window':>8}{'block':>7}{'stated':>10}{'delay':>10}{'onset':>10}{'worst':>10}{'cpu':>7}")
    for mode in LATENCIES:
        settings = LiveSettings(room=False, latency=mode)
        performer = Performer(instrument, settings, RATE_HZ)
        alone = performer.push(sung)
        for block in BLOCKS:
            job = Job(StreamSettings("null", "null", block), (instrument,), Controls(room=False), settings)
            chain = SignalChain(job, RATE_HZ)
            pair = SimulatedDevices(sung, RATE_HZ, block, chain.loop.work_once)
            start_s = time.process_time()
            pair.start(chain.loop.callback)
            share = (time.process_time() - start_s) / (len(sung) / RATE_HZ)
            moved = int(np.argmax(np.correlate(pair.played[: 4 * RATE_HZ], alone[: 3 * RATE_HZ], "valid")))
            delay_s = (moved + performer.latency_samples) / RATE_HZ
            late_s = begun_s(pair.played) - begun_s(sung)
            window_ms = 1000 * LOOKAHEAD_SAMPLES[mode] / ANALYSIS_RATE_HZ
            times_s = (chain.status().latency_s, delay_s, late_s.mean(), late_s.max())
            cells = "".join(f"{1000 * time_s:7.1f} ms" for time_s in times_s)
            print(f"{mode:<6}{window_ms:5.0f} ms{block:7}{cells}{share:7.1%}", flush=True)


def accuracy(paths: list[Path], frame_rate_hz: int) -> None:
    """Prints the second table."""
    print(f"{'mode':<6}{'recording':<18}{'found':>7}{'50 c':>7}{'20 c':>7}{'median':>9}{'false':>7}{'begins':>9}")
    spec = FeatureSpec(frame_rate_hz=frame_rate_hz)
    for mode in LATENCIES:
        for path in paths:
            audio = read.read_mono(path)
            whole = measure(audio, spec)
            listener = Listener(spec, mode)
            frames = [listener.push(audio[i : i + 1600]) for i in range(0, len(audio), 1600)]
            f0_hz, confidence = (np.concatenate([getattr(part, name) for part in frames])
                                 for name in ("f0_hz", "f0_confidence"))  # fmt: skip
            n = len(f0_hz)
            voiced = whole.f0_hz[:n] > 0
            found = voiced & (confidence >= LIVE_SEGMENTS.possible_confidence)
            sure = confidence >= LIVE_SEGMENTS.sure_confidence
            cents = np.abs(1200.0 * np.log2(f0_hz[found] / whole.f0_hz[:n][found]))
            starts, stops = runs(voiced)
            late = [np.flatnonzero(sure[a:b])[0] for a, b in zip(starts, stops, strict=True) if sure[a:b].any()]
            print(
                f"{mode:<6}{path.stem:<18}{found.sum() / max(voiced.sum(), 1):7.1%}{np.mean(cents < 50):7.1%}"
                f"{np.mean(cents < 20):7.1%}{np.median(cents):6.1f} ct{np.mean(sure[~voiced]):7.1%}"
                f"{1000 * np.mean(late) / frame_rate_hz:6.0f} ms",
                flush=True,
            )


class SungStream:
    """The null device, whose microphone records the voice again and again."""

    def __init__(self, settings: StreamSettings) -> None:
        self._device = DeviceStream(settings)
        self.called: list[tuple[float, float]] = []  # when, and how long it took
        self.rate_hz = self._device.rate_hz
        voice, rate_hz = soundfile.read(VOICE, dtype="float32")
        voice = soxr.resample(voice, rate_hz, self.rate_hz).astype(np.float32)
        self._n_samples = len(voice)
        self._voice = np.concatenate([voice, voice[: self.rate_hz]])  # no block is longer than a second

    def start(self, callback: Callback) -> None:
        """Begins."""
        position = 0

        def sung(block: FloatArray) -> FloatArray:
            nonlocal position
            voice = self._voice[position : position + len(block)]
            position = (position + len(block)) % self._n_samples
            begin_s = time.perf_counter()
            out = callback(voice)
            self.called.append((begin_s, time.perf_counter() - begin_s))
            return out

        self._device.start(sung)

    def close(self) -> None:
        """Ends."""
        self._device.close()


class WatchedLoop(AudioLoop):
    """Notes how long the worker takes, and how much of its time is left when it is done."""

    took_s: ClassVar[list[float]] = []
    left_s: ClassVar[list[float]] = []

    def callback(self, block: FloatArray) -> FloatArray:
        """See `AudioLoop`."""
        self.left_s.append((self._n_written - self._n_asked - len(block)) / self._rate_hz)
        return super().callback(block)

    def work_once(self) -> None:
        """See `AudioLoop`."""
        begin_s, has_work = time.perf_counter(), self._n_taken < self._n_input
        super().work_once()
        if has_work:
            self.took_s.append(time.perf_counter() - begin_s)


def spread(what: str, seconds: FloatArray) -> None:
    """Prints one line: some percentiles in milliseconds."""
    cells = "".join(f"{1000 * value:9.2f}" for value in np.percentile(seconds, PERCENTILES))
    print(f"  {what:<36}{cells} ms", flush=True)


def sing(job: Job, shared_status: Any, samples: Any, counter: Any, connection: Any) -> None:
    """Runs in the process."""
    priority = raise_process()
    setattr(process, "AudioLoop", WatchedLoop)  # noqa: B010
    stream = SungStream(job.stream)
    process.play(job, stream, np.frombuffer(shared_status, np.float64), Tape(samples, counter), connection, priority)
    stream.close()
    called = np.array(stream.called)
    settled = called[:, 0] > called[0, 0] + 1.0
    print(f"  {'':<36}" + "".join(f"{f'{share:g} %':>9}" for share in PERCENTILES))
    spread("from call to call of the device", np.diff(called[settled, 0]))
    spread("a call of the audio thread", called[settled, 1])
    spread("the worker, for all input so far", np.array(WatchedLoop.took_s))
    spread("what was left of its time", np.array(WatchedLoop.left_s)[settled])


def stand_still(seconds: float, stops: Any) -> None:
    """Sleeps for a millisecond again and again; counts when and how long it slept longer, and the longest time.

    It goes before the threads that play, so these do not keep it from waking.
    """
    raise_process()
    raise_thread(AUDIO_RR + 1)
    ends = time.perf_counter() + seconds
    while (begin_s := time.perf_counter()) < ends:
        time.sleep(0.001)
        late_s = time.perf_counter() - begin_s - 0.001
        stops[0] = max(stops[0], late_s)
        for i, limit_s in enumerate(STOPS_S):
            stops[1 + i] += late_s > limit_s


def dropouts(instrument: Instrument, minutes: float, mode: Latency, block: int) -> None:
    """Prints the third table."""
    job = Job(StreamSettings("null", "null", block), (instrument,), Controls(), LiveSettings(latency=mode))
    player = LiveProcess(job, target=sing)
    own = psutil.Process(player.pid)
    context = multiprocessing.get_context("spawn")
    stops = context.RawArray("d", 1 + len(STOPS_S))
    sleeper = context.Process(target=stand_still, args=(60.0 * minutes, stops), daemon=True)
    sleeper.start()
    start, begun, machine = own.cpu_times(), time.monotonic(), psutil.cpu_times()
    when = []
    n_dropouts = 0.0
    while (status := player.status()).seconds < 60.0 * minutes:
        if status.n_dropouts > n_dropouts:
            when.append(f"{status.n_dropouts - n_dropouts:.0f} at {status.seconds:.0f} s")
            n_dropouts = status.n_dropouts
        time.sleep(0.2)
    end, lasted_s, machine_end = own.cpu_times(), time.monotonic() - begun, psutil.cpu_times()
    share = (end.user + end.system - start.user - start.system) / lasted_s
    memory_mb = own.memory_info().rss / 1e6
    player.close()
    sleeper.join()
    counts = ", ".join(f"{count:.0f} times more than {1000 * s:g}" for count, s in zip(stops[1:], STOPS_S, strict=True))
    idle, stolen = (getattr(machine_end, name, 0.0) - getattr(machine, name, 0.0) for name in ("idle", "steal"))
    print(
        f"  of {psutil.cpu_count()} processors {idle / lasted_s:.2f} were idle, the host of a virtual machine took "
        f"{stolen / lasted_s:.3f}; drop-outs: {', '.join(when) or 'none'}"
    )
    print(f"  a process that only sleeps woke {1000 * stops[0]:.1f} ms late at most; {counts} ms")
    print(
        f"{mode}, blocks of {block}: {status.n_dropouts:.0f} drop-outs in {status.seconds:.0f} s, latency "
        f"{1000 * status.latency_s:.0f} ms, {share:.1%} of one core, {memory_mb:.0f} MB, priority "
        f"{Priority(round(status.priority)).words}",
        flush=True,
    )


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Measure live playing.")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "flute")
    parser.add_argument("--audio", type=Path, help="a folder of recordings, for the accuracy of F0")
    parser.add_argument("--minutes", type=float, default=0.0, help="so long on the null device")
    parser.add_argument("--latency", choices=LATENCIES, default="safe", help="for --minutes")
    parser.add_argument("--block", type=int, default=256, help="for --minutes")
    options = parser.parse_args()
    instrument = Instrument(bundle.load(options.model))
    if options.minutes > 0:
        dropouts(instrument, options.minutes, options.latency, options.block)
        return
    latency(instrument)
    paths = sorted(options.audio.glob("*.flac")) if options.audio else [VOICE]
    accuracy(paths, instrument.model.frame_rate_hz)


if __name__ == "__main__":
    main()
