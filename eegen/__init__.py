"""eegen: a compiler from a model configuration to one C file that trains and samples that model."""

__version__ = "0.1.0"
