"""Play sounds on instruments for the studio, and keep the analysis of each sound between plays.

A play does what `ddsp transfer` does with the same options, by the same functions of `workflows.performance`; only the
last one, writing a file, is left out. The analysis of a sound is kept, so that a moved control adapts and renders
only. Shapes: S samples, F frames.
"""

from __future__ import annotations

import contextlib
import math
import re
import secrets
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ddsp_cli import api
from ddsp_cli.adaptation import CURVE_SUFFIXES, autotune
from ddsp_cli.adaptation.adapt import Adapted
from ddsp_cli.adaptation.curves import read_controls, write_controls
from ddsp_cli.adaptation.midi import Selection
from ddsp_cli.adaptation.notes import Transcription, write_notes
from ddsp_cli.adaptation.segmentation import Segments
from ddsp_cli.arrays import FloatArray
from ddsp_cli.atomic import write_bytes, writing
from ddsp_cli.audio.integrated_loudness import LoudnessMeter
from ddsp_cli.audio.write import PEAK_LIMIT, fit_level
from ddsp_cli.bundle import CARD
from ddsp_cli.bundle.folder import IMPULSE_RESPONSE, PREVIEW
from ddsp_cli.config import ANALYSIS_RATE_HZ, FLOOR_DB
from ddsp_cli.errors import DdspError, InputError, ModelError, UsageError
from ddsp_cli.limits import read_regular
from ddsp_cli.live.performer import Performer
from ddsp_cli.pitch_names import note_name
from ddsp_cli.shell import quoted
from ddsp_cli.studio.takes import Take, Takes, check_length, plain_name
from ddsp_cli.workflows import models
from ddsp_cli.workflows.arguments import number
from ddsp_cli.workflows.performance import (
    RANGES,
    Performance,
    Player,
    TransferOptions,
    feature_spec,
    frame_rate_hz,
    make_options,
    make_player,
    perform,
    render,
    target_lufs,
)
from ddsp_cli.workflows.transfer import transfer_files
from ddsp_cli.workflows.transfer_plan import Job

#: Called with a description of the current step, and the share of it that is done.
Progress = Callable[[str, float], None]

#: The options of `make_options` that the page has controls for, with their defaults.
DEFAULTS: dict[str, float | str] = {
    "transpose": "auto", "dynamics": 1.0, "loudness": 0.0, "autotune": 0.0, "key": "auto",
    "vibrato": "auto", "glide": 0.0, "threshold": 35.0, "room": "model", "wet": 1.0, "formant": 0.0, "voices": "auto",
    "ensemble": 1.0, "seed": 0,
}  # fmt: skip

#: Instruments that stay loaded, blends among them.
MAX_INSTRUMENTS = 32

#: Analyses of one sound: one for each way in which instruments measure, and for each threshold.
MAX_ANALYSES = 6

#: Sounds that were played stay in memory up to this size.
KEPT_BYTES = 512 << 20

#: The longest word of a setting, such as the name of a room.
MAX_WORD = 200

MAX_PRESETS, MAX_PRESET_BYTES, MAX_PRESET_NAME = 200, 1 << 20, 60

#: Files of curves that were drawn, kept until the studio is closed.
MAX_CURVES = 500

#: Of a sound longer than this, `EXCERPT_S` are rendered first, from the place that the page names. Further parts
#: follow, each twice as long as the one before, until the whole is rendered: a second of sound takes less than this
#: share of a second, on a busy computer too.
EXCERPT_FROM_S, EXCERPT_S, RENDERED_SHARE = 4.0, 1.5, 1.0 / 12.0

#: Frames that are rendered at once for an excerpt. The whole is rendered in the blocks of `ddsp transfer`, because a
#: sample may differ by 1e-6 between sizes of blocks.
EXCERPT_BLOCK_FRAMES = 32

#: An excerpt begins this time earlier, so that its room and its filters have settled.
LEAD_IN_S = 0.5

#: Excerpts that stay in memory until a page has fetched them.
MAX_EXCERPTS = 16

#: Downloads, and the suffix of each file.
DOWNLOADS = {"wav": ".wav", "flac": ".flac", "midi": ".mid", "curves": ".csv", "picture": ".png"}


