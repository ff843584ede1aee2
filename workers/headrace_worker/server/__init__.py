"""The worker's front: OpenAI requests in, OpenAI answers out, and the care of the engine core's process.

Owns everything that knows text, HTTP and clients, and turns it into messages of ids for the core. Knows nothing of
schedules, KV blocks, tensors or hand-offs beyond their addresses; it never imports the engine.
"""
