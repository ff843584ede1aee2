"""KV blocks on their way from a prefill worker's memory into a decode worker's.

Owns the transports (NIXL, plain sockets), both state machines of an attempt, the quarantine, and the courier thread
that talks to peers. Knows nothing of models, schedulers or block pools: it is told which blocks are ready and which
are granted, and says what arrived and what may be freed.
"""
