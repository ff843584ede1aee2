"""Backends: the operations of a decoder layer on one kind of device, behind one small base class.

Knows tensors, weights and the paged KV layout; nothing of requests, schedules or files.
"""
