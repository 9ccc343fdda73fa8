"""Train an instrument with Keras, on any backend.

In the order of a training. Without a framework:

    windows       windows of a data set as inputs, and copies of little material at other pitches and levels
    targets       controls measured in the recordings
    start         the vector of a new instrument in the base, and so its first sound
    resources     memory of a step, processes that take part, GPUs
    compile_cache compiled steps, kept for the next training

With Keras:

    loop          steps, validations, early stopping, recovery from an infinite loss; the optimiser
    batches       random crops of the windows, a function of seed and step
    pretrain      fit the decoder to controls measured in the recordings
    parallel      parts of a batch in separate programs or processes
    checkpoint    the state of a run: on disk, with a digest, and in reports
    run_log       log.csv, clips, TensorBoard events
    output_layer  initial roll-off of the harmonics; harmonics and noise that the recordings did not determine
    variation     measure the small movements of held notes; `articulation` their onsets and releases
    note_timbre   measure how the timbre of single notes deviates from what the instrument plays
    base          train one network on many instruments, on their measured controls and on their sound
"""
