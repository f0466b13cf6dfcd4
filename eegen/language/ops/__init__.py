"""The ops of the language, each one record: shape rule, derivative rule, meaning in NumPy, C expression, cost.

Importing this package defines them all (eegen.language.graph.OPS).
"""

from eegen.language.ops import attention, context, elementwise, loss, matrix, row, sparse

__all__ = ["attention", "context", "elementwise", "loss", "matrix", "row", "sparse"]
