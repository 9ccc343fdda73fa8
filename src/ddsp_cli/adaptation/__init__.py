"""Fit a performance to an instrument: notes, F0, register, dynamics and rests. NumPy only."""

#: What is played in place of a recording, and written beside a sound: curves, MIDI files, notes. Here, so that a
#: command can tell files apart without loading their readers.
CURVE_SUFFIXES = (".csv", ".npz")
SCORE_SUFFIXES = frozenset({".mid", ".midi", ".smf"})
NOTE_SUFFIXES = (".mid", ".midi", ".csv")
