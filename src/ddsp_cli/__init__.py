"""Timbre transfer with differentiable digital signal processing (DDSP, Engel et al., ICLR 2020)."""

__version__ = "0.1.0"
