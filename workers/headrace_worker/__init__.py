"""The worker: one model on one device group, in the role of prefill, decode or both.

Knows nothing of routers, clusters or the backend that started it.
"""
