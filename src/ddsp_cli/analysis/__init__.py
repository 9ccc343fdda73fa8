"""Measure sound: F0, loudness, power and timbre on one frame grid, and judge recordings. NumPy only."""
