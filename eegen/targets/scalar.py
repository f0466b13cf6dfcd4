"""Portable C: every vector is one float, any compiler and machine will do."""

from eegen.targets.base import Target

TARGET = Target(name="scalar", isa="scalar", lanes=1, registers=16, fixed_tile=(2, 16), body_fmas=64)
