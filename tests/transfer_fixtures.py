"""A folder with two instruments and a voice, and measurements of outputs for tests of a transfer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from ddsp_cli.adaptation.adapt import AdaptSettings
from ddsp_cli.analysis.extract import measure
from ddsp_cli.workflows.performance import TransferOptions
from ddsp_cli.workflows.transfer import transfer_files
from fixtures import make_bundle, melody


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """Two instruments and a voice whose notes are at -30, -24 and -20 dB."""
    folder = tmp_path_factory.mktemp("desk")
    make_bundle(folder / "models" / "testophone")
    make_bundle(folder / "models" / "otherophone", seed=5)
    soundfile.write(folder / "voice.wav", melody(note_s=0.6, rest_s=0.4), 16000)
    return folder


@pytest.fixture(autouse=True)
def at_desk(desk, monkeypatch):
    monkeypatch.chdir(desk)


#: Options of how a performance is played; the rest says what is written.
HOW = {"tracker", "room", "wet", "tail", "seed", "loudness_match", "voices"}


def transfer(inputs, model, out=None, *, settings=None, transpose=None, formant=0.0, **options):
    """`transfer_files` with its options as keywords; without loudness matching."""
    how = {name: options.pop(name) for name in HOW & options.keys()}
    adapt = replace(settings or AdaptSettings(), transpose=transpose)
    chosen = TransferOptions(**({"adapt": adapt, "formant_semitones": formant, "loudness_match": "off"} | how))
    return transfer_files(inputs, model, out, options=chosen, **options)


def play(tmp_path, name="out", model="testophone", source="voice.wav", **options):
    """The sound [S] of a transfer, and its result."""
    out = tmp_path / f"{name}.wav"
    (result,) = transfer([source] if source else [], model, out=out, bits="float", **options)
    return soundfile.read(out, dtype="float32")[0], result


def level_db(audio, begin_s, end_s):
    part = audio[round(begin_s * 16000) : round(end_s * 16000)]
    return 10 * np.log10(np.mean(part.astype(np.float64) ** 2) + 1e-12)


def pitch_hz(audio, begin_s, end_s):
    found = measure(audio[round(begin_s * 16000) : round(end_s * 16000)])
    return float(np.median(found.f0_hz[found.f0_hz > 0]))
