"""The process backend: workers and router as processes of this machine, each leading a group of its own.

Owns their start, end, restart, log files, ports and the proof that all of a worker's processes have gone; knows no
more of a worker than its settings file and its HTTP surface.
"""
