"""Play an instrument in real time: blocks of sound in, blocks of sound out.

performer   listen, adapt and play, block by block; `keyboard` plays from MIDI
mixer       one instrument at a time, with crossfades and switches
devices     microphone, loudspeaker, MIDI ports
audio_loop  between the audio thread of a device and the worker that plays; `priority` of threads
process     the process in which all of this runs
tape        input and output in shared memory, for recordings and the detector of feedback
"""
