"""Lowering: a rule for each kind of op, which emits calls of kernels."""
