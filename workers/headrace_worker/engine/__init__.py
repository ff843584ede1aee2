"""The engine core (process 2): schedule, run, postprocess; one step is one screen in `core`.

`sequence`, `blocks` and `scheduler` are pure: plain ints, no torch, no clock, no sockets. Knows token ids only, never
text or HTTP.
"""
