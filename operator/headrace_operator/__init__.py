"""Turns resources into running workers: what should be (plan), what is (observed), what to do (reconcile, actions).

The decisions are pure and name no backend; a backend applies them, `local` with processes of this machine. Knows
nothing of tokens, HTTP bodies of clients or how a worker computes, and imports neither the router nor the worker.
"""
