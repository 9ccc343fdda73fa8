"""Make a section: several players of one part, with deviations of tuning and time, spread in stereo.

Shapes: F frames.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ddsp_cli.adaptation.adapt import Adapted
from ddsp_cli.arrays import DoubleArray

#: Range over which the tuning of the players is spread, up and down; violin sections lie within 10 to 20 cents.
DETUNE_CENTS = 9.0

#: Drift of the tuning: standard deviation, and seconds between two turns.
DRIFT_CENTS, DRIFT_S = 4.0, 0.6

#: Standard deviations of a player's mean delay, and of the delay from note to note. Players of
#: ensembles lie 30 to 50 ms apart (R. A. Rasch, Synchronization in performed ensemble music, Acustica 43, 1979).
USUAL_DELAY_S, DELAY_S, DELAY_TURN_S = 0.012, 0.012, 0.5

#: Largest delay.
MOST_DELAY_S = 0.045

#: Standard deviations of the level between players, and over time.
LEVEL_DB, LEVEL_DRIFT_DB, LEVEL_TURN_S = 1.0, 0.8, 0.8

#: Outermost places; -1 is left, 1 is right.
WIDTH = 0.8


@dataclass(frozen=True)
class Seat:
    """One of several voices or players that sound together.

    Attributes:
      adapted: the curves of the seat.
      place: from left (-1) to right (1).
      seed: of its noise.
    """

    adapted: Adapted
    place: float = 0.0
    seed: int = 0


def make_section(adapted: Adapted, n_players: int, seed: int = 0) -> list[Seat]:
    """Makes the players of one part.

    Args:
      adapted: the part.
      n_players: how many; one plays the part unchanged.
      seed: the same seed gives the same players.

    Returns:
      A seat for each, from left to right. Tuning, delay and level are 0 on average.
    """
    if n_players == 1:
        return [Seat(adapted, seed=seed)]
    random = np.random.default_rng((seed, n_players))
    evenly = np.linspace(-1.0, 1.0, n_players)
    tuning_cents = DETUNE_CENTS * random.permutation(evenly)
    delays_s = random.normal(0.0, USUAL_DELAY_S, n_players)
    levels_db = random.normal(0.0, LEVEL_DB, n_players)
    delays_s, levels_db = delays_s - delays_s.mean(), levels_db - levels_db.mean()
    seats = []
    for i in range(n_players):
        n, rate_hz = len(adapted), adapted.frame_rate_hz
        cents = tuning_cents[i] + _wander(random, n, rate_hz, DRIFT_CENTS, DRIFT_S)
        delay_s = delays_s[i] + _wander(random, n, rate_hz, DELAY_S, DELAY_TURN_S)
        level_db = levels_db[i] + _wander(random, n, rate_hz, LEVEL_DRIFT_DB, LEVEL_TURN_S)
        moved = delayed(adapted, np.clip(delay_s, -MOST_DELAY_S, MOST_DELAY_S))
        played = replace(
            moved,
            f0_hz=(moved.f0_hz * 2.0 ** (cents / 1200.0)).astype(np.float32),
            level_db=(moved.level_db + level_db).astype(np.float32),
        )
        seats.append(Seat(played, WIDTH * float(evenly[i]), seed + i))
    return seats


def delayed(adapted: Adapted, delay_s: DoubleArray) -> Adapted:
    """Returns the same curves, each frame as late as `delay_s` [F] says; negative values are early."""
    frames = np.arange(len(adapted), dtype=np.float64)
    places = frames - delay_s * adapted.frame_rate_hz
    return replace(
        adapted,
        f0_hz=np.exp(np.interp(places, frames, np.log(adapted.f0_hz))).astype(np.float32),
        level_db=np.interp(places, frames, adapted.level_db).astype(np.float32),
        gate=np.interp(places, frames, adapted.gate).astype(np.float32),
    )


def pan_gains(place: float) -> tuple[float, float]:
    """Returns the gains left and right of a place of -1..1; their power is 1, 0.707 each in the middle."""
    angle = (place + 1.0) * np.pi / 4.0
    return float(np.cos(angle)), float(np.sin(angle))


def _wander(random: np.random.Generator, n_frames: int, rate_hz: int, deviation: float, turn_s: float) -> DoubleArray:
    """Draws normal values every `turn_s` and interpolates them linearly, [F]."""
    n_turns = int(n_frames / rate_hz / turn_s) + 2
    turns = random.normal(0.0, deviation, n_turns)
    return np.interp(np.arange(n_frames) / rate_hz, np.arange(n_turns) * turn_s, turns)
