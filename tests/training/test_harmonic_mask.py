"""What no recording could teach does not sound."""

from __future__ import annotations

import numpy as np

from ddsp_cli import bundle
from ddsp_cli.config import HarmonicConfig
from ddsp_cli.scaling import exp_sigmoid
from ddsp_cli.synthesis.stream import open_decoder
from ddsp_cli.training.harmonic_mask import MASKED_OUTPUT, mask_untrained_harmonics
from fixtures import make_bundle

LOWEST_HZ = 1000.0  # harmonics from the ninth on lie above 8 kHz


def test_harmonics_that_were_never_heard_stay_silent_below_the_range(tmp_path):
    made = make_bundle(tmp_path / "random")
    changed = mask_untrained_harmonics(made.weights, made.card.model, LOWEST_HZ)
    assert {name for name in changed if not np.array_equal(changed[name], made.weights[name])} == {
        "decoder/dense_out/kernel",
        "decoder/dense_out/bias",
    }
    bundle.save(tmp_path / "quiet", made.card, changed)
    frames = 100
    f0_hz, level_db = np.full(frames, 250.0, np.float32), np.full(frames, -20.0, np.float32)
    n = made.card.model.only(HarmonicConfig)[1].n_harmonics
    shares = {}
    for name in ("random", "quiet"):
        network = open_decoder(bundle.load(tmp_path / name))
        shares[name] = network.controls(f0_hz, level_db)["harmonic_distribution"]
    assert np.all(shares["random"][:, 8:] > 1e-4)
    assert np.all(shares["quiet"][:, 8:] < 1e-5)
    assert n > 9
    # those that were learned keep their proportions
    kept = [share[:, :8] / share[:, :8].sum(axis=1, keepdims=True) for share in shares.values()]
    assert np.allclose(*kept, atol=2e-3)


def test_silent_harmonics_can_still_be_learned():
    """Training that goes on with lower notes finds a gradient: not the floor, where there is none."""
    step = exp_sigmoid(np.float32(MASKED_OUTPUT + 0.1)) - exp_sigmoid(np.float32(MASKED_OUTPUT))
    assert step > 0.1 * exp_sigmoid(np.float32(MASKED_OUTPUT))
