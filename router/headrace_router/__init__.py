"""The router: the OpenAI front door of one or more deployments.

It owns HTTP towards clients, the choice of workers, the replay of answers whose worker died, and the figures about
all that. It does not know tokens, models or KV blocks, never imports the worker or the operator, and does not care
who started it: what it knows about workers comes from discovery.
"""
