"""Presets and YAML: strict types and keys, and messages about mistakes."""

from __future__ import annotations

import pytest

from ddsp_cli import config
from ddsp_cli.config import FeatureSpec, Preset, dump_yaml, load_preset, parse_yaml, preset_names
from ddsp_cli.errors import DdspError, ExitCode, ModelError

MINIMAL = "description: x\nmodel: {inputs: [f0_scaled], processors: {}}\n"


@pytest.mark.parametrize("name", preset_names())
def test_presets_survive_a_round_trip(name):
    preset = load_preset(name)
    assert parse_yaml(dump_yaml(preset), Preset, name) == preset
    assert preset.model.sample_rate_hz % preset.model.frame_rate_hz == 0


def test_shapes_of_the_presets():
    vst, solo = load_preset("vst").model, load_preset("solo").model
    assert (vst.frame_rate_hz, vst.hop_samples, vst.level) == (50, 320, "power_db")
    assert (solo.frame_rate_hz, solo.hop_samples, solo.level) == (250, 64, "loudness_db")
    for model in (vst, solo):
        assert model.only(config.HarmonicConfig)[1].n_harmonics == 60
        assert model.only(config.FilteredNoiseConfig)[1].n_bands == 65
    assert vst.only(config.ReverbConfig) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MINIMAL.replace("processors", "procesors"), "Did you mean processors?"),
        (MINIMAL + "training: {batchsize: 3}\n", "Did you mean batch_size?"),
        (MINIMAL + "training: {steps: 0}\n", "steps"),
        (MINIMAL + "training: {steps: many}\n", "steps"),
        (MINIMAL + "training: {loss: {delta_time_weight: -1}}\n", "delta_time_weight"),
        (MINIMAL + "training: {loss: {loss_type: L3}}\n", "loss_type"),
        (MINIMAL + "training: {loss: {fft_sizes: []}}\n", "fft_sizes"),
        (MINIMAL + "training: {loss: {fft_sizes: [8]}}\n", "fft_sizes"),
        (MINIMAL + "training: {loss: {mag_weight: 0, logmag_weight: 0}}\n", "must be above 0"),
        (MINIMAL + "training: {loss: {mag_weight: 0, logmag_weight: 0, control_weight: 1}}\n", "must be above 0"),
        (MINIMAL + "description: twice\n", "twice"),
        (MINIMAL.replace("f0_scaled", "pitch"), "pitch"),
        (MINIMAL.replace("f0_scaled", "f0_scaled, f0_scaled"), "each input once"),
        (MINIMAL.replace("f0_scaled", "f0_scaled, ld_scaled, pw_scaled"), "one level"),
        ("description: &a x\nmodel: *a\n", "aliases"),
        ("{", "not valid YAML"),
        ("", "the file must be a mapping of keys to values, not empty"),
        ("- a\n- b\n", "the file must be a mapping of keys to values, not a list"),
        ("1: 3\n", "a key must be text"),
        ("description: yes\n", "description must be text, not true or false Put it in quotes."),
        (MINIMAL + "training: {steps: -5}\n", "training.steps must be at least 1"),
        (MINIMAL + "training: {steps: 1.5}\n", "training.steps must be a whole number"),
        (MINIMAL + "training: {steps: many}\n", "training.steps must be a whole number, not text"),
        (MINIMAL + "training: {beta_2: 1}\n", "training.beta_2 must be below 1"),
        (MINIMAL + "training: {learning_rate: 0}\n", "training.learning_rate must be above 0"),
        (MINIMAL + "training: {learning_rate: 1e-3}\n", "must be a number, not text Write it with a decimal point"),
        (MINIMAL + "training: {schedule: cosin}\n", "training.schedule cannot be cosin Did you mean cosine?"),
        (MINIMAL + "training: {loss: {fft_sizes: []}}\n", "training.loss.fft_sizes must have at least 1 item"),
        (MINIMAL + "training: {stepz: 3}\n", "there is no key stepz in training Did you mean steps?"),
        ("model: {n_harmonics: 3}\n", "there is no key n_harmonics in model It is a key of Harmonic."),
        ("model: {sample_rate_hz: 3}\n", "Choose from 16000, 24000, 32000, 44100, 48000."),
        ("model: {processors: {a: {n_bands: 3}}}\n", "the key type is missing in model.processors.a"),
        (
            "model: {processors: {n: {type: FilteredNoise, inputs: [x]}, a: {type: FilteredNoise, n_bands: 1}}}\n",
            "model.processors.a.n_bands must be at least 2",
        ),
        (
            "model: {processors: {a: {type: harmonix}}}\n",
            "model.processors.a.type cannot be harmonix Did you mean Harmonic",
        ),
        ("!!python/object/apply:os.getcwd []", "not valid YAML"),
        ('description: !!int ""', "tags (tag:yaml.org,2002:int)"),
        ("description: !!timestamp x", "tags"),
        ("description: 2024-99-99", "not valid YAML"),
        ("description: 0b_", "not valid YAML"),
        (MINIMAL + "training: {crop_s: .inf}\n", "training.crop_s: NaN and infinity are not allowed"),
        (MINIMAL + "training: {loss: {mag_weight: .nan}}\n", "NaN and infinity"),
        (MINIMAL + f"training: {{steps: {10**400}}}\n", "steps"),
        (MINIMAL + f"training: {{clip_norm: {10**400}}}\n", "clip_norm"),
        (MINIMAL + f"training: {{batch_size: {10**9}}}\n", "batch_size"),
        (
            "model: {inputs: [pw_scaled], decoder: {note_bias: true}, processors: {}}\n",
            "note_bias",
        ),
        ("a: " + "[" * 100, "nested"),
        ("a" * 1000 + ": 1\n", "there is no key aaa"),
    ],
)
def test_mistakes_are_named(text, says):
    with pytest.raises(ModelError) as caught:
        parse_yaml(text, Preset, "mine.yaml")
    assert says in f"{caught.value.message} {caught.value.hint}"
    assert "mine.yaml" in caught.value.message


def test_unknown_preset_names_the_closest(tmp_path):
    with pytest.raises(ModelError, match="there is no preset called sollo") as caught:
        load_preset("sollo")
    assert "solo" in caught.value.hint
    with pytest.raises(ModelError, match="cannot be read"):
        load_preset(str(tmp_path / "none.yaml"))
    (tmp_path / "own.yaml").write_text(dump_yaml(load_preset("vst")), encoding="utf-8")
    assert load_preset(str(tmp_path / "own.yaml")) == load_preset("vst")


def test_feature_specs_are_compared_by_what_matters():
    spec = FeatureSpec()
    assert spec.differences(FeatureSpec(pitch="pyin")) == []
    assert spec.differences(FeatureSpec(floor_db=-120.0)) == ["floor_db -80.0 against -120.0"]
    assert spec.at(50).hop_samples == 320


def test_exit_codes_keep_their_numbers():
    numbers = {code.name: int(code) for code in ExitCode}
    assert numbers == {
        "OK": 0,
        "INTERNAL": 1,
        "USAGE": 2,
        "INPUT": 3,
        "MODEL": 4,
        "DATASET": 5,
        "OUTPUT": 6,
        "PARTIAL": 7,
        "INTERRUPTED": 130,
    }
    codes = [kind.exit_code for kind in DdspError.__subclasses__()]
    assert len(codes) == len(set(codes))
