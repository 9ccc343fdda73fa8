"""`ddsp evaluate`: compare an instrument with recordings, or with the validation split of its data set.

The instrument plays the F0 and level that were measured in a recording; its sound is compared with that recording
(`analysis.metrics`). No training framework is loaded.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from ddsp_cli.analysis import metrics
from ddsp_cli.analysis.extract import measure
from ddsp_cli.analysis.features import fill_f0
from ddsp_cli.analysis.pitch.trackers import DEFAULT_TRACKER
from ddsp_cli.arrays import evenly_spread
from ddsp_cli.atomic import write_bytes, writing
from ddsp_cli.audio import read
from ddsp_cli.bundle import Bundle
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.errors import DatasetError, InputError, Kind, OutputError, UsageError
from ddsp_cli.remote import as_place
from ddsp_cli.synthesis.instrument import Instrument
from ddsp_cli.workflows import models
from ddsp_cli.workflows.arguments import PathLike, as_path, as_paths
from ddsp_cli.workflows.transfer import Batch
from ddsp_cli.workflows.transfer_plan import Failure, each_input, free_name

if TYPE_CHECKING:
    from ddsp_cli.dataset.loader import Dataset

#: Table that `ddsp evaluate --out` writes beside the pictures.
FIGURES = "evaluation.json"

#: Frame rate at which F0 is measured and compared.
F0_RATE_HZ = FeatureSpec().frame_rate_hz

#: At most this much of a data set or of one recording is compared.
COMPARED_S = 120.0

#: The level of an instrument's notes is compared by this percentile.
LOUD_PERCENTILE = 95

#: Clips that are rendered for the page of a training, and the least voiced share of their windows.
N_CLIPS = 4
LEAST_VOICED = 0.5


@dataclass(frozen=True)
class Judgement:
    """The metrics of one recording.

    Attributes:
      name: of its file, or its path where several have that name.
      seconds: how much was compared.
      figures: metrics by name.
      picture: spectrograms of recording and reconstruction, where they were written.
    """

    name: str
    seconds: float
    figures: dict[str, float]
    picture: Path | None = None


def evaluate(
    model: PathLike,
    audio: PathLike | Sequence[PathLike] = (),
    dataset: PathLike | None = None,
    out: PathLike | None = None,
    force: bool = False,
    reliable: bool = False,
    progress: Callable[[str, float, float], None] | None = None,
) -> Batch[Judgement]:
    """Reconstructs recordings with an instrument and measures the difference.

    Of several recordings those that cannot be compared are left out and listed in the result.

    Args:
      model: a name, a folder, or the file of a DDSP-VST model.
      audio: recordings of the same instrument, or folders of them.
      dataset: a prepared data set (a folder or an address), whose validation split is taken; without `audio`,
        `datasets/NAME`.
      out: folder for `evaluation.json` and a picture of each recording; None writes nothing.
      force: write into a folder that holds an evaluation already.
      reliable: also compare F0 where two trackers agree about the recording, which takes as long as it lasts.
      progress: called as `progress(what, done, total)`.

    Returns:
      Metrics of each recording, or of the validation split; recordings without a note and unreadable ones as failures.

    Raises:
      UsageError: both recordings and a data set.
      InputError: the only recording cannot be compared, or none of several.
      DatasetError, ModelError, OutputError: see their messages.
    """
    audio, out = as_paths(audio), as_path(out)
    dataset = None if dataset is None else as_place(dataset)
    if audio and dataset is not None:
        raise UsageError("recordings and a data set were given", "Give one of the two.")
    listed, failures = each_input(audio, lambda path: read.list_audio([path]))
    if failures and not listed:
        raise failures[0].error
    files = list(dict.fromkeys(itertools.chain.from_iterable(listed)))
    if out is not None and (out / FIGURES).exists() and not force:
        raise OutputError(
            f"{out / FIGURES} exists already", "Replace it with force=True, or choose another place.", kind=Kind.EXISTS
        )
    loaded = models.open_at(models.find_playable(model))
    report = progress or (lambda what, done, total: None)
    found: list[Judgement] = []
    taken: set[str] = set()
    names = Counter(path.name for path in files)
    for i, path in enumerate(files):
        report(f"judging {path.name}", i, len(files))
        try:
            clip = reconstruct(loaded, path, path.name if names[path.name] == 1 else path.as_posix())
        except InputError as problem:
            failures.append(Failure(path, problem))
            continue
        found.append(_judge(clip, out, reliable, free_name(path.stem, taken)))
    if failures and not found:
        raise failures[0].error
    if not files:
        from ddsp_cli.dataset import loader
        from ddsp_cli.dataset.manifest import MANIFEST

        source = dataset or Path("datasets") / loaded.card.name
        report(f"judging {source}", 0, 1)
        try:
            data = loader.load(source, loaded.card.features, loaded.card.model.sample_rate_hz)
        except DatasetError as problem:
            if dataset is None and not (source / MANIFEST).exists():
                raise DatasetError(
                    f"no recordings were named, and there is no data set {source}",
                    "Name recordings of the instrument to compare with, or its data set.",
                    kind=Kind.NOTHING_TO_COMPARE,
                ) from problem
            raise
        clip = resynthesise(loaded, data)
        found.append(_judge(clip, out, reliable, clip.name))
    if out is not None:
        _write(found, loaded.card.name, out)
    return Batch(tuple(found), tuple(failures))


@dataclass(frozen=True)
class Clip:
    """A recording and its reconstruction: the sound of the instrument for the recording's F0 and level.

    Attributes:
      name: of the recording.
      recording, rendering: [S] each, at `rate_hz`.
      f0_hz: [F] F0 of the recording at `F0_RATE_HZ`, 0 where unvoiced, which the instrument played; None where it is
        not known.
      room_share: energy that the learned room adds, as a share of the rendering's, 0..1; None without a room.
    """

    name: str
    recording: np.ndarray
    rendering: np.ndarray
    rate_hz: int
    f0_hz: np.ndarray | None = None
    room_share: float | None = None

    @property
    def seconds(self) -> float:
        return len(self.recording) / self.rate_hz

    def at_16_khz(self) -> tuple[np.ndarray, np.ndarray]:
        """Resamples recording and rendering [S] to the analysis rate."""
        import soxr

        if self.rate_hz == ANALYSIS_RATE_HZ:
            return self.recording, self.rendering
        one, other = (soxr.resample(s, self.rate_hz, ANALYSIS_RATE_HZ) for s in (self.recording, self.rendering))
        return one, other

    def quality(self) -> metrics.Quality:
        """Returns the metrics of both at 16 kHz."""
        return metrics.compare(*self.at_16_khz(), reference_hz=self.f0_hz)

    def figures(self) -> dict[str, float]:
        """Returns all metrics by name."""
        room = {} if self.room_share is None else {"room_share": round(self.room_share, 4)}
        return {**self.quality().as_dict(), **room}


def resynthesise(loaded: Bundle, data: Dataset, rows: np.ndarray | None = None) -> Clip:
    """Reconstructs windows of the validation split, each as a separate performance.

    Args:
      loaded: the instrument.
      data: the data set.
      rows: which windows; None takes up to `COMPARED_S`, spread over all.

    Raises:
      DatasetError: there is no validation split.
    """
    model = loaded.card.model
    examples = data.validation
    if not len(examples):
        raise DatasetError(
            f"the data set {data.manifest.name} has no validation split",
            "Name recordings to compare with, or prepare it again with hold_out.",
            kind=Kind.NO_VALIDATION,
        )
    if rows is None:
        rows = evenly_spread(len(examples), max(1, round(COMPARED_S / data.manifest.window_s)))
    step = data.manifest.features.frame_rate_hz // model.frame_rate_hz
    f0_hz = _at_f0_rate(examples.f0_hz[rows].reshape(-1), data.manifest.features.frame_rate_hz)
    level_db = getattr(examples, model.level)[rows].reshape(-1)[::step]
    return _reconstruct(loaded, "validation", examples.audio[rows].reshape(-1), f0_hz, level_db, len(rows))


def choose_windows(data: Dataset) -> list[int]:
    """Chooses windows of the validation split to listen to: up to `N_CLIPS` with notes, spread over the recordings."""
    voiced = np.mean(data.validation.f0_hz > 0, axis=1)
    usable = np.flatnonzero(voiced >= LEAST_VOICED)
    if not len(usable):
        usable = np.array([int(np.argmax(voiced))])
    return [int(row) for row in usable[evenly_spread(len(usable), N_CLIPS)]]


def reconstruct(loaded: Bundle, path: Path, name: str) -> Clip:
    """Reconstructs a recording, which is brought to the level of the training set first.

    Args:
      loaded: the instrument.
      path: of the recording.
      name: of the clip.

    Raises:
      InputError: the recording cannot be read, or is unvoiced.
    """
    import soxr

    model = loaded.card.model
    longest = round(COMPARED_S * ANALYSIS_RATE_HZ)
    audio = read.read_mono(path, ANALYSIS_RATE_HZ)[:longest]
    # The features that the instrument was trained with, but any tracker, and the frame rate of a performance.
    spec = msgspec.structs.replace(loaded.card.features, pitch=DEFAULT_TRACKER, frame_rate_hz=F0_RATE_HZ)
    features = measure(audio, spec)
    voiced = features.f0_hz > 0
    if not voiced.any():
        raise InputError(f"{path} holds no note to compare with")
    loud_db = float(np.percentile(features.power_db[voiced], LOUD_PERCENTILE))
    gain_db = loaded.card.statistics.power_db[LOUD_PERCENTILE] - loud_db
    audio = audio * np.float32(10 ** (gain_db / 20))
    features = measure(audio, spec)
    target = (
        audio
        if model.sample_rate_hz == ANALYSIS_RATE_HZ
        else soxr.resample(audio, ANALYSIS_RATE_HZ, model.sample_rate_hz)
    )
    level_db = getattr(features.at(model.frame_rate_hz), model.level)
    return _reconstruct(loaded, name, target, metrics.correct_f0_hz(audio, features.f0_hz, F0_RATE_HZ), level_db)


def _reconstruct(
    loaded: Bundle, name: str, audio: np.ndarray, tracked_hz: np.ndarray, level_db: np.ndarray, n_parts: int = 1
) -> Clip:
    """Plays the level [F] and F0 (as in `Clip.f0_hz`) of a recording [S], or of `n_parts` of equal length."""
    import soxr

    instrument, rate_hz = Instrument(loaded), loaded.card.model.sample_rate_hz
    # A recording's last frame of the model need not be whole.
    fine_level_db = np.repeat(level_db, F0_RATE_HZ // loaded.card.model.frame_rate_hz)
    f0_hz = np.pad(tracked_hz, (0, len(fine_level_db) - len(tracked_hz))).astype(np.float32)
    f0_hz = fill_f0(f0_hz.reshape(n_parts, -1), fine_level_db.reshape(n_parts, -1)).reshape(-1)
    low = soxr.resample(audio, rate_hz, ANALYSIS_RATE_HZ)
    parts = list(zip(*(np.array_split(values, n_parts) for values in (f0_hz, level_db, low)), strict=True))

    def play(room: bool) -> np.ndarray:
        # One recording is compared with the average that was learned: with added variation it would be further
        # away, as a second recording of the same notes is.
        blocks = (
            instrument.render(part_hz, part_db, room=room, timbre=instrument.timbre([sound]), variation=False)
            for part_hz, part_db, sound in parts
        )
        return np.concatenate(list(itertools.chain.from_iterable(blocks)))

    rendering = play(room=True)
    share = None if loaded.impulse_response is None else room_share(rendering, play(room=False))
    length = min(len(audio), len(rendering))
    return Clip(name, audio[:length], rendering[:length], rate_hz, tracked_hz, share)


def _at_f0_rate(f0_hz: np.ndarray, frame_rate_hz: int) -> np.ndarray:
    """Converts F0 [F] of another frame rate to `F0_RATE_HZ`; each value holds until the next."""
    n_frames = len(f0_hz) * F0_RATE_HZ // frame_rate_hz
    return f0_hz[np.arange(n_frames) * frame_rate_hz // F0_RATE_HZ]


def room_share(rendering: np.ndarray, dry: np.ndarray) -> float:
    """Returns the energy that a room adds, as a share of its sum with that of the dry sound, 0..1.

    Args:
      rendering: [S] with the room.
      dry: [S] without it.
    """
    added, sound = (float(np.sum(np.square(x, dtype=np.float64))) for x in (rendering - dry, dry))
    return added / (added + sound) if added > 0 else 0.0


def _judge(clip: Clip, out: Path | None, reliable: bool, stem: str) -> Judgement:
    picture = None
    if out is not None:
        from ddsp_cli.reports.plots import draw_pair

        picture = out / f"{stem}.png"
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            write_bytes(picture, draw_pair(clip.recording, clip.rendering, clip.rate_hz))
    figures = clip.figures() | metrics.resynthesis_figures(*clip.at_16_khz())
    if reliable:
        figures |= metrics.reliable_pitch(*clip.at_16_khz(), clip.f0_hz)
    return Judgement(clip.name, round(clip.seconds, 1), figures, picture)


def _write(found: list[Judgement], instrument: str, out: Path) -> None:
    rows = [{"name": one.name, "seconds": one.seconds, **one.figures} for one in found]
    text = json.dumps({"instrument": instrument, "recordings": rows}, indent=2, ensure_ascii=False)
    with writing(out):
        write_bytes(out / FIGURES, f"{text}\n".encode())
