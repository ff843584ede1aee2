"""How many workers a deployment should have, from what its workers and routers say of their load.

Owns the policy: what one worker may have to do, when more or fewer are wanted, how fast, within which bounds, and whom
it costs least to lose. Pure: the time is an argument, and it knows no cluster, no client and no autoscaler.
"""