class CancelledError(Exception):
    """The page no longer needs the result."""


@dataclass(frozen=True)
class Excerpt:
    """A part of a sound that is played before the whole.

    Attributes:
      id: how the page names it.
      start_s: where it begins in the sound.
      pcm: [S], or [S, 2], float32.
      rate_hz: of `pcm`.
      loudness_lufs: integrated loudness that the whole will about have; None where that is unknown.
    """

    id: str
    start_s: float
    pcm: FloatArray
    rate_hz: int
    loudness_lufs: float | None


@dataclass(frozen=True)
class Played:
    """A sound that an instrument played.

    Attributes:
      id: how the page names it.
      take, instrument, settings, curves, selection: that it was made from.
      pcm: [S], or [S, 2] of an ensemble, float32.
      rate_hz: of `pcm`.
      loudness_lufs: integrated loudness; None where it is silent.
      gain_db: gain that was applied.
      performance: the curves, and the analysis where there is one.
      level: the measure that drives the instrument.
      remarks: warnings about the performance.
    """

    id: str
    take: Take
    instrument: str
    settings: Mapping[str, float | str]
    curves: str
    selection: Selection | None
    pcm: FloatArray
    rate_hz: int
    loudness_lufs: float | None
    gain_db: float
    performance: Performance
    level: str
    remarks: tuple[str, ...]


