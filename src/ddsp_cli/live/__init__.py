"""Play an instrument in real time: blocks of sound in, blocks of sound out."""
