"""An instrument playing after a recording, or after the windows that a data set keeps apart: what both sound like."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from ddsp_cli.bundle import Bundle
from ddsp_cli.config import ANALYSIS_RATE_HZ, FeatureSpec
from ddsp_cli.errors import DatasetError, InputError
from ddsp_cli.features import io, quality
from ddsp_cli.features.extract import measure
from ddsp_cli.features.frames import hold_f0
from ddsp_cli.features.pitch import DEFAULT_TRACKER
from ddsp_cli.runtime.instrument import Instrument

if TYPE_CHECKING:
    from ddsp_cli.dataset.store import Dataset

#: How often a recording's pitch is measured and compared.
PITCH_RATE_HZ = FeatureSpec().frame_rate_hz

#: At most this much of a data set or of one recording is played after.
JUDGED_S = 120.0

#: How loud an instrument plays is compared by this percentile of the levels of notes.
LOUD_PERCENTILE = 95


@dataclass(frozen=True)
class Clip:
    """A recording and what the instrument makes of its pitch and level.

    Attributes:
      name: of the recording.
      recording, rendering: [S] each at `rate_hz`.
      f0_hz: [F] the recording's pitch 250 times a second, 0 where it has none, after which the instrument played;
        None where it is not known.
      room_share: of the rendering's energy, what the learned room adds, 0..1; None where there is no room.
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
        """Recording and rendering, at the rate at which sound is measured."""
        import soxr

        if self.rate_hz == ANALYSIS_RATE_HZ:
            return self.recording, self.rendering
        one, other = (soxr.resample(s, self.rate_hz, ANALYSIS_RATE_HZ) for s in (self.recording, self.rendering))
        return one, other

    def quality(self) -> quality.Quality:
        """How near they are, both taken at 16 kHz."""
        return quality.compare(*self.at_16_khz(), reference_hz=self.f0_hz)

    def figures(self) -> dict[str, float]:
        """All that is measured of them, by name."""
        room = {} if self.room_share is None else {"room_share": round(self.room_share, 4)}
        return {**self.quality().as_dict(), **room}


def resynthesise(loaded: Bundle, data: Dataset, rows: np.ndarray | None = None) -> Clip:
    """Validation windows of a data set, one after the other, and the instrument playing after them.

    Args:
      rows: which windows; None takes up to two minutes, spread over all.

    Raises:
      DatasetError: no window was kept apart.
    """
    model = loaded.card.model
    examples = data.validation
    if not len(examples):
        raise DatasetError(
            f"the data set {data.manifest.name} keeps no recordings apart to judge by",
            "Name recordings to judge, or prepare it again with --hold-out.",
        )
    if rows is None:
        n = max(1, min(len(examples), round(JUDGED_S / data.manifest.window_s)))
        rows = np.unique(np.linspace(0, len(examples) - 1, n).round().astype(int))
    step = data.manifest.features.frame_rate_hz // model.frame_rate_hz
    f0_hz = _at_pitch_rate(examples.f0_hz[rows].reshape(-1), data.manifest.features.frame_rate_hz)
    level_db = getattr(examples, model.level)[rows].reshape(-1)[::step]
    return _clip(loaded, "validation", examples.audio[rows].reshape(-1), f0_hz, level_db)


def after_recording(loaded: Bundle, path: Path, name: str) -> Clip:
    """A recording brought to the level at which the instrument learned, and the instrument playing after it.

    Args:
      loaded: the instrument.
      path: of the recording.
      name: what the clip is called.

    Raises:
      InputError: it cannot be read, or holds no note.
    """
    import soxr

    model = loaded.card.model
    longest = round(JUDGED_S * ANALYSIS_RATE_HZ)
    audio = io.read_mono(path, ANALYSIS_RATE_HZ)[:longest]
    # As the instrument was taught, but for the tracker: pitch is pitch, whoever finds it; and as fine as it is played.
    spec = msgspec.structs.replace(loaded.card.features, pitch=DEFAULT_TRACKER, frame_rate_hz=PITCH_RATE_HZ)
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
    return _clip(loaded, name, target, quality.mended_hz(audio, features.f0_hz, PITCH_RATE_HZ), level_db)


def _clip(loaded: Bundle, name: str, audio: np.ndarray, tracked_hz: np.ndarray, level_db: np.ndarray) -> Clip:
    """The instrument playing a recording's level [F] and its pitch, as in `Clip.f0_hz`."""
    import soxr

    instrument = Instrument(loaded)
    # A recording's last frame of the model need not be whole.
    n_pitches = len(level_db) * PITCH_RATE_HZ // loaded.card.model.frame_rate_hz
    f0_hz = np.pad(hold_f0(tracked_hz), (0, n_pitches - len(tracked_hz)), mode="edge")
    timbre = list(instrument.timbre([soxr.resample(audio, loaded.card.model.sample_rate_hz, ANALYSIS_RATE_HZ)]))
    rendering = np.concatenate(list(instrument.render(f0_hz, level_db, timbre=timbre)))
    share = None
    if loaded.impulse_response is not None:
        dry = np.concatenate(list(instrument.render(f0_hz, level_db, room=False, timbre=timbre)))
        share = room_share(rendering, dry)
    length = min(len(audio), len(rendering))
    return Clip(name, audio[:length], rendering[:length], loaded.card.model.sample_rate_hz, tracked_hz, share)


def _at_pitch_rate(f0_hz: np.ndarray, frame_rate_hz: int) -> np.ndarray:
    """Pitch [F] of another rate as in `Clip.f0_hz`; each value holds until the next."""
    n_frames = len(f0_hz) * PITCH_RATE_HZ // frame_rate_hz
    return f0_hz[np.arange(n_frames) * frame_rate_hz // PITCH_RATE_HZ]


def room_share(rendering: np.ndarray, dry: np.ndarray) -> float:
    """Energy of what a room added, as a share of it and of the dry sound together, 0..1.

    Args:
      rendering: [S] with the room; dry: [S], the same without it.
    """
    added, sound = (float(np.sum(np.square(x, dtype=np.float64))) for x in (rendering - dry, dry))
    return added / (added + sound) if added > 0 else 0.0
