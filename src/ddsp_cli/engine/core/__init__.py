"""Differentiable functions on `keras.ops`: controls, oscillators, filters, spectra. They run on every Keras backend."""