class Session:
    """Instruments, sounds, results and presets; all pages of a studio share it.

    Args:
      folder: where sounds and presets are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.takes = Takes(folder / "takes")
        self._scratch = tempfile.TemporaryDirectory(prefix="ddsp-studio-", ignore_cleanup_errors=True)
        self._lock = threading.Lock()
        self._instruments: dict[str, tuple[tuple[int, ...], api.Instrument]] = {}
        self._played: OrderedDict[str, Played] = OrderedDict()
        self._by_request: dict[tuple[object, ...], str] = {}
        self._last: dict[tuple[str, str], str] = {}  # take and instrument → played last
        self._excerpts: OrderedDict[str, Excerpt] = OrderedDict()
        self._curves: OrderedDict[str, tuple[str, str, Path]] = OrderedDict()  # id → take, instrument, file

    def close(self) -> None:
        """Removes the temporary files; sounds and presets stay."""
        self._scratch.cleanup()

    def warm_up(self) -> None:
        """Loads modules and the network of the pitch tracker, so that the first play need not wait."""
        from ddsp_cli.analysis.extract import measure

        measure(np.zeros(ANALYSIS_RATE_HZ, np.float32))

    # --- instruments ---

    def instrument(self, name: str) -> api.Instrument:
        """Opens an instrument by its name, or a blend: `flute:0.6+violin:0.4`, `0:flute 8s:violin`; never a path.

        Raises:
          ModelError: there is no instrument of that name, or it is damaged.
          UsageError: shares or times are impossible.
        """
        stamps = self._stamps(name)
        with self._lock:
            known = self._instruments.get(name)
        if known is not None and known[0] == stamps:
            return known[1]
        loaded = api.load(name)
        with self._lock:
            self._instruments[name] = (stamps, loaded)
            while len(self._instruments) > MAX_INSTRUMENTS:
                del self._instruments[next(iter(self._instruments))]
        return loaded

    @staticmethod
    def _stamps(name: str) -> tuple[int, ...]:
        """Returns the times at which the instrument, or each part of a blend, was written: training changes them.

        Raises:
          ModelError: there is no instrument of that name.
        """
        known = set(models.names())
        parts = [name] if name in known else models.named_in(name)
        missing = [part for part in parts if part not in known]
        if missing:
            raise ModelError(f"there is no instrument called {missing[0][:80]!r}")
        return tuple((models.find(part) / CARD).stat().st_mtime_ns for part in parts)

    def cards(self) -> list[dict[str, object]]:
        """Describes each instrument for the page."""
        cards: list[dict[str, object]] = []
        for entry in models.catalogue():
            if entry.card is None:
                cards.append({"name": entry.name, "problem": entry.problem})
                continue
            card = entry.card
            lowest, highest = card.statistics.range_midi
            cards.append({
                "name": entry.name,
                "description": card.description,
                "licence": card.licence,
                "sources": [{"title": source.title, "attribution": source.attribution} for source in card.sources],
                "lowest": note_name(lowest),
                "highest": note_name(highest),
                "range_midi": [lowest, highest],
                "rate_hz": card.model.sample_rate_hz,
                "has_room": IMPULSE_RESPONSE in card.files,
                "preview": PREVIEW in card.files,
                "own": entry.where == "library",
                "remarks": card.remarks,
            })  # fmt: skip
        return cards

    def performer(self, name: str, settings: Mapping[str, Any], rate_hz: int) -> Performer:
        """Returns an instrument that plays live, at the rate of a device.

        Raises:
          ModelError: there is no instrument of that name, or it plays offline only.
          UsageError: a setting is out of range.
        """
        self._check_room(settings["room"])
        return self.instrument(name).live(**settings, sample_rate=rate_hz)

    def preview(self, name: str) -> bytes:
        """Returns the preview of an instrument, an Ogg file.

        Raises:
          ModelError: it has none.
        """
        path = models.find(name) / PREVIEW if name in models.names() else None
        if path is None or not path.is_file():
            raise ModelError("this instrument has no preview")
        return read_regular(path, 64 << 20)

    # --- settings ---

    def settings(self, given: object) -> dict[str, float | str]:
        """Returns the settings of the page, complete and checked.

        Raises:
          UsageError: an unknown name, or a value that `make_options` refuses.
        """
        if not isinstance(given, dict):
            raise UsageError("the settings must be names with values")
        unknown = sorted(set(given) - set(DEFAULTS))
        if unknown:
            raise UsageError(f"there is no setting called {str(unknown[0])[:40]!r}")
        settings = DEFAULTS | plain_settings(given)
        if number(settings["autotune"], "autotune", *RANGES["autotune"]) == 0.0:
            settings["key"] = "auto"
        if settings["room"] == "none":
            settings["wet"] = 1.0
        self._check_room(settings["room"])
        _options(settings)
        return settings

    @staticmethod
    def _check_room(room: object) -> None:
        """Checks that a room is a known word or the name of an instrument; paths are refused."""
        if not isinstance(room, str) or room not in {"model", "none", *models.names()}:
            raise UsageError(f"there is no room called {str(room)[:40]!r}", parameter="room")

    def command(self, played: Played) -> str:
        """Returns the command that writes the same sound."""
        take, instrument, settings = played.take, played.instrument, played.settings
        words = ["ddsp", "transfer", take.name, "--blend" if models.is_timed(instrument) else "--model", instrument]
        if played.selection is not None:
            words += [word for track in played.selection.tracks for word in ("--track", track)]
            words += [word for channel in played.selection.channels for word in ("--channel", str(channel))]
        for name, value in settings.items():
            if value != DEFAULTS[name]:
                words += [f"--{name}", f"{value:.10g}" if isinstance(value, float) else str(value)]
        if played.curves:
            words += ["--from-controls", _output_name(take, instrument, DOWNLOADS["curves"])]
        return " ".join(quoted(word) for word in words)

    # --- playing ---

    def play(
        self,
        take_id: str,
        instrument: str,
        given: object,
        curves: str = "",
        progress: Progress = lambda what, share: None,
        *,
        selection: Selection | None = None,
        at_s: float | None = None,
        on_excerpt: Callable[[Excerpt], None] = lambda excerpt: None,
    ) -> Played:
        """Plays a sound on an instrument; the same request again gives the same result at once.

        Args:
          take_id: of the sound.
          instrument: its name.
          given: settings by name; missing ones have their defaults.
          curves: id of curves that were drawn, or empty.
          progress: called with the current step; it may raise `CancelledError`.
          selection: tracks and channels of a MIDI file; None for all but the drums.
          at_s: where the page listens; a long sound is played from there first.
          on_excerpt: called with the first sound, a part at a time.

        Raises:
          DdspError: it cannot be played.
        """
        settings, take = self.settings(given), self.takes.find(take_id)
        if take.kind != "score" or selection == Selection():
            selection = None
        request = (take.id, instrument, self._stamps(instrument), tuple(settings.items()), curves, selection)
        with self._lock:
            found = self._played.get(self._by_request.get(request, ""))
            if found is not None:
                self._played.move_to_end(found.id)
                return found
        played = self._play(take, instrument, settings, curves, selection, progress, at_s, on_excerpt)
        with self._lock:
            self._played[played.id] = played
            self._by_request[request] = self._last[take.id, instrument] = played.id
            while len(self._played) > 1 and sum(one.pcm.nbytes for one in self._played.values()) > KEPT_BYTES:
                gone, _ = self._played.popitem(last=False)
                self._by_request = {key: value for key, value in self._by_request.items() if value != gone}
                self._last = {key: value for key, value in self._last.items() if value != gone}
        return played

    def found(self, played_id: str) -> Played:
        """Returns a sound that was played.

        Raises:
          InputError: it is not kept any more.
        """
        with self._lock:
            if played_id in self._played:
                return self._played[played_id]
        raise InputError("this result is not kept any more", "Play it again.")

    def excerpt(self, excerpt_id: str) -> Excerpt:
        """Returns the first part of a sound that was played.

        Raises:
          InputError: it is not kept any more.
        """
        with self._lock:
            if excerpt_id in self._excerpts:
                return self._excerpts[excerpt_id]
        raise InputError("this excerpt is not kept any more", "Play it again.")

    def _play(
        self,
        take: Take,
        name: str,
        settings: dict[str, float | str],
        curves: str,
        selection: Selection | None,
        progress: Progress,
        at_s: float | None,
        on_excerpt: Callable[[Excerpt], None],
    ) -> Played:
        options, player = replace(_options(settings), selection=selection), self.instrument(name)
        file = self._curves_file(curves, take.id, name) if curves else None
        job = self._job(take, drawn=file is not None)
        seconds = max(take.seconds, 0.001)
        try:
            performance = self._perform(take, job, player, options, file, lambda s: progress("listening", s / seconds))
            rate_hz = job.output_rate_hz(player.model.sample_rate_hz)
            wanted_lufs = target_lufs(performance, options)
            stage = make_player(name, player, options)
            if at_s is not None and seconds > EXCERPT_FROM_S and _can_begin_anywhere(player):
                progress("playing", 0.0)
                self._play_excerpt(take, performance, stage, options, rate_hz, wanted_lufs, at_s, progress, on_excerpt)
            blocks, n_samples = render(performance, stage, options, rate_hz, lambda s: progress("playing", s / seconds))
            with fit_level(blocks, rate_hz, n_samples=n_samples, target_lufs=wanted_lufs) as fitted:
                pcm = np.concatenate(list(fitted.blocks()) or [np.zeros(0, np.float32)])
                fit = fitted.fit
        except DdspError as problem:
            raise _renamed(problem, take) from problem
        loudness_lufs = fit.loudness_lufs if fit.loudness_lufs is not None else _loudness_lufs(pcm, rate_hz)
        return Played(
            id=secrets.token_hex(8),
            take=take,
            instrument=name,
            settings=settings,
            curves=curves,
            selection=selection,
            pcm=pcm,
            rate_hz=rate_hz,
            loudness_lufs=loudness_lufs if np.isfinite(loudness_lufs) else None,
            gain_db=fit.gain_db,
            performance=performance,
            level=player.model.level,
            remarks=tuple(remark.replace(str(take.path), take.name) for remark in performance.remarks),
        )

    def _play_excerpt(
        self,
        take: Take,
        performance: Performance,
        player: Player,
        options: TransferOptions,
        rate_hz: int,
        wanted_lufs: float | None,
        at_s: float,
        progress: Progress,
        on_excerpt: Callable[[Excerpt], None],
    ) -> None:
        """Plays a long sound from a place on, until the whole will be there; in parts, the first of `EXCERPT_S`.

        It is about the same sound: the network starts in the middle, phases and noise are others, and the level is
        estimated from this stretch alone.
        """
        at_s = min(max(at_s, 0.0), performance.seconds)
        begin_s = math.floor(10.0 * max(at_s - LEAD_IN_S, 0.0)) / 10.0  # where a frame of every rate begins
        stop_s = min(at_s + EXCERPT_S + RENDERED_SHARE * take.seconds * options.n_players, performance.seconds)
        if stop_s - at_s < 0.5:
            return
        blocks, n_samples = render(
            _between(performance, begin_s, stop_s), player, options, rate_hz, block_frames=EXCERPT_BLOCK_FRAMES
        )
        skipped, start_s = round((at_s - begin_s) * rate_hz), at_s
        gain: float | None = None
        loudness_lufs: float | None = None
        waiting: list[FloatArray] = []
        n_waiting = n_done = 0
        part_s = EXCERPT_S

        def give() -> None:
            nonlocal gain, loudness_lufs, start_s, skipped, n_waiting, part_s
            sound = np.concatenate(waiting)[skipped:]
            if gain is None:
                between_s = (at_s, at_s + len(sound) / rate_hz)
                gain, loudness_lufs = self._estimated_gain(
                    take, player.name, sound, rate_hz, between_s, performance.loudness_lufs, wanted_lufs
                )
            part = Excerpt(secrets.token_hex(8), start_s, np.float32(gain) * sound, rate_hz, loudness_lufs)
            with self._lock:
                self._excerpts[part.id] = part
                while len(self._excerpts) > MAX_EXCERPTS:
                    self._excerpts.popitem(last=False)
            on_excerpt(part)
            start_s, skipped, n_waiting, part_s = start_s + len(sound) / rate_hz, 0, 0, 2.0 * part_s
            waiting.clear()

        for block in blocks:
            taken = block[: n_samples - n_done]
            waiting.append(taken)
            n_done, n_waiting = n_done + len(taken), n_waiting + len(taken)
            progress("playing", 0.0)
            if n_waiting >= skipped + part_s * rate_hz and n_samples - n_done > rate_hz:
                give()
        if n_waiting > skipped:
            give()

    def _estimated_gain(
        self,
        take: Take,
        name: str,
        sound: FloatArray,
        rate_hz: int,
        between_s: tuple[float, float],
        input_lufs: float | None,
        wanted_lufs: float | None,
    ) -> tuple[float, float | None]:
        """Returns the gain that the whole will about need, and its loudness, from a stretch of it.

        The stretch is taken to be as much louder than the whole as in the sound that was played last, or as in the
        recording.

        Args:
          take, name: the sound, and the instrument.
          sound: [S] or [S, 2], without gain.
          rate_hz: of the sound.
          between_s: where it begins and ends.
          input_lufs: loudness of the recording.
          wanted_lufs: loudness of the whole; None leaves it unchanged.
        """
        with self._lock:
            last = self._played.get(self._last.get((take.id, name), ""))
        peak = float(np.abs(sound).max(initial=0.0))
        most = PEAK_LIMIT / peak if peak > 0.0 else math.inf
        if wanted_lufs is None or input_lufs is None or take.info is None:
            usual = 1.0 if last is None else 10.0 ** (last.gain_db / 20.0)
            return min(usual, most), last.loudness_lufs if last is not None else None
        if last is not None and last.loudness_lufs is not None:
            known, known_hz, whole_lufs = last.pcm, last.rate_hz, last.loudness_lufs
        else:
            assert take.info is not None
            known, known_hz, whole_lufs = (
                take.pcm,
                take.info.sample_rate_hz,
                _loudness_lufs(take.pcm, take.info.sample_rate_hz),
            )
        begin, stop = (round(s * known_hz) for s in between_s)
        louder_db = _loudness_lufs(known[begin:stop], known_hz) - whole_lufs
        gain_db = wanted_lufs + louder_db - _loudness_lufs(sound, rate_hz)
        if not np.isfinite(gain_db):  # one of them is silent
            gain_db = last.gain_db if last is not None else 0.0
        # The peak of the whole, which may lie elsewhere, limits it.
        here = float(np.abs(known[begin:stop]).max(initial=0.0))
        if here > 0.0:
            most *= min(here / float(np.abs(known).max()), 1.0)
        most_db = 20.0 * math.log10(most)
        return float(10.0 ** (min(gain_db, most_db) / 20.0)), wanted_lufs - max(0.0, gain_db - most_db)

    def _perform(
        self,
        take: Take,
        job: Job,
        player: api.Instrument,
        options: TransferOptions,
        curves: Path | None,
        progress: Callable[[float], None],
    ) -> Performance:
        """Returns the performance of a take, from the kept analysis where the instrument measures in the same way."""
        if job.kind != "sound":
            return perform(job, player, options, curves, progress)
        assert take.info is not None
        spec = feature_spec(player, options.tracker, take.info.seconds)
        measured = (spec, options.adapt.segments, options.voices == "lead")
        with take.lock:
            last = take.performances.get(measured)
            performance = perform(job, player, options, curves, progress, last)
            take.performances.pop(measured, None)  # the newest is the last
            take.performances[measured] = performance
            while len(take.performances) > MAX_ANALYSES:
                del take.performances[next(iter(take.performances))]
            return performance

    def _job(self, take: Take, drawn: bool) -> Job:
        """Makes a job of `ddsp transfer` without output files."""
        rate_hz = take.info.sample_rate_hz if take.info is not None else None
        kind = "controls" if drawn else take.kind
        return Job(take.path, kind, 0, take.info, Path("none.wav"), None, None, None, rate_hz, False, None)

    # --- curves of a result ---

    def curves(self, played: Played) -> tuple[list[str], list[FloatArray]]:
        """Returns the names of curves and their values [F]: pitch and level as measured and as played, and the gate."""
        adapted, features = played.performance.adapted, played.performance.features
        curves = {"f0_hz": adapted.f0_hz, "level_db": adapted.level_db, "gate": adapted.gate}
        if features is not None and len(features) == len(adapted):
            curves |= {"input_f0_hz": features.f0_hz, "input_level_db": getattr(features, played.level)}
        return list(curves), [np.ascontiguousarray(curve, np.float32) for curve in curves.values()]

    def notes(self, played: Played) -> list[dict[str, float | str]]:
        """Returns the notes of the recording, transposed as played; of all voices, the highest voice first."""
        analysis, shift = played.performance.analysis, played.performance.adapted.transpose_semitones
        if analysis is None or analysis.character == "silent":
            return []
        voices = (
            played.performance.transcriptions() if played.performance.voices else [played.take.transcription(analysis)]
        )
        return [
            {
                "start_s": round(note.start_s, 3),
                "stop_s": round(note.stop_s, 3),
                "midi": note.midi + shift,
                "name": note_name(note.midi + round(shift)),
                "cents": round(note.cents, 1),
            }
            for voice in voices
            for note in voice.notes
        ]

    def draw(self, take_id: str, instrument: str, f0_hz: FloatArray, level_db: FloatArray, gate: FloatArray) -> str:
        """Keeps curves that were drawn, as a file for `from_controls`.

        Args:
          take_id, instrument: the sound and instrument of the curves.
          f0_hz, level_db, gate: [F] at the frame rate of the result that they were drawn over.

        Returns:
          Their id.

        Raises:
          InputError: they cannot be played.
        """
        take, player = self.takes.find(take_id), self.instrument(instrument)
        rate_hz = frame_rate_hz(player)
        empty = np.zeros(0, np.int64)
        adapted = Adapted(
            f0_hz=f0_hz,
            level_db=level_db,
            gate=gate,
            transpose_semitones=0.0,
            segments=Segments(empty, empty, np.zeros(len(f0_hz), bool), -np.inf, FLOOR_DB),
            frame_rate_hz=rate_hz,
        )
        path = Path(self._scratch.name) / f"{secrets.token_hex(8)}.csv"
        write_controls(path, adapted, player.model.level)
        return self._keep_curves(take, instrument, path)

    def load_curves(self, take_id: str, instrument: str, content: bytes, name: str) -> str:
        """Keeps curves that were edited elsewhere: a table that `--from-controls` takes.

        Args:
          take_id, instrument: the sound and instrument whose curves they replace.
          content: of the file.
          name: of the file; its suffix gives its format.

        Returns:
          Their id.

        Raises:
          InputError, UsageError: it is no such table.
        """
        take, suffix = self.takes.find(take_id), Path(plain_name(name)).suffix.lower()
        if suffix not in CURVE_SUFFIXES:
            raise UsageError(f"{plain_name(name)} is neither .csv nor .npz")
        path = Path(self._scratch.name) / f"{secrets.token_hex(8)}{suffix}"
        path.write_bytes(content)
        return self._keep_curves(take, instrument, path)

    def _keep_curves(self, take: Take, instrument: str, path: Path) -> str:
        player = self.instrument(instrument)
        try:
            adapted = read_controls(path, player.model.level, frame_rate_hz(player))
            check_length("the file of curves", len(adapted) / adapted.frame_rate_hz)
        except DdspError as problem:
            path.unlink()
            words = problem.message.replace(f"{path}:", "the curves:").replace(str(path), "the file of curves")
            raise problem.reworded(words) from problem
        with self._lock:
            self._curves[path.stem] = (take.id, instrument, path)
            while len(self._curves) > MAX_CURVES:
                _, (_, _, old) = self._curves.popitem(last=False)
                old.unlink(missing_ok=True)
        return path.stem

    def _curves_file(self, curves: str, take_id: str, instrument: str) -> Path:
        with self._lock:
            found = self._curves.get(curves)
        if found is None or found[:2] != (take_id, instrument):
            raise InputError("these curves are not kept any more", "Draw them again.")
        return found[2]

    # --- downloads ---

    def download(self, played: Played, kind: str, progress: Progress) -> tuple[str, bytes]:
        """Makes a file of a result, with the functions of `ddsp transfer`.

        Args:
          played: the result.
          kind: one of `DOWNLOADS`.
          progress: called with the current step; it may raise `CancelledError`.

        Returns:
          A name for the file, and its contents.

        Raises:
          UsageError: there is no such file.
        """
        if kind not in DOWNLOADS:
            raise UsageError(f"there is no file called {kind[:40]!r}")
        suffix, take = DOWNLOADS[kind], played.take
        if kind == "midi" and take.kind != "sound":
            raise UsageError("only recordings have notes to write")
        options = replace(_options(played.settings), selection=played.selection)
        curves = self._curves_file(played.curves, take.id, played.instrument) if played.curves else None
        if kind == "curves" and played.performance.others:
            raise UsageError("a table of curves holds one line", "Choose one line under Notes.")
        voices: list[Transcription] = []
        if kind == "midi":
            # of curves that were drawn the notes are those of the recording
            listened = self.play(take.id, played.instrument, dict(played.settings)) if curves else played
            performance, analysis = listened.performance, listened.performance.analysis
            voices = (
                performance.transcriptions()
                if performance.voices or analysis is None
                else [take.transcription(analysis)]
            )
        with tempfile.TemporaryDirectory(dir=self._scratch.name) as folder:
            source = take.path
            target = Path(folder) / _output_name(take, played.instrument, suffix)
            if kind == "midi":
                write_notes(target, voices)
            elif kind == "curves":
                write_controls(target, played.performance.adapted, played.level)
            else:
                sound = target.with_suffix(".wav") if kind == "picture" else target
                if kind == "picture":  # names the file
                    source = Path(folder) / f"{_file_name(Path(take.name).stem)}{take.path.suffix}"
                    shutil.copyfile(take.path, source)
                try:
                    transfer_files(
                        source,
                        played.instrument,
                        sound,
                        options=options,
                        plot=kind == "picture",
                        from_controls=curves,
                        progress=lambda what, done, total: progress(what.rpartition(": ")[2], done / max(total, 0.001)),
                    )
                except DdspError as problem:
                    raise _renamed(problem, take) from problem
            return target.name, target.read_bytes()

    # --- presets ---

    def presets(self) -> dict[str, dict[str, float | str]]:
        """Returns settings that were saved, by name; those that cannot be used now are left out."""
        try:
            stored = self._stored_presets()
        except (DdspError, OSError):
            return {}
        kept = {}
        for name, settings in stored.items():
            with contextlib.suppress(UsageError):  # of a room that is gone, or of another version
                kept[name] = self.settings(settings)
        return kept

    def save_preset(self, name: str, given: object) -> None:
        """Saves settings; a preset of the same name is replaced.

        Raises:
          DdspError: no name, too many presets, or their file cannot be read or written.
        """
        settings = self.settings(given)
        shown = "".join(letter for letter in name if letter.isprintable()).strip()[:MAX_PRESET_NAME]
        if not shown:
            raise UsageError("the preset has no name")
        with self._lock:
            presets = self._stored_presets() | {shown: settings}
            if len(presets) > MAX_PRESETS:
                raise UsageError(f"there are {MAX_PRESETS} presets already", "Remove one first.")
            self._write_presets(presets)

    def remove_preset(self, name: str) -> None:
        """Removes saved settings.

        Raises:
          DdspError: the file of the presets cannot be read or written.
        """
        with self._lock:
            self._write_presets({key: value for key, value in self._stored_presets().items() if key != name})

    @property
    def _presets_file(self) -> Path:
        return self.folder / "presets.json"

    def _stored_presets(self) -> dict[str, Any]:
        """Returns the presets as they are stored: a room that is gone may come back, so none is dropped on writing."""
        if not self._presets_file.exists():
            return {}
        content = read_regular(self._presets_file, MAX_PRESET_BYTES)
        try:
            return msgspec.json.decode(content, type=dict[str, Any])
        except msgspec.MsgspecError:
            return {}

    def _write_presets(self, presets: Mapping[str, Any]) -> None:
        with writing(self._presets_file):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_bytes(self._presets_file, msgspec.json.encode(presets))


def plain_settings(given: Mapping[str, object]) -> dict[str, float | str]:
    """Checks settings from the JSON of a page: words and numbers.

    Raises:
      UsageError: one is neither, or longer than any word or number.
    """
    settings: dict[str, float | str] = {}
    for name, value in given.items():
        try:
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise TypeError
            settings[name] = value if isinstance(value, str) else float(value)
            if isinstance(value, str) and len(value) > MAX_WORD:
                raise TypeError
        except (TypeError, OverflowError):
            raise UsageError(f"{name[:40]} is neither a number nor a word", parameter=name) from None
    return settings


def _can_begin_anywhere(player: api.Instrument) -> bool:
    """Whether an instrument can play the middle of a sound alone: no blend over time, no encoder."""
    is_steady = not isinstance(player, api.Blend) or player.shares.is_constant
    return is_steady and not player.model.encoder


def _between(performance: Performance, begin_s: float, stop_s: float) -> Performance:
    """Returns a stretch of a performance; it begins where a frame of the instrument does."""
    rate_hz = performance.adapted.frame_rate_hz
    frames = slice(round(begin_s * rate_hz), round(stop_s * rate_hz))
    voices = [
        replace(one, f0_hz=one.f0_hz[frames], level_db=one.level_db[frames], gate=one.gate[frames])
        for one in (performance.adapted, *performance.others)
    ]
    return replace(
        performance, adapted=voices[0], others=tuple(voices[1:]), seconds=len(voices[0]) / rate_hz, info=None,
        recording=None,
    )  # fmt: skip


def _options(settings: Mapping[str, Any]) -> TransferOptions:
    return make_options(**settings)


def values() -> dict[str, object]:
    """Describes the settings for the page: ranges, defaults, scales."""
    return {"ranges": RANGES, "defaults": DEFAULTS, "keys": ["auto", *autotune.known_keys()]}


def _loudness_lufs(pcm: FloatArray, rate_hz: int) -> float:
    """Measures the integrated loudness of a sound [S] or [S, 2]."""
    meter = LoudnessMeter(rate_hz, 1 if pcm.ndim == 1 else pcm.shape[1])
    meter.push(pcm)
    return meter.integrated_lufs()


def _renamed(problem: DdspError, take: Take) -> DdspError:
    """Returns the problem with the name of a sound in place of its path."""
    return problem.reworded(problem.message.replace(str(take.path), take.name))


def _file_name(name: str) -> str:
    """Returns a name that every file system takes."""
    return re.sub(r"[^\w().+-]+", "_", name).strip(".")[:80] or "sound"


def _output_name(take: Take, instrument: str, suffix: str) -> str:
    """Makes the file name of a download."""
    played = "-to-".join(models.named_in(instrument)) if models.is_timed(instrument) else instrument.replace(":", "")
    return f"{_file_name(Path(take.name).stem)}_{_file_name(played)}{suffix}"
