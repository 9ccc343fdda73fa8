"""Inference in NumPy: the network, the synthesis, and what fits a performance to an instrument."""
