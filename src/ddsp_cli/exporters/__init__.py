"""One file per format an instrument can leave the program in.

An exporter writes into an empty folder, opens what it wrote and compares it with the bundle; it returns the figures
of that comparison. Only when they hold does the export take its place (`workflows.export`).
"""
