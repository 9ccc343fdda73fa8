"""The layout of the decoder's output: numbers known by hand; every column belongs to exactly one control."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ddsp_cli.bundle.layout import control_columns, decoder_columns, decoder_outputs, processing_order
from ddsp_cli.config import FilteredNoiseConfig, HarmonicConfig, SinusoidalConfig
from ddsp_cli.errors import ModelError
from fixtures import small_model


def model_of(**processors):
    return small_model(processors=processors)


HARMONIC = HarmonicConfig(inputs=["amplitude", "harmonic_distribution", "f0_hz"], n_harmonics=20)
NOISE = FilteredNoiseConfig(inputs=["noise_magnitudes"], n_bands=17)


def test_columns_follow_the_order_of_the_processors():
    first = model_of(harmonic=HARMONIC, noise=NOISE)
    assert control_columns(first, "harmonic") == {"amplitude": slice(0, 1), "harmonic_distribution": slice(1, 21)}
    assert control_columns(first, "noise") == {"noise_magnitudes": slice(21, 38)}
    last = model_of(noise=NOISE, harmonic=HARMONIC)
    assert control_columns(last, "noise") == {"noise_magnitudes": slice(0, 17)}
    assert control_columns(last, "harmonic") == {"amplitude": slice(17, 18), "harmonic_distribution": slice(18, 38)}


def test_controls_go_by_place_and_not_by_the_name_of_the_signal():
    model = model_of(
        tone=HarmonicConfig(inputs=["harmonic_distribution", "amplitude", "f0_hz"], n_harmonics=20), noise=NOISE
    )
    assert decoder_outputs(model) == {"harmonic_distribution": 1, "amplitude": 20, "noise_magnitudes": 17}
    assert control_columns(model, "tone") == {"amplitude": slice(0, 1), "harmonic_distribution": slice(1, 21)}


@pytest.mark.parametrize("order", list(itertools.permutations(["harmonic", "noise", "free"])))
def test_every_column_belongs_to_one_control(order):
    free = SinusoidalConfig(inputs=["amplitudes", "frequencies"], n_sinusoids=3)
    nodes = {"harmonic": HARMONIC, "noise": NOISE, "free": free}
    model = model_of(**{name: nodes[name] for name in order})
    columns = [columns for name in order for columns in control_columns(model, name).values()]
    taken = np.concatenate([np.r_[one] for one in columns])
    assert taken.tolist() == list(range(1 + 20 + 17 + 3 + 3))
    assert list(decoder_columns(model).values()) == columns


def test_a_shared_signal_has_one_range_and_one_size():
    second = HarmonicConfig(inputs=["amplitude", "other_distribution", "f0_hz"], n_harmonics=5)
    model = model_of(harmonic=HARMONIC, second=second)
    assert control_columns(model, "second") == {"amplitude": slice(0, 1), "harmonic_distribution": slice(21, 26)}
    clash = FilteredNoiseConfig(inputs=["harmonic_distribution"], n_bands=17)
    with pytest.raises(ModelError, match="noise takes harmonic_distribution with 17 channels, another takes 20"):
        decoder_outputs(model_of(harmonic=HARMONIC, noise=clash))


def test_processing_order_is_independent_of_the_order_of_the_configuration():
    nodes = {"room": ["dry"], "dry": ["b", "a"], "a": ["x"], "b": ["x"]}
    for names in itertools.permutations(nodes):
        order = processing_order({name: nodes[name] for name in names}, ["x"])
        assert order.index("room") == 3
        assert order.index("dry") == 2
    with pytest.raises(ModelError, match="cycle"):
        processing_order({"a": ["b"], "b": ["a"]}, [])
    with pytest.raises(ModelError, match="takes y, which nothing"):
        processing_order({"a": ["y"]}, ["x"])
