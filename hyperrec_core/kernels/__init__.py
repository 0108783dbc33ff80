"""Compiled twins of the tensor code for the processor: the same formulas, fused by row or segment.

The tensor code is the definition, serves every device and every combination of settings, and is
what the suite holds these kernels against. All arrays are C-contiguous, floats are float32.
"""
