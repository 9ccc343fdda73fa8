"""The report of a data set: `report.html` with its recordings and doubtful places, `report.png` to look at."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli.config import ANALYSIS_RATE_HZ
from ddsp_cli.dataset.build import Built
from ddsp_cli.dataset.cache import Take
from ddsp_cli.dataset.manifest import Histogram, Manifest, Recording
from ddsp_cli.pitch_names import note_name
from ddsp_cli.reports.plots import new_figure, show_spectrogram

PAGE, PICTURE = "report.html", "report.png"

#: How much of one recording is shown as a spectrogram.
SHOWN_S = 15.0

#: Doubtful places that the page lists; dataset.yaml has more of them.
MAX_LISTED = 500

_KINDS = {
    "polyphony": "more than one voice",
    "octave": "pitch mended",
    "jump": "pitch taken out",
    "clipping": "clipped",
}

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } th, td { text-align: left; padding: .15rem 1rem .15rem 0 }
th { border-bottom: 1px solid #999 } td.number { text-align: right } img { max-width: 100% }
"""


def write(folder: Path, built: Built, progress: Callable[[str, float, float], None]) -> None:
    """Writes page and picture into the folder of a data set.

    Raises:
      OSError: they cannot be written.
    """
    progress("drawing the report", 0.0, 0.0)
    _draw(folder / PICTURE, built)
    (folder / PAGE).write_text(page(built.manifest), encoding="utf-8")


def page(manifest: Manifest) -> str:
    """The report as HTML that stands alone but for its picture."""
    used_s = manifest.train.used_s + manifest.validation.used_s
    given_s = sum(recording.seconds for recording in manifest.recordings)
    polyphonic_s = sum(recording.polyphonic_s for recording in manifest.recordings)
    pitch, power = manifest.statistics.pitch_midi, manifest.statistics.power_db
    lowest, low, high, highest = (note_name(pitch[percent]) for percent in (1, 25, 75, 99))
    facts = [
        ("recordings used", f"{len(manifest.recordings) - len(manifest.skipped)} of {len(manifest.recordings)}"),
        ("given", clock(given_s)),
        ("used", f"{clock(used_s)} (for training {clock(manifest.train.used_s)})"),
        ("notes in the training part", clock(manifest.statistics.note_s)),
        ("range", f"{lowest} to {highest}, mostly {low} to {high}"),
        ("dynamics", f"{power[5]:.0f} to {power[95]:.0f} dBFS"),
        ("more than one voice", f"{clock(polyphonic_s)}{', kept' if manifest.keep_polyphonic else ', left out'}"),
        ("taken out", f"what sounds well below {manifest.lowest_hz:.0f} Hz" if manifest.lowest_hz else "nothing"),
        ("licence", manifest.licence),
    ]
    title = f"Data set {html.escape(manifest.name)}"
    return "\n".join([
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>",
        "<table>" + "".join(f"<tr><th>{key}</th><td>{html.escape(value)}</td></tr>" for key, value in facts)
        + "</table>",
        f'<img src="{PICTURE}" alt="Histograms of pitch and loudness; a spectrogram with the pitch over it">',
        "<h2>Recordings</h2>",
        _table(["recording", "length", "used", "more than one voice", "part", "remarks"],
               (_recording_row(recording) for recording in manifest.recordings)),
        "<h2>Doubtful places</h2>",
        _table(["recording", "from", "to", "what"], _doubt_rows(manifest)),
        "</body></html>\n",
    ])  # fmt: skip


def _recording_row(recording: Recording) -> list[str]:
    part = {"none": "left out", "both": "training and validation", "train": "training"}
    return [
        recording.path, clock(recording.seconds), clock(recording.used_s), clock(recording.polyphonic_s),
        part.get(recording.split, recording.split), "; ".join(recording.notes),
    ]  # fmt: skip


def _doubt_rows(manifest: Manifest) -> Iterator[list[str]]:
    n_listed = 0
    for recording in manifest.recordings:
        for doubt in recording.doubts:
            if n_listed == MAX_LISTED:
                yield ["…", "", "", "there are more; see dataset.yaml"]
                return
            n_listed += 1
            yield [recording.path, clock(doubt.start_s, True), clock(doubt.end_s, True), _KINDS[doubt.kind]]


def _table(columns: list[str], rows: Iterator[list[str]]) -> str:
    head = "".join(f"<th>{column}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><tr>{head}</tr>\n{body}</table>" if body else "<p>None.</p>"


def clock(seconds: float, exact: bool = False) -> str:
    """`1:02:03` or `4:05`; with hundredths where `exact`."""
    whole = int(seconds) if exact else round(seconds)
    rest = f"{seconds - whole:.2f}"[1:] if exact else ""
    minutes, left = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}") + rest


def _draw(path: Path, built: Built) -> None:
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
    usable = [take for take in built.takes if not take.reason]
    longest = max(usable, key=lambda take: (take.n_frames, take.job.name))
    _spectrogram(bottom.subplots(), longest)
    figure.savefig(path, dpi=90)


def _octaves() -> Any:
    from matplotlib.ticker import MultipleLocator

    return MultipleLocator(12)


def _bars(axis: Any, histogram: Histogram, colour: str) -> None:
    left = histogram.start + histogram.step * np.arange(len(histogram.seconds))
    axis.bar(left, histogram.seconds, histogram.step, align="edge", color=colour)
    axis.grid(alpha=0.3)


def _spectrogram(axis: Any, take: Take) -> None:
    """The first seconds of what was kept of the longest take, its pitch drawn over it."""
    rate_hz = take.job.spec.frame_rate_hz
    n_frames = min(take.n_frames, round(SHOWN_S * rate_hz))
    audio = np.concatenate(list(take.audio(ANALYSIS_RATE_HZ, 0, n_frames)))
    show_spectrogram(axis, audio, ANALYSIS_RATE_HZ)
    f0_hz = take.frames()["f0_hz"][:n_frames]
    axis.plot(np.arange(n_frames) / rate_hz, np.where(f0_hz > 0, f0_hz, np.nan) / 1000, color="cyan", linewidth=1.2)
    axis.set_ylim(0, min(ANALYSIS_RATE_HZ / 2000, max(2.0, 6 * float(f0_hz.max(initial=0.0)) / 1000)))
    # No glyphs of the name are taken for granted: fonts lack most of the world's letters.
    name = take.job.name.encode("ascii", "replace").decode("ascii").replace("$", "S")
    axis.set_title(f"{name}: what was kept, and its pitch", fontsize=10, loc="left")
    axis.set_xlabel("seconds")
