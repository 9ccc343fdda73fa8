"""`ddsp evaluate`: how near an instrument comes to recordings that it plays after. No training framework needed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddsp_cli.atomic import write_bytes, writing
from ddsp_cli.errors import OutputError, UsageError
from ddsp_cli.features import io, quality
from ddsp_cli.workflows import catalogue
from ddsp_cli.workflows.jobs import free_name
from ddsp_cli.workflows.resynthesis import Clip, after_recording, resynthesise

FIGURES = "evaluation.json"

#: Figure → what people call it, and how it is written, in the order in which it is shown.
SHOWN = {
    "spectral_loss": ("spectral loss", "{:.2f}"),
    "pitch_within_50_cents": ("within 50 cents", "{:.1%}"),
    "pitch_error_cents": ("cents off", "{:.1f}"),
    "voiced_recall": ("notes found", "{:.1%}"),
    "reliable_within_50_cents": ("of reliable", "{:.1%}"),
    "reliable_share": ("reliable", "{:.1%}"),
    "loudness_error_db": ("loudness error", "{:.1f} dB"),
    "noise_balance_db": ("noise", "{:+.1f} dB"),
    "room_share": ("room", "{:.1%}"),
}


@dataclass(frozen=True)
class Judgement:
    """Figures of one recording, by its file's name, or its path where several have that name."""

    name: str
    seconds: float
    figures: dict[str, float]
    picture: Path | None = None


def evaluate(
    model: str | Path,
    audio: Sequence[Path] = (),
    dataset: Path | None = None,
    out: Path | None = None,
    force: bool = False,
    reliable: bool = False,
    progress: Callable[[str, float, float], None] | None = None,
) -> list[Judgement]:
    """Lets an instrument play after recordings and measures the difference.

    Args:
      model: a name, a folder, or the file of a DDSP-VST model.
      audio: recordings of the same instrument, or folders of them; each is judged.
      dataset: a prepared data set, whose validation part is judged; without `audio`, `datasets/NAME`.
      out: folder for `evaluation.json` and a picture of each recording; None writes nothing.
      force: write into a folder that holds an evaluation already.
      reliable: also judge pitch where two trackers agree about the recording, which takes as long as it lasts.
      progress: called as `progress(what, done, total)`.

    Raises:
      UsageError: both recordings and a data set.
      InputError, DatasetError, ModelError, OutputError: see their messages.
    """
    if audio and dataset is not None:
        raise UsageError("recordings and a data set were given", "Judge one or the other.")
    files = io.list_audio(audio) if audio else []
    if out is not None and (out / FIGURES).exists() and not force:
        raise OutputError(f"{out / FIGURES} exists already", "Use --force to replace it, or --out for another place.")
    loaded = catalogue.open_at(catalogue.find_playable(model))
    report = progress or (lambda what, done, total: None)
    found: list[Judgement] = []
    taken: set[str] = set()
    names = Counter(path.name for path in files)
    for i, path in enumerate(files):
        report(f"judging {path.name}", i, len(files))
        clip = after_recording(loaded, path, path.name if names[path.name] == 1 else path.as_posix())
        found.append(_judge(clip, out, reliable, free_name(path.stem, taken)))
    if not files:
        from ddsp_cli.dataset import store

        source = dataset or Path("datasets") / loaded.card.name
        report(f"judging {source}", 0, 1)
        clip = resynthesise(loaded, store.load(source, loaded.card.features))
        found.append(_judge(clip, out, reliable, clip.name))
    if out is not None:
        _write(found, loaded.card.name, out)
    return found


def _judge(clip: Clip, out: Path | None, reliable: bool, stem: str) -> Judgement:
    picture = None
    if out is not None:
        from ddsp_cli.plots import draw_pair

        picture = out / f"{stem}.png"
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            write_bytes(picture, draw_pair(clip.recording, clip.rendering, clip.rate_hz))
    figures = clip.figures() | (quality.reliable_pitch(*clip.at_16_khz(), clip.f0_hz) if reliable else {})
    return Judgement(clip.name, round(clip.seconds, 1), figures, picture)


def _write(found: list[Judgement], instrument: str, out: Path) -> None:
    rows = [{"name": one.name, "seconds": one.seconds, **one.figures} for one in found]
    text = json.dumps({"instrument": instrument, "recordings": rows}, indent=2, ensure_ascii=False)
    with writing(out):
        write_bytes(out / FIGURES, f"{text}\n".encode())
