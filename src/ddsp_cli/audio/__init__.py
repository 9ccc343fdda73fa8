"""Read, write and resample sound, and measure its loudness.

read                 headers, sound block by block, impulse responses; `containers` for m4a and videos
recording            a file, an array or a stream as analysis reads it: mono blocks at 16 kHz, several passes
write                scaled to fit, dithered, moved into place when complete
resample             soxr where quality counts, a short polyphase filter where delay does
integrated_loudness  LUFS, ITU-R BS.1770
"""
