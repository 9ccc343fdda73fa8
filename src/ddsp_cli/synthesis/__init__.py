"""Play an instrument in NumPy: decoder, synthesisers, reverb, level correction. No training framework."""
