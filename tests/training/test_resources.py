"""A preset of absurd size is refused at once; the message gives its memory."""

import time

import pytest
from msgspec.structs import replace

from ddsp_cli.config import DecoderConfig, HarmonicConfig, load_preset, preset_names
from ddsp_cli.errors import ModelError
from ddsp_cli.training.resources import check_cost, step_memory_gb
from ddsp_cli.workflows.train import train


@pytest.mark.parametrize("name", preset_names())
def test_bundled_presets_cost_little(name):
    check_cost(load_preset(name))
    assert 0.05 < sum(step_memory_gb(load_preset(name)).values()) < 4


def test_what_costs_most_is_named():
    preset = load_preset("vst")
    processors = preset.model.processors
    harmonic = replace(processors["harmonic"], n_harmonics=4096)
    assert isinstance(harmonic, HarmonicConfig)
    huge = {
        "n_harmonics": replace(
            preset,
            model=replace(preset.model, processors=processors | {"harmonic": harmonic}),
            training=replace(preset.training, batch_size=1024),
        ),
        "fft_sizes": replace(
            preset,
            training=replace(
                preset.training,
                batch_size=60000,
                crop_s=600.0,
                loss=replace(preset.training.loss, fft_sizes=(64,) * 32),
            ),
        ),
        "rnn_units": replace(
            preset,
            model=replace(preset.model, decoder=DecoderConfig(channels=8192, rnn_units=8192, layers_per_stack=100)),
        ),
    }
    for parameter, asked in huge.items():
        with pytest.raises(ModelError, match=r"about [\d,]+ GB of memory") as problem:
            check_cost(asked)
        assert parameter in problem.value.hint


def test_the_memory_grows_with_what_it_is_for():
    preset = load_preset("light")
    twice = replace(preset, training=replace(preset.training, batch_size=2 * preset.training.batch_size))
    small, large = step_memory_gb(preset), step_memory_gb(twice)
    assert large["oscillators"] == pytest.approx(2 * small["oscillators"])
    assert large["network"] < 2 * small["network"]


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("n_harmonics: 60", "n_harmonics: 1000000000", "4096"),
        ("batch_size: 16", "batch_size: 65000", "GB of memory"),
        ("crop_s: 1.0", "crop_s: .inf", "infinity"),
        ("rnn_units: 512", "rnn_units: -1", "at least 1"),
    ],
)
def test_it_is_refused_before_anything_is_loaded(tmp_path, monkeypatch, old, new, word):
    from importlib import resources

    text = (resources.files("ddsp_cli") / "presets" / "vst.yaml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "huge.yaml").write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.setattr("ddsp_cli.backend.load", lambda: pytest.fail("a framework was loaded"))
    started = time.monotonic()
    with pytest.raises(ModelError, match=word):
        train("x", dataset=tmp_path, preset=str(tmp_path / "huge.yaml"), out=tmp_path / "x")
    assert time.monotonic() - started < 5
    assert not (tmp_path / "x").exists()
