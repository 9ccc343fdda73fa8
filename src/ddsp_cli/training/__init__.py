"""Train an instrument with Keras, on any backend.

loop             steps, validations, early stopping, recovery from a broken loss; the optimiser
windows, targets inputs of a data set, and controls measured in it; without a framework
augment          copies of little material at other pitches and levels; without a framework
start            the place of a new instrument in the base, and so its first sound; without a framework
batches          random crops of a data set, a function of seed and step
checkpoint       the state of a run: on disk, with a digest, and in reports
run_log          log.csv, clips, TensorBoard events
pretrain         fit the decoder to controls measured in the recordings
base             make a network that knows many instruments
output_layer     initial roll-off of the harmonics; harmonics and noise that no recording taught
variation        measure the small movements of held notes
parallel         parts of a batch in programs or processes of their own
resources        before a framework loads: memory of a step, processes that take part, GPUs
"""
