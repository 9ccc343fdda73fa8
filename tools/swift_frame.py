"""Makes swift_f0_frame.onnx, which tracks a single frame: swift-f0 without the parts that do not affect that frame.

    python tools/swift_frame.py

swift-f0's network is convolutional and gives F0 for every frame of its input. Live playing reads one frame of 14. The
outputs of each layer that this frame does not depend on are cut off: convolutions over time lose their padding, and
where two branches meet again, the longer one is cut to the length of the other. The weights and the result for the
frame stay the same; three quarters of the time are left. Run it again when swift-f0 is updated: a test compares them.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import onnx
import swift_f0
from onnx import helper, numpy_helper

from ddsp_cli.analysis.pitch.swift_f0 import FRAME_NETWORK

#: Names of tensors are those of this version.
VERSION = "0.3.0"

#: Padding (before in frequency, before in time, after in frequency, after in time) of the convolutions over time, by
#: the name of their output. Frame 8 is kept, the last of the input is 13: where the first layers reach beyond the
#: input, their padding stays.
PADDING = {
    "v355": (1, 0, 1, 1),  # frames 1 to 13 → 2 to 13
    "v359": (3, 0, 3, 1),  # → 3 to 13
    "v363": (3, 0, 3, 0),  # → 4 to 12
    "v404": (6, 0, 6, 0),  # → 5 to 11
    "v408": (6, 0, 6, 0),  # → 6 to 10
    "v415": (1, 0, 0, 0),  # → 7 to 9
    "v432": (0, 0),  # → 8
}

#: Tensor, which of its frames are kept (first, end), its axis of time, and the output of the node that takes them.
CUTS = [
    ("v352", 1, 14, 3, "v355"),  # spectra
    ("v356", 2, 11, 3, "v364"),  # frames 2 to 13, added to 4 to 12
    ("v401", 2, 7, 3, "v409"),  # 4 to 12, added to 6 to 10
    ("v423", 7, 10, 2, "v424"),  # mean over frequency, beside 7 to 9
    ("v429", 1, 2, 1, "v443"),  # classes of F0 of 7 to 9
    ("v429", 1, 2, 1, "v460"),
]


def make() -> bytes:
    """Returns the network for one frame, made from the installed package's."""
    assert importlib.metadata.version("swift-f0") == VERSION, "the names of tensors are those of another version"
    model = onnx.load(str(Path(swift_f0.__file__).with_name("model.onnx")))
    graph = model.graph
    for node in graph.node:
        if node.op_type == "Conv" and node.output[0] in PADDING:
            for attribute in node.attribute:
                if attribute.name == "pads":
                    attribute.ints[:] = PADDING[node.output[0]]
    for number, (name, first, end, axis, taker) in enumerate(CUTS):
        limits = []
        for kind, value in (("first", first), ("end", end), ("axis", axis)):
            limits.append(f"cut{number}_{kind}")
            graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), limits[-1]))
        made_at = next(i for i, node in enumerate(graph.node) if name in node.output)
        graph.node.insert(made_at + 1, helper.make_node("Slice", [name, *limits], [f"cut{number}"]))
        for node in graph.node:
            if node.output[0] == taker:
                node.input[:] = [f"cut{number}" if one == name else one for one in node.input]
    del graph.value_info[:]  # shapes of before
    for output in graph.output:
        output.type.tensor_type.shape.dim[1].dim_value = 1
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def main() -> None:
    """Writes the file."""
    FRAME_NETWORK.write_bytes(make())
    print(f"{FRAME_NETWORK.name}: {FRAME_NETWORK.stat().st_size} bytes")


if __name__ == "__main__":
    main()
