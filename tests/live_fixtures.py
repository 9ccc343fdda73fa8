"""Devices for the process of `ddsp live` in tests: importable, because the process is a new interpreter."""

from __future__ import annotations

import threading
import time

import numpy as np

from ddsp_cli.errors import DdspError
from ddsp_cli.live import process
from ddsp_cli.live.tape import Tape

#: The device plays so many blocks, of a tone as input, before it is unplugged.
N_BLOCKS, BLOCK, RATE_HZ = 40, 256, 16000


class Vanishing:
    """A device that is unplugged after a while: it stops calling, without an error."""

    rate_hz = RATE_HZ

    def start(self, callback):
        threading.Thread(target=self._run, args=(callback,), daemon=True).start()

    @staticmethod
    def _run(callback):
        for _ in range(N_BLOCKS):
            callback(np.full(BLOCK, 0.1, np.float32))
            time.sleep(0.002)

    def close(self):
        pass


def vanish(job, shared_status, samples, counter, connection):
    process.GONE_S = 0.3
    try:
        process.play(job, Vanishing(), np.frombuffer(shared_status, np.float64), Tape(samples, counter), connection)
    except DdspError as problem:
        connection.send(problem)


def die(job, shared_status, samples, counter, connection):
    raise SystemExit(3)
