"""Training an instrument: batches, checkpoints, validation, the run's own log. Keras, on any backend."""
