"""ONNX, for everything that runs ONNX Runtime: two or three files, any number of frames per call, state in and out.

    controls.onnx   f0_hz [frames], LEVEL [frames], state [U]
                    → amplitude [frames, 1], harmonic_distribution [frames, K], noise_magnitudes [frames, M],
                      next_state [U]
    audio.onnx      the same and noise [frames, H] in [-1, 1), last_f0_hz [1], last_amplitudes [K], phase_turns [1],
                    noise_tail [N], and with a room its room_tail [L - 1]
                    → audio [samples], and next_… of every state

    dry.onnx        audio.onnx without the room, for hosts that stream by single frames: the room is a Fourier
                    transform of its whole length at each call. Only where there is a room.

LEVEL is `power_db` or `loudness_db`, whichever drives the model. States start at 0. One frame per call streams;
all frames in one call render a phrase. The sound lags one hop: its first hop is the silence before the first frame,
so drop it, and give the last frame twice to hear its end. Opset 17.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ddsp_cli import onnx_session
from ddsp_cli.arrays import FloatArray
from ddsp_cli.bundle import Bundle
from ddsp_cli.config.model import ROOMS
from ddsp_cli.exporters import audio_graph, checks, write_impulse_responses
from ddsp_cli.exporters.audio_graph import CONTROL_NAMES, SynthState, state_shapes, synthesise
from ddsp_cli.exporters.onnx_ops import OPSET, OnnxOps

CONTROLS, AUDIO, DRY = "controls.onnx", "audio.onnx", "dry.onnx"
FRAMES, SAMPLES = "frames", "samples"


def export(bundle: Bundle, folder: Path) -> checks.Exported:
    """Writes both files, plays a phrase on each in ONNX Runtime and compares with the bundle.

    The controls are streamed frame by frame; the sound is rendered in two unequal calls.

    Raises:
      ModelError: not one harmonic and one noise synthesiser.
      OutputError: what was written does not agree with the bundle.
    """
    model = bundle.card.model
    kinds = {CONTROLS: (False, False), AUDIO: (True, has_room(bundle))}
    if has_room(bundle):
        kinds[DRY] = (True, False)
    contract = {}
    for name, kind in kinds.items():
        content, contract[name] = build(bundle, *kind)
        (folder / name).write_bytes(content)
    write_impulse_responses(bundle, folder)
    played = checks.phrase(bundle)
    frames = {"f0_hz": played.f0_hz, model.level: played.level_db}
    found = run(folder / CONTROLS, frames, [1] * checks.CHECKED_FRAMES)
    found["state"] = found.pop("next_state")
    difference = checks.controls_difference(found, checks.expected_controls(bundle, played))
    cut = checks.CHECKED_FRAMES // 3
    measured_db = {}
    for name, (audio, room) in kinds.items():
        if audio:
            sound = run(folder / name, frames | {"noise": played.noise}, [cut, checks.CHECKED_FRAMES - cut])["audio"]
            expected = checks.expected_audio(bundle, played, room)[: -model.hop_samples]
            measured_db[name] = checks.audio_difference_db(sound[model.hop_samples :], expected)
    measured = {
        "controls_difference": difference,
        "audio_difference_db": max(measured_db.values()),
        "checked_frames": float(checks.CHECKED_FRAMES),
        "opset": float(OPSET),
    }
    return checks.Exported(measured, contract)


def has_room(bundle: Bundle) -> bool:
    """Whether the processor graph has a learned room."""
    nodes = bundle.card.model.processors.values()
    return bundle.impulse_response is not None and any(isinstance(node, ROOMS) for node in nodes)


def build(bundle: Bundle, audio: bool, room: bool) -> tuple[bytes, dict[str, Any]]:
    """Writes one of the files.

    Args:
      bundle: the instrument.
      audio: whether it gives sound, or controls.
      room: whether the sound includes the reverb.

    Returns:
      The file, and its `inputs` and `outputs` with their shapes.
    """
    model = bundle.card.model
    ops = OnnxOps()
    units, hop = model.sizes.rnn_units, model.hop_samples
    f0_hz = ops.reshape(ops.input("f0_hz", (FRAMES,)), (-1, 1))
    level = ops.reshape(ops.input(model.level, (FRAMES,)), (-1, 1))
    state = ops.reshape(ops.input("state", (units,)), (1, units))
    scaled_level = audio_graph.scaled_from_db(ops, level)
    scaled = {"f0_scaled": audio_graph.scaled_from_f0(ops, f0_hz), "pw_scaled": scaled_level, "ld_scaled": scaled_level}
    controls, next_state = audio_graph.decode_controls(ops, bundle, scaled, f0_hz, state)
    if audio:
        noise = ops.input("noise", (FRAMES, hop))
        shapes = state_shapes(model)
        states = {name: ops.reshape(ops.input(name, (int(np.prod(s)),)), s) for name, s in shapes.items()}
        sound, new = synthesise(ops, model, controls, f0_hz, noise, SynthState(**states))
        dry = ops.reshape(sound, (-1,))
        if room:
            dry = _room(ops, dry, bundle)
        ops.output("audio", dry, (SAMPLES,))
        for field in fields(new):
            ops.output(f"next_{field.name}", getattr(new, field.name), (int(np.prod(shapes[field.name])),))
    else:
        harmonic, bands = audio_graph.synthesisers(model)
        for name, width in zip(CONTROL_NAMES, (1, harmonic.n_harmonics, bands.n_bands), strict=True):
            ops.output(name, controls[name], (FRAMES, width))
    ops.output("next_state", next_state, (units,))
    content = ops.finish(bundle.card.name, f"{bundle.card.name}, a ddsp instrument", _metadata(bundle))
    return content, ops.interface()


def _room(ops: OnnxOps, dry: str, bundle: Bundle) -> str:
    """Adds reverb to dry sound [S]; the past of the sound is a state of its own."""
    assert bundle.impulse_response is not None
    response = np.array(bundle.impulse_response, np.float32)
    response[:1] = 0.0
    n_past = len(response) - 1
    line = ops.concat([ops.input("room_tail", (n_past,)), dry], 0)
    ops.output("next_room_tail", ops.rows(line, -n_past, None), (n_past,))
    return ops.binary("add", dry, ops.convolve(line, response))


def _metadata(bundle: Bundle) -> dict[str, str]:
    model, statistics = bundle.card.model, bundle.card.statistics
    levels = statistics.level(model.level)
    return {
        "name": bundle.card.name,
        "licence": bundle.card.licence,
        "sample_rate_hz": str(model.sample_rate_hz),
        "frame_rate_hz": str(model.frame_rate_hz),
        "level": model.level,
        "pitch_midi_range": f"{statistics.pitch_midi[5]:.2f} {statistics.pitch_midi[95]:.2f}",
        "level_db_range": f"{levels[5]:.2f} {levels[95]:.2f}",
    }


def run(path: Path, frames: dict[str, FloatArray], calls: list[int]) -> dict[str, FloatArray]:
    """Plays frames in calls of the given lengths, feeding the states back, from 0.

    Args:
      path: of the file.
      frames: input → values, [F] or [F, n].
      calls: numbers of frames, F together.

    Returns:
      Outputs of all calls joined, and the last value of each state.
    """
    session = onnx_session.load().InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    shapes = {entry.name: entry.shape for entry in session.get_inputs()}
    states = {name: np.zeros(shape, np.float32) for name, shape in shapes.items() if name not in frames}
    names = [entry.name for entry in session.get_outputs()]
    parts: dict[str, list[FloatArray]] = {name: [] for name in names if not name.startswith("next_")}
    start = 0
    for n_frames in calls:
        given = {name: values[start : start + n_frames].astype(np.float32) for name, values in frames.items()}
        found = dict(zip(names, session.run(names, given | states), strict=True))
        states = {name: found[f"next_{name}"] for name in states}
        for name, collected in parts.items():
            collected.append(found[name])
        start += n_frames
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    return joined | {f"next_{name}": value for name, value in states.items()}
