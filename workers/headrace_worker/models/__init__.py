"""Models: a decoder described by data, and the readers of weight files.

Knows architectures, tensor names and file formats; nothing of requests, sampling or schedules.
"""
