"""Kernel records: what each kernel computes, its schedule, and the signature of its C function."""
