"""The encoder of timbre in NumPy: MFCCs in, the latent z out, state carried from block to block.

As `engine.TimbreEncoder`. Legend of shapes: F frames, C coefficients, Z latent channels.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ddsp_cli.config import EncoderConfig
from ddsp_cli.runtime.layers import Gru, Weights


class Encoder:
    """The encoder of one instrument, with the state of one performance.

    Args:
      weights: of the bundle.
      config: sizes.
    """

    def __init__(self, weights: Weights, config: EncoderConfig) -> None:
        self.mean = weights.take("encoder/mean", config.n_mfccs)
        self.spread = weights.take("encoder/spread", config.n_mfccs)
        self.gru = Gru(weights, "encoder/rnn", config.n_mfccs, config.rnn_units)
        self.kernel = weights.take("encoder/dense_out/kernel", config.rnn_units, config.z_dims)
        self.bias = weights.take("encoder/dense_out/bias", config.z_dims)

    def __call__(self, mfcc: np.ndarray | None, n_frames: int) -> np.ndarray:
        """MFCCs [F, C] of the next frames to z [F, Z]; where there are none, those of the training set on average."""
        measured = np.tile(self.mean, (n_frames, 1)) if mfcc is None else mfcc
        return np.asarray(self.gru((measured - self.mean) / self.spread) @ self.kernel + self.bias)


class Frames:
    """Frames [n, C] that arrive in blocks of any size, taken so many at a time.

    Args:
      blocks: where they come from.
    """

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks = iter(blocks)
        self._waiting: list[np.ndarray] = []
        self._last: np.ndarray | None = None

    def take(self, n_frames: int) -> np.ndarray | None:
        """The next ones, [n_frames, C]. After their end the last one lasts; None where there never was one."""
        parts = self._waiting
        n_have = sum(map(len, parts))
        while n_have < n_frames and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            n_have += len(block)
        if n_have < n_frames:
            last = parts[-1][-1:] if n_have else self._last
            if last is None:
                return None
            parts.append(np.repeat(last, n_frames - n_have, axis=0))
        frames = np.concatenate(parts)
        self._waiting, self._last = [frames[n_frames:]] if n_have > n_frames else [], frames[n_frames - 1 : n_frames]
        return frames[:n_frames]
