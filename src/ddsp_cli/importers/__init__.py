"""One file per format an instrument can come in, and readers for the files of strangers.

An importer returns a `Bundle` in memory, checked against what it was made from where that can be run; the workflow
saves it. `flatbuffer`, `gin`, `pickles` and `archive` read hostile files: they execute nothing, bound what they
read, and fail with a `ModelError`.
"""
