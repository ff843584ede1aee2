"""The model runner: one step's tokens in, sampled tokens out.

Knows the model, the KV tensor and sampling; no queue, no block pool, no request.
"""
