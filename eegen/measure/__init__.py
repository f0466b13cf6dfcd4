"""Measuring. In: a configuration and documents. Out: times, tables and charts as data, which commands/ prints.

stopwatch.py and steps.py time windows of steps, bench.py compares them with the peak and with the frameworks in peers/,
tune.py tries register tiles, inspect.py lists kernels and their instructions, ladder.py trains a series of models.
"""
