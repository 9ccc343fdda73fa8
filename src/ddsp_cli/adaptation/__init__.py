"""Fit a performance to an instrument: notes, F0, register, dynamics and rests. NumPy only."""

#: Suffixes of curves, MIDI files and notes. Defined here so that commands classify files without loading readers.
CURVE_SUFFIXES = (".csv", ".npz")
SCORE_SUFFIXES = frozenset({".mid", ".midi", ".smf"})
NOTE_SUFFIXES = (".mid", ".midi", ".csv")
