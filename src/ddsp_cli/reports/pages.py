"""HTML pages to listen to and look at: of a data set, of a training, of a transfer.

jinja2 templates, sounds embedded as MP3, pictures as PNG. A page is one file and loads nothing from anywhere.
Everything a template prints is escaped.
"""

from __future__ import annotations

import base64
import functools
import io
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ddsp_cli import __version__
from ddsp_cli.analysis.metrics import describe
from ddsp_cli.atomic import write_bytes, writing
from ddsp_cli.audio import read
from ddsp_cli.audio.integrated_loudness import LoudnessMeter
from ddsp_cli.audio.resample import at_rate
from ddsp_cli.audio.write import WRITE_CHUNK_SAMPLES, check_writable
from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.dataset.manifest import Doubt, Histogram, Manifest, Recording, iter_recordings
from ddsp_cli.pitch_names import note_name
from ddsp_cli.reports.plots import as_png, draw_pair, new_figure, show_spectrogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import Locator

    from ddsp_cli.dataset.build import Built
    from ddsp_cli.dataset.cache import CutRecording

#: A page holds this much of each sound, 4 MB of MP3; more would make it slow to open.
LONGEST_S = 600.0

#: Sample rate of embedded files; MP3 supports 16, 24, 32, 44.1 and 48 kHz.
MP3_RATE_HZ = 32000


def render(template: str, title: str, heading: str, **content: Any) -> str:
    """Returns a page as HTML text.

    Args:
      template: name of a file in `templates/`.
      title: of the browser's window.
      heading: of the page.
      **content: values for the names in the template; text is escaped, bytes are embedded by the filter `data_uri`.
    """
    page = _environment().get_template(template)
    return str(page.render(title=title, heading=heading, version=__version__, **content))


@functools.cache
def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ddsp_cli.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["data_uri"] = data_uri
    return environment


