"""Fit a performance to an instrument: notes, F0, register, dynamics and rests. NumPy only.

In the order of a transfer:

    segmentation  segments between rests
    f0_cleanup    leaps of F0 that the sound does not confirm, octave errors, gaps
    diagnostics   one voice, several voices, speech, no pitch; warnings
    voices        polyphonic sound, voice by voice or the main voice
    adapt         the steps in order: register, `autotune`, `dynamics`, rests
    ensemble      several players of one part

Other sources of a performance: `curves` (tables of F0 and level), `midi` (scores), `notes` (transcribed and edited).
"""

#: Suffixes of curves, MIDI files and notes. Defined here so that commands classify files without loading readers.
CURVE_SUFFIXES = (".csv", ".npz")
SCORE_SUFFIXES = frozenset({".mid", ".midi", ".smf"})
NOTE_SUFFIXES = (".mid", ".midi", ".csv")
