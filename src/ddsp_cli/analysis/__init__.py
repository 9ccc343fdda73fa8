"""Measure sound: F0, loudness, power and timbre on one frame grid, and judge recordings. NumPy only.

extract           sound to `features`, with further passes for quiet, whistled and polyphonic input
pitch/            F0
loudness, mfcc    A-weighted loudness, RMS power; the spectral envelope
melody            notes, tuning, sung or spoken
harmonics         how well the harmonics of an F0 account for a sound, and the level of each
polyphony         notes of chords
recording_checks  clipping, hum, bandwidth, files cut short
metrics           differences between a rendering and a recording
"""
