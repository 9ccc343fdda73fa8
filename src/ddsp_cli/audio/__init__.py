"""Read, write, resample and filter sound files."""
