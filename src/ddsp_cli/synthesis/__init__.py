"""Play an instrument in NumPy, as a stream of blocks. No training framework.

In the order of the signal:

    instrument        an instrument that plays; `blend` is several as one
    decoder           F0 and level to controls, in the operations of `ops`; `litert_decoder` for unknown graphs
    formant_shift     move the resonances
    onsets            where notes begin in the curves that are played
    articulation      onsets and releases of notes
    variation         movements of held notes, and the timbre of each note
    synths            harmonic oscillators and filtered noise
    level_correction  a gain that makes the level of the sound track the requested one
    reverb            convolution with the learned room
    stream            all of these for one performance: frames in, samples out
    timbre_map        instruments in a plane, by timbre
"""
