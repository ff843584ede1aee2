"""Compute kernels: what torch does too slowly, as C++ for processors; each has a torch twin in `layers`.

Knows tensors, shapes and types; no model, no request, no block pool.
"""
