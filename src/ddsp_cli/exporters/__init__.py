"""One file per format an instrument can leave the program in.

An exporter writes into an empty folder, opens what it wrote and compares it with the bundle; it returns the figures
of that comparison and what its files take and give. Only when the comparison holds does the export take its place
(`workflows.export`). `graph` holds what the graph formats share, `flatbuffer` and `onnx_graph` how each is written.
"""
