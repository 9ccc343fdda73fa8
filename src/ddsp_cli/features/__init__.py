"""Measuring sound: reading files, pitch, loudness and power, on one frame grid. NumPy only."""
