"""Play an instrument in NumPy: decoder, oscillators, noise, reverb, level correction. No training framework."""
