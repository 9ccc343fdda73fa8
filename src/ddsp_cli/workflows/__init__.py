"""One module per command, callable from Python, never printing."""
