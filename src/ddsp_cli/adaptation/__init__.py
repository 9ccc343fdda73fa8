"""Fit a performance to an instrument: notes, F0, register, dynamics and rests. NumPy only."""
