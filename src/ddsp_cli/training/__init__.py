"""Train an instrument with Keras, on any backend.

loop             steps, validations, early stopping, recovery from a broken loss
batches          random crops of a data set, a function of seed and step
optimizer        Adam with a schedule, and a faster pace for the room
checkpoint       the state of a run on disk, with a digest
run_log          log.csv, clips, TensorBoard events
harmonic_init    initial roll-off of the harmonics
harmonic_mask    harmonics above half the sample rate at every note of the data set
split_batch      data parallelism on one processor
progress, cost   what a run reports; what a step takes in memory
"""
