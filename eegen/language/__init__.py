"""The language models are written in: values and ops as a graph, derivatives, optimizers, and the float64 oracle.

In: a model's graph. Out: its derivative graph, and what both mean in NumPy. Importing it defines all ops.
"""

from eegen.language import ops

__all__ = ["ops"]