def data_uri(content: bytes, media_type: str) -> str:
    """Returns a file as an address that holds its content."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def file_as_mp3(path: Path, gain_db: float = 0.0) -> bytes:
    """Returns the first minutes of a sound file as MP3: stereo where it has two channels, mono otherwise."""
    blocks, n_channels = _first_minutes(path)
    gain = np.float32(10.0 ** (gain_db / 20.0))
    return as_mp3((gain * block for block in blocks), MP3_RATE_HZ, n_channels)


def matching_gains_db(paths: Sequence[Path]) -> list[float]:
    """Finds the gains with which sound files are equally loud, as loud as the loudest of them or as none clips.

    Compared by ear, the louder of two sounds seems the better one. Silence keeps its level.
    """
    found = []  # integrated loudness and peak level of each
    for path in paths:
        blocks, n_channels = _first_minutes(path)
        meter, peak = LoudnessMeter(MP3_RATE_HZ, n_channels), 0.0
        for block in blocks:
            meter.push(block)
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
        found.append((meter.integrated_lufs(), 20.0 * math.log10(max(peak, 1e-9))))
    sounding = [(lufs, peak_db) for lufs, peak_db in found if math.isfinite(lufs)]
    if not sounding:
        return [0.0] * len(found)
    target_lufs = min(max(lufs for lufs, _ in sounding), *(lufs - peak_db for lufs, peak_db in sounding))
    return [target_lufs - lufs if math.isfinite(lufs) else 0.0 for lufs, _ in found]


def _first_minutes(path: Path) -> tuple[Iterator[np.ndarray], int]:
    """Reads the first minutes of a sound file at `MP3_RATE_HZ`: blocks [S] or [S, 2], and the number of channels."""
    info = read.probe(path)
    if info.n_channels == 2:
        blocks = at_rate(_stereo_blocks(path), info.sample_rate_hz, MP3_RATE_HZ, 2)
        return islice(blocks, int(LONGEST_S / 10.0)), 2
    return islice(read.mono_blocks(path, MP3_RATE_HZ, block_s=10.0), int(LONGEST_S / 10.0)), 1


def _stereo_blocks(path: Path) -> Iterator[np.ndarray]:
    """Yields blocks [S, 2] of a stereo file."""
    waiting: list[np.ndarray] = []
    for _ in read.decoded_blocks(path, 10.0, waiting.append, read.Decoded()):
        yield waiting.pop()


def as_mp3(blocks: Iterable[np.ndarray], rate_hz: int, n_channels: int = 1) -> bytes:
    """Returns sound in blocks [S] or [S, C] as MP3."""
    import soundfile

    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", rate_hz, n_channels, "MPEG_LAYER_III", format="MP3") as file:
        for block in blocks:
            for start in range(0, len(block), WRITE_CHUNK_SAMPLES):
                file.write(np.clip(block[start : start + WRITE_CHUNK_SAMPLES], -1.0, 1.0))
    return out.getvalue()


def clock(seconds: float, exact: bool = False) -> str:
    """Formats `1:02:03` or `4:05`; with hundredths where `exact`."""
    whole = int(seconds) if exact else round(seconds)
    rest = f"{seconds - whole:.2f}"[1:] if exact else ""
    minutes, left = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}") + rest


# --- a data set: its contents, its recordings, and its doubtful places to listen to ---

DATASET_PAGE = "report.html"

#: Length of the part of a recording that is shown as a spectrogram.
SHOWN_S = 15.0

#: Recordings and doubtful places that the page lists; the data set's own files have more of them.
MAX_RECORDINGS = 2000
MAX_DOUBTS = 500

#: Doubtful places of each kind that can be played, the longest ones, and the length of each player's sound.
PLAYERS_PER_KIND = 10
PLAYED_S = 4.0

#: Sound before and after a doubtful place.
MARGIN_S = 0.5

_KINDS = {
    "polyphony": "polyphonic",
    "octave": "pitch corrected",
    "jump": "pitch removed",
    "clipping": "clipped",
}

_SPLITS = {"none": "left out", "both": "training and validation", "train": "training"}


def write_dataset_report(folder: Path, built: Built, progress: Callable[[str, float, float], None]) -> None:
    """Writes the page into the folder of a data set.

    Raises:
      OSError: it cannot be written.
    """
    progress("drawing the report", 0.0, 0.0)

    def recordings() -> Iterator[Recording]:
        return iter_recordings(folder, built.manifest)

    sounds = play_doubts(recordings(), built.recordings.path_of)
    page = make_dataset_page(built.manifest, recordings, draw_dataset(built), sounds)
    write_bytes(folder / DATASET_PAGE, page.encode("utf-8", "replace"))


def make_dataset_page(
    manifest: Manifest,
    recordings: Callable[[], Iterator[Recording]],
    picture: bytes,
    sounds: dict[tuple[str, int], bytes],
) -> str:
    """Returns the page as HTML text.

    Args:
      manifest: of the data set.
      recordings: gives its recordings.
      picture: see `draw`.
      sounds: see `play_doubts`.
    """
    totals = _Totals(recordings())
    # Those that can be played are listed in any case.
    n_rest = max(0, MAX_DOUBTS - len(sounds))
    listed = []
    for recording in recordings():
        for index, doubt in enumerate(recording.doubts):
            mp3 = sounds.get((recording.path, index))
            if mp3 is None and n_rest == 0:
                continue
            n_rest -= mp3 is None
            listed.append({
                "path": recording.path, "start": clock(doubt.start_s, True), "end": clock(doubt.end_s, True),
                "what": _KINDS[doubt.kind], "mp3": mp3,
            })  # fmt: skip
    rows = [_row(recording) for recording in itertools.islice(recordings(), MAX_RECORDINGS)]
    if totals.n > MAX_RECORDINGS:  # then those that say something, left out or remarkable, come first
        telling = (recording for recording in recordings() if recording.notes)
        rows = [_row(recording) for recording in itertools.islice(telling, MAX_RECORDINGS)] or rows
    title = f"Data set {manifest.name}"
    return render(
        "dataset.html", title, title, facts=_dataset_facts(manifest, totals), picture=picture, recordings=rows,
        n_more_recordings=totals.n - len(rows), doubts=listed, n_players=len(sounds),
        n_more=totals.n_doubts - len(listed),
    )  # fmt: skip


class _Totals:
    """Sums over recordings."""

    def __init__(self, recordings: Iterable[Recording]) -> None:
        self.n = self.n_used = self.n_doubts = 0
        self.given_s = self.polyphonic_s = 0.0
        for recording in recordings:
            self.n += 1
            self.n_used += recording.split != "none"
            self.n_doubts += len(recording.doubts)
            self.given_s += recording.seconds
            self.polyphonic_s += recording.polyphonic_s


def _dataset_facts(manifest: Manifest, totals: _Totals) -> list[tuple[str, str]]:
    used_s = manifest.train.used_s + manifest.validation.used_s
    pitch, power = manifest.statistics.pitch_midi, manifest.statistics.power_db
    lowest, highest = map(note_name, manifest.statistics.range_midi)
    low, high = note_name(pitch[25]), note_name(pitch[75])
    return [
        ("recordings used", f"{totals.n_used} of {totals.n}"),
        ("given", clock(totals.given_s)),
        ("used", f"{clock(used_s)} (for training {clock(manifest.train.used_s)})"),
        ("notes in the training split", clock(manifest.statistics.note_s)),
        ("range", f"{lowest} to {highest}, mostly {low} to {high}"),
        ("dynamics", f"{power[5]:.0f} to {power[95]:.0f} dBFS"),
        ("polyphonic", f"{clock(totals.polyphonic_s)}{', kept' if manifest.keep_polyphonic else ', left out'}"),
        ("high-pass filter", f"below {manifest.lowest_hz:.0f} Hz, the lowest note" if manifest.lowest_hz else "none"),
        ("licence", manifest.licence),
    ]


def _row(recording: Recording) -> dict[str, str]:
    return {
        "path": recording.path,
        "length": clock(recording.seconds),
        "used": clock(recording.used_s),
        "polyphonic": clock(recording.polyphonic_s),
        "split": _SPLITS.get(recording.split, recording.split),
        "remarks": "; ".join(recording.notes),
    }


def play_doubts(recordings: Iterable[Recording], path_of: Callable[[str], Path | None]) -> dict[tuple[str, int], bytes]:
    """Encodes the longest doubtful places of each kind as MP3.

    Args:
      recordings: of the data set.
      path_of: gives the sound file of a recording, or None.

    Returns:
      (recording, number of the doubtful place in it) → MP3; without those whose file cannot be read there.
    """
    kinds: dict[str, list[tuple[float, str, int, Doubt]]] = defaultdict(list)
    for recording in recordings:
        for index, doubt in enumerate(recording.doubts):
            places = kinds[doubt.kind]
            places.append((doubt.start_s - doubt.end_s, recording.path, index, doubt))
            if len(places) > 100 * PLAYERS_PER_KIND:
                places[:] = _longest(places)
    sounds = {}
    for places in kinds.values():
        for _, name, index, doubt in _longest(places):
            path = path_of(name)
            audio = _excerpt(path, doubt.start_s - MARGIN_S, doubt.end_s + MARGIN_S) if path is not None else None
            if audio is not None:
                sounds[name, index] = as_mp3([audio], ANALYSIS_RATE_HZ)
    return sounds


def _longest(places: list[tuple[float, str, int, Doubt]]) -> list[tuple[float, str, int, Doubt]]:
    return sorted(places, key=lambda place: place[:3])[:PLAYERS_PER_KIND]


def _excerpt(path: Path, start_s: float, end_s: float) -> np.ndarray | None:
    """Returns a stretch of a sound file, [S] mono at 16 kHz, at most `PLAYED_S` of it; None where it cannot be read."""
    import soundfile
    import soxr

    start_s = max(0.0, start_s)
    try:
        with soundfile.SoundFile(path) as file:
            rate_hz = file.samplerate
            file.seek(int(start_s * rate_hz))
            audio = file.read(int(min(end_s - start_s, PLAYED_S) * rate_hz), "float32", always_2d=True).mean(axis=1)
    except (soundfile.SoundFileError, OSError):
        return None
    return soxr.resample(audio, rate_hz, ANALYSIS_RATE_HZ) if len(audio) and np.isfinite(audio).all() else None


def draw_dataset(built: Built) -> bytes:
    """Draws histograms of pitch and loudness, and a spectrogram of the longest recording with its F0.

    Returns:
      A PNG.
    """
    figure = new_figure(12, 9)
    parts: Any = figure.subfigures(2, 1, height_ratios=[1, 1.5])
    top, bottom = parts
    pitch, level = top.subplots(1, 2)
    histograms = built.manifest.histograms
    _bars(pitch, histograms["pitch_midi"], "tab:blue")
    pitch.set_title("notes", fontsize=10, loc="left")
    pitch.set_ylabel("seconds")
    pitch.xaxis.set_major_locator(_octaves())
    pitch.xaxis.set_major_formatter(lambda midi, _: note_name(midi))
    _bars(level, histograms["loudness_db"], "tab:orange")
    level.set_title("loudness of the notes (dB, A-weighted)", fontsize=10, loc="left")
    _spectrogram(bottom.subplots(), built.recordings.longest())
    return as_png(figure)


def _octaves() -> Locator:
    from matplotlib.ticker import MultipleLocator

    return MultipleLocator(12)


def _bars(axis: Axes, histogram: Histogram, colour: str) -> None:
    left = histogram.start + histogram.step * np.arange(len(histogram.seconds))
    axis.bar(left, histogram.seconds, histogram.step, align="edge", color=colour)
    axis.grid(alpha=0.3)


def _spectrogram(axis: Axes, recording: CutRecording) -> None:
    """Draws the first seconds of the kept parts of a recording, with F0."""
    rate_hz = recording.job.spec.frame_rate_hz
    n_frames = min(recording.n_frames, round(SHOWN_S * rate_hz))
    audio = recording.audio(ANALYSIS_RATE_HZ, 0, n_frames * ANALYSIS_RATE_HZ // recording.job.spec.frame_rate_hz)
    show_spectrogram(axis, audio, ANALYSIS_RATE_HZ)
    f0_hz = recording.frames()["f0_hz"][:n_frames]
    axis.plot(np.arange(n_frames) / rate_hz, np.where(f0_hz > 0, f0_hz, np.nan) / 1000, color="cyan", linewidth=1.2)
    axis.set_ylim(0, min(ANALYSIS_RATE_HZ / 2000, max(2.0, 6 * float(f0_hz.max(initial=0.0)) / 1000)))
    # No glyphs of the name are taken for granted: fonts lack most of the world's letters.
    name = recording.job.name.encode("ascii", "replace").decode("ascii").replace("$", "S")
    axis.set_title(f"{name}: what was kept, and its F0", fontsize=10, loc="left")
    axis.set_xlabel("seconds")


# --- a training ---

TRAINING_PAGE, TRAINING_PICTURE = "training.html", "training.png"

#: The metric of a complete instrument that says how many seconds of the validation split were compared.
JUDGED_METRIC = "judged_s"

ABOUT_LOSSES = (
    "The loss is the preset's; where it has a room_penalty (vst: 0.2 times the reverberance of the room), the training "
    "loss contains it and the validation loss does not. The spectral distance under a clip is measured at 16 kHz and "
    "is the same for every preset."
)

#: Curves of fewer validations have a marker at each.
MAX_MARKERS = 50


class Validation(Protocol):
    """A point of the curves; `training.checkpoint.Point` is one."""

    @property
    def step(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def validation_loss(self) -> float: ...
    @property
    def wall_s(self) -> float: ...


class Reconstruction(Protocol):
    """A recording and its rendering; `workflows.evaluate.Clip` is one."""

    @property
    def recording(self) -> np.ndarray: ...
    @property
    def rendering(self) -> np.ndarray: ...
    @property
    def rate_hz(self) -> int: ...
    def figures(self) -> dict[str, float]: ...


@dataclass(frozen=True)
class TrainingSummary:
    """Summary of a training for its page.

    Attributes:
      instrument: its name.
      preset: of its model.
      n_weights: of the model and its room.
      audio_s: seconds of sound in the training split.
      steps, wall_s: steps done, and the seconds they took.
      finished: False for a training that can be continued.
      rollbacks: how often it went back to a checkpoint.
      history: all validations.
      kept: the one whose weights the instrument has; None for that with the lowest loss.
      metrics: on the validation split, with the seconds of sound they were measured on as `JUDGED_METRIC`.
    """

    instrument: str
    preset: str
    n_weights: int
    audio_s: float
    steps: int
    wall_s: float
    finished: bool
    rollbacks: int
    history: Sequence[Validation]
    metrics: Mapping[str, float]
    kept: Validation | None = None


def write_training_report(folder: Path, summary: TrainingSummary, clips: Sequence[Reconstruction]) -> Path:
    """Writes page and picture into the folder of a run, each whole or not at all.

    Args:
      folder: of the run.
      summary: of the training.
      clips: at least one; the picture shows the first.

    Returns:
      The page.

    Raises:
      OutputError: the files cannot be written.
    """
    picture = draw_training(summary.history, clips[0], summary.kept)
    page = make_training_page(summary, picture, clips)
    with writing(folder):
        write_bytes(folder / TRAINING_PICTURE, picture)
        write_bytes(folder / TRAINING_PAGE, page.encode())
    return folder / TRAINING_PAGE


def make_training_page(summary: TrainingSummary, picture: bytes, clips: Sequence[Reconstruction]) -> str:
    """Returns the page as HTML text.

    Args:
      summary, clips: as `write_training_report`.
      picture: see `draw_training`.
    """
    content = [
        {
            "recording": as_mp3([clip.recording], clip.rate_hz),
            "rendering": as_mp3([clip.rendering], clip.rate_hz),
            "about": describe(clip.figures()),
            "picture": draw_pair(clip.recording, clip.rendering, clip.rate_hz),
        }
        for clip in clips
    ]
    name = summary.instrument
    return render(
        "training.html", f"{name}: ddsp train", f"The training of {name}",
        facts=_training_facts(summary), picture=picture, about_losses=ABOUT_LOSSES, clips=content,
    )  # fmt: skip


def _training_facts(summary: TrainingSummary) -> list[tuple[str, str]]:
    end = "" if summary.finished else ", not finished"
    facts = [
        ("model", f"{summary.preset}, {summary.n_weights:,} weights"),
        ("training split", _duration(summary.audio_s)),
        ("trained for", f"{summary.steps:,} steps in {_duration(summary.wall_s)}{end}"),
    ]
    if summary.history:
        first, kept = summary.history[0], summary.kept or best_point(summary.history)
        which = "at its best" if kept == best_point(summary.history) else "for the weights that were kept"
        text = f"{first.validation_loss:.2f} at first, {kept.validation_loss:.2f} {which}, after step {kept.step:,}"
        facts.append(("validation loss", text))
    if metrics := describe(summary.metrics):
        facts.append((f"on {_duration(summary.metrics.get(JUDGED_METRIC, 0.0))} of the validation split", metrics))
    if summary.rollbacks:
        times = "once" if summary.rollbacks == 1 else f"{summary.rollbacks} times"
        facts.append(("went back to a checkpoint", f"{times}, because the loss broke or the model fell silent"))
    return facts


def best_point(history: Sequence[Validation]) -> Validation:
    """Returns the validation with the lowest loss."""
    return min(history, key=lambda point: point.validation_loss)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def draw_training(history: Sequence[Validation], clip: Reconstruction, kept: Validation | None = None) -> bytes:
    """Draws the loss against steps and minutes, and spectrograms of a recording and its reconstruction.

    Args:
      history: the validations; if they have no times, loss is drawn against steps alone.
      clip: to show.
      kept: the validation whose weights the instrument has; None for that with the lowest loss.

    Returns:
      A PNG.
    """
    figure = new_figure(12, 8)
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.2, 1])
    curves: Any = parts[0].subplots(1, 2, sharey=True)
    _curves(curves[0], history, [point.step for point in history], "steps", kept)
    timed = [point for point in history if point.wall_s > 0]
    _curves(curves[1], timed, [point.wall_s / 60 for point in timed], "minutes", kept)
    curves[0].set_ylabel("loss")
    sounds = ((clip.recording, "recording"), (clip.rendering, "reconstruction"))
    for axis, (audio, title) in zip(parts[1].subplots(1, 2, sharey=True), sounds, strict=True):
        show_spectrogram(axis, audio, clip.rate_hz)
        axis.set_title(title, loc="left", fontsize=9)
        axis.set_xlabel("seconds")
    return as_png(figure)


def _curves(
    axis: Axes, history: Sequence[Validation], places: Sequence[float], unit: str, kept: Validation | None
) -> None:
    axis.set_xlabel(unit)
    axis.grid(alpha=0.3)
    if not history:
        return
    for name, values in (
        ("training", [point.loss for point in history]),
        ("validation", [point.validation_loss for point in history]),
    ):
        axis.plot(places, values, linewidth=1.2, marker="." if len(history) < MAX_MARKERS else "", label=name)
    best = best_point(history)
    shown = best if kept is None or kept not in history else kept
    place, word = places[list(history).index(shown)], "best" if shown == best else "kept"
    after = f"{shown.validation_loss:.2f} after {place:,.0f}" if unit == "steps" else f"after {place:.1f}"
    axis.plot([place], [shown.validation_loss], "o", color="tab:red", label=f"{word}: {after} {unit}")
    axis.legend(loc="best", fontsize=8)


# --- a transfer: every input beside its renderings ---


class Transferred(Protocol):
    """One output on the page; `workflows.transfer.TransferResult` is one."""

    @property
    def input(self) -> Path: ...
    @property
    def output(self) -> Path: ...
    @property
    def instrument(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def transpose_semitones(self) -> float: ...
    @property
    def key(self) -> str: ...
    @property
    def n_segments(self) -> int: ...
    @property
    def tail_s(self) -> float: ...
    @property
    def n_players(self) -> int: ...
    @property
    def n_voices(self) -> int: ...
    @property
    def remarks(self) -> tuple[str, ...]: ...


def write_transfer_report(
    path: Path, results: Sequence[Transferred], pictures: Sequence[bytes], force: bool = False
) -> None:
    """Writes the page, whole or not at all.

    Args:
      path: the .html file.
      results: the outputs, those of one input beside each other.
      pictures: a PNG for each.
      force: replace an existing file.

    Raises:
      OutputError: the file exists or cannot be written.
    """
    check_writable(path, force)
    page = make_transfer_page(results, pictures)
    with writing(path):
        write_bytes(path, page.encode())


def make_transfer_page(results: Sequence[Transferred], pictures: Sequence[bytes]) -> str:
    """Returns the page as HTML text; arguments as `write_transfer_report`."""
    sections = []
    for source in dict.fromkeys(result.input for result in results):
        its = [(result, png) for result, png in zip(results, pictures, strict=True) if result.input == source]
        players = [(result.output, result.instrument, _about(result)) for result, _ in its]
        if source.suffix.lower() in read.AUDIO_SUFFIXES:
            players.insert(0, (source, "input", source.name))
        gains_db = matching_gains_db([file for file, _, _ in players])
        remarks = dict.fromkeys(remark for result, _ in its for remark in result.remarks)
        words = f"{source.name} on {{}}: waveforms, spectrograms, pitch and level"
        sections.append({
            "name": source.name,
            "remarks": [remark[:1].upper() + remark[1:] for remark in remarks],
            "players": [
                {"mp3": file_as_mp3(file, gain_db), "title": title, "about": about}
                for (file, title, about), gain_db in zip(players, gains_db, strict=True)
            ],
            "pictures": [{"png": png, "words": words.format(result.instrument)} for result, png in its],
        })  # fmt: skip
    names = ", ".join(dict.fromkeys(result.instrument for result in results))
    return render("transfer.html", f"{names}: ddsp transfer", f"Played on {names}", sections=sections)


def _about(result: Transferred) -> str:
    segments = f"{result.n_segments} segment{'s' if result.n_segments != 1 else ''}"  # of the first voice
    parts = [
        f"{result.seconds:.1f} s",
        *([f"{result.n_players} players"] if result.n_players > 1 else []),
        f"{result.n_voices} voices" if result.n_voices > 1 else segments,
        f"{result.transpose_semitones:+g} semitones" if result.transpose_semitones else "not transposed",
    ]
    if result.key:
        parts.append(f"tuned to {result.key}")
    if result.tail_s > 0:
        parts.append(f"room {result.tail_s:.1f} s")
    return ", ".join(parts)
