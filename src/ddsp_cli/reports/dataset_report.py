"""`report.html` of a data set: its contents, its recordings, and its doubtful places to listen to."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddsp_cli.atomic import write_bytes
from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.dataset.build import Built
from ddsp_cli.dataset.cache import CutRecording
from ddsp_cli.dataset.manifest import Doubt, Histogram, Manifest, Recording, iter_recordings
from ddsp_cli.pitch_names import note_name
from ddsp_cli.reports.page import as_mp3, clock, render
from ddsp_cli.reports.plots import as_png, new_figure, show_spectrogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import Locator

PAGE = "report.html"

#: How much of one recording is shown as a spectrogram.
SHOWN_S = 15.0

#: Recordings and doubtful places that the page lists; the data set's own files have more of them.
MAX_RECORDINGS = 2000
MAX_DOUBTS = 500

#: Doubtful places of each kind that can be played, the longest ones, and how much of each.
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


def write(folder: Path, built: Built, progress: Callable[[str, float, float], None]) -> None:
    """Writes the page into the folder of a data set.

    Raises:
      OSError: it cannot be written.
    """
    progress("drawing the report", 0.0, 0.0)

    def recordings() -> Iterator[Recording]:
        return iter_recordings(folder, built.manifest)

    sounds = play_doubts(recordings(), built.recordings.path_of)
    page = make_page(built.manifest, recordings, draw(built), sounds)
    write_bytes(folder / PAGE, page.encode("utf-8", "replace"))


def make_page(
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
        "dataset.html", title, title, facts=_facts(manifest, totals), picture=picture, recordings=rows,
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


def _facts(manifest: Manifest, totals: _Totals) -> list[tuple[str, str]]:
    used_s = manifest.train.used_s + manifest.validation.used_s
    pitch, power = manifest.statistics.pitch_midi, manifest.statistics.power_db
    lowest, low, high, highest = (note_name(pitch[percent]) for percent in (1, 25, 75, 99))
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
    """MP3s of the longest doubtful places of each kind.

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


def draw(built: Built) -> bytes:
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
