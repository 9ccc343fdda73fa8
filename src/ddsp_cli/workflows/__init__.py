"""One module per command, callable from Python, never printing.

prepare, train, evaluate, live, reverb, export, import_
transfer       many inputs: `transfer_plan` decides which file goes where, `performance` plays one of them
models         find, list and share instruments; `space` maps and blends them
arguments      checks of arguments that several commands share
"""
