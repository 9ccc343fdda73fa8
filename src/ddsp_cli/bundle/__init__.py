"""A trained instrument on disk: one folder with everything that inference needs, and how it came about.

    models/NAME/
      model.yaml             configuration, features, statistics, figures, sources, checksums
      weights.safetensors    every trained tensor, the only source of weights (half precision by default)
      network.tflite         instead of weights: the network of another program, with an unknown graph, run unchanged
      impulse_response.wav   the learned room as the model renders it, where it has one
      preview.ogg            a few seconds of it

Neither TensorFlow nor pickle is needed to read one. Files are checked against their checksums.
"""

from ddsp_cli.bundle.card import (
    CARD,
    FORMAT_VERSION,
    MAX_FILE_BYTES,
    Card,
    Source,
    Statistics,
    TrainingRecord,
    load_card,
    read_file,
    renamed,
    revise,
    timestamp,
    write_card,
)
from ddsp_cli.bundle.folder import (
    IMPULSE_RESPONSE,
    INSTRUMENT,
    NETWORK,
    PREVIEW,
    PREVIEW_S,
    WEIGHTS,
    Bundle,
    load,
    round_to_half,
    save,
)

__all__ = [
    "CARD", "FORMAT_VERSION", "IMPULSE_RESPONSE", "INSTRUMENT", "MAX_FILE_BYTES", "NETWORK", "PREVIEW", "PREVIEW_S",
    "WEIGHTS", "Bundle", "Card", "Source", "Statistics", "TrainingRecord", "load", "load_card", "read_file",
    "renamed", "revise", "round_to_half", "save", "timestamp", "write_card",
]  # fmt: skip
