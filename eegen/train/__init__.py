"""Training. In: a model's builds, its documents and options. Out: losses, a log, checkpoints.

options.py checks the options, loop.py does the steps, schedules.py their learning rates, sessions.py keeps a session
open, saving.py turns a run into a checkpoint and back, training.py is one call of `Model.train`.
"""
