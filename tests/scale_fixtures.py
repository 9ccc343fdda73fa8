"""Archives in small: NSynth in both of its layouts, played by our own player, and a server that speaks S3."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from ddsp_cli.dataset import tfrecord
from ddsp_cli.scaling import midi_to_hz
from ddsp_cli.synthesis.synths import Harmonic

NOTES = [
    {"note_str": f"{family}_acoustic_00{i}-{pitch:03}-{velocity:03}", "pitch": pitch, "velocity": velocity,
     "instrument_str": f"{family}_acoustic_00{i}", "instrument_family_str": family,
     "instrument_source_str": "acoustic", "sample_rate": 16000}
    for i, (family, pitch, velocity) in enumerate(
        [("keyboard", 60, 100), ("keyboard", 64, 25), ("flute", 67, 100), ("flute", 72, 127), ("keyboard", 57, 100)]
    )
]  # fmt: skip


def play(note: dict[str, Any], level: float = 0.3) -> np.ndarray:
    """Four seconds of a note, three of them held, as in NSynth."""
    n_frames, share = 200, 0.5 ** np.arange(1, 9)
    envelope = np.minimum(np.arange(n_frames) / 2, 1.0) * np.where(np.arange(n_frames) < 150, 1.0, 0.0)
    amplitudes = (level * note["velocity"] / 127 * envelope[:, None] * share).astype(np.float32)
    bank = Harmonic(320, 16000)
    f0_hz = np.full(n_frames, midi_to_hz(np.float64(note["pitch"])))
    return np.concatenate([bank.push(f0_hz, amplitudes), bank.finish()])


def record(note: dict[str, Any], level: float = 0.3) -> bytes:
    """The note as a `tf.train.Example`."""
    field = tfrecord.field

    def feature(value: Any) -> bytes:
        if isinstance(value, str):
            return field(1, field(1, value.encode()))
        if isinstance(value, int):
            return field(3, field(1, tfrecord.varint(value)))
        return field(2, field(1, np.asarray(value, "<f4").tobytes()))

    entries = {**note, "audio": play(note, level), "qualities": 0}
    return field(1, b"".join(field(1, field(1, name.encode()) + field(2, feature(v))) for name, v in entries.items()))


def write_nsynth(folder: Path, name: str = "nsynth-test", level: float = 0.3) -> None:
    """Writes `NAME/` with sound files and metadata, and `NAME.tfrecord`; another level makes other recordings."""
    (folder / name / "audio").mkdir(parents=True)
    (folder / name / "examples.json").write_text(json.dumps({n["note_str"]: n for n in NOTES}, indent=4))
    with (folder / f"{name}.tfrecord").open("wb") as stream:
        for note in NOTES:
            stream.write(tfrecord.encode_record(record(note, level)))
            path = folder / name / "audio" / f"{note['note_str']}.wav"
            soundfile.write(path, play(note, level), 16000, subtype="PCM_16")


@contextlib.contextmanager
def serve_s3(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket, and the address of its server and credentials in the environment; skips without moto or s3fs."""
    s3fs = pytest.importorskip("s3fs", reason="the extra [remote] is not installed")
    moto_server = pytest.importorskip("moto.server", reason="moto is not installed")
    from moto.moto_api._internal.models import moto_api_backend

    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"), ("AWS_ACCESS_KEY_ID", "key-of-the-environment"),
        ("AWS_SECRET_ACCESS_KEY", "secret-of-the-environment"), ("AWS_DEFAULT_REGION", "us-east-1"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    try:
        fs.mkdir(bucket)
        yield fs
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        moto_api_backend.reset()
        server.stop()
