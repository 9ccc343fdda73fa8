"""How fast exported models run: time for one frame on one core, and how large their files are.

python benchmarks/export.py [--model models/flute] [--frames 1000]

A model of the `vst` preset has 20 ms for a frame; what it should take is at most 0.5 ms.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from ddsp_cli import bundle
from ddsp_cli.bundle import Bundle
from ddsp_cli.errors import ModelError
from ddsp_cli.exporters import checks, litert, onnx, vst
from ddsp_cli.exporters.audio_graph import state_shapes
from ddsp_cli.synthesis.decoder import Decoder, scale_inputs
from ddsp_cli.synthesis.litert_decoder import LiteRtDecoder

ROOT = Path(__file__).parent.parent
AIM_MS = 0.5
REPEATS = 5


def best_ms(step: Callable[[], object], n_frames: int) -> tuple[float, float]:
    """Measures milliseconds per call, of the fastest of some runs: wall time, and CPU time (other work aside)."""
    step()
    clock, processor = [], []
    for _ in range(REPEATS):
        started, worked = time.perf_counter(), time.process_time()
        for _ in range(n_frames):
            step()
        clock.append((time.perf_counter() - started) / n_frames)
        processor.append((time.process_time() - worked) / n_frames)
    return 1e3 * min(clock), 1e3 * min(processor)


def litert_step(path: Path) -> Callable[[], object]:
    """Makes one call of a .tflite as a host makes it, with the delegate that the library chooses."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=path.read_bytes(), num_threads=1)
    interpreter.allocate_tensors()
    for entry in interpreter.get_input_details():
        interpreter.set_tensor(entry["index"], np.full(entry["shape"], 0.5, np.float32))
    return interpreter.invoke  # type: ignore[no-any-return]


def onnx_step(path: Path) -> Callable[[], object]:
    """Makes one call of an .onnx with one frame."""
    from ddsp_cli import packages

    onnxruntime = packages.load_onnx_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    sizes = {onnx.FRAMES: 1}
    given = {
        entry.name: np.full([sizes.get(axis, axis) for axis in entry.shape], 0.5, np.float32)
        for entry in session.get_inputs()
    }
    return lambda: session.run(None, given)


def runtime_step(bundle: Bundle) -> Callable[[], object]:
    """Makes one call of the program's own network, for comparison."""
    decoder, played = Decoder(bundle), checks.phrase(bundle, 1)
    inputs = scale_inputs(bundle.card.model, played.f0_hz, played.level_db)
    return lambda: decoder.step(inputs, played.f0_hz)


def interpreted_step(path: Path, bundle: Bundle) -> Callable[[], object]:
    """Plays a plug-in model of an unknown graph from its file, with this program."""
    decoder, played = LiteRtDecoder(path.read_bytes()), checks.phrase(bundle, 1)
    return lambda: decoder.controls(played.f0_hz, played.level_db)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Measure how fast exported models run.")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "flute")
    parser.add_argument("--frames", type=int, default=1000)
    options = parser.parse_args()
    loaded = bundle.load(options.model)
    model = loaded.card.model
    frame_ms = 1000 / model.frame_rate_hz
    n_state = sum(int(np.prod(shape)) for shape in state_shapes(model).values())
    print(
        f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {options.model}, {frame_ms:g} ms frames, one thread"
    )
    print(f"aim {AIM_MS} ms for controls; audio carries {n_state} numbers from frame to frame")
    rows: list[tuple[str, Path | None, Callable[[], object]]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            vst.check_shape(loaded)
            (folder / "vst.tflite").write_bytes(vst.build(loaded)[0])
            rows.append(("vst", folder / "vst.tflite", litert_step(folder / "vst.tflite")))
            rows.append(("vst, played from its file", None, interpreted_step(folder / "vst.tflite", loaded)))
        except ModelError as problem:
            print(f"vst: {problem.message}")
        for audio in (False, True):
            path = folder / (litert.AUDIO if audio else litert.CONTROLS)
            path.write_bytes(litert.build(loaded, audio)[0])
            rows.append((f"litert {path.stem}", path, litert_step(path)))
        for name, audio, room in ((onnx.CONTROLS, False, False), (onnx.DRY, True, False), (onnx.AUDIO, True, True)):
            if not room or onnx.has_room(loaded):
                (folder / name).write_bytes(onnx.build(loaded, audio, room)[0])
                rows.append((f"onnx {name.removesuffix('.onnx')}", folder / name, onnx_step(folder / name)))
        rows.append(("runtime network (NumPy)", None, runtime_step(loaded)))
        for what, file, step in rows:
            clock_ms, busy_ms = best_ms(step, options.frames)
            size = f"{file.stat().st_size / 1e6:6.2f} MB" if file else " " * 9
            print(
                f"{what:<26} {size} {clock_ms:8.3f} ms a frame, {busy_ms:.3f} of processor, {frame_ms / clock_ms:.1f} x"
            )


if __name__ == "__main__":
    main()
