"""Track F0.

trackers                the protocol and the registry of trackers
swift_f0, pyin, crepe   one tracker each
salience                the strongest F0 of a mixture
octave_correction       correct octave errors by the harmonics
"""
