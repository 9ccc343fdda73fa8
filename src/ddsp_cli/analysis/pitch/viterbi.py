"""Paths of the Viterbi algorithm (Viterbi 1967) through recordings of any length, in memory that does not grow."""

from __future__ import annotations

import numpy as np

from ddsp_cli.arrays import FloatArray, IntArray


class UndecidedPath:
    """The end of a path that later frames can still change.

    A frame is decided when the best paths to all states of a later one share its state, so the path is that of the
    whole recording, yet only the undecided frames are kept (usually a few).

    Shapes: N states, T frames.
    """

    def __init__(self) -> None:
        self._before: list[IntArray] = []  # of each undecided frame but the first: the best state before it, [N]
        self._rows: list[FloatArray] = []

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, row: FloatArray, before: IntArray | None) -> None:
        """Adds a frame.

        Args:
          row: [N] what the caller wants to know of it when it is decided.
          before: [N] for each of its states the state of the frame before on the best path; None in the first frame.
        """
        if before is not None:
            self._before.append(before.astype(np.int16))
        self._rows.append(row)

    def take_decided(self) -> tuple[IntArray, FloatArray] | None:
        """Takes out the frames that are decided: their states [T] and rows [T, N]; None where there are none."""
        if not self._before:
            return None
        states: IntArray = np.arange(len(self._before[-1]))
        for frame in range(len(self._rows) - 2, -1, -1):
            states = np.unique(self._before[frame][states])
            if len(states) == 1:
                return self.take(frame, int(states[0]))
        return None

    def take(self, last: int, state: int) -> tuple[IntArray, FloatArray]:
        """Takes out the frames up to `last`, which is in `state`: their states [T] and rows [T, N]."""
        path = np.empty(last + 1, np.int64)
        for frame in range(last, -1, -1):
            path[frame] = state
            if frame:
                state = int(self._before[frame - 1][state])
        rows = np.stack(self._rows[: last + 1])
        del self._rows[: last + 1]
        del self._before[: last + 1]
        return path, rows
