"""Exporters: one file per format.

`export(bundle, folder)` of each writes into an empty folder, opens the files that it wrote, compares them with the
instrument on a test phrase (`checks`), and returns the figures with the inputs and outputs of each file. An export that
does not agree raises an error and is not kept (`workflows.export`).

| module | holds |
|---|---|
| `onnx`, `litert`, `vst`, `savedmodel` | the formats |
| `audio_graph` | inputs, controls and sound as a graph, for all formats but SavedModel |
| `onnx_ops`, `tflite_ops` | how each operation is written in ONNX and in TensorFlow Lite |
| `companions` | the impulse responses beside every export |
| `checks` | the test phrase, the instrument's own controls and sound, tolerances |
"""
