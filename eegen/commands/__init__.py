"""The command line: a file each command, which parses its options, calls the stage that does the work, and prints.

In: the words of a command line. Out: text or JSON on stdout, and an exit code.
"""

import gc

gc.set_threshold(100_000, 50, 100)  # imports leave hardly any cycles; searching for them takes 20 ms of every start
